"""One row after the other: check, time everyone interleaved with the roofs, check again with fresh values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import opdsl as od
from opdsl.runtime import memory

from . import checks, roofs
from .arrays import Array, Inputs, as_numpy, poison
from .cases import Case, matches
from .machine import has_torch, peak_memory
from .problems import Call, Implementation, Missing, Problem
from .rows import Row
from .summary import Summary, same_twice, summarise
from .timer import Timed, interleave

PEERS_MARGIN = 100
OURS, CONTROL, ALONE = "opdsl", "opdsl again", "opdsl on one thread"


@dataclass(frozen=True)
class Options:
    """How to run: `seconds` is the time for each row; `outputs` is "reused" (out=) or "fresh"."""

    threads: int = 1
    peers: Sequence[str] = ("torch", "numpy")
    seconds: float = 3.0
    outputs: str = "reused"
    pattern: str | None = None
    measure_roofs: bool = True


@dataclass
class Contender:
    """An implementation that is ready to run, and what is known about it."""

    name: str
    call: Call
    out: Array | None
    error: float = 0.0
    allowed: float = 0.0
    problem: str = ""
    peak: float | None = None
    notes: list[str] = field(default_factory=list)

    def run(self) -> Array:
        """Runs once on a poisoned output."""
        if self.out is not None:
            poison(self.out)
        return as_numpy(self.call())

    def check(self, problem: Problem, truth: checks.Truth, when: str) -> None:
        """Runs and judges; the first problem found stays."""
        try:
            verdict = checks.judge(self.run(), problem, truth)
        except Exception as error:  # noqa: BLE001 - one implementation's failure must not end the run
            verdict = checks.Verdict(float("inf"), 0.0, f"{type(error).__name__}: {str(error).splitlines()[0]}")
        self.error, self.allowed = max(self.error, verdict.error), verdict.allowed
        if not verdict.problem or self.problem:
            return
        if self.name != OURS and verdict.error <= PEERS_MARGIN * verdict.allowed:
            # A peer may choose a faster and less exact way, Winograd's convolution say. It counts, and the report says so.
            self.notes[:] = [f"less exact than we allow ourselves: {verdict.problem}"]
        else:
            self.problem = f"{when}{verdict.problem}"


def run_cases(
    cases: Sequence[Case], problems: dict[str, Callable[[Case], Problem]], options: Options,
    progress: Callable[[str], None] = lambda _: None,
) -> Iterator[list[Row]]:
    """The rows of each case."""
    for case in cases:
        build = problems.get(case.op)
        if build is None:
            raise ValueError(f"the suite {case.suite} has no operator {case.op!r}; it has {', '.join(problems)}")
        problem = build(case)
        if not matches(options.pattern, case.op, problem.shape, case.dtype):
            continue
        progress(f"{case.op} {problem.shape} {case.dtype}")
        yield run_case(case, problem, options)


def run_case(case: Case, problem: Problem, options: Options) -> list[Row]:
    """A row of each implementation that there is; what is missing or wrong has a row without times."""
    wanted = [OURS, *(peer for peer in options.peers if peer != "torch" or has_torch())]
    chosen = {name: problem.implementations[name] for name in wanted if name in problem.implementations}
    present = {name: i for name, i in chosen.items() if isinstance(i, Implementation)}
    reuse = options.outputs == "reused" and all(i.takes_out for i in present.values())
    seed = 1 + hash_of(case)
    inputs = Inputs(problem.inputs)
    inputs.fill(seed)
    contenders = _prepare(present, problem, inputs, reuse, seed)
    good = [c for c in contenders if not c.problem]
    times, limits = _time(good, problem, case.dtype, options)
    digest = inputs.digest()
    inputs.fill(seed + 1)
    if good and digest != _digest_of(problem, seed):
        for contender in good:  # who it was does not matter: nothing of this row can be trusted
            contender.problem = "an implementation changed its arguments"
    fresh_truth = checks.truth(problem, inputs.arrays, seed + 1) if good else None
    for contender in good:
        if fresh_truth is not None:
            contender.check(problem, fresh_truth, "after timing, with other values: ")
    rows = [_row(c, case, problem, options, times, limits, reuse) for c in contenders]
    rows += [_missing(name, i.reason, case, problem, options) for name, i in chosen.items() if isinstance(i, Missing)]
    return _compare(rows, times, options)


def hash_of(case: Case) -> int:
    """A seed that is the same in every process."""
    import zlib

    return zlib.crc32(repr((case.op, case.dtype, sorted(case.parameters.items()))).encode()) % (1 << 30)


def _digest_of(problem: Problem, seed: int) -> list[int]:
    untouched = Inputs(problem.inputs)
    untouched.fill(seed)
    return untouched.digest()


def _prepare(
    present: dict[str, Implementation], problem: Problem, inputs: Inputs, reuse: bool, seed: int
) -> list[Contender]:
    truth = checks.truth(problem, inputs.arrays, seed)
    contenders = []
    for name, implementation in present.items():
        out = od.empty(problem.output[0], problem.output_dtype) if reuse else None
        try:
            call = implementation.prepare(inputs.arrays, out)
        except Exception as error:  # noqa: BLE001 - as above
            text = f"{type(error).__name__}: {str(error).splitlines()[0]}"
            contenders.append(Contender(name, lambda: None, out, problem=text))
            continue
        contender = Contender(name, call, out)
        contender.check(problem, truth, "")
        if not contender.problem:
            memory.trim()  # workspaces that are kept for reuse shall count
            contender.peak = peak_memory(call)
        contenders.append(contender)
    return contenders


@dataclass(frozen=True)
class Limits:
    """The probes that were timed beside a row."""

    compute: tuple[roofs.Probe, ...] = ()
    memory: tuple[roofs.Probe, ...] = ()

    def seconds(self, problem: Problem, times: dict[str, list[float]]) -> tuple[float, str] | None:
        """The least time that the machine allows, and which limit says so."""
        found: list[tuple[float, str]] = []
        if self.memory:
            least = min(min(times[f"roof {p.name}"]) / p.operations for p in self.memory)
            found.append((least * (problem.read + problem.written), "memory"))
        if self.compute and problem.flops:
            rates = [(p.operations / p.cost / min(times[f"roof {p.name}"]), p.name) for p in self.compute]
            rate, name = max(rates)
            found.append((problem.flops / rate, roofs.TITLES[name]))
        return max(found) if found else None


def _time(
    good: Sequence[Contender], problem: Problem, dtype: str, options: Options
) -> tuple[dict[str, list[float]], Limits]:
    if not good:
        return {}, Limits()

    def everyone() -> None:
        od.set_num_threads(options.threads)

    timed = {c.name: Timed(c.call) for c in good}
    if OURS in timed:
        call = timed[OURS].call
        timed[CONTROL] = Timed(call)
        if options.threads > 1:
            timed = {name: Timed(t.call, everyone) for name, t in timed.items()}
            timed[ALONE] = Timed(call, lambda: od.set_num_threads(1))
    limits = Limits()
    if options.measure_roofs:
        compute = roofs.compute(dtype, options.threads) if problem.flops else ()
        limits = Limits(compute, roofs.stream(problem.read, problem.written, options.threads))
        for probe in (*limits.compute, *limits.memory):
            timed[f"roof {probe.name}"] = Timed(probe.call, everyone)
    times = interleave(timed, options.seconds)
    od.set_num_threads(options.threads)
    return times, limits


def _row(
    contender: Contender, case: Case, problem: Problem, options: Options, times: dict[str, list[float]],
    limits: Limits, reuse: bool,
) -> Row:
    known: dict[str, Any] = {
        "suite": case.suite, "op": case.op, "shape": problem.shape, "dtype": case.dtype, "threads": options.threads,
        "impl": contender.name, "max_err": contender.error if np.isfinite(contender.error) else None,
        "err_allowed": contender.allowed, "correct": not contender.problem,
        "outputs": "reused" if reuse else "fresh", "note": contender.problem or "; ".join(contender.notes),
    }  # fmt: skip
    if contender.problem or contender.name not in times:
        return Row(**known)
    summary = summarise(times[contender.name])
    moved = problem.read + problem.written
    limit = limits.seconds(problem, times)
    return Row(
        **known,
        **figures(summary),
        gflops=problem.flops / summary.minimum / 1e9 if problem.flops else None,
        gbps=moved / summary.minimum / 1e9,
        roof_pct=100 * limit[0] / summary.minimum if limit else None,
        roof=limit[1] if limit else "",
        intensity=problem.flops / moved if problem.flops else None,
        peak_mb=contender.peak,
    )


def figures(summary: Summary) -> dict[str, Any]:
    """The fields of a row that come from its times."""
    return {
        "ms_min": 1e3 * summary.minimum,
        "ms_median": 1e3 * summary.median,
        "spread": summary.spread,
        "runs": summary.runs,
    }


def _missing(name: str, reason: str, case: Case, problem: Problem, options: Options) -> Row:
    return Row(case.suite, case.op, problem.shape, case.dtype, options.threads, name, note=reason)


def _compare(rows: list[Row], times: dict[str, list[float]], options: Options) -> list[Row]:
    """Completes our row by the ratios to the others', the A/A control and what threads gain."""
    from dataclasses import replace

    ours = next((row for row in rows if row.impl == OURS and row.ms_min is not None), None)
    if ours is None or ours.ms_min is None:
        return rows
    own = ours.ms_min
    ratios = {row.impl: row.ms_min / own for row in rows if row.impl != OURS and row.ms_min is not None}
    completed = replace(
        ours,
        ratios=ratios,
        ratio=min(ratios.values()) if ratios else None,
        aa=same_twice(times[OURS], times[CONTROL]),
        scaling=1e3 * min(times[ALONE]) / own if ALONE in times else None,
    )
    return [completed if row is ours else row for row in rows]

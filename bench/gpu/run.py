"""One row after the other on a GPU: check against f64, time everyone in turns with the roofs, check with new values."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from opdsl.runtime.devices import Device, device_for

from ..cases import SHAPES, Case, load, matches
from ..rows import Row
from ..summary import same_twice, summarise
from .problems import SUITES, Call, Place, Problem, Tensor, make, torch_dtype
from .roofs import Probe

OURS, CONTROL = "opdsl", "opdsl again"
BATCH_SECONDS = 3e-3
LEAST_ROUNDS, MOST_ROUNDS, MOST_CALLS = 8, 100, 50
ULPS = 4
PEERS_MARGIN = 100  # a peer may take a less exact way, and is timed with a note


@dataclass(frozen=True)
class Options:
    """`seconds` is the time for each row."""

    place: Place
    shapes: str = "core"
    peers: Sequence[str] = ("torch", "triton")
    seconds: float = 1.5
    pattern: str | None = None
    measure_roofs: bool = True


@dataclass(frozen=True)
class Truth:
    """The formula in f64 of the part that is checked, and the errors of the same in f32, rounded once."""

    arguments: Sequence[Tensor]
    exact: Tensor
    plain: tuple[float, float]


@dataclass
class Contender:
    name: str
    call: Call
    out: Tensor
    error: float = 0.0
    allowed: float = 0.0
    problem: str = ""
    note: str = ""

    def check(self, problem: Problem, truth: Truth, when: str = "") -> None:
        """Runs on a poisoned output and judges it; the first problem found stays."""
        try:
            self.out.fill_(float("nan"))
            result = self.call()
            error, allowed, text = judge(result, problem, truth)
        except Exception as failure:  # noqa: BLE001 - one contender's failure must not end the run
            self.problem = (
                self.problem or f"{when}{type(failure).__name__}: {(str(failure) or ' ').splitlines()[0][:300]}"
            )
            return
        self.error, self.allowed = max(self.error, error), allowed
        if not text or self.problem:
            return
        if self.name != OURS and error <= PEERS_MARGIN * allowed:
            self.note = f"less exact than we allow ourselves: {text}"
        else:
            self.problem = f"{when}{text}"


def _wide(arguments: Sequence[Tensor], dtype: str) -> list[Tensor]:
    return [x.to(torch_dtype(dtype)) if x.is_floating_point() else x for x in arguments]


def _norms(error: Tensor) -> tuple[float, float]:
    if error.numel() == 0:
        return 0.0, 0.0
    return float(error.abs().max()), float(error.square().mean().sqrt())


def truth_of(problem: Problem, arguments: Sequence[Tensor], out: Tensor) -> Truth:
    part = arguments if problem.part is None else problem.part(arguments, out)[0]
    exact = problem.formula(*_wide(part, "f64")).double()
    plain = problem.formula(*_wide(part, "f32")).to(out.dtype).double()
    return Truth(part, exact, _norms(plain - exact))


def judge(result: Tensor, problem: Problem, truth: Truth) -> tuple[float, float, str]:
    """Error, what is allowed (twice the plain evaluation's, in maximum and root mean square, and a few units in the last
    place), and what is wrong."""
    import torch

    if tuple(result.shape) != problem.output.shape:
        return float("inf"), 0.0, f"the result has shape {tuple(result.shape)}, not {problem.output.shape}"
    if not bool(torch.isfinite(result).all()):
        return float("inf"), 0.0, "NaN or infinity in the result: something was not written"
    part = result if problem.part is None else problem.part(truth.arguments, result)[1]
    unit = ULPS * torch.finfo(result.dtype).eps
    found = _norms(part.double() - truth.exact)
    sizes = _norms(truth.exact)
    allowed = [max(2 * plain, unit * size) for plain, size in zip(truth.plain, sizes, strict=True)]
    for name, error, bound in zip(("largest", "root mean square"), found, allowed, strict=True):
        if not error <= bound:
            return found[0], allowed[0], f"the {name} error is {error:.2e}, allowed are {bound:.2e}"
    return found[0], allowed[0], ""


def cases_of(suite: str, shapes: str) -> list[Case]:
    return load(suite, shapes, SHAPES / "gpu.toml")


def run_suite(suite: str, options: Options, progress: Callable[[str], None] = lambda _: None) -> Iterator[list[Row]]:
    """The rows of each case of a suite."""
    for case in cases_of(suite, options.shapes):
        problem = SUITES[suite][case.op](case, options.place)
        if matches(options.pattern, case.op, problem.shape, case.dtype):
            progress(f"{case.op} {problem.shape} {case.dtype}")
            yield run_case(case, problem, options)


def run_case(case: Case, problem: Problem, options: Options) -> list[Row]:
    """A row for each contender; one that fails or is wrong has no times."""
    import torch

    device = device_for(options.place.target)
    where = options.place.device
    with torch.no_grad():
        arguments = [make(argument, where, seed) for seed, argument in enumerate(problem.arguments)]
        out = make(replace(problem.output, below=0), where, 99)
        truth = truth_of(problem, arguments, out)
        names = [name for name in problem.contenders if name == OURS or name in options.peers]
        contenders = [_prepare(name, problem, arguments, truth, device) for name in names]
        good = [contender for contender in contenders if not contender.problem]
        probes = _probes(case, problem) if options.measure_roofs and where == "cuda" else []
        times = _time(good, probes, device, options.seconds)
        untouched = (make(argument, where, seed) for seed, argument in enumerate(problem.arguments))
        if not all(bool((x == y).all()) for x, y in zip(arguments, untouched, strict=True)):
            for contender in good:  # who it was does not matter: nothing of this row can be trusted
                contender.problem = "a contender changed its arguments"
        for seed, (argument, tensor) in enumerate(zip(problem.arguments, arguments, strict=True), 1000):
            tensor.copy_(make(argument, where, seed))
        truth = truth_of(problem, arguments, out)
        for contender in good:
            contender.check(problem, truth, "after timing, with other values: ")
    return _rows(case, problem, contenders, probes, times)


def _prepare(name: str, problem: Problem, arguments: Sequence[Tensor], truth: Truth, device: Device) -> Contender:
    """The fastest of a contender's ways that are right, in a short trial."""
    ways = []
    for way in problem.contenders[name]:
        out = make(replace(problem.output, below=0), arguments[0].device.type, 99)
        contender = Contender(name, way(arguments, out), out)
        contender.check(problem, truth)
        ways.append(contender)
    good = [contender for contender in ways if not contender.problem]
    if len(good) < 2:
        return (good or ways)[0]
    trials = [(min(device.time(contender.call, 3) for _ in range(3)), number) for number, contender in enumerate(good)]
    return good[min(trials)[1]]


def _probes(case: Case, problem: Problem) -> list[Probe]:
    from . import roofs

    found = [roofs.memory(problem.bytes)]
    products = roofs.tensor_cores(case.dtype) if problem.flops else None
    return found if products is None else [*found, products]


def _time(good: list[Contender], probes: list[Probe], device: Device, seconds: float) -> dict[str, list[float]]:
    """Seconds of a call of each, one number a round."""
    calls: dict[str, Call] = {contender.name: contender.call for contender in good}
    if OURS in calls:
        calls[CONTROL] = calls[OURS]
    calls |= {f"roof {probe.name}": probe.call for probe in probes}
    if not good:
        return {}
    counts = {name: _calls_per_batch(call, device) for name, call in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    names = list(calls)
    start = time.perf_counter()
    for turn in range(MOST_ROUNDS):
        order = names[turn % len(names) :] + names[: turn % len(names)]
        for name in order if turn % 2 else reversed(order):
            times[name].append(device.time(calls[name], counts[name]) / counts[name])
        used = time.perf_counter() - start
        if (turn + 1 >= LEAST_ROUNDS and used > seconds) or (turn + 1 >= 3 and used > 4 * seconds):
            break
    return times


def _calls_per_batch(call: Call, device: Device) -> int:
    device.time(call, 2)
    seconds = min(device.time(call, 1) for _ in range(3))
    return max(1, min(MOST_CALLS, round(BATCH_SECONDS / max(seconds, 1e-7))))


def _limit(problem: Problem, probes: Sequence[Probe], times: dict[str, list[float]]) -> tuple[float, str] | None:
    """The least time that the GPU allows for the row, and which limit says so."""
    found = []
    for probe in probes:
        rate = probe.amount / min(times[f"roof {probe.name}"])
        needed = problem.bytes if probe.name == "memory" else problem.flops or 0.0
        found.append((needed / rate, probe.name))
    return max(found) if found else None


def _rows(
    case: Case,
    problem: Problem,
    contenders: Sequence[Contender],
    probes: Sequence[Probe],
    times: dict[str, list[float]],
) -> list[Row]:
    limit = _limit(problem, probes, times) if times else None
    rows = []
    for contender in contenders:
        known: dict[str, Any] = {
            "suite": f"gpu_{case.suite}", "op": case.op, "shape": problem.shape, "dtype": case.dtype, "threads": 1,
            "impl": contender.name, "max_err": contender.error if contender.error < float("inf") else None,
            "err_allowed": contender.allowed, "correct": not contender.problem, "outputs": "reused",
            "note": contender.problem or contender.note,
        }  # fmt: skip
        if contender.problem or contender.name not in times:
            rows.append(Row(**known))
            continue
        summary = summarise(times[contender.name])
        rows.append(
            Row(
                **known,
                ms_min=1e3 * summary.minimum,
                ms_median=1e3 * summary.median,
                spread=summary.spread,
                runs=summary.runs,
                gflops=problem.flops / summary.minimum / 1e9 if problem.flops else None,
                gbps=problem.bytes / summary.minimum / 1e9,
                roof_pct=100 * limit[0] / summary.minimum if limit else None,
                roof=limit[1] if limit else "",
                intensity=problem.flops / problem.bytes if problem.flops else None,
            )
        )
    return _compared(rows, times)


def _compared(rows: list[Row], times: dict[str, list[float]]) -> list[Row]:
    """Our row with the ratios to the others and the A/A control."""
    ours = next((row for row in rows if row.impl == OURS and row.ms_min is not None), None)
    if ours is None or ours.ms_min is None:
        return rows
    own = ours.ms_min
    ratios = {row.impl: row.ms_min / own for row in rows if row.impl != OURS and row.ms_min is not None}
    ratio = min(ratios.values()) if ratios else None
    completed = replace(ours, ratios=ratios, ratio=ratio, aa=same_twice(times[OURS], times[CONTROL]))
    return [completed if row is ours else row for row in rows]


def header(options: Options, suites: Sequence[str]) -> dict[str, Any]:
    """The first line of the results."""
    import platform
    import sys

    from ..machine import versions

    device = device_for(options.place.target)
    return {
        "kind": "header",
        "schema": 1,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "device": device.model(),
        "target": options.place.target,
        "threads": 1,
        "isa": options.place.target,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "versions": {**versions(), **device.versions()},
        "command": " ".join(["opdsl", *sys.argv[1:]]),
        "shapes": options.shapes,
        "seconds": options.seconds,
        "suites": list(suites),
    }

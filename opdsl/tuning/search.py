"""Measuring the configurations of one kernel on one set of arguments, side by side, and choosing the best."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from opdsl.lang.config import Config, shown
from opdsl.lang.kernel import Kernel
from opdsl.runtime.devices import Device
from opdsl.runtime.launch import KernelLaunch
from opdsl.runtime.tuning_records import Trial
from opdsl.support.errors import OpdslError

BATCH_SECONDS = 4e-3  # a round calls each candidate for about so long
LEAST_ROUNDS = 6
MOST_ROUNDS = 200
# After so many rounds, candidates that are so many times slower than the best are measured no more.
CUTS = ((2, 2.0), (4, 1.3), (8, 1.1))
LEAST_GAIN = 0.01  # the default stays unless it is beaten by this and by the noise
CONTROL = "control"

Progress = Callable[[str], None]


class TuningError(OpdslError, RuntimeError):
    """No configuration could be measured."""


@dataclass(frozen=True)
class Problem:
    """What is measured: a kernel on NumPy's arrays and scalars in parameter order, of which `written` are its outputs.

    `given` are the constexprs that stay as they are. `check(outputs)` says what is wrong with results, or nothing.
    """

    kernel: Kernel
    target: str
    arguments: Sequence[Any]
    written: frozenset[int]
    given: Mapping[str, Any] = field(default_factory=dict)
    check: Callable[[list[NDArray[Any]]], str] | None = None


@dataclass(frozen=True)
class Outcome:
    """`best` has all values that the configurations vary. `noise` is a part: 0.02 means 2 %."""

    best: Config
    ms_min: float
    default_ms_min: float | None
    noise: float
    trials: tuple[Trial, ...]


@dataclass
class _Candidate:
    config: Config
    call: Callable[[], object]
    problem: str = ""
    calls: int = 1
    times: list[float] = field(default_factory=list)

    @property
    def best(self) -> float:
        return min(self.times, default=float("inf"))


def default_config(kernel: Kernel, configs: Sequence[Config]) -> Config | None:
    """The kernel's own values of what the configurations set, or None where one has no default."""
    names = dict.fromkeys(name for config in configs for name in config.constexprs)
    if any(name not in kernel.signature.defaults for name in names):
        return None
    return Config({name: kernel.signature.defaults[name] for name in names})


def search(
    problem: Problem, configs: Sequence[Config], device: Device, seconds: float, progress: Progress = lambda _: None
) -> Outcome:
    """Compiles, checks and measures every configuration, and the kernel's defaults beside them.

    `seconds` is the time for measuring each, on average. Raises TuningError where none works.
    """
    default = default_config(problem.kernel, configs)
    chosen = list(dict.fromkeys(([default] if default is not None else []) + [_complete(c, default) for c in configs]))
    launch = KernelLaunch(problem.kernel)
    placed = device.place(problem.arguments)
    candidates = [_prepare(problem, config, launch, placed, device) for config in chosen]
    _compile_and_check(problem, candidates, placed, device, progress)
    good = [candidate for candidate in candidates if not candidate.problem]
    if not good:
        reasons = "\n".join(f"  {c.config}: {c.problem}" for c in candidates)
        raise TuningError(f"no configuration of {problem.kernel.name} can be measured:\n{reasons}")
    control = _Candidate(good[0].config, good[0].call)
    _measure([*good, control], device, seconds * len(good), progress)
    noise = abs(good[0].best - control.best) / min(good[0].best, control.best)
    first = candidates[0] if default is not None and not candidates[0].problem else None
    best = min(good, key=lambda candidate: candidate.best)
    if first is not None and first.best <= best.best * (1 + max(LEAST_GAIN, noise)):
        best = first
    trials = tuple(_trial(candidate) for candidate in sorted(candidates, key=lambda c: c.best))
    default_ms = None if first is None else first.best * 1e3
    return Outcome(best.config, best.best * 1e3, default_ms, noise, trials)


def _complete(config: Config, default: Config | None) -> Config:
    """A configuration with the defaults of what only others set."""
    return config if default is None else Config({**default.constexprs, **config.values})


def _prepare(
    problem: Problem, config: Config, launch: KernelLaunch, placed: Sequence[Any], device: Device
) -> _Candidate:
    variant = launch.variant(problem.target, {**problem.given, **config.constexprs}, config.options)
    if device.on_gpu:
        return _Candidate(config, lambda: variant.run_on_device(list(placed)))
    return _Candidate(config, lambda: variant.run(placed))


def _compile_and_check(
    problem: Problem, candidates: Sequence[_Candidate], placed: Sequence[Any], device: Device, progress: Progress
) -> None:
    """Runs each once on cleared outputs. What fails, or differs from the others, is not measured."""
    first: list[Any] | None = None
    for number, candidate in enumerate(candidates, 1):
        progress(f"compiling {number}/{len(candidates)}  {candidate.config}")
        for place in problem.written:
            placed[place][...] = 0  # what a kernel adds to begins at zero, so that all have the same result
        try:
            candidate.call()
            outputs = [device.keep(placed[place]) for place in sorted(problem.written)]
        except Exception as error:  # noqa: BLE001 - a compiler may refuse one configuration in any way
            candidate.problem = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            continue
        wrong = ""
        if problem.check is not None:
            wrong = problem.check([device.fetch(output) for output in outputs])
        elif first is not None:
            wrong = _difference(device, outputs, first)
        candidate.problem = wrong
        if not wrong and first is None:
            first = outputs


def _difference(device: Device, outputs: Sequence[Any], wanted: Sequence[Any]) -> str:
    """What is wrong with results that should be another configuration's but for rounding."""
    for mine, other in zip(outputs, wanted, strict=True):
        found = device.distance(mine, other)
        if not found.same_special:
            return "its result is not finite where that of the other configurations is, or the other way round"
        # Sums in another order, of numbers that may cancel.
        if found.error > (1e3 if found.unit < 1e-4 else 8) * found.unit * found.largest:
            return (
                f"its result differs from the other configurations' by {found.error:.2g}; the largest element is "
                f"{found.largest:.2g}"
            )
    return ""


def _measure(candidates: Sequence[_Candidate], device: Device, seconds: float, progress: Progress) -> None:
    """Rounds in changing order; slow candidates drop out. The last one, the control, stays as long as the first."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        for candidate in candidates:
            candidate.calls = _calls_per_batch(candidate, device)
        running = list(candidates)
        start = time.perf_counter()
        for turn in range(MOST_ROUNDS):
            order = running[turn % len(running) :] + running[: turn % len(running)]
            for candidate in order if turn % 2 else reversed(order):
                candidate.times.append(device.time(candidate.call, candidate.calls) / candidate.calls)
            used = time.perf_counter() - start
            progress(f"measuring {len(running) - 1} configurations  round {turn + 1}  {used:.0f} of {seconds:.0f} s")
            running = _cut(running, turn + 1, (candidates[0], candidates[-1]))
            if (turn + 1 >= LEAST_ROUNDS and used > seconds) or (turn + 1 >= 3 and used > 3 * seconds):
                break
    finally:
        if enabled:
            gc.enable()


def _cut(running: list[_Candidate], rounds: int, kept: tuple[_Candidate, ...]) -> list[_Candidate]:
    for after, factor in CUTS:
        if rounds == after:
            limit = factor * min(candidate.best for candidate in running)
            return [candidate for candidate in running if candidate.best <= limit or candidate in kept]
    return running


def _calls_per_batch(candidate: _Candidate, device: Device) -> int:
    calls = 1
    while True:
        seconds = min(device.time(candidate.call, calls) for _ in range(2))
        if seconds >= BATCH_SECONDS / 2 or calls >= 1000:
            return max(1, min(1000, round(calls * min(1.0, BATCH_SECONDS / max(seconds, 1e-9)))))
        calls = min(1000, max(2 * calls, int(calls * BATCH_SECONDS / max(seconds, 1e-7) / 2)))


def _trial(candidate: _Candidate) -> Trial:
    values = {name: shown(value) for name, value in candidate.config.values.items()}
    if candidate.problem:
        return Trial(values, None, None, candidate.problem)
    median = statistics.median(candidate.times)
    return Trial(values, round(candidate.best * 1e3, 6), round(median * 1e3, 6))

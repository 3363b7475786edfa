"""Interleaved timing: A B C C B A A B C ..., many short rounds, until no minimum falls any more or the time is up.

The speed of a shared machine drifts by a factor of two within a minute, so only times taken side by side can be
compared, and of those the minima: noise adds time, it never takes any away.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

LEAST_ROUNDS = 6
MOST_ROUNDS = 400
STABLE = 0.003  # a minimum that fell by less than this in the latter half of the rounds counts as found


@dataclass(frozen=True)
class Timed:
    """Something to time. `before` runs, untimed, before each batch of calls: it sets the number of threads, say."""

    call: Callable[[], object]
    before: Callable[[], object] | None = None


def batch(timed: Timed, calls: int) -> float:
    """Seconds that so many calls take."""
    if timed.before is not None:
        timed.before()
    call = timed.call
    repetitions = range(calls)
    start = time.perf_counter()
    for _ in repetitions:
        call()
    return time.perf_counter() - start


def calls_per_batch(timed: Timed, batch_seconds: float) -> int:
    """How many calls take about so long; also what warms everything up."""
    calls = 1
    while True:
        seconds = min(batch(timed, calls), batch(timed, calls))
        if seconds >= batch_seconds / 2:
            return max(1, round(calls * min(1.0, batch_seconds / seconds)))
        calls = max(2 * calls, min(16 * calls, int(calls * batch_seconds / max(seconds, 1e-7))))


def interleave(
    competitors: Mapping[str, Timed], seconds: float, batch_seconds: float = 2e-3
) -> dict[str, list[float]]:
    """Seconds per call of each competitor, one number a round. `seconds` is for all of them together."""
    names = list(competitors)
    enabled = gc.isenabled()
    gc.disable()
    try:
        calls = {name: calls_per_batch(competitors[name], batch_seconds) for name in names}
        times: dict[str, list[float]] = {name: [] for name in names}
        start = time.perf_counter()
        for turn in range(MOST_ROUNDS):
            order = names[turn % len(names) :] + names[: turn % len(names)]
            for name in order if turn % 2 else reversed(order):
                times[name].append(batch(competitors[name], calls[name]) / calls[name])
            used = time.perf_counter() - start
            if turn + 1 >= LEAST_ROUNDS and (used > seconds or (used > seconds / 3 and _is_settled(times))):
                break
            if used > 4 * seconds and turn >= 2:  # a slow competitor shall not hold everything up
                break
        return times
    finally:
        if enabled:
            gc.enable()


def _is_settled(times: Mapping[str, list[float]]) -> bool:
    half = len(next(iter(times.values()))) // 2
    return half >= LEAST_ROUNDS and all(min(t[:half]) <= min(t) * (1 + STABLE) for t in times.values())

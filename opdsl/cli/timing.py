"""Timing of calls: repeated until a share of a second is used."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """Seconds of one call."""

    fastest: float
    median: float
    calls: int


def time_calls(call: Callable[[], object], seconds: float = 0.3, least: int = 3) -> Timing:
    """Times a call that has been made before."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < least or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
        if len(times) >= 10_000:
            break
    return Timing(min(times), statistics.median(times), len(times))


def time_alternately(
    calls: dict[str, Callable[[], object]], seconds: float = 0.3, rounds: int = 5
) -> dict[str, Timing]:
    """Times several calls in turns, so that a slower spell of the machine meets all of them."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    share = seconds / rounds
    for _ in range(rounds):
        for name, call in calls.items():
            end = time.perf_counter() + share
            while True:
                start = time.perf_counter()
                call()
                now = time.perf_counter()
                times[name].append(now - start)
                if now >= end or len(times[name]) >= 10_000:
                    break
    return {name: Timing(min(t), statistics.median(t), len(t)) for name, t in times.items()}


def shown_time(seconds: float) -> str:
    """2.31 ms"""
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("us", 1e6)):
        if seconds * factor >= 1 or unit == "us":
            return f"{seconds * factor:.3g} {unit}"
    return ""

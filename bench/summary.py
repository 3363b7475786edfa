"""What is made of a list of times: minimum, median, spread, ratios, and whether a difference is more than noise."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Summary:
    """Seconds of one implementation in one row. `spread` is how far the median lies above the minimum, as a part of it."""

    minimum: float
    median: float
    runs: int

    @property
    def spread(self) -> float:
        return self.median / self.minimum - 1 if self.minimum > 0 else 0.0


def median(values: Sequence[float]) -> float:
    """The middle one; of an even number the mean of the two."""
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def summarise(seconds: Sequence[float]) -> Summary:
    """Raises ValueError if there is no time at all."""
    if not seconds:
        raise ValueError("there are no times to summarise")
    return Summary(min(seconds), median(seconds), len(seconds))


def geometric_mean(values: Sequence[float]) -> float:
    """The mean for ratios: twice as fast and half as fast cancel out."""
    if not values or min(values) <= 0:
        raise ValueError("a geometric mean needs positive numbers")
    return math.exp(sum(map(math.log, values)) / len(values))


def same_twice(first: Sequence[float], second: Sequence[float]) -> float:
    """The A/A control: how far apart two measurements of one thing are, as a part of it. No difference below this is
    worth a word."""
    a, b = min(first), min(second)
    return max(a, b) / min(a, b) - 1


def ratio_interval(
    first: Sequence[float], second: Sequence[float], confidence: float = 0.95, samples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """An interval for low(second) / low(first) by resampling rounds. The lower decile stands in for the minimum, whose
    own bootstrap distribution is degenerate."""
    generator = random.Random(seed)
    ratios = sorted(
        _low(generator.choices(second, k=len(second))) / _low(generator.choices(first, k=len(first)))
        for _ in range(samples)
    )
    tail = (1 - confidence) / 2
    return ratios[int(tail * samples)], ratios[min(samples - 1, int((1 - tail) * samples))]


def _low(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return ordered[len(ordered) // 10]


def is_slower(
    before: Sequence[float], after: Sequence[float], control: float, least: float = 0.03
) -> bool:
    """Whether `after` is slower, by the rule of docs/benchmarks.md: significantly, and by more than `least` and twice
    what the A/A control shows."""
    change = min(after) / min(before) - 1
    return change > max(least, 2 * control) and ratio_interval(before, after)[0] > 1

"""Targets as data (bars.toml): which rows each is about, what of them counts, and what it must be."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from .rows import BarResult, Row
from .summary import geometric_mean

FILE = Path(__file__).parent / "bars.toml"
REDUCTIONS: dict[str, Callable[[Sequence[float]], float]] = {"geomean": geometric_mean, "min": min, "max": max}
FIELDS = ("roof_pct", "scaling", "ms_min", "ratio")


def load(path: Path = FILE) -> list[dict[str, Any]]:
    """Every target; raises ValueError for one that cannot be judged."""
    bars: list[dict[str, Any]] = tomllib.loads(path.read_text())["bar"]
    for bar in bars:
        if bar.get("reduce") not in REDUCTIONS or ("at_least" in bar) == ("at_most" in bar) or "figure" not in bar:
            raise ValueError(f"{path.name}: {bar.get('text')!r} needs figure, reduce, and one of at_least and at_most")
    return bars


def _selects(bar: Mapping[str, Any], row: Row) -> bool:
    return (
        row.impl == "opdsl"
        and row.suite == bar["suite"]
        and row.threads == bar.get("threads", row.threads)
        and row.dtype == bar.get("dtype", row.dtype)
        and fnmatchcase(row.op, bar.get("op", "*"))
        and fnmatchcase(row.shape, bar.get("shape", "*"))
    )


def _figure(bar: Mapping[str, Any], row: Row) -> float | None:
    name = bar["figure"]
    value: float | None = getattr(row, name) if name in FIELDS else row.ratios.get(name)
    return value


def judge(rows: Sequence[Row], bars: Sequence[Mapping[str, Any]] | None = None) -> list[BarResult]:
    """The targets of the suites that these rows are of. A wrong or missing result fails what it belongs to."""
    suites = {row.suite for row in rows}
    results = []
    for bar in load() if bars is None else bars:
        if bar["suite"] not in suites:
            continue
        chosen = [row for row in rows if _selects(bar, row)]
        if not chosen and bar.get("threads") not in (None, *(row.threads for row in rows)):
            continue
        bound = f">= {bar['at_least']:g}" if "at_least" in bar else f"<= {bar['at_most']:g}"
        wrong = [row for row in chosen if row.correct is False or row.ms_min is None]
        values = [(value, row) for row in chosen if (value := _figure(bar, row)) is not None]
        value = REDUCTIONS[bar["reduce"]]([v for v, _ in values]) if values else None
        passed: bool | None = None
        if wrong:
            passed = False
        elif value is not None:
            passed = value >= bar["at_least"] if "at_least" in bar else value <= bar["at_most"]
        results.append(BarResult(bar["suite"], bar["text"], value, bound, passed, _detail(bar, values, wrong)))
    return results


def _detail(bar: Mapping[str, Any], values: Sequence[tuple[float, Row]], wrong: Sequence[Row]) -> str:
    if wrong:
        return f"{wrong[0].op} {wrong[0].shape} {wrong[0].dtype}: {wrong[0].note}"
    if len(values) < 2:
        return "" if values else "not measured"
    value, row = (max if "at_most" in bar else min)(values, key=lambda pair: pair[0])
    return f"{len(values)} rows, worst {row.shape}: {value:.2f}"


def geometric_means(rows: Sequence[Row]) -> dict[tuple[str, str, int], tuple[float, float, str, int]]:
    """By suite, dtype and threads: the geometric mean of our ratios to the best peer, the worst and its row, how many."""
    groups: dict[tuple[str, str, int], list[Row]] = {}
    for row in rows:
        if row.ratio is not None:
            groups.setdefault((row.suite, row.dtype, row.threads), []).append(row)
    found = {}
    for key, members in groups.items():
        worst = min(members, key=lambda row: row.ratio or 0.0)
        mean = geometric_mean([row.ratio for row in members if row.ratio])
        found[key] = (mean, worst.ratio or 0.0, f"{worst.op} {worst.shape}", len(members))
    return found

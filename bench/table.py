"""The terminal's tables: with rich where it is installed, else plain columns."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from .bars import geometric_means
from .rows import BarResult, Row

COLUMNS = ("op", "shape", "dtype", "opdsl", "speed", "roof", "torch", "numpy", "triton", "ratio", "noise", "error")
ROOFS = {"memory": "mem", "tensor cores": "dot"}  # all others are the CPU's arithmetic


def time_text(milliseconds: float | None) -> str:
    """Three figures, in ms or us."""
    if milliseconds is None:
        return "-"
    return f"{milliseconds * 1e3:.3g} us" if milliseconds < 0.1 else f"{milliseconds:.4g} ms"


def speed_text(row: Row) -> str:
    """GF/s where arithmetic counts, else GB/s."""
    if row.gflops is not None:
        return f"{row.gflops:.0f} G{'op' if row.dtype == 'i8' else 'F'}/s"
    return f"{row.gbps:.1f} GB/s" if row.gbps is not None else ""


def by_case(rows: Sequence[Row]) -> list[list[Row]]:
    """Rows of one case together, in the order in which they came."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault((*row.case, row.threads), []).append(row)
    return list(groups.values())


def cells(group: Sequence[Row]) -> tuple[str, ...]:
    """A line of the table."""
    named = {row.impl: row for row in group}
    first = group[0]
    ours = named.get("opdsl")
    note = ""
    if ours is not None:
        note = "WRONG" if ours.correct is False else (f"{ours.max_err:.1e}" if ours.max_err is not None else "")
        if ours.ms_min is None and ours.correct is not False:
            note = "missing"
    return (
        first.op,
        first.shape,
        first.dtype,
        time_text(ours.ms_min if ours else None),
        speed_text(ours) if ours else "",
        f"{ours.roof_pct:.0f} % {ROOFS.get(ours.roof, 'cpu')}" if ours and ours.roof_pct else "",
        _peer(named.get("torch")),
        _peer(named.get("numpy")),
        _peer(named.get("triton")),
        f"{ours.ratio:.2f}x" if ours and ours.ratio is not None else "",
        f"{100 * ours.aa:.1f} %" if ours and ours.aa is not None else "",
        note,
    )


def _peer(row: Row | None) -> str:
    if row is None:
        return ""
    return "WRONG" if row.correct is False else time_text(row.ms_min)


def show(rows: Sequence[Row], bars: Sequence[BarResult], title: str) -> None:
    """Prints the table, remarks, means and targets."""
    lines = [cells(group) for group in by_case(rows)]
    used = [n for n in range(len(COLUMNS)) if n < 4 or any(line[n] for line in lines)]
    heads = tuple(COLUMNS[n] for n in used)
    print_table(title, heads, [tuple(line[n] for n in used) for line in lines])
    for row in rows:
        if row.note and (row.correct is not True or row.impl == "opdsl"):
            print(f"  {row.op} {row.shape} {row.dtype}, {row.impl}: {row.note}")
        if row.scaling is not None:
            print(f"  {row.op} {row.shape} {row.dtype}: {row.threads} threads are {row.scaling:.2f}x as fast as one")
    for (suite, dtype, threads), (mean, worst, where, count) in geometric_means(rows).items():
        print(
            f"  {suite} {dtype}, {threads} thread{'s' if threads > 1 else ''}: geometric mean of {count} ratios to the "
            f"best peer {mean:.3f}, worst {worst:.3f} ({where})"
        )
    if bars:
        print()
        marks = {True: "pass", False: "FAIL", None: "-"}
        found = [
            (marks[b.passed], b.suite, b.text, "-" if b.value is None else f"{b.value:.3g}", b.bound, b.detail)
            for b in bars
        ]
        print_table("targets", ("", "suite", "target", "found", "bound", ""), found)


def print_table(title: str, heads: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """A table of texts."""
    try:
        from rich.console import Console
        from rich.table import Table
    except ImportError:
        _print_plain(title, heads, lines)
        return
    if not sys.stdout.isatty():  # rich would cut columns to an assumed width
        _print_plain(title, heads, lines)
        return
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for head in heads:
        table.add_column(head, justify="left" if head in ("op", "shape", "dtype", "", "suite", "target") else "right")
    for line in lines:
        style = "red" if "WRONG" in line or "FAIL" in line else None
        table.add_row(*line, style=style)
    Console().print(table)


def _print_plain(title: str, heads: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    print(title)
    widths = [max(len(line[n]) for line in [heads, *lines]) for n in range(len(heads))]
    for line in [heads, *lines]:
        print("  ".join(f"{text:<{width}}" for text, width in zip(line, widths, strict=True)).rstrip())

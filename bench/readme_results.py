"""Fills the table of README.md from files of results:

    opdsl bench all --threads 1 --json one.jsonl
    opdsl bench matmul --threads 2 --json two.jsonl
    python -m opdsl.bench.readme_results one.jsonl two.jsonl

Only what stands between the two marks changes. `--print` shows it instead.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .rows import BarResult, Record, Row, read
from .summary import geometric_mean
from .table import by_case, time_text

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
README = Path(__file__).resolve().parents[1] / "README.md"
PEERS = ("torch", "numpy")
HEADS = ("operator", "dtype", "shapes", "to PyTorch", "to NumPy", "worst to the better of both", "% of the roof")


def replaced(text: str, block: str) -> str:
    """The page with another block between the marks. Raises ValueError where it has no such place."""
    before, mark, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not mark or not end or BEGIN in rest or END in after:
        raise ValueError(f"the page needs one line {BEGIN} and, after it, one line {END}")
    return f"{before}{BEGIN}\n{block.strip()}\n{END}{after}"


def block(files: Sequence[tuple[Mapping[str, Any], Sequence[Record]]]) -> str:
    """The text for all files, one after another."""
    return "\n\n".join("\n\n".join(_sections(header, records)) for header, records in files)


def _sections(header: Mapping[str, Any], records: Sequence[Record]) -> Iterator[str]:
    rows = [record for record in records if isinstance(record, Row)]
    yield _heading(header)
    suites = dict.fromkeys(row.suite for row in rows)
    for suite in suites:
        own = [row for row in rows if row.suite == suite]
        lines = list(_compile_lines(own) if suite == "compile" else _lines(own))
        heads = ("what", "of", "time", "PyTorch") if suite == "compile" else HEADS
        if lines:
            yield f"**{suite}**\n\n{_table(heads, lines)}"
    bars = [record for record in records if isinstance(record, BarResult) and record.passed is not None]
    if bars:
        yield _targets(bars)


def _heading(header: Mapping[str, Any]) -> str:
    threads = header.get("threads", 1)
    versions = header.get("versions", {})
    against = ", ".join(f"{name} {versions[name]}" for name in ("torch", "numpy") if name in versions)
    return (
        f"{header.get('device', 'unknown processor')}, {header.get('isa', '')}, {threads} "
        f"thread{'s' if threads != 1 else ''}, {header.get('compiler', '')}, {against}, "
        f"{str(header.get('time', ''))[:10]}: `{header.get('command', '')}`"
    )


def _lines(rows: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    """A line of each operator and dtype, in the order of the suite."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row.impl == "opdsl":
            groups.setdefault((row.op, row.dtype), []).append(row)
    for (op, dtype), members in groups.items():
        good = [row for row in members if row.correct is not False and row.ms_min is not None]
        wrong = len(members) - len(good)
        count = str(len(members)) + (f", {wrong} wrong or missing" if wrong else "")
        peers = [_mean(row.ratios[peer] for row in good if peer in row.ratios) for peer in PEERS]
        known = [row for row in good if row.ratio is not None]
        worst = min(known, key=lambda row: row.ratio or 0.0) if known else None
        worst_text = f"{worst.ratio:.2f} ({worst.shape})" if worst is not None else "-"
        yield (op, dtype, count, *peers, worst_text, _span([row.roof_pct for row in good if row.roof_pct is not None]))


def _mean(ratios: Iterable[float]) -> str:
    values = list(ratios)
    return f"{geometric_mean(values):.2f}" if values else "-"


def _span(values: Sequence[float]) -> str:
    if not values:
        return "-"
    least, most = f"{min(values):.0f}", f"{max(values):.0f}"
    return least if least == most else f"{least}-{most}"


def _compile_lines(rows: Sequence[Row]) -> Iterator[tuple[str, ...]]:
    for group in by_case(rows):
        named = {row.impl: row for row in group}
        if "opdsl" in named:
            peer = named.get("torch")
            ours = named["opdsl"]
            yield (ours.op, ours.shape, time_text(ours.ms_min), time_text(peer.ms_min) if peer else "-")


def _targets(bars: Sequence[BarResult]) -> str:
    missed = [bar for bar in bars if not bar.passed]
    text = f"Targets of bench/bars.toml: {len(bars) - len(missed)} of {len(bars)} reached."
    if not missed:
        return text
    values = ["nothing" if bar.value is None else f"{bar.value:.3g}" for bar in missed]
    lines = (f"- {bar.suite}: {bar.text} {bar.bound}, found {v}" for bar, v in zip(missed, values, strict=True))
    return f"{text} Missed:\n\n" + "\n".join(lines)


def _table(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *lines))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m opdsl.bench.readme_results", description="fill the table of README.md")
    parser.add_argument("files", nargs="+", type=Path, help="what `opdsl bench --json` wrote")
    parser.add_argument("--readme", type=Path, default=README, help="the page (default: README.md of this checkout)")
    parser.add_argument("--print", action="store_true", help="show the text and change nothing")
    chosen = parser.parse_args(arguments)
    try:
        text = block([read(path) for path in chosen.files])
        if chosen.print:
            print(text)
        else:
            chosen.readme.write_text(replaced(chosen.readme.read_text(), text))
    except (OSError, ValueError) as error:
        print(f"readme_results: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The HTML report: one file, nothing loaded from elsewhere."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from . import plots
from .bars import geometric_means
from .rows import BarResult, Record, Roof, Row
from .table import by_case, speed_text, time_text

STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1c1c1c; background: #fff; max-width: 1240px; margin: 2.5rem auto;
       padding: 0 1.2rem; }
h1 { font-size: 1.6rem; margin: 0 0 .3rem; } h2 { font-size: 1.25rem; margin: 2.4rem 0 .6rem; }
h3 { font-size: 1rem; margin: 1.6rem 0 .3rem; }
.facts { color: #555; margin: 0 0 1.4rem; } .facts b { font-weight: 600; color: #333; }
table { border-collapse: collapse; width: 100%; font-size: .86rem; font-variant-numeric: tabular-nums; }
th { text-align: right; font-weight: 600; border-bottom: 1.5px solid #999; padding: .25rem .55rem; vertical-align: bottom; }
td { text-align: right; border-bottom: 1px solid #eee; padding: .22rem .55rem; white-space: nowrap; }
.left { text-align: left; } tr:hover td { background: #f6f8fb; }
.good { color: #17692b; font-weight: 600; } .bad { color: #b3261e; font-weight: 600; } .dim { color: #777; }
.note { white-space: normal; color: #777; font-size: .82rem; }
.plot { width: 100%; height: auto; display: block; } .wide { overflow-x: auto; }
details summary { cursor: pointer; color: #555; margin: .6rem 0; }
"""

READING = """
Times are minima of interleaved rounds; every implementation had the same threads, arguments and kind of output.
<b>Ratio</b> is the best peer's time divided by opdsl's. <b>A/A</b> is how far two measurements of the same code lay apart
in the same rounds: smaller differences mean nothing. <b>Roof</b> is the part of what the machine can do at most, measured
in the same rounds: <i>cpu</i>, arithmetic on registers alone; <i>mem</i>, moving the row's bytes through memory of the same
size. Absolute times of different runs must not be compared.
"""


def write(path: Path, header: Mapping[str, Any], records: Sequence[Record]) -> None:
    """Writes the report. Raises ImportError where matplotlib is missing."""
    path.write_text(page(header, records), encoding="utf-8")


def page(header: Mapping[str, Any], records: Sequence[Record]) -> str:
    """The report's text."""
    rows = [record for record in records if isinstance(record, Row)]
    roofs = [record for record in records if isinstance(record, Roof)]
    found = [record for record in records if isinstance(record, BarResult)]
    body = [f"<h1>OpDSL benchmarks</h1>{_facts(header)}<p>{READING}</p>"]
    if found:
        body.append(f"<h2>Targets</h2>{_targets(found)}")
    means = geometric_means(rows)
    if means:
        body.append(f"<h2>Means</h2>{_means(means)}")
    for suite in dict.fromkeys(row.suite for row in rows):
        body.append(f"<h2>{_text(suite)}</h2>")
        body += _suite(suite, [row for row in rows if row.suite == suite], roofs)
    if roofs:
        body.append(f"<h2>Roofs</h2>{_roofs(roofs)}")
    title = f"OpDSL benchmarks, {_text(header.get('time', ''))}"
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>\n<body>\n'
        + "\n".join(body)
        + "\n</body></html>\n"
    )


def _text(value: object) -> str:
    return html.escape(str(value))


def _facts(header: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in header.get("versions", {}).items())
    facts = {
        "Machine": f"{header.get('device', '?')}, {header.get('isa', '?')}, {header.get('threads', '?')} thread(s)",
        "Versions": f"{versions}; {header.get('compiler', '?')}",
        "When": f"{header.get('time', '?')}, load {header.get('load', '?')} at the start",
        "Command": header.get("command", "?"),
    }
    return '<p class="facts">' + "<br>".join(f"<b>{k}</b> {_text(v)}" for k, v in facts.items()) + "</p>"


def _table(heads: Sequence[str], lines: Sequence[Sequence[str]], left: int = 1) -> str:
    """Cells are HTML already; the first `left` columns are texts."""

    def line(cells: Sequence[str], tag: str) -> str:
        return "".join(f'<{tag}{" class=left" if n < left else ""}>{c}</{tag}>' for n, c in enumerate(cells))

    body = "".join(f"<tr>{line(cells, 'td')}</tr>" for cells in lines)
    return f'<div class="wide"><table><thead><tr>{line(heads, "th")}</tr></thead><tbody>{body}</tbody></table></div>'


def _targets(found: Sequence[BarResult]) -> str:
    marks = {
        True: '<span class="good">pass</span>',
        False: '<span class="bad">FAIL</span>',
        None: '<span class="dim">not measured</span>',
    }
    lines = [
        (
            _text(bar.suite), _text(bar.text), f'<span class="note">{_text(bar.detail)}</span>',
            f"{bar.value:.3g}" if bar.value is not None else "", _text(bar.bound), marks[bar.passed],
        )
        for bar in found
    ]  # fmt: skip
    return _table(("suite", "target", "", "found", "bound", ""), lines, 3)


def _means(means: Mapping[tuple[str, str, int], tuple[float, float, str, int]]) -> str:
    lines = [
        (
            _text(suite), dtype, str(threads), str(count), _ratio(mean),
            f'{_ratio(worst)} <span class="dim">{_text(where)}</span>',
        )
        for (suite, dtype, threads), (mean, worst, where, count) in means.items()
    ]  # fmt: skip
    return _table(("suite", "dtype", "threads", "rows", "geometric mean of ratios to the best peer", "worst"), lines, 2)


def _ratio(value: float | None) -> str:
    if value is None:
        return ""
    return f'<span class="{"good" if value >= 1 else "bad"}">{value:.2f}x</span>'


def _suite(suite: str, rows: Sequence[Row], roofs: Sequence[Roof]) -> Iterator[str]:
    for dtype, threads in dict.fromkeys((row.dtype, row.threads) for row in rows if row.gflops):
        drawn = plots.roofline(rows, roofs, dtype, threads)
        if drawn:
            yield f"<h3>Roofline, {dtype}, {threads} thread{'s' if threads > 1 else ''}</h3>{drawn}"
    drawn = plots.ratios(rows, suite)
    if drawn:
        yield f"<h3>Against the peers</h3>{drawn}"
    drawn = plots.limits(rows, suite)
    if drawn:
        yield f"<h3>Against the roofs</h3>{drawn}"
    yield f"<h3>Rows</h3>{_rows(rows)}"


def _rows(rows: Sequence[Row]) -> str:
    impls = list(dict.fromkeys(row.impl for row in rows))
    peers = [impl for impl in impls if impl != "opdsl"]
    heads = ["operator", "shape", "dtype", "opdsl", "median", "speed", "roof", *peers, "ratio", "A/A", "error", "peak"]
    if any(row.scaling for row in rows):
        heads.append("scaling")
    lines, notes = [], []
    for group in by_case(rows):
        named = {row.impl: row for row in group}
        ours = named.get("opdsl", group[0])
        roof = f"{ours.roof_pct:.0f} % {'mem' if ours.roof == 'memory' else 'cpu'}" if ours.roof_pct else ""
        notes += [f"{ours.op} {ours.shape} {ours.dtype}, {row.impl}: {row.note}" for row in group if row.note]
        cells = [
            _text(ours.op), _text(ours.shape), ours.dtype, _time(ours), time_text(ours.ms_median), speed_text(ours), roof,
            *(_time(named.get(peer)) for peer in peers), _ratio(ours.ratio),
            f"{100 * ours.aa:.1f} %" if ours.aa is not None else "", _error(ours),
            f"{ours.peak_mb:.0f} MB" if ours.peak_mb is not None else "",
        ]  # fmt: skip
        if "scaling" in heads:
            cells.append(f"{ours.scaling:.2f}x" if ours.scaling else "")
        lines.append(cells)
    listed = "".join(f"<li>{_text(note)}</li>" for note in notes)
    return _table(heads, lines, 3) + (f'<ul class="note">{listed}</ul>' if notes else "")


def _time(row: Row | None) -> str:
    if row is None:
        return ""
    return '<span class="bad">wrong</span>' if row.correct is False else time_text(row.ms_min)


def _error(row: Row) -> str:
    if row.max_err is None:
        return ""
    title = f"allowed {row.err_allowed:.1e}" if row.err_allowed is not None else ""
    return f'<span title="{title}">{row.max_err:.1e}</span>'


def _roofs(roofs: Sequence[Roof]) -> str:
    from .roofs import TITLES

    lines = [
        (
            _text(TITLES.get(roof.name, roof.name)), str(roof.threads),
            f"{roof.gflops:.0f} G/s" if roof.gflops else f"{roof.gbps:.1f} GB/s",
            f"{roof.bytes / 2**20:g} MB" if roof.bytes else "",
        )
        for roof in roofs
    ]  # fmt: skip
    return _table(("roof", "threads", "measured", "memory"), lines)

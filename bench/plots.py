"""The report's figures as SVG text: rooflines, ratios, and how much of the memory's speed is used."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from typing import Any

from .rows import Roof, Row
from .table import by_case

COLOURS = {"opdsl": "#1f5fbf", "torch": "#d9622b", "numpy": "#5b9a3c"}
MARKS = {"opdsl": "o", "torch": "s", "numpy": "^"}
GREY = "#666666"


def _figure(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(figure)
    axes = figure.subplots()
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.grid(True, which="major", color="#e4e4e4", linewidth=0.7)
    axes.set_axisbelow(True)
    return figure, axes


def _svg(figure: Any, name: str) -> str:
    import matplotlib

    # Text stays text: sharper, smaller, and can be searched. The salt keeps the names of parts apart between figures.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "font.family": "sans-serif"}):
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r' id="', f' id="{name}-', text)
    text = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{name}-", text)
    head, rest = text.split(">", 1)
    # Without a size of its own the picture takes the page's width.
    return re.sub(r'\s(width|height)="[^"]*"', "", head) + ' class="plot">' + rest


def roofline(rows: Sequence[Row], roofs: Sequence[Roof], dtype: str, threads: int) -> str | None:
    """GF/s over flop/byte of the rows of a dtype, under the machine's roofs; None if no row counts arithmetic."""
    from .roofs import COMPUTE, TITLES

    shown = [r for r in rows if r.dtype == dtype and r.gflops and r.intensity and r.threads == threads]
    if not shown:
        return None
    figure, axes = _figure(8.6, 4.6)
    intensities = [r.intensity for r in shown if r.intensity]
    left, right = min([*intensities, 1.0]) / 2, max(intensities) * 3
    costs = dict(COMPUTE[dtype])
    peaks = {
        roof.name: roof.gflops / costs[roof.name]
        for roof in roofs if roof.gflops and roof.name in costs and roof.threads == threads
    }
    top = max([*peaks.values(), max(r.gflops or 0 for r in shown)])
    labelled = max(peaks, key=lambda name: peaks[name]) if peaks else ""
    for name, peak in peaks.items():
        if name != labelled and (dtype not in ("bf16", "f16", "i8") or peak < 0.1 * top):
            continue
        axes.plot([left, right], [peak, peak], color=GREY, linewidth=1.2 if name == labelled else 0.8)
        axes.annotate(
            f"{TITLES[name]}{' / 4' if costs[name] > 1 else ''}: {peak:.0f} G/s", (right, peak), ha="right", va="bottom",
            fontsize=8.5, color=GREY,
        )
    lowest = min(r.gflops or top for r in shown)
    slopes: list[tuple[str, float, float]] = []
    for roof in roofs:
        if not roof.gbps or roof.threads != threads or not roof.name.endswith("copy"):
            continue
        end = top / roof.gbps
        axes.plot([left, end], [left * roof.gbps, top], color=GREY, linewidth=0.8, linestyle=(0, (4, 3)))
        place = max(left * 1.1, lowest / 1.5 / roof.gbps)
        near = sum(abs(math.log(roof.gbps / other)) < 0.25 for _, _, other in slopes)
        slopes.append((f"{roof.name} {roof.gbps:.0f} GB/s", place * 5**near, roof.gbps))  # else it would hide the other
    for impl in [name for name in COLOURS if any(r.impl == name for r in shown)]:
        points = [r for r in shown if r.impl == impl]
        axes.scatter(
            [r.intensity for r in points], [r.gflops for r in points], label=impl, s=34 if impl == "opdsl" else 24,
            c=COLOURS[impl], marker=MARKS[impl], alpha=0.85, linewidths=0, zorder=3,
        )
    axes.set(xscale="log", yscale="log", xlim=(left, right), ylim=(lowest / 1.8, top * 1.6))
    _plain_numbers(axes)
    axes.set_xlabel("operations per byte (each array moved once)")
    axes.set_ylabel("10⁹ operations / s")
    axes.legend(loc="lower right", frameon=False)
    figure.canvas.draw()  # places are known from here on
    _label_slopes(axes, slopes)
    _label_points(figure, axes, shown)
    return _svg(figure, f"roofline-{dtype}-{threads}")


def _plain_numbers(axes: Any) -> None:
    """50, 100, 200 in place of powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_locator(NullLocator())


def _label_slopes(axes: Any, slopes: Sequence[tuple[str, float, float]]) -> None:
    """Writes along the lines of memory's roofs."""
    for text, place, rate in slopes:
        (x0, y0), (x1, y1) = (axes.transData.transform((at, at * rate)) for at in (place, 2 * place))
        angle = math.degrees(math.atan2(y1 - y0, x1 - x0))
        axes.annotate(
            text, (place, place * rate), fontsize=8, color=GREY, rotation=angle, rotation_mode="anchor",
            xytext=(-3, 3), textcoords="offset points",
        )  # fmt: skip


def _label_points(figure: Any, axes: Any, shown: Sequence[Row]) -> None:
    """Names our points where there is room beside them; the fastest first."""
    points = {id(row): axes.transData.transform((row.intensity, row.gflops)) for row in shown}
    frame = axes.get_window_extent()
    scale = figure.dpi / 72
    taken = [(x - 4 * scale, y - 4 * scale, x + 4 * scale, y + 4 * scale) for x, y in points.values()]
    for row in sorted((r for r in shown if r.impl == "opdsl"), key=lambda r: -(r.gflops or 0)):
        text = row.shape if row.suite == "matmul" else _name(row).removesuffix(row.dtype).strip()
        width, height = 4.1 * len(text) * scale, 8 * scale
        x, y = points[id(row)]
        for side, level in ((1, 0), (-1, 0), (1, -1), (1, 1), (-1, -1), (-1, 1)):
            low = x + 6 * scale if side > 0 else x - 6 * scale - width
            base = y + level * 8 * scale - height / 2
            box = (low, base, low + width, base + height)
            inside = frame.x0 < box[0] and box[2] < frame.x1 + 20 * scale and frame.y0 < box[1] and box[3] < frame.y1
            if inside and not any(box[0] < t[2] and t[0] < box[2] and box[1] < t[3] and t[1] < box[3] for t in taken):
                taken.append(box)
                axes.annotate(
                    text, (row.intensity, row.gflops), xytext=(6 * side, level * 8), textcoords="offset points",
                    ha="left" if side > 0 else "right", va="center", fontsize=7.5, color="#333333",
                )  # fmt: skip
                break


def _name(row: Row) -> str:
    return f"{row.op.removeprefix('kernel_')}  {row.shape}  {row.dtype}"


def ratios(rows: Sequence[Row], name: str) -> str | None:
    """How many times as fast as each peer, one line a case; the grey part is within the noise of this run."""
    groups = [g for g in by_case(rows) if any(r.impl == "opdsl" and r.ratios for r in g)]
    if not groups:
        return None
    figure, axes = _figure(8.6, 0.9 + 0.27 * len(groups))
    for position, group in enumerate(groups):
        ours = next(r for r in group if r.impl == "opdsl")
        values = [value for value in ours.ratios.values() if value > 0]
        axes.plot([min([1.0, *values]), max([1.0, *values])], [position, position], color="#cccccc", linewidth=1, zorder=1)
        noise = 1 + (ours.aa or 0)
        axes.plot([1 / noise, noise], [position, position], color="#bbbbbb", linewidth=6, solid_capstyle="butt", zorder=2)
        for peer, value in ours.ratios.items():
            axes.scatter([value], [position], c=COLOURS.get(peer, GREY), marker=MARKS.get(peer, "d"), s=34, zorder=3)
    axes.axvline(1, color="#222222", linewidth=1)
    axes.set_yticks(range(len(groups)), [_name(group[0]) for group in groups], fontsize=8.5)
    axes.invert_yaxis()
    axes.set_xscale("log")
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    everything = [1.0, *(v for g in groups for r in g for v in r.ratios.values() if v > 0)]
    candidates: tuple[float, ...] = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.7, 1, 1.5, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)
    low, high = min(everything) / 1.15, max(everything) * 1.15
    if high / low > 30:
        candidates = tuple(c for c in candidates if f"{c:g}".strip("0.")[0] in "125" and c != 1.5)
    axes.xaxis.set_major_locator(FixedLocator([c for c in candidates if low <= c <= high]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}x"))
    axes.set_xlim(low, high)
    axes.set_xlabel("peer's time / opdsl's time (right of 1: opdsl is faster)")
    present = [p for p in COLOURS if any(p in r.ratios for g in groups for r in g)]
    for peer in present:
        axes.scatter([], [], c=COLOURS[peer], marker=MARKS[peer], s=34, label=f"against {peer}")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False)
    return _svg(figure, f"ratios-{name}")


def limits(rows: Sequence[Row], name: str) -> str | None:
    """The part of its roof that each implementation reaches, one line a case."""
    groups = [g for g in by_case(rows) if any(r.roof_pct for r in g)]
    if not groups:
        return None
    figure, axes = _figure(8.6, 0.9 + 0.27 * len(groups))
    for position, group in enumerate(groups):
        for row in group:
            if row.roof_pct:
                colour, mark = COLOURS.get(row.impl, GREY), MARKS.get(row.impl, "d")
                axes.scatter([row.roof_pct], [position], c=colour, marker=mark, s=34, zorder=3)
    kinds = [next(("mem" if r.roof == "memory" else "cpu") for r in g if r.roof_pct) for g in groups]
    labels = [f"{_name(group[0])}  [{kind}]" for group, kind in zip(groups, kinds, strict=True)]
    axes.set_yticks(range(len(groups)), labels, fontsize=8.5)
    axes.invert_yaxis()
    axes.axvline(100, color="#222222", linewidth=1)
    axes.set_xlim(0, max(105, *(r.roof_pct or 0 for g in groups for r in g)) * 1.02)
    axes.set_xlabel("% of the roof measured beside the row  [cpu: arithmetic, mem: moving the bytes]")
    present = [p for p in COLOURS if any(r.impl == p and r.roof_pct for g in groups for r in g)]
    for impl in present:
        axes.scatter([], [], c=COLOURS[impl], marker=MARKS[impl], s=34, label=impl)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, frameon=False)
    return _svg(figure, f"limits-{name}")

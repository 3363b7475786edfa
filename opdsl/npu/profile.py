"""Writes a traced run as files: summary.txt, trace.json (Perfetto), msprof's tables as CSV, timeline.html."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from opdsl import _npu
from opdsl.npu.emulator import CoreUse, Result
from opdsl.npu.summary import PIPE_NAMES, roofline, source_line, stalls_by_cause, summary
from opdsl.support.errors import OpdslError, shown_file

MAX_SHOWN = 60_000  # events in the HTML page
MAX_TRACED = 1_000_000  # events in trace.json


def write_profile(result: Result, directory: Path | str) -> list[Path]:
    """Writes all files into a folder; the run must have been made with `trace=True`. Returns their paths."""
    if result.event_words is None:
        raise OpdslError("a profile needs a run with trace=True")
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    written = []

    def write(name: str, text: str) -> None:
        (folder / name).write_text(text, encoding="utf-8")
        written.append(folder / name)

    write("summary.txt", summary(result))
    write("trace.json", json.dumps(perfetto(result), separators=(",", ":")))
    write("timeline.html", timeline(result))
    for name, rows in tables(result).items():
        path = folder / f"{name}.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]) if rows else [])
            writer.writeheader()
            writer.writerows(rows)
        written.append(path)
    return written


def _events(result: Result, most: int, cores: Iterable[int] | None = None) -> tuple[Any, Any, bool]:
    """Events in order of time, of some cores, at most so many; whether some were left out."""
    words, times = result.event_words, result.event_times
    assert words is not None and times is not None
    if cores is not None:
        chosen = np.isin(words[:, 0], list(cores))
        words, times = words[chosen], times[chosen]
    order = np.argsort(times[:, 0], kind="stable")
    left_out = len(order) > most
    order = order[:most]
    return words[order], times[order], left_out


def perfetto(result: Result) -> dict[str, Any]:
    """The trace format of Chrome and Perfetto: a process for each core, a thread for each pipe, microseconds."""
    words, times, _ = _events(result, MAX_TRACED)
    clock = result.chip.clock_mhz
    events: list[dict[str, Any]] = []
    for number, core in enumerate(result.cores):
        events.append({"ph": "M", "name": "process_name", "pid": number, "args": {"name": core.name}})
        events.append({"ph": "M", "name": "process_sort_index", "pid": number, "args": {"sort_index": number}})
        for pipe, name in enumerate(_npu.PIPES[:-1]):
            if name in core.pipes:
                events.append({"ph": "M", "name": "thread_name", "pid": number, "tid": pipe, "args": {"name": name}})
    for (core_number, pipe, op, location), (start, end, size) in zip(words.tolist(), times.tolist(), strict=True):
        place = result.locations[location]
        events.append(
            {
                "ph": "X",
                "name": _npu.INSTRUCTIONS[op],
                "pid": core_number,
                "tid": pipe,
                "ts": round(start / clock, 4),
                "dur": round((end - start) / clock, 4),
                "args": {
                    "line": f"{shown_file(place.file)}:{place.line}",
                    "cycles": round(end - start, 1),
                    "bytes": int(size),
                },
            }
        )
    return {
        "traceEvents": events,
        "displayTimeUnit": "ns",
        "otherData": {"kernel": result.program.name, "chip": result.chip.name},
    }


def _shown_cores(result: Result) -> list[int]:
    """The first block's cores, and the one that ends last."""
    first = [number for number, core in enumerate(result.cores) if core.block == 0]
    last = max(
        range(len(result.cores)),
        key=lambda number: max((use.end for use in result.cores[number].pipes.values()), default=0),
    )
    middle = len(result.cores) // 2
    return list(dict.fromkeys([*first, middle, last]))[:8]


def _order_of(item: tuple[tuple[str, str], Any]) -> tuple[str, int]:
    kind, pipe = item[0]
    return kind, list(PIPE_NAMES).index(pipe)


def timeline(result: Result) -> str:
    """A page that needs nothing else: pipes over time, to zoom into, with the source line of every instruction."""
    chosen = _shown_cores(result)
    words, times, left_out = _events(result, MAX_SHOWN, chosen)
    locations = sorted({int(location) for location in words[:, 3]})
    number_of = {location: number for number, location in enumerate(locations)}
    rows = []
    for core in chosen:
        for pipe, name in enumerate(_npu.PIPES[:-1]):
            if name not in result.cores[core].pipes:
                continue
            mine = (words[:, 0] == core) & (words[:, 1] == pipe)
            rows.append(
                {
                    "core": result.cores[core].name,
                    "pipe": name,
                    "start": np.round(times[mine, 0], 1).tolist(),
                    "end": np.round(times[mine, 1], 1).tolist(),
                    "op": words[mine, 2].tolist(),
                    "place": [number_of[int(location)] for location in words[mine, 3]],
                    "bytes": times[mine, 2].astype(np.int64).tolist(),
                    "busy": result.cores[core].pipes[name].busy / result.cycles,
                }
            )
    roof = roofline(result)
    data = {
        "kernel": result.program.name,
        "chip": result.chip.name,
        "cycles": result.cycles,
        "clock": result.chip.clock_mhz,
        "left_out": left_out,
        "rows": [row for row in rows if row["start"]],
        "ops": list(_npu.INSTRUCTIONS),
        "places": [
            {
                "at": f"{shown_file(result.locations[location].file)}:{result.locations[location].line}",
                "text": source_line(result.locations[location].file, result.locations[location].line),
            }
            for location in locations
        ],
        "summary": summary(result),
        "pipes": [
            {
                "kind": kind,
                "pipe": pipe,
                "busy": result.busy_share(pipe, kind),
                "waits": {c: v / result.cycles for c, v in causes.items() if v > 0},
            }
            for (kind, pipe), causes in sorted(stalls_by_cause(result).items(), key=_order_of)
            if pipe != "S"
        ],
        "roof": roof.__dict__,
    }
    page = (resources.files("opdsl.npu") / "timeline.html").read_text(encoding="utf-8")
    text = json.dumps(data, separators=(",", ":")).replace("</", "<\\/")
    return page.replace("/*DATA*/null", text, 1)


# ---- tables with msprof's names (msprof op, on-board)

_RATIOS = {
    "aic": (("cube", "M"), ("scalar", "S"), ("mte1", "MTE1"), ("mte2", "MTE2"), ("fixpipe", "FIX")),
    "aiv": (("vec", "V"), ("scalar", "S"), ("mte2", "MTE2"), ("mte3", "MTE3")),
    "core": (("cube", "M"), ("vec", "V"), ("scalar", "S"), ("mte1", "MTE1"), ("mte2", "MTE2"), ("mte3", "MTE3")),
}


def tables(result: Result) -> dict[str, list[dict[str, Any]]]:
    """The tables by their file names."""
    words, times = result.event_words, result.event_times
    assert words is not None and times is not None
    moved: dict[tuple[int, str], int] = defaultdict(int)
    for core_number, pipe_number in {(int(a), int(b)) for a, b in words[:, :2]}:
        mine = (words[:, 0] == core_number) & (words[:, 1] == pipe_number)
        moved[core_number, _npu.PIPES[pipe_number]] = int(times[mine, 2].sum())
    clock = result.chip.clock_mhz

    def head(core: CoreUse) -> dict[str, Any]:
        return {"block_id": core.block, "sub_block_id": f"{core.kind}{core.sub}" if core.kind == "aiv" else core.kind}

    def end_of(core: CoreUse) -> float:
        return max((use.end for use in core.pipes.values()), default=0.0)

    pipes, arithmetic, memory, memory_l0, memory_ub, conflicts = [], [], [], [], [], []
    for number, core in enumerate(result.cores):
        kind, total = core.kind, max(end_of(core), 1.0)
        row: dict[str, Any] = head(core) | {"time(us)": round(total / clock, 3), "total_cycles": round(total)}
        for name, pipe in (pair for pair in sum(_RATIOS.values(), ()) if pair in _RATIOS[kind]):
            use = core.pipes.get(pipe)
            busy = use.busy if use else 0.0
            row[f"{name}_time(us)"] = round(busy / clock, 3)
            row[f"{name}_ratio"] = round(busy / total, 4)
        pipes.append(_same_columns(row))
        seconds = total / clock * 1e-6

        def rate(pipe: str, core_number: int = number, seconds: float = seconds) -> float:
            return round(moved[core_number, pipe] / seconds / 1e9, 3)

        instructions = {pipe: use.instructions for pipe, use in core.pipes.items()}
        arithmetic.append(
            head(core)
            | {"cube_total_instr_number": instructions.get("M", 0), "vec_total_instr_number": instructions.get("V", 0)}
            | {"cube_ratio": round(core.pipes["M"].busy / total, 4) if "M" in core.pipes else 0.0}
            | {"vec_ratio": round(core.pipes["V"].busy / total, 4) if "V" in core.pipes else 0.0}
        )
        memory.append(
            head(core)
            | {"read_main_memory_datas(KB)": round(moved[number, "MTE2"] / 1024, 2), "read_bw(GB/s)": rate("MTE2")}
            | {"write_main_memory_datas(KB)": round((moved[number, "MTE3"] + moved[number, "FIX"]) / 1024, 2)}
            | {"write_bw(GB/s)": round(rate("MTE3") + rate("FIX"), 3)}
        )
        if kind != "aiv":
            memory_l0.append(
                head(core)
                | {"l1_to_l0_datas(KB)": round(moved[number, "MTE1"] / 1024, 2), "l1_to_l0_bw(GB/s)": rate("MTE1")}
            )
        if kind != "aic":
            memory_ub.append(
                head(core)
                | {"ub_read_bw_mte(GB/s)": rate("MTE3"), "ub_write_bw_mte(GB/s)": rate("MTE2")}
                | {"vec_repeats": moved[number, "V"]}
            )
        conflict: dict[str, Any] = head(core) | {
            "bank_conflict_cycles": core.bank_conflicts,
            "bank_conflict_ratio": round(core.bank_conflicts / total, 5),
        }
        for pipe in ("V", "M", "MTE1", "MTE2", "MTE3", "FIX"):
            stalls = core.pipes[pipe].stalls if pipe in core.pipes else {}
            conflict[f"{pipe.lower()}_wait_ratio"] = round(sum(stalls.values()) / total, 4)
        conflicts.append(conflict)
    roof = roofline(result)
    basic = {
        "Op Name": result.program.name,
        "Chip": result.chip.name,
        "Block Dim": len({core.block for core in result.cores}),
        "Task Duration(us)": round(result.microseconds, 3),
        "Total Cycles": round(result.cycles),
        "Cube TFLOPS": round(roof.cube, 3),
        "Memory(GB/s)": round(roof.memory, 3),
    }
    l2 = {
        "hit_rate(%)": round(100 * result.l2_hit_rate, 3),
        "hit": result.l2_hits,
        "miss": result.l2_misses,
        "victim": result.l2_written_back,
    }
    return {
        "OpBasicInfo": [basic],
        "PipeUtilization": pipes,
        "ArithmeticUtilization": arithmetic,
        "Memory": memory,
        "MemoryL0": memory_l0,
        "MemoryUB": memory_ub,
        "L2Cache": [l2],
        "ResourceConflictRatio": conflicts,
    }


def _same_columns(row: dict[str, Any]) -> dict[str, Any]:
    """Cube and vector cores stand in one table: what a core has not got is empty."""
    for name in ("cube", "vec", "scalar", "mte1", "mte2", "mte3", "fixpipe"):
        row.setdefault(f"{name}_time(us)", "")
        row.setdefault(f"{name}_ratio", "")
    columns = ["block_id", "sub_block_id", "time(us)", "total_cycles"]
    columns += [
        f"{n}_{what}"
        for n in ("cube", "vec", "scalar", "mte1", "mte2", "mte3", "fixpipe")
        for what in ("time(us)", "ratio")
    ]
    return {column: row[column] for column in columns}

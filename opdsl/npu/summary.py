"""What a run says on one page: what bounds it, how busy each pipe was, and which source lines wait for what."""

from __future__ import annotations

import linecache
from collections import defaultdict
from dataclasses import dataclass

from opdsl.npu.emulator import PlaceUse, Result
from opdsl.support.errors import shown_file

PIPE_NAMES = {
    "M": "cube",
    "V": "vector",
    "MTE1": "L1 to L0",
    "MTE2": "memory in",
    "MTE3": "memory out",
    "FIX": "L0C out",
    "S": "scalar",
}
STALL_TEXT = {
    "scalar": "the scalar unit to issue",
    "flag": "a flag",
    "barrier": "a barrier",
    "cross_core": "another core",
    "memory": "memory shared with other cores",
    "queue": "a full queue",
}
BOUND = 0.8  # a pipe this busy is what bounds a kernel, as msprof's roofline has it


@dataclass(frozen=True)
class Roofline:
    """What was reached, and what the chip could do, in TFLOP/s and GB/s. Memory: all that MTE2, MTE3 and FIX moved."""

    cube: float
    cube_peak: float
    memory: float
    l2_peak: float
    hbm: float
    hbm_peak: float
    intensity: float
    """FLOP of the cube for each byte moved."""


def roofline(result: Result) -> Roofline:
    chip, seconds = result.chip, result.microseconds * 1e-6
    flops = 2 * result.macs
    moved = result.read_bytes + result.written_bytes
    outside = (result.l2_misses + result.l2_written_back) * chip.data["memory"]["l2_line"]
    cores = chip.cores["aic" if chip.split else "core"]
    return Roofline(
        flops / seconds / 1e12,
        cores * 8192 * chip.clock_mhz * 1e6 / 1e12,
        moved / seconds / 1e9,
        float(chip.data["memory"]["l2_read_gbs"]),
        outside / seconds / 1e9,
        float(chip.data["memory"]["hbm_gbs"]),
        flops / moved if moved else 0.0,
    )


def bound_by(result: Result) -> str:
    """One sentence: what a faster version has to change."""
    shares = {(kind, pipe): result.busy_share(pipe, kind) for kind, pipe in stalls_by_cause(result) if pipe != "S"}
    (kind, pipe), share = max(shares.items(), key=lambda item: item[1], default=(("", "V"), 0.0))
    memory_share = result.memory_saturated / result.cycles
    if share >= BOUND:
        if pipe in ("MTE2", "MTE3", "FIX") and memory_share > 0.5:
            return (
                f"memory: {PIPE_NAMES[pipe]} ({pipe}) is busy {share:.0%} of the time, and the cores share L2 and HBM"
            )
        return f"{PIPE_NAMES[pipe]}: {pipe} is busy {share:.0%} of the time"
    if memory_share >= BOUND * 0.75:
        return f"memory: {memory_share:.0%} of the time the cores want more than L2 and HBM give"
    launch = result.chip.data["launch"]
    if (launch["start"] + launch["finish"]) / result.cycles > 0.5:
        return "the launch: there is too little work for one kernel"
    worst = stalls_by_cause(result).most_common_cause((kind, pipe))
    why = f", which mostly waits for {STALL_TEXT[worst]}" if worst else ""
    return f"no pipe (latency): the busiest, {PIPE_NAMES[pipe]} ({pipe}), works {share:.0%} of the time{why}"


class Causes(defaultdict[tuple[str, str], dict[str, float]]):
    """(kind of core, pipe) -> cause -> cycles."""

    def most_common_cause(self, which: tuple[str, str]) -> str:
        causes = {cause: cycles for cause, cycles in self.get(which, {}).items() if cycles > 0}
        return max(causes, key=lambda cause: causes[cause]) if causes else ""


def stalls_by_cause(result: Result) -> Causes:
    """Why the pipes of each kind of core stood still, the mean over the cores that have the pipe."""
    causes = Causes(dict)
    counts: dict[tuple[str, str], int] = defaultdict(int)
    for core in result.cores:
        for pipe, use in core.pipes.items():
            which = (core.kind, pipe)
            counts[which] += 1
            for cause, cycles in use.stalls.items():
                causes[which][cause] = causes[which].get(cause, 0.0) + cycles
    for which, each in causes.items():
        for cause in each:
            each[cause] /= counts[which]
    return causes


def _amount(value: float, unit: str) -> str:
    for prefix, factor in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= factor:
            return f"{value / factor:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}"


def source_line(file: str, line: int) -> str:
    return linecache.getline(file, line).strip() if line else ""


def _shown_place(place: PlaceUse) -> str:
    location = place.location
    return f"{shown_file(location.file)}:{location.line}  {source_line(location.file, location.line)[:60]}"


def summary(result: Result) -> str:
    """The page."""
    chip, roof = result.chip, roofline(result)
    blocks = len({core.block for core in result.cores})
    kinds: dict[str, int] = defaultdict(int)
    for core in result.cores:
        kinds[core.kind] += 1
    cores = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
    lines = [
        (
            f"{result.program.name} on {chip.name}: {result.microseconds:.2f} us, "
            f"{result.cycles:.0f} cycles at {chip.clock_mhz} MHz"
        ),
        f"  bound by   {bound_by(result)}",
        (
            f"  cores      {cores} in {blocks} blocks; {result.instructions} instructions, "
            f"{result.scalar_operations} scalar operations"
        ),
    ]
    if result.macs:
        lines.append(
            f"  cube       {roof.cube:.1f} TFLOP/s, {roof.cube / roof.cube_peak:.0%} of {roof.cube_peak:.0f} (f16); "
            f"{roof.intensity:.0f} FLOP a byte moved"
        )
    moved = f"{_amount(result.read_bytes, 'B')} in, {_amount(result.written_bytes, 'B')} out: {roof.memory:.0f} GB/s"
    shared = f"L2 gives {roof.l2_peak:.0f}, shared {result.memory_saturated / result.cycles:.0%} of the time"
    lines.append(f"  memory     {moved}; {shared}")
    lines.append(f"  L2         {result.l2_hit_rate:.1%} hits; HBM {roof.hbm:.0f} GB/s of {roof.hbm_peak:.0f}")
    conflicts = sum(core.bank_conflicts for core in result.cores)
    if conflicts:
        lines.append(f"  UB banks   {conflicts} cycles lost to conflicts, all cores together")
    lines += ["", "  pipe                     busy   waits, as shares of the kernel's time (mean of the cores)"]
    causes = stalls_by_cause(result)
    for kind in kinds:
        for pipe, name in PIPE_NAMES.items():
            if pipe == "S" or (kind, pipe) not in causes:
                continue
            shares = {cause.replace("_", " "): cycles / result.cycles for cause, cycles in causes[kind, pipe].items()}
            waits = sorted(shares.items(), key=lambda item: -item[1])
            text = ", ".join(f"{cause} {share:.0%}" for cause, share in waits if share >= 0.005)
            lines.append(f"  {kind:<5}{pipe:<5}{name:<12}{result.busy_share(pipe, kind):7.1%}   {text}")
    lines += ["", "  source lines that wait longest (cycles, all cores)"]
    waiting = sorted(result.places, key=lambda place: -sum(place.stalls.values()))[:8]
    for place in waiting:
        total = sum(place.stalls.values())
        if total < 1:
            continue
        cause = max(place.stalls, key=lambda each: place.stalls[each])
        lines.append(f"  {total:12.0f}  {place.pipe:<5}for {STALL_TEXT[cause]:<32}{_shown_place(place)}")
    lines += ["", "  source lines that work longest (cycles, all cores)"]
    working = [place for place in result.places if place.pipe != "S" and place.busy >= 1]
    for place in sorted(working, key=lambda place: -place.busy)[:8]:
        lost = f" ({place.conflicts:.0f} in bank conflicts)" if place.conflicts else ""
        lines.append(f"  {place.busy:12.0f}  {place.pipe:<5}{f'{place.count} times{lost}':<36}{_shown_place(place)}")
    lines += ["", f"  hazards    {len(result.hazards) or 'none'}"]
    lines += [f"    {str(hazard).splitlines()[0]}" for hazard in result.hazards[:10]]
    return "\n".join(lines) + "\n"

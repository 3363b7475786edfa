"""Texts about a compiled kernel, for `opdsl inspect`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from opdsl.npu.chip import Chip
from opdsl.support.location import source_line
from opdsl.targets.npu.placement import Lifetime

if TYPE_CHECKING:
    from opdsl.targets.npu.compile import Compiled

ORDER = ("UB", "L1", "L0A", "L0B", "L0C", "WS")
NAMES = {"WS": "workspace in global memory, of each block"}


def buffer_table(compiled: Compiled, chip: Chip) -> str:
    """Every buffer: its address, bytes, shape, and the line of the kernel that it serves."""
    lines: list[str] = []
    for space in ORDER:
        chosen = [life for life in compiled.lifetimes if life.buffer.space == space]
        if chosen:
            lines += _space(space, chosen, compiled, chip)
    return "\n".join(lines) + "\n"


def _space(space: str, chosen: Sequence[Lifetime], compiled: Compiled, chip: Chip) -> list[str]:
    used = max(life.buffer.address + life.buffer.size for life in chosen)
    capacity = {str(name): size for name, size in chip.buffers.items()}.get(space)
    room = f" of {capacity}" if capacity else ""
    lines = [f"{NAMES.get(space, space)}: {used}{room} bytes"]
    for life in sorted(chosen, key=lambda e: (e.buffer.address, e.first)):
        buffer = life.buffer
        slots = f" in {buffer.slots} slots" if buffer.slots > 1 else ""
        shape = " x ".join(map(str, buffer.shape)) or "scratch"
        source = source_line(buffer.location, compiled.kernel.source).strip()
        place = f"line {buffer.location.line}: {source}" if source else ""
        lines.append(
            f"  {buffer.address:>7} .. {buffer.address + buffer.size:<7} {buffer.name}: {shape} {buffer.dtype}{slots}"
            f"  {place}".rstrip()
        )
    return lines

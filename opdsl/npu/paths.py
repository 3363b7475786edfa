"""Which pipe an instruction runs on, where that depends on what it moves or waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from opdsl.npu.addresses import space_of
from opdsl.npu.instructions import Instruction
from opdsl.npu.statements import Pipe

if TYPE_CHECKING:
    from opdsl.npu.builder import Builder

SPLIT_PATHS: dict[tuple[str, str, str], Pipe] = {
    ("data_copy", "GM", "UB"): "MTE2",
    ("data_copy", "GM", "L1"): "MTE2",
    ("data_copy", "UB", "GM"): "MTE3",
    ("data_copy", "UB", "UB"): "V",
    ("data_copy", "L1", "BT"): "MTE1",
    ("data_copy", "L1", "FB"): "FIX",
    ("data_copy_pad", "GM", "UB"): "MTE2",
    ("data_copy_pad", "UB", "GM"): "MTE3",
    ("data_copy_nd2nz", "GM", "L1"): "MTE2",
    ("load_data", "L1", "L0A"): "MTE1",
    ("load_data", "L1", "L0B"): "MTE1",
    ("load_data", "GM", "L1"): "MTE2",
    ("load_data", "GM", "L0A"): "MTE2",
    ("load_data", "GM", "L0B"): "MTE2",
    ("load_data_transpose", "L1", "L0A"): "MTE1",
    ("load_data_transpose", "L1", "L0B"): "MTE1",
    ("load_data_3d", "L1", "L0A"): "MTE1",
    ("load_data_3d", "L1", "L0B"): "MTE1",
    ("init_const_value", "", "L1"): "MTE2",
    ("init_const_value", "", "L0A"): "MTE1",
    ("init_const_value", "", "L0B"): "MTE1",
    ("fixpipe", "L0C", "GM"): "FIX",
    ("fixpipe", "L0C", "L1"): "FIX",
}
COUPLED_PATHS: dict[tuple[str, str, str], Pipe] = {
    **{path: pipe for path, pipe in SPLIT_PATHS.items() if path[0] != "fixpipe" and path[2] not in ("BT", "FB")},
    ("data_copy", "UB", "L1"): "MTE3",
    ("data_copy", "L1", "UB"): "MTE1",
    ("data_copy_nd2nz", "GM", "UB"): "MTE2",
}
"""(instruction, from, to) -> pipe, of split and of coupled chips (DG 0031 and the DataCopy pages; docs/npu.md)."""


def find_pipe(builder: Builder, entry: Instruction, values: dict[str, Any]) -> Pipe:
    if entry.name in ("set_flag", "wait_flag"):
        source, _, destination = values["event"].partition("_")
        return cast("Pipe", source if entry.name == "set_flag" else destination)
    if entry.name in ("pipe_barrier", "cross_core_set_flag"):
        return "S" if values["pipe"] == "ALL" else cast("Pipe", values["pipe"])
    source = space_of(values["src"]) if "src" in values else ""
    destination = space_of(values["dst"])
    paths = SPLIT_PATHS if builder.chip.split else COUPLED_PATHS
    pipe = paths.get((entry.name, source, destination))
    if pipe is None:
        known = sorted(f"{a} to {b}" if a else b for name, a, b in paths if name == entry.name)
        raise builder.error(
            f"{builder.chip.name} has no path for {entry.name} from {source or 'nothing'} to {destination}",
            f"{entry.name} goes {', '.join(known)}" if known else "",
        )
    return pipe

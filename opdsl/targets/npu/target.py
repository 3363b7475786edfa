"""The target `npu`: tile IR -> a program for an emulated chip. `npu:910b2` and the like choose the chip."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from opdsl.ir.printer import print_kernel
from opdsl.npu.chip import Chip, chip_names, find_chip
from opdsl.support.errors import OpdslError
from opdsl.targets.base import Request

if TYPE_CHECKING:
    from opdsl.targets.npu.running import Runnable

DEFAULT_CHIP = "910b2"


class NpuTarget:
    """One chip."""

    def __init__(self, option: str = "") -> None:
        name = option or DEFAULT_CHIP
        if name not in chip_names():
            raise ValueError(f"there is no chip {name!r}; the target npu knows {', '.join(chip_names())}")
        self.chip: Chip = find_chip(name)
        self.name = f"npu:{name}"

    def stages(self, request: Request) -> Mapping[str, str]:
        """ir, the passes' results, buffers, program."""
        from opdsl.targets.npu.compile import compile_kernel
        from opdsl.targets.npu.report import buffer_table

        record = {"ir": print_kernel(request.kernel)}
        compiled = compile_kernel(request, self.chip, record)
        record["buffers"] = buffer_table(compiled, self.chip)
        record["program"] = f"{compiled.program}\n"
        return record

    def compile(self, request: Request) -> NpuExecutable:
        """Compiles, or takes from the cache. Raises CapacityError where the tiles do not fit the chip's buffers."""
        from opdsl.targets.npu.kept import load_or_compile

        return NpuExecutable(load_or_compile(request, self.chip), self.chip)


class HazardError(OpdslError):
    """The emulator found instructions of a compiled kernel that are not ordered: a mistake of the compiler."""


class NpuExecutable:
    """A compiled kernel. `last` is the emulator's result of the latest call."""

    def __init__(self, runnable: Runnable, chip: Chip) -> None:
        self.runnable = runnable
        self.chip = chip
        self.last: Any = None

    def __call__(self, arguments: Sequence[np.ndarray[Any, Any] | int | float | bool]) -> None:
        from opdsl.targets.npu.running import run_compiled

        self.last = run_compiled(self.runnable, arguments)


@functools.cache
def chips() -> tuple[str, ...]:
    return tuple(chip_names())

"""The target `interp`: the reference semantics. `interp:strict` also finds stray accesses and races."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from opdsl.ir.core import Kernel
from opdsl.ir.printer import print_kernel
from opdsl.targets.base import Executable, Request
from opdsl.targets.interp import control  # noqa: F401  (registers its handlers)
from opdsl.targets.interp.machine import Machine

OPTIONS = ("", "strict")


class InterpTarget:
    def __init__(self, option: str = "") -> None:
        if option not in OPTIONS:
            raise ValueError(f"there is no target 'interp:{option}'; the interpreter's one option is 'strict'")
        self.strict = option == "strict"
        self.name = "interp:strict" if self.strict else "interp"

    def stages(self, request: Request) -> Mapping[str, str]:
        return {"ir": print_kernel(request.kernel)}

    def compile(self, request: Request) -> Executable:
        return InterpExecutable(request.kernel, self.strict)


class InterpExecutable:
    def __init__(self, kernel: Kernel, strict: bool) -> None:
        self._kernel = kernel
        self._strict = strict

    def __call__(self, arguments: Sequence[np.ndarray[Any, Any] | int | float | bool]) -> None:
        Machine(self._kernel, self._strict).run(arguments)

"""Runs a compiled kernel on the emulator, and turns what it reports into what a user of a kernel expects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from opdsl.ir.types import TensorType
from opdsl.npu.emulator import NpuRunError, Result, run
from opdsl.targets.interp.errors import KernelAssertionError

if TYPE_CHECKING:
    from opdsl.targets.npu.compile import Compiled

Argument = Any


def split_arguments(compiled: Compiled, arguments: Sequence[Argument]) -> tuple[list[Any], dict[str, int | float]]:
    """The arrays, and the scalars by name."""
    arrays: list[Any] = []
    scalars: dict[str, int | float] = {}
    kernel = compiled.kernel
    for name, parameter, argument in zip(kernel.parameter_names, kernel.parameters, arguments, strict=True):
        if isinstance(parameter.type, TensorType):
            arrays.append(argument)
            continue
        dtype = parameter.type.dtype
        if dtype.is_float:
            number: int | float = float(np.asarray(argument, np.float64))
            scalars[name] = float(np.float32(number)) if dtype.bits < 64 else number
        else:
            whole = int(argument)
            scalars[name] = whole - (1 << 64) if whole >= 1 << 63 else whole
    return arrays, scalars


def run_compiled(compiled: Compiled, arguments: Sequence[Argument], **settings: Any) -> Result:
    """Runs on arrays and scalars in parameter order. Raises what a failed assertion means, NpuRunError for a hazard."""
    arrays, scalars = split_arguments(compiled, arguments)
    try:
        result = run(compiled.program, arrays, scalars, **settings)
    except NpuRunError as error:
        for hazard in error.hazards:
            for text, op in compiled.assertions.items():
                if hazard.kind == "assert" and text in hazard.message:
                    message = f"assertion failed: {op.attributes['message']}"
                    raise KernelAssertionError(message, op.location, compiled.kernel.source) from None
        raise
    for line in result.printed:
        print(line)
    return result

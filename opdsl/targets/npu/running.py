"""Runs a compiled kernel on the emulator, and turns what it reports into what a user of a kernel expects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from opdsl.ir.semantics.values import rounded_number
from opdsl.ir.types import DType, TensorType
from opdsl.npu.emulator import NpuRunError, Result, run
from opdsl.npu.program import Program
from opdsl.support.location import Location, Source
from opdsl.support.run_errors import KernelAssertionError

if TYPE_CHECKING:
    from opdsl.targets.npu.compile import Compiled

Argument = Any


@dataclass(frozen=True)
class Runnable:
    """What a run needs of a compiled kernel. `parameters`: their names, and the dtypes of those that are scalars.
    `assertions`: what the emulator says of one that fails, and its message and place in `source`."""

    program: Program
    parameters: tuple[tuple[str, DType | None], ...]
    assertions: Mapping[str, tuple[str, Location]]
    source: Source

    @classmethod
    def of(cls, compiled: Compiled) -> Runnable:
        kernel = compiled.kernel
        parameters = tuple(
            (name, None if isinstance(value.type, TensorType) else value.type.dtype)
            for name, value in zip(kernel.parameter_names, kernel.parameters, strict=True)
        )
        assertions = {text: (str(op.attributes["message"]), op.location) for text, op in compiled.assertions.items()}
        return cls(compiled.program, parameters, assertions, kernel.source)


def split_arguments(runnable: Runnable, arguments: Sequence[Argument]) -> tuple[list[Any], dict[str, int | float]]:
    """The arrays, and the scalars by name."""
    arrays: list[Any] = []
    scalars: dict[str, int | float] = {}
    for (name, dtype), argument in zip(runnable.parameters, arguments, strict=True):
        if dtype is None:
            arrays.append(argument)
        elif dtype.is_float:
            scalars[name] = rounded_number(argument, dtype)
        else:
            whole = int(argument)
            scalars[name] = whole - (1 << 64) if whole >= 1 << 63 else whole
    return arrays, scalars


def run_compiled(runnable: Runnable, arguments: Sequence[Argument], **settings: Any) -> Result:
    """Runs on arrays and scalars in parameter order. Raises what a failed assertion means, NpuRunError for a hazard."""
    arrays, scalars = split_arguments(runnable, arguments)
    try:
        result = run(runnable.program, arrays, scalars, **settings)
    except NpuRunError as error:
        for hazard in error.hazards:
            for text, (message, location) in runnable.assertions.items():
                if hazard.kind == "assert" and text in hazard.message:
                    raise KernelAssertionError(f"assertion failed: {message}", location, runnable.source) from None
        raise
    for line in result.printed:
        print(line)
    return result

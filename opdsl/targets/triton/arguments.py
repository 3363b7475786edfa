"""The arguments of a launch, from a call's arguments: sizes, strides, pointers, and the grid."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opdsl.ir.core import Kernel
from opdsl.ir.semantics.values import rounded_number
from opdsl.ir.types import TensorType
from opdsl.targets.triton.intervals import LARGEST_NARROW_DIM
from opdsl.targets.triton.source import Launch, LaunchArgument, compile_sizes


@dataclass(frozen=True)
class Tensor:
    """An array in memory. Strides are in elements."""

    pointer: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def value_of(argument: LaunchArgument, values: Sequence[Any], report: Any) -> Any:
    """The value of one argument of a launch; `values` are Tensors and scalars in the order of the parameters."""
    if argument.kind == "report":
        return report
    value = values[argument.parameter]
    if argument.kind == "dim":
        return value.shape[argument.axis]
    if argument.kind == "stride":
        return value.strides[argument.axis]
    if argument.kind == "pointer":
        return value.pointer
    return int(value) if isinstance(value, bool) else value


def with_tensors(kernel: Kernel, arguments: Sequence[Any], tensor: Callable[[Any], Tensor]) -> list[Any]:
    """A call's arguments, arrays as what `tensor` makes of them, scalars as the numbers that they are in their dtypes."""
    return [
        tensor(argument) if isinstance(parameter.type, TensorType) else rounded_number(argument, parameter.type.dtype)
        for parameter, argument in zip(kernel.parameters, arguments, strict=True)
    ]


def tiles_function(launch: Launch) -> Callable[..., int]:
    """A function of the values of a launch's arguments that gives the number of tiles; -1 where only the device knows."""
    if not launch.programs:
        return lambda *values: -1
    names = [argument.name for argument in launch.arguments]
    sizes = compile_sizes([launch.programs], names)
    return lambda *values: int(sizes(*values)[0])


Aligned = frozenset[tuple[str, str, int]]


def hints(kernel: Kernel, values: Sequence[Any], options: Mapping[str, Any]) -> tuple[Aligned, int]:
    """What of a call's arguments is a multiple of 16, and whether its offsets fit into 32 bits; where the options ask for
    descriptors, which tensors they can be made of, too, as (parameter, "descriptor", -1)."""
    aligned = set()
    bits = 32
    for parameter, name, value in zip(kernel.parameters, kernel.parameter_names, values, strict=True):
        if not isinstance(parameter.type, TensorType):
            continue
        if value.pointer % 16 == 0:
            aligned.add((name, "pointer", -1))
        if options.get("descriptors") and _describable(value, parameter.type.dtype.bytes):
            aligned.add((name, "descriptor", -1))
        reach = 1
        for axis, (size, stride) in enumerate(zip(value.shape, value.strides, strict=True)):
            if size % 16 == 0:
                aligned.add((name, "dim", axis))
            if stride % 16 == 0:
                aligned.add((name, "stride", axis))
            reach += max(0, size - 1) * abs(stride)
            if size > LARGEST_NARROW_DIM or abs(stride) >= 1 << 31:
                bits = 64
        if reach >= 1 << 31:
            bits = 64
    return frozenset(aligned), bits


def _describable(tensor: Tensor, item: int) -> bool:
    """Whether the copy engine can address a tensor: it begins at 16 bytes, has elements, and its strides, but for the last
    that is one element, are positive multiples of 16 bytes (CUDA driver API, cuTensorMapEncodeTiled)."""
    if tensor.pointer % 16 or 0 in tensor.shape or 1 not in tensor.strides:
        return False
    unit = len(tensor.strides) - 1 - tensor.strides[::-1].index(1)
    others = [stride * item for axis, stride in enumerate(tensor.strides) if axis != unit]
    return all(stride > 0 and stride % 16 == 0 for stride in others)

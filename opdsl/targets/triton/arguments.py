"""The arguments of a launch, from a call's arguments: sizes, strides, pointers, and the grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

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


def tiles_function(launch: Launch) -> Callable[..., int]:
    """A function of the values of a launch's arguments that gives the number of tiles; -1 where only the device knows."""
    if not launch.programs:
        return lambda *values: -1
    names = [argument.name for argument in launch.arguments]
    sizes = compile_sizes([launch.programs], names)
    return lambda *values: int(sizes(*values)[0])

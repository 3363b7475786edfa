"""What a name in a kernel may stand for at run time: scalars, tiles, tensors, places in tensors, ranges.

Everything else that a name stands for is an ordinary Python object, known while compiling (a constexpr).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from opdsl.ir.core import IndexSpec, Value
from opdsl.ir.types import DType, ScalarType, TensorType, TileType
from opdsl.lang.affine import Affine, atom

Number = bool | int | float
NUMBERS = (bool, int, float)


class Runtime:
    """Base of the run-time values."""

    __slots__ = ()

    def __bool__(self) -> bool:
        raise TypeError("a run-time value has no truth value while compiling")


class Scalar(Runtime):
    """A run-time scalar. `weak`: stands for a Python number whose type its use decides (only while a loop is tried)."""

    __slots__ = ("_form", "dtype", "value", "weak")

    def __init__(self, value: Value, form: Affine | None = None, weak: bool = False) -> None:
        assert isinstance(value.type, ScalarType)
        self.value = value
        self.dtype: DType = value.type.dtype
        self.weak = weak
        self._form = form

    @property
    def shape(self) -> tuple[int, ...]:
        return ()

    @property
    def form(self) -> Affine:
        """The linear form of an integer."""
        if self._form is None:
            self._form = atom(self.value)
        return self._form

    def __repr__(self) -> str:
        return f"a run-time {self.dtype} scalar"


class Tile(Runtime):
    """A tile."""

    __slots__ = ("dtype", "shape", "value")

    def __init__(self, value: Value) -> None:
        assert isinstance(value.type, TileType)
        self.value = value
        self.dtype: DType = value.type.dtype
        self.shape: tuple[int, ...] = value.type.shape

    def __repr__(self) -> str:
        return f"{article(self.dtype)} {self.dtype} tile of shape {show_shape(self.shape)}"


Operand = Scalar | Tile | bool | int | float


class TensorView(Runtime):
    """A tensor argument. `shape` has a number for each known dim and a scalar for each other."""

    __slots__ = ("dtype", "name", "shape", "type", "value")

    def __init__(self, value: Value, shape: tuple[int | Scalar, ...]) -> None:
        assert isinstance(value.type, TensorType)
        self.value = value
        self.type: TensorType = value.type
        self.dtype: DType = value.type.dtype
        self.name = value.name
        self.shape = shape

    def __repr__(self) -> str:
        return f"the tensor {self.name!r}"


@dataclass(frozen=True, eq=False)
class Place(Runtime):
    """Part of a tensor, as `x[i:i + 8, j]` names it: only copy_in and copy_out take it."""

    tensor: TensorView
    index: tuple[IndexSpec, ...]
    operands: tuple[Value, ...]
    shape: tuple[int, ...]

    def __repr__(self) -> str:
        return f"a place in the tensor {self.tensor.name!r}"


@dataclass(frozen=True, eq=False)
class RuntimeRange(Runtime):
    """`range(start, stop, step)` with a run-time scalar in it."""

    start: Scalar | int
    stop: Scalar | int
    step: Scalar | int

    def __repr__(self) -> str:
        return "a range with run-time bounds"


@dataclass(frozen=True)
class Text(Runtime):
    """An f-string that holds run-time values: literal strings and values in turn. Only od.print takes it."""

    parts: tuple[Any, ...]

    def __repr__(self) -> str:
        return "an f-string with a run-time value in it"


def wrap(value: Value) -> Scalar | Tile:
    return Scalar(value) if isinstance(value.type, ScalarType) else Tile(value)


def is_number(value: object) -> bool:
    return isinstance(value, NUMBERS)


def holds_runtime(value: object) -> bool:
    """Whether a value is a run-time value or a container with one in it."""
    if isinstance(value, Runtime):
        return True
    if isinstance(value, tuple | list | set | frozenset):
        return any(map(holds_runtime, value))
    if isinstance(value, dict):
        return any(map(holds_runtime, value.values()))
    return isinstance(value, slice) and any(map(holds_runtime, (value.start, value.stop, value.step)))


def article(dtype: DType) -> str:
    """`an f32`, `a u8`: as the names are spoken."""
    return "an" if dtype.name[0] in "fi" else "a"


def show_shape(shape: Iterable[int]) -> str:
    return str(tuple(shape))


def describe(value: object) -> str:
    """A value in an error message: its type and shape if it is of run time, itself otherwise."""
    if isinstance(value, Runtime):
        return repr(value)
    if isinstance(value, str | int | float | bool | tuple | list | DType) or value is None:
        text = repr(value)
        return text if len(text) <= 60 else text[:57] + "..."
    if isinstance(value, type):
        return f"the type {value.__name__}"
    name = getattr(value, "__name__", "")
    return f"{type(value).__name__} {name!r}" if name else f"an object of type {type(value).__name__}"

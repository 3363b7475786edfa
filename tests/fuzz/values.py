"""What the generator knows of a value: its type, and how exactly two targets must agree on it."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from opdsl.ir.types import DTYPES, DType, bf16, bool_, f8e4m3, f8e5m2, f16, f32, f64, i8, i16, i32, i64, u8, u16, u32

FLOATS = (f64, f32, f16, bf16, f8e4m3, f8e5m2)
INTEGERS = (i64, i32, i16, i8, u32, u16, u8)
ALL = (*FLOATS, *INTEGERS, bool_)
HALVES = (f16, bf16, f8e4m3, f8e5m2)
# Some dtypes turn up more often, because more of the code generator is about them.
USUAL_NAMES = "f32 f32 f32 f32 f64 f64 f16 f16 bf16 bf16 f8e4m3 f8e5m2 i64 i32 i32 i16 i8 u32 u16 u8 bool"
USUAL = tuple(DTYPES[name] for name in USUAL_NAMES.split())

DIGITS = {f64: 53, f32: 24, f16: 11, bf16: 8, f8e4m3: 4, f8e5m2: 3}
"""Bits of a float's mantissa, the hidden one included: integers up to 2 ** DIGITS are exact."""

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Val:
    """A tile or scalar (shape ()) of the generated kernel.

    whole: a bound of its magnitude if all its elements are integers, so that sums can be proved exact.
    zero_open: the sign of a zero in it is not defined.
    rel: 0.0 if targets agree to the bit; else the relative error that a target may have (values are positive then).
    """

    text: str
    dtype: DType
    shape: Shape
    whole: float | None = None
    zero_open: bool = False
    rel: float = 0.0

    @property
    def exact(self) -> bool:
        return self.rel == 0.0

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def named(self, text: str) -> Val:
        return replace(self, text=text)

    @property
    def type_text(self) -> str:
        return f"{self.dtype.name} {'x'.join(map(str, self.shape))}"


def dtype_named(name: str) -> DType:
    return DTYPES[name]


def whole_in(dtype: DType, bound: float | None) -> float | None:
    """The bound, if a value of that magnitude is exact in `dtype`."""
    if bound is None:
        return None
    if dtype.is_float:
        limit = min(2.0 ** DIGITS[dtype], 240.0 if dtype == f8e4m3 else math.inf)
        return bound if bound <= limit else None
    if dtype.is_bool:
        return 1.0
    limit = 2.0 ** (dtype.bits - (dtype.kind == "int")) - 1
    return bound if bound <= limit else None


def broadcast(*shapes: Shape) -> Shape | None:
    """The shape by NumPy's rule, or None."""
    rank = max(map(len, shapes))
    result = []
    for place in range(rank):
        sizes = {s[place - rank + len(s)] for s in shapes if place - rank + len(s) >= 0} - {1}
        if len(sizes) > 1:
            return None
        result.append(sizes.pop() if sizes else 1)
    return tuple(result)


def od(dtype: DType) -> str:
    """The dtype as a kernel writes it."""
    return f"od.{dtype.name}"


def tuple_text(shape: Shape) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"

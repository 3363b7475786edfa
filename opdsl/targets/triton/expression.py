"""Triton expressions as text, with what must be known to put them together."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from opdsl.ir.semantics.values import convert, scalar
from opdsl.ir.types import DType, bf16, bool_, f8e4m3, f8e5m2, f16, f32, f64, i8, i16, i32, i64, u8, u16, u32, u64

Shape = tuple[int, ...]
Number = bool | int | float

# How tightly Python's operators bind.
COMPARISON, OR, XOR, AND, SHIFT, SUM, PRODUCT, UNARY, ATOM = range(1, 10)

OPERATORS = {
    "|": OR,
    "^": XOR,
    "&": AND,
    "<<": SHIFT,
    ">>": SHIFT,
    "+": SUM,
    "-": SUM,
    "*": PRODUCT,
    "/": PRODUCT,
    "//": PRODUCT,
    "%": PRODUCT,
    **dict.fromkeys(("<", "<=", ">", ">=", "==", "!="), COMPARISON),
}

# The types that Triton computes with. 8-bit floats are kept as the bytes that they are in memory: not every
# architecture has them, and arithmetic on them is in f32 anyhow.
TYPE_NAMES: dict[DType, str] = {
    f64: "float64", f32: "float32", f16: "float16", bf16: "bfloat16", f8e4m3: "uint8", f8e5m2: "uint8",
    i64: "int64", i32: "int32", i16: "int16", i8: "int8", u64: "uint64", u32: "uint32", u16: "uint16", u8: "uint8",
    bool_: "int1",
}  # fmt: skip

# The same in signatures of kernels.
SIGNATURE_NAMES: dict[DType, str] = {
    f64: "fp64", f32: "fp32", f16: "fp16", bf16: "bf16", f8e4m3: "u8", f8e5m2: "u8",
    i64: "i64", i32: "i32", i16: "i16", i8: "i8", u64: "u64", u32: "u32", u16: "u16", u8: "u8", bool_: "i1",
}  # fmt: skip

F8 = (f8e4m3, f8e5m2)
HALF = (f16, bf16)


def type_name(dtype: DType) -> str:
    return f"tl.{TYPE_NAMES[dtype]}"


@dataclass(frozen=True)
class Expression:
    """`text` computes a block of `shape` (a scalar: ()) of `dtype`; a dim of 1 stands for any size.

    An i64 of the kernel that fits into 32 bits may have the dtype i32 here.
    `number`: the value of a literal, whose type comes from what it meets. `fill`: what the lanes beyond the tile hold,
    where that is known. `reads`: the reassigned variables that the text reads. `level`: the scope it may be used from.
    """

    text: str
    shape: Shape
    dtype: DType
    binding: int = ATOM
    number: Number | None = None
    fill: Number | None = None
    reads: frozenset[str] = frozenset()
    level: int = 0

    @property
    def is_literal(self) -> bool:
        return self.number is not None

    @property
    def is_name(self) -> bool:
        return self.text.isidentifier()

    def inside(self, binding: int) -> str:
        """The text as an operand of an operator that binds so tightly."""
        return self.text if self.binding >= binding else f"({self.text})"

    def with_fill(self, fill: Number | None) -> Expression:
        return replace(self, fill=fill)


def literal(value: Number, dtype: DType) -> Expression:
    """A constant of the kernel. An 8-bit float is its byte."""
    stored = scalar(value, dtype)
    number: Number
    if dtype in F8:
        number = int(stored.view("uint8")[()])
    else:
        number = stored[()].item() if not dtype.is_float else float(convert(stored, f64))
    return Expression(literal_text(number), (), dtype, _literal_binding(number), number, number)


def holds(dtype: DType, number: float) -> bool:
    """Whether a floating-point dtype has exactly this number, or it is none."""
    return math.isnan(number) or float(convert(scalar(number, f64), dtype)[()]) == number


def literal_text(number: Number) -> str:
    if isinstance(number, float):
        if math.isnan(number):
            return 'float("nan")'
        if math.isinf(number):
            return 'float("inf")' if number > 0 else 'float("-inf")'
    return repr(number)


def _literal_binding(number: Number) -> int:
    negative = not isinstance(number, bool) and (
        number < 0 or (isinstance(number, float) and math.copysign(1, number) < 0)
    )
    return UNARY if negative and not (isinstance(number, float) and math.isinf(number)) else ATOM


def broadcast_shapes(*shapes: Shape) -> Shape:
    """The shape of an elementwise result; all shapes have one rank, or none."""
    ranked = [shape for shape in shapes if shape]
    return tuple(max(sizes) for sizes in zip(*ranked, strict=True)) if ranked else ()

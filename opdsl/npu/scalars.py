"""Scalar registers in expressions, and the table of what the scalar unit computes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from opdsl.ir.functions import FUNCTIONS
from opdsl.npu.statements import Register, register_of

if TYPE_CHECKING:
    from opdsl.npu.builder import Builder

INTEGER_OPS = {
    "move": 1,
    "add": 2,
    "sub": 2,
    "mul": 2,
    "floordiv": 2,  # Python's sign; by zero: 0
    "mod": 2,
    "udiv": 2,  # unsigned 64 bits; by zero: 0
    "umod": 2,
    "min": 2,
    "max": 2,
    "umin": 2,
    "umax": 2,
    "and": 2,
    "or": 2,
    "xor": 2,
    "not": 1,
    "neg": 1,
    "abs": 1,
    "shl": 2,  # by 64 or more, or a negative count: 0
    "shr": 2,  # arithmetic; by 64 or more: 0 or -1
    "ushr": 2,
    "eq": 2,
    "ne": 2,
    "lt": 2,
    "le": 2,
    "gt": 2,
    "ge": 2,
    "ult": 2,
    "ule": 2,
    "select": 3,  # condition, if not 0, if 0
}
"""On i64: the name and the number of operands. Comparisons give 0 or 1."""

FLOAT_OPS = {
    "move": 1,
    "add": 2,
    "sub": 2,
    "mul": 2,
    "div": 2,
    "floordiv": 2,
    "mod": 2,
    "min": 2,  # NaN if one is
    "max": 2,
    "fma": 3,
    "neg": 1,
    "abs": 1,
    "eq": 2,
    "ne": 2,
    "lt": 2,
    "le": 2,
    "gt": 2,
    "ge": 2,
    "isnan": 1,
    "isinf": 1,
    "isfinite": 1,
    "select": 3,  # an integer condition
    **{row.name: len(row.operands) for row in FUNCTIONS.values()},  # round: halves to even
}
"""In `f32` or `f64`: computed in f64 and rounded once to the dtype. Comparisons and is... give an integer 0 or 1."""

CONVERSIONS = {
    "to_float": 1,  # i64 -> a float, rounded to the op's dtype
    "unsigned_to_float": 1,
    "to_int": 1,  # a float -> i64, truncated; out of range: the nearest; NaN: 0
    "to_unsigned": 1,
    "round_to": 1,  # a float -> the same rounded to dtype (f32 f16 bf16 f8e4m3 f8e5m2), held as f64
    "wrap_to": 1,  # i64 -> wrapped to dtype (i8 i16 i32 u8 u16 u32 bool: is it not 0)
    "to_bits": 1,  # a float -> its bits as dtype
    "from_bits": 1,  # bits -> the float of dtype
}
"""`dtype` says to or from what."""

RESULT_IS_INTEGER = {"eq", "ne", "lt", "le", "gt", "ge", "isnan", "isinf", "isfinite"} | {
    "to_int",
    "to_unsigned",
    "wrap_to",
    "to_bits",
}


class Scalar:
    """A register, or a number known while building, with Python's operators. Each operator appends a scalar op.

    `//` and `%` have Python's meaning. Comparisons give an integer 0 or 1; use them in `builder.if_(...)`.
    """

    __slots__ = ("builder", "operand")

    def __init__(self, builder: Builder, operand: Register | int | float) -> None:
        self.builder = builder
        self.operand = operand

    @property
    def dtype(self) -> Literal["i64", "f64"]:
        if isinstance(self.operand, Register):
            return self.operand.dtype
        return "i64" if isinstance(self.operand, int) else "f64"

    def _apply(self, name: str, *others: ScalarLike) -> Scalar:
        values = (self, *others)
        floats = any(dtype_of(value) == "f64" for value in values)
        return self.builder.compute(name, *values, dtype="f32" if floats else "i64")

    def _reverse(self, name: str, other: ScalarLike) -> Scalar:
        return Scalar(self.builder, register_of(other))._apply(name, self)

    def __add__(self, other: ScalarLike) -> Scalar:
        return self._apply("add", other)

    def __radd__(self, other: ScalarLike) -> Scalar:
        return self._reverse("add", other)

    def __sub__(self, other: ScalarLike) -> Scalar:
        return self._apply("sub", other)

    def __rsub__(self, other: ScalarLike) -> Scalar:
        return self._reverse("sub", other)

    def __mul__(self, other: ScalarLike) -> Scalar:
        return self._apply("mul", other)

    def __rmul__(self, other: ScalarLike) -> Scalar:
        return self._reverse("mul", other)

    def __truediv__(self, other: ScalarLike) -> Scalar:
        return self.builder.compute("div", self, other, dtype="f32")

    def __floordiv__(self, other: ScalarLike) -> Scalar:
        return self._apply("floordiv", other)

    def __rfloordiv__(self, other: ScalarLike) -> Scalar:
        return self._reverse("floordiv", other)

    def __mod__(self, other: ScalarLike) -> Scalar:
        return self._apply("mod", other)

    def __rmod__(self, other: ScalarLike) -> Scalar:
        return self._reverse("mod", other)

    def __and__(self, other: ScalarLike) -> Scalar:
        return self._apply("and", other)

    def __or__(self, other: ScalarLike) -> Scalar:
        return self._apply("or", other)

    def __xor__(self, other: ScalarLike) -> Scalar:
        return self._apply("xor", other)

    def __lshift__(self, other: ScalarLike) -> Scalar:
        return self._apply("shl", other)

    def __rshift__(self, other: ScalarLike) -> Scalar:
        return self._apply("shr", other)

    def __neg__(self) -> Scalar:
        return self._apply("neg")

    def __invert__(self) -> Scalar:
        return self._apply("not")

    def __eq__(self, other: object) -> Scalar:  # type: ignore[override]
        return self._apply("eq", other)  # type: ignore[arg-type]

    def __ne__(self, other: object) -> Scalar:  # type: ignore[override]
        return self._apply("ne", other)  # type: ignore[arg-type]

    def __lt__(self, other: ScalarLike) -> Scalar:
        return self._apply("lt", other)

    def __le__(self, other: ScalarLike) -> Scalar:
        return self._apply("le", other)

    def __gt__(self, other: ScalarLike) -> Scalar:
        return self._apply("gt", other)

    def __ge__(self, other: ScalarLike) -> Scalar:
        return self._apply("ge", other)

    __hash__ = None  # type: ignore[assignment]

    def __bool__(self) -> bool:
        raise TypeError("a scalar of an NPU program has no value while it is built: use builder.if_, while_ or choose")

    def __repr__(self) -> str:
        return f"Scalar({self.operand.name if isinstance(self.operand, Register) else self.operand})"


ScalarLike = Scalar | Register | int | float


def dtype_of(value: ScalarLike) -> Literal["i64", "f64"]:
    if isinstance(value, (Scalar, Register)):
        return value.dtype
    return "i64" if isinstance(value, int) else "f64"

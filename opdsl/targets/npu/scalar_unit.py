"""Ops of the tile IR on scalars, as instructions of the scalar unit.

A scalar is a Python number where it is known, else a register: integers and bools in i64 registers (wrapped to their
type after every op, u64 as the same 64 bits), floats in f64 registers that hold a value of their type exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from opdsl.ir.types import DType, f32, f64, i64
from opdsl.npu.statements import Compute, Operand, Register
from opdsl.support.location import Location

_UNSIGNED_64 = {
    "floordiv": "udiv",
    "mod": "umod",
    "min": "umin",
    "max": "umax",
    "shr": "ushr",
    "lt": "ult",
    "le": "ule",
}
_FLOAT_COMPARISONS = {"eq", "ne", "lt", "le", "gt", "ge", "isnan", "isinf", "isfinite"}
_COMPARISONS = {"eq", "ne", "lt", "le", "gt", "ge"}
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)  # of Philox 4x32
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_LOW = 0xFFFFFFFF


def register_dtype(dtype: DType) -> str:
    return "f64" if dtype.is_float else "i64"


def fold(name: str, values: Sequence[Operand]) -> int | None:
    """The result of an integer op on numbers that are known, where it is small enough to be sure of."""
    if not all(isinstance(v, int) for v in values):
        return None
    a = int(values[0])  # type: ignore[arg-type]
    b = int(values[1]) if len(values) > 1 else 0  # type: ignore[arg-type]
    table: dict[str, Callable[[], int]] = {
        "add": lambda: a + b,
        "sub": lambda: a - b,
        "mul": lambda: a * b,
        "floordiv": lambda: a // b if b else 0,
        "mod": lambda: a % b if b else 0,
        "min": lambda: min(a, b),
        "max": lambda: max(a, b),
        "neg": lambda: -a,
        "lt": lambda: int(a < b),
        "le": lambda: int(a <= b),
        "gt": lambda: int(a > b),
        "ge": lambda: int(a >= b),
        "eq": lambda: int(a == b),
        "ne": lambda: int(a != b),
        "and": lambda: a & b,
        "or": lambda: a | b,
        "xor": lambda: a ^ b,
    }
    if name not in table:
        return None
    result = table[name]()
    return result if -(2**62) < result < 2**62 else None


def _identity(name: str, values: Sequence[Operand]) -> Operand | None:
    """The operand that an integer op gives back unchanged, such as x + 0."""
    if len(values) != 2:
        return None
    a, b = values
    if name in ("add", "sub", "shl", "shr", "or", "xor") and b == 0 and isinstance(b, int):
        return a
    if name in ("add", "or") and a == 0 and isinstance(a, int):
        return b
    if name in ("mul", "floordiv") and b == 1 and isinstance(b, int):
        return a
    if name == "mul" and a == 1 and isinstance(a, int):
        return b
    if name in ("mul", "and") and ((a == 0 and isinstance(a, int)) or (b == 0 and isinstance(b, int))):
        return 0
    return None


class ScalarUnit:
    """Appends scalar ops by `append`."""

    def __init__(self, append: Callable[[Compute], None]) -> None:
        self._append = append
        self.location: Location = Location("<unknown>", 0, 0)
        self._names = 0

    def register(self, dtype: str, name: str = "") -> Register:
        self._names += 1
        return Register("f64" if dtype == "f64" else "i64", f"{name or 't'}{self._names}")

    def compute(self, name: str, dtype: str, *operands: Operand, result: str | None = None, hint: str = "") -> Operand:
        """One scalar op, or its result where that is known."""
        if dtype == "i64":
            folded = fold(name, operands)
            if folded is not None:
                return folded
            same = _identity(name, operands)
            if same is not None:
                return same
        register = self.register(result or ("i64" if dtype == "i64" else "f64"), hint)
        self._append(Compute(name, dtype, register, tuple(operands), self.location))
        return register

    def move(self, target: Register, source: Operand) -> None:
        dtype = "i64" if target.dtype == "i64" else "f64"
        if dtype == "f64" and isinstance(source, int):
            source = float(source)
        self._append(Compute("move", dtype, target, (source,), self.location))

    # --- i64 arithmetic, for addresses and bounds

    def add(self, *values: Operand) -> Operand:
        total: Operand = 0
        known = sum(v for v in values if isinstance(v, int))
        for value in values:
            if not isinstance(value, int):
                total = self.compute("add", "i64", total, value)
        return self.compute("add", "i64", total, known)

    def sub(self, a: Operand, b: Operand) -> Operand:
        return 0 if a is b else self.compute("sub", "i64", a, b)

    def mul(self, a: Operand, b: Operand) -> Operand:
        return self.compute("mul", "i64", a, b)

    def div(self, a: Operand, b: Operand) -> Operand:
        return self.compute("floordiv", "i64", a, b)

    def mod(self, a: Operand, b: Operand) -> Operand:
        return self.compute("mod", "i64", a, b)

    def min(self, a: Operand, b: Operand) -> Operand:
        return self.compute("min", "i64", a, b)

    def max(self, a: Operand, b: Operand) -> Operand:
        return self.compute("max", "i64", a, b)

    def ceil_div(self, a: Operand, b: int) -> Operand:
        return self.div(self.add(a, b - 1), b)

    def test(self, name: str, a: Operand, b: Operand) -> Operand:
        return self.compute(name, "i64", a, b)

    def both(self, a: Operand, b: Operand) -> Operand:
        if a == 1 and isinstance(a, int):
            return b
        if b == 1 and isinstance(b, int):
            return a
        return self.compute("and", "i64", a, b)

    def either(self, a: Operand, b: Operand) -> Operand:
        return self.compute("or", "i64", a, b)

    # --- ops of the IR

    def op(self, name: str, dtype: DType, operands: Sequence[Operand], result: DType, word: int = 0) -> Operand:
        """An elementwise op of the IR on scalars of `dtype` (of the last operands, for `select`)."""
        if name == "select":
            kind = register_dtype(dtype)
            return self.compute(
                "select", "i64" if kind == "i64" else "f64", *self._typed(operands, kind, 1), result=kind
            )
        if name == "cast":
            return self.cast(operands[0], dtype, result)
        if name == "random_bits":
            return self._philox(operands[0], operands[1], word)
        if dtype.is_float:
            return self._float(name, dtype, operands)
        return self._integer(name, dtype, operands)

    @staticmethod
    def _typed(operands: Sequence[Operand], kind: str, skip: int = 0) -> list[Operand]:
        return [
            float(v) if kind == "f64" and isinstance(v, int) and place >= skip else v
            for place, v in enumerate(operands)
        ]

    def _float(self, name: str, dtype: DType, operands: Sequence[Operand]) -> Operand:
        operands = self._typed(operands, "f64")
        wide = "f64" if dtype == f64 else "f32"
        if name in _FLOAT_COMPARISONS:
            return self.compute(name, wide, *operands, result="i64")
        value = self.compute(name, wide, *operands, result="f64")
        return value if dtype in (f32, f64) else self.compute("round_to", dtype.name, value, result="f64")

    def _integer(self, name: str, dtype: DType, operands: Sequence[Operand]) -> Operand:
        if name in _COMPARISONS:
            if dtype.name == "u64" and name not in ("eq", "ne"):
                if name in ("gt", "ge"):
                    operands, name = operands[::-1], {"gt": "lt", "ge": "le"}[name]
                return self.compute(_UNSIGNED_64[name], "i64", *operands)
            return self.compute(name, "i64", *operands)
        if dtype.is_bool:
            if name == "not":
                return self.compute("xor", "i64", operands[0], 1)
            return self.compute({"min": "and", "max": "or"}.get(name, name), "i64", *operands)
        if name == "ipow":
            return self._power(dtype, *operands)
        if name in ("shl", "shr"):
            return self._shift(name, dtype, *operands)
        if name == "abs" and dtype.kind == "uint":
            return operands[0]
        if dtype.name == "u64" and name in _UNSIGNED_64:
            return self.compute(_UNSIGNED_64[name], "i64", *operands)
        return self.wrap(self.compute(name, "i64", *operands), dtype)

    def wrap(self, value: Operand, dtype: DType) -> Operand:
        if dtype.bits == 64 or (dtype.is_bool and isinstance(value, int) and value in (0, 1)):
            return value
        if isinstance(value, int):
            wrapped = value & ((1 << dtype.bits) - 1)
            return wrapped - (1 << dtype.bits) if dtype.kind == "int" and wrapped >> (dtype.bits - 1) else wrapped
        return self.compute("wrap_to", dtype.name, value, result="i64")

    def _shift(self, name: str, dtype: DType, value: Operand, count: Operand) -> Operand:
        """By the width or more, or by a negative count: 0, or -1 for a negative number shifted right."""
        outside = self.compute("ge", "i64", count, dtype.bits)
        if dtype.name == "u64":  # a count with the highest bit set is a large one
            outside = self.compute("ule", "i64", dtype.bits, count)
        if dtype.kind == "int":
            outside = self.either(outside, self.compute("lt", "i64", count, 0))
        if name == "shl":
            shifted = self.wrap(self.compute("shl", "i64", value, count), dtype)
            return self.compute("select", "i64", outside, 0, shifted)
        logical = "ushr" if dtype.kind == "uint" else "shr"
        limit = self.compute("shr", "i64", value, 63) if dtype.kind == "int" else 0
        return self.compute("select", "i64", outside, limit, self.compute(logical, "i64", value, count))

    def _power(self, dtype: DType, base: Operand, exponent: Operand) -> Operand:
        """By squaring, for every bit of the exponent that a type of this width has."""
        result: Operand = self.compute("move", "i64", 1)
        square = base
        for bit in range(dtype.bits - (dtype.kind == "int")):
            is_set = self.compute("and", "i64", self.compute("ushr", "i64", exponent, bit), 1)
            result = self.compute("select", "i64", is_set, self.compute("mul", "i64", result, square), result)
            square = self.compute("mul", "i64", square, square)
        if dtype.kind == "int":
            result = self.compute("select", "i64", self.compute("lt", "i64", exponent, 0), 0, result)
        return self.wrap(result, dtype)

    def cast(self, value: Operand, source: DType, target: DType) -> Operand:
        if source == target:
            return value
        if target.is_bool:
            if source.is_float:
                return self.compute("ne", "f64", *self._typed((value, 0.0), "f64"), result="i64")
            return self.compute("ne", "i64", value, 0)
        if target.is_float:
            if source.is_float:
                return self._round(value, source, target)
            # An integer to bf16 or f8 goes by f32.
            wide = "f64" if target == f64 else "f16" if target.name == "f16" else "f32"
            name = "unsigned_to_float" if source.name == "u64" else "to_float"
            found = self.compute(name, wide, value, result="f64")
            return found if target.name == wide else self.compute("round_to", target.name, found, result="f64")
        if source.is_float:
            name = "to_unsigned" if target.name == "u64" else "to_int"
            whole = self.compute(name, "f64", *self._typed((value,), "f64"), result="i64")
            return self.wrap(whole, target)
        return self.wrap(value, target)

    def _round(self, value: Operand, source: DType, target: DType) -> Operand:
        if target == f64 or (target == f32 and source.bits < 32):
            return value
        (value,) = self._typed((value,), "f64")
        if target.name != "f16" and target != f32 and source == f64:
            value = self.compute("round_to", "f32", value, result="f64")  # bf16 and f8 by way of f32
        return self.compute("round_to", target.name, value, result="f64")

    def _philox(self, seed: Operand, counter: Operand, word: int) -> Operand:
        """A word of Philox 4x32-10; see targets/interp/random.py."""

        def low(value: Operand) -> Operand:
            return self.compute("and", "i64", value, _LOW)

        def high(value: Operand) -> Operand:
            return self.compute("ushr", "i64", value, 32)

        c: list[Operand] = [low(counter), high(counter), 0, 0]
        keys = [low(seed), high(seed)]
        for turn in range(10):
            products = [self.compute("mul", "i64", m, v) for m, v in zip(_MULTIPLIERS, (c[0], c[2]), strict=True)]
            k = [
                low(self.compute("add", "i64", key, turn * step & _LOW))
                for key, step in zip(keys, _KEY_STEPS, strict=True)
            ]
            c = [
                self.compute("xor", "i64", self.compute("xor", "i64", high(products[1]), c[1]), k[0]),
                low(products[1]),
                self.compute("xor", "i64", self.compute("xor", "i64", high(products[0]), c[3]), k[1]),
                low(products[0]),
            ]
        return c[word]


def constant(value: bool | int | float, dtype: DType) -> int | float:
    """A constant of the IR as the number that a register of its type would hold."""
    from opdsl.ir.semantics.values import scalar

    if dtype.is_float:
        return float(scalar(value, dtype)) if not math.isnan(float(value)) else math.nan
    number = int(scalar(value, dtype))
    return number - (1 << 64) if dtype.name == "u64" and number >> 63 else number


__all__ = ["ScalarUnit", "constant", "i64", "register_dtype"]

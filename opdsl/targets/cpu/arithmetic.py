"""C++ expressions of elementwise ops, on scalars and on vectors alike."""

from __future__ import annotations

import math
import struct

from opdsl.ir.functions import FUNCTIONS
from opdsl.ir.types import DType, bool_, f32, f64, i8, i16, u8, u16
from opdsl.targets.cpu.code import HALF, NARROW, REGISTER

SYMBOLS = {"add": "+", "sub": "-", "mul": "*", "div": "/", "and": "&", "or": "|", "xor": "^"}
COMPARISONS = {"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}
# On masks, whose lanes are 0 and -1.
BOOL_COMPARISONS = {
    "eq": "~({0} ^ {1})", "ne": "({0} ^ {1})", "lt": "(~{0} & {1})", "le": "(~{0} | {1})",
    "gt": "({0} & ~{1})", "ge": "({0} | ~{1})",
}
CALLS = {
    **{row.name: row.cpp for row in FUNCTIONS.values() if row.cpp},
    "min": "min",
    "max": "max",
    "floordiv": "floordiv",
    "mod": "floormod",
    "shl": "shift_left",
    "shr": "shift_right",
}
# Results of these on a type narrower than its register are in the type already. (Of floats -0.47 % 1 is not; of
# integers the opposite of the least one is not.)
EXACT_OF_FLOATS = frozenset({"min", "max", "neg", "abs", "floor", "ceil", "trunc", "round", "select"})
EXACT_OF_INTEGERS = EXACT_OF_FLOATS - {"neg", "abs"} | {"mod"}


def wrapped(text: str, dtype: DType, name: str = "") -> str:
    """`text`, computed in the register type, brought back to the values of `dtype`."""
    if dtype in HALF and name not in EXACT_OF_FLOATS:
        return f"od::round_{dtype.name}({text})"
    if dtype in NARROW and name not in EXACT_OF_INTEGERS:
        return f"od::wrap_{dtype.name}({text})"
    return text


def before_rounding(text: str) -> str | None:
    """What `wrapped` or `cast` rounds to bf16, or None where they round nothing."""
    function = "od::round_bf16("
    return text[len(function) : -1] if text.startswith(function) else None


def literal(value: bool | int | float, dtype: DType) -> str:
    """A C++ literal in the register type of `dtype`; a float is given to the bit."""
    if dtype.is_bool:
        return "true" if value else "false"
    if not dtype.is_float:
        number = int(value)
        bits = dtype.bits
        number = (
            (number + (1 << bits - 1)) % (1 << bits) - (1 << bits - 1) if dtype.kind == "int" else number % (1 << bits)
        )
        if dtype.kind == "uint":
            return f"{REGISTER[dtype]}({number}u{'ll' if bits == 64 else ''})"
        if bits == 64:
            return f"od::i64({number}ll)" if number > -(1 << 63) else "od::i64(-9223372036854775807ll - 1)"
        return f"od::i32({number})" if number > -(1 << 31) else "od::i32(-2147483647 - 1)"
    number_ = float(value)
    if math.isnan(number_):
        return '__builtin_nan("")' if dtype == f64 else '__builtin_nanf("")'
    if math.isinf(number_):
        text = "__builtin_inf()" if dtype == f64 else "__builtin_inff()"
        return f"(-{text})" if number_ < 0 else text
    if dtype == f64:
        text = number_.hex()
    elif abs(number_) >= 2.0**128:
        return literal(math.copysign(math.inf, number_), dtype)
    else:
        text = struct.unpack("f", struct.pack("f", number_))[0].hex() + "f"
    text = f"({text})" if text.startswith("-") else text
    exact = number_ == int(number_) and abs(number_) <= 8
    return text if dtype not in HALF or exact else f"od::round_{dtype.name}({text})"


def elementwise(name: str, operands: list[str], dtype: DType, vector: bool) -> str:
    """The value of an elementwise op other than `cast`. `dtype` is the operands' (of `select`: the choices')."""
    if name in COMPARISONS:
        if vector:
            if dtype.is_bool:
                return BOOL_COMPARISONS[name].format(*operands)
            return f"od::{name}({operands[0]}, {operands[1]})"
        return f"({operands[0]} {COMPARISONS[name]} {operands[1]})"
    if name in ("isnan", "isinf", "isfinite"):
        return f"od::{name}({operands[0]})" if vector else f"bool(od::{name}({operands[0]}))"
    if name == "select":
        if vector:
            if dtype.is_bool:
                return f"(({operands[0]} & {operands[1]}) | (~{operands[0]} & {operands[2]}))"
            return f"od::select({', '.join(operands)})"
        return f"({operands[0]} ? {operands[1]} : {operands[2]})"
    if name == "not":
        if dtype.is_bool and not vector:
            return f"(!{operands[0]})"
        return wrapped(f"(~{operands[0]})", dtype)
    if dtype.is_bool and name in ("min", "max"):
        return f"({operands[0]} {'&' if name == 'min' else '|'} {operands[1]})"
    if dtype.is_bool and not vector:
        return f"bool({operands[0]} {SYMBOLS[name]} {operands[1]})"
    if name in SYMBOLS:
        return wrapped(f"({operands[0]} {SYMBOLS[name]} {operands[1]})", dtype, name)
    if name == "neg":
        return wrapped(f"(-{operands[0]})", dtype, name)
    if name in ("shl", "shr"):
        return wrapped(f"od::{CALLS[name]}({', '.join(operands)})", dtype, name)
    return wrapped(f"od::{CALLS.get(name, name)}({', '.join(operands)})", dtype, name)


def cast(text: str, source: DType, target: DType, vector: bool) -> str:
    """A conversion; see the op table for its meaning."""
    if source == target:
        return text
    register = REGISTER[target]
    if source == bool_:
        return f"od::mask_to<{register}>({text})" if vector else f"{register}({text})"
    if target == bool_:
        return f"od::to_mask({text})" if vector else f"({text} != 0)"
    value = text
    if REGISTER[source] != register:
        if source == f64 and target in HALF:
            value = f"od::convert_odd({text})"  # rounding twice, once to odd, is rounding once
        else:
            value = f"od::convert<{register}>({text})"
    if target in HALF and not _contains(source, target):
        return f"od::round_{target.name}({value})"
    if target in (i8, i16, u8, u16):
        return f"od::wrap_{target.name}({value})"
    return value


def _contains(source: DType, target: DType) -> bool:
    """Whether every value of `source` is one of `target`."""
    return source in (i8, u8) and target.bits == 16 and target.name == "f16"


def reduction_identity(kind: str, dtype: DType) -> str:
    if kind == "sum":
        return literal(0, dtype)
    if kind == "prod":
        return literal(1, dtype)
    if kind in ("any", "all") or dtype.is_bool:
        return literal(kind in ("all", "min"), bool_)
    if dtype.is_float:
        return literal(-math.inf if kind == "max" else math.inf, f64 if dtype == f64 else f32)
    low, high = (
        (-(1 << dtype.bits - 1), (1 << dtype.bits - 1) - 1) if dtype.kind == "int" else (0, (1 << dtype.bits) - 1)
    )
    return literal(low if kind == "max" else high, dtype)


def combine(kind: str, a: str, b: str, dtype: DType) -> str:
    """Two partial results of a built-in reduction, in registers. Sums of halves stay in f32 until the end."""
    if kind in ("any", "all") or dtype.is_bool:
        return f"({a} {'|' if kind in ('any', 'max') else '&'} {b})"
    if kind in ("sum", "prod"):
        return f"({a} {'+' if kind == 'sum' else '*'} {b})"
    return f"od::{kind}({a}, {b})"

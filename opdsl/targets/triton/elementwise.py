"""Elementwise ops as Triton expressions. Ops on f16 and bf16 that Triton has are used as they are, since they round as
the IR says; all others, and all on 8-bit floats, are computed in f32 and rounded to the type."""

from __future__ import annotations

from dataclasses import replace

from opdsl.ir.core import Op
from opdsl.ir.functions import COMPOSITIONS, FUNCTIONS
from opdsl.ir.types import DType, bf16, bool_, f8e4m3, f32, f64, i32, i64, u32
from opdsl.targets.triton.expression import F8, HALF, UNARY, Expression, Number, literal
from opdsl.targets.triton.intervals import is_narrow
from opdsl.targets.triton.writer import Writer

OPERATORS = {
    "add": "+", "sub": "-", "mul": "*", "and": "&", "or": "|", "xor": "^",
    "eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">=",
}  # fmt: skip
COMPARISONS = frozenset({"eq", "ne", "lt", "le", "gt", "ge"})
NATIVE_ON_HALF = frozenset({"add", "sub", "mul", "min", "max", "neg", "abs", *COMPARISONS})
NANS = "propagate_nan=tl.PropagateNan.ALL"
LIBRARY = frozenset(row.name for row in COMPOSITIONS.values() if row.triton)  # compositions that Triton has by name
KEEPS_ZERO = frozenset({"add", "sub", "mul", "neg", "abs", "min", "max", "cast"})


def widened(w: Writer, expression: Expression, dtype: DType) -> Expression:
    """A narrow float as f32; everything else as it is."""
    if expression.is_literal:
        if dtype in F8:
            return literal(_f8_number(int(expression.number or 0), dtype), f32)
        return replace(expression, dtype=f32) if dtype in HALF else expression
    if dtype in F8:
        name = "_from_f8e4m3" if dtype is f8e4m3 else "_from_f8e5m2"
        return w.call(w.helper(name), expression, dtype=f32).with_fill(_wide_fill(expression.fill, dtype))
    return w.to(expression, f32) if dtype in HALF else expression


def _f8_number(byte: int, dtype: DType) -> float:
    import numpy as np

    from opdsl.ir.semantics.values import NUMPY_DTYPES

    return float(np.array([byte], np.uint8).view(NUMPY_DTYPES[dtype]).astype(np.float32)[0])


def _wide_fill(fill: Number | None, dtype: DType) -> Number | None:
    return None if fill is None else _f8_number(int(fill), dtype)


def narrowed(w: Writer, expression: Expression, dtype: DType) -> Expression:
    """An f32 rounded to `dtype`."""
    if dtype in F8:
        if expression.is_literal:
            return literal(float(expression.number or 0), dtype)
        name = "_to_f8e4m3" if dtype is f8e4m3 else "_to_f8e5m2"
        fill = None if expression.fill is None else literal(float(expression.fill), dtype).number
        return w.call(w.helper(name), expression, dtype=dtype).with_fill(fill)
    return w.to(expression, dtype)


def elementwise(w: Writer, op: Op) -> Expression:
    """The expression of an elementwise op."""
    operands = [w.value(operand) for operand in op.operands]
    dtype = op.operands[-1].type.dtype
    if op.name == "cast":
        return cast(w, operands[0], dtype, op.attributes["dtype"])
    if op.name == "random_bits":
        return _random_bits(w, op, operands)
    if all(operand.is_literal for operand in operands):  # a literal has no type, and Python would compute it
        operands = [w.typed(operands[0], None), *operands[1:]]
    if op.name == "select":
        return _select(w, op, operands, dtype)
    if dtype.is_float:
        result = _on_floats(w, op.name, operands, dtype)
    elif dtype.is_bool:
        result = _on_bools(w, op.name, operands)
    else:
        result = _on_integers(w, op, operands, dtype)
    if op.name in KEEPS_ZERO and dtype not in F8 and all(o.fill == 0 for o in operands):
        result = result.with_fill(0)
    return result


def _on_floats(w: Writer, name: str, operands: list[Expression], dtype: DType) -> Expression:
    upcast = dtype is bf16 and w.options.upcast_bf16
    if dtype in F8 or upcast or (dtype in HALF and name not in NATIVE_ON_HALF):
        result = float_op(w, name, [widened(w, o, dtype) for o in operands], f32)
        return result if result.dtype is bool_ else narrowed(w, result, dtype)
    return float_op(w, name, operands, dtype)


def float_op(w: Writer, name: str, operands: list[Expression], dtype: DType) -> Expression:
    """An op on floats of a type that Triton computes it in."""
    if name in OPERATORS:
        return w.binary(OPERATORS[name], operands[0], operands[1], bool_ if name in COMPARISONS else dtype)
    if name in ("min", "max"):
        function = "tl.minimum" if name == "min" else "tl.maximum"
        operands = extremes(w, operands, dtype)
        result = w.call(function, *operands, dtype=f32 if dtype.name == "bf16" else dtype, extra=NANS)
        return w.to(result, dtype)
    if name == "neg":
        return w.make(f"-{operands[0].inside(UNARY)}", operands, dtype, binding=UNARY)
    if name == "abs":
        return w.call("tl.abs", *operands, dtype=dtype)
    if name == "div":
        if dtype is f32:
            return w.call("tl.div_rn", *_blocks(w, operands), dtype=dtype)
        return w.binary("/", operands[0], operands[1], dtype)
    if name == "sqrt":
        return w.call("tl.sqrt_rn" if dtype is f32 else "tl.sqrt", *operands, dtype=dtype)
    if name == "fma":
        return w.call("tl.fma", *_blocks(w, operands), dtype=dtype)
    if name == "isnan":
        x = w.name(operands[0], "x")
        return w.binary("!=", x, x, bool_)
    if name in ("isinf", "isfinite"):
        operator = "==" if name == "isinf" else "<"
        return w.binary(operator, w.call("tl.abs", *operands, dtype=dtype), literal(float("inf"), dtype), bool_)
    if name in ("floordiv", "mod"):
        return w.call(w.helper(f"_float_{name}"), *map(w.typed, operands), dtype=dtype)
    row = FUNCTIONS[name]
    return w.call(row.triton, *(_blocks(w, operands) if row.libdevice else operands), dtype=dtype)


def composition(w: Writer, op: Op) -> None:
    """A function of `LIBRARY`."""
    dtype = op.result.type.dtype
    operands = [widened(w, w.typed(w.value(operand), None), dtype) for operand in op.operands]
    name = COMPOSITIONS[op.attributes["function"]].triton
    result = w.call(name, *_blocks(w, operands), dtype=f64 if dtype is f64 else f32)
    w.bind(op.result, narrowed(w, result, dtype))


def extremes(w: Writer, operands: list[Expression], dtype: DType) -> list[Expression]:
    """Operands of tl.minimum and tl.maximum, which before Triton 3.9 take numbers for f32 or i32."""
    return operands if dtype in (f32, i32) else [w.typed(o, dtype) for o in operands]


def _blocks(w: Writer, operands: list[Expression]) -> list[Expression]:
    """For functions that give literals a type of their own."""
    return [w.typed(o) for o in operands]


def _on_bools(w: Writer, name: str, operands: list[Expression]) -> Expression:
    if name == "not":
        return w.make(f"~{operands[0].inside(UNARY)}", operands, bool_, binding=UNARY)
    if name in ("min", "max"):
        return w.binary("&" if name == "min" else "|", operands[0], operands[1], bool_)
    if name in ("lt", "le", "gt", "ge"):  # of bools as numbers
        return w.binary(OPERATORS[name], w.to(operands[0], i32), w.to(operands[1], i32), bool_)
    return w.binary(OPERATORS[name], operands[0], operands[1], bool_)


def same_width(w: Writer, operands: list[Expression], narrow: bool) -> list[Expression]:
    """Operands that are i64 in the kernel, as i32 if all is known to fit there, else as i64."""
    if narrow and all(o.is_literal or o.dtype is i32 for o in operands):
        return operands
    if any(o.dtype is i64 and not o.is_literal for o in operands) and all(
        not o.is_literal or is_narrow((int(o.number or 0),) * 2) for o in operands
    ):
        return operands  # Triton widens the others
    wide = next((n for n, o in enumerate(operands) if not o.is_literal and o.shape), None)
    if wide is None:
        wide = next((n for n, o in enumerate(operands) if not o.is_literal), -1)
    return [w.to(o, i64) if n == wide else o for n, o in enumerate(operands)]  # Triton widens the others


def _on_integers(w: Writer, op: Op, operands: list[Expression], dtype: DType) -> Expression:
    name = op.name
    result_type = op.results[0].type.dtype
    if dtype is i64:
        narrow = all(w.fits(value) for value in op.operands) and (name in COMPARISONS or w.fits(op.results[0]))
        operands = same_width(w, operands, narrow)
        if narrow and all(o.is_literal or o.dtype is i32 for o in operands):
            dtype = i32
    if name in COMPARISONS:
        return w.binary(OPERATORS[name], operands[0], operands[1], result_type)
    if name in OPERATORS:
        return w.binary(OPERATORS[name], operands[0], operands[1], dtype)
    if name in ("min", "max"):
        return w.call("tl.minimum" if name == "min" else "tl.maximum", *extremes(w, operands, dtype), dtype=dtype)
    if name == "not":
        return w.make(f"~{operands[0].inside(UNARY)}", operands, dtype, binding=UNARY)
    if name == "neg":
        if dtype.kind == "uint":
            return w.binary("-", w.typed(literal(0, dtype)), operands[0], dtype)
        return w.make(f"-{operands[0].inside(UNARY)}", operands, dtype, binding=UNARY)
    if name == "abs":
        return operands[0] if dtype.kind == "uint" else w.call("tl.abs", *operands, dtype=dtype)
    if name in ("floordiv", "mod"):
        return _division(w, op, operands, dtype)
    if name in ("shl", "shr"):
        return _shift(w, name, operands, dtype)
    assert name == "ipow", name
    return w.call(w.helper("_integer_power"), *(w.typed(o, dtype) for o in operands), dtype=dtype)


def _division(w: Writer, op: Op, operands: list[Expression], dtype: DType) -> Expression:
    a, b = (w.interval(value) for value in op.operands)
    operator = "//" if op.name == "floordiv" else "%"
    if a[0] >= 0 and b[0] > 0:
        return w.binary(operator, operands[0], operands[1], dtype)
    name = f"_{'unsigned' if dtype.kind == 'uint' else 'floor'}_{'div' if op.name == 'floordiv' else 'mod'}"
    return w.call(w.helper(name), *(w.typed(o, dtype) for o in operands), dtype=dtype)


def _shift(w: Writer, name: str, operands: list[Expression], dtype: DType) -> Expression:
    count = operands[1]
    if count.is_literal and 0 <= int(count.number or 0) < dtype.bits:
        operand = operands[0] if not operands[0].is_literal else w.typed(operands[0], dtype)
        return w.binary("<<" if name == "shl" else ">>", operand, count, dtype)
    return w.call(
        w.helper("_shift_left" if name == "shl" else "_shift_right"),
        *(w.typed(o, dtype) for o in operands),
        dtype=dtype,
        extra=str(dtype.bits),
    )


def _select(w: Writer, op: Op, operands: list[Expression], dtype: DType) -> Expression:
    condition, a, b = operands
    if dtype is i64:
        a, b = same_width(w, [a, b], w.fits(op.results[0]))
        held = i32 if all(o.is_literal or o.dtype is i32 for o in (a, b)) and w.fits(op.results[0]) else i64
    else:
        held = dtype
    if a.is_literal and b.is_literal:
        a = w.typed(a, held)
    if condition.is_literal:
        condition = w.typed(condition, bool_)
    result = w.call("tl.where", condition, a, b, dtype=held)
    return result.with_fill(a.fill) if a.fill is not None and a.fill == b.fill else result


def cast(w: Writer, expression: Expression, source: DType, target: DType) -> Expression:
    """IR casts: floats to integers truncate, to narrower floats round to nearest even."""
    fill = expression.fill if expression.fill == 0 else None
    if target is source:
        return expression
    if expression.is_literal:
        expression = w.typed(expression, source)
    if target.is_bool:
        wide = widened(w, expression, source)
        return w.binary("!=", wide, literal(0, f32 if source in F8 else source), bool_).with_fill(fill)
    if source in F8:
        return cast(w, widened(w, expression, source), f32, target)
    if target in F8:
        return narrowed(w, w.to(expression, f32), target)
    if target.name == "bf16" and (source.bits == 64 or source.is_integer):
        expression = w.to(expression, f32)
    if source.is_float and not target.is_float and target.bits < 32:
        expression = w.to(expression, i32 if target.kind == "int" else u32)
    if target is i64 and expression.dtype is i32 and not source.is_float:
        return expression  # fits into 32 bits
    if target is i64 and source.is_integer and source.bits < 32 and source.kind != "uint":
        return w.to(expression, i32).with_fill(fill)
    return w.to(expression, target).with_fill(fill)


def _random_bits(w: Writer, op: Op, operands: list[Expression]) -> Expression:
    seed, counters = (w.typed(o, i64) for o in operands)
    if w.interval(op.operands[1])[0] >= 0 and counters.dtype is i32:
        name = w.helper("_philox_32")
    else:
        name, counters = w.helper("_philox_64"), w.to(counters, i64)
    return w.call(name, seed, counters, dtype=u32, extra=str(op.attributes["word"]))

"""Products. Triton's `tl.dot` where it takes the operands; else a sum of outer products."""

from __future__ import annotations

from opdsl.ir.core import Op, Value
from opdsl.ir.types import DType, bf16, f16, f32, i32, shape_of
from opdsl.targets.triton.accesses import fill_lanes
from opdsl.targets.triton.elementwise import widened
from opdsl.targets.triton.expression import F8, Expression, Shape, type_name
from opdsl.targets.triton.padding import native_dot
from opdsl.targets.triton.shapes import size_of, take
from opdsl.targets.triton.writer import Writer


def dot(w: Writer, op: Op) -> None:
    """Remembers an accumulator that is added to the product: then it goes into `tl.dot`."""
    (result,) = op.results
    dtype = op.operands[0].type.dtype
    w.has_dot = True
    w.largest_dot = max(w.largest_dot, size_of(w.lanes(result)))
    if not native_dot(dtype):
        _outer_products(w, op)
        return
    a, b = (_operand(w, operand, axis) for operand, axis in zip(op.operands, (-1, -2), strict=True))
    shape = w.lanes(result)
    if len(shape) > 3:
        a, b = _three_dims(w, a), _three_dims(w, b)
    extra = ""
    w.written_out |= a.dtype is f32 and w.options.precision == "ieee"
    if a.dtype is f32:
        extra = f', input_precision="{w.options.precision}"'
    target = result.type.dtype
    if target is not f32:
        extra += f", out_dtype={type_name(target)}"
    text = f"tl.dot({a.text}, {b.text}{extra})"
    if len(shape) > 3:
        text = f"tl.reshape({text}, {list(shape)})"
    product = w.make(text, [a, b], target, shape=shape)
    adder = _accumulating(w, op)
    if adder is not None and len(shape) <= 3:
        w.products[result] = (a, b, extra)
        w.alias(result, product)
        return
    w.bind(result, product)


def _operand(w: Writer, value: Value, axis: int) -> Expression:
    """An operand with zeros beyond the end of the sum; 8-bit floats as f16, which holds them exactly."""
    logical, lanes = shape_of(value.type), w.lanes(value)
    dtype = value.type.dtype
    expression = w.materialize(w.value(value), lanes, dtype)
    if dtype in F8:
        expression = w.to(widened(w, expression, dtype), f16)
    if dtype is bf16 and w.options.upcast_bf16:
        expression = w.to(expression, f32)
    zero = 0.0 if dtype.is_float else 0
    return fill_lanes(w, expression, logical, lanes, zero, (axis % len(lanes),))


def _three_dims(w: Writer, expression: Expression) -> Expression:
    *batch, rows, columns = expression.shape
    shape = (size_of(tuple(batch)), rows, columns)
    return w.make(f"tl.reshape({expression.text}, {list(shape)})", [expression], expression.dtype, shape=shape)


def _accumulating(w: Writer, op: Op) -> Op | None:
    """The `add` that is the product's one user, in the same region."""
    (result,) = op.results
    users = w.facts.users[result]
    if len(users) != 1:
        return None
    user, region = users[0]
    if user.name == "add" and region is w.facts.region_of[result] and result not in w.slots:
        return user
    return None


def accumulated(w: Writer, op: Op) -> Expression | None:
    """`add` of an accumulator and a product, as one `tl.dot`; None where it is another add."""
    for product, other in (op.operands, op.operands[::-1]):
        parts = w.products.get(product)
        if parts is None:
            continue
        a, b, extra = parts
        shape = w.lanes(op.results[0])
        target: DType = op.results[0].type.dtype
        accumulator = w.materialize(w.value(other), shape, target)
        text = f"tl.dot({a.text}, {b.text}, {accumulator.text}{extra})"
        return w.make(text, [a, b, accumulator], target, shape=shape)
    return None


def _outer_products(w: Writer, op: Op) -> None:
    """Integers that tensor cores do not take: a column times a row for each step of the sum, wrapping in i32."""
    (result,) = op.results
    left, right = op.operands
    length = shape_of(left.type)[-1]
    shape: Shape = w.lanes(result)
    a, b = (
        w.name(w.to(w.materialize(w.value(v), w.lanes(v), v.type.dtype), i32), v.name or "operand")
        for v in (left, right)
    )
    total = w.code.fresh(result.name or "product")
    w.comment()
    w.code.line(f"{total} = tl.zeros({list(shape)}, tl.int32)")
    rank = len(shape)
    with w.code.scope() as inner:
        place = w.code.fresh("place")
        column, row = take(w, a, rank - 1, place, True), take(w, b, rank - 2, place, True)
        w.code.line(f"{total} += {column.text} * {row.text}")
    w.code.block(f"for {place} in range({length}):", inner)
    w.bind(result, Expression(total, shape, i32, level=w.code.level), keep=True)

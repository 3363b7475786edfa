"""The walk over a region's ops: each has its handler."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from opdsl.ir.core import Op
from opdsl.ir.ops import OPS
from opdsl.ir.types import DType, TensorType, i32, shape_of
from opdsl.targets.triton import accesses, control, dots, reductions, shapes, sorting
from opdsl.targets.triton.elementwise import elementwise
from opdsl.targets.triton.expression import Expression, literal
from opdsl.targets.triton.writer import LARGEST_TILE, Writer

Handler = Callable[[Writer, Op], None]


def _elementwise(w: Writer, op: Op) -> None:
    product = dots.accumulated(w, op) if op.name == "add" else None
    w.bind(op.results[0], product or elementwise(w, op))


def _constant(w: Writer, op: Op) -> None:
    dtype: DType = op.attributes["dtype"]
    w.alias(op.results[0], literal(op.attributes["value"], dtype))


def _dim(w: Writer, op: Op) -> None:
    w.alias(op.results[0], w.dim(op.attributes["symbol"]))


def _arange(w: Writer, op: Op) -> None:
    (lanes,) = w.lanes(op.results[0])
    if lanes == 1:
        w.alias(op.results[0], replace(literal(0, i32)))
        return
    w.alias(op.results[0], Expression(f"tl.arange(0, {lanes})", (lanes,), i32))


def _nothing(w: Writer, op: Op) -> None:
    """`breakpoint()` stops the interpreter only."""


HANDLERS: dict[str, Handler] = {
    "constant": _constant,
    "dim": _dim,
    "arange": _arange,
    "broadcast": shapes.broadcast,
    "reshape": shapes.reshape,
    "transpose": shapes.transpose,
    "concat": shapes.concat,
    "extract": shapes.extract,
    "dot": dots.dot,
    "reduce": reductions.reduce,
    "reduce_custom": reductions.reduce_custom,
    "arg_reduce": reductions.arg_reduce,
    "scan": reductions.scan,
    "scan_custom": reductions.scan_custom,
    "sort": sorting.sort,
    "copy_in": accesses.copy_in,
    "copy_out": accesses.copy_out,
    "for": control.for_loop,
    "while": control.while_loop,
    "if": control.branch,
    "parallel": control.parallel,
    "print": control.print_values,
    "assert": control.check,
    "breakpoint": _nothing,
}
for _name, _spec in OPS.items():
    if _spec.category == "elementwise":
        HANDLERS[_name] = _elementwise


def lower_ops(w: Writer, ops: Sequence[Op]) -> None:
    """Writes the ops of a region, without its yield."""
    for op in ops:
        w.current = op
        for result in op.results:
            _check_size(w, op, result)
        HANDLERS[op.name](w, op)
        w.current = op


def _check_size(w: Writer, op: Op, value: object) -> None:
    type = value.type  # type: ignore[attr-defined]
    if isinstance(type, TensorType) or not shape_of(type):
        return
    count = 1
    for size in w.lanes(value):  # type: ignore[arg-type]
        count *= size
    w.largest_tile = max(w.largest_tile, count)
    if count > LARGEST_TILE:
        raise w.refuse(
            f"takes tiles of at most {LARGEST_TILE} elements, and {type} takes {count} (dims count as powers of two)",
            "choose smaller tiles, by the kernel's constexprs",
        )

"""The handler of each op."""

from __future__ import annotations

from dataclasses import replace

from opdsl.ir.core import Op
from opdsl.ir.ops import OPS
from opdsl.ir.types import DType, i32
from opdsl.targets.triton import accesses, control, dots, reductions, shapes, sorting
from opdsl.targets.triton.elementwise import composition, elementwise
from opdsl.targets.triton.expression import Expression, literal
from opdsl.targets.triton.walk import HANDLERS
from opdsl.targets.triton.writer import Writer


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


HANDLERS.update(
    {
        "constant": _constant,
        "compose": composition,
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
)
for _name, _spec in OPS.items():
    if _spec.category == "elementwise":
        HANDLERS[_name] = _elementwise

"""The walk over a region's ops: each is written by its handler, of a table that `lowering` fills."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from opdsl.ir.core import Op
from opdsl.ir.types import TensorType, shape_of
from opdsl.targets.triton.writer import LARGEST_TILE, Writer

Handler = Callable[[Writer, Op], None]

HANDLERS: dict[str, Handler] = {}


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

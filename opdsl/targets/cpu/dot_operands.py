"""What the operands of a dot are: parts of tensors that need no copy of their own, or tiles in local memory."""

from __future__ import annotations

from dataclasses import dataclass

from opdsl.ir.core import Gather, Op, Slice, Value
from opdsl.ir.types import DType, bf16, f16, f32, shape_of
from opdsl.targets.cpu.facts import Facts, tensor_index


@dataclass(frozen=True)
class View:
    """A 2-d part of a tensor: a copy_in whose slices are dims `dims` of the tensor, in the order of the operand's axes.

    `dtype` is that of the tensor's elements: the operand may be a widening of them.
    """

    op: Op
    dims: tuple[int, int]
    dtype: DType


def widened_view(facts: Facts, value: Value) -> View | None:
    """The part of a tensor that a tile is equal to, seen through transpositions and casts from f16 and bf16 to f32."""
    flipped = False
    op = facts.op(value)
    while op is not None:
        if op.name == "transpose":
            if len(op.attributes["permutation"]) != 2:
                return None
            flipped ^= op.attributes["permutation"] == (1, 0)
        elif op.name == "cast":
            before = op.operands[0].type.dtype
            if before not in (f16, bf16) or op.attributes["dtype"] != f32:
                return None
        elif op.name == "copy_in":
            # What does not exist counts as nothing in a product, which is right for a pad of 0 only.
            pad = facts.op(op.operands[-1])
            nothing = pad is not None and pad.name == "constant" and pad.attributes["value"] == 0
            return _view(op, flipped) if nothing else None
        else:
            return None
        op = facts.op(op.operands[0])
    return None


def _view(op: Op, flipped: bool) -> View | None:
    specs = tensor_index(op)
    dims = [dim for dim, (spec, _) in enumerate(specs) if isinstance(spec, Slice)]
    if len(dims) != 2 or any(isinstance(spec, Gather) for spec, _ in specs) or len(shape_of(op.result.type)) != 2:
        return None
    ordered = (dims[1], dims[0]) if flipped else (dims[0], dims[1])
    return View(op, ordered, op.operands[0].type.dtype)

"""Loads by tensor descriptors, which from Hopper on the GPU's own copy engine carries out (TMA): a whole tile at a time,
no addresses and no masks in registers, zeros beyond the tensor's end.

Off unless the option `descriptors` asks for it: which way is faster has to be measured (`opdsl tune`). What does not
qualify is loaded by pointers, as without the option.
"""

from __future__ import annotations

from collections.abc import Sequence

from opdsl.ir.core import IndexSpec, Op, Point, Slice, Value
from opdsl.ir.types import TensorType, i32, shape_of
from opdsl.targets.triton.expression import Expression
from opdsl.targets.triton.writer import Writer, tensors_written

FIRST_CAPABILITY = 90  # sm_90 is the first with the copy engine
LARGEST_BOX = 256  # elements of a block along one dim (CUDA driver API, cuTensorMapEncodeTiled)
LEAST_ROW = 16  # bytes of a block along the dim whose stride is 1
MOST_DIMS = 5


def load_by_descriptor(w: Writer, op: Op) -> Expression | None:
    """The tile of a copy_in as a descriptor loads it; None where it has to go by pointers."""
    tensor, starts = op.operands[0], op.operands[1:-1]
    (result,) = op.results
    specs: Sequence[IndexSpec] = op.attributes["index"]
    order = _order(w, op)
    if order is None:
        return None
    at = [w.value(start) for start in starts]
    if any(start.dtype is not i32 and not start.is_literal for start in at):
        return None
    sizes = [spec.length if isinstance(spec, Slice) else 1 for spec in specs]
    block = [sizes[axis] for axis in order]
    name = w.facts.parameter(tensor)
    blocks = w.remembered(("descriptor", name, tuple(block)), f"{name}_blocks", _descriptor(w, tensor, order, block))
    text = f"{blocks.text}.load([{', '.join(at[axis].text for axis in order)}])"
    sliced = [axis for axis in order if isinstance(specs[axis], Slice)]
    shape = tuple(sizes[axis] for axis in sliced)
    if len(sliced) < len(order):
        text = f"{text}.reshape({list(shape)})"
    if sliced != sorted(sliced):
        text, shape = f"{text}.T", shape[::-1]
    return w.make(text, [blocks, *at], result.type.dtype, shape=shape)


def _descriptor(w: Writer, tensor: Value, order: Sequence[int], block: Sequence[int]) -> Expression:
    assert isinstance(tensor.type, TensorType)
    shape = [w.dim(tensor.type.dims[axis]) for axis in order]
    strides = [w.stride_name(tensor, axis) for axis in order[:-1]]
    text = (
        f"tl.make_tensor_descriptor({w.tensor(tensor)}, shape=[{', '.join(size.text for size in shape)}], "
        f"strides=[{', '.join([*strides, '1'])}], block_shape={list(block)})"
    )
    return w.make(text, [], tensor.type.dtype, shape=())


def _order(w: Writer, op: Op) -> list[int] | None:
    """The tensor's axes with the one of stride 1 last; None where no descriptor can load this."""
    tensor, pad = op.operands[0], w.value(op.operands[-1])
    (result,) = op.results
    specs: Sequence[IndexSpec] = op.attributes["index"]
    unit, rank = w.unit_axis(tensor), len(specs)
    boxes = {axis: spec for axis, spec in enumerate(specs) if isinstance(spec, Slice)}
    if not (w.options.descriptors and _has_engine(w) and w.options.index_bits == 32 and _feeds_product(w, result)):
        return None
    if unit not in boxes or len(boxes) != 2 or rank > MOST_DIMS or repr(pad.number) not in ("0", "0.0"):
        return None
    if any(not isinstance(spec, Slice | Point) for spec in specs) or w.lanes(result) != shape_of(result.type):
        return None
    if any(box.step != 1 or box.length > LARGEST_BOX for box in boxes.values()):
        return None
    if boxes[unit].length * result.type.dtype.bytes < LEAST_ROW or not _describable(w, tensor):
        return None
    # The copy engine does not see what this launch itself has stored.
    if any(w.facts.shared(tensor, written) for written in tensors_written(w.kernel)):
        return None
    return [*(axis for axis in range(rank) if axis != unit), unit]


def _has_engine(w: Writer) -> bool:
    arch = w.facts.arch
    return arch.vendor == "cuda" and int(arch.identity) >= FIRST_CAPABILITY


def _describable(w: Writer, tensor: Value) -> bool:
    """Whether the tensor's address and strides are as descriptors need them (`arguments.hints`)."""
    known = w.options.aligned
    name = w.kernel.parameter_names[w.kernel.parameters.index(tensor)]
    return known is None or (name, "descriptor", -1) in known


def _feeds_product(w: Writer, tile: Value) -> bool:
    """Whether products take the tile, as it is or transposed, and nothing else does."""
    users = [user for user, _ in w.facts.users[tile]]
    return bool(users) and all(
        user.name == "dot" or (user.name == "transpose" and _feeds_product(w, user.results[0])) for user in users
    )

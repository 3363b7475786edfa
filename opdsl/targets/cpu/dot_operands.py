"""What the operands of a dot are: parts of tensors that need no copy of their own, or tiles in local memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from opdsl.analysis.facts import Facts, tensor_index, tensor_of
from opdsl.analysis.ranges import constant
from opdsl.ir.core import Gather, Op, Point, Slice, Value
from opdsl.ir.types import DType, TensorType, bf16, f16, f32, shape_of
from opdsl.targets.cpu.accesses import clip_of
from opdsl.targets.cpu.code import STORAGE
from opdsl.targets.cpu.loop_ir import Buffer
from opdsl.targets.cpu.tables import Tables


@dataclass(frozen=True)
class View:
    """A 2-d part of a tensor: an access whose slices are dims `dims` of the tensor, in the order of the operand's axes.

    `dtype` is that of the tensor's elements: the operand may be a widening of them. Side 0 is the rows, side 1 the
    columns.
    """

    op: Op
    dims: tuple[int, int]
    dtype: DType

    @property
    def tensor(self) -> Value:
        return tensor_of(self.op)

    def slice(self, side: int) -> tuple[Slice, Value]:
        """The slice of one side, and where it starts."""
        spec, start = tensor_index(self.op)[self.dims[side]]
        assert isinstance(spec, Slice)
        return spec, start

    def size(self, side: int) -> int | str:
        """How many places the tensor has along one side."""
        type = self.tensor.type
        assert isinstance(type, TensorType)
        return type.dims[self.dims[side]]

    def places(self, side: int) -> tuple[object, ...]:
        """What decides which places of one side exist."""
        spec, start = self.slice(side)
        return (start, spec.length, spec.step, self.size(side))

    def transposed(self) -> View:
        return View(self.op, (self.dims[1], self.dims[0]), self.dtype)


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
            view = _view(op) if nothing else None
            return view.transposed() if view is not None and flipped else view
        else:
            return None
        op = facts.op(op.operands[0])
    return None


def _view(op: Op) -> View | None:
    specs = tensor_index(op)
    dims = [dim for dim, (spec, _) in enumerate(specs) if isinstance(spec, Slice)]
    if len(dims) != 2 or any(isinstance(spec, Gather) for spec, _ in specs) or len(shape_of(op.result.type)) != 2:
        return None
    return View(op, (dims[0], dims[1]), op.operands[0].type.dtype)


@dataclass(frozen=True)
class Matrix:
    """An operand in memory: address of element (0, 0), strides, which rows and columns exist, and whether any do."""

    pointer: str
    strides: tuple[str, str]
    ranges: tuple[tuple[str, str], tuple[str, str]]
    condition: str | None = None


def view_matrix(tables: Tables, view: View) -> Matrix:
    """A part of a tensor as an operand. Defines its address at the current level."""
    code, op = tables.code, view.op
    tensor = tables.tensors[view.tensor]
    parts, conditions = [tensor.pointer], []
    for dim, (spec, operand) in enumerate(tensor_index(op)):
        register = tables.scalars[operand]
        if constant(tables.facts, operand) != 0:
            parts.append(f"{register.text} * {tensor.strides[dim]}")
        if isinstance(spec, Point):
            conditions.append(f"od::inside({register.text}, {tensor.sizes[dim]})")
    pointer = code.define("p", f"{STORAGE[tensor.dtype]}*", " + ".join(parts), code.level)
    ranges, strides = [], []
    for side, dim in enumerate(view.dims):
        spec, _ = view.slice(side)
        clip = clip_of(tables, op, dim)
        ranges.append(("0", str(spec.length)) if clip is None else (clip.low, clip.high))
        stride = tensor.strides[dim]
        strides.append(stride if spec.step == 1 else f"({spec.step} * {stride})")
    condition = code.define("ok", "bool", " && ".join(conditions), code.level) if conditions else None
    return Matrix(pointer, (strides[0], strides[1]), (ranges[0], ranges[1]), condition)


def local_matrix(buffer: Buffer, shape: tuple[int, ...]) -> Matrix:
    """A tile in local memory as an operand."""
    rows, columns = shape
    strides = (str(buffer.strides[0]), str(buffer.strides[1]))
    return Matrix(buffer.name, strides, (("0", str(rows)), ("0", str(columns))))


def address(pointer: str, terms: Sequence[tuple[str, str]]) -> str:
    """A pointer moved by starts, each times its stride."""
    return " + ".join([pointer, *(f"{start} * {stride}" for start, stride in terms if start != "0")])


def extent(low: str, high: str) -> str:
    """How many places there are from `low` to `high`."""
    return high if low == "0" else f"od::larger({high} - {low}, 0)"

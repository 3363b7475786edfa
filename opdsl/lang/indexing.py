"""Subscripts: `x[i:i + 8, j]` names a place in a tensor, `t[:, None]` and `t[0:4]` reshape and slice a tile."""

from __future__ import annotations

from collections.abc import Sequence
from types import EllipsisType

from opdsl.ir.core import Gather, IndexSpec, Point, Slice, Value
from opdsl.ir.types import i64
from opdsl.lang import context
from opdsl.lang.operators import (
    broadcast_shapes,
    check_operand,
    form_of,
    index_scalar,
    to_value,
)
from opdsl.lang.values import Place, Scalar, TensorView, Tile, describe, wrap
from opdsl.support.errors import Misuse


def expand_ellipsis(index: Sequence[object], rank: int, what: str) -> list[object]:
    """Replaces `...` by the `:` it stands for and appends those that are left out."""
    indices = sum(1 for item in index if item is not None and not isinstance(item, EllipsisType))
    if indices > rank:
        raise Misuse(
            f"{what} has {rank} dim{'s' * (rank != 1)}, but {indices} indices are given", "give one index for each dim"
        )
    fill = [slice(None)] * (rank - indices)
    dots = [place for place, item in enumerate(index) if isinstance(item, EllipsisType)]
    if len(dots) > 1:
        raise Misuse("an index has at most one `...`", "write : for each further dim")
    if not dots:
        return [*index, *fill]
    return [*index[: dots[0]], *fill, *index[dots[0] + 1 :]]


def _bound(value: object, what: str) -> Scalar | int:
    if type(value) is int:
        return value
    return index_scalar(value, what)


def _slice_step(step: object) -> int:
    if step is None:
        return 1
    if isinstance(step, Scalar):
        raise Misuse("the step of a slice is a run-time value", "make it a constexpr")
    if type(step) is not int or step < 1:
        raise Misuse(
            f"the step of a slice is {describe(step)}, where a whole number of at least 1 is needed",
            "to reverse a tile, slice it after od.copy_in: t[::-1]",
        )
    return step


def tensor_slice(item: slice, dim: int | Scalar, name: str, axis: int) -> tuple[Slice, Scalar | int]:
    """The static length and the start of one slice of a tensor."""
    step = _slice_step(item.step)
    what = f"dim {axis} of {name!r}"
    start = 0 if item.start is None else _bound(item.start, f"the start of the slice of {what}")
    if item.stop is None:
        if not isinstance(dim, int) and type(start) is int and start < 0:
            raise Misuse(
                f"the slice of {what} begins at {start}: what is before a tensor's begin does not count from its end",
                f"write {name}.shape[{axis}] - {-start} for the place {-start} before the end, and a length",
            )
        if not isinstance(dim, int):
            raise Misuse(
                f"{what} has a size known only at run time, so a slice of it to its end has no static length",
                f"name its size in a constexpr of the kernel (`{dim.value.name}: od.constexpr`) to specialise on it, "
                "or slice a block: [start:start + BLOCK]",
            )
        if type(start) is int and start < 0:
            raise Misuse(
                f"the slice of {what} starts at {start}, out of bounds: negative indices do not count from the end",
                f"write {dim + start}: in place of {start}:",
            )
        stop: Scalar | int = dim
    else:
        stop = _bound(item.stop, f"the stop of the slice of {what}")
    length = form_of(stop).plus(form_of(start), -1)
    if not length.is_constant:
        raise Misuse(
            f"the length of the slice of {what} is not a constant: stop - start depends on run-time values",
            "write [start:start + BLOCK] with a constexpr BLOCK; what sticks out of bounds reads `pad`, and is not written",
        )
    count = -(-length.constant // step)
    if count < 1:
        hint = "stop must be greater than start"
        if type(stop) is int and stop < 0:
            hint = "negative indices do not count from the end; write the size of the dim minus a number"
        raise Misuse(f"the slice of {what} is empty (its length is {length.constant})", hint)
    if type(start) is int and start + (count - 1) * step < 0:
        raise Misuse(
            f"the slice of {what} lies wholly before its first element: negative indices do not count from the end",
            "write the size of the dim minus a number",
        )
    return Slice(count, step), start


def tensor_place(tensor: TensorView, index: Sequence[object]) -> Place:
    """`tensor[index]`."""
    if any(item is None for item in index):
        raise Misuse("None in the index of a tensor", "add dims to the tile: od.copy_in(...)[:, None]")
    items = expand_ellipsis(index, len(tensor.shape), f"the tensor {tensor.name!r}")
    specs: list[IndexSpec] = []
    operands: list[Value | None] = []
    gathers: list[Tile] = []
    for axis, (item, dim) in enumerate(zip(items, tensor.shape, strict=True)):
        if isinstance(item, Tile):
            gathers.append(item)
        try:
            spec, operand = _index_item(tensor, item, dim, axis)
        except Misuse as misuse:
            misuse.subject = item
            raise
        specs.append(spec)
        operands.append(operand)
    return _finish_place(tensor, specs, operands, gathers)


def _index_item(tensor: TensorView, item: object, dim: int | Scalar, axis: int) -> tuple[IndexSpec, Value | None]:
    """One index of a tensor and its operand; None where that is a tile, which is broadcast with the others first."""
    what = f"the index of dim {axis} of {tensor.name!r}"
    if isinstance(item, slice):
        spec, start = tensor_slice(item, dim, tensor.name, axis)
        return spec, to_value(start, i64)
    if isinstance(item, Tile):
        if not item.dtype.is_integer:
            hint = "for a mask, read all and choose with od.where" if item.dtype.is_bool else "od.cast it to od.i64"
            raise Misuse(f"{what} is {describe(item)}, where integers are needed", hint)
        return Gather(), None
    if type(item) is int and item < 0:
        raise Misuse(
            f"{what} is {item}, which is out of bounds: negative indices do not count from the end",
            f"write {tensor.name}.shape[{axis}] - {-item}",
        )
    return Point(), index_scalar(item, what).value


def _finish_place(
    tensor: TensorView, specs: list[IndexSpec], operands: list[Value | None], gathers: list[Tile]
) -> Place:
    places = [place for place, spec in enumerate(specs) if isinstance(spec, Gather)]
    if places and places[-1] - places[0] != len(places) - 1:
        raise Misuse(
            f"the index tiles of {tensor.name!r} stand apart, with other indices between them",
            "index with tiles in neighbouring dims only; a scalar between them can be made a tile with od.full",
        )
    gathered = broadcast_shapes([tile.shape for tile in gathers], "the index tiles")
    tiles = iter(gathers)
    values = tuple(to_value(next(tiles), i64, gathered) if o is None else o for o in operands)
    shape: list[int] = []
    for place, spec in enumerate(specs):
        if isinstance(spec, Slice):
            shape.append(spec.length)
        elif isinstance(spec, Gather) and place == places[0]:
            shape.extend(gathered)
    return Place(tensor, tuple(specs), values, tuple(shape))


def tile_subscript(tile: Tile, index: Sequence[object]) -> Tile | Scalar:
    """`tile[index]`: static slices, integers and None, as in NumPy (negative indices count from the end)."""
    items = expand_ellipsis(index, len(tile.shape), "the tile")
    starts: list[int] = []
    sizes: list[int] = []
    steps: list[int] = []
    shape: list[int] = []
    axes = iter(tile.shape)
    for item in items:
        if item is None:
            shape.append(1)
            continue
        extent = next(axes)
        axis = len(starts)
        if isinstance(item, slice):
            for part in (item.start, item.stop, item.step):
                if part is not None and type(part) is not int:
                    raise Misuse(
                        f"a slice of a tile has {describe(part)} as a bound; tiles are sliced at constexpr places only",
                        "slice the tensor instead, in od.copy_in, or choose with od.where",
                        item,
                    )
            chosen = range(extent)[item]
            if not chosen:
                raise Misuse(
                    f"the slice of dim {axis} of the tile is empty (the dim has {extent} elements)",
                    "every dim of a tile has at least 1 element",
                    item,
                )
            starts.append(chosen.start)
            sizes.append(len(chosen))
            steps.append(chosen.step if len(chosen) > 1 else 1)
            shape.append(len(chosen))
        else:
            starts.append(_tile_point(item, extent, axis))
            sizes.append(1)
            steps.append(1)
    builder = context.builder()
    value = tile.value
    if tuple(sizes) != tile.shape or any(step != 1 for step in steps):
        value = builder.value("extract", value, starts=tuple(starts), sizes=tuple(sizes), steps=tuple(steps))
    if tuple(shape) != tuple(sizes):
        value = builder.value("reshape", value, shape=tuple(shape))
    return wrap(value)


def _tile_point(item: object, extent: int, axis: int) -> int:
    if isinstance(item, Tile | Scalar):
        raise Misuse(
            f"the index of dim {axis} of the tile is {describe(item)}; tiles are indexed at constexpr places only",
            "gather from the tensor in od.copy_in instead, or select: od.sum(od.where(od.arange(N) == i, t, 0))",
            item,
        )
    if type(item) is not int:
        raise Misuse(
            f"the index of dim {axis} of the tile is {describe(item)}, where a whole number is needed", "", item
        )
    if not -extent <= item < extent:
        raise Misuse(
            f"index {item} is out of bounds for dim {axis} of the tile, which has {extent} elements",
            f"the indices are {-extent} to {extent - 1}",
            item,
        )
    return item % extent


def subscript(value: object, index: Sequence[object]) -> object:
    """`value[index]` where the value or the index is of run time."""
    if isinstance(value, TensorView):
        return tensor_place(value, index)
    if isinstance(value, Tile):
        return tile_subscript(value, index)
    if isinstance(value, Place):
        raise Misuse(
            f"{describe(value)} is indexed again", f"give all indices at once: {value.tensor.name}[first, second]"
        )
    if isinstance(value, Scalar):
        raise Misuse(f"{describe(value)} is indexed; a scalar has no dims", "use it without [ ]")
    raise Misuse(
        f"{describe(value)} is indexed with a run-time value",
        "index Python objects with constexprs; loop with od.unrolled to make the index one",
    )


def place_of(value: object, what: str) -> Place:
    """The place that copy_in and copy_out are given: an indexed tensor, or a whole one of known size."""
    if isinstance(value, Place):
        return value
    if isinstance(value, TensorView):
        return tensor_place(value, ())
    check = check_operand(value, what)
    raise Misuse(
        f"{what} is {describe(check)}, where part of a tensor is needed", "index a tensor argument: x[i:i + BLOCK]"
    )

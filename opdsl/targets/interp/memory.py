"""copy_in and copy_out: which elements an access touches, and moving them.

An access is resolved to a `Region`: NumPy indices of the elements that lie inside the tensor, and where those
elements lie in the tile. Without gathers both are slices; with gathers both are index arrays and a mask.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from opdsl.ir.core import Gather, IndexSpec, Point, Slice
from opdsl.ir.semantics.values import Array

NumpyIndex = tuple[Any, ...]


@dataclass(frozen=True)
class Touched:
    """`tensor[inside]` and `tile[place]` are the elements that an access moves, in the same order and shape."""

    inside: NumpyIndex
    place: NumpyIndex
    shape: tuple[int, ...]  # of the tile
    empty: bool  # no element lies inside
    repeats: bool  # one element may be there twice


def resolve(extents: Sequence[int], index: Sequence[IndexSpec], operands: Sequence[Array]) -> Touched:
    """The elements of a tensor with these extents that `tensor[index]` touches."""
    if any(isinstance(spec, Gather) for spec in index):
        return _resolve_gather(extents, index, operands)
    inside: list[Any] = []
    place: list[Any] = []
    shape: list[int] = []
    empty = False
    for extent, spec, operand in zip(extents, index, operands, strict=True):
        start = int(operand)
        if isinstance(spec, Slice):
            first = max(0, -(start // spec.step)) if start < 0 else 0
            last = min(spec.length, max(0, -((start - extent) // spec.step)))
            begin = start + first * spec.step
            inside.append(slice(begin, begin + max(0, last - first) * spec.step, spec.step))
            place.append(slice(first, max(first, last)))
            shape.append(spec.length)
            empty |= first >= last
        else:
            inside.append(start)
            empty |= not 0 <= start < extent
    return Touched(tuple(inside), tuple(place), tuple(shape), empty, False)


def _resolve_gather(extents: Sequence[int], index: Sequence[IndexSpec], operands: Sequence[Array]) -> Touched:
    shape: list[int] = []
    starts: list[int | None] = []  # the first axis of the tile that each dim's index spans
    gathered: int | None = None
    for spec, operand in zip(index, operands, strict=True):
        if isinstance(spec, Slice):
            starts.append(len(shape))
            shape.append(spec.length)
        elif isinstance(spec, Gather):
            if gathered is None:
                gathered = len(shape)
                shape.extend(operand.shape)
            starts.append(gathered)
        else:
            starts.append(None)
    places: list[Array] = []
    mask = np.ones(tuple(shape), np.bool_)
    for extent, spec, operand, axis in zip(extents, index, operands, starts, strict=True):
        where = int(operand) + spec.step * np.arange(spec.length) if isinstance(spec, Slice) else np.asarray(operand)
        if axis is not None:
            where = where.reshape(where.shape + (1,) * (len(shape) - axis - where.ndim))
        mask &= (where >= 0) & (where < extent)
        places.append(np.broadcast_to(where, tuple(shape)))
    inside = tuple(p[mask] for p in places)
    return Touched(inside, (mask,), tuple(shape), not mask.any(), True)


def load(tensor: Array, touched: Touched, pad: Array) -> Array:
    if not touched.shape:
        return pad if touched.empty else np.array(tensor[touched.inside])
    tile = np.full(touched.shape, pad, tensor.dtype)
    if not touched.empty:
        tile[touched.place] = tensor[touched.inside]
    return tile


_COMBINE: dict[str, Any] = {"add": np.add, "max": np.maximum, "min": np.minimum}


def store(tensor: Array, touched: Touched, value: Array, mode: str) -> None:
    """Of elements that one access touches twice, `set` keeps the last in row-major order; the other modes combine
    all, in that order, rounding to the tensor's type each time."""
    if touched.empty:
        return
    moved = value[touched.place]
    if mode == "set":
        tensor[touched.inside] = moved
    elif touched.repeats:
        _COMBINE[mode].at(tensor, touched.inside, moved)
    else:
        combine: Callable[..., Any] = _COMBINE[mode]
        tensor[touched.inside] = combine(tensor[touched.inside], moved)


def missed_by(
    extents: Sequence[int], index: Sequence[IndexSpec], operands: Sequence[Array]
) -> tuple[int, int, int] | None:
    """Where a slice or point has nothing inside its dim: (dim, how far from it, the elements that it spans).

    Gathers do not count: an index that is out of range is the way to leave an element out.
    """
    worst: tuple[int, int, int] | None = None
    for dim, (extent, spec, operand) in enumerate(zip(extents, index, operands, strict=True)):
        if isinstance(spec, Gather):
            continue
        start = int(operand)
        span = 1 if isinstance(spec, Point) else (spec.length - 1) * spec.step + 1
        distance = max(start - extent + 1, -(start + span - 1))
        if distance > 0 and (worst is None or distance > worst[1]):
            worst = (dim, distance, span)
    return worst

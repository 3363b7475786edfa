"""Making tiles and changing their shapes. Shapes are known while compiling; elements keep their row-major order."""

from __future__ import annotations

import builtins
import math
from collections.abc import Sequence
from typing import Any

from opdsl.ir.types import i64
from opdsl.lang import context
from opdsl.lang.builtins_math import AnyDType, check_dtype
from opdsl.lang.context import builtin
from opdsl.lang.operators import cast_operand, check_operand, to_value
from opdsl.lang.promotion import common, number_dtype
from opdsl.lang.values import Operand, Scalar, Tile, describe, show_shape, wrap
from opdsl.support.errors import Misuse


def check_shape(shape: object, what: str, given: object = None) -> tuple[int, ...]:
    """A shape given as a number or a tuple of numbers; all known while compiling and at least 1."""
    dims = tuple(shape) if isinstance(shape, tuple | list) else (shape,)
    subject = shape if given is None else given
    for dim in dims:
        if isinstance(dim, Scalar):
            name = dim.value.name
            raise Misuse(
                f"{what} holds {name and repr(name) + ', '}{describe(dim)}; the shape of a tile is known while compiling",
                "use a constexpr (a constexpr named as a dim of a tensor gets its size), or a fixed BLOCK and a loop",
                subject,
            )
        if type(dim) is not int:
            raise Misuse(f"{what} holds {describe(dim)}, where whole numbers are needed", "use // for /", subject)
        if dim < 1:
            message = f"{what} is {show_shape(dims)}; every dim of a tile has at least 1 element"
            raise Misuse(message, "an empty part needs no tile: skip it with a constexpr `if`", subject)
    return dims


def check_axis(axis: object, rank: int, what: str) -> int:
    """An axis, counted from the end where it is negative."""
    if type(axis) is not int:
        raise Misuse(
            f"{what} is {describe(axis)}, where a whole number is needed", "count dims from 0, or -1 from the end", axis
        )
    if not -rank <= axis < rank:
        raise Misuse(
            f"{what} is {axis}, but the tile has {rank} dim{'s' * (rank != 1)}",
            f"the axes are {-rank} to {rank - 1}",
            axis,
        )
    return axis % rank


def check_tile(x: object, name: str) -> Tile:
    operand = check_operand(x, f"the argument of od.{name}")
    if not isinstance(operand, Tile):
        raise Misuse(f"od.{name} takes a tile, not {describe(operand)}", "od.full makes a tile of a number", x)
    return operand


@builtin("full")
def full(shape: int | Sequence[int], value: Operand, dtype: AnyDType | None = None) -> Tile | Scalar:
    """A tile of `shape` with `value` (a number or a scalar) in every element.

    Without `dtype`: the scalar's own dtype; for Python numbers i64, f32 or bool.
    """
    return _filled("full", shape, value, dtype)


def _filled(name: str, shape: object, value: object, dtype: object) -> Tile | Scalar:
    dims = check_shape(shape, f"the shape of od.{name}")
    operand = check_operand(value, "the value of od.full")
    if isinstance(operand, Tile):
        message = f"the value of od.full is {describe(operand)}, where a scalar is needed"
        raise Misuse(message, "use od.broadcast_to", value)
    if dtype is None:
        chosen = operand.dtype if isinstance(operand, Scalar) else number_dtype(operand)
    else:
        chosen = check_dtype(dtype, f"the dtype of od.{name}")
    return wrap(to_value(operand, chosen, dims or None))


@builtin("zeros")
def zeros(shape: int | Sequence[int], dtype: AnyDType) -> Tile | Scalar:
    """A tile of `shape` full of zeros."""
    return _filled("zeros", shape, 0, check_dtype(dtype, "the dtype of od.zeros"))


@builtin("ones")
def ones(shape: int | Sequence[int], dtype: AnyDType) -> Tile | Scalar:
    """A tile of `shape` full of ones."""
    return _filled("ones", shape, 1, check_dtype(dtype, "the dtype of od.ones"))


@builtin("arange")
def arange(start: int, stop: int | None = None, step: int = 1, dtype: AnyDType = i64) -> Any:
    """The i64 tile start, start + step, ... below stop; `arange(n)` counts from 0. All known while compiling.

    For a run-time start add it: `i + od.arange(BLOCK)`.
    """
    first, last = (0, start) if stop is None else (start, stop)
    bounds: tuple[object, ...] = (first, last, step)
    for bound in bounds:
        if isinstance(bound, Scalar):
            raise Misuse(
                f"a bound of od.arange is {describe(bound)}; the length of a tile is known while compiling",
                "add the run-time start: start + od.arange(BLOCK)",
                bound,
            )
        if type(bound) is not int:
            raise Misuse(
                f"a bound of od.arange is {describe(bound)}, where whole numbers are needed", "use // for /", bound
            )
    if step == 0:
        raise Misuse("the step of od.arange is 0", "give a step of at least 1, or a negative one to count down")
    chosen = range(first, last, step)
    if not chosen:
        raise Misuse(
            f"od.arange has no elements from {first} to {last} in steps of {step}", "a tile has at least 1 element"
        )
    from opdsl.lang.operators import binary

    tile: Scalar | Tile = Tile(context.builder().value("arange", length=len(chosen)))
    tile = binary("add", binary("mul", tile, step), first)
    return cast_operand(tile, check_dtype(dtype, "the dtype of od.arange"))


def reshaped(operand: Scalar | Tile, shape: tuple[int, ...]) -> Scalar | Tile:
    return operand if operand.shape == shape else wrap(context.builder().value("reshape", operand.value, shape=shape))


def _operand(x: object, name: str) -> Scalar | Tile:
    operand = check_operand(x, f"the argument of od.{name}")
    if not isinstance(operand, Scalar | Tile):
        raise Misuse(f"od.{name} takes a tile or a run-time scalar, not {describe(operand)}", "make it a tile: od.full")
    return operand


@builtin("reshape")
def reshape(x: Operand, shape: int | Sequence[int], *more: int) -> Scalar | Tile:
    """`x` with another shape of as many elements; one dim may be -1 for what is left. () gives a scalar."""
    operand = _operand(x, "reshape")
    given: Any = (shape, *more) if more else shape
    dims = list(given) if isinstance(given, tuple | list) else [given]
    size = math.prod(operand.shape)
    if dims.count(-1) > 1:
        raise Misuse(
            f"the shape of od.reshape is {show_shape(dims)}; one dim at most is -1", "name the other sizes", shape
        )
    if -1 in dims:
        rest = math.prod(d for d in dims if d != -1) if all(type(d) is int for d in dims) else 0
        dims[dims.index(-1)] = size // rest if rest and size % rest == 0 else 1
    shape = check_shape(tuple(dims), "the shape of od.reshape")
    if math.prod(shape) != size:
        asked = given if isinstance(given, tuple | list) else (given,)
        raise Misuse(
            f"od.reshape of a tile of shape {show_shape(operand.shape)} to {show_shape(asked)}",
            f"the sizes must multiply to its {size} elements" + (", whatever -1 stands for" if -1 in asked else ""),
        )
    return reshaped(operand, shape)


@builtin("broadcast_to")
def broadcast_to(x: Operand, shape: int | Sequence[int]) -> Scalar | Tile:
    """`x` repeated to `shape` by NumPy's rule."""
    operand = check_operand(x, "the argument of od.broadcast_to")
    dims = check_shape(shape, "the shape of od.broadcast_to")
    dtype = operand.dtype if isinstance(operand, Scalar | Tile) else number_dtype(operand)
    have = operand.shape if isinstance(operand, Scalar | Tile) else ()
    fits = len(have) <= len(dims) and all(n in (1, m) for n, m in zip(reversed(have), reversed(dims), strict=False))
    if not fits:
        raise Misuse(
            f"a tile of shape {show_shape(have)} does not broadcast to {show_shape(dims)}",
            "sizes must be equal or 1, compared from the last dim",
        )
    return wrap(to_value(operand, dtype, dims or None))


@builtin("transpose")
def transpose(x: Operand, permutation: Sequence[int] | None = None) -> Scalar | Tile:
    """`x` with its dims permuted: dim i of the result is dim permutation[i] of `x`; all reversed by default."""
    operand = _operand(x, "transpose")
    rank = len(operand.shape)
    if permutation is None:
        order = tuple(reversed(range(rank)))
    else:
        if not isinstance(permutation, tuple | list):
            raise Misuse(
                f"the permutation of od.transpose is {describe(permutation)}, where a tuple is needed",
                "write (1, 0)",
                permutation,
            )
        order = tuple(check_axis(axis, rank, "an axis of od.transpose") for axis in permutation)
        if sorted(order) != list(range(rank)):
            raise Misuse(
                f"the permutation of od.transpose is {show_shape(permutation)}, but the tile has {rank} dims",
                f"name each of the axes 0 to {rank - 1} once",
            )
    if order == tuple(range(rank)):
        return operand
    return wrap(context.builder().value("transpose", operand.value, permutation=order))


@builtin("expand_dims")
def expand_dims(x: Operand, axis: int | tuple[int, ...]) -> Scalar | Tile:
    """`x` with a dim of size 1 put in at `axis` (of the result), or at each of several."""
    operand = _operand(x, "expand_dims")
    axes = axis if isinstance(axis, tuple) else (axis,)
    rank = len(operand.shape) + len(axes)
    places = {check_axis(a, rank, "the axis of od.expand_dims") for a in axes}
    if len(places) != len(axes):
        raise Misuse(f"the axes of od.expand_dims repeat: {axes}", "name each place once", axis)
    sizes = iter(operand.shape)
    return reshaped(operand, tuple(1 if place in places else next(sizes) for place in range(rank)))


@builtin("squeeze")
def squeeze(x: Operand, axis: int | tuple[int, ...] | None = None) -> Scalar | Tile:
    """`x` without its dims of size 1: all of them, or those of `axis`. Without any left, a scalar."""
    operand = _operand(x, "squeeze")
    shape = operand.shape
    if axis is None:
        return reshaped(operand, tuple(n for n in shape if n != 1))
    axes = {check_axis(a, len(shape), "the axis of od.squeeze") for a in (axis if isinstance(axis, tuple) else (axis,))}
    for place in axes:
        if shape[place] != 1:
            raise Misuse(f"od.squeeze of dim {place}, which has {shape[place]} elements", "only a dim of 1 can go")
    return reshaped(operand, tuple(n for place, n in enumerate(shape) if place not in axes))


def _tiles(tiles: object, name: str) -> list[Tile]:
    if not isinstance(tiles, tuple | list) or not tiles:
        raise Misuse(f"od.{name} takes a tuple of tiles, not {describe(tiles)}", f"write od.{name}((a, b), axis=0)")
    return [check_tile(t, name) for t in tiles]


@builtin("concat")
def concat(tiles: Sequence[Tile], axis: int = 0) -> Tile:
    """The tiles one after the other along `axis`; their other sizes are equal. Mixed dtypes are promoted."""
    parts = _tiles(tiles, "concat")
    rank = len(parts[0].shape)
    place = check_axis(axis, rank, "the axis of od.concat")
    for part in parts[1:]:
        same = len(part.shape) == rank and all(
            n == m for i, (n, m) in enumerate(zip(part.shape, parts[0].shape, strict=True)) if i != place
        )
        if not same:
            raise Misuse(
                f"od.concat of shapes {show_shape(parts[0].shape)} and {show_shape(part.shape)} along axis {place}",
                "all sizes but the one along the axis must be equal",
            )
    dtype = common(*parts)
    values = [to_value(part, dtype) for part in parts]
    return Tile(values[0] if len(values) == 1 else context.builder().value("concat", *values, axis=place))


@builtin("stack")
def stack(tiles: Sequence[Tile], axis: int = 0) -> Tile:
    """Tiles (or scalars) of one shape side by side along a new dim at `axis`."""
    if not isinstance(tiles, tuple | list) or not tiles:
        raise Misuse(f"od.stack takes a tuple of tiles, not {describe(tiles)}", "write od.stack((a, b), axis=0)")
    parts: list[Any] = [expand_dims(t, axis) for t in tiles]
    place = check_axis(axis, len(parts[0].shape), "the axis of od.stack")
    return concat(parts, place)


@builtin("split")
def split(x: Operand, parts: int, axis: int = 0) -> tuple[Tile, ...]:
    """`x` cut into `parts` tiles of equal size along `axis`."""
    tile = check_tile(x, "split")
    place = check_axis(axis, len(tile.shape), "the axis of od.split")
    size = tile.shape[place]
    if type(parts) is not int or parts < 1 or size % parts:
        raise Misuse(
            f"od.split of {size} elements into {describe(parts)} equal parts", f"give a divisor of {size}", parts
        )
    each = size // parts
    sizes = tuple(each if i == place else n for i, n in enumerate(tile.shape))
    found = []
    for number in range(parts):
        starts = tuple(number * each if i == place else 0 for i in range(len(sizes)))
        value = context.builder().value("extract", tile.value, starts=starts, sizes=sizes, steps=(1,) * len(sizes))
        found.append(Tile(value))
    return builtins.tuple(found)


@builtin("flip")
def flip(x: Operand, axis: int = -1) -> Tile:
    """`x` reversed along `axis`."""
    tile = check_tile(x, "flip")
    place = check_axis(axis, len(tile.shape), "the axis of od.flip")
    last = tile.shape[place] - 1
    starts = tuple(last if i == place else 0 for i in range(len(tile.shape)))
    steps = tuple(-1 if i == place else 1 for i in range(len(tile.shape)))
    return Tile(context.builder().value("extract", tile.value, starts=starts, sizes=tile.shape, steps=steps))

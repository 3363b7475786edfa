"""Reductions, scans, sorting and dot."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from opdsl.ir.core import Region, Value
from opdsl.ir.ops import dot_result_dtype
from opdsl.ir.types import DType, ScalarType, f32
from opdsl.lang import context
from opdsl.lang.builtins_shape import check_axis, check_tile, reshaped
from opdsl.lang.context import builtin
from opdsl.lang.operators import binary, broadcast_shapes, cast_operand, check_operand, compare, to_value
from opdsl.lang.values import Operand, Scalar, Tile, describe, show_shape, wrap
from opdsl.support.errors import Misuse

Axes = int | tuple[int, ...] | None


def _axes(axis: Axes, tile: Tile, name: str) -> tuple[int, ...]:
    rank = len(tile.shape)
    if axis is None:
        return tuple(range(rank))
    given = tuple(axis) if isinstance(axis, tuple | list) else (axis,)
    axes = tuple(sorted(check_axis(a, rank, f"the axis of od.{name}") for a in given))
    if len(set(axes)) != len(axes) or not axes:
        raise Misuse(f"the axes of od.{name} are {show_shape(given)}", "name at least one axis, and each once")
    return axes


def _reduced(tile: Tile, kind: str, axis: Axes, keepdims: bool, name: str) -> Scalar | Tile:
    axes = _axes(axis, tile, name)
    result = wrap(context.builder().value("reduce", tile.value, kind=kind, axes=axes))
    return _kept(result, tile, axes) if keepdims else result


def _kept(result: Scalar | Tile, tile: Tile, axes: Sequence[int]) -> Scalar | Tile:
    return reshaped(result, tuple(1 if i in axes else n for i, n in enumerate(tile.shape)))


@builtin("sum")
def sum_(x: Operand, axis: Axes = None, keepdims: bool = False) -> Scalar | Tile:
    """The sum over `axis` (all by default). 8- and 16-bit integers and bools give i32 (unsigned: u32); floats keep
    their dtype, f16 and narrower being summed in f32 and rounded once."""
    return _reduced(check_tile(x, "sum"), "sum", axis, keepdims, "sum")


@builtin("prod")
def prod(x: Operand, axis: Axes = None, keepdims: bool = False) -> Scalar | Tile:
    """The product over `axis` (all by default); dtypes as for `sum`."""
    return _reduced(check_tile(x, "prod"), "prod", axis, keepdims, "prod")


@builtin("max")
def max_(x: Operand, axis: Axes = None, keepdims: bool = False) -> Scalar | Tile:
    """The greatest element over `axis` (all by default); NaN if there is one. For two operands: od.maximum."""
    if isinstance(axis, Scalar | Tile):
        raise Misuse("od.max reduces one tile over an axis", "use od.maximum for the greater of two")
    return _reduced(check_tile(x, "max"), "max", axis, keepdims, "max")


@builtin("min")
def min_(x: Operand, axis: Axes = None, keepdims: bool = False) -> Scalar | Tile:
    """The smallest element over `axis` (all by default); NaN if there is one. For two operands: od.minimum."""
    if isinstance(axis, Scalar | Tile):
        raise Misuse("od.min reduces one tile over an axis", "use od.minimum for the smaller of two")
    return _reduced(check_tile(x, "min"), "min", axis, keepdims, "min")


def _bools(x: Operand, name: str) -> Tile:
    tile = check_tile(x, name)
    result = tile if tile.dtype.is_bool else compare("ne", tile, 0)
    assert isinstance(result, Tile)
    return result


@builtin("any")
def any_(x: Operand, axis: Axes = None, keepdims: bool = False) -> Scalar | Tile:
    """Whether any element over `axis` (all by default) is true or not 0."""
    return _reduced(_bools(x, "any"), "any", axis, keepdims, "any")


@builtin("all")
def all_(x: Operand, axis: Axes = None, keepdims: bool = False) -> Scalar | Tile:
    """Whether all elements over `axis` (all by default) are true or not 0."""
    return _reduced(_bools(x, "all"), "all", axis, keepdims, "all")


@builtin("mean")
def mean(x: Operand, axis: Axes = None, keepdims: bool = False) -> Scalar | Tile:
    """The mean over `axis` (all by default). Integers give f32; f16 and narrower are averaged in f32, rounded once."""
    tile = check_tile(x, "mean")
    count = math.prod(tile.shape[a] for a in _axes(axis, tile, "mean"))
    result = tile.dtype if tile.dtype.is_float else f32
    wide = cast_operand(tile, result if result.bits >= 32 else f32)
    assert isinstance(wide, Tile)
    return cast_operand(binary("div", _reduced(wide, "sum", axis, keepdims, "mean"), count), result)


def _arg(x: Operand, kind: str, axis: int | None, keepdims: bool) -> Scalar | Tile:
    name = f"arg{kind}"
    tile = check_tile(x, name)
    if axis is None:
        flat = reshaped(tile, (math.prod(tile.shape),))
        result = wrap(context.builder().value("arg_reduce", flat.value, kind=kind, axis=0))
        return reshaped(result, (1,) * len(tile.shape)) if keepdims else result
    place = check_axis(axis, len(tile.shape), f"the axis of od.{name}")
    result = wrap(context.builder().value("arg_reduce", tile.value, kind=kind, axis=place))
    return _kept(result, tile, (place,)) if keepdims else result


@builtin("argmax")
def argmax(x: Operand, axis: int | None = None, keepdims: bool = False) -> Scalar | Tile:
    """The i64 index of the greatest element along `axis`, the first of equals; NaN wins. Without axis: of the tile
    flattened."""
    return _arg(x, "max", axis, keepdims)


@builtin("argmin")
def argmin(x: Operand, axis: int | None = None, keepdims: bool = False) -> Scalar | Tile:
    """The i64 index of the smallest element along `axis`, the first of equals; NaN wins. Without axis: of the tile
    flattened."""
    return _arg(x, "min", axis, keepdims)


def _combine_region(combine: object, dtypes: Sequence[DType], what: str) -> Region:
    """The region of a combine function on scalars: (left..., right...) -> one for each."""
    inliner = context.inliner()
    builder = inliner.builder
    names = [f"{side}{i if len(dtypes) > 1 else ''}" for side in ("left", "right") for i in range(len(dtypes))]
    arguments = [Value(ScalarType(d), n) for d, n in zip([*dtypes, *dtypes], names, strict=True)]
    with builder.region(arguments) as region:
        result = inliner.call(combine, [Scalar(a) for a in arguments])
        results = tuple(result) if isinstance(result, tuple | list) else (result,)
        if len(results) != len(dtypes):
            raise Misuse(
                f"the combine function of {what} gives {len(results)} values, where {len(dtypes)} are needed",
                "return one value for each tile",
            )
        values = []
        for part, dtype in zip(results, dtypes, strict=True):
            operand = check_operand(part, f"the result of the combine function of {what}")
            if isinstance(operand, Tile) or (isinstance(operand, Scalar) and operand.dtype != dtype):
                raise Misuse(
                    f"the combine function of {what} gives {describe(operand)}, where the elements are {dtype}",
                    f"od.cast its result to od.{dtype}",
                )
            values.append(to_value(operand, dtype))
        region.close(values)
    return region.region


def _operands(x: object, name: str) -> list[Tile]:
    tiles = [check_tile(t, name) for t in (x if isinstance(x, tuple | list) else (x,))]
    if not tiles:
        raise Misuse(f"od.{name} takes at least one tile", f"write od.{name}((a, b), ...)")
    shape = broadcast_shapes([t.shape for t in tiles], f"the tiles of od.{name}")
    return [Tile(to_value(t, t.dtype, shape)) for t in tiles]


@builtin("reduce")
def reduce_(x: Any, axis: int | None, combine: Callable[..., Any], keepdims: bool = False) -> Any:
    """Reduces a tile, or a tuple of tiles together, along one axis (None: flattened) with your own function.

    `combine(left, right)` on scalars; for n tiles `combine(left1, ..., leftn, right1, ..., rightn)` gives n values.
    It must be associative; elements are combined from left to right.
    """
    tiles = _operands(x, "reduce")
    if axis is None:
        tiles = [t for t in (reshaped(t, (math.prod(t.shape),)) for t in tiles) if isinstance(t, Tile)]
    place = check_axis(0 if axis is None else axis, len(tiles[0].shape), "the axis of od.reduce")
    region = _combine_region(combine, [t.dtype for t in tiles], "od.reduce")
    builder = context.builder()
    values = builder.op("reduce_custom", *(t.value for t in tiles), axis=place, regions=(region,))
    results = [_kept(wrap(v), tiles[0], (place,)) if keepdims else wrap(v) for v in values]
    return tuple(results) if isinstance(x, tuple | list) else results[0]


@builtin("scan")
def scan(x: Any, axis: int, combine: Callable[..., Any], reverse: bool = False) -> Any:
    """The running reduction along `axis` with your own function (see `reduce`), the element itself included."""
    tiles = _operands(x, "scan")
    place = check_axis(axis, len(tiles[0].shape), "the axis of od.scan")
    region = _combine_region(combine, [t.dtype for t in tiles], "od.scan")
    builder = context.builder()
    values = builder.op("scan_custom", *(t.value for t in tiles), axis=place, reverse=bool(reverse), regions=(region,))
    results = [wrap(v) for v in values]
    return tuple(results) if isinstance(x, tuple | list) else results[0]


def _scan(x: Operand, kind: str, name: str, axis: int | None, reverse: bool, exclusive: bool) -> Tile:
    tile = check_tile(x, name)
    if axis is None and len(tile.shape) > 1:
        raise Misuse(
            f"od.{name} of a tile of shape {show_shape(tile.shape)} needs an axis", f"write od.{name}(x, axis=0)"
        )
    place = check_axis(0 if axis is None else axis, len(tile.shape), f"the axis of od.{name}")
    builder = context.builder()
    value = builder.value("scan", tile.value, kind=kind, axis=place, reverse=bool(reverse), exclusive=bool(exclusive))
    return Tile(value)


@builtin("cumsum")
def cumsum(x: Operand, axis: int | None = None, reverse: bool = False, exclusive: bool = False) -> Tile:
    """Running sums along `axis` (needed unless there is one dim), from the end if `reverse`, without the element
    itself if `exclusive`. Dtypes as for `sum`."""
    return _scan(x, "sum", "cumsum", axis, reverse, exclusive)


@builtin("cumprod")
def cumprod(x: Operand, axis: int | None = None, reverse: bool = False, exclusive: bool = False) -> Tile:
    """Running products along `axis`; see `cumsum`."""
    return _scan(x, "prod", "cumprod", axis, reverse, exclusive)


@builtin("cummax")
def cummax(x: Operand, axis: int | None = None, reverse: bool = False) -> Tile:
    """Running greatest elements along `axis`; see `cumsum`."""
    return _scan(x, "max", "cummax", axis, reverse, False)


@builtin("cummin")
def cummin(x: Operand, axis: int | None = None, reverse: bool = False) -> Tile:
    """Running smallest elements along `axis`; see `cumsum`."""
    return _scan(x, "min", "cummin", axis, reverse, False)


def _sorted(x: Operand, name: str, axis: int, descending: bool) -> tuple[Tile, Tile, int]:
    tile = check_tile(x, name)
    place = check_axis(axis, len(tile.shape), f"the axis of od.{name}")
    values, indices = context.builder().op("sort", tile.value, axis=place, descending=bool(descending))
    return Tile(values), Tile(indices), place


@builtin("sort")
def sort(x: Operand, axis: int = -1, descending: bool = False) -> Tile:
    """`x` sorted along `axis`; NaN last."""
    return _sorted(x, "sort", axis, descending)[0]


@builtin("argsort")
def argsort(x: Operand, axis: int = -1, descending: bool = False) -> Tile:
    """The i64 indices that sort `x` along `axis`, equals in their order; NaN last."""
    return _sorted(x, "argsort", axis, descending)[1]


@builtin("topk")
def topk(x: Operand, k: int, axis: int = -1, largest: bool = True) -> tuple[Any, Any]:
    """(values, i64 indices) of the `k` greatest (or smallest) elements along `axis`, in order, the first of equals
    first."""
    values, indices, place = _sorted(x, "topk", axis, bool(largest))
    extent = values.shape[place]
    if type(k) is not int or not 1 <= k <= extent:
        raise Misuse(
            f"k of od.topk is {describe(k)}, where a whole number from 1 to {extent} is needed",
            "a greater k needs a longer tile",
            k,
        )
    if k == extent:
        return values, indices
    sizes = tuple(k if i == place else n for i, n in enumerate(values.shape))
    attributes = {"starts": (0,) * len(sizes), "sizes": sizes, "steps": (1,) * len(sizes)}
    builder = context.builder()
    return tuple(Tile(builder.value("extract", t.value, **attributes)) for t in (values, indices))  # type: ignore[return-value]


@builtin("dot")
def dot(a: Operand, b: Operand) -> Tile:
    """The matrix product of tiles (..., M, K) and (..., K, N) of one dtype; leading dims broadcast.

    Sums in, and gives: f32 for f32, f16, bf16 and f8; f64 for f64; i32 for integers of up to 32 bits.
    """
    left, right = check_tile(a, "dot"), check_tile(b, "dot")
    if len(left.shape) < 2 or len(right.shape) < 2:
        raise Misuse(
            f"od.dot takes tiles of at least 2 dims, not of shapes {show_shape(left.shape)} and {show_shape(right.shape)}",
            "make a vector a matrix of one row or column (v[None, :] or v[:, None]), or write od.sum(a * b)",
        )
    if left.shape[-1] != right.shape[-2]:
        raise Misuse(
            f"od.dot of tiles of shapes {show_shape(left.shape)} and {show_shape(right.shape)}: the inner sizes "
            f"{left.shape[-1]} and {right.shape[-2]} differ",
            "the shapes are (..., M, K) and (..., K, N); .T transposes a tile",
        )
    if left.dtype != right.dtype:
        raise Misuse(
            f"od.dot of {left.dtype} and {right.dtype} tiles; both must have one dtype",
            f"od.cast one of them, for example od.cast(a, od.{right.dtype})",
        )
    if left.dtype.is_bool or (left.dtype.is_integer and left.dtype.bits > 32):
        raise Misuse(f"od.dot does not take {left.dtype}", "od.cast both to od.f64, od.f32 or od.i32")
    batch = broadcast_shapes([left.shape[:-2], right.shape[:-2]], "the leading dims of od.dot")
    value = context.builder().value(
        "dot",
        to_value(left, left.dtype, (*batch, *left.shape[-2:])),
        to_value(right, right.dtype, (*batch, *right.shape[-2:])),
    )
    assert value.type.dtype == dot_result_dtype(left.dtype)
    return Tile(value)

"""Rows of a table by number: `embedding(ids, weight, *, out=None, target=None)`, and the gradient of the table.

ids has any shape and an integer dtype; weight is (V, D) of any dtype and strides; the result is ids.shape + (D,). The
gradient is a scatter-add in the order of the ids, so that it has the same bits every time. Errors: ShapeError for a table
that is not two-dimensional or an `out` of another shape, DTypeError for ids that are not integers, ArgumentError for an id
outside of 0..V-1. Source: torch.nn.functional.embedding.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from opdsl.ops import tiling
from opdsl.ops.arguments import (
    Array,
    argument_error,
    as_array,
    check_out,
    checked_dtype,
    dtype_error,
    empty,
    like,
    numpy_dtype,
    shape_error,
)
from opdsl.ops.launching import run

import opdsl as od


@od.kernel
def look_up(
    table: od.Tensor["T", "V", "D"],
    ids: od.Tensor["I", "N"],
    y: od.Tensor["Y", "N", "D"],
    *,
    BN: od.constexpr,
    BD: od.constexpr,
):
    N, D = y.shape
    for n, d in od.parallel(range(0, N, BN), range(0, D, BD)):
        rows = od.copy_in(ids[n : n + BN])
        od.copy_out(od.copy_in(table[rows, d : d + BD]), y[n : n + BN, d : d + BD])


@od.kernel
def add_rows(
    dy: od.Tensor["T", "N", "D"],
    ids: od.Tensor["I", "N"],
    dtable: od.Tensor["Y", "V", "D"],
    *,
    BN: od.constexpr,
    BD: od.constexpr,
):
    """Ids out of range, as the padding of a tile is, are dropped."""
    N, D = dy.shape
    for n, d in od.parallel(range(0, N, BN), range(0, D, BD)):
        rows = od.cast(od.copy_in(ids[n : n + BN]), od.i64)
        rows = od.where(n + od.arange(BN) < N, rows, -1)
        od.copy_out(od.copy_in(dy[n : n + BN, d : d + BD]), dtable[rows, d : d + BD], mode="add")


def _ids(name: str, ids: Any, rows: int, padding: int | None = None) -> Array:
    array = as_array(name, "ids", ids)
    if not checked_dtype(name, "ids", array).is_integer:
        raise dtype_error(
            name, f"ids has dtype {array.dtype}, where integers are needed", 'convert it: ids.astype("int64")'
        )
    if array.size:
        low, high = int(array.min()), int(array.max())
        if (low < 0 and low != padding) or (high >= rows and high != padding):
            wrong = low if low < 0 and low != padding else high
            raise argument_error(
                name, f"ids holds {wrong}, but the rows of weight are 0 to {rows - 1}", "check the ids"
            )
    return array


def _tile(columns: int) -> dict[str, int]:
    return {"BN": tiling.EMBEDDING_ROWS, "BD": min(tiling.EMBEDDING_COLUMNS, tiling.length(max(columns, 1)))}


def embedding(ids: Any, weight: Any, *, out: Any = None, target: str | None = None) -> Any:
    """weight[ids]."""
    table = as_array("embedding", "weight", weight)
    dtype = checked_dtype("embedding", "weight", table)
    if table.ndim != 2:
        raise shape_error("embedding", f"weight has shape {table.shape}", "pass a table of two dims: (rows, columns)")
    array = _ids("embedding", ids, table.shape[0])
    shape = (*array.shape, table.shape[1])
    if out is None:
        result: Array = empty(shape, numpy_dtype(dtype))
    else:
        result = as_array("embedding", "out", out)
        check_out("embedding", result, shape, dtype)
    if result.size:
        flat = result.reshape(-1, table.shape[1])
        run(look_up, (table, array.reshape(-1), flat), target, **_tile(table.shape[1]))
        if not np.may_share_memory(flat, result):
            result[...] = flat.reshape(shape)
    return out if out is not None else like(result, weight, ids)


def embedding_backward(
    grad: Any,
    ids: Any,
    num_embeddings: int,
    *,
    padding_idx: int | None = None,
    out: Any = None,
    target: str | None = None,
) -> Any:
    """The gradient of the table: for each id, the sum of the rows of grad where it stands. Ids equal to `padding_idx`
    have no gradient. With `out`, the sums are put there; what was in it is lost."""
    name = "embedding_backward"
    gradient = as_array(name, "grad", grad)
    dtype = checked_dtype(name, "grad", gradient)
    array = _ids(name, ids, num_embeddings, padding_idx)
    if gradient.ndim == 0 or gradient.shape[:-1] != array.shape:
        message = f"grad has shape {gradient.shape}, but ids has {array.shape}"
        raise shape_error(name, message, "grad has the dims of ids and then those of a row")
    columns = gradient.shape[-1]
    wide = od.f32 if dtype.is_float and dtype.bits < 32 else dtype
    sums: Array = empty((num_embeddings, columns), numpy_dtype(wide))
    if out is not None:
        check_out(name, as_array(name, "out", out), sums.shape, dtype)
    sums[...] = 0
    if gradient.size:
        places = array.reshape(-1)
        if padding_idx is not None:
            places = np.where(places == padding_idx, -1, places.astype(np.int64))
        run(add_rows, (gradient.reshape(-1, columns), places, sums), target, **_tile(columns))
    if out is None and wide is dtype:
        return like(sums, grad, ids)
    from opdsl.ops.copying import cast

    result = cast(sums, numpy_dtype(dtype), out=out, target=target)
    return out if out is not None else like(result, grad, ids)

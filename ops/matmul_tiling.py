"""Tile shapes of the matrix product, as data."""

from __future__ import annotations

from typing import Any

import numpy as np

# Few rows: the compiler streams b without copying it. Rows of a tile by the rows there are; columns, more of them where
# they are neighbours, so that memory is read in long runs; depth.
FEW = ((1, 1), (4, 4), (8, 8), (16, 16))
FEW_COLUMNS, FEW_COLUMNS_IN_ROWS, FEW_DEPTH = 1024, 2048, 512

# Otherwise a register-blocked product on a packed b.
ROWS, DEPTH = 128, 256
COLUMNS, WIDE = 128, 256  # WIDE where n is more than that: rows of a are read half as often
WHOLE_ROWS = 126  # on CPUs for f32 and f64, whose register tiles have 6 rows
LARGE = 512  # beyond this, f32 with deeper steps and fewer columns reads and writes the result less often
# 16-bit operands go through faster: a is copied once per tile, so tiles are as wide as L2 allows for the packed columns
# of b, all of k (or one step of it, where the rows are one tile and nothing is kept for a next one).
HALF_COLUMNS, HALF_DEPTH, HALF_KEPT = 512, 512, 1024
# bf16 on AMX is faster still, so what counts is how often the result goes through the caches: all of k in one step where
# whole tiles of a can be read in place; few rows where k is short, which L1 holds until they are rounded and stored.
# Columns then are few where the result is so large (bytes) that stores pass the caches, which need no long runs.
TILE_STEP, SHORT, SHORT_ROWS, PASSING = 32, 128, 32, 8 << 20
SMALL = ((32, 32), (64, 64))
# One tile, as large as the product: what is added to it costs as much as the product itself. Multiples of these.
ONE_TILE, STEP = {"m": 64, "n": 128, "k": 128}, {"m": 8, "n": 16, "k": 8}

# On GPUs and NPUs tiles stay in shared memory or in the buffers of a core, two of each operand; what is computed with the
# result after the product needs several tiles more in an NPU's vector core.
SQUARES = (16, 32, 64, 128)
ACCELERATOR_DEPTH, ACTIVATED = 64, 64


def _covering(size: int, block: int) -> int:
    """The block, or for a shorter size the least sufficient of SMALL."""
    return next((tile for limit, tile in SMALL if size <= limit), block)


def accelerator_tile(m: int, n: int, k: int, largest: int) -> dict[str, int]:
    """BM, BN and BK for a product of m x k by k x n on a GPU or NPU, with at most `largest` rows and columns."""
    rows, columns = (next((side for side in SQUARES if size <= side < largest), largest) for size in (m, n))
    return {"BM": rows, "BN": columns, "BK": ACCELERATOR_DEPTH if k > SQUARES[1] else SQUARES[1]}


def tile(m: int, n: int, k: int, dtype: np.dtype[Any], unit: str, on_tiles: bool) -> dict[str, int]:
    """The same on a CPU. `unit` is the axis of b along which its elements are neighbours; `on_tiles`: it has AMX."""
    if m <= 16:
        rows = next(rows for limit, rows in FEW if m <= limit)
        columns = FEW_COLUMNS_IN_ROWS if unit == "n" and n > FEW_COLUMNS else FEW_COLUMNS
        return {"BM": rows, "BN": _covering(n, columns), "BK": _covering(k, FEW_DEPTH)}
    if m <= ONE_TILE["m"] and n <= ONE_TILE["n"] and k <= ONE_TILE["k"]:
        sizes = {"m": m, "n": n, "k": max(k, 1)}
        rows, columns, depth = (-(-sizes[axis] // step) * step for axis, step in STEP.items())
        return {"BM": rows, "BN": columns, "BK": depth}
    rows, columns, depth = ROWS, WIDE if n > WIDE else COLUMNS, DEPTH
    if dtype.kind == "f" and dtype.itemsize > 2 and m > ROWS:
        rows = WHOLE_ROWS
    if dtype == np.float32 and min(m, n, k) > LARGE:
        columns, depth = COLUMNS, 2 * DEPTH
    if dtype.itemsize == 2:
        columns, depth = WIDE if n > COLUMNS else COLUMNS, HALF_DEPTH
        if n > WIDE and (k <= HALF_KEPT or m <= ROWS):
            columns = HALF_COLUMNS
    if on_tiles and dtype.itemsize == 2 and dtype.kind == "V":  # bf16
        if k <= HALF_KEPT and k % TILE_STEP == 0:
            depth = HALF_KEPT
        if k <= SHORT:
            rows, columns = SHORT_ROWS, min(columns, WIDE) if m * n * dtype.itemsize >= PASSING else columns
    return {"BM": _covering(m, rows), "BN": _covering(n, columns), "BK": _covering(k, depth)}

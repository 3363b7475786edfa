"""SwiGLU as CANN's operator tiles it: x (rows, 2 columns) -> y (rows, columns) = x0 / (1 + exp(-x0)) x1.

Source of the tiling: hicann/ops-nn, activation/swi_glu (op_host/swi_glu_tiling.cpp; op_kernel for the instructions). Its
tiles are as large as UB holds, so that few of them fall on a core, and the cores take them in turn.
"""

from __future__ import annotations

from dataclasses import dataclass

from opdsl import npu
from opdsl.npu.chip import Chip

from .vector import Vector

BYTES = {"f32": 4, "f16": 2, "bf16": 2}


@dataclass(frozen=True)
class Tiling:
    rows: int
    columns: int
    cores: int
    depth: int


def tiling_of(chip: Chip, dtype: str, rows: int, columns: int) -> Tiling:
    """The tile that keeps most cores at work, then the one that makes fewest tiles. One buffer each, instead of two, where
    that makes one tile for each core out of two."""
    cores = chip.cores["aiv"]
    double = _best(chip, dtype, rows, columns, cores, 2)
    tiles = -(-rows // double.rows) * -(-columns // double.columns)
    if -(-tiles // double.cores) == 2:
        single = _best(chip, dtype, rows, columns, cores, 1)
        if -(-rows // single.rows) * -(-columns // single.columns) <= single.cores >= double.cores:
            return single
    return double


def _best(chip: Chip, dtype: str, rows: int, columns: int, cores: int, depth: int) -> Tiling:
    size = BYTES[dtype]
    block, line = 32 // size, 512 // size
    # Bytes of UB for each element: x0, x1 and y, and two temporaries of f32 (with f32, one).
    most = chip.buffers["UB"] // (depth * 3 * size + (4 if dtype == "f32" else 8)) // block * block
    width = min(columns, most)
    if width < columns and width > line:
        width = width // line * line
    best: tuple[tuple[int, int, int], Tiling] | None = None
    while width > 0:
        high = min(most // (-(-width // block) * block), rows, 4095)
        if high < 1:
            break
        tiles = -(-rows // high) * -(-columns // width)
        used = min(tiles, cores)
        rank = (used, -tiles, high * width)
        if best is None or rank > best[0]:
            best = (rank, Tiling(high, width, used, depth))
        if width <= line or high >= min(rows, 4095):
            break
        width = width - line if width % line == 0 else width // line * line
    assert best is not None
    return best[1]


def swi_glu(chip: Chip, dtype: str, rows: int, columns: int) -> npu.Program:
    size = BYTES[dtype]
    cast = dtype != "f32"
    t = tiling_of(chip, dtype, rows, columns)
    pitch = -(-t.columns // (32 // size)) * (32 // size)
    area = t.rows * pitch
    k = npu.Builder("swi_glu", chip)
    x, y = k.argument("x", dtype, 2), k.argument("y", dtype, 2)
    lanes = chip.vector_cores_per_block
    with k.code("aiv"):
        a, b, out = (k.allocate("UB", t.depth * area * size, dtype, name) for name in ("x0", "x1", "y"))
        wide = k.allocate("UB", area * 4, "f32", "x wide" if cast else "ones")
        work = k.allocate("UB", area * 4, "f32", "y wide") if cast else out
        core = k.block_idx * lanes + k.sub_block_idx
        for slot in range(t.depth):
            for event in ("V_MTE2", "MTE3_V"):
                k.set_flag(event, slot)
        if not cast:
            Vector(k, count=area).duplicate(wide, 1.0)
        across = -(-columns // t.columns)
        turn = k.variable(0, "turn")
        with k.loop(core, -(-rows // t.rows) * across, t.cores, name="tile") as tile:
            now = turn % t.depth
            row, column = tile // across * t.rows, tile % across * t.columns
            high = k.compute("min", k.constant(rows) - row, t.rows)
            length = k.compute("min", k.constant(columns) - column, t.columns)
            padded = (length + (32 // size - 1)) // (32 // size) * (32 // size)
            here, gate, result = a[now * area], b[now * area], out[now * area]
            k.wait_flag("V_MTE2", now)
            for index, place in enumerate((here, gate)):
                k.data_copy_pad(
                    place,
                    x[row * (2 * columns) + index * columns + column],
                    block_count=high,
                    block_len=length * size,
                    src_stride=(k.constant(2 * columns) - length) * size,
                    right_padding=padded - length,
                )
            k.set_flag("MTE2_V", now)
            k.wait_flag("MTE2_V", now)
            v = Vector(k, count=high * padded)
            if cast:
                v.cast(wide, here)
                v.muls(work, wide, -1.0)
                v.exp(work, work)
                v.adds(work, work, 1.0)
                v.div(work, wide, work)
                v.cast(wide, gate)
                k.set_flag("V_MTE2", now)
                v.mul(work, work, wide)
                k.wait_flag("MTE3_V", now)
                v.cast(result, work, "rint")
            else:
                k.wait_flag("MTE3_V", now)
                v.muls(result, here, -1.0)
                v.exp(result, result)
                v.adds(result, result, 1.0)
                v.div(result, wide, result)
                v.mul(result, result, here)
                v.mul(result, result, gate)
                k.set_flag("V_MTE2", now)
            k.set_flag("V_MTE3", now)
            k.wait_flag("V_MTE3", now)
            k.data_copy_pad(
                y[row * columns + column],
                result,
                block_count=high,
                block_len=length * size,
                dst_stride=(k.constant(columns) - length) * size,
            )
            k.set_flag("MTE3_V", now)
            k.assign(turn, turn + 1)
        for slot in range(t.depth):
            for event in ("V_MTE2", "MTE3_V"):
                k.wait_flag(event, slot)
    return k.finish()

"""RMS norm as CANN's operator computes it: y = x / sqrt(mean(x^2) + epsilon) weight, rows of `columns` elements.

Source of tiling and instructions: hicann/ops-nn, norm/rms_norm (rms_norm_tiling.cpp; rms_norm_merge_n.h for rows of up to
2000 elements, of which it takes as many at a time as UB holds; rms_norm.h for longer ones, one at a time). Both have one
buffer of x and one of y, so that loads and stores hardly overlap with what is computed. A core has a contiguous share of
the rows.
"""

from __future__ import annotations

from opdsl import npu
from opdsl.npu.addresses import Global, Local
from opdsl.npu.chip import Chip

from .vector import Vector

BYTES = {"f32": 4, "f16": 2, "bf16": 2}
SMALL = 2000
RESERVED = 1024


def rms_norm(chip: Chip, dtype: str, rows: int, columns: int, *, epsilon: float = 1e-6) -> npu.Program:
    """y (rows, columns) and r (rows), the reciprocal deviations, of x (rows, columns) and weight (columns)."""
    k = npu.Builder("rms_norm", chip)
    x, weight = k.argument("x", dtype, 2), k.argument("weight", dtype)
    y, r = k.argument("y", dtype, 2), k.argument("r", "f32")
    pitch = -(-columns // (32 // BYTES[dtype])) * (32 // BYTES[dtype])
    share = -(-rows // chip.cores["aiv"])
    with k.code("aiv"):
        core = k.block_idx * chip.vector_cores_per_block + k.sub_block_idx
        begin = core * share
        end = k.compute("min", begin + share, rows)
        for event in ("V_MTE2", "MTE3_V"):
            k.set_flag(event, 0)
        k.set_flag("MTE3_V", 1)
        if pitch <= SMALL:
            _many(k, dtype, columns, pitch, (x, weight, y, r), begin, end, epsilon)
        else:
            _one(k, dtype, columns, pitch, (x, weight, y, r), begin, end, epsilon)
        for event in ("V_MTE2", "MTE3_V"):
            k.wait_flag(event, 0)
        k.wait_flag("MTE3_V", 1)
    return k.finish()


Arrays = tuple[Global, Global, Global, Global]


def _weight(k: npu.Builder, weight: Global, place: Local, columns: int, pitch: int) -> None:
    k.data_copy_pad(place, weight, block_len=columns * BYTES[weight.dtype], right_padding=pitch - columns)
    k.set_flag("MTE2_V", 1)
    k.wait_flag("MTE2_V", 1)


def _many(
    k: npu.Builder,
    dtype: str,
    columns: int,
    pitch: int,
    arrays: Arrays,
    begin: npu.Scalar,
    end: npu.Scalar,
    epsilon: float,
) -> None:
    x, weight, y, r = arrays
    size, cast = BYTES[dtype], dtype != "f32"
    most = (k.chip.buffers["UB"] - RESERVED) // (pitch * (14 if cast else 16) + 260)
    area = most * pitch
    source, result = k.allocate("UB", area * size, dtype, "x"), k.allocate("UB", area * size, dtype, "y")
    scale = k.allocate("UB", area * size, dtype, "weight of each row")
    wide = k.allocate("UB", area * 4, "f32", "x wide") if cast else source
    work = k.allocate("UB", area * 4, "f32", "squares")
    folded = k.allocate("UB", most * 256, "f32", "folded columns")
    padded = -(-most // 8) * 8
    total, ones = k.allocate("UB", padded * 4, "f32", "r"), folded
    Vector(k, padded).duplicate(total, 0.0)
    _weight(k, weight, scale, columns, pitch)
    if most > 1:  # to the other rows
        lanes, step = 256 // size, pitch * size // 32
        with k.loop(0, pitch, lanes, name="first") as first:
            here = k.compute("min", k.constant(pitch) - first, lanes)
            k.vector("copy", scale[first + pitch], scale[first], mask=here, repeat=most - 1, repeats=(step, 0))
            k.pipe_barrier("V")
    with k.loop(begin, end, most, name="row") as row:
        rows = k.compute("min", end - row, most)
        every, each = Vector(k, rows * pitch), Vector(k, rows)
        k.wait_flag("V_MTE2", 0)
        k.data_copy_pad(
            source, x[row * columns], block_count=rows, block_len=columns * size, right_padding=pitch - columns
        )
        k.set_flag("MTE2_V", 0)
        k.wait_flag("MTE2_V", 0)
        if cast:
            every.cast(wide, source)
            k.set_flag("V_MTE2", 0)
        every.mul(work, wide, wide)
        Vector(k, rows * 64).duplicate(folded, 0.0)
        with k.loop(0, columns, 64, name="c") as c:
            here = k.compute("min", k.constant(columns) - c, 64)
            k.vector("add", folded, work[c], folded, mask=here, repeat=rows, repeats=(8, pitch // 8, 8))
            k.pipe_barrier("V")
        k.wait_flag("MTE3_V", 1)
        k.whole_reduce_sum(total, folded, repeat=rows)
        k.pipe_barrier("V")
        each.muls(total, total, 1.0 / columns)
        each.adds(total, total, epsilon)
        each.sqrt(total, total)
        each.duplicate(ones, 1.0)
        each.div(total, ones, total)
        k.set_flag("V_MTE3", 1)
        k.wait_flag("V_MTE3", 1)
        k.data_copy_pad(r[row], total, block_len=rows * 4)
        k.set_flag("MTE3_V", 1)
        k.brcb(folded, total, repeat=(rows + 7) // 8)
        k.pipe_barrier("V")
        with k.loop(0, pitch, 64, name="c") as c:
            here = k.compute("min", k.constant(pitch) - c, 64)
            k.vector("copy", work[c], folded, mask=here, repeat=rows, blocks=(1, 0), repeats=(pitch // 8, 1))
            k.pipe_barrier("V")
        every.mul(work, wide, work)
        if not cast:
            k.set_flag("V_MTE2", 0)
            k.wait_flag("MTE3_V", 0)
            every.mul(result, work, scale)
        else:
            every.cast(wide, scale)
            every.mul(work, work, wide)
            k.wait_flag("MTE3_V", 0)
            every.cast(result, work, "rint")
        k.set_flag("V_MTE3", 0)
        k.wait_flag("V_MTE3", 0)
        k.data_copy_pad(y[row * columns], result, block_count=rows, block_len=columns * size)
        k.set_flag("MTE3_V", 0)


def _one(
    k: npu.Builder,
    dtype: str,
    columns: int,
    pitch: int,
    arrays: Arrays,
    begin: npu.Scalar,
    end: npu.Scalar,
    epsilon: float,
) -> None:
    x, weight, y, r = arrays
    size, cast = BYTES[dtype], dtype != "f32"
    source, result = k.allocate("UB", pitch * size, dtype, "x"), k.allocate("UB", pitch * size, dtype, "y")
    scale = k.allocate("UB", pitch * size, dtype, "weight")
    wide = k.allocate("UB", pitch * 4, "f32", "x wide") if cast else source
    work = k.allocate("UB", pitch * 4, "f32", "squares")
    total = k.allocate("UB", 256, "f32", "r")
    _weight(k, weight, scale, columns, pitch)
    v = Vector(k, columns)
    with k.loop(begin, end, 64, name="rows") as first:
        count = k.compute("min", end - first, 64)
        k.wait_flag("MTE3_V", 1)
        with k.loop(0, count, name="row") as index:
            row = first + index
            k.wait_flag("V_MTE2", 0)
            k.data_copy_pad(source, x[row * columns], block_len=columns * size)
            k.set_flag("MTE2_V", 0)
            k.wait_flag("MTE2_V", 0)
            if cast:
                v.cast(wide, source)
                k.set_flag("V_MTE2", 0)
            v.mul(work, wide, wide)
            body = 1 << (columns.bit_length() - 1)
            if columns > body:
                Vector(k, columns - body).add(work, work, work[body])
            while body > 64:
                body //= 2
                Vector(k, body).add(work, work, work[body])
            k.whole_reduce_sum(work, work, mask=64, repeat=1)
            k.pipe_barrier("V")
            k.set_flag("V_S", 0)
            k.wait_flag("V_S", 0)
            mean = k.compute("mul", k.load_scalar(work), 1.0 / columns, dtype="f32")
            root = k.compute("sqrt", k.compute("add", mean, epsilon, dtype="f32"), dtype="f32")
            inverse = k.compute("div", 1.0, root, dtype="f32")
            k.store_scalar(total[index], inverse)
            k.set_flag("S_V", 0)
            k.wait_flag("S_V", 0)
            v.muls(work, wide, inverse)
            if cast:
                v.cast(wide, scale)
                v.mul(work, work, wide)
                k.wait_flag("MTE3_V", 0)
                v.cast(result, work, "rint")
            else:
                k.set_flag("V_MTE2", 0)
                k.wait_flag("MTE3_V", 0)
                v.mul(result, work, scale)
            k.set_flag("V_MTE3", 0)
            k.wait_flag("V_MTE3", 0)
            k.data_copy_pad(y[row * columns], result, block_len=columns * size)
            k.set_flag("MTE3_V", 0)
        k.set_flag("S_MTE3", 0)
        k.wait_flag("S_MTE3", 0)
        k.data_copy_pad(r[first], total, block_len=count * 4)
        k.set_flag("MTE3_V", 1)

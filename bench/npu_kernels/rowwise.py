"""Softmax and group norm on vector cores: softmax takes a row at a time, group norm a group in tiles, twice.

What a row has in common (its maximum, its sum) stays in UB: `brcb` spreads it over a block, which instructions then read
with strides of 0.
"""

from __future__ import annotations

from opdsl import npu
from opdsl.npu.addresses import Local
from opdsl.npu.chip import Chip

from .vector import Vector, read_tiling

BYTES = {"f32": 4, "f16": 2, "bf16": 2}
SPREAD = {"blocks": (1, 1, 0), "repeats": (8, 8, 0)}
"""The strides of an instruction whose second source is one block."""


def softmax(chip: str | Chip, dtype: str, columns: int) -> npu.Program:
    """y = softmax(x), rows of `columns` elements."""
    size = BYTES[dtype]
    cast = dtype != "f32"
    row_bytes = -(-columns * size // 32) * 32
    wide_bytes = -(-columns * 4 // 256) * 256
    k = npu.Builder("softmax", chip)
    x, y = k.argument("x", dtype, 2), k.argument("y", dtype, 2)
    with k.code("aiv"):
        source = k.allocate("UB", 2 * row_bytes, dtype, "x")
        result = k.allocate("UB", 2 * row_bytes, dtype, "y")
        wide = k.allocate("UB", wide_bytes, "f32", "x wide")
        other = k.allocate("UB", wide_bytes, "f32", "exponentials")
        parts = k.allocate("UB", 1024, "f32", "of repeats")
        block = k.allocate("UB", 512, "f32", "of the row")
        read_tiling(k)
        lanes = k.chip.vector_cores_per_block
        core, cores = k.block_idx * lanes + k.sub_block_idx, k.block_num * lanes
        v = Vector(k, count=columns)
        for slot in range(2):
            k.set_flag("V_MTE2", slot)
            k.set_flag("MTE3_V", slot)
        turn = k.variable(0, "turn")
        with k.loop(core, x.dim(0), cores, name="row") as row:
            now = turn % 2
            here, out = source.at_byte(now * row_bytes), result.at_byte(now * row_bytes)
            k.wait_flag("V_MTE2", now)
            k.data_copy_pad(here, x[row * columns], block_len=columns * size)
            k.set_flag("MTE2_V", now)
            k.wait_flag("MTE2_V", now)
            values = wide if cast else here
            if cast:
                v.cast(wide, here)
            reduce_row(k, "whole_reduce_max", parts, values, columns)
            k.brcb(block, parts, repeat=1)
            k.pipe_barrier("V")
            v.sub(other, values, block, **SPREAD)
            k.set_flag("V_MTE2", now)
            v.exp(other, other)
            reduce_row(k, "whole_reduce_sum", parts, other, columns)
            k.brcb(block, parts, repeat=1)
            k.pipe_barrier("V")
            k.wait_flag("MTE3_V", now)
            v.div(other if cast else out, other, block, **SPREAD)
            if cast:
                v.cast(out, other, "rint")
            k.set_flag("V_MTE3", now)
            k.wait_flag("V_MTE3", now)
            k.data_copy_pad(y[row * columns], out, block_len=columns * size)
            k.set_flag("MTE3_V", now)
            k.assign(turn, turn + 1)
        for slot in range(2):
            k.wait_flag("V_MTE2", slot)
            k.wait_flag("MTE3_V", slot)
    return k.finish()


def reduce_row(k: npu.Builder, name: str, dst: Local, src: Local, count: int) -> None:
    """dst[0] = the sum or the maximum of `count` elements: one for each repeat, and so on, until one is left. Leaves 8
    elements of dst with values."""
    order = {"order": "only_value"} if name == "whole_reduce_max" else {}
    k.duplicate(dst, 0.0, count=8)
    k.pipe_barrier("V")
    while True:
        getattr(k, name)(dst, src, count=count, **order)
        k.pipe_barrier("V")
        count = -(-count // 64)
        src = dst
        if count == 1:
            return


def group_norm(
    chip: str | Chip, dtype: str, group: int, *, epsilon: float = 1e-5, tile: int = 0
) -> npu.Program:
    """y = (x - mean) / sqrt(variance + epsilon) of groups of `group` elements that follow each other; a core has whole
    groups. (The weights of channels are left out.)"""
    size = BYTES[dtype]
    cast = dtype != "f32"
    tile = min(tile or (7680 if cast else 6144), -(-group // 64) * 64)
    k = npu.Builder("group_norm", chip)
    x, y = k.argument("x", dtype, 2), k.argument("y", dtype, 2)
    with k.code("aiv"):
        source = k.allocate("UB", 2 * tile * size, dtype, "x")
        result = k.allocate("UB", 2 * tile * size, dtype, "y")
        wide = k.allocate("UB", tile * 4, "f32", "x wide") if cast else source
        sums, squares = k.allocate("UB", tile * 4, "f32", "sums"), k.allocate("UB", tile * 4, "f32", "sums of squares")
        temporary = k.allocate("UB", tile * 4, "f32", "squares")
        parts = k.allocate("UB", 1024, "f32", "of repeats")
        mean, deviation = k.allocate("UB", 512, "f32", "mean"), k.allocate("UB", 512, "f32", "1 / deviation")
        lanes = k.chip.vector_cores_per_block
        core, cores = k.block_idx * lanes + k.sub_block_idx, k.block_num * lanes
        whole = Vector(k, count=tile)
        for slot in range(2):
            k.set_flag("V_MTE2", slot)
            k.set_flag("MTE3_V", slot)
        turn = k.variable(0, "turn")

        def load(at: npu.Scalar, length: npu.Scalar, now: npu.Scalar) -> Local:
            here = source[now * tile]
            k.wait_flag("V_MTE2", now)
            k.data_copy_pad(here, x[at], block_len=length * size)
            k.set_flag("MTE2_V", now)
            k.wait_flag("MTE2_V", now)
            if not cast:
                return here
            Vector(k, count=length).cast(wide, here)
            return wide

        with k.loop(core, x.dim(0), cores, name="group") as index:
            begin = index * group
            whole.duplicate(sums, 0.0)
            whole.duplicate(squares, 0.0)
            with k.loop(0, group, tile, name="at") as at:
                now = turn % 2
                length = k.compute("min", group - at, tile)
                v = Vector(k, count=length)
                values = load(begin + at, length, now)
                v.add(sums, sums, values)
                v.mul(temporary, values, values)
                k.set_flag("V_MTE2", now)
                v.add(squares, squares, temporary)
                k.assign(turn, turn + 1)
            one = Vector(k, count=8)
            reduce_row(k, "whole_reduce_sum", parts, sums, tile)
            one.muls(parts, parts, 1.0 / group)
            k.brcb(mean, parts, repeat=1)
            k.pipe_barrier("V")
            reduce_row(k, "whole_reduce_sum", parts, squares, tile)
            one.muls(parts, parts, 1.0 / group)
            k.brcb(deviation, parts, repeat=1)
            k.pipe_barrier("V")
            one.mul(parts, mean, mean)
            one.sub(deviation, deviation, parts)
            one.adds(deviation, deviation, epsilon)
            one.rsqrt(deviation, deviation)
            with k.loop(0, group, tile, name="at") as at:
                now = turn % 2
                length = k.compute("min", group - at, tile)
                v = Vector(k, count=length)
                out = result[now * tile]
                values = load(begin + at, length, now)
                v.sub(temporary, values, mean, **SPREAD)
                k.set_flag("V_MTE2", now)
                k.wait_flag("MTE3_V", now)
                v.mul(temporary if cast else out, temporary, deviation, **SPREAD)
                if cast:
                    v.cast(out, temporary, "rint")
                k.set_flag("V_MTE3", now)
                k.wait_flag("V_MTE3", now)
                k.data_copy_pad(y[begin + at], out, block_len=length * size)
                k.set_flag("MTE3_V", now)
                k.assign(turn, turn + 1)
        for slot in range(2):
            k.wait_flag("V_MTE2", slot)
            k.wait_flag("MTE3_V", slot)
    return k.finish()

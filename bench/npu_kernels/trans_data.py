"""Changes of layout around a convolution, as CANN's operator TransData does them: from NCHW to the cube's layouts and back.

Source: canndev, TransData (tiling: trans_data_positive_source_ntc_100.cc; instructions:
impl/dynamic/trans_data_positive_source_ntc.py). Cores share one axis only, that which keeps most of them at work. A core
has one buffer to load to and one to store from, so that its pipes mostly work one after the other. Elements have 16 bits.
"""

from __future__ import annotations

from dataclasses import dataclass

from opdsl import npu
from opdsl.npu.chip import Chip

from .vector import Vector, read_tiling

C0 = 16
RESERVED = 4096
"""Bytes of UB that the operator keeps for its tiling."""


@dataclass(frozen=True)
class Loops:
    """How often each axis is gone through, and which one the cores share."""

    left: int
    blocks: int
    right: int
    shared: str
    cores: int


def loops_of(chip: Chip, left: int, blocks: int, right: int) -> Loops:
    counts = {"left": left, "blocks": blocks, "right": right}
    most = chip.cores["aiv"]

    def busy(count: int) -> int:
        rest = count % most
        return (most if count >= most else 0) + (rest or most)

    shared = max(counts, key=lambda name: busy(counts[name]))
    count = counts[shared]
    return Loops(left, blocks, right, shared, -(-count // -(-count // most)))


class _Nest:
    """The loops of a core: over blocks of channels, then what is left and what is right of them."""

    def __init__(self, k: npu.Builder, loops: Loops) -> None:
        self.k, self.loops = k, loops
        self.core = k.block_idx * k.chip.vector_cores_per_block + k.sub_block_idx

    def bounds(self, name: str) -> tuple[npu.Scalar, npu.Scalar]:
        k, count = self.k, getattr(self.loops, name)
        if name != self.loops.shared:
            return k.constant(0), k.constant(count)
        share = -(-count // self.loops.cores)
        first = self.core * share
        return first, k.compute("min", first + share, count)

    def only_mine(self) -> npu.Scalar:
        return self.core < self.loops.cores


def image(chip: Chip, batch: int, channels: int, places: int, *, back: bool = False) -> npu.Program:
    """(N, C, HW) -> (N, C / 16, HW, 16), or back."""
    k = npu.Builder("trans_data", chip)
    x, y = k.argument("x", "f16"), k.argument("y", "f16")
    blocks = -(-channels // C0)
    line = (chip.buffers["UB"] - RESERVED) // 2 // 2 // C0 // C0 * C0
    step = min(line, -(-places // C0) * C0)
    with k.code("aiv"):
        read_tiling(k)
        nest = _Nest(k, loops_of(chip, batch, blocks, -(-places // step)))
        source = k.allocate("UB", step * C0 * 2, "f16", "x")
        result = k.allocate("UB", step * C0 * 2, "f16", "y")
        Vector(k, step * C0).duplicate(source, 0.0)
        k.set_flag("V_MTE2", 0)
        k.set_flag("MTE3_V", 0)
        with (
            k.if_(nest.only_mine()),
            k.loop(*nest.bounds("blocks"), name="c") as c,
            k.loop(*nest.bounds("left"), name="n") as n,
            k.loop(*nest.bounds("right"), name="at") as part,
        ):
            at = part * step
            here = k.compute("min", k.constant(places) - at, step)
            lines = k.compute("min", k.constant(channels) - c * C0, C0)
            apart = ((n * channels) + c * C0) * places + at
            together = ((n * blocks + c) * places + at) * C0
            repeat = (here + (C0 - 1)) // C0
            gap = (k.constant(places) - here) * 2
            whole = k.constant(step // C0) - repeat
            if channels % C0 and not back:
                with k.if_(c == blocks - 1):
                    Vector(k, (C0 - channels % C0) * step).duplicate(source[channels % C0 * step], 0.0)
            k.wait_flag("V_MTE2", 0)
            if back:
                k.data_copy_pad(source, x[together], block_len=here * (C0 * 2))
            else:
                k.data_copy_pad(
                    source,
                    x[apart],
                    block_count=lines,
                    block_len=here * 2,
                    src_stride=gap,
                    dst_stride=whole,
                    right_padding=repeat * C0 - here,
                )
            k.set_flag("MTE2_V", 0)
            k.wait_flag("MTE2_V", 0)
            k.wait_flag("MTE3_V", 0)
            if back:
                steps = {"dst_step": step * 2, "src_step": 32, "dst_rep_stride": 1, "src_rep_stride": C0}
            else:
                steps = {"dst_step": 32, "src_step": step * 2, "dst_rep_stride": C0, "src_rep_stride": 1}
            k.trans_data_to_5hd(result, source, repeat=repeat, **steps)
            k.pipe_barrier("V")
            k.set_flag("V_MTE2", 0)
            k.set_flag("V_MTE3", 0)
            k.wait_flag("V_MTE3", 0)
            if back:
                k.data_copy_pad(
                    y[apart], result, block_count=lines, block_len=here * 2, src_stride=whole, dst_stride=gap
                )
            else:
                k.data_copy_pad(y[together], result, block_len=here * (C0 * 2))
            k.set_flag("MTE3_V", 0)
        k.wait_flag("V_MTE2", 0)
        k.wait_flag("MTE3_V", 0)
    return k.finish()


def fill(chip: Chip) -> npu.Program:
    """y = 0, which TransData needs before it writes fractals whose last one is not full."""
    k = npu.Builder("fill", chip)
    y = k.argument("y", "f16")
    tile = 16384
    with k.code("aiv"):
        read_tiling(k)
        zeros = k.allocate("UB", tile * 2, "f16", "zeros")
        Vector(k, tile).duplicate(zeros, 0.0)
        k.set_flag("V_MTE3", 0)
        k.wait_flag("V_MTE3", 0)
        core = k.block_idx * chip.vector_cores_per_block + k.sub_block_idx
        share = (y.dim(0) + (chip.cores["aiv"] - 1)) // chip.cores["aiv"]
        end = k.compute("min", (core + 1) * share, y.dim(0))
        with k.loop(core * share, end, tile, name="at") as at:
            k.data_copy_pad(y[at], zeros, block_len=k.compute("min", end - at, tile) * 2)
    return k.finish()


def pointwise_weights(chip: Chip, outputs: int, channels: int) -> npu.Program:
    """(Cout, C) -> (C / 16, Cout, 16) of filters of one place: channels are innermost as they are, so that rows are loaded
    whole and stored block by block. C is a multiple of 16."""
    k = npu.Builder("trans_data", chip)
    x, y = k.argument("x", "f16"), k.argument("y", "f16")
    most = min(outputs, (chip.buffers["UB"] - RESERVED) // 2 // (channels * 2))
    tiles = -(-outputs // most)
    with k.code("aiv"):
        read_tiling(k)
        rows = k.allocate("UB", most * channels * 2, "f16", "rows")
        core = k.block_idx * chip.vector_cores_per_block + k.sub_block_idx
        k.set_flag("MTE3_MTE2", 0)
        with k.loop(core, tiles, chip.cores["aiv"], name="tile") as tile:
            first = tile * most
            count = k.compute("min", k.constant(outputs) - first, most)
            k.wait_flag("MTE3_MTE2", 0)
            k.data_copy_pad(rows, x[first * channels], block_len=count * (channels * 2))
            k.set_flag("MTE2_MTE3", 0)
            k.wait_flag("MTE2_MTE3", 0)
            with k.loop(0, channels // C0, name="c") as c:
                place = y[(c * outputs + first) * C0]
                k.data_copy(place, rows[c * C0], block_count=count, block_len=1, src_stride=channels // C0 - 1)
            k.set_flag("MTE3_MTE2", 0)
        k.wait_flag("MTE3_MTE2", 0)
    return k.finish()


def weights(chip: Chip, outputs: int, channels: int, taps: int) -> npu.Program:
    """(Cout, C, taps) -> fractals (C / 16, taps, Cout, 16); both numbers of channels are padded with zeros."""
    k = npu.Builder("trans_data", chip)
    x, y = k.argument("x", "f16"), k.argument("y", "f16")
    rows, blocks = -(-outputs // C0), -(-channels // C0)
    area = C0 * C0 * taps
    with k.code("aiv"):
        read_tiling(k)
        nest = _Nest(k, loops_of(chip, rows, blocks, 1))
        source, result = (k.allocate("UB", area * 2, "f16", name) for name in ("x", "y"))
        turned, moved = (k.allocate("UB", area * 2, "f16", name) for name in ("turned", "moved"))
        k.set_flag("V_MTE2", 0)
        k.set_flag("MTE3_V", 0)
        with (
            k.if_(nest.only_mine()),
            k.loop(*nest.bounds("blocks"), name="c") as c,
            k.loop(*nest.bounds("left"), name="n") as n,
        ):
            lines = k.compute("min", k.constant(outputs) - n * C0, C0)
            wide = k.compute("min", k.constant(channels) - c * C0, C0)
            k.wait_flag("V_MTE2", 0)
            if outputs % C0 or channels % C0:
                Vector(k, area).duplicate(source, 0.0)
                k.set_flag("V_MTE2", 1)
                k.wait_flag("V_MTE2", 1)
            with k.loop(0, lines, name="line") as line:
                at = ((n * C0 + line) * channels + c * C0) * taps
                length = wide * taps
                filled = (length + (C0 - 1)) // C0 * C0 - length
                k.data_copy_pad(source[line * (C0 * taps)], x[at], block_len=length * 2, right_padding=filled)
            k.set_flag("MTE2_V", 0)
            k.wait_flag("MTE2_V", 0)
            # Outputs become the innermost axis, taps change places with channels, channels become the innermost.
            k.trans_data_to_5hd(
                turned,
                source,
                dst_step=32,
                src_step=C0 * taps * 2,
                repeat=taps,
                dst_rep_stride=C0,
                src_rep_stride=1,
            )
            k.pipe_barrier("V")
            k.set_flag("V_MTE2", 0)
            for channel in range(C0):
                k.data_copy(
                    moved[channel * C0], turned[channel * taps * C0], block_count=taps, block_len=1, dst_stride=C0 - 1
                )
            k.pipe_barrier("V")
            k.wait_flag("MTE3_V", 0)
            k.trans_data_to_5hd(
                result, moved, dst_step=32, src_step=32, repeat=taps, dst_rep_stride=C0, src_rep_stride=C0
            )
            k.set_flag("V_MTE3", 0)
            k.wait_flag("V_MTE3", 0)
            k.data_copy_pad(
                y[(c * taps * rows + n) * (C0 * C0)],
                result,
                block_count=taps,
                block_len=C0 * C0 * 2,
                dst_stride=(rows - 1) * (C0 * C0 * 2),
            )
            k.set_flag("MTE3_V", 0)
        k.wait_flag("V_MTE2", 0)
        k.wait_flag("MTE3_V", 0)
    return k.finish()

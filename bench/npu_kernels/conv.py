"""Convolution on the cube as an implicit product: the image lies in L1, `load_data_3d` takes its patches into L0A.

Arrays in the cube's own layouts, as CANN's operator works on: x (N, C1, H, W, 16), weights in fractals (C1 * KH * KW,
Cout / 16, 16, 16), y (N * Ho * Wo, Cout). Other layouts are brought there and back by passes of their own.
"""

from __future__ import annotations

from dataclasses import dataclass

from opdsl import npu
from opdsl.npu.chip import Chip

C0 = 16
GROUP = 4


@dataclass(frozen=True)
class Image:
    """Sizes in elements; the filter is kernel x kernel, with the same stride, padding and dilation both ways."""

    batch: int
    channels: int
    height: int
    width: int
    outputs: int
    kernel: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1

    @property
    def c1(self) -> int:
        return -(-self.channels // C0)

    @property
    def out_height(self) -> int:
        return self._out(self.height)

    @property
    def out_width(self) -> int:
        return self._out(self.width)

    @property
    def x_size(self) -> int:
        """Elements of x in the cube's layout; so for the weights and y."""
        return self.batch * self.c1 * self.height * self.width * C0

    @property
    def weights_size(self) -> int:
        return self.c1 * self.kernel**2 * -(-self.outputs // C0) * C0 * C0

    @property
    def y_size(self) -> int:
        return self.batch * self.out_height * self.out_width * -(-self.outputs // C0) * C0

    def _out(self, size: int) -> int:
        return (size + 2 * self.padding - self.dilation * (self.kernel - 1) - 1) // self.stride + 1

    @property
    def products(self) -> float:
        return self.batch * self.out_height * self.out_width * self.outputs * self.channels * self.kernel**2


@dataclass(frozen=True)
class Tile:
    """`rows` of the output's image and `n` output channels at a time, `c1` blocks of channels at a time in L1, and `k_l0`
    of the patches' elements in L0."""

    rows: int
    m: int
    n: int
    c1: int
    k_l0: int


def tile_of(image: Image, chip: Chip) -> Tile:
    """Whole rows of the output, up to 128 places (or 256 where there are few channels), that fit L1 and L0C."""
    outputs = -(-image.outputs // 16) * 16
    best: tuple[float, Tile] | None = None
    for n in (256, 128, 64):
        for places in (128, 256):
            if n * places * 4 > chip.buffers["L0C"]:
                continue
            rows = max(1, min(places // image.out_width, image.out_height))
            m = -(-rows * image.out_width // 16) * 16
            if m * min(n, outputs) * 4 > chip.buffers["L0C"]:
                continue
            lines = (rows - 1) * image.stride + image.dilation * (image.kernel - 1) + 1
            here = min(lines, image.height + 2 * image.padding)
            wide = min(n, outputs)
            c1 = 0
            for count in range(1, image.c1 + 1):
                used = 2 * count * (here * image.width * 32 + image.kernel**2 * wide * 32)
                if used <= chip.buffers["L1"] and count * image.kernel**2 * C0 <= 2304:
                    c1 = count
            if not c1:
                continue
            tiles = image.batch * -(-image.out_height // rows) * -(-outputs // wide)
            waves = -(-tiles // chip.cores["aic"])
            cost = waves * max(m * wide / 256, 0.0 + (here * image.width / image.kernel**2 + wide) * 32 / 83)
            deepest = min(chip.buffers["L0A"] // 2 // (m * 2), chip.buffers["L0B"] // 2 // (wide * 2))
            tile = Tile(rows, m, wide, c1, min(64, deepest // 16 * 16))
            if best is None or cost < best[0]:
                best = (cost, tile)
    if best is None:
        raise ValueError("an image row does not fit the buffers")
    return best[1]


def conv2d(chip: str | Chip, image: Image, dtype: str = "f16") -> npu.Program:
    """y = conv2d(x, weights)."""
    k = npu.Builder("conv2d", chip)
    g, t = image, tile_of(image, k.chip)
    taps = g.kernel * g.kernel
    n_blocks = -(-g.outputs // 16)
    x, w, y = (k.argument(name, dtype) for name in ("x", "w", "y"))
    lines = min((t.rows - 1) * g.stride + g.dilation * (g.kernel - 1) + 1, g.height)
    with k.code("aic"):
        x1 = k.allocate("L1", 2 * t.c1 * lines * g.width * 32, dtype, "x in L1")
        w1 = k.allocate("L1", 2 * t.c1 * taps * t.n * 32, dtype, "w in L1")
        a0 = k.allocate("L0A", 2 * t.m * t.k_l0 * 2, dtype, "patches")
        b0 = k.allocate("L0B", 2 * t.k_l0 * t.n * 2, dtype, "weights")
        c0 = k.allocate("L0C", t.m * t.n * 4, "f32", "y in L0C")
        for event in ("MTE1_MTE2", "M_MTE1"):
            k.set_flag(event, 0)
            k.set_flag(event, 1)
        k.set_flag("FIX_M", 0)
        turn_1, turn_0 = k.variable(0, "turn_1"), k.variable(0, "turn_0")
        down, across = -(-g.out_height // t.rows), -(-n_blocks * 16 // t.n)
        with k.loop(k.block_idx, g.batch * down * across, k.block_num, name="tile") as tile:
            # Groups of four bands of rows with all of the weights: cores at work share both in the L2.
            group, inside = tile // (GROUP * across), tile % (GROUP * across)
            bands = k.compute("min", k.constant(g.batch * down) - group * GROUP, GROUP)
            part, band = inside // bands, group * GROUP + inside % bands
            batch, band = band // down, band % down
            row = band * t.rows
            rows = k.compute("min", k.constant(g.out_height) - row, t.rows)
            m = rows * g.out_width
            m16 = (m + 15) // 16 * 16
            n = k.compute("min", k.constant(n_blocks * 16) - part * t.n, t.n)
            # The lines of the image that these rows read, without the padding.
            begin = row * g.stride - g.padding
            top = k.compute("max", begin, 0)
            end = k.compute("min", begin + ((rows - 1) * g.stride + g.dilation * (g.kernel - 1) + 1), g.height)
            high = end - top
            above = top - begin
            below = k.compute("max", begin + ((rows - 1) * g.stride + g.dilation * (g.kernel - 1) + 1) - g.height, 0)
            k.wait_flag("FIX_M", 0)
            with k.loop(0, g.c1, t.c1, name="c") as c:
                slot = turn_1 % 2
                count = k.compute("min", k.constant(g.c1) - c, t.c1)
                here, weights = x1[slot * (t.c1 * lines * g.width * C0)], w1[slot * (t.c1 * taps * t.n * C0)]
                k.wait_flag("MTE1_MTE2", slot)
                k.data_copy(
                    here,
                    x[((batch * g.c1 + c) * g.height + top) * (g.width * C0)],
                    block_count=count,
                    block_len=high * g.width,
                    src_stride=(k.constant(g.height) - high) * g.width,
                )
                k.data_copy(
                    weights,
                    w[(c * taps * n_blocks + part * (t.n // 16)) * 256],
                    block_count=count * taps,
                    block_len=n,
                    src_stride=k.constant(n_blocks * 16) - n,
                )
                k.set_flag("MTE2_MTE1", slot)
                k.wait_flag("MTE2_MTE1", slot)
                with k.loop(0, count * (taps * C0), t.k_l0, name="k0") as k0:
                    now = turn_0 % 2
                    depth = k.compute("min", count * (taps * C0) - k0, t.k_l0)
                    left, right = a0[now * (t.m * t.k_l0)], b0[now * (t.k_l0 * t.n)]
                    k.wait_flag("M_MTE1", now)
                    k.load_data_3d(
                        left,
                        here,
                        l1_h=high,
                        l1_w=g.width,
                        channel_size=count * C0,
                        k_extension=depth,
                        m_extension=m16,
                        k_start_pt=k0,
                        stride_w=g.stride,
                        stride_h=g.stride,
                        filter_w=g.kernel,
                        filter_h=g.kernel,
                        dilation_filter_w=g.dilation,
                        dilation_filter_h=g.dilation,
                        pads=(g.padding, g.padding, above, below),
                    )
                    k.load_data(right, weights[k0 * n], repeat_times=(depth // 16) * (n // 16))
                    k.set_flag("MTE1_M", now)
                    k.wait_flag("MTE1_M", now)
                    k.mmad(c0, left, right, m=m, n=n, k=depth, init=(c + k0) == 0)
                    k.pipe_barrier("M")
                    k.set_flag("M_MTE1", now)
                    k.assign(turn_0, turn_0 + 1)
                k.set_flag("MTE1_MTE2", slot)
                k.assign(turn_1, turn_1 + 1)
            k.set_flag("M_FIX", 0)
            k.wait_flag("M_FIX", 0)
            k.fixpipe(
                y[((batch * g.out_height + row) * g.out_width) * (n_blocks * 16) + part * t.n],
                c0,
                n_size=n,
                m_size=m,
                src_stride=m16,
                dst_stride=n_blocks * 16,
                quant_mode="f32_to_f16" if dtype == "f16" else "f32_to_bf16",
            )
            k.set_flag("FIX_M", 0)
        k.wait_flag("FIX_M", 0)
        for event in ("MTE1_MTE2", "M_MTE1"):
            k.wait_flag(event, 0)
            k.wait_flag(event, 1)
    return k.finish()

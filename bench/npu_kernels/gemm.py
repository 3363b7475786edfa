"""Matrix products on the cube, as the published ones are written: persistent, tiles of 128 x 256 in L0C, double buffers.

`schedule` has the published tile shapes and the steps of the optimisation ladder (huawei-csl/pto-dsl,
examples/aot/matmul_optimization_guide; hicann/pto-isa, kernels/manual/a2a3/gemm_performance).
"""

from __future__ import annotations

from dataclasses import dataclass

from opdsl import npu
from opdsl.npu.chip import Chip

QUANTISATION = {("f32", "f16"): "f32_to_f16", ("f32", "bf16"): "f32_to_bf16", ("i32", "f16"): "dequant_f16"}
BYTES = {"f32": 4, "f16": 2, "bf16": 2, "i8": 1, "i32": 4}


@dataclass(frozen=True)
class Schedule:
    """Tile shapes in elements. `k_a` and `k_b` are the depths of the tiles of a and b in L1 (k_a a multiple of k_b),
    `l1` and `l0` how many buffers there are. `swizzle`: columns of tiles that are done together, so that what they read
    stays in the L2; 0: row after row. `grid`: instead, the cores share c as a grid of blocks. `automatic`: the buffers of
    b in L1 are handed back once in an iteration over k_a (where it does not need them twice), as a compiler does that sets
    the flags of a loop's back edge at its end."""

    m: int = 128
    n: int = 256
    k_a: int = 256
    k_b: int = 256
    k_l0: int = 64
    l1: int = 2
    l0: int = 2
    swizzle: int = 5
    grid: tuple[int, int] | None = None
    automatic: bool = False


def gemm(
    chip: str | Chip,
    schedule: Schedule = Schedule(),
    *,
    dtype: str = "f16",
    out: str = "f16",
    transposed: bool = False,
    blocks: int = 0,
) -> npu.Program:
    """c (M x N) = a (M x K) @ b (K x N, or N x K where `transposed`), of any sizes; integers give scaled f16."""
    s = schedule
    k = npu.Builder("gemm", chip)
    a, b, c = k.argument("a", dtype, 2), k.argument("b", dtype, 2), k.argument("c", out, 2)
    size = BYTES[dtype]
    accumulator = "i32" if dtype == "i8" else "f32"
    c0 = 32 // size
    late = s.automatic and s.l1 * s.k_b >= s.k_a
    with k.code("aic"):
        al1 = k.allocate("L1", s.l1 * s.m * s.k_a * size, dtype, "a in L1")
        bl1 = k.allocate("L1", s.l1 * s.k_b * s.n * size, dtype, "b in L1")
        al0 = k.allocate("L0A", s.l0 * s.m * s.k_l0 * size, dtype, "a in L0A")
        bl0 = k.allocate("L0B", s.l0 * s.k_l0 * s.n * size, dtype, "b in L0B")
        cl0 = k.allocate("L0C", s.m * s.n * 4, accumulator, "c in L0C")
        rows, inner, columns = a.dim(0), a.dim(1), c.dim(1)
        down, across = ceil_div(k, rows, s.m), ceil_div(k, columns, s.n)
        for slot in range(s.l1):
            k.set_flag("MTE1_MTE2", slot)
            k.set_flag("MTE1_MTE2", 4 + slot)
        for slot in range(s.l0):
            k.set_flag("M_MTE1", slot)
        k.set_flag("FIX_M", 0)
        turn_a, turn_b, turn_0 = (k.variable(0, name) for name in ("turn_a", "turn_b", "turn_0"))
        if s.grid is None:
            tiles = k.loop(k.block_idx, down * across, k.block_num, name="tile")
        else:  # block (block_idx // wide, block_idx % wide) of the grid, its tiles row after row
            high, wide = s.grid
            block_m, block_n = ceil_div(k, down, high), ceil_div(k, across, wide)
            first_m, first_n = k.block_idx // wide * block_m, k.block_idx % wide * block_n
            high_here = k.compute("max", k.compute("min", block_m, down - first_m), 0)
            block_n = k.compute("max", k.compute("min", block_n, across - first_n), 0)
            tiles = k.loop(0, high_here * block_n, name="tile")
        with tiles as tile:
            if s.grid is None:
                tile_m, tile_n = place(k, tile, down, across, s.swizzle)
            else:
                tile_m, tile_n = first_m + tile // block_n, first_n + tile % block_n
            row, column = tile_m * s.m, tile_n * s.n
            m, n = k.compute("min", rows - row, s.m), k.compute("min", columns - column, s.n)
            m16, n16 = round_up(k, m, 16), round_up(k, n, max(16, c0) if not transposed else 16)
            k.wait_flag("FIX_M", 0)
            with k.loop(0, inner, s.k_a, name="ka") as ka:
                slot_a = turn_a % s.l1
                a1 = al1[slot_a * (s.m * s.k_a)]
                depth_a = k.compute("min", inner - ka, s.k_a)
                k.wait_flag("MTE1_MTE2", slot_a)
                k.data_copy_nd2nz(
                    a1,
                    a[row * inner + ka],
                    n_value=m,
                    d_value=depth_a,
                    src_d_value=inner,
                    dst_nz_c0_stride=m16,
                )
                k.set_flag("MTE2_MTE1", slot_a)
                if late:
                    for slot in range(s.l1):
                        k.wait_flag("MTE1_MTE2", 4 + slot)
                with k.loop(0, depth_a, s.k_b, name="kb") as kb:
                    slot_b = turn_b % s.l1
                    b1 = bl1[slot_b * (s.k_b * s.n)]
                    depth = k.compute("min", depth_a - kb, s.k_b)
                    depth16 = round_up(k, depth, max(16, c0))
                    if not late:
                        k.wait_flag("MTE1_MTE2", 4 + slot_b)
                    if transposed:
                        k.data_copy_nd2nz(
                            b1,
                            b[column * inner + ka + kb],
                            n_value=n,
                            d_value=depth,
                            src_d_value=inner,
                            dst_nz_c0_stride=n16,
                        )
                    else:
                        k.data_copy_nd2nz(
                            b1,
                            b[(ka + kb) * columns + column],
                            n_value=depth,
                            d_value=n,
                            src_d_value=columns,
                            dst_nz_c0_stride=depth16,
                        )
                    k.set_flag("MTE2_MTE1", 4 + slot_b)
                    with k.if_(kb == 0):
                        k.wait_flag("MTE2_MTE1", slot_a)
                    k.wait_flag("MTE2_MTE1", 4 + slot_b)
                    with k.loop(0, depth, s.k_l0, name="k0") as k0:
                        slot_0 = turn_0 % s.l0
                        a0, b0 = al0[slot_0 * (s.m * s.k_l0)], bl0[slot_0 * (s.k_l0 * s.n)]
                        now = k.compute("min", depth - k0, s.k_l0)
                        now_c0 = round_up(k, now, max(16, c0))
                        k.wait_flag("M_MTE1", slot_0)
                        k.load_data_3d(
                            a0,
                            a1,
                            l1_h=1,
                            l1_w=m16,
                            channel_size=round_up(k, depth_a, c0),
                            k_extension=now_c0,
                            m_extension=m16,
                            k_start_pt=kb + k0,
                        )
                        if transposed:
                            k.load_data_3d(
                                b0,
                                b1,
                                l1_h=1,
                                l1_w=n16,
                                channel_size=depth16,
                                k_extension=now_c0,
                                m_extension=n16,
                                k_start_pt=k0,
                                en_transpose=True,
                            )
                        else:
                            k.load_data_3d(
                                b0,
                                b1,
                                l1_h=1,
                                l1_w=depth16,
                                channel_size=n16,
                                k_extension=n16,
                                m_extension=now_c0,
                                m_start_pt=k0,
                            )
                        k.set_flag("MTE1_M", slot_0)
                        k.wait_flag("MTE1_M", slot_0)
                        k.mmad(cl0, a0, b0, m=m, n=n, k=now, init=(ka + kb + k0) == 0)
                        k.set_flag("M_MTE1", slot_0)
                        k.assign(turn_0, turn_0 + 1)
                    if not late:
                        k.set_flag("MTE1_MTE2", 4 + slot_b)
                    k.assign(turn_b, turn_b + 1)
                k.set_flag("MTE1_MTE2", slot_a)
                if late:
                    for slot in range(s.l1):
                        k.set_flag("MTE1_MTE2", 4 + slot)
                k.assign(turn_a, turn_a + 1)
            k.set_flag("M_FIX", 0)
            k.wait_flag("M_FIX", 0)
            k.fixpipe(
                c[row * columns + column],
                cl0,
                n_size=n,
                m_size=m,
                src_stride=m16,
                dst_stride=columns,
                quant_mode=QUANTISATION.get((accumulator, out), "none"),
            )
            k.set_flag("FIX_M", 0)
        k.wait_flag("FIX_M", 0)
        for slot in range(s.l1):
            k.wait_flag("MTE1_MTE2", slot)
            k.wait_flag("MTE1_MTE2", 4 + slot)
        for slot in range(s.l0):
            k.wait_flag("M_MTE1", slot)
    return k.finish(block_num=blocks or (s.grid[0] * s.grid[1] if s.grid else 0))


def place(
    k: npu.Builder, tile: npu.Scalar, down: npu.Scalar, across: npu.Scalar, swizzle: int
) -> tuple[npu.Scalar, npu.Scalar]:
    """Row and column of a tile. With `swizzle`: columns in bands so wide, up and down them in turn."""
    if not swizzle:
        return tile // across, tile % across
    band = tile // (down * swizzle)
    inside = tile % (down * swizzle)
    width = k.compute("min", across - band * swizzle, swizzle)
    tile_m = inside // width
    tile_m = k.choose(band % 2 == 1, down - 1 - tile_m, tile_m)
    return tile_m, band * swizzle + inside % width


def ceil_div(k: npu.Builder, value: npu.Scalar, unit: int) -> npu.Scalar:
    return (value + (unit - 1)) // unit


def round_up(k: npu.Builder, value: npu.Scalar, unit: int) -> npu.Scalar:
    return (value + (unit - 1)) // unit * unit


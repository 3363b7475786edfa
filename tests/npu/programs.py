"""NPU programs written by hand, for tests: double-buffered addition and matrix products."""

from typing import Any

from opdsl import npu


def vector_add(
    chip: str = "910b2", tile: int = 2048, depth: int = 2, omit: str = "", dtype: str = "f32"
) -> npu.Program:
    """z = x + y, tiles of `tile` elements over all vector cores, `depth` buffers. `omit` leaves one flag out."""
    size = {"f32": 4, "f16": 2}[dtype]
    k = npu.Builder("vector_add", chip)
    x, y, z = (k.argument(name, dtype) for name in "xyz")
    split = k.chip.split
    with k.code("aiv" if split else "core"):
        a, b, c = (k.allocate("UB", depth * tile * size, dtype, name) for name in "abc")
        n = x.dim(0)
        core = k.block_idx * 2 + k.sub_block_idx if split else k.block_idx
        cores = k.block_num * (2 if split else 1)
        for slot in range(depth):
            k.set_flag("V_MTE2", slot)
            k.set_flag("MTE3_V", slot)
        turn = k.variable(0, "turn")
        with k.loop(core * tile, n, cores * tile) as at:
            slot = turn % depth
            here = slot * tile
            length = k.compute("min", n - at, tile)
            if omit != "V_MTE2":
                k.wait_flag("V_MTE2", slot)
            k.data_copy_pad(a[here], x[at], block_len=length * size)
            k.data_copy_pad(b[here], y[at], block_len=length * size)
            if omit != "MTE2_V":
                k.set_flag("MTE2_V", slot)
                k.wait_flag("MTE2_V", slot)
            if omit != "MTE3_V":
                k.wait_flag("MTE3_V", slot)
            k.add(c[here], a[here], b[here], count=length)
            if omit != "V_MTE2":
                k.set_flag("V_MTE2", slot)
            if omit != "V_MTE3":
                k.set_flag("V_MTE3", slot)
                k.wait_flag("V_MTE3", slot)
            k.data_copy_pad(z[at], c[here], block_len=length * size)
            if omit != "MTE3_V":
                k.set_flag("MTE3_V", slot)
            k.assign(turn, turn + 1)
        for slot in range(depth):
            k.wait_flag("V_MTE2", slot)
            k.wait_flag("MTE3_V", slot)
    return k.finish()


def queued_scale(chip: str = "910b2", tile: int = 2048, depth: int = 2) -> npu.Program:
    """y = 2 x by two queues, over all vector cores."""
    k = npu.Builder("queued_scale", chip)
    x, y = k.argument("x", "f32"), k.argument("y", "f32")
    split = k.chip.split
    with k.code("aiv" if split else "core"):
        inputs = k.queue("UB", tile * 4, "f32", depth, "MTE2", "V", name="inputs")
        outputs = k.queue("UB", tile * 4, "f32", depth, "V", "MTE3", name="outputs")
        core = k.block_idx * 2 + k.sub_block_idx if split else k.block_idx
        cores = k.block_num * (2 if split else 1)
        with k.loop(core * tile, x.dim(0), cores * tile) as at:
            length = k.compute("min", x.dim(0) - at, tile)
            k.data_copy_pad(inputs.alloc(), x[at], block_len=length * 4)
            inputs.enqueue()
            source, target = inputs.dequeue(), outputs.alloc()
            k.muls(target, source, 2.0, count=length)
            inputs.free()
            outputs.enqueue()
            k.data_copy_pad(y[at], outputs.dequeue(), block_len=length * 4)
            outputs.free()
        inputs.close()
        outputs.close()
    return k.finish()


def gemm(
    chip: str = "910b2",
    m_tile: int = 128,
    n_tile: int = 256,
    k_l1: int = 256,
    k_l0: int = 64,
    depth: int = 2,
    l0_depth: int = 2,
    swizzle: int = 1,
    out: str = "f32",
    b_transposed: bool = False,
) -> npu.Program:
    """c = a (f16, M x K) @ b (f16, K x N, or N x K); M, N and K are multiples of the tiles. Tiles go over the cube cores
    row by row, or (`swizzle`) through so many columns of tiles at a time, row by row."""
    k = npu.Builder("gemm", chip)
    a, b, c = k.argument("a", "f16", 2), k.argument("b", "f16", 2), k.argument("c", out, 2)
    quant = {"f32": "none", "f16": "f32_to_f16"}[out]
    with k.code("aic"):
        al1 = k.allocate("L1", depth * m_tile * k_l1 * 2, "f16", "al1")
        bl1 = k.allocate("L1", depth * k_l1 * n_tile * 2, "f16", "bl1")
        al0 = k.allocate("L0A", l0_depth * m_tile * k_l0 * 2, "f16", "al0")
        bl0 = k.allocate("L0B", l0_depth * k_l0 * n_tile * 2, "f16", "bl0")
        cl0 = k.allocate("L0C", m_tile * n_tile * 4, "f32", "cl0")
        rows, inner, columns = a.dim(0), a.dim(1), b.dim(0 if b_transposed else 1)
        across = columns // n_tile
        for slot in range(depth):
            k.set_flag("MTE1_MTE2", slot)
        for slot in range(l0_depth):
            k.set_flag("M_MTE1", slot)
        k.set_flag("FIX_M", 0)
        turn1, turn0 = k.variable(0, "turn1"), k.variable(0, "turn0")
        with k.loop(k.block_idx, rows // m_tile * across, k.block_num, name="tile") as tile:
            if swizzle == 1:
                row, column = tile // across * m_tile, tile % across * n_tile
            else:
                down = rows // m_tile
                group, inside = tile // (down * swizzle), tile % (down * swizzle)
                wide = k.compute("min", across - group * swizzle, swizzle)
                row, column = inside // wide * m_tile, (group * swizzle + inside % wide) * n_tile
            k.wait_flag("FIX_M", 0)
            with k.loop(0, inner, k_l1, name="k1") as k1:
                slot1 = turn1 % depth
                a1, b1 = al1[slot1 * (m_tile * k_l1)], bl1[slot1 * (k_l1 * n_tile)]
                k.wait_flag("MTE1_MTE2", slot1)
                rows_to_l1(k, a1, a[row * inner + k1], m_tile, k_l1, inner)
                if b_transposed:
                    rows_to_l1(k, b1, b[column * inner + k1], n_tile, k_l1, inner)
                else:
                    rows_to_l1(k, b1, b[k1 * columns + column], k_l1, n_tile, columns)
                k.set_flag("MTE2_MTE1", slot1)
                k.wait_flag("MTE2_MTE1", slot1)
                with k.loop(0, k_l1, k_l0, name="k0") as k0:
                    slot0 = turn0 % l0_depth
                    a0, b0 = al0[slot0 * (m_tile * k_l0)], bl0[slot0 * (k_l0 * n_tile)]
                    k.wait_flag("M_MTE1", slot0)
                    shape: Any = {"k_extension": k_l0, "m_extension": m_tile, "k_start_pt": k0}
                    k.load_data_3d(a0, a1, l1_h=1, l1_w=m_tile, channel_size=k_l1, **shape)
                    if b_transposed:
                        k.load_data(b0, b1[k0 * n_tile], repeat_times=k_l0 * n_tile // 256)
                    else:
                        shape = {"k_extension": n_tile, "m_extension": k_l0, "m_start_pt": k0}
                        k.load_data_3d(b0, b1, l1_h=1, l1_w=k_l1, channel_size=n_tile, **shape)
                    k.set_flag("MTE1_M", slot0)
                    k.wait_flag("MTE1_M", slot0)
                    k.mmad(cl0, a0, b0, m=m_tile, n=n_tile, k=k_l0, init=(k1 + k0) == 0)
                    k.set_flag("M_MTE1", slot0)
                    k.assign(turn0, turn0 + 1)
                k.set_flag("MTE1_MTE2", slot1)
                k.assign(turn1, turn1 + 1)
            k.set_flag("M_FIX", 0)
            k.wait_flag("M_FIX", 0)
            size: Any = {"n_size": n_tile, "m_size": m_tile, "src_stride": m_tile, "dst_stride": columns}
            k.fixpipe(c[row * columns + column], cl0, quant_mode=quant, **size)
            k.set_flag("FIX_M", 0)
        k.wait_flag("FIX_M", 0)
        for slot in range(depth):
            k.wait_flag("MTE1_MTE2", slot)
        for slot in range(l0_depth):
            k.wait_flag("M_MTE1", slot)
    return k.finish()


def rows_to_l1(
    k: npu.Builder, place: npu.Local, source: npu.Global, rows: int, columns: int, stride: npu.Scalar
) -> None:
    """`rows` x `columns` of a row-major matrix into NZ."""
    k.data_copy_nd2nz(place, source, n_value=rows, d_value=columns, src_d_value=stride, dst_nz_c0_stride=rows)

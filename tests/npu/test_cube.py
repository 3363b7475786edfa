"""The cube's instructions: fractal layouts, products, and the way out of L0C."""

import ml_dtypes
import numpy as np
import pytest
from harness import name_of
from programs import gemm

from opdsl import npu

BF16 = np.dtype(ml_dtypes.bfloat16)


def zeros_l1(k, places):
    """Fills L1 so that what a copy leaves out is initialised, too."""
    for place, size in places:
        k.init_const_value(place, block_num=size // 32)
    k.pipe_barrier("MTE2")


def product(
    a, b, out, *, transposed="", chip="910b2", quant="none", scale=1.0, bias=None, relu=False, to_b="3d", hf32=False
):
    """One tile: out = a @ b, by the instructions that `transposed` and `to_b` choose."""
    m, kk = a.shape if "a" not in transposed else a.shape[::-1]
    n = b.shape[1] if "b" not in transposed else b.shape[0]
    size = a.itemsize
    c0 = 32 // size
    up = lambda x, y: -(-x // y) * y  # noqa: E731
    k = npu.Builder("product", chip)
    dtype, result = name_of(a), "f32" if a.dtype.kind != "i" else "i32"
    ga, gb, gc = k.argument("a", dtype, 2), k.argument("b", dtype, 2), k.argument("c", name_of(out), 2)
    gbias = k.argument("bias", result) if bias is not None else None
    with k.code("aic"), k.if_(k.block_idx == 0):
        a1 = k.allocate("L1", up(a.shape[0], 32) * up(a.shape[1], 32) * size, dtype, "a1")
        b1 = k.allocate("L1", up(b.shape[0], 32) * up(b.shape[1], 32) * size, dtype, "b1")
        a0, b0, c0_ = k.local("L0A", 0, dtype), k.local("L0B", 0, dtype), k.local("L0C", 0, result)
        zeros_l1(
            k,
            [
                (a1, up(a.shape[0], 32) * up(a.shape[1], 32) * size),
                (b1, up(b.shape[0], 32) * up(b.shape[1], 32) * size),
            ],
        )
        rows_a, rows_b = up(a.shape[0], 16), up(b.shape[0], 32)

        def to_l1(place, source, array, rows):
            h, w = array.shape
            k.data_copy_nd2nz(place, source, n_value=h, d_value=w, src_d_value=w, dst_nz_c0_stride=rows)

        to_l1(a1, ga, a, rows_a)
        if to_b == "square32":  # groups of 16 rows, each in fractals of 8 columns
            h, w = b.shape
            k.data_copy_nd2nz(
                b1,
                gb,
                nd_num=h // 16,
                n_value=16,
                d_value=w,
                src_d_value=w,
                src_nd_matrix_stride=16 * w,
                dst_nz_c0_stride=16,
                dst_nz_matrix_stride=16 * w,
            )
        else:
            to_l1(b1, gb, b, rows_b)
        if gbias is not None:
            bias1 = k.allocate("L1", up(n, 16) * 4, result, "bias1")
            k.data_copy(bias1, gbias, block_len=up(n, 16) * 4 // 32)
        k.set_flag("MTE2_MTE1", 0)
        k.wait_flag("MTE2_MTE1", 0)
        k.load_data_3d(
            a0,
            a1,
            l1_h=1,
            l1_w=rows_a,
            channel_size=up(a.shape[1], c0),
            k_extension=up(a.shape[1], c0),
            m_extension=a.shape[0],
            en_transpose="a" in transposed,
        )
        if to_b == "3d" and "b" not in transposed:
            k.load_data_3d(
                b0, b1, l1_h=1, l1_w=rows_b, channel_size=up(n, c0), k_extension=up(n, c0), m_extension=up(kk, c0)
            )
        elif to_b == "square32":
            for row in range(kk // 16):
                k.load_data_transpose(
                    b0.view(dtype)[row * 2 * 8 * n],
                    b1[row * 16 * n],
                    repeat_times=n // 16,
                    dst_gap=0,
                    dst_frac_gap=n // 16 - 1,
                )
        elif to_b == "square8":
            for block in range(kk // 32):
                k.load_data_transpose(
                    b0[block * 32 * n], b1, start_index=block, src_stride=rows_b // 32, repeat_times=n // 32, dst_gap=1
                )
        elif "b" in transposed:  # (n, k) in L1: the fractals are those of L0B
            k.load_data(b0, b1, repeat_times=up(kk, c0) // c0 * rows_b // 16)
        else:
            for block in range(up(kk, 16) // 16):
                k.load_data(
                    b0[block * 16 * up(n, 16)],
                    b1,
                    start_index=block,
                    src_stride=rows_b // 16,
                    repeat_times=up(n, 16) // 16,
                    transpose=True,
                )
        table = None
        if gbias is not None:
            table = k.local("BT", 0, result)
            k.data_copy(table, bias1, block_len=up(n, 16) * 4 // 32)
        k.set_flag("MTE1_M", 0)
        k.wait_flag("MTE1_M", 0)
        k.mmad(c0_, a0, b0, m=m, n=n, k=kk, init=1, bias=table, hf32=hf32)
        k.set_flag("M_FIX", 0)
        k.wait_flag("M_FIX", 0)
        k.fixpipe(
            gc,
            c0_,
            n_size=n,
            m_size=m,
            src_stride=up(m, 16),
            dst_stride=out.shape[1],
            quant_mode=quant,
            quant_scale=scale,
            relu=relu,
        )
    arguments = [a, b, out] + ([bias] if bias is not None else [])
    return npu.run(k.finish(block_num=1), arguments)


def exact(a, b):
    wide = np.int64 if a.dtype.kind == "i" else np.float64
    return a.astype(wide) @ b.astype(wide)


def whole(shape, dtype, seed=0):
    return np.random.default_rng(seed).integers(-8, 8, shape).astype(dtype)


@pytest.mark.parametrize("to_b", ["3d", "2d"])
@pytest.mark.parametrize("shape", [(16, 16, 16), (48, 32, 64), (33, 32, 16), (20, 13, 40)])
def test_product_of_halves(shape, to_b):
    m, k, n = shape
    if to_b == "2d" and k % 16:
        pytest.skip("whole fractals only")
    a, b, out = whole((m, k), np.float16), whole((k, n), np.float16, 1), np.full((m, n), np.nan, np.float32)
    product(a, b, out, to_b=to_b)
    np.testing.assert_array_equal(out, exact(a, b))


@pytest.mark.parametrize("transposed", ["a", "b", "ab"])
def test_transposed_operands(transposed):
    a, b, out = whole((32, 48), np.float16), whole((48, 64), np.float16, 1), np.zeros((32, 64), np.float32)
    left = np.ascontiguousarray(a.T) if "a" in transposed else a
    right = np.ascontiguousarray(b.T) if "b" in transposed else b
    product(left, right, out, transposed=transposed)
    np.testing.assert_array_equal(out, exact(a, b))


def test_other_dtypes():
    a, b, out = whole((32, 48), BF16), whole((48, 64), BF16, 1), np.zeros((32, 64), np.float32)
    product(a, b, out)
    np.testing.assert_array_equal(out, exact(a, b))
    a, b, out = whole((32, 64), np.int8), whole((64, 64), np.int8, 1), np.zeros((32, 64), np.int32)
    product(a, b, out, to_b="square8")
    np.testing.assert_array_equal(out, exact(a, b))
    a, b, out = whole((32, 64), np.float32), whole((64, 32), np.float32, 1), np.zeros((32, 32), np.float32)
    product(a, b, out, to_b="square32")
    np.testing.assert_array_equal(out, exact(a, b))


def test_products_are_added_up_in_f32_along_k():
    random = np.random.default_rng(0)
    a, b = (random.standard_normal((16, 64)).astype(np.float16), random.standard_normal((64, 16)).astype(np.float16))
    out = np.zeros((16, 16), np.float32)
    product(a, b, out)
    total = np.zeros((16, 16), np.float32)
    for k in range(64):
        total += np.outer(a[:, k].astype(np.float32), b[k].astype(np.float32))
    np.testing.assert_array_equal(out, total)


def test_hf32_rounds_the_factors():
    random = np.random.default_rng(0)
    a, b = random.standard_normal((16, 16)).astype(np.float32), random.standard_normal((16, 16)).astype(np.float32)
    fine, rough = np.zeros((16, 16), np.float32), np.zeros((16, 16), np.float32)
    product(a, b, fine, to_b="square32")
    product(a, b, rough, to_b="square32", hf32=True)
    assert 1e-7 < abs(rough - fine).max() < 2e-2


@pytest.mark.parametrize(
    "quant, dtype, scale, relu",
    [
        ("f32_to_f16", np.float16, 1, False),
        ("f32_to_bf16", BF16, 1, True),
        ("quant_s8", np.int8, 0.25, False),
        ("none", np.float32, 1, True),
    ],
)
def test_fixpipe_converts(quant, dtype, scale, relu):
    a, b, out = whole((32, 16), np.float16), whole((16, 32), np.float16, 1), np.zeros((32, 32), dtype)
    product(a, b, out, quant=quant, scale=scale, relu=relu)
    expected = exact(a, b) * scale
    expected = np.maximum(expected, 0) if relu else expected
    if quant == "quant_s8":
        expected = np.clip(np.rint(expected), -128, 127)
    np.testing.assert_array_equal(out, expected.astype(dtype))


def test_dequantised_integers():
    a, b, out = whole((32, 64), np.int8), whole((64, 32), np.int8, 1), np.zeros((32, 32), np.float16)
    product(a, b, out, to_b="square8", quant="dequant_f16", scale=0.125)
    np.testing.assert_array_equal(out, (exact(a, b) * 0.125).astype(np.float16))


def test_bias():
    a, b, out = whole((32, 16), np.float16), whole((16, 32), np.float16, 1), np.zeros((32, 32), np.float32)
    bias = np.arange(32, dtype=np.float32)
    product(a, b, out, bias=bias)
    np.testing.assert_array_equal(out, exact(a, b) + bias)


@pytest.mark.parametrize("stride, dilation, pad", [(1, 1, 0), (1, 1, 1), (2, 1, 1), (1, 2, 2)])
def test_img2col(stride, dilation, pad):
    """A convolution as one product of what load_data_3d takes from an NC1HWC0 image."""
    channels, h, w, filters, size = 32, 9, 8, 16, 3
    image = whole((channels, h, w), np.float16)
    weight = whole((filters, channels, size, size), np.float16, 1)
    ho = (h + 2 * pad - dilation * (size - 1) - 1) // stride + 1
    wo = (w + 2 * pad - dilation * (size - 1) - 1) // stride + 1
    rows, inner = ho * wo, channels * size * size
    blocked = np.ascontiguousarray(image.reshape(2, 16, h, w).transpose(0, 2, 3, 1))  # C1 H W C0
    # Columns of the matrix: (c1, kh, kw, c0).
    matrix = np.ascontiguousarray(
        weight.reshape(filters, 2, 16, size, size).transpose(1, 3, 4, 2, 0).reshape(inner, filters)
    )
    out = np.zeros((rows, filters), np.float32)
    k = npu.Builder("conv", "910b2")
    gx, gw, gy = k.argument("x", "f16", 4), k.argument("w", "f16", 2), k.argument("y", "f32", 2)
    with k.code("aic"):
        x1 = k.allocate("L1", blocked.nbytes, "f16", "x1")
        w1 = k.allocate("L1", matrix.nbytes, "f16", "w1")
        a0, b0, c0 = k.local("L0A", 0, "f16"), k.local("L0B", 0, "f16"), k.local("L0C", 0, "f32")
        k.data_copy(x1, gx, block_len=blocked.nbytes // 32)
        k.data_copy_nd2nz(w1, gw, n_value=inner, d_value=filters, src_d_value=filters, dst_nz_c0_stride=inner)
        k.set_flag("MTE2_MTE1", 0)
        k.wait_flag("MTE2_MTE1", 0)
        k.load_data_3d(
            a0,
            x1,
            l1_h=h,
            l1_w=w,
            channel_size=channels,
            k_extension=inner,
            m_extension=rows,
            stride_w=stride,
            stride_h=stride,
            filter_w=size,
            filter_h=size,
            dilation_filter_w=dilation,
            dilation_filter_h=dilation,
            pads=(pad, pad, pad, pad),
        )
        k.load_data_3d(b0, w1, l1_h=1, l1_w=inner, channel_size=filters, k_extension=filters, m_extension=inner)
        k.set_flag("MTE1_M", 0)
        k.wait_flag("MTE1_M", 0)
        k.mmad(c0, a0, b0, m=rows, n=filters, k=inner, init=1)
        k.set_flag("M_FIX", 0)
        k.wait_flag("M_FIX", 0)
        k.fixpipe(gy, c0, n_size=filters, m_size=rows, src_stride=-(-rows // 16) * 16, dst_stride=filters)
    npu.run(k.finish(block_num=1), [blocked, matrix, out])
    padded = np.pad(image, ((0, 0), (pad, pad), (pad, pad))).astype(np.float64)
    expected = np.zeros((ho, wo, filters))
    for y in range(ho):
        for x in range(wo):
            patch = padded[
                :,
                y * stride : y * stride + dilation * size : dilation,
                x * stride : x * stride + dilation * size : dilation,
            ]
            expected[y, x] = (patch[None, :, :size, :size] * weight).sum((1, 2, 3))
    np.testing.assert_array_equal(out, expected.reshape(rows, filters))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_gemm_on_all_cube_cores(seed):
    a, b, c = whole((384, 512), np.float16), whole((512, 768), np.float16, 1), np.zeros((384, 768), np.float32)
    result = npu.run(gemm(), [a, b, c], seed=seed)
    np.testing.assert_array_equal(c, exact(a, b))
    assert result.macs == 384 * 512 * 768


def test_gemm_on_a_coupled_chip():
    """L0C reaches UB, and MTE3 takes it to global memory."""
    m, kk, n = 64, 128, 64
    k = npu.Builder("gemm", "910a")
    ga, gb, gc = k.argument("a", "f16", 2), k.argument("b", "f16", 2), k.argument("c", "f32", 2)
    with k.code("core"):
        a1, b1 = k.allocate("L1", m * kk * 2, "f16", "a1"), k.allocate("L1", kk * n * 2, "f16", "b1")
        a0, b0, c0 = k.local("L0A", 0, "f16"), k.local("L0B", 0, "f16"), k.local("L0C", 0, "f32")
        ub = k.allocate("UB", m * n * 4, "f32", "ub")
        row, rows = k.block_idx * m, ga.dim(0)
        with k.if_(row < rows):
            k.data_copy_nd2nz(a1, ga[row * kk], n_value=m, d_value=kk, src_d_value=kk, dst_nz_c0_stride=m)
            k.data_copy_nd2nz(b1, gb, n_value=kk, d_value=n, src_d_value=n, dst_nz_c0_stride=kk)
            k.set_flag("MTE2_MTE1", 0)
            k.wait_flag("MTE2_MTE1", 0)
            k.load_data_3d(a0, a1, l1_h=1, l1_w=m, channel_size=kk, k_extension=kk, m_extension=m)
            k.load_data_3d(b0, b1, l1_h=1, l1_w=kk, channel_size=n, k_extension=n, m_extension=kk)
            k.set_flag("MTE1_M", 0)
            k.wait_flag("MTE1_M", 0)
            k.mmad(c0, a0, b0, m=m, n=n, k=kk, init=1)
            k.set_flag("M_V", 0)
            k.wait_flag("M_V", 0)
            k.data_copy_l0c(ub, c0, block_len=m * n // 256)
            k.set_flag("V_MTE3", 0)
            k.wait_flag("V_MTE3", 0)
            for block in range(n // 16):  # NZ: columns of 16
                k.data_copy(
                    gc[row * n + block * 16],
                    ub[block * m * 16],
                    block_count=m,
                    block_len=2,
                    dst_stride=(n - 16) * 4 // 32,
                )
    a, b, c = whole((256, kk), np.float16), whole((kk, n), np.float16, 1), np.zeros((256, n), np.float32)
    npu.run(k.finish(), [a, b, c])
    np.testing.assert_array_equal(c, exact(a, b))

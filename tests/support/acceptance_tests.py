"""Tests of the acceptance kernels, as written, on a target that the importing module gives:

    from support.acceptance_tests import *
    pytestmark = pytest.mark.parametrize("target", CPU)

Values, sizes (the defaults', 1, primes, 0), strides, dtypes.
"""

from __future__ import annotations

import numpy as np
import pytest

from support.acceptance import load
from support.checks import (
    BF16,
    E4M3,
    E5M2,
    F16,
    F32,
    F64,
    Guarded,
    check_bits,
    check_error,
    exact_integers,
    lay_out,
    real,
)
from support.targets import layouts_of

HALVES = (F16, BF16)


def wide(*arrays):
    return [a.astype(np.float64) for a in arrays]


def single(*arrays):
    return [a.astype(np.float32) for a in arrays]


# --- add -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [F64, F32, *HALVES, E5M2, np.int64, np.int32, np.int16, np.int8, np.uint32, np.uint8])
@pytest.mark.parametrize("size", [5000, 1, 97, 0])
def test_add(target: str, size: int, dtype) -> None:
    float_type = np.dtype(dtype).kind not in "iu"
    x, y = (real((size,), dtype, n) if float_type else exact_integers((size,), dtype, n, 100) for n in range(2))
    for layout in layouts_of(target):
        z = Guarded((size,), dtype, layout)
        load("add").add(lay_out(x, layout), lay_out(y, layout), z.view, target=target)
        narrow = float_type and x.itemsize < 4
        check_bits(z.check(), (np.add(*single(x, y)) if narrow else x + y).astype(dtype))


def test_add_of_special_values(target: str) -> None:
    values = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e38, -1e-45], np.float32)
    x, y = np.repeat(values, 7), np.tile(values, 7)
    z = Guarded(x.shape, F32)
    load("add").add(x, y, z.view, target=target, BLOCK=10)
    with np.errstate(all="ignore"):
        check_bits(z.check(), x + y)


# --- matmul ----------------------------------------------------------------------------------------------------------

SHAPES = [(1, 1, 1), (37, 53, 71), (130, 5, 131), (0, 4, 5), (4, 0, 5), (4, 5, 0)]  # M, K, N


@pytest.mark.parametrize("dtype", [F32, *HALVES, E4M3, E5M2])
@pytest.mark.parametrize("shape", SHAPES)
def test_matmul_exactly(target: str, shape: tuple[int, int, int], dtype) -> None:
    m, k, n = shape
    a, b, bias = (exact_integers(s, dtype, i) for i, s in enumerate(((m, k), (k, n), (n,))))
    for layout in layouts_of(target):
        c = Guarded((m, n), dtype, layout)
        arguments = [lay_out(x, layout) for x in (a, b, bias)]
        load("matmul").matmul(*arguments, c.view, target=target, BM=32, BN=48, BK=16)
        check_bits(c.check() + np.zeros((), dtype), np.add(*_product(a, b, bias)).astype(np.float32).astype(dtype))


def _product(a, b, bias):
    a, b, bias = wide(a, b, bias)
    return a @ b, bias


@pytest.mark.parametrize("activation", ["identity", "silu"])
@pytest.mark.parametrize("dtype", [F32, *HALVES])
def test_matmul_of_real_data(target: str, dtype, activation: str) -> None:
    module = load("matmul")
    m, k, n = 150, 201, 133  # more than one default tile each way
    a, b, bias = (real(s, dtype, i) for i, s in enumerate(((m, k), (k, n), (n,))))
    c = Guarded((m, n), dtype)
    module.matmul(a, b, bias, c.view, target=target, activation=getattr(module, activation))
    exact = module.reference(*wide(a, b, bias), activation)
    plain = module.reference(*single(a, b, bias), activation).astype(dtype)
    check_error(c.check(), exact, plain)


# --- softmax, layer_norm ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [F64, F32, *HALVES])
@pytest.mark.parametrize("shape", [(10, 1000), (1, 1), (7, 97), (0, 5)])
@pytest.mark.parametrize("kernel", ["softmax", "softmax_online"])
def test_softmax(target: str, kernel: str, shape: tuple[int, int], dtype) -> None:
    module = load("softmax")
    x = (real(shape, dtype) * np.asarray(4).astype(dtype)).astype(dtype)
    for layout in layouts_of(target):
        y = Guarded(shape, dtype, layout)
        options = {"BN": 128} if kernel == "softmax_online" else {}
        getattr(module, kernel)(lay_out(x, layout), y.view, target=target, **options)
        if shape[0]:
            check_error(y.check(), module.reference(*wide(x)), module.reference(*single(x)).astype(dtype))


@pytest.mark.parametrize("kernel", ["softmax", "softmax_online"])
def test_softmax_of_large_values(target: str, kernel: str) -> None:
    module = load("softmax")
    x = np.array([[1e4, 9.99e3, -1e4], [-3e38, 0, 3e38], [-np.inf, 0, 1], [np.nan, 0, 1]], np.float32)
    y = Guarded(x.shape, F32)
    getattr(module, kernel)(x, y.view, target=target)
    result = y.check()
    with np.errstate(over="ignore"):
        plain = module.reference(x[:3])
    check_error(result[:3], module.reference(*wide(x[:3])), plain)
    assert np.isnan(result[3]).all()


def test_softmax_online_of_empty_rows(target: str) -> None:
    y = Guarded((3, 0), F32)
    load("softmax").softmax_online(np.zeros((3, 0), F32), y.view, target=target)
    y.check()


@pytest.mark.parametrize("dtype", [F64, F32, *HALVES])
@pytest.mark.parametrize("shape", [(10, 512), (1, 1), (7, 97), (0, 5)])
def test_layer_norm(target: str, shape: tuple[int, int], dtype) -> None:
    module = load("layer_norm")
    x, weight, bias = real(shape, dtype), real(shape[1:], dtype, 1), real(shape[1:], dtype, 2)
    for layout in layouts_of(target):
        y = Guarded(shape, dtype, layout)
        module.layer_norm(*(lay_out(a, layout) for a in (x, weight, bias)), y.view, 1e-5, target=target)
        if shape[0]:
            exact = module.reference(*wide(x, weight, bias), float(np.float32(1e-5)))
            plain = module.reference(*single(x, weight, bias), np.float32(1e-5)).astype(dtype)
            check_error(y.check(), exact, plain)


# --- dropout ---------------------------------------------------------------------------------------------------------


def uniform(seed: int, count: int) -> np.ndarray:
    """The first word of Philox 4x32-10 for counters 0, 1, ...; its upper 24 bits as a number in [0, 1)."""
    c = [np.arange(count, dtype=np.uint64), *(np.zeros(count, np.uint64) for _ in range(3))]
    k0, k1 = seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF
    low, half = np.uint64(0xFFFFFFFF), np.uint64(32)
    for _ in range(10):
        p, q = np.uint64(0xD2511F53) * c[0], np.uint64(0xCD9E8D57) * c[2]
        c = [(q >> half) ^ c[1] ^ np.uint64(k0), q & low, (p >> half) ^ c[3] ^ np.uint64(k1), p & low]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return (c[0] >> np.uint64(8)).astype(np.float64) * 2.0**-24


@pytest.mark.parametrize("dtype", [F32, F16, BF16])
@pytest.mark.parametrize("size", [5000, 1, 97, 0])
@pytest.mark.parametrize("seed", [0, 12345678901, -5])
def test_dropout(target: str, seed: int, size: int, dtype) -> None:
    x = real((size,), dtype)
    x[x == 0] = 1
    p = np.float32(0.3)
    keep = uniform(seed & (2**64 - 1), size) >= p
    results = []
    for block in (4096, 100):
        y = Guarded((size,), dtype)
        load("dropout").dropout(x, y.view, float(p), seed, target=target, BLOCK=block)
        results.append(y.check())
        np.testing.assert_array_equal(results[-1] != 0, keep)
    check_bits(results[0], results[1])
    exact = np.where(keep, x.astype(np.float64) / (1 - float(p)), 0)
    check_error(results[0], exact, np.where(keep, x.astype(np.float32) / (1 - p), 0).astype(dtype))


# --- embedding -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [F64, F32, *HALVES, np.int32])
@pytest.mark.parametrize(("count", "width"), [(20, 64), (1, 1), (13, 31), (0, 4)])
def test_embedding(target: str, count: int, width: int, dtype) -> None:
    module = load("embedding")
    table, dy = exact_integers((11, width), dtype, 0, 9), exact_integers((count, width), dtype, 1)
    ids = np.random.default_rng(2).integers(0, 11, count)
    for layout in layouts_of(target):
        y = Guarded((count, width), dtype, layout)
        module.embedding(lay_out(table, layout), lay_out(ids, layout), y.view, target=target)
        check_bits(y.check(), module.reference(table, ids))
        dtable = Guarded((11, width), dtype, layout)
        dtable.view[...] = 0
        padded = np.concatenate([ids, np.array([-1, 11])])
        padded_dy = np.concatenate([dy, np.ones((2, width), dtype)])
        module.embedding_backward(lay_out(padded_dy, layout), lay_out(padded, layout), dtable.view, target=target)
        exact = module.reference_backward(dy.astype(np.float64), ids, 11)
        check_bits(dtable.check() + np.zeros((), dtype), exact.astype(dtype))


# --- conv2d ----------------------------------------------------------------------------------------------------------

CONVOLUTIONS = [  # batch, height, width, channels, filters, kernel, stride, padding, dilation
    (2, 9, 37, 5, 7, (3, 3), 1, 1, 1),
    (1, 8, 70, 70, 67, (3, 3), 1, 1, 1),
    (1, 11, 13, 3, 4, (3, 2), 2, 1, 1),
    (1, 12, 12, 4, 4, (3, 3), 1, 2, 2),
    (2, 5, 6, 3, 2, (1, 1), 1, 0, 1),
    (1, 1, 1, 1, 1, (1, 1), 1, 0, 1),
    (1, 1, 1, 2, 3, (3, 3), 1, 1, 1),
    (0, 4, 4, 2, 3, (3, 3), 1, 1, 1),
]


@pytest.mark.parametrize("dtype", [F32, *HALVES])
@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_conv2d(target: str, case, dtype) -> None:
    module = load("conv2d")
    batch, height, width, channels, filters, (kh, kw), stride, padding, dilation = case
    options = {"stride": stride, "padding": padding, "dilation": dilation}
    for make in (exact_integers, real):
        x, w = make((batch, height, width, channels), dtype, 0), make((kh, kw, channels, filters), dtype, 1)
        exact = module.reference(*wide(x, w), **options)
        y = Guarded(exact.shape, dtype, "strided" if make is exact_integers else "contiguous")
        x, w = (lay_out(a, "strided" if make is exact_integers else "contiguous") for a in (x, w))
        module.conv2d(x, w, y.view, target=target, **options)
        result = y.check()
        if make is exact_integers:
            check_bits(result + np.zeros((), dtype), exact.astype(np.float32).astype(dtype))
        elif exact.size:
            check_error(result, exact, module.reference(*single(x, w), **options).astype(dtype))


# --- flash_attention -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [F32, *HALVES])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    ("batch", "heads", "kv_heads", "rows", "columns", "width"),
    [(1, 2, 2, 100, 131, 64), (2, 4, 2, 37, 37, 16), (1, 1, 1, 1, 1, 1), (1, 2, 1, 1, 70, 8), (1, 1, 1, 0, 3, 4)],
)
def test_flash_attention(target, batch, heads, kv_heads, rows, columns, width, causal, dtype) -> None:
    module = load("flash_attention")
    q = real((batch, heads, rows, width), dtype, 0)
    k, v = (real((batch, kv_heads, columns, width), dtype, n) for n in (1, 2))
    scale = np.float32(width**-0.5)
    o, lse = Guarded(q.shape, dtype, "strided"), Guarded(q.shape[:3], F32)
    arguments = [lay_out(a, "strided") for a in (q, k, v)]
    module.flash_attention(*arguments, o.view, lse.view, float(scale), target=target, causal=causal)
    found, found_lse = o.check(), lse.check()
    if not rows:
        return
    exact, exact_lse = module.reference(*wide(q, k, v), float(scale), causal)
    plain, plain_lse = module.reference(*single(q, k, v), scale, causal)
    check_error(found, exact, plain.astype(dtype))
    check_error(found_lse, exact_lse, plain_lse)


def test_flash_attention_of_rows_that_see_nothing(target: str) -> None:
    """More queries than keys: the first rows are masked entirely, and are 0 / 0."""
    module = load("flash_attention")
    q, k = real((1, 1, 70, 8), F32, 0), real((1, 1, 40, 8), F32, 1)
    o, lse = Guarded(q.shape, F32), Guarded(q.shape[:3], F32)
    module.flash_attention(q, k, k, o.view, lse.view, 0.3, target=target, causal=True)
    found = o.check()
    assert np.isnan(found[0, 0, :30]).all()
    with np.errstate(all="ignore"):
        exact, _ = module.reference(*wide(q, k, k), float(np.float32(0.3)), True)
        plain, _ = module.reference(q, k, k, np.float32(0.3), True)
    check_error(found[:, :, 30:], exact[:, :, 30:], plain[:, :, 30:])
    assert (lse.check()[0, 0, :30] == -np.inf).all()

"""Acceptance kernels on a split and a coupled chip: values, no hazards, and every lost flag found out."""

from __future__ import annotations

import numpy as np
import pytest
from faults.cases import acceptance
from faults.mutants import examine
from support.acceptance import load
from support.checks import F16, F32, Guarded, check_error, exact_integers, lay_out, real

import opdsl as od
from opdsl.targets.npu.placement import CapacityError

CHIPS = ("npu:910b2", "npu:910a")


@pytest.mark.parametrize("target", [*CHIPS, "npu:910b1", "npu:910b3", "npu:910b4", "npu:310p"])
def test_matmul(target: str) -> None:
    module = load("matmul")
    a, b, bias = (exact_integers(s, F16, n) for n, s in enumerate(((150, 201), (201, 133), (133,))))
    c = Guarded((150, 133), F16)
    module.matmul(a, b, bias, c.view, target=target)
    exact = a.astype(np.float64) @ b.astype(np.float64) + bias
    np.testing.assert_array_equal(c.check(), exact.astype(np.float32).astype(F16))


@pytest.mark.parametrize("target", CHIPS)
def test_row_kernels(target: str) -> None:
    x = real((7, 97), F32)
    y = Guarded(x.shape, F32)
    for name in ("softmax", "softmax_online"):
        getattr(load("softmax"), name)(x, y.view, target=target)
        check_error(y.check(), load("softmax").reference(x.astype(np.float64)), load("softmax").reference(x))
    load("layer_norm").layer_norm(x, x[0], x[1], y.view, 1e-5, target=target)
    plain = load("layer_norm").reference(x, x[0], x[1], np.float32(1e-5))
    wide = [v.astype(np.float64) for v in (x, x[0], x[1])]
    check_error(y.check(), load("layer_norm").reference(*wide, float(np.float32(1e-5))), plain)


@pytest.mark.parametrize("target", CHIPS)
def test_embedding(target: str) -> None:
    table, ids = real((11, 31), F32), np.random.default_rng(2).integers(0, 11, 13)
    y = Guarded((13, 31), F32)
    load("embedding").embedding(table, ids, y.view, target=target)
    np.testing.assert_array_equal(y.check(), table[ids])
    gradient = np.zeros((11, 31), F32)
    ones = exact_integers((13, 31), F32)
    load("embedding").embedding_backward(ones, ids, gradient, target=target)
    np.testing.assert_array_equal(gradient, load("embedding").reference_backward(ones, ids, 11))


@pytest.mark.parametrize("target", CHIPS)
def test_flash_attention(target: str) -> None:
    module = load("flash_attention")
    q, k = real((1, 2, 40, 16), F16, 0), real((1, 1, 70, 16), F16, 1)
    o, lse = Guarded(q.shape, F16), Guarded(q.shape[:3], F32)
    module.flash_attention(q, k, k, o.view, lse.view, 0.25, target=target, causal=True)
    wide = [v.astype(np.float64) for v in (q, k, k)]
    exact, exact_lse = module.reference(*wide, 0.25, True)
    plain, plain_lse = module.reference(*(v.astype(np.float32) for v in (q, k, k)), np.float32(0.25), True)
    check_error(o.check(), exact, plain.astype(F16))
    check_error(lse.check(), exact_lse, plain_lse)


def image_arguments(layout: str, dtype, padding: int):
    x, w = exact_integers((1, 9, 21, 5), dtype), exact_integers((2, 2, 5, 7), dtype, 1)
    exact = load("conv2d").reference(x.astype(np.float64), w.astype(np.float64), padding=padding)
    return lay_out(x, layout), lay_out(w, layout), Guarded(exact.shape, dtype, layout), exact


@pytest.mark.parametrize(
    ("target", "layout", "dtype"),
    [
        ("npu:910b1", "contiguous", F16),
        (CHIPS[0], "contiguous", F32),
        (CHIPS[0], "strided", F16),
        (CHIPS[1], "contiguous", F16),
    ],
)
def test_conv2d(target: str, layout: str, dtype) -> None:
    """Strided arrays come to the cube by way of the vector core: eight tiles that need flags between cores."""
    x, w, y, exact = image_arguments(layout, dtype, 1)
    load("conv2d").conv2d(x, w, y.view, target=target, padding=1, BC=16)
    np.testing.assert_array_equal(y.check(), exact.astype(dtype))


def test_dropout() -> None:
    x = real((3000,), F16)
    results = []
    for target in ("interp", *CHIPS):
        y = Guarded(x.shape, F16)
        load("dropout").dropout(x, y.view, 0.3, 12345678901, target=target, BLOCK=256)
        results.append(y.check())
    np.testing.assert_array_equal(results[1], results[0])
    np.testing.assert_array_equal(results[2], results[0])


@pytest.mark.parametrize(
    ("name", "target"),
    [("add", CHIPS[0]), ("softmax", CHIPS[0]), ("softmax", CHIPS[1]), ("matmul", CHIPS[0]), ("matmul", CHIPS[1])],
)
def test_whatever_is_left_out_is_noticed(name: str, target: str) -> None:
    """Each dependence, and each second slot of a buffer. All kernels, and each flag by itself: `python -m tests.faults`."""
    (case,) = (case for case in acceptance() if case.name == name)
    found = examine(case, target, (0, 1, 2, 3) if name == "add" else (0, 1), ("dependence", "slot"))
    assert found.counts["dependence"] >= 6 and found.counts["slot"] >= 2
    assert not found.false_alarms
    assert not [mutant.text for mutant in found.missed]


def test_tiles_that_do_not_fit() -> None:
    x = np.zeros((64, 4096), F32)
    with pytest.raises(CapacityError) as caught:
        load("softmax").softmax(x, np.zeros_like(x), target=CHIPS[0], BM=64)
    text = str(caught.value)
    assert "do not fit UB of 910b2" in text and "bytes" in text and "64 x 4096 f32" in text
    assert "line 11" in text and "the largest tile that fits" in text


@od.kernel
def product_if_positive(a: od.Tensor[od.f16, 16, 16], c: od.Tensor[od.f32, 16, 16]):
    t = od.copy_in(a[0:16, 0:16])
    product = od.zeros((16, 16), od.f32)
    if od.sum(od.cast(t, od.f32)) > 0.0:
        product = od.dot(t, t)
    od.copy_out(product, c[0:16, 0:16])


def test_branch_around_a_product_on_what_the_vector_core_computed() -> None:
    """Coupled chips take it; on split ones the cube core could not know, and says so while compiling."""
    a, c = exact_integers((16, 16), F16, 3), np.zeros((16, 16), F32)
    a[0] = 4
    product_if_positive(a, c, target=CHIPS[1])
    np.testing.assert_array_equal(c, a.astype(np.float32) @ a.astype(np.float32))
    with pytest.raises(od.CompileError, match="hangs on a number that a vector core computes") as caught:
        product_if_positive(a, c, target=CHIPS[0])
    assert "if od.sum" in str(caught.value)

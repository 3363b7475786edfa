"""Values of the generated source in Triton's interpreter, and a part of the acceptance tests there. All of them:

    pytest tests/null/test_interp_acceptance.py --targets triton:interpreter
    python -m tests.fuzz --target triton:interpreter --count 300
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("triton.language")  # this folder is called triton, too
pytest.importorskip("triton", minversion="3.9")

from fuzz.check import check_program
from fuzz.sections import generate
from support.acceptance import load
from support.checks import F16, F32, Guarded, check_bits, check_error, exact_integers, lay_out, real
from support.range_checks import check_wide, check_width

import opdsl as od
from opdsl.runtime.launch import KernelLaunch

TARGET = "triton:interpreter"


@pytest.mark.parametrize("width", [1, 2, 63, 65, 96, 130, 17000])
def test_what_depends_on_the_position(width: int) -> None:
    check_wide(TARGET, width) if width > 1000 else check_width(TARGET, width)


@pytest.mark.parametrize("layout", ["contiguous", "strided", "reversed"])
@pytest.mark.parametrize("dtype", [F32, F16, np.dtype(np.int32)])
def test_add(dtype, layout: str) -> None:
    x, y = (exact_integers((5000,), dtype, seed) for seed in range(2))
    z = Guarded((5000,), dtype, layout)
    load("add").add(lay_out(x, layout), lay_out(y, layout), z.view, target=TARGET)
    check_bits(z.check(), x + y)


@pytest.mark.parametrize("dtype", [F32, F16])
@pytest.mark.parametrize("shape", [(1, 1, 1), (37, 53, 71), (0, 4, 5), (4, 0, 5)])
def test_matmul(shape, dtype) -> None:
    m, k, n = shape
    a, b, bias = (exact_integers(s, dtype, i) for i, s in enumerate(((m, k), (k, n), (n,))))
    c = Guarded((m, n), dtype)
    load("matmul").matmul(a, b, bias, c.view, target=TARGET, BM=32, BN=48, BK=16)
    exact = a.astype(np.float64) @ b.astype(np.float64) + bias.astype(np.float64)
    check_bits(c.check() + np.zeros((), dtype), exact.astype(np.float32).astype(dtype))


@pytest.mark.parametrize("kernel", ["softmax", "softmax_online"])
def test_softmax(kernel: str) -> None:
    module = load("softmax")
    x = real((7, 97), F32)
    y = Guarded(x.shape, F32)
    getattr(module, kernel)(x, y.view, target=TARGET)
    check_error(y.check(), module.reference(x.astype(np.float64)), module.reference(x))


def test_layer_norm() -> None:
    module = load("layer_norm")
    x, weight, bias = real((10, 97), F16), real((97,), F16, 1), real((97,), F16, 2)
    y = Guarded(x.shape, F16)
    module.layer_norm(x, weight, bias, y.view, 1e-5, target=TARGET)
    exact, plain = (
        module.reference(*(a.astype(t) for a in (x, weight, bias)), np.float32(1e-5)) for t in (np.float64, np.float32)
    )
    check_error(y.check(), exact, plain.astype(F16))


@pytest.mark.parametrize("causal", [False, True])
def test_flash_attention(causal: bool) -> None:
    module = load("flash_attention")
    q, k, v = real((1, 2, 70, 16), F32), real((1, 1, 83, 16), F32, 1), real((1, 1, 83, 16), F32, 2)
    o, lse = Guarded(q.shape, F32), Guarded(q.shape[:3], F32)
    module.flash_attention(q, k, v, o.view, lse.view, 0.25, target=TARGET, causal=causal)
    exact, exact_lse = module.reference(*(a.astype(np.float64) for a in (q, k, v)), 0.25, causal)
    plain, plain_lse = module.reference(q, k, v, np.float32(0.25), causal)
    check_error(o.check(), exact, plain)
    check_error(lse.check(), exact_lse, plain_lse)


def test_conv2d_and_embedding() -> None:
    module = load("conv2d")
    x, w = exact_integers((2, 9, 37, 5), F32), exact_integers((3, 3, 5, 7), F32, 1)
    exact = module.reference(x.astype(np.float64), w.astype(np.float64), padding=1)
    y = Guarded(exact.shape, F32)
    module.conv2d(x, w, y.view, target=TARGET, padding=1)
    check_bits(y.check() + np.float32(0), exact.astype(F32))
    module = load("embedding")
    dy, ids = exact_integers((13, 31), F32), np.random.default_rng(0).integers(-1, 12, 13)
    dtable = Guarded((11, 31), F32)
    dtable.view[...] = 0
    module.embedding_backward(dy, ids, dtable.view, target=TARGET)
    inside = (ids >= 0) & (ids < 11)
    check_bits(dtable.check() + np.float32(0), module.reference_backward(dy[inside], ids[inside], 11))


def run_with_descriptors(kernel: od.Kernel, arguments: list, constexprs: dict) -> None:
    """A call with the option that tuning may choose."""
    KernelLaunch(kernel).variant(TARGET, constexprs, {"descriptors": 1}).run(arguments)


@pytest.mark.parametrize("dtype", [F32, F16])
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("shape", [(1, 16, 16), (37, 48, 80), (37, 53, 71), (4, 0, 16)])
def test_matmul_by_descriptors(shape, transposed: bool, dtype) -> None:
    """Beyond the tensor's end they give zeros; (37, 53, 71) has rows that no descriptor takes."""
    m, k, n = shape
    a, b, bias = (exact_integers(s, dtype, i) for i, s in enumerate(((m, k), (k, n), (n,))))
    given = np.ascontiguousarray(b.T).T if transposed else b
    c = Guarded((m, n), dtype)
    run_with_descriptors(load("matmul").matmul, [a, given, bias, c.view], {"BM": 32, "BN": 64, "BK": 16})
    exact = a.astype(np.float64) @ b.astype(np.float64) + bias.astype(np.float64)
    check_bits(c.check() + np.zeros((), dtype), exact.astype(np.float32).astype(dtype))


def test_attention_by_descriptors() -> None:
    """Tensors of four dims, of which products take two."""
    module = load("flash_attention")
    q, k, v = real((2, 4, 70, 16), F32), real((2, 2, 83, 16), F32, 1), real((2, 2, 83, 16), F32, 2)
    o, lse = Guarded(q.shape, F32), Guarded(q.shape[:3], F32)
    run_with_descriptors(module.flash_attention, [q, k, v, o.view, lse.view, 0.25], {"causal": True})
    exact, exact_lse = module.reference(*(a.astype(np.float64) for a in (q, k, v)), 0.25, True)
    plain, plain_lse = module.reference(q, k, v, np.float32(0.25), True)
    check_error(o.check(), exact, plain)
    check_error(lse.check(), exact_lse, plain_lse)


@od.kernel
def checked(x: od.Tensor[od.f32, "N"], y: od.Tensor[od.f32, "N"]):
    for i in od.parallel(range(0, x.shape[0], 3)):
        t = od.copy_in(x[i : i + 3], pad=1)
        od.assert_(t > 0, "all elements are positive")
        od.copy_out(od.sqrt(t), y[i : i + 3])


def test_assertions() -> None:
    x = np.ones(7, np.float32)
    y = np.empty_like(x)
    checked(x, y, target=TARGET)
    assert (y == 1).all()
    with pytest.raises(AssertionError, match=r"test_interpreter.py:\d+:\d+: error: assertion failed: all elements"):
        checked(-x, y, target=TARGET)


@od.kernel
def last_stays(ids: od.Tensor[od.i64, 12], x: od.Tensor[od.i32, 12], y: od.Tensor[od.i32, 5]):
    od.copy_out(od.copy_in(x), y[od.copy_in(ids)])


def test_of_elements_written_twice_the_last_stays() -> None:
    ids = np.array([0, 1, 2, 0, 1, -3, 0, 4, 4, 9, 1, 2])
    y = np.full(5, -1, np.int32)
    last_stays(ids, np.arange(12, dtype=np.int32), y, target=TARGET)
    assert y.tolist() == [6, 10, 11, -1, 8]


@pytest.mark.parametrize("seed", [0, 9, 16, 17, 63, 96, 107, 135])
def test_generated_kernels(seed: int, tmp_path: Path) -> None:
    path = tmp_path / f"fuzz_{seed}.py"
    path.write_text(generate(seed))
    check_program(path, [TARGET])


@od.kernel
def with_doubles(x: od.Tensor[od.f64, "N"], y: od.Tensor[od.f64, 5, "M"]):
    t = od.copy_in(x[0:8], pad=0.3)
    od.copy_out(t, y[0, 0:8])
    od.copy_out(od.where(t > 0.3, t, 0.1), y[1, 0:8])
    od.copy_out(od.minimum(t, 0.7), y[2, 0:8])
    od.copy_out(t * 0.7 + 0.1, y[3, 0:8])
    od.copy_out(0.9, y[4, 0:8])


def test_numbers_of_f64_are_not_rounded_to_f32() -> None:
    """Triton takes a number that is an argument for f32 (fuzz programs 600119, 600242)."""
    x, y = np.array([0.1, 0.3, 0.7, 1.3]), np.full((5, 8), np.nan)
    with_doubles(x, y, target=TARGET)
    t = np.concatenate([x, np.full(4, 0.3)])
    np.testing.assert_array_equal(y, [t, np.where(t > 0.3, t, 0.1), np.minimum(t, 0.7), t * 0.7 + 0.1, np.full(8, 0.9)])

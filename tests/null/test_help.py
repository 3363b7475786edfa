"""What users of other systems write: every error says what OpDSL has for it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import opdsl as od
from opdsl import ops

X, Y = np.ones(8, np.float32), np.zeros(8, np.float32)


@od.kernel
def add(x: od.Tensor["T", "N"], y: od.Tensor["T", "N"], *, B: od.constexpr = 4):
    for i in od.parallel(range(0, x.shape[0], B)):
        od.copy_out(od.copy_in(x[i : i + B]) + 1, y[i : i + B])


@od.kernel
def apply(x: od.Tensor["T", "N"], y: od.Tensor["T", "N"], n: od.i64, *, F: od.constexpr, B: od.constexpr = 4):
    od.copy_out(F(x, n, B), y[0:4])


CALLS: dict[str, tuple[Callable[[], Any], str]] = {
    "a grid": (lambda: add[(10,)](X, Y), r"a kernel is called on its arrays alone[\s\S]*write add\(x, y\)"),
    "gpu": (lambda: add(X, Y, target="gpu"), 'give target="triton"'),
    "cuda": (lambda: add(X, Y, target="cuda:0"), 'give target="triton"'),
    "a chip": (lambda: add(X, Y, target="npu:910c"), 'knows 310p, 910a[\\s\\S]*give target="npu"'),
    "an instruction set": (lambda: add(X, Y, target="cpu:avx3"), 'knows amx[\\s\\S]*give target="cpu"'),
    "a typing error": (lambda: add(X, Y, target="interpr"), "did you mean 'interp'"),
    "config": (lambda: add(X, Y, config=od.Config(B=8)), "give a configuration's values by name"),
    "an operator": (lambda: getattr(ops, "sofmax"), "did you mean 'softmax'"),  # noqa: B009
    "both names": (lambda: ops.sum(X, 0, dim=0), "they are the same: give one"),
    "od.relu outside": (lambda: getattr(od, "relu"), "opdsl.ops.relu"),  # noqa: B009
}


@pytest.mark.parametrize("what", CALLS)
def test_calls(what: str) -> None:
    call, text = CALLS[what]
    with pytest.raises((od.OpdslError, AttributeError), match=text):
        call()


@od.function
def negative_start(x, n, B):
    return od.copy_in(x[-4:])


@od.function
def other(x, n, B):
    return od.copy_in(x[0:4], other=0)  # type: ignore[call-arg]


@od.function
def masked(x, n, B):
    return od.copy_in(x[0:4], od.arange(4) < n)


@od.function
def keyword_dim(x, n, B):
    return od.sum(od.copy_in(x[0:4]), dim=0)  # type: ignore[call-arg]


@od.function
def to(x, n, B):
    return od.copy_in(x[0:4]).to(od.f16)


@od.function
def relu(x, n, B):
    return od.relu(od.copy_in(x[0:4]))


@od.function
def softmax(x, n, B):
    return od.softmax(od.copy_in(x[0:4]))


@od.function
def numpy_sum(x, n, B):
    return np.sum(od.copy_in(x[0:4]))


@od.function
def numpy_zeros(x, n, B):
    return od.copy_in(x[0:4]) + np.zeros(4, np.float32)


@od.function
def empty(x, n, B):
    return od.empty((4,), od.f32)  # type: ignore[arg-type]


@od.function
def backwards(x, n, B):
    total = 0.0
    for i in reversed(range(n)):
        total += od.copy_in(x[i])
    return total


@od.function
def float_size(x, n, B):
    return od.copy_in(x[0 : B * 1.0])


INSIDE = {
    negative_start: r"begins at -4[\s\S]*write x.shape\[0\] - 4",
    other: "say pad=0",
    masked: "no mask is needed: what lies outside reads `pad`",
    keyword_dim: "it is called axis",
    to: r"t.astype\(od.f16\)",
    relu: r"od.maximum\(x, 0\)",
    softmax: "opdsl.ops.softmax; in a kernel",
    numpy_sum: "numpy.sum is called with a run-time value[\\s\\S]*use od.sum",
    numpy_zeros: "make a tile with od.zeros",
    empty: "makes arrays, outside of kernels[\\s\\S]*od.zeros",
    backwards: r"count down: range\(n - 1, -1, -1\)",
    float_size: "4.0, where an integer is needed[\\s\\S]*give a whole number",
}


@pytest.mark.parametrize("function", INSIDE, ids=lambda f: f.__name__)
def test_inside_of_kernels(function: Any) -> None:
    with pytest.raises(od.CompileError, match=INSIDE[function]):
        apply(X, Y, 3, F=function, target="interp")


def test_numpy_dtypes_are_taken() -> None:
    import ml_dtypes

    @od.kernel
    def casts(x: od.Tensor["f32", 4], y: od.Tensor["f32", 4]):
        t = od.copy_in(x[0:4])
        half = t.astype(np.float16)
        od.static_assert(half.dtype == od.f16)
        od.static_assert(od.cast(t, np.dtype("int8")).dtype == od.i8)
        od.static_assert(od.zeros((4,), ml_dtypes.bfloat16).dtype == od.bf16)
        od.copy_out(od.cast(half, np.float32), y[0:4])

    x, y = np.full(4, 0.1, np.float32), np.zeros(4, np.float32)
    casts(x, y, target="interp")
    assert (y == np.float32(np.float16(0.1))).all()


def test_dim_is_axis() -> None:
    x = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32)
    names = "sum prod mean max min any all var std logsumexp argmax argmin softmax log_softmax"
    for name in names.split():
        operator = getattr(ops, name)
        np.testing.assert_array_equal(operator(x, dim=0), operator(x, axis=0))
        np.testing.assert_array_equal(operator(x, 1), operator(x, dim=1))


def test_as_a_module_and_its_version() -> None:
    run = subprocess.run([sys.executable, "-m", "opdsl", "--version"], capture_output=True, text=True, check=True)
    assert od.__version__ in run.stdout

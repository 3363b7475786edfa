"""Acceptance kernels on a split and a coupled chip: values, no hazards, and every lost flag found out."""

from __future__ import annotations

import numpy as np
import pytest
from faults import compiled_call, describe, survivors
from support.acceptance import load
from support.checks import F16, F32, Guarded, check_error, exact_integers, real

from opdsl.npu.emulator import run
from opdsl.targets.npu.placement import CapacityError
from opdsl.targets.npu.running import split_arguments

CHIPS = ("npu:910b2", "npu:910a")


@pytest.mark.parametrize("target", [*CHIPS, "npu:910b4", "npu:310p"])
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


def add_arguments(size: int):
    x = real((size,), F32)
    return lambda: (x, x, np.zeros_like(x))


def test_every_lost_flag_of_add_is_noticed() -> None:
    """Whole tiles, several a core, and a last one that sticks out, with its own flags."""
    kernel = load("add").add
    makes = [add_arguments(120000), add_arguments(119990)]
    compiled = compiled_call(kernel, makes[0](), CHIPS[0], BLOCK=1000)
    left = [d for make in makes for d in [survivors(compiled, make)]]
    missed = [describe(d) for d in left[0] if any(d is other for other in left[1])]
    assert len(compiled.dependences) >= 6
    assert not missed


@pytest.mark.parametrize("target", CHIPS)
@pytest.mark.parametrize("name", ["softmax", "matmul"])
def test_every_lost_flag_is_noticed(name: str, target: str) -> None:
    if name == "softmax":
        x = real((399, 100), F32)
        kernel, options = load("softmax").softmax, {}

        def make():
            return x, np.zeros_like(x)
    else:
        a, b = real((250, 100), F16), real((100, 331), F16, 1)
        kernel, options = load("matmul").matmul, {"BM": 32, "BN": 32, "BK": 32}

        def make():
            return a, b, b[0].copy(), np.zeros((250, 331), F16)

    compiled = compiled_call(kernel, make(), target, **options)
    assert not [describe(d) for d in survivors(compiled, make)]


def test_other_schedules_have_no_hazards() -> None:
    x = real((399, 100), F32)
    arguments = (x, np.zeros_like(x))
    compiled = compiled_call(load("softmax").softmax, arguments, CHIPS[0])
    for seed in range(1, 4):
        assert not run(compiled.program, *split_arguments(compiled, arguments), seed=seed).hazards


def test_tiles_that_do_not_fit() -> None:
    x = np.zeros((64, 4096), F32)
    with pytest.raises(CapacityError) as caught:
        load("softmax").softmax(x, np.zeros_like(x), target=CHIPS[0], BM=64)
    text = str(caught.value)
    assert "do not fit UB of 910b2" in text and "bytes" in text and "64 x 4096 f32" in text
    assert "line 11" in text and "the largest tile that fits" in text

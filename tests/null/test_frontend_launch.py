"""Kernel objects and launches: binding, specialisation, caching, shared memory, other kinds of arrays."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import opdsl as od
from opdsl.ir.types import TensorType
from opdsl.lang.kernel import constexpr_key
from opdsl.runtime import launch
from opdsl.support.knobs import knobs

# The annotations of this file are strings, as `from __future__ import annotations` makes them.


@od.kernel
def add(x: od.Tensor["T", "N"], y: od.Tensor["T", "N"], z: od.Tensor["T", "N"], *, BLOCK: od.constexpr = 8):
    """Adds."""
    for i in od.parallel(range(0, x.shape[0], BLOCK)):
        od.copy_out(od.copy_in(x[i : i + BLOCK]) + od.copy_in(y[i : i + BLOCK]), z[i : i + BLOCK])


@od.kernel
def scaled(
    x: od.Tensor["T", "M", "N"],
    y: od.Tensor["T", "M", "N"],
    by: od.f32 = 2.0,
    flag: bool = False,
    count: int = 1,
    *,
    N: od.constexpr,
):
    for m in od.parallel(range(x.shape[0])):
        t = od.copy_in(x[m, :]) * by * count
        if flag:
            t = -t
        od.copy_out(t, y[m, :])


@od.kernel
def shift(x: od.Tensor["T", "N"], by: "T", y: od.Tensor["T", "N"]):
    for i in od.parallel(range(0, x.shape[0], 8)):
        od.copy_out(od.copy_in(x[i : i + 8]) + by, y[i : i + 8])


def test_kernel_looks_like_its_function() -> None:
    assert add.name == add.__name__ == "add"
    assert add.__doc__ == "Adds."
    assert repr(add) == "<opdsl kernel add>"
    assert [p.name for p in add.signature.parameters] == ["x", "y", "z"]
    assert add.signature.defaults == {"BLOCK": 8}


def test_arguments_by_name_and_defaults() -> None:
    x, y = np.ones((2, 3), np.float32), np.zeros((2, 3), np.float32)
    scaled(y=y, x=x, target="interp")
    assert y.tolist() == [[2] * 3] * 2
    scaled(x, y, flag=True, count=np.int32(3), by=np.float32(0.5), target="interp")
    assert y.tolist() == [[-1.5] * 3] * 2


def test_constexpr_named_as_a_dim() -> None:
    x, y = np.ones((2, 3), np.float32), np.zeros((2, 3), np.float32)
    scaled(x, y, N=3, target="interp")
    (first, *_) = scaled.lower(x, y).parameters
    assert first.type == TensorType(od.f32, ("M", 3))
    (first, *_) = scaled.lower(T=od.f16, N=7).parameters
    assert first.type == TensorType(od.f16, ("M", 7))


def test_scalar_of_a_dtype_variable() -> None:
    x, y = np.arange(4), np.zeros(4, np.int64)
    shift(x, 5, y, target="interp")
    assert y.tolist() == [5, 6, 7, 8]
    with pytest.raises(od.ArgumentError, match="whole number"):
        shift(x, 0.5, y, target="interp")


def test_specialisations_are_kept() -> None:
    assert add.lower(T=od.f32) is add.lower(T="f32", BLOCK=8)
    assert add.lower(T=od.f32) is not add.lower(T=od.f16)
    assert add.lower(T=od.f32, BLOCK=1) is not add.lower(T=od.f32, BLOCK=2)
    keys = [constexpr_key(v) for v in (0, 0.0, -0.0, False, (0,), (False,), od.f32, None)]
    assert len(set(keys)) == len(keys)


def test_calls_compile_once_for_what_they_have_in_common(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    find = launch.find_target

    def counting(name: str) -> Any:
        target = find(name)
        compiled = target.compile

        class Counting:
            def compile(self, request: Any) -> Any:
                seen.append(request)
                return compiled(request)

        return Counting()

    monkeypatch.setattr(launch, "find_target", counting)

    @od.kernel
    def k(x: od.Tensor["T", "M", "N"], y: od.Tensor["T", "M", "N"]):
        for m, n in od.parallel(range(x.shape[0]), range(0, x.shape[1], 8)):
            od.copy_out(od.copy_in(x[m, n : n + 8]), y[m, n : n + 8])

    def call(x: np.ndarray, y: np.ndarray) -> None:
        y[...] = 0
        with knobs.scope(target="interp"):
            k(x, y)
        np.testing.assert_array_equal(x, y)

    x = np.random.default_rng(0).random((5, 9))
    call(x, np.zeros((5, 9)))
    call(x[:3], np.zeros((3, 9)))
    assert len(seen) == 1 and seen[0].unit_axes == (1, 1) and not seen[0].may_alias
    call(x.T, np.zeros((9, 5)))
    assert len(seen) == 2 and seen[1].unit_axes == (0, 1)
    call(x.astype(np.float32), np.zeros((5, 9), np.float32))
    assert len(seen) == 3


def test_the_same_view_twice_is_in_place() -> None:
    x = np.arange(20, dtype=np.float32)
    for _ in range(3):
        add(x, x, x, target="interp")
    assert x.tolist() == [8.0 * i for i in range(20)]


def test_interleaved_views_share_nothing() -> None:
    whole = np.arange(20, dtype=np.float32)
    for _ in range(2):
        add(whole[::2], whole[::2], whole[1::2], target="interp")
        assert whole[1::2].tolist() == (2 * whole[::2]).tolist()


def test_empty_arrays() -> None:
    empty = np.zeros(0, np.float32)
    add(empty, empty, empty.copy(), target="interp")


def test_narrow_floats() -> None:
    x = np.ones(4, ml_dtypes.bfloat16)
    z = np.zeros_like(x)
    add(x, x, z, target="interp")
    assert z.tolist() == [2] * 4


def test_other_arrays_through_dlpack() -> None:
    torch = pytest.importorskip("torch")
    x, z = torch.arange(6.0), torch.zeros(6)
    for _ in range(2):
        add(x, x, z, target="interp")
    assert z.tolist() == [0, 2, 4, 6, 8, 10]
    with pytest.raises(od.ArgumentError, match="gradient"):
        add(x, x.clone().requires_grad_(), z, target="interp")


def test_repeated_wrong_calls_keep_failing() -> None:
    x = np.ones(4, np.float32)
    for _ in range(2):
        add(x, x, x.copy(), target="interp")
        with pytest.raises(od.ShapeError):
            add(x, np.ones(5, np.float32), x.copy(), target="interp")


def test_launches_from_many_threads() -> None:
    @od.kernel
    def k(x: od.Tensor["T", "N"], y: od.Tensor["T", "N"], *, BLOCK: od.constexpr):
        for i in od.parallel(range(0, x.shape[0], BLOCK)):
            od.copy_out(od.copy_in(x[i : i + BLOCK]) + BLOCK, y[i : i + BLOCK])

    wrong: list[int] = []

    def work(block: int) -> None:
        x = np.arange(30, dtype=np.float32)
        for _ in range(5):
            y = np.zeros_like(x)
            k(x, y, BLOCK=block, target="interp")
            if not np.array_equal(y, x + block):
                wrong.append(block)

    threads = [threading.Thread(target=work, args=(b,)) for b in (1, 4, 7, 4, 1, 30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_import_is_light() -> None:
    code = (
        "import sys, opdsl; heavy = {'ml_dtypes', 'asyncio', 'multiprocessing', 'torch', 'opdsl.lang.frontend',"
        "'opdsl.lang.builtins_math', 'opdsl.ir.ops', 'opdsl.passes', 'opdsl.targets.cpu.lowering', 'subprocess',"
        "'unittest'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

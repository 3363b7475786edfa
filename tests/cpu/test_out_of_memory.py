"""Memory that cannot be had is a MemoryError, wherever a kernel wants it, and the threads stay usable."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import opdsl as od

HUGE = 10**11


@od.kernel
def sort_rows(x: od.Tensor["f32", "N"], y: od.Tensor["f32", "N"], *, B: od.constexpr):
    for i in od.parallel(range(0, x.shape[0], B)):
        od.copy_out(od.sort(od.copy_in(x[i : i + B])), y[i : i + B])


@od.kernel
def sort_in_many(x: od.Tensor["f32", "M", "N"], y: od.Tensor["f32", "M", "N"], *, B: od.constexpr):
    for m in od.parallel(range(x.shape[0])):
        for i in od.parallel(range(0, x.shape[1], B)):
            od.copy_out(od.sort(od.copy_in(x[m, i : i + B])), y[m, i : i + B])


@od.kernel
def sort_alone(x: od.Tensor["f32", "N"], y: od.Tensor["f32", "N"], *, B: od.constexpr):
    od.copy_out(od.sort(od.copy_in(x[0:B])), y[0:B])


def _usable() -> None:
    x = np.random.default_rng(0).random(5000).astype(np.float32)
    y = np.empty_like(x)
    sort_rows(x, y, B=64)
    np.testing.assert_array_equal(y[:64], np.sort(x[:64]))


@pytest.mark.parametrize("threads", [1, 3])
def test_in_a_parallel_loop(threads: int) -> None:
    before = od.get_num_threads()
    od.set_num_threads(threads)
    try:
        for kernel, shape in ((sort_rows, (10,)), (sort_in_many, (40, 10)), (sort_alone, (10,))):
            x = np.ones(shape, np.float32)
            for _ in range(3):
                with pytest.raises(MemoryError):
                    kernel(x, np.empty_like(x), B=HUGE)
            _usable()
    finally:
        od.set_num_threads(before)


ENDLESS = """
import sys
import numpy as np
import opdsl as od

@od.kernel
def forever(x: od.Tensor["f32", 1], y: od.Tensor["f32", 1]):
    t = od.copy_in(x[0])
    while t < 1:
        t = t * 1.0
    od.copy_out(t, y[0])

@od.kernel
def forever_in_integers(x: od.Tensor["f32", 1], y: od.Tensor["f32", 1]):
    n = od.cast(od.copy_in(x[0]), od.i64)
    while n < 1:
        n = n * 2
    od.copy_out(od.cast(n, od.f32), y[0])

x, y = np.ones(1, np.float32), np.zeros(1, np.float32)
kernel = {"floats": forever, "integers": forever_in_integers}[sys.argv[1]]
kernel(x, y)  # compiled, and this one ends
assert y[0] == 1
print("begins", flush=True)
x[0] = 0
kernel(x, y)
print("ended", flush=True)
"""


@pytest.mark.parametrize("kind", ["floats", "integers"])
def test_an_endless_loop_does_not_end(kind: str, tmp_path: Path) -> None:
    """C++ lets compilers assume that loops end; OpDSL does not."""
    script = tmp_path / "endless.py"
    script.write_text(ENDLESS)
    child = subprocess.Popen([sys.executable, str(script), kind], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == "begins\n"
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(timeout=1.5)
    finally:
        child.kill()
        child.wait()
        child.stdout.close()

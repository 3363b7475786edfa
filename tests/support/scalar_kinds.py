"""Every kind of scalar argument for every dtype of a parameter: each target gives, or refuses, what `interp` does."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

import opdsl as od
from opdsl.ir.semantics.values import NUMPY_DTYPES
from opdsl.ir.types import DTYPES, DType

VALUES: tuple[Any, ...] = (
    *(0, 1, True, -3, 7, 200, 0.1, 3.3, -2.5, 1e-8, 448.3, 65519.9, 65520.0, 1e5, float("inf"), float("nan")),
    *(1 + 2**-11 + 2**-40, 1 + 2**-9 + 2**-40, 2**31, 2**40 + 1, -(2**31)),  # rounded once, not by way of f32
)
TYPES: tuple[Any, ...] = (
    *(np.float16, np.float32, np.float64, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2),
    *(np.int8, np.int32, np.int64, np.uint8, np.bool_),
)
TEXT = """

@od.kernel
def kernel_{name}(wide: od.Tensor[od.{wide}, 1], same: od.Tensor[od.{type}, 1], s: od.{type}):
    od.copy_out(od.cast(s, od.{wide}), wide[0])
    od.copy_out(s, same[0])
"""


def _kinds() -> Iterator[Callable[[Any], Any]]:
    yield lambda value: value
    for each in TYPES:
        yield each
        yield lambda value, type=each: np.array(value, type)
    try:
        import torch
    except ImportError:
        return
    for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.bool, torch.float64):
        yield lambda value, type=dtype: torch.tensor(value, dtype=type)


@cache
def _kernels(wide_float: str) -> Any:
    text = "import opdsl as od\n"
    for dtype in DTYPES.values():
        type = "bool" if dtype.is_bool else dtype.name
        text += TEXT.format(name=dtype.name, type=type, wide=wide_float if dtype.is_float else "i64")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"scalars_{wide_float}.py"
        path.write_text(text)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


def _result(dtype: DType, argument: Any, target: str, wide: str) -> tuple[Any, ...]:
    arrays = [np.zeros(1, wide if dtype.is_float else np.int64), np.zeros(1, NUMPY_DTYPES[dtype])]
    try:
        getattr(_kernels("f64" if wide == "float64" else "f32"), f"kernel_{dtype.name}")(
            *arrays, argument, target=target
        )
    except od.OpdslError as error:
        return (type(error).__name__,)
    return tuple("nan" if a[0] != a[0] else a.tobytes() for a in arrays)


def check_scalars(dtype: DType, target: str) -> None:
    wide = "float32" if target.startswith("npu") else "float64"
    for kind in _kinds():
        for value in VALUES:
            try:
                with np.errstate(all="ignore"):
                    argument = kind(value)
            except (ValueError, OverflowError, TypeError, RuntimeError):
                continue
            wanted = _result(dtype, argument, "interp", wide)
            assert _result(dtype, argument, target, wide) == wanted, (argument, type(argument))


@od.kernel
def cast_variables(x: od.Tensor[od.f32, 8], y: od.Tensor[od.f32, 8], n: od.i64):
    """Variables of loops with constant and run-time bounds, cast to every kind of type."""
    acc = od.zeros((4,), od.f32)
    for i in od.pipelined(range(4), depth=2):
        acc += od.copy_in(x[i : i + 4]) * od.cast(i, od.f32) + od.f16(i) / 4 + od.cast(i, od.bool)
    od.copy_out(acc, y[0:4])
    t = 0.0
    for j in range(7, 0, -2):
        t = t + od.f32(j) * od.cast(od.u8(j), od.f32)
    for j in range(n, n + 2):
        t = t + od.f32(od.i8(j)) + od.cast(j, od.f32)
    od.copy_out(t, y[4])
    for j in range(3):
        s = od.f32(j)
        while s < 2:
            s += 1.0
        od.copy_out(s + od.f32(j) * 2, y[5 + j])


def check_variables(target: str) -> None:
    x = np.arange(8, dtype=np.float32)
    found, wanted = np.zeros(8, np.float32), np.zeros(8, np.float32)
    cast_variables(x, found, 300, target=target)
    cast_variables(x, wanted, 300, target="interp")
    np.testing.assert_array_equal(found, wanted)

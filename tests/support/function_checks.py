"""Kernels that apply a function of the table to arrays, and checks of what they give."""

from __future__ import annotations

from functools import cache
from typing import Any

import ml_dtypes
import numpy as np

import opdsl as od
from opdsl.ir.functions import COMPOSITIONS, Function

SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 2.0, 0.5, 1e-30, 100.0]

Array = np.ndarray[Any, Any]


@od.kernel
def apply_1(x: od.Tensor["T", "N"], z: od.Tensor["T", "N"], *, F: od.constexpr, BLOCK: od.constexpr = 64):
    for i in od.parallel(range(0, x.shape[0], BLOCK)):
        od.copy_out(od.cast(F(od.copy_in(x[i : i + BLOCK])), z.dtype), z[i : i + BLOCK])


@od.kernel
def apply_2(
    x: od.Tensor["T", "N"], y: od.Tensor["T", "N"], z: od.Tensor["T", "N"], *, F: od.constexpr, BLOCK: od.constexpr = 64
):
    for i in od.parallel(range(0, x.shape[0], BLOCK)):
        operands = od.copy_in(x[i : i + BLOCK]), od.copy_in(y[i : i + BLOCK])
        od.copy_out(F(*operands), z[i : i + BLOCK])


@od.kernel
def apply_3(
    x: od.Tensor["T", "N"],
    y: od.Tensor["T", "N"],
    w: od.Tensor["T", "N"],
    z: od.Tensor["T", "N"],
    *,
    F: od.constexpr,
    BLOCK: od.constexpr = 64,
):
    for i in od.parallel(range(0, x.shape[0], BLOCK)):
        operands = od.copy_in(x[i : i + BLOCK]), od.copy_in(y[i : i + BLOCK]), od.copy_in(w[i : i + BLOCK])
        od.copy_out(F(*operands), z[i : i + BLOCK])


KERNELS = {1: apply_1, 2: apply_2, 3: apply_3}


def sampled(row: Function, count: int) -> list[Array]:
    """Values of the row's domain for each operand, in f64."""
    rng = np.random.default_rng(7)
    return [rng.uniform(*row.domain, count) for _ in row.operands]


def check_composition(name: str, target: str) -> None:
    """A function that is written in the language: sampled in its domain in each dtype, and all combinations of zeros,
    infinities, NaN and others."""
    row = COMPOSITIONS[name]
    dtypes = (np.float32, np.float16, ml_dtypes.bfloat16, *([] if target.startswith("npu") else [np.float64]))
    for dtype in dtypes:
        check_values(row, target, [x.astype(dtype) for x in sampled(row, 1001)], ulps=6)
    grid = np.meshgrid(*[SPECIAL] * len(row.operands), indexing="ij")
    check_values(row, target, [x.reshape(-1).astype(np.float32) for x in grid], ulps=6)


def check_values(row: Function, target: str, operands: list[Array], ulps: float) -> None:
    """The function on a target, within `ulps` units in the last place of the f64 values of the rounded operands. A sum that
    cancels (lerp) is measured by its largest operand."""
    dtype = operands[0].dtype
    found = np.full_like(operands[0], 7)
    KERNELS[len(operands)](*operands, found, F=getattr(od, row.name), target=target)
    wide = [x.astype(np.float64) for x in operands]
    with np.errstate(all="ignore"):
        exact = row.exact(*wide)
        rounded = exact.astype(dtype).astype(np.float64)
    finite = np.isfinite(rounded)
    np.testing.assert_array_equal(found[~finite].astype(np.float64), rounded[~finite])
    size = np.abs(rounded[finite])
    if row.name == "lerp":
        size = np.maximum.reduce(
            [size, *(np.abs(x[finite]) * np.maximum(1, np.abs(wide[2][finite])) for x in wide[:2])]
        )
    spacing = np.spacing(size.astype(dtype)).astype(np.float64) if dtype.kind == "f" else size * 2.0**-7
    error = np.abs(found[finite].astype(np.float64) - exact[finite])
    assert (error <= ulps * np.maximum(spacing, np.finfo(np.float32).tiny)).all(), (row.name, (error / spacing).max())


@cache
def _language(text: str, names: tuple[str, ...]) -> Any:
    """The expression as an @od.function. The front end reads sources, so that it is written to a file."""
    import importlib.util
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "derivative.py"
        path.write_text(f"import opdsl as od\n\n\n@od.function\ndef f({', '.join(names)}):\n    return {text}\n")
        spec = importlib.util.spec_from_file_location("derivative", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.f


def derivative(row: Function, place: int, operands: list[Array]) -> Array:
    """The derivative with respect to an operand, by its expression, in f64."""
    result = np.full_like(operands[0], np.nan)
    function = _language(row.derivatives[place], row.operands)
    KERNELS[len(operands)](*operands, result, F=function, target="interp")
    return result

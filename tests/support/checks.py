"""What the tests of every target check results with: exact data, an error bound, guards around outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]

BF16 = np.dtype(ml_dtypes.bfloat16)
E4M3 = np.dtype(ml_dtypes.float8_e4m3fn)
E5M2 = np.dtype(ml_dtypes.float8_e5m2)
F64, F32, F16 = np.dtype(np.float64), np.dtype(np.float32), np.dtype(np.float16)

LAYOUTS = ("contiguous", "transposed", "strided", "reversed")


def is_float(dtype: np.dtype[Any]) -> bool:
    return dtype.kind == "f" or dtype in (BF16, E4M3, E5M2)


def unit_roundoff(dtype: np.dtype[Any]) -> float:
    """Half a unit in the last place of 1."""
    return float(ml_dtypes.finfo(dtype).eps) / 2


def exact_integers(shape: Sequence[int], dtype: Any, seed: int = 0, limit: int = 4, density: float = 1.0) -> Array:
    """Integers in -limit..limit (0..limit if unsigned), so small that sums of their products are exact in f32."""
    generator = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    low = 0 if dtype.kind == "u" else -limit
    values = generator.integers(low, limit, tuple(shape), endpoint=True)
    return np.where(generator.random(tuple(shape)) < density, values, 0).astype(dtype)


def real(shape: Sequence[int], dtype: Any, seed: int = 0) -> Array:
    return np.asarray(np.random.default_rng(seed).standard_normal(tuple(shape))).astype(dtype)


def lay_out(values: Array, layout: str) -> Array:
    """An equal array with other strides."""
    if layout == "transposed":
        return np.asfortranarray(values)
    if layout == "strided":
        parent = np.zeros(tuple(2 * n + 1 for n in values.shape), values.dtype)
        view = parent[tuple(slice(1, 1 + 2 * n, 2) for n in values.shape)]
        view[...] = values
        return view
    if layout == "reversed":
        flipped = tuple(slice(None, None, -1) for _ in values.shape)
        return np.ascontiguousarray(values[flipped])[flipped]
    return np.ascontiguousarray(values).reshape(values.shape)


class Guarded:
    """An output full of NaN (integers: of -1), inside a larger array that must stay as it is."""

    def __init__(self, shape: Sequence[int], dtype: Any, layout: str = "contiguous") -> None:
        shape = tuple(shape)
        dtype = np.dtype(dtype)
        step = 2 if layout == "strided" else 1
        order = shape[::-1] if layout == "transposed" else shape
        guard = 64
        if layout == "strided":
            extents = tuple(step * n + 1 for n in order)
        else:
            extents = order
        count = int(np.prod(extents, dtype=np.int64))
        self.memory = np.full((count + 2 * guard) * dtype.itemsize, 0 if dtype == np.bool_ else 0xFF, np.uint8)
        parent = self.memory.view(dtype)[guard : guard + count].reshape(extents)
        view = parent[(*(slice(1, 1 + step * n, step) for n in order), ...)] if layout == "strided" else parent
        if layout == "transposed":
            view = view.T
        elif layout == "reversed":
            view = view[(*(slice(None, None, -1) for _ in shape), ...)]
        self.view: Array = view
        self._poison = self.memory.copy()

    def check(self) -> Array:
        """The output, after making sure that nothing beside it was written."""
        result = self.view.copy()
        self.view[...] = self._poison.view(self.view.dtype)[0]
        np.testing.assert_array_equal(self.memory, self._poison, "the kernel wrote outside of its output")
        self.view[...] = result
        return result


def check_bits(result: Array, expected: Array) -> None:
    """Equal to the bit, but for the sign and payload of NaNs."""
    assert result.dtype == expected.dtype
    assert result.shape == expected.shape
    if not is_float(result.dtype):
        np.testing.assert_array_equal(result, expected)
        return
    wide, wanted = result.astype(np.float64), expected.astype(np.float64)
    np.testing.assert_array_equal(wide, wanted)
    numbers = ~np.isnan(wanted)
    np.testing.assert_array_equal(np.signbit(wide)[numbers], np.signbit(wanted)[numbers])


def check_error(result: Array, exact: Array, plain: Array, ulps: float = 4.0) -> None:
    """The error against `exact` (in f64) is at most twice that of `plain`, in maximum and in root mean square, with a
    floor of a few units in the last place of the result's dtype. `plain` is the formula evaluated in f32 (or the
    16-bit type) by NumPy. NaN and infinity must be at the same places."""
    assert result.shape == exact.shape == plain.shape
    wide = result.astype(np.float64)
    finite = np.isfinite(exact)
    with np.errstate(all="ignore"):
        representable = exact.astype(result.dtype).astype(np.float64)
    np.testing.assert_array_equal(wide[~finite], exact[~finite])
    compared = finite & np.isfinite(representable)
    if not compared.any():
        return
    assert np.isfinite(wide[compared]).all(), "NaN or infinity where the exact result is finite"
    error = np.abs(wide[compared] - exact[compared])
    allowed = np.abs(plain.astype(np.float64)[compared] - exact[compared])
    size = np.abs(exact[compared])
    unit = 2 * unit_roundoff(result.dtype) * ulps
    for name, norm in (("maximum", np.max), ("root mean square", lambda a: np.sqrt(np.mean(a * a)))):
        bound = max(2 * float(norm(allowed)), unit * float(norm(size)))
        assert float(norm(error)) <= bound, f"{name} error {float(norm(error)):.3g}, allowed {bound:.3g}"

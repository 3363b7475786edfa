"""Element types and NumPy's dtypes, by their names. `ml_dtypes` is loaded where a narrow float is first met."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from opdsl import _runtime

# Our names of element types, and NumPy's; the narrow floats come from ml_dtypes.
_NUMPY_NAMES = {
    "f64": "float64",
    "f32": "float32",
    "f16": "float16",
    "i64": "int64",
    "i32": "int32",
    "i16": "int16",
    "i8": "int8",
    "u64": "uint64",
    "u32": "uint32",
    "u16": "uint16",
    "u8": "uint8",
    "bool": "bool",
}
NARROW_FLOATS = {"bf16": "bfloat16", "f8e4m3": "float8_e4m3fn", "f8e5m2": "float8_e5m2"}


@functools.cache
def numpy_dtypes() -> dict[str, np.dtype[Any]]:
    """Our name of each element type -> the NumPy dtype. Makes the narrow floats known to launchers."""
    import ml_dtypes

    dtypes = {name: np.dtype(theirs) for name, theirs in _NUMPY_NAMES.items()}
    for name, theirs in NARROW_FLOATS.items():
        dtypes[name] = np.dtype(getattr(ml_dtypes, theirs))
        _runtime.register_dtype(name, dtypes[name])
    return dtypes


_STANDARD = {np.dtype(theirs): name for name, theirs in _NUMPY_NAMES.items()}


@functools.cache
def _names_by_dtype() -> dict[np.dtype[Any], str]:
    return {dtype: name for name, dtype in numpy_dtypes().items()}


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The NumPy dtype of one of our element types, as `numpy_dtype("bf16")`."""
    return numpy_dtypes()[name]


def dtype_name(dtype: np.dtype[Any]) -> str | None:
    """Our name of a NumPy dtype (of either byte order), or None where kernels have no such type."""
    dtype = dtype.newbyteorder("=")
    return _STANDARD.get(dtype) or _names_by_dtype().get(dtype)

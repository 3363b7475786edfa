"""Identities of reductions and scans."""

from __future__ import annotations

import numpy as np

from opdsl.ir.semantics.values import NUMPY_DTYPES
from opdsl.ir.types import DType


def identity(kind: str, dtype: DType) -> bool | int | float:
    """What an exclusive scan starts with."""
    if kind in ("sum", "prod"):
        return int(kind == "prod")
    if dtype.is_bool:
        return kind == "min"
    if dtype.is_float:
        return -np.inf if kind == "max" else np.inf
    limits = np.iinfo(NUMPY_DTYPES[dtype])
    return int(limits.min if kind == "max" else limits.max)

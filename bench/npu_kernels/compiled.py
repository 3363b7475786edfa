"""Rows whose operator OpDSL's own compiler is asked for, from kernels of the language."""

from __future__ import annotations

from math import prod
from typing import Any

import ml_dtypes
import numpy as np

from opdsl.runtime.launch import contiguous_request
from opdsl.targets.npu.running import run_compiled
from opdsl.targets.npu.target import NpuTarget

from .language import add, gelu, maximum, sigmoid, softmax
from .problems import Inexpressible, Row, attribute, chip_of, dtype_of, empty, shapes_of

DTYPES: dict[str, Any] = {"f32": np.float32, "f16": np.float16, "bf16": ml_dtypes.bfloat16, "i32": np.int32}
TILE = 4096
UB_ELEMENTS = 8192

KERNELS: dict[str, tuple[Any, int]] = {"add": (add, 3), "maximum": (maximum, 3), "sigmoid": (sigmoid, 2), "gelu": (gelu, 2)}


def predict_compiled(row: Row) -> float:
    """Microseconds of the row's operator, compiled. Raises Inexpressible, or what the compiler refuses."""
    if row.metric != "time" or row.kernel not in {*KERNELS, "softmax"} or chip_of(row) != "910b2":
        raise Inexpressible("no kernel of the language is written for it")
    shapes, name = shapes_of(row), dtype_of(row)
    if name not in DTYPES:
        raise Inexpressible(f"{row.dtype} is compiled for the scalar unit, one element at a time")
    if row.kernel == "softmax":
        if attribute(row, "dim", -1) % len(shapes[0]) != len(shapes[0]) - 1:
            raise Inexpressible("softmax along an axis that is not the last")
        columns = shapes[0][-1]
        return _time(softmax, [(prod(shapes[0][:-1]), columns)] * 2, name, N=columns, B=max(1, UB_ELEMENTS // columns))
    if len(shapes) > 1 and shapes[0] != shapes[1]:
        raise Inexpressible("broadcasting")
    kernel, arrays = KERNELS[row.kernel]
    return _time(kernel, [(prod(shapes[0]),)] * arrays, name, B=TILE)


def _time(kernel: Any, shapes: list[tuple[int, ...]], dtype: str, **constants: int) -> float:
    arrays = [np.empty(shape, DTYPES[dtype]) for shape in shapes]
    request = contiguous_request(kernel.lower(*arrays, **constants))
    runnable = NpuTarget("910b2").compile(request).runnable
    given = [empty(*shape, dtype=dtype) for shape in shapes]
    return float(run_compiled(runnable, given, values=False, l2="cold").microseconds)

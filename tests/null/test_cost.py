"""The work of a kernel can be counted whatever ops it has, those with several results, too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.catalogue import catalogue

import opdsl as od
from opdsl.analysis.cost import count_work
from opdsl.ir.types import TensorType

SIZES = {"M": 6, "Nx": 5}


@pytest.mark.parametrize("name", [name for name in catalogue() if name != "while"])
def test_every_op(name: str) -> None:
    kernel = catalogue()[name]
    arguments: list[Any] = []
    for value in kernel.parameters:
        if isinstance(value.type, TensorType):
            shape = tuple(SIZES[d] if isinstance(d, str) else d for d in value.type.dims)
            arguments.append(np.zeros(shape, np.int64 if value.type.dtype.is_integer else np.float32))
        else:
            arguments.append(False if value.type.dtype.is_bool else 1.0)
    work = count_work(kernel, arguments)
    assert work.operations >= 0 and work.bytes >= 0


@od.kernel
def largest(x: od.Tensor["f32", "N"], y: od.Tensor["f32", "N"], places: od.Tensor["i64", "N"], *, B: od.constexpr = 16):
    for i in od.parallel(range(0, x.shape[0], B)):
        values, order = od.topk(od.copy_in(x[i : i + B]), B)
        od.copy_out(values, y[i : i + B])
        od.copy_out(order, places[i : i + B])


def test_two_results() -> None:
    x, y, places = np.zeros(100, np.float32), np.zeros(100, np.float32), np.zeros(100, np.int64)
    work = count_work(largest.lower(x, y, places), [x, y, places])
    assert work.read_bytes == x.nbytes
    assert work.written_bytes == y.nbytes + places.nbytes

"""Every acceptance kernel for every dtype, every op of the IR, and the operators' kernels, for four architectures.

    pytest tests/triton/everything.py                 # takes some 20 minutes; not part of the usual tests
    pytest tests/triton/everything.py -k sm_90
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

pytest.importorskip("triton")

import opdsl.ops
from support.ops import tile_kernel
from support.triton_kernels import ARCHES as NAMES
from support.triton_kernels import CASES

from opdsl.ir.builder import Builder
from opdsl.ir.core import Value
from opdsl.ir.ops import OPS, IrError
from opdsl.ir.types import DTYPES
from opdsl.lang.kernel import Kernel
from opdsl.runtime.launch import contiguous_request
from opdsl.targets.interp.values import NUMPY_DTYPES
from opdsl.targets.triton.arch import ARCHES
from opdsl.targets.triton.compiler import compile_request

FLOATS = ("f32", "f16", "bf16")
MORE = {"add": ("f64", "f8e4m3", "f8e5m2", "i64", "i32", "i16", "i8", "u32", "u8"), "embedding": ("f64", "i32"),
        "embedding_backward": ("f64", "i32", "i8", "f8e5m2"), "matmul": ("f8e4m3", "f8e5m2"),
        "softmax": ("f64",), "layer_norm": ("f64",)}  # fmt: skip


@pytest.mark.parametrize("arch", NAMES)
@pytest.mark.parametrize(("name", "dtype"), [(n, d) for n in CASES for d in (*FLOATS, *MORE.get(n, ()))])
def test_acceptance(name: str, dtype: str, arch: str) -> None:
    compile_request(CASES[name].request(dtype), ARCHES[arch])


DTYPES_OF = {"float": ("f64", "f32", "f16", "bf16", "f8e4m3", "f8e5m2"), "int": ("i64", "i32", "i16", "i8"),
             "uint": ("u64", "u32", "u16", "u8"), "bool": ("bool",)}  # fmt: skip
ELEMENTWISE = [name for name, op in OPS.items() if op.category == "elementwise" and name not in ("random_bits", "select")]


def _results(builder: Builder, name: str, tiles: Sequence[Value]) -> list[Value]:
    """The op on every dtype that it takes, with as many operands as it takes."""
    found: list[Value] = []
    for tile in tiles:
        if name == "cast":
            found += [builder.value("cast", tile, dtype=dtype) for dtype in DTYPES.values()]
            continue
        for count in (1, 2, 3):
            with contextlib.suppress(IrError):
                found.append(builder.value(name, *[tile] * count))
                break
    return found


@pytest.mark.parametrize("arch", NAMES)
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_op(name: str, arch: str) -> None:
    inputs = [np.zeros((5, 8), NUMPY_DTYPES[DTYPES[d]]) for dtypes in DTYPES_OF.values() for d in dtypes]
    kernel, _ = tile_kernel(lambda builder, tiles: _results(builder, name, tiles), inputs)
    compiled = compile_request(contiguous_request(kernel), ARCHES[arch])
    assert "tl.store" in compiled.generated.text


def _operators() -> dict[str, Kernel]:
    """The kernels of the operator library that can be compiled without more being known than dtypes and sizes."""
    import importlib
    import pkgutil

    found = {}
    for module in pkgutil.iter_modules(opdsl.ops.__path__):
        names = vars(importlib.import_module(f"opdsl.ops.{module.name}"))
        found.update({f"{module.name}.{n}": k for n, k in names.items() if isinstance(k, Kernel)})
    return found


OPERATORS = _operators()


@pytest.mark.parametrize("arch", NAMES)
@pytest.mark.parametrize("name", OPERATORS)
def test_operator(name: str, arch: str) -> None:
    kernel = OPERATORS[name]
    values: dict[str, Any] = {n: 256 for n in kernel.signature.constexprs if n in kernel.signature.symbols}
    missing = [n for n in kernel.signature.constexprs if n not in values and n not in kernel.signature.defaults]
    if missing:
        pytest.skip(f"needs {missing}")
    ir = kernel.specialise(dict.fromkeys(kernel.signature.dtype_variables, DTYPES["f32"]), values)
    compile_request(contiguous_request(ir), ARCHES[arch])

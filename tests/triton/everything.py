"""Every acceptance kernel for every dtype, every op of the IR, and the operators' kernels, for four architectures.

    pytest tests/triton/everything.py                 # takes some 20 minutes; not part of the usual tests
    pytest tests/triton/everything.py -k sm_90
"""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("triton")

import opdsl.ops
from opdsl.ir.types import DTYPES
from opdsl.lang.kernel import Kernel
from opdsl.runtime.launch import contiguous_request
from opdsl.targets.triton.arch import ARCHES
from opdsl.targets.triton.compiler import compile_request
from support.catalogue import catalogue
from support.triton_kernels import ARCHES as NAMES
from support.triton_kernels import CASES

FLOATS = ("f32", "f16", "bf16")
MORE = {"add": ("f64", "f8e4m3", "f8e5m2", "i64", "i32", "i16", "i8", "u32", "u8"), "embedding": ("f64", "i32"),
        "embedding_backward": ("f64", "i32", "i8", "f8e5m2"), "matmul": ("f8e4m3", "f8e5m2"),
        "softmax": ("f64",), "layer_norm": ("f64",)}  # fmt: skip


@pytest.mark.parametrize("arch", NAMES)
@pytest.mark.parametrize(("name", "dtype"), [(n, d) for n in CASES for d in (*FLOATS, *MORE.get(n, ()))])
def test_acceptance(name: str, dtype: str, arch: str) -> None:
    compile_request(CASES[name].request(dtype), ARCHES[arch])


@pytest.mark.parametrize("arch", NAMES)
@pytest.mark.parametrize("name", list(catalogue()))
def test_op(name: str, arch: str) -> None:
    compile_request(contiguous_request(catalogue()[name]), ARCHES[arch])


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
    ir = kernel.specialise({v: DTYPES["f32"] for v in kernel.signature.dtype_variables}, values)
    compile_request(contiguous_request(ir), ARCHES[arch])

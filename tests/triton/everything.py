"""Every acceptance kernel for every dtype, every op of the IR, and the operators' kernels, for four architectures.

pytest tests/triton/everything.py                 # takes some 20 minutes; not part of the usual tests
pytest tests/triton/everything.py -k sm_90
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("triton.language")  # this folder is called triton, too

from fuzz.check import load_program
from fuzz.sections import generate
from opdsl.ops.registry import OPERATORS
from support.ops import tile_kernel
from support.triton_kernels import ARCHES as NAMES
from support.triton_kernels import CASES

from opdsl.ir.builder import Builder
from opdsl.ir.core import Value
from opdsl.ir.ops import OPS, IrError
from opdsl.ir.semantics.values import NUMPY_DTYPES
from opdsl.ir.types import DTYPES
from opdsl.runtime.launch import contiguous_request
from opdsl.targets.base import Request
from opdsl.targets.triton.arch import ARCHES
from opdsl.targets.triton.compiler import Compiled, compile_request
from opdsl.targets.triton.target import TritonTarget

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
ELEMENTWISE = [
    name for name, op in OPS.items() if op.category == "elementwise" and name not in ("random_bits", "select")
]


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


@pytest.mark.parametrize("arch", NAMES)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_operator(name: str, dtype: Any, arch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """All kernels that calls of an operator launch compile."""
    compiled: list[Compiled] = []

    def compile_only(self: TritonTarget, request: Request) -> Callable[..., None]:
        compiled.append(compile_request(request, ARCHES[self.option]))
        return lambda arguments: None

    monkeypatch.setattr(TritonTarget, "compile", compile_only)
    operator = OPERATORS[name]
    for call in operator.calls(np.random.default_rng(0), np.dtype(dtype), 301):
        operator.function(*call.arguments, target=f"triton:{arch}", **call.keywords)
    assert all(module.binary for kernel in compiled for module in kernel.modules)


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_operator_values(name: str) -> None:
    """Operators in Triton's interpreter."""
    operator = OPERATORS[name]
    for call in operator.calls(np.random.default_rng(0), np.dtype(np.float32), 301):
        found = operator.function(*call.arguments, target="triton:interpreter", **call.keywords)
        expected = operator.function(*call.arguments, target="interp", **call.keywords)
        np.testing.assert_allclose(found.astype(np.float64), expected.astype(np.float64), rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("seed", range(300))
def test_generated_kernel_compiles(seed: int, tmp_path: Path) -> None:
    path = tmp_path / f"fuzz_{seed}.py"
    path.write_text(generate(seed))
    kernel, _ = load_program(path)
    compile_request(contiguous_request(kernel.specialise({}, {})), ARCHES["sm_90"])

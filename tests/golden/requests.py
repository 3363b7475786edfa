"""The kernels whose texts are compared: every op of the IR, the examples, and all that operators of the library launch."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from fuzz.check import load_program
from fuzz.sections import generate
from support.ops import combine_region, tile_kernel

from opdsl.ir.builder import Builder
from opdsl.ir.core import Value
from opdsl.ir.ops import OPS, IrError
from opdsl.ir.types import bf16, bool_, f8e4m3, f16, f32, f64, i8, i16, i32, i64, u8, u16, u32, u64
from opdsl.runtime.launch import contiguous_request
from opdsl.targets.base import Request, find_target

Named = Iterator[tuple[str, Request]]

TESTS = Path(__file__).resolve().parents[1]
DTYPES = (f64, f32, f16, bf16, f8e4m3, i64, i32, i16, i8, u64, u32, u16, u8, bool_)


def _zeros(dtype: Any, *shape: int) -> np.ndarray:
    from opdsl.ir.semantics.values import NUMPY_DTYPES

    return np.zeros(shape, NUMPY_DTYPES[dtype])


def _elementwise(name: str) -> Callable[[Builder, Sequence[Value]], Sequence[Value]]:
    """The op on every dtype that it takes, with as many operands as it takes."""

    def compute(builder: Builder, tiles: Sequence[Value]) -> Sequence[Value]:
        if name == "cast":
            return [builder.value("cast", tile, dtype=dtype) for tile in tiles for dtype in DTYPES]
        if name == "random_bits":
            return [builder.value(name, builder.constant(7, i64), tiles[DTYPES.index(i64)], word=1)]
        if name == "select":
            return [builder.value(name, tiles[-1], tile, tile) for tile in tiles]
        found: list[Value] = []
        for tile in tiles:
            for count in (1, 2, 3):
                with contextlib.suppress(IrError):
                    found.append(builder.value(name, *[tile] * count))
                    break
        return found

    return compute


def _op(name: str, *dtypes: Any, tile: tuple[int, ...] = (5, 24), **attributes: Any) -> Request:
    """One op on tiles of these dtypes."""

    def compute(builder: Builder, tiles: Sequence[Value]) -> Sequence[Value]:
        regions = []
        if name.endswith("_custom"):
            regions = [combine_region(builder, tiles, lambda b, x, y: b.value("add", x, b.value("mul", x, y)))]
        return builder.op(name, *tiles, regions=regions, **attributes)

    return contiguous_request(tile_kernel(compute, [_zeros(dtype, *tile) for dtype in dtypes])[0])


def ops() -> Named:
    """Ops by themselves: elementwise ones on every dtype, others with attributes that change the code."""
    inputs = [_zeros(dtype, 5, 24) for dtype in DTYPES]
    for name, op in OPS.items():
        if op.category == "elementwise":
            kernel, _ = tile_kernel(_elementwise(name), inputs)
            yield f"ops/{name}", contiguous_request(kernel)
    for kind in ("sum", "prod", "max", "min"):
        for axes in ((0,), (1,), (0, 1)):
            yield f"ops/reduce_{kind}_{'_'.join(map(str, axes))}", _op("reduce", f32, kind=kind, axes=axes)
    yield "ops/reduce_i8", _op("reduce", i8, kind="sum", axes=(1,))
    yield "ops/arg_reduce", _op("arg_reduce", f32, kind="max", axis=1)
    for reverse in (False, True):
        yield f"ops/scan_{int(reverse)}", _op("scan", f32, kind="sum", axis=1, reverse=reverse, exclusive=reverse)
    yield "ops/sort", _op("sort", f32, axis=1, descending=False)
    yield "ops/reduce_custom", _op("reduce_custom", f32, axis=1)
    yield "ops/scan_custom", _op("scan_custom", f32, axis=1, reverse=False)
    yield "ops/transpose", _op("transpose", f16, permutation=(1, 0))
    yield "ops/reshape", _op("reshape", f32, shape=(24, 5))
    yield "ops/extract", _op("extract", f32, starts=(4, 1), sizes=(3, 7), steps=(-2, 3))
    yield "ops/concat", _op("concat", f32, f32, axis=1)
    for dtype in (f64, f32, f16, bf16, i8):
        yield f"ops/dot_{dtype.name}", _op("dot", dtype, dtype, tile=(16, 16))


def examples() -> Named:
    """The kernels of the examples, in their default configuration, and generated ones that mix all constructs."""
    for path in sorted((TESTS.parent / "examples").glob("*.py")):
        spec = importlib.util.spec_from_file_location(f"golden_{path.stem}", path)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        for name, kernel in vars(module).items():
            if getattr(kernel, "opdsl_kernel", False):
                sizes = {c: 100 for c in kernel.signature.constexprs if c not in kernel.signature.defaults}
                dtypes = dict.fromkeys(kernel.signature.dtype_variables, f32)
                yield f"examples/{path.stem}_{name}", contiguous_request(kernel.specialise(dtypes, sizes))


def generated(folder: Path, count: int) -> Named:
    """Programs of the fuzzer, which mix all constructs. A change of the fuzzer changes them, too."""
    for seed in range(count):
        path = folder / f"fuzz_{seed}.py"
        path.write_text(generate(seed))
        kernel, _ = load_program(path)
        yield f"fuzz/{seed}", contiguous_request(kernel.specialise({}, {}))


def launched(name: str, target: str, dtype: Any, size: int = 301) -> list[Request]:
    """What the calls of an operator's record ask a target to compile. Nothing is compiled, outputs stay as they are.

    Only for a process that does nothing else: operators keep the empty launches."""
    from opdsl.ops.registry import OPERATORS

    requests: list[Request] = []

    def compile_nothing(self: Any, request: Request) -> Callable[..., None]:
        requests.append(request)
        return lambda arguments: None

    operator = OPERATORS[name]
    target = "interp" if target == "ir" else target
    with mock.patch.object(type(find_target(target)), "compile", compile_nothing):
        for call in operator.calls(np.random.default_rng(0), np.dtype(dtype), size):
            operator.function(*call.arguments, target=target, **call.keywords)
    return requests


def operators(target: str) -> Named:
    """All that the operators of the library launch on a target, as calls in f32 and f16 do."""
    from opdsl.ops.registry import OPERATORS

    for name in sorted(OPERATORS):
        for dtype in ("float32", "float16"):
            for number, request in enumerate(launched(name, target, dtype)):
                yield f"operators/{name}_{dtype}_{number}_{request.source.name}", request

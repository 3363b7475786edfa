"""Arguments made up for a kernel, for `opdsl run` and `opdsl profile`, and the reference beside it in its file."""

from __future__ import annotations

import argparse
import ast
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opdsl.harness.errors import CommandError, listed, suggestion
from opdsl.harness.loading import KernelFile
from opdsl.harness.specialising import Specialisation, default_size
from opdsl.ir.numpy_types import numpy_dtype
from opdsl.ir.types import DType, TensorType
from opdsl.lang.annotations import ScalarAnnotation
from opdsl.runtime.specialised import written_parameters

Array = NDArray[Any]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--arg",
        action="append",
        default=[],
        metavar="eps=1e-5",
        help="the value of a scalar argument (default: its own, else 0.5, or 1 where it is whole)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the random numbers in the arrays")


MAXIMUM_BYTES = 16 << 30  # of one made-up array


@dataclass(frozen=True)
class Prepared:
    """Arguments in parameter order, the sizes of all dims, and which tensors the kernel writes."""

    specialisation: Specialisation
    values: list[Any]
    sizes: dict[str, int]
    written: frozenset[int]

    def named(self) -> dict[str, Any]:
        names = [parameter.name for parameter in self.specialisation.kernel.signature.parameters]
        return dict(zip(names, self.values, strict=True))

    def outputs(self) -> dict[str, Array]:
        names = list(self.named())
        return {names[place]: self.values[place] for place in sorted(self.written)}

    def call(self, target: str) -> None:
        one = self.specialisation
        bound = one.kernel.signature.symbols
        constexprs = {name: value for name, value in one.constexprs.items() if name not in bound}
        one.kernel(*self.values, target=target, **constexprs)

    def clear_outputs(self) -> None:
        for array in self.outputs().values():
            array[...] = np.zeros((), array.dtype)

    def shapes_text(self) -> str:
        parts = []
        for name, value in self.named().items():
            shape = "x".join(map(str, value.shape)) if isinstance(value, np.ndarray) else repr(value)
            parts.append(f"{name}: {shape}")
        return ", ".join(parts)


def prepare(one: Specialisation, arguments: argparse.Namespace) -> Prepared:
    """Random arrays of the sizes given; dims that are not given get one (`default_size`)."""
    scalars = _scalars(one, arguments.arg)
    sizes = {name: one.dims.get(name, default_size(one.kernel)) for name in one.kernel.signature.symbols}
    generator = np.random.default_rng(arguments.seed)
    written = written_parameters(one.ir)
    smallest = min([size for size in sizes.values() if size], default=1)
    values: list[Any] = []
    for place, (parameter, value) in enumerate(zip(one.kernel.signature.parameters, one.ir.parameters, strict=True)):
        type = value.type
        if not isinstance(type, TensorType):
            values.append(scalars[parameter.name])
            continue
        shape = tuple(dim if isinstance(dim, int) else sizes[dim] for dim in type.dims)
        _check_bytes(parameter.name, shape, type.dtype)
        values.append(_array(generator, shape, type.dtype, place in written, smallest))
    return Prepared(one, values, sizes, written)


def _check_bytes(name: str, shape: tuple[int, ...], dtype: DType) -> None:
    size = math.prod(shape) * dtype.bytes
    if size > MAXIMUM_BYTES:
        shown = "x".join(map(str, shape))
        raise CommandError(f"{name} ({shown} {dtype}) would have {size / 2**30:.0f} GiB", "give smaller sizes by --dim")


def _array(generator: np.random.Generator, shape: tuple[int, ...], dtype: DType, written: bool, smallest: int) -> Array:
    """Zeros where the kernel writes; numbers around zero; whole numbers that are indices into any of the dims."""
    theirs = numpy_dtype(dtype.name)
    if written:
        return np.zeros(shape, theirs)
    if dtype.is_float:
        return np.asarray(generator.standard_normal(shape)).astype(theirs)
    high = 2 if dtype.is_bool else min(smallest, 100 if dtype.bits == 8 else smallest)
    return np.asarray(generator.integers(0, high, shape)).astype(theirs)


def _scalars(one: Specialisation, texts: list[str]) -> dict[str, Any]:
    parameters = {p.name: p for p in one.kernel.signature.parameters if isinstance(p.annotation, ScalarAnnotation)}
    values: dict[str, Any] = {}
    for name, parameter in parameters.items():
        dtype = parameter.annotation.dtype
        dtype = one.dtypes[dtype] if isinstance(dtype, str) else dtype
        assert isinstance(dtype, DType)
        made_up: Any = True if dtype.is_bool else 0.5 if dtype.is_float else 1
        values[name] = made_up if parameter.required else parameter.default
    for text in texts:
        name, _, value = text.partition("=")
        if name not in parameters:
            known = suggestion(name, parameters) if parameters else "it has none"
            raise CommandError(f"--arg {text}: {one.kernel.name} has no scalar {name!r}", known)
        try:
            values[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            raise CommandError(f"--arg {text}: expected NAME=NUMBER") from None
    return values


# --- the reference ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """The largest error of the outputs, beside that of the reference computed in their own dtype by NumPy."""

    error: float
    allowed: float

    @property
    def good(self) -> bool:
        return self.error <= self.allowed


def find_reference(file: KernelFile, kernel: str) -> Callable[..., Any] | None:
    """`reference`, or for a kernel called part_backward the more special `reference_backward`."""
    words = kernel.split("_")
    special = ["reference_" + "_".join(words[start:]) for start in range(len(words))]
    for name in (*special, "reference"):
        found = getattr(file.module, name, None)
        if callable(found):
            return found  # type: ignore[no-any-return]
    return None


def reference_arguments(reference: Callable[..., Any], prepared: Prepared) -> dict[str, Any]:
    """What the reference takes, by name: arrays, scalars, sizes, constexprs (functions by their names)."""
    named = prepared.named()
    outputs = set(prepared.outputs())
    constexprs = prepared.specialisation.constexprs
    given: dict[str, Any] = {}
    missing = []
    for name, parameter in inspect.signature(reference).parameters.items():
        if name in named and name not in outputs:
            given[name] = named[name]
        elif name in prepared.sizes:
            given[name] = prepared.sizes[name]
        elif name in constexprs:
            value = constexprs[name]
            given[name] = value.__name__ if hasattr(value, "__name__") else value
        elif parameter.default is parameter.empty:
            missing.append(name)
    if missing:
        raise CommandError(f"{listed(missing)} of {reference.__name__} {_are(missing)} no input of the kernel")
    return given


def _are(words: list[str]) -> str:
    return "is" if len(words) == 1 else "are"


def _wide(value: Any, dtype: type) -> Any:
    if not isinstance(value, np.ndarray) or value.dtype.kind in "iub":
        return float(np.float32(value)) if isinstance(value, float) else value
    return value.astype(dtype)


def compare(reference: Callable[..., Any], prepared: Prepared) -> Comparison:
    """Errors relative to the largest element: of the kernel, and allowed: twice that of NumPy in f32, plus roundings."""
    given = reference_arguments(reference, prepared)
    found = list(prepared.outputs().values())
    with np.errstate(all="ignore"):
        exact = _results(reference(**{n: _wide(v, np.float64) for n, v in given.items()}), found)
        plain = _results(reference(**{n: _wide(v, np.float32) for n, v in given.items()}), found)
    error = allowed = 0.0
    for mine, wide, narrow in zip(found, exact, plain, strict=True):
        size = float(np.max(np.abs(wide[np.isfinite(wide)]), initial=0)) or 1.0
        unit = _unit(mine.dtype)
        error = max(error, _distance(mine, wide) / size)
        allowed = max(allowed, 2 * _distance(narrow.astype(mine.dtype), wide) / size + 4 * unit)
    return Comparison(error, allowed)


def _unit(dtype: np.dtype[Any]) -> float:
    import ml_dtypes

    return 0.0 if dtype.kind in "iub" else float(ml_dtypes.finfo(dtype).eps)  # type: ignore[no-untyped-call]


def _distance(a: Array, b: Array) -> float:
    """The largest difference; infinite where one is NaN or infinite and the other is not the same."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    same = (x == y) | (np.isnan(x) & np.isnan(y))
    if not np.isfinite(x[~same]).all() or not np.isfinite(y[~same]).all():
        return float("inf")
    return float(np.max(np.abs(x - y), where=~same, initial=0))


def _results(returned: Any, outputs: list[Array]) -> list[Array]:
    results = [np.asarray(r) for r in returned] if isinstance(returned, tuple | list) else [np.asarray(returned)]
    shapes = [a.shape for a in outputs]
    if [r.shape for r in results] != shapes:
        raise CommandError(
            f"the reference gives arrays of shape {listed(r.shape for r in results)}, but the kernel's outputs have "
            f"{listed(shapes)}",
            "give the sizes of the outputs by --dim",
        )
    return results

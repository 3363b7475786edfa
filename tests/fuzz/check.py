"""Runs a program's file on the interpreter and on other targets, and compares what they wrote."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from opdsl.ir.semantics.values import NUMPY_DTYPES
from opdsl.runtime.arrays import describe
from opdsl.support.errors import CompileError
from opdsl.support.run_errors import RaceError

from .pages import Pages
from .values import dtype_named

Array = np.ndarray[Any, np.dtype[Any]]

SPECIAL = (0.0, -0.0, np.inf, -np.inf, np.nan, 1e-42, -1e-39, 6e-8, 3e38, -65504.0, 448.0, 57344.0, 1e-7, 0.5, 1.5, 2.5)


class Refused(Exception):
    """The target says of a program, by a CompileError, that it cannot compile it: emulated chips have such limits."""


class Difference(AssertionError):
    """Two targets do not agree."""


def load_program(path: Path) -> tuple[Any, dict[str, Any]]:
    """The kernel and the plan of a file."""
    name = f"fuzz_program_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[name]
    return getattr(module, module.PLAN["kernel"]), module.PLAN


def data(kind: str, shape: tuple[int, ...], dtype: np.dtype[Any], rng: np.random.Generator) -> Array:
    is_integer = dtype.kind in "iu"
    if kind == "bools" or dtype == np.bool_:
        return rng.integers(0, 2, shape).astype(dtype)
    if kind == "ids":
        return rng.integers(-2, 22, shape).astype(dtype)
    if kind in ("small", "unit"):
        bound = 4 if kind == "small" else 1
        return rng.integers(0 if dtype.kind == "u" else -bound, bound, shape, endpoint=True).astype(dtype)
    if kind == "full" and is_integer:
        info = np.iinfo(dtype)
        values = rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True)
        extremes = np.array([info.min, info.max, 0, 1, info.max - 1], dtype)
        return np.where(rng.random(shape) < 0.15, rng.choice(extremes, shape), values)
    values = rng.standard_normal(shape) * 3
    if kind == "special":
        values = np.where(rng.random(shape) < 0.3, rng.choice(np.array(SPECIAL), shape), values)
    with np.errstate(all="ignore"):
        return values.astype(np.float32).astype(dtype) if dtype != np.float64 else values


class Arguments:
    """The arrays of one run, laid out at the ends of pages, with what they hold at the start."""

    def __init__(self, plan: dict[str, Any], sizes: dict[str, int], number: int) -> None:
        self.plan = plan
        self.pages = Pages()
        self.arrays: dict[str, Array] = {}
        self.flats: dict[str, Array] = {}
        self.initial: dict[str, Array] = {}
        rng = np.random.default_rng([plan["seed"], number])
        for position, (name, tensor) in enumerate(plan["tensors"].items()):
            if name in plan["same"]:
                continue
            dtype = NUMPY_DTYPES[dtype_named(tensor["dtype"])]
            shape = tuple(sizes[d] if isinstance(d, str) else d for d in tensor["dims"])
            at_end = (plan["seed"] + position + number) % 3 != 0
            view, flat = self.pages.array(shape, dtype, tensor["layout"], at_end)
            flat[...] = data(tensor["data"], flat.shape, dtype, rng)
            self.arrays[name], self.flats[name], self.initial[name] = view, flat, flat.copy()
        for name, other in plan["same"].items():
            self.arrays[name] = self.arrays[other]

    def run(self, kernel: Any, target: str) -> dict[str, Array]:
        """What the memory of every argument holds after a call, the memory between the elements of views included."""
        for name, flat in self.flats.items():
            flat[...] = self.initial[name]
        scalars = [value for _, value in self.plan["scalars"].values()]
        kernel(*(self.arrays[name] for name in self.plan["tensors"]), *scalars, target=target)
        return {name: flat.copy() for name, flat in self.flats.items()}

    def unit_axes(self) -> tuple[int | None, ...]:
        """What compiled code depends on: kernels are compiled for the axes that have a stride of one element."""
        return tuple(describe(array, name, written=False).unit_axis for name, array in self.arrays.items())

    def free(self) -> None:
        self.arrays.clear()
        self.flats.clear()
        self.pages.free()


def compare(name: str, result: Array, expected: Array, mode: Any) -> None:
    """Raises Difference with the first places that differ."""
    wide = result.astype(np.float64) if result.dtype.kind not in "iub" else result
    wanted = expected.astype(np.float64) if result.dtype.kind not in "iub" else expected
    if result.dtype.kind in "iub":
        bad = result != expected
    else:
        nans = np.isnan(wide) & np.isnan(wanted)
        bad = (wide != wanted) & ~nans
        if mode == "exact":
            bad |= (np.signbit(wide) != np.signbit(wanted)) & ~nans
        if isinstance(mode, list | tuple):
            bad &= ~_close(wide, wanted, result.dtype, mode)
    if bad.any():
        places = np.flatnonzero(bad)[:4]
        shown = "; ".join(f"[{p}] is {result[p]!r}, expected {expected[p]!r}" for p in places)
        raise Difference(f"{name}: {int(bad.sum())} of {bad.size} elements differ ({mode}): {shown}")


def _close(wide: Array, wanted: Array, dtype: np.dtype[Any], mode: Sequence[Any]) -> Array:
    kind, bound = mode
    info: Any = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]
    with np.errstate(all="ignore"):
        size = np.maximum(np.abs(wanted), float(info.tiny))
        unit = 2.0 ** np.floor(np.log2(size)) * float(info.eps)
        allowed = bound * unit if kind == "ulps" else bound * size + unit
        return np.asarray(np.abs(wide - wanted) <= allowed)


def check_program(path: Path, targets: Sequence[str], strict: bool = False, sparing: bool = False) -> None:
    """Raises what is wrong: Difference, or an error of OpDSL. With `strict`, first makes sure of no race.

    With `sparing`, code is compiled for all targets only as the first run needs it; a run that needs other code, for
    sizes of 0 or 1 make strides say something else, is on one target, another from program to program.
    """
    kernel, plan = load_program(path)
    chosen: dict[tuple[int | None, ...], Sequence[str]] = {}
    for number, sizes in enumerate(plan["runs"]):
        arguments = Arguments(plan, sizes, number)
        try:
            if strict:
                check_races(kernel, arguments)
            expected = arguments.run(kernel, "interp")
            one = (plan["seed"] + number) % len(targets)
            several = not sparing or number == 0
            for target in chosen.setdefault(arguments.unit_axes(), targets if several else targets[one : one + 1]):
                try:
                    found = arguments.run(kernel, target)
                except Exception as error:
                    if target.startswith("npu") and isinstance(error, CompileError):
                        raise Refused(f"{target}, run {number}: {error}") from error
                    if target.startswith("npu"):  # its errors are made of hazards, not of a text
                        raise Difference(f"{target}, run {number}: {type(error).__name__}: {error}") from error
                    raise type(error)(f"{target}, run {number}: {error}") from error
                for name, tensor in plan["tensors"].items():
                    if name in found:
                        _check_tensor(f"{target}, run {number}, {name}", tensor, found[name], expected[name])
        finally:
            arguments.free()


def _check_tensor(what: str, tensor: dict[str, Any], found: Array, expected: Array) -> None:
    compare(what, found, expected, tensor["compare"] if tensor["role"] != "in" else "exact")


def check_races(kernel: Any, arguments: Arguments) -> None:
    """A race would be the generator's mistake."""
    try:
        arguments.run(kernel, "interp:strict")
    except RaceError:
        raise
    except IndexError:
        pass  # strict about accesses wholly outside, which are well defined otherwise

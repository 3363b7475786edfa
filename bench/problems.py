"""What a row measures: arguments, the formula that says what is right, costs, and the implementations."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from opdsl.runtime import memory

from .arrays import DTYPES, Array, Input, as_torch

Call = Callable[[], Any]


@dataclass(frozen=True)
class Implementation:
    """One way to compute a row. `prepare(arguments, out)` gives what is timed; it returns the result. `out` is None
    where every call makes a new output. `note(call)` says which of several ways was taken."""

    prepare: Callable[[list[Array], Array | None], Call]
    takes_out: bool = True


@dataclass(frozen=True)
class Missing:
    """An implementation that there is none of, and why."""

    reason: str


@dataclass(frozen=True)
class Problem:
    """A row to be. `formula` works on arrays of f64 and of f32 alike, and is evaluated in both.

    `by_rows` says which arguments the rows of the result (its first axis) take rows of: then a part of the rows can be
    checked. `flops` is None where arithmetic is not what counts.
    """

    shape: str
    inputs: Sequence[Input]
    output: tuple[tuple[int, ...], str]
    formula: Callable[..., Array]
    implementations: Mapping[str, Implementation | Missing]
    read: int
    written: int
    flops: float | None = None
    by_rows: tuple[bool, ...] | None = None
    # The formula with sums in order, term by term, as a plain loop has them; libraries cut sums into parts, and err less.
    in_order: Callable[..., Array] | None = None
    check_cost: float = 1.0  # operations of the formula for each element of the result

    @property
    def output_dtype(self) -> np.dtype[Any]:
        return DTYPES[self.output[1]]


def size_of(*operands: tuple[Sequence[int], str]) -> int:
    """Bytes of arrays."""
    return sum(int(np.prod(shape, dtype=np.int64)) * DTYPES[dtype].itemsize for shape, dtype in operands)


def operator(
    name: str, *, arrange: Callable[..., Sequence[Any]] | None = None, **options: Any
) -> Implementation | Missing:
    """The function `opdsl.ops.name`, called with the arguments (or what `arrange(*arguments)` makes of them) and `options`.

    Not having it is no error: the suite also runs on revisions that have fewer operators.
    """
    import opdsl.ops

    function = getattr(opdsl.ops, name, None)
    if not callable(function):
        return Missing(f"opdsl.ops has no {name}")

    def prepare(arguments: list[Array], out: Array | None) -> Call:
        ordered = arguments if arrange is None else arrange(*arguments)
        if out is None:
            return functools.partial(function, *ordered, **options)
        return functools.partial(function, *ordered, out=out, **options)

    return Implementation(prepare)


def kernel(launch: Callable[..., Any], shape: Sequence[int], dtype: str) -> Implementation:
    """A kernel, as `launch(*arguments, out)`. A fresh output comes from the pooling allocator, as it does in operators."""

    def prepare(arguments: list[Array], out: Array | None) -> Call:
        if out is not None:

            def into() -> Array:
                launch(*arguments, out)
                return out

            return into
        extents, numpy_dtype, empty = tuple(shape), DTYPES[dtype], memory.empty

        def fresh() -> Array:
            result = empty(extents, numpy_dtype)
            launch(*arguments, result)
            return result

        return fresh

    return Implementation(prepare)


def numpy_peer(function: Callable[..., Any], takes_out: bool = True) -> Implementation:
    """`function(*arguments[, out=out])`."""

    def prepare(arguments: list[Array], out: Array | None) -> Call:
        return functools.partial(function, *arguments, **({} if out is None or not takes_out else {"out": out}))

    return Implementation(prepare, takes_out)


def torch_peer(*candidates: Callable[..., Any], fresh: Callable[..., Any] | None = None) -> Implementation:
    """`function(*tensors, out=tensor)`, and `fresh(*tensors)`, which makes its output; whatever is faster here is torch's
    figure. Without `candidates` torch has no form with `out`."""

    def prepare(arguments: list[Array], out: Array | None) -> Call:
        import torch

        tensors = [as_torch(argument) for argument in arguments]
        calls: list[Call] = []
        if out is not None:
            calls += [functools.partial(candidate, *tensors, out=as_torch(out)) for candidate in candidates]
        if fresh is not None:
            calls.append(functools.partial(fresh, *tensors))
        if not calls:
            calls = [functools.partial(candidate, *tensors) for candidate in candidates]
        with torch.no_grad():
            return calls[0] if len(calls) == 1 else min(calls, key=_quickest)

    return Implementation(prepare, bool(candidates))


def _quickest(call: Call) -> float:
    best = float("inf")
    call()
    for _ in range(5):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best

"""Kernels with their constexprs chosen, ready to be called: what every operator launches by."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opdsl._runtime import MISS
from opdsl.lang.kernel import Kernel
from opdsl.runtime.launch import KernelLaunch
from opdsl.runtime.memory import empty
from opdsl.support.errors import LaunchError
from opdsl.support.knobs import knobs
from opdsl.targets.cpu.isa import chosen

Array = NDArray[Any]

_launches: dict[Kernel, KernelLaunch] = {}


def run(kernel: Kernel, arguments: tuple[Any, ...], target: str | None, **constexprs: Any) -> None:
    """Runs a kernel on arrays and scalars in parameter order. An error has the place of the operator's call."""
    launch = _launches.get(kernel)
    if launch is None:
        launch = _launches[kernel] = KernelLaunch(kernel)
    try:
        launch.variant(target, constexprs).run(arguments)
    except LaunchError as error:
        error.locate()
        raise error.with_traceback(None) from None


def kind_of(target: str | None) -> str:
    """Of a target, or of the one of calls that name none: "cpu", "interp", "npu", "triton"."""
    return _parts(target)[0]


def multiplies_tiles(target: str | None) -> bool:
    """Whether a target, or the one of calls that name none, is a CPU whose instructions multiply tiles (AMX)."""
    kind, option = _parts(target)
    with suppress(ValueError):  # the launch says what is wrong
        return kind == "cpu" and chosen(option).has_tiles
    return False


def _parts(target: str | None) -> tuple[str, str]:
    """Kind and option of a target, or of the one of calls that name none."""
    kind, _, option = (knobs.target if target is None else target).partition(":")
    return kind, option


def _miss(*_: object) -> object:
    return MISS


class FastCall:
    """The way of calls like one before, for the default target: `call.fast(*arguments)` is None when that did all.

    Valid while `generation` is that of the knobs. `learn` renews it, after a call that went the long way.
    """

    __slots__ = ("constexprs", "fast", "generation", "kernel")

    def __init__(self, kernel: Kernel, **constexprs: Any) -> None:
        self.kernel = kernel
        self.constexprs = constexprs
        self.fast: Callable[..., Any] = _miss
        self.generation = -1

    def learn(self) -> None:
        launch = _launches.get(self.kernel)
        if launch is not None:
            fast = launch.variant(None, self.constexprs).fast
            self.fast, self.generation = fast or _miss, knobs.generation if fast else -1


@dataclass(frozen=True, slots=True)
class Parts:
    """The first of two launches, and what it writes."""

    call: FastCall
    dims: tuple[int, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True, slots=True)
class Known:
    """A call that has been made before, on C-contiguous arrays: the launch that does it, or the two launches, of which
    the first leaves parts to the second."""

    call: FastCall
    shape: tuple[int, ...]  # of the result
    dtype: np.dtype[Any]
    input_dims: tuple[int, ...]
    output_dims: tuple[int, ...]
    extra: tuple[Any, ...] = ()  # scalar arguments that come last
    between: tuple[Array, ...] = ()  # what stands for arguments that are not given
    first: Parts | None = None

    def repeat(self, x: Any, out: Any, between: tuple[Any, ...] = ()) -> Any:
        """The result for arrays of the same shape and dtype; None where it must be had the long way."""
        if out is None:
            result = empty(self.shape, self.dtype)
        elif type(out) is np.ndarray and out.shape == self.shape and out.dtype == self.dtype and out.flags.c_contiguous:
            result = out
        else:
            return None
        source = x.reshape(self.input_dims)
        if self.first is not None:
            parts = empty(self.first.dims, self.first.dtype)
            if self.first.call.fast(source, *between, parts, *self.extra) is not None:
                return None
            source = parts
        done = self.call.fast(source, *between, result.reshape(self.output_dims), *self.extra)
        return result if done is None else None


class KnownCalls:
    """Calls by their shapes, dtypes and parameters."""

    LIMIT = 4096

    def __init__(self) -> None:
        self._known: dict[Hashable, Known] = {}

    def find(self, x: Any, target: str | None, *parameters: Any) -> Known | None:
        if target is not None or type(x) is not np.ndarray or not x.flags.c_contiguous:
            return None
        try:
            return self._known.get((knobs.generation, x.dtype, x.shape, parameters))
        except TypeError:
            return None  # an unhashable parameter

    def remember(self, known: Known, x: Array, *parameters: Any) -> None:
        """Remembers a launch that has been made with these parameters."""
        calls = [known.call] if known.first is None else [known.first.call, known.call]
        for call in calls:
            call.learn()
        if any(call.generation != knobs.generation for call in calls):
            return
        if len(self._known) >= self.LIMIT:
            self._known.clear()
        with suppress(TypeError):
            self._known[(knobs.generation, x.dtype, x.shape, parameters)] = known

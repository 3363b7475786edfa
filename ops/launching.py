"""Kernels with their constexprs chosen, ready to be called: what every operator launches by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opdsl._runtime import MISS
from opdsl.lang.errors import LaunchError
from opdsl.lang.kernel import Kernel
from opdsl.runtime.knobs import knobs
from opdsl.runtime.launch import KernelLaunch

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

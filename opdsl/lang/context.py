"""Which kernel is being compiled now, in this thread. Built-ins add their ops to its builder."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ParamSpec, Protocol, TypeVar, cast

from opdsl.ir.builder import Builder
from opdsl.support.errors import UsageError

P = ParamSpec("P")
R = TypeVar("R")


class Inliner(Protocol):
    """What built-ins that take functions (od.reduce, od.scan) need of the front end."""

    builder: Builder

    def call(self, function: object, arguments: Sequence[object]) -> object:
        """Calls a function of the kernel's world on run-time values."""


class _Active(threading.local):
    inliner: Inliner | None = None


_active = _Active()


@contextmanager
def compiling(inliner: Inliner) -> Iterator[None]:
    before, _active.inliner = _active.inliner, inliner
    try:
        yield
    finally:
        _active.inliner = before


def is_compiling() -> bool:
    return _active.inliner is not None


def inliner() -> Inliner:
    assert _active.inliner is not None
    return _active.inliner


def builder() -> Builder:
    return inliner().builder


def builtin(name: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Makes a function a built-in of the language, `od.<name>`, that works only while a kernel is compiled."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*arguments: P.args, **keywords: P.kwargs) -> R:
            if _active.inliner is None:
                raise UsageError(
                    f"od.{name} works only inside an @od.kernel or @od.function",
                    "call it in a kernel; on the host use NumPy",
                )
            return function(*arguments, **keywords)

        call.__name__ = call.__qualname__ = name
        cast(Any, call).opdsl_builtin = name
        return call

    return decorate


def builtin_name(function: object) -> str | None:
    """The name of a built-in, or None for anything else."""
    name = getattr(function, "opdsl_builtin", None) if callable(function) else None
    return name if isinstance(name, str) else None

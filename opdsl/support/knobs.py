"""Every environment variable of OpDSL, each declared once.

    from opdsl.support.knobs import knobs

    knobs.isa                       # the variable OPDSL_ISA, or its default
    with knobs.scope(isa="avx2"):   # for the whole process, until the block ends
        ...

`knobs.generation` goes up whenever a knob may have changed, so that what depends on knobs can be kept and is dropped in
time. A variable is read when its knob is: set it before the kernel is first called.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar, overload

from opdsl.support.errors import OpdslError

T = TypeVar("T")

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


class KnobError(OpdslError, ValueError):
    """A knob has a value that it cannot have."""


def _text(value: str) -> str:
    return value


def _boolean(value: str) -> bool:
    lowered = value.strip().lower()
    if lowered in ("1", "true", "yes", "on"):
        return True
    if lowered in ("0", "false", "no", "off", ""):
        return False
    raise ValueError("expected 1 or 0 (or true, false, yes, no, on, off)")


def _positive(value: str) -> int:
    number = int(value)
    if number < 1:
        raise ValueError("expected a whole number from 1 up")
    return number


def _natural(value: str) -> int:
    number = int(value)
    if number < 0:
        raise ValueError("expected a whole number from 0 up")
    return number


def _bytes(value: str) -> int:
    text = value.strip().lower().removesuffix("ib").removesuffix("b")
    unit = text[-1:] if text[-1:] in ("k", "m", "g", "t") else ""
    try:
        return int(float(text.removesuffix(unit)) * _UNITS[unit])
    except ValueError:
        raise ValueError("expected a size, as 4096, 512M or 2G") from None


def _words(value: str) -> tuple[str, ...]:
    return tuple(value.split())


class Knob(Generic[T]):
    """One variable: `parse` turns its text into a value; unset or empty, the knob is `default`."""

    def __init__(self, variable: str, parse: Callable[[str], T], default: T, summary: str) -> None:
        self.variable = variable
        self.parse = parse
        self.default = default
        self.summary = summary
        self.name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Knob[T]: ...
    @overload
    def __get__(self, instance: Knobs, owner: type) -> T: ...
    def __get__(self, instance: Knobs | None, owner: type) -> Knob[T] | T:
        if instance is None:
            return self
        if self.name in instance.overrides:
            value: T = instance.overrides[self.name]
            return value
        text = os.environ.get(self.variable)
        if text is None or text == "":
            return self.default
        try:
            return self.parse(text)
        except ValueError as error:
            raise KnobError(f"the environment variable {self.variable} is {text!r}: {error}") from None

    def __set__(self, instance: Knobs, value: T) -> None:
        instance.overrides[self.name] = value
        instance.generation += 1


class Knobs:
    """All knobs. Assigning to one overrides its variable for the rest of the process."""

    cache_dir = Knob[str | None](
        "OPDSL_CACHE_DIR", _text, None, "directory of compiled kernels (default: ~/.cache/opdsl, or XDG_CACHE_HOME)"
    )
    cache = Knob[bool]("OPDSL_CACHE", _boolean, True, "0: compile into a private directory that goes with the process")
    cxx = Knob[str | None]("OPDSL_CXX", _text, None, "C++ compiler (default: the first of c++, g++, clang++ on PATH)")
    cxxflags = Knob[tuple[str, ...]]("OPDSL_CXXFLAGS", _words, (), "more flags for the C++ compiler")
    compile_timeout = Knob[int](
        "OPDSL_COMPILE_TIMEOUT", _positive, 600, "seconds after which a compilation is given up"
    )
    isa = Knob[str | None](
        "OPDSL_ISA", _text, None, "instruction set of generated code: avx512, avx2, neon or baseline"
    )
    sanitize = Knob[str | None](
        "OPDSL_SANITIZE", _text, None, "sanitizers for generated code, as address,undefined (preload their libraries)"
    )
    target = Knob[str]("OPDSL_TARGET", _text, "cpu", "target of a kernel call that names none")
    tuning = Knob[str | None](
        "OPDSL_TUNING",
        _text,
        None,
        "folder with records of tuning, looked into before those beside kernels; 0: use none",
    )
    traceback = Knob[bool](
        "OPDSL_TRACEBACK", _boolean, False, "1: the command line shows where in OpDSL an error arose"
    )
    verify = Knob[bool]("OPDSL_VERIFY", _boolean, False, "1: check the IR after every pass")
    batch_invariant = Knob[bool](
        "OPDSL_BATCH_INVARIANT",
        _boolean,
        True,
        "0: products of few rows may sum in another, faster order than those of many rows (docs/dot.md)",
    )
    num_threads = Knob[int | None](
        "OPDSL_NUM_THREADS", _positive, None, "threads of a launch (default: OMP_NUM_THREADS, or the usable cores)"
    )
    spin_microseconds = Knob[int | None](
        "OPDSL_SPIN_MICROSECONDS",
        _natural,
        None,
        "how long an idle thread looks for work before it sleeps (default 50)",
    )
    memory_cache_bytes = Knob[int | None](
        "OPDSL_MEMORY_CACHE_BYTES",
        _bytes,
        None,
        "freed memory kept for reuse, as 2G (default: a quarter of the memory)",
    )

    def __init__(self) -> None:
        self.overrides: dict[str, Any] = {}
        self.generation = 0

    @contextmanager
    def scope(self, **values: Any) -> Iterator[None]:
        """Sets knobs for the length of a `with` block, for every thread of the process."""
        for name in values:
            if name not in KNOBS:
                raise KnobError(f"there is no knob {name!r}; the knobs are {', '.join(KNOBS)}")
        before = dict(self.overrides)
        self.overrides.update(values)
        self.generation += 1
        try:
            yield
        finally:
            self.overrides = before
            self.generation += 1


KNOBS: dict[str, Knob[Any]] = {name: knob for name, knob in vars(Knobs).items() if isinstance(knob, Knob)}

knobs = Knobs()

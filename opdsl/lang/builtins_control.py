"""Loops, printing and checks."""

from __future__ import annotations

import builtins
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from opdsl.ir.core import Value
from opdsl.lang import context
from opdsl.lang.context import builtin
from opdsl.lang.operators import check_operand, truth
from opdsl.lang.values import Operand, Runtime, RuntimeRange, Scalar, Text, Tile, describe, holds_runtime
from opdsl.support.errors import Misuse

LoopKind = Literal["parallel", "pipelined", "unrolled"]


@dataclass(frozen=True, eq=False)
class Loop(Runtime):
    """What a `for` statement runs over when it says od.parallel, od.pipelined or od.unrolled."""

    kind: LoopKind
    ranges: tuple[Any, ...]
    depth: int = 1

    def __repr__(self) -> str:
        return f"od.{self.kind}(...)"


def _ranges(ranges: tuple[object, ...], name: str) -> tuple[range | RuntimeRange, ...]:
    if not ranges:
        raise Misuse(f"od.{name} takes at least one range", f"write od.{name}(range(0, N, BLOCK))")
    for item in ranges:
        if not isinstance(item, builtins.range | RuntimeRange):
            given = describe(item)
            hint = f"write od.{name}(range({given if type(item) is int else '...'}))"
            raise Misuse(f"od.{name} takes ranges, not {given}", hint, item)
    return ranges  # type: ignore[return-value]


@builtin("parallel")
def parallel(*ranges: Any) -> Iterable[Any]:
    """`for m, n in od.parallel(range(...), range(...))`: independent iterations, in any order and at once."""
    for item in _ranges(ranges, "parallel"):
        if type(item.step) is int and item.step < 1:
            raise Misuse("a range of od.parallel counts down", "its iterations have no order: count upwards")
    return Loop("parallel", ranges)  # type: ignore[return-value]


@builtin("pipelined")
def pipelined(*ranges: Any, depth: int = 2) -> Iterable[Any]:
    """`for k in od.pipelined(range(...), depth=2)`: in order, the copy_in of up to `depth` iterations at once."""
    if type(depth) is not int or depth < 1:
        raise Misuse(
            f"the depth of od.pipelined is {describe(depth)}, where a constexpr of at least 1 is needed",
            "write depth=2",
            depth,
        )
    return Loop("pipelined", _ranges(ranges, "pipelined"), depth)  # type: ignore[return-value]


@builtin("unrolled")
def unrolled(*iterables: Any) -> Iterable[Any]:
    """`for i, j in od.unrolled(range(3), (1, 2))`: the body repeated while compiling; i and j are Python values."""
    if not iterables:
        raise Misuse("od.unrolled takes at least one range or tuple", "write od.unrolled(range(4))")
    for item in iterables:
        if isinstance(item, RuntimeRange):
            raise Misuse(
                "a bound of od.unrolled is a run-time value; how often it repeats is known while compiling",
                "use a constexpr bound (a constexpr named as a dim of a tensor gets its size), or an ordinary loop",
                item,
            )
        if isinstance(item, Runtime) or not isinstance(item, Iterable):
            raise Misuse(
                f"od.unrolled takes ranges and tuples, not {describe(item)}", "write od.unrolled(range(4))", item
            )
    return Loop("unrolled", tuple(tuple(item) for item in iterables))  # type: ignore[return-value]


def _escaped(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def formatted(parts: Iterable[object]) -> tuple[str, list[Value]]:
    """Parts of a printed line as the text and operands of a `print` op."""
    text: list[str] = []
    operands: list[Value] = []
    for part in parts:
        if isinstance(part, Text):
            inner, values = formatted(part.parts)
            text.append(inner)
            operands += values
        elif isinstance(part, Scalar | Tile):
            text.append("{}")
            operands.append(part.value)
        elif isinstance(part, Runtime):
            check_operand(part, "an argument of od.print")
        elif isinstance(part, tuple | list) and holds_runtime(part):
            pieces = [formatted([item]) for item in part]
            text.append("(" + ", ".join(piece for piece, _ in pieces) + ")")
            operands += [value for _, values in pieces for value in values]
        else:
            text.append(_escaped(str(part)))
    return "".join(text), operands


@builtin("print")
def print_(*values: Any, sep: str = " ") -> None:
    """Prints when the kernel runs: strings, numbers, scalars, whole tiles, and f-strings of them."""
    parts: list[object] = []
    for value in values:
        parts += [sep, value] if parts else [value]
    text, operands = formatted(parts)
    context.builder().op("print", *operands, text=text)


@builtin("assert_")
def assert_(condition: Operand, message: str = "assertion failed") -> None:
    """Stops the kernel with an error where `condition`, a bool scalar or tile, is not true everywhere."""
    if not isinstance(message, str):
        raise Misuse(
            f"the message of od.assert_ is {describe(message)}, where a constexpr string is needed",
            "print run-time values with od.print",
        )
    if isinstance(condition, Tile):
        if not condition.dtype.is_bool:
            raise Misuse(
                f"the condition of od.assert_ is {describe(condition)}, where bools are needed", "compare it: x != 0"
            )
        value = condition.value
    elif isinstance(condition, bool | int | float):
        if not condition:
            raise Misuse(f"the assertion never holds: {message}", "its condition is known while compiling, and false")
        return
    else:
        value = truth(condition, "the condition of od.assert_").value
    context.builder().op("assert", value, message=message)


@builtin("static_assert")
def static_assert(condition: Any, message: str = "static assertion failed") -> None:
    """Stops the compilation with `message` unless `condition`, a constexpr, is true."""
    if holds_runtime(condition):
        raise Misuse(
            f"the condition of od.static_assert is {describe(condition)}", "check run-time values with od.assert_"
        )
    if not condition:
        raise Misuse(message, "the kernel itself demands this of its constexprs", condition)


@builtin("static_print")
def static_print(*values: Any) -> None:
    """Prints while the kernel is compiled: constexpr values as they are, run-time values by their types."""
    builtins.print(*(describe(v) if isinstance(v, Runtime) else v for v in values))

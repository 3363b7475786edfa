"""Functions of f32 tiles, composed of the vector unit's instructions.

The vector unit has exp, ln, sqrt and division. What it lacks is composed here so that the relative error stays within a
few units in the last place over the whole range; what is not here the scalar unit's library computes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from opdsl.ir import types as t
from opdsl.targets.npu.values import Tile, Uniform

if TYPE_CHECKING:
    from opdsl.targets.npu.elementwise import Elementwise

Shape = tuple[int, ...]
Function = Callable[["Functions", Sequence[Tile], Shape], Tile]
FUNCTIONS: dict[str, Function] = {}


class Functions:
    """The arithmetic that the functions below are written with."""

    def __init__(self, elementwise: Elementwise) -> None:
        self.e = elementwise

    def number(self, value: float, shape: Shape) -> Uniform:
        return Uniform(value, t.f32, shape)

    def one(self, instruction: str, x: Tile, shape: Shape) -> Tile:
        return self.e.unary(instruction, x, shape)

    def two(self, name: str, a: Tile | float, b: Tile | float, shape: Shape) -> Tile:
        left = self.number(a, shape) if isinstance(a, float) else a
        right = self.number(b, shape) if isinstance(b, float) else b
        return self.e.binary(name, left, right, shape)

    def where(self, name: str, x: Tile, limit: float, a: Tile | float, b: Tile | float, shape: Shape) -> Tile:
        """a where x <name> limit, else b."""
        bits = self.e._compare(name, t.f32, [x, self.number(limit, shape)], shape)
        assert bits is not None
        left = self.number(a, shape) if isinstance(a, float) else a
        right = self.number(b, shape) if isinstance(b, float) else b
        chosen = self.e._select([bits, left, right], t.f32, shape)
        assert chosen is not None
        return chosen


def _function(name: str) -> Callable[[Function], Function]:
    def register(function: Function) -> Function:
        FUNCTIONS[name] = function
        return function

    return register


@_function("exp")
def _exp(f: Functions, x: Sequence[Tile], shape: Shape) -> Tile:
    return f.one("exp", x[0], shape)


@_function("log")
def _log(f: Functions, x: Sequence[Tile], shape: Shape) -> Tile:
    return f.one("ln", x[0], shape)


@_function("sqrt")
def _sqrt(f: Functions, x: Sequence[Tile], shape: Shape) -> Tile:
    return f.one("sqrt", x[0], shape)


@_function("rsqrt")
def _rsqrt(f: Functions, x: Sequence[Tile], shape: Shape) -> Tile:
    return f.two("div", 1.0, f.one("sqrt", x[0], shape), shape)


@_function("sigmoid")
def _sigmoid(f: Functions, x: Sequence[Tile], shape: Shape) -> Tile:
    """e = exp(-|x|): 1 / (1 + e) for x >= 0, e / (1 + e) below: no overflow on either side."""
    small = f.one("exp", f.two("mul", f.one("abs", x[0], shape), -1.0, shape), shape)
    top = f.where("ge", x[0], 0.0, 1.0, small, shape)
    return f.two("div", top, f.two("add", small, 1.0, shape), shape)

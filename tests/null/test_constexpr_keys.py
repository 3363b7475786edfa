"""Constexprs that are equal but not the same have specialisations of their own; the same ones share one."""

from __future__ import annotations

import enum
from collections.abc import Hashable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import pytest

import opdsl as od
from opdsl.lang.kernel import constexpr_key


class Pad(NamedTuple):
    left: Any
    right: Any


class Crop(NamedTuple):
    right: Any
    left: Any


@dataclass(frozen=True)
class Config:
    scale: Any
    nested: Any = ()


@dataclass(frozen=True, slots=True)
class Slotted:
    scale: Any


class ByAttribute:
    """Equal where `name` is, whatever else it holds."""

    def __init__(self, name: str, value: Any) -> None:
        self.name = name
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ByAttribute) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)


class Mode(enum.IntEnum):
    fast = 1


class Whole(int):
    pass


NUMBERS: tuple[Any, ...] = (1, 1.0, True, Mode.fast, Whole(1), np.float32(1), 1 + 0j)
ZEROS: tuple[Any, ...] = (0.0, -0.0, 0, False)
NANS = (float("nan"),)
SAME_BUT: list[tuple[Any, ...]] = [
    NUMBERS,
    ZEROS,
    *[tuple(make(n) for n in numbers) for numbers in (NUMBERS, ZEROS) for make in (
        Config, Slotted, lambda n: (n,), lambda n: ((2, n), 3), lambda n: frozenset({n}), lambda n: Pad(n, 2),
        lambda n: Config(0, (Slotted(n),)), lambda n: ByAttribute("same", n), lambda n: Config(frozenset({(n, 5)})),
    )],
    (Pad(1, 2), Crop(1, 2), (1, 2)),
    (Decimal("1.0"), Decimal("1.00"), Fraction(1), 1.0),
    (range(0), range(1, 1)),
    ("1", b"1", 1),
    (complex(0.0, -0.0), complex(0.0, 0.0)),
]  # fmt: skip


@pytest.mark.parametrize("values", SAME_BUT, ids=lambda values: repr(values[0])[:30])
def test_what_is_not_the_same_is_told_apart(values: tuple[Any, ...]) -> None:
    keys: set[Hashable] = {constexpr_key(value) for value in values}
    assert len(keys) == len(values)


@pytest.mark.parametrize(
    "make",
    [
        *(lambda: 1, lambda: 1.5, lambda: "text", lambda: (1, (2.0, "x")), lambda: frozenset({1, 2.0}), lambda: None),
        *(lambda: Pad(1, Config(2.0)), lambda: Config(-0.0, (Slotted(True),)), lambda: Decimal("1.0"), lambda: od.f32),
        *(lambda: ByAttribute("a", 3), lambda: Mode.fast, lambda: float("nan"), lambda: range(3)),
    ],
)
def test_the_same_again_is_known(make: Any) -> None:
    assert constexpr_key(make()) == constexpr_key(make())
    assert hash(constexpr_key(make())) == hash(constexpr_key(make()))


def test_a_list_inside_is_refused() -> None:
    @od.kernel
    def scaled(x: od.Tensor["f32", 4], *, config: od.constexpr):
        od.copy_out(od.copy_in(x) * config.scale[0], x)

    with pytest.raises(od.ArgumentError, match="the constexpr config is .* which is not hashable"):
        scaled(np.ones(4, np.float32), config=Config([2.0]))

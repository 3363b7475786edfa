"""What a tile of the IR is while it is lowered. Only `UbTile` and `BitTile` hold memory; the others are computed on use."""

from __future__ import annotations

from dataclasses import dataclass

from opdsl.ir.types import DType
from opdsl.npu.statements import Operand
from opdsl.targets.npu.emitter import Place
from opdsl.targets.npu.layouts import Layout


@dataclass(frozen=True, eq=False)
class UbTile:
    """A tile in the unified buffer."""

    place: Place
    dtype: DType
    layout: Layout

    @property
    def shape(self) -> tuple[int, ...]:
        return self.layout.shape


@dataclass(frozen=True, eq=False)
class BitTile:
    """A tile of bools, as bits in the order of `layouts.bit_areas`."""

    place: Place
    layout: Layout

    @property
    def shape(self) -> tuple[int, ...]:
        return self.layout.shape


@dataclass(frozen=True, eq=False)
class Uniform:
    """Every element is the one scalar."""

    value: Operand
    dtype: DType
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Affine:
    """i64 elements `base + sum of coefficient * index` over the dims."""

    base: Operand
    coefficients: tuple[int, ...]
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Test:
    """Bools `pattern <name> limit`, where the pattern is an Affine without a base."""

    name: str
    coefficients: tuple[int, ...]
    limit: Operand
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Spread:
    """A tile in the unified buffer, broadcast to a shape by NumPy's rule."""

    source: UbTile
    shape: tuple[int, ...]


Tile = UbTile | BitTile | Uniform | Affine | Test | Spread

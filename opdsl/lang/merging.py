"""Values that meet: at the end of a loop's body with those before it, and of one branch with those of the other.

A name may stand for a tuple or list of values; its leaves are the scalars, tiles and numbers in it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from opdsl.ir.types import ScalarType, TileType, bool_, f32, i64, shaped
from opdsl.lang.promotion import number_dtype
from opdsl.lang.values import NUMBERS, Number, Scalar, Tile, describe

LeafType = ScalarType | TileType
LeafValue = Scalar | Tile | bool | int | float


class Leaf:
    """Stands in a structure for a scalar, tile or number."""


@dataclass(frozen=True, eq=False)
class Fixed:
    """Stands in a structure for an object that is known while compiling."""

    value: object

    def same(self, other: object) -> bool:
        if not isinstance(other, Fixed):
            return False
        if self.value is other.value:
            return True
        try:
            return type(self.value) is type(other.value) and bool(self.value == other.value)
        except Exception:  # noqa: BLE001 - an object of the user's that cannot be compared is not the same
            return False


Structure = Any  # Leaf | Fixed | (type, [Structure...])
LEAF = Leaf()


def flatten(value: object, leaves: list[LeafValue]) -> Structure:
    """The structure of a value; its leaves are appended to `leaves`."""
    if isinstance(value, Scalar | Tile | bool | int | float):
        leaves.append(value)
        return LEAF
    if type(value) is tuple or type(value) is list:
        return (type(value), [flatten(item, leaves) for item in value])
    return Fixed(value)


def unflatten(structure: Structure, leaves: Iterator[object]) -> object:
    if isinstance(structure, Leaf):
        return next(leaves)
    if isinstance(structure, Fixed):
        return structure.value
    kind, parts = structure
    return kind(unflatten(part, leaves) for part in parts)


def same_structure(left: Structure, right: Structure) -> bool:
    if isinstance(left, Leaf):
        return isinstance(right, Leaf)
    if isinstance(left, Fixed):
        return left.same(right)
    if not isinstance(right, tuple) or left[0] is not right[0] or len(left[1]) != len(right[1]):
        return False
    return all(same_structure(a, b) for a, b in zip(left[1], right[1], strict=True))


def leaf_type(leaf: LeafValue) -> LeafType:
    """The type of a leaf; a number has the one it has on its own."""
    if isinstance(leaf, Scalar | Tile):
        return shaped(leaf.dtype, leaf.shape)
    return ScalarType(number_dtype(leaf))


def is_weak(leaf: LeafValue) -> bool:
    return isinstance(leaf, NUMBERS) or (isinstance(leaf, Scalar) and leaf.weak)


def same_number(left: LeafValue, right: LeafValue) -> bool:
    """Whether both are Python numbers, and the same one (0 and -0.0 and False are three)."""
    if not isinstance(left, NUMBERS) or not isinstance(right, NUMBERS) or type(left) is not type(right):
        return False
    return (left == right and str(left) == str(right)) or (left != left and right != right)


def joined_number_type(left: LeafType, right: LeafType) -> LeafType:
    """The type of a variable that only ever gets Python numbers."""
    dtypes = (left.dtype, right.dtype)
    return ScalarType(next(d for d in (f32, i64, bool_) if d in dtypes))


def number_takes(number: Number, type: LeafType) -> bool:
    """Whether a Python number can take the type without losing what it is."""
    if type.dtype.is_float:
        return not isinstance(number, bool)
    if type.dtype.is_bool:
        return isinstance(number, bool)
    return isinstance(number, int) and not isinstance(number, bool)


def show_leaf(leaf: LeafValue) -> str:
    return f"the number {leaf}" if isinstance(leaf, NUMBERS) else describe(leaf)


def weak_kind_fits(weak: LeafType, strong: LeafType) -> bool:
    """Whether a weak scalar of one type may become a strong one: bools stay bools, fractions stay floats."""
    if weak.dtype.is_float:
        return strong.dtype.is_float
    if weak.dtype.is_bool:
        return strong.dtype.is_bool
    return not strong.dtype.is_bool


def show_structure(structure: Structure) -> str:
    if isinstance(structure, Leaf):
        return "a value"
    if isinstance(structure, Fixed):
        return describe(structure.value)
    return f"a {structure[0].__name__} of {len(structure[1])}"

"""Linear forms over run-time integers: how the front end proves that `stop - start` of a slice is constant.

A form is a constant plus a sum of coefficient * atom. An atom is an SSA value, or the shape of an expression that is
not linear (`("floordiv", key of the left form, key of the right form)`), so that writing the same expression twice
gives equal forms.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass


@dataclass(frozen=True)
class Affine:
    constant: int
    terms: tuple[tuple[Hashable, int], ...] = ()  # in order of first appearance; no coefficient is 0

    @property
    def key(self) -> Hashable:
        """Equal for equal forms, whatever the order of their terms."""
        return (self.constant, frozenset(self.terms))

    @property
    def is_constant(self) -> bool:
        return not self.terms

    def plus(self, other: Affine, sign: int = 1) -> Affine:
        terms = dict(self.terms)
        for atom, coefficient in other.terms:
            terms[atom] = terms.get(atom, 0) + sign * coefficient
        return Affine(self.constant + sign * other.constant, tuple((a, c) for a, c in terms.items() if c))

    def times(self, factor: int) -> Affine:
        if factor == 0:
            return Affine(0)
        return Affine(self.constant * factor, tuple((a, c * factor) for a, c in self.terms))


def atom(identity: Hashable) -> Affine:
    return Affine(0, ((identity, 1),))


def combine(op: str, left: Affine, right: Affine) -> Affine:
    """The form of an integer op of two forms."""
    if op == "add":
        return left.plus(right)
    if op == "sub":
        return left.plus(right, -1)
    if op == "mul":
        if left.is_constant:
            return right.times(left.constant)
        if right.is_constant:
            return left.times(right.constant)
        # a * b and b * a are one product
        return atom(("mul", frozenset((left.key, right.key)), left.key == right.key))
    return atom((op, left.key, right.key))

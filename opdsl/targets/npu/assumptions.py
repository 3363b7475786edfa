"""What a run in the mind (`prune.py`) assumes: which way branches go and how often loops run must fit together.

Integer registers hold sums of unknowns, `constant + sum(factor * unknown)`; an unknown is a parameter, what was read from
memory, or an op on other values. A comparison whose difference has come up before is answered from the bounds that its
answers left; any other is answered as the run likes, and narrows the bounds. Each run that a program can really make is
one of those that can be assumed; a few more may be, since only bounds of single sums are kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import NamedTuple

from opdsl.npu.program import Compute, Operand, Register
from opdsl.targets.npu.scalar_unit import fold

Terms = tuple[tuple[int, int], ...]  # (unknown, factor), by unknown
Key = tuple[str, tuple[object, ...]]
UNBOUNDED = -(1 << 62)
MOST_FACTS = 40  # that are looked at, the latest ones
MOST_TRIPS = 6  # of a loop that has to run that often

COMPARISONS = ("lt", "le", "gt", "ge", "eq", "ne")


class Sum(NamedTuple):
    constant: int
    terms: Terms = ()

    def plus(self, other: Sum, factor: int = 1) -> Sum:
        if not other.terms:
            return Sum(self.constant + factor * other.constant, self.terms)
        if not self.terms:
            scaled = other.terms if factor == 1 else tuple([(u, f * factor) for u, f in other.terms if factor])
            return Sum(self.constant + factor * other.constant, scaled)
        total = dict(self.terms)
        for unknown, times in other.terms:
            total[unknown] = total.get(unknown, 0) + factor * times
        terms = tuple(sorted([(u, f) for u, f in total.items() if f]))
        return Sum(self.constant + factor * other.constant, terms)

    def times(self, factor: int) -> Sum:
        return Sum(0).plus(self, factor)


class Assumptions:
    """Values of registers, and what is assumed of them, along one run."""

    def __init__(self, least: Mapping[Register, int], chance: Random) -> None:
        self._chance = chance
        self._values: dict[Register, Sum] = {}
        self._unknowns: dict[object, int] = {}
        self._made: dict[int, tuple[str, tuple[Sum, ...]]] = {}
        self._bounds: dict[Terms, tuple[int | None, int | None]] = {}
        self._decided: dict[tuple[str, Sum], bool] = {}
        self._facts: list[Sum] = []  # of several unknowns, that are at least 0
        for register, low in least.items():
            self._bounds[self.value(register).terms] = (low, None)

    # --- values

    def value(self, operand: Operand) -> Sum:
        if isinstance(operand, int):
            return Sum(int(operand))
        if isinstance(operand, Register):
            found = self._values.get(operand)
            if found is None:
                found = self._values[operand] = self._unknown(operand)
            return found
        return self._unknown(("number", repr(operand)))

    def _unknown(self, key: object) -> Sum:
        return Sum(0, ((self._unknowns.setdefault(key, len(self._unknowns)), 1),))

    def assign(self, register: Register, value: Sum) -> None:
        self._values[register] = value

    def forget(self, register: Register) -> None:
        """The register holds something that nothing is known of."""
        self._values[register] = self._unknown(("forgotten", len(self._unknowns)))

    def compute(self, node: Compute) -> None:
        values = tuple(self.value(o) for o in node.operands)
        self._values[node.result] = self._result(node.name, node.dtype, values)

    def _result(self, name: str, dtype: str, values: tuple[Sum, ...]) -> Sum:
        if name == "move":
            return values[0]
        if dtype == "i64":
            if name in ("add", "sub"):
                return values[0].plus(values[1], 1 if name == "add" else -1)
            if name == "mul" and not values[0].terms:
                return values[1].times(values[0].constant)
            if name == "mul" and not values[1].terms:
                return values[0].times(values[1].constant)
            if not any(v.terms for v in values):
                folded = fold(name, [v.constant for v in values])
                if folded is not None:
                    return Sum(folded)
        found = self._unknown((name, dtype, values))
        if dtype == "i64":
            self._made[found.terms[0][0]] = (name, values)
            if name == "mul" and all(self._surely(v) for v in values):
                low = self._least(values[0]) * self._least(values[1])
                self._bounds.setdefault(found.terms, (low, None))
        return found

    def _maker(self, value: Sum) -> tuple[str, tuple[Sum, ...]]:
        """The op whose result a value is, times 1 or -1, plus a constant."""
        if len(value.terms) == 1 and abs(value.terms[0][1]) == 1:
            return self._made.get(value.terms[0][0], ("", ()))
        return "", ()

    def _part(self, value: Sum, names: tuple[str, ...]) -> tuple[str, tuple[Sum, ...], int, Sum]:
        """An op among `names` whose result is a term of a value, times 1 or -1, with that factor; and the rest."""
        for unknown, factor in value.terms:
            name, operands = self._made.get(unknown, ("", ()))
            if name in names and abs(factor) == 1:
                return name, operands, factor, value.plus(Sum(0, ((unknown, factor),)), -1)
        return "", (), 0, value

    # --- decisions

    def holds(self, condition: Operand, wanted: bool) -> bool:
        """Whether a condition holds: as it is wanted, unless what was assumed before says otherwise."""
        return self._true(self.value(condition), wanted)

    def _true(self, value: Sum, wanted: bool) -> bool:
        if not value.terms:
            return value.constant != 0
        if value.constant == 0 and value.terms[0][1] == 1:
            name, operands = self._maker(value)
            if name in ("and", "or"):
                return self._both_or_one(name == "and", operands[0], operands[1], self._true, wanted)
            if name == "xor" and operands[1] == Sum(1):
                return not self._true(operands[0], not wanted)
            if name in COMPARISONS:
                return self._compare(name, operands[0].plus(operands[1], -1), wanted)
        return self._decide("true", value, wanted)

    def _both_or_one(
        self, both: bool, first: Sum, second: Sum, test: Callable[[Sum, bool], bool], wanted: bool
    ) -> bool:
        """first and second, or first or second. Where one of them decides, chance says which."""
        one, other = (first, second) if self._chance.random() < 0.5 else (second, first)
        if both:
            return test(one, wanted) and test(other, wanted)
        return test(one, wanted) or test(other, wanted)

    def _compare(self, name: str, difference: Sum, wanted: bool) -> bool:
        if name == "eq":
            return self._is_zero(difference, wanted)
        if name == "ne":
            return not self._is_zero(difference, not wanted)
        if name in ("lt", "le"):
            difference = difference.times(-1)
        if name in ("lt", "gt"):
            difference = difference.plus(Sum(1), -1)
        return self._not_below(difference, wanted)

    def _decide(self, what: str, value: Sum, wanted: bool) -> bool:
        return self._decided.setdefault((what, value), wanted)

    def _is_zero(self, value: Sum, wanted: bool) -> bool:
        if not value.terms:
            return value.constant == 0
        name, operands = self._maker(value)
        if name in ("min", "max") and not (operands[0].terms and operands[1].terms):
            one, other = operands if not operands[1].terms else operands[::-1]
            # What the minimum or maximum of `one` and a number has to be.
            level = -value.constant * value.terms[0][1]
            distance = (other.constant - level) * (1 if name == "min" else -1)
            if distance < 0:
                return False
            difference = one.plus(Sum(level), -1)
            if distance > 0:
                return self._is_zero(difference, wanted)
            return self._not_below(difference.times(1 if name == "min" else -1), wanted)
        low, high = self._range(value)
        if low is not None and low == high:
            return low == 0
        if (low is not None and low > 0) or (high is not None and high < 0):
            return False
        if self._decide("zero", value, wanted):
            self._assume(value)
            self._assume(value.times(-1))
            return True
        return False

    def _not_below(self, value: Sum, wanted: bool) -> bool:
        """Whether value >= 0."""
        name, operands, factor, rest = self._part(value, ("min", "max", "floordiv"))
        if name in ("min", "max"):
            first, second = (rest.plus(o, factor) for o in operands)
            return self._both_or_one((name == "min") == (factor == 1), first, second, self._not_below, wanted)
        if name == "floordiv" and not operands[1].terms and operands[1].constant > 0:
            by = operands[1].constant
            below = rest.times(by).plus(Sum(by - 1 if factor < 0 else 0))
            return self._not_below(below.plus(operands[0], factor), wanted)
        if not value.terms:
            return value.constant >= 0
        low, high = self._range(value)
        if (low is not None and low >= 0) or self._follows(value):
            return True
        opposite = Sum(-1).plus(value, -1)
        if (high is not None and high < 0) or self._follows(opposite):
            return False
        self._assume(value if wanted else opposite)
        return wanted

    # --- bounds

    def _range(self, value: Sum) -> tuple[int | None, int | None]:
        turned = value.terms[0][1] < 0
        key = tuple((u, -f) for u, f in value.terms) if turned else value.terms
        low, high = self._bounds.get(key, (None, None))
        if turned:
            low, high = (None if high is None else -high), (None if low is None else -low)
        return (
            None if low is None else low + value.constant,
            None if high is None else high + value.constant,
        )

    def _bound(self, unknown: int, factor: int) -> int | None:
        """What factor * unknown is at least, as far as that is known."""
        bound = self._bounds.get(((unknown, 1),), (None, None))[0 if factor > 0 else 1]
        return None if bound is None else factor * bound

    def _least(self, value: Sum) -> int:
        """What a value of unknowns that each have a bound is at least."""
        bounds = [self._bound(unknown, factor) for unknown, factor in value.terms]
        return value.constant + sum(UNBOUNDED if bound is None else bound for bound in bounds)

    def _surely(self, value: Sum) -> bool:
        """Whether value >= 0 by the bounds of its unknowns."""
        return self._least(value) >= 0

    def _follows(self, value: Sum) -> bool:
        """Whether value >= 0 by the bounds of its unknowns and one thing that was assumed."""
        bounds = [self._bound(unknown, factor) for unknown, factor in value.terms]
        if None not in bounds and self._surely(value):
            return True
        # A fact is of use only if it takes something off an unknown without a bound, or off any if all have one.
        aims = value.terms if None not in bounds else value.terms[bounds.index(None) :][:1]
        facts = (fact for fact in self._facts[-MOST_FACTS:] if any(term in fact.terms for term in aims))
        return any(self._surely(value.plus(fact, -1)) for fact in facts)

    def goes_on(self, place: Sum, stop: Operand) -> bool:
        """Whether a loop upwards can have an iteration at a place."""
        return self._not_below(self.value(stop).plus(place, -1).plus(Sum(1), -1), True)

    def _assume(self, value: Sum) -> None:
        """value >= 0."""
        if not value.terms:
            return
        if len(value.terms) > 1:
            self._facts.append(value)
        if value.terms[0][1] < 0:  # key <= constant
            key = tuple((u, -f) for u, f in value.terms)
            low, high = self._bounds.get(key, (None, None))
            self._bounds[key] = (low, value.constant if high is None else min(high, value.constant))
        else:
            low, high = self._bounds.get(value.terms, (None, None))
            self._bounds[value.terms] = (-value.constant if low is None else max(low, -value.constant), high)

    def trips(self, start: Operand, stop: Operand, step: Operand, wanted: int) -> tuple[int, bool]:
        """How often a loop runs: as often as `wanted` if it can; and whether it really may run just so often."""
        by = self.value(step)
        if by.terms or by.constant == 0:
            return wanted, True
        span = self.value(stop).plus(self.value(start), -1).times(1 if by.constant > 0 else -1)
        size = abs(by.constant)
        count, most = 0, max(wanted, MOST_TRIPS)
        while self._not_below(span.plus(Sum(size * count + 1), -1), count < wanted):
            count += 1
            if count > most:
                return max(wanted, 1), False
        return count, True

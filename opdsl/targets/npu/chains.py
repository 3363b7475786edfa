"""Finds sums of products that can stay in the cube's accumulator.

A chain begins with a tile of zeros and adds products to it, one after the other: in a row of ops, and in loops that
carry the sum and do nothing else with it. Its values have no place of their own; the last one is read by others.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from opdsl.ir.core import Kernel, Op, Region, Value, walk


@dataclass(eq=False)
class Chain:
    """`start` is the first op that needs the accumulator, `dots` the products in order, `values` all sums, `final` the last
    one."""

    start: Op
    zeros: Value
    dots: list[Op] = field(default_factory=list)
    adds: list[Op] = field(default_factory=list)
    values: set[Value] = field(default_factory=set)
    loops: set[Op] = field(default_factory=set)
    final: Value | None = None


class Finder:
    def __init__(self, kernel: Kernel, eligible: set[Op]) -> None:
        self.eligible = eligible  # dots that the cube computes
        self.makers: dict[Value, Op] = {}
        self.users: dict[Value, list[tuple[Op, int]]] = {}
        self.region_of: dict[Op, Region] = {}
        self._visit(kernel.body)
        self.kernel = kernel

    def _visit(self, region: Region) -> None:
        for op in region.ops:
            self.region_of[op] = region
            for result in op.results:
                self.makers[result] = op
            for place, operand in enumerate(op.operands):
                self.users.setdefault(operand, []).append((op, place))
            for inner in op.regions:
                self._visit(inner)

    def find(self) -> list[Chain]:
        chains: list[Chain] = []
        for op in walk(self.kernel.body):
            if op.name == "broadcast" and self._is_zero(op):
                for user, place in self.users.get(op.result, ()):
                    chain = Chain(user, op.result)
                    final = self._step(chain, op.result, user, place)
                    if final is not None and chain.dots:
                        chain.final = self._follow(chain, final)
                        chain.start = self._first(chain)
                        chains.append(chain)
        return chains

    def _first(self, chain: Chain) -> Op:
        """What needs the accumulator first: a product comes before the op that adds it."""
        region = self.region_of[chain.start]
        wanted = {chain.start, *chain.dots}
        return next(op for op in region.ops if op in wanted)

    def _is_zero(self, op: Op) -> bool:
        maker = self.makers.get(op.operands[0])
        return maker is not None and maker.name == "constant" and maker.attributes["value"] == 0

    def _follow(self, chain: Chain, value: Value) -> Value:
        """The last value of a chain that has come to `value`."""
        chain.values.add(value)
        users = self.users.get(value, [])
        if len(users) != 1:
            return value
        user, place = users[0]
        following = self._step(chain, value, user, place)
        return value if following is None else self._follow(chain, following)

    def _step(self, chain: Chain, value: Value, user: Op, place: int) -> Value | None:
        """The sum that `user` makes of a value of the chain, if it only adds products."""
        if user.name == "add":
            other = user.operands[1 - place]
            dot = self.makers.get(other)
            if dot is None or dot not in self.eligible or len(self.users[other]) != 1:
                return None
            if self.region_of[dot] is not self.region_of[user]:
                return None
            chain.dots.append(dot)
            chain.adds.append(user)
            return user.result
        if user.name == "for" and place >= 3:
            (body,) = user.regions
            argument = body.arguments[place - 2]
            inner = Chain(user, value)
            users = self.users.get(argument, [])
            if len(users) != 1:
                return None
            step = self._step(inner, argument, *users[0])
            if step is None:
                return None
            final = self._follow(inner, step)
            yielded = body.terminator.operands[place - 3]
            if final is not yielded or [u for u, _ in self.users.get(final, [])] != [body.terminator]:
                return None
            chain.dots += inner.dots
            chain.adds += inner.adds
            chain.loops |= inner.loops | {user}
            chain.values |= inner.values | {argument, final}
            return user.results[place - 3]
        return None

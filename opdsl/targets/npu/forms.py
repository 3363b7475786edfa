"""What registers are made of: sums of numbers times registers that nothing in the tree computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from opdsl.npu.statements import Compute, Operand, Register
from opdsl.targets.npu.tree import Access, Block, Instruction, Loop, Scalar, While, nodes_of


@dataclass(frozen=True)
class Form:
    constant: int
    terms: Mapping[Register, int] = field(default_factory=dict)

    def plus(self, other: Form, factor: int = 1) -> Form:
        terms = dict(self.terms)
        for register, times in other.terms.items():
            terms[register] = terms.get(register, 0) + factor * times
        return Form(self.constant + factor * other.constant, {r: f for r, f in terms.items() if f})


class Forms:
    """Of a tree, in which a register that two nodes set has no form, and one that comes from memory neither."""

    def __init__(self, program: Block) -> None:
        self._made: dict[Register, list[Compute]] = {}
        self._read: set[Register] = set()
        self.loops: dict[Register, Loop] = {}
        self._found: dict[Register, Form | None] = {}
        self._ways: dict[Register, object] = {}
        for node in nodes_of(program):
            if isinstance(node, Scalar):
                self._made.setdefault(node.compute.result, []).append(node.compute)
            elif isinstance(node, Instruction) and isinstance(node.result, Register):
                self._read.add(node.result)
            elif isinstance(node, Loop):
                self.loops[node.register] = node

    def of(self, value: Operand) -> Form | None:
        if isinstance(value, int):
            return Form(value)
        if not isinstance(value, Register) or value in self._read or len(self._made.get(value, ())) > 1:
            return None
        if value not in self._made:
            return Form(0, {value: 1})
        if value not in self._found:
            self._found[value] = self._computed(self._made[value][0])
        return self._found[value]

    def _computed(self, node: Compute) -> Form | None:
        if node.name not in ("move", "add", "sub", "mul") or node.dtype != "i64":
            return None
        forms = [self.of(operand) for operand in node.operands]
        known = [form for form in forms if form is not None]
        if len(known) < len(forms):
            return None
        if node.name == "mul":
            one, other = sorted(known, key=lambda form: len(form.terms))
            return None if one.terms else Form(0).plus(other, one.constant)
        return known[0] if node.name == "move" else known[0].plus(known[1], 1 if node.name == "add" else -1)

    def fixed(self, value: Operand) -> bool:
        """Whether a register has the same value all the time: what it is made of are arguments."""
        if not isinstance(value, Register):
            return True
        if value in self._read or value in self.loops or len(self._made.get(value, ())) > 1:
            return False
        return all(self.fixed(operand) for node in self._made.get(value, ()) for operand in node.operands)

    def made_of(self, value: Operand) -> object:
        """How a value is computed: the same for registers that are computed alike."""
        if not isinstance(value, Register) or value in self._read or len(self._made.get(value, ())) != 1:
            return value
        if value not in self._ways:
            (node,) = self._made[value]
            self._ways[value] = node.name, node.dtype, *map(self.made_of, node.operands)
        return self._ways[value]

    def apart(self, one: Access, later: Access, around: Sequence[Loop | While], gone_on: bool) -> bool:
        """Whether two accesses of one tensor in one iteration of the loops around them certainly have no element in
        common; if the innermost loop has `gone_on`, in a later iteration of it."""
        if not one.region or one.memory != later.memory:
            return False
        for (first, count), (second, number) in zip(one.region, later.region, strict=False):
            begin, end = self.of(first), self.of(second)
            if begin is None or end is None or not all(self._same(register, around) for register in begin.terms):
                continue
            distance = end.plus(begin, -1)
            if distance.terms:
                continue
            step = 0
            if gone_on:
                loop = around[-1]
                if not isinstance(loop, Loop) or not isinstance(loop.step, int):
                    continue
                step = begin.terms.get(loop.register, 0) * loop.step
            if (step >= 0 and distance.constant + step >= count) or (step <= 0 and -distance.constant - step >= number):
                return True
        return False

    def _same(self, register: Register, around: Sequence[Loop | While]) -> bool:
        """Whether a register that nothing computes stays as it is in one iteration of loops."""
        return register not in self.loops or any(self.loops[register] is loop for loop in around)

    # --- last iterations

    def holds_before_last(self, condition: Operand, loop: Loop) -> bool:
        """Whether a condition surely holds in all iterations of a loop but the last one, as that of whole tiles does."""
        more = self._left_before_last(loop)
        enough = self._enough(condition)
        if more is None or enough is None:
            return False
        slacks = [form.plus(more, -1) for form in enough]
        return all(not slack.terms and slack.constant >= 0 for slack in slacks)

    def _left_before_last(self, loop: Loop) -> Form | None:
        """What is at least 0 in all iterations but the last one."""
        stop, place = self.of(loop.stop), self.of(loop.register)
        if place is None:
            return None
        if stop is not None and isinstance(loop.step, int) and loop.step > 0:
            return stop.plus(place, -1).plus(Form(loop.step + 1), -1)
        tiles = self._maker(loop.stop)
        if not loop.independent or tiles is None:
            return None
        # The grid: numbers of tiles from 0 on, below max(size // by, 0), one or more at a step.
        if tiles.name == "max" and tiles.operands[1] == 0:
            tiles = self._maker(tiles.operands[0])
        if tiles is None or tiles.name != "floordiv" or not isinstance(tiles.operands[1], int) or tiles.operands[1] < 1:
            return None
        size, by = self.of(tiles.operands[0]), tiles.operands[1]
        return None if size is None else size.plus(place, -by).plus(Form(2 * by), -1)

    def _enough(self, condition: Operand) -> list[Form] | None:
        """A condition holds if all of these are at least 0."""
        node = self._maker(condition)
        if node is None or node.dtype != "i64" or node.name not in ("and", "eq", "ge"):
            return None
        one, other = node.operands
        if node.name == "and":
            both = [self._enough(one), self._enough(other)]
            return None if None in both else [form for forms in both if forms is not None for form in forms]
        if node.name == "eq":  # the smaller one of something and a number is that number
            smaller = self._maker(one)
            if smaller is None or smaller.name != "min" or smaller.operands[1] != other:
                return None
            one = smaller.operands[0]
        begin, end = self.of(one), self.of(other)
        return None if begin is None or end is None else [begin.plus(end, -1)]

    def _maker(self, value: Operand) -> Compute | None:
        makers = self._made.get(value, []) if isinstance(value, Register) else []
        return makers[0] if len(makers) == 1 else None


def trips(node: Loop | While) -> int:
    """How often a loop surely runs: 0 where that is not known."""
    if (
        isinstance(node, Loop)
        and isinstance(node.start, int)
        and isinstance(node.stop, int)
        and isinstance(node.step, int)
    ):
        return len(range(node.start, node.stop, node.step or 1))
    return 0


def shared_ranges(program: Block, forms: Forms, most: int) -> dict[int, int]:
    """Numbers for the commonest ranges of loops that are the same all the time: such loops all run, or all do not."""
    groups: dict[tuple[object, ...], list[Loop]] = {}
    for node in nodes_of(program):
        if isinstance(node, Loop) and not trips(node):
            bounds = node.start, node.stop, node.step
            if all(map(forms.fixed, bounds)):
                groups.setdefault(tuple(map(forms.made_of, bounds)), []).append(node)
    chosen = sorted(groups.values(), key=len, reverse=True)[:most]
    return {id(loop): number for number, group in enumerate(chosen) for loop in group}

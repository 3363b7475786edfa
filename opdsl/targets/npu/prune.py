"""Takes out flags and barriers that others make superfluous.

Of each agent it is asked which accesses it does not surely know to be done when it makes its own, whichever way the program
came there (csrc/npu_order). A wait brings what the setting pipe knew, a barrier what came before on the pipe, and whatever
the scalar unit waited for holds for all that it hands out later. A flag is superfluous if without it no access is pending
that conflicts with one that is made.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from opdsl._npu_order import Order
from opdsl.targets.npu.dependences import Agent, Dependence, Overlaps, agents_of, ordered
from opdsl.targets.npu.forms import Forms, shared_ranges, trips
from opdsl.targets.npu.tree import (
    Access,
    Barrier,
    Block,
    Branch,
    Buffer,
    Flag,
    Instruction,
    Loop,
    While,
)

RUN, SET, WAIT, BARRIER, BARRIER_OF_ALL, LOOP, BRANCH, ELSE, END = range(9)
ANY_TRIPS, ONE_TRIP, SOME_TRIPS = range(3)
MOST_RANGES = 2  # that are taken as empty or not: all choices of them are looked at

Bools = NDArray[np.bool_]


def prune(
    ordering: Ordering, dependences: Sequence[Dependence], fixed: Sequence[Dependence] = ()
) -> list[Dependence]:
    """Those of the dependences whose flags are in the tree that are needed. `fixed`: those that are for something else."""
    stay = {ordering.flags[id(d)] for d in fixed}
    # Last ones first: what is outside of loops stays, what is in them goes. Between cores, of which flags there are few,
    # first those that let an iteration overlap with none before.
    candidates = [d for d in reversed(dependences) if ordering.flags[id(d)] not in stay]
    candidates.sort(key=lambda d: d.crosses and d.distance != 1)
    missing = set(ordering.order.superfluous(ordering.conflicts(), [ordering.flags[id(d)] for d in candidates]))
    return [d for d in dependences if ordering.flags[id(d)] not in missing]


State = tuple[int, int, int]  # the slot; SAME, NEXT or LATER; how many loops of the grid have gone on
SAME, NEXT, LATER = range(3)


@dataclass(frozen=True)
class Leaf:
    """An access of an agent. Which of its bits are set tells of what is pending: its slot, counted from the one of the
    iteration; whether the innermost loop around it (`around`) has gone on since or another one, where that matters; and how
    many loops of the grid around it (`grid`) have, from the innermost one."""

    agent: Agent
    access: Access
    grid: tuple[Loop, ...]
    around: tuple[Loop | While, ...]

    @property
    def _sizes(self) -> tuple[int, int, int]:
        memory = self.access.memory
        slots = memory.slots if isinstance(memory, Buffer) and memory.rotates is not None else 1
        return slots, 3 if self.around else 1, 1 + len(self.grid)

    @property
    def bits(self) -> int:
        return math.prod(self._sizes)

    def bit(self, state: State) -> int:
        slots, times, _ = self._sizes
        return (state[2] * times + state[1]) * slots + state[0]

    def states(self) -> Iterator[State]:
        slots, times, ended = self._sizes
        return itertools.product(range(slots), range(times), range(ended))

    def after(self, state: State, loop: Loop | While) -> State:
        """What is true of it when an iteration of a loop has ended."""
        slot, time, ended = state
        memory = self.access.memory
        if isinstance(memory, Buffer) and memory.rotates is not None and memory.rotates.slot is loop.slot:
            slot = (slot - 1) % memory.slots
        if loop in self.around:
            time = max(time, NEXT if loop is self.around[-1] else LATER)
        if loop in self.grid:
            ended = max(ended, len(self.grid) - self.grid.index(loop))
        return slot, time, ended


class Ordering:
    """A tree with its flags, as steps."""

    def __init__(self, program: Block, dependences: Sequence[Dependence], tensors_alias: bool) -> None:
        numbers = {id(d): number for number, d in enumerate(dependences)}
        self.flags = {id(d): numbers[id(d.flag)] for d in dependences}
        self.agents: dict[Agent, int] = {}
        self._first: dict[Leaf, int] = {}  # the first of its bits
        self._bits = 0
        self._groups: list[list[Leaf]] = []
        self._loops: list[Loop | While] = []
        self._steps: list[tuple[int, int, int, int]] = []
        self._forms = Forms(program)
        self._ranges = shared_ranges(program, self._forms, MOST_RANGES)
        self._block(program, (), ())
        memories = [leaf.access.memory for leaf in self._first]
        self._overlaps = Overlaps((m for m in memories if isinstance(m, Buffer)), tensors_alias)
        scalars = [self.agents[(core, "S")] for core, _ in self.agents]
        own = np.zeros((len(scalars), self._bits), np.bool_)
        for leaf, first in self._first.items():
            own[self.agents[leaf.agent], first : first + leaf.bits] = True
        made = np.zeros((len(self._groups), self._bits), np.bool_)
        for row, group in zip(made, self._groups, strict=True):
            row[[self._first[leaf] for leaf in group]] = True
        moves = [self._moves(loop) for loop in self._loops]
        # Flags between cores come in the order in which they were set, others by their slots.
        rotating = [(number, d.counter) for number, d in enumerate(dependences) if d.counter is not None and not d.crosses]
        turning = [[number for number, counter in rotating if counter is loop.slot] for loop in self._loops]
        steps = np.array(self._steps, np.int32).reshape(len(self._steps), 4)
        by_slots = [d.events > 1 and not d.crosses for d in dependences]  # each of them is set once at a time
        slots = [
            (d.events, 1) if several else (1, max(1, d.distance))
            for d, several in zip(dependences, by_slots, strict=True)
        ]
        ranges = len(set(self._ranges.values()))
        self.order = Order(steps, scalars, own, made, moves, turning, slots, ranges)

    # --- the tree as steps

    def _agent(self, agent: Agent) -> int:
        self.agents.setdefault((agent[0], "S"), len(self.agents))
        return self.agents.setdefault(agent, len(self.agents))

    def _block(self, block: Block, grid: tuple[Loop, ...], around: tuple[Loop | While, ...]) -> None:
        for node in block.nodes:
            if isinstance(node, Instruction):
                for agent in agents_of(node):
                    self._steps.append((RUN, self._agent(agent), len(self._groups), 0))
                    self._groups.append([self._leaf(agent, access, grid, around) for access in node.accesses])
            elif isinstance(node, Flag):
                if id(node.dependence) in self.flags:
                    waiting = (node.target[0], "S") if node.dependence.crosses else node.target
                    agent = node.source if node.set else waiting
                    kind = SET if node.set else WAIT
                    # Before and after the program slots count from the first one.
                    slot = 0 if node.dependence.crosses else (node.slot or 0) % node.dependence.events
                    self._steps.append((kind, self._agent(agent), self.flags[id(node.dependence)], slot))
            elif isinstance(node, Barrier) and node.pipe == "ALL":
                self._steps.append((BARRIER_OF_ALL, self._agent((node.core, "S")), 0, 0))
            elif isinstance(node, Barrier):
                if id(node.dependence) in self.flags:
                    agent = node.core, node.pipe
                    self._steps.append((BARRIER, self._agent(agent), self.flags[id(node.dependence)], 0))
            elif isinstance(node, Loop | While):
                self._loop(node, grid, around)
            elif isinstance(node, Branch):
                self._branch(node, grid, around)

    def _loop(self, node: Loop | While, grid: tuple[Loop, ...], around: tuple[Loop | While, ...]) -> None:
        often = trips(node)
        kind = ONE_TRIP if often == 1 else SOME_TRIPS if often else ANY_TRIPS
        self._steps.append((LOOP, self._ranges.get(id(node), -1), len(self._loops), kind))
        self._loops.append(node)
        if isinstance(node, Loop) and node.independent:
            grid = (*grid, node)
        self._block(node.body, grid, around if node.internal else (*around, node))
        self._steps.append((END, 0, 0, 0))

    def _branch(self, node: Branch, grid: tuple[Loop, ...], around: tuple[Loop | While, ...]) -> None:
        if node.certain or isinstance(node.condition, int):
            self._block(node.then if node.certain or node.condition else node.otherwise, grid, around)
            return
        self._steps.append((BRANCH, 0, 0, 0))
        self._block(node.then, grid, around)
        self._steps.append((ELSE, 0, 0, 0))
        self._block(node.otherwise, grid, around)
        self._steps.append((END, 0, 0, 0))

    def _leaf(self, agent: Agent, access: Access, grid: tuple[Loop, ...], around: tuple[Loop | While, ...]) -> Leaf:
        tells = bool(access.region) or (access.group != 0 and not access.sums)
        leaf = Leaf(agent, access, () if isinstance(access.memory, Buffer) else grid, around if tells else ())
        if leaf not in self._first:
            self._first[leaf] = self._bits
            self._bits += leaf.bits
        return leaf

    def _moves(self, loop: Loop | While) -> list[tuple[int, list[int]]]:
        """Which bits go how many places up at the end of an iteration."""
        moves: dict[int, list[int]] = {}
        for leaf, first in self._first.items():
            for state in leaf.states():
                bit, after = leaf.bit(state), leaf.bit(leaf.after(state, loop))
                if after != bit:
                    moves.setdefault(after - bit, []).append(first + bit)
        return list(moves.items())

    # --- what conflicts with what

    def conflicts(self, alone: Buffer | None = None) -> Bools:
        """For each group of accesses the bits that must not be pending where it is made. `alone`: those of a rotating
        buffer if it had one slot, instead of all others."""
        by_memory: dict[Buffer | str, list[Leaf]] = {}
        for leaf in self._first:
            by_memory.setdefault(self._overlaps.key(leaf.access.memory), []).append(leaf)
        rows: dict[Leaf, list[int]] = {}
        for later in self._first:
            memory = later.access.memory
            near = self._overlaps.near(memory) if alone is None else [alone] if memory is alone else []
            rows[later] = [
                self._first[earlier] + earlier.bit(state)
                for other in near
                for earlier in by_memory.get(other, ())
                if earlier.access.write or later.access.write
                for state in earlier.states()
                if self._conflict(earlier, state, later, alone is not None)
            ]
        found = np.zeros((len(self._groups), self._bits), np.bool_)
        for row, group in zip(found, self._groups, strict=True):
            for leaf in group:
                row[rows[leaf]] = True
        return found

    def _conflict(self, earlier: Leaf, state: State, later: Leaf, one_slot: bool) -> bool:
        """Whether an access must come after another one that is pending."""
        slot, time, ended = state
        if ordered(earlier.agent, earlier.access, later.agent, later.access, time != SAME):
            return False
        if isinstance(earlier.access.memory, Buffer):
            return _touch(earlier.access, 0 if one_slot else slot, later.access)
        # Iterations of the grid do not concern each other.
        shared = sum(one is other for one, other in zip(earlier.grid, later.grid, strict=False))
        if len(earlier.grid) - ended < shared:
            return False
        known = bool(earlier.around) and earlier.around == later.around and time != LATER
        return not (known and self._forms.apart(earlier.access, later.access, later.around, time == NEXT))


def _touch(one: Access, slot: int, other: Access) -> bool:
    """Whether accesses of buffers have a byte in common, the one of them in a slot counted from the other's."""
    a, b = one.memory, other.memory
    assert isinstance(a, Buffer) and isinstance(b, Buffer)
    counters = [buffer.rotates.slot if buffer.rotates is not None else None for buffer in (a, b)]
    pairs: Iterable[tuple[int, int]]
    if a is b or (counters[0] is counters[1] is not None and a.slots == b.slots):
        pairs = [((place + slot) % a.slots, place) for place in range(a.slots)]
    else:
        pairs = itertools.product(range(a.slots), range(b.slots))
    for first, second in pairs:
        begin, start = a.address + first * a.bytes, b.address + second * b.bytes
        if begin + one.first < start + min(other.last, b.bytes) and start + other.first < begin + min(one.last, a.bytes):
            return True
    return False


def idle_slots(ordering: Ordering, buffers: Sequence[Buffer]) -> set[Buffer]:
    """The buffers whose second slot lets nothing overlap: with one slot all would be in order by the same flags."""
    return {b for b in buffers if b.slots > 1 and ordering.order.holds(ordering.conflicts(b), [])}


def repeated(program: Block, dependences: Sequence[Dependence]) -> list[Dependence]:
    """Those whose flags may be set more than once: not what only the last tile does, that sticks out."""
    often: set[int] = set()
    forms = Forms(program)

    def visit(block: Block, loops: tuple[Loop | While, ...]) -> None:
        if loops:
            often.add(id(block))
        for node in block.nodes:
            if isinstance(node, Loop | While):
                visit(node.body, loops if trips(node) == 1 else (*loops, node))
            elif isinstance(node, Branch):
                visit(node.then, loops)
                (loop,) = loops if len(loops) == 1 else (None,)
                last = isinstance(loop, Loop) and forms.holds_before_last(node.condition, loop)
                visit(node.otherwise, () if last else loops)

    visit(program, ())
    return [d for d in dependences if id(d.block) in often]

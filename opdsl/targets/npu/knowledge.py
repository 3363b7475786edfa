"""What pipes surely know of each other when they set flags, whichever ways a program goes.

A walk over the tree takes all ways at once: at the head of a loop and behind a branch only that counts as known which is
known on each way there. It tells which flags could be set again before they were waited for, and which may have
one event.

What is kept are *lags*: how many of the last waits for a flag a pipe does not know of. They say the same in each
iteration, so that a loop is done when its body leaves them as they are. Slots are counted from the one of the iteration.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from opdsl.npu.statements import Register
from opdsl.targets.npu.dependences import AHEAD, Agent, Dependence
from opdsl.targets.npu.forms import trips
from opdsl.targets.npu.tree import Barrier, Block, Branch, Flag, Loop, Node, While, blocks_of

MOST = AHEAD + 1  # a lag that counts as any above

MOST_COUNTED = 15  # sets ahead of the waits that a counter between cores holds

Channel = tuple[Agent, Agent | str]
Lags = NDArray[np.int8]


class Knowledge:
    """`unanswered`: the dependences whose flags could be set more often than they can hold."""

    def __init__(self, program: Block, dependences: Sequence[Dependence], agents: Mapping[Agent, int]) -> None:
        self.unanswered: dict[int, Dependence] = {}
        self._agents = agents
        self._scalars = [agents[(core, "S")] for core, _ in agents]
        flags = [d for d in dependences if not d.barrier and d.chained is None]
        numbers = {id(d): number for number, d in enumerate(flags)}
        self._numbers = {id(d): numbers[id(d.flag)] for d in dependences if id(d.flag) in numbers}
        self._events = max((d.events for d in flags), default=1)
        # A row for each agent, and one for each flag that can be set at once: what its wait will tell.
        self._posts: dict[tuple[int, int], int] = {}
        rows = len(agents)
        for d in flags:
            for slot in range(d.events):
                self._posts[(numbers[id(d)], slot)] = rows
                rows += max(1, d.distance)
        self._lags: Lags = np.zeros((rows, len(flags) * self._events), np.int8)
        self._set_now = np.zeros((len(flags), self._events), np.int8)  # how often each flag is set
        self._alike = self._classes(flags)
        counters = [d.counter for d in flags]
        self._slotted = [np.array([counters[n] is own for n in self._alike[i]]) for i, own in enumerate(counters)]
        self._turning = self._turns_of(flags)
        self._rotating = {
            counter: [i for i, d in enumerate(flags) if d.counter is counter] for counter in self._turning
        }
        self._conflicts = np.zeros((len(flags), len(flags)), np.bool_)
        # Of flags between cores: those that are set, in order; how far each gets ahead when one of its class is set.
        self._queues: dict[Channel, list[int]] = {}
        self._ahead = np.zeros(len(flags), np.int64)
        self._eventful: set[int] = set()
        self._find_flags(program)
        self._known_loops: dict[tuple[int, bytes], tuple[Lags, Lags]] = {}  # at its head, behind it
        self._block(program)

    def may_share(self, one: Dependence, other: Dependence) -> bool:
        """Whether each set of one comes after the waits for the other, as far as the setting pipe knows, and conversely."""
        a, b = self._numbers[id(one)], self._numbers[id(other)]
        return not (self._conflicts[a, b] or self._conflicts[b, a])

    def may_count(self, chosen: Sequence[Dependence]) -> bool:
        """Whether flags between cores may share a counter: one pipe sets them in the order in which one core waits for
        them, and never more often ahead of the waits than a counter holds."""
        if len({_channel(d) for d in chosen}) > 1:
            return False
        numbers = [self._numbers[id(d)] for d in chosen]
        in_order = all(self.may_share(a, b) for a, b in itertools.combinations(chosen, 2))
        return len(chosen) == 1 or (in_order and bool(self._ahead[numbers].sum() <= MOST_COUNTED))

    @staticmethod
    def _classes(flags: Sequence[Dependence]) -> list[NDArray[np.intp]]:
        """Of each flag the others between the same pipes; of one between cores, itself, too."""
        members: dict[object, list[int]] = {}
        for number, d in enumerate(flags):
            members.setdefault(_channel(d), []).append(number)
        return [
            np.array([n for n in members[_channel(d)] if n != number or d.crosses], np.intp)
            for number, d in enumerate(flags)
        ]

    def _turns_of(self, flags: Sequence[Dependence]) -> dict[Register, tuple[NDArray[np.intp], NDArray[np.intp]]]:
        """Of what counts slots: which rows and columns go where as the next slot becomes the first."""
        found: dict[Register, tuple[NDArray[np.intp], NDArray[np.intp]]] = {}
        for number, d in enumerate(flags):
            if d.counter is None or d.events == 1:
                continue
            rows, columns = found.setdefault(
                d.counter, (np.arange(self._lags.shape[0]), np.arange(self._lags.shape[1]))
            )
            places = [self._posts[(number, slot)] for slot in range(d.events)]
            depth = max(1, d.distance)
            for here, following in zip(places, places[1:] + places[:1], strict=True):
                rows[here : here + depth] = np.arange(following, following + depth)
            if not d.crosses:
                first = number * self._events
                columns[first : first + d.events] = np.roll(columns[first : first + d.events], -1)
        return found

    def _find_flags(self, block: Block) -> bool:
        found = False
        for node in block.nodes:
            found |= isinstance(node, Flag) and id(node.dependence) in self._numbers
            found |= isinstance(node, Barrier) and node.pipe == "ALL"
            for inner in blocks_of(node):
                found |= self._find_flags(inner)
        if found:
            self._eventful.add(id(block))
        return found

    # --- ways through the program

    def _block(self, block: Block) -> None:
        if id(block) in self._eventful:
            for node in block.nodes:
                self._node(node)

    def _node(self, node: Node) -> None:
        if isinstance(node, Flag):
            if id(node.dependence) in self._numbers:
                self._flag(node, node.dependence)
        elif isinstance(node, Barrier):
            if node.pipe == "ALL":
                self._meet(node.core)
        elif isinstance(node, Loop | While):
            if id(node.body) in self._eventful:
                self._loop(node)
        elif isinstance(node, Branch):
            if node.certain or isinstance(node.condition, int):
                self._block(node.then if node.certain or node.condition else node.otherwise)
            elif any(id(way) in self._eventful for way in (node.then, node.otherwise)):
                before, queues = self._lags.copy(), self._copied_queues()
                self._block(node.then)
                one, self._lags = self._lags, before
                other_queues, self._queues = self._queues, queues
                self._block(node.otherwise)
                self._lags = np.maximum(self._lags, one)
                self._compare(other_queues)

    def _loop(self, node: Loop | While) -> None:
        often = trips(node)
        if often == 1:
            self._iteration(node)
            return
        key = id(node), self._set_now.tobytes()
        queues = self._copied_queues()
        head = self._lags
        behind = np.zeros_like(head)
        if key in self._known_loops:
            known, behind = self._known_loops[key]
            if (head <= known).all():
                self._lags = behind.copy()
                return
            head = np.maximum(head, known)
        going_on = True
        while going_on:
            self._lags = head.copy()
            self._iteration(node)
            behind = np.maximum(behind, self._lags)
            going_on = bool((self._lags > head).any())
            head = np.maximum(head, self._lags)
            self._compare(queues)
        if not often:
            behind = head
        self._known_loops[key] = head, behind
        self._lags = behind.copy()

    def _iteration(self, node: Loop | While) -> None:
        self._block(node.body)
        if isinstance(node, Loop) and node.slot in self._turning:
            rows, columns = self._turning[node.slot]
            self._lags = self._lags[rows][:, columns]
            rotating = self._rotating[node.slot]
            self._set_now[rotating, : node.slots] = np.roll(self._set_now[rotating, : node.slots], -1, axis=1)

    # --- flags

    def _flag(self, node: Flag, dependence: Dependence) -> None:
        slot = 0 if node.slot is None or dependence.loop is None else node.slot % dependence.loop.slots
        if node.set:
            self._set(dependence, slot)
        else:
            self._wait(dependence, slot)

    def _hear(self, agent: int) -> Lags:
        """What an agent knows: what its scalar unit waited for holds for all that it hands out."""
        own: Lags = self._lags[agent]
        np.minimum(own, self._lags[self._scalars[agent]], out=own)
        return own

    def _meet(self, core: str) -> None:
        """A barrier of all pipes of a core: what one of them knows all know."""
        pipes = [agent for (of, _), agent in self._agents.items() if of == core]
        self._lags[pipes] = self._lags[pipes].min(axis=0)

    def _set(self, dependence: Dependence, slot: int) -> None:
        number = self._numbers[id(dependence)]
        lags = self._hear(self._agents[dependence.source])
        others = self._alike[number]
        if dependence.crosses:  # counts a few
            ahead = self._set_now[others].sum(axis=1) + lags[others * self._events]
            ahead[others == number] += 1
            self._ahead[others] = np.maximum(self._ahead[others], ahead)
            if self._ahead[number] > AHEAD:
                self.unanswered[id(dependence)] = dependence
            self._queues.setdefault(_channel(dependence), []).append(number)
        else:
            # A scalar unit waits itself until its last set was taken.
            if dependence.source[1] != "S" and self._set_now[number, slot] + lags[number * self._events + slot] > 0:
                self.unanswered[id(dependence)] = dependence
            busy = lags.reshape(self._set_now.shape)[others] + self._set_now[others] > 0
            self._conflicts[number, others] |= np.where(self._slotted[number], busy[:, slot], busy.any(axis=1))
        self._lags[self._posts[(number, slot)] + int(self._set_now[number, slot])] = lags
        self._set_now[number, slot] += 1

    def _wait(self, dependence: Dependence, slot: int) -> None:
        number = self._numbers[id(dependence)]
        core, _ = dependence.target
        waiting = self._agents[(core, "S") if dependence.crosses else dependence.target]
        lags = self._hear(waiting)
        if dependence.crosses:
            queue = self._queues[_channel(dependence)]
            place = queue.index(number)
            self._conflicts[number, queue[:place]] = True
            del queue[place]
        first = self._posts[(number, slot)]
        count = int(self._set_now[number, slot])
        np.minimum(lags, self._lags[first], out=lags)
        self._lags[first : first + count - 1] = self._lags[first + 1 : first + count]
        self._lags[first + count - 1] = 0
        self._set_now[number, slot] -= 1
        column = self._lags[:, number * self._events + (0 if dependence.crosses else slot)]
        np.minimum(column + 1, MOST, out=column)
        lags[number * self._events + (0 if dependence.crosses else slot)] = 0

    def _copied_queues(self) -> dict[Channel, list[int]]:
        return {channel: list(queue) for channel, queue in self._queues.items()}

    def _compare(self, queues: Mapping[Channel, list[int]]) -> None:
        """Flags that may be set in one order or in another one cannot share a counter."""
        for channel, queue in self._queues.items():
            other = queues.get(channel, [])
            if queue != other:
                self._conflicts[np.ix_(queue, queue)] = True


def _channel(dependence: Dependence) -> Channel:
    """Where the sets and waits of a flag come in order."""
    return dependence.source, dependence.target[0] if dependence.crosses else dependence.target

"""Which races a dependence prevents.

Its flag orders all that one pipe does up to one statement before all that another one does from another statement on. A
dependence names the last such instructions that touch the same bytes, but others may keep just those in order, and not the
ones before: then the emulator reports these.
"""

from __future__ import annotations

from collections.abc import Iterator

from opdsl.npu.emulator import Hazard
from opdsl.targets.npu.compile import Compiled
from opdsl.targets.npu.dependences import Dependence, Overlaps, agents_of, touches
from opdsl.targets.npu.tree import Block, Buffer, Instruction, blocks_of

Place = tuple[str, int]  # pipe and line


class Pairs:
    """The instructions of a compiled kernel by their pipes and lines, with their places in the program."""

    def __init__(self, compiled: Compiled, tensors_alias: bool) -> None:
        self._overlaps = Overlaps([life.buffer for life in compiled.lifetimes], tensors_alias)
        self._instructions: dict[Place, list[tuple[int, Instruction]]] = {}
        self._spans: dict[int, tuple[int, int]] = {}  # of statements: the places of the instructions in them
        self._note(compiled.lowered.program, 0)

    def _note(self, block: Block, place: int) -> int:
        for node in block.nodes:
            first = place
            if isinstance(node, Instruction):
                self._instructions.setdefault((node.pipe, node.location.line), []).append((place, node))
                place += 1
            for inner in blocks_of(node):
                place = self._note(inner, place)
            self._spans[id(node)] = first, place
        return place

    def fits(self, report: Hazard, dependence: Dependence) -> bool:
        """Whether a report is of a misuse, or of a race that the dependence prevents."""
        if report.kind not in ("RAW", "WAR", "WAW"):
            return True
        one, other = (report.other_pipe, report.other_location.line), (report.pipe, report.location.line)
        # Which of two cores comes first is not known.
        return self._prevents(dependence, one, other) or (dependence.crosses and self._prevents(dependence, other, one))

    def _prevents(self, dependence: Dependence, one: Place, other: Place) -> bool:
        end, begin = self._spans[id(dependence.after)][1], self._spans[id(dependence.before)][0]
        for place, earlier in self._instructions.get(one, ()):
            for later_place, later in self._instructions.get(other, ()):
                if dependence.source in agents_of(earlier) and dependence.target in agents_of(later):
                    right = (place < end) + (later_place >= begin)  # of the two, how many are on their side of the flag
                    around = later_place <= place  # a loop
                    if any(right >= (2 - turns if around else 2) for turns in self._turns(earlier, later)):
                        return True
        return False

    def _turns(self, earlier: Instruction, later: Instruction) -> Iterator[int]:
        """How many turns of a loop lie between two that touch the same bytes, if any do: a flag comes once in each."""
        for a in earlier.accesses:
            for b in later.accesses:
                alike = isinstance(a.memory, str) == isinstance(b.memory, str)
                if alike and touches(a, b) and b.memory in self._overlaps.near(a.memory):
                    yield a.memory.slots if isinstance(a.memory, Buffer) and a.memory is b.memory else 1

"""Adds flags and barriers to a tree: those that are needed, those that answer them, with their events."""

from __future__ import annotations

from collections.abc import Sequence, Set

from opdsl.support.location import Location
from opdsl.targets.npu.dependences import Dependence, answer, chain, confine, insert_flags
from opdsl.targets.npu.events import number_events
from opdsl.targets.npu.knowledge import Knowledge
from opdsl.targets.npu.prune import Ordering, prune, repeated
from opdsl.targets.npu.tree import Barrier, Block, Flag, Node, blocks_of


class NoFlagLeft(Exception):
    """Raised where there are not enough flags between cores."""

    def __init__(self, location: Location) -> None:
        super().__init__()
        self.location = location


def synchronise(program: Block, dependences: Sequence[Dependence], tensors_alias: bool) -> list[Dependence]:
    """Adds the flags and barriers that are needed, and numbers their events. Gives the dependences that they are of."""
    insert_flags(program, dependences)
    flags = _Flags(program, dependences, tensors_alias)
    left = flags.number()
    if any(not d.crosses for d in left):
        # What loops that are chained wait for may make flags superfluous: those for which there are no events first.
        chain(program, flags.kept)
        without = {id(d) for d in left}
        flags = _Flags(program, [*(d for d in flags.kept if id(d) not in without), *left], tensors_alias)
        left = flags.number()
    if any(d.crosses for d in left):
        confine(program, [d for d in flags.kept if d.crosses and d.distance])
        left = flags.number()
    while left:  # what barriers of all pipes stand for; they make other flags superfluous, too
        for dependence in left:
            if dependence.crosses:
                raise NoFlagLeft(dependence.before.location)
        replaced = {id(d) for d in left}
        kept = [d for d in flags.kept if id(d) not in replaced]
        _clean(program, {id(d) for d in kept}, replaced)
        flags = _Flags(program, kept, tensors_alias)
        left = flags.number()
    _clean(program, {id(d) for d in flags.kept}, set())
    return flags.kept


class _Flags:
    """Flags in a tree, of dependences: `kept` are those that are needed."""

    def __init__(self, program: Block, dependences: Sequence[Dependence], tensors_alias: bool) -> None:
        self.program = program
        self.tensors_alias = tensors_alias
        self._keep(dependences)

    def _keep(self, dependences: Sequence[Dependence], fixed: Sequence[Dependence] = ()) -> None:
        ordering = Ordering(self.program, dependences, self.tensors_alias)
        self.kept = prune(ordering, dependences, fixed)
        self._agents = ordering.agents

    def _knowledge(self, dependences: Sequence[Dependence]) -> Knowledge:
        return Knowledge(self.program, dependences, self._agents)

    def number(self) -> list[Dependence]:
        """Adds answers, and numbers events; gives the dependences for which there are none."""
        open_ended = self._knowledge(self.kept).unanswered
        if open_ended:
            self._answer(repeated(self.program, list(open_ended.values())))
        return number_events(self.kept, self._knowledge(self.kept))

    def _answer(self, often: Sequence[Dependence]) -> None:
        """Adds answers, and takes out what they make superfluous. One in each block first: it may serve others there."""
        answers = dict(zip(map(id, often), answer(self.program, often), strict=True))
        chosen: list[Dependence] = []
        while True:
            knowledge = self._knowledge([*self.kept, *chosen])
            open_ended = [d for d in often if id(d) in knowledge.unanswered and answers[id(d)] not in chosen]
            if not open_ended:
                break
            chosen += {id(d.block): answers[id(d)] for d in reversed(open_ended)}.values()
        never = set(knowledge.unanswered)  # that are set only once
        before = [*self.kept, *chosen]
        self._keep(before, [*chosen, *often])
        if not set(self._knowledge(self.kept).unanswered) <= never:
            self.kept = before


def _clean(block: Block, kept: Set[int], replaced: Set[int]) -> None:
    """Takes out what is not needed. A wait that there is no event for becomes a barrier of all pipes."""
    nodes: list[Node] = []
    for node in block.nodes:
        for inner in blocks_of(node):
            _clean(inner, kept, replaced)
        stays = isinstance(node, Barrier) and node.dependence is None
        if not isinstance(node, Flag | Barrier) or id(node.dependence) in kept or stays:
            nodes.append(node)
        elif isinstance(node, Flag) and id(node.dependence) in replaced and not node.set and node.slot is None:
            nodes.append(Barrier(node.target[0], "ALL", location=node.location))
    block.nodes[:] = nodes

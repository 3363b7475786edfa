"""Numbers the events of flags: which of them may share one."""

from __future__ import annotations

from collections.abc import Sequence

from opdsl.targets.npu.dependences import Dependence
from opdsl.targets.npu.knowledge import Knowledge

EVENTS = 8  # of each pair of pipes
CROSS_EVENTS = 11


def number_events(dependences: Sequence[Dependence], knowledge: Knowledge) -> list[Dependence]:
    """Gives the flags their events; those for which there are none left are returned. Two flags share an event where
    each set is known to come after the wait before it; flags between cores, which count, where they are waited for in
    the order in which they are set."""
    left: list[Dependence] = []
    used: dict[tuple[object, ...], dict[int, list[Dependence]]] = {}
    for dependence in dependences:
        if dependence.barrier or dependence.chained is not None:
            continue
        if dependence.crosses:
            key: tuple[object, ...] = ("cross",)
            limit, wanted = CROSS_EVENTS, 1
        else:
            key = (dependence.source, dependence.target)
            limit, wanted = EVENTS, dependence.events
        taken = used.setdefault(key, {})
        for event in range(limit - wanted + 1):
            others = {id(d): d for n in range(event, event + wanted) for d in taken.get(n, ())}.values()
            if dependence.crosses:
                fits = knowledge.may_count([*others, dependence])
            else:
                fits = all(other.events == wanted and knowledge.may_share(dependence, other) for other in others)
            if fits:
                dependence.event = event
                for n in range(event, event + wanted):
                    taken.setdefault(n, []).append(dependence)
                break
        else:
            left.append(dependence)
    for dependence in dependences:
        dependence.event = dependence.flag.event
    missing = {id(dependence) for dependence in left}
    return [dependence for dependence in dependences if id(dependence.flag) in missing]

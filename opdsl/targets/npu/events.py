"""Numbers the events of flags: which of them may share one, and which need an answer before they are set again."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from opdsl.targets.npu.dependences import AHEAD, Dependence
from opdsl.targets.npu.trace import Trace

EVENTS = 8  # of each pair of pipes
CROSS_EVENTS = 11
MOST_AHEAD = 15  # sets of a flag between cores ahead of its waits


@dataclass
class Event:
    """A flag's set or wait, for numbering: where in the trace, and what the setting pipe knew of the waiting one."""

    place: int
    number: int
    known: int
    slot: int = 0


History = dict[int, tuple[list[Event], list[Event]]]  # of each dependence: its sets and its waits


def _later(one: list[int], other: list[int]) -> list[int]:
    return [x if x > y else y for x, y in zip(one, other, strict=True)]


def history_of(trace: Trace, missing: frozenset[int]) -> History:
    """When flags are set and waited for, and what a setting pipe knows of the waits before."""
    events: History = {}
    scalars = [trace.names.index((core, "S")) for core, _ in trace.names]
    size = len(trace.names)
    marks = [0] * size
    seen = [[0] * size for _ in range(size)]
    learned = [0] * size  # how often a scalar unit heard something
    joined = [0] * size  # up to which of these times a pipe knows
    posted: dict[tuple[int, int], list[list[int]]] = {}
    for place, step in enumerate(trace.steps):
        dependence = step.dependence
        if dependence is None or id(dependence) in missing or step.kind == "barrier":
            continue
        agent, key = step.agent, (id(dependence), step.slot)
        scalar = scalars[agent]
        if joined[agent] != learned[scalar] and scalar != agent:
            joined[agent] = learned[scalar]
            seen[agent] = _later(seen[agent], seen[scalar])
        waiting = trace.waiting(dependence)
        sets, waits = events.setdefault(id(dependence), ([], []))
        if step.kind == "set":
            marks[agent] += 1
            told = list(seen[agent])
            told[agent] = marks[agent]
            posted.setdefault(key, []).append(told)
            sets.append(Event(place, marks[agent], seen[agent][waiting], step.slot))
        else:
            marks[waiting] += 1
            told = posted[key].pop(0)
            seen[waiting] = _later(seen[waiting], told)
            seen[waiting][waiting] = marks[waiting]
            learned[waiting] += 1
            waits.append(Event(place, marks[waiting], 0, step.slot))
    return events


def unanswered(dependences: Sequence[Dependence], histories: Sequence[History]) -> list[Dependence]:
    """Those whose event may be set again before it was waited for, in some scenario: a loop between that does not run
    leaves the setting pipe free to run ahead. (A scalar unit itself waits until its last set was taken; flags between
    cores count a few.)"""
    found: dict[int, Dependence] = {}
    for events in histories:
        for dependence in dependences:
            if dependence.barrier or (dependence.source[1] == "S" and not dependence.crosses):
                continue
            ahead = AHEAD if dependence.crosses else 1
            sets, waits = events.get(id(dependence), ([], []))
            for slot in {event.slot for event in sets} if not dependence.crosses else {-1}:
                mine = [e for e in sets if slot in (e.slot, -1)]
                theirs = [e for e in waits if slot in (e.slot, -1)]
                if any(following.known < wait.number for wait, following in zip(theirs, mine[ahead:], strict=False)):
                    found[id(dependence)] = dependence
    return list(found.values())


def number_events(dependences: Sequence[Dependence], histories: Sequence[History]) -> list[Dependence]:
    """Gives the flags their events; those for which there are none left are returned. Two flags share an event where
    each set is known to come after the wait before it; flags between cores, which count, where they are waited for in
    the order in which they are set."""
    left: list[Dependence] = []
    used: dict[tuple[object, ...], dict[int, list[Dependence]]] = {}
    for dependence in dependences:
        if dependence.barrier:
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
                fits = not others or _may_count([*others, dependence], histories)
            else:
                fits = all(_may_share(dependence, other, histories) for other in others)
            if fits:
                dependence.event = event
                for n in range(event, event + wanted):
                    taken.setdefault(n, []).append(dependence)
                break
        else:
            left.append(dependence)
    return left


def _may_count(chosen: Sequence[Dependence], histories: Sequence[History]) -> bool:
    """Whether flags between cores may share a counter: in every run they are set by one pipe in the order in which one
    core waits for them, and never more often ahead of the waits than a counter holds."""
    if len({(d.source, d.target[0]) for d in chosen}) > 1:
        return False
    for events in histories:
        sets: list[tuple[Event, int]] = []
        waits: list[tuple[Event, int]] = []
        for dependence in chosen:
            for found, entries in zip((sets, waits), events.get(id(dependence), ([], [])), strict=True):
                found += [(event, id(dependence)) for event in entries]
        sets.sort(key=lambda e: e[0].place)
        waits.sort(key=lambda e: e[0].place)
        if [d for _, d in sets] != [d for _, d in waits]:
            return False
        done = 0
        for number, (event, _) in enumerate(sets, 1):
            while done < len(waits) and waits[done][0].number <= event.known:
                done += 1
            if number - done > MOST_AHEAD:
                return False
    return True


def _may_share(a: Dependence, b: Dependence, histories: Sequence[History]) -> bool:
    if a.distance or b.distance or a.events != b.events or a.block is not b.block:
        return False
    if (a.source, a.target) != (b.source, b.target):
        return False
    for events in histories:
        spans: list[tuple[Event, Event]] = []
        for dependence in (a, b):
            sets, waits = events.get(id(dependence), ([], []))
            if len(sets) != len(waits):
                return False
            spans += zip(sets, waits, strict=True)
        spans.sort(key=lambda e: e[0].place)
        for (_, wait), (following, _) in itertools.pairwise(spans):
            if following.place < wait.place or following.known < wait.number:
                return False
    return True

"""Which values share a variable: what a loop carries, what goes in, and what each iteration makes of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from opdsl.ir.core import Op, Region, Value, walk
from opdsl.ir.types import TensorType
from opdsl.targets.triton.writer import Slot, Writer

CONTROL = frozenset({"for", "while", "if"})


def initial_place(op: Op) -> int:
    """The place of a loop's first carried operand."""
    return 3 if op.name == "for" else 0


def plan_slots(w: Writer, ops: Sequence[Op]) -> None:
    """Gives every loop and branch among the ops, and inside, its variables: fills `w.slots`."""
    for op in ops:
        if op.name in ("for", "while"):
            _plan_loop(w, op)
        elif op.name == "if":
            _plan_branches(w, op)
        if op.name in ("reduce_custom", "scan_custom"):
            continue  # their functions run on whole blocks, where a branch is a choice
        for region in op.regions:
            plan_slots(w, region.ops)


def _fresh(w: Writer, *values: Value) -> Slot:
    return Slot(w.code.fresh(next((v.name for v in values if v.name), "carried")))


def _single_use(w: Writer, value: Value) -> bool:
    return len(w.facts.users[value]) == 1


def _plan_loop(w: Writer, op: Op) -> None:
    body = op.regions[-1]
    skip = 1 if op.name == "for" else 0
    for number, result in enumerate(op.results):
        initial = op.operands[initial_place(op) + number]
        argument = body.arguments[skip + number]
        slot = w.slots.get(result)
        same_region = w.facts.region_of.get(initial) is w.facts.region_of[result]
        if slot is None and same_region and _single_use(w, initial) and not isinstance(initial.type, TensorType):
            slot = w.slots.get(initial)
            if slot is None and initial in w.intervals.definition:
                slot = w.slots[initial] = _fresh(w, result, argument, initial)
        slot = slot or _fresh(w, result, argument, initial)
        w.slots[result] = slot
        for region in op.regions:
            w.slots[region.arguments[skip + number]] = slot
        _share_yield(w, body, number, argument, slot)


def _share_yield(w: Writer, body: Region, number: int, argument: Value, slot: Slot) -> None:
    """Lets the op that makes a carried value's next one assign the variable, where nothing reads the old one later."""
    value = body.terminator.operands[number]
    if value in w.slots or w.facts.region_of.get(value) is not body or value in body.arguments:
        return
    if sum(operand is value for operand in body.terminator.operands) != 1:
        return
    places = _places(body)
    maker = w.intervals.definition[value]
    made = places[maker]
    for user, _ in w.facts.users[argument]:
        used = places[user]
        if used > made or (used == made and user is not maker and maker.name != "if"):
            return
    if maker.name in ("for", "while"):
        position = list(maker.results).index(value) + initial_place(maker)
        direct = [place for place, operand in enumerate(maker.operands) if operand is argument]
        if any(place != position for place in direct):
            return
    w.slots[value] = slot


def _places(body: Region) -> Mapping[Op, int]:
    """The place in a body of each op in it, and of the ops inside those."""
    places: dict[Op, int] = {}
    for number, op in enumerate(body.ops):
        places[op] = number
        for region in op.regions:
            places.update(dict.fromkeys(walk(region), number))
    return places


def _plan_branches(w: Writer, op: Op) -> None:
    for number, result in enumerate(op.results):
        slot = w.slots.get(result)
        shared = slot is not None
        slot = slot or _fresh(w, result, *(region.terminator.operands[number] for region in op.regions))
        w.slots[result] = slot
        if shared:
            continue
        for region in op.regions:
            value = region.terminator.operands[number]
            if value not in w.slots and w.facts.region_of.get(value) is region:
                w.slots[value] = slot

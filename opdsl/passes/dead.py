"""Removes ops whose results nothing observable needs, and values that loops carry for nothing."""

from __future__ import annotations

from opdsl.ir.core import Kernel, Op, Region, Value, walk
from opdsl.ir.ops import OPS
from opdsl.passes.rewrite import has_effect, with_body

_LOOPS = ("for", "while")


def remove_dead(kernel: Kernel) -> Kernel:
    return with_body(kernel, _Sweep(_live_values(kernel.body)).region(kernel.body))


def _first_carried(op: Op) -> int:
    return 3 if op.name == "for" else 0


def _live_values(body: Region) -> set[Value]:
    """Values that an effect depends on. A carried value is live through all of its four names at once."""
    needs: dict[Value, list[Value]] = {}
    live: set[Value] = set()
    pending: list[Value] = []
    for op in walk(body):
        if OPS[op.name].terminator:
            continue
        if not op.regions:
            if has_effect(op):
                pending += op.operands
            for result in op.results:
                needs[result] = list(op.operands)
            continue
        _link_region_op(op, needs, pending)
    while pending:
        value = pending.pop()
        if value not in live:
            live.add(value)
            pending += needs.get(value, ())
    return live


def _link_region_op(op: Op, needs: dict[Value, list[Value]], pending: list[Value]) -> None:
    if op.name in _LOOPS:
        first = _first_carried(op)
        control = list(op.operands[:first])
        if op.name == "while":
            control += op.regions[0].terminator.operands
        body = op.regions[-1]
        for number, result in enumerate(op.results):
            names = [result, op.operands[first + number], body.terminator.operands[number]]
            names += [region.arguments[number + (op.name == "for")] for region in op.regions]
            for value in (result, *names[3:]):
                needs.setdefault(value, []).extend((*names, *control))
        if op.name == "for":
            needs.setdefault(body.arguments[0], []).extend(control)
    elif op.name == "if":
        control = list(op.operands)
        for number, result in enumerate(op.results):
            needs[result] = [*control, *(region.terminator.operands[number] for region in op.regions)]
    else:  # parallel, and the ops with a combine region, whose results all stand or fall together
        control = list(op.operands)
        yielded = [o for region in op.regions for o in region.terminator.operands]
        for result in op.results:
            needs[result] = [*control, *yielded]
    if has_effect(op):
        pending += control


class _Sweep:
    def __init__(self, live: set[Value]) -> None:
        self._live = live

    def region(self, region: Region) -> Region:
        ops = []
        for op in region.ops:
            kept = self._op(op)
            if kept is not None:
                ops.append(kept)
        same = len(ops) == len(region.ops) and all(a is b for a, b in zip(ops, region.ops, strict=True))
        return region if same else Region(region.arguments, tuple(ops))

    def _op(self, op: Op) -> Op | None:
        if OPS[op.name].terminator:
            return op
        if not has_effect(op) and not any(r in self._live for r in op.results):
            return None
        if not op.regions:
            return op
        if OPS[op.name].category != "control":
            return _rebuilt(op, op.operands, op.results, [self.region(r) for r in op.regions])
        regions = [self.region(r) for r in op.regions]
        if not op.results:
            return _rebuilt(op, op.operands, op.results, regions)
        return self._carried(op, regions)

    def _carried(self, op: Op, regions: list[Region]) -> Op:
        """A loop or `if` without the results that nothing needs."""
        keep = [n for n, result in enumerate(op.results) if self._is_live(op, n, result)]
        if len(keep) == len(op.results):
            return _rebuilt(op, op.operands, op.results, regions)
        operands = op.operands
        if op.name in _LOOPS:
            first = _first_carried(op)
            operands = (*op.operands[:first], *(op.operands[first + n] for n in keep))
        trimmed = []
        for number, region in enumerate(regions):
            arguments = region.arguments
            if op.name in _LOOPS:
                skip = int(op.name == "for")
                arguments = (*arguments[:skip], *(arguments[skip + n] for n in keep))
            end = region.terminator
            if op.name != "while" or number == 1:
                end = Op("yield", tuple(end.operands[n] for n in keep), location=end.location)
            trimmed.append(Region(arguments, (*region.ops[:-1], end)))
        return _rebuilt(op, operands, tuple(op.results[n] for n in keep), trimmed)

    def _is_live(self, op: Op, number: int, result: Value) -> bool:
        if result in self._live:
            return True
        if op.name not in _LOOPS:
            return False
        return any(region.arguments[number + (op.name == "for")] in self._live for region in op.regions)


def _rebuilt(op: Op, operands: tuple[Value, ...], results: tuple[Value, ...], regions: list[Region]) -> Op:
    if len(results) == len(op.results) and all(a is b for a, b in zip(regions, op.regions, strict=True)):
        return op
    return Op(op.name, operands, results, op.attributes, tuple(regions), op.location)

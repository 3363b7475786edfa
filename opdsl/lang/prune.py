"""Removes what the front end left over: ops without use, and values that loops and branches carry in vain.

The stop of every slice and the tries of every constexpr expression leave such ops; no one should have to read them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from opdsl.ir.core import Op, Region, Value
from opdsl.ir.ops import OPS

Live = set[Value]


def _has_effect(op: Op) -> bool:
    spec = OPS[op.name]
    if spec.category != "control":
        return not spec.pure
    return any(_has_effect(inner) for region in op.regions for inner in region.ops if inner.name != "yield")


def _ops(ops: Sequence[Op], live: Live) -> tuple[Op, ...]:
    """The ops (without a yield) that are needed for the live values or have an effect; adds what they need to `live`."""
    kept: list[Op] = []
    for op in reversed(ops):
        if not any(result in live for result in op.results) and not _has_effect(op):
            continue
        if op.regions:
            op = _structured(op, live)
        live.update(op.operands)
        kept.append(op)
    kept.reverse()
    return tuple(kept)


def _region(region: Region, kept: Sequence[int], live: Live, arguments: tuple[Value, ...] | None = None) -> Region:
    """A region that yields only its `kept` operands."""
    end = region.terminator
    operands = tuple(end.operands[i] for i in kept)
    live.update(operands)
    body = _ops(region.ops[:-1], live)
    return Region(region.arguments if arguments is None else arguments, (*body, replace(end, operands=operands)))


def _structured(op: Op, live: Live) -> Op:
    if op.name == "if":
        kept = [i for i, result in enumerate(op.results) if result in live]
        regions = tuple(_region(region, kept, live) for region in op.regions)
        return replace(op, results=tuple(op.results[i] for i in kept), regions=regions)
    if op.name in ("for", "while"):
        return _loop(op, live)
    return replace(op, regions=tuple(_region(r, range(len(r.terminator.operands)), live) for r in op.regions))


def _loop(op: Op, live: Live) -> Op:
    """Drops carried values that nothing after the loop and nothing else inside it reads."""
    fixed = 3 if op.name == "for" else 0  # operands before the carried ones
    own = 1 if op.name == "for" else 0  # block arguments before the carried ones
    needed = [result in live for result in op.results]
    while True:
        kept = [i for i, wanted in enumerate(needed) if wanted]
        inner = set(live)
        regions = []
        for number, region in enumerate(op.regions):
            arguments = (*region.arguments[:own], *(region.arguments[own + i] for i in kept))
            is_condition = op.name == "while" and number == 0
            regions.append(_region(region, [0] if is_condition else kept, inner, arguments))
        carried = [region.arguments[own:] for region in op.regions]
        more = [wanted or any(a[i] in inner for a in carried) for i, wanted in enumerate(needed)]
        if more == needed:
            break
        needed = more
    live |= inner
    operands = (*op.operands[:fixed], *(op.operands[fixed + i] for i in kept))
    return replace(op, operands=operands, results=tuple(op.results[i] for i in kept), regions=tuple(regions))


def prune(body: Region) -> Region:
    """The body of a kernel without what has no use."""
    live: Live = set()
    return Region(body.arguments, (*_ops(body.ops[:-1], live), body.terminator))

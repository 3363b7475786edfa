"""Constant folding, exact identities, common subexpressions, static control flow, and then dead code.

One walk in program order: when an op is reached, its operands are simplified already, so one walk is enough for
everything but what loops carry.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from opdsl.ir.core import Kernel, Op, Region, Value
from opdsl.ir.ops import OPS, infer
from opdsl.ir.types import ScalarType, TileType
from opdsl.passes.dead import remove_dead
from opdsl.passes.fold import evaluate
from opdsl.passes.identities import RULES, Number, sink_broadcast
from opdsl.passes.rewrite import with_body, with_parts, writes_memory
from opdsl.support.location import UNKNOWN


def simplify(kernel: Kernel) -> Kernel:
    """An equal kernel with less to do: the same results to the bit."""
    body = _Simplifier().region(kernel.body)
    return remove_dead(with_body(kernel, body))


class _Simplifier:
    def __init__(self) -> None:
        self._replaced: dict[Value, Value] = {}
        self._definitions: dict[Value, Op] = {}
        self._known: list[dict[Hashable, tuple[Value, ...]]] = []
        self._out: list[Op] = []
        self._location = UNKNOWN
        self._hints: Sequence[str] = ()
        # Reads may be shared only where nothing was written between; each write begins a new epoch.
        self._epoch = 0

    # --- what rules see ---

    def definition(self, value: Value) -> Op | None:
        return self._definitions.get(value)

    def number(self, value: Value) -> Number | None:
        op = self._definitions.get(value)
        if op is not None and op.name == "broadcast":
            op = self._definitions.get(op.operands[0])
        if op is None or op.name != "constant":
            return None
        number: Number = op.attributes["value"]
        return number

    def emit(self, name: str, *operands: Value, **attributes: Any) -> Value:
        (type,) = infer(name, [o.type for o in operands], attributes)
        hint = self._hints[0] if len(self._hints) == 1 else ""
        result = Value(type, hint)
        self._op(Op(name, operands, (result,), MappingProxyType(attributes), (), self._location))
        return self._replaced.get(result, result)

    # --- the walk ---

    def region(self, region: Region) -> Region:
        outer, self._out = self._out, []
        self._known.append({})
        for op in region.ops:
            self._location, self._hints = op.location, [r.name for r in op.results]
            self._op(op)
        ops, self._out = tuple(self._out), outer
        self._known.pop()
        same = len(ops) == len(region.ops) and all(a is b for a, b in zip(ops, region.ops, strict=True))
        return region if same else Region(region.arguments, ops)

    def _op(self, op: Op) -> None:
        operands = [self._replaced.get(o, o) for o in op.operands]
        if op.regions:
            self._with_regions(op, operands)
            return
        op = with_parts(op, operands, ())
        if OPS[op.name].pure:
            self._pure(op)
            return
        if writes_memory(op):
            self._epoch += 1
        self._out.append(op)

    def _pure(self, op: Op) -> None:
        if len(op.results) == 1:
            replacement = self._simpler(op)
            if replacement is not None:
                self._replaced[op.result] = replacement
                return
        key = self._key(op)
        # Tiles that cost nothing to make again are not kept alive from outside of a loop.
        cheap = isinstance(op.results[0].type, TileType) and (OPS[op.name].category == "shape" or op.name == "arange")
        for scope in self._known[-1:] if cheap else reversed(self._known):
            known = scope.get(key)
            if known is not None:
                self._replaced.update(zip(op.results, known, strict=True))
                return
        self._known[-1][key] = op.results
        for result in op.results:
            self._definitions[result] = op
        self._out.append(op)

    def _simpler(self, op: Op) -> Value | None:
        if op.name == "constant":
            return None
        if isinstance(op.result.type, ScalarType):
            numbers = [self.number(o) for o in op.operands]
            if numbers and all(n is not None for n in numbers):
                folded = evaluate(op, [n for n in numbers if n is not None])
                if folded is not None:
                    return self.emit("constant", value=folded, dtype=op.result.type.dtype)
        for rule in RULES.get(op.name, ()):
            replacement = rule(self, op)
            if replacement is not None:
                return replacement
        return sink_broadcast(self, op)

    def _key(self, op: Op) -> Hashable:
        attributes = tuple((n, _hashable(v)) for n, v in sorted(op.attributes.items()))
        epoch = self._epoch if op.name == "copy_in" else 0
        return op.name, op.operands, attributes, epoch

    # --- control flow ---

    def _with_regions(self, op: Op, operands: list[Value]) -> None:
        if op.name == "if":
            condition = self.number(operands[0])
            if condition is not None:
                self._inline(op, op.regions[0 if condition else 1], {})
                return
        elif op.name == "for":
            trips = self._trips(operands)
            if trips == 0:
                self._replaced.update(zip(op.results, operands[3:], strict=True))
                return
            if trips == 1:
                arguments = op.regions[0].arguments
                self._inline(op, op.regions[0], dict(zip(arguments, [operands[0], *operands[3:]], strict=True)))
                return
        elif op.name == "parallel" and any(self._trips(operands[i : i + 3]) == 0 for i in range(0, len(operands), 3)):
            return
        location = self._location
        writes = writes_memory(op)
        regions = []
        for region in op.regions:
            self._epoch += writes  # an earlier iteration may have written
            regions.append(self.region(region))
        self._epoch += writes
        self._location = location
        rebuilt = with_parts(op, operands, regions)
        for result in op.results:
            self._definitions[result] = rebuilt
        self._out.append(rebuilt)

    def _trips(self, bounds: Sequence[Value]) -> int | None:
        numbers = [self.number(b) for b in bounds[:3]]
        if any(n is None for n in numbers):
            return None
        start, stop, step = (int(n) for n in numbers if n is not None)
        return len(range(start, stop, step)) if step else None

    def _inline(self, op: Op, region: Region, arguments: Mapping[Value, Value]) -> None:
        """Puts a region that runs exactly once in the place of its op."""
        self._replaced.update(arguments)
        for inner in region.ops[:-1]:
            self._location, self._hints = inner.location, [r.name for r in inner.results]
            self._op(inner)
        yielded = [self._replaced.get(o, o) for o in region.terminator.operands]
        self._replaced.update(zip(op.results, yielded, strict=True))


def _hashable(value: Any) -> Hashable:
    """An attribute as part of a key; 1, 1.0, True, 0.0 and -0.0 are told apart."""
    if isinstance(value, (list, tuple)):
        return tuple(map(_hashable, value))
    if isinstance(value, (bool, int, float)):
        return type(value).__name__, repr(value)
    hashable: Hashable = value
    return hashable

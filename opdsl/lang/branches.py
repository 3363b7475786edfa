"""`if` statements and conditional expressions on run-time conditions."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from opdsl.ir.core import Op, Region, Value
from opdsl.ir.ops import OPS
from opdsl.ir.types import shape_of
from opdsl.lang.calls import Calls
from opdsl.lang.constexprs import python
from opdsl.lang.merging import (
    LeafType,
    LeafValue,
    flatten,
    is_weak,
    joined_number_type,
    leaf_type,
    number_takes,
    same_number,
    same_structure,
    show_leaf,
    show_structure,
    unflatten,
    weak_kind_fits,
)
from opdsl.lang.operators import to_value, truth
from opdsl.lang.scope import Binding, Poison, assigned_names
from opdsl.lang.values import NUMBERS, Runtime, Scalar, wrap
from opdsl.support.errors import Misuse


@dataclass
class _Merge:
    """One result of an `if`: the leaf of each branch and the type both take."""

    then: LeafValue
    otherwise: LeafValue
    type: LeafType


class Mismatch(Exception):
    """Two values that meet cannot be one."""


def _met_type(then: LeafValue, otherwise: LeafValue) -> LeafType:
    a, b = leaf_type(then), leaf_type(otherwise)
    if is_weak(then) and is_weak(otherwise):
        return joined_number_type(a, b)
    if is_weak(then) or is_weak(otherwise):
        weak, weak_type, strong = (then, a, b) if is_weak(then) else (otherwise, b, a)
        if number_takes(weak, strong) if isinstance(weak, NUMBERS) else weak_kind_fits(weak_type, strong):
            return strong
    elif a == b:
        return a
    raise Mismatch(f"{show_leaf(then)} after one branch and {show_leaf(otherwise)} after the other")


class Branches(Calls):
    def __init__(self) -> None:
        super().__init__()
        self._regions = 0

    @contextmanager
    def open_region(self) -> Iterator[None]:
        """Counts a run-time region: names bound inside are restored by the caller."""
        outer = self.region
        self._regions += 1
        self.region = self._regions
        self.depth += 1
        try:
            yield
        finally:
            self.depth -= 1
            self.region = outer

    @contextmanager
    def captured_ops(self) -> Iterator[list[Op]]:
        """Collects the ops of a region; the list is filled at the end."""
        found: list[Op] = []
        self.builder.begin()
        done = False
        try:
            with self.open_region():
                yield found
            done = True
        finally:
            ops = self.builder.end()
            if done:
                found.extend(ops)

    def _If(self, node: ast.If) -> None:
        condition = self.evaluate(node.test)
        if not isinstance(condition, Runtime):
            self.execute(node.body if python(bool, condition) else node.orelse)
            return
        self.at(node.test)
        try:
            value = truth(condition, "the condition of `if`").value
        except Misuse as misuse:
            raise self.error(node.test, misuse.message, misuse.help) from None
        before = dict(self.frame.names)
        then_ops, then_names = self._traced(lambda: self.execute(node.body))
        self.frame.names = dict(before)
        else_ops, else_names = self._traced(lambda: self.execute(node.orelse))
        self.frame.names = before
        merges: list[_Merge] = []
        pending: list[tuple[str, object, list[int], Binding]] = []
        for name in dict.fromkeys((*assigned_names(node.body), *assigned_names(node.orelse))):
            self._merge_name(node, name, then_names.get(name), else_names.get(name), merges, pending)
        results = self._emit_if(node, value, then_ops, else_ops, merges)
        for name, structure, places, binding in pending:
            leaves: list[object] = []
            for place, leaf in zip(places, self._leaves(binding.value), strict=True):
                if place >= 0:
                    result = results[place]
                    if not result.name:
                        object.__setattr__(result, "name", name)
                    leaves.append(wrap(result))
                else:
                    leaves.append(leaf)
            self.frame.names[name] = Binding(unflatten(structure, iter(leaves)), binding.location)

    @staticmethod
    def _leaves(value: object) -> list[LeafValue]:
        leaves: list[LeafValue] = []
        flatten(value, leaves)
        return leaves

    def _traced(self, trace: Callable[[], None]) -> tuple[list[Op], dict[str, Binding]]:
        with self.captured_ops() as ops:
            trace()
            names = self.frame.names
        return ops, names

    def _merge_name(
        self,
        node: ast.If,
        name: str,
        then: Binding | None,
        otherwise: Binding | None,
        merges: list[_Merge],
        pending: list[tuple[str, object, list[int], Binding]],
    ) -> None:
        names = self.frame.names
        if then is otherwise:
            return
        line = self.location(node).line
        if then is None or otherwise is None:
            names[name] = Binding(
                Poison(
                    f"{name!r} has a value only after one branch of the `if` at line {line}",
                    f"give {name!r} a value before the `if`, or in both branches",
                ),
                self.location(node),
            )
            return
        for binding in (then, otherwise):
            if isinstance(binding.value, Poison):
                names[name] = binding
                return
            binding.read = True
        then_leaves: list[LeafValue] = []
        else_leaves: list[LeafValue] = []
        structure = flatten(then.value, then_leaves)
        other = flatten(otherwise.value, else_leaves)
        if not same_structure(structure, other):
            message = (
                f"{name!r} is {show_structure(structure)} after one branch of the `if` at line {line} and "
                f"{show_structure(other)} after the other"
            )
            hint = (
                "what is known while compiling cannot depend on a run-time condition; choose between tiles or scalars"
            )
            names[name] = Binding(Poison(message, hint), then.location)
            return
        places: list[int] = []
        found: list[_Merge] = []
        for left, right in zip(then_leaves, else_leaves, strict=True):
            if left is right or same_number(left, right):
                places.append(-1)
                continue
            try:
                found.append(_Merge(left, right, _met_type(left, right)))
            except Mismatch as mismatch:
                message = f"{name!r} is {mismatch} of the `if` at line {line}"
                hint = "make both of one dtype and shape, with od.cast or od.broadcast_to"
                names[name] = Binding(Poison(message, hint), then.location)
                return
            places.append(len(merges) + len(found) - 1)
        merges.extend(found)
        pending.append((name, structure, places, then))

    def _emit_if(
        self, node: ast.AST, condition: Value, then_ops: Sequence[Op], else_ops: Sequence[Op], merges: Sequence[_Merge]
    ) -> tuple[Value, ...]:
        if not then_ops and not else_ops and not merges:
            return ()
        self.at(node)
        then = self._closed(then_ops, [(m.then, m.type) for m in merges])
        otherwise = self._closed(else_ops, [(m.otherwise, m.type) for m in merges])
        return self.builder.op("if", condition, regions=(then, otherwise))

    def _closed(self, ops: Sequence[Op], leaves: Sequence[tuple[LeafValue, LeafType]]) -> Region:
        """A region of `ops` that yields the leaves in their types."""
        self.builder.begin(ops)
        try:
            values = [to_value(leaf, type.dtype, shape_of(type) or None) for leaf, type in leaves]
            self.builder.op("yield", *values)
        finally:
            closed = self.builder.end()
        return Region((), closed)

    def choose(self, node: ast.IfExp, condition: Runtime) -> object:
        """`a if condition else b`: only the chosen one is computed, unless that costs nothing."""
        self.at(node.test)
        try:
            chosen = truth(condition, "the condition of `if ... else`")
        except Misuse as misuse:
            raise self.error(node.test, misuse.message, misuse.help) from None
        values: list[object] = []

        def trace(part: ast.expr) -> Callable[[], None]:
            return lambda: values.append(self.evaluate(part))

        then_ops, _ = self._traced(trace(node.body))
        else_ops, _ = self._traced(trace(node.orelse))
        then_leaves: list[LeafValue] = []
        else_leaves: list[LeafValue] = []
        structure, other = flatten(values[0], then_leaves), flatten(values[1], else_leaves)
        if not same_structure(structure, other):
            raise Misuse(
                f"the value is {show_structure(structure)} if the condition holds and {show_structure(other)} otherwise",
                "both must be numbers, scalars or tiles; constexprs cannot depend on a run-time condition",
            )
        try:
            merges = [_Merge(a, b, _met_type(a, b)) for a, b in zip(then_leaves, else_leaves, strict=True)]
        except Mismatch as mismatch:
            raise Misuse(
                f"the value is {mismatch}", "make both of one dtype and shape, with od.cast or od.broadcast_to"
            ) from None
        simple = all(
            isinstance(m.then, Scalar | int | float) and isinstance(m.otherwise, Scalar | int | float) for m in merges
        )
        if simple and all(_is_cheap(op) for op in (*then_ops, *else_ops)):
            for op in (*then_ops, *else_ops):
                self.builder.append(op)
            self.at(node)
            found: list[object] = []
            for m in merges:
                pair = [to_value(leaf, m.type.dtype) for leaf in (m.then, m.otherwise)]
                found.append(wrap(self.builder.value("select", chosen.value, *pair)))
            return unflatten(structure, iter(found))
        results = self._emit_if(node, chosen.value, then_ops, else_ops, merges)
        return unflatten(structure, iter([wrap(r) for r in results]))


def _is_cheap(op: Op) -> bool:
    spec = OPS[op.name]
    return spec.pure and spec.category in ("elementwise", "other") and all(not shape_of(r.type) for r in op.results)

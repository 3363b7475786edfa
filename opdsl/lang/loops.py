"""`for` and `while` statements, and the variables that run-time loops carry."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from opdsl.ir.core import Region, Value
from opdsl.ir.types import ScalarType, i64, shape_of
from opdsl.lang.branches import Branches
from opdsl.lang.builtins_control import Loop
from opdsl.lang.errors import Misuse
from opdsl.lang.expressions import python
from opdsl.lang.merging import (
    LeafType,
    LeafValue,
    Structure,
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
from opdsl.lang.operators import index_scalar, to_value, truth
from opdsl.lang.scope import Binding, Poison, assigned_names, target_names
from opdsl.lang.values import NUMBERS, Runtime, RuntimeRange, Scalar, describe, wrap

Range = range | RuntimeRange


class Break(Exception):
    """A `break` of an unrolled loop."""


class Continue(Exception):
    """A `continue` of an unrolled loop."""


@dataclass
class _Slot:
    """One leaf of a carried variable. `weak` while its type is not settled."""

    initial: LeafValue
    type: LeafType
    weak: bool
    carried: bool = True
    final: LeafValue = 0


@dataclass
class _Carried:
    """A variable that is assigned in a loop and has a value before it."""

    name: str
    initial: Binding
    structure: Structure
    slots: list[_Slot]
    placeholders: list[Binding] = field(default_factory=list)
    poison: Poison | None = None

    @property
    def is_read(self) -> bool:
        return any(binding.read for binding in self.placeholders)


class Loops(Branches):
    def __init__(self) -> None:
        super().__init__()
        self.static_loops = 0  # unrolled loops around the statement, within the innermost run-time region

    # --- for ---------------------------------------------------------------------------------------------------------

    def _For(self, node: ast.For) -> None:
        if node.orelse:
            raise self.error(node.orelse[0], "`else` of a loop cannot be used in a kernel", "write it after the loop")
        iterable = self.evaluate(node.iter)
        if isinstance(iterable, range | RuntimeRange):
            self._sequential(node, (iterable,), "sequential", 1)
        elif isinstance(iterable, Loop) and iterable.kind == "parallel":
            self._parallel(node, iterable.ranges)
        elif isinstance(iterable, Loop) and iterable.kind == "pipelined":
            self._sequential(node, iterable.ranges, "pipelined", iterable.depth)
        else:
            self._unrolled(node, self.iterate(iterable, node.iter))

    def _unrolled(self, node: ast.For, items: Sequence[object]) -> None:
        self.static_loops += 1
        try:
            for item in items:
                self.assign(node.target, item, node.target)
                try:
                    self.execute(node.body)
                except Continue:
                    continue
                except Break:
                    break
        finally:
            self.static_loops -= 1

    def _range_operands(self, bounds: Range) -> list[Value]:
        return [index_scalar(bound, "a bound of range").value for bound in (bounds.start, bounds.stop, bounds.step)]

    def _bind_variables(self, target: ast.expr, variables: Sequence[Value]) -> None:
        """Binds the loop variables, which take the names of the target."""
        scalars = [Scalar(variable) for variable in variables]
        self.assign(target, scalars[0] if len(scalars) == 1 else tuple(scalars), target)

    def _variables(self, target: ast.expr, count: int) -> list[Value]:
        parts = target.elts if isinstance(target, ast.Tuple | ast.List) else [target]
        if count > 1 and isinstance(target, ast.Tuple | ast.List) and len(parts) != count:
            raise self.error(
                target,
                f"{len(parts)} loop variable{'s' * (len(parts) != 1)} for {count} ranges",
                "name one variable for each range",
            )
        if count == 1 and isinstance(target, ast.Tuple | ast.List):
            raise self.error(
                target,
                f"{len(parts)} loop variable{'s' * (len(parts) != 1)} for 1 range",
                "name one variable, or give several ranges to od.parallel or od.pipelined",
            )
        names = [p.id if isinstance(p, ast.Name) else "" for p in parts]
        return [Value(ScalarType(i64), names[i] if len(names) == count else "") for i in range(count)]

    def _hide_variables(self, node: ast.For) -> None:
        """After a run-time loop its variables and what was defined inside it have no value."""
        line = self.location(node).line
        names = self.frame.names
        for name in target_names(node.target):
            hint = "keep what you need in a variable that has a value before the loop"
            poison = Poison(f"{name!r} is the variable of the loop at line {line} and has no value after it", hint)
            names[name] = Binding(poison, self.location(node))
        self._hide_inner(node, node.body)

    def _hide_inner(self, node: ast.AST, body: Sequence[ast.stmt]) -> None:
        line = self.location(node).line
        names = self.frame.names
        for name in assigned_names(body):
            if name not in names:
                poison = Poison(
                    f"{name!r} has a value only inside of the loop at line {line}",
                    f"give {name!r} a value before the loop",
                )
                names[name] = Binding(poison, self.location(node))

    def _run_body(self, body: Sequence[ast.stmt]) -> None:
        outer, self.static_loops = self.static_loops, 0
        try:
            self.execute(body)
        finally:
            self.static_loops = outer

    def _parallel(self, node: ast.For, ranges: Sequence[Range]) -> None:
        variables = self._variables(node.target, len(ranges))
        own = target_names(node.target)
        before = dict(self.frame.names)
        for name in assigned_names(node.body):
            binding = before.get(name)
            if binding is not None and name not in own and not isinstance(binding.value, Poison):
                raise self._outer_assignment(node, name, binding)
        with self.captured_ops() as ops:
            self._bind_variables(node.target, variables)
            self._run_body(node.body)
            self.at(node)
            self.builder.op("yield")
        self.frame.names = before
        self.at(node.iter)
        operands = [value for bounds in ranges for value in self._range_operands(bounds)]
        self.at(node)
        self.builder.op("parallel", *operands, regions=(Region(tuple(variables), tuple(ops)),))
        self._hide_variables(node)

    def _outer_assignment(self, node: ast.For, name: str, binding: Binding) -> Exception:
        place: ast.AST = node
        for inner in ast.walk(ast.Module(node.body, [])):
            if isinstance(inner, ast.Name) and inner.id == name and not isinstance(inner.ctx, ast.Load):
                place = inner
                break
        return self.error(
            place,
            f"{name!r} is assigned in a parallel loop but belongs to the code around it; the iterations are independent",
            "use another name for a value of one iteration; to add up over iterations use od.pipelined or a plain "
            '`for`, or od.copy_out(..., mode="add")',
            (self.note(f"{name!r} gets its value here", binding.location),),
        )

    # --- loops that carry values -------------------------------------------------------------------------------------

    def _carried(self, names: Sequence[str]) -> list[_Carried]:
        found = []
        for name in names:
            binding = self.frame.names.get(name)
            if binding is None or isinstance(binding.value, Poison):
                continue
            leaves: list[LeafValue] = []
            structure = flatten(binding.value, leaves)
            slots = [_Slot(leaf, leaf_type(leaf), is_weak(leaf)) for leaf in leaves]
            found.append(_Carried(name, binding, structure, slots))
        return found

    def _place_holders(self, carried: Sequence[_Carried]) -> list[Value]:
        """Binds each carried variable to new block arguments, one for each slot."""
        arguments: list[Value] = []
        for variable in carried:
            leaves: list[object] = []
            for slot in variable.slots:
                value = Value(slot.type, variable.name)
                arguments.append(value)
                leaf = wrap(value)
                if isinstance(leaf, Scalar):
                    leaf.weak = slot.weak
                leaves.append(leaf)
            binding = Binding(unflatten(variable.structure, iter(leaves)), variable.initial.location)
            variable.placeholders.append(binding)
            self.frame.names[variable.name] = binding
        return arguments

    def _settle(self, node: ast.AST, carried: Sequence[_Carried]) -> bool:
        """Compares the values at the end of the body with those before; False: types changed, trace again."""
        settled = True
        for variable in carried:
            binding = self.frame.names[variable.name]
            variable.poison = None
            if isinstance(binding.value, Poison):
                if variable.is_read:
                    raise Misuse(binding.value.message, binding.value.help)
                self._drop(variable, binding.value)
                continue
            leaves: list[LeafValue] = []
            structure = flatten(binding.value, leaves)
            if not same_structure(variable.structure, structure):
                before, after = show_structure(variable.structure), show_structure(structure)
                self._mismatch(node, variable, binding, before, after)
                continue
            for slot, leaf in zip(variable.slots, leaves, strict=True):
                settled &= self._settle_slot(node, variable, binding, slot, leaf)
        return settled

    def _drop(self, variable: _Carried, poison: Poison) -> None:
        variable.poison = poison
        for slot in variable.slots:
            slot.carried = False

    def _mismatch(self, node: ast.AST, variable: _Carried, binding: Binding, before: str, after: str) -> None:
        """The variable is another thing after the body: an error if the body reads it, unusable after it otherwise."""
        shape_hint = "give it the dtype and shape before the loop that it has in the loop, or use another name inside"
        if not variable.is_read:
            loop = f"the loop at line {self.location(node).line}"
            message = f"{variable.name!r} is {before} before {loop} and {after} inside: it has no value after it"
            self._drop(variable, Poison(message, shape_hint))
            return
        raise LoopTypeError(variable.name, binding, variable.initial, before, after)

    def _settle_slot(self, node: ast.AST, variable: _Carried, binding: Binding, slot: _Slot, leaf: LeafValue) -> bool:
        slot.carried = True
        slot.final = leaf
        if same_number(slot.initial, leaf) and not variable.is_read:
            slot.carried = False  # assigned the number it has
            return True
        found = leaf_type(leaf)
        if not slot.weak:
            fits = number_takes(leaf, slot.type) if isinstance(leaf, NUMBERS) else found == slot.type
            if isinstance(leaf, Scalar) and leaf.weak:
                fits = not isinstance(slot.type, ScalarType) or weak_kind_fits(found, slot.type)
            if not fits and is_weak(leaf) and is_weak(slot.initial):
                joined = joined_number_type(slot.type, found)
                if joined != slot.type:
                    slot.type = joined
                    return False
            if not fits:
                self._mismatch(node, variable, binding, show_leaf(wrap(Value(slot.type))), show_leaf(leaf))
            return True
        # A Python number before the loop: it takes the type that the body gives.
        strong = joined_number_type(slot.type, found) if is_weak(leaf) else found
        initial = slot.initial
        takes = number_takes(initial, strong) if isinstance(initial, NUMBERS) else weak_kind_fits(slot.type, strong)
        if not takes and not is_weak(leaf):
            self._mismatch(node, variable, binding, show_leaf(initial), show_leaf(leaf))
            return True
        slot.weak = False
        slot.type = strong
        return not variable.is_read

    def _operands_of(self, carried: Sequence[_Carried]) -> list[Value]:
        slots = [slot for variable in carried for slot in variable.slots if slot.carried]
        return [to_value(s.initial, s.type.dtype, shape_of(s.type) or None) for s in slots]

    def _yields_of(self, carried: Sequence[_Carried]) -> list[Value]:
        slots = [slot for variable in carried for slot in variable.slots if slot.carried]
        return [to_value(s.final, s.type.dtype, shape_of(s.type) or None) for s in slots]

    def _kept(self, carried: Sequence[_Carried], arguments: Sequence[Value]) -> tuple[Value, ...]:
        slots = [slot for variable in carried for slot in variable.slots]
        pairs = [(a, slot) for a, slot in zip(arguments, slots, strict=True) if slot.carried]
        # A slot that nothing read may have got its type only at the end of the body.
        return tuple(a if a.type == slot.type else Value(slot.type, a.name) for a, slot in pairs)

    def _bind_results(self, carried: Sequence[_Carried], results: Sequence[Value]) -> None:
        following = iter(results)
        for variable in carried:
            leaves = [wrap(next(following)) if slot.carried else slot.initial for slot in variable.slots]
            if variable.poison is not None:
                self.frame.names[variable.name] = Binding(variable.poison, variable.initial.location)
            elif any(slot.carried for slot in variable.slots):
                value = unflatten(variable.structure, iter(leaves))
                self.frame.names[variable.name] = Binding(value, variable.initial.location)
                variable.initial.read = True

    def _attempts(self, node: ast.AST, carried: list[_Carried], trace: Callable[[], bool]) -> None:
        """Traces a loop until the types of what it carries are settled."""
        before = self.frame.names
        for _ in range(8):
            self.frame.names = dict(before)
            for variable in carried:
                variable.placeholders.clear()
            try:
                if trace():
                    break
            except LoopTypeError as mismatch:
                raise self._loop_type_error(node, mismatch) from None
            except Misuse as misuse:
                raise self.error(node, misuse.message, misuse.help) from None
        else:
            raise self.error(
                node, "the types of the variables of this loop do not settle", "give them a dtype before the loop"
            )
        self.frame.names = before

    def _loop_type_error(self, node: ast.AST, mismatch: LoopTypeError) -> Exception:
        place = mismatch.binding.location
        source = self.frame.source
        error = self.error(
            node,
            f"{mismatch.name!r} changes its type in the loop: it is {mismatch.before} before it and {mismatch.after} at "
            "the end of its body",
            "a variable that a loop carries keeps its type: od.cast the new value, or begin with the dtype and shape that "
            "it gets",
            (self.note(f"{mismatch.name!r} gets its value before the loop here", mismatch.initial.location),),
        )
        error.location, error.line = place, source.line(place.line)
        return error

    def _sequential(self, node: ast.For, ranges: Sequence[Range], kind: str, depth: int) -> None:
        """One `for` op for each range, the last innermost."""
        own = target_names(node.target)
        carried = self._carried([name for name in assigned_names(node.body) if name not in own])
        outer_arguments: list[list[Value]] = []
        variables: list[Value] = []
        innermost: list[Region] = []

        def trace() -> bool:
            variables[:] = self._variables(node.target, len(ranges))
            outer_arguments[:] = [
                [Value(slot.type, c.name) for c in carried for slot in c.slots] for _ in range(len(ranges) - 1)
            ]
            innermost.clear()
            with self.captured_ops() as ops:
                arguments = self._place_holders(carried)
                self._bind_variables(node.target, variables)
                self._run_body(node.body)
                settled = self._settle(node, carried)
                if settled:
                    self.at(node)
                    self.builder.op("yield", *self._yields_of(carried))
            if settled:
                innermost.append(Region((variables[-1], *self._kept(carried, arguments)), tuple(ops)))
            return settled

        self._attempts(node, carried, trace)
        self.at(node.iter)
        operands = [self._range_operands(bounds) for bounds in ranges]
        self.at(node)
        region = innermost[0]
        attributes: dict[str, Any] = {"kind": kind, "depth": depth}
        for level in range(len(ranges) - 2, -1, -1):
            values = self._kept(carried, outer_arguments[level])
            with self.builder.region((variables[level], *values)) as outer:
                outer.close(self.builder.op("for", *operands[level + 1], *values, regions=(region,), **attributes))
            region = outer.region
        names = [c.name for c in carried for slot in c.slots if slot.carried]
        initial = self._operands_of(carried)
        results = self.builder.op("for", *operands[0], *initial, names=names, regions=(region,), **attributes)
        self._bind_results(carried, results)
        self._hide_variables(node)

    # --- while -------------------------------------------------------------------------------------------------------

    def _While(self, node: ast.While) -> None:
        if node.orelse:
            raise self.error(node.orelse[0], "`else` of a loop cannot be used in a kernel", "write it after the loop")
        carried = self._carried(assigned_names(node.body))
        regions: list[Region] = []
        never = False

        def trace() -> bool:
            nonlocal never
            regions.clear()
            with self.captured_ops() as condition_ops:
                condition_arguments = self._place_holders(carried)
                condition = self.evaluate(node.test)
                if not isinstance(condition, Runtime):
                    never = not python(bool, condition)
                    if never:
                        return True
                    raise self.error(
                        node.test,
                        f"the condition of `while` is always true: {describe(condition)}",
                        "it must depend on a variable that the body assigns; kernels have no `break`",
                    )
                self.at(node.test)
                value = truth(condition, "the condition of `while`")
                self.builder.op("yield", value.value)
            with self.captured_ops() as ops:
                arguments = self._place_holders(carried)
                self._run_body(node.body)
                settled = self._settle(node, carried)
                if settled:
                    self.at(node)
                    self.builder.op("yield", *self._yields_of(carried))
            if settled:
                regions.append(Region(self._kept(carried, condition_arguments), tuple(condition_ops)))
                regions.append(Region(self._kept(carried, arguments), tuple(ops)))
            return settled

        self._attempts(node, carried, trace)
        if never:
            return
        self.at(node)
        names = [c.name for c in carried for slot in c.slots if slot.carried]
        results = self.builder.op("while", *self._operands_of(carried), names=names, regions=regions)
        self._bind_results(carried, results)
        self._hide_inner(node, node.body)


class LoopTypeError(Exception):
    """A carried variable has another type at the end of the body."""

    def __init__(self, name: str, binding: Binding, initial: Binding, before: str, after: str) -> None:
        super().__init__(name)
        self.name = name
        self.binding = binding
        self.initial = initial
        self.before = before
        self.after = after

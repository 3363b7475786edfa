"""The variables that run-time loops carry: which they are, and the types they settle on.

A variable that a loop's body assigns and that has a value before it becomes block arguments, one for each scalar or tile
in it. The body is traced with them, then what it leaves in the variable is compared with what it began with. A Python
number has no type to begin with: it takes the one that the body gives, and the body is traced again.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from opdsl.ir.core import Value
from opdsl.ir.types import ScalarType, shape_of
from opdsl.lang.branches import Branches
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
from opdsl.lang.operators import to_value
from opdsl.lang.scope import Binding, Poison
from opdsl.lang.values import NUMBERS, Scalar, wrap
from opdsl.support.errors import Misuse

MAXIMUM_ATTEMPTS = 8


@dataclass
class Slot:
    """One leaf of a carried variable. `weak` while its type is not settled."""

    initial: LeafValue
    type: LeafType
    weak: bool
    carried: bool = True
    final: LeafValue = 0


@dataclass
class Carried:
    """A variable that is assigned in a loop and has a value before it."""

    name: str
    initial: Binding
    structure: Structure
    slots: list[Slot]
    placeholders: list[Binding] = field(default_factory=list)
    poison: Poison | None = None

    @property
    def is_read(self) -> bool:
        return any(binding.read for binding in self.placeholders)


class LoopTypeError(Exception):
    """A carried variable has another type at the end of the body."""

    def __init__(self, name: str, binding: Binding, initial: Binding, before: str, after: str) -> None:
        super().__init__(name)
        self.name = name
        self.binding = binding
        self.initial = initial
        self.before = before
        self.after = after


class CarriedLoops(Branches):
    def _carried(self, names: Sequence[str]) -> list[Carried]:
        found = []
        for name in names:
            binding = self.frame.names.get(name)
            if binding is None or isinstance(binding.value, Poison):
                continue
            leaves: list[LeafValue] = []
            structure = flatten(binding.value, leaves)
            slots = [Slot(leaf, leaf_type(leaf), is_weak(leaf)) for leaf in leaves]
            found.append(Carried(name, binding, structure, slots))
        return found

    def _place_holders(self, carried: Sequence[Carried]) -> list[Value]:
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

    def _settle(self, node: ast.AST, carried: Sequence[Carried]) -> bool:
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

    def _drop(self, variable: Carried, poison: Poison) -> None:
        variable.poison = poison
        for slot in variable.slots:
            slot.carried = False

    def _mismatch(self, node: ast.AST, variable: Carried, binding: Binding, before: str, after: str) -> None:
        """The variable is another thing after the body: an error if the body reads it, unusable after it otherwise."""
        shape_hint = "give it the dtype and shape before the loop that it has in the loop, or use another name inside"
        if not variable.is_read:
            loop = f"the loop at line {self.location(node).line}"
            message = f"{variable.name!r} is {before} before {loop} and {after} inside: it has no value after it"
            self._drop(variable, Poison(message, shape_hint))
            return
        raise LoopTypeError(variable.name, binding, variable.initial, before, after)

    def _settle_slot(self, node: ast.AST, variable: Carried, binding: Binding, slot: Slot, leaf: LeafValue) -> bool:
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

    def _operands_of(self, carried: Sequence[Carried]) -> list[Value]:
        slots = [slot for variable in carried for slot in variable.slots if slot.carried]
        return [to_value(s.initial, s.type.dtype, shape_of(s.type) or None) for s in slots]

    def _yields_of(self, carried: Sequence[Carried]) -> list[Value]:
        slots = [slot for variable in carried for slot in variable.slots if slot.carried]
        return [to_value(s.final, s.type.dtype, shape_of(s.type) or None) for s in slots]

    def _kept(self, carried: Sequence[Carried], arguments: Sequence[Value]) -> tuple[Value, ...]:
        slots = [slot for variable in carried for slot in variable.slots]
        pairs = [(a, slot) for a, slot in zip(arguments, slots, strict=True) if slot.carried]
        # A slot that nothing read may have got its type only at the end of the body.
        return tuple(a if a.type == slot.type else Value(slot.type, a.name) for a, slot in pairs)

    def _bind_results(self, carried: Sequence[Carried], results: Sequence[Value]) -> None:
        following = iter(results)
        for variable in carried:
            leaves = [wrap(next(following)) if slot.carried else slot.initial for slot in variable.slots]
            if variable.poison is not None:
                self.frame.names[variable.name] = Binding(variable.poison, variable.initial.location)
            elif any(slot.carried for slot in variable.slots):
                value = unflatten(variable.structure, iter(leaves))
                self.frame.names[variable.name] = Binding(value, variable.initial.location)
                variable.initial.read = True

    def _attempts(self, node: ast.AST, carried: list[Carried], trace: Callable[[], bool]) -> None:
        """Traces a loop until the types of what it carries are settled."""
        before = self.frame.names
        for _ in range(MAXIMUM_ATTEMPTS):
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

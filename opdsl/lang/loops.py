"""`for` and `while` statements."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

from opdsl.ir.core import Region, Value
from opdsl.ir.types import ScalarType, i64
from opdsl.lang.builtins_control import Loop
from opdsl.lang.carried import CarriedLoops
from opdsl.lang.constexprs import python
from opdsl.lang.operators import index_scalar, truth
from opdsl.lang.scope import Binding, Poison, assigned_names, target_names
from opdsl.lang.values import Runtime, RuntimeRange, Scalar, describe

Range = range | RuntimeRange


class Break(Exception):
    """A `break` of an unrolled loop."""


class Continue(Exception):
    """A `continue` of an unrolled loop."""


class Loops(CarriedLoops):
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

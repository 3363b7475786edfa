"""Statements other than loops and branches."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from opdsl.lang.calls import Return
from opdsl.lang.constexprs import PythonFailure, python
from opdsl.lang.loops import Break, Continue, Loops
from opdsl.lang.scope import Binding
from opdsl.lang.values import Place, Runtime, TensorView, Tile, describe
from opdsl.support.errors import CompileError, Misuse


class Statements(Loops):
    def __init__(self) -> None:
        super().__init__()
        self._runners: dict[type[ast.AST], Callable[[Any], object]] = {}

    def execute(self, statements: Sequence[ast.stmt]) -> None:
        for node in statements:
            kind = type(node)
            runner = self._runners.get(kind)
            if runner is None:
                runner = getattr(self, f"_{kind.__name__}", None) or self.unsupported
                self._runners[kind] = runner
            try:
                runner(node)
            except Misuse as misuse:
                raise self.error(node, misuse.message, misuse.help) from None
            except PythonFailure as failure:
                cause = failure.cause
                raise self.error(
                    node,
                    f"{type(cause).__name__}: {cause}",
                    "this is raised while compiling, for these dtypes and constexprs",
                ) from cause

    def _Expr(self, node: ast.Expr) -> None:
        value = self.evaluate(node.value)
        if isinstance(value, Place):
            raise self.error(node, f"{describe(value)} is named but nothing is done with it", "read it with od.copy_in")

    def _Pass(self, node: ast.Pass) -> None:
        pass

    def _Assign(self, node: ast.Assign) -> None:
        value = self.evaluate(node.value)
        for target in node.targets:
            self.assign(target, value, target)

    def _AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.assign(node.target, self.evaluate(node.value), node.target)

    def _AugAssign(self, node: ast.AugAssign) -> None:
        target = node.target
        if isinstance(target, ast.Name):
            try:
                left = self.frame.lookup(target.id)
            except Misuse as misuse:
                raise self.error(target, misuse.message, misuse.help) from None
            self.bind(target.id, self.binary(node, node.op, left, self.evaluate(node.value)), target)
            return
        if isinstance(target, ast.Subscript):
            owner = self.evaluate(target.value)
            if isinstance(owner, TensorView | Tile | Place):
                self._refuse_store(target, owner)
            index = self.index_items(target.slice)
            value = self.binary(node, node.op, python(lambda: owner[index]), self.evaluate(node.value))
            self._store(target, owner, index, value)
            return
        raise self.error(
            target,
            "an attribute cannot be assigned in a kernel",
            "objects from outside are read only here; use a variable",
        )

    def assign(self, target: ast.expr, value: object, node: ast.AST) -> None:
        if isinstance(target, ast.Name):
            self.bind(target.id, value, target)
        elif isinstance(target, ast.Tuple | ast.List):
            self._unpack(target, value)
        elif isinstance(target, ast.Subscript):
            owner = self.evaluate(target.value)
            if isinstance(owner, Runtime):
                self._refuse_store(target, owner)
            self._store(target, owner, self.index_items(target.slice), value)
        else:
            raise self.error(
                target,
                "an attribute cannot be assigned in a kernel",
                "objects from outside are read only here; use a variable",
            )

    def _unpack(self, target: ast.Tuple | ast.List, value: object) -> None:
        items = self.iterate(value, target)
        stars = [place for place, part in enumerate(target.elts) if isinstance(part, ast.Starred)]
        wanted = len(target.elts)
        if len(items) != wanted if not stars else len(items) < wanted - 1:
            least = "at least " if stars else ""
            raise self.error(
                target,
                f"{len(items)} value{'s' * (len(items) != 1)} for {least}{wanted - len(stars)} names",
                "name each of them; `_` for what is not needed",
            )
        if stars:
            (place,) = stars
            end = len(items) - (wanted - place - 1)
            items = [*items[:place], items[place:end], *items[end:]]
        for part, item in zip(target.elts, items, strict=True):
            self.assign(part.value if isinstance(part, ast.Starred) else part, item, part)

    def _refuse_store(self, target: ast.Subscript, owner: Runtime) -> NoReturn:
        name = ast.unparse(target.value)
        if isinstance(owner, TensorView):
            raise self.error(
                target,
                f"{describe(owner)} is assigned with `=`; global memory is written with od.copy_out only",
                f"write od.copy_out(value, {ast.unparse(target)})",
            )
        raise self.error(
            target,
            f"part of {describe(owner)} is assigned; tiles are values and do not change",
            f"make a new tile: {name} = od.where(condition, value, {name}), or od.concat of parts",
        )

    def _store(self, target: ast.Subscript, owner: Any, index: object, value: object) -> None:
        try:
            self.check_mutation(owner)
        except Misuse as misuse:
            raise self.error(target, misuse.message, misuse.help) from None
        python(lambda: owner.__setitem__(index, value))

    def _Delete(self, node: ast.Delete) -> None:
        for target in node.targets:
            if not isinstance(target, ast.Name):
                raise self.error(target, "only variables can be deleted in a kernel")
            if self.frame.names.pop(target.id, None) is None:
                raise self.error(target, f"the name {target.id!r} is not defined")

    def _FunctionDef(self, node: ast.FunctionDef) -> None:
        for decorator in node.decorator_list:
            name = getattr(self.evaluate(decorator), "__name__", "")
            if name != "function":
                raise self.error(
                    decorator, "an inner function has a decorator", "leave it out: inner functions are inlined"
                )
        self.frame.names[node.name] = Binding(self.local_function(node), self.location(node))

    def _Return(self, node: ast.Return) -> None:
        if not self.calls:
            if node.value is not None and not (isinstance(node.value, ast.Constant) and node.value.value is None):
                raise self.error(
                    node, "a kernel returns nothing", "write results to a tensor argument with od.copy_out"
                )
            if self.depth:
                raise self.error(
                    node,
                    "`return` inside of a run-time loop or branch",
                    "put what follows into the other branch of the `if`; constexpr conditions may return early",
                )
            raise Return(None)
        if self.depth > self.frame.entry_depth:
            raise self.error(
                node,
                "`return` inside of a run-time loop or branch",
                "choose the value with `a if condition else b` or od.where, and return once at the end",
            )
        raise Return(None if node.value is None else self.evaluate(node.value))

    def _Break(self, node: ast.Break) -> None:
        if not self.static_loops:
            raise self.error(
                node,
                "`break` out of a run-time loop",
                "put the condition into a `while`, or bound the range: od.minimum(stop, N)",
            )
        raise Break

    def _Continue(self, node: ast.Continue) -> None:
        if not self.static_loops:
            raise self.error(
                node,
                "`continue` in a run-time loop",
                "put the rest of the body under an `if` with the opposite condition",
            )
        raise Continue

    def _Assert(self, node: ast.Assert) -> None:
        raise self.error(
            node,
            "`assert` in a kernel",
            "use od.assert_(condition, message) for run-time values, od.static_assert for constexprs",
        )

    def _Raise(self, node: ast.Raise) -> None:
        if self.depth > (self.frame.entry_depth if self.calls else 0):
            raise self.error(node, "`raise` under a run-time condition", "use od.assert_(condition, message)")
        exception = self.evaluate(node.exc) if node.exc is not None else None
        if isinstance(exception, type) and issubclass(exception, Exception):
            exception = python(exception)
        if not isinstance(exception, Exception):
            raise self.error(node, "`raise` without an exception", "use od.static_assert(condition, message)")
        if isinstance(exception, CompileError):
            raise exception
        raise PythonFailure(exception)

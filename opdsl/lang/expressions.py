"""Expressions: each is evaluated to a Python object (known while compiling) or to a run-time value."""

from __future__ import annotations

import ast
import itertools
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

from opdsl.ir.builder import Builder
from opdsl.ir.ops import IrError
from opdsl.lang import builtins_reduce, indexing, operators
from opdsl.lang.attributes import runtime_attribute
from opdsl.lang.builtins_control import Loop
from opdsl.lang.constexprs import BINARY, COMPARE, CONVERSIONS, UNARY, UNSUPPORTED, PythonFailure, python
from opdsl.lang.foreign_names import equivalent
from opdsl.lang.scope import Binding, Frame, LocalFunction
from opdsl.lang.values import Runtime, RuntimeRange, Scalar, Text, Tile, describe, holds_runtime
from opdsl.support.errors import CompileError, Misuse, Note, UsageError, suggestion
from opdsl.support.location import Location


class Expressions:
    """The evaluator of expressions. Calls, statements and control flow are in the classes that derive from it."""

    def __init__(self) -> None:
        self.builder = Builder()
        self.frame: Frame
        self.calls: list[tuple[Frame, ast.AST]] = []  # the calls that led to this frame, outermost first
        self.depth = 0  # run-time regions that are open
        self.region = 0  # the number of the innermost one; 0 outside of all
        self._handlers: dict[type[ast.AST], Callable[[Any], object]] = {}

    # --- errors ------------------------------------------------------------------------------------------------------

    def location(self, node: ast.AST) -> Location:
        return self.frame.source.location(node)

    def at(self, node: ast.AST) -> None:
        """The ops that follow come from `node`."""
        self.builder.location = self.frame.source.location(node)

    def error(self, node: ast.AST, message: str, help: str = "", notes: Sequence[Note] = ()) -> CompileError:
        location = self.location(node)
        source = self.frame.source
        return CompileError(message, location, source.line(location.line), help, (*notes, *self._led()))

    def _led(self) -> list[Note]:
        """The calls that led here, innermost first; of many only the first ones and the last."""
        calls = self.calls[::-1]
        if len(calls) > 5:
            calls = [*calls[:3], calls[-1]]
        places = [(frame.source, frame.source.location(call)) for frame, call in calls]
        return [Note("called from here", place, source.line(place.line)) for source, place in places]

    def misuse_at(self, node: ast.AST, misuse: Misuse, parts: Iterable[tuple[object, ast.AST]]) -> CompileError:
        """The error of a misuse: at the part of the node whose value is at fault, or at the node."""
        if misuse.subject is not None:
            node = next((part for value, part in parts if value is misuse.subject), node)
        return self.error(node, misuse.message, misuse.help)

    def note(self, message: str, location: Location) -> Note:
        return Note(message, location, self.frame.source.line(location.line))

    def unsupported(self, node: ast.AST) -> NoReturn:
        name = type(node).__name__
        shown = UNSUPPORTED.get(name, (f"`{name}`", "see docs/language.md for what a kernel may contain"))
        raise self.error(node, f"{shown[0]} cannot be used in a kernel", shown[1])

    # --- evaluation --------------------------------------------------------------------------------------------------

    def evaluate(self, node: ast.expr) -> Any:
        kind = type(node)
        handler = self._handlers.get(kind)
        if handler is None:
            handler = getattr(self, f"_{kind.__name__}", None) or self.unsupported
            self._handlers[kind] = handler
        try:
            return handler(node)
        except CompileError:
            raise
        except Misuse as misuse:
            raise self.error(node, misuse.message, misuse.help) from None
        except PythonFailure as failure:
            cause = failure.cause
            message = f"{type(cause).__name__}: {cause}" if str(cause) else type(cause).__name__
            raise self.error(node, message, "this is computed while compiling, by Python") from cause
        except UsageError as usage:
            raise self.error(node, usage.message, usage.help) from None
        except IrError as error:
            raise self.error(node, str(error)) from None

    def _Constant(self, node: ast.Constant) -> object:
        return node.value

    def _Name(self, node: ast.Name) -> object:
        return self.frame.lookup(node.id)

    def elements(self, nodes: Iterable[ast.expr]) -> list[Any]:
        found: list[Any] = []
        for node in nodes:
            if isinstance(node, ast.Starred):
                found.extend(self.iterate(self.evaluate(node.value), node))
            else:
                found.append(self.evaluate(node))
        return found

    def _Tuple(self, node: ast.Tuple) -> object:
        return tuple(self.elements(node.elts))

    def _List(self, node: ast.List) -> object:
        return self.own(self.elements(node.elts))

    def _Set(self, node: ast.Set) -> object:
        return python(set, self.elements(node.elts))

    def _Dict(self, node: ast.Dict) -> object:
        found: dict[Any, Any] = {}
        for key, value in zip(node.keys, node.values, strict=True):
            if key is None:
                python(found.update, self.evaluate(value))
            else:
                python(found.__setitem__, self.evaluate(key), self.evaluate(value))
        return self.own(found)

    def own(self, container: Any) -> Any:
        """Hook: notes in which region a list or dict was made."""
        return container

    def iterate(self, value: object, node: ast.AST) -> list[Any]:
        """The elements of something that is walked while compiling."""
        if isinstance(value, Loop) and value.kind == "unrolled":
            if len(value.ranges) == 1:
                return list(value.ranges[0])
            return list(itertools.product(*value.ranges))
        if isinstance(value, Tile | Scalar):
            raise self.error(
                node, f"{describe(value)} is not a sequence", "slice it (t[0], t[0:4]) or use od.split(t, parts)"
            )
        if isinstance(value, RuntimeRange | Loop):
            raise self.error(
                node,
                f"{describe(value)} cannot be walked while compiling",
                "write it as the range of a `for` statement",
            )
        if isinstance(value, Runtime) or not isinstance(value, Iterable):
            raise self.error(
                node, f"{describe(value)} is not a sequence", "a tuple, a list, a range or a tensor's shape is one"
            )
        try:
            return list(python(list, value))
        except PythonFailure as failure:
            cause = failure.cause
            raise self.error(node, f"{type(cause).__name__}: {cause}") from cause

    def _BinOp(self, node: ast.BinOp) -> object:
        left, right = self.evaluate(node.left), self.evaluate(node.right)
        try:
            return self.binary(node, node.op, left, right)
        except Misuse as misuse:
            raise self.misuse_at(node, misuse, ((left, node.left), (right, node.right))) from None

    def binary(self, node: ast.AST, op: ast.operator, left: object, right: object) -> object:
        name, on_python = BINARY[type(op)]
        if not isinstance(left, Runtime) and not isinstance(right, Runtime):
            return python(on_python, left, right)
        self.at(node)
        if name == "dot":
            return builtins_reduce.dot(left, right)  # type: ignore[arg-type]
        return operators.binary(name, left, right)

    def _UnaryOp(self, node: ast.UnaryOp) -> object:
        value = self.evaluate(node.operand)
        if not isinstance(value, Runtime):
            return python(UNARY[type(node.op)], value)
        self.at(node)
        if isinstance(node.op, ast.USub):
            return operators.negate(value)
        if isinstance(node.op, ast.Invert):
            return operators.invert(value)
        if isinstance(node.op, ast.Not):
            return operators.invert(operators.truth(value, "the operand of `not`"))
        return operators.check_operand(value, "the operand of +")

    def _BoolOp(self, node: ast.BoolOp) -> object:
        is_and = isinstance(node.op, ast.And)
        name = "and" if is_and else "or"
        found: Scalar | None = None
        value: object = is_and
        for part in node.values:
            value = self.evaluate(part)
            if isinstance(value, Runtime):
                self.at(part)
                try:
                    scalar = operators.truth(value, f"an operand of `{name}`")
                except Misuse as misuse:
                    raise self.error(part, misuse.message, misuse.help) from None
                self.at(node)
                both = None if found is None else operators.binary(name, found, scalar)
                found = scalar if both is None else both  # type: ignore[assignment]
            elif bool(python(bool, value)) != is_and:
                return value if found is None else not is_and
        return value if found is None else found

    def _Compare(self, node: ast.Compare) -> object:
        left_node = node.left
        left = self.evaluate(left_node)
        found: object = None
        for op, right_node in zip(node.ops, node.comparators, strict=True):
            right = self.evaluate(right_node)
            self.at(node)
            try:
                result = self._compared(op, left, right)
            except Misuse as misuse:
                raise self.misuse_at(node, misuse, ((left, left_node), (right, right_node))) from None
            left, left_node = right, right_node
            if not isinstance(result, Runtime) and not python(bool, result):
                return result
            if isinstance(found, Runtime) and isinstance(result, Runtime):
                found = operators.binary("and", found, result)
            elif found is None or isinstance(result, Runtime):
                found = result
        return found

    def _compared(self, op: ast.cmpop, left: object, right: object) -> object:
        if isinstance(op, ast.Is | ast.IsNot):
            return (left is right) == isinstance(op, ast.Is)
        if isinstance(op, ast.In | ast.NotIn):
            if holds_runtime(left) or holds_runtime(right):
                raise Misuse("`in` with a run-time value", "compare with each: (x == a) | (x == b), or od.any(t == x)")
            return python(operator.contains, right, left) == isinstance(op, ast.In)
        name, on_python = COMPARE[type(op)]
        if isinstance(left, Runtime) or isinstance(right, Runtime):
            return operators.compare(name, left, right)
        return python(on_python, left, right)

    def _IfExp(self, node: ast.IfExp) -> object:
        condition = self.evaluate(node.test)
        if isinstance(condition, Runtime):
            return self.choose(node, condition)
        return self.evaluate(node.body if python(bool, condition) else node.orelse)

    def choose(self, node: ast.IfExp, condition: Runtime) -> object:
        raise NotImplementedError

    def _Attribute(self, node: ast.Attribute) -> object:
        value = self.evaluate(node.value)
        if isinstance(value, Runtime):
            self.at(node)
            return runtime_attribute(value, node.attr)
        try:
            return getattr(value, node.attr)
        except AttributeError:
            name = getattr(value, "__name__", "")
            owner = f"the module {name!r}" if isinstance(value, type(ast)) else describe(value)
            raise Misuse(
                f"{owner} has no attribute {node.attr!r}",
                (equivalent(node.attr) if name == "opdsl" else "")
                or suggestion(node.attr, [n for n in dir(value) if not n.startswith("_")])
                or "check what stands before the dot",
            ) from None
        except Exception as cause:
            raise PythonFailure(cause) from cause

    def index_items(self, node: ast.expr) -> object:
        """An index: one item, or a tuple of them."""
        if isinstance(node, ast.Tuple):
            return tuple(self.elements(node.elts))
        return self.evaluate(node)

    def _Slice(self, node: ast.Slice) -> object:
        parts = [None if part is None else self.evaluate(part) for part in (node.lower, node.upper, node.step)]
        return slice(*parts)

    def _Subscript(self, node: ast.Subscript) -> object:
        value = self.evaluate(node.value)
        index = self.index_items(node.slice)
        self.at(node)
        if isinstance(value, Runtime) or holds_runtime(index):
            items = index if isinstance(index, tuple) else (index,)
            try:
                return indexing.subscript(value, items)
            except Misuse as misuse:
                nodes = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
                raise self.misuse_at(node, misuse, zip(items, nodes, strict=False)) from None
        return python(operator.getitem, value, index)

    def _JoinedStr(self, node: ast.JoinedStr) -> object:
        parts: list[object] = []
        for part in node.values:
            if isinstance(part, ast.FormattedValue):
                value = self.evaluate(part.value)
                if holds_runtime(value):
                    if part.format_spec is not None:
                        raise self.error(
                            part, "a run-time value in an f-string has no format", "leave out what follows the `:`"
                        )
                    parts.append(value)
                    continue
                spec = "" if part.format_spec is None else str(self.evaluate(part.format_spec))
                convert = CONVERSIONS.get(part.conversion)
                parts.append(python(format, value if convert is None else python(convert, value), spec))
            else:
                parts.append(self.evaluate(part))
        if any(map(holds_runtime, parts)):
            return Text(tuple(parts))
        return "".join(map(str, parts))

    def _Lambda(self, node: ast.Lambda) -> object:
        return self.local_function(node)

    def local_function(self, node: ast.Lambda | ast.FunctionDef) -> LocalFunction:
        defaults = tuple(self.evaluate(d) for d in node.args.defaults)
        pairs = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
        return LocalFunction(node, self.frame, defaults, {a.arg: self.evaluate(d) for a, d in pairs if d is not None})

    def _NamedExpr(self, node: ast.NamedExpr) -> object:
        value = self.evaluate(node.value)
        self.bind(node.target.id, value, node)
        return value

    def bind(self, name: str, value: object, node: ast.AST) -> None:
        """Gives a name a value; the SSA value takes the name for printing if it has none."""
        if isinstance(value, Scalar | Tile) and not value.value.name:
            # The value is new and its name is a hint that nothing compares: the one place where a node is changed.
            object.__setattr__(value.value, "name", name)
        self.frame.names[name] = Binding(value, self.location(node))

    # --- comprehensions ----------------------------------------------------------------------------------------------

    def _comprehension(self, generators: Sequence[ast.comprehension], collect: Callable[[], None]) -> None:
        if not generators:
            collect()
            return
        first, *rest = generators
        for item in self.iterate(self.evaluate(first.iter), first.iter):
            self.assign(first.target, item, first.target)
            if all(self._static_truth(test) for test in first.ifs):
                self._comprehension(rest, collect)

    def _static_truth(self, test: ast.expr) -> bool:
        value = self.evaluate(test)
        if isinstance(value, Runtime):
            raise self.error(
                test, "the condition of a comprehension is a run-time value", "use od.where on the elements"
            )
        return bool(python(bool, value))

    def _collected(self, generators: Sequence[ast.comprehension], collect: Callable[[], None]) -> None:
        before = dict(self.frame.names)
        try:
            self._comprehension(generators, collect)
        finally:
            self.frame.names = before

    def _ListComp(self, node: ast.ListComp | ast.GeneratorExp) -> object:
        found: list[Any] = []
        self._collected(node.generators, lambda: found.append(self.evaluate(node.elt)))
        return self.own(found)

    _GeneratorExp = _ListComp

    def _SetComp(self, node: ast.SetComp) -> object:
        found: set[Any] = set()
        self._collected(node.generators, lambda: python(found.add, self.evaluate(node.elt)))
        return found

    def _DictComp(self, node: ast.DictComp) -> object:
        found: dict[Any, Any] = {}
        self._collected(
            node.generators, lambda: python(found.__setitem__, self.evaluate(node.key), self.evaluate(node.value))
        )
        return self.own(found)

    def assign(self, target: ast.expr, value: object, node: ast.AST) -> None:
        raise NotImplementedError

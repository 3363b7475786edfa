"""Calls: built-ins, inlined functions, dtypes as casts, and Python functions on values known while compiling."""

from __future__ import annotations

import ast
import builtins
import functools
import inspect
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from types import BuiltinMethodType, FunctionType
from typing import Any

from opdsl.ir.types import DType, bool_, f32, i64
from opdsl.lang import builtins_math
from opdsl.lang.attributes import Method, find_builtin
from opdsl.lang.constexprs import python
from opdsl.lang.context import builtin_name
from opdsl.lang.expressions import Expressions
from opdsl.lang.foreign_names import equivalent, keyword_help
from opdsl.lang.function import Function
from opdsl.lang.operators import cast_operand, check_operand
from opdsl.lang.scope import Binding, Frame, LocalFunction, bind_arguments
from opdsl.lang.values import Runtime, RuntimeRange, Scalar, Tile, describe, holds_runtime
from opdsl.support.errors import Misuse

MAXIMUM_CALL_DEPTH = 64

# Python's own functions that only hold or order their arguments, so that run-time values may pass through.
_HOLDERS: tuple[object, ...] = (
    *(enumerate, zip, list, tuple, reversed, isinstance, type, dict),
    *(operator.itemgetter, hasattr, id),
)
# Python's own functions that have a counterpart for run-time values.
_COUNTERPARTS: dict[object, Callable[..., Any]] = {abs: builtins_math.abs_, pow: builtins_math.pow_}
_PAIRWISE: dict[object, Callable[..., Any]] = {min: builtins_math.minimum, max: builtins_math.maximum}
_CASTS: dict[object, DType] = {int: i64, float: f32, bool: bool_}
_HINTS: dict[object, str] = {
    print: "use od.print",
    sum: "use od.sum for the elements of a tile, or add in a loop",
    round: "use od.round",
    any: "use od.any",
    all: "use od.all",
    sorted: "use od.sort",
    divmod: "write a // b and a % b",
    str: "give it to od.print as it is",
    repr: "give it to od.print as it is",
}
_MUTATORS = frozenset(
    {"append", "extend", "insert", "pop", "clear", "remove", "reverse", "sort", "update", "setdefault"}
)


class Return(Exception):
    """A `return` of a function that is being inlined."""

    def __init__(self, value: object) -> None:
        self.value = value


@functools.cache
def _signature(function: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(function)


class Calls(Expressions):
    def __init__(self) -> None:
        super().__init__()
        self._homes: dict[int, tuple[int, Any]] = {}  # the region each list or dict of the kernel was made in

    def own(self, container: Any) -> Any:
        self._homes[id(container)] = (self.region, container)
        return container

    def check_mutation(self, container: object) -> None:
        """A list that a run-time loop or branch changes would keep values of one try of it."""
        home = self._homes.get(id(container))
        if self.depth and (home is None or home[0] != self.region):
            raise Misuse(
                f"a {type(container).__name__} from outside of a run-time loop or branch is changed inside",
                "loop with od.unrolled, or keep the values in variables or in one tile",
            )

    def _Call(self, node: ast.Call) -> object:
        function = self.evaluate(node.func)
        positional = self.elements(node.args)
        keywords: dict[str, object] = {}
        for keyword in node.keywords:
            value = self.evaluate(keyword.value)
            if keyword.arg is None:
                if not isinstance(value, Mapping):
                    raise self.error(keyword, f"`**` takes a dict, not {describe(value)}")
                keywords.update(value)
            else:
                keywords[keyword.arg] = value
        self.at(node)
        try:
            return self.apply(node, function, positional, keywords)
        except Misuse as misuse:
            nodes: list[ast.AST] = list(node.args)
            if any(isinstance(part, ast.Starred) for part in nodes):
                nodes = []
            parts = [
                *zip(positional, nodes, strict=False),
                *((keywords.get(k.arg or ""), k.value) for k in node.keywords),
            ]
            raise self.misuse_at(node, misuse, parts) from None

    def call(self, function: object, arguments: Sequence[object]) -> object:
        """For built-ins that take functions. The call has the place of the built-in's own."""
        return self.apply(self._builtin_call, function, list(arguments), {})

    _builtin_call: ast.AST

    def apply(self, node: ast.AST, function: Any, positional: list[Any], keywords: dict[str, Any]) -> object:
        if isinstance(function, Method):
            positional = [function.owner, *positional]
            function = function.function
        name = builtin_name(function)
        if name is not None:
            return self._apply_builtin(node, name, function, positional, keywords)
        if isinstance(function, Function):
            source = function.source
            plain = function.function
            cells = dict(zip(plain.__code__.co_freevars, plain.__closure__ or (), strict=True))
            frame = Frame(source, plain.__globals__, cells, self.depth)
            arguments = (plain.__defaults__ or (), plain.__kwdefaults__ or {})
            return self._inline(node, frame, source.node, arguments, positional, keywords, function.__name__)
        if isinstance(function, LocalFunction):
            outer = function.frame
            frame = Frame(outer.source, outer.globals, {}, self.depth, outer)
            captured = (function.defaults, function.keyword_defaults)
            return self._inline(node, frame, function.node, captured, positional, keywords, function.__name__)
        if isinstance(function, DType):
            if len(positional) != 1 or keywords:
                raise Misuse(f"od.{function}(...) takes one value, to cast it", f"write od.{function}(x)")
            return cast_operand(check_operand(positional[0], "the value to cast"), function)
        if isinstance(function, Runtime):
            raise Misuse(
                f"{describe(function)} is called as a function", "index it with [ ], or check for a missing operator"
            )
        if function is builtins.range:
            return self._range(positional, keywords)
        if function is builtins.breakpoint:
            self._breakpoint()
            return None
        if not callable(function):
            raise Misuse(
                f"{describe(function)} is called, but is not a function", "check what stands before the parentheses"
            )
        if getattr(function, "opdsl_kernel", False):
            raise Misuse(
                f"the kernel {function.__name__!r} is called inside of a kernel",
                "make what both need an @od.function, or call the kernels one after the other from the host",
            )
        if holds_runtime(positional) or holds_runtime(keywords):
            return self._python_on_runtime(function, positional, keywords)
        if getattr(function, "__module__", "") == "opdsl.runtime.memory":
            raise Misuse(f"od.{function.__name__} makes arrays, outside of kernels", equivalent(function.__name__))
        owner = getattr(function, "__self__", None)
        if isinstance(owner, list | dict | set) and getattr(function, "__name__", "") in _MUTATORS:
            self.check_mutation(owner)
        return python(function, *positional, **keywords)

    def _apply_builtin(
        self, node: ast.AST, name: str, function: Callable[..., Any], positional: list[Any], keywords: dict[str, Any]
    ) -> object:
        signature = _signature(function)
        try:
            signature.bind(*positional, **keywords)
        except TypeError as error:
            shown = ", ".join(str(p).split(":")[0].split(" =")[0] for p in signature.parameters.values())
            accepted = [word for word in keywords if word not in signature.parameters]
            help = keyword_help(name, accepted) or f"its parameters are ({shown})"
            raise Misuse(f"od.{name}: {error}", help) from None
        before, self._builtin_call = getattr(self, "_builtin_call", node), node
        try:
            return function(*positional, **keywords)
        except (ValueError, OverflowError, ZeroDivisionError, TypeError) as error:
            if holds_runtime(positional) or holds_runtime(keywords):
                raise
            given = ", ".join(map(describe, positional))
            raise Misuse(f"od.{name}({given}): {error}", "this is computed while compiling, by Python") from None
        finally:
            self._builtin_call = before

    def _inline(
        self,
        node: ast.AST,
        frame: Frame,
        function: ast.FunctionDef | ast.Lambda,
        defaults: tuple[Sequence[object], Mapping[str, object]],
        positional: Sequence[object],
        keywords: Mapping[str, object],
        name: str,
    ) -> object:
        if len(self.calls) >= MAXIMUM_CALL_DEPTH:
            raise Misuse(
                f"calls of od.functions are nested more than {MAXIMUM_CALL_DEPTH} deep (in {name!r})",
                "functions are inlined: one that calls itself must stop at a condition on constexprs",
            )
        bound = bind_arguments(function.args, *defaults, positional, keywords, f"{name!r}")
        place = frame.source.location(function)
        frame.names = {key: Binding(value, place) for key, value in bound.items()}
        caller, location = self.frame, self.builder.location
        self.calls.append((caller, node))
        self.frame = frame
        try:
            if isinstance(function, ast.Lambda):
                return self.evaluate(function.body)
            self.execute(function.body)
            return None
        except Return as result:
            return result.value
        finally:
            self.frame = caller
            self.calls.pop()
            self.builder.location = location

    def execute(self, statements: Sequence[ast.stmt]) -> None:
        raise NotImplementedError

    def _range(self, positional: list[Any], keywords: dict[str, Any]) -> object:
        if keywords or not 1 <= len(positional) <= 3:
            raise Misuse("range takes 1 to 3 numbers", "write range(stop) or range(start, stop, step)")
        bounds: list[Scalar | int] = []
        for value in positional:
            bound = check_operand(value, "a bound of range")
            if isinstance(bound, Tile | float | bool) or (isinstance(bound, Scalar) and not bound.dtype.is_integer):
                raise Misuse(
                    f"a bound of range is {describe(bound)}, where an integer is needed",
                    "use // for / to stay with integers",
                )
            bounds.append(bound)
        if not any(isinstance(b, Scalar) for b in bounds):
            return python(range, *bounds)
        if len(bounds) == 1:
            bounds = [0, *bounds]
        if len(bounds) == 2:
            bounds = [*bounds, 1]
        if type(bounds[2]) is int and bounds[2] == 0:
            raise Misuse("the step of range is 0", "give a step of at least 1, or a negative one to count down")
        return RuntimeRange(*bounds)

    def _breakpoint(self) -> None:
        """Stops the interpreter here with the tiles and scalars that have names; other targets go on."""
        seen = {k: b.value.value for k, b in self.frame.names.items() if isinstance(b.value, Scalar | Tile)}
        self.builder.op("breakpoint", *seen.values(), variables=tuple(seen))

    def _python_on_runtime(self, function: Any, positional: list[Any], keywords: dict[str, Any]) -> object:
        if function is len:
            value = positional[0]
            shape = getattr(value, "shape", None) if isinstance(value, Runtime) else None
            if shape == ():
                raise Misuse(f"{describe(value)} has no len()", "a tile has; t.size is 1 for a scalar")
            return len(value) if shape is None else shape[0]
        if function in _COUNTERPARTS:
            return _COUNTERPARTS[function](*positional, **keywords)
        if function in _PAIRWISE and len(positional) > 1 and not keywords:
            return functools.reduce(_PAIRWISE[function], positional)
        if function in _CASTS and len(positional) == 1:
            return cast_operand(check_operand(positional[0], "the value to convert"), _CASTS[function])
        if function is reversed and any(isinstance(value, RuntimeRange) for value in positional):
            raise Misuse("reversed(...) of a run-time range", equivalent("reversed"))
        if (isinstance(function, type(len)) and function in _HOLDERS) or function in _HOLDERS:
            if function is isinstance or function is type:
                raise Misuse(
                    "the type of a run-time value is asked for", "compare its dtype or shape: t.dtype == od.f32"
                )
            result = python(function, *positional, **keywords)
            return self.own(result) if isinstance(result, list | dict) else result
        owner = getattr(function, "__self__", None)
        if isinstance(function, BuiltinMethodType) and isinstance(owner, list | dict | tuple):
            if function.__name__ in _MUTATORS:
                self.check_mutation(owner)
            return python(function, *positional, **keywords)
        raise Misuse(*self._refusal(function))

    def _refusal(self, function: Any) -> tuple[str, str]:
        name = getattr(function, "__name__", type(function).__name__)
        module = getattr(function, "__module__", "") or ""
        hashable = getattr(type(function), "__hash__", None) is not None
        if hashable and function in _HINTS:
            return f"Python's {name!r} is called with a run-time value", _HINTS[function]
        counterpart = find_builtin(name)
        if builtin_name(counterpart) and (module.startswith(("math", "numpy")) or isinstance(function, type(math.exp))):
            return f"{module or 'Python'}.{name} is called with a run-time value", f"use od.{builtin_name(counterpart)}"
        if module.startswith("numpy") and equivalent(name):
            return f"{module}.{name} is called with a run-time value", equivalent(name)
        shown = "the lambda" if name == "<lambda>" else f"the Python function {name!r}"
        if isinstance(function, FunctionType):
            form = "write it as od.function(lambda ...)" if name == "<lambda>" else "decorate it with @od.function"
            hint = f"{form}; plain Python functions take only values known while compiling"
            return f"{shown} is called with a run-time value", hint
        return (
            f"{name!r} ({type(function).__name__}) is called with a run-time value",
            "only built-ins of opdsl and functions with @od.function take run-time values",
        )

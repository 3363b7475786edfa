"""The constexpr side of the evaluator: what Python computes while a kernel is compiled, and what kernels may not hold."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

from opdsl.support.errors import Misuse, OpdslError

BINARY: dict[type[ast.operator], tuple[str, Callable[[Any, Any], Any]]] = {
    ast.Add: ("add", operator.add),
    ast.Sub: ("sub", operator.sub),
    ast.Mult: ("mul", operator.mul),
    ast.Div: ("div", operator.truediv),
    ast.FloorDiv: ("floordiv", operator.floordiv),
    ast.Mod: ("mod", operator.mod),
    ast.Pow: ("pow", operator.pow),
    ast.BitAnd: ("and", operator.and_),
    ast.BitOr: ("or", operator.or_),
    ast.BitXor: ("xor", operator.xor),
    ast.LShift: ("shl", operator.lshift),
    ast.RShift: ("shr", operator.rshift),
    ast.MatMult: ("dot", operator.matmul),
}
UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
    ast.Invert: operator.invert,
    ast.Not: operator.not_,
}
COMPARE: dict[type[ast.cmpop], tuple[str, Callable[[Any, Any], Any]]] = {
    ast.Eq: ("eq", operator.eq),
    ast.NotEq: ("ne", operator.ne),
    ast.Lt: ("lt", operator.lt),
    ast.LtE: ("le", operator.le),
    ast.Gt: ("gt", operator.gt),
    ast.GtE: ("ge", operator.ge),
}
CONVERSIONS: dict[int, Callable[[Any], str]] = {ord("s"): str, ord("r"): repr, ord("a"): ascii}


class PythonFailure(Exception):
    """An exception of the user's own constexpr code, on its way to the place in the kernel that ran it."""

    def __init__(self, cause: Exception) -> None:
        self.cause = cause


def python(function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    """Runs Python code of the user's (or a Python operator) on values known while compiling."""
    try:
        return function(*arguments, **keywords)
    except (OpdslError, Misuse):
        raise
    except Exception as cause:
        raise PythonFailure(cause) from cause


# What a kernel may not hold: how to call it, and what to do instead.
UNSUPPORTED = {
    "With": ("a `with` statement", "open files and such outside of the kernel"),
    "Try": ("a `try` statement", "a kernel raises nothing; check with od.assert_"),
    "TryStar": ("a `try` statement", "a kernel raises nothing; check with od.assert_"),
    "ClassDef": ("a class", "define it in the module"),
    "Import": ("an import", "import at the top of the module"),
    "ImportFrom": ("an import", "import at the top of the module"),
    "Global": ("`global`", "kernels write to tensors only; pass one as an argument"),
    "Nonlocal": ("`nonlocal`", "return the value from the inner function"),
    "AsyncFunctionDef": ("`async`", "write an ordinary function"),
    "AsyncFor": ("`async`", "write an ordinary loop"),
    "AsyncWith": ("`async`", ""),
    "Await": ("`await`", ""),
    "Yield": ("`yield`", "write results with od.copy_out"),
    "YieldFrom": ("`yield`", "write results with od.copy_out"),
    "Match": ("a `match` statement", "write if / elif"),
    "Starred": ("`*` here", "name each element"),
}

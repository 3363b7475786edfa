"""`@od.function`: a helper that kernels call, inlined where it is called."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import FunctionType
from typing import Any, NoReturn

from opdsl.lang.source import FunctionSource, importable_name
from opdsl.support.errors import UsageError, article_of


class Function:
    """A function of the kernel language. Kernels call it, or take it as a constexpr."""

    def __init__(self, function: FunctionType) -> None:
        self.function = function
        self.source = FunctionSource(function, "@od.function")
        functools.update_wrapper(self, function)
        self.__name__: str = function.__name__

    def __call__(self, *arguments: Any, **keywords: Any) -> NoReturn:
        raise UsageError(
            f"{self.__name__} is an @od.function: it can be called only inside an @od.kernel or @od.function",
            "write a kernel that calls it on tiles",
        )

    def __reduce__(self) -> str:
        """Pickled by reference, as functions are: its module and its name there."""
        return importable_name(self, self.function, "the od.function")

    def __copy__(self) -> Function:
        return self

    def __deepcopy__(self, memo: object) -> Function:
        return self

    def __repr__(self) -> str:
        return f"<opdsl function {self.__name__}>"


def function(function: Callable[..., Any]) -> Function:
    """Makes a function that kernels can call, with tiles, scalars and constexprs. It is inlined."""
    if isinstance(function, Function):
        return function
    if not isinstance(function, FunctionType):
        raise UsageError(
            f"@od.function takes a function, not {article_of(function)}", "decorate a `def`, or give a lambda"
        )
    return Function(function)

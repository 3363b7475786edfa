"""Names while a kernel is compiled: bindings, frames, and which names a block of statements assigns."""

from __future__ import annotations

import ast
import builtins
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import CellType
from typing import Any

from opdsl.lang.source import FunctionNode, FunctionSource
from opdsl.support.errors import Misuse, suggestion
from opdsl.support.location import Location


@dataclass(eq=False)
class Binding:
    """What a name stands for, where it got it, and whether anything has read it since."""

    value: object
    location: Location
    read: bool = False


@dataclass(frozen=True)
class Poison:
    """The value of a name that must not be used, and why."""

    message: str
    help: str = ""


@dataclass(eq=False)
class Frame:
    """The names of one function that is being compiled."""

    source: FunctionSource
    globals: Mapping[str, Any]
    cells: Mapping[str, CellType]
    entry_depth: int  # how many run-time regions were open when it was entered
    parent: Frame | None = None
    names: dict[str, Binding] = field(default_factory=dict)

    def lookup(self, name: str) -> object:
        frame: Frame | None = self
        while frame is not None:
            binding = frame.names.get(name)
            if binding is not None:
                if isinstance(binding.value, Poison):
                    raise Misuse(binding.value.message, binding.value.help)
                binding.read = True
                return binding.value
            if name in frame.cells:
                try:
                    return frame.cells[name].cell_contents
                except ValueError:
                    raise Misuse(f"the outer variable {name!r} has no value yet") from None
            frame = frame.parent
        if name in self.globals:
            return self.globals[name]
        try:
            return getattr(builtins, name)
        except AttributeError:
            raise Misuse(f"the name {name!r} is not defined", self._suggestion(name)) from None

    def _suggestion(self, name: str) -> str:
        known = [*self.names, *self.cells, *self.globals, *(self.parent.names if self.parent else ())]
        return suggestion(name, known) or "assign it first, or define it in the module"


@dataclass(frozen=True, eq=False)
class LocalFunction:
    """A lambda or a nested `def` of a kernel: inlined where it is called."""

    node: FunctionNode
    frame: Frame
    defaults: tuple[object, ...]
    keyword_defaults: Mapping[str, object]

    @property
    def __name__(self) -> str:
        return self.node.name if isinstance(self.node, ast.FunctionDef) else "<lambda>"


def assigned_names(statements: Sequence[ast.stmt]) -> tuple[str, ...]:
    """The names that statements assign, in order; not those of nested functions and comprehensions."""
    if not statements:
        return ()
    cached: tuple[str, ...] | None = getattr(statements[0], "_opdsl_assigned", None)
    if cached is None:
        found: dict[str, None] = {}
        _collect(statements, found)
        cached = tuple(found)
        statements[0]._opdsl_assigned = cached  # type: ignore[attr-defined]
    return cached


_OWN_SCOPE = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def _collect(nodes: Iterable[ast.AST], found: dict[str, None]) -> None:
    for node in nodes:
        if isinstance(node, _OWN_SCOPE):
            continue
        if isinstance(node, ast.FunctionDef):
            found[node.name] = None
            continue
        if isinstance(node, ast.Name):
            if not isinstance(node.ctx, ast.Load):
                found[node.id] = None
            continue
        _collect(ast.iter_child_nodes(node), found)


def target_names(target: ast.expr) -> tuple[str, ...]:
    """The names that a `for` target assigns."""
    return tuple(node.id for node in ast.walk(target) if isinstance(node, ast.Name))


def bind_arguments(
    arguments: ast.arguments,
    defaults: Sequence[object],
    keyword_defaults: Mapping[str, object],
    positional: Sequence[object],
    keywords: Mapping[str, object],
    name: str,
) -> dict[str, object]:
    """Python's rule for matching a call with a function's parameters. Raises Misuse."""
    names = [a.arg for a in (*arguments.posonlyargs, *arguments.args)]
    bound: dict[str, object] = dict(zip(names, positional, strict=False))
    extra = tuple(positional[len(names) :])
    if arguments.vararg:
        bound[arguments.vararg.arg] = extra
    elif extra:
        raise Misuse(
            f"{name} takes {len(names)} positional arguments, but {len(positional)} are given",
            f"its parameters are {', '.join(names) or 'none'}",
        )
    only = [a.arg for a in arguments.kwonlyargs]
    others: dict[str, object] = {}
    for key, value in keywords.items():
        if key in bound and key in names:
            raise Misuse(f"{name} is given its argument {key!r} twice", "give it by position or by name, not both")
        if key in names or key in only:
            bound[key] = value
        elif arguments.kwarg:
            others[key] = value
        else:
            raise Misuse(f"{name} has no parameter {key!r}", f"its parameters are {', '.join([*names, *only])}")
    if arguments.kwarg:
        bound[arguments.kwarg.arg] = others
    for key, value in zip(names[len(names) - len(defaults) :], defaults, strict=True):
        bound.setdefault(key, value)
    for key, value in keyword_defaults.items():
        bound.setdefault(key, value)
    missing = [key for key in (*names, *only) if key not in bound]
    if missing:
        raise Misuse(
            f"{name} is called without its argument{'s' * (len(missing) > 1)} {', '.join(map(repr, missing))}",
            f"its parameters are {', '.join([*names, *only])}",
        )
    return bound

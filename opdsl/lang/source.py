"""Finds a function's text and syntax tree. The text is captured when the function is decorated."""

from __future__ import annotations

import ast
import functools
import linecache
import sys
from types import FunctionType

from opdsl.support.errors import UsageError
from opdsl.support.location import Location, Source

FunctionNode = ast.FunctionDef | ast.Lambda


@functools.lru_cache(maxsize=64)
def _parse(file: str, text: str) -> ast.Module:
    return ast.parse(text, filename=file)


def importable_name(value: object, function: FunctionType, what: str) -> str:
    """The name under which other processes find a kernel or function in its module. Raises UsageError."""
    found: object = sys.modules.get(function.__module__)
    for part in function.__qualname__.split("."):
        found = getattr(found, part, None)
    if found is not value:
        raise UsageError(
            f"{what} {function.__name__!r} cannot be pickled: {function.__module__}.{function.__qualname__} is not it",
            "define it at the top of a module, under a name of its own; it is pickled by that name",
        )
    return function.__qualname__


def _span(node: ast.AST | list[ast.stmt]) -> tuple[int | None, ...]:
    """Where a node stands, as code objects tell it."""
    assert isinstance(node, ast.expr)
    return (node.lineno, node.end_lineno, node.col_offset, node.end_col_offset)


class FunctionSource:
    """A function's file as it was at decoration, and its node in that file's tree."""

    def __init__(self, function: FunctionType, what: str) -> None:
        if hasattr(function, "__wrapped__"):
            raise UsageError(
                f"{what} {function.__name__!r} stands above another decorator, which wraps the function: what it wraps "
                "cannot be seen",
                f"make {what} the innermost decorator",
            )
        code = function.__code__
        self.file = code.co_filename
        self.name = function.__name__
        self.first_line = code.co_firstlineno
        linecache.checkcache(self.file)
        lines = linecache.getlines(self.file, function.__globals__)
        if not lines:
            raise UsageError(
                f"the source of {what} {self.name!r} cannot be read: it was typed at a prompt, or given with `python -c`, "
                f"or built by exec ({self.file})",
                "put it into a file and import that file",
            )
        self.lines = lines
        self._spans = set(code.co_positions()) if self.name == "<lambda>" else set()
        self._what = what
        self._node: FunctionNode | None = None

    @functools.cached_property
    def source(self) -> Source:
        return Source(self.file, "".join(self.lines))

    @property
    def node(self) -> FunctionNode:
        if self._node is None:
            self._node = self._find()
        return self._node

    def _find(self) -> FunctionNode:
        found: list[FunctionNode] = []
        for node in ast.walk(_parse(self.file, self.source.text)):
            if isinstance(node, ast.FunctionDef) and node.name == self.name:
                first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
                if first == self.first_line:
                    return node
            elif isinstance(node, ast.Lambda) and self.name == "<lambda>" and node.lineno == self.first_line:
                found.append(node)
        if len(found) > 1:
            # Several lambdas begin on this line: ours is the one whose body the code's instructions come from.
            found = [node for node in found if _span(node.body) in self._spans] or found
        if len(found) == 1:
            return found[0]
        raise UsageError(
            f"the source of {self._what} {self.name!r} is not at {self.file}:{self.first_line}"
            + (": two lambdas begin on that line" if found else ""),
            "put each on a line of its own" if found else "import the file again if it has changed",
        )

    def line(self, number: int) -> str:
        return self.lines[number - 1] if 0 < number <= len(self.lines) else ""

    def location(self, node: ast.AST) -> Location:
        """The place of a node; columns in characters, where the tree counts UTF-8 bytes."""
        line: int = node.lineno  # type: ignore[attr-defined]
        end_line: int = node.end_lineno  # type: ignore[attr-defined]
        return Location(
            self.file,
            line,
            self._column(line, node.col_offset),  # type: ignore[attr-defined]
            end_line,
            self._column(end_line, node.end_col_offset),  # type: ignore[attr-defined]
        )

    def _column(self, number: int, offset: int) -> int:
        line = self.line(number)
        if line.isascii():
            return offset + 1
        return len(line.encode()[:offset].decode(errors="replace")) + 1

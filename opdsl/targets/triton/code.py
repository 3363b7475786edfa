"""Text of a Triton function under construction: nested scopes, unique names, comments with the kernel's lines."""

from __future__ import annotations

import builtins
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opdsl.support.location import Location, Source
from opdsl.targets.triton.names import TAKEN, unique

WIDTH = 112
INDENT = "    "
RESERVED = TAKEN | frozenset(dir(builtins))


@dataclass
class Scope:
    level: int
    lines: list[str] = field(default_factory=list)
    memo: dict[Hashable, Any] = field(default_factory=dict)
    comment: str = ""


class Code:
    """A stack of scopes. A line may go to an outer scope that is still open; inner scopes see the outer ones' memo."""

    def __init__(self, source: Source, taken: frozenset[str] = frozenset()) -> None:
        self.scopes = [Scope(1)]
        self._taken = {*RESERVED, *taken}
        self._source_lines = source.text.splitlines()
        self._file = source.file

    @property
    def level(self) -> int:
        return self.scopes[-1].level

    def fresh(self, hint: str) -> str:
        """A Python name that is not taken."""
        return unique(hint, self._taken)

    def line(self, text: str, level: int | None = None) -> None:
        scope = self.scopes[-1] if level is None else self.scopes[level - 1]
        scope.lines.extend(wrapped(text, scope.level))

    def comment(self, location: Location) -> None:
        """Says which line of the kernel the following lines come from, once."""
        if not location.line:
            return
        file = Path(location.file).name
        line = ""
        if location.file == self._file and location.line <= len(self._source_lines):
            line = self._source_lines[location.line - 1].strip()
        text = f"# {file}:{location.line}" + (f": {line}" if line else "")
        scope = self.scopes[-1]
        if text != scope.comment:
            scope.comment = text
            room = WIDTH - len(INDENT) * scope.level
            scope.lines.append(INDENT * scope.level + (text if len(text) <= room else f"{text[: room - 3]}..."))

    @contextmanager
    def scope(self) -> Iterator[Scope]:
        """An inner scope, whose lines are the caller's to place."""
        inner = Scope(self.level + 1)
        self.scopes.append(inner)
        try:
            yield inner
        finally:
            self.scopes.pop()

    def block(self, header: str, inner: Scope) -> None:
        """A statement with an inner scope as its body."""
        self.line(header)
        body = inner.lines if any(not line.lstrip().startswith("#") for line in inner.lines) else [*inner.lines]
        if not any(not line.lstrip().startswith("#") for line in body):
            body.append(INDENT * inner.level + "pass")
        self.scopes[-1].lines.extend(body)
        self.scopes[-1].comment = ""

    def recall(self, key: Hashable) -> Any:
        for scope in reversed(self.scopes):
            if key in scope.memo:
                return scope.memo[key]
        return None

    def remember(self, key: Hashable, value: Any, level: int | None = None) -> None:
        scope = self.scopes[-1] if level is None else self.scopes[level - 1]
        scope.memo[key] = value


def wrapped(text: str, level: int) -> list[str]:
    """The line with its indent; a long call is broken after its arguments, as formatters do."""
    indent = INDENT * level
    if len(indent) + len(text) <= WIDTH:
        return [indent + text]
    opening, parts, closing = _outer_call(text)
    if not parts:
        return [indent + text]
    lines = [indent + opening]
    for part in parts:
        lines += wrapped(f"{part},", level + 1)
    lines.append(indent + closing)
    return lines


def _outer_call(text: str) -> tuple[str, list[str], str]:
    """(`x = f(`, arguments, `)` and what follows) of the last outermost call with arguments, or no arguments."""
    depth, start, quote, best = 0, -1, "", (-1, -1)
    spans: list[tuple[int, int]] = []
    for place, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character in "([":
            if depth == 0:
                start = place
            depth += 1
        elif character in ")]":
            depth -= 1
            if depth == 0 and text[start] == "(":
                spans.append((start, place))
    for span in spans:
        if span[1] - span[0] > best[1] - best[0]:
            best = span
    if best[0] < 0 or best[1] - best[0] < 20:
        return "", [], ""
    opening, inner, closing = text[: best[0] + 1], text[best[0] + 1 : best[1]], text[best[1] :]
    called = best[0] > 0 and (text[best[0] - 1].isalnum() or text[best[0] - 1] == "_")
    parts = split_arguments(inner)
    if not called and len(parts) == 1:
        return "", [], ""
    return opening, parts, closing


def split_arguments(text: str) -> list[str]:
    """The arguments of a call."""
    parts, depth, begin, quote = [], 0, 0, ""
    for place, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character in "([":
            depth += 1
        elif character in ")]":
            depth -= 1
        elif character == "," and depth == 0:
            parts.append(text[begin:place].strip())
            begin = place + 1
    parts.append(text[begin:].strip())
    return [part for part in parts if part]

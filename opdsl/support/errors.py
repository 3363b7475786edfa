"""The errors a user sees. Each says where, what is wrong, and how to mend it."""

from __future__ import annotations

import itertools
import linecache
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from types import FrameType

from opdsl.support.location import Location


class OpdslError(Exception):
    """Base of every error that OpDSL raises on purpose."""


def suggestion(word: str, known: Iterable[str]) -> str:
    """`did you mean ...?` where one of the known words is close, or nothing."""
    import difflib  # only errors need it

    close = difflib.get_close_matches(word, list(known), n=1)
    return f"did you mean {close[0]!r}?" if close else ""


def article_of(value: object) -> str:
    """`the class A`, `an int`: a Python object in a message."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


@dataclass(frozen=True)
class Note:
    """A second place that an error speaks of, such as the call that led to it."""

    message: str
    location: Location
    line: str = ""


def shown_file(file: str) -> str:
    """The file as the user would type it: relative where it lies below the working folder."""
    from pathlib import Path  # only errors need it

    return file.removeprefix(f"{Path.cwd()}/")


def _excerpt(location: Location, line: str) -> list[str]:
    """The source line and a caret line under the place."""
    if not line.strip():
        return []
    number = str(location.line)
    start = location.column - 1
    end = location.end_column - 1 if location.end_line == location.line else len(line.rstrip())
    indent = len(line) - len(line.lstrip())
    shift = max(indent - 4, 0)
    marks = " " * (start - shift) + "^" * max(end - start, 1)
    gutter = " " * len(number)
    return [f"  {number} | {line.rstrip()[shift:]}", f"  {gutter} | {marks}"]


def _located(message: str, location: Location | None, line: str, notes: tuple[Note, ...], help: str) -> str:
    """The form of all errors: where and what, the source line with a caret, notes, the remedy."""
    where = f"{shown_file(location.file)}:{location.line}:{location.column}: " if location is not None else ""
    text = [f"{where}error: {message}"]
    if location is not None:
        text += _excerpt(location, line)
    for note in notes:
        place = note.location
        text.append(f"{shown_file(place.file)}:{place.line}:{place.column}: note: {note.message}")
        text += _excerpt(place, note.line)
    if help:
        text.append(f"help: {help}")
    return "\n".join(text)


_CALLERS = ("functools", "copyreg", "copy")


def call_site() -> tuple[Location | None, str]:
    """The place in the user's code that is being run: the innermost frame that is not of this package's modules, nor of
    Python's that call them."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and (name := frame.f_globals.get("__name__", "")).startswith("opdsl.") | (name in _CALLERS):
        frame = frame.f_back
    if frame is None:
        return None, ""
    code = frame.f_code
    positions = next(itertools.islice(code.co_positions(), frame.f_lasti // 2, None), (None,) * 4)
    line, end_line, column, end_column = positions
    line = line or frame.f_lineno
    text = linecache.getline(code.co_filename, line)
    if column is None or end_column is None:
        column, end_column = len(text) - len(text.lstrip()), len(text.rstrip())
    location = Location(code.co_filename, line, column + 1, end_line or line, end_column + 1)
    return location, text


class CompileError(OpdslError):
    """A kernel cannot be compiled. `str()` shows file:line:column, the source line with a caret, and the remedy."""

    def __init__(
        self, message: str, location: Location, line: str = "", help: str = "", notes: tuple[Note, ...] = ()
    ) -> None:
        super().__init__(message)
        self.message = message
        self.location = location
        self.line = line
        self.help = help
        self.notes = notes

    def __str__(self) -> str:
        return _located(self.message, self.location, self.line, self.notes, self.help)


class LaunchError(OpdslError):
    """A kernel cannot be launched with these arguments. `str()` shows the call and the parameters it speaks of."""

    def __init__(self, message: str, help: str = "", parameters: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.help = help
        self.parameters = parameters
        self.location: Location | None = None
        self.line = ""
        self.notes: tuple[Note, ...] = ()

    def locate(self) -> None:
        """Adds the place of the user's call."""
        if self.location is None:
            self.location, self.line = call_site()

    def __str__(self) -> str:
        return _located(self.message, self.location, self.line, self.notes, self.help)


class ShapeError(LaunchError, ValueError):
    """Shapes of the arguments do not agree with the kernel's annotations or with each other."""


class DTypeError(LaunchError, TypeError):
    """Element types of the arguments do not agree with the kernel's annotations or with each other."""


class ArgumentError(LaunchError, TypeError):
    """An argument is missing, unknown, of the wrong kind, read-only, or out of range."""


class UsageError(OpdslError, RuntimeError):
    """Something of the language is used where it has no meaning, such as a built-in outside of a kernel."""

    def __init__(self, message: str, help: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.help = help
        self.location, self.line = call_site()

    def __str__(self) -> str:
        return _located(self.message, self.location, self.line, (), self.help)


class AnnotationError(UsageError, TypeError):
    """An annotation such as od.Tensor[...] is malformed."""


class Misuse(Exception):
    """Raised by built-ins, which do not know where they were called; the front end adds the place.

    `subject` is the value at fault: if it is an operand, an argument or an index, the caret is under that one.
    """

    def __init__(self, message: str, help: str = "", subject: object = None) -> None:
        super().__init__(message)
        self.message = message
        self.help = help
        self.subject = subject

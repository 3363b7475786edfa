"""The errors a user sees. Each says where, what is wrong, and how to mend it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from opdsl.ir.core import Location


class OpdslError(Exception):
    """Base of every error that OpDSL raises on purpose."""


@dataclass(frozen=True)
class Note:
    """A second place that an error speaks of, such as the call that led to it."""

    message: str
    location: Location
    line: str = ""


def shown_file(file: str) -> str:
    """The file as the user would type it: relative where it lies below the working folder."""
    try:
        return str(Path(file).relative_to(Path.cwd()))
    except (ValueError, OSError):
        return file


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
        where = self.location
        text = [f"{shown_file(where.file)}:{where.line}:{where.column}: error: {self.message}"]
        text += _excerpt(where, self.line)
        for note in self.notes:
            place = note.location
            text.append(f"{shown_file(place.file)}:{place.line}:{place.column}: note: {note.message}")
            text += _excerpt(place, note.line)
        if self.help:
            text.append(f"help: {self.help}")
        return "\n".join(text)


class LaunchError(OpdslError):
    """A kernel cannot be launched with these arguments."""

    def __init__(self, message: str, help: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.help = help

    def __str__(self) -> str:
        return f"{self.message}\nhelp: {self.help}" if self.help else self.message


class ShapeError(LaunchError, ValueError):
    """Shapes of the arguments do not agree with the kernel's annotations or with each other."""


class DTypeError(LaunchError, TypeError):
    """Element types of the arguments do not agree with the kernel's annotations or with each other."""


class ArgumentError(LaunchError, TypeError):
    """An argument is missing, unknown, of the wrong kind, read-only, or out of range."""


class UsageError(OpdslError, RuntimeError):
    """Something of the language is used where it has no meaning, such as a built-in outside of a kernel."""


class Misuse(Exception):
    """Raised by built-ins, which do not know where they were called; the front end adds the place."""

    def __init__(self, message: str, help: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.help = help

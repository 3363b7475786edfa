"""Errors of a running kernel, with the source line."""

from __future__ import annotations

from opdsl.support.errors import CompileError, Note, OpdslError
from opdsl.support.location import Location, Source, source_line


class InterpreterError(OpdslError):
    """What the interpreter found wrong while it ran a kernel; `str()` shows it as compile errors are shown."""

    def __init__(
        self, message: str, location: Location, source: Source, help: str = "", notes: tuple[Note, ...] = ()
    ) -> None:
        super().__init__(message)
        self.message = message
        self.location = location
        self.help = help
        self.notes = notes
        self._shown = CompileError(message, location, source_line(location, source), help, notes)

    def __str__(self) -> str:
        return str(self._shown)


class OutOfBoundsError(InterpreterError, IndexError):
    """Strict mode: an access lies wholly outside its tensor."""


class RaceError(InterpreterError):
    """Strict mode: two iterations of a parallel loop touch one element, and one of them writes it."""


class KernelAssertionError(InterpreterError, AssertionError):
    """`assert_` in a kernel failed."""

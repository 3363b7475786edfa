"""Places in the user's source, and the text they stand in."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Location:
    """A place in the user's source. Columns count from 1; `end_column` is one past the last."""

    file: str
    line: int
    column: int
    end_line: int = 0
    end_column: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


UNKNOWN = Location("<unknown>", 0, 0)


@dataclass(frozen=True)
class Source:
    """The text of the file that a kernel was written in, for error messages and listings."""

    file: str
    text: str = field(repr=False)


def source_line(location: Location, source: Source) -> str:
    """The line of the kernel's file that a location is on, or nothing."""
    lines = source.text.splitlines() if location.file == source.file else []
    return lines[location.line - 1] if 0 < location.line <= len(lines) else ""

"""What a subcommand raises when it was asked for something that cannot be done: shown as one message, no traceback."""

from __future__ import annotations

from collections.abc import Iterable


class CommandError(Exception):
    """`message` says what is wrong; `help` how to mend it."""

    def __init__(self, message: str, help: str = "", code: int = 2) -> None:
        super().__init__(message)
        self.message = message
        self.help = help
        self.code = code

    def __str__(self) -> str:
        return self.message + (f"\nhelp: {self.help}" if self.help else "")


def listed(words: Iterable[object]) -> str:
    """a, b and c."""
    texts = [str(word) for word in words]
    return " and ".join([", ".join(texts[:-1]), texts[-1]] if len(texts) > 1 else texts)


def suggestion(word: str, known: Iterable[str]) -> str:
    """`did you mean ...?`, or the list of what there is."""
    import difflib

    names = list(known)
    near = difflib.get_close_matches(word, names, 1)
    if near:
        return f"did you mean {near[0]!r}?"
    return f"there are {listed(names)}" if names else ""

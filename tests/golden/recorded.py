"""What stands in the repository: the texts of the examples in full, and digests of all others.

Texts of every op and operator on five targets would be megabytes. A digest that differs says which kernel changed on
which target; `make replay BASE=HEAD` shows how.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from golden import requests
from golden.texts import text

HERE = Path(__file__).resolve().parent
EXAMPLES = HERE / "examples"


def digest_file(target: str) -> Path:
    return HERE / "digests" / f"{target.replace(':', '_')}.txt"


def example_file(name: str, target: str) -> Path:
    return EXAMPLES / name.partition("/")[2] / f"{target.replace(':', '_')}.txt"


def examples(target: str) -> Iterator[tuple[Path, str]]:
    for name, request in requests.examples():
        yield example_file(name, target), text(request, target)


def digests(target: str) -> str:
    """A line for each kernel: the digest of its text on a target, and its name."""
    lines = []
    for source in (requests.ops(), requests.operators(target)):
        for name, request in source:
            lines.append(f"{hashlib.sha256(text(request, target).encode()).hexdigest()[:16]} {name}\n")
    return "".join(lines)


def record(targets: tuple[str, ...]) -> None:
    for target in targets:
        digest_file(target).parent.mkdir(exist_ok=True)
        digest_file(target).write_text(digests(target))
        for path, content in examples(target):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

"""The helper functions as text, without importing Triton."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterable
from pathlib import Path


@functools.cache
def _definitions() -> dict[str, tuple[str, frozenset[str]]]:
    """Name -> its text, and the helpers that it calls."""
    text = Path(__file__).with_name("helpers.py").read_text()
    lines = text.splitlines()
    functions = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef)]
    names = {node.name for node in functions}
    found = {}
    for node in functions:
        first = node.decorator_list[0].lineno - 1
        called = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)} & names - {node.name}
        found[node.name] = ("\n".join(lines[first : node.end_lineno]), frozenset(called))
    return found


def helpers_text(names: Iterable[str]) -> list[str]:
    """The text of these helpers and of all that they call, in the order of the file."""
    definitions = _definitions()
    wanted: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in wanted:
            wanted.add(name)
            waiting += definitions[name][1]
    return [text for name, (text, _) in definitions.items() if name in wanted]

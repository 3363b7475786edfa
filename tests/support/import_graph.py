"""Which module of ours imports which, lazy imports included."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {"opdsl": "opdsl", "ops": "opdsl.ops", "bench": "opdsl.bench"}
EXTENSIONS = ("opdsl._runtime", "opdsl._npu", "opdsl._npu_order")


def _modules() -> dict[str, Path]:
    found = {}
    for folder, package in PACKAGES.items():
        for path in (ROOT / folder).rglob("*.py"):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            found[".".join((package, *(p for p in parts if p != "__init__")))] = path
    return found


MODULES = _modules()


def _statements(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Imports anywhere in a file, but for those that only type checkers see."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for other in node.orelse:
                yield from _statements(ast.Module([other], []))
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        else:
            yield from _statements(node)


def _known(name: str) -> str | None:
    """The module that a dotted name is, or is in."""
    while name and name not in MODULES:
        if name in EXTENSIONS:
            return None
        name = name.rpartition(".")[0]
    return name or None


def imports_of(module: str, text: str) -> dict[str, int]:
    """The modules of ours that a module imports, with the lines."""
    found: dict[str, int] = {}
    for node in _statements(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            words = module.split(".") if MODULES[module].name == "__init__.py" else module.split(".")[:-1]
            base = words[: len(words) - node.level + 1] if node.level else []
            package = ".".join(filter(None, (*base, node.module)))
            names = [f"{package}.{alias.name}" for alias in node.names]
        for name in names:
            other = _known(name)
            if other is not None and other != module:
                found.setdefault(other, node.lineno)
    return found


GRAPH = {module: imports_of(module, path.read_text()) for module, path in MODULES.items()}


def closure(module: str) -> set[str]:
    """A module and all that it reaches by imports."""
    found, pending = set(), [module]
    while pending:
        here = pending.pop()
        if here not in found:
            found.add(here)
            pending += GRAPH[here]
    return found

"""Imports point one way: a module imports from layers to its left only, lazy imports included, and there is no cycle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# `opdsl` itself is the public interface of the language: what is written in the language imports it.
LAYERS = (
    *("support", "ir", "analysis", "passes", "lang", "npu", "targets", "runtime"),
    *("tuning", "harness", "opdsl", "ops", "bench", "cli"),
)
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


def _layer(module: str) -> str:
    words = module.split(".")
    return words[1] if len(words) > 1 and words[1] in LAYERS else "opdsl"


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


def _imports(module: str, text: str) -> dict[str, int]:
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


GRAPH = {module: _imports(module, path.read_text()) for module, path in MODULES.items()}


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_imports_from_its_left(layer: str) -> None:
    allowed = LAYERS[: LAYERS.index(layer) + 1]
    upward = [
        f"{MODULES[module].relative_to(ROOT)}:{line} imports {other}"
        for module, others in GRAPH.items()
        if _layer(module) == layer
        for other, line in others.items()
        if _layer(other) not in allowed
        # The package names what is public; it loads it from anywhere below the operators.
        and not (module == "opdsl" and _layer(other) != "ops")
    ]
    assert not upward


def test_every_folder_is_a_layer() -> None:
    folders = {path.parent.name for path in (ROOT / "opdsl").glob("*/__init__.py")}
    assert folders == set(LAYERS) - {"opdsl", "ops", "bench"}


def test_no_cycle() -> None:
    """Depth-first search over all imports; a module that is met again while it is open closes a cycle."""
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        if module in path:
            raise AssertionError(" imports ".join([*path[path.index(module) :], module]))
        if module in done:
            return
        for other in GRAPH[module]:
            visit(other, (*path, module))
        done.add(module)

    for module in GRAPH:
        visit(module, ())


def test_an_upward_import_would_be_seen() -> None:
    text = "def f():\n    from opdsl.runtime import launch\n    import opdsl.cli.main\n"
    assert _imports("opdsl.ir.core", text) == {"opdsl.runtime.launch": 2, "opdsl.cli.main": 3}

"""Imports point one way: a module imports from layers to its left only, lazy imports included, and there is no cycle."""

from __future__ import annotations

import pytest
from support.import_graph import GRAPH, MODULES, ROOT, imports_of

# `opdsl` itself is the public interface of the language: what is written in the language imports it.
LAYERS = (
    *("support", "ir", "analysis", "passes", "lang", "npu", "targets", "runtime"),
    *("tuning", "harness", "opdsl", "ops", "bench", "cli"),
)


def _layer(module: str) -> str:
    if module == "opdsl.__main__":
        return "cli"
    words = module.split(".")
    return words[1] if len(words) > 1 and words[1] in LAYERS else "opdsl"


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
    assert imports_of("opdsl.ir.core", text) == {"opdsl.runtime.launch": 2, "opdsl.cli.main": 3}

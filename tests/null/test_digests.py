"""What is kept on disk goes with all that made it: digests cover the import closure of every generator."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from support.import_graph import MODULES, ROOT, closure

from opdsl.support import digests

# What makes code, and the digest that its cache has.
GENERATORS: dict[str, Callable[[], str]] = {
    "opdsl.targets.cpu.generate": lambda: digests._of_modules(digests._GENERATOR),
    "opdsl.targets.triton.generate": lambda: digests.generator_digest("targets/triton"),
    "opdsl.targets.npu.compile": lambda: digests.generator_digest("npu", "targets/npu"),
    "opdsl.lang.frontend": lambda: digests._of_modules(digests._FRONT_END),
}
# Reached by names of theirs that say what may be, and decide nothing of the code.
BESIDE = {"opdsl", "opdsl.ops", "opdsl.bench"}


@pytest.mark.parametrize("generator", GENERATORS)
def test_a_change_of_any_module_is_another_digest(
    generator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every module of the closure gets another function at its end, one after the other."""
    package = tmp_path / "opdsl"
    shutil.copytree(ROOT / "opdsl", package, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    monkeypatch.setattr(digests, "_PACKAGE", package)
    digest = GENERATORS[generator]
    before = digest()
    assert digest() == before
    missing = []
    for module in sorted(closure(generator) - BESIDE):
        path = package / MODULES[module].relative_to(ROOT / "opdsl")
        text = path.read_text()
        path.write_text(f"{text}\n\ndef another() -> int:\n    return 1\n")
        if digest() == before:
            missing.append(module)
        path.write_text(text)
    assert not missing
    assert digest() == before

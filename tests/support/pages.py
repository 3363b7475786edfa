"""Runs the Python examples of a page of the documentation, in order, as one program with line numbers of the page."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import opdsl as od

DOCS = Path(__file__).resolve().parents[2] / "docs"


def program(page: str) -> str:
    """The page with everything but its Python examples blanked."""
    lines: list[str] = []
    inside = False
    for line in (DOCS / page).read_text().splitlines():
        if re.match(r"```", line):
            inside = not inside and line == "```python"
            lines.append("")
        else:
            lines.append(line if inside else "")
    return "\n".join(lines) + "\n"


def run_page(page: str, target: str, folder: Path) -> Any:
    """The examples as a module; calls of kernels that name no target go to `target`."""
    path = folder / f"{Path(page).stem}_{target.replace(':', '_')}.py"
    path.write_text(program(page))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with od.knobs.scope(target=target):
        spec.loader.exec_module(module)
    return module

"""The text of `opdsl/__init__.pyi`: what editors and type checkers see of names that are loaded on first use."""

from __future__ import annotations

import importlib
from pathlib import Path

import opdsl
from opdsl.ir.functions import COMPOSITIONS, FUNCTIONS

STUB = Path(opdsl.__file__).with_suffix(".pyi")

_HEAD = '''"""The names of `import opdsl as od`. Made by `pytest tests/null/test_public_interface.py --update-golden`."""

from typing import Any

from opdsl.lang.values import Operand
'''


def stub() -> str:
    """An import for each name, or a signature for the functions that the table of functions makes."""
    imports: list[str] = []
    functions: list[str] = []
    for name in opdsl.__all__:
        place = opdsl._place(name)
        if place is None:
            module, theirs = _home(name)
        else:
            module, theirs = place
        row = COMPOSITIONS.get(name) or FUNCTIONS.get(name)
        if row is not None and (name in COMPOSITIONS or len(row.operands) == 1):
            functions.append(f"def {name}({', '.join(f'{x}: Operand' for x in row.operands)}) -> Any: ...\n")
        else:
            imports.append(f"from {module} import {theirs} as {name}\n")
    names = "".join(f"    {name!r},\n" for name in opdsl.__all__).replace("'", '"')
    return "".join([_HEAD, *sorted(imports), f"\n__all__ = [\n{names}]\n\n", *functions])


def _home(name: str) -> tuple[str, str]:
    """The module that defines a name which `opdsl/__init__.py` imports, and its name there."""
    value = getattr(opdsl, name)
    module = getattr(value, "__module__", "")
    candidates = [module, "opdsl.ir.types", "opdsl.lang.annotations"]
    for candidate in candidates:
        for theirs in (name, f"{name}_"):
            if candidate.startswith("opdsl.") and vars(importlib.import_module(candidate)).get(theirs) is value:
                return candidate, theirs
    raise AssertionError(f"od.{name} is in none of {candidates}")

"""Loads the acceptance kernels, which lie beside the checkout where it is part of the larger project."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[3] / "shared" / "kernels"


@cache
def load(name: str) -> ModuleType:
    """The module of one acceptance file. Skips the test where there is none."""
    path = FOLDER / f"{name}.py"
    if not path.is_file():
        pytest.skip("the acceptance kernels are not here", allow_module_level=True)
    spec = importlib.util.spec_from_file_location(f"acceptance_{name}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module

"""Puts builds of our compiled modules with sanitizers in place of the installed ones: `make sanitize`.

Imported before opdsl: as a pytest plugin (`-p support.sanitized`) or by hand. OPDSL_SANITIZED names the folder that
they lie in: `_runtime.cpython-311-x86_64-linux-gnu.so` there is `opdsl._runtime`.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

MODULES = {f"opdsl.{file.name.split('.')[0]}": file for file in Path(os.environ["OPDSL_SANITIZED"]).glob("_*.so")}


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        file = MODULES.get(fullname)
        return importlib.util.spec_from_file_location(fullname, file) if file else None


assert "opdsl._runtime" in MODULES, "there is no build with sanitizers: run `make sanitize`"
assert not any(name in sys.modules for name in MODULES), "opdsl is imported already"
sys.meta_path.insert(0, _Finder())

"""Puts builds of `opdsl._runtime` and `opdsl._npu` with sanitizers in place of the installed ones: `make sanitize`.

Imported before opdsl: as a pytest plugin (`-p support.sanitized`) or by hand. OPDSL_RUNTIME_FILE and OPDSL_NPU_FILE name
the files.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Sequence
from types import ModuleType

FILES = {"opdsl._runtime": "OPDSL_RUNTIME_FILE", "opdsl._npu": "OPDSL_NPU_FILE"}


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, files: dict[str, str]) -> None:
        self.files = files

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        file = self.files.get(fullname)
        return importlib.util.spec_from_file_location(fullname, file) if file else None


assert not any(name in sys.modules for name in FILES), "opdsl is imported already"
sys.meta_path.insert(0, _Finder({name: os.environ[key] for name, key in FILES.items() if os.environ.get(key)}))

"""Puts a build of `opdsl._runtime` with sanitizers in place of the installed one: `make sanitize`.

Imported before opdsl: as a pytest plugin (`-p support.sanitized`) or by hand. OPDSL_RUNTIME_FILE names the file.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
from collections.abc import Sequence
from types import ModuleType

NAME = "opdsl._runtime"


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, file: str) -> None:
        self.file = file

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        return importlib.util.spec_from_file_location(NAME, self.file) if fullname == NAME else None


assert NAME not in sys.modules, "opdsl is imported already"
if os.environ.get("OPDSL_RUNTIME_FILE"):
    sys.meta_path.insert(0, _Finder(os.environ["OPDSL_RUNTIME_FILE"]))

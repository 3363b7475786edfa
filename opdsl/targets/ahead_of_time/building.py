"""Errors and manifest entries of libraries built for any target."""

from __future__ import annotations

import hashlib
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version


class BuildError(ValueError):
    """A library cannot be built as asked; `help` says how to mend it."""

    def __init__(self, message: str, help: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.help = help


def opdsl_version() -> str:
    try:
        return installed_version("opdsl")
    except PackageNotFoundError:
        return "unknown"


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()

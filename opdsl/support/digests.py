"""Digests of OpDSL's own files, so that what is kept on disk is never that of another version.

Reading all files would take longer than loading a kernel. So digests are kept in the cache under a stamp of the files:
the place, size, times and number of each, which change with every write.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from opdsl.support.clock import LOADED
from opdsl.support.paths import include_directory, simd_headers

_PACKAGE = Path(__file__).resolve().parent.parent
_FRONT_END = ("lang", "ir", "ir/semantics", "support")
# What every generator stands on, the semantics of ops with it: constants are folded by them.
_SHARED = ("ir", "ir/semantics", "support", "analysis", "passes", "targets")
_GENERATOR = (*_SHARED, "targets/cpu")
# A file changed as lately before it was loaded may have been changed again: clocks of file systems tick.
_TICK_SECONDS = 0.05


class Digests(NamedTuple):
    """`front_end`: what makes IR of a kernel. `generator`: what makes C++ of it. `headers`: what that includes."""

    front_end: str
    generator: str
    headers: str


def digests() -> Digests:
    """The digests of the files as they are."""
    return _digests(_stamp()[0])


def is_settled() -> bool:
    """Whether no file has changed since this process loaded them, so that they are what runs."""
    return _stamp()[1] < LOADED - _TICK_SECONDS


@functools.cache
def _stamp() -> tuple[str, float]:
    """The stamp of all files, and when the last of them changed."""
    lines = []
    latest = 0.0
    for root in (*(_PACKAGE / folder for folder in {*_FRONT_END, *_GENERATOR}), include_directory() / "simd"):
        for path, status in _files(str(root)):
            lines.append(f"{path} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} {status.st_ino}")
            latest = max(latest, status.st_ctime)
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest(), latest


def _files(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith((".py", ".h")):
                yield entry.path, entry.stat()


@functools.lru_cache(maxsize=2)
def _digests(stamp: str) -> Digests:
    from opdsl.support.cache import default_cache

    name = f"digests-{stamp[:24]}.json"
    kept = default_cache().read_memo(name)
    if kept is not None:
        found = json.loads(kept)
        if isinstance(found, dict) and found.keys() == {"front_end", "generator", "headers"}:
            return Digests(**{key: str(value) for key, value in found.items()})
    made = Digests(_of_modules(_FRONT_END), _of_modules(_GENERATOR), digest_of_files(simd_headers()))
    default_cache().write_memo(name, json.dumps(made._asdict()))
    return made


def digest_of_files(files: Iterable[Path]) -> str:
    """The SHA-256 of the names and contents of files, in their order."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _of_modules(folders: tuple[str, ...]) -> str:
    return digest_of_files(_modules(folders))


def _modules(folders: Iterable[str]) -> Iterator[Path]:
    return (path for folder in folders for path in sorted((_PACKAGE / folder).glob("*.py")))


def generator_digest(*folders: str) -> str:
    """The digest of what makes code from IR in these folders of the package, and of all that it stands on."""
    return digest_of_files(_modules((*_SHARED, *folders)))

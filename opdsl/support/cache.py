"""Compiled kernels on disk.

    directory = default_cache().get_or_build({"ir": text, "toolchain": fingerprint, ...}, build)

A key is the SHA-256 of its parts. An entry is a directory with the artefacts and a manifest that lists each file's size
and SHA-256; both are checked before anything of the entry is loaded. Entries appear by one rename of a staging
directory, so a reader sees all of an entry or nothing of it, whatever happens to the writer.

Whoever can write to the cache can run code in the processes that use it. So the directory is made 0700, and one that
belongs to another user or that others may write to is not used.

Where the directory cannot be used (read-only, full, refused), compiling goes on in a private directory that is removed
with the process, after one warning.

    ROOT/entries/3f/3fa0.../{kernel.so, kernel.cpp, manifest.json}
    ROOT/staging/        directories on their way to entries
    ROOT/locks/          one file a key: two processes do not compile the same kernel at once
    ROOT/quarantine/     entries that failed the check, kept for inspection
    ROOT/memo/           small facts that save time, each with its SHA-256: the compiler's version, digests of OpDSL's own
                         files, and which IR a kernel has
"""

from __future__ import annotations

import errno
import fcntl
import functools
import hashlib
import json
import os
import stat
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opdsl.support.errors import OpdslError
from opdsl.support.knobs import knobs

FORMAT = 1
MANIFEST = "manifest.json"
STALE_STAGING_SECONDS = 3600

# The parts of a key that name an entry to people.
LABEL_PARTS = ("kernel", "name", "symbol", "target", "isa")

_KEPT_TEXT = 200  # characters of a key part that the manifest shows; a longer one is shown by its digest


class CacheWarning(UserWarning):
    """The cache works around something: said once for each cause."""


class CacheError(OpdslError, RuntimeError):
    """Neither the cache nor a private directory can be written."""


class CorruptEntry(Exception):
    """An entry is not what its manifest says."""


@dataclass(frozen=True)
class EntryInfo:
    """What `opdsl cache ls` shows of an entry."""

    key: str
    directory: Path
    label: str
    created: float
    size_bytes: int


@functools.lru_cache(maxsize=64)
def _warn_once(message: str) -> None:
    warnings.warn(message, CacheWarning, stacklevel=4)


def _text_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def key_of(parts: Mapping[str, str]) -> str:
    """The key of an entry: the SHA-256 of its parts."""
    canonical = json.dumps(sorted(parts.items()), ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(f"opdsl cache {FORMAT}\n{canonical}".encode()).hexdigest()


class Cache:
    """A cache in one directory. Safe to use from several threads and processes at once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._known: dict[str, Path] = {}
        self._usable: bool | None = None
        self._private: Path | None = None
        self._private_lock = threading.Lock()

    # ---- what callers use ----------------------------------------------------------------------------------------

    def get_or_build(self, parts: Mapping[str, str], build: Callable[[Path], None]) -> Path:
        """The directory of the entry for `parts`; `build` fills it when there is none."""
        key = key_of(parts)
        known = self._known.get(key)
        if known is None:
            known = self._get_or_build(key, parts, build)
            self._known[key] = known
        return known

    def find(self, parts: Mapping[str, str]) -> Path | None:
        """The directory of a sound entry for `parts`, or None."""
        key = key_of(parts)
        return self._known.get(key) or self._sound_entry(key)

    def read_memo(self, name: str) -> str | None:
        """A small text kept by `write_memo`, or None where there is none or it is damaged."""
        if not self.is_usable():
            return None
        try:
            digest, _, text = (self.root / "memo" / name).read_text(encoding="utf-8").partition("\n")
        except (OSError, UnicodeDecodeError):
            return None
        return text if digest == _text_digest(text) else None

    def write_memo(self, name: str, text: str) -> None:
        """Keeps a small text, if it can: a memo only saves time."""
        if not self.is_usable():
            return
        target = self.root / "memo" / name
        temporary = target.with_name(f".{name}.{os.getpid()}.{threading.get_ident()}")
        try:
            target.parent.mkdir(mode=0o700, exist_ok=True)
            temporary.write_text(f"{_text_digest(text)}\n{text}", encoding="utf-8")
            temporary.replace(target)
        except OSError:
            with suppress(OSError):
                temporary.unlink()

    # ---- the directory -------------------------------------------------------------------------------------------

    def is_usable(self) -> bool:
        """Whether entries may be read from the directory; it is made if it is not there. Warns once if not."""
        if self._usable is None:
            problem = self.problem()
            if problem is not None:
                _warn_once(f"the kernel cache is not used: {problem}")
            self._usable = problem is None
        return self._usable

    def problem(self) -> str | None:
        """Why the directory cannot be used and how to mend it; None where all is well. Makes it if it is not there."""
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            for directory in (self.root, *(self.root / name for name in ("entries", "staging", "locks", "memo"))):
                if directory != self.root and not directory.exists():
                    continue
                status = directory.stat()
                if not stat.S_ISDIR(status.st_mode):
                    return f"{directory} is not a directory; remove it, or set OPDSL_CACHE_DIR"
                if status.st_uid != os.geteuid():
                    return (
                        f"{directory} belongs to another user (number {status.st_uid}), who could put code into it; "
                        "set OPDSL_CACHE_DIR to a directory of your own"
                    )
                if status.st_mode & 0o022:
                    return (
                        f"{directory} may be written by other users, who could put code into it; "
                        f"run `chmod 700 {directory}` if you trust what is in it, else remove it"
                    )
        except OSError as error:
            return f"{self.root}: {error.strerror or error}; set OPDSL_CACHE_DIR to a directory that you can write"
        return None

    def _entry_directory(self, key: str) -> Path:
        return self.root / "entries" / key[:2] / key

    # ---- reading -------------------------------------------------------------------------------------------------

    def _sound_entry(self, key: str) -> Path | None:
        """The entry's directory if there is one and it is sound; one that is not is put into quarantine."""
        if not self.is_usable():
            return None
        directory = self._entry_directory(key)
        try:
            check_entry(directory, key)
        except FileNotFoundError:
            return None
        except (CorruptEntry, OSError) as error:
            if not directory.exists():  # another process has just moved it away
                return None
            self._quarantine(directory, str(error))
            return None
        return directory

    def _quarantine(self, directory: Path, reason: str) -> None:
        quarantine = self.root / "quarantine"
        where = "it stays where it is, unused"
        try:
            quarantine.mkdir(mode=0o700, exist_ok=True)
            target = quarantine / f"{directory.name[:16]}-{time.time_ns()}"
            directory.rename(target)
            where = f"it is now {target}"
        except OSError:
            pass  # a read-only cache: the entry is ignored
        _warn_once(f"a compiled kernel in the cache is damaged ({reason}); {where}, and the kernel is compiled again")

    # ---- building ------------------------------------------------------------------------------------------------

    def _get_or_build(self, key: str, parts: Mapping[str, str], build: Callable[[Path], None]) -> Path:
        entry = self._sound_entry(key)
        if entry is not None:
            return entry
        if self.is_usable():
            try:
                with self._lock(key):
                    return self._sound_entry(key) or self._publish(self.root, key, parts, build)
            except OSError as error:
                _warn_once(
                    f"the kernel cache {self.root} cannot be written ({error.strerror or error}): kernels are compiled "
                    "for this process only; free some space, or set OPDSL_CACHE_DIR to a directory that you can write"
                )
        try:
            return self._publish(self._private_root(), key, parts, build)
        except OSError as error:
            raise CacheError(
                f"a compiled kernel can be written neither to the cache {self.root} nor to a temporary directory: "
                f"{error.strerror or error}; free some space, or set TMPDIR to a directory that you can write"
            ) from error

    def _publish(self, root: Path, key: str, parts: Mapping[str, str], build: Callable[[Path], None]) -> Path:
        """Builds in a staging directory and makes it an entry by one rename."""
        staging_root = root / "staging"
        staging_root.mkdir(mode=0o700, exist_ok=True)
        _remove_stale(staging_root)
        staging = staging_root / f"{key[:16]}-{os.getpid()}-{threading.get_ident()}-{time.monotonic_ns()}"
        staging.mkdir(mode=0o700)
        directory = root / "entries" / key[:2] / key
        try:
            build(staging)
            # No fsync: it would cost more than compiling, and a file torn by a power failure fails its check.
            (staging / MANIFEST).write_text(json.dumps(_manifest(staging, key, parts), indent=1), encoding="utf-8")
            for folder in (root / "entries", directory.parent):
                folder.mkdir(mode=0o700, exist_ok=True)  # the mode counts only for the last folder of a path
            try:
                staging.rename(directory)
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                    raise
                # Another process was first (locks do not work on every file system). Its entry is as good, if sound.
                try:
                    check_entry(directory, key)
                except (CorruptEntry, OSError) as damage:
                    self._quarantine(directory, str(damage))
                    staging.rename(directory)
        finally:
            if staging.exists():
                _remove_tree(staging)
        return directory

    def _private_root(self) -> Path:
        with self._private_lock:
            if self._private is None:
                import atexit
                import tempfile

                self._private = Path(tempfile.mkdtemp(prefix="opdsl-"))
                atexit.register(_remove_private, self._private, os.getpid())
            return self._private

    @contextmanager
    def _lock(self, key: str) -> Iterator[None]:
        """Holds the key's lock, which goes with the process. Where locking does not work, or its holder is stuck, goes
        on without: publishing is safe anyway, the lock only saves a second compilation."""
        locks = self.root / "locks"
        locks.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(locks / f"{key}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _lock_file(descriptor, knobs.compile_timeout)
            yield
        finally:
            os.close(descriptor)

    # ---- looking after it ----------------------------------------------------------------------------------------

    def entry_directories(self) -> list[Path]:
        """The directories of all entries, sound or not."""
        return sorted(path for path in (self.root / "entries").glob("??/*") if path.is_dir())

    def entries(self) -> list[EntryInfo]:
        """All entries whose manifest can be read, the newest first."""
        found = []
        for directory in self.entry_directories():
            try:
                manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
                size = sum(path.stat().st_size for path in directory.iterdir())
                created = float(manifest["created"])
                parts = manifest["parts"]
                label = " ".join(str(parts[name]) for name in LABEL_PARTS if name in parts)
                found.append(EntryInfo(directory.name, directory, label, created, size))
            except (OSError, ValueError, KeyError, TypeError):
                continue
        return sorted(found, key=lambda entry: -entry.created)

    def verify(self) -> list[tuple[Path, str]]:
        """Checks every entry; the damaged ones with what is wrong."""
        damaged = []
        for directory in self.entry_directories():
            try:
                check_entry(directory, directory.name)
            except (CorruptEntry, OSError) as error:
                damaged.append((directory, str(error)))
        return damaged

    def quarantine_damaged(self) -> list[tuple[Path, str]]:
        """Puts every damaged entry into quarantine; says which and why."""
        damaged = self.verify()
        for directory, reason in damaged:
            self._quarantine(directory, reason)
        return damaged

    def clear(self) -> int:
        """Removes everything; returns the number of entries. A process that has loaded a kernel keeps it."""
        count = len(self.entry_directories())
        for name in ("entries", "staging", "locks", "quarantine", "memo"):
            if (self.root / name).exists():
                _remove_tree(self.root / name)
        self._known.clear()
        return count


def check_entry(directory: Path, key: str) -> None:
    """Raises CorruptEntry where the entry is not what its manifest says, FileNotFoundError where there is none."""
    try:
        text = (directory / MANIFEST).read_bytes()
    except FileNotFoundError:
        if directory.is_dir():
            raise CorruptEntry("it has no manifest") from None
        raise
    try:
        manifest = json.loads(text)
        files: dict[str, dict[str, Any]] = dict(manifest["files"])
        sound = manifest["format"] == FORMAT and manifest["key"] == key
        expected = {name: (int(facts["size"]), str(facts["sha256"])) for name, facts in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise CorruptEntry("its manifest cannot be read") from None
    if not sound:
        raise CorruptEntry("its manifest is that of another entry")
    for name, (size, digest) in expected.items():
        if "/" in name or name in ("", ".", ".."):
            raise CorruptEntry(f"its manifest names a file outside of it, {name!r}")
        path = directory / name
        try:
            if not stat.S_ISREG(path.lstat().st_mode):
                raise CorruptEntry(f"{name} is not a plain file")
            content = path.read_bytes()
        except FileNotFoundError:
            raise CorruptEntry(f"{name} is missing") from None
        if len(content) != size:
            raise CorruptEntry(f"{name} has {len(content)} bytes instead of {size}")
        if hashlib.sha256(content).hexdigest() != digest:
            raise CorruptEntry(f"{name} has been changed")


def _manifest(directory: Path, key: str, parts: Mapping[str, str]) -> dict[str, Any]:
    files = {}
    for path in sorted(directory.iterdir()):
        content = path.read_bytes()
        files[path.name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    shown = {
        name: text if len(text) <= _KEPT_TEXT else "sha256:" + hashlib.sha256(text.encode()).hexdigest()
        for name, text in parts.items()
    }
    return {"format": FORMAT, "key": key, "created": time.time(), "parts": shown, "files": files}


def _lock_file(descriptor: int, timeout: float) -> bool:
    deadline = time.monotonic() + timeout
    pause = 0.001
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EINTR):
                return False
        if time.monotonic() > deadline:
            return False
        time.sleep(pause)
        pause = min(2 * pause, 0.02)


def _remove_stale(staging_root: Path) -> None:
    """Removes what processes that died left behind, once in a while."""
    limit = time.time() - STALE_STAGING_SECONDS
    for path in staging_root.iterdir():
        with suppress(OSError):
            if path.lstat().st_mtime < limit:
                _remove_tree(path)


def _remove_tree(path: Path) -> None:
    import shutil

    shutil.rmtree(path, ignore_errors=True)


def _remove_private(path: Path, owner: int) -> None:
    if os.getpid() == owner:  # not in a child that a fork made
        _remove_tree(path)


def default_root() -> Path:
    """The directory that the knob `cache_dir` names, or the user's cache directory."""
    if knobs.cache_dir:
        return Path(knobs.cache_dir).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    if base and Path(base).is_absolute():
        return Path(base) / "opdsl"
    try:
        return Path.home() / ".cache" / "opdsl"
    except RuntimeError:  # no HOME, and no entry in the list of users
        import tempfile

        return Path(tempfile.gettempdir(), f"opdsl-{os.getuid()}")


class PrivateCache(Cache):
    """The cache with OPDSL_CACHE=0: nothing is read from or left on the disk."""

    def is_usable(self) -> bool:
        return False


@functools.lru_cache(maxsize=16)
def _cache_at(root: Path, enabled: bool) -> Cache:
    return Cache(root) if enabled else PrivateCache(root)


def default_cache() -> Cache:
    """The cache that the knobs describe."""
    return _cache_at(default_root(), knobs.cache)

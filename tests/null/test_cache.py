"""The compile cache: every failure that it must survive."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from opdsl.support import cache as cache_module
from opdsl.support.cache import MANIFEST, Cache, CacheError, CacheWarning, CorruptEntry, check_entry, key_of
from opdsl.support.knobs import knobs

PARTS = {"kernel": "add", "ir": "some text", "isa": "avx2"}


class Build:
    """Stands for a compilation; counts how often it ran."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, directory: Path) -> None:
        self.count += 1
        (directory / "kernel.cpp").write_text("int x;\n")
        (directory / "kernel.so").write_bytes(bytes(range(256)) * 40)


@pytest.fixture(autouse=True)
def fresh_warnings() -> Iterator[None]:
    cache_module._warn_once.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error", CacheWarning)
        yield


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def entry_of(root: Path) -> Path:
    key = key_of(PARTS)
    return root / "entries" / key[:2] / key


def fill(root: Path) -> Path:
    return Cache(root).get_or_build(PARTS, Build())


# ---- the ordinary way ---------------------------------------------------------------------------------------------


def test_built_once_then_found(root: Path) -> None:
    build = Build()
    cache = Cache(root)
    assert cache.find(PARTS) is None
    directory = cache.get_or_build(PARTS, build)
    assert directory == entry_of(root)
    assert cache.get_or_build(PARTS, build) == directory
    assert Cache(root).get_or_build(PARTS, build) == directory
    assert Cache(root).find(PARTS) == directory
    assert build.count == 1
    assert {path.name for path in directory.iterdir()} == {"kernel.cpp", "kernel.so", MANIFEST}
    check_entry(directory, directory.name)


def test_key_depends_on_every_part_and_on_nothing_else() -> None:
    assert key_of({"a": "1", "b": "2"}) == key_of({"b": "2", "a": "1"})
    keys = {key_of(parts) for parts in ({}, {"a": "1"}, {"a": "2"}, {"b": "1"}, {"a": "1", "b": ""}, {'a":"1","b': ""})}
    assert len(keys) == 6


def test_everything_is_private_to_the_user(root: Path) -> None:
    previous = os.umask(0)
    try:
        directory = fill(root)
    finally:
        os.umask(previous)
    for path in (root, root / "entries", directory.parent, directory, root / "staging", root / "locks"):
        assert path.stat().st_mode & 0o777 == 0o700, path


def test_a_failing_build_leaves_nothing(root: Path) -> None:
    def build(directory: Path) -> None:
        (directory / "half").write_text("x")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Cache(root).get_or_build(PARTS, build)
    assert not entry_of(root).exists()
    assert list((root / "staging").iterdir()) == []
    assert fill(root) == entry_of(root)


def test_no_pickle_anywhere() -> None:
    package = Path(cache_module.__file__).parent.parent
    assert not [
        path for path in package.rglob("*.py") if "import pickle" in path.read_text() or "marshal" in path.read_text()
    ]


# ---- damaged entries ----------------------------------------------------------------------------------------------


def truncate(directory: Path) -> None:
    with (directory / "kernel.so").open("r+b") as file:
        file.truncate(100)


def flip_a_bit(directory: Path) -> None:
    content = bytearray((directory / "kernel.so").read_bytes())
    content[5000] ^= 1
    (directory / "kernel.so").write_bytes(content)


def replace_by_link(directory: Path) -> None:
    (directory / "kernel.so").rename(directory.parent / "elsewhere.so")
    (directory / "kernel.so").symlink_to(directory.parent / "elsewhere.so")


def name_a_file_outside(directory: Path) -> None:
    manifest = json.loads((directory / MANIFEST).read_text())
    manifest["files"]["../../x"] = {"size": 0, "sha256": ""}
    (directory / MANIFEST).write_text(json.dumps(manifest))


def take_another_manifest(directory: Path) -> None:
    manifest = json.loads((directory / MANIFEST).read_text())
    (directory / MANIFEST).write_text(json.dumps({**manifest, "key": "0" * 64}))


DAMAGE = {
    "truncated": truncate,
    "empty": lambda directory: (directory / "kernel.so").write_bytes(b""),
    "changed": flip_a_bit,
    "file missing": lambda directory: (directory / "kernel.so").unlink(),
    "link": replace_by_link,
    "bad JSON": lambda directory: (directory / MANIFEST).write_text('{"format": 1, '),
    "JSON of another shape": lambda directory: (directory / MANIFEST).write_text("[1, 2]"),
    "deep JSON": lambda directory: (directory / MANIFEST).write_text("[" * 100_000),
    "manifest not text": lambda directory: (directory / MANIFEST).write_bytes(b"\xff\xfe\x00"),
    "empty manifest": lambda directory: (directory / MANIFEST).write_text(""),
    "no manifest": lambda directory: (directory / MANIFEST).unlink(),
    "manifest of another entry": take_another_manifest,
    "manifest names a file outside": name_a_file_outside,
    "empty directory": lambda directory: [path.unlink() for path in directory.iterdir()],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_entry_is_quarantined_and_built_again(root: Path, damage: str) -> None:
    directory = fill(root)
    DAMAGE[damage](directory)
    assert [path for path, _ in Cache(root).verify()] == [directory]
    build = Build()
    with pytest.warns(CacheWarning, match="is damaged .*quarantine.* compiled again") as warned:
        assert Cache(root).get_or_build(PARTS, build) == directory
    assert len(warned) == 1
    assert build.count == 1
    check_entry(directory, directory.name)
    assert len(list((root / "quarantine").iterdir())) == 1
    assert Cache(root).get_or_build(PARTS, build) == directory  # without a warning
    assert build.count == 1


def test_a_file_in_place_of_the_entry(root: Path) -> None:
    entry_of(root).parent.mkdir(parents=True)
    root.chmod(0o700)
    (root / "entries").chmod(0o700)
    entry_of(root).write_text("not a directory")
    build = Build()
    with pytest.warns(CacheWarning, match="damaged"):
        Cache(root).get_or_build(PARTS, build)
    assert build.count == 1


# ---- directories that cannot be trusted or written ----------------------------------------------------------------


def assert_works_without_the_directory(root: Path, match: str) -> None:
    """One warning, compiled once, found again by the same cache, and nothing in the directory."""
    build = Build()
    cache = Cache(root)
    with pytest.warns(CacheWarning, match=match) as warned:
        directory = cache.get_or_build(PARTS, build)
        cache.get_or_build(PARTS, build)
        cache.get_or_build({**PARTS, "ir": "other"}, build)
    assert len([w for w in warned if w.category is CacheWarning]) == 1
    assert build.count == 2
    assert root not in directory.parents
    assert directory.stat().st_mode & 0o777 == 0o700
    assert (directory / "kernel.so").exists()


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o702, 0o770])
def test_directory_that_others_may_write_is_refused(root: Path, mode: int) -> None:
    fill(root)
    root.chmod(mode)
    assert_works_without_the_directory(root, f"may be written by other users.*chmod 700 {root}")
    assert Cache(root).problem() is not None


def test_part_that_others_may_write_is_refused(root: Path) -> None:
    fill(root)
    (root / "entries").chmod(0o777)
    assert_works_without_the_directory(root, "entries may be written by other users")


def test_directory_of_another_user_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(root)
    monkeypatch.setattr(cache_module.os, "geteuid", lambda: os.getuid() + 1)
    assert_works_without_the_directory(root, "belongs to another user")


def test_a_file_in_place_of_the_directory(root: Path) -> None:
    root.write_text("")
    assert_works_without_the_directory(root, "OPDSL_CACHE_DIR")


def refuse_writing(monkeypatch: pytest.MonkeyPatch, root: Path, number: int) -> None:
    """Every change below `root` fails, as on a read-only file system (tests may run as root, whom modes do not stop)."""

    def below(path: object) -> bool:
        return isinstance(path, str | os.PathLike) and Path(path).is_relative_to(root)

    def guarded(real, is_change=lambda *a, **k: True):  # type: ignore[no-untyped-def]
        def call(path, *arguments, **keywords):  # type: ignore[no-untyped-def]
            if below(path) and is_change(*arguments, **keywords):
                raise OSError(number, os.strerror(number), str(path))
            return real(path, *arguments, **keywords)

        return call

    for name in ("rename", "replace", "unlink", "rmdir"):
        monkeypatch.setattr(os, name, guarded(getattr(os, name)))
    real_mkdir = os.mkdir
    monkeypatch.setattr(
        os,
        "mkdir",
        lambda path, *a, **k: real_mkdir(path, *a, **k) if Path(path).exists() else guarded(real_mkdir)(path, *a, **k),
    )
    monkeypatch.setattr(
        os, "open", guarded(os.open, lambda flags, *a, **k: flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
    )


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES])
def test_read_only_directory(root: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    directory = fill(root)
    refuse_writing(monkeypatch, root, number)
    build = Build()
    cache = Cache(root)
    assert cache.get_or_build(PARTS, build) == directory  # what is there is used
    assert build.count == 0
    with pytest.warns(CacheWarning, match="cannot be written") as warned:
        other = cache.get_or_build({**PARTS, "ir": "other"}, build)
        cache.get_or_build({**PARTS, "ir": "third"}, build)
    assert len(warned) == 1
    assert build.count == 2
    assert root not in other.parents
    cache.write_memo("name", "text")  # does nothing


def test_damaged_entry_in_a_read_only_directory(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = fill(root)
    truncate(directory)
    refuse_writing(monkeypatch, root, errno.EROFS)
    build = Build()
    with pytest.warns(CacheWarning) as warned:
        other = Cache(root).get_or_build(PARTS, build)
    assert build.count == 1
    assert other != directory
    assert {"is damaged" in str(w.message) or "cannot be written" in str(w.message) for w in warned} == {True}


def test_read_only_mount(tmp_path: Path) -> None:
    """The same on a real read-only file system, where mounting is allowed."""
    code = textwrap.dedent(
        f"""
        import subprocess, sys, warnings
        from pathlib import Path
        from opdsl.support.cache import Cache, CacheWarning
        root = Path({str(tmp_path)!r}, "mount")
        root.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "none", str(root)], capture_output=True).returncode:
            sys.exit(77)
        root.chmod(0o700)
        subprocess.run(["mount", "-o", "remount,ro", str(root)], check=True)
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            directory = Cache(root).get_or_build({{"a": "b"}}, lambda d: (d / "f").write_text("x") and None)
        assert (directory / "f").exists() and root not in directory.parents
        assert [w.category for w in seen] == [CacheWarning], [str(w.message) for w in seen]
        """
    )
    run_unshared(code)


def test_full_disk(tmp_path: Path) -> None:
    """On a real file system of 64 KiB, where mounting is allowed."""
    code = textwrap.dedent(
        f"""
        import subprocess, sys, warnings
        from pathlib import Path
        from opdsl.support.cache import Cache, CacheWarning
        root = Path({str(tmp_path)!r}, "mount")
        root.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=64k,mode=0700", "none", str(root)]
        if subprocess.run(mount, capture_output=True).returncode:
            sys.exit(77)
        def build(directory):
            (directory / "kernel.so").write_bytes(bytes(200_000))
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            directory = Cache(root).get_or_build({{"a": "b"}}, build)
        assert (directory / "kernel.so").stat().st_size == 200_000 and root not in directory.parents
        assert [w.category for w in seen] == [CacheWarning], [str(w.message) for w in seen]
        assert "No space left" in str(seen[0].message) and "free some space" in str(seen[0].message)
        assert not list((root / "entries").glob("*/*")) and not list((root / "staging").iterdir())
        """
    )
    run_unshared(code)


def run_unshared(code: str) -> None:
    """Runs Python in a mount namespace of its own; skips where that is not allowed."""
    unshare = shutil.which("unshare")
    if unshare is None:
        pytest.skip("no unshare")
    probe = subprocess.run([unshare, "--mount", "--map-root-user", "true"], capture_output=True)
    if probe.returncode != 0:
        pytest.skip("mount namespaces are not allowed here")
    result = subprocess.run(
        [unshare, "--mount", "--map-root-user", sys.executable, "-c", code], capture_output=True, text=True, timeout=60
    )
    if result.returncode == 77:
        pytest.skip("mounting is not allowed here")
    assert result.returncode == 0, result.stderr


def test_full_disk_while_compiling(root: Path) -> None:
    """The same without mounting: the first build, in the cache, finds no space."""
    places = []

    def build(directory: Path) -> None:
        places.append(directory)
        (directory / "kernel.so").write_bytes(b"half")
        if root in directory.parents:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.warns(CacheWarning, match="No space left on device.*free some space"):
        directory = Cache(root).get_or_build(PARTS, build)
    assert len(places) == 2
    assert root not in directory.parents
    assert list((root / "staging").iterdir()) == []


def test_no_space_anywhere_is_a_clear_error(root: Path) -> None:
    def build(directory: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.warns(CacheWarning), pytest.raises(CacheError, match="No space left on device.*TMPDIR"):
        Cache(root).get_or_build(PARTS, build)


def test_private_directory_goes_with_the_process_but_not_with_a_child(tmp_path: Path) -> None:
    code = textwrap.dedent(
        """
        import os, sys
        from opdsl.support.cache import default_cache
        directory = default_cache().get_or_build({"a": "b"}, lambda d: (d / "f").write_text("x") and None)
        child = os.fork()
        if child == 0:
            sys.exit(0)  # runs what is registered for the exit
        os.waitpid(child, 0)
        assert (directory / "f").exists()
        print(directory)
        """
    )
    environment = {**os.environ, "OPDSL_CACHE": "0", "TMPDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True)
    assert list(tmp_path.iterdir()) == []


# ---- several at once, and death -----------------------------------------------------------------------------------

SLOW_BUILD = """
import sys, time
from pathlib import Path
from opdsl.support.cache import Cache
root, log, seconds = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
def build(directory):
    with open(log, "a") as file:
        file.write("built\\n")
    (directory / "kernel.so").write_bytes(b"x" * 1000)
    print("building", flush=True)
    time.sleep(seconds)
print(Cache(root).get_or_build({"kernel": "add", "ir": "some text", "isa": "avx2"}, build))
"""


def start(root: Path, log: Path, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-c", SLOW_BUILD, str(root), str(log), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_at_once_compile_once(root: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    processes = [start(root, log, 0.3) for _ in range(3)]
    for process in processes:
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        assert output.splitlines()[-1] == str(entry_of(root))
    assert log.read_text() == "built\n"


def test_killed_while_building_or_publishing(root: Path, tmp_path: Path) -> None:
    """kill -9 leaves a staging directory and a lock that nobody holds: neither hinders the next process."""
    log = tmp_path / "log"
    victim = start(root, log, 60)
    assert victim.stdout is not None
    assert victim.stdout.readline() == "building\n"
    waiter = start(root, log, 0)
    time.sleep(0.3)
    victim.send_signal(signal.SIGKILL)
    victim.communicate()
    output, errors = waiter.communicate(timeout=60)
    assert waiter.returncode == 0, errors
    assert output.splitlines()[-1] == str(entry_of(root))
    check_entry(entry_of(root), key_of(PARTS))
    left = list((root / "staging").iterdir())
    assert len(left) == 1
    long_ago = time.time() - 2 * cache_module.STALE_STAGING_SECONDS
    os.utime(left[0], (long_ago, long_ago))
    Cache(root).get_or_build({"another": "one"}, Build())
    assert list((root / "staging").iterdir()) == []


def test_killed_at_any_moment(root: Path, tmp_path: Path) -> None:
    """Whenever the writer dies, the entry is whole or absent."""
    code = SLOW_BUILD.replace('"some text"', "sys.argv[4]").replace("print(Cache", "time.sleep(0)\nprint(Cache")
    for attempt in range(12):
        command = [sys.executable, "-c", code, str(root), str(tmp_path / "log"), "0", str(attempt)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(attempt * 0.0002)
        process.kill()
        process.communicate()
    assert Cache(root).verify() == []


def test_locks_that_do_not_work(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on some network file systems."""

    def flock(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(cache_module.fcntl, "flock", flock)
    assert fill(root) == entry_of(root)


def test_a_stuck_holder_of_the_lock_is_not_waited_for_for_ever(root: Path) -> None:
    held, release = threading.Event(), threading.Event()

    def stuck(directory: Path) -> None:
        held.set()
        release.wait(20)
        Build()(directory)

    other = threading.Thread(target=lambda: Cache(root).get_or_build(PARTS, stuck))
    other.start()
    try:
        assert held.wait(10)
        with knobs.scope(compile_timeout=0):
            directory = Cache(root).get_or_build(PARTS, Build())
        check_entry(directory, directory.name)
    finally:
        release.set()
        other.join()
    check_entry(directory, directory.name)  # the latecomer accepted what was there
    assert list((root / "staging").iterdir()) == []


def test_threads_at_once(root: Path) -> None:
    cache, build = Cache(root), Build()

    def slow(directory: Path) -> None:
        time.sleep(0.05)
        build(directory)

    threads = [threading.Thread(target=lambda: cache.get_or_build(PARTS, slow)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert build.count == 1


# ---- looking after it ---------------------------------------------------------------------------------------------


def test_listing_verifying_clearing(root: Path) -> None:
    cache = Cache(root)
    assert (cache.entries(), cache.verify(), cache.clear()) == ([], [], 0)
    directory = cache.get_or_build(PARTS, Build())
    other = cache.get_or_build({**PARTS, "kernel": "mul"}, Build())
    assert {entry.label for entry in cache.entries()} == {"add avx2", "mul avx2"}
    assert all(entry.size_bytes > 10240 for entry in cache.entries())
    truncate(directory)
    with pytest.warns(CacheWarning):
        assert [path for path, reason in cache.quarantine_damaged()] == [directory]
    assert [entry.directory for entry in cache.entries()] == [other]
    assert cache.clear() == 1
    assert cache.find(PARTS) is None
    assert cache.get_or_build(PARTS, Build()) == directory


def test_manifest_shows_parts_and_hides_long_ones(root: Path) -> None:
    directory = Cache(root).get_or_build({"kernel": "add", "ir": "x" * 10_000}, Build())
    parts = json.loads((directory / MANIFEST).read_text())["parts"]
    assert parts["kernel"] == "add"
    assert parts["ir"].startswith("sha256:")


def test_memo(root: Path) -> None:
    cache = Cache(root)
    assert cache.read_memo("a.json") is None
    cache.write_memo("a.json", "{}")
    assert Cache(root).read_memo("a.json") == "{}"
    (root / "memo" / "a.json").write_bytes(b"\xff")
    assert cache.read_memo("a.json") is None


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("OPDSL_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_module.default_root() == tmp_path / "opdsl"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_module.default_root() == tmp_path / ".cache" / "opdsl"
    with knobs.scope(cache_dir="~/mine"):
        assert cache_module.default_root() == tmp_path / "mine"


def test_check_entry_tells_absent_from_damaged(root: Path) -> None:
    with pytest.raises(FileNotFoundError):
        check_entry(root / "none", "none")
    (root / "none").mkdir(parents=True)
    with pytest.raises(CorruptEntry, match="no manifest"):
        check_entry(root / "none", "none")

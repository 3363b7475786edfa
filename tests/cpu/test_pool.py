"""The thread pool and the memory pool."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from opdsl import _runtime
from opdsl.runtime import memory
from opdsl.runtime.threads import get_num_threads, set_num_threads
from opdsl.support.paths import include_directory
from opdsl.support.toolchain import find_compiler

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def keep_thread_count() -> Iterator[None]:
    before = get_num_threads()
    yield
    set_num_threads(before)


@pytest.mark.parametrize(
    ("sanitizer", "arguments"),
    [("", ["20000", "fork"]), ("thread", ["2000"]), ("address,undefined", ["2000", "fork"])],
    ids=["plain", "thread", "address"],
)
def test_stress(tmp_path: Path, sanitizer: str, arguments: list[str]) -> None:
    """The pools alone, without Python, from many threads at once."""
    sources = [str(include_directory() / "runtime" / f"{name}.cpp") for name in ("pool", "memory", "machine")]
    flags = [f"-fsanitize={sanitizer}", "-O1", "-g"] if sanitizer else ["-O2"]
    command = [find_compiler().path, "-std=c++17", *flags, "-pthread", "-I", str(include_directory())]
    program = tmp_path / "stress"
    built = subprocess.run(
        [*command, *sources, str(HERE / "pool_stress.cpp"), "-o", str(program)], capture_output=True, text=True
    )
    if built.returncode != 0 and sanitizer and "cannot find" in built.stderr:
        pytest.skip(f"no library for -fsanitize={sanitizer}")
    assert built.returncode == 0, built.stderr
    result = subprocess.run([str(program), *arguments], capture_output=True, text=True, timeout=120)
    if "unexpected memory mapping" in result.stderr:  # the sanitizer and this system's address layout do not agree
        pytest.skip("ThreadSanitizer does not run here")
    assert (result.returncode, result.stdout) == (0, "ok\n"), result.stderr


def test_host_files_need_no_cpp_library(tmp_path: Path) -> None:
    """They are linked into libraries for C programs."""
    include = include_directory()
    objects = []
    for name in ("pool", "memory", "machine", "library"):
        objects.append(str(tmp_path / f"{name}.o"))
        flags = ["-std=c++17", "-O2", "-fPIC", "-fno-exceptions", "-fno-rtti", "-I", str(include)]
        source = str(include / "runtime" / f"{name}.cpp")
        subprocess.run([find_compiler().path, *flags, "-c", source, "-o", objects[-1]], check=True)
    symbols = subprocess.run(["nm", "-u", *objects], capture_output=True, text=True, check=True).stdout
    assert "_ZNSt" not in symbols
    assert "_Znwm" not in symbols
    assert "__cxa" not in symbols


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_every_iteration_once(threads: int) -> None:
    set_num_threads(threads)
    for count, chunk in [(1, 1), (10, 1), (10, 3), (10, 100), (1000, 7)]:
        pieces: list[tuple[int, int]] = []
        _runtime.parallel_for(count, chunk, lambda begin, end, pieces=pieces: pieces.append((begin, end)))
        covered = sorted(i for begin, end in pieces for i in range(begin, end))
        assert covered == list(range(count))
        assert all(begin % chunk == 0 for begin, _ in pieces)
    _runtime.parallel_for(0, 1, lambda begin, end: pytest.fail("no iterations"))


def test_nested_loops_run_in_their_caller() -> None:
    set_num_threads(4)
    strangers = []

    def outer(begin: int, end: int) -> None:
        here = threading.get_ident()
        _runtime.parallel_for(8, 1, lambda b, e: strangers.append(threading.get_ident() != here))

    _runtime.parallel_for(8, 1, outer)
    assert strangers
    assert not any(strangers)


def test_two_python_threads_at_once() -> None:
    set_num_threads(3)
    totals = [0, 0]

    def work(which: int) -> None:
        for _ in range(200):
            pieces: list[int] = []
            _runtime.parallel_for(20, 1, lambda begin, end, pieces=pieces: pieces.append(end - begin))
            totals[which] += sum(pieces)

    threads = [threading.Thread(target=work, args=(which,)) for which in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert totals == [4000, 4000]


def test_launch_after_fork() -> None:
    set_num_threads(3)
    _runtime.parallel_for(20, 1, lambda begin, end: None)
    child = os.fork()
    if child == 0:
        pieces: list[int] = []
        _runtime.parallel_for(20, 1, lambda begin, end: pieces.append(end - begin))
        os._exit(0 if sum(pieces) == 20 else 1)
    assert os.waitpid(child, 0)[1] == 0


@pytest.mark.parametrize("wrong", [0, -1])
def test_wrong_thread_counts(wrong: int) -> None:
    with pytest.raises(ValueError, match="set_num_threads: expected a whole number from 1 up"):
        set_num_threads(wrong)
    with pytest.raises(TypeError):
        set_num_threads(1.5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"OPDSL_NUM_THREADS": "3", "OMP_NUM_THREADS": "5"}, "3"),
        ({"OMP_NUM_THREADS": "5"}, "5"),
        ({"OMP_NUM_THREADS": "junk"}, str(len(os.sched_getaffinity(0)))),
    ],
)
def test_thread_count_from_the_environment(variables: dict[str, str], expected: str) -> None:
    code = "from opdsl.runtime.threads import get_num_threads; print(get_num_threads())"
    clean = {name: value for name, value in os.environ.items() if not name.endswith("NUM_THREADS")}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**clean, **variables})
    if expected.isdigit() and "junk" in variables.values():
        assert 1 <= int(result.stdout) <= int(expected)  # a container's quota may be less than the affinity mask
    else:
        assert result.stdout.strip() == expected


def test_freed_arrays_are_reused() -> None:
    memory.trim()
    x = memory.empty((1 << 20,), np.float32)
    address = x.ctypes.data
    assert address % (2 << 20) == 0
    view = x[10:]
    del x
    assert memory.empty((1 << 20,), np.float32).ctypes.data != address  # the view still holds it
    del view
    before = memory.statistics()["reused"]
    again = memory.empty((1 << 20,), np.float32)
    assert again.ctypes.data % (2 << 20) == 0
    assert memory.statistics()["reused"] == before + 1


def test_cache_limit() -> None:
    limit = memory.statistics()["cache_limit_bytes"]
    try:
        memory.trim()
        _runtime.set_memory_cache_limit(8 << 20)
        arrays = [memory.empty((4 << 20,), np.uint8) for _ in range(5)]
        del arrays
        assert 0 < memory.statistics()["cached_bytes"] <= 8 << 20
        _runtime.set_memory_cache_limit(0)
        assert memory.statistics()["cached_bytes"] == 0
    finally:
        _runtime.set_memory_cache_limit(limit)

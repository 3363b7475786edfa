"""Kernels that an earlier process compiled: loaded without being traced, and never when anything has changed."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import opdsl as od
from opdsl.lang.frontend import FrontEnd
from opdsl.runtime.specialised import MemoError
from opdsl.support import cache as cache_module
from opdsl.support import digests as digests_module
from opdsl.support.cache import default_cache
from opdsl.support.knobs import knobs

HELPERS = """
import opdsl as od

OFFSET = 3.0
TABLE = {"scale": [2.0, 4.0]}

@od.function
def shifted(t):
    return t + OFFSET

def width(n):
    return 8 * n
"""

KERNEL = """
import math
import opdsl as od
import helpers
from helpers import width

BLOCK = 2
def plain(value):
    return value * helpers.TABLE["scale"][0] + math.floor(1.5)

def make(factor):
    @od.kernel
    def work(x: od.Tensor["T", "N"], y: od.Tensor["T", "N"], *, POWER: od.constexpr = 1, WRAP: od.constexpr = None):
        (N,) = x.shape
        for i in od.parallel(range(0, N, width(BLOCK))):
            t = helpers.shifted(od.copy_in(x[i:i + width(BLOCK)])) * plain(POWER) - factor
            if WRAP is not None:
                t = WRAP(t)
            od.copy_out(t, y[i:i + width(BLOCK)])
    return work

work = make(1.0)

@od.function
def negate(t):
    return -t
"""

_number = itertools.count()


class Session:
    """Stands for one process after the other, which share a cache: each load of the files makes new kernels."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.patch = monkeypatch
        self.traced = 0
        self.write("helpers", HELPERS)
        self.write("kernel", KERNEL)
        compile_ = FrontEnd.compile

        def counted(*arguments: Any) -> Any:
            self.traced += 1
            return compile_(*arguments)

        monkeypatch.setattr(FrontEnd, "compile", counted)
        monkeypatch.setattr(digests_module, "is_settled", lambda: True)
        monkeypatch.setattr("opdsl.runtime.specialised.is_settled", lambda: True)

    def write(self, name: str, text: str) -> None:
        (self.folder / f"{name}.py").write_text(text)

    def edit(self, name: str, old: str, new: str) -> None:
        text = (self.folder / f"{name}.py").read_text()
        assert old in text
        self.write(name, text.replace(old, new))

    def load(self) -> Any:
        def module(name: str, file: str) -> Any:
            spec = importlib.util.spec_from_file_location(name, self.folder / f"{file}.py")
            assert spec is not None and spec.loader is not None
            made = importlib.util.module_from_spec(spec)
            self.patch.setitem(sys.modules, name, made)
            exec(compile((self.folder / f"{file}.py").read_text(), str(self.folder / f"{file}.py"), "exec"), vars(made))  # noqa: S102
            return made

        module("helpers", "helpers")
        return module(f"kernel{next(_number)}", "kernel")

    def run(self, change: Callable[[Any], None] = lambda module: None, **named: Any) -> tuple[bool, float]:
        """Runs the kernel as a new process would: whether it was traced, and the first element of its result for 0."""
        cache_module._cache_at.cache_clear()
        module = self.load()
        change(module)
        x, y = np.zeros(20, np.float32), np.full(20, np.nan, np.float32)
        before = self.traced
        if named.get("WRAP"):
            named["WRAP"] = getattr(module, named["WRAP"])
        module.work(x, y, target="cpu:baseline", **named)
        assert (y == y[0]).all()
        return self.traced > before, float(y[0])


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    with knobs.scope(cache_dir=str(tmp_path / "cache"), verify=False, cache=True):
        yield Session(tmp_path, monkeypatch)


def test_second_process_does_not_trace(session: Session) -> None:
    first = session.run()
    assert first == (True, 3 * (2 + 1) - 1)
    assert session.run() == (False, first[1])
    assert session.run(POWER=2) == (True, 3 * (2 * 2 + 1) - 1)
    assert session.run(POWER=2)[0] is False
    assert session.run(POWER=2.0)[0] is True  # another type
    assert session.run(WRAP="negate") == (True, -first[1])
    assert session.run(WRAP="negate") == (False, -first[1])


CHANGES = {
    "helper function": ("helpers", "t + OFFSET", "t + OFFSET + 1", 11),
    "global of a helper's module": ("helpers", "OFFSET = 3.0", "OFFSET = 4.0", 11),
    "constexpr function": ("helpers", "8 * n", "4 * n", 8),
    "mutable global of another module": ("helpers", "[2.0, 4.0]", "[3.0, 4.0]", 11),
    "constexpr function's text": ("kernel", 'helpers.TABLE["scale"][0]', 'helpers.TABLE["scale"][1]', 14),
    "function of a module": ("kernel", "math.floor", "math.ceil", 11),
    "variable of an enclosing function": ("kernel", "make(1.0)", "make(2.0)", 7),
    "the kernel": ("kernel", "- factor", "+ factor", 10),
    "a default": ("kernel", "POWER: od.constexpr = 1", "POWER: od.constexpr = 3", 20),
    "global": ("kernel", "BLOCK = 2", "BLOCK = 1", 8),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_seen(session: Session, name: str) -> None:
    session.run()
    file, old, new, value = CHANGES[name]
    session.edit(file, old, new)
    assert session.run() == (True, value)
    assert session.run() == (False, value)
    session.edit(file, new, old)
    assert session.run() == (False, 8)  # what was before is known still


def test_a_value_changed_after_loading_is_seen(session: Session) -> None:
    session.run()
    assert session.run(lambda module: vars(module.helpers).update(OFFSET=5.0)) == (True, 14)
    assert session.run(lambda module: module.helpers.TABLE["scale"].__setitem__(0, 5.0)) == (True, 17)
    assert session.run(lambda module: vars(module).update(width=lambda n: 4 * n)) == (True, 8)
    assert session.run() == (False, 8)


UNKNOWN = {
    "state of its own": "import time\ndef plain(value):\n    return value * 3 + 0 * time.perf_counter()\n",
    "an object": "class Value:\n    three = 3\nVALUE = Value()\ndef plain(value):\n    return value * VALUE.three\n",
    "a name made up": "def plain(value):\n    return 3 * value * len(str(getattr(helpers, 'OFFSET'))) // 3\n",
    "an import": "def plain(value):\n    import helpers as h\n    return value * h.OFFSET\n",
    "a changed global": "CALLS = []\ndef plain(value):\n    CALLS.append(1)\n    return value * 3\n",
    "a declared global": "COUNT = 0\ndef plain(value):\n    global COUNT\n    COUNT += 1\n    return value * 3\n",
    "the environment": "import os\ndef plain(value):\n    return value * int(os.environ.get('OPDSL_TEST_THREE', '3'))\n",
    "text while compiling": "def plain(value):\n    print('compiling')\n    return value * 3\n",
    "a knob": "def plain(value):\n    return value * (3 if od.knobs.isa is None else 4)\n",
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_cannot_be_followed_is_traced_each_time(session: Session, name: str) -> None:
    text = KERNEL.replace("def make", UNKNOWN[name] + "\ndef make")
    session.write("kernel", text)
    assert session.run() == (True, 8)
    assert session.run() == (True, 8)


def test_static_print_prints_in_every_process(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    session.edit("kernel", "        (N,) = x.shape", "        od.static_print('seen')\n        (N,) = x.shape")
    session.run()
    session.run()
    assert capsys.readouterr().out.split() == ["seen", "seen"]


def test_another_instruction_set_has_its_own_code(session: Session) -> None:
    module = session.load()
    x, y = np.zeros(20, np.float32), np.zeros(20, np.float32)
    module.work(x, y, target="cpu:baseline")
    with knobs.scope(isa="baseline"):
        module.work(x, y)
    assert len(default_cache().entries()) == 1
    from opdsl import _runtime

    if _runtime.supports_isa("avx2"):
        with knobs.scope(isa="avx2"):
            module.work(x, y)
        assert sorted(entry.label for entry in default_cache().entries()) == ["work avx2", "work baseline"]
    assert session.traced == 1


def memos(root: Path) -> list[Path]:
    return sorted((root / "cache" / "memo").glob("ir-*.json"))


@pytest.mark.parametrize("damage", ["empty", "cut", "bit", "text", "no digest", "other kernel"])
def test_a_damaged_memo_is_made_anew(session: Session, damage: str) -> None:
    session.run()
    (memo,) = memos(session.folder)
    content = memo.read_bytes()
    if damage == "other kernel":
        session.run(POWER=2)
        (other,) = (path for path in memos(session.folder) if path != memo)
        assert other.read_bytes() != content
        content_of_other = json.loads(other.read_text().partition("\n")[2])
        # Sound in itself, but of IR that nothing in the cache has: the kernel is traced, and the memo written again.
        content_of_other["ir"] = "0" * 64
        default_cache().write_memo(memo.name, json.dumps(content_of_other))
    else:
        flipped = content[:-10] + bytes([content[-10] ^ 4]) + content[-9:]
        made = {"empty": b"", "cut": content[:50], "bit": flipped, "text": b"\xff\x00", "no digest": content[65:]}
        memo.write_bytes(made[damage])
    assert session.run() == (True, 8)
    assert memo.read_bytes() == content
    assert session.run() == (False, 8)


def test_entries_lost_are_compiled_again(session: Session) -> None:
    session.run()
    for path in (session.folder / "cache" / "entries").glob("*/*/kernel.so"):
        path.unlink()
    with pytest.warns(UserWarning, match="damaged"):
        assert session.run() == (True, 8)
    assert session.run() == (False, 8)


def test_another_version_of_opdsl(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    session.run()
    now = digests_module.digests()
    monkeypatch.setattr("opdsl.runtime.specialised.digests", lambda: now._replace(front_end="another"))
    assert session.run()[0] is True
    assert session.run()[0] is False
    monkeypatch.setattr("opdsl.runtime.specialised.digests", digests_module.digests)
    assert session.run()[0] is False


def test_digests_change_with_the_files(session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    package = tmp_path / "opdsl"
    real = digests_module._PACKAGE
    for folder in ("support", "ir", "analysis", "passes", "lang", "runtime", "targets"):
        shutil.copytree(real / folder, package / folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(digests_module, "_PACKAGE", package)

    def now() -> digests_module.Digests:
        digests_module._stamp.cache_clear()
        return digests_module.digests()

    try:
        first = now()
        assert now() == first
        file = package / "lang" / "operators.py"
        status = file.stat()
        text = file.read_text()
        file.write_text(text.replace("a", "b", 1))  # as long as before, and as old, if one looks at one time only
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
        changed = now()
        assert changed.front_end != first.front_end
        assert (changed.generator, changed.headers) == (first.generator, first.headers)
        (package / "passes" / "fold.py").write_text("")
        assert now().generator != first.generator
        assert not digests_module._stamp()[1] < digests_module.LOADED  # this process does not run what is there now
    finally:
        digests_module._stamp.cache_clear()


def test_files_changed_after_loading_leave_no_memo(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("opdsl.runtime.specialised.is_settled", lambda: False)
    session.run()
    assert memos(session.folder) == []


def test_verify_finds_a_wrong_memo(session: Session) -> None:
    session.run()
    (memo,) = memos(session.folder)
    default_cache().write_memo(memo.name, json.dumps({"kernel": "work", "written": [0], "ir": "0" * 64}))
    with knobs.scope(verify=True), pytest.raises(MemoError, match="opdsl cache clear"):
        session.run()


def test_reports_of_a_kernel_that_was_not_traced(session: Session, capsys: pytest.CaptureFixture[str]) -> None:
    report = "od.print('first', od.max(t)); od.assert_(od.all(t < 8), 'small')"
    session.edit("kernel", "            od.copy_out", f"            {report}\n            od.copy_out")
    threads = od.get_num_threads()
    od.set_num_threads(1)  # the first block fails, and ends the run; with more threads, others may have begun
    try:
        for _ in range(2):
            with pytest.raises(Exception, match=r"kernel.py:\d+:\d+: error: assertion failed: small"):
                session.run()
    finally:
        od.set_num_threads(threads)
    shown = capsys.readouterr().out.splitlines()
    assert shown == ["first 8.0"] * 2


def test_a_warm_process_imports_no_front_end(tmp_path: Path) -> None:
    (tmp_path / "helpers.py").write_text(HELPERS)
    (tmp_path / "kernel.py").write_text(KERNEL)
    program = """
import sys, json
import numpy as np
import opdsl as od
from kernel import work
y = np.empty(20, np.float32)
work(np.zeros(20, np.float32), y)
print(json.dumps([float(y[0]), [m for m in sys.modules if m.startswith("opdsl.")]]))
"""
    environment = {**os.environ, "OPDSL_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(tmp_path)}
    environment.update(OPDSL_ISA="baseline", OPDSL_CACHE="1", OPDSL_VERIFY="0")
    found = []
    for _ in range(2):
        result = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        found.append(json.loads(result.stdout))
    values, modules = zip(*found, strict=True)
    assert values == (8.0, 8.0)
    heavy = {"lang.frontend", "ir.ops", "ir.printer", "passes.pipeline", "targets.cpu.lowering"}
    heavy = {f"opdsl.{name}" for name in heavy}
    assert heavy <= set(modules[0])
    assert heavy.isdisjoint(modules[1])

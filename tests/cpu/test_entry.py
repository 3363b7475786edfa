"""From C++ text to a launch: compiling, loading, calling, reports."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from opdsl import _runtime
from opdsl.runtime.threads import get_num_threads, set_num_threads
from opdsl.support import toolchain
from opdsl.support.knobs import knobs

Compile = Callable[[str], _runtime.Entry]

SIGNATURE = 'extern "C" opdsl_i32 entry(const opdsl_runtime* rt, const opdsl_array* a, const opdsl_scalar* s)'
HEAD = f'#include "simd/abi.h"\n{SIGNATURE}'

ADD = (
    """
#include "simd/abi.h"
struct Closure { const float *x, *y; float* z; };
static void body(void* closure, opdsl_i64 begin, opdsl_i64 end, char*) {
  Closure& c = *(Closure*)closure;
  for (opdsl_i64 i = begin; i < end; ++i) c.z[i] = c.x[i] + c.y[i];
}
"""
    + SIGNATURE
    + """ {
  Closure c{(const float*)a[0].data, (const float*)a[1].data, (float*)a[2].data};
  rt->parallel_for(rt, a[0].shape[0], 256, 0, body, &c);
  return 0;
}
"""
)


@pytest.fixture
def compiled(tmp_path: Path) -> Compile:
    def compile_text(text: str) -> _runtime.Entry:
        source = tmp_path / "kernel.cpp"
        source.write_text(text)
        toolchain.compile_shared_object(source, tmp_path / "kernel.so")
        return _runtime.load(str(tmp_path / "kernel.so"), "entry")

    return compile_text


def test_launch(compiled: Compile) -> None:
    entry = compiled(ADD)
    x, y, z = np.arange(5000, dtype="f4"), np.ones(5000, "f4"), np.zeros(5000, "f4")
    launcher = _runtime.Launcher([("tensor", ("N",), False)] * 2 + [("tensor", ("N",), True)])
    key = launcher.key(x, y, z)
    assert key is not None
    launcher.register(key, entry)
    assert launcher(x, y, z) is None
    assert np.array_equal(z, x + y)
    z[:] = 0
    assert entry([x, y, z]) is None
    assert np.array_equal(z, x + y)
    assert entry.symbol == "entry"
    assert entry.path.endswith("kernel.so")


def test_arguments_arrive(compiled: Compile) -> None:
    entry = compiled(
        HEAD
        + """ {
  opdsl_i64* out = (opdsl_i64*)a[1].data;
  out[0] = a[0].shape[0]; out[1] = a[0].shape[1]; out[2] = a[0].strides[0]; out[3] = a[0].strides[1];
  out[4] = s[0].i; out[5] = (opdsl_i64)(s[1].f * 2); out[6] = s[2].i; out[7] = *(signed char*)a[0].data;
  return 0;
}"""
    )
    x = np.arange(40, dtype=np.int8).reshape(5, 8)[::-2, 1::3]
    out = np.zeros(8, np.int64)
    launcher = _runtime.Launcher(
        [
            ("scalar", "i32"),
            ("tensor", ("M", "N"), False),
            ("scalar", "f32"),
            ("tensor", (None,), True),
            ("scalar", "bool"),
        ]
    )
    arguments = (-3, x, 2.5, out, True)
    key = launcher.key(*arguments)
    assert key is not None
    launcher.register(key, entry)
    assert launcher(*arguments) is None
    assert out.tolist() == [3, 3, -16, 3, -3, 5, 1, int(x[0, 0])]


def test_reports_come_back_with_the_result(compiled: Compile) -> None:
    entry = compiled(
        HEAD
        + """ {
  opdsl_i64 shape[2] = {2, 3};
  opdsl_scalar tile[6]; for (int i = 0; i < 6; ++i) tile[i].f = i / 2.0;
  opdsl_scalar number; number.i = 7;
  opdsl_report_value values[2] = {{0, 0, 0, &number}, {1, 2, shape, tile}};
  rt->report(rt, 4, values, 2);
  rt->report(rt, 5, values, 1);
  return s[0].i;
}"""
    )
    result = entry([], [0])
    assert result is not None
    code, reports, dropped = result
    assert (code, dropped) == (0, 0)
    assert reports[0][0] == 4
    assert reports[0][1][0] == 7
    assert np.array_equal(reports[0][1][1], np.arange(6).reshape(2, 3) / 2)
    assert reports[1] == (5, [7])
    failed = entry([], [6])
    assert failed is not None
    assert failed[0] == 6


def test_reports_are_bounded_and_may_come_from_every_thread(compiled: Compile) -> None:
    entry = compiled(
        """#include "simd/abi.h"
static void body(void* closure, opdsl_i64 begin, opdsl_i64 end, char*) {
  const opdsl_runtime* rt = (const opdsl_runtime*)closure;
  for (opdsl_i64 i = begin; i < end; ++i) {
    opdsl_scalar number; number.i = i;
    opdsl_report_value value = {0, 0, 0, &number};
    rt->report(rt, 1, &value, 1);
  }
}
"""
        + SIGNATURE
        + " { rt->parallel_for(rt, s[0].i, 1, 0, body, (void*)rt); return 0; }"
    )
    before = get_num_threads()
    set_num_threads(3)
    try:
        few, many = entry([], [1000]), entry([], [5000])
    finally:
        set_num_threads(before)
    assert few is not None
    assert sorted(values[0] for _, values in few[1]) == list(range(1000))
    assert many is not None
    assert len(many[1]) == 4096
    assert many[2] == 5000 - 4096


def test_the_interpreter_runs_during_a_launch(compiled: Compile) -> None:
    entry = compiled(HEAD + " { volatile int* flag = (int*)a[0].data; while (!*flag) ; return 0; }")
    flag = np.zeros(1, np.int32)
    launch = threading.Thread(target=entry, args=([flag],))
    launch.start()
    flag[0] = 1
    launch.join(20)
    assert not launch.is_alive()


def test_workspace(compiled: Compile) -> None:
    entry = compiled(
        HEAD
        + """ {
  char* p = (char*)rt->allocate(rt, s[0].i);
  if (!p) return OPDSL_OUT_OF_MEMORY;
  p[0] = p[s[0].i - 1] = 1;
  rt->release(rt, p);
  return ((opdsl_i64)p & 63) != 0;
}"""
    )
    assert entry([], [1000]) is None
    assert entry([], [5 << 20]) is None
    assert entry([], [1 << 60]) == (-1, [], 0)


def test_library_functions_and_half_conversions_are_found(compiled: Compile) -> None:
    """Generated code is linked without the standard libraries; the process has what it needs."""
    entry = compiled(
        HEAD
        + """ {
  __builtin_memcpy(a[1].data, a[0].data, s[0].i);
  ((float*)a[1].data)[0] = __builtin_expf(((float*)a[0].data)[0]) + (float)*(_Float16*)a[2].data;
  return 0;
}"""
        if find_gcc_at_least(12)
        else HEAD + " { __builtin_memcpy(a[1].data, a[0].data, s[0].i); ((float*)a[1].data)[0] += 2.5f; return 0; }"
    )
    x, y = np.zeros(4, "f4"), np.ones(4, "f4")
    entry([x, y, np.array([1.5], "f2")], [16])
    assert y.tolist() == [2.5, 0, 0, 0]


def find_gcc_at_least(version: int) -> bool:
    compiler = toolchain.find_compiler()
    return compiler.family == "gcc" and compiler.version >= (version,)


def test_refused_text_shows_the_compiler_s_words(compiled: Compile) -> None:
    with pytest.raises(toolchain.CompilationError, match=r"refused generated code \(kernel.cpp\)") as raised:
        compiled("int entry( {")
    assert "error:" in str(raised.value)


def test_loading_what_is_not_there(tmp_path: Path, compiled: Compile) -> None:
    with pytest.raises(OSError, match="cannot load the compiled kernel"):
        _runtime.load(str(tmp_path / "none.so"), "entry")
    compiled(ADD)
    with pytest.raises(OSError, match="has no symbol other"):
        _runtime.load(str(tmp_path / "kernel.so"), "other")


def test_assembly(tmp_path: Path) -> None:
    (tmp_path / "k.cpp").write_text(ADD)
    text = toolchain.compile_assembly(tmp_path / "k.cpp")
    assert "entry:" in text
    assert "ret" in text


def test_no_compiler_and_wrong_compiler(tmp_path: Path) -> None:
    with knobs.scope(cxx="no-such-compiler"), pytest.raises(toolchain.CompilerNotFound, match="OPDSL_CXX.*apt-get"):
        toolchain.find_compiler()
    fake = tmp_path / "c++"
    fake.write_text("#!/bin/sh\nexit 3\n")
    fake.chmod(0o755)
    with knobs.scope(cxx=str(fake), cache=False), pytest.raises(toolchain.ToolchainError, match="does not run"):
        toolchain.find_compiler()
    fake.write_text("#!/bin/sh\necho 9.4.0\n")
    source = tmp_path / "k.cpp"
    source.write_text(ADD)
    with knobs.scope(cxx=str(fake), cache=False), pytest.raises(toolchain.ToolchainError, match="needs 10.0 or newer"):
        toolchain.compile_shared_object(source, tmp_path / "k.so")


def test_no_compiler_on_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("OPDSL_CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(toolchain.CompilerNotFound, match="apt-get install"):
        toolchain.find_compiler()


def test_fingerprint_tells_flags_and_extra_flags_apart() -> None:
    plain = toolchain.fingerprint()
    assert plain == toolchain.fingerprint()
    assert plain != toolchain.fingerprint(["-mavx2"])
    with knobs.scope(cxxflags=("-g",)):
        assert plain != toolchain.fingerprint()


def test_compile_time_limit(tmp_path: Path) -> None:
    slow = tmp_path / "slow"
    real = toolchain.find_compiler().path
    slow.write_text(f'#!/bin/sh\ncase "$*" in *-o*) exec sleep 30;; esac\nexec {real} "$@"\n')
    slow.chmod(0o755)
    source = tmp_path / "k.cpp"
    source.write_text(ADD)
    with (
        knobs.scope(cxx=str(slow), cache=False, compile_timeout=1),
        pytest.raises(toolchain.ToolchainError, match="did not finish within 1 s"),
    ):
        toolchain.compile_shared_object(source, tmp_path / "k.so")

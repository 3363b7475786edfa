"""Libraries built ahead of time: used from C, through cffi and as a Python extension, without OpDSL."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import textwrap
from pathlib import Path
from types import ModuleType
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from opdsl import _runtime
from opdsl.cli.main import main
from opdsl.support.knobs import knobs

HERE = Path(__file__).parent
KERNELS = HERE / "build_kernels.py"
EXAMPLES = HERE.parents[1] / "examples"
SUFFIX = str(sysconfig.get_config_var("EXT_SUFFIX"))
ISAS = [isa for isa in ("avx512", "avx2", "neon", "baseline") if _runtime.supports_isa(isa)]
KINDS = ("cffi", "extension")


def build(folder: Path, *words: str) -> Path:
    assert main(["build", *words, "-o", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All kernels of the file, `scale` and `row_sum` for two dtypes."""
    folder = tmp_path_factory.mktemp("library")
    return build(folder, str(KERNELS), "--name", "tried", "--dtype", "T=f32,bf16", "--dim", "N=50")


def load(folder: Path, kind: str, name: str) -> ModuleType:
    file, module = (f"{name}_cffi.py", f"{name}_cffi") if kind == "cffi" else (f"{name}{SUFFIX}", name)
    spec = importlib.util.spec_from_file_location(module, folder / file)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@pytest.fixture(scope="module", params=KINDS)
def tried(library: Path, request: pytest.FixtureRequest) -> ModuleType:
    return load(library, request.param, "tried")


def real(*shape: int, dtype: Any = np.float32) -> np.ndarray[Any, Any]:
    return np.asarray(np.random.default_rng(0).standard_normal(shape)).astype(dtype)


def test_manifest(library: Path) -> None:
    manifest = json.loads((library / "tried_manifest.json").read_text())
    assert [kernel["name"] for kernel in manifest["kernels"]] == [
        *("scale_f32", "scale_bf16", "row_sum_f32", "row_sum_bf16", "count", "checked", "constant")
    ]
    scale, row_sum = manifest["kernels"][0], manifest["kernels"][2]
    assert scale["parameters"][2] == {"name": "factor", "dtype": "f32", "kind": "scalar", "default": 2.0}
    assert scale["sizes"] == ["M", "N"]
    assert scale["constexprs"] == {"BN": "32"}
    assert row_sum["sizes"] == ["M"]
    assert row_sum["dims"] == {"N": 50}
    assert manifest["isas"] == (
        ["avx512", "avx2", "baseline"] if platform.machine() == "x86_64" else ["neon", "baseline"]
    )
    for name, facts in manifest["files"].items():
        data = (library / name).read_bytes()
        assert facts == {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    assert str(HERE) not in json.dumps(manifest)


def test_library_needs_the_c_library_only(library: Path) -> None:
    if shutil.which("readelf") is None:
        pytest.skip("no readelf")
    shown = subprocess.run(
        ["readelf", "-d", library / "libtried.so"], capture_output=True, text=True, check=True
    ).stdout
    needed = [line.split("[")[1].rstrip("]") for line in shown.splitlines() if "NEEDED" in line]
    assert [name for name in needed if not name.startswith(("libc.", "ld-linux", "libm.", "libpthread."))] == []


@pytest.mark.parametrize("isa", ISAS)
def test_values(tried: ModuleType, isa: str) -> None:
    tried.set_isa(isa)
    assert tried.isa() == isa
    x, y = real(7, 45), np.empty((7, 45), np.float32)
    for threads in (1, 3):
        tried.set_threads(threads)
        assert tried.threads() == threads
        y[...] = 0
        tried.scale_f32(x, y)
        np.testing.assert_array_equal(y, 2 * x)
        tried.scale_f32(x, y, factor=0.5)
        np.testing.assert_array_equal(y, x / 2)
    ids = np.array([0, 3, 3, -1, 9, 2], np.int32)
    counts = np.zeros(5, np.int64)
    tried.count(ids, counts, 10)
    np.testing.assert_array_equal(counts, [10, 0, 10, 20, 0])
    tried.count(ids, counts, 10, flag=False)
    np.testing.assert_array_equal(counts, [10, 0, 10, 20, 0])
    z = np.zeros((3, 2), np.float32)
    tried.constant(z)
    assert (z == 7).all()
    tried.set_isa("")
    tried.trim()


def test_any_strides(tried: ModuleType) -> None:
    big = real(20, 100)
    for x in (big[::2, ::2], big[::-1, ::-1][:10, :50], np.asfortranarray(big[:10, :50]), big[:1, :50], big[:0, :50]):
        out = np.full((2 * len(x), 100), -1, np.float32)
        y = out[::2, ::2]
        tried.scale_f32(x, y)
        np.testing.assert_array_equal(y, 2 * x)
        assert (out[:, 1::2] == -1).all()
        total = np.empty(len(x), np.float32)
        tried.row_sum_f32(x, total)
        np.testing.assert_allclose(total, x.sum(axis=1), rtol=1e-4, atol=1e-4)


def test_parts_of_one_matrix_do_not_overlap(tried: ModuleType) -> None:
    whole = real(6, 4, 30)
    x, y = whole[:, :, :10], whole[:, :, 20:]
    tried.scale_f32(x[:, 0], y[:, 0])
    np.testing.assert_array_equal(y[:, 0], 2 * x[:, 0])
    tried.scale_f32(whole[:3, 0, 0:20:2], whole[:3, 0, 1:20:2])
    np.testing.assert_array_equal(whole[:3, 0, 1:20:2], 2 * whole[:3, 0, 0:20:2])


def test_dtypes_that_numpy_does_not_have(tried: ModuleType) -> None:
    x = real(3, 50, dtype=ml_dtypes.bfloat16)
    y = np.empty_like(x)
    tried.scale_bf16(x, y)
    np.testing.assert_array_equal(y, 2 * x)
    y[...] = 0
    tried.scale_bf16(x.view(np.uint16), y.view(np.uint16))
    np.testing.assert_array_equal(y, 2 * x)


def test_wrong_arguments(tried: ModuleType) -> None:
    x, y = real(4, 50), np.empty((4, 50), np.float32)
    locked = y.copy()
    locked.flags.writeable = False
    cases: list[tuple[Any, type[Exception], str]] = [
        ((x.tolist(), y), TypeError, "scale_f32: x must be a NumPy array, not list"),
        ((x.astype(np.float64), y), TypeError, r"x has dtype float64, but float32 is needed; .*x.astype"),
        ((x.astype(">f4"), y), TypeError, "byte order"),
        ((x[0], y), ValueError, r"x has 1 dims, but needs 2 \(M, N\)"),
        ((x, y[:3]), ValueError, r"y: dim 0 \(M\) is 3, but it is 4 in x"),
        ((x, locked), ValueError, "y is read-only"),
        ((y, y), ValueError, "y and x are the same memory; build the library with --in-place"),
        ((y[:3], y[1:]), ValueError, "y, which is written, overlaps x"),
        ((x, np.broadcast_to(y[:1], (4, 50))), ValueError, "read-only"),
        ((x, np.lib.stride_tricks.as_strided(y, (4, 50), (0, 4))), ValueError, "some of its elements are one"),
    ]
    for arguments, kind, message in cases:
        with pytest.raises(kind, match=message):
            tried.scale_f32(*arguments)
    with pytest.raises(ValueError, match="x: dim 1 is 49, but the library is built for 50"):
        tried.row_sum_f32(x[:, :49], y[:, 0])
    with pytest.raises(RuntimeError, match="not built for sse9"):
        tried.set_isa("sse9")
    with pytest.raises(TypeError):
        tried.scale_f32(x)


def test_prints_and_assertions(tried: ModuleType, capfd: pytest.CaptureFixture[str]) -> None:
    x, y = np.arange(6, dtype=np.float32), np.empty(6, np.float32)
    tried.checked(x, y)
    np.testing.assert_array_equal(y, np.sqrt(x))
    assert capfd.readouterr().err == "{N} is 6\nfrom 0 on: [0 1 2 3]\nfrom 4 on: [4 5 0 0]\n"
    with pytest.raises(AssertionError, match=r"build_kernels.py:\d+: assertion failed: no element is below zero"):
        tried.checked(-1 - x, y)


@pytest.mark.parametrize("kind", KINDS)
def test_in_place_and_layouts(tmp_path: Path, kind: str) -> None:
    words = [f"{KERNELS}:scale", "--dtype", "f32", "--in-place", "--layout", "x=0", "--only-given-layouts"]
    build(tmp_path, *words, "--isa", ISAS[0], *(["--no-python"] if kind == "cffi" else []))
    scale = load(tmp_path, kind, "scale")
    x = real(40, 50)
    y = x.copy()
    scale.scale(y, y)
    np.testing.assert_array_equal(y, 2 * x)
    y[...] = 0
    scale.scale(np.asfortranarray(x), y)
    np.testing.assert_array_equal(y, 2 * x)
    with pytest.raises(ValueError, match="built without general strides"):
        scale.scale(real(40, 100)[:, ::2], y)


SCRIPT = """
import sys
sys.path[:0] = [{folder!r}, {packages!r}]
import numpy, {module} as library
x = numpy.arange(200, dtype=numpy.float32).reshape(4, 50)
y = numpy.empty_like(x)
library.scale_f32(x, y)
assert (y == 2 * x).all()
assert "opdsl" not in sys.modules
try:
    import opdsl
except ImportError:
    print("done")
"""


@pytest.mark.parametrize("kind", KINDS)
def test_without_opdsl(library: Path, tmp_path: Path, kind: str) -> None:
    """In an interpreter that has NumPy and cffi only."""
    import _cffi_backend
    import cffi

    packages = tmp_path / "packages"
    packages.mkdir()
    beside = Path(np.__file__).parents[1]
    found = [Path(np.__file__).parent, Path(cffi.__file__).parent, Path(_cffi_backend.__file__), beside / "pycparser"]
    for path in [*found, beside / "numpy.libs"]:
        if path.exists():
            (packages / path.name).symlink_to(path)
    script = SCRIPT.format(
        folder=str(library), packages=str(packages), module="tried_cffi" if kind == "cffi" else "tried"
    )
    command = [sys.executable, "-I", "-S", "-c", script]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert (result.returncode, result.stdout) == (0, "done\n"), result.stderr


@pytest.mark.parametrize("isa", [None, ISAS[-1]])
def test_the_c_example(tmp_path: Path, isa: str | None) -> None:
    if shutil.which("make") is None or shutil.which("cc") is None:
        pytest.skip("no make, or no C compiler")
    opdsl = f"{sys.executable} -m opdsl.cli.main"
    environment = {**os.environ, **({"OPDSL_ISA": isa} if isa else {})}
    command = [
        "make",
        "-C",
        str(EXAMPLES / "c"),
        "run",
        f"OPDSL={opdsl}",
        f"BUILD={tmp_path}",
        "CFLAGS=-O2 -Wall -Werror",
    ]
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "all well" in result.stdout
    assert "w is a null pointer" in result.stdout


def test_the_header_in_cpp(library: Path, tmp_path: Path) -> None:
    """It is C and C++, and gives the names that the manifest has."""
    source = tmp_path / "use.cpp"
    source.write_text(
        textwrap.dedent(
            """
            #include "tried.h"
            int main() {
              float x[2] = {1, 2}, y[2];
              const int32_t status = tried_scale_f32(x, nullptr, y, nullptr, 3.0f, 1, 2);
              if (status != TRIED_OK || y[1] != 6) return 1;
              if (tried_scale_f32(x, nullptr, y, nullptr, 3.0f, -1, 2) != TRIED_BAD_ARGUMENT) return 2;
              return tried_scale_f32(x, nullptr, y, nullptr, 3.0f, 0, 2);
            }
            """
        )
    )
    program = tmp_path / "use"
    flags = ["-Wall", "-Wextra", "-Werror", "-I", str(library), "-L", str(library), f"-Wl,-rpath,{library}"]
    subprocess.run(["c++", *flags, str(source), "-o", str(program), "-ltried"], check=True)
    assert subprocess.run([str(program)]).returncode == 0


def test_another_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    compiler = shutil.which("aarch64-linux-gnu-g++")
    if compiler is None or platform.machine() == "aarch64":
        pytest.skip("no cross compiler")
    with knobs.scope(cxx=compiler):
        build(tmp_path, f"{KERNELS}:scale", "--dtype", "f32")
        assert "the compiler compiles for aarch64, and this Python runs on" in capsys.readouterr().err
        assert "which has no avx2" in fails(capsys, f"{KERNELS}:scale", "--dtype", "f32", "--isa", "avx2")
    assert json.loads((tmp_path / "scale_manifest.json").read_text())["isas"] == ["neon", "baseline"]
    assert (tmp_path / "libscale.so").read_bytes()[18] == 183  # the machine in an ELF file's head: AArch64


@pytest.mark.parametrize("isa", [isa for isa in ("amx", "avx512_vnni", *ISAS) if _runtime.supports_isa(isa)])
def test_products_of_halves(tmp_path_factory: pytest.TempPathFactory, isa: str) -> None:
    """The instruction sets that are for them are in the library, and in no other."""
    folder = tmp_path_factory.getbasetemp() / "halves"
    if not folder.exists():
        build(folder, str(EXAMPLES / "linear.py"), "--dtype", "bf16", "--no-python")
    library = load(folder, "cffi", "linear")
    library.set_isa(isa)
    generator = np.random.default_rng(0)
    shapes = ((130, 211), (211, 97), (97,))
    x, w, bias = (generator.integers(-4, 5, shape).astype(ml_dtypes.bfloat16) for shape in shapes)
    exact = x.astype(np.float64) @ w.astype(np.float64) + bias.astype(np.float64)
    y = np.zeros(exact.shape, ml_dtypes.bfloat16)
    library.linear(x, w, bias, y)
    np.testing.assert_array_equal(y, exact.astype(np.float32).astype(ml_dtypes.bfloat16))


def fails(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["build", *words, "-o", "unused"]) in (1, 2)
    message = capsys.readouterr().err
    assert message.startswith("opdsl: ")
    return message


def test_wrong_requests(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = str(KERNELS)
    assert "add --dtype T=f32\n" in fails(capsys, f"{file}:scale")
    assert "add --dtype T=f32 --dim N=1000" in fails(capsys, f"{file}:row_sum")
    assert "did you mean 'scale'?" in fails(capsys, f"{file}:scael")
    assert "there is no file" in fails(capsys, "nowhere.py")
    assert "there is no dtype 'f33'" in fails(capsys, f"{file}:scale", "--dtype", "f33")
    assert "there is no instruction set 'sse'" in fails(capsys, f"{file}:scale", "--dtype", "f32", "--isa", "sse")
    assert "leave --dim N out" in fails(capsys, f"{file}:scale", "--dtype", "f32", "--dim", "N=3")
    assert "has the axes 0 to 1" in fails(capsys, f"{file}:scale", "--dtype", "f32", "--layout", "x=2")
    assert "the arrays are x and y" in fails(capsys, f"{file}:scale", "--dtype", "f32", "--layout", "q=0")
    assert "cannot be called 'a b'" in fails(capsys, f"{file}:scale", "--dtype", "f32", "--name", "a b")
    assert "a Python module is called 'json'" in fails(capsys, f"{file}:scale", "--dtype", "f32", "--name", "json")
    assert "built for cpu and triton" in fails(capsys, f"{file}:scale", "--target", "npu")
    assert "--arch is not for the target cpu" in fails(capsys, f"{file}:scale", "--arch", "sm_90")
    assert "is neither a Python literal nor a name" in fails(capsys, f"{file}:scale", "--set", "BN=oops")
    broken = tmp_path / "broken.py"
    broken.write_text("import opdsl\n1 / 0\n")
    assert "broken.py:2: the file cannot be imported: ZeroDivisionError" in fails(capsys, str(broken))
    broken.write_text("def f(:\n")
    assert "broken.py:1: invalid syntax" in fails(capsys, str(broken))
    broken.write_text("x = 1\n")
    assert "has no kernel" in fails(capsys, str(broken))

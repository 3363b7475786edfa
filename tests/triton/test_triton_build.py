"""`opdsl build --target triton`: files, manifest, and the launcher in C, compiled and run on a driver that runs nothing."""

from __future__ import annotations

import ctypes
import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

pytest.importorskip("triton.language")  # this folder is called triton, too
if shutil.which("cc") is None:
    pytest.skip("needs a C compiler", allow_module_level=True)

from support import targets

from opdsl.cli.main import main
from opdsl.targets.triton.source import evaluate_size

STUB = Path(targets.__file__).parent / "cuda_stub"
STRICT = ("-std=c11", "-Wall", "-Wextra", "-Werror", "-O1")

SOURCE = '''
import opdsl as od


@od.kernel
def scale(x: od.Tensor["T", "M", "N"], y: od.Tensor["T", "M", "N"], shift: "T", by: od.f32, *, BM: od.constexpr = 4,
          BN: od.constexpr = 64):
    """y = by * x + shift."""
    for m, n in od.parallel(range(0, x.shape[0], BM), range(0, x.shape[1], BN)):
        t = od.copy_in(x[m:m + BM, n:n + BN])
        od.copy_out(t * by + shift, y[m:m + BM, n:n + BN])


@od.kernel
def product(a: od.Tensor["T", "M", "K"], b: od.Tensor["T", "K", "N"], c: od.Tensor["T", "M", "N"], *,
            BM: od.constexpr = 32, BN: od.constexpr = 32, BK: od.constexpr = 32):
    for m, n in od.parallel(range(0, a.shape[0], BM), range(0, b.shape[1], BN)):
        acc = od.zeros((BM, BN), od.f32)
        for k in od.pipelined(range(0, a.shape[1], BK), depth=2):
            acc += od.dot(od.copy_in(a[m:m + BM, k:k + BK]), od.copy_in(b[k:k + BK, n:n + BN]))
        od.copy_out(acc, c[m:m + BM, n:n + BN])


@od.kernel
def checked(x: od.Tensor[od.f32, "N"], y: od.Tensor[od.f32, "N"]):
    for i in od.parallel(range(0, x.shape[0], 32)):
        t = od.copy_in(x[i:i + 32])
        od.assert_(t >= 0, 'is "negative"')
        od.assert_(t < 100, "is too large")
        od.copy_out(od.sqrt(t), y[i:i + 32])
'''

BYTES = {"f64": 8, "f32": 4, "f16": 2, "bf16": 2, "p64": 8, "i64": 8, "i32": 4, "i16": 2, "i8": 1}
PRETENDED = 1 << 20  # an address


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that the tests need, built once."""
    root = tmp_path_factory.mktemp("built")
    file = root / "kernels.py"
    file.write_text(SOURCE)
    build = ["build", "--target", "triton", "-o", str(root)]
    assert main([*build, f"{file}:scale", "--dtype", "f16,bf16", "--arch", "sm_90,sm_80"]) == 0
    assert main([*build, f"{file}:product", "--dtype", "bf16", "--option", "num_warps=2"]) == 0
    assert main([*build, f"{file}:checked"]) == 0
    return root


def manifest(folder: Path, name: str) -> Any:
    return json.loads((folder / f"{name}_manifest.json").read_text())


class Library:
    """A launcher on the pretended driver."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.manifest = manifest(folder, name)
        path = folder / f"lib{name}.so"
        command = ["cc", *STRICT, "-shared", "-fPIC", "-I", str(STUB), "-I", str(folder), str(folder / f"{name}.c"),
                   str(STUB / "driver.c"), "-o", str(path)]  # fmt: skip
        subprocess.run(command, check=True)
        self.library = ctypes.CDLL(str(path))
        self.library.read_journal.restype = ctypes.c_char_p
        getattr(self.library, f"{name}_message").restype = ctypes.c_char_p

    def kernel(self, function: str) -> Any:
        return next(k for k in self.manifest["kernels"] if k["function"] == function)

    def set(self, name: str, value: int) -> None:
        ctypes.c_int.in_dll(self.library, name).value = value

    def message(self, status: int) -> str:
        return str(getattr(self.library, f"{self.name}_message")(status).decode())

    def call(self, function: str, variant: str, *arguments: Any) -> tuple[int, list[list[str]]]:
        """The status, and the lines of the journal. `variant` says how to read the launch's parameters."""
        chosen = next(v for v in self.kernel(function)["variants"] if v["name"] == variant)
        (launch,) = chosen["launches"]
        sizes = [8 if a["type"].startswith("*") else BYTES[a["type"].replace("fp", "f")] for a in launch["arguments"]]
        array = (ctypes.c_int * 64).in_dll(self.library, "parameter_bytes")
        array[: len(sizes)] = sizes
        self.set("parameter_count", len(sizes))
        self.library.read_journal()
        status = getattr(self.library, function)(ctypes.c_void_p(7), *arguments)
        text = self.library.read_journal().decode() if status == 0 or status > 0 else ""
        return status, [line.split() for line in text.splitlines()]

    def launched(self, function: str, variant: str, *arguments: Any) -> tuple[list[str], dict[str, int]]:
        """What was launched: the fields before the parameters, and the parameters by name."""
        status, lines = self.call(function, variant, *arguments)
        assert status == 0, self.message(status)
        (fields,) = [line[1:] for line in lines if line[0] == "launch"]
        chosen = next(v for v in self.kernel(function)["variants"] if v["name"] == variant)
        names = [a["name"] for a in chosen["launches"][0]["arguments"]]
        return fields[:9], dict(zip(names, map(int, fields[9:]), strict=True))


@pytest.fixture(scope="module")
def library(folder: Path) -> Callable[[str], Library]:
    made: dict[str, Library] = {}

    def find(name: str) -> Library:
        if name not in made:
            made[name] = Library(folder, name)
        return made[name]

    return find


def pointer(address: int) -> ctypes.c_void_p:
    return ctypes.c_void_p(address)


def strides(*values: int) -> Any:
    return (ctypes.c_int64 * len(values))(*values)


def scale_arguments(m: int, n: int, shift: float = 0.5, **changes: Any) -> list[Any]:
    known = {"x": pointer(PRETENDED), "xs": None, "y": pointer(2 * PRETENDED), "ys": None}
    known |= changes
    return [*known.values(), ctypes.c_float(shift), ctypes.c_float(2.0), ctypes.c_int64(m), ctypes.c_int64(n)]


def test_files_and_manifest(folder: Path) -> None:
    found = manifest(folder, "scale")
    assert found["arches"] == ["sm_90", "sm_80"]
    assert [k["function"] for k in found["kernels"]] == ["scale_scale_f16", "scale_scale_bf16"]
    for name, record in found["files"].items():
        content = (folder / name).read_bytes()
        assert record == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    names = set(found["files"])
    for variant in ("aligned", "contiguous", "general"):
        for arch in ("sm_90", "sm_80"):
            base = f"scale_scale_f16_{variant}.{arch}"
            assert {f"{base}.py", f"{base}.ptx", f"{base}.cubin"} <= names
            assert f".target {arch}" in (folder / f"{base}.ptx").read_text()
    assert {"scale.h", "scale.c"} <= names
    assert "tl.load" in (folder / "scale_scale_f16_aligned.sm_90.py").read_text()
    code = manifest(folder, "product")["kernels"][0]["variants"][0]["launches"][0]["code"]["sm_90"]
    assert code["num_warps"] == 2 and code["threads"] == 64
    assert "/" not in json.dumps({k: v for k, v in found.items() if k != "files"}).replace('"//"', "")


def test_compiles_against_the_real_header(folder: Path) -> None:
    real = [Path(p) for p in ("/usr/local/cuda/include", "/usr/include") if (Path(p) / "cuda.h").is_file()]
    if not real:
        pytest.skip("cuda.h is not here")
    for name in ("scale", "product", "checked"):
        command = ["cc", *STRICT, "-fsyntax-only", "-I", str(real[0]), "-I", str(folder), str(folder / f"{name}.c")]
        subprocess.run(command, check=True)


def test_the_header_is_c_plus_plus_too(folder: Path) -> None:
    text = '#include "scale.h"\nint main() { return scale_message(0) == nullptr; }\n'
    command = ["c++", "-std=c++17", "-Wall", "-Werror", "-fsyntax-only", "-x", "c++", "-I", str(folder), "-"]
    subprocess.run(command, input=text, text=True, check=True)


def test_a_launch(library: Callable[[str], Library]) -> None:
    found = library("scale")
    fields, values = found.launched("scale_scale_f16", "aligned", *scale_arguments(64, 128))
    kernel = found.kernel("scale_scale_f16")
    (launch,) = kernel["variants"][0]["launches"]
    code = launch["code"]["sm_90"]
    tiles = evaluate_size(launch["programs"], {"M": 64, "N": 128})
    assert tiles == 32
    assert fields == [code["entry"], str(tiles), "1", "1", str(code["threads"]), "1", "1", str(code["shared_bytes"]), "7"]
    assert values["x"] == PRETENDED and values["y"] == 2 * PRETENDED
    assert (values["M"], values["N"], values["x_stride0"], values["y_stride0"]) == (64, 128, 128, 128)
    assert values["by"] == int(np.float32(2).view(np.uint32))


@pytest.mark.parametrize(
    ("m", "n", "changes", "variant"),
    [
        (64, 128, {}, "aligned"),
        (64, 100, {}, "contiguous"),
        (1, 17, {}, "contiguous"),
        (64, 128, {"xs": strides(256, 1)}, "aligned"),
        (64, 128, {"xs": strides(1, 64)}, "general"),
        (64, 128, {"x": pointer(PRETENDED + 2)}, "general"),
        (64, 128, {"x": pointer(1 << 44), "xs": strides(1 << 27, 1)}, "general"),
        (64, 128, {"x": pointer(1 << 40), "xs": strides(-128, 1)}, "aligned"),
    ],
)
def test_variants(library: Callable[[str], Library], m: int, n: int, changes: Any, variant: str) -> None:
    _, values = library("scale").launched("scale_scale_f16", variant, *scale_arguments(m, n, **changes))
    given = changes.get("xs")
    assert values["x_stride0"] == ((given[0] if given else n) & (2**64 - 1 if variant == "general" else 2**32 - 1))
    assert ("x_stride1" in values) == (variant == "general")


def test_halves(library: Callable[[str], Library]) -> None:
    """The rounding of scalars of 16 bits is NumPy's."""
    numbers = [0.0, -0.0, 1.0, 65504.0, 65519.0, 65520.0, 1e6, 6e-8, 2.98e-8, 2.99e-8, 1e-7, 6.1e-5, 0.1, -3.14159,
               float("inf"), float("-inf"), 1.0009765625, 1.00048828125, 1.00146484375]  # fmt: skip
    generator = np.random.default_rng(0)
    numbers += [float(x) for x in np.exp(generator.uniform(-18, 12, 100)).astype(np.float32)]
    for dtype, name in ((np.float16, "f16"), (ml_dtypes.bfloat16, "bf16")):
        for number in numbers:
            _, values = library("scale").launched(f"scale_scale_{name}", "aligned", *scale_arguments(16, 16, number))
            with np.errstate(over="ignore"):
                assert values["shift"] == int(np.float32(number).astype(dtype).view(np.uint16)), number


def test_refusals(library: Callable[[str], Library]) -> None:
    found = library("scale")
    statuses = {
        -2: [{"x": None}, {"x": pointer(PRETENDED + 1)}],
        -3: [{"x": pointer(2 * PRETENDED)}, {"x": pointer(2 * PRETENDED + 64)}],
    }
    for status, all_changes in statuses.items():
        for changes in all_changes:
            assert found.call("scale_scale_f16", "aligned", *scale_arguments(16, 16, **changes))[0] == status
            assert "x" in found.message(status)
    assert found.call("scale_scale_f16", "aligned", *scale_arguments(-1, 16))[0] == -2
    assert "negative" in found.message(-2)
    assert found.call("scale_scale_f16", "aligned", *scale_arguments(0, 16, x=None))[0] == 0


def test_devices(folder: Path) -> None:
    found = Library(folder, "scale")
    arguments = scale_arguments(16, 16)
    for major, minor, good in ((7, 5, False), (8, 0, True), (8, 6, True), (9, 0, True), (10, 0, False)):
        found.set("pretended_major", major)
        found.set("pretended_minor", minor)
        status, _ = found.call("scale_scale_f16", "aligned", *arguments)
        assert status == (0 if good else -4)
        assert good or f"{major}.{minor}" in found.message(status)
    found.set("pretended_context", 0)
    assert found.call("scale_scale_f16", "aligned", *arguments)[0] == -5
    assert "CUDA_ERROR_INVALID_CONTEXT" in found.message(-5)


def test_a_persistent_grid(library: Callable[[str], Library]) -> None:
    found = library("product")
    (launch,) = found.kernel("product_product")["variants"][0]["launches"]
    assert launch["persistent"]

    def grid(size: int) -> int:
        n = ctypes.c_int64(size)
        arrays = [pointer(1 << 40), None, pointer(2 << 40), None, pointer(3 << 40), None]
        return int(found.launched("product_product", "aligned", *arrays, n, n, n)[0][1])

    assert grid(64) == 4
    assert grid(4096) == 132 * 2  # as many as the pretended device runs at once


def test_assertions(library: Callable[[str], Library]) -> None:
    found = library("checked")
    arguments = [pointer(PRETENDED), None, pointer(2 * PRETENDED), None, ctypes.c_int64(64)]
    status, lines = found.call("checked_checked", "aligned", *arguments)
    assert status == 0
    words = [line[0] for line in lines]
    assert [w for w in words if w not in ("load", "attribute")] == ["allocate", "launch", "wait", "free"]
    for number, text in ((1, 'is "negative"'), (2, "is too large")):
        found.set("pretended_failure", number)
        status, _ = found.call("checked_checked", "aligned", *arguments)
        assert status == number
        assert text in found.message(status) and "kernels.py:" in found.message(status)
    found.set("pretended_failure", 0)


def test_names_that_the_launcher_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "taken.py"
    file.write_text(SOURCE.replace("shift", "status"))
    words = ["build", f"{file}:scale", "--target", "triton", "--dtype", "f32", "-o", str(tmp_path / "lib")]
    assert main(words) == 2
    assert "called status" in capsys.readouterr().err


def test_several_launches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two loops over the grid are two launches, in order; a failure of the first ends the call."""
    file = tmp_path / "steps.py"
    file.write_text(
        "import opdsl as od\n\n\n@od.kernel\n"
        'def steps(x: od.Tensor[od.f32, "N"], t: od.Tensor[od.f32, "N"], y: od.Tensor[od.f32, "N"], n: od.i64):\n'
        "    for i in od.parallel(range(0, x.shape[0], 64)):\n"
        "        od.copy_out(od.copy_in(x[i:i + 64]) * 2, t[i:i + 64])\n"
        "    for i in od.parallel(range(n, x.shape[0], 2)):\n"
        "        od.copy_out(od.copy_in(t[i]), y[i])\n"
    )
    assert main(["build", f"{file}:steps", "--target", "triton", "-o", str(tmp_path)]) == 0
    capsys.readouterr()
    found = Library(tmp_path, "steps")
    found.set("parameter_count", 0)
    found.library.read_journal()
    arrays = [pointer(PRETENDED), None, pointer(2 * PRETENDED), None, pointer(3 * PRETENDED), None]
    for first, size, grids in ((10, 128, [2, 59]), (200, 128, [2]), (0, 0, [])):
        arguments = [ctypes.c_void_p(0), *arrays, ctypes.c_int64(first), ctypes.c_int64(size)]
        assert found.library.steps_steps(*arguments) == 0, found.message(-1)
        lines = [line.split() for line in found.library.read_journal().decode().splitlines()]
        assert [int(line[2]) for line in lines if line[0] == "launch"] == grids


def test_for_amd(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["build", f"{folder / 'kernels.py'}:checked", "--target", "triton:gfx942", "-o", str(tmp_path)]
    assert main(words) == 0
    names = {path.name for path in tmp_path.iterdir()}
    assert "checked_checked_aligned.gfx942.hsaco" in names and "checked.c" not in names
    capsys.readouterr()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--arch", "sm_10"], "there is no architecture 'sm_10'"),
        (["--arch", "sm_90,gfx942"], "not for both"),
        (["--isa", "avx2"], "--isa is not for the target triton"),
        (["--option", "num_warps"], "expected NAME=NUMBER"),
        (["--option", "warps=4"], "there is no option 'warps'"),
        (["--option", "num_warps=3"], "num_warps of a configuration is 3"),
        (["--option", "descriptors=1"], "takes arrays of any strides"),
        (["--name", "a-b"], "cannot be called"),
    ],
)
def test_asked_wrongly(
    folder: Path, tmp_path: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["build", f"{folder / 'kernels.py'}:checked", "--target", "triton", "-o", str(tmp_path), *words]) in (1, 2)
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())

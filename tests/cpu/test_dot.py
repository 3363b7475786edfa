"""The dot kernels of csrc/simd on every instruction set this machine runs, on data that no rounding can touch."""

import ctypes
import itertools
import subprocess
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

HERE = Path(__file__).parent
SIMD = HERE.parents[1] / "csrc" / "simd"
FLAGS = ["-O2", "-std=c++17", "-shared", "-fPIC", "-fwrapv", "-fno-math-errno", "-fno-trapping-math",
         "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-Wno-psabi"]
AVX512 = ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma", "-mf16c"]
ISAS = {
    "baseline": ([], []),
    "avx2": (["-mavx2", "-mfma", "-mf16c"], ["avx2", "fma", "f16c"]),
    "avx2_vnni": (["-mavx2", "-mfma", "-mf16c", "-mavxvnni"], ["avx2", "fma", "f16c", "avx_vnni"]),
    "avx512": (AVX512, ["avx512f", "avx512bw"]),
    "avx512_vnni": ([*AVX512, "-mavx512vnni"], ["avx512f", "avx512bw", "avx512_vnni"]),
}
DTYPES = {"f32": (np.float32, np.float32), "f64": (np.float64, np.float64),
          "f16": (np.float16, np.float32), "bf16": (ml_dtypes.bfloat16, np.float32),
          "i8": (np.int8, np.int32), "u8": (np.uint8, np.int32)}
SIZES = [(1, 1, 1), (3, 5, 7), (12, 32, 16), (13, 33, 17), (37, 53, 71), (2, 64, 100), (29, 100, 3), (24, 96, 130),
         (5, 31, 33), (8, 48, 64), (75, 48, 64), (0, 4, 4), (4, 0, 4), (6, 9, 0)]


def cpu_flags():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return {flag for line in lines if line.startswith(("flags", "Features")) for flag in line.split(":")[1].split()}


def build(folder, isa, flags, needed):
    if not set(needed) <= cpu_flags():
        pytest.skip(f"this machine has no {isa}")
    target = folder.mktemp("dot") / f"{isa}.so"
    subprocess.run(["g++", *FLAGS, *flags, f"-I{SIMD}", str(HERE / "dot_harness.cpp"), "-o", str(target)], check=True)
    return ctypes.CDLL(str(target))


@pytest.fixture(scope="module", params=ISAS)
def library(request, tmp_path_factory):
    return build(tmp_path_factory, request.param, *ISAS[request.param])


@pytest.fixture(scope="module")
def half_library(tmp_path_factory):
    return build(tmp_path_factory, "fp16", [*AVX512, "-mavx512fp16"], ["avx512f", "avx512_fp16"])


@pytest.fixture(scope="module")
def tiles_library(tmp_path_factory):
    flags = [*AVX512, "-mavx512vnni", "-mamx-tile", "-mamx-bf16", "-mamx-int8"]
    library = build(tmp_path_factory, "amx", flags, ["amx_tile", "amx_bf16", "amx_int8"])
    if not library.tiles_permitted():
        pytest.skip("the kernel gives no tile registers")
    return library


def pointer(array):
    return ctypes.c_void_p(array.ctypes.data)


def integers(*values):
    return [ctypes.c_int64(value) for value in values]


def matrix(rng, rows, columns, dtype, layout):
    """Small integers in one of several memory layouts; returns the array and its strides in elements."""
    if np.dtype(dtype).kind in "iu":
        info = np.iinfo(dtype)
        values = rng.choice(np.array([info.min, info.max, 1, 100], dtype), (rows, columns))
    else:
        values = rng.integers(-8, 9, (rows, columns)).astype(dtype)
    if layout == "columns":
        array = np.asfortranarray(values)
    elif layout == "strided":
        space = np.full((rows * 2 + 1, columns * 3 + 1), 77, dtype)
        array = space[1::2, 1::3][:rows, :columns]
        array[...] = values
    elif layout == "reversed":
        array = np.ascontiguousarray(values[::-1])[::-1]
    else:
        array = values
    return array, [stride // array.itemsize for stride in array.strides]


class Output:
    """A result matrix with guard elements on all sides."""

    def __init__(self, rows, columns, dtype, start):
        self.space = np.full((rows + 2, columns + 5), 12345, dtype)
        self.inside = self.space[1:1 + rows, 2:2 + columns]
        self.inside[...] = start
        self.row_stride = columns + 5

    def check(self, expected):
        np.testing.assert_array_equal(self.inside.astype(np.float64), expected)
        self.inside[...] = 12345
        assert (self.space == 12345).all(), "wrote outside the result"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layouts", list(itertools.product(["rows", "columns", "strided", "reversed"], repeat=2)))
def test_packed(library, dtype, layouts):
    check_product(library, f"packed_{dtype}", dtype, layouts)


@pytest.mark.parametrize("layouts", list(itertools.product(["rows", "columns", "strided", "reversed"], repeat=2)))
def test_half(half_library, layouts):
    check_product(half_library, "half_f16", "f16", layouts)


@pytest.mark.parametrize("magnitude", [1e-5, 1.0, 3e4])
def test_half_scales_its_operands(half_library, magnitude):
    """Tiny operands do not vanish and large ones do not overflow where the sums in f32 would not."""
    rng = np.random.default_rng(5)
    m, n, k = 30, 70, 200
    a, b = (rng.uniform(-magnitude, magnitude, shape).astype(np.float16) for shape in ((m, k), (k, n)))
    c, space = np.empty((m, n), np.float32), np.zeros(1 << 18, np.float32)
    half_library.half_f16(pointer(a), *integers(k, 1), pointer(b), *integers(n, 1), pointer(c),
                          *integers(n, m, n, k, 96), 0, pointer(space))
    exact = a.astype(np.float64) @ b.astype(np.float64)
    assert np.abs(c - exact).max() <= 0.01 * np.abs(exact).max()


@pytest.mark.parametrize("dtype", ["f16", "bf16", "i8"])
@pytest.mark.parametrize("layouts", list(itertools.product(["rows", "columns", "strided", "reversed"], repeat=2)))
def test_tiles(tiles_library, dtype, layouts):
    check_product(tiles_library, f"tiles_{dtype}", dtype, layouts)


def test_f16_tiles_on_real_and_special_values(tiles_library):
    """Split into two bf16, f16 products are as exact as in f32, and infinities and NaNs come where they must."""
    rng = np.random.default_rng(4)
    m, n, k = 40, 50, 300
    a, b = rng.standard_normal((m, k)).astype(np.float16), rng.standard_normal((k, n)).astype(np.float16)
    space = np.zeros(1 << 20, np.int32)
    for special in (False, True):
        if special:
            a[3, 5], a[4, 7], b[9, 11], a[8, 9], b[0, 0], a[9, 0] = np.inf, np.nan, -np.inf, 0, np.inf, 0
        c = np.empty((m, n), np.float32)
        tiles_library.tiles_f16(pointer(a), *integers(k, 1), pointer(b), *integers(n, 1), pointer(c),
                                *integers(n, m, n, k, 128), 0, pointer(space))
        with np.errstate(invalid="ignore"):
            exact, single = a.astype(np.float64) @ b.astype(np.float64), a.astype(np.float32) @ b.astype(np.float32)
        finite = np.isfinite(exact)
        np.testing.assert_array_equal(c[~finite], exact[~finite].astype(np.float32))
        error, reference = (np.abs(x[finite] - exact[finite]) for x in (c, single))
        assert error.max() <= 2 * reference.max() and error.std() <= 2 * reference.std()


def check_product(library, function, dtype, layouts):
    source, result = DTYPES[dtype]
    rng = np.random.default_rng(1)
    for (m, n, k), accumulate in itertools.product(SIZES, (False, True)):
        a, a_strides = matrix(rng, m, k, source, layouts[0])
        b, b_strides = matrix(rng, k, n, source, layouts[1])
        expected = a.astype(np.float64) @ b.astype(np.float64)
        start = rng.integers(-9, 9, (m, n)) if accumulate else 12345 if result is np.int32 else np.nan
        space = np.full((n + 64) * (k + 128) + (m + 64) * (k + 128), 1e9, result)
        for chunk in {max(k, 1), 16, 33}:
            c = Output(m, n, result, start)
            getattr(library, function)(
                pointer(a), *integers(*a_strides), pointer(b), *integers(*b_strides), pointer(c.inside),
                *integers(c.row_stride, m, n, k, chunk), int(accumulate), pointer(space))
            c.check(expected + start if accumulate else expected)


FEW = [(1, 1, 1), (1, 300, 70), (3, 5, 7), (8, 64, 96), (8, 133, 64), (13, 97, 129), (16, 100, 600), (5, 31, 33),
       (0, 4, 4), (4, 0, 4), (6, 9, 0)]


@pytest.mark.parametrize("dtype", ["f32", "f64", "f16", "bf16"])
@pytest.mark.parametrize("layout", ["rows", "columns", "strided"])
@pytest.mark.parametrize("method", ["rows", "inner"])
def test_few_rows(library, method, dtype, layout):
    check_few(library, method, dtype, layout)


@pytest.mark.parametrize("layout", ["rows", "columns", "strided"])
@pytest.mark.parametrize("method", ["rows", "inner"])
def test_few_rows_on_tiles(tiles_library, method, layout):
    check_few(tiles_library, f"tiles_{method}", "bf16", layout)


def check_few(library, method, dtype, layout):
    """B's rows, or columns, are contiguous, and what lies between them is NaN."""
    source, result = DTYPES[dtype]
    rng = np.random.default_rng(6)
    for (m, n, k), accumulate in itertools.product(FEW, (False, True)):
        a, a_strides = matrix(rng, m, k, source, layout)
        shape = (n, k) if method.endswith("inner") else (k, n)
        wide = np.full((shape[0], shape[1] + 3), np.nan, source)
        b = wide[:, : shape[1]]
        b[...] = rng.integers(-8, 9, shape)
        exact = a.astype(np.float64) @ (b.T if method.endswith("inner") else b).astype(np.float64)
        start = rng.integers(-9, 9, (m, n)) if accumulate else np.nan
        c, space = Output(m, n, result, start), np.full((m + 1) * (k + 64), np.nan, result)
        getattr(library, f"{method}_{dtype}")(
            pointer(a), *integers(*a_strides), pointer(b), *integers(shape[1] + 3), pointer(c.inside),
            *integers(c.row_stride, m, n, k), int(accumulate), pointer(space))
        c.check(exact + start if accumulate else exact)


@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("layout", ["rows", "columns", "strided", "reversed"])
def test_direct(library, dtype, layout):
    source, result = DTYPES[dtype]
    rng = np.random.default_rng(2)
    for (m, n, k), accumulate in itertools.product(SIZES, (False, True)):
        a, a_strides = matrix(rng, m, k, source, layout)
        wide = np.full((k, n + 3), np.nan, source)
        b = wide[:, :n]
        b[...] = rng.integers(-8, 9, (k, n))
        expected = a.astype(np.float64) @ b.astype(np.float64)
        start = rng.integers(-9, 9, (m, n)) if accumulate else np.nan
        c = Output(m, n, result, start)
        getattr(library, f"direct_{dtype}")(
            pointer(a), *integers(*a_strides), pointer(b), *integers(n + 3), pointer(c.inside),
            *integers(c.row_stride, m, n, k), int(accumulate))
        c.check(expected + start if accumulate else expected)


def test_bits_do_not_depend_on_the_tile(library):
    """One chain per element and call: cutting m and n elsewhere gives the same bits; parts of k are sums of their own."""
    rng = np.random.default_rng(3)
    m, n, k = 41, 77, 120
    a, b = rng.standard_normal((m, k), np.float32), rng.standard_normal((k, n), np.float32)
    whole, pieces, parts = (np.empty((m, n), np.float32) for _ in range(3))
    run = library.direct_f32
    for p, depth in ((0, 50), (50, 13), (63, k - 63)):
        tail = (*integers(n, m, n, depth), 0)
        run(pointer(a[:, p:]), *integers(k, 1), pointer(b[p:]), *integers(n), pointer(parts), *tail)
        whole = parts.copy() if p == 0 else whole + parts
    for i, j, p in itertools.product((0, 5, 22), (0, 40), (0, 50, 63)):
        rows = {0: 5, 5: 17, 22: m - 22}[i]
        columns = {0: 40, 40: n - 40}[j]
        depth = {0: 50, 50: 13, 63: k - 63}[p]
        run(pointer(a[i:, p:]), *integers(k, 1), pointer(b[p:, j:]), *integers(n), pointer(pieces[i:, j:]),
            *integers(n, rows, columns, depth), int(p > 0))
    assert (whole.view(np.uint32) == pieces.view(np.uint32)).all()

"""The headers in csrc/simd on every instruction set that this machine runs: conversions, memory bounds, accuracy."""

import ctypes
import itertools
import mmap
import shutil
import subprocess
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

mpmath = pytest.importorskip("mpmath", reason="the double functions are checked against mpmath")

HERE = Path(__file__).parent
SIMD = HERE.parents[1] / "csrc" / "simd"
FLAGS = ["-O1", "-std=c++17", "-shared", "-fPIC", "-fwrapv", "-fno-math-errno", "-fno-trapping-math",
         "-ffp-contract=off", "-fvisibility=hidden", "-Wall", "-Wextra", "-Werror", f"-I{SIMD}"]
AVX512 = ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx2", "-mfma", "-mf16c"]
ISAS = {
    "avx512": AVX512,
    "avx512_bf16": [*AVX512, "-mavx512bf16"],
    "avx2": ["-mavx2", "-mfma", "-mf16c"],
    "baseline": [],
}
NEEDED = {"avx512": {"avx512f", "avx512bw", "avx512dq", "avx512vl"}, "avx2": {"avx2", "fma", "f16c"}, "baseline": set()}
NEEDED["avx512_bf16"] = NEEDED["avx512"] | {"avx512_bf16"}

# Storage type: how memory and registers look from NumPy.
STORAGE = {
    "f32": (np.float32, np.float32), "f64": (np.float64, np.float64), "i8": (np.int8, np.int32),
    "i16": (np.int16, np.int32), "i32": (np.int32, np.int32), "i64": (np.int64, np.int64), "u8": (np.uint8, np.int32),
    "u16": (np.uint16, np.int32), "u32": (np.uint32, np.uint32), "u64": (np.uint64, np.uint64),
    "f16": (np.float16, np.float32), "bf16": (ml_dtypes.bfloat16, np.float32),
    "f8e4m3": (ml_dtypes.float8_e4m3fn, np.float32), "f8e5m2": (ml_dtypes.float8_e5m2, np.float32),
    "bool8": (np.bool_, np.int32),
}
SMALL_FLOATS = ["f16", "bf16", "f8e4m3", "f8e5m2"]
SUFFIX = {np.dtype(np.float32): "f32", np.dtype(np.float64): "f64", np.dtype(np.int32): "i32",
          np.dtype(np.uint32): "u32", np.dtype(np.int64): "i64", np.dtype(np.uint64): "u64"}


def cpu_flags():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return {flag for line in lines if line.startswith("flags") for flag in line.split(":")[1].split()}


@pytest.fixture(scope="session")
def libraries(tmp_path_factory):
    """All instruction sets compiled side by side."""
    if shutil.which("g++") is None:
        pytest.skip("no g++")
    folder = tmp_path_factory.mktemp("simd")
    have = cpu_flags()
    source = str(HERE / "simd_library.cpp")
    running = {isa: subprocess.Popen(["g++", *FLAGS, *flags, source, "-o", str(folder / f"{isa}.so")])
               for isa, flags in ISAS.items() if NEEDED[isa] <= have}
    assert all(process.wait() == 0 for process in running.values())
    return {isa: ctypes.CDLL(str(folder / f"{isa}.so")) for isa in running}


@pytest.fixture(params=ISAS)
def library(request, libraries):
    if request.param not in libraries:
        pytest.skip(f"this machine has no {request.param}")
    return libraries[request.param]


@pytest.fixture(autouse=True)
def quiet():
    with np.errstate(all="ignore"):
        yield


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def pointer(array):
    return ctypes.c_void_p(array.ctypes.data)


def call(library, name, *arrays, out=None):
    """name(arrays..., out, count); the result has the first array's type unless `out` says otherwise."""
    out = np.empty_like(arrays[0]) if out is None else out
    assert len(out) % 16 == 0
    getattr(library, name)(*map(pointer, arrays), pointer(out), ctypes.c_int64(len(out)))
    return out


def apply(library, name, *arrays):
    """An elementwise function, checked to give the same bits on scalars (but for what a NaN carries)."""
    suffix = SUFFIX[arrays[0].dtype]
    result = call(library, f"{name}_{suffix}", *arrays)
    few = [array[:2048] for array in arrays]
    same_values(call(library, f"{name}_scalar_{suffix}", *few), result[:2048])
    return result


def same_bits(a, b):
    kind = f"u{a.dtype.itemsize}"
    np.testing.assert_array_equal(np.ascontiguousarray(a).view(kind), np.ascontiguousarray(b).view(kind))


def same_values(got, expected):
    """Equal bits, except that a NaN equals every NaN."""
    nan = np.isnan(expected.astype(np.float64))
    np.testing.assert_array_equal(np.isnan(got.astype(np.float64)), nan)
    kind = f"u{got.dtype.itemsize}"
    np.testing.assert_array_equal(got.view(kind)[~nan], expected.view(kind)[~nan])


def all_bits(dtype):
    return np.arange(1 << 8 * np.dtype(dtype).itemsize, dtype=f"u{np.dtype(dtype).itemsize}").view(dtype)


def any_floats(rng, dtype, count=1 << 16):
    """Floats of uniformly random bits: all magnitudes, subnormals, infinities and NaNs."""
    return rng.integers(0, 1 << 64, count, dtype=np.uint64).astype(f"u{np.dtype(dtype).itemsize}").view(dtype)


SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 3.0, -3.0, 2.5, -2.5, np.inf, -np.inf, np.nan, -np.nan,
           1e-45, -1e-45, 1e-40, 1.17549435e-38, 3.4028235e38, -3.4028235e38, 65504.0, 65520.0, 448.0, 464.0, 465.0,
           57344.0, 61440.0, 8388607.5, 1e30, -1e30]


# Conversions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*SMALL_FLOATS, "i8", "u8", "i16", "u16"])
def test_every_stored_value_expands(library, name):
    memory, register = STORAGE[name]
    values = all_bits(memory)
    got = call(library, f"expand_{name}", values, out=np.empty(len(values), register))
    same_values(got, values.astype(register))


@pytest.mark.parametrize("name", SMALL_FLOATS)
def test_rounding_to_small_floats(library, rng, name):
    memory, _ = STORAGE[name]
    stored = all_bits(memory)
    finite = np.sort(np.unique(stored.astype(np.float32)[np.isfinite(stored.astype(np.float32))]))
    middle = ((finite[1:].astype(np.float64) + finite[:-1]) / 2).astype(np.float32)
    parts = [stored.astype(np.float32), middle, np.nextafter(middle, np.float32(np.inf)),
             np.nextafter(middle, np.float32(-np.inf)), np.array(SPECIAL, np.float32), any_floats(rng, np.float32),
             rng.normal(size=1 << 15).astype(np.float32), np.arange(0, 1 << 32, 65521, dtype=np.uint32).view(np.float32)]
    values = np.concatenate(parts)
    values = np.concatenate([values, np.zeros(-len(values) % 16, np.float32)])
    expected = values.astype(memory)
    rounded = apply(library, f"round_{name}", values)
    same_values(rounded, expected.astype(np.float32))
    nan = np.isnan(values)
    # Stores of bf16 do not round again.
    got = call(library, f"contract_{name}", rounded if name == "bf16" else values, out=np.empty(len(values), memory))
    same_values(got, expected)
    np.testing.assert_array_equal(np.signbit(got[nan]), np.signbit(values[nan]))
    if name == "bf16":
        at_once = call(library, "contract_rounded_bf16", values, out=np.empty(len(values), memory))
        same_values(at_once, expected)
        np.testing.assert_array_equal(np.signbit(at_once[nan]), np.signbit(values[nan]))


def test_double_to_half_rounds_once(library, rng):
    half = all_bits(np.float16)[:0x7c00].astype(np.float64)
    middle = (half[1:] + half[:-1]) / 2
    values = np.concatenate([half, middle, np.nextafter(middle, 9e9), np.nextafter(middle, -9e9), [np.inf, -np.inf, np.nan],
                             rng.normal(size=4096)])
    values = np.concatenate([values, np.zeros(-len(values) % 16)])
    same_values(call(library, "convert_odd_f16", values, out=np.empty(len(values), np.float16)), values.astype(np.float16))


@pytest.mark.parametrize("name", ["i8", "u8", "i16", "u16"])
def test_narrow_integers_wrap(library, rng, name):
    memory, _ = STORAGE[name]
    values = rng.integers(-1 << 31, 1 << 31, 1 << 12).astype(np.int32)
    expected = values.astype(memory)
    np.testing.assert_array_equal(call(library, f"contract_{name}", values, out=np.empty(len(values), memory)), expected)
    np.testing.assert_array_equal(apply(library, f"wrap_{name}", values), expected.astype(np.int32))


@pytest.mark.parametrize("source", ["f32", "f64", "i32", "u32", "i64", "u64"])
@pytest.mark.parametrize("target", ["f32", "f64", "i32", "u32", "i64", "u64"])
def test_register_conversions(library, rng, source, target):
    start, end = STORAGE[source][0], STORAGE[target][0]
    if np.dtype(start).kind == "f":
        top = min(2.0**62, 2.0 ** (8 * np.dtype(end).itemsize - 2)) if np.dtype(end).kind != "f" else 1e30
        values = np.concatenate([(rng.normal(size=1000) * 10).astype(start), rng.uniform(0, top, 1000).astype(start),
                                 np.array([0, 0.5, 1.5, 2.5, 0.99999, 255.5, 65535.9, 1e9], start)])
        if np.dtype(end).kind == "u":
            values = np.abs(values)
    else:
        info = np.iinfo(start)
        values = np.concatenate([rng.integers(info.min, info.max, 1000, dtype=start, endpoint=True),
                                 rng.integers(0, 1000, 1000).astype(start), np.array([info.min, info.max, 0, 1], start)])
    values = np.concatenate([values, np.zeros(-len(values) % 16, start)])
    got = call(library, f"convert_{source}_{target}", values, out=np.empty(len(values), end))
    same_bits(got, values.astype(end))


# Memory -----------------------------------------------------------------------------------------------------------

PAGE = mmap.PAGESIZE


class Guarded:
    """One page of memory between two that may not be touched."""

    def __init__(self):
        self.map = mmap.mmap(-1, 3 * PAGE)
        self.base = ctypes.addressof(ctypes.c_char.from_buffer(self.map))
        protect = ctypes.CDLL(None, use_errno=True).mprotect
        for page in (0, 2):
            assert protect(ctypes.c_void_p(self.base + page * PAGE), ctypes.c_size_t(PAGE), 0) == 0
        self.begin, self.end = self.base + PAGE, self.base + 2 * PAGE

    def array(self, address, count, dtype):
        size = count * np.dtype(dtype).itemsize
        return np.frombuffer((ctypes.c_char * size).from_address(address), dtype)


@pytest.fixture(scope="module")
def guarded():
    return Guarded()


def access(library, name, lanes, what, address, values, offsets=None, stride=0, lo=0, hi=0):
    getattr(library, f"access_{name}")(
        ctypes.c_int(lanes), ctypes.c_int(what), ctypes.c_void_p(address), ctypes.c_int64(stride), ctypes.c_int64(lo),
        ctypes.c_int64(hi), pointer(values), ctypes.c_void_p(0) if offsets is None else pointer(offsets))


def sample(name, count, seed=1):
    rng = np.random.default_rng(seed)
    memory, register = STORAGE[name]
    stored = rng.integers(0, 2, count).astype(memory) if name == "bool8" else rng.integers(0, 8, count).astype(memory)
    values = stored.astype(register)
    return stored, (-values if name == "bool8" else values)


def lane_count(library, lanes):
    full = 16 if library.native_register_bytes() == 64 else 8
    return {"full": full, "double": 2 * full}.get(lanes, lanes)


LOWS = (-(1 << 63), -3, 0, 1, 2, 5, 15, 16, 40)
RANGES = [(lo, hi) for lo in LOWS for hi in (-5, 0, 1, 3, 4, 9, 15, 16, 33, (1 << 63) - 1)]


@pytest.mark.parametrize("lanes", [1, 4, "full", "double"])
@pytest.mark.parametrize("name", STORAGE)
def test_ranges_touch_nothing_outside(library, guarded, name, lanes):
    lanes = lane_count(library, lanes)
    memory, register = STORAGE[name]
    size = np.dtype(memory).itemsize
    stored, values = sample(name, lanes)
    pad = -1 if name == "bool8" else 3
    for lo, hi in RANGES:
        begin, end = min(max(lo, 0), lanes), min(max(hi, 0), lanes)
        inside = slice(begin, max(begin, end))
        count = max(end - begin, 0)
        # Against the page's end, against its beginning, and with nothing inside: at an address that is not there.
        addresses = [guarded.end - end * size, guarded.begin - begin * size] if count else [64]
        for address in addresses:
            image = guarded.array(address + begin * size, count, memory)
            image[:] = stored[inside]
            for what, fill in ((2, pad), (3, 0)):
                got = np.full(lanes, 77, register)
                access(library, name, lanes, what, address, got, lo=lo, hi=hi)
                expected = np.full(lanes, fill, register)
                expected[inside] = values[inside]
                np.testing.assert_array_equal(got, expected, f"{name} {lanes} {lo} {hi}")
            if count:
                image[:] = np.zeros(1, memory)
                access(library, name, lanes, 4, address, values, lo=lo, hi=hi)
                np.testing.assert_array_equal(image, stored[inside])
                before = guarded.array(guarded.begin, PAGE // size, memory)
                before[:] = np.ones(1, memory)
                access(library, name, lanes, 4, address, values, lo=lo, hi=hi)
                image[:] = np.ones(1, memory)
                assert (before == np.ones(1, memory)).all()
            else:
                access(library, name, lanes, 4, address, values, lo=lo, hi=hi)


@pytest.mark.parametrize("lanes", [1, 4, "full", "double"])
@pytest.mark.parametrize("name", STORAGE)
def test_whole_loads_and_stores(library, guarded, name, lanes):
    lanes = lane_count(library, lanes)
    memory, register = STORAGE[name]
    size = np.dtype(memory).itemsize
    stored, values = sample(name, lanes)
    address = guarded.end - lanes * size  # touches nothing behind
    image = guarded.array(address, lanes, memory)
    image[:] = stored
    got = np.zeros(lanes, register)
    access(library, name, lanes, 0, address, got)
    np.testing.assert_array_equal(got, values)
    image[:] = np.zeros(1, memory)
    access(library, name, lanes, 1, address, values)
    np.testing.assert_array_equal(image, stored)


@pytest.mark.parametrize("name", STORAGE)
def test_strided_gathered_scattered(library, name):
    n = lane_count(library, "full")
    memory, register = STORAGE[name]
    size = np.dtype(memory).itemsize
    stored, values = sample(name, 256)
    pad = -1 if name == "bool8" else 3
    memory_now = stored.copy()
    middle = 128
    address = memory_now.ctypes.data + middle * size
    got = np.zeros(n, register)
    for stride in (0, 1, 2, 7, -1, -3):
        memory_now[:] = stored
        where = middle + stride * np.arange(n)
        access(library, name, n, 5, address, got, stride=stride)
        np.testing.assert_array_equal(got, values[where])
        access(library, name, n, 7, address, got, stride=stride, lo=2, hi=n - 2)
        lane = np.arange(n)
        ok = (lane >= 2) & (lane < n - 2)
        np.testing.assert_array_equal(got, np.where(ok, values[where], pad))
        if stride:
            for what, chosen in ((6, lane >= 0), (8, ok)):
                memory_now[:] = np.zeros(1, memory)
                access(library, name, n, what, address, values, stride=stride, lo=2, hi=n - 2)
                expected = np.zeros(256, memory)
                expected[where[chosen]] = stored[:n][chosen]
                np.testing.assert_array_equal(memory_now, expected)
    memory_now[:] = stored
    offsets = np.random.default_rng(3).integers(-100, 100, n)
    wild = np.where(ok, offsets, 1 << 50)  # lanes that are off must not be touched
    access(library, name, n, 9, address, got, wild, lo=2, hi=n - 2)
    np.testing.assert_array_equal(got, np.where(ok, values[middle + offsets], pad))
    offsets[:] = [1, 2, 3, 1, 2, 3, 1, 1, 1, 5, 6, 1, 2, 3, 4, 5][:n]
    wild = np.where(ok, offsets, 1 << 50)
    access(library, name, n, 10, address, values, wild, lo=2, hi=n - 2)
    expected = stored.copy()
    for k in range(2, n - 2):
        expected[middle + offsets[k]] = stored[k]
    np.testing.assert_array_equal(memory_now, expected)
    if name == "bool8":
        return
    for what, combine in ((11, np.add), (12, np.maximum), (13, np.minimum)):
        memory_now[:] = stored
        access(library, name, n, what, address, values, wild, lo=2, hi=n - 2)
        expected = stored.copy()
        for k in range(2, n - 2):
            old = expected[middle + offsets[k]].astype(register)
            expected[middle + offsets[k]] = combine(old, values[k]).astype(memory)
        np.testing.assert_array_equal(memory_now, expected)


@pytest.mark.parametrize("name", STORAGE)
def test_streaming_and_single_elements(library, name):
    n = lane_count(library, "full")
    memory, register = STORAGE[name]
    stored, values = sample(name, n)
    room = np.zeros(192, memory)
    size = room.itemsize
    aligned = (-room.ctypes.data // size) % (64 // size)
    for start in (aligned, aligned + 1):
        room[:] = np.zeros(1, memory)
        access(library, name, n, 14, room.ctypes.data + start * size, values)
        np.testing.assert_array_equal(room[start:start + n], stored)
        assert (room[:start] == np.zeros(1, memory)).all()
        assert (room[start + n:] == np.zeros(1, memory)).all()
    got = np.zeros(n, register)
    access(library, name, n, 15, stored.ctypes.data, got)
    np.testing.assert_array_equal(got, values)
    room[:n] = np.zeros(1, memory)
    access(library, name, n, 16, room.ctypes.data, values)
    np.testing.assert_array_equal(room[:n], stored)


# Arithmetic -------------------------------------------------------------------------------------------------------


def float_pairs(rng, dtype):
    special = np.array(SPECIAL, dtype)
    a, b = (grid.ravel() for grid in np.meshgrid(special, special))
    random = [any_floats(rng, dtype, 4096), rng.normal(size=4096).astype(dtype) * 10, any_floats(rng, dtype, 4096)]
    other = [any_floats(rng, dtype, 4096), rng.normal(size=4096).astype(dtype), rng.normal(size=4096).astype(dtype)]
    return np.concatenate([a, *random]), np.concatenate([b, *other])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rounding_and_roots(library, rng, dtype):
    values = np.concatenate([np.array(SPECIAL, dtype), any_floats(rng, dtype, 1 << 14),
                             (rng.normal(size=1 << 14) * 100).astype(dtype), np.arange(-64, 64, dtype=dtype) / 4])
    for name in ("floor", "ceil", "trunc", "rint", "sqrt", "abs"):
        same_values(apply(library, name, values), getattr(np, name)(values))
    positive = np.abs(values)
    expected = 1 / np.sqrt(positive.astype(np.longdouble))
    assert worst_ulp(apply(library, "rsqrt", positive), expected) <= 1.5


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_min_max_division_like_numpy(library, rng, dtype):
    a, b = float_pairs(rng, dtype)
    for name, reference in (("min", np.minimum), ("max", np.maximum)):
        got, expected = apply(library, name, a, b), reference(a, b)
        np.testing.assert_array_equal(got, expected)  # which zero of two is not promised
    same_values(apply(library, "copysign", a, b), np.copysign(a, b))
    np.testing.assert_array_equal(apply(library, "floordiv", a, b), np.floor_divide(a, b))
    same_values(apply(library, "floormod", a, b), np.mod(a, b))


@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.int64, np.uint64])
def test_integer_arithmetic(library, rng, dtype):
    info = np.iinfo(dtype)
    negative = [-1, -2, -3, -7] if info.min else []
    special = np.array([info.min, info.min + 1, info.max, info.max - 1, 0, 1, 2, 3, 7, *negative], dtype)
    a, b = (grid.ravel() for grid in np.meshgrid(special, special))
    wide = rng.integers(info.min, info.max, 4096, dtype=dtype, endpoint=True)
    a = np.concatenate([a, wide, wide, np.zeros(-len(a) % 16, dtype)])
    b = np.concatenate([b, rng.permutation(wide), rng.integers(-50 if info.min else 0, 50, 4096).astype(dtype)])
    b = np.concatenate([b, np.zeros(len(a) - len(b), dtype)])
    for name, reference in (("min", np.minimum), ("max", np.maximum), ("floordiv", np.floor_divide), ("floormod", np.mod)):
        np.testing.assert_array_equal(apply(library, name, a, b), reference(a, b), name)
    distance = rng.integers(0, 2 * 8 * info.dtype.itemsize, len(a)).astype(dtype)
    np.testing.assert_array_equal(apply(library, "shift_left", a, distance), np.left_shift(a, distance))
    np.testing.assert_array_equal(apply(library, "shift_right", a, distance), np.right_shift(a, distance))
    if info.min:
        np.testing.assert_array_equal(apply(library, "abs", a), np.abs(a))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.uint64])
def test_relations_and_selection(library, rng, dtype):
    if np.dtype(dtype).kind == "f":
        a, b = float_pairs(rng, dtype)
    else:
        a, b = (rng.integers(0, 4, 1024).astype(dtype) * (np.iinfo(dtype).max // 3) for _ in range(2))
    bits, chosen = np.zeros(len(a), np.int32), np.zeros_like(a)
    getattr(library, f"relations_{SUFFIX[np.dtype(dtype)]}")(*map(pointer, (a, b, bits, chosen)), ctypes.c_int64(len(a)))
    expected = [a == b, a != b, a < b, a <= b, a > b, a >= b, a != 0, a < b]
    expected += [np.isnan(a), np.isinf(a), np.isfinite(a)] if np.dtype(dtype).kind == "f" else [False, False, False]
    expected.append(a > b)
    np.testing.assert_array_equal(bits, sum(np.asarray(e, np.int32) << k for k, e in enumerate(expected)))
    np.testing.assert_array_equal(chosen, np.where(a < b, a, b))


def test_fused_multiply_add(library, rng):
    count = 1 << 14
    a, b = (rng.normal(size=count).astype(np.float32) for _ in range(2))
    c = -(a * b) + (rng.normal(size=count) * 1e-6).astype(np.float32) * (rng.random(count) < 0.5).astype(np.float32)
    a[:64], b[:64] = any_floats(rng, np.float32, 64), any_floats(rng, np.float32, 64)
    expected = (a.astype(np.longdouble) * b + c).astype(np.float32)  # 48 bits of product and the sum fit 64 here
    np.testing.assert_array_equal(call(library, "fma_f32", a, b, c), expected)
    x, y = rng.normal(size=count), rng.normal(size=count)
    lost = call(library, "fma_f64", x, y, -(x * y))
    with mpmath.workprec(200):
        exact = [float(mpmath.mpf(x[k]) * mpmath.mpf(y[k]) - mpmath.mpf(x[k] * y[k])) for k in range(256)]
    np.testing.assert_array_equal(lost[:256], exact)
    signs = np.array(list(itertools.product([0.0, -0.0, 3.0, -3.0], [0.0, -0.0, 3.0, -3.0], [0.0, -0.0])))
    for dtype, name in ((np.float32, "fma_f32"), (np.float64, "fma_f64")):
        u, v, w = np.ascontiguousarray(signs.T.astype(dtype))
        same_bits(call(library, name, u, v, w), u * v + w)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_invariant_division_equals_division(library, rng, dtype):
    """Any bits, and numbers whose quotients are near and beyond the limits of the type."""
    near, ends = rng.normal(size=(2, 1 << 14)), rng.choice([2.0**-126, 2.0**-149, 2.0**127, 1.0, 0.0], (2, 1 << 14))
    a, b = (np.concatenate([any_floats(rng, dtype), near[k], near[k] * ends[k]]).astype(dtype) for k in range(2))
    same_values(call(library, f"invariant_divide_{SUFFIX[np.dtype(dtype)]}", a, b), a / b)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.uint64])
def test_reductions_and_scans(library, rng, dtype):
    suffix = SUFFIX[np.dtype(dtype)]
    for lanes in (1, 4, 64):
        values = rng.integers(1, 3 if lanes > 16 else 9, lanes).astype(dtype)
        values[: lanes // 2] = 1
        out = np.zeros(6, dtype)
        getattr(library, f"reduce_{suffix}")(ctypes.c_int(lanes), pointer(values), pointer(out))
        expected = [values.sum(), values.prod(), values.min(), values.max()]
        if np.dtype(dtype).kind in "iu":
            expected += [np.bitwise_and.reduce(values), np.bitwise_or.reduce(values)]
        np.testing.assert_array_equal(out[: len(expected)], np.array(expected, dtype))
    values = rng.integers(1, 4, 16).astype(dtype)
    out = np.zeros(64, dtype)
    getattr(library, f"scan_{suffix}")(pointer(values), pointer(out))
    for k, f in enumerate((np.add, np.multiply, np.minimum, np.maximum)):
        np.testing.assert_array_equal(out[16 * k: 16 * k + 16], f.accumulate(values))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_reduction_order_is_halving(library, rng, dtype):
    values = (rng.normal(size=64) * 10.0 ** rng.integers(-6, 6, 64)).astype(dtype)
    out = np.zeros(6, dtype)
    getattr(library, f"reduce_{SUFFIX[np.dtype(dtype)]}")(ctypes.c_int(64), pointer(values), pointer(out))
    while len(values) > 1:
        values = values[: len(values) // 2] + values[len(values) // 2:]
    same_bits(out[:1], values)


def test_any_and_all(library):
    for lane in (None, 0, 1, 3, 7, 15, 40, 63):
        for full in (0, -1):
            m = np.full(64, full, np.int32)
            if lane is not None:
                m[lane] = ~m[lane]
            got = library.any_all(pointer(m))
            expected = 0
            for k, lanes in enumerate((16, 4, 64, 1)):
                expected |= int(m[:lanes].any()) << 2 * k | int(m[:lanes].all()) << 2 * k + 1
            assert got == expected


def test_parallel_for_covers_everything(library):
    library.parallel_sum.restype = ctypes.c_int64
    for count, chunk in ((0, 4), (1, 4), (1000, 7), (1024, 64)):
        assert library.parallel_sum(ctypes.c_int64(count), ctypes.c_int64(chunk)) == count * (count - 1) // 2


# Random numbers ---------------------------------------------------------------------------------------------------


def philox(seed, counter, upper):
    """Philox 4x32-10 in Python integers."""
    words = [counter & 0xFFFFFFFF, counter >> 32 & 0xFFFFFFFF, upper & 0xFFFFFFFF, upper >> 32 & 0xFFFFFFFF]
    key = [seed & 0xFFFFFFFF, seed >> 32 & 0xFFFFFFFF]
    for _ in range(10):
        a, b = 0xD2511F53 * words[0], 0xCD9E8D57 * words[2]
        words = [b >> 32 ^ words[1] ^ key[0], b & 0xFFFFFFFF, a >> 32 ^ words[3] ^ key[1], a & 0xFFFFFFFF]
        key = [key[0] + 0x9E3779B9 & 0xFFFFFFFF, key[1] + 0xBB67AE85 & 0xFFFFFFFF]
    return words


def test_philox(library, rng):
    known = {(0, 0, 0): "6627e8d5 e169c58d bc57ac4c 9b00dbd8", (-1, -1, -1): "408f276d 41c83b0e a20bc7c6 6d5451fd",
             (0x299F31D0A4093822, 0x85A308D3243F6A88, 0x0370734413198A2E): "d16cfe09 94fdcceb 5001e420 24126ea1"}
    for (seed, counter, upper), words in known.items():
        expected = [int(word, 16) for word in words.split()]
        assert philox(seed, counter, upper) == expected
        c, u = (np.full(16, np.array(x & (1 << 64) - 1, np.uint64)).view(np.int64) for x in (counter, upper))
        out = np.zeros((4, 16), np.uint32)
        library.philox_words(ctypes.c_int64(seed), pointer(c), pointer(u), pointer(out), ctypes.c_int64(16))
        np.testing.assert_array_equal(out, np.repeat(np.array(expected, np.uint32)[:, None], 16, 1))
    counters, seed = rng.integers(-1 << 63, 1 << 63, 64), -123456789012345
    words, uniform = np.zeros(64, np.uint32), np.zeros(64, np.float32)
    library.philox_uniform(ctypes.c_int64(seed), pointer(counters), pointer(words), pointer(uniform), ctypes.c_int64(64))
    np.testing.assert_array_equal(words, np.array([philox(seed, int(c), 0)[0] for c in counters], np.uint32))
    np.testing.assert_array_equal(uniform, (words >> 8).astype(np.float32) * np.float32(2**-24))


# Elementary functions ---------------------------------------------------------------------------------------------


def worst_ulp(got, expected):
    """The largest error in units in the last place; a wrong NaN, infinity or zero's sign counts as infinite."""
    dtype = got.dtype
    rounded = expected.astype(dtype)
    wrong = ~((got == rounded) | (np.isnan(got) & np.isnan(rounded)))
    if (np.signbit(got) != np.signbit(rounded))[(rounded == 0) & ~wrong].any():
        return np.inf
    if not wrong.any():
        return 0.5
    info = np.finfo(dtype)
    g, e = got[wrong].astype(np.longdouble), expected[wrong].astype(np.longdouble)
    # A result beyond the largest number by less than an ulp may be infinite, and the other way round.
    g = np.where(np.isinf(g), np.copysign(np.ldexp(np.longdouble(1), info.maxexp), g), g)
    e = np.where(np.isinf(rounded[wrong]) & np.isinf(e), np.nan, e)
    exponent = np.maximum(np.frexp(np.abs(e))[1] - 1, info.minexp)
    error = np.abs(g - e) / np.ldexp(np.longdouble(1), exponent - info.nmant)
    return float(np.where(np.isnan(error), np.inf, error).max())


def numpy_name(name):
    return {"atan": "arctan", "asin": "arcsin", "acos": "arccos"}.get(name, name)


def reference(name, x):
    """For float arguments, in longdouble."""
    x = x.astype(np.longdouble)
    if name == "sigmoid":
        return np.where(x < 0, np.exp(x) / (1 + np.exp(x)), 1 / (1 + np.exp(-x)))
    if name == "erf":
        return erf_series(x)
    return getattr(np, numpy_name(name))(x)


def erf_series(x):
    """Abramowitz & Stegun 7.1.6 in longdouble: all terms positive, so nothing cancels."""
    a = np.minimum(np.abs(x), np.longdouble(7))
    term = total = a
    for n in range(1, 260):
        term = term * (2 * a * a) / (2 * n + 1)
        total = total + term
    pi = np.longdouble(np.pi) + np.longdouble(1.2246467991473532e-16)
    return np.copysign(2 / np.sqrt(pi) * np.exp(-a * a) * total, x)


# name: interval where most happens, and the bound in ulp for float (AVX-512 and AVX2, baseline) and double
FUNCTIONS = {
    "exp": (-104, 89, 1.0, 1.3, 1.0), "exp2": (-150, 128, 1.0, 1.2, 1.1), "expm1": (-20, 89, 1.6, 1.6, 1.8),
    "log": (0, 10, 1.0, 1.0, 1.0), "log2": (0, 10, 1.3, 2.2, 1.6), "log10": (0, 10, 1.2, 2.2, 1.5),
    "log1p": (-1, 10, 1.1, 1.1, 1.1), "sin": (-1e5, 1e5, 1.7, 1.7, 1.0), "cos": (-1e5, 1e5, 1.7, 1.7, 1.0),
    "tan": (-1e5, 1e5, 3.8, 3.8, 2.2), "tanh": (-10, 10, 2.0, 1.6, 2.2), "sigmoid": (-100, 30, 1.6, 2.5, 1.9),
    "erf": (-5, 5, 1.6, 1.6, 1.2), "atan": (-10, 10, 2.0, 2.0, 1.0), "asin": (-1, 1, 1.4, 1.4, 1.3),
    "acos": (-1, 1, 1.4, 1.4, 1.3), "sinh": (-90, 90, 2.3, 2.3, 2.2), "cosh": (-90, 90, 1.6, 1.8, 1.4),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_float_accuracy(library, rng, name):
    low, high, bound, bound_baseline, _ = FUNCTIONS[name]
    count = 1 << 15
    values = np.concatenate([np.array(SPECIAL, np.float32), rng.uniform(low, high, count).astype(np.float32),
                             any_floats(rng, np.float32, count),
                             (rng.uniform(-1, 1, count) * 2.0 ** rng.integers(-30, 4, count)).astype(np.float32)])
    if library.native_register_bytes() == 16:
        bound = bound_baseline
    got = apply(library, name, values)
    assert worst_ulp(got, reference(name, values)) <= bound


@pytest.mark.parametrize("name", FUNCTIONS)
def test_double_accuracy(library, rng, name):
    low, high, *_, bound = FUNCTIONS[name]
    scale = 8 if name in ("exp", "exp2", "sinh", "cosh") else 1
    values = np.concatenate([np.array(SPECIAL), rng.uniform(low * scale, high * scale, 160),
                             any_floats(rng, np.float64, 160), rng.uniform(-1, 1, 160) * 2.0 ** rng.integers(-40, 4, 160)])
    got = apply(library, name, values)
    near = getattr(np, numpy_name(name), None)
    expected = reference(name, values) if near is None else near(values)
    rows = np.stack([values, got, expected.astype(np.float64)], 1).tolist()
    with mpmath.workprec(200):
        for x, y, e in rows:
            if not np.isfinite([x, y, e]).all() or abs(e) < 1e-307 or abs(x) > 1e300:
                assert worst_ulp(np.array([y]), np.array([e])) <= 2, x
                continue
            exact = precise(name, x)
            unit = mpmath.ldexp(1, max(int(mpmath.frexp(exact)[1]) - 1, -1022) - 52)
            assert abs(mpmath.mpf(y) - exact) / unit <= bound, x


def precise(name, x):
    x = mpmath.mpf(x)
    if name == "sigmoid":
        return 1 / (1 + mpmath.exp(-x))
    if name == "exp2":
        return mpmath.mpf(2) ** x
    if name == "log2":
        return mpmath.log(x, 2)
    if name in ("tanh", "erf") and abs(x) > 100:
        return mpmath.sign(x)
    return getattr(mpmath, name)(x)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_two_argument_functions(library, rng, dtype):
    a, b = float_pairs(rng, dtype)
    base = np.concatenate([a, np.abs(a), np.exp(rng.uniform(-20, 20, 4096)).astype(dtype)])
    power = np.concatenate([b, b, rng.uniform(-30, 30, 4096).astype(dtype)])
    wide = np.longdouble
    expected = np.power(base.astype(wide), power.astype(wide))
    assert worst_ulp(apply(library, "pow", base, power), expected) <= (0.51 if dtype == np.float32 else 1.1)
    assert worst_ulp(apply(library, "atan2", a, b), np.arctan2(a.astype(wide), b.astype(wide))) <= 2.5


# Other compilers --------------------------------------------------------------------------------------------------


def test_neon_compiles():
    compiler = shutil.which("aarch64-linux-gnu-g++")
    if compiler is None:
        pytest.skip("no aarch64-linux-gnu-g++ (Debian: apt install g++-aarch64-linux-gnu)")
    flags = [flag for flag in FLAGS if flag != "-shared"]
    subprocess.run([compiler, *flags, "-fsyntax-only", str(HERE / "simd_library.cpp")], check=True)


def test_clang_compiles():
    compiler = shutil.which("clang++")
    if compiler is None:
        pytest.skip("no clang++ (Debian: apt install clang)")
    flags = [flag for flag in FLAGS if flag != "-shared"]
    subprocess.run([compiler, *flags, "-fsyntax-only", "-march=skylake-avx512", str(HERE / "simd_library.cpp")],
                   check=True)

"""What vector instructions compute, beside NumPy."""

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from harness import on_vector_core

from opdsl import npu

BF16 = np.dtype(ml_dtypes.bfloat16)
FLOATS = [np.float16, np.float32]
NUMBERS = [*FLOATS, np.int16, np.int32]


def data(count: int, dtype: Any, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    if np.issubdtype(dtype, np.integer):
        return random.integers(-100, 100, count).astype(dtype)
    return (random.standard_normal(count) * 3).astype(dtype)


def rounded(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    with np.errstate(all="ignore"):
        return values.astype(dtype)


BINARY = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "max": np.maximum,
    "min": np.minimum,
}


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("name", BINARY)
def test_binary(name, dtype):
    a, b, out = data(512, dtype), data(512, dtype, 1), np.zeros(512, dtype)
    lanes = 256 // out.itemsize
    on_vector_core([a, b], out, lambda k, x, y: getattr(k, name)(y, *x, repeat=512 // lanes))
    np.testing.assert_array_equal(out, BINARY[name](a, b))


@pytest.mark.parametrize("dtype", FLOATS)
def test_division_is_rounded_once(dtype):
    a, b, out = data(512, dtype), data(512, dtype, 1), np.zeros(512, dtype)
    on_vector_core([a, b], out, lambda k, x, y: k.div(y, *x, count=512))
    np.testing.assert_array_equal(out, a / b)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["exp", "ln", "abs", "reciprocal", "sqrt", "rsqrt", "relu"])
def test_unary(name, dtype):
    a, out = np.abs(data(256, dtype)) + dtype(0.5), np.zeros(256, dtype)
    on_vector_core([a], out, lambda k, x, y: getattr(k, name)(y, x[0], count=256))
    exact = {
        "exp": np.exp,
        "ln": np.log,
        "abs": np.abs,
        "reciprocal": lambda x: 1 / x,
        "sqrt": np.sqrt,
        "rsqrt": lambda x: 1 / np.sqrt(x),
        "relu": lambda x: np.maximum(x, 0),
    }[name](a.astype(np.float64))
    np.testing.assert_array_equal(out, rounded(exact, dtype))


@pytest.mark.parametrize("dtype", NUMBERS)
def test_scalar_operands(dtype):
    a, out = data(256, dtype), np.zeros(256, dtype)

    def body(k, x, y):
        k.adds(y, x[0], 3, count=256)
        k.pipe_barrier("V")
        k.muls(y, y, 2, count=256)
        k.pipe_barrier("V")
        k.maxs(y, y, -20, count=256)
        k.pipe_barrier("V")
        k.mins(y, y, 20, count=256)

    on_vector_core([a], out, body)
    np.testing.assert_array_equal(out, np.clip((a + dtype(3)) * dtype(2), dtype(-20), dtype(20)))


def test_fused():
    a, b, c = data(64, np.float32), data(64, np.float32, 1), data(64, np.float32, 2)
    out = c.copy()
    on_vector_core([a, b], out, lambda k, x, y: k.mul_add_dst(y, *x, count=64))
    np.testing.assert_array_equal(out, (a.astype(np.float64) * b + c).astype(np.float32))
    out = c.copy()
    on_vector_core([a, b], out, lambda k, x, y: k.fused_mul_add(y, *x, count=64))
    np.testing.assert_array_equal(out, (a.astype(np.float64) * c + b).astype(np.float32))
    half, out = data(64, np.float16), c.copy()
    on_vector_core([half], out, lambda k, x, y: k.axpy(y, x[0], 0.5, mask=64))
    np.testing.assert_array_equal(out, c + half.astype(np.float32) * np.float32(0.5))


@pytest.mark.parametrize("seed", range(12))
def test_repeats_strides_and_masks(seed):
    """Any strides and any mask, beside a loop over blocks."""
    random = np.random.default_rng(seed)
    dtype = np.dtype(random.choice(["float16", "float32"]))
    lanes, per_block = 256 // dtype.itemsize, 32 // dtype.itemsize
    repeat = int(random.integers(1, 6))
    blocks = [int(b) for b in random.integers(1, 4, 3)]
    repeats = [int(r) for r in random.integers(8, 30, 3)]
    blocks[0], repeats[0] = 1, int(random.integers(8, 12))  # nothing is written twice
    size = (5 * 30 + 8 * 4) * per_block
    a, b = data(size, dtype, seed), data(size, dtype, seed + 1)
    out = np.zeros(size, dtype)
    expected = out.copy()
    kind = ["all", "some", "bits", "count"][seed % 4]
    chosen = np.ones((repeat, lanes), bool)
    how = {"repeat": repeat}
    if kind == "some":
        how["mask"] = int(random.integers(1, lanes + 1))
        chosen[:, how["mask"] :] = False
    elif kind == "bits":
        bits = random.integers(0, 2, 128).astype(bool)
        bits[0] = True
        words = [int(sum(int(bit) << i for i, bit in enumerate(bits[j : j + 64]))) for j in (0, 64)]
        how["mask"] = (words[0], words[1])
        chosen[:] = bits[:lanes]
    elif kind == "count":
        count = int(random.integers(1, repeat * lanes + 1))
        how = {"count": count}
        chosen = (np.arange(repeat * lanes) < count).reshape(repeat, lanes)
    for r in range(repeat):
        for lane in range(lanes):
            if chosen[r, lane]:
                at = [(r * repeats[i] + lane // per_block * blocks[i]) * per_block + lane % per_block for i in range(3)]
                expected[at[0]] = a[at[1]] + b[at[2]]
    on_vector_core([a, b], out, lambda k, x, y: k.add(y, *x, blocks=tuple(blocks), repeats=tuple(repeats), **how))
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize(
    "mode, test", [("lt", np.less), ("eq", np.equal), ("ge", np.greater_equal), ("ne", np.not_equal)]
)
@pytest.mark.parametrize("dtype", FLOATS)
def test_compare_and_select(mode, test, dtype):
    a, b = data(256, dtype), data(256, dtype, 1)
    b[::3] = a[::3]
    a[5] = np.nan
    bits = np.zeros(32, np.uint8)
    on_vector_core([a, b], bits, lambda k, x, y: k.compare(y, *x, mode, count=256))
    chosen = test(a, b)
    np.testing.assert_array_equal(np.unpackbits(bits, bitorder="little").astype(bool), chosen)
    out = np.zeros(256, dtype)
    on_vector_core([a, b, bits], out, lambda k, x, y: k.select(y, x[2], x[0], x[1], count=256))
    np.testing.assert_array_equal(out, np.where(chosen, a, b))
    on_vector_core([a, b, bits], out, lambda k, x, y: k.select(y, x[2], x[0], 1.5, count=256))
    np.testing.assert_array_equal(out, np.where(chosen, a, dtype(1.5)))


CASTS = [
    (np.float32, np.float16, "rint"),
    (np.float32, BF16, "rint"),
    (np.float32, np.int32, "rint"),
    (np.float32, np.int32, "trunc"),
    (np.float32, np.int32, "floor"),
    (np.float32, np.int32, "ceil"),
    (np.float32, np.int32, "round"),
    (np.float32, np.int64, "trunc"),
    (np.float16, np.float32, "none"),
    (BF16, np.float32, "none"),
    (np.float16, np.int8, "trunc"),
    (np.int32, np.float32, "none"),
    (np.int64, np.float32, "rint"),
    (np.int64, np.int32, "none"),
    (np.int32, np.int64, "none"),
    (np.int16, np.float32, "none"),
    (np.uint8, np.float16, "none"),
]


@pytest.mark.parametrize("source, target, mode", CASTS)
def test_cast(source, target, mode):
    source, target = np.dtype(source), np.dtype(target)
    a = (
        (data(512, np.float32) * 8).astype(np.int32).astype(source)
        if source.kind in "iu"
        else (data(512, np.float32) * 8).astype(source)
    )
    if source.kind not in "iu":
        a[:4] = np.array([0.5, 1.5, -0.5, -2.5], source)
    out = np.zeros(512, target)
    on_vector_core([a], out, lambda k, x, y: k.cast(y, x[0], mode, count=512))
    wide = a.astype(np.float64)
    if target.kind == "i":
        ways = {
            "rint": np.rint,
            "none": np.rint,
            "trunc": np.trunc,
            "floor": np.floor,
            "ceil": np.ceil,
            "round": lambda x: np.copysign(np.floor(np.abs(x) + 0.5), x),
        }
        limits = np.iinfo(target)
        wide = np.clip(ways[mode](wide), limits.min, limits.max)
    np.testing.assert_array_equal(
        out, wide.astype(np.float32).astype(target) if target.kind != "i" else wide.astype(target)
    )


def test_casts_to_f16_by_mode():
    a = np.linspace(-3, 3, 512, dtype=np.float32)
    for mode in ("floor", "ceil", "trunc", "odd"):
        out = np.zeros(512, np.float16)
        on_vector_core([a], out, lambda k, x, y, mode=mode: k.cast(y, x[0], mode, count=512))
        near = a.astype(np.float16)
        down = np.where(near.astype(np.float32) > a, np.nextafter(near, np.float16(-np.inf)), near)
        up = np.where(near.astype(np.float32) < a, np.nextafter(near, np.float16(np.inf)), near)
        odd = np.where(down.view(np.uint16) & 1, down, up)
        expected = {
            "floor": down,
            "ceil": up,
            "trunc": np.where(a < 0, up, down),
            "odd": np.where(down == up, down, odd),
        }[mode]
        np.testing.assert_array_equal(out, expected)


def test_bitwise():
    a, b, out = data(256, np.int16), data(256, np.int16, 1), np.zeros(256, np.int16)
    on_vector_core([a, b], out, lambda k, x, y: k.and_(y, *x, count=256))
    np.testing.assert_array_equal(out, a & b)
    on_vector_core([a, b], out, lambda k, x, y: k.or_(y, *x, count=256))
    np.testing.assert_array_equal(out, a | b)
    on_vector_core([a], out, lambda k, x, y: k.not_(y, x[0], count=256))
    np.testing.assert_array_equal(out, ~a)
    wide, out = data(256, np.int32), np.zeros(256, np.int32)
    on_vector_core([wide], out, lambda k, x, y: k.shift_right(y, x[0], 3, count=256))
    np.testing.assert_array_equal(out, wide >> 3)
    on_vector_core([wide], out, lambda k, x, y: k.shift_left(y, x[0], 3, count=256))
    np.testing.assert_array_equal(out, wide << 3)


@pytest.mark.parametrize("dtype", FLOATS)
def test_reductions(dtype):
    a = data(1024, dtype)
    lanes = 256 // a.itemsize
    rows = a.reshape(-1, lanes)
    repeat = len(rows)
    out = np.zeros(32, dtype)
    on_vector_core([a], out, lambda k, x, y: k.whole_reduce_sum(y, x[0], repeat=repeat))
    tree = rows.copy()
    while tree.shape[1] > 1:
        tree = tree[:, ::2] + tree[:, 1::2]
    np.testing.assert_array_equal(out[:repeat], tree[:, 0])
    out = np.zeros(64, dtype)
    on_vector_core([a], out, lambda k, x, y: k.whole_reduce_max(y, x[0], repeat=repeat))
    np.testing.assert_array_equal(out[: 2 * repeat : 2], rows.max(1))
    index = out[1 : 2 * repeat : 2].view(np.uint16 if a.itemsize == 2 else np.uint32)
    np.testing.assert_array_equal(index, rows.argmax(1))
    blocks = a.reshape(-1, 32 // a.itemsize)
    out = np.zeros(len(blocks), dtype)
    on_vector_core([a], out, lambda k, x, y: k.block_reduce_min(y, x[0], repeat=repeat))
    np.testing.assert_array_equal(out, blocks.min(1))
    out = np.zeros(512, dtype)
    on_vector_core([a], out, lambda k, x, y: k.pair_reduce_sum(y, x[0], repeat=repeat))
    np.testing.assert_array_equal(out, a[::2] + a[1::2])


def test_spreading():
    a, out = data(32, np.float32), np.zeros(256, np.float32)
    on_vector_core([a], out, lambda k, x, y: k.brcb(y, x[0], repeat=4))
    np.testing.assert_array_equal(out, np.repeat(a, 8))
    on_vector_core([], out, lambda k, x, y: k.duplicate(y, 2.5, repeat=4))
    np.testing.assert_array_equal(out, np.full(256, 2.5, np.float32))
    number = np.zeros(256, np.int32)
    on_vector_core([], number, lambda k, x, y: k.create_vec_index(y, 7, count=250))
    np.testing.assert_array_equal(number[:250], np.arange(7, 257))


def test_gather_and_scatter():
    a, order = data(256, np.float32), np.random.default_rng(3).permutation(256).astype(np.uint32)
    out = np.zeros(256, np.float32)
    on_vector_core([a, order * np.uint32(4)], out, lambda k, x, y: k.gather(y, x[0], x[1], count=256))
    np.testing.assert_array_equal(out, a[order])
    on_vector_core([a, order * np.uint32(4)], out, lambda k, x, y: k.scatter(y, x[0], x[1], count=256))
    np.testing.assert_array_equal(out[order], a)
    offsets = np.arange(32, dtype=np.uint32)[::-1] * np.uint32(32)
    on_vector_core([a, offsets.copy()], out, lambda k, x, y: k.gatherb(y, x[0], x[1], repeat=4))
    np.testing.assert_array_equal(out, a.reshape(32, 8)[::-1].reshape(-1))


def test_gather_mask_counts():
    a = data(256, np.float32)
    chosen = a > 0
    bits = np.packbits(chosen, bitorder="little")
    out = np.zeros(264, np.float32)

    def body(k, x, y):
        number = k.gather_mask(y, x[0], x[1], count=256)
        k.set_flag("V_S", 1)
        k.wait_flag("V_S", 1)
        k.store_scalar(y[256], k.compute("to_float", number, dtype="f32"))
        k.set_flag("S_MTE3", 1)
        k.wait_flag("S_MTE3", 1)

    on_vector_core([a, bits], out, body)
    assert out[256] == chosen.sum()
    np.testing.assert_array_equal(out[: chosen.sum()], a[chosen])


def test_sort():
    a, index = data(128, np.float32), np.arange(128, dtype=np.uint32)
    pairs = np.zeros(256, np.float32)
    merged = np.zeros(256, np.float32)
    on_vector_core([a, index], pairs, lambda k, x, y: k.sort32(y, x[0], x[1], repeat=4))
    np.testing.assert_array_equal(pairs.reshape(4, 32, 2)[:, :, 0], -np.sort(-a.reshape(4, 32), axis=1))
    on_vector_core([pairs], merged, lambda k, x, y: k.mrg_sort(y, *((x[0][64 * i], 32) for i in range(4))))
    np.testing.assert_array_equal(merged[::2], -np.sort(-a))
    np.testing.assert_array_equal(merged[1::2].view(np.uint32), np.argsort(-a, kind="stable"))


def test_transposes():
    a, out = data(256, np.float16), np.zeros(256, np.float16)
    on_vector_core([a], out, lambda k, x, y: k.transpose(y, x[0]))
    np.testing.assert_array_equal(out.reshape(16, 16), a.reshape(16, 16).T)
    on_vector_core([a], out, lambda k, x, y: k.trans_data_to_5hd(y, x[0], dst_step=32, src_step=32))
    np.testing.assert_array_equal(out.reshape(16, 16), a.reshape(16, 16).T)
    a, out = data(128, np.float32), np.zeros(128, np.float32)
    on_vector_core([a], out, lambda k, x, y: k.trans_data_to_5hd(y, x[0], dst_step=32, src_step=32))
    np.testing.assert_array_equal(out.reshape(8, 16), a.reshape(16, 8).T)


def test_what_the_unit_does_not_take_is_refused():
    k = npu.Builder("refused", "910b2")
    with k.code("aiv"):
        wide = k.allocate("UB", 256, "i64", "wide")
        brain = k.allocate("UB", 256, "bf16", "brain")
        with pytest.raises(npu.NpuError, match="add does not take i64 on 910b2"):
            k.add(wide, wide, wide)
        with pytest.raises(npu.NpuError, match="mul does not take bf16"):
            k.mul(brain, brain, brain)
        with pytest.raises(npu.NpuError, match="no path for data_copy from UB to L1"):
            k.data_copy(k.local("L1", 0, "f32"), wide.view("f32"), block_len=1)
        with pytest.raises(npu.NpuError, match="runs on M, which cores of kind 'aiv'"):
            k.pipe_barrier("M")

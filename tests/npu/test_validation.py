"""The kernels behind the published times compute what they should, without hazards; the table lists every row."""

import json

import numpy as np
import pytest

from bench.npu_kernels import trans_data
from bench.npu_kernels.attention import Problem, attention
from bench.npu_kernels.conv import Image, conv2d
from bench.npu_kernels.elementwise import elementwise, trim
from bench.npu_kernels.gemm import Schedule, gemm
from bench.npu_kernels.problems import Inexpressible, Row, predict
from bench.npu_kernels.rms_norm import rms_norm
from bench.npu_kernels.rowwise import group_norm, softmax
from bench.npu_kernels.swi_glu import swi_glu, tiling_of
from bench.npu_validation import main
from opdsl import npu

RANDOM = np.random.default_rng(0)


def normal(*shape, dtype=np.float16):
    return RANDOM.standard_normal(shape).astype(dtype)


@pytest.mark.parametrize(
    "schedule, transposed",
    [
        (Schedule(m=64, n=64, k_a=128, k_b=64, k_l0=32), False),
        (Schedule(m=128, n=128, k_a=128, k_b=128, swizzle=0), True),
        (Schedule(m=64, n=128, k_a=128, k_b=64, automatic=True), True),
        (Schedule(m=128, n=128, k_a=128, k_b=128, l1=1, l0=1, automatic=True), False),
        (Schedule(m=128, n=128, grid=(2, 3)), False),
    ],
)
def test_gemm(schedule, transposed):
    a, b, c = normal(384, 304), normal(304, 768), np.zeros((384, 768), np.float32)
    given = np.ascontiguousarray(b.T) if transposed else b
    program = gemm("910b2", schedule, out="f32", transposed=transposed)
    npu.run(program, [a, given, c])
    np.testing.assert_allclose(c, a.astype(np.float64) @ b, rtol=1e-5, atol=1e-3)


ELEMENTWISE = {
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "gelu": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    "mish": lambda x: x * np.tanh(np.log1p(np.exp(x))),
    "sqrt": lambda x: np.sqrt(x),
    "exp": lambda x: np.exp(x),
    "add": lambda x, y: x + y,
    "maximum": lambda x, y: np.maximum(x, y),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("name", list(ELEMENTWISE))
def test_elementwise(name, dtype):
    program = elementwise("910b2", name, "f32" if dtype is np.float32 else "f16")
    inputs = [np.abs(normal(30011, dtype=dtype)) for _ in program.arguments[1:]]
    y = np.zeros_like(inputs[0])
    npu.run(program, [*inputs, y])
    wanted = ELEMENTWISE[name](*(x.astype(np.float64) for x in inputs))
    np.testing.assert_allclose(y, wanted, rtol=2e-3 if dtype is np.float16 else 2e-6, atol=1e-6)


def test_mish_of_negative_numbers():
    x, y = normal(3000, dtype=np.float32), np.zeros(3000, np.float32)
    npu.run(elementwise("910b2", "mish", "f32"), [x, y])
    np.testing.assert_allclose(y, x * np.tanh(np.log1p(np.exp(x.astype(np.float64)))), rtol=5e-6, atol=1e-7)


@pytest.mark.parametrize("rows, columns, dtype", [(60, 1032, np.float16), (1, 30001, np.float32), (91, 509, np.float32)])
def test_swi_glu(rows, columns, dtype):
    chip = npu.find_chip("910b2")
    x, y = normal(rows, 2 * columns, dtype=dtype), np.zeros((rows, columns), dtype)
    npu.run(swi_glu(chip, "f16" if dtype is np.float16 else "f32", rows, columns), [x, y])
    left, right = x[:, :columns].astype(np.float64), x[:, columns:].astype(np.float64)
    near = 2e-3 if dtype is np.float16 else 1e-5
    np.testing.assert_allclose(y, left / (1 + np.exp(-left)) * right, rtol=near, atol=near / 2)


def test_swi_glu_keeps_cores_at_work_before_it_makes_tiles_large():
    chip = npu.find_chip("910b2")
    tiling = tiling_of(chip, "f32", 273, 509)
    assert (tiling.rows, tiling.columns, tiling.cores) == (18, 384, 32)


def test_trim():
    x, y = normal(300, 33), np.zeros((300, 32), np.float16)
    npu.run(trim("910b2", "f16", 32), [x, y])
    np.testing.assert_array_equal(y, x[:, :32])


@pytest.mark.parametrize("columns", [64, 1021, 4097])
def test_softmax(columns):
    x, y = normal(50, columns), np.zeros((50, columns), np.float16)
    npu.run(softmax("910b2", "f16", columns), [x, y])
    wide = x.astype(np.float64)
    e = np.exp(wide - wide.max(1, keepdims=True))
    np.testing.assert_allclose(y, e / e.sum(1, keepdims=True), rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("rows, columns", [(700, 373), (60, 2049)])
def test_rms_norm(rows, columns, dtype):
    """Many short rows at a time, long ones one at a time."""
    x, weight = normal(rows, columns, dtype=dtype), normal(columns, dtype=dtype)
    y, r = np.zeros_like(x), np.zeros(rows, np.float32)
    program = rms_norm(npu.find_chip("910b2"), "f32" if dtype is np.float32 else "f16", rows, columns)
    npu.run(program, [x, weight, y, r])
    wide = x.astype(np.float64)
    inverse = 1 / np.sqrt((wide**2).mean(1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(r[:, None], inverse, rtol=1e-5)
    np.testing.assert_allclose(y, wide * inverse * weight, rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize("batch, channels, places", [(2, 48, 300), (3, 33, 1849), (1, 16, 4000)])
def test_layouts_of_images(batch, channels, places):
    chip, blocks = npu.find_chip("910b2"), -(-channels // 16)
    x, y = normal(batch, channels, places), np.zeros((batch, blocks, places, 16), np.float16)
    npu.run(trans_data.image(chip, batch, channels, places), [x.reshape(-1), y.reshape(-1)])
    padded = np.zeros((batch, blocks * 16, places), np.float16)
    padded[:, :channels] = x
    np.testing.assert_array_equal(y, padded.reshape(batch, blocks, 16, places).transpose(0, 1, 3, 2))
    back = np.zeros_like(x)
    npu.run(trans_data.image(chip, batch, channels, places, back=True), [y.reshape(-1), back.reshape(-1)])
    np.testing.assert_array_equal(back, x)


@pytest.mark.parametrize("outputs, channels, taps", [(32, 48, 9), (97, 33, 9), (33, 64, 1)])
def test_layouts_of_weights(outputs, channels, taps):
    chip, rows, blocks = npu.find_chip("910b2"), -(-outputs // 16), -(-channels // 16)
    x, y = normal(outputs, channels, taps), np.zeros((blocks, taps, rows * 16, 16), np.float16)
    npu.run(trans_data.weights(chip, outputs, channels, taps), [x.reshape(-1), y.reshape(-1)])
    padded = np.zeros((rows * 16, blocks * 16, taps), np.float16)
    padded[:outputs, :channels] = x
    np.testing.assert_array_equal(y, padded.reshape(rows * 16, blocks, 16, taps).transpose(1, 3, 0, 2))
    if taps == 1:
        z = np.zeros((blocks, outputs, 16), np.float16)
        program = trans_data.pointwise_weights(chip, outputs, channels)
        npu.run(program, [x.reshape(-1), z.reshape(-1)])
        np.testing.assert_array_equal(z, y[:, 0, :outputs])


def test_fill():
    y = normal(100000)
    npu.run(trans_data.fill(npu.find_chip("910b2")), [y])
    assert not y.any()


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_group_norm(dtype):
    x, y = normal(5, 15001, dtype=dtype), np.zeros((5, 15001), dtype)
    npu.run(group_norm("910b2", "f32" if dtype is np.float32 else "f16", 15001), [x, y])
    wide = x.astype(np.float64)
    wanted = (wide - wide.mean(1, keepdims=True)) / np.sqrt(wide.var(1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(y, wanted, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("problem", [Problem(1, 200, 600, 2, 1, 128), Problem(2, 1, 520, 8, 2, 64)])
def test_attention(problem):
    p = problem
    q = normal(p.batch, p.queries, p.heads, p.depth)
    k, v = normal(p.batch, p.keys, p.kv_heads, p.depth), normal(p.batch, p.keys, p.kv_heads, p.depth)
    out = np.zeros_like(q)
    npu.run(attention("910b2", p), [array.reshape(-1) for array in (q, k, v, out)])
    group = p.heads // p.kv_heads
    k, v = (np.repeat(array.astype(np.float64), group, axis=2) for array in (k, v))
    s = np.einsum("bqhd,bkhd->bhqk", q.astype(np.float64), k) / np.sqrt(p.depth)
    e = np.exp(s - s.max(-1, keepdims=True))
    wanted = np.einsum("bhqk,bkhd->bqhd", e / e.sum(-1, keepdims=True), v)
    np.testing.assert_allclose(out, wanted, rtol=5e-3, atol=2e-3)


@pytest.mark.parametrize(
    "image",
    [Image(2, 32, 9, 20, 48, 3, 1, 1), Image(1, 48, 16, 16, 32, 3, 2, 1), Image(1, 32, 13, 13, 32, 3, 1, 1, 2)],
)
def test_conv2d(image):
    g = image
    blocks = g.outputs // 16
    x = normal(g.batch, g.c1, g.height, g.width, 16)
    weights = normal(g.outputs, g.channels, g.kernel, g.kernel)
    fractals = weights.reshape(blocks, 16, g.c1, 16, g.kernel, g.kernel).transpose(2, 4, 5, 0, 1, 3)
    y = np.zeros((g.batch, g.out_height, g.out_width, g.outputs), np.float16)
    npu.run(conv2d("910b2", g), [x.reshape(-1), np.ascontiguousarray(fractals).reshape(-1), y.reshape(-1)])
    planes = x.transpose(0, 1, 4, 2, 3).reshape(g.batch, -1, g.height, g.width).astype(np.float64)
    planes = np.pad(planes, ((0, 0), (0, 0), (g.padding,) * 2, (g.padding,) * 2))
    wanted = np.zeros(y.shape)
    for i in range(g.kernel):
        for j in range(g.kernel):
            rows = slice(i * g.dilation, i * g.dilation + (g.out_height - 1) * g.stride + 1, g.stride)
            columns = slice(j * g.dilation, j * g.dilation + (g.out_width - 1) * g.stride + 1, g.stride)
            wanted += np.einsum("bchw,oc->bhwo", planes[:, :, rows, columns], weights[:, :, i, j].astype(np.float64))
    np.testing.assert_allclose(y, wanted, rtol=2e-3, atol=5e-2)


def test_the_ladder_is_in_order():
    """Single buffers, double buffers, tiles in an order for the L2, flags by hand: each is faster than the one before
    where b does not fit the L2. (huawei-csl/pto-dsl, matmul_optimization_guide)"""
    steps = ["gemm_step1_single", "gemm_step2_doublebuf", "gemm_step3_swizzle", "gemm_step4_manual"]
    shape = "[1152,4096]x[32768,4096]"
    speeds = [predict(Row(step, shape, "float16", "910B2", "24", "throughput", "1", "TFLOPS")) for step in steps]
    assert speeds == sorted(speeds) and speeds[3] > 1.8 * speeds[0]


def test_rows_without_a_kernel_say_why():
    row = Row("topk1000", "[4800,1024]", "half", "A3", "24", "time", "326", "us")
    with pytest.raises(Inexpressible, match="no kernel"):
        predict(row)


def test_every_row_is_listed(tmp_path, capsys):
    table = tmp_path / "measured.csv"
    table.write_text(
        "kernel,shape,dtype,chip,cores,metric,value,unit,source,note\n"
        'sigmoid,"[[512, 2049]]",float32,910B2,24,time,5.92,us,,{}\n'
        'topk,"[4]",float32,910B2,24,time,1,us,,{}\n'
    )
    assert main(["--csv", str(table), "--json", str(tmp_path / "out.json"), "--doc", str(tmp_path / "doc.md")]) == 0
    text = capsys.readouterr().out
    assert "sigmoid" in text and "not predicted: no kernel of this kind is written" in text
    rows = json.loads((tmp_path / "out.json").read_text())
    assert len(rows) == 2 and abs(rows[0]["error"]) < 15 and rows[1]["error"] is None
    document = (tmp_path / "doc.md").read_text()
    assert document.count("| sigmoid |") == 2 and "Elementwise operators: 1 rows" in document
    assert rows[0]["compiled"] == pytest.approx(rows[0]["predicted"], rel=0.1)

"""From a row of published measurements to a program and arguments: which kernel it is, its shapes and its schedule."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil, prod
from typing import Any

from opdsl import npu
from opdsl.npu.chip import Chip

from . import trans_data
from .attention import Problem, attention
from .conv import Image, conv2d
from .elementwise import elementwise, trim
from .gemm import Schedule, gemm
from .rms_norm import rms_norm
from .rowwise import group_norm, softmax
from .swi_glu import swi_glu

DTYPES = {"float16": "f16", "half": "f16", "bfloat16": "bf16", "float32": "f32", "float": "f32"}
DTYPES |= {"int8": "i8", "int32": "i32"}
PIPES = {"cube_ratio": "M", "mte1_ratio": "MTE1", "mte2_ratio": "MTE2", "fixpipe_ratio": "FIX"}
FAMILIES = (
    ("attention", r"flash_attention|mha|gqa"),
    ("softmax/norm", r"softmax|norm"),
    ("conv", r"conv"),
    ("several chips", r"all_gather|allgather|reduce_scatter|all_?reduce"),
    ("gemm", r"gemm|matmul"),
    ("elementwise", r"add|exp|gelu|maximum|mish|sigmoid|sqrt|swi_glu|rotary"),
)


class Inexpressible(Exception):
    """Why there is no prediction."""


@dataclass
class Row:
    """A published measurement, all as written, and what comes of it."""

    kernel: str
    shape: str
    dtype: str
    chip: str
    cores: str
    metric: str
    value: str
    unit: str
    source: str = ""
    note: str = ""
    predicted: float | None = None
    compiled: float | None = None  # the prediction of a kernel of the language, where there is one
    reason: str = ""
    seconds: float = 0.0


def family_of(kernel: str) -> str:
    return next((family for family, pattern in FAMILIES if re.search(pattern, kernel)), "other")


def predict(row: Row) -> float:
    """The metric of a row, in its unit. Raises Inexpressible."""
    problem = next((problem for pattern, problem in PROBLEMS if re.fullmatch(pattern, row.kernel)), None)
    if problem is None:
        raise Inexpressible("no kernel of this kind is written")
    result, operations = problem(row)
    if row.metric == "time":
        return float(result.microseconds)
    if row.metric == "throughput":
        return float(operations / result.microseconds / 1e6)
    if row.metric == "l2_hit":
        return 100 * result.l2_hit_rate
    if row.metric in PIPES:
        return 100 * result.busy_share(PIPES[row.metric])
    if row.metric == "mte2_time":
        return result.busy_share("MTE2") * result.microseconds
    raise Inexpressible(f"there is no prediction of {row.metric}")


Predicted = tuple[npu.Result, float]


# ---- chips, shapes and runs


def chip_of(row: Row) -> str:
    if "9362" in row.chip:
        return "910_9362"
    return "910b1" if "A3" in row.chip or "910B1" in row.chip else "910b2"


@functools.cache
def described(name: str) -> Chip:
    if name != "910_9362":
        return npu.find_chip(name)
    # 20 cores at 1500 MHz, as 910B4; with the L2 and the memory of 910B2, whose L2 goes with the cores and the clock.
    small, whole = npu.find_chip("910b4"), npu.find_chip("910b2").data["memory"]
    speed = 20 / 24 * 1500 / 1800
    rates = {name: whole[name] * speed for name in ("l2_read_gbs", "l2_write_gbs")}
    return replace(small, data={**small.data, "memory": {**whole, **rates}})


def shapes_of(row: Row) -> list[Any]:
    try:
        shapes: list[Any] = json.loads(row.shape)
    except json.JSONDecodeError:
        raise Inexpressible(f"the shape {row.shape!r} is not one that this reads") from None
    return shapes


def dtype_of(row: Row) -> str:
    dtype = DTYPES.get(row.dtype.split("->")[0])
    if dtype is None:
        raise Inexpressible(f"the dtype {row.dtype} is none of these kernels'")
    return dtype


def attribute(row: Row, name: str, default: Any = None) -> Any:
    """From the note, which is JSON, sometimes cut off."""
    found = re.search(rf'"{name}"\s*:\s*("[^"]*"|[-\w.]+)', row.note)
    if not found:
        return default
    try:
        return json.loads(found[1])
    except json.JSONDecodeError:
        return default


def empty(*shape: int, dtype: str) -> npu.ShapeOnly:
    return npu.ShapeOnly(shape, dtype)


def run(program: npu.Program, arguments: list[npu.ShapeOnly], chip: str, *, warm: bool = False) -> npu.Result:
    """`warm`: behind a kernel that has left the arguments in the L2 as far as they fit."""
    return npu.run(program, arguments, chip=described(chip), values=False, l2="warm" if warm else "cold")


def with_head(result: npu.Result) -> npu.Result:
    """The time of a kernel that begins later than its program here: an operator of CANN's Ascend C library, or one that is
    measured at its first launch."""
    return replace(result, cycles=result.cycles + float(result.chip.data["launch"]["head"]))


# ---- matrix products

TILES = ((128, 256), (256, 128), (128, 128), (64, 256))
BALANCED = tuple((128, n) for n in range(240, 128, -16))
"""Tiles whose number may go up better in that of the cores; rows of b lie along its depth there."""

@functools.cache
def product(
    chip: str, m: int, n: int, k: int, dtype: str, out: str, schedule: Schedule, transposed: bool, blocks: int = 0
) -> npu.Result:
    program = gemm(described(chip), schedule, dtype=dtype, out=out, transposed=transposed, blocks=blocks)
    b = (n, k) if transposed else (k, n)
    arguments = [empty(m, k, dtype=dtype), empty(*b, dtype=dtype), empty(m, n, dtype=out)]
    return run(program, arguments, chip)


def tuned(chip: str, m: int, n: int, dtype: str, transposed: bool = False) -> Schedule:
    """As a library chooses: the tile with the least time, where all of a wave's tiles take the longer of multiplying
    and of loading at the L2's rate."""
    data = described(chip)
    share = float(data.data["memory"]["l2_read_gbs"]) * 1e3 / data.clock_mhz / data.cores["aic"]
    width = {"i8": 1, "f32": 4}.get(dtype, 2)

    def cost(tile: tuple[int, int]) -> float:
        waves = -(-(-(-m // tile[0]) * -(-n // tile[1])) // data.cores["aic"])
        high, wide = min(tile[0], -(-m // 16) * 16), min(tile[1], -(-n // 16) * 16)
        # Rows of b that are shorter than a line of the L2 take whole ones, too.
        lines = wide * width if transposed else max(wide * width, 512)
        return waves * max(high * wide * width / 8192 * (2 if dtype == "f32" else 1), (high * width + lines) / share)

    tile = min((*TILES, *BALANCED) if transposed else TILES, key=cost)
    deep = 256 * 2 // width
    return Schedule(m=tile[0], n=tile[1], k_a=deep, k_b=deep, k_l0=64 * 2 // width)


def library_product(row: Row) -> Predicted:
    """torch_npu's product, or a quantised one."""
    shapes = shapes_of(row)
    a, b = shapes[0], shapes[1]
    if len(a) > 2:
        raise Inexpressible("products of a batch of matrices are not written")
    m, k, n = a[0], a[1], b[1]
    dtype = dtype_of(row)
    out = "f16" if dtype == "i8" else dtype
    result = product(chip_of(row), m, n, k, dtype, out, tuned(chip_of(row), m, n, dtype), False)
    return with_head(result) if row.kernel == "quant_matmul" else result, 2.0 * m * n * k


LADDER = {
    "gemm_step1_single": Schedule(k_a=512, l1=1, l0=1, swizzle=0, automatic=True),
    "gemm_step2_doublebuf": Schedule(k_a=512, swizzle=0, automatic=True),
    "gemm_step3_swizzle": Schedule(k_a=512, automatic=True),
    "gemm_step4_manual": Schedule(k_a=512),
    "gemm_ABt_autosync": Schedule(k_a=512, automatic=True),
    "gemm_ABt_manualsync": Schedule(k_a=512),
}


def pto_dsl_product(row: Row) -> Predicted:
    """[M, K] x [N, K] of PTO-DSL, with the tiles of its steps; torch.matmul beside them as a library tunes it."""
    found = re.fullmatch(r"\[(\d+),(\d+)\]x\[(\d+),(\d+)\]", row.shape)
    if found:
        m, k, n = int(found[1]), int(found[2]), int(found[3])
    elif row.shape == "N=K=16384":
        m, k, n = 2176, 16384, 16384  # M is not published
    else:
        raise Inexpressible(f"the shape {row.shape!r} is not one that this reads")
    schedule = LADDER.get(row.kernel) or tuned(chip_of(row), m, n, "f16", True)
    return product(chip_of(row), m, n, k, "f16", "f16", schedule, True), 2.0 * m * n * k


def pto_isa_product(row: Row) -> Predicted:
    """Cubes of hicann/pto-isa's gemm_performance: f32 out, the cores a grid of 4 x 6 blocks. Its main.cpp launches once."""
    side = int(row.shape.split("^")[0])
    schedule = Schedule(grid=(4, 6))
    return with_head(product(chip_of(row), side, side, side, "f16", "f32", schedule, False)), 2.0 * side**3


def guide_product(row: Row) -> Predicted:
    """The developer guide's cases, those whose schedule is known and that the emulator has the instructions for."""
    found = re.fullmatch(r"M(\d+) N(\d+) K(\d+)", row.shape)
    if not found:
        raise Inexpressible(f"the shape {row.shape!r} is not one that this reads")
    m, n, k = (int(number) for number in found.groups())
    if "UnitFlag on" in row.note:
        raise Inexpressible("unit flags are not modelled")
    for word, reason in (
        ("AIV", "a kernel that lays out a on vector cores first is not written"),
        ("IBShare", "shared buffers of b are not written"),
        ("splitK", "its schedule is not published"),
        ("4 cores", "its schedule is not published"),
    ):
        if word in row.note:
            raise Inexpressible(reason)
    schedule = tuned(chip_of(row), m, n, "f16")
    if row.note.startswith("Norm"):
        schedule = replace(schedule, k_a=64, k_b=64)
    return product(chip_of(row), m, n, k, "f16", "f16", schedule, False, int(row.cores)), 2.0 * m * n * k


def refuse(reason: str) -> Callable[[Row], Predicted]:
    def problem(row: Row) -> Predicted:
        raise Inexpressible(reason)

    return problem


# ---- elementwise


@functools.cache
def pointwise(chip: str, name: str, dtype: str, n: int) -> npu.Result:
    program = elementwise(described(chip), name, dtype)
    return run(program, [empty(n, dtype=dtype)] * len(program.arguments), chip)


def elementwise_problem(row: Row) -> Predicted:
    name = row.kernel
    if row.shape.startswith("39.3M"):
        return pointwise(chip_of(row), "add", "f32", 39321600), 0.0
    shapes = shapes_of(row)
    if len(shapes) > 1 and shapes[0] != shapes[1]:
        raise Inexpressible("broadcasting is not written")
    return pointwise(chip_of(row), name, dtype_of(row), prod(shapes[0])), 0.0


def in_turn(*results: npu.Result) -> npu.Result:
    """One operator made of kernels one after the other: benchmarks add up their times."""
    return replace(results[0], cycles=sum(result.cycles for result in results))


def exp_problem(row: Row) -> Predicted:
    """exp((scale x + shift) ln base): a kernel each for the scale, the shift, the base where it has one, and exp. All but
    the first find their input in the L2 as far as it fits."""
    chip, dtype, n = chip_of(row), dtype_of(row), prod(shapes_of(row)[0])
    names = ["muls", "adds", *(["muls"] if attribute(row, "base", -1.0) > 0 else []), "exp"]
    results: list[npu.Result] = []
    for name in names:
        program = elementwise(described(chip), name, dtype)
        results.append(run(program, [empty(n, dtype=dtype)] * 2, chip, warm=bool(results)))
    return in_turn(*results), 0.0


def vector_add(row: Row) -> Predicted:
    """The L2 is overwritten before each repetition, and the time of that alone taken off: what the addition leaves there
    to be written back is in its time."""
    depth = 1 if "single" in row.kernel else 2
    program = elementwise(described("910b2"), "add", "f32", depth=depth, generated="torch" in row.kernel)
    arguments = [empty(39321600, dtype="f32")] * 3
    return npu.run(program, arguments, chip=described("910b2"), values=False, l2="drained"), 0.0


def swi_glu_problem(row: Row) -> Predicted:
    """An odd last axis loses its last element to a kernel of its own first."""
    shape, dtype, chip = shapes_of(row)[0], dtype_of(row), chip_of(row)
    axis = attribute(row, "dim", -1) % len(shape)
    last = shape[-1] // 2 * 2
    results: list[npu.Result] = []
    if last != shape[-1]:
        rows = prod(shape[:-1])
        sizes = [empty(rows, columns, dtype=dtype) for columns in (shape[-1], last)]
        results.append(run(trim(described(chip), dtype, last), sizes, chip))
    shape = [*shape[:-1], last]
    outer, half = prod(shape[:axis]), prod(shape[axis:]) // 2
    program = swi_glu(described(chip), dtype, outer, half)
    arguments = [empty(outer, 2 * half, dtype=dtype), empty(outer, half, dtype=dtype)]
    results.append(with_head(run(program, arguments, chip, warm=bool(results))))
    return in_turn(*results), 0.0


# ---- convolution


def convolve(chip: str, image: Image, dtype: str, *, warm: bool = False) -> npu.Result:
    sizes = (image.x_size, image.weights_size, image.y_size)
    program = conv2d(described(chip), image, dtype)
    return run(program, [empty(size, dtype=dtype) for size in sizes], chip, warm=warm)


def layout_passes(chip: str, image: Image) -> list[npu.Result]:
    """x and the weights into the cube's layouts, and y back: kernels of their own."""
    on, i = described(chip), image
    plain = i.batch * i.channels * i.height * i.width
    filters = i.outputs * i.channels * i.kernel**2
    places = i.out_height * i.out_width

    def move(program: npu.Program, *sizes: int, warm: bool = False) -> npu.Result:
        return run(program, [empty(size, dtype="f16") for size in sizes], chip, warm=warm)

    results = [move(trans_data.image(on, i.batch, i.channels, i.height * i.width), plain, i.x_size)]
    if i.kernel == 1 and i.channels % 16 == 0:
        results.append(move(trans_data.pointwise_weights(on, i.outputs, i.channels), filters, i.weights_size))
    else:
        if i.outputs % 16:
            results.append(move(trans_data.fill(on), i.weights_size))
        results.append(move(trans_data.weights(on, i.outputs, i.channels, i.kernel**2), filters, i.weights_size))
    back = trans_data.image(on, i.batch, i.outputs, places, back=True)
    results.append(move(back, i.y_size, i.batch * i.outputs * places, warm=True))
    return results


def conv_pto_problem(row: Row) -> Predicted:
    """X=[N, C1, H, W, 16] K=[C1 * KH * KW, Cout / 16, 16, 16] of hicann/pto-isa's conv2d_forward: 3 x 3 with padding.
    Its main.cpp launches once."""
    found = re.fullmatch(r"X=\[(\d+),(\d+),(\d+),(\d+),16\] K=\[(\d+),(\d+),16,16\]", row.shape)
    if not found:
        raise Inexpressible(f"the shape {row.shape!r} is not one that this reads")
    n, c1, h, w, taps, outputs = (int(number) for number in found.groups())
    kernel = round((taps / c1) ** 0.5)
    image = Image(n, c1 * 16, h, w, outputs * 16, kernel, 1, kernel // 2)
    return with_head(convolve(chip_of(row), image, dtype_of(row))), 2 * image.products


def conv_problem(row: Row) -> Predicted:
    """torch_npu's: NCHW, so that passes that change the layouts belong to it."""
    x, weights = shapes_of(row)[:2]
    dtype = dtype_of(row)
    if dtype == "f32":
        raise Inexpressible("convolution of f32 is not written")
    if weights[2] != weights[3]:
        raise Inexpressible("filters that are not square are not written")

    def first(name: str, default: int) -> int:
        found = re.search(rf'"{name}"\s*:\s*\[(\d+)', row.note)
        return int(found[1]) if found else default

    image = Image(
        x[0], x[1], x[2], x[3], weights[0], weights[2], first("strides", 1), first("pads", 0), first("dilations", 1)
    )
    result = convolve(chip_of(row), image, dtype, warm=True)
    return in_turn(result, *layout_passes(chip_of(row), image)), 2 * image.products


# ---- rows


def softmax_problem(row: Row) -> Predicted:
    shape, dtype, chip = shapes_of(row)[0], dtype_of(row), chip_of(row)
    if attribute(row, "dim", -1) % len(shape) != len(shape) - 1:
        raise Inexpressible("softmax along an axis that is not the last is not written")
    matrix = empty(prod(shape[:-1]), shape[-1], dtype=dtype)
    return run(softmax(described(chip), dtype, shape[-1]), [matrix, matrix], chip), 0.0


def rms_norm_problem(row: Row) -> Predicted:
    shape, dtype, chip = shapes_of(row)[0], dtype_of(row), chip_of(row)
    rows, columns = prod(shape[:-1]), shape[-1]
    matrix = empty(rows, columns, dtype=dtype)
    arguments = [matrix, empty(columns, dtype=dtype), matrix, empty(rows, dtype="f32")]
    return with_head(run(rms_norm(described(chip), dtype, rows, columns), arguments, chip)), 0.0


def group_norm_problem(row: Row) -> Predicted:
    shape, dtype, chip = shapes_of(row)[0], dtype_of(row), chip_of(row)
    groups = shape[0] * int(attribute(row, "num_groups"))
    matrix = empty(groups, prod(shape) // groups, dtype=dtype)
    program = group_norm(described(chip), dtype, prod(shape) // groups)
    return with_head(run(program, [matrix, matrix], chip)), 0.0


# ---- attention

MOST_STEPS = 100_000
"""Pairs of a tile of queries and one of keys: more would take minutes to run."""


@functools.cache
def attend(chip: str, problem: Problem, dtype: str, blocks: int) -> npu.Result:
    steps = problem.batch * problem.heads * ceil(problem.queries / 128) * ceil(problem.keys / 256)
    if steps > MOST_STEPS:
        raise Inexpressible(f"{steps} pairs of tiles would take too long to run (the limit is {MOST_STEPS})")
    program = attention(described(chip), problem, dtype, blocks=blocks)
    p = problem
    queries = empty(p.batch * p.queries * p.heads * p.depth, dtype=dtype)
    keys = empty(p.batch * p.keys * p.kv_heads * p.depth, dtype=dtype)
    return run(program, [queries, keys, keys, queries], chip)


def attention_problem(row: Row) -> Predicted:
    chip, dtype = chip_of(row), dtype_of(row)
    most = described(chip).cores["aic"]
    blocks = min(int(row.cores), most) if row.cores else 0
    for pattern in (r"S0=(?P<q>\d+) S1=(?P<k>\d+) H(?P<d>\d+)", r"seq=(?P<q>\d+) H(?P<d>\d+)"):
        found = re.fullmatch(pattern, row.shape)
        if found:
            q, d = int(found["q"]), int(found["d"])
            keys = int(found.groupdict().get("k") or q)
            result = attend(chip, Problem(1, q, keys, 1, 1, d), dtype, blocks)
            return with_head(result) if "torch_npu" in row.kernel else result, 4.0 * q * keys * d
    found = re.fullmatch(r"B(\d+) QN(\d+) D(\d+) S=(\d+)", row.shape)
    if found:
        b, heads, d, s = (int(number) for number in found.groups())
        return attend(chip, Problem(b, s, s, heads, heads, d), dtype, blocks), 4.0 * b * heads * s * s * d
    (batch, queries, heads, depth), (_, keys, kv_heads, _) = shapes_of(row)[:2]
    causal = bool(attribute(row, "is_causal", False))
    problem = Problem(batch, queries, keys, heads, kv_heads, depth, causal)
    return with_head(attend(chip, problem, dtype, 0)), 4.0 * batch * heads * queries * keys * depth


PROBLEMS: tuple[tuple[str, Callable[[Row], Predicted]], ...] = (
    (r"gemm|quant_matmul", library_product),
    (r"gemm_(step.*|ABt_.*|torch\.matmul)", pto_dsl_product),
    (r"gemm_pto", pto_isa_product),
    (r"gemm_ascendc", guide_product),
    (r"gemm_catlass", refuse("b lies in fractals in global memory, and the tile shapes are not published")),
    (r"weight_quant_batch_matmul", refuse("products with weights unpacked on vector cores are not written")),
    (r".*(gather|reduce|scatter).*", refuse("it needs several chips: one is emulated")),
    (r"add_(single|double)_buffer|torch\.add", vector_add),
    (r"exp", exp_problem),
    (r"add|maximum|sqrt|sigmoid|gelu|mish", elementwise_problem),
    (r"swi_glu", swi_glu_problem),
    (r"flash_attention.*|mha|gqa", attention_problem),
    (r"conv2d_pto", conv_pto_problem),
    (r"conv_2d", conv_problem),
    (r"softmax", softmax_problem),
    (r"rms_norm", rms_norm_problem),
    (r"group_norm", group_norm_problem),
)

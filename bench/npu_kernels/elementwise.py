"""Elementwise functions on vector cores: tiles of UB, double-buffered, every core a contiguous share.

A function is written once, as a recipe over f32 (or the arrays' own dtype) with the instructions that a tuned kernel uses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from opdsl import npu
from opdsl.npu.addresses import Local
from opdsl.npu.chip import Chip

from .vector import Vector, read_tiling

BYTES = {"f32": 4, "f16": 2, "bf16": 2, "i32": 4, "i8": 1}


@dataclass(frozen=True)
class Function:
    """`write(v, out, inputs, temporaries)` computes out of inputs, all in dtype `computes_in(dtype)`. out may be an
    input's place."""

    inputs: int
    temporaries: int
    write: Callable[[Vector, Local, list[Local], list[Local]], None]
    constant: float | None = None
    """What the last temporary is filled with before the loop."""
    native: frozenset[str] = frozenset({"f32"})
    """The dtypes that it computes in as they are; others are cast to f32 (i8 to f16)."""


def sigmoid(v: Vector, out: Local, x: list[Local], t: list[Local]) -> None:
    """1 / (1 + exp(-x))"""
    v.muls(out, x[0], -1.0)
    v.exp(out, out)
    v.adds(out, out, 1.0)
    v.div(out, t[0], out)


def gelu(v: Vector, out: Local, x: list[Local], t: list[Local]) -> None:
    """x / (1 + exp(-1.5957691 (x + 0.044715 x^3))), the tanh form: CANN's operator computes it for every `approximate`."""
    v.mul(t[0], x[0], x[0])
    v.mul(t[0], t[0], x[0])
    v.muls(t[0], t[0], 0.044715)
    v.add(t[0], t[0], x[0])
    v.muls(t[0], t[0], -1.5957691)
    v.exp(t[0], t[0])
    v.adds(t[0], t[0], 1.0)
    v.div(out, x[0], t[0])


def mish(v: Vector, out: Local, x: list[Local], t: list[Local]) -> None:
    """x tanh(ln(1 + exp(x))), with e = exp(-x) where x > 0: x (1 + 2 e) / (1 + 2 e + 2 e^2), else with e = exp(x):
    x (2 e + e^2) / (2 + 2 e + e^2). Both are computed of all, as CANN's generated operator does (its source:
    ascend/canndev, ops/built-in/tbe/impl/dynamic/mish.py)."""
    bits = t[3].view("u8")
    v.compare_scalar(bits, x[0], 0.0, "gt")
    v.muls(t[0], x[0], -1.0)
    v.muls(t[1], x[0], -2.0)
    v.exp(t[0], t[0])
    v.exp(t[1], t[1])
    v.muls(t[0], t[0], 2.0)
    v.muls(t[1], t[1], 2.0)
    v.adds(t[2], t[0], 1.0)
    v.add(t[0], t[0], t[1])
    v.adds(t[0], t[0], 1.0)
    v.div(t[2], t[2], t[0])
    v.select(t[2], bits, t[2], 0.0)
    v.compare_scalar(bits, x[0], 0.0, "le")
    v.muls(t[1], x[0], 2.0)
    v.exp(t[0], x[0])
    v.muls(t[0], t[0], 2.0)
    v.exp(t[1], t[1])
    v.add(t[0], t[0], t[1])
    v.adds(t[1], t[0], 2.0)
    v.div(t[0], t[0], t[1])
    v.select(t[0], bits, t[0], 0.0)
    v.add(t[0], t[0], t[2])
    v.mul(out, x[0], t[0])


NUMBERS = frozenset({"f32", "f16", "i32"})
FLOATS = frozenset({"f32", "f16"})
FUNCTIONS = {
    "copy": Function(1, 0, lambda v, out, x, t: v.muls(out, x[0], 1.0), native=FLOATS),
    "add": Function(2, 0, lambda v, out, x, t: v.add(out, x[0], x[1]), native=NUMBERS),
    "maximum": Function(2, 0, lambda v, out, x, t: v.max(out, x[0], x[1]), native=NUMBERS),
    "sqrt": Function(1, 0, lambda v, out, x, t: v.sqrt(out, x[0]), native=FLOATS),
    "muls": Function(1, 0, lambda v, out, x, t: v.muls(out, x[0], 1.5)),
    "adds": Function(1, 0, lambda v, out, x, t: v.adds(out, x[0], 0.5)),
    "exp": Function(1, 0, lambda v, out, x, t: v.exp(out, x[0])),
    "sigmoid": Function(1, 1, sigmoid, 1.0),
    "gelu": Function(1, 1, gelu),
    "mish": Function(1, 4, mish),
}


def elementwise(
    chip: str | Chip, name: str, dtype: str, *, depth: int = 2, tile: int = 0, generated: bool = True
) -> npu.Program:
    """y = name(x...), arrays taken as flat. `generated`: by CANN, for all shapes."""
    function = FUNCTIONS[name]
    size = BYTES[dtype]
    work = dtype if dtype in function.native else "f16" if dtype == "i8" else "f32"
    cast = work != dtype
    # Bytes of UB for each element: moved ones `depth` times, those in the work dtype once.
    moved = (function.inputs + 1) * size * depth
    inside = function.temporaries * BYTES[work] + (function.inputs * BYTES[work] if cast else 0)
    if not tile:
        tile = min(8192, (184 * 1024 // (moved + inside)) // 256 * 256)
    k = npu.Builder(name, chip)
    x = [k.argument(f"x{i}", dtype) for i in range(function.inputs)]
    y = k.argument("y", dtype)
    with k.code("aiv" if k.chip.split else "core"):
        places = [k.allocate("UB", depth * tile * size, dtype, f"x{i}") for i in range(function.inputs)]
        result = k.allocate("UB", depth * tile * size, dtype, "y")
        temporaries = [k.allocate("UB", tile * BYTES[work], work, f"t{i}") for i in range(function.temporaries)]
        wide = [k.allocate("UB", tile * BYTES[work], work, f"x{i} wide") for i in range(function.inputs if cast else 0)]
        if generated:
            read_tiling(k)
        lanes = k.chip.vector_cores_per_block
        core, cores = k.block_idx * lanes + k.sub_block_idx, k.block_num * lanes
        n = y.dim(0)
        # Whole 512-byte lines for each core, as evenly as that goes, in tiles as even as that goes.
        unit = 512 // size
        share = (((n + (unit - 1)) // unit) + cores - 1) // cores * unit
        begin = core * share
        end = k.compute("min", n, begin + share)
        tiles = (share + (tile - 1)) // tile
        step = (((share + tiles - 1) // tiles) + (unit - 1)) // unit * unit
        for slot in range(depth):
            k.set_flag("V_MTE2", slot)
            k.set_flag("MTE3_V", slot)
        if function.constant is not None:
            k.duplicate(temporaries[-1], function.constant, count=tile)
            k.pipe_barrier("V")
        turn = k.variable(0, "turn")
        with k.loop(begin, end, step, name="at") as at:
            now = turn % depth
            length = k.compute("min", end - at, step)
            here = [place[now * tile] for place in places]
            out = result[now * tile]
            k.wait_flag("V_MTE2", now)
            for source, place in zip(x, here, strict=True):
                k.data_copy_pad(place, source[at], block_len=length * size)
            k.set_flag("MTE2_V", now)
            k.wait_flag("MTE2_V", now)
            v = Vector(k, count=length)
            if cast:
                for place, narrow in zip(wide, here, strict=True):
                    v.cast(place, narrow)
                k.set_flag("V_MTE2", now)
                function.write(v, wide[0], wide, temporaries)
                k.wait_flag("MTE3_V", now)
                v.cast(out, wide[0], "rint")
            else:
                k.wait_flag("MTE3_V", now)
                function.write(v, out, here, temporaries)
                k.set_flag("V_MTE2", now)
            k.set_flag("V_MTE3", now)
            k.wait_flag("V_MTE3", now)
            k.data_copy_pad(y[at], out, block_len=length * size)
            k.set_flag("MTE3_V", now)
            k.assign(turn, turn + 1)
        for slot in range(depth):
            k.wait_flag("V_MTE2", slot)
            k.wait_flag("MTE3_V", slot)
    return k.finish()


def trim(chip: str | Chip, dtype: str, kept: int) -> npu.Program:
    """y = x[:, :kept], as a copy of its own."""
    size = BYTES[dtype]
    pitch = -(-kept * size // 32) * 32
    most = 90 * 1024 // pitch
    k = npu.Builder("trim", chip)
    x, y = k.argument("x", dtype, 2), k.argument("y", dtype, 2)
    with k.code("aiv"):
        place = k.allocate("UB", 2 * most * pitch, dtype, "rows")
        read_tiling(k)
        lanes = k.chip.vector_cores_per_block
        core, cores = k.block_idx * lanes + k.sub_block_idx, k.block_num * lanes
        rows, columns = x.dim(0), x.dim(1)
        share = (rows + (cores - 1)) // cores
        begin = core * share
        end = k.compute("min", rows, begin + share)
        step = k.compute("min", share, most)
        for slot in range(2):
            k.set_flag("MTE3_MTE2", slot)
        turn = k.variable(0, "turn")
        with k.loop(begin, end, step, name="at") as at:
            now = turn % 2
            here = place.at_byte(now * (most * pitch))
            count = k.compute("min", end - at, step)
            k.wait_flag("MTE3_MTE2", now)
            gap = (columns - kept) * size
            k.data_copy_pad(here, x[at * columns], block_count=count, block_len=kept * size, src_stride=gap)
            k.set_flag("MTE2_MTE3", now)
            k.wait_flag("MTE2_MTE3", now)
            k.data_copy_pad(y[at * kept], here, block_count=count, block_len=kept * size)
            k.set_flag("MTE3_MTE2", now)
            k.assign(turn, turn + 1)
        for slot in range(2):
            k.wait_flag("MTE3_MTE2", slot)
    return k.finish()

"""Elementwise functions on vector cores: tiles of UB, double-buffered, every core a contiguous share.

A function is written once, as a recipe over f32 (or the arrays' own dtype) with the instructions that a tuned kernel uses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from opdsl import npu
from opdsl.npu.addresses import Local
from opdsl.npu.chip import Chip

from .vector import Vector

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
    """x tanh(ln(1 + exp(x))) = x (1 - 2 / (1 + (1 + exp(x))^2))"""
    v.mins(t[0], x[0], 20.0)
    v.exp(t[0], t[0])
    v.adds(t[0], t[0], 1.0)
    v.mul(t[0], t[0], t[0])
    v.adds(t[0], t[0], 1.0)
    v.div(t[0], t[1], t[0])
    v.adds(t[0], t[0], 1.0)
    v.mul(out, x[0], t[0])


def softplus(v: Vector, out: Local, x: list[Local], t: list[Local]) -> None:
    """ln(1 + exp(x)) = max(x, 0) + ln(1 + exp(-|x|))"""
    v.abs(t[0], x[0])
    v.muls(t[0], t[0], -1.0)
    v.exp(t[0], t[0])
    v.adds(t[0], t[0], 1.0)
    v.ln(t[0], t[0])
    v.relu(out, x[0])
    v.add(out, out, t[0])


def tanh(v: Vector, out: Local, x: list[Local], t: list[Local]) -> None:
    """1 - 2 / (1 + exp(2 x))"""
    v.mins(t[0], x[0], 15.0)
    v.muls(t[0], t[0], 2.0)
    v.exp(t[0], t[0])
    v.adds(t[0], t[0], 1.0)
    v.div(t[0], t[1], t[0])
    v.adds(out, t[0], 1.0)


def scaled_exp(v: Vector, out: Local, x: list[Local], t: list[Local]) -> None:
    """exp(scale x + shift)"""
    v.muls(out, x[0], 1.5)
    v.adds(out, out, 0.5)
    v.exp(out, out)


def swi_glu(v: Vector, out: Local, x: list[Local], t: list[Local]) -> None:
    """x0 / (1 + exp(-x0)) x1"""
    v.muls(t[0], x[0], -1.0)
    v.exp(t[0], t[0])
    v.adds(t[0], t[0], 1.0)
    v.div(t[0], x[0], t[0])
    v.mul(out, t[0], x[1])


NUMBERS = frozenset({"f32", "f16", "i32"})
FUNCTIONS = {
    "copy": Function(1, 0, lambda v, out, x, t: v.muls(out, x[0], 1.0), native=frozenset({"f32", "f16"})),
    "add": Function(2, 0, lambda v, out, x, t: v.add(out, x[0], x[1]), native=NUMBERS),
    "maximum": Function(2, 0, lambda v, out, x, t: v.max(out, x[0], x[1]), native=NUMBERS),
    "sqrt": Function(1, 0, lambda v, out, x, t: v.sqrt(out, x[0]), native=frozenset({"f32", "f16"})),
    "sigmoid": Function(1, 1, sigmoid, 1.0),
    "gelu": Function(1, 1, gelu),
    "mul": Function(2, 0, lambda v, out, x, t: v.mul(out, x[0], x[1]), native=NUMBERS),
    "softplus": Function(1, 1, softplus),
    "tanh": Function(1, 2, tanh, -2.0),
    "mish": Function(1, 2, mish, -2.0),
    "exp": Function(1, 0, scaled_exp),
    "swi_glu": Function(2, 1, swi_glu),
}


def elementwise(chip: str | Chip, name: str, dtype: str, *, depth: int = 2, tile: int = 0, halves: str = "") -> npu.Program:
    """y = name(x...), arrays taken as flat. `halves`: the two inputs are the halves of one array, along its rows ("rows":
    of each row of x, which has two axes) or one after the other ("flat")."""
    function = FUNCTIONS[name]
    size = BYTES[dtype]
    work = dtype if dtype in function.native else "f16" if dtype == "i8" else "f32"
    cast = work != dtype
    inputs = 1 if halves else function.inputs
    # Bytes of UB for each element: moved ones `depth` times, those in the work dtype once.
    moved = (function.inputs + 1) * size * depth
    inside = function.temporaries * BYTES[work] + (function.inputs * BYTES[work] if cast else 0)
    if not tile:
        tile = min(8192, (184 * 1024 // (moved + inside)) // 256 * 256)
    k = npu.Builder(name, chip)
    x = [k.argument(f"x{i}", dtype, 2 if halves else 1) for i in range(inputs)]
    y = k.argument("y", dtype, 2 if halves else 1)
    with k.code("aiv" if k.chip.split else "core"):
        places = [k.allocate("UB", depth * tile * size, dtype, f"x{i}") for i in range(function.inputs)]
        result = k.allocate("UB", depth * tile * size, dtype, "y")
        temporaries = [k.allocate("UB", tile * BYTES[work], work, f"t{i}") for i in range(function.temporaries)]
        wide = [k.allocate("UB", tile * BYTES[work], work, f"x{i} wide") for i in range(function.inputs if cast else 0)]
        lanes = k.chip.vector_cores_per_block
        core, cores = k.block_idx * lanes + k.sub_block_idx, k.block_num * lanes
        rows, per_block = y.dim(0), 32 // size
        columns = y.dim(1) if halves else k.constant(1)
        by_rows = halves == "rows"
        padded = (columns + (per_block - 1)) // per_block * per_block if by_rows else k.constant(1)
        n = rows if by_rows else rows * columns
        # Whole 512-byte lines (or rows) for each core, as evenly as that goes, in tiles as even as that goes.
        unit = 1 if by_rows else 512 // size
        most = k.constant(tile) // padded
        share = (((n + (unit - 1)) // unit) + cores - 1) // cores * unit
        begin = core * share
        end = k.compute("min", n, begin + share)
        tiles = (share + most - 1) // most
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
            for index, place in enumerate(here):
                if halves == "rows":  # of every row its first and its second half, padded to whole blocks
                    k.data_copy_pad(
                        place,
                        x[0][(at * 2 + index) * columns],
                        block_count=length,
                        block_len=columns * size,
                        src_stride=columns * size,
                        right_padding=padded - columns,
                    )
                else:
                    source = x[0][at + index * n] if halves else x[index][at]
                    k.data_copy_pad(place, source, block_len=length * size)
            k.set_flag("MTE2_V", now)
            k.wait_flag("MTE2_V", now)
            v = Vector(k, count=length * padded)
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
            if by_rows:
                k.data_copy_pad(y[at * columns], out, block_count=length, block_len=columns * size)
            else:
                k.data_copy_pad(y[at], out, block_len=length * size)
            k.set_flag("MTE3_V", now)
            k.assign(turn, turn + 1)
        for slot in range(depth):
            k.wait_flag("V_MTE2", slot)
            k.wait_flag("MTE3_V", slot)
    return k.finish()

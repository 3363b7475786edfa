"""Global memory: copy_in and copy_out. And random numbers, which are a function of a seed and a counter."""

from __future__ import annotations

import math
from typing import Any

from opdsl.ir.ops import STORE_MODES
from opdsl.ir.types import f32, i64
from opdsl.lang import context
from opdsl.lang.context import builtin
from opdsl.lang.indexing import place_of
from opdsl.lang.operators import binary, cast_operand, check_operand, index_scalar, to_value
from opdsl.lang.promotion import fits
from opdsl.lang.values import Operand, Place, Scalar, TensorView, Tile, describe, is_number, show_shape, wrap
from opdsl.support.errors import Misuse


@builtin("copy_in")
def copy_in(place: Any, pad: Operand = 0) -> Any:
    """Reads part of a tensor, `x[i:i + BLOCK, j]`, into a tile of its dtype; a scalar if every dim has an integer.

    Elements out of bounds give `pad`, a Python number or a scalar, converted to the tensor's dtype.
    """
    source = place_of(place, "the argument of od.copy_in")
    dtype = source.tensor.dtype
    operand = check_operand(pad, "the pad of od.copy_in")
    if isinstance(operand, Tile):
        raise Misuse(
            f"the pad of od.copy_in is {describe(operand)}, where a number or a scalar is needed",
            "no mask is needed: what lies outside reads `pad`, a number; od.where chooses between tiles afterwards"
            if operand.dtype.is_bool
            else "say pad=0, or choose between tiles with od.where after the copy_in",
            pad,
        )
    if isinstance(operand, float) and dtype.is_integer and not math.isfinite(operand):
        raise Misuse(
            f"the pad of od.copy_in is {operand}, which {dtype} does not have",
            f"give a number that {dtype} has, or choose later with od.where",
            pad,
        )
    if is_number(operand) and isinstance(operand, float) and dtype.is_integer and operand.is_integer():
        operand = int(operand)
    value = to_value(operand, dtype)
    return wrap(context.builder().copy_in(source.tensor.value, source.index, source.operands, value))


@builtin("copy_out")
def copy_out(value: Operand, place: Any, mode: str = "set") -> None:
    """Writes a tile, scalar or number to part of a tensor, `y[i:i + BLOCK, j]`, converted to the tensor's dtype.

    The value broadcasts to the shape of the place. What lies out of bounds is dropped. With `mode` "add", "max" or
    "min" each element is combined atomically with what is there.
    """
    if isinstance(value, TensorView | Place) and not isinstance(place, TensorView | Place):
        raise Misuse("the arguments of od.copy_out are the wrong way round", "write od.copy_out(tile, y[i:i + BLOCK])")
    target = place_of(place, "the second argument of od.copy_out")
    operand = check_operand(value, "the value of od.copy_out")
    if mode not in STORE_MODES:
        raise Misuse(
            f"the mode of od.copy_out is {describe(mode)}", f"it is one of {', '.join(map(repr, STORE_MODES))}", mode
        )
    if mode == "add" and target.tensor.dtype.is_bool:
        raise Misuse("od.copy_out adds to a tensor of bools", 'use mode="max" for a logical or')
    shape = operand.shape if isinstance(operand, Scalar | Tile) else ()
    dtype = target.tensor.dtype
    if isinstance(operand, int) and dtype.is_integer and not fits(operand, dtype):
        raise Misuse(
            f"{operand} does not fit into the tensor {target.tensor.name!r} of {dtype}", "make the tensor wider", value
        )
    while len(shape) > len(target.shape) and shape[0] == 1:
        shape = shape[1:]  # as in NumPy's assignment, leading dims of 1 may be too many
    fitting = len(shape) <= len(target.shape) and all(
        have in (1, want) for have, want in zip(reversed(shape), reversed(target.shape), strict=False)
    )
    if not fitting:
        raise Misuse(
            f"od.copy_out of a value of shape {show_shape(operand.shape if isinstance(operand, Scalar | Tile) else ())} "
            f"into a place of shape {show_shape(target.shape)} in {target.tensor.name!r}",
            "the value must have the shape of the place or broadcast to it; od.reshape or another slice may mend it",
        )
    moved = cast_operand(operand, target.tensor.dtype).value
    builder = context.builder()
    if isinstance(operand, Tile) and shape != operand.shape:
        moved = builder.value("reshape", moved, shape=shape)
    if target.shape:
        moved = builder.broadcast(moved, target.shape)
    builder.copy_out(moved, target.tensor.value, target.index, target.operands, mode)


def _word(seed: Operand, counter: Operand, word: int, name: str) -> Scalar | Tile:
    key = index_scalar(seed, f"the seed of od.{name}")
    count = check_operand(counter, f"the counter of od.{name}")
    if isinstance(count, float) or (isinstance(count, Scalar | Tile) and not count.dtype.is_integer):
        raise Misuse(
            f"the counter of od.{name} is {describe(count)}, where integers are needed",
            "give each element its own number: i + od.arange(BLOCK)",
        )
    value = context.builder().value("random_bits", key.value, to_value(count, i64), word=word)
    return wrap(value)


def _unit(bits: Scalar | Tile, offset: int) -> Scalar | Tile:
    """The upper 24 bits as a float in [0, 1), or (0, 1] with offset 1."""
    whole = cast_operand(binary("shr", bits, 8), f32)
    return binary("mul", binary("add", whole, float(offset)) if offset else whole, 2.0**-24)


@builtin("rand_bits")
def rand_bits(seed: Operand, counter: Operand, word: int = 0) -> Scalar | Tile:
    """32 random bits (u32) for each counter: word 0, 1, 2 or 3 of Philox 4x32-10. The same on every target."""
    if type(word) is not int or word not in range(4):
        raise Misuse(f"the word of od.rand_bits is {describe(word)}", "it is 0, 1, 2 or 3")
    return _word(seed, counter, word, "rand_bits")


@builtin("rand")
def rand(seed: Operand, counter: Operand) -> Scalar | Tile:
    """Uniform f32 in [0, 1) for each counter, a function of the seed and the counter alone."""
    return _unit(_word(seed, counter, 0, "rand"), 0)


@builtin("randn")
def randn(seed: Operand, counter: Operand) -> Scalar | Tile:
    """Normal f32 of mean 0 and variance 1 for each counter (Box-Muller of words 0 and 1)."""
    from opdsl.lang.builtins_math import FLOAT_BUILTINS

    cos, log, sqrt = (FLOAT_BUILTINS[name] for name in ("cos", "log", "sqrt"))

    first = _unit(_word(seed, counter, 0, "randn"), 1)
    second = _unit(_word(seed, counter, 1, "randn"), 0)
    radius = sqrt(binary("mul", log(first), -2.0))
    return binary("mul", radius, cos(binary("mul", second, 2.0 * math.pi)))


@builtin("randint")
def randint(seed: Operand, counter: Operand, low: Operand, high: Operand) -> Scalar | Tile:
    """Uniform i64 in low..high - 1 for each counter. The span high - low is at most 2**31."""
    bits = cast_operand(_word(seed, counter, 0, "randint"), i64)
    start = cast_operand(check_operand(low, "low of od.randint"), i64)
    stop = cast_operand(check_operand(high, "high of od.randint"), i64)
    if type(low) is int and type(high) is int:
        if not 0 < high - low <= 2**31:
            raise Misuse(f"od.randint from {low} to {high}", "high is greater than low, by at most 2**31")
        span: Any = high - low
    else:
        span = binary("sub", stop, start)
    return binary("add", binary("shr", binary("mul", bits, span), 32), low if type(low) is int else start)

"""Reductions, scans, sorting, products; built in and with combine functions."""

from __future__ import annotations

import math
from collections.abc import Callable

from opdsl.ir.ops import dot_result_dtype, reduction_dtype
from opdsl.ir.types import DType, bool_, f32, i32, i64

from .scope import Scope
from .values import Shape, Val, whole_in


def _axes(scope: Scope, rank: int) -> tuple[int, ...]:
    count = rank if scope.chance(0.3) else scope.rng.randint(1, rank)
    return tuple(sorted(scope.rng.sample(range(rank), count)))


def _reduced(shape: Shape, axes: tuple[int, ...], keepdims: bool) -> Shape:
    return tuple(1 if i in axes else n for i, n in enumerate(shape) if keepdims or i not in axes)


def small(scope: Scope, value: Val, bound: int) -> Val:
    """Integers of small magnitude in the same float dtype, so that their sums are exact."""
    if not value.dtype.is_float or (value.whole is not None and value.whole <= bound):
        return value
    text = f"od.round({scope.bounded(value, -bound, bound).text})"
    return Val(text, value.dtype, value.shape, float(bound), True)


def reduce(scope: Scope) -> Val | None:
    a = scope.any_tile()
    if a is None:
        return None
    axes = _axes(scope, len(a.shape))
    keepdims = scope.chance(0.5)
    shape = _reduced(a.shape, axes, keepdims)
    count = math.prod(a.shape[i] for i in axes)
    axis_text = (
        "" if len(axes) == len(a.shape) and scope.chance(0.5) else f", axis={axes[0] if len(axes) == 1 else axes}"
    )
    tail = axis_text + (", keepdims=True" if keepdims else "")
    kind = scope.rng.choice(["sum", "sum", "prod", "max", "min", "any", "all"])
    if kind in ("any", "all"):
        return Val(f"od.{kind}({a.text}{tail})", bool_, shape, 1.0)
    if kind in ("max", "min"):
        return Val(f"od.{kind}({a.text}{tail})", a.dtype, shape, a.whole, a.dtype.is_float)
    return _total(scope, a, kind, count, shape, tail)


def _total(scope: Scope, a: Val, kind: str, count: int, shape: Shape, tail: str) -> Val | None:
    dtype = reduction_dtype(kind, a.dtype)
    if not a.dtype.is_float:
        return Val(f"od.{kind}({a.text}{tail})", dtype, shape)
    if kind == "prod":
        # Factors of -1, 0, 1 and 2; the rest is too great to be exact.
        if count > 20:
            return None
        a = small(scope, a, 1 if count > 6 else 2)
        whole = whole_in(dtype, 1.0 if count > 6 else 2.0**count)
        return Val(f"od.prod({a.text}{tail})", dtype, shape, whole, True)
    a = small(scope, a, 4)
    assert a.whole is not None
    if a.whole * count > 2**24:
        return None
    # The sum is exact in f32, so that one rounding to a narrower type gives the same everywhere.
    return Val(f"od.sum({a.text}{tail})", dtype, shape, whole_in(dtype, a.whole * count), True)


def mean(scope: Scope) -> Val | None:
    a = scope.any_tile(lambda v: v.dtype.is_float)
    if a is None or a.size > 4096:
        return None
    a = small(scope, a, 4)
    axis = scope.rng.randrange(len(a.shape))
    return Val(f"od.mean({a.text}, axis={axis})", a.dtype, _reduced(a.shape, (axis,), False), None, True)


def arg_reduce(scope: Scope) -> Val | None:
    a = scope.any_tile()
    if a is None:
        return None
    name = scope.rng.choice(["argmax", "argmin"])
    if scope.chance(0.2):
        return Val(f"od.{name}({a.text})", i64, (), float(a.size))
    axis, keepdims = scope.rng.randrange(len(a.shape)), scope.chance(0.4)
    shape = _reduced(a.shape, (axis,), keepdims)
    text = f"od.{name}({a.text}, axis={axis}{', keepdims=True' if keepdims else ''})"
    return Val(text, i64, shape, float(a.shape[axis]))


def scan(scope: Scope) -> Val | None:
    a = scope.any_tile()
    if a is None:
        return None
    axis = scope.rng.randrange(len(a.shape))
    count = a.shape[axis]
    kind = scope.rng.choice(["sum", "sum", "prod", "max", "min"])
    reverse = ", reverse=True" if scope.chance(0.4) else ""
    exclusive = ", exclusive=True" if scope.chance(0.4) and kind in ("sum", "prod") else ""
    whole = a.whole
    if a.dtype.is_float and kind in ("sum", "prod"):
        a = small(scope, a, 1 if kind == "prod" else 4)
        assert a.whole is not None
        if a.whole * count > 2**24 or (kind == "prod" and a.whole > 1 and count * math.log2(a.whole) > 24):
            return None
        whole = a.whole * count if kind == "sum" else None
    elif kind in ("sum", "prod"):
        whole = None
    dtype = reduction_dtype(kind, a.dtype)
    text = f"od.cum{kind}({a.text}, axis={axis}{reverse}{exclusive})"
    return Val(text, dtype, a.shape, whole_in(dtype, whole), a.dtype.is_float)


COMBINES: dict[str, Callable[[DType], bool]] = {
    "left * 2 + right": lambda d: not d.is_bool,
    "od.maximum(left, right - 1)": lambda d: not d.is_bool,
    "od.where(left < right, left + right, left - right)": lambda d: not d.is_bool,
    "left ^ right": lambda d: not d.is_float,
    "right": lambda d: True,
    "od.abs(left) + right": lambda d: not d.is_bool and d.kind != "uint",
}
PAIRS = (
    "od.where({b}, b1, a1), od.where({b}, b2, a2)",
    "od.maximum(a1, b1), a2 | b2",
    "a1 + b1, a2 * b2 + od.cast(a1 > b1, od.i32)",
    "b1 * a1, b2 + a2",
)


def _combine(scope: Scope, dtype: DType) -> str:
    body = scope.rng.choice([text for text, fits in COMBINES.items() if fits(dtype)])
    name = scope.program.fresh("combine")
    if scope.chance(0.2) and not dtype.is_bool:
        lines = ["    result = left", "    if right > left:", f"        result = {body}", "    return result"]
    else:
        lines = [f"    return {body}"]
    scope.program.functions.append("\n".join(["@od.function", f"def {name}(left, right):", *lines]))
    return name


def custom(scope: Scope) -> Val | None:
    """A reduction or scan with a combine function: evaluated left to right, so exact on any data."""
    a = scope.any_tile(lambda v: v.size <= 2048)
    if a is None:
        return None
    axis = scope.rng.randrange(len(a.shape))
    zero_open = a.dtype.is_float
    if scope.chance(0.25):
        return _pair(scope, a, axis)
    name = _combine(scope, a.dtype)
    if scope.chance(0.5):
        shape = _reduced(a.shape, (axis,), False)
        if scope.chance(0.2):
            return Val(f"od.reduce({a.text}, None, {name})", a.dtype, (), None, zero_open)
        return Val(f"od.reduce({a.text}, {axis}, {name})", a.dtype, shape, None, zero_open)
    reverse = ", reverse=True" if scope.chance(0.4) else ""
    return Val(f"od.scan({a.text}, {axis}, {name}{reverse})", a.dtype, a.shape, None, zero_open)


def _pair(scope: Scope, a: Val, axis: int) -> Val | None:
    if a.dtype.is_bool:
        a = scope.cast(a, i32)
    body = scope.rng.choice(PAIRS).format(b=scope.rng.choice(["b1 > a1", "(a2 & 1) == 0"]))
    name = scope.program.fresh("combine")
    scope.program.functions.append(f"@od.function\ndef {name}(a1, a2, b1, b2):\n    return {body}")
    n = a.shape[axis]
    index = ", None" * (len(a.shape) - axis - 1)
    counts = f"od.cast(od.arange({n}), od.i32)" + (f"[:{index}]" if index else "")
    first, second = scope.program.fresh("p"), scope.program.fresh("q")
    if scope.chance(0.5):
        shape = _reduced(a.shape, (axis,), False)
        call = f"od.reduce(({a.text}, {counts}), {axis}, {name})"
    else:
        shape = a.shape
        call = f"od.scan(({a.text}, {counts}), {axis}, {name}{', reverse=True' if scope.chance(0.4) else ''})"
    scope.line(f"{first}, {second} = {call}")
    scope.pool += [Val(first, a.dtype, shape, None, a.dtype.is_float), Val(second, i32, shape)]
    return scope.pool[-2] if scope.chance(0.5) else scope.pool[-1]


def sort(scope: Scope) -> Val | None:
    a = scope.any_tile(lambda v: not v.zero_open)
    if a is None:
        return None
    axis = scope.rng.randrange(len(a.shape))
    descending = ", descending=True" if scope.chance(0.4) else ""
    choice = scope.rng.random()
    if choice < 0.35:
        return Val(f"od.sort({a.text}, {axis}{descending})", a.dtype, a.shape, a.whole)
    if choice < 0.65:
        return Val(f"od.argsort({a.text}, {axis}{descending})", i64, a.shape, float(a.shape[axis]))
    k = scope.rng.randint(1, a.shape[axis])
    shape = tuple(k if i == axis else n for i, n in enumerate(a.shape))
    largest = "" if scope.chance(0.6) else ", largest=False"
    first, second = scope.program.fresh("p"), scope.program.fresh("q")
    scope.line(f"{first}, {second} = od.topk({a.text}, {k}, {axis}{largest})")
    scope.pool += [Val(first, a.dtype, shape, a.whole), Val(second, i64, shape, float(a.shape[axis]))]
    return scope.pool[-2] if scope.chance(0.5) else scope.pool[-1]


def dot(scope: Scope) -> Val | None:
    """A product of tiles in sight; the operand that is missing is made of a part of the other."""
    a = scope.any_tile(lambda v: len(v.shape) >= 2 and v.size <= 4096 and v.dtype != bool_ and v.dtype != i64)
    if a is None:
        return None
    k = a.shape[-1]

    def fits(v: Val) -> bool:
        return len(v.shape) == 2 and k in v.shape and v.size <= 4096

    b = scope.any_tile(fits)
    a = small(scope, a, 4)
    if b is None:
        if len(a.shape) != 2:
            return None
        b, text, n = a, f"{a.text}.T", a.shape[0]
    else:
        if b.dtype != a.dtype:
            b = scope.cast(b, a.dtype)
        b = small(scope, b, 4)
        straight = b.shape[0] == k and (b.shape[1] != k or scope.chance(0.5))
        text = b.text if straight else f"({b.text}).T"
        n = b.shape[1] if straight else b.shape[0]
    if a.shape[-2] * n * math.prod(a.shape[:-2]) > 4096:
        return None
    return product(a, b, f"od.dot({a.text}, {text})", (*a.shape[:-1], n), k)


def product(a: Val, b: Val, text: str, shape: Shape, k: int) -> Val | None:
    dtype = dot_result_dtype(a.dtype)
    if dtype == i32:
        return Val(text, i32, shape)
    if a.whole is None or b.whole is None or a.whole * b.whole * k > 2**24:
        return None
    return Val(text, dtype, shape, a.whole * b.whole * k, True)


def tolerant(scope: Scope) -> Val | None:
    """Sums and softmaxes of real numbers: positive, so that the error stays relative."""
    a = scope.any_tile(lambda v: v.dtype.is_float and v.size <= 4096)
    if a is None:
        return None
    wide = scope.wide_float(a)
    if wide.dtype != f32:
        wide = scope.cast(a, f32)
    p = scope.program.fresh("p")
    scope.line(f"{p} = od.exp({scope.bounded(wide, -3, 3).text})")
    axis = scope.rng.randrange(len(a.shape))
    kept = scope.rng.choice(["sum", "max"])
    form = scope.rng.choice(
        [
            f"{p} / od.{kept}({p}, axis={axis}, keepdims=True)",
            f"od.sqrt({p} * od.sum({p} * {p}, axis={axis}, keepdims=True))",
            f"od.cumsum({p}, axis={axis})",
            f"od.log(1.5 + {p}) * od.mean({p})",
        ]
    )
    return Val(form, f32, a.shape, rel=3e-5)

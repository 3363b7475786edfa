"""Elementwise expressions."""

from __future__ import annotations

from opdsl.ir.types import DType, bool_, f32, i32, i64, u32
from opdsl.lang.promotion import join
from opdsl.support.errors import Misuse

from .scope import Scope
from .values import USUAL, Val, broadcast, whole_in

COMPARISONS = ("==", "!=", "<", "<=", ">", ">=")
FUNCTIONS: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("exp", "exp2"), (-20, 20)),
    **dict.fromkeys(("log", "log2", "log10", "rsqrt"), (0.01, 1000)),
    **dict.fromkeys(("sin", "cos", "sigmoid"), (-30, 30)),
    **dict.fromkeys(("sinh", "cosh", "tanh"), (-10, 10)),
    **dict.fromkeys(("asin", "acos"), (-1, 1)),
    "expm1": (-5, 5),
    "log1p": (-0.5, 100),
    "tan": (-1.5, 1.5),
    "atan": (-50, 50),
    "erf": (-4, 4),
}


def joined(a: Val, b: Val) -> DType | None:
    """The dtype of an operation of both; None where there is none."""
    try:
        return join(a.dtype, b.dtype)
    except Misuse:
        return None


def _operands(scope: Scope) -> tuple[Val, Val] | None:
    """Two values that broadcast, the second perhaps a number or scalar."""
    a = scope.any_tile()
    if a is None:
        return None
    choice = scope.rng.random()
    if choice < 0.12 and not a.dtype.is_bool:
        b = scope.literal(a.dtype)
    elif choice < 0.2:
        b = scope.scalar_of(a.dtype if scope.chance(0.7) else f32)
    else:
        partner = scope.partner(a.shape)
        b = partner if partner is not None else a
        if joined(a, b) is None or scope.chance(0.5):
            b = scope.cast(b, a.dtype)
    return (b, a) if scope.chance(0.3) and b.text[0].isalpha() else (a, b)


def binary(scope: Scope) -> Val | None:
    pair = _operands(scope)
    if pair is None:
        return None
    a, b = pair
    dtype, shape = joined(a, b), broadcast(a.shape, b.shape)
    if dtype is None or shape is None:
        return None
    if dtype.is_bool:
        if scope.chance(0.7):
            return Val(f"{a.text} {scope.rng.choice('&|^')} {b.text}", bool_, shape, 1.0)
        dtype = i32
    if dtype.is_float:
        return _binary_float(scope, a, b, dtype, shape)
    operator = scope.rng.choice(["+", "-", "*", "//", "%", "&", "|", "^", "<<", ">>", "min", "max", "/", "**"])
    if operator in ("min", "max"):
        if a.dtype.is_bool or b.dtype.is_bool:
            a, b = scope.cast(a, dtype), scope.cast(b, dtype)
        return Val(f"od.{operator}imum({a.text}, {b.text})", dtype, shape, _larger(a, b))
    if operator in ("<<", ">>"):
        dtype = a.dtype
        if not (a.dtype.is_integer and b.dtype.is_integer):
            return None
        if joined(a, b) != dtype:
            b = scope.cast(b, dtype)
    if operator in "&|^" and (a.dtype.is_bool or b.dtype.is_bool):
        a, b = scope.cast(a, dtype), scope.cast(b, dtype)
    if operator == "/":
        return Val(f"{a.text} / {b.text}", f32, shape, None)
    if operator == "**":
        return Val(f"{a.text} ** {scope.rng.choice([2, 3, 5])}", a.dtype if not a.dtype.is_bool else i32, a.shape)
    whole = whole_in(dtype, _whole(operator, a, b)) if dtype.kind == "int" else None
    return Val(f"{a.text} {operator} {b.text}", dtype, shape, whole)


def _larger(a: Val, b: Val) -> float | None:
    return None if a.whole is None or b.whole is None else max(a.whole, b.whole)


def _whole(operator: str, a: Val, b: Val) -> float | None:
    if a.whole is None or b.whole is None or operator not in "+-*":
        return None
    return a.whole * b.whole if operator == "*" else a.whole + b.whole


def _binary_float(scope: Scope, a: Val, b: Val, dtype: DType, shape: tuple[int, ...]) -> Val:
    operator = scope.rng.choice(["+", "-", "*", "+", "-", "*", "/", "//", "%", "min", "max", "fma"])
    zero_open = a.zero_open or b.zero_open
    if operator in ("min", "max"):
        return Val(f"od.{operator}imum({a.text}, {b.text})", dtype, shape, whole_in(dtype, _larger(a, b)), True)
    if operator == "fma":
        c = scope.partner(shape)
        if c is None or broadcast(shape, c.shape) is None:
            c = a
        c = scope.cast(c, dtype)
        shape = broadcast(shape, c.shape) or shape
        return Val(f"od.fma({a.text}, {b.text}, {c.text})", dtype, shape, None, zero_open or c.zero_open)
    if operator in ("/", "//", "%"):
        b = scope.signed_zeros(b)
        zero_open = a.zero_open
    return Val(f"{a.text} {operator} {b.text}", dtype, shape, whole_in(dtype, _whole(operator, a, b)), zero_open)


def unary(scope: Scope) -> Val | None:
    a = scope.any_tile()
    if a is None:
        return None
    if a.dtype.is_bool:
        return Val(f"~{a.text}", bool_, a.shape, 1.0)
    if a.dtype.is_float:
        name = scope.rng.choice(["neg", "abs", "sqrt", "floor", "ceil", "trunc", "round", "clamp", "square"])
        if name == "neg":
            return Val(f"-{a.text}", a.dtype, a.shape, a.whole, a.zero_open)
        if name == "clamp":
            return Val(f"od.clamp({a.text}, -2, 3.0)", a.dtype, a.shape, whole_in(a.dtype, a.whole), True)
        if name == "square":
            whole = None if a.whole is None else whole_in(a.dtype, a.whole**2)
            return Val(f"{a.text} ** 2", a.dtype, a.shape, whole)
        whole = a.whole if name not in ("sqrt",) else None
        return Val(f"od.{name}({a.text})", a.dtype, a.shape, whole, a.zero_open and name != "abs")
    name = scope.rng.choice(["neg", "abs", "~"])
    if name == "~":
        return Val(f"~{a.text}", a.dtype, a.shape)
    if name == "neg":
        return Val(f"-{a.text}", a.dtype, a.shape, a.whole if a.dtype.kind == "int" else None)
    return Val(f"od.abs({a.text})", a.dtype, a.shape, a.whole)


def comparison(scope: Scope) -> Val | None:
    pair = _operands(scope)
    if pair is None:
        return None
    a, b = pair
    shape = broadcast(a.shape, b.shape)
    if joined(a, b) is None or shape is None:
        return None
    if a.dtype.is_float and scope.chance(0.2):
        return Val(f"od.{scope.rng.choice(['isnan', 'isinf', 'isfinite'])}({a.text})", bool_, a.shape, 1.0)
    return Val(f"{a.text} {scope.rng.choice(COMPARISONS)} {b.text}", bool_, shape, 1.0)


def where(scope: Scope) -> Val | None:
    pair = _operands(scope)
    if pair is None:
        return None
    a, b = pair
    dtype, shape = joined(a, b), broadcast(a.shape, b.shape)
    if dtype is None or shape is None:
        return None
    masks = [v for v in scope.pool if v.dtype.is_bool and broadcast(v.shape, shape)]
    condition = scope.rng.choice(masks).text if masks and scope.chance(0.7) else f"{a.text} > {b.text}"
    together = broadcast(shape, *(m.shape for m in masks if m.text == condition))
    if together is None:
        return None
    if _count(together) > 4096:
        return None
    whole = whole_in(dtype, _larger(a, b)) if dtype.kind != "uint" else None
    return Val(f"od.where({condition}, {a.text}, {b.text})", dtype, together, whole, a.zero_open or b.zero_open)


def _count(shape: tuple[int, ...]) -> int:
    count = 1
    for n in shape:
        count *= n
    return count


def cast(scope: Scope) -> Val | None:
    a = scope.any_tile()
    return None if a is None else scope.cast(a, scope.rng.choice(USUAL))


def arange(scope: Scope) -> Val | None:
    a = scope.any_tile()
    if a is None:
        return None
    start = scope.rng.choice(scope.indices) + " + " if scope.indices and scope.chance(0.6) else ""
    axis = scope.rng.randrange(len(a.shape))
    n = a.shape[axis]
    index = "".join(", None" for _ in a.shape[axis + 1 :])
    suffix = f"[:{index}]" if index else ""
    shape = (n, *([1] * (len(a.shape) - axis - 1)))
    if scope.chance(0.3):
        counted = f"od.arange({2 * n}, 0, -2, dtype=od.i32)" if scope.chance(0.5) else f"od.arange(3, {n + 3})"
        dtype = i32 if "i32" in counted else i64
        return Val(f"{counted}{suffix}", dtype, shape, 2.0 * n + 3)
    return Val(f"({start}od.arange({n})){suffix}", i64, shape, None if start else float(n))


def random(scope: Scope) -> Val | None:
    counters = scope.any_tile(lambda v: v.dtype.is_integer)
    if counters is None:
        return None
    seed = scope.scalar_of(i64).text
    kind = scope.rng.choice(["rand_bits", "rand", "randint"])
    if kind == "rand_bits":
        return Val(f"od.rand_bits({seed}, {counters.text}, {scope.rng.randrange(4)})", u32, counters.shape)
    if kind == "rand":
        return Val(f"od.rand({seed}, {counters.text})", f32, counters.shape)
    return Val(f"od.randint({seed}, {counters.text}, -5, 12)", i64, counters.shape, 12.0)


def approximate(scope: Scope) -> Val | None:
    """A function that targets may compute a little differently; its result goes to an output and nowhere else."""
    a = scope.any_tile(lambda v: v.dtype.is_float)
    if a is None:
        return None
    wide = a
    if scope.chance(0.15):
        x, y = scope.bounded(wide, 0.1, 20.0).text, scope.bounded(wide, 0.5, 3.0).text
        return Val(f"od.{scope.rng.choice(['pow', 'atan2'])}({x}, {y})", a.dtype, a.shape, rel=1.0)
    name = scope.rng.choice(sorted(FUNCTIONS))
    low, high = FUNCTIONS[name]
    return Val(f"od.{name}({scope.bounded(wide, low, high).text})", a.dtype, a.shape, rel=1.0)

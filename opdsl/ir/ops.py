"""The one table of ops: operands, result-type rule with its checks, purity.

Conventions
- An elementwise op takes scalars only or tiles of one shape only; `broadcast` makes shapes equal first.
- Index arithmetic is i64. Integer `floordiv` and `mod` follow Python (floor; by zero gives 0, as NumPy).
- Arithmetic of f16, bf16 and f8 rounds after every op to the type, as NumPy does.
- `min` and `max` propagate NaN, as np.minimum and np.maximum do.
- `dot` sums in its result's dtype in an order the target chooses; everything else is evaluated as written.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Any, Literal

from opdsl.ir.core import Gather, IndexSpec, Point, Region, Slice
from opdsl.ir.functions import COMPOSITIONS, FUNCTIONS
from opdsl.ir.types import (
    DType,
    ScalarType,
    TensorType,
    TileType,
    Type,
    bf16,
    bool_,
    f8e4m3,
    f8e5m2,
    f16,
    f32,
    f64,
    i32,
    i64,
    shape_of,
    shaped,
    u32,
)

Attributes = Mapping[str, Any]
TypeRule = Callable[[Sequence[Type], Attributes, Sequence[Region]], tuple[Type, ...]]
Category = Literal["elementwise", "shape", "reduce", "memory", "control", "other"]


class IrError(Exception):
    """An op does not satisfy its rule in the table. Reaching a user, it is a bug of ours or of a hand-written IR."""


@dataclass(frozen=True)
class OpSpec:
    name: str
    category: Category
    rule: TypeRule
    attributes: tuple[str, ...] = ()
    regions: int = 0
    pure: bool = True  # no effect: may be removed if unused, repeated or moved
    terminator: bool = False


OPS: dict[str, OpSpec] = {}


def _define(
    name: str,
    category: Category,
    rule: TypeRule,
    attributes: tuple[str, ...] = (),
    *,
    regions: int = 0,
    pure: bool = True,
    terminator: bool = False,
) -> None:
    OPS[name] = OpSpec(name, category, rule, attributes, regions, pure, terminator)


def require(condition: bool, message: str) -> None:
    if not condition:
        raise IrError(message)


def _element(type: Type) -> DType:
    require(not isinstance(type, TensorType), "a tensor is read with copy_in only")
    return type.dtype


def _same_shapes(types: Sequence[Type]) -> tuple[int, ...]:
    shapes = {shape_of(t) for t in types if _element(t)}
    require(len(shapes) == 1, f"shapes differ: {', '.join(str(t) for t in types)}")
    return shapes.pop()


def _same_type(types: Sequence[Type]) -> Type:
    _same_shapes(types)
    require(len({_element(t) for t in types}) == 1, f"dtypes differ: {', '.join(str(t) for t in types)}")
    return types[0]


# --- elementwise -----------------------------------------------------------------------------------------------------


def _arithmetic(arity: int, kinds: tuple[str, ...]) -> TypeRule:
    def rule(types: Sequence[Type], attributes: Attributes, regions: Sequence[Region]) -> tuple[Type, ...]:
        require(len(types) == arity, f"takes {arity} operands")
        result = _same_type(types)
        require(_element(result).kind in kinds, f"{result} is not of {' or '.join(kinds)} elements")
        return (result,)

    return rule


def _comparison(types: Sequence[Type], attributes: Attributes, regions: Sequence[Region]) -> tuple[Type, ...]:
    require(len(types) == 2, "takes 2 operands")
    _same_type(types)
    return (shaped(bool_, shape_of(types[0])),)


def _float_test(types: Sequence[Type], attributes: Attributes, regions: Sequence[Region]) -> tuple[Type, ...]:
    require(len(types) == 1 and _element(types[0]).is_float, "takes one operand of floats")
    return (shaped(bool_, shape_of(types[0])),)


def _select(types: Sequence[Type], attributes: Attributes, regions: Sequence[Region]) -> tuple[Type, ...]:
    require(len(types) == 3, "takes a condition and two choices")
    _same_shapes(types)
    require(_element(types[0]).is_bool, "the condition is not bool")
    return (_same_type(types[1:]),)


def _cast(types: Sequence[Type], attributes: Attributes, regions: Sequence[Region]) -> tuple[Type, ...]:
    require(len(types) == 1, "takes one operand")
    return (shaped(attributes["dtype"], shape_of(types[0])),)


_NUMBERS = ("float", "int", "uint")
_FLOATS = ("float",)
_BITS = ("int", "uint", "bool")
_INTEGERS = ("int", "uint")

ARITHMETIC = ("add", "sub", "mul", "floordiv", "mod")
COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")

for _name in ARITHMETIC:
    _define(_name, "elementwise", _arithmetic(2, _NUMBERS))
for _name in ("min", "max"):
    _define(_name, "elementwise", _arithmetic(2, (*_NUMBERS, "bool")))
_define("div", "elementwise", _arithmetic(2, _FLOATS))
_define("ipow", "elementwise", _arithmetic(2, _INTEGERS))  # a negative exponent gives 0
for _name in COMPARISONS:
    _define(_name, "elementwise", _comparison)
for _name in ("and", "or", "xor"):
    _define(_name, "elementwise", _arithmetic(2, _BITS))
for _name in ("shl", "shr"):
    _define(_name, "elementwise", _arithmetic(2, _INTEGERS))
_define("not", "elementwise", _arithmetic(1, _BITS))
for _name in ("neg", "abs"):
    _define(_name, "elementwise", _arithmetic(1, _NUMBERS))
for _function in FUNCTIONS.values():
    _define(_function.name, "elementwise", _arithmetic(len(_function.operands), _FLOATS))
for _name in ("isnan", "isinf", "isfinite"):
    _define(_name, "elementwise", _float_test)
_define("fma", "elementwise", _arithmetic(3, _FLOATS))
_define("select", "elementwise", _select)
_define("cast", "elementwise", _cast, ("dtype",))


# --- sources ---------------------------------------------------------------------------------------------------------


def _constant(types: Sequence[Type], attributes: Attributes, regions: Sequence[Region]) -> tuple[Type, ...]:
    require(not types, "takes no operands")
    return (ScalarType(attributes["dtype"]),)


def _dim(types: Sequence[Type], attributes: Attributes, regions: Sequence[Region]) -> tuple[Type, ...]:
    return (ScalarType(i64),)


def _arange(types: Sequence[Type], attributes: Attributes, regions: Sequence[Region]) -> tuple[Type, ...]:
    require(attributes["length"] >= 1, "has no elements")
    return (TileType(i64, (attributes["length"],)),)


def _random_bits(types: Sequence[Type], attributes: Attributes, regions: Sequence[Region]) -> tuple[Type, ...]:
    require(len(types) == 2 and types[0] == ScalarType(i64), "takes an i64 seed and i64 counters")
    require(_element(types[1]) == i64, "the counters are not i64")
    require(attributes["word"] in range(4), "word is not 0..3")
    return (shaped(u32, shape_of(types[1])),)


_define("constant", "other", _constant, ("value", "dtype"))  # value: a Python bool, int or float
_define("dim", "other", _dim, ("symbol",))  # the run-time size of a symbolic dim
_define("arange", "other", _arange, ("length",))  # 0, 1, ... length - 1
# One 32-bit word of Philox 4x32-10: key = low, high half of the seed; block = low, high half of the counter, 0, 0.
_define("random_bits", "elementwise", _random_bits, ("word",))


# --- shape -----------------------------------------------------------------------------------------------------------


def _broadcast(types: Sequence[Type], attributes: Attributes, regions: Sequence[Region]) -> tuple[Type, ...]:
    target: tuple[int, ...] = attributes["shape"]
    source = shape_of(types[0])
    require(len(source) <= len(target), f"{types[0]} has more dims than {target}")
    for have, want in zip(reversed(source), reversed(target), strict=False):
        require(have in (1, want), f"{types[0]} does not broadcast to {target}")
    return (TileType(_element(types[0]), target),)


def _reshape(types: Sequence[Type], attributes: Attributes, regions: Sequence[Region]) -> tuple[Type, ...]:
    shape: tuple[int, ...] = attributes["shape"]
    require(math.prod(shape) == math.prod(shape_of(types[0])), f"{types[0]} does not have the elements of {shape}")
    return (shaped(_element(types[0]), shape),)


def _transpose(types: Sequence[Type], attributes: Attributes, regions: Sequence[Region]) -> tuple[Type, ...]:
    shape, permutation = shape_of(types[0]), attributes["permutation"]
    require(sorted(permutation) == list(range(len(shape))), f"{permutation} does not permute {types[0]}")
    return (shaped(_element(types[0]), tuple(shape[p] for p in permutation)),)


def _concat(types: Sequence[Type], attributes: Attributes, regions: Sequence[Region]) -> tuple[Type, ...]:
    axis: int = attributes["axis"]
    shapes = [shape_of(t) for t in types]
    require(len({_element(t) for t in types}) == 1, "dtypes differ")
    require(len({s[:axis] + s[axis + 1 :] for s in shapes}) == 1, "shapes differ beside the axis")
    size = sum(s[axis] for s in shapes)
    return (TileType(_element(types[0]), (*shapes[0][:axis], size, *shapes[0][axis + 1 :])),)


def _extract(types: Sequence[Type], attributes: Attributes, regions: Sequence[Region]) -> tuple[Type, ...]:
    source = shape_of(types[0])
    starts, sizes, steps = attributes["starts"], attributes["sizes"], attributes["steps"]
    require(len(source) == len(starts) == len(sizes) == len(steps), "one start, size and step for each dim")
    for extent, start, size, step in zip(source, starts, sizes, steps, strict=True):
        inside = size >= 1 and 0 <= start < extent and 0 <= start + (size - 1) * step < extent
        require(inside, f"[{start} + {step} * 0..{size - 1}] leaves a dim of {extent}")
    return (TileType(_element(types[0]), tuple(sizes)),)


_define("broadcast", "shape", _broadcast, ("shape",))  # scalar or tile -> tile, NumPy's rule
_define("reshape", "shape", _reshape, ("shape",))  # row-major order kept; shape () of a 1-element tile gives a scalar
_define("transpose", "shape", _transpose, ("permutation",))
_define("concat", "shape", _concat, ("axis",))
_define("extract", "shape", _extract, ("starts", "sizes", "steps"))  # a static slice of a tile; steps may be negative


# --- dot, reductions, scans, sort ------------------------------------------------------------------------------------

HALF_TYPES = (f16, bf16, f8e4m3, f8e5m2)


def dot_result_dtype(dtype: DType) -> DType:
    """What `dot` of two tiles of `dtype` accumulates in and gives."""
    if dtype in HALF_TYPES or dtype == f32:
        return f32
    if dtype == f64:
        return f64
    require(dtype.is_integer and dtype.bits <= 32, f"dot does not take {dtype}")
    return i32


def _dot(types: Sequence[Type], attributes: Attributes, regions: Sequence[Region]) -> tuple[Type, ...]:
    require(len(types) == 2, "takes two tiles")
    a, b = shape_of(types[0]), shape_of(types[1])
    matched = len(a) == len(b) >= 2 and a[:-2] == b[:-2]
    require(matched, f"{types[0]} and {types[1]} are not (..., M, K) and (..., K, N)")
    require(a[-1] == b[-2], f"inner dims differ: {types[0]} and {types[1]}")
    require(_element(types[0]) == _element(types[1]), f"dtypes differ: {types[0]} and {types[1]}")
    return (TileType(dot_result_dtype(_element(types[0])), (*a[:-1], b[-1])),)


def _without(shape: tuple[int, ...], axes: Sequence[int]) -> tuple[int, ...]:
    require(all(0 <= axis < len(shape) for axis in axes), f"axes {tuple(axes)} of a shape {shape}")
    require(len(set(axes)) == len(axes) > 0, "axes repeat, or there is none")
    return tuple(n for axis, n in enumerate(shape) if axis not in axes)


REDUCTIONS = ("sum", "prod", "max", "min", "any", "all")


def reduction_dtype(kind: str, dtype: DType) -> DType:
    """What a built-in reduction or scan of `dtype` gives. 16-bit and 8-bit floats are summed in f32, rounded once."""
    if kind in ("any", "all"):
        require(dtype.is_bool, f"{kind} takes bool")
        return bool_
    if kind in ("sum", "prod") and (dtype.is_bool or (dtype.is_integer and dtype.bits < 32)):
        return u32 if dtype.kind == "uint" else i32
    return dtype


def _reduce(types: Sequence[Type], attributes: Attributes, regions: Sequence[Region]) -> tuple[Type, ...]:
    require(attributes["kind"] in REDUCTIONS, f"kind is none of {REDUCTIONS}")
    shape = _without(shape_of(types[0]), attributes["axes"])
    return (shaped(reduction_dtype(attributes["kind"], _element(types[0])), shape),)


def _check_combine(types: Sequence[Type], regions: Sequence[Region]) -> None:
    elements = [ScalarType(_element(t)) for t in types]
    (combine,) = regions
    taken = [a.type for a in combine.arguments]
    require(taken == elements * 2, "combine takes (left..., right...) of the elements' types")
    require([o.type for o in combine.terminator.operands] == elements, "combine yields one scalar for each operand")


def _reduce_custom(types: Sequence[Type], attributes: Attributes, regions: Sequence[Region]) -> tuple[Type, ...]:
    shape = _without(_same_shapes(types), (attributes["axis"],))
    _check_combine(types, regions)
    return tuple(shaped(_element(t), shape) for t in types)


def _arg_reduce(types: Sequence[Type], attributes: Attributes, regions: Sequence[Region]) -> tuple[Type, ...]:
    require(attributes["kind"] in ("max", "min"), "kind is max or min")
    return (shaped(i64, _without(shape_of(types[0]), (attributes["axis"],))),)


def _scan(types: Sequence[Type], attributes: Attributes, regions: Sequence[Region]) -> tuple[Type, ...]:
    require(attributes["kind"] in ("sum", "prod", "max", "min"), "kind is sum, prod, max or min")
    _without(shape_of(types[0]), (attributes["axis"],))
    return (TileType(reduction_dtype(attributes["kind"], _element(types[0])), shape_of(types[0])),)


def _scan_custom(types: Sequence[Type], attributes: Attributes, regions: Sequence[Region]) -> tuple[Type, ...]:
    _without(_same_shapes(types), (attributes["axis"],))
    _check_combine(types, regions)
    return tuple(types)


def _sort(types: Sequence[Type], attributes: Attributes, regions: Sequence[Region]) -> tuple[Type, ...]:
    _without(shape_of(types[0]), (attributes["axis"],))
    return (types[0], TileType(i64, shape_of(types[0])))


_define("dot", "reduce", _dot)
_define("reduce", "reduce", _reduce, ("kind", "axes"))  # drops the axes
_define("reduce_custom", "reduce", _reduce_custom, ("axis",), regions=1)  # left to right
_define("arg_reduce", "reduce", _arg_reduce, ("kind", "axis"))  # the first of equals; NaN wins, as in NumPy
_define("scan", "reduce", _scan, ("kind", "axis", "reverse", "exclusive"))
_define("scan_custom", "reduce", _scan_custom, ("axis", "reverse"), regions=1)
# Stable; gives values and indices. NaN counts as the largest: last, or first if descending.
_define("sort", "reduce", _sort, ("axis", "descending"))


# --- memory ----------------------------------------------------------------------------------------------------------


def access_shape(tensor: Type, index: Sequence[IndexSpec], operands: Sequence[Type]) -> tuple[int, ...]:
    """The shape that an access `tensor[index]` moves; `operands` are the types of its starts, points and tiles."""
    require(isinstance(tensor, TensorType), "the first operand is not a tensor")
    assert isinstance(tensor, TensorType)
    require(len(index) == len(tensor.dims) == len(operands), f"{tensor} takes {len(tensor.dims)} indices")
    shape: list[int] = []
    gathered: tuple[int, ...] | None = None
    for spec, operand in zip(index, operands, strict=True):
        if isinstance(spec, Slice):
            require(spec.length >= 1 and spec.step >= 1, "a slice has a length and a step of at least 1")
            require(operand == ScalarType(i64), "a slice's start is an i64 scalar")
            shape.append(spec.length)
        elif isinstance(spec, Point):
            require(operand == ScalarType(i64), "a point is an i64 scalar")
        else:
            require(isinstance(operand, TileType) and operand.dtype == i64, "a gather's index is an i64 tile")
            if gathered is None:
                gathered = shape_of(operand)
                shape.extend(gathered)
            require(shape_of(operand) == gathered, "gather indices differ in shape")
    places = [place for place, spec in enumerate(index) if isinstance(spec, Gather)]
    require(not places or places[-1] - places[0] == len(places) - 1, "gather indices are not adjacent")
    return tuple(shape)


def _copy_in(types: Sequence[Type], attributes: Attributes, regions: Sequence[Region]) -> tuple[Type, ...]:
    tensor, *operands, pad = types
    shape = access_shape(tensor, attributes["index"], operands)
    require(pad == ScalarType(tensor.dtype), f"pad is {pad}, the tensor's elements are {tensor.dtype}")
    return (shaped(tensor.dtype, shape),)


STORE_MODES = ("set", "add", "max", "min")


def _copy_out(types: Sequence[Type], attributes: Attributes, regions: Sequence[Region]) -> tuple[Type, ...]:
    value, tensor, *operands = types
    shape = access_shape(tensor, attributes["index"], operands)
    require(shape_of(value) == shape, f"{value} into a place of shape {shape}")
    require(_element(value) == tensor.dtype, f"{value} into {tensor}")
    require(attributes["mode"] in STORE_MODES, f"mode is none of {STORE_MODES}")
    return ()


# Operands: tensor, one for each dim (Slice: its start, Point: the index, Gather: a tile), pad.
_define("copy_in", "memory", _copy_in, ("index",))
# Operands: value, tensor, one for each dim.
# A mode other than "set" combines with what is there, each element atomically.
_define("copy_out", "memory", _copy_out, ("index", "mode"), pure=False)


# --- control ---------------------------------------------------------------------------------------------------------


def _range_operands(types: Sequence[Type]) -> None:
    require(all(t == ScalarType(i64) for t in types), "start, stop and step are i64 scalars")


def _parallel(types: Sequence[Type], attributes: Attributes, regions: Sequence[Region]) -> tuple[Type, ...]:
    require(len(types) % 3 == 0 and len(types) > 0, "takes start, stop, step of each range")
    _range_operands(types)
    (body,) = regions
    variables = [a.type for a in body.arguments]
    require(variables == [ScalarType(i64)] * (len(types) // 3), "one i64 variable for each range")
    require(not body.terminator.operands, "yields nothing")
    return ()


def _carried(types: Sequence[Type], arguments: Sequence[Type], yielded: Sequence[Type]) -> tuple[Type, ...]:
    require(list(types) == list(arguments) == list(yielded), "carried values change their types")
    require(not any(isinstance(t, TensorType) for t in types), "a tensor is not carried")
    return tuple(types)


def _for(types: Sequence[Type], attributes: Attributes, regions: Sequence[Region]) -> tuple[Type, ...]:
    _range_operands(types[:3])
    require(attributes["kind"] in ("sequential", "pipelined") and attributes["depth"] >= 1, "kind or depth")
    (body,) = regions
    require(body.arguments[0].type == ScalarType(i64), "the loop variable is i64")
    return _carried(types[3:], [a.type for a in body.arguments[1:]], [o.type for o in body.terminator.operands])


def _while(types: Sequence[Type], attributes: Attributes, regions: Sequence[Region]) -> tuple[Type, ...]:
    condition, body = regions
    require([o.type for o in condition.terminator.operands] == [ScalarType(bool_)], "the condition yields one bool")
    require([a.type for a in condition.arguments] == list(types), "the condition takes the carried values")
    return _carried(types, [a.type for a in body.arguments], [o.type for o in body.terminator.operands])


def _if(types: Sequence[Type], attributes: Attributes, regions: Sequence[Region]) -> tuple[Type, ...]:
    require(list(types) == [ScalarType(bool_)], "takes one bool scalar")
    then, otherwise = ([o.type for o in region.terminator.operands] for region in regions)
    require(then == otherwise, "the branches yield different types")
    return tuple(then)


def _compose(types: Sequence[Type], attributes: Attributes, regions: Sequence[Region]) -> tuple[Type, ...]:
    (body,) = regions
    require(attributes["function"] in COMPOSITIONS, "function is none of the table's")
    require([a.type for a in body.arguments] == list(types), "the region takes values of the operands' types")
    _same_type(types)
    require([o.type for o in body.terminator.operands] == list(types[:1]), "the region yields one value of their type")
    return (types[0],)


def _no_result(types: Sequence[Type], attributes: Attributes, regions: Sequence[Region]) -> tuple[Type, ...]:
    return ()


def _assert(types: Sequence[Type], attributes: Attributes, regions: Sequence[Region]) -> tuple[Type, ...]:
    require(len(types) == 1 and _element(types[0]).is_bool, "takes one bool scalar or tile")
    return ()


_define("parallel", "control", _parallel, regions=1, pure=False)  # independent iterations; variables in source order
_define("for", "control", _for, ("kind", "depth"), regions=1, pure=False)  # start, stop, step, then carried values
_define("while", "control", _while, regions=2, pure=False)
_define("if", "control", _if, regions=2, pure=False)
_define("yield", "control", _no_result, pure=False, terminator=True)
# A function of the table that is no op: the region computes it, unless a target has it by name.
_define("compose", "other", _compose, ("function",), regions=1)
# text: {} stands for each operand in turn; the braces of literal text are doubled (`print_parts` takes it apart).
_define("print", "other", _no_result, ("text",), pure=False)
_define("assert", "other", _assert, ("message",), pure=False)
# `breakpoint()`: operands are the tiles and scalars in sight, `variables` their names. Only `interp` stops.
_define("breakpoint", "other", _no_result, ("variables",), pure=False)


def print_parts(text: str) -> list[str]:
    """The literal pieces of a `print` op's text: one before each operand, and one after the last."""
    pieces = [""]
    for literal, field, _, _ in Formatter().parse(text):
        pieces[-1] += literal
        if field is not None:
            pieces.append("")
    return pieces


def infer(
    name: str, operands: Sequence[Type], attributes: Attributes, regions: Sequence[Region] = ()
) -> tuple[Type, ...]:
    """The result types of an op. Raises IrError where the table forbids it."""
    require(name in OPS, f"there is no op '{name}'")
    spec = OPS[name]
    require(set(attributes) == set(spec.attributes), f"'{name}' takes the attributes {spec.attributes}")
    require(len(regions) == spec.regions, f"'{name}' takes {spec.regions} regions")
    try:
        return spec.rule(operands, attributes, regions)
    except IrError as error:
        raise IrError(f"{name}: {error}") from None

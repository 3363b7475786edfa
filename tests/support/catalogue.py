"""A small kernel for every op of the table, for tests of the text form, the verifier and the passes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from opdsl.ir.builder import Builder, argument
from opdsl.ir.core import Gather, Kernel, Point, Region, Slice, Value
from opdsl.ir.functions import FLOAT_FUNCTIONS, ROUNDINGS
from opdsl.ir.ops import COMPARISONS, OPS
from opdsl.ir.types import ScalarType, TensorType, bf16, bool_, f8e4m3, f16, f32, f64, i8, i32, i64, u8
from opdsl.support.location import Location, Source

FILE = "kernels/example.py"


class Fixture:
    """A builder with parameters of several types, and tiles read from them."""

    def __init__(self) -> None:
        self.builder = Builder()
        self.x = argument(TensorType(f32, ("M", "Nx", 8)), "x")
        self.y = argument(TensorType(f16, (4, "M")), "y")
        self.ids = argument(TensorType(i64, ("M",)), "ids")
        self.flag = argument(ScalarType(bool_), "flag")
        self.scale = argument(ScalarType(f64), "scale")
        self.builder.location = Location(FILE, 3, 5, 3, 20)
        self.i = self.builder.constant(1, i64)
        self.zero = self.builder.constant(0, i64)
        self.pad = self.builder.constant(float("-inf"), f32)

    def tile(self, dtype, *shape: int, name: str = "t") -> Value:
        scalar = self.builder.constant(True if dtype == bool_ else 3, dtype)
        return self.builder.op("broadcast", scalar, shape=shape, names=[name])[0]

    def kernel(self) -> Kernel:
        self.builder.op("yield")
        parameters = (self.x, self.y, self.ids, self.flag, self.scale)
        body = Region(parameters, self.builder.ops)
        return Kernel("example", tuple(p.name for p in parameters), body, Source(FILE, ""))


Build = Callable[[Fixture], object]
_BUILD: dict[str, Build] = {}


def _example(*names: str) -> Callable[[Build], Build]:
    def register(build: Build) -> Build:
        _BUILD.update(dict.fromkeys(names, build))
        return build

    return register


def _unary(name: str, dtype=f32) -> Build:
    return lambda f: f.builder.op(name, f.tile(dtype, 2, 4), names=["result"])


def _binary(name: str, dtype=f32) -> Build:
    return lambda f: f.builder.op(name, f.tile(dtype, 2, 4), f.tile(dtype, 2, 4))


for _name in (*FLOAT_FUNCTIONS, *ROUNDINGS, "isnan", "isinf", "isfinite", "neg", "abs"):
    _BUILD[_name] = _unary(_name, bf16 if _name == "exp" else f32)
_BUILD["not"] = _unary("not", bool_)
for _name in ("add", "sub", "mul", "floordiv", "mod", "min", "max", "div", "atan2", "pow", *COMPARISONS):
    _BUILD[_name] = _binary(_name)
for _name in ("ipow", "and", "or", "xor", "shl", "shr"):
    _BUILD[_name] = _binary(_name, u8)


@_example("fma")
def _fma(f: Fixture) -> None:
    f.builder.op("fma", f.tile(f32, 3), f.tile(f32, 3), f.tile(f32, 3))


@_example("select")
def _select(f: Fixture) -> None:
    f.builder.op("select", f.tile(bool_, 3), f.tile(i8, 3), f.tile(i8, 3))


@_example("cast")
def _cast(f: Fixture) -> None:
    f.builder.op("cast", f.tile(f32, 3), dtype=f8e4m3)


@_example("constant")
def _constant(f: Fixture) -> None:
    for value, dtype in ((-0.0, f32), (1e-45, f32), (float("nan"), f16), (-(2**63), i64), (True, bool_), (0.1, f64)):
        f.builder.constant(value, dtype)


@_example("dim")
def _dim(f: Fixture) -> None:
    f.builder.op("dim", symbol="Nx", names=["Nx"])


@_example("arange")
def _arange(f: Fixture) -> None:
    f.builder.op("arange", length=7)


@_example("random_bits")
def _random(f: Fixture) -> None:
    f.builder.op("random_bits", f.i, f.builder.value("arange", length=4), word=3)


@_example("broadcast", "reshape", "transpose", "concat", "extract")
def _shapes(f: Fixture) -> None:
    t = f.tile(f32, 2, 1, name="while")
    wide = f.builder.value("broadcast", t, shape=(2, 6))
    turned = f.builder.value("transpose", wide, permutation=(1, 0))
    flat = f.builder.value("reshape", turned, shape=(12,))
    joined = f.builder.value("concat", flat, flat, axis=0)
    f.builder.value("extract", joined, starts=(11,), sizes=(4,), steps=(-3,))
    f.builder.value("reshape", f.tile(f32, 1, 1), shape=())


@_example("dot")
def _dot(f: Fixture) -> None:
    f.builder.op("dot", f.tile(f16, 2, 3, 4), f.tile(f16, 2, 4, 5))


@_example("reduce", "arg_reduce", "scan", "sort")
def _reductions(f: Fixture) -> None:
    t = f.tile(i8, 2, 3, 4)
    f.builder.op("reduce", t, kind="sum", axes=(0, 2))
    f.builder.op("reduce", t, kind="max", axes=(0, 1, 2))
    f.builder.op("arg_reduce", t, kind="min", axis=1)
    f.builder.op("scan", t, kind="prod", axis=1, reverse=True, exclusive=False)
    f.builder.op("sort", t, axis=2, descending=True, names=["values", "order"])


@_example("reduce_custom", "scan_custom")
def _custom(f: Fixture) -> None:
    t, order = f.tile(f32, 2, 4), f.tile(i32, 2, 4)
    cases: tuple[tuple[str, dict[str, Any]], ...] = (
        ("reduce_custom", {"axis": 1}),
        ("scan_custom", {"axis": 0, "reverse": True}),
    )
    for name, attributes in cases:
        arguments = [argument(ScalarType(d), n) for n, d in zip("abcd", (f32, i32, f32, i32), strict=True)]
        with f.builder.region(arguments) as region:
            less = f.builder.value("lt", arguments[0], arguments[2])
            chosen = [f.builder.value("select", less, arguments[n], arguments[2 + n]) for n in range(2)]
            region.close(chosen)
        f.builder.op(name, t, order, regions=[region.region], **attributes)


@_example("compose")
def _compose(f: Fixture) -> None:
    x = f.tile(f32, 2, 4)
    a = argument(x.type, "x")
    with f.builder.region([a]) as region:
        region.close([f.builder.value("exp", f.builder.value("neg", a))])
    f.builder.op("compose", x, regions=[region.region], function="erfc")


@_example("copy_in", "copy_out")
def _memory(f: Fixture) -> None:
    b = f.builder
    rows = b.copy_in(f.ids, (Slice(6, 2),), [f.i], b.constant(-1, i64))
    rows = b.value("reshape", rows, shape=(2, 3))
    tile = b.copy_in(f.x, (Gather(), Gather(), Slice(8)), [rows, rows, f.zero], f.pad)
    b.copy_out(tile, f.x, (Gather(), Gather(), Slice(8)), [rows, rows, f.zero], "add")
    element = b.copy_in(f.x, (Point(), Point(), Point()), [f.i, f.i, f.i], f.pad)
    b.copy_out(b.cast(element, f16), f.y, (Point(), Point()), [f.i, f.i])


@_example("parallel", "for", "while", "if", "yield")
def _control(f: Fixture) -> None:
    b = f.builder
    count = b.value("dim", symbol="M")
    m, n = argument(ScalarType(i64), "m"), argument(ScalarType(i64), "n")
    with b.region([m, n]) as grid:
        total = b.constant(0.0, f32)
        k, carried = argument(ScalarType(i64), "k"), argument(ScalarType(f32), "total")
        with b.region([k, carried]) as body:
            element = b.copy_in(f.x, (Point(), Point(), Point()), [m, n, k], f.pad)
            body.close([b.value("add", carried, element)])
        (total,) = b.op(
            "for", f.zero, count, f.i, total, kind="pipelined", depth=3, regions=[body.region], names=["total"]
        )
        before, within = argument(ScalarType(f32), "total"), argument(ScalarType(f32), "total")
        with b.region([before]) as condition:
            condition.close([b.value("gt", before, b.constant(1.0, f32))])
        with b.region([within]) as body:
            body.close([b.value("mul", within, b.constant(0.5, f32))])
        (total,) = b.op("while", total, regions=[condition.region, body.region])
        with b.region() as then:
            then.close([total])
        with b.region() as otherwise:
            otherwise.close([b.value("neg", total)])
        (chosen,) = b.op("if", f.flag, regions=[then.region, otherwise.region])
        b.copy_out(chosen, f.x, (Point(), Point(), Point()), [m, n, f.zero])
        grid.close()
    b.op("parallel", f.zero, count, f.i, f.zero, count, f.i, regions=[grid.region])


@_example("print", "assert", "breakpoint")
def _talk(f: Fixture) -> None:
    b = f.builder
    tile = f.tile(f32, 2)
    b.op("print", f.i, tile, text='i = {}, "tile" \\ = {}\n')
    b.location = Location("other file.py", 1, 2)
    b.op("assert", f.flag, message="café")
    b.op("breakpoint", f.i, tile, variables=("i", "tile"))


@cache
def catalogue() -> dict[str, Kernel]:
    """Op name -> a valid kernel that has the op."""
    kernels = {}
    for name in OPS:
        fixture = Fixture()
        _BUILD[name](fixture)
        kernels[name] = fixture.kernel()
    return kernels

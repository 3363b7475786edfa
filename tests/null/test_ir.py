"""The tile IR: its text form, its verifier."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType

import pytest
from support.catalogue import FILE, Fixture, catalogue

from opdsl.ir.builder import argument
from opdsl.ir.core import Kernel, Op, Point, Region, Slice, Value, walk
from opdsl.ir.ops import OPS, IrError
from opdsl.ir.parser import parse_kernel, parse_type
from opdsl.ir.printer import canonical_text, format_type, print_kernel
from opdsl.ir.types import DTYPES, ScalarType, TensorType, TileType, f16, f32, f64, i32, i64
from opdsl.ir.verifier import verify
from opdsl.support.location import Location, Source


@pytest.mark.parametrize("name", OPS)
def test_text_round_trips(name: str) -> None:
    kernel = catalogue()[name]
    assert name in {op.name for op in walk(kernel.body)}
    verify(kernel)
    text = print_kernel(kernel)
    parsed = parse_kernel(text)
    verify(parsed)
    assert print_kernel(parsed) == text
    assert canonical_text(parsed) == canonical_text(kernel)
    for mine, theirs in zip(walk(kernel.body), walk(parsed.body), strict=True):
        assert mine.name == theirs.name
        assert mine.location == theirs.location
        assert repr(dict(sorted(mine.attributes.items()))) == repr(dict(sorted(theirs.attributes.items())))
        assert [r.type for r in mine.results] == [r.type for r in theirs.results]


def test_types_round_trip() -> None:
    types = [ScalarType(d) for d in DTYPES.values()]
    types += [TileType(f32, (3,)), TileType(i32, (1, 2, 3)), TensorType(f16, ()), TensorType(f64, ("x", 4, "xx"))]
    for type in types:
        assert parse_type(format_type(type)) == type


def test_canonical_text_ignores_names_and_places() -> None:
    def build(name: str, line: int) -> Kernel:
        fixture = Fixture()
        fixture.builder.location = Location(FILE, line, 1)
        tile = fixture.tile(f32, 4, name=name)
        fixture.builder.op("exp", tile, names=[name])
        return fixture.kernel()

    first, second = build("a", 1), build("b", 77)
    assert print_kernel(first) != print_kernel(second)
    assert canonical_text(first) == canonical_text(second)
    assert FILE not in canonical_text(first)


def test_canonical_text_keeps_places_that_are_reported() -> None:
    def build(line: int) -> Kernel:
        fixture = Fixture()
        fixture.builder.location = Location(FILE, line, 1)
        fixture.builder.op("assert", fixture.flag, message="m")
        return fixture.kernel()

    assert canonical_text(build(1)) != canonical_text(build(2))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kernel f( {", "line 1, column 11"),
        ("kernel f() {\n  %a = constant {dtype = f33, value = 1} : f32\n  yield\n}", "line 2, column 26"),
        ("kernel f() {\n  exp %a\n  yield\n}", "%a is not defined here"),
        ("kernel f() {\n  %a = constant {dtype = f32, value = 1}\n}", "1 results and 0 types"),
        ("kernel f() {\n  $\n}", "unexpected '$'"),
        ("kernel f(%a: f32, %a: f32) { yield }", "defined twice"),
        ("kernel f() { yield } }", "expected end"),
        ("kernel f() {", "expected word"),
    ],
)
def test_parser_says_where(text: str, message: str) -> None:
    with pytest.raises(IrError, match="IR text, line") as caught:
        parse_kernel(text)
    assert message in str(caught.value)


# --- the verifier ----------------------------------------------------------------------------------------------------


def _op(name: str, operands=(), results=(), regions=(), **attributes) -> Op:
    return Op(name, tuple(operands), tuple(results), MappingProxyType(attributes), tuple(regions), Location(FILE, 9, 9))


def _kernel(*ops: Op, parameters=()) -> Kernel:
    return Kernel("bad", tuple(p.name for p in parameters), Region(tuple(parameters), ops), Source(FILE, ""))


YIELD = _op("yield")
I = Value(ScalarType(i64), "i")
X = Value(ScalarType(f32), "x")
D = Value(ScalarType(f64), "d")
T = Value(TensorType(f32, ("N", 4)), "t")
TILE = Value(TileType(f32, (2, 4)), "tile")
FLAG = Value(ScalarType(DTYPES["bool"]), "flag")


def _new(type=ScalarType(f32), name: str = "r") -> Value:  # noqa: B008
    return Value(type, name)


def _used_after_its_region() -> list[Op]:
    inner = _new()
    region = Region((), (_op("exp", [X], [inner]), YIELD))
    return [_op("if", [FLAG], regions=[region, Region((), (YIELD,))]), _op("exp", [inner], [_new()]), YIELD]


def _used_before() -> list[Op]:
    later = _new()
    return [_op("exp", [later], [_new()]), _op("exp", [X], [later]), YIELD]


def _defined_twice() -> list[Op]:
    twice = _new()
    return [_op("exp", [X], [twice]), _op("exp", [X], [twice]), YIELD]


def _loop(arguments, yielded, results, *, kind="sequential", depth=1, operands=(I, I, I, X)) -> list[Op]:
    body = Region(tuple(arguments), (_op("yield", yielded),))
    return [_op("for", operands, results, [body], kind=kind, depth=depth), YIELD]


def _parallel(arguments, operands, yielded=()) -> list[Op]:
    return [_op("parallel", operands, (), [Region(tuple(arguments), (_op("yield", yielded),))]), YIELD]


def _combine_writes() -> list[Op]:
    a, b = _new(), _new()
    region = Region((a, b), (_op("print", [a], text="{}"), _op("yield", [a])))
    return [_op("reduce_custom", [TILE], [_new(TileType(f32, (2,)))], [region], axis=1), YIELD]


def _combine_reads() -> list[Op]:
    a, b, read = _new(), _new(), _new()
    load = _op("copy_in", [T, I, I, a], [read], index=(Point(), Point()))
    region = Region((a, b), (load, _op("yield", [read])))
    return [_op("reduce_custom", [TILE], [_new(TileType(f32, (2,)))], [region], axis=1), YIELD]


TILE_2 = TileType(f32, (2,))
MALFORMED: dict[str, tuple[list[Op], str]] = {
    "unknown op": ([_op("frobnicate"), YIELD], "no such op"),
    "no terminator": ([_op("exp", [X], [_new()])], "must end with a yield"),
    "yield inside": ([YIELD, YIELD], "ops follow it"),
    "kernel yields": ([_op("yield", [X])], "a kernel yields nothing"),
    "empty region": ([_op("if", [FLAG], regions=[Region((), ()), Region((), (YIELD,))]), YIELD], "no ops"),
    "undefined operand": ([_op("exp", [_new()], [_new()]), YIELD], "not defined"),
    "used before": (_used_before(), "not defined"),
    "used outside": (_used_after_its_region(), "not visible"),
    "defined twice": (_defined_twice(), "defined twice"),
    "wrong result type": ([_op("exp", [X], [_new(ScalarType(f64))]), YIELD], "the table says"),
    "too many results": ([_op("exp", [X], [_new(), _new()]), YIELD], "the table says"),
    "dtypes differ": ([_op("add", [X, D], [_new()]), YIELD], "dtypes differ"),
    "shapes differ": ([_op("add", [X, TILE], [_new()]), YIELD], "shapes differ"),
    "arity": ([_op("add", [X], [_new()]), YIELD], "takes 2"),
    "float function of integers": ([_op("exp", [I], [_new(ScalarType(i64))]), YIELD], "not of float"),
    "attribute missing": ([_op("constant", [], [_new()], dtype=f32), YIELD], "takes the attributes"),
    "attribute unknown": ([_op("exp", [X], [_new()], fast=True), YIELD], "takes the attributes"),
    "attribute of a wrong kind": ([_op("reduce", [TILE], [_new(TILE_2)], kind="sum", axes=1), YIELD], "malformed"),
    "region missing": ([_op("if", [FLAG]), YIELD], "regions"),
    "tensor as a tile": ([_op("exp", [T], [_new()]), YIELD], "copy_in only"),
    "axis outside": ([_op("reduce", [TILE], [_new(TILE_2)], kind="sum", axes=(2,)), YIELD], "axes"),
    "kind": ([_op("reduce", [TILE], [_new(TILE_2)], kind="mean", axes=(1,)), YIELD], "kind"),
    "broadcast": ([_op("broadcast", [TILE], [_new(TileType(f32, (3, 4)))], shape=(3, 4)), YIELD], "broadcast to"),
    "reshape": ([_op("reshape", [TILE], [_new(TileType(f32, (9,)))], shape=(9,)), YIELD], "the elements of"),
    "permutation": ([_op("transpose", [TILE], [_new(TILE.type)], permutation=(0, 0)), YIELD], "does not permute"),
    "dot": ([_op("dot", [TILE, TILE], [_new(TILE.type)]), YIELD], "inner dims"),
    "rank of an access": ([_op("copy_in", [T, I, X], [_new()], index=(Point(),)), YIELD], "takes 2 indices"),
    "start is not i64": ([_op("copy_in", [T, X, I, X], [_new()], index=(Point(), Point())), YIELD], "i64"),
    "pad": ([_op("copy_in", [T, I, I, D], [_new()], index=(Point(), Point())), YIELD], "pad is"),
    "store shape": ([_op("copy_out", [TILE, T, I, I], index=(Slice(2), Slice(3)), mode="set"), YIELD], "into a place"),
    "store mode": ([_op("copy_out", [X, T, I, I], index=(Point(), Point()), mode="sub"), YIELD], "mode"),
    "loop variable": (_loop([_new(), _new()], [X], [_new()]), "loop variable"),
    "carried type": (_loop([_new(ScalarType(i64)), _new()], [D], [_new()]), "change their types"),
    "carried count": (_loop([_new(ScalarType(i64)), _new()], [], [_new()]), "change their types"),
    "loop kind": (_loop([_new(ScalarType(i64)), _new()], [X], [_new()], kind="fast"), "kind or depth"),
    "loop depth": (_loop([_new(ScalarType(i64)), _new()], [X], [_new()], depth=0), "kind or depth"),
    "range of floats": (_parallel([_new(ScalarType(i64))], [X, X, X]), "i64 scalars"),
    "parallel arguments": (_parallel([], [I, I, I]), "one i64 variable"),
    "parallel yields": (_parallel([_new(ScalarType(i64))], [I, I, I], [X]), "yields nothing"),
    "branches differ": (
        [_op("if", [FLAG], [_new()], [Region((), (_op("yield", [X]),)), Region((), (YIELD,))]), YIELD],
        "branches yield",
    ),
    "condition": ([_op("if", [X], regions=[Region((), (YIELD,)), Region((), (YIELD,))]), YIELD], "bool"),
    "unknown symbol": ([_op("dim", [], [_new(ScalarType(i64))], symbol="Q"), YIELD], "no parameter has a dim"),
    "combine prints": (_combine_writes(), "combine function"),
    "combine reads": (_combine_reads(), "combine function"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_verifier_rejects(case: str) -> None:
    ops, message = MALFORMED[case]
    with pytest.raises(IrError) as caught:
        verify(_kernel(_op("broadcast", [X], [TILE], shape=(2, 4)), *ops, parameters=(I, X, D, T, FLAG)))
    assert message in str(caught.value)
    assert FILE in str(caught.value), "the message has the place in the source"


def test_verifier_rejects_a_tile_parameter() -> None:
    with pytest.raises(IrError, match="is a tile"):
        verify(_kernel(YIELD, parameters=(TILE,)))


def test_verifier_rejects_parameters_without_names() -> None:
    with pytest.raises(IrError, match="1 parameters, 0 names"):
        verify(Kernel("bad", (), Region((argument(ScalarType(f32)),), (YIELD,)), Source(FILE, "")))


def test_the_page_mentions_every_op() -> None:
    page = (Path(__file__).parents[2] / "docs" / "ir.md").read_text(encoding="utf-8")
    table = page.split("## Ops")[1].split("## Passes")[0]
    missing = [name for name in OPS if f"`{name}`" not in table]
    assert not missing


def test_the_example_of_the_page_is_valid() -> None:
    page = (Path(__file__).parents[2] / "docs" / "ir.md").read_text(encoding="utf-8")
    example = page.split("```")[1]
    kernel = parse_kernel(example)
    verify(kernel)
    assert print_kernel(kernel).strip() == example.strip()

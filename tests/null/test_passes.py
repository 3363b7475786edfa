"""Passes: they change nothing that can be seen, and simplify what they should."""

from __future__ import annotations

import numpy as np
import pytest
from support.catalogue import catalogue
from support.kernels import HandKernel, run_kernel
from support.ops import IR_DTYPES, run_op, tile_kernel

from opdsl.ir.builder import Builder, argument
from opdsl.ir.core import Kernel, Point, Slice, walk
from opdsl.ir.ops import OPS, IrError
from opdsl.ir.printer import print_kernel
from opdsl.ir.types import ScalarType, TensorType, bf16, bool_, f16, f32, f64, i8, i32, i64, u8
from opdsl.ir.verifier import verify
from opdsl.passes.hoist import HoistPolicy, hoist
from opdsl.passes.pipeline import NamedPass, run_passes
from opdsl.passes.rewrite import clone_region, with_body
from opdsl.passes.simplify import simplify

FLOATS = (f64, f32, f16, bf16)
INTEGERS = (i64, i8, u8)


def names(kernel: Kernel) -> list[str]:
    return [op.name for op in walk(kernel.body)]


@pytest.mark.parametrize("name", OPS)
def test_every_op_survives_the_pipeline(name: str) -> None:
    once = run_passes(catalogue()[name])
    assert print_kernel(run_passes(once)) == print_kernel(once)  # nothing more to do


def _values(dtype) -> list:
    if dtype.is_float:
        return [0.0, -0.0, 1.0, -1.0, 2.0, 3.0, 0.5, 0.1, 256.0, 1e-3, float("inf"), float("-inf"), float("nan")]
    return [0, 1, 2, 3, -1, 7, 100, 127, -128]


BINARY = {
    FLOATS: ("add", "sub", "mul", "div", "min", "max", "floordiv", "mod", "lt", "pow"),
    INTEGERS: ("add", "sub", "mul", "min", "max", "floordiv", "mod", "and", "or", "xor", "shl", "shr", "le"),
}


@pytest.mark.parametrize(("dtype", "name"), [(d, n) for ds, ns in BINARY.items() for d in ds for n in ns])
def test_an_op_with_a_constant_keeps_every_bit(dtype, name: str) -> None:
    """x op c and c op x for many x and c; and c op c, which is folded."""
    numpy = next(n for n, d in IR_DTYPES.items() if d == dtype)
    values = np.array(list(_values(dtype)), np.float64 if dtype.is_float else np.int64).astype(numpy)

    def compute(builder: Builder, tiles):
        (x,) = tiles
        results = []
        for value in values:
            scalar = builder.constant(float(value) if dtype.is_float else int(value), dtype)
            splat = builder.broadcast(scalar, (len(values),))
            results += [builder.value(name, x, splat), builder.value(name, splat, x)]
            for other in values:
                second = builder.constant(float(other) if dtype.is_float else int(other), dtype)
                results.append(builder.value(name, scalar, second))
        return results

    kernel, outputs = tile_kernel(compute, [values])
    run_kernel("interp", kernel, values, *outputs)
    wanted = [o.copy() for o in outputs]
    run_kernel("interp", run_passes(kernel), values, *outputs)
    for found, expected in zip(outputs, wanted, strict=True):
        if found.dtype.kind in "biu":
            np.testing.assert_array_equal(found, expected)
        else:
            wide, exact = found.astype(np.float64), expected.astype(np.float64)
            np.testing.assert_array_equal(wide, exact)
            numbers = ~np.isnan(exact)
            np.testing.assert_array_equal(np.signbit(wide)[numbers], np.signbit(exact)[numbers])


def _single(compute, *inputs) -> Kernel:
    kernel, _ = tile_kernel(compute, inputs)
    return run_passes(kernel)


X = np.ones((2, 4), np.float32)


def test_identities_are_found() -> None:
    def compute(b: Builder, tiles):
        (x,) = tiles
        one = b.broadcast(b.constant(1.0, f32), (2, 4))
        zero = b.broadcast(b.constant(0.0, f32), (2, 4))
        x = b.value("sub", b.value("mul", b.value("div", x, one), one), zero)
        x = b.value("neg", b.value("neg", x))
        x = b.cast(b.cast(x, f64), f32)
        x = b.value("transpose", b.value("transpose", x, permutation=(1, 0)), permutation=(1, 0))
        x = b.value("reshape", b.value("reshape", x, shape=(8,)), shape=(2, 4))
        return [b.value("extract", x, starts=(0, 0), sizes=(2, 4), steps=(1, 1))]

    assert names(_single(compute, X)) == ["constant", "constant", "copy_in", "copy_out", "yield"]


def test_adding_zero_stays_because_of_signed_zeros() -> None:
    def compute(b: Builder, tiles):
        return [b.value("add", tiles[0], b.broadcast(b.constant(0.0, f32), (2, 4)))]

    assert "add" in names(_single(compute, X))


def test_division_by_a_power_of_two_is_a_product() -> None:
    for divisor, expected in ((1024.0, "mul"), (3.0, "div")):

        def compute(b: Builder, tiles, divisor=divisor):
            return [b.value("div", tiles[0], b.broadcast(b.constant(divisor, f32), (2, 4)))]

        assert expected in names(_single(compute, X))


def test_broadcasts_sink() -> None:
    """Work on a column is done once a row, not once an element."""

    def compute(b: Builder, tiles):
        column = b.broadcast(tiles[0], (2, 4))
        half = b.broadcast(b.constant(0.5, f32), (2, 4))
        return [b.value("exp", b.value("mul", column, half))]

    kernel = _single(compute, np.ones((2, 1), np.float32))
    shapes = {op.name: str(op.result.type) for op in walk(kernel.body) if op.name in ("exp", "mul")}
    assert shapes == {"exp": "tile<2x1xf32>", "mul": "tile<2x1xf32>"}


def test_affine_constants_gather() -> None:
    hand = HandKernel(n=ScalarType(i64), out=TensorType(i64, (1,)))
    b = hand.builder
    value = b.value("add", b.value("sub", b.value("add", hand.index(5), hand.n), hand.index(2)), hand.index(4))
    b.copy_out(value, hand.out, (Point(),), [hand.index(0)])
    kernel = run_passes(hand.kernel())
    assert names(kernel).count("add") == 1
    out = np.zeros(1, np.int64)
    run_kernel("interp", kernel, 10, out)
    assert out[0] == 17


def test_common_subexpressions() -> None:
    def compute(b: Builder, tiles):
        (x,) = tiles
        return [b.value("add", b.value("exp", x), b.value("exp", x))]

    assert names(_single(compute, X)).count("exp") == 1


def test_reads_are_not_shared_across_writes() -> None:
    hand = HandKernel(x=TensorType(f32, (4,)), y=TensorType(f32, (4,)))
    b = hand.builder
    zero, pad = hand.index(0), b.constant(0.0, f32)
    first = b.copy_in(hand.x, (Slice(4),), [zero], pad)
    again = b.copy_in(hand.x, (Slice(4),), [zero], pad)
    b.copy_out(b.value("add", first, again), hand.x, (Slice(4),), [zero])
    late = b.copy_in(hand.x, (Slice(4),), [zero], pad)
    b.copy_out(b.value("mul", late, first), hand.y, (Slice(4),), [zero])
    kernel = run_passes(hand.kernel())
    assert names(kernel).count("copy_in") == 2
    x, y = np.full(4, 3, np.float32), np.zeros(4, np.float32)
    run_kernel("interp", kernel, x, y)
    assert y.tolist() == [18] * 4


def test_reads_in_a_loop_that_writes_are_not_shared_with_those_before() -> None:
    hand = HandKernel(x=TensorType(f32, (1,)))
    b = hand.builder
    zero, pad = hand.index(0), b.constant(0.0, f32)
    before = b.copy_in(hand.x, (Slice(1),), [zero], pad)

    def body(k):
        b.copy_out(b.value("add", b.copy_in(hand.x, (Slice(1),), [zero], pad), before), hand.x, (Slice(1),), [zero])
        return ()

    hand.loop(3, (), body)
    x = np.ones(1, np.float32)
    run_kernel("interp", run_passes(hand.kernel()), x)
    assert x[0] == 4


def test_dead_code_and_dead_carried_values() -> None:
    hand = HandKernel(n=ScalarType(i64), out=TensorType(i64, (1,)))
    b = hand.builder
    b.value("exp", b.constant(1.0, f32))
    one, two, three = (hand.index(n) for n in (1, 2, 3))
    kept, dead, _ = hand.loop(
        hand.n, [one, two, three], lambda k, x, y, z: (b.value("add", x, z), b.value("mul", y, y), z)
    )
    b.value("add", dead, dead)
    hand.loop(hand.n, [two], lambda k, x: (b.value("mul", x, x),))
    b.copy_out(kept, hand.out, (Point(),), [hand.index(0)])
    kernel = run_passes(hand.kernel())
    loops = [op for op in walk(kernel.body) if op.name == "for"]
    assert len(loops) == 1
    assert len(loops[0].results) == 2  # x, and z which x needs
    assert "mul" not in names(kernel)
    out = np.zeros(1, np.int64)
    run_kernel("interp", kernel, 5, out)
    assert out[0] == 16


def test_static_control_flow() -> None:
    hand = HandKernel(n=ScalarType(i64), out=TensorType(i64, (2,)))
    b = hand.builder
    with b.region() as then:
        then.close([b.value("add", hand.n, hand.index(1))])
    with b.region() as otherwise:
        b.op("print", text="never")
        otherwise.close([hand.n])
    (chosen,) = b.op("if", b.constant(True, bool_), regions=[then.region, otherwise.region])
    (none,) = hand.loop(0, [chosen], lambda k, x: (b.value("mul", x, x),))
    (once,) = hand.loop(1, [none], lambda k, x: (b.value("add", b.value("add", x, x), k),))
    with hand.parallel(0, hand.n) as _:
        b.op("print", text="never")
    b.copy_out(once, hand.out, (Point(),), [hand.index(0)])
    kernel = run_passes(hand.kernel())
    assert not {"if", "for", "parallel", "print", "mul"} & set(names(kernel))
    out = np.zeros(2, np.int64)
    run_kernel("interp", kernel, 4, out)
    assert out[0] == 10


def test_hoisting() -> None:
    hand = HandKernel(scale=ScalarType(f32), x=TensorType(f32, ("N", 4)))
    b = hand.builder
    with hand.parallel(b.value("dim", symbol="N")) as (i,):
        factor = b.value("exp", hand.scale)
        wide = b.value("exp", b.cast(b.value("arange", length=4), f32))
        tile = b.copy_in(hand.x, (Point(), Slice(4)), [i, hand.index(0)], b.constant(0.0, f32))
        tile = b.value("mul", b.value("mul", tile, b.broadcast(factor, (4,))), wide)
        b.copy_out(tile, hand.x, (Point(), Slice(4)), [i, hand.index(0)])
    kernel = hand.kernel()

    def inside(changed: Kernel) -> list[str]:
        verify(changed)
        (loop,) = (op for op in changed.body.ops if op.name == "parallel")
        return [op.name for op in loop.regions[0].ops]

    # The index tile costs nothing to make again, so it stays, and with it what depends on it.
    assert inside(hoist(kernel)) == ["arange", "cast", "exp", "copy_in", "broadcast", "mul", "mul", "copy_out", "yield"]
    assert inside(hoist(kernel, HoistPolicy(tile_bytes=0))) == inside(hoist(kernel))
    x = np.ones((3, 4), np.float32)
    again = x.copy()
    run_kernel("interp", kernel, 0.5, x)
    run_kernel("interp", run_passes(kernel), 0.5, again)
    np.testing.assert_array_equal(x, again)


def test_cloned_regions_can_stand_beside_each_other() -> None:
    for name in ("for", "reduce_custom", "copy_in"):
        kernel = catalogue()[name]
        clone = clone_region(kernel.body, {})
        changed = with_body(kernel, clone)
        verify(changed)
        assert print_kernel(changed) == print_kernel(kernel)
        mine = {id(r) for op in walk(kernel.body) for r in op.results}
        assert not mine & {id(r) for op in walk(clone) for r in op.results}


def test_pipeline_verifies_after_each_pass_and_records() -> None:
    kernel = catalogue()["dot"]
    record: dict[str, str] = {}
    run_passes(kernel, record=record)
    assert list(record) == ["simplify", "hoist", "simplify-2"]

    def broken(k: Kernel) -> Kernel:
        return with_body(k, type(k.body)(k.body.arguments, k.body.ops[4:]))

    with pytest.raises(IrError, match="after the pass 'broken'"):
        run_passes(kernel, [NamedPass("broken", broken)])


def test_unused_values_of_loops_with_effects_go() -> None:
    hand = HandKernel(n=ScalarType(i64))
    b = hand.builder
    inside = argument(ScalarType(i64), "x")
    with b.region([inside]) as condition:
        condition.close([b.value("lt", inside, hand.n)])
    inside = argument(ScalarType(i64), "x")
    with b.region([inside]) as body:
        b.op("print", inside, text="{}")
        body.close([b.value("add", inside, hand.index(1))])
    b.op("while", hand.index(0), regions=[condition.region, body.region])
    kernel = run_passes(hand.kernel())
    assert names(kernel).count("while") == 1
    assert "add" in names(kernel)


def test_folding_agrees_with_the_interpreter() -> None:
    (wanted,) = run_op("interp", "sigmoid", np.float32(0.3))

    def compute(b: Builder, tiles):
        return [b.value("sigmoid", b.constant(float(np.float32(0.3)), f32))]

    kernel, outputs = tile_kernel(compute, [])
    kernel = simplify(kernel)
    assert "sigmoid" not in names(kernel)
    run_kernel("interp", kernel, *outputs)
    assert outputs[0] == wanted


def test_i32_wraps_when_folded() -> None:
    def compute(b: Builder, tiles):
        return [b.value("mul", b.constant(2**30, i32), b.constant(6, i32))]

    kernel, outputs = tile_kernel(compute, [])
    run_kernel("interp", run_passes(kernel), *outputs)
    assert outputs[0] == -(2**31)

"""Events of loops one behind the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.checks import F16, exact_integers, lay_out

import opdsl as od
from opdsl.npu.statements import Compute, Register
from opdsl.runtime.launch import contiguous_request, lower_call
from opdsl.targets.base import Request
from opdsl.targets.npu.compile import compile_kernel
from opdsl.targets.npu.dependences import Dependence
from opdsl.targets.npu.prune import repeated
from opdsl.targets.npu.target import NpuTarget
from opdsl.targets.npu.tree import (
    Access,
    Barrier,
    Block,
    Branch,
    Buffer,
    Flag,
    Instruction,
    Loop,
    Node,
    Scalar,
    nodes_of,
)


@od.kernel
def many_sums(x: od.Tensor[od.f32, 7, "N"], y: od.Tensor[od.f32, 7, 64], first: od.i64, second: od.i64):
    for part in od.unrolled(range(7)):
        total = od.zeros((64,), od.f32)
        for i in od.pipelined(range(0, first if part % 2 == 0 else second, 64), depth=2):
            total += od.exp(od.copy_in(x[part, i : i + 64]))
        od.copy_out(total, y[part])


def arguments(first: int, second: int) -> list[Any]:
    x = np.random.default_rng(0).standard_normal((7, 300)).astype(np.float32)
    return [x, np.zeros((7, 64), np.float32), first, second]


@pytest.mark.parametrize("target", ["npu:910b2", "npu:910a"])
def test_loops_one_behind_the_other_share_slots_and_events(target: str) -> None:
    """Seven loops with two slots each would want 14 of the 8 events between two pipes."""
    chip = NpuTarget(target.partition(":")[2]).chip
    compiled = compile_kernel(contiguous_request(lower_call(many_sums, arguments(300, 300), {})), chip)
    nodes = list(nodes_of(compiled.lowered.program))
    assert not any(isinstance(node, Barrier) and node.pipe == "ALL" for node in nodes)
    counters = [node.slot for node in nodes if isinstance(node, Loop) and node.slots > 1]
    assert len(counters) == 7 and len(set(counters)) == 1
    between: list[Dependence] = [d for d in compiled.dependences if d.loop is not None and d.distance]
    assert len({d.flag.block for d in between if d.chained is not None}) == 1, "the first loop's"


@pytest.mark.parametrize("target", ["npu:910b2", "npu:910a"])
@pytest.mark.parametrize(("first", "second"), [(300, 300), (64, 300), (0, 200), (129, 0), (0, 0)])
def test_slots_go_on_from_loop_to_loop(target: str, first: int, second: int) -> None:
    """With odd numbers of iterations, and none: the emulator reports what is not in order."""
    found = {}
    for name in ("interp", target):
        args = arguments(first, second)
        many_sums(*args, target=name)
        found[name] = args[1]
    np.testing.assert_allclose(found[target], found["interp"], rtol=1e-5)


def test_what_only_the_last_tile_does_is_not_done_twice() -> None:
    """So that a flag of a tile that sticks out needs no answer; one of what any tile may do does."""
    size, place, rest, whole, any_way = (Register("i64", name) for name in ("size", "i", "rest", "whole", "any"))
    agents = ("vector", "V"), ("vector", "MTE2")
    sometimes, last = Block(), Block()
    found = [Dependence(*agents, block, Node(), Node()) for block in (sometimes, last)]
    for block, d in zip((sometimes, last), found, strict=True):
        block.nodes += [Flag(True, *agents, d), Flag(False, *agents, d)]
    compute = [Compute("sub", "i64", rest, (size, place)), Compute("ge", "i64", whole, (rest, 8))]
    branches = [Branch(any_way, sometimes), Branch(whole, Block(), last)]
    program = Block([Loop(place, 0, size, 8, Block([*(Scalar(c) for c in compute), *branches]))])
    assert repeated(program, found) == found[:1]


@od.kernel
def two_products(
    a: od.Tensor[od.f16, "M", "K"],
    b: od.Tensor[od.f16, "K", "N"],
    c: od.Tensor[od.f16, "M", "L"],
    d: od.Tensor[od.f16, "L", "N"],
    y: od.Tensor[od.f16, "M", "N"],
):
    M, K = a.shape
    L, N = d.shape
    for m, n in od.parallel(range(0, M, 32), range(0, N, 32)):
        total = od.zeros((32, 32), od.f32)
        for k in od.pipelined(range(0, K, 16), depth=2):
            total += od.dot(od.copy_in(a[m : m + 32, k : k + 16]), od.copy_in(b[k : k + 16, n : n + 32]))
        for k in od.pipelined(range(0, L, 16), depth=2):
            total += od.dot(od.copy_in(c[m : m + 32, k : k + 16]), od.copy_in(d[k : k + 16, n : n + 32]))
        od.copy_out(total, y[m : m + 32, n : n + 32])


@pytest.mark.parametrize(("first", "second"), [(5, 5), (5, 20), (40, 5), (0, 20)])
def test_tiles_that_cores_pass_each_other_come_in_turn(first: int, second: int) -> None:
    """Arrays without a unit stride come to the cube by way of the vector core. Flags between cores do not know of slots:
    a loop that passes tiles counts its own, so that the next one of it is the one that was used longest ago."""
    arrays = [exact_integers(shape, F16, 1) for shape in ((400, first), (first, 300), (400, second), (second, 300))]
    views = [lay_out(array, "strided") for array in arrays]
    a, b, c, d = (array.astype(np.float64) for array in arrays)
    y = np.zeros((400, 300), np.float16)
    request = Request(lower_call(two_products, [*views, y], {}), (None, None, None, None, 1))
    nodes = list(nodes_of(compile_kernel(request, NpuTarget("910b2").chip).lowered.program))
    passing = {a.memory.rotates for n in nodes if isinstance(n, Instruction) for a in n.accesses if in_workspace(a)}
    assert len({loop.slot for loop in passing}) == len(passing) >= 2
    two_products(*views, y, target="npu:910b2")
    np.testing.assert_array_equal(y, (a @ b + c @ d).astype(np.float16))


def in_workspace(access: Access) -> bool:
    memory = access.memory
    return isinstance(memory, Buffer) and memory.space == "WS" and memory.rotates is not None

"""Events of loops one behind the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import opdsl as od
from opdsl.npu.program import Compute, Register
from opdsl.runtime.launch import contiguous_request, lower_call
from opdsl.targets.npu.compile import compile_kernel
from opdsl.targets.npu.dependences import Dependence
from opdsl.targets.npu.prune import repeated
from opdsl.targets.npu.target import NpuTarget
from opdsl.targets.npu.tree import Barrier, Block, Branch, Flag, Loop, Node, Scalar, nodes_of


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

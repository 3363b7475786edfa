"""Which flags and barriers a program can do without: trees made by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from opdsl._npu_order import Order
from opdsl.npu.statements import Compute, Register
from opdsl.targets.npu.dependences import Dependence, find_dependences, insert_flags
from opdsl.targets.npu.prune import Ordering, idle_slots, prune
from opdsl.targets.npu.tree import Access, Block, Branch, Buffer, Instruction, Loop, Node, Scalar, instructions

UNKNOWN = Register("i64", "n")
OTHER = Register("i64", "m")


def on(
    pipe: str, reads: Sequence[Buffer | str] = (), writes: Sequence[Buffer | str] = (), place: object = None
) -> Instruction:
    """`place`: where it begins to touch 64 elements of tensors."""
    accesses = []
    for memories, write in ((reads, False), (writes, True)):
        for memory in memories:
            region = ((place, 64),) if place is not None and isinstance(memory, str) else ()
            accesses.append(Access(memory, write, region=region))  # type: ignore[arg-type]
    return Instruction("vector", pipe, "", {}, accesses=tuple(accesses))


def loop(*nodes: Node, trips: int | Register = UNKNOWN, step: int = 1, slots: int = 1, grid: bool = False) -> Loop:
    counter = Register("i64", "slot") if slots > 1 else None
    return Loop(Register("i64", "i"), 0, trips, step, Block(list(nodes)), slots, counter, grid)


def buffer(address: int, slots: int = 1) -> Buffer:
    return Buffer("tile", "UB", 64, slots=slots, address=address)


def needed(*nodes: Node) -> list[str]:
    """The flags and barriers that stay, as 'V->MTE3 0': the pipes, and how many iterations are between."""
    program = Block(list(nodes))
    buffers = {a.memory: None for i in instructions(program) for a in i.accesses if isinstance(a.memory, Buffer)}
    dependences = find_dependences(program, buffers, False)
    insert_flags(program, dependences)
    ordering = Ordering(program, dependences, False)
    assert ordering.order.holds(ordering.conflicts(), []), "nothing is out of order with all flags"
    return sorted(map(text, prune(ordering, dependences)))


def text(d: Dependence) -> str:
    return f"{d.source[1]}->{d.target[1]} {d.distance}"


def test_what_a_third_pipe_passes_on_needs_no_flag() -> None:
    a, b = buffer(0), buffer(64)
    assert needed(on("MTE2", (), [a]), on("V", [a], [b]), on("MTE3", [b, a])) == ["MTE2->V 0", "V->MTE3 0"]


def test_what_only_one_way_passes_on_needs_a_flag() -> None:
    a, b, c = buffer(0), buffer(64), buffer(128)
    nodes: list[Node] = [on("MTE2", (), [c]), on("V", [c], [b])]
    assert needed(on("MTE2", (), [a]), *nodes, on("MTE3", [b, a])) == ["MTE2->V 0", "V->MTE3 0"]
    way = Branch(UNKNOWN, Block(nodes))
    assert needed(on("MTE2", (), [a]), way, on("MTE3", [b, a])) == ["MTE2->MTE3 0", "MTE2->V 0", "V->MTE3 0"]


def test_a_loop_in_one_way_of_a_loop_keeps_its_flags() -> None:
    """Of loops in each other and in branches: no run has to come there for that."""
    a = buffer(0)
    inner = loop(on("MTE2", (), [a]), on("S", [a]), trips=OTHER)
    found = needed(loop(Branch(Register("i64", "c"), Block(), Block([inner])), grid=True))
    assert "S->MTE2 1" in found and "MTE2->S 0" in found


def test_loops_over_the_same_range_run_both_or_not_at_all() -> None:
    def both(trips: Register) -> list[str]:
        a, b, c = buffer(0), buffer(64), buffer(128)
        first = loop(on("MTE2", (), [c]), on("V", [c], [b]))  # here V learns that MTE2 has written a, if it runs
        return needed(on("MTE2", (), [a]), first, loop(on("V", [a], [b]), trips=trips))

    assert both(UNKNOWN).count("MTE2->V 0") == 1
    assert both(OTHER).count("MTE2->V 0") == 2


@pytest.mark.parametrize(("step", "overlap"), [(64, False), (63, True), (100, False), (1, True)])
def test_iterations_that_write_different_elements_need_no_barrier(step: int, overlap: bool) -> None:
    body = loop(step=step)
    place = Register("i64", "place")
    body.body.nodes += [Scalar(Compute("add", "i64", place, (body.register, 7))), on("MTE3", (), ["y"], place)]
    assert needed(body) == (["MTE3->MTE3 1"] if overlap else [])


def test_elements_at_a_place_that_was_read_may_be_the_same() -> None:
    body = loop(step=64)
    place, read = Register("i64", "place"), Register("i64", "read")
    load = on("S", ["ids"])
    load.result = read
    body.body.nodes += [load, Scalar(Compute("add", "i64", place, (body.register, read))), on("MTE3", (), ["y"], place)]
    assert needed(body) == ["MTE3->MTE3 1"]


def test_iterations_of_the_grid_do_not_concern_each_other() -> None:
    assert needed(loop(on("MTE3", (), ["y"]), grid=True)) == []
    assert needed(loop(loop(on("MTE3", (), ["y"])), grid=True)) == ["MTE3->MTE3 1"]
    assert needed(loop(on("MTE3", (), ["y"]), grid=True), on("MTE2", ["y"])) == ["MTE3->MTE2 0"]


def test_buffers_that_rotate_wait_for_their_own_slot() -> None:
    body = loop(slots=2)
    tile = Buffer("tile", "UB", 64, slots=2, rotates=body, address=0)
    body.body.nodes += [on("MTE2", (), [tile]), on("V", [tile])]
    assert needed(body) == ["MTE2->V 0", "V->MTE2 2"]


def test_a_second_slot_that_lets_nothing_overlap() -> None:
    """Where a buffer with one slot makes the pipes take turns anyway."""
    for slots, idle in ((1, True), (2, False)):
        body = loop(slots=2)
        tile = Buffer("tile", "UB", 64, slots=2, rotates=body, address=0)
        other = Buffer("other", "UB", 64, slots=slots, rotates=body if slots > 1 else None, address=128)
        body.body.nodes += [on("MTE2", (), [tile, other]), on("V", [tile, other])]
        program = Block([body])
        dependences = find_dependences(program, [tile, other], False)
        insert_flags(program, dependences)
        kept = prune(Ordering(program, dependences, False), dependences)
        assert (tile in idle_slots(Ordering(program, kept, False), [tile])) is idle


def test_steps_that_make_no_sense_are_refused() -> None:
    one = np.ones((1, 1), np.bool_)
    branch = [(6, 0, 0, 0), (8, 0, 0, 0)]  # without its other way
    for steps in ([(0, 1, 0, 0)], [(1, 0, 0, 0)], [(8, 0, 0, 0)], [(5, -1, 0, 0)], branch, [(9, 0, 0, 0)]):
        with pytest.raises(ValueError):
            Order(np.array(steps, np.int32), [0], one, one, [[]], [[]], [], 0)
    with pytest.raises(ValueError):
        Order(np.zeros((0, 4), np.int32), [0], one, one, [], [], [], 0).holds(np.ones((2, 1), np.bool_), [])

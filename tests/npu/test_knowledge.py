"""What pipes surely know of each other: trees made by hand."""

from __future__ import annotations

from collections.abc import Sequence

from opdsl.npu.statements import Register
from opdsl.targets.npu.dependences import Agent, Dependence
from opdsl.targets.npu.knowledge import Knowledge
from opdsl.targets.npu.tree import Block, Branch, Flag, Loop, Node

S, V, M, OUT = (("vector", pipe) for pipe in ("S", "V", "MTE2", "MTE3"))
AGENTS: dict[Agent, int] = {
    agent: number for number, agent in enumerate((S, V, M, OUT, ("cube", "S"), ("cube", "FIX")))
}
UNKNOWN = Register("i64", "n")


def dependence(source: Agent, target: Agent, distance: int = 0, loop: Loop | None = None) -> Dependence:
    return Dependence(source, target, Block(), Node(), Node(), distance, loop)


def sets(d: Dependence, slot: int | None = None) -> Flag:
    return Flag(True, d.source, d.target, d, slot)


def waits(d: Dependence, slot: int | None = None) -> Flag:
    return Flag(False, d.source, d.target, d, slot)


def loop(*nodes: Node, trips: int | Register = UNKNOWN, slots: int = 1) -> Loop:
    return Loop(Register("i64", "i"), 0, trips, 1, Block(list(nodes)), slots)


def unanswered(nodes: Sequence[Node], *flags: Dependence) -> set[int]:
    """The places of the flags that could be set again too soon."""
    found = Knowledge(Block(list(nodes)), flags, AGENTS).unanswered
    return {place for place, d in enumerate(flags) if id(d) in found}


def test_a_flag_in_a_loop_needs_an_answer() -> None:
    d, back = dependence(V, M), dependence(M, V)
    assert unanswered([sets(d), waits(d)], d) == set()
    assert unanswered([loop(sets(d), waits(d))], d) == {0}
    assert unanswered([loop(sets(d), waits(d), trips=1)], d) == set()
    assert unanswered([loop(sets(d), waits(d), sets(back), waits(back))], d, back) == set()
    assert unanswered([loop(sets(d), sets(back), waits(back), waits(d))], d, back) == {0, 1}


def test_a_loop_that_may_not_run_and_a_way_that_may_not_be_gone_answer_nothing() -> None:
    """Fuzz program 500006: the inner loop of a grid did not run, as in none of the runs in the mind."""
    d, back = dependence(V, M), dependence(M, V)
    answer = [sets(back), waits(back)]
    assert 0 in unanswered([loop(sets(d), waits(d), loop(*answer))], d, back)
    assert 0 not in unanswered([loop(sets(d), waits(d), loop(*answer, trips=3))], d, back)
    assert unanswered([loop(sets(d), waits(d), Branch(UNKNOWN, Block(list(answer))))], d, back) == {0}
    both = Branch(UNKNOWN, Block(list(answer)), Block(list(answer)))
    assert unanswered([loop(sets(d), waits(d), both)], d, back) == set()


def test_what_the_scalar_unit_waited_for_holds_for_all_that_it_hands_out() -> None:
    d, back = dependence(V, M), dependence(M, S)
    assert unanswered([loop(sets(d), waits(d), sets(back), waits(back))], d, back) == set()


def test_flags_between_iterations_answer_each_other() -> None:
    rotating = loop(slots=2)
    full, free = dependence(M, V, 0, rotating), dependence(V, M, 2, rotating)
    rotating.body.nodes += [waits(free), sets(full), waits(full), sets(free)]
    begin, end = [sets(free, 0), sets(free, 1)], [waits(free, 0), waits(free, 1)]
    assert unanswered([*begin, rotating, *end], full, free) == set()
    assert unanswered([*begin, loop(rotating), *end], full, free) == set()
    rotating.body.nodes[:] = [sets(full), waits(full), waits(free), sets(free)]
    assert unanswered([*begin, rotating, *end], full, free) == {0, 1}


def test_a_flag_between_cores_may_be_a_few_sets_ahead() -> None:
    cube, over = ("cube", "FIX"), dependence(("cube", "FIX"), M)
    back = dependence(M, cube, 2)
    assert unanswered([sets(over), waits(over)] * 4, over) == set()
    assert unanswered([loop(sets(over), waits(over))], over) == {0}
    body = [waits(back), sets(over), waits(over), sets(back)]
    assert unanswered([sets(back, 0), sets(back, 0), loop(*body), waits(back, 0), waits(back, 0)], over, back) == set()


def test_which_flags_may_have_one_event() -> None:
    one, two, back = dependence(V, M), dependence(V, M), dependence(M, V)

    def share(*nodes: Node) -> bool:
        return Knowledge(Block(list(nodes)), (one, two, back), AGENTS).may_share(one, two)

    answer = [sets(back), waits(back)]
    assert not share(sets(one), waits(one), sets(two), waits(two))
    assert share(sets(one), waits(one), *answer, sets(two), waits(two))
    assert not share(sets(one), sets(two), *answer, waits(one), waits(two))
    assert not share(loop(sets(one), waits(one), *answer, sets(two), waits(two)))
    # In loops one behind the other, whether they run or not.
    assert share(loop(sets(one), waits(one), *answer), loop(sets(two), waits(two), *answer))
    assert not share(loop(sets(one), waits(one), *answer), loop(sets(two), *answer, waits(two)), sets(one), waits(one))


def test_flags_between_cores_share_a_counter_where_they_come_in_order() -> None:
    cube = ("cube", "FIX")
    one, two = dependence(cube, M), dependence(cube, V)

    def count(*nodes: Node) -> bool:
        return Knowledge(Block(list(nodes)), (one, two), AGENTS).may_count([one, two])

    assert count(sets(one), sets(two), waits(one), waits(two))
    assert not count(sets(one), sets(two), waits(two), waits(one))

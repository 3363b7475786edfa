"""`interp:strict`: stray accesses and races between iterations of a parallel loop."""

from __future__ import annotations

import numpy as np
import pytest
from support.kernels import HandKernel, run_kernel

from opdsl.ir.core import Gather, Point, Slice
from opdsl.ir.types import TensorType, f32
from opdsl.support.run_errors import OutOfBoundsError, RaceError

VECTOR = TensorType(f32, ("N",))


def _read(hand: HandKernel, start, length: int = 4):
    b = hand.builder
    return b.copy_in(hand.x, (Slice(length),), [start], b.constant(0.0, f32))


def _write(hand: HandKernel, start, length: int = 4, mode: str = "set") -> None:
    b = hand.builder
    b.copy_out(b.broadcast(b.constant(1.0, f32), (length,)), hand.x, (Slice(length),), [start], mode)


def _run(hand: HandKernel, size: int = 16) -> np.ndarray:
    x = np.zeros(size, np.float32)
    hand.run("interp:strict", x)
    return x


@pytest.mark.parametrize("start", [-4, 16, 100])
def test_a_write_outside(start: int) -> None:
    hand = HandKernel(x=VECTOR)
    hand.at(5)
    _write(hand, hand.index(start))
    with pytest.raises(OutOfBoundsError) as caught:
        _run(hand)
    text = str(caught.value)
    for part in ("example.py:5:1", f"elements {start}..{start + 3} of dim 0", "size 16", "'x'", "help:"):
        assert part in text


def test_a_write_partly_outside_is_fine() -> None:
    hand = HandKernel(x=VECTOR)
    _write(hand, hand.index(-3))
    _write(hand, hand.index(15))
    assert _run(hand).sum() == 2


def test_a_read_far_outside() -> None:
    hand = HandKernel(x=VECTOR)
    with hand.parallel(10) as (i,):
        _read(hand, hand.builder.value("mul", i, hand.index(100)))
    with pytest.raises(OutOfBoundsError, match=r"parallel iteration \(1\)"):
        _run(hand)


def test_a_read_of_padding_is_fine() -> None:
    hand = HandKernel(x=VECTOR)
    _read(hand, hand.index(-4))
    _read(hand, hand.index(16 + 64), 100)
    b = hand.builder
    b.copy_in(hand.x, (Point(),), [hand.index(-1)], b.constant(0.0, f32))
    _run(hand)


def test_a_gather_outside_is_fine() -> None:
    hand = HandKernel(x=VECTOR)
    b = hand.builder
    ids = b.broadcast(hand.index(-1000), (4,))
    tile = b.copy_in(hand.x, (Gather(),), [ids], b.constant(0.0, f32))
    b.copy_out(tile, hand.x, (Gather(),), [ids])
    _run(hand)


def test_two_iterations_write_one_element() -> None:
    hand = HandKernel(x=VECTOR)
    with hand.parallel(4) as (i,):
        hand.at(8)
        _write(hand, hand.builder.value("mul", i, hand.index(3)))
    with pytest.raises(RaceError) as caught:
        _run(hand)
    text = str(caught.value)
    for part in ("example.py:8:1", "iteration (1) writes x[3]", "iteration (0) writes it here", "help:"):
        assert part in text


def test_an_iteration_reads_what_another_wrote() -> None:
    hand = HandKernel(x=VECTOR)
    with hand.parallel(4) as (i,):
        hand.at(4)
        _read(hand, hand.builder.value("sub", i, hand.index(1)), 1)
        hand.at(6)
        _write(hand, i, 1)
    with pytest.raises(RaceError) as caught:
        _run(hand)
    text = str(caught.value)
    for part in ("example.py:4:1", "iteration (1) reads x[0]", "example.py:6:1", "iteration (0) writes it"):
        assert part in text


def test_an_iteration_writes_what_others_read() -> None:
    for last in (0, 3):  # of two readers, the one that is not the writer must be found
        hand = HandKernel(x=VECTOR)
        b = hand.builder
        with hand.parallel(4) as (i,):
            _read(hand, hand.index(0), 1)
            with b.region() as then:
                _write(hand, hand.index(0), 1)
                then.close()
            with b.region() as otherwise:
                otherwise.close()
            b.op("if", b.value("eq", i, hand.index(last)), regions=[then.region, otherwise.region])
        with pytest.raises(RaceError, match=r"x\[0\]"):
            _run(hand)


def test_atomic_combination_is_no_race() -> None:
    hand = HandKernel(x=VECTOR)
    with hand.parallel(4) as (_,):
        _write(hand, hand.index(0), 4, "add")
    assert _run(hand)[:4].tolist() == [4] * 4


@pytest.mark.parametrize("modes", [("add", "max"), ("add", "set")])
def test_different_modes_race(modes: tuple[str, str]) -> None:
    hand = HandKernel(x=VECTOR)
    with hand.parallel(2) as (_,):
        for mode in modes:
            _write(hand, hand.index(0), 4, mode)
    with pytest.raises(RaceError):
        _run(hand)


def test_one_iteration_may_do_as_it_likes() -> None:
    hand = HandKernel(x=VECTOR)
    with hand.parallel(4) as (i,):
        start = hand.builder.value("mul", i, hand.index(4))
        _write(hand, start)
        _read(hand, start)
        _write(hand, start, mode="add")
    assert _run(hand).tolist() == [2] * 16


def test_loops_after_each_other_do_not_race() -> None:
    hand = HandKernel(x=VECTOR)
    b = hand.builder
    for shift in (0, 4):
        with hand.parallel(3) as (i,):
            _write(hand, b.value("add", b.value("mul", i, hand.index(4)), hand.index(shift)))
    _run(hand)


def test_repeated_scatter_indices_across_iterations() -> None:
    hand = HandKernel(x=VECTOR)
    b = hand.builder
    with hand.parallel(2) as (i,):
        ids = b.value("mul", b.value("arange", length=3), b.broadcast(i, (3,)))
        b.copy_out(b.broadcast(b.constant(1.0, f32), (3,)), hand.x, (Gather(),), [ids])
    with pytest.raises(RaceError, match=r"iteration \(1\) writes x\[0\]"):
        _run(hand)


def test_the_same_array_as_two_arguments() -> None:
    hand = HandKernel(x=VECTOR, y=VECTOR)
    b = hand.builder
    with hand.parallel(2) as (i,):
        tile = b.copy_in(hand.y, (Slice(1),), [b.value("sub", hand.index(1), i)], b.constant(0.0, f32))
        b.copy_out(tile, hand.x, (Slice(1),), [i])
    x = np.zeros(2, np.float32)
    kernel = hand.kernel()
    run_kernel("interp:strict", kernel, x, np.zeros(2, np.float32))
    with pytest.raises(RaceError):
        run_kernel("interp:strict", kernel, x, x)

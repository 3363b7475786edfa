"""A short run of the fuzzer, and tests of its parts. A long run: `make fuzz`."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from .__main__ import checker, targets_of
from .check import Difference, compare
from .pages import Pages
from .sections import generate
from .shrink import shrink
from .worker import run_isolated

SEEDS = range(25)


def test_short_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One instruction set for each program, in turn, so that it takes seconds."""
    monkeypatch.setenv("OPDSL_CXXFLAGS", "")
    targets = targets_of("")
    failures = []
    for number, target in enumerate(targets):
        check = checker(tmp_path, [target], strict=True, level="Og")
        seeds = [seed for seed in SEEDS if seed % len(targets) == number]
        failures += [outcome for outcome in run_isolated(check, seeds) if outcome.failure]
    assert not failures


def test_programs_are_a_function_of_their_seed() -> None:
    assert generate(7) == generate(7)
    assert generate(7) != generate(8)


def test_crashes_and_hangs_are_outcomes() -> None:
    def check(item: int) -> None:
        if item == 1:
            os.abort()
        if item == 2:
            import time

            time.sleep(60)
        if item == 3:
            raise ValueError("wrong")

    outcomes = list(run_isolated(check, range(5), timeout=1.0))
    assert [outcome.item for outcome in outcomes] == list(range(5))
    assert [outcome.kind for outcome in outcomes] == ["", "Crash SIGABRT", "Hang", "ValueError", ""]


@pytest.mark.parametrize("at_end", [True, False])
@pytest.mark.parametrize("layout", ["contiguous", "transposed", "strided", "reversed", "broadcast"])
def test_arrays_lie_where_memory_ends(layout: str, at_end: bool) -> None:
    pages = Pages()
    view, flat = pages.array((3, 5), np.dtype(np.int16), layout, at_end)
    assert view.shape == (3, 5)
    flat[...] = 1
    assert view.sum() == 15
    address = flat.__array_interface__["data"][0]

    def touch(item: int) -> None:
        import ctypes

        ctypes.c_char.from_address(address + flat.nbytes if at_end else address - 1).value = b"x"

    (outcome,) = run_isolated(touch, [0])
    assert outcome.kind == "Crash SIGSEGV"
    pages.free()


def test_comparison() -> None:
    one = np.array([1.0, np.nan, 0.0], np.float32)
    compare("x", one, one.copy(), "exact")
    compare("x", -one * 0, one * 0, "zero")
    with pytest.raises(Difference):
        compare("x", -one * 0, one * 0, "exact")
    with pytest.raises(Difference):
        compare("x", one, np.array([1.0, 2.0, 0.0], np.float32), ["ulps", 4])
    near = np.nextafter(one, np.float32(2))
    near[1:] = one[1:]
    compare("x", near, one, ["ulps", 1])
    with pytest.raises(Difference):
        compare("x", near, one, "exact")


def test_shrinking_keeps_what_fails() -> None:
    text = generate(3)
    line = next(line for line in text.splitlines() if "od.copy_out" in line).strip()
    small = shrink(text, lambda candidate: line in candidate)
    assert line in small
    assert small.count("od.copy") == line.count("od.copy")

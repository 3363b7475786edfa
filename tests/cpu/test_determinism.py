"""The same call gives the same bits: twice, and with any number of threads."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from support.acceptance_calls import NAMES, call_of
from support.checks import Array
from support.targets import CPU, CPU_PRODUCTS, runs_here

import opdsl as od

TARGETS = [target for target in (*CPU_PRODUCTS, *CPU) if runs_here(target)]


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = od.get_num_threads()
    yield
    od.set_num_threads(before)


def as_bytes(outputs: list[Array]) -> list[bytes]:
    return [output.tobytes() for output in outputs]


@pytest.mark.parametrize("target", TARGETS[:1])
@pytest.mark.parametrize("name", NAMES)
def test_any_number_of_threads(name: str, target: str) -> None:
    call = call_of(name)
    od.set_num_threads(1)
    alone = call.run(target)
    assert all(np.isfinite(output.astype(np.float64)).all() for output in alone)
    assert any(output.any() for output in alone)
    for count in (1, 2, 3, 2):
        od.set_num_threads(count)
        assert as_bytes(call.run(target)) == as_bytes(alone), f"{count} threads"


@pytest.mark.parametrize("target", TARGETS[1:])
@pytest.mark.parametrize("name", [name for name in NAMES if "f32" in name or name in ("softmax", "embedding_backward")])
def test_on_other_instruction_sets(name: str, target: str) -> None:
    call = call_of(name)
    od.set_num_threads(1)
    alone = as_bytes(call.run(target))
    for _ in range(2):
        od.set_num_threads(2)
        assert as_bytes(call.run(target)) == alone

"""Kernels and functions are pickled by reference."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

import opdsl as od


@od.function
def twice(t):
    return t * 2


@od.kernel
def double(x: od.Tensor["T", "N"], y: od.Tensor["T", "N"], *, BLOCK: od.constexpr = 64):
    for i in od.parallel(range(0, x.shape[0], BLOCK)):
        od.copy_out(twice(od.copy_in(x[i : i + BLOCK])), y[i : i + BLOCK])


class Holder:
    inside = double

    @od.function
    def method(t):
        return t


@pytest.mark.parametrize("value", [double, twice, Holder.method])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_the_same_object_comes_back(value: Any, protocol: int) -> None:
    if "." in value.__qualname__ and protocol < 4:
        pytest.skip("older protocols know no names inside of classes")
    assert pickle.loads(pickle.dumps(value, protocol)) is value  # noqa: S301 - ours
    assert pickle.loads(pickle.dumps({"kernel": [value]}, protocol))["kernel"][0] is value  # noqa: S301 - ours


def test_copies_are_the_same_object() -> None:
    assert copy.copy(double) is double and copy.deepcopy([double])[0] is double
    assert copy.deepcopy({"f": twice})["f"] is twice


def test_what_has_no_name_in_its_module_says_so() -> None:
    @od.kernel
    def local(x: od.Tensor["f32", 4]):
        od.copy_out(od.copy_in(x), x)

    with pytest.raises(
        od.UsageError, match=r"the kernel 'local' cannot be pickled: .*<locals>.local is not it"
    ) as error:
        pickle.dumps(local)
    assert "define it at the top of a module" in str(error.value) and "test_pickling.py" in str(error.value)
    assert copy.deepcopy(local) is local
    with pytest.raises(od.UsageError, match="cannot be pickled"):
        pickle.dumps(od.function(lambda t: t))

"""Where a kernel's declaration means something else than it says, and where it cannot be read."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import opdsl as od

SHIFT = '''
import opdsl as od
from typing import TypeVar

{first}


@od.kernel
def shift(x: od.Tensor["T", "N"], y: od.Tensor["T", "N"], s: {scalar}, *, BLOCK: od.constexpr = 64):
    for i in od.parallel(range(0, x.shape[0], BLOCK)):
        od.copy_out(od.copy_in(x[i : i + BLOCK]) + s, y[i : i + BLOCK])
'''


def _module(folder: Path, text: str) -> Any:
    path = folder / f"kernels_{abs(hash(text))}.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("first", ["", "T = od.f32", 'T = TypeVar("T")', "T = 3", "T = None", "class T: pass"])
@pytest.mark.parametrize("late", [False, True])
def test_a_string_names_the_dtype_of_tensors(first: str, late: bool, tmp_path: Path) -> None:
    """Whatever the module calls by that name, and whether annotations are evaluated late or not."""
    text = SHIFT.format(first=first, scalar='"T"')
    kernel = _module(tmp_path, ("from __future__ import annotations\n" if late else "") + text).shift
    for x, s in ((np.array([2**40]), 1), (np.array([1.0]), 0.1)):
        y = np.zeros_like(x)
        kernel(x, y, s, target="interp")
        np.testing.assert_array_equal(y, x + np.array(s, x.dtype))


def test_an_expression_names_what_it_evaluates_to(tmp_path: Path) -> None:
    for first, scalar in (("T = od.f32", "T"), ("", '"od.f32"'), ("from opdsl import f32", '"f32"')):
        for late in ("", "from __future__ import annotations\n"):
            kernel = _module(tmp_path, late + SHIFT.format(first=first, scalar=scalar)).shift
            x, y = np.array([1.0]), np.zeros(1)
            kernel(x, y, 0.1, target="interp")
            assert y[0] == 1.0 + float(np.float32(0.1))


def _logged(function: Any) -> Any:
    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        return function(*arguments, **named)

    return call


@pytest.mark.parametrize("decorate", [od.kernel, od.function])
def test_a_decorator_below_ours(decorate: Any) -> None:
    with pytest.raises(od.UsageError, match="stands above another decorator") as error:

        @decorate
        @_logged
        def double(x: od.Tensor["f32", 8]):
            od.copy_out(od.copy_in(x) * 2, x)

    text = str(error.value)
    assert "test_declared_wrongly.py" in text.partition("error:")[0] and "innermost decorator" in text


def test_a_decorator_above_ours_is_the_users_own() -> None:
    @_logged
    @od.kernel
    def double(x: od.Tensor["f32", 8]):
        od.copy_out(od.copy_in(x) * 2, x)

    x = np.ones(8, np.float32)
    double(x, target="interp")
    assert (x == 2).all()

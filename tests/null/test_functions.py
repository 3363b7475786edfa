"""Every row of the table of functions: values on all targets against f64, derivatives against differences."""

from __future__ import annotations

import numpy as np
import pytest
from support.function_checks import check_composition, derivative, sampled

import opdsl as od
from opdsl.ir.functions import COMPOSITIONS, FUNCTIONS

ROWS = {**FUNCTIONS, **COMPOSITIONS}


@pytest.mark.parametrize("name", COMPOSITIONS)
def test_compositions(name: str) -> None:
    check_composition(name, "interp")


@pytest.mark.parametrize("name", ROWS)
def test_numbers(name: str) -> None:
    """On Python numbers a function gives what it gives on arrays."""
    row = ROWS[name]
    for values in zip(*sampled(row, 20), strict=True):
        np.testing.assert_allclose(row.number(*map(float, values)), row.exact(*values), rtol=1e-13, atol=1e-300)


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if not row.is_rounding])
def test_derivatives(name: str) -> None:
    """Central differences of the f64 values; the expressions are of the language and run as a kernel."""
    row = ROWS[name]
    assert len(row.derivatives) == len(row.operands)
    operands = sampled(row, 200)
    low, high = row.domain
    margin = 1e-2 * (high - low)
    operands = [np.clip(x, low + margin, high - margin) for x in operands]
    for place in range(len(operands)):
        step = 1e-6 * np.maximum(1, np.abs(operands[place]))
        moved = [[x + sign * step if n == place else x for n, x in enumerate(operands)] for sign in (1, -1)]
        numeric = (row.exact(*moved[0]) - row.exact(*moved[1])) / (2 * step)
        found = derivative(row, place, operands)
        scale = np.maximum(np.abs(numeric), np.abs(row.exact(*operands)))
        np.testing.assert_array_less(np.abs(found - numeric), 1e-6 * scale + 1e-8)


def test_a_new_row_reaches_the_language() -> None:
    for name, row in ROWS.items():
        built_in = getattr(od, name)
        assert row.text.split(":")[0].split(".")[0][:10] in built_in.__doc__ or name in ("atan2", "pow")
        assert built_in.__name__ == name


def test_composition_errors() -> None:
    @od.kernel
    def wrong(x: od.Tensor["f32", 8], y: od.Tensor["f32", 8]):
        t = od.copy_in(x[0:8])
        od.copy_out(od.lerp(t, t), y[0:8])  # type: ignore[call-arg]

    x = np.zeros(8, np.float32)
    with pytest.raises(od.CompileError, match=r"od\.lerp: missing a required argument: 'weight'") as error:
        wrong(x, x.copy())
    assert "its parameters are (a, b, weight)" in str(error.value)


def test_integers_and_broadcasting() -> None:
    @od.kernel
    def mixed(x: od.Tensor["i32", 8], y: od.Tensor["f32", 4, 8]):
        t = od.copy_in(x[0:8])
        column = od.cast(od.arange(4), od.f32).reshape(4, 1)
        od.copy_out(od.logaddexp(t, column), y[0:4, 0:8])

    x, y = np.arange(8, dtype=np.int32), np.zeros((4, 8), np.float32)
    mixed(x, y, target="interp")
    np.testing.assert_allclose(y, np.logaddexp(x[None, :], np.arange(4)[:, None]), rtol=1e-6)


def test_inside_a_reduction() -> None:
    """A composition on scalars, in a combine function."""

    @od.kernel
    def total(x: od.Tensor["f32", 16], y: od.Tensor["f32", 1]):
        od.copy_out(od.reduce(od.copy_in(x[0:16]), 0, lambda a, b: od.logaddexp(a, b)), y[0])

    x = np.linspace(-3, 3, 16).astype(np.float32)
    for target in ("interp", "cpu"):
        y = np.zeros(1, np.float32)
        total(x, y, target=target)
        np.testing.assert_allclose(y[0], np.logaddexp.reduce(x.astype(np.float64)), rtol=1e-6)

"""The checks that other tests rely on must fail where they should."""

from __future__ import annotations

import numpy as np
import pytest
from support.checks import BF16, F16, F32, LAYOUTS, Guarded, check_bits, check_error, exact_integers, lay_out, real


def test_error_check_rejects_what_is_no_result() -> None:
    x = real((40, 50), F32)
    exact = np.exp(x.astype(np.float64))
    plain = np.exp(x)
    check_error(plain, exact, plain)
    wrong = {
        "zeros": np.zeros_like(plain),
        "a constant": np.full_like(plain, exact.mean()),
        "a half-precision copy": plain.astype(F16).astype(F32),
        "one element off": np.where(np.arange(2000).reshape(40, 50) == 7, plain * np.float32(1.01), plain),
        "a NaN": np.where(np.arange(2000).reshape(40, 50) == 7, np.nan, plain),
    }
    for result in wrong.values():
        with pytest.raises(AssertionError):
            check_error(result.astype(F32), exact, plain)


def test_error_check_of_half_precision() -> None:
    exact = real((1000,), np.float64)
    for dtype in (F16, BF16):
        plain = exact.astype(np.float32).astype(dtype)
        check_error(plain, exact, plain)
        with pytest.raises(AssertionError):
            check_error((exact * 1.05).astype(dtype), exact, plain)


def test_error_check_of_infinities() -> None:
    exact = np.array([1.0, np.inf, np.nan])
    check_error(exact.astype(F32), exact, exact.astype(F32))
    with pytest.raises(AssertionError):
        check_error(np.array([1, 3e38, np.nan], F32), exact, exact.astype(F32))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_guards(layout: str) -> None:
    for shape in ((3, 4), (5,), (), (0, 3), (2, 1, 3)):
        out = Guarded(shape, F32, layout)
        assert out.view.shape == shape
        assert np.isnan(out.view).all()
        values = real(shape, F32)
        out.view[...] = values
        check_bits(out.check(), values)
        for place in (0, len(out.memory) - 1):
            kept, out.memory[place] = out.memory[place].copy(), 1
            with pytest.raises(AssertionError):
                out.check()
            out.memory[place] = kept


def test_layouts_are_equal_arrays_with_other_strides() -> None:
    values = exact_integers((3, 4), F32)
    arrays = [lay_out(values, layout) for layout in LAYOUTS]
    assert all(np.array_equal(a, values) for a in arrays)
    assert len({a.strides for a in arrays}) == len(LAYOUTS)

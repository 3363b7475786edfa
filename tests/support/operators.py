"""Operators of the library, driven by their records: calls with arguments, and checks of what they give."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from opdsl.ops.registry import Call, Operator

from support.checks import Guarded, check_error, is_float, lay_out


def arguments_of(call: Call, change: Any) -> tuple[list[Any], dict[str, Any]]:
    """The arguments with every array of floats changed."""

    def changed(value: Any) -> Any:
        return change(value) if isinstance(value, np.ndarray) and is_float(value.dtype) else value

    return [changed(a) for a in call.arguments], {k: changed(v) for k, v in call.keywords.items()}


def calls_of(operator: Operator, dtype: Any, size: int) -> Iterator[Call]:
    return operator.calls(np.random.default_rng(len(operator.name) + size), np.dtype(dtype), size)


def expected(operator: Operator, call: Call, dtype: np.dtype[Any]) -> tuple[np.ndarray, np.ndarray]:
    """The exact result, and the plain one: of the reference in f32, or in f64, rounded to the dtype."""
    with np.errstate(all="ignore"):
        arguments, keywords = arguments_of(call, lambda a: a.astype(np.float64))
        exact = np.asarray(operator.reference(*arguments, **keywords))
        plain_type = np.float64 if dtype == np.float64 else np.float32
        arguments, keywords = arguments_of(call, lambda a: a.astype(plain_type))
        plain = np.asarray(operator.reference(*arguments, **keywords))
    return exact, plain


def check(
    operator: Operator, call: Call, dtype: Any, target: str | None, layout: str = "contiguous", ulps: float = 0
) -> np.ndarray:
    """Runs an operator into a poisoned, guarded output and compares it with the reference."""
    dtype = np.dtype(dtype)
    exact, plain = expected(operator, call, dtype)
    result_type = (
        exact.dtype if exact.dtype.kind in "biu" else np.dtype(np.float32) if operator.name == "cast" else dtype
    )
    arguments, keywords = arguments_of(call, lambda a: lay_out(a, layout))
    before = [a.copy() for a in arguments if isinstance(a, np.ndarray)]
    if operator.name == "contiguous":
        result = operator.function(*arguments, target=target, **keywords)
    else:
        out = Guarded(exact.shape, result_type, layout if exact.ndim else "contiguous")
        given = operator.function(*arguments, out=out.view, target=target, **keywords)
        assert given is out.view
        result = out.check()
    assert result.dtype == result_type
    for array, copy in zip((a for a in arguments if isinstance(a, np.ndarray)), before, strict=True):
        np.testing.assert_array_equal(array, copy, "an input was modified")
    if result_type.kind in "biu":
        np.testing.assert_array_equal(result, exact)
    else:
        check_error(result, exact.astype(np.float64), plain.astype(result_type), max(operator.ulps, ulps))
    return result

"""The gate: what is wrong is not timed. Errors are measured against the formula in f64, and allowed to be twice those of
the formula in f32 (rounded once to the output's type), with a floor of four units in the last place.

Of f64 the formula's own error in f64 cannot be seen: it is taken for as many units in the last place as that in f32.
"""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np

from .arrays import Array
from .problems import Problem

LARGEST_CHECK = 4e9  # operations of the formula; larger results are checked in some of their rows
ULPS = 4
ROWS_IN_ORDER = 32


@dataclass(frozen=True)
class Truth:
    """What is right, for the rows that are looked at (None: all). `plain` has the errors of plain evaluation: the largest,
    and the root mean square."""

    rows: Array | None
    exact: Array
    plain: tuple[float, float]


@dataclass(frozen=True)
class Verdict:
    """`error` and `allowed` are largest absolute ones; `problem` is empty for a correct result."""

    error: float
    allowed: float
    problem: str = ""


def truth(problem: Problem, arguments: list[Array], seed: int) -> Truth:
    """Evaluates the formula on these arguments, in f64 and in f32."""
    shape = problem.output[0]
    rows = None
    if problem.by_rows is not None and shape:
        for_each_row = problem.check_cost * float(np.prod(shape[1:], dtype=np.float64)) * 2
        count = max(8, int(LARGEST_CHECK / max(for_each_row, 1) / 10))
        if count < shape[0]:
            drawn = np.random.default_rng(seed).integers(0, shape[0], count)
            rows = np.unique(np.concatenate([[0, 1, shape[0] - 2, shape[0] - 1], drawn]) % shape[0])
            arguments = [a[rows] if by else a for a, by in zip(arguments, problem.by_rows, strict=True)]
    exact = np.asarray(problem.formula(*(_in(a, np.float64) for a in arguments)), np.float64)
    return Truth(rows, exact, _plain_errors(problem, arguments, exact))


def _plain_errors(problem: Problem, arguments: list[Array], exact: Array) -> tuple[float, float]:
    if problem.output_dtype.kind == "i":
        return 0.0, 0.0
    wide = problem.output_dtype == np.float64
    stored = np.dtype(np.float32) if wide else problem.output_dtype
    # The error of f64 is of the size of its last place, and the reference has as much again.
    scale = 2 * _unit(problem.output_dtype) / _unit(stored) if wide else 1.0
    found = [(problem.formula, arguments, exact)]
    if problem.in_order is not None:
        some = [a[:ROWS_IN_ORDER] if by else a for a, by in zip(arguments, problem.by_rows or (), strict=True)]
        found.append((problem.in_order, some, exact[:ROWS_IN_ORDER]))
    largest, mean = 0.0, 0.0
    for formula, given, wanted in found:
        plain = np.asarray(formula(*(_in(a, np.float32) for a in given))).astype(stored)
        error = plain.astype(np.float64) - wanted
        largest, mean = max(largest, scale * _largest(error)), max(mean, scale * _root_mean_square(error))
    return largest, mean


def _in(array: Array, dtype: type) -> Array:
    return array if array.dtype.kind == "i" and array.dtype.itemsize == 8 else array.astype(dtype)


def judge(result: Array, problem: Problem, truth: Truth) -> Verdict:
    """Whether a result may be timed."""
    if result.shape != problem.output[0]:
        return Verdict(np.inf, 0.0, f"the result has shape {result.shape}, not {problem.output[0]}")
    if result.dtype.kind == "f" or result.dtype == problem.output_dtype == ml_dtypes.bfloat16:
        with np.errstate(all="ignore"):
            # One pass without a mask: a NaN or infinity anywhere shows in the sum of 0 * x.
            if not np.isfinite(np.sum(result, dtype=np.float64) * 0.0):
                return Verdict(np.inf, 0.0, "NaN or infinity in the result: something was not written")
    wide = np.asarray(result if truth.rows is None else result[truth.rows]).astype(np.float64)
    error = np.abs(wide - truth.exact)
    unit = _unit(problem.output_dtype) * ULPS
    found, allowed, problem_text = float(error.max(initial=0.0)), 0.0, ""
    norms = (("largest", _largest), ("root mean square", _root_mean_square))
    for (name, norm), plain in zip(norms, truth.plain, strict=True):
        bound = max(2 * plain, unit * norm(truth.exact))
        allowed = allowed or bound
        if not norm(error) <= bound:
            problem_text = problem_text or f"the {name} error is {norm(error):.2e}, allowed are {bound:.2e}"
    return Verdict(found, allowed, problem_text)


def _unit(dtype: np.dtype[np.generic]) -> float:
    return 0.0 if dtype.kind == "i" else float(ml_dtypes.finfo(dtype).eps)  # type: ignore[no-untyped-call]


def _largest(values: Array) -> float:
    return float(np.abs(values).max(initial=0.0))


def _root_mean_square(values: Array) -> float:
    return float(np.sqrt(np.mean(np.square(values)))) if values.size else 0.0

"""The gate: what is wrong is not timed. Errors are measured against the formula in f64, and allowed to be twice those of
the formula in f32 (rounded once to the output's type), with a floor of four units in the last place."""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np

from .arrays import Array
from .problems import Problem

LARGEST_CHECK = 4e9  # operations of the formula; larger results are checked in some of their rows
ULPS = 4


@dataclass(frozen=True)
class Truth:
    """What is right, for the rows that are looked at (None: all)."""

    rows: Array | None
    exact: Array
    plain: Array


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
    narrow = np.float64 if problem.output[1] in ("f64", "i32") else np.float32
    plain = np.asarray(problem.formula(*(_in(a, narrow) for a in arguments))).astype(problem.output_dtype)
    return Truth(rows, exact, plain.astype(np.float64))


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
    plain = np.abs(truth.plain - truth.exact)
    unit = _unit(problem.output_dtype) * ULPS
    found, allowed, problem_text = float(error.max(initial=0.0)), 0.0, ""
    for name, norm in (("largest", _largest), ("root mean square", _root_mean_square)):
        bound = max(2 * norm(plain), unit * norm(truth.exact))
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

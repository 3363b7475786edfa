"""The suites by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from .cases import Case, load
from .problems import Problem
from .rows import Row
from .runner import Options, run_cases

NAMES = ("elementwise", "softmax_norm", "matmul", "acceptance", "compile")

Progress = Callable[[str], None]


def problems(suite: str) -> dict[str, Callable[[Case], Problem]]:
    """The operators of a suite; imported when the suite is run."""
    if suite == "elementwise":
        from . import elementwise

        return elementwise.PROBLEMS
    if suite == "softmax_norm":
        from . import rowwise

        return dict(rowwise.PROBLEMS)
    if suite == "matmul":
        from . import products

        return dict(products.PROBLEMS)
    from . import acceptance

    return dict(acceptance.PROBLEMS)


def run(suite: str, shapes: str, options: Options, progress: Progress = lambda _: None) -> Iterator[Sequence[Row]]:
    """The rows of a suite, case by case."""
    cases = load(suite, shapes)
    if suite == "compile":
        from . import compiling

        return compiling.run(cases, options, progress)
    return iter(run_cases(cases, problems(suite), options, progress))

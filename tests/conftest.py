"""Lets the tests import their helpers as `support`, chooses the targets that kernels run on, renews golden files."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("support.acceptance_tests", "support.checks")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--targets", help="the targets that the acceptance kernels run on, with commas between")
    parser.addoption("--update-golden", action="store_true", help="write the golden files anew from what is found")


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update-golden"))


def pytest_configure(config: pytest.Config) -> None:
    chosen = config.getoption("--targets")
    if chosen:
        from support import targets

        targets.TARGETS = tuple(chosen.split(","))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A module's `is_redundant` says which combinations of its parameters are left out."""
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        test = getattr(getattr(item, "module", None), "is_redundant", None)
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        (left_out if test is not None and test(parameters) else kept).append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept

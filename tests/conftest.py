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

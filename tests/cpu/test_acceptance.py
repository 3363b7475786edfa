"""The acceptance kernels as written, on every instruction set that this machine has."""

from __future__ import annotations

import pytest
from support import acceptance_tests
from support.acceptance_tests import *  # noqa: F403
from support.targets import CPU, CPU_PRODUCTS, runs_here

# What differs on CPU_PRODUCTS is the instructions of products: for these, the tests of kernels without any are left out.
PRODUCTS = ("matmul", "conv2d", "flash_attention")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if metafunc.module.__name__ != __name__ or "target" not in metafunc.fixturenames:
        return
    has_products = metafunc.function.__name__.removeprefix("test_").startswith(PRODUCTS)
    metafunc.parametrize("target", [t for t in (*CPU, *(CPU_PRODUCTS if has_products else ())) if runs_here(t)])


def test_kernels_with_products_are_known() -> None:
    names = [name.removeprefix("test_") for name in vars(acceptance_tests) if name.startswith("test_")]
    for kernel in PRODUCTS:
        assert any(name.startswith(kernel) for name in names), kernel

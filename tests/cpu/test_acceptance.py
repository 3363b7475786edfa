"""The acceptance kernels as written, on every instruction set that this machine has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from support import acceptance_tests
from support.acceptance_tests import *  # noqa: F403
from support.checks import BF16, F16
from support.targets import CPU, runs_here

# AMX computes products of halves: all else is as with AVX-512. (VNNI computes products of bytes, of which there are none.)
AMX = "cpu:amx"
PRODUCTS = ("matmul", "conv2d", "flash_attention")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "target" in metafunc.fixturenames:
        has_products = metafunc.function.__name__.removeprefix("test_").startswith(PRODUCTS)
        metafunc.parametrize("target", [t for t in (*CPU, *((AMX,) if has_products else ())) if runs_here(t)])


def is_redundant(parameters: Mapping[str, Any]) -> bool:
    """Asked by conftest.py for each test."""
    return parameters.get("target") == AMX and parameters.get("dtype") not in (F16, BF16)


def test_kernels_with_products_are_known() -> None:
    names = [name.removeprefix("test_") for name in vars(acceptance_tests) if name.startswith("test_")]
    for kernel in PRODUCTS:
        assert any(name.startswith(kernel) for name in names), kernel

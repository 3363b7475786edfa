"""The targets that tests of kernels run on. `pytest --targets cpu:avx2,interp` replaces TARGETS."""

from __future__ import annotations

from opdsl import _runtime
from support.checks import LAYOUTS

INTERPRETERS = ("interp", "interp:strict")
CPU = ("cpu:avx512", "cpu:avx2", "cpu:baseline")
CPU_PRODUCTS = ("cpu:amx", "cpu:avx512_vnni")  # as avx512, but for products of halves and bytes, and of bytes
TARGETS: tuple[str, ...] = INTERPRETERS


def runs_here(target: str) -> bool:
    """Whether this machine has the instruction set of a CPU target."""
    return _runtime.supports_isa(target.removeprefix("cpu:"))


def layouts_of(target: str) -> tuple[str, ...]:
    """The layouts of arguments to try on a target. Each is compiled by itself, and what depends on the layout depends
    little on the instruction set: so one instruction set gets all."""
    best = next((name for name in CPU if runs_here(name)), "")
    return LAYOUTS if target == best or target not in (*CPU, *CPU_PRODUCTS) else ("contiguous", "strided")

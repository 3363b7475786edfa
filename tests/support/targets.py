"""The targets that tests of kernels run on. `pytest --targets cpu:avx2,interp` replaces TARGETS."""

from __future__ import annotations

from opdsl import _runtime

INTERPRETERS = ("interp", "interp:strict")
CPU = ("cpu:avx512", "cpu:avx2", "cpu:baseline")
CPU_PRODUCTS = ("cpu:amx", "cpu:avx512_vnni")  # as avx512, but for products of halves and bytes
TARGETS: tuple[str, ...] = INTERPRETERS


def runs_here(target: str) -> bool:
    """Whether this machine has the instruction set of a CPU target."""
    return _runtime.supports_isa(target.removeprefix("cpu:"))

"""The targets that tests of kernels run on. `pytest --targets cpu:avx2,interp` replaces TARGETS."""

from __future__ import annotations

INTERPRETERS = ("interp", "interp:strict")
CPU = ("cpu:avx512", "cpu:avx2", "cpu:baseline")
TARGETS: tuple[str, ...] = INTERPRETERS

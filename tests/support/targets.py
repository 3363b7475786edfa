"""The targets that tests of kernels run on. Each test takes one of them by its name."""

from __future__ import annotations

INTERPRETERS = ("interp", "interp:strict")
TARGETS = (*INTERPRETERS,)

"""What a target is: named stages from tile IR to an artefact, and something that runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from opdsl.ir.core import Kernel


@dataclass(frozen=True)
class Request:
    """What a target compiles: a specialised kernel and the facts about its arguments that it may rely on.

    `unit_axes` has an entry for each parameter: the axis of a tensor whose stride is one element (the last such axis,
    where several are), or None where there is none or the parameter is a scalar.
    `may_alias` is true where a tensor that the kernel writes shares memory with another argument.
    """

    kernel: Kernel
    unit_axes: tuple[int | None, ...]
    may_alias: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


class Executable(Protocol):
    """A compiled kernel."""

    def __call__(self, arguments: Sequence[np.ndarray[Any, Any] | int | float | bool]) -> None:
        """Runs on arrays and scalars in parameter order; they have been checked against the kernel's parameters."""


class Target(Protocol):
    """A target. `option` is the part of the user's target string after the colon (`npu:910b2`), or empty."""

    name: str

    def stages(self, request: Request) -> Mapping[str, str]:
        """Every stage's text in order, for `opdsl inspect`: at least `ir`."""

    def compile(self, request: Request) -> Executable:
        """Compiles, or takes from the cache."""


def target_names() -> tuple[str, ...]:
    return ("interp", "cpu")


def find_target(name: str) -> Target:
    """The target that a string such as "cpu", "interp" or "cpu:avx2" names. Raises ValueError where there is none."""
    base, _, option = name.partition(":")
    if base == "interp":
        from opdsl.targets.interp.target import InterpTarget

        return InterpTarget(option)
    if base == "cpu":
        from opdsl.targets.cpu.target import CpuTarget

        return CpuTarget(option)
    raise ValueError(f"there is no target {name!r}; the targets are {', '.join(target_names())}")

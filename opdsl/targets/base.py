"""What a target is: named stages from tile IR to an artefact, and something that runs."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from opdsl.ir.core import Kernel
from opdsl.support.errors import suggestion

if TYPE_CHECKING:
    import numpy as np


def digest_of(kernel: Kernel) -> str:
    """The SHA-256 of the IR's canonical text: of all that decides the compiled kernel."""
    from opdsl.ir.printer import canonical_text

    return hashlib.sha256(canonical_text(kernel).encode()).hexdigest()


class Untraced(Protocol):
    """A specialised kernel whose IR is made when it is first asked for (`opdsl.runtime.specialised`)."""

    @property
    def name(self) -> str: ...

    @property
    def digest(self) -> str:
        """The SHA-256 of the IR's canonical text, as far as is known without making it."""

    @property
    def ir(self) -> Kernel: ...


@dataclass(frozen=True)
class Request:
    """What a target compiles: a specialised kernel and the facts about its arguments that it may rely on.

    `source` is the kernel's IR, or what can make it: a target that keeps what it compiled may do with its digest.
    `unit_axes` has an entry for each parameter: the axis of a tensor whose stride is one element (the last such axis,
    where several are), or None where there is none or the parameter is a scalar.
    `may_alias` is true where a tensor that the kernel writes shares memory with another argument.
    """

    source: Kernel | Untraced
    unit_axes: tuple[int | None, ...]
    may_alias: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kernel(self) -> Kernel:
        """The IR."""
        return self.source if isinstance(self.source, Kernel) else self.source.ir

    @property
    def digest(self) -> str:
        """The SHA-256 of the IR's canonical text."""
        return digest_of(self.source) if isinstance(self.source, Kernel) else self.source.digest


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


# Where each target is: its module is loaded when it is first named.
TARGETS = {
    "interp": "opdsl.targets.interp.target:InterpTarget",
    "cpu": "opdsl.targets.cpu.target:CpuTarget",
    "triton": "opdsl.targets.triton.target:TritonTarget",
    "npu": "opdsl.targets.npu.target:NpuTarget",
}


def target_names() -> tuple[str, ...]:
    return tuple(TARGETS)


# What is called otherwise elsewhere.
_OTHER_NAMES = {
    **dict.fromkeys(("gpu", "cuda", "rocm", "hip", "nvidia", "amd"), "triton"),
    **dict.fromkeys(("ascend", "npu910"), "npu"),
    **dict.fromkeys(("x86", "c++", "cpp", "native"), "cpu"),
    **dict.fromkeys(("interpreter", "python", "numpy"), "interp"),
}


def target_help(name: str) -> str:
    """The help line for a target string that names none: the nearest that does."""
    base, _, option = name.partition(":")
    other = _OTHER_NAMES.get(base.lower()) or _OTHER_NAMES.get(name.lower())
    if other is not None:
        return f'give target="{other}"'
    nearest = suggestion(base, TARGETS) if base not in TARGETS else ""
    if nearest or not option:
        return nearest or f"give one of {', '.join(TARGETS)}, or none for the default"
    return f'give target="{base}" to take what fits this machine, or one of those named'


def find_target(name: str) -> Target:
    """The target that a string such as "cpu", "interp" or "cpu:avx2" names. Raises ValueError where there is none."""
    base, _, option = name.partition(":")
    if base not in TARGETS:
        raise ValueError(f"there is no target {name!r}; the targets are {', '.join(TARGETS)}")
    module, _, cls = TARGETS[base].partition(":")
    target: Target = getattr(importlib.import_module(module), cls)(option)
    return target

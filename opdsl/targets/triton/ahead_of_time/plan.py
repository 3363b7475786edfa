"""What is compiled for each kernel: variants by the layout and the alignment of its arguments, for each architecture."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opdsl.ir.core import Kernel as IrKernel
from opdsl.targets.ahead_of_time.building import BuildError
from opdsl.targets.ahead_of_time.interface import Interface, Tensor, contiguous
from opdsl.targets.base import Request
from opdsl.targets.triton.arch import ARCHES, DEFAULT_ARCH, Arch
from opdsl.targets.triton.compiler import Compiled, Module, compile_request

ALIGNMENT = 16  # what "aligned" means: a multiple of so much; of bytes, for a pointer


@dataclass(frozen=True)
class Variant:
    """One compilation, for each architecture. It serves calls whose arrays have stride 1 at `unit_axes`, whose aligned
    arguments are multiples of 16, and, with `index_bits` 32, whose arrays are small enough."""

    name: str
    unit_axes: tuple[int | None, ...]
    index_bits: int
    compiled: tuple[Compiled, ...]

    @property
    def launches(self) -> Sequence[Module]:
        """The launches; all architectures have the same but for their machine code and sizes."""
        return self.compiled[0].modules


@dataclass(frozen=True)
class Part:
    """A kernel with its variants, the most special one first."""

    interface: Interface
    ir: IrKernel
    variants: tuple[Variant, ...]


def choose_arches(names: str | None, option: str) -> list[Arch]:
    """The architectures of `--arch sm_90,sm_80`, or of `--target triton:sm_90`, or the default one."""
    if names and option:
        raise BuildError("the architecture is given twice", f"--target triton --arch {names}")
    found = []
    for name in (names or option or DEFAULT_ARCH).split(","):
        if name not in ARCHES:
            raise BuildError(f"there is no architecture {name!r}", f"there are {', '.join(ARCHES)}")
        found.append(ARCHES[name])
    if len({arch.vendor for arch in found}) > 1:
        raise BuildError("a launcher is for NVIDIA's or for AMD's GPUs, not for both", "build them apart")
    return found


def make_part(
    interface: Interface, ir: IrKernel, arches: Sequence[Arch], options: Mapping[str, Any], in_place: bool
) -> Part:
    """Compiles a kernel: for contiguous arrays whose sizes are multiples of 16, for contiguous ones of any size, and for
    arrays of any strides and sizes."""
    axes = contiguous(interface)
    pointers = frozenset((tensor.name, "pointer", -1) for tensor in interface.tensors)
    nowhere: tuple[int | None, ...] = tuple(None for _ in interface.parameters)
    wanted: tuple[tuple[str, tuple[int | None, ...], int, frozenset[Any] | None], ...] = (
        ("aligned", axes, 32, None),
        ("contiguous", axes, 32, pointers),
        ("general", nowhere, 64, frozenset()),
    )
    variants = []
    for name, unit_axes, bits, aligned in wanted:
        request = Request(ir, unit_axes, in_place, {**options, "index_bits": bits, "aligned": aligned})
        compiled = tuple(compile_request(request, arch) for arch in arches)
        variants.append(Variant(name, unit_axes, bits, compiled))
    for module in (module for variant in variants for each in variant.compiled for module in each.modules):
        _check(interface, module)
    return Part(interface, ir, tuple(variants))


def _check(interface: Interface, module: Module) -> None:
    metadata = module.metadata
    if metadata.get("num_ctas", 1) != 1 or metadata.get("launch_cooperative_grid"):
        raise BuildError(f"{interface.kernel} is compiled for clusters of programs, which the launcher does not start")


def entry_parameters(module: Module) -> int:
    """How many parameters the entry of a module's PTX has: Triton adds some of its own after ours."""
    text = module.text("ptx")
    found = re.search(r"\.entry\s+[\w$]+\s*\((.*?)\)", text, re.DOTALL)
    return found.group(1).count(".param") if found else 0


def tensors(interface: Interface) -> dict[int, Tensor]:
    """The arrays by their places among the parameters."""
    return {place: p for place, p in enumerate(interface.parameters) if isinstance(p, Tensor)}

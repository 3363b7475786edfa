"""The GPU architectures that kernels are compiled for, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Vendor = Literal["cuda", "hip"]


@dataclass(frozen=True)
class Arch:
    """`identity` is how Triton names it: a compute capability, or AMD's name.

    `shared_bytes`: shared memory that one program may have (CUDA C++ Programming Guide, table of technical
    specifications; AMD's CDNA 3 ISA document for the local data share).
    """

    name: str
    vendor: Vendor
    identity: int | str
    warp_size: int
    shared_bytes: int

    @property
    def binary(self) -> str:
        """The name of the last stage: what a driver loads."""
        return "cubin" if self.vendor == "cuda" else "hsaco"

    @property
    def assembly(self) -> str:
        """The name of the stage before."""
        return "ptx" if self.vendor == "cuda" else "amdgcn"


_KIB = 1 << 10

ARCHES: dict[str, Arch] = {
    arch.name: arch
    for arch in (
        Arch("sm_80", "cuda", 80, 32, 163 * _KIB),
        Arch("sm_86", "cuda", 86, 32, 99 * _KIB),
        Arch("sm_89", "cuda", 89, 32, 99 * _KIB),
        Arch("sm_90", "cuda", 90, 32, 227 * _KIB),
        Arch("sm_100", "cuda", 100, 32, 227 * _KIB),
        Arch("sm_120", "cuda", 120, 32, 99 * _KIB),
        Arch("gfx942", "hip", "gfx942", 64, 64 * _KIB),
    )
}
DEFAULT_ARCH = "sm_90"  # of `inspect` and `build` where no device is at hand and none is named

"""Instruction sets as data: a new one is an entry here and its parts of csrc/simd."""

from __future__ import annotations

from dataclasses import dataclass

from opdsl import _runtime
from opdsl.support.knobs import knobs


@dataclass(frozen=True)
class Isa:
    """`vector_bytes` is the width that generated loops use; `flags` are the compiler's."""

    name: str
    vector_bytes: int
    flags: tuple[str, ...]
    dot_registers: tuple[int, int]  # rows and vectors of the f32 register block
    has_vnni: bool = False  # four products of bytes at once
    has_tiles: bool = False  # AMX


AVX512 = (
    *(
        "-mavx512f",
        "-mavx512bw",
        "-mavx512dq",
        "-mavx512vl",
        "-mavx512cd",
        "-mavx2",
        "-mfma",
        "-mf16c",
        "-mbmi",
        "-mbmi2",
    ),
    "-mprefer-vector-width=512",
)
VNNI = "-mavx512vnni"

ISAS: dict[str, Isa] = {
    "amx": Isa(
        "amx", 64, (*AVX512, VNNI, "-mavx512bf16", "-mamx-tile", "-mamx-int8", "-mamx-bf16"), (6, 4), True, True
    ),
    "avx512_vnni": Isa("avx512_vnni", 64, (*AVX512, VNNI), (6, 4), True),
    "avx512": Isa("avx512", 64, AVX512, (6, 4)),
    "avx2": Isa("avx2", 32, ("-mavx2", "-mfma", "-mf16c", "-mbmi", "-mbmi2"), (6, 2)),
    "baseline": Isa("baseline", 16, (), (4, 2)),
    "neon": Isa("neon", 16, (), (8, 3)),
}


def chosen(option: str = "") -> Isa:
    """The instruction set that an option of the target names, or the knob, or else the best that this machine has.
    Raises ValueError where there is none of that name."""
    name = option or knobs.isa or _runtime.best_isa()
    if name not in ISAS:
        raise ValueError(f"there is no instruction set {name!r}; the target cpu knows {', '.join(ISAS)}")
    return ISAS[name]


def entry_name(kernel: str) -> str:
    """The C symbol of a kernel: no name that the kernel may have makes it one of simd/abi.h."""
    return f"opdsl_kernel_{kernel}"

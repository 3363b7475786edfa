"""Where the C++ files are that generated code and ahead-of-time libraries need."""

from __future__ import annotations

from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent


@cache
def include_directory() -> Path:
    """The directory that holds `simd/` and `runtime/`: a checkout's csrc, so that edits count, or the installed copy."""
    checkout = _PACKAGE.parent / "csrc"
    if (checkout / "simd" / "abi.h").is_file():
        return checkout
    installed = _PACKAGE / "include"
    if (installed / "simd" / "abi.h").is_file():
        return installed
    raise FileNotFoundError(
        f"the C++ headers of OpDSL are neither in {installed} nor in {checkout}; install the package again "
        "(pip install --force-reinstall opdsl)"
    )


def simd_headers() -> list[Path]:
    """Every header that generated code may include, in a fixed order."""
    return sorted((include_directory() / "simd").rglob("*.h"))


def host_sources() -> list[Path]:
    """What an ahead-of-time library compiles in to run without Python; `library.h` says how."""
    runtime = include_directory() / "runtime"
    return [runtime / name for name in ("library.cpp", "pool.cpp", "memory.cpp", "machine.cpp")]

"""The limits of the machine, measured beside each row: arithmetic on registers alone, and moving the row's bytes.

The memory roof of a row is a pass that reads as many bytes as the row must read and writes as many as it must write,
over memory of the same size, so that it comes from the same level of the caches. It is the fastest of ordinary stores and
stores past the caches, each with and without prefetching.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from opdsl import _runtime
from opdsl.runtime import memory
from opdsl.support import toolchain

from .arrays import Array
from .rows import Roof
from .timer import Timed, interleave

SOURCE = Path(__file__).parent / "roofs.cpp"

# Which instructions can compute a product of a dtype with its usual accuracy, and how many of them for each product; the
# fastest is the roof. An f16 is the sum of two bf16, so that four products of tiles make one.
COMPUTE = {
    "f32": (("f32_fma", 1),),
    "f64": (("f64_fma", 1),),
    "bf16": (("f32_fma", 1), ("bf16_tiles", 1)),
    "f16": (("f32_fma", 1), ("f16_fma", 1), ("bf16_tiles", 4)),
    "i8": (("f32_fma", 1), ("i8_dot", 1), ("i8_tiles", 1)),
}
TITLES = {
    "f32_fma": "f32 multiply-adds",
    "f64_fma": "f64 multiply-adds",
    "f16_fma": "f16 multiply-adds",
    "i8_dot": "i8 dot instructions",
    "bf16_tiles": "bf16 tiles",
    "i8_tiles": "i8 tiles",
}


@dataclass(frozen=True)
class Probe:
    """A limit as something to call; `operations` is what one call does (floating-point operations, or bytes), `cost` how
    many of them an operation of the row's dtype takes."""

    name: str
    call: Callable[[], object]
    operations: int
    cost: int = 1


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    """Kept by the cache, so that it goes with the process."""
    return tempfile.TemporaryDirectory(prefix="opdsl-roofs-")


@cache
def _library() -> str:
    library = Path(_folder().name) / "roofs.so"
    native = "-mcpu=native" if toolchain.find_compiler().machine.startswith("aarch64") else "-march=native"
    flags = (native, "-mprefer-vector-width=512") if "avx512f" in _runtime.cpu_features() else (native,)
    toolchain.compile_shared_object(SOURCE, library, (*flags, "-ffp-contract=off", "-fwrapv", "-fno-math-errno"))
    return str(library)


@cache
def _entry(name: str) -> _runtime.Entry | None:
    try:
        return _runtime.load(_library(), f"roof_{name}")
    except (OSError, ImportError, RuntimeError, AttributeError):  # this machine has no such instructions
        return None


@cache
def compute(dtype: str, threads: int) -> tuple[Probe, ...]:
    """The arithmetic probes of a dtype on this machine; a call of one takes less than a millisecond."""
    found = ((compute_probe(name, threads), cost) for name, cost in COMPUTE[dtype])
    return tuple(replace(probe, cost=cost) for probe, cost in found if probe is not None)


@cache
def compute_probe(name: str, threads: int) -> Probe | None:
    """One kind of arithmetic, or None where the machine does not have it."""
    entry = _entry(name)
    if entry is None:
        return None
    pieces = 4 * threads
    counts = np.zeros(pieces, np.int64)
    scalars = [12000 // 4, pieces]
    entry([counts], scalars)
    operations = int(counts.sum())
    if operations == 0:
        return None
    return Probe(name, lambda: entry([counts], scalars), operations)


def _half_a_page_apart(size: int, other: Array) -> Array:
    """Memory of which no line has the place in its page that the line of `other` has which is read while it is written:
    processors take such a read for one of the data just written."""
    found = memory.empty(size + 4096, np.uint8)
    start = (other.ctypes.data + 2048 - found.ctypes.data) % 4096
    return found[start : start + size]


def stream(read: int, written: int, threads: int) -> tuple[Probe, ...]:
    """Probes that read and write so many bytes."""
    pieces = threads if read + written < 1 << 20 else 8 * threads
    grain = pieces * 256
    source = memory.empty(max(read, 1) // grain * grain + grain, np.uint8)
    target = _half_a_page_apart(max(written, 1) // grain * grain + grain, source)
    source[:] = 1
    target[:] = 0
    arrays: list[Any] = [
        np.zeros(1, np.int64),
        source if read >= grain else source[:0],
        target if written >= grain else target[:0],
    ]
    scalars = [0, pieces]
    moved = int(arrays[1].size + arrays[2].size)
    names: tuple[str, ...] = ("stream",) if max(read, written) < 1 << 18 else ("stream", "stream_prefetched")
    if written >= 1 << 20:
        names = (*names, "stream_past_caches", "stream_past_caches_prefetched")
    entries = [(name, entry) for name in names if (entry := _entry(name)) is not None]
    return tuple(Probe(name, lambda entry=entry: entry(arrays, scalars), moved) for name, entry in entries)  # type: ignore[misc]


def survey(threads: int, dram: bool = True) -> list[Roof]:
    """All roofs of the machine, for the report: arithmetic of each kind, reading and copying at each level of memory."""
    probes: dict[str, tuple[Probe, int | None]] = {}
    for name in TITLES:
        found = compute_probe(name, threads)
        if found is not None:
            probes[name] = (found, None)
    for level, size in _levels(threads, dram).items():
        for kind, read, written in (("read", size, 0), ("copy", size // 2, size // 2)):
            for number, probe in enumerate(stream(read, written, threads)):
                probes[f"{level} {kind}{' ' * number}"] = (probe, size)
    times = interleave({name: Timed(probe.call) for name, (probe, _) in probes.items()}, 0.15 * len(probes))
    best: dict[str, Roof] = {}
    for name, (probe, bytes_moved) in probes.items():
        rate = probe.operations / min(times[name]) / 1e9
        title = name.strip()
        if bytes_moved is None:
            best[title] = Roof(title, threads, gflops=rate)
        elif title not in best or rate > (best[title].gbps or 0):
            best[title] = Roof(title, threads, gbps=rate, bytes=bytes_moved)
    return list(best.values())


def _levels(threads: int, dram: bool) -> dict[str, int]:
    second = _runtime.cache_bytes(2) * threads
    third = _runtime.cache_bytes(3)
    levels = {"L2": second // 2, "L3": min(third // 4, 128 << 20)} if third > 2 * second > 0 else {"L2": second // 2}
    if dram:
        levels["DRAM"] = max(2 * third, 256 << 20) if third < 1 << 30 else 2 << 30
    return {level: size for level, size in levels.items() if size > 1 << 16}

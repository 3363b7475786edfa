"""What the machine can do at most, measured: multiply-adds in registers, reading and copying of memory.

Memory is measured with as many bytes as the kernel moves, so that what fits into a cache is compared with the cache.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from opdsl import _runtime
from opdsl.support import toolchain
from opdsl.support.cache import default_cache
from opdsl.targets.cpu.isa import Isa
from opdsl.targets.cpu.target import flags

# The kinds of the entry point below.
FMA32, FMA64, READ, COPY = range(4)

_SOURCE = r"""
#include "simd/kernel.h"
#include "simd/probe.h"

namespace {
constexpr od::i64 kLanes = 16;
struct piece {
  od::i64 kind, iterations;
  const float* source;
  float* target;
  void operator()(od::i64 begin, od::i64 end, char*) const {
    if (kind == 0) od::probe_fma<float>(iterations * (end - begin));
    if (kind == 1) od::probe_fma<double>(iterations * (end - begin));
    if (kind == 2) {
      od::vec<float, kLanes> sums[4] = {};
      for (od::i64 i = begin; i + 4 * kLanes <= end; i += 4 * kLanes)
        for (int k = 0; k < 4; ++k) sums[k] = sums[k] + od::load<kLanes>(source + i + k * kLanes);
      float total[kLanes];
      od::store<kLanes>(total, (sums[0] + sums[1]) + (sums[2] + sums[3]));
      if (total[0] == 12345.0f) target[0] = total[1];  // never: the compiler must not drop the sum
    }
    if (kind == 3)
      for (od::i64 i = begin; i + kLanes <= end; i += kLanes) od::store<kLanes>(target + i, od::load<kLanes>(source + i));
  }
};
}  // namespace

extern "C" opdsl_i32 opdsl_roofs(const opdsl_runtime* runtime, const opdsl_array* arrays, const opdsl_scalar* scalars) {
  const piece body{scalars[0].i, scalars[1].i, static_cast<const float*>(arrays[0].data),
                   static_cast<float*>(arrays[1].data)};
  od::run_grid(runtime, scalars[2].i, scalars[3].i, 0, body);
  return 0;
}

extern "C" opdsl_i32 opdsl_fma_operations(const opdsl_runtime*, const opdsl_array* arrays, const opdsl_scalar* scalars) {
  static_cast<double*>(arrays[0].data)[0] = double(scalars[0].i == 0 ? od::probe_fma<float>(1) : od::probe_fma<double>(1));
  return 0;
}
"""


@dataclass(frozen=True)
class Roofs:
    """Operations and bytes a second."""

    operations: float
    bytes: float


class Probe:
    """The compiled measuring loops for one instruction set."""

    def __init__(self, isa: Isa) -> None:
        own = flags(isa)
        parts = {"name": "roofs", "isa": isa.name, "text": _SOURCE, "toolchain": toolchain.fingerprint(own)}

        def build(directory: Path) -> None:
            source = directory / "roofs.cpp"
            source.write_text(_SOURCE)
            toolchain.compile_shared_object(source, directory / "roofs.so", own)

        library = str(default_cache().get_or_build(parts, build) / "roofs.so")
        self._run = _runtime.load(library, "opdsl_roofs")
        self._count = _runtime.load(library, "opdsl_fma_operations")

    def operations(self, double: bool, threads: int) -> float:
        """Floating-point operations a second of all threads."""
        kind = FMA64 if double else FMA32
        counted = np.zeros(1)
        self._count([counted], [kind])
        iterations = 400_000
        pieces = threads * 8
        nothing = np.zeros(1, np.float32)
        seconds = _fastest(lambda: self._run([nothing, nothing], [kind, iterations // 8, pieces, 1]))
        return pieces * (iterations // 8) * float(counted[0]) / seconds

    def bandwidth(self, read_bytes: float, written_bytes: float) -> float:
        """Bytes a second of a copy, or of mere reading where little is written, of as many bytes in all."""
        kind = COPY if written_bytes * 4 > read_bytes else READ
        footprint = max(read_bytes + written_bytes, 1 << 12) / (2 if kind == COPY else 1)
        count = max(int(min(footprint, 1 << 30)) // 4 // 64 * 64, 1024)
        source, target = np.ones(count, np.float32), np.zeros(count if kind == COPY else 1, np.float32)
        seconds = _fastest(lambda: self._run([source, target], [kind, 0, count, 1 << 14]))
        return count * 4 * (2 if kind == COPY else 1) / seconds


def _fastest(call: Any, seconds: float = 0.15) -> float:
    call()
    best = float("inf")
    end = time.perf_counter() + seconds
    rounds = 0
    while rounds < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
        rounds += 1
    return best

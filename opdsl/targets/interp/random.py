"""Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3"), on whole arrays."""

from __future__ import annotations

import numpy as np

from opdsl.ir.core import Op
from opdsl.ir.semantics.values import Array

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)


def philox(counter: tuple[Array, Array, Array, Array], key: tuple[int, int]) -> tuple[Array, Array, Array, Array]:
    """Four 32-bit words (in uint64 arrays) of the counter block and key."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        first = _MULTIPLIERS[0] * c0
        second = _MULTIPLIERS[1] * c2
        c0, c1, c2, c3 = (
            (second >> _HALF) ^ c1 ^ np.uint64(k0),
            second & _LOW,
            (first >> _HALF) ^ c3 ^ np.uint64(k1),
            first & _LOW,
        )
        k0 = (k0 + _KEY_STEPS[0]) & 0xFFFFFFFF
        k1 = (k1 + _KEY_STEPS[1]) & 0xFFFFFFFF
    return c0, c1, c2, c3


def random_bits(op: Op, operands: list[Array]) -> Array:
    seed, counter = operands
    key = int(seed) & 0xFFFFFFFFFFFFFFFF
    wide = counter.astype(np.uint64)
    zero = np.zeros_like(wide)
    words = philox((wide & _LOW, wide >> _HALF, zero, zero), (key & 0xFFFFFFFF, key >> 32))
    return np.asarray(words[op.attributes["word"]]).astype(np.uint32)

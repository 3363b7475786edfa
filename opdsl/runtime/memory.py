"""Arrays in pooled memory: freed pages are kept warm and handed out again."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from numpy.typing import DTypeLike, NDArray

from opdsl import _runtime
from opdsl.support.knobs import knobs


@cache
def _apply_knobs() -> None:
    limit = knobs.memory_cache_bytes
    if limit is not None:
        _runtime.set_memory_cache_limit(limit)


def empty(shape: int | Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
    """Like numpy.empty, but a large array does not pay for fresh pages when one of its size was freed before."""
    _apply_knobs()
    return _runtime.empty(shape, dtype)


def trim() -> None:
    """Gives all freed memory that is kept for reuse back to the system."""
    _runtime.trim_memory()


def statistics() -> dict[str, int]:
    """Bytes in use and kept, the limit of what is kept, and how many allocations were served from it."""
    _apply_knobs()
    return _runtime.memory_statistics()

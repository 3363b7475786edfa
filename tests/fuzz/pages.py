"""Arrays that end, or begin, where memory does: an access beyond them ends the process."""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Sequence
from typing import Any

import numpy as np

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *([ctypes.c_int] * 3), ctypes.c_long]
_libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]

PAGE = mmap.PAGESIZE


class Pages:
    """Hands out arrays, each with a page that may not be touched before and behind it, and frees them together."""

    def __init__(self) -> None:
        self._regions: list[tuple[int, int]] = []

    def flat(self, count: int, dtype: np.dtype[Any], at_end: bool) -> np.ndarray[Any, Any]:
        """`count` elements whose end (or beginning) is that of the accessible memory."""
        size = count * dtype.itemsize
        inner = -(-max(size, 1) // PAGE) * PAGE
        access, sharing = mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANON
        base = _libc.mmap(None, inner + 2 * PAGE, access, sharing, -1, 0)
        if base is None or base == ctypes.c_void_p(-1).value:
            raise MemoryError(f"mmap of {inner} bytes")
        self._regions.append((base, inner + 2 * PAGE))
        for guard in (base, base + PAGE + inner):
            if _libc.mprotect(guard, PAGE, 0) != 0:
                raise OSError(ctypes.get_errno(), "mprotect")
        start = base + PAGE + (inner - size if at_end else 0)
        memory = (ctypes.c_char * size).from_address(start)
        return np.frombuffer(memoryview(memory), np.uint8).view(dtype) if size else np.empty(0, dtype)

    def array(
        self, shape: Sequence[int], dtype: np.dtype[Any], layout: str, at_end: bool
    ) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """A view of this layout and the flat memory that it is a part of, all zero."""
        shape = tuple(shape)
        if not shape:
            flat = self.flat(1, dtype, at_end)
            return flat.reshape(()), flat
        if layout == "broadcast":
            flat = self.flat(int(np.prod(shape[1:], dtype=np.int64)), dtype, at_end)
            return np.broadcast_to(flat.reshape(shape[1:]), shape), flat
        if layout == "strided":
            # The last element of the view is the last of the memory.
            extents = tuple(2 * n - 1 if n else 0 for n in shape)
            flat = self.flat(int(np.prod(extents, dtype=np.int64)), dtype, at_end)
            return flat.reshape(extents)[tuple(slice(None, None, 2) for _ in shape)], flat
        flat = self.flat(int(np.prod(shape, dtype=np.int64)), dtype, at_end)
        if layout == "transposed":
            return flat.reshape(shape[::-1]).T, flat
        view = flat.reshape(shape)
        return (view[tuple(slice(None, None, -1) for _ in shape)] if layout == "reversed" else view), flat

    def free(self) -> None:
        for base, size in self._regions:
            _libc.munmap(base, size)
        self._regions.clear()

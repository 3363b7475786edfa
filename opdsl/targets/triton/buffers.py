"""Copies of the memory of arrays, with guards around them, for places that NumPy's arrays cannot be handed to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opdsl.targets.triton.arguments import Tensor
from opdsl.targets.triton.errors import StrayStoreError

GUARD = 4096  # bytes before and behind an array
FILLING = 0xFF  # of guards: NaN as a float
SPAN = 64  # arrays whose memory is closer than this are one buffer
NUMBER_SHIFT = 48  # a pointer is the buffer's number, above the byte in it


class Buffers:
    """The memory of the arrays of a call, each stretch of it once, with guards. A pointer is (buffer, byte)."""

    def __init__(self, arrays: Sequence[NDArray[Any]]) -> None:
        spans = sorted(_span(a) for a in arrays if a.size)
        merged: list[list[int]] = []
        for low, high in spans:
            if merged and low <= merged[-1][1] + SPAN:
                merged[-1][1] = max(merged[-1][1], high)
            else:
                merged.append([low, high])
        self._spans = merged
        self._arrays = arrays
        self.data: list[bytearray] = []
        self._known: list[NDArray[Any]] = []  # which bytes belong to arrays
        for low, high in merged:
            data = bytearray([FILLING]) * (high - low + 2 * GUARD)
            self.data.append(data)
            self._known.append(np.zeros(len(data), np.bool_))
        for array in arrays:
            if array.size:
                number, _ = self._place(array)
                self._view(self.data[number], array)[...] = array
                self._mark(number, array)

    def _mark(self, number: int, array: NDArray[Any]) -> None:
        known = self._known[number]
        low = self._spans[number][0]
        first = array.__array_interface__["data"][0] - low + GUARD
        for byte in range(array.itemsize):
            view = np.ndarray(array.shape, np.bool_, known.data, first + byte, array.strides)
            view[...] = True

    def _place(self, array: NDArray[Any]) -> tuple[int, int]:
        address = array.__array_interface__["data"][0]
        for number, (low, high) in enumerate(self._spans):
            if low <= address < high:
                return number, address - low + GUARD
        return 0, 0

    def tensor(self, array: NDArray[Any]) -> Tensor:
        number, offset = self._place(array) if array.size else (0, 0)
        strides = tuple(stride // array.itemsize for stride in array.strides)
        return Tensor((number << NUMBER_SHIFT) | offset, array.shape, strides)

    def _view(self, data: bytearray, array: NDArray[Any]) -> NDArray[Any]:
        _, offset = self._place(array)
        return np.ndarray(array.shape, array.dtype, data, offset, array.strides)

    def take_back(self, data: Sequence[bytearray], name: str) -> None:
        """Copies what was written back, after a look at everything else."""
        for before, after, known in zip(self.data, data, self._known, strict=True):
            changed = np.frombuffer(before, np.uint8) != np.frombuffer(after, np.uint8)
            if (changed & ~known).any():
                place = int(np.argmax(changed & ~known))
                raise StrayStoreError(f"{name} wrote outside of its arrays, at byte {place} of a buffer of {len(after)}")
        for array in self._arrays:
            if array.size and array.flags.writeable:
                number, _ = self._place(array)
                array[...] = self._view(data[number], array)


def _span(array: NDArray[Any]) -> tuple[int, int]:
    low = high = array.__array_interface__["data"][0]
    for size, stride in zip(array.shape, array.strides, strict=True):
        reach = (size - 1) * stride
        low, high = low + min(reach, 0), high + max(reach, 0)
    return low, high + array.itemsize

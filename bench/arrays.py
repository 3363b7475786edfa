"""Inputs and outputs that all implementations of a row share: NumPy arrays, and torch tensors on the same memory."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from opdsl.runtime import memory

Array = NDArray[Any]

DTYPES: dict[str, np.dtype[Any]] = {
    "f32": np.dtype(np.float32),
    "f64": np.dtype(np.float64),
    "f16": np.dtype(np.float16),
    "bf16": np.dtype(ml_dtypes.bfloat16),
    "i8": np.dtype(np.int8),
    "i32": np.dtype(np.int32),
    "i64": np.dtype(np.int64),
}


@dataclass(frozen=True)
class Input:
    """How an argument is made and filled. `axes` permutes the memory's axes into the argument's; `below` is the limit of
    integers drawn; `copy_of` is the number of the argument that it repeats, with `copy_axes` of that in this order."""

    shape: tuple[int, ...]
    dtype: str
    axes: tuple[int, ...] | None = None
    below: int | None = None
    copy_of: int | None = None
    copy_axes: tuple[int, ...] = ()


class Inputs:
    """The arguments of a row."""

    def __init__(self, declarations: Sequence[Input]) -> None:
        self.declarations = declarations
        self.memory = [memory.empty(declared.shape, DTYPES[declared.dtype]) for declared in declarations]
        self.arrays: list[Array] = [
            array if declared.axes is None else array.transpose(declared.axes)
            for array, declared in zip(self.memory, declarations, strict=True)
        ]

    def fill(self, seed: int) -> None:
        """New values in the same memory."""
        generator = np.random.default_rng(seed)
        for array, declared in zip(self.memory, self.declarations, strict=True):
            if declared.copy_of is not None:
                array[...] = self.arrays[declared.copy_of].transpose(declared.copy_axes)
            elif declared.below is not None:
                array[...] = generator.integers(0, declared.below, array.shape, dtype=np.int64)
            elif array.dtype == np.int8:
                array[...] = generator.integers(-127, 128, array.shape, dtype=np.int8)
            else:
                _fill_normal(array, generator)

    def digest(self) -> list[int]:
        """Changes when an implementation writes to an argument."""
        return [zlib.crc32(array.reshape(-1).view(np.uint8).data) for array in self.memory]


def _fill_normal(array: Array, generator: np.random.Generator) -> None:
    flat = array.reshape(-1)
    step = 1 << 20
    for start in range(0, flat.size, step):
        part = flat[start : start + step]
        part[...] = generator.standard_normal(part.size, np.float32)


def poison(array: Array) -> None:
    """NaN (integers: -1) everywhere, so that nothing left from before passes for a result."""
    array.reshape(-1).view(np.uint8)[...] = 0xFF


def as_torch(array: Array) -> Any:
    """A tensor on the array's memory."""
    import torch

    if array.dtype == DTYPES["bf16"]:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def as_numpy(result: Any) -> Array:
    """What an implementation returned, as an array."""
    if isinstance(result, np.ndarray):
        return result
    if hasattr(result, "detach"):
        import torch

        tensor = result.detach()
        if tensor.dtype == torch.bfloat16:
            return np.asarray(tensor.view(torch.int16).numpy().view(DTYPES["bf16"]))
        return np.asarray(tensor.numpy())
    return np.asarray(result)

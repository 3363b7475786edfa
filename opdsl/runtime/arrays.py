"""Arguments on the long way of a launch: anything array-like becomes a NumPy array that shares its memory."""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from opdsl import _runtime
from opdsl.ir.numpy_types import NARROW_FLOATS, dtype_name, numpy_dtype, numpy_dtypes

if TYPE_CHECKING:
    from numpy.typing import NDArray

_DLPACK_CPU = 1
_DLPACK_CUDA_HOST = 3
GPU_DEVICES = (2, 10, 13)  # DLPack's numbers: CUDA, ROCm, CUDA's managed memory
_DLPACK_DEVICES = {
    2: "a CUDA device",
    4: "an OpenCL device",
    7: "a Vulkan device",
    8: "a Metal device",
    10: "a ROCm device",
}


class ArgumentError(TypeError):
    """An argument is not one that a kernel can take."""


@dataclass(frozen=True)
class ArrayInfo:
    """What a launch needs to know of an array. Strides are in elements; those of axes with one element, and of
    empty arrays, mean nothing, and are what a C-contiguous array would have."""

    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    pointer: int
    writable: bool

    @property
    def unit_axis(self) -> int | None:
        """The last axis whose stride is one element."""
        return next((axis for axis in reversed(range(len(self.strides))) if self.strides[axis] == 1), None)

    @property
    def is_contiguous(self) -> bool:
        """Whether the elements lie one after the other in C order."""
        return self.strides == _contiguous_strides(self.shape)


def _contiguous_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides = []
    stride = 1
    for size in reversed(shape):
        strides.append(stride)
        stride *= size
    return tuple(reversed(strides))


def as_array(value: object, name: str) -> NDArray[Any]:
    """`value` as a NumPy array that shares its memory. `name` is the parameter's, for errors."""
    if type(value) is np.ndarray:
        return value
    if isinstance(value, np.ma.MaskedArray):
        raise ArgumentError(f"{name} is a masked array, and kernels know no masks; pass {name}.filled(...) instead")
    if isinstance(value, np.ndarray):
        return value.view(np.ndarray)
    if hasattr(value, "__dlpack__") and hasattr(value, "__dlpack_device__"):
        array = _from_torch(value)
        return _from_dlpack(value, name) if array is None else array
    if isinstance(value, np.generic):
        raise ArgumentError(f"{name} must be an array, not the NumPy scalar {value!r}; pass np.asarray({value!r})")
    raise ArgumentError(
        f"{name} must be a NumPy array or an object with DLPack (as a torch tensor), not {_shown_type(value)}; "
        "convert it by numpy.asarray"
    )


def _shown_type(value: object) -> str:
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _from_torch(value: Any) -> NDArray[Any] | None:
    """A torch tensor by its own ways, which take a tenth of DLPack's time; None where those do not do, or for others."""
    torch = sys.modules.get("torch")
    if torch is None or type(value) is not torch.Tensor or not value.is_cpu or value.requires_grad:
        return None
    try:
        narrow = _narrow_of_torch().get(value.dtype)
        if narrow is None:
            array: NDArray[Any] = value.numpy()
        else:
            bits, dtype = narrow
            array = value.view(bits).numpy().view(dtype)
    except (RuntimeError, TypeError):  # sparse, conjugated: what is wrong DLPack's way says
        return None
    return array if dtype_name(array.dtype) is not None else None


@functools.cache
def _narrow_of_torch() -> dict[Any, tuple[Any, np.dtype[Any]]]:
    """torch's dtype -> torch's integers of its width, NumPy's dtype, for what NumPy itself does not have."""
    torch = sys.modules["torch"]
    return {
        getattr(torch, theirs): (torch.int16 if numpy_dtype(name).itemsize == 2 else torch.uint8, numpy_dtype(name))
        for name, theirs in NARROW_FLOATS.items()
    }


def to_torch(array: NDArray[Any]) -> Any:
    """A torch tensor that shares an array's memory. torch has been imported."""
    torch = sys.modules["torch"]
    narrow = _narrow_to_torch().get(array.dtype)
    if narrow is None:
        return torch.from_numpy(array)
    bits, theirs = narrow
    return torch.from_numpy(array.view(bits)).view(theirs)


@functools.cache
def _narrow_to_torch() -> dict[np.dtype[Any], tuple[Any, Any]]:
    """NumPy's dtype -> NumPy's integers of its width, torch's dtype."""
    return {
        dtype: (np.int16 if dtype.itemsize == 2 else np.uint8, theirs)
        for theirs, (_, dtype) in _narrow_of_torch().items()
    }


def _from_dlpack(value: Any, name: str) -> NDArray[Any]:
    kind = _shown_type(value)
    if getattr(value, "requires_grad", False):
        raise ArgumentError(
            f"{name} is a {kind} that requires a gradient, which a kernel would not pass on; pass {name}.detach(), "
            "or call the kernel from a torch.autograd.Function"
        )
    is_neg = getattr(value, "is_neg", None)
    if is_neg is not None and is_neg():  # DLPack does not say that the values are the opposite of what is stored
        raise ArgumentError(f"{name} is a {kind} that torch has not negated yet; pass {name}.resolve_neg()")
    try:
        device = int(value.__dlpack_device__()[0])
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise ArgumentError(f"{name}, a {kind}, is not in memory that a kernel can read: {error}") from None
    if device not in (_DLPACK_CPU, _DLPACK_CUDA_HOST):
        where = _DLPACK_DEVICES.get(device, f"a device (DLPack type {device})")
        raise ArgumentError(
            f"{name} is a {kind} on {where}, and this target reads the CPU's memory; copy it to the CPU "
            f'(as {name}.cpu()), or launch with target="triton"'
        )
    try:
        try:
            capsule = value.__dlpack__(max_version=(1, 0))
        except TypeError:  # written before DLPack 1.0
            capsule = value.__dlpack__()
        return _runtime.from_dlpack_capsule(capsule, numpy_dtypes())
    except (BufferError, RuntimeError, TypeError, ValueError) as error:
        raise ArgumentError(f"{name}, a {kind}, cannot be handed over without a copy: {error}") from None


def describe(array: NDArray[Any], name: str, *, written: bool) -> ArrayInfo:
    """What a launch needs to know of `array`; raises ArgumentError where a kernel cannot work on it."""
    dtype = dtype_name(array.dtype)
    if dtype is None:
        raise ArgumentError(
            f"{name} has dtype {array.dtype}; kernels know {', '.join(numpy_dtypes())}; convert it by "
            f"{name}.astype(...)"
        )
    if not array.dtype.isnative:
        raise ArgumentError(
            f"{name} has the byte order of another machine (dtype {array.dtype.str}); convert it by "
            f'{name}.astype({name}.dtype.newbyteorder("="))'
        )
    if not array.flags.aligned:
        raise ArgumentError(
            f"{name} lies at an address that is not a multiple of its element's {array.dtype.alignment} bytes; copy it "
            f"by {name}.copy()"
        )
    if written and not array.flags.writeable:
        raise ArgumentError(f"{name} is read-only, but the kernel writes it; pass {name}.copy(), or a fresh array")
    strides = list(_contiguous_strides(array.shape))
    for axis in reversed(range(array.ndim if array.size > 0 else 0)):
        if array.shape[axis] > 1:
            if array.strides[axis] % array.itemsize:
                raise ArgumentError(
                    f"{name} has a stride of {array.strides[axis]} bytes in axis {axis}, which is not a multiple of its "
                    f"element's {array.itemsize}; copy it by {name}.copy()"
                )
            strides[axis] = array.strides[axis] // array.itemsize
        elif axis + 1 < array.ndim:
            strides[axis] = strides[axis + 1] * array.shape[axis + 1]
    info = ArrayInfo(dtype, array.shape, tuple(strides), array.ctypes.data, bool(array.flags.writeable))
    if written and array.size > 1 and not _elements_are_distinct(info):
        raise ArgumentError(
            f"{name} is written, but some of its elements are the same memory (shape {info.shape}, strides "
            f"{info.strides} elements); pass a copy, or an array of its own"
        )
    return info


def _elements_are_distinct(info: ArrayInfo) -> bool:
    """Whether no two indices are one address, shown by the axes nesting in one another. Rarely says no for an array
    whose axes interleave without meeting."""
    axes = sorted((abs(stride), size) for stride, size in zip(info.strides, info.shape, strict=True) if size > 1)
    reach = 0
    for stride, size in axes:
        if stride <= reach:
            return False
        reach += stride * (size - 1)
    return True


def may_share_memory(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Whether an element of one is an element of the other. Exact where that is cheap to find out, else yes."""
    if not np.may_share_memory(a, b):
        return False
    try:
        return np.shares_memory(a, b, max_work=10_000)  # type: ignore[arg-type] # NumPy's stub knows only 0 and -1
    except (np.exceptions.TooHardError, OverflowError):
        return True


def same_view(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Whether two arrays are the same elements in the same order."""
    return (
        a.__array_interface__["data"][0] == b.__array_interface__["data"][0]
        and a.shape == b.shape
        and a.strides == b.strides
        and a.dtype == b.dtype
    )

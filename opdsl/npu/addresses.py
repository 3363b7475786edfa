"""Handles of memory while a program is built: tensors in global memory and places in a core's buffers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opdsl.ir.types import DTYPES
from opdsl.npu.scalars import Scalar, ScalarLike
from opdsl.npu.statements import Address, BufferName, GlobalAddress, LocalAddress, Register, Tensor, register_of

if TYPE_CHECKING:
    from opdsl.npu.builder import Builder


class Global:
    """A place in a tensor: `x[n]` is n elements further on, `x.view("i32")` the same place as another dtype."""

    __slots__ = ("builder", "dtype", "offset", "tensor")

    def __init__(self, builder: Builder, tensor: Tensor, offset: ScalarLike = 0, dtype: str = "") -> None:
        self.builder = builder
        self.tensor = tensor
        self.offset = offset
        self.dtype = dtype or tensor.dtype

    def __getitem__(self, elements: ScalarLike) -> Global:
        return Global(self.builder, self.tensor, self.builder.sum(self.offset, elements), self.dtype)

    def view(self, dtype: str) -> Global:
        old, new = DTYPES[self.dtype].bytes, DTYPES[dtype].bytes
        offset = self.offset
        if old != new:
            offset = self.builder.compute("mul", offset, old) if old % new else self.builder.product(offset, old // new)
            if old % new:
                offset = self.builder.compute("floordiv", offset, new)
        return Global(self.builder, self.tensor, offset, dtype)

    def dim(self, axis: int) -> Scalar:
        """The size of an axis, known at launch."""
        return self.builder.parameter("dim", self.tensor, axis)

    def stride(self, axis: int) -> Scalar:
        """The elements between neighbours along an axis, known at launch."""
        return self.builder.parameter("stride", self.tensor, axis)

    @property
    def address(self) -> GlobalAddress:
        return GlobalAddress(self.tensor, register_of(self.offset), self.dtype)


class Local:
    """A place in a buffer of the core: `ub[n]` is n elements further on, `ub.view("i32")` the same place as another
    dtype."""

    __slots__ = ("buffer", "builder", "byte", "dtype", "name")

    def __init__(self, builder: Builder, buffer: BufferName, byte: ScalarLike, dtype: str, name: str = "") -> None:
        self.builder = builder
        self.buffer = buffer
        self.byte = byte
        self.dtype = dtype
        self.name = name

    def __getitem__(self, elements: ScalarLike) -> Local:
        step = self.builder.product(elements, DTYPES[self.dtype].bytes)
        return Local(self.builder, self.buffer, self.builder.sum(self.byte, step), self.dtype, self.name)

    def at_byte(self, distance: ScalarLike) -> Local:
        """`distance` bytes further on."""
        return Local(self.builder, self.buffer, self.builder.sum(self.byte, distance), self.dtype, self.name)

    def view(self, dtype: str) -> Local:
        return Local(self.builder, self.buffer, self.byte, dtype, self.name)

    @property
    def address(self) -> LocalAddress:
        return LocalAddress(self.buffer, register_of(self.byte), self.dtype, self.name)


Place = Global | Local


def address_of(place: Place | Address) -> Address:
    return place if isinstance(place, (GlobalAddress, LocalAddress)) else place.address


def space_of(address: Address) -> str:
    return "GM" if isinstance(address, GlobalAddress) else address.buffer


__all__ = ["Global", "Local", "Place", "Register", "address_of", "space_of"]

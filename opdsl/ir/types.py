"""Element types and the three value types of the tile IR."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["float", "int", "uint", "bool"]


@dataclass(frozen=True, eq=False)
class DType:
    """An element type, one object each. `bits` is its width in memory (bool takes 8)."""

    name: str
    kind: Kind
    bits: int

    @property
    def bytes(self) -> int:
        return self.bits // 8

    @property
    def is_float(self) -> bool:
        return self.kind == "float"

    @property
    def is_integer(self) -> bool:
        return self.kind in ("int", "uint")

    @property
    def is_bool(self) -> bool:
        return self.kind == "bool"

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> str | tuple[object, ...]:
        # Copies are the object itself: dtypes are compared by identity, which is faster than by their fields.
        return _dtype_by_name, (self.name,)


f64 = DType("f64", "float", 64)
f32 = DType("f32", "float", 32)
f16 = DType("f16", "float", 16)
bf16 = DType("bf16", "float", 16)
f8e4m3 = DType("f8e4m3", "float", 8)
f8e5m2 = DType("f8e5m2", "float", 8)
i64 = DType("i64", "int", 64)
i32 = DType("i32", "int", 32)
i16 = DType("i16", "int", 16)
i8 = DType("i8", "int", 8)
u64 = DType("u64", "uint", 64)
u32 = DType("u32", "uint", 32)
u16 = DType("u16", "uint", 16)
u8 = DType("u8", "uint", 8)
bool_ = DType("bool", "bool", 8)

DTYPES: dict[str, DType] = {
    d.name: d for d in (f64, f32, f16, bf16, f8e4m3, f8e5m2, i64, i32, i16, i8, u64, u32, u16, u8, bool_)
}


def integer_range(dtype: DType) -> tuple[int, int]:
    """The least and the greatest number of an integer type."""
    if dtype.kind == "uint":
        return 0, (1 << dtype.bits) - 1
    return -(1 << (dtype.bits - 1)), (1 << (dtype.bits - 1)) - 1


def _dtype_by_name(name: str) -> DType:
    return DTYPES[name]


@dataclass(frozen=True)
class ScalarType:
    dtype: DType

    def __str__(self) -> str:
        return self.dtype.name


@dataclass(frozen=True)
class TileType:
    """A local array of static shape. A rank-0 tile does not exist: that is a scalar."""

    dtype: DType
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"tile<{'x'.join(map(str, self.shape))}x{self.dtype.name}>"


@dataclass(frozen=True)
class TensorType:
    """A tensor in global memory. A dim is a number (known: literal, or bound by a constexpr) or a symbol's name."""

    dtype: DType
    dims: tuple[int | str, ...]

    def __str__(self) -> str:
        return f"tensor<{'x'.join(map(str, self.dims))}{'x' if self.dims else ''}{self.dtype.name}>"


Type = ScalarType | TileType | TensorType


def shape_of(type: Type) -> tuple[int, ...]:
    """The static shape of a scalar (empty) or a tile."""
    if isinstance(type, TileType):
        return type.shape
    if isinstance(type, ScalarType):
        return ()
    raise TypeError("a tensor has no static shape")


def shaped(dtype: DType, shape: tuple[int, ...]) -> ScalarType | TileType:
    """The scalar or tile type of `dtype` and `shape`."""
    return TileType(dtype, shape) if shape else ScalarType(dtype)

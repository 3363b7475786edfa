"""How operands are laid out for a product, and the calls of csrc/simd that do it.

float    f32 or f64; halves are widened while they are copied
groups   bytes, two or four of k to 32 bits, for integer instructions
tiles    bf16, f16 and bytes for AMX tiles
"""

from __future__ import annotations

from dataclasses import dataclass

from opdsl.ir.types import DType, bf16, f16, f32, f64, i8, i32, u8
from opdsl.targets.cpu.code import REGISTER, STORAGE
from opdsl.targets.cpu.isa import Isa
from opdsl.targets.cpu.loop_ir import round_up

FEW_ROWS = 16  # with so few rows of A, B is read once, straight from memory


@dataclass(frozen=True)
class Format:
    """A layout. Sizes are in elements of `element`, which is also what buffers of copies are made of."""

    name: str
    source: DType  # of both operands in their tensors (float: whatever each has)
    result: DType
    isa: Isa

    @property
    def element(self) -> DType:
        return self.result if self.name == "float" else i32

    @property
    def panel_columns(self) -> int:
        """Columns of a packed panel: dot_config<T>::columns."""
        if self.name == "tiles":
            return 32
        lanes = self.isa.vector_bytes // self.element.bytes
        return lanes * self.isa.dot_registers[1]

    @property
    def has_special_values(self) -> bool:
        """Whether copies tell of infinities and NaNs."""
        return self.name == "tiles" and self.source == f16

    @property
    def _has_quads(self) -> bool:
        """dot_integer<A, B> is `quads`: the instruction takes a signed right operand."""
        return self.isa.has_vnni and self.source == i8

    def _groups(self, k: int) -> int:
        if self.name == "tiles":
            return round_up(k * self.source.bytes, 64) // 4
        return -(-k // (4 if self._has_quads else 2))

    def panel_stride(self, k: int) -> int:
        rows = k
        if self.name == "tiles":
            rows = self._groups(k) * (2 if self.source == f16 else 1)
        elif self.name == "groups":
            rows = self._groups(k) + (1 if self._has_quads else 0)
        return rows * self.panel_columns

    def panel_elements(self, k: int, n: int) -> int:
        return -(-n // self.panel_columns) * self.panel_stride(k)

    def row_stride(self, k: int) -> int:
        """An odd number of cache lines, so that the rows of a register tile lie in different sets of the cache."""
        if self.name == "float":
            lanes = 64 // self.element.bytes
            return round_up(k, 2 * lanes) + lanes
        return round_up(self._groups(k) + 16, 32) - 16

    def row_elements(self, m: int, k: int) -> int:
        if self.name == "tiles":
            m = round_up(m, 32) * (2 if self.source == f16 else 1)
        return m * self.row_stride(k) + 16

    # --- calls ---

    def _type(self) -> str:
        if self.name == "float":
            return REGISTER[self.result]
        if self.name == "tiles":
            return STORAGE[self.source]
        element = STORAGE[self.source]
        return f"od::dot_integer<{element}, {element}>"

    def pack(self, address: str, strides: tuple[str, str], k: str, n: str, to: str, panel_stride: int) -> str:
        """A call that copies a right operand to panels; of tiles of f16, it tells whether there are special values."""
        tail = f"({address}, {strides[0]}, {strides[1]}, {k}, {n}, {to}, {panel_stride})"
        if self.name == "float" and strides[1] == "1":
            return f"od::pack_b_rows<{self._type()}>({address}, {strides[0]}, {k}, {n}, {to}, {panel_stride})"
        if self.name == "float":
            return f"od::pack_b<{self._type()}>{tail}"
        if self.name == "tiles":
            return f"od::tiles_pack_b<{self._type()}>{tail}"
        return f"od::pack_b_integer<{self._type()}, {STORAGE[self.source]}>{tail}"

    def copy(self, address: str, strides: tuple[str, str], m: str, k: str, to: str, row_stride: int) -> str:
        """A call that copies a left operand to rows."""
        tail = f"({address}, {strides[0]}, {strides[1]}, {m}, {k}, {to}, {row_stride})"
        function = {"float": "copy_a", "tiles": "tiles_copy_a", "groups": "copy_a_integer"}[self.name]
        return f"od::{function}<{self._type()}>{tail}"

    def dot(
        self,
        a: str,
        strides: tuple[str, str],
        copied: bool,
        b: str,
        panel_stride: int,
        c: str,
        c_stride: str,
        extents: tuple[str, str, str],
        flag: str,
        special: str,
    ) -> str:
        """The product; `extents` are m, n and k. `copied`: the left operand is what `copy` made, or is where it was."""
        sizes = ", ".join(extents)
        if self.name == "float":
            return (
                f"od::dot_packed<{self._type()}>({a}, {strides[0]}, {strides[1]}, {b}, {panel_stride}, {c}, {c_stride}, "
                f"{sizes}, {flag})"
            )
        if self.name == "groups":
            return (
                f"od::dot_packed_integer<{self._type()}>({a}, {strides[0]}, {b}, {panel_stride}, {c}, {c_stride}, "
                f"{sizes}, {flag})"
            )
        m, n, k = extents
        if not copied:
            return (
                f"od::tiles_dot<{self._type()}>({a}, {strides[0]}, {strides[1]}, {b}, {panel_stride}, {c}, {c_stride}, "
                f"{sizes}, {flag}, {special})"
            )
        return (
            f"od::tiles_dot_copied<{self._type()}>({a}, {strides[0]}, {b}, {panel_stride}, {c}, {c_stride}, {m}, {n}, "
            f"od::tiles_groups<{self._type()}>({k}), {flag}, {special})"
        )


def choose_format(isa: Isa, a: DType | None, b: DType | None, result: DType, m: int) -> Format | None:
    """The format of a product whose operands are parts of tensors of dtypes `a` and `b` (None: tiles in local memory).

    None where only the plain way is left.
    """
    if a == b and m > FEW_ROWS and isa.has_tiles and a in (bf16, f16, i8):
        return Format("tiles", a, result, isa)
    if a == b and a in (i8, u8):
        return Format("groups", a, result, isa)
    return Format("float", result, result, isa) if result in (f32, f64) else None

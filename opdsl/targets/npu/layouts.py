"""How a tile lies in the unified buffer.

Row-major. A tile with one dim above 1 (trailing dims of 1 do not count) is dense. Else rows of its last dim begin
at multiples of 32 elements, which is a multiple of the 32-byte block that the vector unit addresses whatever the
dtype, so that tiles of one shape lie alike in every dtype, and an elementwise op needs no layout but rows, columns, pitch.
A tile of bools is held as bits in the order in which comparisons write them: see `Bits`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from opdsl.ir.types import DType

BLOCK = 32  # bytes that the vector unit and the copies address at once
PITCH = 32  # elements


@dataclass(frozen=True)
class Layout:
    """`rows` times `columns` elements, a row `pitch` elements after the one before."""

    shape: tuple[int, ...]
    rows: int
    columns: int
    pitch: int

    @property
    def flat(self) -> bool:
        """Whether the elements follow each other without gaps."""
        return self.rows == 1 or self.pitch == self.columns

    def bytes(self, dtype: DType) -> int:
        size = dtype.bytes
        return -(-self.rows * self.pitch * size // BLOCK) * BLOCK

    def strides(self) -> tuple[int, ...]:
        """Elements between neighbours along each dim of the shape."""
        core = list(self.shape)
        while len(core) > 1 and core[-1] == 1:
            core.pop()
        strides = [1] * len(core)
        step = 1
        for axis in reversed(range(len(core))):
            strides[axis] = step
            step = self.pitch if axis == len(core) - 1 and self.rows > 1 else step * core[axis]
        return (*strides, *(1 for _ in self.shape[len(core) :]))


def layout(shape: tuple[int, ...]) -> Layout:
    core = list(shape)
    while len(core) > 1 and core[-1] == 1:
        core.pop()
    columns = core[-1] if core else 1
    rows = math.prod(core[:-1])
    if rows == 1:
        return Layout(shape, 1, columns, columns)
    return Layout(shape, rows, columns, -(-columns // PITCH) * PITCH)


LANES = 64  # elements that one repeat of 256 bytes compares, in f32


def bit_areas(tile: Layout) -> list[tuple[int, int, int]]:
    """The order of the bits of a comparison of two f32 tiles: (first row, first column, byte offset) of each
    instruction's bits. Each begins at a block."""
    areas: list[tuple[int, int, int]] = []
    offset = 0
    if tile.flat:
        return [(0, 0, 0)]
    if tile.pitch * 4 // BLOCK > 255:
        for row in range(tile.rows):
            areas.append((row, 0, offset))
            offset += -(-(-(-tile.columns // LANES) * 8) // BLOCK) * BLOCK
        return areas
    for column in range(0, tile.columns, LANES):
        for row in range(0, tile.rows, 252):
            areas.append((row, column, offset))
            offset += -(-min(252, tile.rows - row) * 8 // BLOCK) * BLOCK
    return areas


def bit_bytes(tile: Layout) -> int:
    """Bytes that the bits of a tile take."""
    if tile.flat:
        count = tile.rows * tile.columns
        return -(-(-(-count // LANES) * 8) // BLOCK) * BLOCK
    row, _column, offset = bit_areas(tile)[-1]
    if tile.pitch * 4 // BLOCK > 255:
        return offset + -(-(-(-tile.columns // LANES) * 8) // BLOCK) * BLOCK
    return offset + -(-min(252, tile.rows - row) * 8 // BLOCK) * BLOCK


def whole_blocks(tile: Layout) -> bool:
    """Whether comparisons of a tile write every byte of its bits."""
    if tile.flat:
        return tile.rows * tile.columns % (BLOCK * 8) == 0
    if tile.pitch * 4 // BLOCK > 255:
        return tile.columns % (BLOCK * 8) == 0
    return tile.columns % LANES == 0 and tile.rows % 4 == 0

"""Vector instructions over whole tiles: repeats, masks and strides for any number of rows and columns.

An operand is a `Lines`: rows of columns in the unified buffer. An instruction does up to 255 repeats of 256 bytes, each
8 blocks of 32 bytes; where rows follow each other without gaps they are one run of repeats, else a repeat is a piece of
a row, and either the rows or the pieces of one row are the repeats, whichever takes fewer instructions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from opdsl.ir.types import DTYPES
from opdsl.npu.statements import Operand
from opdsl.targets.npu.emitter import Emitter, Place
from opdsl.targets.npu.layouts import BLOCK, Layout, bit_areas
from opdsl.targets.npu.tree import Access

REPEAT = 256  # bytes
MOST_REPEATS = 255
MOST_BIT_REPEATS = 252  # so that the bits of the next instruction begin at a block
MOST_REDUCED = 248  # so that the results of the next instruction begin at a block


@dataclass(frozen=True)
class Lines:
    """`pitch` elements lie between rows (0: every row is the same). `spread`: each row is one block of equal elements,
    that stands for all columns (with pitch 0: one block for all of the tile)."""

    place: Place
    pitch: int
    spread: bool = False

    @property
    def dtype(self) -> str:
        return self.place.dtype

    def at(self, row: int, column: int) -> Place:
        size = DTYPES[self.dtype].bytes
        return self.place.at((row * self.pitch + (0 if self.spread else column)) * size)


def lines(place: Place, tile: Layout) -> Lines:
    return Lines(place, tile.pitch)


class VectorUnit:
    def __init__(self, emitter: Emitter) -> None:
        self.e = emitter
        self.group = 0  # of the pieces of one operation

    def run(
        self,
        name: str,
        rows: int,
        columns: int,
        dst: Lines,
        sources: Sequence[Lines] = (),
        *,
        scalar: Operand = 0,
        option: str | None = None,
        reads_dst: bool = False,
        group: int = 0,
    ) -> None:
        """One elementwise instruction on rows x columns elements. Those of one `group` write different places."""
        operands = [dst, *sources]
        self.group = group or self.e.new_group()
        size = max(DTYPES[o.dtype].bytes for o in operands)
        self._note_in_place(dst, sources)
        lanes = REPEAT // size
        whole = [o for o in operands if not o.spread]
        still = [o for o in operands if o.spread]
        if rows == 1 or (all(o.pitch == columns for o in whole) and all(o.pitch == 0 for o in still)):
            self._runs(name, 0, rows * columns, lanes, dst, sources, scalar, option, reads_dst)
            return
        steps = [self._blocks(o, o.pitch) for o in operands]
        pieces = -(-columns // lanes)
        by_rows = all(s is not None and s <= MOST_REPEATS for s in steps)
        row_wise = rows * (1 + (columns % lanes != 0 and columns > lanes))
        if by_rows and pieces * -(-rows // MOST_REPEATS) <= row_wise:
            for column in range(0, columns, lanes):
                for row in range(0, rows, MOST_REPEATS):
                    count = min(MOST_REPEATS, rows - row)
                    self._one(
                        name,
                        [o.at(row, column) for o in operands],
                        mask=min(lanes, columns - column),
                        repeat=count,
                        blocks=[0 if o.spread else 1 for o in operands],
                        repeats=[s or 0 for s in steps],
                        scalar=scalar,
                        option=option,
                        spans=[self._span(o, count, min(lanes, columns - column)) for o in operands],
                        reads_dst=reads_dst,
                    )
            return
        for row in range(rows):
            self._runs(name, row, columns, lanes, dst, sources, scalar, option, reads_dst)

    def _note_in_place(self, dst: Lines, sources: Sequence[Lines]) -> None:
        """The result may take the place of an operand that is read in step with it, and in no other way."""
        for source in sources:
            others = [o for o in sources if o.place.buffer is source.place.buffer]
            alike = all(
                not o.spread
                and (o.pitch, o.place.offset) == (dst.pitch, dst.place.offset)
                and DTYPES[o.dtype].bytes == DTYPES[dst.dtype].bytes
                for o in others
            )
            if alike and source.place.buffer is not dst.place.buffer and dst.place.offset == 0:
                self.e.in_place.append((dst.place.buffer, source.place.buffer, self.group))

    @staticmethod
    def _blocks(operand: Lines, elements: int) -> int | None:
        bytes = elements * DTYPES[operand.dtype].bytes
        return bytes // BLOCK if bytes % BLOCK == 0 else None

    @staticmethod
    def _span(operand: Lines, rows: int, columns: int) -> int:
        """Bytes from an operand's first element to behind its last."""
        size = DTYPES[operand.dtype].bytes
        return (rows - 1) * operand.pitch * size + (BLOCK if operand.spread else columns * size)

    def _runs(
        self,
        name: str,
        row: int,
        count: int,
        lanes: int,
        dst: Lines,
        sources: Sequence[Lines],
        scalar: Operand,
        option: str | None,
        reads_dst: bool,
    ) -> None:
        """`count` elements that follow each other from the start of a row."""
        operands = [dst, *sources]
        for first, repeat, mask in _pieces(count, lanes):
            done = repeat * mask
            sizes = [DTYPES[o.dtype].bytes for o in operands]
            self._one(
                name,
                [o.at(row, first) for o in operands],
                mask=mask,
                repeat=repeat,
                blocks=[0 if o.spread else 1 for o in operands],
                repeats=[0 if o.spread else lanes * s // BLOCK for o, s in zip(operands, sizes, strict=True)],
                scalar=scalar,
                option=option,
                spans=[BLOCK if o.spread else done * s for o, s in zip(operands, sizes, strict=True)],
                reads_dst=reads_dst,
            )

    def _one(
        self,
        name: str,
        places: Sequence[Place],
        *,
        mask: int,
        repeat: int,
        blocks: Sequence[int],
        repeats: Sequence[int],
        spans: Sequence[int],
        scalar: Operand = 0,
        option: str | None = None,
        reads_dst: bool = False,
        extra: dict[str, Any] | None = None,
        more: Sequence[Access] = (),
    ) -> None:
        fields: dict[str, Any] = {"mask0": mask, "repeat": repeat}
        if repeat == 0:
            fields |= {"mask_mode": "counter", "repeat": 1}
        elif name in ("compare", "compare_scalar", "select"):
            fields["mask0"] = min(mask, 64)
        accesses: list[Access] = list(more)
        for index, (place, step, stride, span) in enumerate(zip(places, blocks, repeats, spans, strict=True)):
            field = "dst" if index == 0 else f"src{index - 1}"
            fields[field] = place
            fields[f"{field}_blk_stride"] = step
            fields[f"{field}_rep_stride"] = stride
            accesses.append(access(place, index == 0, span, self.group))
        if reads_dst:
            accesses.append(access(places[0], False, spans[0], self.group))
        if option is not None:
            fields["option"] = option
        if isinstance(scalar, int) and DTYPES[places[0].dtype].is_float and name != "gather":
            scalar = float(scalar)
        self.e.issue(name, "V", accesses, scalar=scalar, **fields, **(extra or {}))

    # --- what is not elementwise

    def compare(self, tile: Layout, bits: Place, a: Lines, b: Lines | None, mode: str, scalar: Operand = 0) -> None:
        """Bits of a `mode` b, or of a `mode` scalar, in the order of `bit_areas`. The sources are of 32-bit elements."""
        self.group = self.e.new_group()
        for row, column, rows, columns, offset in self._bit_steps(tile):
            sources = [a] if b is None else [a, b]
            repeats, count = self._bit_repeats(tile, rows, columns)
            name = "compare_scalar" if b is None else "compare"
            for begin, repeat, mask in self._bit_pieces(tile, repeats, count):
                written = (repeat or -(-mask // 64)) * 8
                places = [bits.at(offset + begin // 8), *(self._piece(s, tile, row, column, begin) for s in sources)]
                steps = [8 if tile.flat or self._by_row(tile) else s.pitch * 4 // BLOCK for s in sources]
                used = [written, *(self._bit_span(tile, s, repeat, mask) for s in sources)]
                self._one(
                    name,
                    places,
                    mask=mask,
                    repeat=repeat,
                    blocks=[1, *(0 if s.spread else 1 for s in sources)],
                    repeats=[8, *(0 if s.spread else step for s, step in zip(sources, steps, strict=True))],
                    scalar=scalar,
                    option=mode,
                    spans=used,
                )

    def select(self, tile: Layout, dst: Lines, bits: Place, a: Lines, b: Lines | None, scalar: Operand = 0) -> None:
        """a where the bit is set, else b or the scalar. All of 32-bit elements."""
        self.group = self.e.new_group()
        self._note_in_place(dst, [a] if b is None else [a, b])
        for row, column, rows, columns, offset in self._bit_steps(tile):
            operands = [dst, a] if b is None else [dst, a, b]
            repeats, count = self._bit_repeats(tile, rows, columns)
            for begin, repeat, mask in self._bit_pieces(tile, repeats, count):
                steps = [8 if tile.flat or self._by_row(tile) else o.pitch * 4 // BLOCK for o in operands]
                source = bits.at(offset + begin // 8)
                self._one(
                    "select",
                    [self._piece(o, tile, row, column, begin) for o in operands],
                    mask=mask,
                    repeat=repeat,
                    blocks=[0 if o.spread else 1 for o in operands],
                    repeats=[0 if o.spread else step for o, step in zip(operands, steps, strict=True)],
                    scalar=scalar,
                    option="mask_scalar" if b is None else "mask_tensors_long",
                    spans=[self._bit_span(tile, o, repeat, mask) for o in operands],
                    extra={"src2": source},
                    more=[access(source, False, (repeat or -(-mask // 64)) * 8, self.group)],
                )

    @staticmethod
    def _by_row(tile: Layout) -> bool:
        return not tile.flat and tile.pitch * 4 // BLOCK > MOST_REPEATS

    def _bit_steps(self, tile: Layout) -> list[tuple[int, int, int, int, int]]:
        """(row, column, rows, columns, byte of the bits) for each area of `bit_areas`."""
        steps = []
        for row, column, offset in bit_areas(tile):
            if tile.flat:
                steps.append((0, 0, 1, tile.rows * tile.columns, offset))
            elif self._by_row(tile):
                steps.append((row, 0, 1, tile.columns, offset))
            else:
                rows = min(MOST_BIT_REPEATS, tile.rows - row)
                steps.append((row, column, rows, min(64, tile.columns - column), offset))
        return steps

    def _bit_repeats(self, tile: Layout, rows: int, columns: int) -> tuple[int, int]:
        return (rows, columns) if not tile.flat and not self._by_row(tile) else (0, columns)

    @staticmethod
    def _bit_pieces(tile: Layout, rows: int, count: int) -> list[tuple[int, int, int]]:
        """(first element, repeats, mask) of the instructions of one area. 0 repeats: the mask counts elements."""
        if rows:
            return [(0, rows, count)]
        # Bits of an instruction begin at a block: what is no multiple of repeats is counted, not masked.
        step = MOST_BIT_REPEATS * 64
        return [
            (first, MOST_BIT_REPEATS if count - first >= step else 0, min(step, count - first))
            for first in range(0, count, step)
        ]

    @staticmethod
    def _piece(operand: Lines, tile: Layout, row: int, column: int, begin: int) -> Place:
        return operand.at(row, column + begin)

    def _bit_span(self, tile: Layout, operand: Lines, repeat: int, mask: int) -> int:
        if operand.spread:
            return BLOCK
        if tile.flat or self._by_row(tile):
            return (mask if repeat == 0 else repeat * 64) * 4
        return self._span(operand, repeat, mask)

    def duplicate(self, place: Place, count: int, value: Operand) -> None:
        """`count` elements of a value."""
        self.run("duplicate", 1, count, Lines(place, 0), scalar=value)

    def count_up(self, place: Place, count: int) -> None:
        """0, 1, 2, ... in `count` elements. Each instruction counts from its own scalar, so it is told where it begins."""
        size = DTYPES[place.dtype].bytes
        for first, repeat, mask in _pieces(count, REPEAT // size):
            self.group = self.e.new_group()
            target = place.at(first * size)
            self._one(
                "create_vec_index",
                [target],
                mask=mask,
                repeat=repeat,
                blocks=[1],
                repeats=[REPEAT // BLOCK],
                spans=[repeat * mask * size],
                scalar=first,
            )

    def spread(self, dst: Place, src: Place, count: int) -> None:
        """Each of `count` elements over a block of its own. Reads up to the next 8 elements, which must hold something."""
        size = DTYPES[src.dtype].bytes
        groups = -(-count // 8)
        for first in range(0, groups, MOST_REPEATS):
            repeat = min(MOST_REPEATS, groups - first)
            self.e.issue(
                "brcb",
                "V",
                [
                    access(dst.at(first * 8 * BLOCK), True, repeat * 8 * BLOCK),
                    access(src.at(first * 8 * size), False, repeat * 8 * size),
                ],
                dst=dst.at(first * 8 * BLOCK),
                src0=src.at(first * 8 * size),
                mask0=REPEAT // size,
                repeat=repeat,
                dst_blk_stride=1,
                dst_rep_stride=8,
            )

    def reduce_rows(self, kind: str, dst: Place, src: Lines, rows: int, columns: int) -> None:
        """The sum, max or min of each row of at most a repeat's elements, one after the other in dst."""
        size = DTYPES[src.dtype].bytes
        step = src.pitch * size // BLOCK
        for row in range(0, rows, MOST_REDUCED):
            repeat = min(MOST_REDUCED, rows - row)
            option: dict[str, Any] = {} if kind == "sum" else {"option": "only_value"}
            self.e.issue(
                f"whole_reduce_{kind}",
                "V",
                [
                    access(dst.at(row * size), True, repeat * size),
                    access(src.at(row, 0), False, self._span(src, repeat, columns)),
                ],
                dst=dst.at(row * size),
                src0=src.at(row, 0),
                mask0=columns,
                repeat=repeat,
                dst_rep_stride=1,
                src0_rep_stride=step if repeat > 1 else 0,
                **option,
            )


def _pieces(count: int, lanes: int) -> list[tuple[int, int, int]]:
    """(first element, repeats, mask) of the instructions that `count` elements in a row take: whole repeats, then the
    rest."""
    pieces = []
    first = 0
    while first < count:
        repeat = min(MOST_REPEATS, (count - first) // lanes)
        repeat, mask = (repeat, lanes) if repeat else (1, count - first)
        pieces.append((first, repeat, mask))
        first += repeat * mask
    return pieces


def access(place: Place, write: bool, bytes: int, group: int = 0) -> Access:
    """Of `bytes` at a place; all of the buffer where the place is known at run time only."""
    if isinstance(place.offset, int):
        return Access(place.buffer, write, place.offset, place.offset + bytes, group)
    return Access(place.buffer, write, group=group)

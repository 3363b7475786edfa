"""Tile shapes, as data: what each operator chooses by the shapes of a call. Measured on AVX-512 with 48 KiB of L1."""

from __future__ import annotations

# Elementwise, elements of a tile: long enough to hide a task's start, short enough to spread over threads.
FLAT = 8192

# Elementwise on rows: for rows up to so many columns, the rows and columns of a tile.
GRID = ((64, (128, 64)), (256, (32, 256)), (None, (8, 1024)))

# Where rows and columns change places: two whole lines of the caches in each row of the result, which can be written past
# them; where the result does not begin with a line, longer pieces, since the lines at their ends are shared.
TRANSPOSED, TRANSPOSED_UNALIGNED = (128, 32), (64, 128)
LINE = 64


def grid(columns: int) -> tuple[int, int]:
    """Rows and columns of an elementwise tile."""
    return next(tile for limit, tile in GRID if limit is None or columns <= limit)


# Reductions: elements of a chunk that is reduced by itself, and the lengths of tiles to choose from.
ROW_CHUNK, COLUMN_CHUNK = 65536, 4096
# No longer, for the sake of precision: a tile's sum is rounded as often as a lane of it has elements, and so is the sum
# of a chunk's tiles.
LENGTHS = (16, 32, 64, 128, 256, 512, 1024)
TILE_COST = 128  # what beginning a tile costs, in elements


def length(size: int) -> int:
    """The tile length that covers `size` with the least waste."""
    return min(LENGTHS, key=lambda n: (-(-size // n) * (n + TILE_COST), n))


def rows(columns: int) -> dict[str, int]:
    """A tile of whole or long rows."""
    longest = length(columns)
    return {"BM": max(1, min(64, 1024 // longest)), "BN": longest}


def columns(rows: int, columns: int) -> dict[str, int]:
    """A tile that is reduced down its columns."""
    return {"BK": min(32, length(rows)), "BN": min(512, length(columns))}


# Rows that are processed whole (softmax, norms): a kernel for exactly this length if it is a multiple of WHOLE_STEP and no
# longer than WHOLE_LIMIT; others share one kernel that goes over a row in pieces.
WHOLE_STEP, WHOLE_LIMIT = 64, {"npu": 8192, "": 65536}  # a vector core of an NPU holds five such rows
PIECE = 1024


def is_whole(columns: int, kind: str) -> bool:
    """`kind`: of the target."""
    return 0 < columns <= WHOLE_LIMIT.get(kind, WHOLE_LIMIT[""]) and columns % WHOLE_STEP == 0


def whole_rows(columns: int) -> dict[str, int]:
    return {"BM": max(1, min(16, 4096 // columns))}


def successive_rows(columns: int) -> dict[str, int]:
    """Whole rows that are one task, done one after another."""
    return {"BM": 16 if columns <= 16384 else 8}


def row_pieces(columns: int) -> dict[str, int]:
    return {"BN": min(PIECE, length(columns))}


# Embedding: rows looked up together, and the longest part of one that is moved at a time.
EMBEDDING_ROWS, EMBEDDING_COLUMNS = 16, 1024

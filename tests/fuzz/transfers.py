"""copy_in and copy_out: clipped slices, steps, points, gathers, scatters."""

from __future__ import annotations

from dataclasses import dataclass

from opdsl.ir.types import DType, bool_, i32, i64

from .program import Dim, Tensor
from .scope import Scope
from .values import USUAL, Shape, Val, broadcast

DATA = {"float": ("small", "small", "real", "special", "unit"), "int": ("small", "full"), "uint": ("small", "full")}


def data_kind(scope: Scope, dtype: DType) -> str:
    return "bools" if dtype.is_bool else scope.rng.choice(DATA[dtype.kind])


def whole_of(data: str) -> float | None:
    return {"small": 4.0, "unit": 1.0, "bools": 1.0}.get(data)


@dataclass(frozen=True)
class Piece:
    """One index of a tensor: its text, the size of the dim that suits it, and the dim it gives (None: a point)."""

    text: str
    dim: int
    length: int | None


def start_text(scope: Scope) -> tuple[str, int]:
    """A run-time or constant start, and about how far it goes."""
    choice = scope.rng.random()
    if scope.indices and choice < 0.6:
        index = scope.rng.choice(scope.indices)
        offset = scope.rng.choice(["", "", "", " + 1", " - 1", " - 2", " * 2", " + 5"])
        return (f"({index}{offset})" if offset else index), 12
    if choice < 0.7 and scope.program.rng.random() < 0.5:
        return scope.scalar_of(i64).text, 5
    return str(scope.rng.choice([0, 0, 0, 0, 1, 2, 5])), 3


def slice_piece(scope: Scope, length: int) -> Piece:
    """A slice of that many elements."""
    start, reach = start_text(scope)
    step = scope.rng.choice([1] * 8 + [2, 3])
    if start == "0" and length > 1 and scope.chance(0.15):
        first = -scope.rng.randint(1, min(length - 1, 4))
        end = first + length
        return Piece(f"{first}:{end}", max(1, end + scope.rng.choice([-1, 0, 0, 3])), length)
    stop = f"{start} + {length * step}" if not start.isdigit() else str(int(start) + length * step)
    dim = reach + length * step + scope.rng.choice([-3, -1, 0, 0, 2])
    return Piece(f"{start}:{stop}" + (f":{step}" if step > 1 else ""), max(1, dim), length)


def whole_piece(length: int) -> Piece:
    return Piece(":", length, length)


def point_piece(scope: Scope) -> Piece:
    start, reach = start_text(scope)
    return Piece(start, reach + 2, None)


def _dims(scope: Scope, pieces: list[Piece]) -> tuple[Dim, ...]:
    return tuple(p.dim if p.text == ":" or scope.chance(0.15) else scope.program.symbol(p.dim) for p in pieces)


def input_for(scope: Scope, dtype: DType, pieces: list[Piece], data: str | None = None) -> Tensor:
    """A tensor to read these pieces of: one that is there already, or a new one."""
    known = [
        t
        for t in scope.program.tensors
        if t.role == "in" and t.dtype == dtype and len(t.dims) == len(pieces) and data in (None, t.data)
        if t.data != "ids"
        and t.name not in scope.program.same
        and all(p.text != ":" or d == p.dim for p, d in zip(pieces, t.dims, strict=True))
    ]
    if known and scope.chance(0.4):
        return scope.rng.choice(known)
    return scope.program.tensor(dtype, _dims(scope, pieces), "in", data or data_kind(scope, dtype))


def pad_text(scope: Scope, dtype: DType) -> tuple[str, bool]:
    """The argument for the pad, and whether it is a small whole number."""
    if scope.chance(0.6):
        return "", True
    if dtype.is_bool:
        return ", pad=True", True
    if dtype.is_float:
        pad = scope.rng.choice(["1.0", "-2", "0.3", "-od.inf", "od.inf", "od.nan"])
        if dtype.name == "f8e4m3" and "inf" in pad:
            pad = "od.nan"
        return f", pad={pad}", pad in ("1.0", "-2")
    return f", pad={scope.rng.choice([1, 3, 7])}", False


def load(scope: Scope, shape: Shape, dtype: DType | None = None) -> Val:
    """Reads a tile."""
    dtype = dtype or scope.rng.choice(USUAL)
    pieces = [whole_piece(n) if scope.chance(0.12) else slice_piece(scope, n) for n in shape]
    while len(pieces) < 4 and scope.chance(0.15):
        pieces.insert(scope.rng.randint(0, len(pieces)), point_piece(scope))
    tensor = input_for(scope, dtype, pieces)
    pad, small = pad_text(scope, dtype)
    whole = whole_of(tensor.data) if small else None
    index = ", ".join(p.text for p in pieces)
    return Val(f"od.copy_in({tensor.name}[{index}]{pad})", dtype, shape, whole)


def load_scalar(scope: Scope, dtype: DType) -> Val:
    pieces = [point_piece(scope) for _ in range(scope.rng.randint(1, 2))]
    tensor = input_for(scope, dtype, pieces)
    pad, small = pad_text(scope, dtype)
    index = ", ".join(p.text for p in pieces)
    return Val(f"od.copy_in({tensor.name}[{index}]{pad})", dtype, (), whole_of(tensor.data) if small else None)


def ids(scope: Scope, shape: Shape, reach: int) -> Val:
    """A tile of indices, some of them out of range."""
    known = scope.tiles(lambda v: v.dtype.is_integer and v.shape == shape)
    if known and scope.chance(0.3):
        value = scope.rng.choice(known)
        return scope.cast(value, i64) if value.dtype.name != "i32" else value
    pieces = [slice_piece(scope, n) for n in shape]
    dtype = scope.rng.choice([i64, i64, i32])
    tensor = scope.program.tensor(dtype, _dims(scope, pieces), "in", "ids")
    index = ", ".join(p.text for p in pieces)
    text = f"od.copy_in({tensor.name}[{index}], pad={scope.rng.choice([-1, 0, reach])})"
    return scope.let(Val(text, dtype, shape), "ids")


def gather(scope: Scope) -> Val | None:
    """Reads rows, columns or single elements that an index tile names."""
    a = scope.any_tile(lambda v: v.size <= 512 and len(v.shape) <= 2)
    if a is None:
        return None
    rows = scope.rng.choice([4, 9, 16])
    shape: Shape
    if len(a.shape) == 2 and scope.chance(0.4):
        index = ids(scope, a.shape, rows)  # pairs of indices give single elements
        columns = f"od.cast({a.text}, od.i64) & 7" if a.dtype.is_integer else f"od.arange({a.shape[1]})[None, :]"
        pieces = [Piece(index.text, rows, None), Piece(columns, 8, None)]
        shape = a.shape
    else:
        index = ids(scope, a.shape[:1], rows)
        pieces, shape = [Piece(index.text, rows, None)], a.shape[:1]
        for n in a.shape[1:]:
            pieces.append(slice_piece(scope, n))
            shape = (*shape, n)
        if len(pieces) == 2 and scope.chance(0.4):
            pieces.reverse()
            shape = shape[::-1]
    dtype = scope.rng.choice(USUAL)
    tensor = scope.program.tensor(dtype, _dims(scope, pieces), "in", data_kind(scope, dtype))
    pad, small = pad_text(scope, dtype)
    text = f"od.copy_in({tensor.name}[{', '.join(p.text for p in pieces)}]{pad})"
    return Val(text, dtype, shape, whole_of(tensor.data) if small else None)


def compare_mode(value: Val) -> object:
    """How an output that this value goes to is compared."""
    if value.rel == 1.0:
        return ["ulps", 4 if value.dtype.bits >= 32 else 1]
    if value.rel:
        return ["rel", value.rel]
    return "zero" if value.zero_open and value.dtype.is_float else "exact"


def store(scope: Scope, value: Val, grid: list[Piece] | None = None, dims: tuple[Dim, ...] = ()) -> None:
    """Writes the value to an output of its own; `grid` are the indices of a parallel loop, which come first.

    With a grid the other pieces are constant, so that iterations write different elements.
    """
    pieces = list(grid or ())
    for n in value.shape[sum(p.length is not None for p in pieces) :]:
        if grid is not None or scope.chance(0.7):
            start = scope.rng.choice([0, 0, 0, 2])
            pieces.append(Piece(f"{start}:{start + n}", start + n + scope.rng.choice([-1, 0, 0, 1]), n))
        else:
            pieces.append(slice_piece(scope, n))
    if not pieces:
        pieces = [Piece(str(scope.rng.choice([0, 1])), 2, None)]
    rest = _dims(scope, [Piece(p.text, max(1, p.dim), p.length) for p in pieces[len(dims) :]])
    dtype = value.dtype
    if scope.chance(0.15) and value.exact and not dtype.is_bool:
        value = scope.cast(value, scope.rng.choice([d for d in USUAL if not d.is_bool]))
        dtype = value.dtype
    inout = value.exact and value.whole is not None and dtype != bool_ and scope.chance(0.15)
    tensor = scope.program.tensor(dtype, (*dims, *rest), "inout" if inout else "out", "small")
    tensor.compare = compare_mode(value)
    mode = f', mode="{scope.rng.choice(["add", "max", "min"])}"' if inout else ""
    if mode and dtype.is_float:
        tensor.compare = "zero"
    scope.line(f"od.copy_out({value.text}, {tensor.name}[{', '.join(p.text for p in pieces)}]{mode})")


def scatter(scope: Scope, value: Val) -> None:
    """Writes rows of the value where an index tile says; combining modes, so that the order does not matter."""
    if not value.shape or not value.exact or value.size > 1024:
        return
    rows = scope.rng.choice([3, 7, 20])
    index = ids(scope, value.shape[:1], rows)
    alone = not scope.indices
    modes = ["max", "min"] + (["set"] if alone else [])
    if value.dtype.is_integer or value.whole is not None:
        modes += ["add", "add"]
    mode = scope.rng.choice([m for m in modes if not (value.dtype.is_bool and m == "add")])
    if mode == "add" and value.dtype.is_float and (value.dtype.bits < 32 or (value.whole or 0) > 64):
        return
    pieces = [Piece(index.text, rows, None)]
    for n in value.shape[1:]:
        pieces.append(slice_piece(scope, n))
    data = "small" if mode == "add" else data_kind(scope, value.dtype)
    tensor = scope.program.tensor(value.dtype, _dims(scope, pieces), "inout", data)
    tensor.compare = compare_mode(value)
    if value.dtype.is_float and mode != "set":
        tensor.compare = "zero"
    scope.line(f'od.copy_out({value.text}, {tensor.name}[{", ".join(p.text for p in pieces)}], mode="{mode}")')


def chain(scope: Scope, shape: Shape) -> None:
    """Reads and writes of overlapping parts of one tensor, in order. Outside of parallel loops only."""
    dtype = scope.rng.choice([d for d in USUAL if not d.is_bool])
    pieces = [slice_piece(scope, n) for n in shape]
    tensor = scope.program.tensor(dtype, _dims(scope, pieces), "inout", "small")
    tensor.compare = "zero" if dtype.is_float else "exact"
    for _ in range(scope.rng.randint(2, 3)):
        pieces = [slice_piece(scope, n) for n in shape]
        index = ", ".join(p.text for p in pieces)
        value = scope.let(Val(f"od.copy_in({tensor.name}[{index}])", dtype, shape, None, dtype.is_float))
        other = scope.partner(shape)
        if other is not None and broadcast(other.shape, shape) == shape:
            text = f"od.maximum({value.text}, {scope.cast(other, dtype).text})"
            value = scope.let(Val(text, dtype, shape, None, dtype.is_float))
        pieces = [slice_piece(scope, n) for n in shape]
        mode = scope.rng.choice(["", "", ', mode="add"', ', mode="min"'])
        if mode and dtype.is_float and "add" in mode:
            mode = ', mode="max"'
        scope.line(f"od.copy_out({value.text}, {tensor.name}[{', '.join(p.text for p in pieces)}]{mode})")

"""The statements of a kernel: sections that read, compute under loops and branches, and write outputs."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from opdsl.ir.types import DType, f32, i8, i32, i64

from . import elementwise, products, reductions, shapes, transfers
from .program import Program
from .scope import Scope
from .transfers import Piece
from .values import USUAL, Shape, Val, broadcast, tuple_text

Maker = Callable[[Scope], Val | None]

MAKERS: tuple[tuple[Maker, int], ...] = (
    (elementwise.binary, 12),
    (elementwise.unary, 5),
    (elementwise.comparison, 3),
    (elementwise.where, 4),
    (elementwise.cast, 5),
    (elementwise.arange, 2),
    (elementwise.random, 1),
    (elementwise.approximate, 2),
    (shapes.subscript, 3),
    (shapes.expand, 2),
    (shapes.reshape, 2),
    (shapes.transpose, 3),
    (shapes.concat, 2),
    (shapes.flip, 1),
    (shapes.fill, 1),
    (reductions.reduce, 5),
    (reductions.mean, 1),
    (reductions.arg_reduce, 2),
    (reductions.scan, 2),
    (reductions.custom, 2),
    (reductions.sort, 1),
    (reductions.dot, 3),
    (reductions.tolerant, 1),
    (transfers.gather, 2),
)
SIZES = (1, 2, 3, 4, 5, 7, 8, 9, 13, 16, 17, 31, 32, 33, 40, 64, 65)


def tile_shape(rng: random.Random, limit: int = 1024) -> Shape:
    while True:
        rank = rng.choice([1, 1, 2, 2, 2, 3])
        shape = tuple(rng.choice(SIZES) for _ in range(rank))
        size = 1
        for n in shape:
            size *= n
        if size <= limit:
            return shape


def compute(scope: Scope, count: int) -> None:
    """Some statements that make values of those in sight."""
    makers, weights = zip(*MAKERS, strict=True)
    for _ in range(count):
        maker = scope.rng.choices(makers, weights)[0]
        value = maker(scope)
        if value is not None and value.size <= 4096 and len(value.shape) <= 4:
            if value.text.isidentifier():
                continue  # is named already
            scope.let(value, "t" if value.shape else "r")


def inputs(scope: Scope, shape: Shape, count: int) -> None:
    """Tiles of the shape, and of shapes that broadcast to it."""
    for number in range(count):
        part = shape
        if number and scope.chance(0.3):
            part = tuple(1 if scope.chance(0.5) else n for n in shape)[scope.rng.randrange(len(shape)) :]
        scope.let(transfers.load(scope, part))
    if scope.chance(0.2):
        scope.let(transfers.load_scalar(scope, scope.rng.choice(USUAL)), "r")


def control(scope: Scope, depth: int) -> None:
    """A loop or a branch."""
    kind = scope.rng.choice(["for", "for", "for", "while", "if", "if", "matmul"])
    if kind == "matmul":
        products.matmul_loop(scope)
    elif kind == "if":
        branch(scope, depth)
    else:
        loop(scope, depth, kind == "while")


def block(scope: Scope, depth: int) -> None:
    compute(scope, scope.rng.randint(1, 3))
    if depth and scope.chance(0.3):
        control(scope, depth - 1)
        compute(scope, 1)
    if scope.chance(0.3):
        pieces, dims = scope.grid or (None, ())
        outputs(scope, 1, pieces, dims)


def _carried(scope: Scope) -> list[Val]:
    """Variables that a block will assign: tiles and scalars with fresh names."""
    found = []
    for _ in range(scope.rng.randint(1, 3)):
        if scope.chance(0.25):
            source = scope.scalar_of(scope.rng.choice([f32, i32, i64]))
        else:
            source = scope.any_tile() or scope.scalar_of(f32)
        text = source.text
        if source.shape and scope.chance(0.4):
            text = f"od.zeros({tuple_text(source.shape)}, od.{source.dtype.name})"
        value = Val(text, source.dtype, source.shape, None, source.dtype.is_float)
        found.append(scope.let(value, "c"))
    return found


def _update(scope: Scope, targets: list[Val]) -> None:
    """New values for variables, of the same types."""
    if len(targets) >= 2 and scope.chance(0.3):
        first, second = targets[0], targets[1]
        if first.dtype == second.dtype and first.shape == second.shape:
            other = second.text if scope.chance(0.6) else f"{second.text} + {first.text}"
            if not (first.dtype.is_bool and "+" in other):
                scope.line(f"{first.text}, {second.text} = {other}, {first.text}")
                return
    for target in targets:
        if scope.chance(0.85):
            scope.line(f"{target.text} = {_new_value(scope, target)}")


def _new_value(scope: Scope, target: Val) -> str:
    same = [v for v in scope.pool if v.exact and v.shape == target.shape and v.text != target.text]
    if same and scope.chance(0.6):
        return scope.cast(scope.rng.choice(same), target.dtype).text
    fitting = [v for v in scope.pool if v.exact and broadcast(v.shape, target.shape) == target.shape]
    if not fitting:
        return f"-{target.text}" if not target.dtype.is_bool else f"~{target.text}"
    other = scope.cast(scope.rng.choice(fitting), target.dtype).text
    if target.dtype.is_bool:
        return f"{target.text} ^ {other}"
    name = target.text
    return scope.rng.choice([f"{name} + {other}", f"od.maximum({name}, {other})", f"{other} - {name}"])


def loop(scope: Scope, depth: int, is_while: bool) -> None:
    carried = _carried(scope)
    limit = scope.rng.randint(0, 4)
    inner = scope.inner()
    if is_while:
        counter = scope.program.fresh("n")
        scope.line(f"{counter} = 0")
        scope.line(f"while {counter} < {limit}:")
    else:
        counter = scope.program.fresh("k")
        step = scope.rng.choice([1, 1, 3])
        stop = str(limit * step)
        if scope.program.hints and scope.chance(0.2):
            known = [(t, i) for t in scope.program.tensors for i, d in enumerate(t.dims) if isinstance(d, str)]
            if known:
                tensor, axis = scope.rng.choice(known)
                stop = f"od.minimum({tensor.name}.shape[{axis}], {3 * step})"
        up, down, early = f"0, {stop}, {step}", f"{stop}, 0, -{step}", f"-1, {stop}, {step}"
        bounds = scope.rng.choice([up, up, down, early])
        kind = "range({})" if "-" in bounds[-3:] or scope.chance(0.5) else "od.pipelined(range({}), depth=2)"
        scope.line(f"for {counter} in {kind.format(bounds)}:")
    inner.indices.append(counter)
    if scope.chance(0.6):
        shape = carried[0].shape or tile_shape(scope.rng, 128)
        inner.let(transfers.load(inner, shape, carried[0].dtype if scope.chance(0.5) else None))
    block(inner, depth)
    _update(inner, carried)
    inner.line("pass")
    if is_while:
        inner.line(f"{counter} = {counter} + 1")


def branch(scope: Scope, depth: int) -> None:
    carried = _carried(scope)
    scalars = [v for v in scope.pool if not v.shape and v.exact]
    value = scope.rng.choice(scalars) if scalars and scope.chance(0.7) else scope.scalar_of(i32)
    scope.line(f"if {value.text} {scope.rng.choice(['>', '<=', '=='])} {scope.literal(value.dtype).text}:")
    inner = scope.inner()
    block(inner, depth)
    _update(inner, carried)
    inner.line("pass")
    if scope.chance(0.6):
        scope.line("else:")
        inner = scope.inner()
        block(inner, depth)
        _update(inner, carried)
        inner.line("pass")


def outputs(scope: Scope, count: int, grid: list[Piece] | None = None, dims: tuple[int | str, ...] = ()) -> None:
    """Writes values that nothing else has used, so that little of the program is dead; and one that something has."""
    lengths = tuple(p.length for p in grid or () if p.length is not None)
    candidates = [v for v in scope.pool if v.shape[: len(lengths)] == lengths and v.text[0] in "tcrpq"]
    text = "\n".join(scope.program.lines)
    counts = Counter(re.findall(r"\w+", text))
    unused = [v for v in candidates if counts[v.text] == 1]
    chosen = scope.rng.sample(unused, min(count, len(unused)))
    if len(chosen) < count and candidates:
        chosen.append(scope.rng.choice(candidates))
    for value in dict.fromkeys(chosen):
        transfers.store(scope, value, grid, dims)
    if scope.chance(0.25):
        tiles = scope.tiles()
        if tiles:
            transfers.scatter(scope, scope.rng.choice(tiles))


def flat(program: Program) -> None:
    scope = Scope(program)
    shape = tile_shape(program.rng)
    inputs(scope, shape, scope.rng.randint(2, 3))
    compute(scope, scope.rng.randint(3, 7))
    if scope.chance(0.55):
        control(scope, 1)
        compute(scope, 2)
    if scope.chance(0.3):
        transfers.chain(scope, tile_shape(program.rng, 256))
    outputs(scope, 5)


def grid(program: Program) -> None:
    """A parallel loop of 1 to 4 axes, each iteration with its own block of the outputs."""
    rng = program.rng
    scope = Scope(program)
    if rng.random() < 0.2:
        scope.let(transfers.load(scope, tile_shape(rng, 128)))  # read outside, used in every iteration
    axes = rng.choice([1, 1, 1, 2, 2, 3, 4])
    pieces, dims, ranges, names = [], [], [], []
    for axis in range(axes):
        length = rng.choice([1, 2, 3, 5, 8, 16, 17, 33]) if axis > 1 or axes < 3 else rng.choice([1, 2, 3])
        name, symbol = program.fresh("i"), program.symbol(max(1, length * rng.randint(1, 2) + rng.choice([-1, 0, 1])))
        names.append(name)
        dims.append(symbol)
        if length == 1 and rng.random() < 0.6:
            pieces.append(Piece(name, 0, None))
            ranges.append(f"range(0, {symbol})")
        else:
            pieces.append(Piece(f"{name}:{name} + {length}", 0, length))
            ranges.append(f"range(0, {symbol}, {length})")
    size_source = program.tensor(i8, tuple(dims), "in", "small")
    for axis, symbol in enumerate(dims):
        scope.line(f"{symbol} = {size_source.name}.shape[{axis}]")
    scope.line(f"for {', '.join(names)} in od.parallel({', '.join(ranges)}):")
    inner = scope.inner()
    inner.grid = pieces, tuple(dims)
    inner.indices += names
    shape = tuple(p.length for p in pieces if p.length is not None)
    extra = tile_shape(rng, 64) if rng.random() < 0.5 or not shape else ()
    shape = (*shape, *extra)[:4]
    inputs(inner, shape, rng.randint(1, 3))
    compute(inner, rng.randint(2, 6))
    if inner.chance(0.5):
        control(inner, 1)
        compute(inner, 1)
    if inner.chance(0.3):
        read_modify_write(inner, pieces, dims, shape)
    outputs(inner, 4, pieces, tuple(dims))
    inner.line("pass")


def read_modify_write(scope: Scope, pieces: list[Piece], dims: list[str], shape: Shape) -> None:
    dtype = scope.rng.choice([d for d in USUAL if not d.is_bool])
    grid_lengths = tuple(p.length for p in pieces if p.length is not None)
    rest = [Piece(f"0:{n}", n, n) for n in shape[len(grid_lengths) :]]
    tensor = scope.program.tensor(dtype, (*dims, *(p.dim for p in rest)), "inout", "small")
    tensor.compare = "zero" if dtype.is_float else "exact"
    index = ", ".join(p.text for p in [*pieces, *rest])
    value = scope.let(Val(f"od.copy_in({tensor.name}[{index}])", dtype, shape, 4.0))
    if not shape:
        scope.line(f"od.copy_out({value.text} + 1, {tensor.name}[{index}])")
        return
    compute(scope, 2)
    scope.line(f"od.copy_out({_new_value(scope, value)}, {tensor.name}[{index}])")


def in_place(program: Program) -> None:
    """An input and an output that the call passes one array for."""
    rng = program.rng
    scope = Scope(program)
    dtype = rng.choice([d for d in USUAL if not d.is_bool])
    length, width = rng.choice([1, 3, 8, 17]), rng.choice([1, 5, 16, 33])
    dims = (program.symbol(length * 2 + 1), width)
    source = program.tensor(dtype, dims, "in", "small")
    target = program.tensor(dtype, dims, "out", "small")
    source.layout = target.layout
    target.compare = "zero" if dtype.is_float else "exact"
    program.same[source.name] = target.name
    if rng.random() < 0.5:
        _in_order(scope, source.name, target.name, dtype, (length, width))
    else:
        _each_its_own(scope, source.name, target.name, dims[0], dtype, (length, width))


def _each_its_own(scope: Scope, source: str, target: str, symbol: str, dtype: DType, shape: Shape) -> None:
    """A parallel loop, whose iterations write what they alone read."""
    length, width = shape
    scope.line(f"{symbol} = {target}.shape[0]")
    name = scope.program.fresh("i")
    scope.line(f"for {name} in od.parallel(range(0, {symbol}, {length})):")
    inner = scope.inner()
    inner.indices.append(name)
    index = f"{name}:{name} + {length}, 0:{width}"
    value = inner.let(Val(f"od.copy_in({source}[{index}])", dtype, shape, 4.0))
    compute(inner, scope.rng.randint(1, 3))
    for _ in range(scope.rng.randint(1, 2)):
        inner.line(f"od.copy_out({_new_value(inner, value)}, {target}[{index}])")


def _in_order(scope: Scope, source: str, target: str, dtype: DType, shape: Shape) -> None:
    """Reads by one name and writes by the other, of parts that overlap."""
    length, width = shape
    value = Val("", dtype, shape, None, dtype.is_float)
    for _ in range(scope.rng.randint(2, 4)):
        row = scope.rng.randint(0, 3)
        index = f"{row}:{row + length}, 0:{width}"
        if scope.chance(0.5):
            compute(scope, 1)
        if value.text and scope.chance(0.5):
            scope.line(f"od.copy_out({_new_value(scope, value)}, {target}[{index}])")
        else:
            value = scope.let(replace(value, text=f"od.copy_in({scope.rng.choice([source, target])}[{index}])"))
    scope.line(f"od.copy_out({_new_value(scope, value)}, {target}[0:{length}, 0:{width}])")


def generate(seed: int) -> str:
    """The text of the program of a seed."""
    rng = random.Random(seed)
    program = Program(seed, rng)
    for _ in range(rng.randint(1, 2)):
        rng.choices([flat, grid, in_place, products.matmul_grid], [5, 5, 2, 1])[0](program)
    return program.text()

"""Products in grids and loops: the shapes, layouts and extras that real matrix kernels have."""

from __future__ import annotations

from opdsl.ir.types import DType, f32, f64, i32

from . import transfers
from .program import Program
from .scope import Scope
from .transfers import Piece
from .values import Shape, Val, dtype_named, od, tuple_text

DOT_DTYPES = ("f32", "f32", "f64", "f16", "bf16", "f8e4m3", "f8e5m2", "i8", "i8", "u8", "i16", "i32")


def total_dtype(dtype: DType) -> DType:
    return i32 if dtype.is_integer else f64 if dtype == f64 else f32


def matmul_loop(scope: Scope) -> None:
    """A product that adds up in a loop, of parts that may lie anywhere."""
    rng = scope.rng
    dtype = dtype_named(rng.choice(DOT_DTYPES))
    total = total_dtype(dtype)
    m, n = rng.choice([1, 2, 5, 8, 16, 17, 33]), rng.choice([1, 3, 8, 16, 17, 32, 40])
    k = rng.choice([1, 2, 4, 8, 13, 16])
    trips = rng.randint(1, 3)
    batch = (rng.choice([2, 3]),) if scope.chance(0.15) else ()
    transposed_a, transposed_b = scope.chance(0.3) and not batch, scope.chance(0.3) and not batch
    name, counter = scope.program.fresh("c"), scope.program.fresh("k")
    shape = (*batch, m, n)
    scope.line(f"{name} = od.zeros({tuple_text(shape)}, {od(total)})")
    bounds = f"range(0, {trips * k}, {k})"
    scope.line(f"for {counter} in {f'od.pipelined({bounds}, depth=2)' if scope.chance(0.5) else bounds}:")
    inner = scope.inner()
    inner.indices.append(counter)
    left = inner.let(_operand(inner, dtype, batch, m, k, transposed_a, counter, True))
    right = inner.let(_operand(inner, dtype, batch, k, n, transposed_b, counter, False))
    a_text = f"{left.text}.T" if transposed_a else left.text
    b_text = f"{right.text}.T" if transposed_b else right.text
    if scope.chance(0.15) and dtype.is_float:
        a_text, b_text = f"-({a_text})", f"od.maximum({b_text}, -2)"
    product = f"od.dot({a_text}, {b_text})"
    forms = [*[f"{name} += {product}"] * 3, f"{name} = {name} * 2 + {product}", f"{name} = {product} - {name}"]
    inner.line(rng.choice(forms))
    whole = 2.0**trips * trips * k * 16 if total.is_float else None
    scope.pool.append(Val(name, total, shape, whole, total.is_float))


def _operand(
    scope: Scope, dtype: DType, batch: Shape, rows: int, columns: int, transposed: bool, counter: str, left: bool
) -> Val:
    shape = (*batch, columns, rows) if transposed else (*batch, rows, columns)
    inner_axis = len(shape) - 1 if left != transposed else len(shape) - 2
    pieces = []
    for axis, extent in enumerate(shape):
        if axis == inner_axis:
            size = extent * scope.rng.randint(1, 3) + scope.rng.choice([-1, 0, 0, 1])
            pieces.append(Piece(f"{counter}:{counter} + {extent}", max(1, size), extent))
        else:
            pieces.append(transfers.slice_piece(scope, extent))
    tensor = transfers.input_for(scope, dtype, pieces, "small")
    pad = ", pad=1" if scope.chance(0.1) else ""
    text = f"od.copy_in({tensor.name}[{', '.join(p.text for p in pieces)}]{pad})"
    return Val(text, dtype, shape, 4.0)


def matmul_grid(program: Program) -> None:
    """The usual matrix product: blocks of the result in a grid, so that copies of operands are shared."""
    rng = program.rng
    scope = Scope(program)
    dtype = dtype_named(rng.choice(DOT_DTYPES))
    total = total_dtype(dtype)
    m, n, k = (
        rng.choice(sizes) for sizes in ([1, 3, 8, 16, 17, 32, 50], [1, 8, 16, 17, 32, 48, 70], [1, 4, 8, 16, 19, 32])
    )
    rows = program.symbol(max(1, m * rng.randint(1, 3) + rng.choice([-1, 0, 1])))
    columns = program.symbol(max(1, n * rng.randint(1, 2) + rng.choice([-1, 0, 1])))
    depth = program.symbol(max(1, k * rng.randint(1, 3) + rng.choice([-1, 0, 1])))
    batch = [program.symbol(rng.randint(1, 3))] if rng.random() < 0.3 else []
    of_a, of_b = bool(batch) and rng.random() < 0.8, bool(batch) and rng.random() < 0.5
    flip_a, flip_b, flip_c = (rng.random() < 0.3 for _ in range(3))
    axes = {rows: ("i", m), columns: ("j", n), depth: ("k", k)}

    def tensor(role: str, element: DType, first: str, second: str, batched: bool, flipped: bool) -> tuple[str, str]:
        """The name of a tensor of two of the axes, and the text of the block."""
        pair = (second, first) if flipped else (first, second)
        made = program.tensor(element, (*(batch if batched else ()), *pair), role, "small")
        made.compare = "zero" if element.is_float else "exact"
        parts = ["b"] * batched + [f"{axes[d][0]}:{axes[d][0]} + {axes[d][1]}" for d in pair]
        return made.name, f"{made.name}[{', '.join(parts)}]"

    _, a = tensor("in", dtype, rows, depth, of_a, flip_a)
    _, b = tensor("in", dtype, depth, columns, of_b, flip_b)
    result = rng.choice([total, total, dtype])
    c_name, c = tensor("out", result, rows, columns, bool(batch), flip_c)
    bias = program.tensor(total, (columns,), "in", "small").name
    ranges = {rows: f"range(0, {rows}, {m})", columns: f"range(0, {columns}, {n})"}
    grid = [*batch, *rng.sample([rows, columns], 2)]
    names = [axes[d][0] if d in axes else "b" for d in grid]
    offset = 1 if batch else 0
    scope.line(f"{rows}, {columns} = {c_name}.shape[{offset + flip_c}], {c_name}.shape[{offset + 1 - flip_c}]")
    if batch:
        scope.line(f"{batch[0]} = {c_name}.shape[0]")
    a_axis = (1 if of_a else 0) + (0 if flip_a else 1)
    scope.line(f"{depth} = {a.split('[')[0]}.shape[{a_axis}]")
    scope.line(f"for {', '.join(names)} in od.parallel({', '.join(ranges.get(d, f'range({d})') for d in grid)}):")
    inner = scope.inner()
    inner.line(f"acc = od.zeros(({m}, {n}), {od(total)})")
    inner.line(f"for k in od.pipelined(range(0, {depth}, {k}), depth=2):")
    body = inner.inner()
    body.line(f"at = od.copy_in({a}){'.T' if flip_a else ''}")
    body.line(f"bt = od.copy_in({b}){'.T' if flip_b else ''}")
    if total == f32 and dtype != f32 and rng.random() < 0.3:
        body.line("at, bt = od.cast(at, od.f32), od.cast(bt, od.f32)")
    body.line("acc += od.dot(at, bt)")
    if rng.random() < 0.3:
        body.line(f"acc = od.maximum(acc, {rng.choice([-3, 0])})" if total.is_float else "acc = acc ^ 1")
    if rng.random() < 0.5:
        inner.line(f"acc = acc + od.copy_in({bias}[j:j + {n}])")
    if rng.random() < 0.3:
        inner.line("acc = acc + od.sum(acc, axis=1, keepdims=True)" if total == i32 else "acc = acc * 0.5")
    inner.line(f"od.copy_out(od.cast(acc{'.T' if flip_c else ''}, {od(result)}), {c})")

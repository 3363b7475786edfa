"""Ops that move elements: slices, reshapes, transposes, concatenations."""

from __future__ import annotations

import math
from dataclasses import replace

from .elementwise import joined
from .scope import Scope
from .values import Shape, Val, broadcast, tuple_text


def _moved(value: Val, text: str, shape: Shape) -> Val:
    return replace(value, text=text, shape=shape)


def subscript(scope: Scope) -> Val | None:
    """A slice of a tile: points, steps, negative steps, new dims."""
    a = scope.any_tile()
    if a is None:
        return None
    items, shape = [], []
    for n in a.shape:
        choice = scope.rng.random()
        if choice < 0.3:
            items.append(":")
            shape.append(n)
        elif choice < 0.45:
            items.append(str(scope.rng.randrange(-n, n)))
        elif choice < 0.6:
            items.append("::-1")
            shape.append(n)
        else:
            start = scope.rng.randrange(n)
            stop = scope.rng.randint(start + 1, n)
            step = scope.rng.choice([1, 1, 2, 3])
            items.append(f"{start}:{stop}" + (f":{step}" if step > 1 else ""))
            shape.append(len(range(start, stop, step)))
        if scope.chance(0.1) and len(shape) < 4:
            items.append("None")
            shape.append(1)
    if not shape:
        items[0], shape = ":", [a.shape[0]]
    return _moved(a, f"{a.text}[{', '.join(items)}]", tuple(shape))


def expand(scope: Scope) -> Val | None:
    """A dim of 1 put in, or broadcast."""
    a = scope.any_tile(lambda v: len(v.shape) <= 3)
    if a is None:
        return None
    axis = scope.rng.randint(0, len(a.shape))
    shape = (*a.shape[:axis], 1, *a.shape[axis:])
    if scope.chance(0.4):
        wide = (*a.shape[:axis], scope.rng.choice([2, 3, 5]), *a.shape[axis:])
        if math.prod(wide) <= 2048:
            return _moved(a, f"od.broadcast_to(od.expand_dims({a.text}, {axis}), {tuple_text(wide)})", wide)
    return _moved(a, f"od.expand_dims({a.text}, {axis})", shape)


def _factors(scope: Scope, count: int) -> Shape:
    """A shape of `count` elements."""
    dims = []
    for _ in range(scope.rng.randint(0, 2)):
        divisors = [d for d in range(1, count + 1) if count % d == 0]
        dims.append(scope.rng.choice(divisors))
        count //= dims[-1]
    dims.append(count)
    scope.rng.shuffle(dims)
    return tuple(dims)


def reshape(scope: Scope) -> Val | None:
    a = scope.any_tile()
    if a is None:
        return None
    shape = _factors(scope, a.size)
    return _moved(a, f"od.reshape({a.text}, {tuple_text(shape)})", shape)


def transpose(scope: Scope) -> Val | None:
    a = scope.any_tile(lambda v: len(v.shape) >= 2)
    if a is None:
        return None
    order = list(range(len(a.shape)))
    scope.rng.shuffle(order)
    shape = tuple(a.shape[i] for i in order)
    return _moved(a, f"od.transpose({a.text}, {tuple_text(tuple(order))})", shape)


def concat(scope: Scope) -> Val | None:
    a = scope.any_tile(lambda v: v.size <= 1024)
    if a is None:
        return None
    axis = scope.rng.randrange(len(a.shape))
    rank, others = len(a.shape), a.shape[:axis] + a.shape[axis + 1 :]

    def fits(v: Val) -> bool:
        return len(v.shape) == rank and v.shape[:axis] + v.shape[axis + 1 :] == others

    b: Val = scope.any_tile(fits) or a
    if joined(a, b) is None:
        b = scope.cast(b, a.dtype)
    dtype = joined(a, b)
    assert dtype is not None
    a, b = scope.cast(a, dtype), scope.cast(b, dtype)
    shape = tuple(n + b.shape[i] if i == axis else n for i, n in enumerate(a.shape))
    whole = None if a.whole is None or b.whole is None else max(a.whole, b.whole)
    if a.shape == b.shape and scope.chance(0.3) and len(a.shape) < 4:
        shape = (*a.shape[:axis], 2, *a.shape[axis:])
        return Val(f"od.stack(({a.text}, {b.text}), {axis})", dtype, shape, whole, a.zero_open or b.zero_open)
    return Val(f"od.concat(({a.text}, {b.text}), {axis})", dtype, shape, whole, a.zero_open or b.zero_open)


def flip(scope: Scope) -> Val | None:
    a = scope.any_tile()
    return None if a is None else _moved(a, f"od.flip({a.text}, {scope.rng.randrange(len(a.shape))})", a.shape)


def fill(scope: Scope) -> Val | None:
    """A tile full of a run-time scalar."""
    a = scope.any_tile()
    if a is None:
        return None
    scalars = [v for v in scope.pool if not v.shape and v.exact]
    value = scope.rng.choice(scalars) if scalars and scope.chance(0.6) else scope.scalar_of(a.dtype)
    return _moved(value, f"od.full({tuple_text(a.shape)}, {value.text})", a.shape)


def as_shape(scope: Scope, value: Val, shape: Shape) -> Val | None:
    """The value broadcast to the shape, if it can be."""
    if value.shape == shape:
        return value
    if broadcast(value.shape, shape) != shape:
        return None
    return _moved(value, f"od.broadcast_to({value.text}, {tuple_text(shape)})", shape)

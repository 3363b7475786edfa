"""Attributes and methods of run-time values: `t.shape`, `t.T`, `t.sum(axis=1)`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from opdsl.lang import builtins_math, builtins_reduce, builtins_shape, context
from opdsl.lang.foreign_names import ATTRIBUTES
from opdsl.lang.values import Place, Runtime, Scalar, TensorView, Tile, describe
from opdsl.support.errors import Misuse, suggestion

METHODS: dict[str, Callable[..., Any]] = {
    "astype": builtins_math.cast,
    "cast": builtins_math.cast,
    "clamp": builtins_math.clamp,
    "reshape": builtins_shape.reshape,
    "transpose": builtins_shape.transpose,
    "broadcast_to": builtins_shape.broadcast_to,
    "expand_dims": builtins_shape.expand_dims,
    "squeeze": builtins_shape.squeeze,
    "split": builtins_shape.split,
    "sum": builtins_reduce.sum_,
    "prod": builtins_reduce.prod,
    "max": builtins_reduce.max_,
    "min": builtins_reduce.min_,
    "any": builtins_reduce.any_,
    "all": builtins_reduce.all_,
    "mean": builtins_reduce.mean,
    "argmax": builtins_reduce.argmax,
    "argmin": builtins_reduce.argmin,
    "cumsum": builtins_reduce.cumsum,
    "cumprod": builtins_reduce.cumprod,
    "sort": builtins_reduce.sort,
    "argsort": builtins_reduce.argsort,
    "dot": builtins_reduce.dot,
}


@dataclass(frozen=True, eq=False)
class Method:
    """`tile.sum`, before it is called."""

    function: Callable[..., Any]
    owner: Runtime
    __name__: str = "method"


def runtime_attribute(value: Runtime, name: str) -> object:
    if isinstance(value, Scalar | Tile):
        if name == "shape":
            return value.shape
        if name == "dtype":
            return value.dtype
        if name == "ndim":
            return len(value.shape)
        if name == "size":
            return math.prod(value.shape)
        if name == "T":
            return builtins_shape.transpose(value)
        if name in METHODS:
            return Method(METHODS[name], value, name)
        known = ["shape", "dtype", "ndim", "size", "T", *METHODS]
    elif isinstance(value, TensorView):
        if name in ("shape", "dtype", "name"):
            return getattr(value, name)
        if name == "ndim":
            return len(value.shape)
        if name in ("T", "size") or name in METHODS:
            raise Misuse(
                f"{describe(value)} has no {name!r}; a tensor has shape, dtype and ndim",
                f"copy a part of it into a tile first: od.copy_in({value.name}[...]).{name}",
            )
        known = ["shape", "dtype", "ndim"]
    elif isinstance(value, Place):
        raise Misuse(
            f"{describe(value)} has no {name!r}",
            f"copy it into a tile first: od.copy_in({value.tensor.name}[...]).{name}",
        )
    else:
        known = []
    hint = (ATTRIBUTES.get(name, "") if known else "") or suggestion(name, known) or (
        f"it is a function: od.{name}(...)" if known and _is_builtin(name) else "check what stands before the dot"
    )
    raise Misuse(f"{describe(value)} has no attribute {name!r}", hint)


def find_builtin(name: str) -> object:
    """The built-in of the language of that name, or None."""
    modules = (builtins_math, builtins_reduce, builtins_shape)
    found = (vars(module).get(word) for module in modules for word in (name, f"{name}_"))
    return next((value for value in found if context.builtin_name(value) is not None), None)


def _is_builtin(name: str) -> bool:
    return find_builtin(name) is not None

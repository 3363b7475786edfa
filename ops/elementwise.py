"""Running an elementwise function on arrays of any shapes and strides: broadcasting, and dims that are merged.

Dims that lie together in all operands become one. What is left is mostly one run of elements, or rows of them; the plan
of a call is remembered by its shapes and strides.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from opdsl.ops import forms, tiling
from opdsl.ops.arguments import Array, empty, shape_error
from opdsl.ops.launching import FastCall, run

_NO_COPY: dict[str, Any] = {"copy": False} if np.lib.NumpyVersion(np.__version__) >= "2.1.0" else {}


@dataclass(frozen=True)
class Plan:
    """How a call is seen: the order of the axes, the merged dims, and along which of the last two each operand varies."""

    order: tuple[int, ...]
    dims: tuple[int, ...]
    loops: tuple[int, ...]  # sizes of leading dims that Python loops over
    full: tuple[tuple[bool, ...], ...]
    flips: bool  # rows and columns change places between operands
    reorders: bool


def broadcast_shape(operator: str, names: Sequence[str], operands: Sequence[Array]) -> tuple[int, ...]:
    """The shape of the result, by NumPy's rule."""
    shape = operands[0].shape
    if all(operand.shape == shape for operand in operands):
        return shape
    try:
        return np.broadcast_shapes(*(operand.shape for operand in operands))
    except ValueError:
        shown = ", ".join(f"{name} {operand.shape}" for name, operand in zip(names, operands, strict=False))
        raise shape_error(
            operator, f"the shapes do not broadcast: {shown}", "sizes must be equal or 1, compared from the last axis"
        ) from None


def output_like(shape: tuple[int, ...], dtype: np.dtype[Any], operands: Sequence[Array]) -> Array:
    """A fresh output, its axes in the order in which the first operand of full shape has them."""
    for operand in operands:
        if operand.shape == shape:
            if operand.flags.c_contiguous or operand.ndim < 2:
                break
            order = sorted(range(len(shape)), key=lambda axis: -abs(operand.strides[axis]))
            if order == list(range(len(shape))):
                break
            memory = empty(tuple(shape[axis] for axis in order), dtype)
            return memory.transpose(np.argsort(order))
    return empty(shape, dtype)


def make_plan(shape: tuple[int, ...], strides: Sequence[tuple[int, ...]], target: tuple[int, ...]) -> Plan:
    """`strides` of the operands in bytes, 0 where they broadcast; `target` of the output."""
    axes = [axis for axis in range(len(shape)) if shape[axis] != 1]
    axes.sort(key=lambda axis: (-abs(target[axis]), axis))
    everyone = [*strides, target]
    groups: list[list[int]] = []
    for axis in axes:
        if groups and all(s[groups[-1][-1]] == s[axis] * shape[axis] for s in everyone):
            groups[-1].append(axis)
        else:
            groups.append([axis])
    dims = [int(np.prod([shape[axis] for axis in group])) for group in groups] or [1]
    steps = [tuple(s[group[-1]] for group in groups) or (1,) for s in strides]
    loops: tuple[int, ...] = ()
    if len(dims) > 4:
        loops = tuple(dims[:-4])
    elif len(dims) == 3:
        dims = [1, *dims]
        steps = [(0, *s) for s in steps]
    last = 1 if len(dims) == 1 else 2
    full = tuple(tuple(step != 0 for step in s[-last:]) for s in steps)
    unit = [
        min(range(last), key=lambda d, s=s: (s[-last:][d] == 0, abs(s[-last:][d]))) for s in steps if any(s[-last:])
    ]
    flips = last == 2 and any(
        u == 0 and f == (True, True) for u, f in zip(unit, [f for f in full if any(f)], strict=False)
    )
    order = (*(axis for axis in range(len(shape)) if shape[axis] == 1), *axes)
    return Plan(order, tuple(dims), loops, full, flips, order != tuple(range(len(shape))))


def plan_of(operands: Sequence[Array], out: Array) -> Plan:
    """The plan of a call that is not empty."""
    aligned = []
    for operand in operands:
        steps = tuple(0 if n == 1 else s for n, s in zip(operand.shape, operand.strides, strict=True))
        aligned.append((0,) * (out.ndim - operand.ndim) + steps)
    return make_plan(out.shape, aligned, out.strides)


def merged(array: Array, shape: tuple[int, ...], plan: Plan) -> Array:
    """The array as the plan sees it."""
    if array.shape != shape:
        array = np.broadcast_to(array, shape)
    if array.shape == plan.dims:
        return array
    if plan.reorders:
        array = array.transpose(plan.order)
    return array.reshape(plan.dims, **_NO_COPY)


def fast_call(function: Any, plan: Plan, aligned: bool = True) -> FastCall:
    """The kernel of a plan, with its constexprs. `aligned`: the output begins with a line of the caches."""
    key = (function, plan.full, plan.flips, aligned, len(plan.dims), plan.dims[-1] if len(plan.dims) > 1 else 0)
    call = _calls.get(key)
    if call is None:
        count = len(plan.full)
        if len(plan.dims) == 1:
            call = FastCall(forms.FLAT[count], function=function, full=plan.full, BLOCK=tiling.FLAT)
        else:
            turned = tiling.TRANSPOSED if aligned else tiling.TRANSPOSED_UNALIGNED
            rows, columns = turned if plan.flips else tiling.grid(plan.dims[-1])
            tile: dict[str, Any] = {"BM": rows, "BN": columns}
            if len(plan.dims) == 2:
                call = FastCall(forms.GRID[count], function=function, full=plan.full, turned=plan.flips, **tile)
            else:
                call = FastCall(forms.BLOCKS[count], function=function, full=plan.full, **tile)
        _calls[key] = call
    return call


_calls: dict[tuple[Any, ...], FastCall] = {}


def apply(function: Any, plan: Plan, operands: Sequence[Array], out: Array, target: str | None) -> None:
    """out = function(*operands), which broadcast to its shape."""
    views = [merged(operand, out.shape, plan) for operand in operands]
    target_view = merged(out, out.shape, plan)
    call = fast_call(function, plan, not plan.flips or out.ctypes.data % tiling.LINE == 0)
    for place in itertools.product(*map(range, plan.loops)):
        run(call.kernel, (*(v[place] for v in views), target_view[place]), target, **call.constexprs)
    if target is None:
        call.learn()

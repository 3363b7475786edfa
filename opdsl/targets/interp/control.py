"""Control flow, custom combine functions, and the ops that talk to the user."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence

import numpy as np

from opdsl.ir.core import Op, Region, walk
from opdsl.ir.ops import OPS, print_parts
from opdsl.ir.semantics.values import NUMPY_DTYPES, Array
from opdsl.support.run_errors import InterpreterError, KernelAssertionError
from opdsl.targets.interp import reductions
from opdsl.targets.interp.machine import HANDLERS, Arrays, Machine


def _range(machine: Machine, op: Op, bounds: Arrays) -> range:
    start, stop, step = (int(bound) for bound in bounds)
    if step == 0:  # no iteration, as on all targets
        if machine.strict is not None:
            raise InterpreterError("the range's step is zero", op.location, machine.kernel.source)
        return range(0)
    return range(start, stop, step)


def _index(value: int) -> Array:
    return np.array(value, np.int64)


def _parallel(machine: Machine, op: Op, operands: Arrays) -> Sequence[Array]:
    (body,) = op.regions
    ranges = [_range(machine, op, operands[i : i + 3]) for i in range(0, len(operands), 3)]
    strict = machine.strict
    if strict is not None:
        strict.enter_parallel()
    for number, variables in enumerate(itertools.product(*ranges)):
        if strict is not None:
            strict.begin_iteration(number, variables)
        machine.call(body, [_index(v) for v in variables])
    if strict is not None:
        strict.leave_parallel()
    return ()


def _for(machine: Machine, op: Op, operands: Arrays) -> Sequence[Array]:
    (body,) = op.regions
    carried = operands[3:]
    for variable in _range(machine, op, operands[:3]):
        carried = machine.call(body, [_index(variable), *carried])
    return carried


def _while(machine: Machine, op: Op, operands: Arrays) -> Sequence[Array]:
    condition, body = op.regions
    while bool(machine.call(condition, operands)[0]):
        operands = machine.call(body, operands)
    return operands


def _if(machine: Machine, op: Op, operands: Arrays) -> Sequence[Array]:
    (condition,) = operands
    then, otherwise = op.regions
    if condition.ndim == 0:
        return machine.execute(then if condition else otherwise)
    # Inside a combine function that runs on whole arrays: both branches are pure, so take each element's choice.
    chosen, other = machine.execute(then), machine.execute(otherwise)
    return [np.where(condition, a, b) for a, b in zip(chosen, other, strict=True)]


def _runs_on_arrays(region: Region) -> bool:
    ops = walk(region)
    return all(OPS[op.name].category == "elementwise" or op.name in ("constant", "dim", "if", "yield") for op in ops)


def _combine(machine: Machine, op: Op) -> reductions.Combine:
    (region,) = op.regions
    dtypes = [NUMPY_DTYPES[v.type.dtype] for v in region.terminator.operands]
    if _runs_on_arrays(region):

        def on_arrays(operands: Arrays) -> Arrays:
            shape = operands[0].shape
            return [np.broadcast_to(y, shape) for y in machine.call(region, operands)]

        return on_arrays

    def on_elements(operands: Arrays) -> Arrays:
        shape = operands[0].shape
        results = [np.empty(shape, dtype) for dtype in dtypes]
        for place in np.ndindex(*shape):
            for result, y in zip(results, machine.call(region, [np.asarray(a[place]) for a in operands]), strict=True):
                result[place] = y
        return results

    return on_elements


def _reduce_custom(machine: Machine, op: Op, operands: Arrays) -> Sequence[Array]:
    return reductions.reduce_custom(op, operands, _combine(machine, op))


def _scan_custom(machine: Machine, op: Op, operands: Arrays) -> Sequence[Array]:
    return reductions.scan_custom(op, operands, _combine(machine, op))


def _print(machine: Machine, op: Op, operands: Arrays) -> Sequence[Array]:
    parts = print_parts(op.attributes["text"])
    shown = [str(value[()]) for value in operands]
    shown += [""] * (len(parts) - len(shown))
    print("".join(text + value for text, value in zip(parts, shown, strict=False)))
    return ()


def _assert(machine: Machine, op: Op, operands: Arrays) -> Sequence[Array]:
    (condition,) = operands
    if not condition.all():
        message = f"assertion failed: {op.attributes['message']}"
        if condition.ndim:
            first = [int(i) for i in np.unravel_index(int(np.argmin(condition)), condition.shape)]
            message += f" (first at element {first} of the tile)"
        raise KernelAssertionError(message, op.location, machine.kernel.source)
    return ()


def _breakpoint(machine: Machine, op: Op, operands: Arrays) -> Sequence[Array]:
    tiles = dict(zip(op.attributes["variables"], (value.copy() for value in operands), strict=True))
    stop(f"{op.location} in kernel {machine.kernel.name}", tiles)
    return ()


def stop(where: str, tiles: dict[str, Array]) -> None:
    """Stops in the debugger that `breakpoint()` names, with the kernel's variables as locals."""
    print(f"breakpoint at {where}; variables: {', '.join(tiles) or 'none'}", file=sys.stderr)
    # The hook stops in its caller's frame, so that frame's locals are made to be the kernel's variables.
    exec("__import__('sys').breakpointhook()", {"__name__": "opdsl.kernel", "np": np}, tiles)  # noqa: S102


HANDLERS.update(
    {
        "parallel": _parallel,
        "for": _for,
        "while": _while,
        "if": _if,
        "reduce_custom": _reduce_custom,
        "scan_custom": _scan_custom,
        "print": _print,
        "assert": _assert,
        "breakpoint": _breakpoint,
    }
)

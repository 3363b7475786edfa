"""Runs regions op by op. `HANDLERS` maps each op of the table to its function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from opdsl.ir.core import Kernel, Op, Region, Value
from opdsl.ir.ops import IrError
from opdsl.ir.semantics import elementwise
from opdsl.ir.semantics.values import Array, scalar
from opdsl.ir.types import TensorType
from opdsl.targets.interp import memory, random, reductions, shapes
from opdsl.targets.interp.strict import StrictChecks

Arrays = list[Array]
Handler = Callable[["Machine", Op, Arrays], Sequence[Array]]

HANDLERS: dict[str, Handler] = {}


class Machine:
    """One run of a kernel: the values computed so far, the sizes of symbolic dims."""

    def __init__(self, kernel: Kernel, strict: bool) -> None:
        self.kernel = kernel
        self.strict = StrictChecks(kernel) if strict else None
        self.values: dict[Value, Array] = {}
        self.sizes: dict[str, int] = {}

    def run(self, arguments: Sequence[Any]) -> None:
        for parameter, argument in zip(self.kernel.parameters, arguments, strict=True):
            if isinstance(parameter.type, TensorType):
                array = np.asarray(argument)
                for dim, size in zip(parameter.type.dims, array.shape, strict=True):
                    if isinstance(dim, str):
                        self.sizes[dim] = size
                self.values[parameter] = array
            else:
                with np.errstate(over="ignore"):  # an f16 that is too large is infinite
                    self.values[parameter] = scalar(argument, parameter.type.dtype)
        # NumPy warns of what is defined here: overflow, division by zero, casts out of range.
        with np.errstate(all="ignore"):
            self.execute(self.kernel.body)

    def execute(self, region: Region) -> Arrays:
        """Runs a region whose arguments are bound already; gives what it yields."""
        values = self.values
        for op in region.ops:
            operands = [values[operand] for operand in op.operands]
            if op.name == "yield":
                return operands
            handler = HANDLERS.get(op.name)
            if handler is None:
                raise IrError(f"{op.location}: the interpreter does not know the op '{op.name}'")
            for value, result in zip(op.results, handler(self, op, operands), strict=True):
                values[value] = result
        raise IrError("a region does not end with a yield")

    def call(self, region: Region, arguments: Sequence[Array]) -> Arrays:
        self.values.update(zip(region.arguments, arguments, strict=True))
        return self.execute(region)


def _simple(function: Callable[[Op, Arrays], Array]) -> Handler:
    def handler(machine: Machine, op: Op, operands: Arrays) -> Sequence[Array]:
        return (function(op, operands),)

    return handler


for _name in elementwise.ROUNDED:
    HANDLERS[_name] = _simple(elementwise.rounded)
for _name in elementwise.TRANSCENDENTAL:
    HANDLERS[_name] = _simple(elementwise.transcendental)
for _name, _function in {
    "ipow": elementwise.integer_power,
    "fma": elementwise.fused_multiply_add,
    "select": elementwise.select,
    "cast": elementwise.cast,
    "constant": elementwise.constant,
    "arange": elementwise.arange,
    "random_bits": random.random_bits,
    "broadcast": shapes.broadcast,
    "reshape": shapes.reshape,
    "transpose": shapes.transpose,
    "concat": shapes.concat,
    "extract": shapes.extract,
    "dot": reductions.dot,
    "reduce": reductions.reduce,
    "arg_reduce": reductions.arg_reduce,
    "scan": reductions.scan,
}.items():
    HANDLERS[_name] = _simple(_function)


def _dim(machine: Machine, op: Op, operands: Arrays) -> Sequence[Array]:
    return (np.array(machine.sizes[op.attributes["symbol"]], np.int64),)


def _sort(machine: Machine, op: Op, operands: Arrays) -> Sequence[Array]:
    return reductions.sort(op, operands)


def _copy_in(machine: Machine, op: Op, operands: Arrays) -> Sequence[Array]:
    tensor, *places, pad = operands
    touched = memory.resolve(tensor.shape, op.attributes["index"], places)
    if machine.strict is not None:
        machine.strict.access(op, tensor, places, touched)
    return (memory.load(tensor, touched, pad),)


def _copy_out(machine: Machine, op: Op, operands: Arrays) -> Sequence[Array]:
    value, tensor, *places = operands
    touched = memory.resolve(tensor.shape, op.attributes["index"], places)
    if machine.strict is not None:
        machine.strict.access(op, tensor, places, touched)
    memory.store(tensor, touched, value, op.attributes["mode"])
    return ()


def _compose(machine: Machine, op: Op, operands: Arrays) -> Sequence[Array]:
    return machine.call(op.regions[0], operands)


HANDLERS.update(compose=_compose, dim=_dim, sort=_sort, copy_in=_copy_in, copy_out=_copy_out)

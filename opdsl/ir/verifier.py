"""Checks a whole kernel: every op against the table, and that values are used only where they are visible."""

from __future__ import annotations

from opdsl.ir.core import Kernel, Op, Region, Value
from opdsl.ir.ops import OPS, IrError, infer
from opdsl.ir.types import TensorType, TileType, Type

# Ops whose regions compute one element from others: they see no memory and have no effects.
_COMBINERS = ("reduce_custom", "scan_custom", "compose")


def verify(kernel: Kernel) -> None:
    """Raises IrError, with the place in the user's source, where the kernel breaks a rule of the IR."""
    if len(kernel.parameter_names) != len(kernel.parameters):
        raise IrError(f"kernel {kernel.name}: {len(kernel.parameters)} parameters, {len(kernel.parameter_names)} names")
    for parameter in kernel.parameters:
        if isinstance(parameter.type, TileType):
            raise IrError(f"kernel {kernel.name}: the parameter '{parameter.name}' is a tile")
    symbols = {
        d for p in kernel.parameters if isinstance(p.type, TensorType) for d in p.type.dims if isinstance(d, str)
    }
    _Verifier(symbols).region(kernel.body, None)


class _Verifier:
    def __init__(self, symbols: set[str]) -> None:
        self._symbols = symbols
        self._visible: set[Value] = set()
        self._defined: set[Value] = set()

    def region(self, region: Region, parent: Op | None) -> None:
        scope = list(region.arguments)
        for argument in region.arguments:
            self._define(argument, parent)
        if not region.ops:
            raise _error(parent, "a region has no ops")
        for op in region.ops[:-1]:
            if op.name in OPS and OPS[op.name].terminator:
                raise _error(op, "ends a region, but ops follow it")
            scope += self._op(op)
        last = region.terminator
        if last.name not in OPS or not OPS[last.name].terminator:
            raise _error(last, "a region must end with a yield")
        self._op(last)
        if parent is None and last.operands:
            raise _error(last, "a kernel yields nothing")
        self._visible.difference_update(scope)

    def _define(self, value: Value, op: Op | None) -> None:
        if value in self._defined:
            raise _error(op, f"the value '{value.name}' is defined twice")
        self._defined.add(value)
        self._visible.add(value)

    def _op(self, op: Op) -> tuple[Value, ...]:
        if op.name not in OPS:
            raise _error(op, "there is no such op")
        for position, operand in enumerate(op.operands):
            if operand not in self._visible:
                where = "not visible here" if operand in self._defined else "not defined"
                raise _error(op, f"operand {position} ('{operand.name}', {operand.type}) is {where}")
        for region in op.regions:
            self.region(region, op)
        self._against_table(op)
        for result in op.results:
            self._define(result, op)
        return op.results

    def _against_table(self, op: Op) -> None:
        try:
            expected = infer(op.name, [o.type for o in op.operands], op.attributes, op.regions)
        except IrError as error:
            raise _error(op, str(error).removeprefix(f"{op.name}: ")) from None
        except (TypeError, ValueError, KeyError, IndexError, AttributeError, AssertionError) as error:
            # The rules say what is wrong with well-formed ops; anything else they trip over is malformed.
            raise _error(op, f"malformed: {error}") from None
        found: tuple[Type, ...] = tuple(r.type for r in op.results)
        if found != tuple(expected):
            raise _error(op, f"results are {_list(found)}, the table says {_list(tuple(expected))}")
        if op.name == "dim" and op.attributes["symbol"] not in self._symbols:
            raise _error(op, f"no parameter has a dim '{op.attributes['symbol']}'")
        if op.name in _COMBINERS:
            self._check_combiner(op.regions[0])

    def _check_combiner(self, region: Region) -> None:
        for op in region.ops:
            effect = not OPS[op.name].pure and OPS[op.name].category != "control"
            if effect or op.name == "parallel" or OPS[op.name].category == "memory":
                raise _error(op, "a combine function or a composition has an effect or touches memory")
            for inner in op.regions:
                self._check_combiner(inner)


def _list(types: tuple[Type, ...]) -> str:
    return f"({', '.join(map(str, types))})"


def _error(op: Op | None, message: str) -> IrError:
    if op is None:
        return IrError(message)
    return IrError(f"{op.location}: {op.name}: {message}")

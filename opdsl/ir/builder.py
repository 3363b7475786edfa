"""Builds ops in order, into nested regions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

from opdsl.ir.core import IndexSpec, Op, Region, Value
from opdsl.ir.ops import infer
from opdsl.ir.types import DType, Type, shape_of
from opdsl.support.location import UNKNOWN, Location


class Builder:
    """Appends ops to the innermost open region; result types come from the op table."""

    def __init__(self) -> None:
        self._open: list[list[Op]] = [[]]
        self.location: Location = UNKNOWN

    @property
    def ops(self) -> tuple[Op, ...]:
        """The ops of the innermost open region so far."""
        return tuple(self._open[-1])

    def append(self, op: Op) -> None:
        self._open[-1].append(op)

    def op(
        self, name: str, *operands: Value, names: Sequence[str] = (), regions: Sequence[Region] = (), **attributes: Any
    ) -> tuple[Value, ...]:
        """Appends an op and gives its results."""
        types = infer(name, [o.type for o in operands], attributes, regions)
        hints = list(names) + [""] * (len(types) - len(names))
        results = tuple(Value(t, hint) for t, hint in zip(types, hints, strict=True))
        self.append(Op(name, operands, results, MappingProxyType(attributes), tuple(regions), self.location))
        return results

    def value(self, name: str, *operands: Value, **attributes: Any) -> Value:
        """Appends an op that has one result and gives it."""
        (result,) = self.op(name, *operands, **attributes)
        return result

    def begin(self, ops: Sequence[Op] = ()) -> None:
        """Opens a list of ops that `end` takes; `ops` are already in it."""
        self._open.append(list(ops))

    def end(self) -> tuple[Op, ...]:
        """Closes the innermost list of ops and gives them."""
        return tuple(self._open.pop())

    @contextmanager
    def region(self, arguments: Sequence[Value] = ()) -> Iterator[_Open]:
        """Opens a region; `with b.region(args) as r: ...; r.close(values)` gives `r.region`."""
        self._open.append([])
        frame = _Open(self, tuple(arguments))
        try:
            yield frame
        finally:
            self._open.pop()

    def constant(self, value: bool | int | float, dtype: DType) -> Value:
        return self.value("constant", value=value, dtype=dtype)

    def cast(self, value: Value, dtype: DType) -> Value:
        return value if value.type.dtype == dtype else self.value("cast", value, dtype=dtype)

    def broadcast(self, value: Value, shape: tuple[int, ...]) -> Value:
        return value if shape_of(value.type) == shape else self.value("broadcast", value, shape=shape)

    def copy_in(self, tensor: Value, index: tuple[IndexSpec, ...], operands: Sequence[Value], pad: Value) -> Value:
        return self.value("copy_in", tensor, *operands, pad, index=index)

    def copy_out(
        self, value: Value, tensor: Value, index: tuple[IndexSpec, ...], operands: Sequence[Value], mode: str = "set"
    ) -> None:
        self.op("copy_out", value, tensor, *operands, index=index, mode=mode)


class _Open:
    def __init__(self, builder: Builder, arguments: tuple[Value, ...]) -> None:
        self._builder = builder
        self.arguments = arguments
        self.region: Region

    def close(self, values: Sequence[Value] = ()) -> None:
        """Ends the region with a yield of `values`."""
        self._builder.op("yield", *values)
        self.region = Region(self.arguments, self._builder.ops)


def argument(type: Type, name: str = "") -> Value:
    """A block argument."""
    return Value(type, name)

"""Building and running whole kernels by hand, for tests that need more than one op."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from opdsl.ir.builder import Builder, argument
from opdsl.ir.core import Kernel, Region, Value
from opdsl.ir.types import ScalarType, Type, i64
from opdsl.ir.verifier import verify
from opdsl.support.location import Location, Source
from opdsl.targets.base import Request, find_target
from support.ops import unit_axis

FILE = "kernels/example.py"
TEXT = "".join(f"line {n}\n" for n in range(1, 40))


class HandKernel:
    """Collects parameters and ops; every op is on a line of its own in the pretended source."""

    def __init__(self, **parameters: Type) -> None:
        self.builder = Builder()
        self.parameters = {name: argument(type, name) for name, type in parameters.items()}

    def __getattr__(self, name: str) -> Value:
        try:
            return self.__dict__["parameters"][name]
        except KeyError:
            raise AttributeError(name) from None

    def at(self, line: int) -> Builder:
        self.builder.location = Location(FILE, line, 1, line, 5)
        return self.builder

    def index(self, value: int) -> Value:
        return self.builder.constant(value, i64)

    @contextmanager
    def parallel(self, *stops: int | Value) -> Iterator[list[Value]]:
        bounds = [b for stop in stops for b in (self.index(0), self._value(stop), self.index(1))]
        variables = [argument(ScalarType(i64), f"i{n}") for n in range(len(stops))]
        with self.builder.region(variables) as region:
            yield variables
            region.close()
        self.builder.op("parallel", *bounds, regions=[region.region])

    def _value(self, value: int | Value) -> Value:
        return self.index(value) if isinstance(value, int) else value

    def loop(
        self, stop: int | Value, carried: Sequence[Value], body: Callable[..., Sequence[Value]], **attributes: Any
    ) -> tuple[Value, ...]:
        variable = argument(ScalarType(i64), "k")
        inside = [argument(c.type, c.name) for c in carried]
        with self.builder.region([variable, *inside]) as region:
            region.close(body(variable, *inside))
        attributes = {"kind": "sequential", "depth": 1, **attributes}
        bounds = (self.index(0), self._value(stop), self.index(1))
        return self.builder.op("for", *bounds, *carried, regions=[region.region], **attributes)

    def kernel(self, name: str = "example") -> Kernel:
        self.builder.op("yield")
        body = Region(tuple(self.parameters.values()), self.builder.ops)
        kernel = Kernel(name, tuple(self.parameters), body, Source(FILE, TEXT))
        verify(kernel)
        return kernel

    def run(self, target: str, *arguments: Any) -> None:
        run_kernel(target, self.kernel(), *arguments)


def run_kernel(target: str, kernel: Kernel, *arguments: Any) -> None:
    axes = tuple(unit_axis(a) if isinstance(a, np.ndarray) else None for a in arguments)
    find_target(target).compile(Request(kernel, axes))(list(arguments))

"""From a kernel's syntax tree, its dtypes and its constexprs to the tile IR."""

from __future__ import annotations

from collections.abc import Mapping
from types import FunctionType
from typing import Any

from opdsl.ir.core import Kernel, Region, Value
from opdsl.ir.types import DType, ScalarType, TensorType
from opdsl.lang.annotations import Signature, TensorAnnotation
from opdsl.lang.calls import Return
from opdsl.lang.context import compiling
from opdsl.lang.prune import prune
from opdsl.lang.scope import Binding, Frame
from opdsl.lang.source import FunctionSource
from opdsl.lang.statements import Statements
from opdsl.lang.values import Scalar, TensorView
from opdsl.support.errors import CompileError, OpdslError


class FrontEnd(Statements):
    """Compiles one kernel for given dtypes and constexprs."""

    def __init__(self, function: FunctionType, source: FunctionSource, signature: Signature) -> None:
        super().__init__()
        self.function = function
        self.source = source
        self.signature = signature

    def compile(self, dtypes: Mapping[str, DType], constexprs: Mapping[str, Any]) -> Kernel:
        """The kernel's IR. `dtypes` has every dtype variable, `constexprs` every constexpr and every bound dim."""
        source = self.source
        node = source.node
        cells = dict(zip(self.function.__code__.co_freevars, self.function.__closure__ or (), strict=True))
        self.frame = Frame(source, self.function.__globals__, cells, 0)
        self.at(node)
        place = source.location(node)
        bind = self.frame.names
        parameters: list[Value] = []
        self.builder.begin()
        symbols: dict[str, Scalar | int] = {}
        for parameter in self.signature.parameters:
            annotation = parameter.annotation
            dtype = dtypes[annotation.dtype] if isinstance(annotation.dtype, str) else annotation.dtype
            if not isinstance(annotation, TensorAnnotation):
                value = Value(ScalarType(dtype), parameter.name)
                bind[parameter.name] = Binding(Scalar(value), place)
            else:
                dims = tuple(self._dim(dim, constexprs) for dim in annotation.dims)
                value = Value(TensorType(dtype, dims), parameter.name)
                shape = tuple(dim if isinstance(dim, int) else self._symbol(dim, symbols) for dim in dims)
                bind[parameter.name] = Binding(TensorView(value, shape), place)
            parameters.append(value)
        for name in self.signature.constexprs:
            bind[name] = Binding(constexprs[name], place)
        try:
            with compiling(self):
                self.execute(node.body)  # type: ignore[arg-type]
        except Return:
            pass
        except OpdslError:
            raise
        except RecursionError:
            raise self.error(node, f"the kernel {source.name!r} nests too deeply to be compiled") from None
        except Exception as failure:
            # A defect of ours: still say at which line, and keep the cause for a report.
            location = self.builder.location
            raise CompileError(
                f"the compiler failed here ({type(failure).__name__}: {failure}), by a defect of OpDSL, not of the kernel",
                location,
                self.frame.source.line(location.line),
                "please report it with this kernel",
            ) from failure
        self.at(node)
        self.builder.op("yield")
        body = prune(Region(tuple(parameters), self.builder.end()))
        names = tuple(parameter.name for parameter in self.signature.parameters)
        return Kernel(source.name, names, body, source.source)

    @staticmethod
    def _dim(dim: int | str, constexprs: Mapping[str, Any]) -> int | str:
        if isinstance(dim, int):
            return dim
        bound = constexprs.get(dim)
        return bound if type(bound) is int else dim

    def _symbol(self, symbol: str, symbols: dict[str, Scalar | int]) -> Scalar | int:
        """The run-time size of a dim, read once at the top of the kernel so that it is visible everywhere."""
        found = symbols.get(symbol)
        if found is None:
            (value,) = self.builder.op("dim", symbol=symbol, names=(symbol,))
            found = symbols[symbol] = Scalar(value)
        return found

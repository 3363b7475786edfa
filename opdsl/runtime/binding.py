"""Matching the arguments of a call with a kernel's parameters: names, ranks, dtypes, dims, scalar ranges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from opdsl.ir.numpy_types import dtype_name, numpy_dtype
from opdsl.ir.types import DTYPES, DType, integer_range
from opdsl.lang.annotations import Parameter, ScalarAnnotation, TensorAnnotation
from opdsl.lang.kernel import Kernel
from opdsl.runtime import arrays
from opdsl.support.errors import ArgumentError, DTypeError, ShapeError

if TYPE_CHECKING:
    from opdsl.runtime.tuning_records import Book


def argument_error(kernel: Kernel, error: Exception, parameter: str) -> ArgumentError:
    """An error of `runtime.arrays`, which ends with its remedy after a semicolon, in our form."""
    message, _, help = str(error).rpartition("; ")
    return ArgumentError(f"{kernel.name}: {message or help}", help if message else "", (parameter,))


def bind(kernel: Kernel, arguments: Sequence[Any], named: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """The arguments in parameter order, and the constexprs."""
    parameters = kernel.signature.parameters
    if len(arguments) > len(parameters):
        names = ", ".join(p.name for p in parameters)
        raise ArgumentError(
            f"{kernel.name} takes {len(parameters)} arguments ({names}), but {len(arguments)} are given",
            "constexprs are given by name" if kernel.signature.constexprs else "",
        )
    constexprs = dict(named)
    ordered: list[Any] = list(arguments)
    for place, parameter in enumerate(parameters):
        if parameter.name in constexprs:
            if place < len(arguments):
                raise ArgumentError(
                    f"{kernel.name}: the argument {parameter.name!r} is given twice",
                    "give it by position or by name, not both",
                    (parameter.name,),
                )
            ordered.append(constexprs.pop(parameter.name))
        elif place >= len(arguments):
            if parameter.required:
                _missing(kernel, parameter, constexprs)
            ordered.append(parameter.default)
    for name in constexprs:
        if name not in kernel.signature.constexprs:
            raise kernel.unknown_parameter(name)
    return ordered, constexprs


def _missing(kernel: Kernel, parameter: Parameter, named: Mapping[str, Any]) -> None:
    unknown = [n for n in named if n not in kernel.signature.constexprs]
    hint = f"{unknown[0]!r} is no parameter: is {parameter.name!r} meant?" if unknown else ""
    parameters = ", ".join(f"{p.name}: {p.annotation}" for p in kernel.signature.parameters)
    raise ArgumentError(
        f"{kernel.name}: the argument {parameter.name!r} is missing",
        hint or f"its parameters are {parameters}",
        (parameter.name,),
    )


def as_arrays(kernel: Kernel, arguments: Sequence[Any]) -> list[Any]:
    """The arguments with every tensor as a NumPy array that shares its memory."""
    found: list[Any] = []
    for parameter, argument in zip(kernel.signature.parameters, arguments, strict=True):
        if isinstance(parameter.annotation, TensorAnnotation) and type(argument) is not np.ndarray:
            try:
                argument = arrays.as_array(argument, parameter.name)
            except arrays.ArgumentError as error:
                raise argument_error(kernel, error, parameter.name) from None
        found.append(argument)
    return found


def _dtypes(kernel: Kernel, arguments: Sequence[Any]) -> dict[str, DType]:
    """The dtype of each dtype variable; checks every tensor's dtype."""
    found: dict[str, tuple[DType, str]] = {}
    for parameter, argument in zip(kernel.signature.parameters, arguments, strict=True):
        annotation = parameter.annotation
        if not isinstance(annotation, TensorAnnotation):
            continue
        name = dtype_name(argument.dtype)
        if name is None:
            known = ", ".join(DTYPES)
            raise DTypeError(
                f"{kernel.name}: {parameter.name!r} has dtype {argument.dtype}; kernels know {known}",
                f"convert it: {parameter.name}.astype(...)",
                (parameter.name,),
            )
        dtype = DTYPES[name]
        wanted = annotation.dtype
        if isinstance(wanted, DType):
            if dtype != wanted:
                shown = numpy_dtype(wanted.name).name
                raise DTypeError(
                    f"{kernel.name}: {parameter.name!r} is {dtype}, but its annotation says {wanted}",
                    f'pass {parameter.name}.astype("{shown}")',
                    (parameter.name,),
                )
        elif wanted not in found:
            found[wanted] = (dtype, parameter.name)
        elif found[wanted][0] != dtype:
            first, other = found[wanted]
            raise DTypeError(
                f"{kernel.name}: {other!r} is {first} and {parameter.name!r} is {dtype}, but both are annotated with the "
                f"dtype variable {wanted!r}",
                f'convert one of them, as {parameter.name}.astype("{numpy_dtype(first.name).name}")',
                (other, parameter.name),
            )
    return {variable: dtype for variable, (dtype, _) in found.items()}


def _sizes(kernel: Kernel, arguments: Sequence[Any]) -> dict[str, int]:
    """The size of each symbolic dim; checks every tensor's rank and shape."""
    found: dict[str, tuple[int, str, int, tuple[int, ...]]] = {}
    for parameter, argument in zip(kernel.signature.parameters, arguments, strict=True):
        annotation = parameter.annotation
        if not isinstance(annotation, TensorAnnotation):
            continue
        shape = argument.shape
        if len(shape) != len(annotation.dims):
            raise ShapeError(
                f"{kernel.name}: {parameter.name!r} has {len(shape)} dims (shape {shape}), but its annotation "
                f"{annotation} has {len(annotation.dims)}",
                "reshape it, or index it down to a view with as many dims"
                + (" (the first name in the brackets is the dtype)" if len(shape) == len(annotation.dims) + 1 else ""),
                (parameter.name,),
            )
        for axis, (dim, size) in enumerate(zip(annotation.dims, shape, strict=True)):
            if isinstance(dim, int):
                if size != dim:
                    raise ShapeError(
                        f"{kernel.name}: dim {axis} of {parameter.name!r} is {size} (shape {shape}), but its annotation "
                        f"{annotation} says {dim}",
                        f"pass an array whose dim {axis} is {dim}",
                        (parameter.name,),
                    )
            elif dim not in found:
                found[dim] = (size, parameter.name, axis, shape)
            elif found[dim][0] != size:
                other_size, other, other_axis, other_shape = found[dim]
                raise ShapeError(
                    f"{kernel.name}: dim {dim!r} is {other_size} in {other!r} (axis {other_axis} of shape {other_shape}) "
                    f"but {size} in {parameter.name!r} (axis {axis} of shape {shape})",
                    f"both sizes must be equal; is one of {other!r} and {parameter.name!r} transposed?",
                    (other, parameter.name),
                )
    return {symbol: size for symbol, (size, _, _, _) in found.items()}


def specialisation(
    kernel: Kernel, arguments: Sequence[Any], constexprs: Mapping[str, Any], book: Book | None
) -> tuple[dict[str, DType], dict[str, Any], Mapping[str, Any]]:
    """What these arguments specialise the kernel for: dtypes, the value of every constexpr, and the target's options.
    What the call does not give may come from a record of tuning."""
    dtypes = _dtypes(kernel, arguments)
    sizes = _sizes(kernel, arguments)
    options: Mapping[str, Any] = {}
    config = None if book is None else book.choose(dtypes, sizes, constexprs)
    if config is not None:
        constexprs, options = {**constexprs, **config.constexprs}, config.options
    return dtypes, kernel.check_constexprs(constexprs, sizes), options


def checked_scalars(kernel: Kernel, arguments: Sequence[Any]) -> list[Any]:
    """The arguments with every scalar as a Python number of its parameter's type."""
    found = list(arguments)
    dtypes: dict[str, DType] | None = None
    for place, parameter in enumerate(kernel.signature.parameters):
        annotation = parameter.annotation
        if not isinstance(annotation, ScalarAnnotation):
            continue
        dtype = annotation.dtype
        if isinstance(dtype, str):
            dtypes = _dtypes(kernel, arguments) if dtypes is None else dtypes
            if dtype not in dtypes:
                raise DTypeError(f"{kernel.name}: no tensor gives the dtype variable {dtype!r} of {parameter.name!r}")
            dtype = dtypes[dtype]
        found[place] = checked_scalar(kernel, parameter.name, dtype, arguments[place])
    return found


def checked_scalar(kernel: Kernel, name: str, dtype: DType, given: Any) -> bool | int | float:
    """One scalar argument as a Python number of its parameter's type."""
    value = given
    if isinstance(given, np.generic) or (getattr(given, "shape", None) == () and hasattr(given, "item")):
        value = given.item()  # NumPy's scalars, and arrays and tensors without dims
    if not isinstance(value, bool | int | float):
        from opdsl.lang.values import article

        hint = f"pass {name}.item() if it holds one number" if hasattr(value, "item") else "pass a Python number"
        raise ArgumentError(
            f"{kernel.name}: {name!r} is {_shown(value)}, where {article(dtype)} {dtype} scalar is needed",
            hint,
            (name,),
        )
    if dtype.is_bool:
        if not isinstance(value, bool):
            raise ArgumentError(
                f"{kernel.name}: {name!r} is {value!r}, where a bool is needed", "pass True or False", (name,)
            )
        return value
    if dtype.is_float:
        return float(value)
    if isinstance(value, float):
        raise ArgumentError(
            f"{kernel.name}: {name!r} is {value!r}, where a whole number ({dtype}) is needed",
            f"pass int({name}), or annotate the parameter with od.f32",
            (name,),
        )
    low, high = integer_range(dtype)
    if not low <= value <= high:
        raise ArgumentError(
            f"{kernel.name}: {name!r} is {value}, which does not fit into {dtype} ({low} to {high})",
            "annotate the parameter with a wider type",
            (name,),
        )
    return int(value)


def _shown(value: object) -> str:
    shape = getattr(value, "shape", None)
    kind = type(value).__name__
    return (
        f"{'an' if kind[0] in 'aeiou' or kind == 'ndarray' else 'a'} {kind} of shape {tuple(shape)}"
        if shape is not None
        else f"{value!r} ({kind})"[:80]
    )

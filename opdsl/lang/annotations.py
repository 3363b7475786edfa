"""Annotations of a kernel's parameters: od.Tensor[...], scalar dtypes, od.constexpr."""

from __future__ import annotations
import __future__

import inspect
from dataclasses import dataclass
from types import FunctionType
from typing import Any, TypeVar

from opdsl.ir.types import DType, bool_, f32, i64
from opdsl.support.errors import AnnotationError, Misuse, OpdslError


@dataclass(frozen=True)
class TensorAnnotation:
    """`od.Tensor[dtype, dims...]`. A dtype that is a string is a variable; a dim that is one is a symbol."""

    dtype: DType | str
    dims: tuple[int | str, ...]

    def __str__(self) -> str:
        parts = [str(self.dtype) if isinstance(self.dtype, DType) else repr(self.dtype), *map(repr, self.dims)]
        return f"od.Tensor[{', '.join(parts)}]"


class Tensor:
    """The annotation of a tensor argument: `od.Tensor[od.f32, "M", 3]`, or `od.Tensor["T", "M", "N"]` for any dtype.

    A symbol used twice ("M") must have the same size everywhere, a dtype variable ("T") the same dtype.
    """

    def __class_getitem__(cls, items: Any) -> Any:
        dtype, *dims = items if isinstance(items, tuple) else (items,)
        simple = {float: f32, int: i64, bool: bool_}
        dtype = simple.get(dtype, dtype) if isinstance(dtype, type) else dtype
        if not isinstance(dtype, DType) and not (isinstance(dtype, str) and dtype.isidentifier()):
            raise AnnotationError(
                f"the first item of od.Tensor[{dtype!r}, ...] is no dtype",
                'give a dtype such as od.f32, or the name of a dtype variable such as "T"; the dims follow',
            )
        for dim in dims:
            named = isinstance(dim, str) and dim.isidentifier()
            if not named and not (type(dim) is int and dim >= 0):
                raise AnnotationError(
                    f"the dim {dim!r} of od.Tensor[...] is neither a name nor a size",
                    'give a name such as "M", or a whole number of at least 0',
                )
        return TensorAnnotation(dtype, tuple(dims))


class constexpr:
    """The annotation of a keyword-only parameter whose value is known while compiling."""


@dataclass(frozen=True)
class ScalarAnnotation:
    dtype: DType | str

    def __str__(self) -> str:
        return f"od.{self.dtype}" if isinstance(self.dtype, DType) else repr(self.dtype)


@dataclass(frozen=True)
class Parameter:
    """A positional parameter. `default` is for scalars only; inspect.Parameter.empty where there is none."""

    name: str
    annotation: TensorAnnotation | ScalarAnnotation
    default: Any = inspect.Parameter.empty

    @property
    def required(self) -> bool:
        return self.default is inspect.Parameter.empty


@dataclass(frozen=True)
class Signature:
    """A kernel's parameters and constexprs. `defaults` holds those constexprs that have one."""

    parameters: tuple[Parameter, ...]
    constexprs: tuple[str, ...]
    defaults: dict[str, Any]

    @property
    def symbols(self) -> dict[str, tuple[str, int]]:
        """Each symbolic dim with the tensor and axis it first stands at."""
        found: dict[str, tuple[str, int]] = {}
        for parameter in self.parameters:
            if isinstance(parameter.annotation, TensorAnnotation):
                for axis, dim in enumerate(parameter.annotation.dims):
                    if isinstance(dim, str):
                        found.setdefault(dim, (parameter.name, axis))
        return found

    @property
    def dtype_variables(self) -> dict[str, str]:
        """Each dtype variable with the parameter it first stands at."""
        found: dict[str, str] = {}
        for parameter in self.parameters:
            if isinstance(parameter.annotation.dtype, str):
                found.setdefault(parameter.annotation.dtype, parameter.name)
        return found


class BadParameter(Misuse):
    """A parameter of a kernel is declared wrongly; the caller adds the place."""

    def __init__(self, parameter: str, message: str, help: str = "") -> None:
        super().__init__(message, help)
        self.parameter = parameter


def _evaluated(name: str, annotation: object, function: FunctionType) -> object:
    """A string annotation (`from __future__ import annotations`) evaluated where the function was defined."""
    if not isinstance(annotation, str):
        return annotation
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    local = {name: cell.cell_contents for name, cell in cells}
    try:
        return eval(annotation, function.__globals__, local)  # noqa: S307 - the user's own annotation
    except NameError:
        return annotation  # "T": a dtype variable
    except OpdslError:
        raise
    except Exception as error:  # noqa: BLE001 - the user's own annotation
        reason = error.msg if isinstance(error, SyntaxError) else str(error)
        raise BadParameter(
            name,
            f"the annotation {annotation!r} of {name!r} cannot be evaluated: {type(error).__name__}: {reason}",
            'write od.Tensor["T", "N"] for a tensor, a dtype such as od.f32 for a scalar',
        ) from None


def _parameter(name: str, annotation: object, default: object) -> Parameter:
    if annotation is inspect.Parameter.empty:
        raise BadParameter(
            name,
            f"the parameter {name!r} has no annotation",
            f'write {name}: od.Tensor["T", "N"] for a tensor, {name}: od.f32 for a scalar',
        )
    if annotation is constexpr:
        raise BadParameter(
            name,
            f"the constexpr {name!r} is a positional parameter",
            "put a `*` before the constexprs: (x, y, *, BLOCK)",
        )
    if annotation is Tensor:
        raise BadParameter(name, f"the annotation of {name!r} has no dtype and dims", 'write od.Tensor["T", "M", "N"]')
    simple: dict[object, DType] = {bool: bool_, int: i64, float: f32}
    if isinstance(annotation, type) and annotation in simple:
        annotation = simple[annotation]
    if isinstance(annotation, DType) or (isinstance(annotation, str) and annotation.isidentifier()):
        return Parameter(name, ScalarAnnotation(annotation), default)
    if not isinstance(annotation, TensorAnnotation):
        from opdsl.lang.values import describe  # only errors need it

        raise BadParameter(
            name,
            f"the annotation of {name!r} is {describe(annotation)}",
            'write od.Tensor["T", "N"] for a tensor, a dtype such as od.f32 for a scalar, od.constexpr after a `*`',
        )
    if default is not inspect.Parameter.empty:
        raise BadParameter(name, f"the tensor parameter {name!r} has a default", "only scalars and constexprs have one")
    return Parameter(name, annotation, default)


def _annotations(function: FunctionType) -> dict[str, object]:
    """What each parameter's annotation stands for. A string that names the dtype of a tensor is that, whatever the module
    calls by the name; where annotations are evaluated late, `T` and "T" differ by the quotes."""
    found: dict[str, object] = {n: p.annotation for n, p in inspect.signature(function).parameters.items()}
    if function.__code__.co_flags & __future__.annotations.compiler_flag:
        found = {name: _evaluated(name, annotation, function) for name, annotation in found.items()}
    variables = {a.dtype for a in found.values() if isinstance(a, TensorAnnotation)}
    for name, annotation in found.items():
        if isinstance(annotation, str) and annotation not in variables:
            annotation = _evaluated(name, annotation, function)
        found[name] = annotation.__name__ if isinstance(annotation, TypeVar) else annotation
    return found


def read_signature(function: FunctionType) -> Signature:
    """The parameters of a kernel function. Raises BadParameter."""
    parameters: list[Parameter] = []
    constexprs: list[str] = []
    defaults: dict[str, Any] = {}
    annotations = _annotations(function)
    for name, parameter in inspect.signature(function).parameters.items():
        annotation = annotations[name]
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise BadParameter(name, f"a kernel takes no *{name}", "name each parameter")
        if parameter.kind is not parameter.KEYWORD_ONLY:
            parameters.append(_parameter(name, annotation, parameter.default))
            continue
        if annotation is not constexpr:
            raise BadParameter(
                name,
                f"the keyword-only parameter {name!r} is not a constexpr",
                f"write {name}: od.constexpr, or put it before the `*`",
            )
        if name == "target":
            raise BadParameter(
                name, "a constexpr is called 'target'", "calls use that name to choose the target; rename it"
            )
        constexprs.append(name)
        if parameter.default is not parameter.empty:
            defaults[name] = parameter.default
    return Signature(tuple(parameters), tuple(constexprs), defaults)

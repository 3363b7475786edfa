"""`@od.kernel`: the object that a kernel is, and its specialisations."""

from __future__ import annotations

import ast
import functools
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from types import FunctionType
from typing import Any, NoReturn, Protocol, overload

import numpy as np

from opdsl.ir.core import Kernel as IrKernel
from opdsl.ir.types import DTYPES, DType
from opdsl.lang.annotations import BadParameter, Signature, read_signature
from opdsl.lang.config import BadConfig, Config, read_configs
from opdsl.lang.source import FunctionSource, importable_name
from opdsl.support.errors import (
    ArgumentError,
    CompileError,
    DTypeError,
    LaunchError,
    Misuse,
    Note,
    OpdslError,
    ShapeError,
    UsageError,
    article_of,
    suggestion,
)
from opdsl.support.knobs import knobs


def plain(value: Any) -> Any:
    """A constexpr as it is compiled with: NumPy's scalars become Python's."""
    return value.item() if isinstance(value, np.generic) else value


def constexpr_key(value: Any) -> Hashable:
    """A key that tells apart what compares equal but is not the same: 1, 1.0 and True, 0.0 and -0.0, equal tuples of two
    classes, and all of these inside of tuples, frozensets, dataclasses and other objects that compare by their attributes.
    """
    kind: Any = type(value)
    if isinstance(value, float | complex | range):
        return (kind, repr(value))
    if isinstance(value, tuple):
        return (kind, *map(constexpr_key, value), *_state(value))
    if isinstance(value, frozenset):
        return (kind, frozenset(map(constexpr_key, value)), *_state(value))
    if kind in _EXACT or kind.__eq__ in _BY_IDENTITY:
        return (kind, value)
    return (kind, value, *_state(value))


_EXACT = frozenset({bool, int, str, bytes, type(None), type(...), DType, FunctionType})
_BY_IDENTITY = (object.__eq__, type.__eq__)


def _state(value: Any) -> tuple[Hashable, ...]:
    """An object's attributes with their keys, those in slots, too. What it says of itself stands for what C code holds."""
    slots = [name for cls in type(value).__mro__ for name in _names_of(vars(cls).get("__slots__", ()))]
    attributes = {name: getattr(value, name) for name in slots if hasattr(value, name)} | getattr(value, "__dict__", {})
    keys = tuple((name, constexpr_key(attributes[name])) for name in sorted(attributes))
    return keys if keys or isinstance(value, tuple | frozenset) else (repr(value),)


def _names_of(slots: str | Iterable[str]) -> tuple[str, ...]:
    names = (slots,) if isinstance(slots, str) else tuple(slots)
    return tuple(name for name in names if name not in ("__dict__", "__weakref__"))


class Runner(Protocol):
    """What binds arguments and launches: a layer above registers itself, since kernels need not know how they run."""

    def launcher(self, kernel: Kernel) -> Callable[..., None]:
        """What runs the calls of a kernel."""

    def lower_call(self, kernel: Kernel, arguments: Sequence[Any], named: Mapping[str, Any]) -> IrKernel:
        """The tile IR that a call with these arguments would compile."""


RUNNER: Runner


def register_runner(runner: Runner) -> None:
    """Says what runs the calls of kernels: `opdsl.runtime.launch`, when it is loaded."""
    global RUNNER
    RUNNER = runner


class Kernel:
    """A kernel. Calling it on arrays compiles it for them, if need be, and runs it.

    `kernel(x, y, BLOCK=64, target="interp")`: arguments by position or name, constexprs by name.
    `kernel.lower(...)` gives the tile IR. `kernel.configs` are the choices that `opdsl tune` measures.
    """

    opdsl_kernel = True

    def __init__(self, function: FunctionType, configs: Iterable[Config | Mapping[str, Any]] = ()) -> None:
        self.function = function
        self.source = FunctionSource(function, "@od.kernel")
        functools.update_wrapper(self, function)
        self.__name__: str = function.__name__
        self.name: str = function.__name__
        try:
            self.signature: Signature = read_signature(function)
        except BadParameter as bad:
            raise self._bad_parameter(bad) from None
        bound = [name for name in self.signature.constexprs if name in self.signature.symbols]
        try:
            self.configs: tuple[Config, ...] = read_configs(configs, self.signature.constexprs, bound)
        except BadConfig as error:
            location = self.source.location(self._config_node(error.place))
            raise CompileError(error.message, location, self.source.line(location.line), error.help) from None
        self._specialised: dict[Hashable, IrKernel] = {}
        self._launch: Callable[..., None] | None = None
        self._fast: Callable[..., Any] | None = None
        self._finish: Callable[..., None] | None = None
        self._generation = -1

    def __repr__(self) -> str:
        return f"<opdsl kernel {self.name}>"

    def __getitem__(self, grid: object) -> NoReturn:
        raise UsageError(
            f"{self.name}[...] gives no grid: a kernel is called on its arrays alone",
            f"write {self.name}(x, y); the grid is the od.parallel loop inside of the kernel",
        )

    def __reduce__(self) -> str:
        """Pickled by reference, as functions are: its module and its name there."""
        return importable_name(self, self.function, "the kernel")

    def __copy__(self) -> Kernel:
        return self

    def __deepcopy__(self, memo: object) -> Kernel:
        return self

    def _parameter_node(self, name: str) -> ast.AST:
        node = self.source.node
        a = node.args
        arguments = [*a.posonlyargs, *a.args, *a.kwonlyargs, *(x for x in (a.vararg, a.kwarg) if x is not None)]
        return next((argument for argument in arguments if argument.arg == name), node)

    def _config_node(self, place: int) -> ast.AST:
        """Where a configuration stands in the decorator, if it stands there; else the decorator or the function."""
        node = self.source.node
        calls = [d for d in getattr(node, "decorator_list", ()) if isinstance(d, ast.Call)]
        for call in calls:
            for keyword in call.keywords:
                if keyword.arg == "configs":
                    listed = keyword.value.elts if isinstance(keyword.value, ast.List | ast.Tuple) else []
                    return listed[place] if place < len(listed) else keyword.value
        return node

    def _bad_parameter(self, bad: BadParameter) -> CompileError:
        location = self.source.location(self._parameter_node(bad.parameter))
        return CompileError(bad.message, location, self.source.line(location.line), bad.help)

    def _located(self, error: OpdslError) -> OpdslError:
        """The error without our frames; an error of a launch gets the place of the call and of its parameters."""
        if isinstance(error, LaunchError):
            error.locate()
            if not error.notes:
                error.notes = tuple(self._declaration(name) for name in error.parameters)
        return error.with_traceback(None)

    def _declaration(self, parameter: str) -> Note:
        location = self.source.location(self._parameter_node(parameter))
        return Note(f"{parameter!r} is declared here", location, self.source.line(location.line))

    # --- compiling ---------------------------------------------------------------------------------------------------

    def check_constexprs(self, given: Mapping[str, Any], sizes: Mapping[str, int]) -> dict[str, Any]:
        """Every constexpr's value: as given, or the size of the dim of its name, or its default."""
        values: dict[str, Any] = {}
        signature = self.signature
        for name in given:
            if name not in signature.constexprs:
                raise self.unknown_parameter(name)
        for name in signature.constexprs:
            if name in sizes:
                if name in given and plain(given[name]) != sizes[name]:
                    tensor, axis = signature.symbols[name]
                    raise ShapeError(
                        f"{self.name}: the constexpr {name} is given as {given[name]!r}, but dim {axis} of {tensor!r}, "
                        f"which has that name, is {sizes[name]}",
                        f"leave {name} out: it is bound from the shape",
                        (name, tensor),
                    )
                values[name] = int(sizes[name])
            elif name in given:
                values[name] = plain(given[name])
            elif name in signature.defaults:
                values[name] = plain(signature.defaults[name])
            else:
                raise ArgumentError(
                    f"{self.name}: the constexpr {name} has no default and is not given",
                    f"call {self.name}(..., {name}=...)",
                    (name,),
                )
        return values

    def unknown_parameter(self, name: str) -> ArgumentError:
        known = [*self.signature.constexprs, *(p.name for p in self.signature.parameters), "target"]
        if name in ("config", "configs"):
            hint = "give a configuration's values by name: BLOCK=64"
            return ArgumentError(f"{self.name}: there is no parameter {name!r}", hint)
        hint = suggestion(name, known) or f"its constexprs are {', '.join(self.signature.constexprs) or 'none'}"
        return ArgumentError(f"{self.name}: there is no parameter {name!r}", hint)

    def specialise(self, dtypes: Mapping[str, DType], constexprs: Mapping[str, Any] | None = None) -> IrKernel:
        """The tile IR for these dtypes (of each dtype variable) and constexprs (those left out have their defaults).

        A constexpr may be any hashable Python value. One named as a symbolic dim binds that dim.
        """
        for variable, tensor in self.signature.dtype_variables.items():
            if not isinstance(dtypes.get(variable), DType):
                raise DTypeError(
                    f"{self.name}: the dtype variable {variable!r} (of {tensor!r}) is not given",
                    f"give {variable}=od.f32, say",
                    (tensor,),
                )
        values = self.check_constexprs(constexprs or {}, {})
        for name, value in values.items():
            if name in self.signature.symbols and (type(value) is not int or value < 0):
                raise ArgumentError(
                    f"{self.name}: the constexpr {name} is {value!r}, but it has the name of a dim, which is a whole number"
                )
        key = self.specialisation_key(dtypes, values)
        found = self._specialised.get(key)
        if found is None:
            found = self._specialised[key] = self._compile(dtypes, values)
        return found

    def specialisation_key(self, dtypes: Mapping[str, DType], values: Mapping[str, Any]) -> Hashable:
        """What tells the specialisations of this kernel apart. `values` has every constexpr."""
        key = (tuple(sorted((k, d.name) for k, d in dtypes.items())), *(constexpr_key(v) for v in values.values()))
        try:
            hash(key)
        except TypeError:
            name = next(n for n, v in values.items() if not _is_hashable(v))
            raise ArgumentError(
                f"{self.name}: the constexpr {name} is {values[name]!r}, which is not hashable",
                "a kernel is compiled once for each value: give a tuple, not a list; a frozen dataclass, not a dict",
                (name,),
            ) from None
        return key

    def _compile(self, dtypes: Mapping[str, DType], constexprs: Mapping[str, Any]) -> IrKernel:
        from opdsl.lang.frontend import FrontEnd  # a kernel in the compile cache does without it

        front_end = FrontEnd(self.function, self.source, self.signature)
        try:
            return front_end.compile(dtypes, constexprs)
        except CompileError as error:
            raise error.with_traceback(None) from _user_part(error.__cause__)
        except Misuse as misuse:
            location = self.source.location(self.source.node)
            raise CompileError(misuse.message, location, self.source.line(location.line), misuse.help) from None

    def lower(self, *arguments: Any, **named: Any) -> IrKernel:
        """The tile IR: for arrays as a call takes them, or without any for dtypes, dims and constexprs by name.

        matmul.lower(a, b, c, BM=64)
        matmul.lower(T=od.f32, BM=64)
        softmax.lower(T="f16", N=1000)
        """
        try:
            if arguments:
                return RUNNER.lower_call(self, arguments, named)
            variables = self.signature.dtype_variables
            dtypes = {name: _dtype(name, value) for name, value in named.items() if name in variables}
            return self.specialise(dtypes, {k: v for k, v in named.items() if k not in variables})
        except OpdslError as error:
            raise self._located(error) from error.__cause__

    # --- running -----------------------------------------------------------------------------------------------------

    def __call__(self, *arguments: Any, **named: Any) -> None:
        if self._fast is not None and not named and knobs.generation == self._generation:
            # A call like one before, with default target and constexprs: one call of C++ does it.
            result = self._fast(*arguments)
            if result is None:
                return
        else:
            result = NotImplemented
        try:
            self._call_slowly(result, arguments, named)
        except OpdslError as error:
            raise self._located(error) from error.__cause__

    def _call_slowly(self, result: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        if isinstance(result, tuple) and self._finish is not None:
            self._finish(result, arguments)
            return
        if self._launch is None:
            self._launch = RUNNER.launcher(self)
        self._launch(*arguments, **named)

    def forget_launches(self) -> None:
        """Calls from now on choose anew what runs them: records of tuning are read again."""
        self._launch, self._fast, self._finish, self._generation = None, None, None, -1

    def use_fast(self, fast: Callable[..., Any] | None, finish: Callable[..., None], generation: int) -> None:
        """Calls without named arguments go to `fast` first, which answers None when it has done them."""
        self._fast, self._finish, self._generation = fast, finish, generation


def _dtype(name: str, value: object) -> DType:
    if isinstance(value, DType):
        return value
    if isinstance(value, str) and value in DTYPES:
        return DTYPES[value]
    raise DTypeError(f"{name} is {value!r}, where a dtype is needed", f"the dtypes are {', '.join(DTYPES)}")


def _is_hashable(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _user_part(cause: BaseException | None) -> BaseException | None:
    """The user's exception with the frames of the front end cut off its traceback."""
    if cause is None:
        return None
    here = __file__.rpartition("/")[0]
    trace = cause.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename.startswith(here):
        trace = trace.tb_next
    cause.__cause__ = None
    cause.__suppress_context__ = True
    return cause.with_traceback(trace)


@overload
def kernel(function: Callable[..., Any], /) -> Kernel: ...
@overload
def kernel(*, configs: Iterable[Config | Mapping[str, Any]] = ()) -> Callable[[Callable[..., Any]], Kernel]: ...
def kernel(
    function: Callable[..., Any] | None = None, /, *, configs: Iterable[Config | Mapping[str, Any]] = ()
) -> Kernel | Callable[[Callable[..., Any]], Kernel]:
    """Makes a function a kernel. Its source is read now, its annotations say what it takes.

    `@od.kernel(configs=[od.Config(BM=64), ...])` declares the choices that `opdsl tune` measures.
    """
    if function is None:
        choices = tuple(configs)
        return lambda decorated: _kernel(decorated, choices)
    return _kernel(function, ())


def _kernel(function: Callable[..., Any], configs: tuple[Config | Mapping[str, Any], ...]) -> Kernel:
    if not isinstance(function, FunctionType):
        raise UsageError(f"@od.kernel takes a function, not {article_of(function)}", "decorate a `def`")
    try:
        return Kernel(function, configs)
    except OpdslError as error:
        raise error.with_traceback(None) from None

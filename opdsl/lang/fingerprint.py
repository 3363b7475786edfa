"""What a kernel's IR depends on, as a digest: two kernels with equal fingerprints have equal IR for equal arguments.

Tracing a kernel is computing with Python, so its IR depends on its text and on all that the text reaches: helper
functions, constants of its module and of others, variables of enclosing functions, values of constexprs. A fingerprint
follows all of it, from the names that code objects hold. It takes names for what they might be: an attribute's name
that a module used somewhere has too, counts as that module's. That may tell equal kernels apart, which costs a tracing,
but never takes different ones for equal.

What cannot be followed makes the fingerprint `Unknown`: objects with state or code of their own, functions written in C
that are not known to depend on their arguments only, names made up at run time. OpDSL's own modules are not followed:
whoever keeps a fingerprint adds a digest of them (`opdsl.support.digests`).
"""

from __future__ import annotations

import builtins
import functools
import hashlib
import math
import sys
from collections.abc import Callable, Iterable, Mapping
from opcode import opmap
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

from opdsl.ir.types import DType
from opdsl.lang.annotations import Signature
from opdsl.lang.function import Function
from opdsl.lang.source import FunctionSource


class Unknown(Exception):
    """A kernel depends on something that has no fingerprint."""


LONGEST = 10_000  # parts of a fingerprint; bytes of an array
_ARRAY_BYTES = 1 << 20

# Python's own functions and types whose results depend on their arguments only, and that change nothing.
_PURE_NAMES = (
    "abs all any ascii bin bool bytes callable chr complex dict divmod enumerate filter float frozenset hex int isinstance "
    "issubclass iter len list map max min next oct ord pow range repr reversed round set slice sorted str sum tuple zip"
)
_PURE: dict[int, str] = {id(getattr(builtins, name)): name for name in _PURE_NAMES.split()}

# Names that reach what their spelling does not show.
_OPAQUE_NAMES = frozenset({"format", "format_map", "static_print"})
_OPAQUE_OPS = frozenset(
    opmap[name] for name in ("IMPORT_NAME", "STORE_GLOBAL", "DELETE_GLOBAL", "LOAD_BUILD_CLASS") if name in opmap
)


def fingerprint(
    function: FunctionType, source: FunctionSource, signature: Signature, constexprs: Mapping[str, Any]
) -> str:
    """The digest, in hexadecimal, for the constexprs of one specialisation. Raises Unknown."""
    if sys.flags.optimize:
        raise Unknown("assertions are not in the code")
    walk = _Walk()
    try:
        walk.add("python", sys.version, "numpy", np.__version__)
        walk.source(source)
        for parameter in signature.parameters:
            walk.add("parameter", parameter.name, str(parameter.annotation))
        for name, value in constexprs.items():
            walk.add("constexpr", name)
            walk.value(value)
        walk.function(function)
        walk.attributes_of_modules()
    except RecursionError:
        raise Unknown("it is nested too deeply") from None
    return walk.digest()


class _Walk:
    def __init__(self) -> None:
        self.parts: list[str] = []
        self.seen: dict[int, int] = {}
        self.kept: list[object] = []  # so that no number in `seen` is used again
        self.names: dict[str, None] = {}
        self.modules: list[tuple[ModuleType, set[str]]] = []  # with the names that have been looked up

    def digest(self) -> str:
        digest = hashlib.sha256()
        for part in self.parts:
            encoded = part.encode("utf-8", "surrogatepass")
            digest.update(b"%d:" % len(encoded))
            digest.update(encoded)
        return digest.hexdigest()

    def add(self, *parts: str) -> None:
        self.parts.extend(parts)
        if len(self.parts) > LONGEST:
            raise Unknown("it depends on too much")

    # --- values ------------------------------------------------------------------------------------------------------

    def value(self, value: Any) -> None:
        kind = type(value)
        plain = _PLAIN.get(kind)
        if plain is not None:
            self.add(kind.__name__, plain(value))
        elif id(value) in _PURE and getattr(builtins, _PURE[id(value)]) is value:
            self.add("builtin", _PURE[id(value)])
        elif kind is tuple or kind is list:
            self._items(value)
        elif id(value) in self.seen:
            self.add("again", str(self.seen[id(value)]))
        else:
            self.seen[id(value)] = len(self.seen)
            self.kept.append(value)
            self._object(value, kind)

    def _object(self, value: Any, kind: type) -> None:
        if kind is dict:
            self._items(value.keys())
            self._items(value.values())
        elif kind is set or kind is frozenset:
            self.add(kind.__name__, str(len(value)), *sorted(map(_element, value)))
        elif kind is FunctionType:
            self.function(value)
        elif kind is Function:
            if not vars(value).keys() <= _FUNCTION_ATTRIBUTES:
                raise Unknown(f"{value!r} has attributes")
            self.source(value.source)
            self.function(value.function)
        elif kind is ModuleType:
            self.add("module", value.__name__)
            self.modules.append((value, set()))
        elif kind is BuiltinFunctionType and _is_of(math, value):
            self.add("math", value.__name__)
        elif kind is functools.partial:
            self.add("partial")
            self.value(value.func)
            self.value(value.args)
            self.value(dict(value.keywords))
        elif isinstance(value, np.generic | np.ndarray):
            self._array(np.asarray(value))
        elif kind is np.ufunc and _is_of(np, value):
            self.add("ufunc", value.__name__)
        elif isinstance(value, type) and (issubclass(value, BaseException) or issubclass(value, np.generic)):
            if value.__module__ not in ("builtins", "numpy") or "." in value.__qualname__:
                raise Unknown(f"{value!r} is a class")
            self.add("type", value.__module__, value.__qualname__)
        else:
            raise Unknown(f"{kind.__module__}.{kind.__qualname__} has no fingerprint")

    def _items(self, values: Iterable[Any]) -> None:
        items = list(values)
        self.add(type(values).__name__, str(len(items)))
        for item in items:
            self.value(item)

    def _array(self, array: np.ndarray[Any, Any]) -> None:
        if array.dtype.hasobject or array.nbytes > _ARRAY_BYTES:
            raise Unknown("an array is large, or holds objects")
        content = hashlib.sha256(array.tobytes()).hexdigest()
        self.add("array", str(array.dtype), array.dtype.str, repr(array.shape), repr(array.strides), content)

    # --- functions ---------------------------------------------------------------------------------------------------

    def source(self, source: FunctionSource) -> None:
        self.add("source", source.file, source.name, str(source.first_line), _text_digest(source))

    def function(self, function: FunctionType) -> None:
        if function.__module__ and function.__module__.startswith("opdsl.lang."):
            self._own(function)
            return
        anything: Any = function  # the stubs do not know __builtins__
        if anything.__builtins__ is not vars(builtins) or not vars(function).keys() <= {"__wrapped__"}:
            raise Unknown(f"{function!r} has attributes, or builtins of its own")
        names: dict[str, None] = {}
        self.add("function")
        self._code(function.__code__, names)
        self.value(function.__defaults__)
        self.value(function.__kwdefaults__)
        for cell in function.__closure__ or ():
            try:
                content = cell.cell_contents
            except ValueError:
                self.add("no value yet")
            else:
                self.value(content)
        space = function.__globals__
        for name in names:
            if name.startswith("__") or name in _OPAQUE_NAMES:
                raise Unknown(f"the name {name!r} is used")
            self.names[name] = None
            if name in space:
                self.add("global", name)
                self.value(space[name])
            elif hasattr(builtins, name):
                self.add("global", name)
                self.value(getattr(builtins, name))

    def _own(self, function: FunctionType) -> None:
        """A built-in of the language: a digest of the package covers what it does."""
        name = getattr(function, "opdsl_builtin", function.__qualname__)
        if name in _OPAQUE_NAMES:
            raise Unknown(f"od.{name} is used")
        self.add("opdsl", function.__module__, name)

    def _code(self, code: CodeType, names: dict[str, None]) -> None:
        instructions = code.co_code
        if not _OPAQUE_OPS.isdisjoint(instructions[::2]):
            raise Unknown(f"{code.co_name} imports, defines a class or changes a global")
        self.add("code", instructions.hex(), code.co_exceptiontable.hex(), str(code.co_flags))
        self.add(str((code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount)), code.co_name)
        self.add(repr((code.co_names, code.co_varnames, code.co_cellvars, code.co_freevars)))
        names.update(dict.fromkeys(code.co_names))
        for constant in code.co_consts:
            if isinstance(constant, CodeType):
                self._code(constant, names)
            else:
                self.value(constant)

    # --- modules -----------------------------------------------------------------------------------------------------

    def attributes_of_modules(self) -> None:
        """Looks every name up in every module: which one a name is taken from, code does not show."""
        before = (-1, -1)
        while before != (len(self.modules), len(self.names)):
            before = (len(self.modules), len(self.names))
            for number, (module, done) in enumerate(list(self.modules)):
                for name in [name for name in self.names if name not in done]:
                    done.add(name)
                    self._attribute(number, module, name)

    def _attribute(self, number: int, module: ModuleType, name: str) -> None:
        space = vars(module)
        if module.__name__ == "opdsl":
            place = _opdsl_place(name)
            if place is not None:
                if not place[0].startswith("opdsl.lang."):
                    raise Unknown(f"od.{name} is used")
                loaded = sys.modules.get(place[0])
                if name in space and (loaded is None or space[name] is not getattr(loaded, place[1])):
                    raise Unknown(f"od.{name} has been replaced")
                self.add("attribute", str(number), name)
                return
        elif "__getattr__" in space and module is not np:
            raise Unknown(f"the module {module.__name__} makes up its attributes")
        if name in space:
            self.add("attribute", str(number), name)
            self.value(space[name])


def _opdsl_place(name: str) -> tuple[str, str] | None:
    """Where a name that the package loads on first use comes from."""
    place: tuple[str, str] | None = vars(sys.modules["opdsl"])["_place"](name)
    return place


def _is_of(module: ModuleType, value: Any) -> bool:
    """Whether a module has a function under the function's own name."""
    return vars(module).get(value.__name__) is value


_FUNCTION_ATTRIBUTES = frozenset(
    {
        *("function", "source", "__wrapped__"),
        *("__module__", "__name__", "__qualname__", "__doc__", "__annotations__", "__type_params__"),
    }
)


def _element(value: Any) -> str:
    plain = _PLAIN.get(type(value))
    if plain is None:
        raise Unknown("a set holds more than numbers and texts")
    return f"{type(value).__name__} {plain(value)}"


_PLAIN: dict[type, Callable[[Any], str]] = {
    type(None): repr,
    type(...): repr,
    type(NotImplemented): repr,
    bool: repr,
    int: repr,
    float: repr,
    complex: repr,
    str: str,
    bytes: bytes.hex,
    range: repr,
    DType: str,
}


def _text_digest(source: FunctionSource) -> str:
    """The digest of the whole file: locations in it are part of what a kernel reports."""
    return _digest_of("".join(source.lines))


@functools.lru_cache(maxsize=64)
def _digest_of(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()

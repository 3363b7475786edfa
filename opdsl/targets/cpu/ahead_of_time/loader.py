"""The cffi loader of a library: a Python file that needs cffi and NumPy only."""

from __future__ import annotations

import math
from collections.abc import Sequence

from opdsl.targets.ahead_of_time.interface import C_TYPES, NUMPY_TYPES, STAND_INS, Interface, Scalar, Tensor
from opdsl.targets.cpu.ahead_of_time.extension import documentation
from opdsl.targets.cpu.ahead_of_time.header import declarations

_TEMPLATE = '''"""The library lib{library}.so through cffi, written by `opdsl build`. Needs cffi and NumPy, not OpDSL.

    import {library}_cffi
    {library}_cffi.{example}

`lib` has the C functions themselves, `ffi` makes pointers for them. The library is looked for beside this file.
"""

import pathlib

import cffi
import numpy

ffi = cffi.FFI()
ffi.cdef("""
{declarations}
""")
lib = ffi.dlopen(str(pathlib.Path(__file__).resolve().with_name("lib{library}.so")))
_ffi, _lib = ffi, lib  # a kernel's parameter may be called ffi or lib


def _array(kernel, value, name, dtype, stand_in, dims, written, sizes):
    """Checks an array; its address and strides. `sizes` collects the size of each dim, with the array it is from."""
    where = f"{{kernel}}: {{name}}"
    if not isinstance(value, numpy.ndarray):
        raise TypeError(f"{{where}} must be a NumPy array, not {{type(value).__qualname__}}; convert it by numpy.asarray")
    if value.dtype.name not in (dtype, stand_in):
        found = value.dtype.name
        raise TypeError(f"{{where}} has dtype {{found}}, but {{dtype}} is needed; convert it by {{name}}.astype(...)")
    if not value.dtype.isnative:
        raise TypeError(f"{{where}} has the byte order of another machine; convert it by {{name}}.astype({{dtype}})")
    if value.ndim != len(dims):
        shown = ", ".join(map(str, dims)) or "no dims"
        raise ValueError(f"{{where}} has {{value.ndim}} dims, but needs {{len(dims)}} ({{shown}})")
    for axis, (dim, size) in enumerate(zip(dims, value.shape)):
        if isinstance(dim, int):
            if size != dim:
                raise ValueError(f"{{where}}: dim {{axis}} is {{size}}, but the library is built for {{dim}}")
        elif sizes.setdefault(dim, (size, name))[0] != size:
            known, first = sizes[dim]
            raise ValueError(f"{{where}}: dim {{axis}} ({{dim}}) is {{size}}, but it is {{known}} in {{first}}")
    if written and not value.flags.writeable:
        raise ValueError(f"{{where}} is read-only, but the kernel writes it; pass a copy, or a fresh array")
    if any(stride % value.itemsize and size > 1 for stride, size in zip(value.strides, value.shape)):
        raise ValueError(f"{{where}} has a stride that is not a multiple of its element's bytes; pass a copy")
    strides = ffi.new("int64_t[]", [stride // value.itemsize for stride in value.strides])
    return value.ctypes.data, strides


def _finish(status):
    if status == 0:
        return
    message = ffi.string(lib.{library}_message(status)).decode()
    kinds = {{lib.{upper}_OUT_OF_MEMORY: MemoryError, lib.{upper}_UNSUPPORTED_PROCESSOR: RuntimeError}}
    raise AssertionError(message) if status > 0 else kinds.get(status, ValueError)(message)


def set_threads(count):
    """The threads that a call uses from now on, the calling one included."""
    lib.{library}_set_threads(count)


def threads():
    """The threads that a call uses."""
    return lib.{library}_threads()


def isa():
    """The instruction set in use."""
    return ffi.string(lib.{library}_isa()).decode()


def set_isa(name):
    """Another instruction set, for tests; an empty text takes the best again."""
    _finish(lib.{library}_set_isa(name.encode() if name else ffi.NULL))


def trim():
    """Gives kept workspaces back to the system."""
    lib.{library}_trim()


{functions}'''


def _default(scalar: Scalar) -> str:
    value = scalar.default
    return f'float("{value}")' if isinstance(value, float) and not math.isfinite(value) else repr(value)


def _docstring(interface: Interface) -> str:
    text = documentation(interface)
    if "\\" in text or '"""' in text:
        return "    " + repr(text)
    first, *rest = text.split("\n")
    lines = [first, *(line and f"    {line}" for line in rest)]
    return '    """' + "\n".join(lines) + ('\n    """' if rest else '"""')


def _function(interface: Interface) -> str:
    signature = []
    lines, passed = [], []
    for parameter in interface.parameters:
        name = parameter.name
        if isinstance(parameter, Tensor):
            stand_in = STAND_INS.get(parameter.dtype)
            call = f'"{interface.kernel}", {name}, "{name}", "{NUMPY_TYPES[parameter.dtype.name]}", {stand_in!r}'
            lines.append(
                f"    _data_{name}, _strides_{name} = _array({call}, {parameter.dims!r}, {parameter.writes}, _sizes)"
            )
            passed.append(f'_ffi.cast("{C_TYPES[parameter.dtype.name]} *", _data_{name}), _strides_{name}')
            signature.append(name)
        else:
            passed.append(name)
            signature.append(f"{name}={_default(parameter)}" if parameter.has_default else name)
    passed += [f'_sizes["{size}"][0]' for size in interface.sizes]
    return "\n".join(
        [
            f"def {interface.kernel}({', '.join(signature)}):",
            _docstring(interface),
            "    _sizes = {}",
            *lines,
            f"    _finish(_lib.{interface.function}({', '.join(passed)}))",
            "",
        ]
    )


def loader(library: str, interfaces: Sequence[Interface]) -> str:
    """The loader's Python file."""
    first = interfaces[0]
    return _TEMPLATE.format(
        library=library,
        upper=library.upper(),
        example=f"{first.kernel}({', '.join(p.name for p in first.parameters)})",
        declarations=declarations(library, interfaces),
        functions="\n\n".join(_function(interface) for interface in interfaces),
    )

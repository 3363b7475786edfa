"""What a library's functions look like from outside: names, C types, NumPy types. All written files follow this."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opdsl.ir.core import Kernel as IrKernel
from opdsl.ir.core import walk
from opdsl.ir.types import DType, ScalarType, TensorType, bf16, f8e4m3, f8e5m2, f16
from opdsl.lang.kernel import Kernel

# Our dtype -> C's type, NumPy's type.
_TYPES = {
    "f64": ("double", "float64"),
    "f32": ("float", "float32"),
    "f16": ("uint16_t", "float16"),
    "bf16": ("uint16_t", "bfloat16"),
    "f8e4m3": ("uint8_t", "float8_e4m3fn"),
    "f8e5m2": ("uint8_t", "float8_e5m2"),
    "i64": ("int64_t", "int64"),
    "i32": ("int32_t", "int32"),
    "i16": ("int16_t", "int16"),
    "i8": ("int8_t", "int8"),
    "u64": ("uint64_t", "uint64"),
    "u32": ("uint32_t", "uint32"),
    "u16": ("uint16_t", "uint16"),
    "u8": ("uint8_t", "uint8"),
    "bool": ("bool", "bool"),
}
C_TYPES = {name: types[0] for name, types in _TYPES.items()}
NUMPY_TYPES = {name: types[1] for name, types in _TYPES.items()}
# For those that NumPy does not have itself, integers with the same bits are taken too.
STAND_INS = {bf16: "uint16", f8e4m3: "uint8", f8e5m2: "uint8"}
BITS = {f16: "IEEE binary16", bf16: "bfloat16", f8e4m3: "float8 e4m3fn", f8e5m2: "float8 e5m2"}

UnitAxes = tuple[int | None, ...]

_RESERVED_WORDS = """
alignas alignof and asm auto bitand bitor bool break case catch char class compl concept const constexpr continue
co_await decltype default delete do double else enum explicit export extern false final float for friend goto if
import inline int int8_t int16_t int32_t int64_t long module mutable namespace new noexcept not nullptr operator or
override private protected public register requires restrict return short signed sizeof static struct switch
template this throw true try typedef typeid typename uint8_t uint16_t uint32_t uint64_t union unsigned using
virtual void volatile while xor NULL
"""
_RESERVED = frozenset(_RESERVED_WORDS.split())


def c_name(name: str) -> str:
    """The name, or one near it that C and C++ take."""
    ascii_name = "".join(c if c.isascii() else f"u{ord(c):x}" for c in name)
    return ascii_name + "_" if ascii_name in _RESERVED else ascii_name


@dataclass(frozen=True)
class Tensor:
    """An array parameter. Its dims are sizes or, by name, arguments."""

    name: str
    dtype: DType
    dims: tuple[int | str, ...]
    reads: bool
    writes: bool

    @property
    def c_name(self) -> str:
        return c_name(self.name)

    @property
    def access(self) -> str:
        return "read and written" if self.reads and self.writes else "written" if self.writes else "read"

    @property
    def shape_text(self) -> str:
        return "(" + ", ".join(map(str, self.dims)) + ("," if len(self.dims) == 1 else "") + ")"


@dataclass(frozen=True)
class Scalar:
    name: str
    dtype: DType
    default: Any = inspect.Parameter.empty

    @property
    def has_default(self) -> bool:
        return self.default is not inspect.Parameter.empty

    @property
    def c_name(self) -> str:
        return c_name(self.name)

    @property
    def c_type(self) -> str:
        """Halves are handed over as floats."""
        return "float" if self.dtype.is_float and self.dtype.bits < 32 else C_TYPES[self.dtype.name]


@dataclass(frozen=True)
class Interface:
    """One function of a library. `sizes` are the dims that are arguments; `constexprs` those of the compilation."""

    kernel: str
    function: str
    parameters: tuple[Tensor | Scalar, ...]
    sizes: tuple[str, ...]
    dtypes: dict[str, str]
    constexprs: dict[str, Any]
    bound: frozenset[str]  # the constexprs that are the sizes of dims
    file: str
    line: int
    summary: str

    @property
    def tensors(self) -> list[Tensor]:
        return [p for p in self.parameters if isinstance(p, Tensor)]

    @property
    def scalars(self) -> list[Scalar]:
        return [p for p in self.parameters if isinstance(p, Scalar)]

    def size_name(self, size: str) -> str:
        """The C name of a size: its own, unless a parameter has it."""
        taken = {p.c_name for p in self.parameters} | {f"{t.c_name}_strides" for t in self.tensors}
        name = c_name(size)
        return f"{name}_size" if name in taken else name

    def dims_of(self, tensor: Tensor) -> list[int]:
        """As the libraries' C++ has them: a size, or ~(place among the sizes)."""
        return [dim if isinstance(dim, int) else ~self.sizes.index(dim) for dim in tensor.dims]


def read_interface(
    library: str, name: str, kernel: Kernel, ir: IrKernel, dtypes: dict[str, DType], constexprs: dict[str, Any]
) -> Interface:
    """The interface of a specialised kernel, called `name` in the library."""
    read, written = set(), set()
    for op in walk(ir.body):
        if op.name == "copy_in":
            read.add(op.operands[0])
        elif op.name == "copy_out":
            written.add(op.operands[1])
            if op.attributes["mode"] != "set":
                read.add(op.operands[1])
    parameters: list[Tensor | Scalar] = []
    for declared, value in zip(kernel.signature.parameters, ir.parameters, strict=True):
        type = value.type
        if isinstance(type, TensorType):
            tensor = Tensor(declared.name, type.dtype, type.dims, value in read, value in written)
            parameters.append(tensor)
        else:
            assert isinstance(type, ScalarType)
            parameters.append(Scalar(declared.name, type.dtype, declared.default))
    sizes = tuple(dict.fromkeys(d for p in parameters if isinstance(p, Tensor) for d in p.dims if isinstance(d, str)))
    summary = (kernel.function.__doc__ or "").strip().split("\n\n")[0]
    return Interface(
        name,
        f"{library}_{name}",
        tuple(parameters),
        sizes,
        {variable: dtype.name for variable, dtype in dtypes.items()},
        dict(constexprs),
        frozenset(constexprs).intersection(kernel.signature.symbols),
        Path(kernel.source.file).name,
        kernel.source.first_line,
        " ".join(summary.split()),
    )


def shown_value(value: object) -> str:
    """A constexpr's value without addresses of memory."""
    if isinstance(value, str | int | float | bool | tuple | None):
        return repr(value)
    return str(getattr(value, "__name__", None) or value)


def scalar_field(scalar: Scalar) -> str:
    return "f" if scalar.dtype.is_float else "i"


def contiguous(interface: Interface) -> UnitAxes:
    """The last axis of every array has stride 1."""
    tensors = {tensor.name: tensor for tensor in interface.tensors}
    return tuple(
        len(tensors[p.name].dims) - 1 if p.name in tensors and tensors[p.name].dims else None
        for p in interface.parameters
    )


def comment(interface: Interface, in_place: bool) -> str:
    """What a C header says of a function."""
    lines = [f"{interface.kernel}, from {interface.file}:{interface.line}."]
    if interface.summary:
        lines.append(interface.summary)
    lines.append("")
    for parameter in interface.parameters:
        if isinstance(parameter, Tensor):
            bits = f" ({BITS[parameter.dtype]} in {parameter.dtype.bits} bits)" if parameter.dtype in BITS else ""
            text = f"{parameter.dtype} array {parameter.shape_text}, {parameter.access}{bits}"
        else:
            default = f"; by default {parameter.default!r}" if parameter.has_default else ""
            text = f"{parameter.dtype} scalar{default}"
        lines.append(f"{parameter.c_name}: {text}")
    if interface.sizes:
        lines.append(f"sizes: {', '.join(interface.size_name(size) for size in interface.sizes)}")
    compiled = {**interface.dtypes, **{n: shown_value(v) for n, v in interface.constexprs.items()}}
    if compiled:
        lines.append("compiled for " + ", ".join(f"{name} = {value}" for name, value in compiled.items()))
    if in_place:
        lines.append("An output may be the very same view as an input.")
    return "\n".join(f" * {line}".rstrip() for line in lines)

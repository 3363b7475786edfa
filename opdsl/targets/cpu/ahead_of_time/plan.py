"""What is compiled: the instruction sets, and for each kernel the layouts of its arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from opdsl.ir.core import Kernel as IrKernel
from opdsl.ir.core import walk
from opdsl.ir.types import DType
from opdsl.lang.kernel import Kernel
from opdsl.support.toolchain import Compiler
from opdsl.targets.ahead_of_time.building import BuildError
from opdsl.targets.ahead_of_time.interface import Interface, UnitAxes, contiguous, read_interface
from opdsl.targets.cpu.isa import ISAS

MAXIMUM_ARRAYS = 64
MAXIMUM_AXES = 256
RESERVED_NAMES = frozenset({"message", "set_threads", "threads", "isa", "set_isa", "trim"})

# Instruction sets of each kind of machine that the compiler may compile for. The best is first, and each machine that
# has one has those after it too.
MACHINES = {"x86_64": ("amx", "avx512_vnni", "avx512", "avx2", "baseline"), "aarch64": ("neon", "baseline")}
# These only differ from the next ones in products of 16-bit floats and bytes.
FOR_PRODUCTS = ("amx", "avx512_vnni")
PRODUCT_BITS = 16


@dataclass(frozen=True)
class Part:
    """A kernel of the library under its name there. `layouts` are unit axes for each parameter, tried in order."""

    interface: Interface
    ir: IrKernel
    layouts: tuple[UnitAxes, ...]


def machine_of(compiler: Compiler) -> str:
    return compiler.machine.partition("-")[0]


def choose_isas(wanted: Sequence[str] | None, compiler: Compiler) -> tuple[str, ...]:
    """The instruction sets to compile for, the best first; all of the compiler's machine where none is named."""
    machine = machine_of(compiler)
    known = MACHINES.get(machine, ("baseline",))
    if not wanted:
        return known
    for name in wanted:
        if name not in ISAS:
            raise BuildError(f"there is no instruction set {name!r}", f"there are {', '.join(known)}")
        if name not in known:
            raise BuildError(
                f"the compiler {compiler.path} compiles for {machine}, which has no {name}",
                f"it has {', '.join(known)}; OPDSL_CXX names another compiler",
            )
    return tuple(name for name in known if name in wanted)


def useful_isas(isas: Sequence[str], ir: IrKernel) -> tuple[str, ...]:
    """Those of a library's instruction sets that make a difference to a kernel."""
    products = [op for op in walk(ir.body) if op.name == "dot"]
    narrow = any(op.operands[0].type.dtype.bits <= PRODUCT_BITS for op in products)
    if narrow or "avx512" not in isas:
        return tuple(isas)
    return tuple(isa for isa in isas if isa not in FOR_PRODUCTS)


def read_layout(text: str, interface: Interface) -> UnitAxes:
    """`a=0,b=any`: which axis of an array has stride 1, or that none need; the others' is the last."""
    axes = list(contiguous(interface))
    names = [parameter.name for parameter in interface.parameters]
    tensors = {tensor.name: tensor for tensor in interface.tensors}
    for piece in text.split(","):
        name, sign, value = piece.partition("=")
        if not sign or name not in tensors:
            continue  # of another kernel of the library
        rank = len(tensors[name].dims)
        if value == "any":
            axes[names.index(name)] = None
        elif value.isdigit() and int(value) < rank:
            axes[names.index(name)] = int(value)
        else:
            raise BuildError(f"--layout {text}: {name} has the axes 0 to {rank - 1}", "give one of them, or any")
    return tuple(axes)


def make_part(
    library: str,
    name: str,
    kernel: Kernel,
    ir: IrKernel,
    dtypes: dict[str, DType],
    constexprs: dict[str, Any],
    layouts: Sequence[str] = (),
    general: bool = True,
) -> Part:
    """A part with the contiguous layout, those asked for, and the one for any strides."""
    interface = read_interface(library, name, kernel, ir, dtypes, constexprs)
    if name in RESERVED_NAMES:
        raise BuildError(
            f"the kernel {name} would be {library}_{name}, which the library needs itself", "rename the kernel"
        )
    axes = sum(len(tensor.dims) for tensor in interface.tensors)
    if len(interface.tensors) > MAXIMUM_ARRAYS or axes > MAXIMUM_AXES:
        raise BuildError(f"{name} has more than {MAXIMUM_ARRAYS} arrays, or more than {MAXIMUM_AXES} dims in all")
    names = {tensor.name for tensor in interface.tensors}
    own = [text for text in layouts if any(piece.partition("=")[0] in names for piece in text.split(","))]
    found = [contiguous(interface), *(read_layout(text, interface) for text in own)]
    if general:
        found.append(tuple(None for _ in interface.parameters))
    return Part(interface, ir, tuple(dict.fromkeys(found)))

"""The names of a generated function and its arguments: the kernel's own, unless they would mean something else.

Python takes names that Triton, the expressions of a launch or C do not: a dim may be called as a parameter, a parameter
`x_stride0`, a kernel `tl`. Helper functions begin with an underscore, so no other name does.
"""

from __future__ import annotations

import keyword

from opdsl.ir.core import Kernel, Value
from opdsl.ir.types import TensorType

_C = (
    "auto", "break", "case", "char", "const", "continue", "default", "do", "double", "else", "enum", "extern",
    "float", "for", "goto", "if", "inline", "int", "long", "register", "restrict", "return", "short", "signed",
    "sizeof", "static", "struct", "switch", "typedef", "union", "unsigned", "void", "volatile", "while", "bool",
    "true", "false", "NULL", "asm", "main", "errno", "stdin", "stdout", "stderr",
)  # fmt: skip
# What generated functions and the host's expressions of their grids call by name.
_USED = (
    "tl", "triton", "libdevice", "range", "float", "int", "bool", "abs", "min", "max", "len", "sum", "print",
    "slice", "tuple", "list", "cdiv", "floordiv", "mod", "grid", "stream", "launch", "status", "device",
    "function", "arguments",
)  # fmt: skip
TAKEN = frozenset({*keyword.kwlist, *_C, *_USED})


def plain_name(hint: str, otherwise: str = "value") -> str:
    """An ASCII name that begins with a letter, as near to `hint` as may be."""
    stem = "".join(c if c.isalnum() and c.isascii() else "_" for c in hint) or otherwise
    return f"v{stem}" if stem[0].isdigit() or stem[0] == "_" else stem


def unique(name: str, taken: set[str]) -> str:
    """The name, or with a number behind it where it is taken; then it is taken, too."""
    stem, number = plain_name(name), 1
    found = stem
    while found in taken:
        number += 1
        found = f"{stem}_{number}"
    taken.add(found)
    return found


class ArgumentNames:
    """The name of each parameter, dim and stride of a kernel. Parameters come first, so that those keep theirs."""

    def __init__(self, kernel: Kernel) -> None:
        self.taken = set(TAKEN)
        self.function = unique(kernel.name, set(TAKEN))
        pairs = list(zip(kernel.parameters, kernel.parameter_names, strict=True))
        self.parameters: dict[Value, str] = {value: unique(name, self.taken) for value, name in pairs}
        self.dims: dict[str, str] = {}
        self.strides: dict[tuple[Value, int], str] = {}
        for value, _ in pairs:
            if isinstance(value.type, TensorType):
                for dim in value.type.dims:
                    if isinstance(dim, str) and dim not in self.dims:
                        self.dims[dim] = unique(dim, self.taken)
        for value, _ in pairs:
            if isinstance(value.type, TensorType):
                for axis in range(len(value.type.dims)):
                    self.strides[(value, axis)] = unique(f"{self.parameters[value]}_stride{axis}", self.taken)
        self.failures = unique("failures", self.taken)

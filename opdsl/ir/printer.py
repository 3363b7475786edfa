"""The text form of kernels. `parser.py` reads it back; docs/ir.md has the grammar."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from opdsl.ir.core import Gather, Kernel, Op, Point, Region, Slice, Value
from opdsl.ir.types import DType, TensorType, Type
from opdsl.support.location import UNKNOWN, Location

_NAME = re.compile(r"[A-Za-z_]\w*\Z")

# Ops whose place in the source becomes part of what is compiled, because they report it at run time.
REPORTS_LOCATION = frozenset(("assert", "print", "breakpoint"))


def print_kernel(kernel: Kernel, locations: bool = True) -> str:
    """The kernel as text, with the user's variable names."""
    return _Printer(kernel.source.file, names=True, locations=locations).kernel(kernel)


def canonical_text(kernel: Kernel) -> str:
    """What determines the compiled kernel and nothing else: no value names, no locations but those reported at run
    time. The compile cache hashes it."""
    return _Printer(kernel.source.file, names=False, locations=False).kernel(kernel)


def format_type(type: Type) -> str:
    """As `str(type)`, but with room around the x between symbols, which may contain an x."""
    if isinstance(type, TensorType):
        return f"tensor<{' x '.join([*map(str, type.dims), type.dtype.name])}>"
    return str(type)


def format_attribute(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(float(value))
    if isinstance(value, int):
        return repr(int(value))
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, DType):
        return value.name
    if isinstance(value, Slice):
        return f"slice {value.length}" if value.step == 1 else f"slice {value.length} by {value.step}"
    if isinstance(value, Point):
        return "point"
    if isinstance(value, Gather):
        return "gather"
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(map(format_attribute, value))}]"
    raise TypeError(f"an attribute of type {type(value).__name__} has no text form")


def format_attributes(attributes: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {format_attribute(attributes[name])}" for name in sorted(attributes))


def format_location(location: Location, file: str) -> str:
    """`line:column` of the kernel's own file, with the end if it is known; other files are named."""
    text = f"{location.line}:{location.column}"
    if location.end_line or location.end_column:
        text += f" to {location.end_line}:{location.end_column}"
    return text if location.file == file else f"{json.dumps(location.file)} {text}"


class _Printer:
    def __init__(self, file: str, *, names: bool, locations: bool) -> None:
        self._file = file
        self._use_names = names
        self._locations = locations
        self._names: dict[Value, str] = {}
        self._used: dict[str, int] = {}
        self._unnamed = 0
        self._lines: list[str] = []

    def kernel(self, kernel: Kernel) -> str:
        parameters = []
        for number, (parameter, name) in enumerate(zip(kernel.parameters, kernel.parameter_names, strict=True)):
            shown = name if self._use_names else f"p{number}"
            self._names[parameter] = self._unique(shown)
            parameters.append(f"{self._names[parameter]}: {format_type(parameter.type)}")
        source = f" source {json.dumps(kernel.source.file)}" if self._use_names else ""
        self._lines.append(f"kernel {kernel.name}({', '.join(parameters)}){source} {{")
        self._ops(kernel.body, "  ")
        self._lines.append("}")
        return "\n".join(self._lines) + "\n"

    def _unique(self, hint: str) -> str:
        count = self._used.get(hint, 0)
        self._used[hint] = count + 1
        return f"%{hint}.{count}" if count else f"%{hint}"

    def _define(self, value: Value) -> str:
        if self._use_names and _NAME.match(value.name):
            name = self._unique(value.name)
        else:
            name = f"%{self._unnamed}"
            self._unnamed += 1
        self._names[value] = name
        return name

    def _use(self, value: Value) -> str:
        # Text of a broken kernel is still wanted, to see what is wrong with it.
        return self._names.get(value, "%<undefined>")

    def _ops(self, region: Region, indent: str) -> None:
        for op in region.ops:
            self._op(op, indent)

    def _op(self, op: Op, indent: str) -> None:
        operands = ", ".join(map(self._use, op.operands))
        text = op.name + (f" {operands}" if operands else "")
        if op.attributes:
            text += f" {{{format_attributes(op.attributes)}}}"
        if op.results:
            text = f"{', '.join(map(self._define, op.results))} = {text}"
            text += f" : {', '.join(format_type(r.type) for r in op.results)}"
        if op.location != UNKNOWN and (self._locations or (not self._use_names and op.name in REPORTS_LOCATION)):
            text += f" @ {format_location(op.location, self._file)}"
        bodies = self._regions(op.regions, indent)
        if not bodies:
            self._lines.append(indent + text)
            return
        self._lines.append(f"{indent}{text} {bodies[0][0]}")
        for number, lines in enumerate(bodies):
            if number:
                self._lines.append(f"{indent}}} {lines[0]}")
            self._lines.extend(lines[1:])
        self._lines.append(f"{indent}}}")

    def _regions(self, regions: Sequence[Region], indent: str) -> list[list[str]]:
        """The lines of each region, of which the first opens it."""
        outer, bodies = self._lines, []
        for region in regions:
            arguments = ", ".join(f"{self._define(a)}: {format_type(a.type)}" for a in region.arguments)
            self._lines = [f"({arguments}) {{" if arguments else "{"]
            self._ops(region, indent + "  ")
            bodies.append(self._lines)
        self._lines = outer
        return bodies

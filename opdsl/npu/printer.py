"""A program as text, for people: one line for each instruction, with its pipe and its source line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from opdsl.npu.instructions import INSTRUCTIONS
from opdsl.npu.statements import Compute, GlobalAddress, If, Issue, LocalAddress, Loop, Operand, Register, Statement

if TYPE_CHECKING:
    from opdsl.npu.program import Program


def print_program(program: Program) -> str:
    lines = [
        f"program {program.name} chip {program.chip} blocks {_operand(program.block_num) if program.block_num else 'all'}"
    ]
    for tensor in program.tensors:
        size = f" of {_operand(tensor.bytes)} bytes" if tensor.kind == "workspace" else ""
        lines.append(f"  {tensor.kind} {tensor.name}: {tensor.dtype}{size}")
    for place in sorted(program.allocations, key=lambda a: (a.core, a.buffer, a.address)):
        lines.append(
            f"  {place.core} {place.buffer} {place.address:>7} .. {place.address + place.bytes:<7} {place.name} "
            f"({place.location.line})"
        )
    for kind, code in program.codes.items():
        lines.append(f"code {kind} {{")
        _print_body(code.body, 1, lines)
        lines.append("}")
    return "\n".join(lines) + "\n"


def _print_body(body: list[Statement], depth: int, lines: list[str]) -> None:
    indent = "  " * depth
    for statement in body:
        if isinstance(statement, Compute):
            operands = ", ".join(_operand(value) for value in statement.operands)
            lines.append(f"{indent}{statement.result.name} = {statement.name}.{statement.dtype} {operands}")
        elif isinstance(statement, Issue):
            lines.append(f"{indent}{print_issue(statement)}")
        elif isinstance(statement, Loop):
            bounds = ", ".join(_operand(value) for value in (statement.start, statement.stop, statement.step))
            lines.append(f"{indent}for {statement.variable.name} in {bounds} {{{_place(statement)}")
            _print_body(statement.body, depth + 1, lines)
            lines.append(f"{indent}}}")
        elif isinstance(statement, If):
            lines.append(f"{indent}if {_operand(statement.condition)} {{{_place(statement)}")
            _print_body(statement.then, depth + 1, lines)
            if statement.otherwise:
                lines.append(f"{indent}}} else {{")
                _print_body(statement.otherwise, depth + 1, lines)
            lines.append(f"{indent}}}")
        else:
            lines.append(f"{indent}while {{{_place(statement)}")
            _print_body(statement.header, depth + 1, lines)
            lines.append(f"{indent}}} {_operand(statement.condition)} {{")
            _print_body(statement.body, depth + 1, lines)
            lines.append(f"{indent}}}")


def print_issue(issue: Issue) -> str:
    """`MTE2  data_copy UB a[0] f32, GM x[%0] f32, block_len=128 // 12`: operands that differ from their defaults."""
    parts = []
    for field in INSTRUCTIONS[issue.name].fields:
        value = issue.operands[field.name]
        if field.kind == "memory":
            if value is not None:
                parts.append(print_address(value))
        elif field.kind == "choice":
            if value != "none" and field.name != "mask_mode":
                parts.append(str(value))
        elif field.kind == "text":
            parts.append(repr(value))
        elif field.default is None or isinstance(value, Register) or value != field.default:
            parts.append(f"{field.name}={_operand(value)}")
    result = f"{issue.result.name} = " if issue.result else ""
    return f"{issue.pipe:<4}  {result}{issue.name} {', '.join(parts)}{_place(issue)}"


def print_address(address: GlobalAddress | LocalAddress) -> str:
    if isinstance(address, GlobalAddress):
        return f"GM {address.tensor.name}[{_operand(address.offset)}] {address.dtype}"
    name = f" {address.name}" if address.name else ""
    return f"{address.buffer}{name}[{_operand(address.address)}] {address.dtype}"


def _operand(value: Operand) -> str:
    return value.name if isinstance(value, Register) else repr(value)


def _place(statement: Any) -> str:
    return f"  // {statement.location.line}" if statement.location.line else ""

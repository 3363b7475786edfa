"""The NPU program: what `opdsl.npu` builds, the compiler lowers to, and the emulator runs (docs/npu.md)."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

from opdsl.npu.printer import print_program
from opdsl.npu.statements import (
    Allocation,
    Code,
    CoreKind,
    If,
    Issue,
    Loop,
    Operand,
    Parameter,
    Statement,
    Tensor,
    While,
)


@dataclass(eq=False)
class Program:
    """A whole kernel for one chip. `block_num` cores (on a split chip: groups of a cube core and its vector cores, or
    vector cores alone where there is no cube code) run it; 0 means as many as the chip has."""

    name: str
    chip: str
    tensors: list[Tensor] = field(default_factory=list)
    parameters: list[Parameter] = field(default_factory=list)
    codes: dict[CoreKind, Code] = field(default_factory=dict)
    block_num: Operand = 0
    allocations: list[Allocation] = field(default_factory=list)

    @property
    def arguments(self) -> list[Tensor]:
        return [tensor for tensor in self.tensors if tensor.kind == "argument"]

    @property
    def scalar_names(self) -> list[str]:
        return [parameter.name for parameter in self.parameters if parameter.kind == "scalar"]

    def __str__(self) -> str:
        return print_program(self)

    def without(self, *issues: Issue) -> Program:
        """The same program, but that some instructions are missing (fault injection)."""
        gone = {id(issue) for issue in issues}
        result = copy.copy(self)
        result.codes = {kind: Code(kind, _without(code.body, gone)) for kind, code in self.codes.items()}
        return result


def _without(body: list[Statement], gone: set[int]) -> list[Statement]:
    result: list[Statement] = []
    for statement in body:
        if id(statement) in gone:
            continue
        if isinstance(statement, Loop):
            statement = copy.copy(statement)
            statement.body = _without(statement.body, gone)
        elif isinstance(statement, While):
            statement = copy.copy(statement)
            statement.header = _without(statement.header, gone)
            statement.body = _without(statement.body, gone)
        elif isinstance(statement, If):
            statement = copy.copy(statement)
            statement.then = _without(statement.then, gone)
            statement.otherwise = _without(statement.otherwise, gone)
        result.append(statement)
    return result

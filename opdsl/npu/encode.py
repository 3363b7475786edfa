"""Programs as the emulator takes them: a tree becomes flat words, registers and numbers become slots."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from opdsl import _npu
from opdsl.npu.instructions import INSTRUCTIONS, works_in_floats
from opdsl.npu.program import Program
from opdsl.npu.scalars import CONVERSIONS, FLOAT_OPS
from opdsl.npu.statements import (
    Code,
    Compute,
    GlobalAddress,
    If,
    Issue,
    LocalAddress,
    Loop,
    Operand,
    Register,
    Statement,
    While,
    walk,
)
from opdsl.support.location import UNKNOWN, Location

_OPS = {name: number for number, name in enumerate(_npu.INSTRUCTIONS)}
_PIPES = {name: number for number, name in enumerate(_npu.PIPES)}
_SPACES = {name: number for number, name in enumerate(_npu.SPACES)}
_DTYPES = {name: number for number, name in enumerate(_npu.DTYPES)}
_INTEGER = {name: number for number, name in enumerate(_npu.INTEGER_OPS)}
_FLOAT = {name: number for number, name in enumerate(_npu.FLOAT_OPS)}
_CONVERSIONS = {name: number for number, name in enumerate(_npu.CONVERSIONS)}


@dataclass
class EncodedCode:
    kind: str
    ops: list[int] = field(default_factory=list)
    pipes: list[int] = field(default_factory=list)
    locations: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    operands: list[int] = field(default_factory=list)
    slots: list[int] = field(default_factory=list)
    registers: dict[Register, int] = field(default_factory=dict)

    def fields(self) -> dict[str, Any]:
        arrays = ("ops", "pipes", "locations", "starts", "operands")
        result: dict[str, Any] = {name: np.array(getattr(self, name), np.int32) for name in arrays}
        return result | {"kind": self.kind, "slots": np.array(self.slots, np.int64)}


@dataclass
class Encoded:
    codes: list[EncodedCode]
    locations: list[Location]
    texts: list[str]
    written: set[int]
    """The tensors that some instruction writes."""
    needs_values: bool
    """Whether control may depend on data."""


def encode(program: Program) -> Encoded:
    locations = _Table([UNKNOWN])
    texts = _Table([])
    codes = [_Encoder(code, locations, texts).result for code in program.codes.values()]
    written: set[int] = set()
    needs_values = False
    for code in program.codes.values():
        for statement in walk(code.body):
            if isinstance(statement, Issue):
                address = statement.operands.get("dst")
                if isinstance(address, GlobalAddress):
                    written.add(address.tensor.index)
        needs_values |= control_reads_data(code)
    return Encoded(codes, locations.items, texts.items, written, needs_values)


def control_reads_data(code: Code) -> bool:
    """Whether a bound, a condition, an address or an operand other than a number to compute with comes from memory."""
    statements = list(walk(code.body))
    loaded = {id(s.result) for s in statements if isinstance(s, Issue) and s.result is not None}
    if any(isinstance(s, Issue) and s.result is not None and s.name != "load_scalar" for s in statements):
        return True

    def reads(operand: Any) -> bool:
        if isinstance(operand, GlobalAddress):
            return id(operand.offset) in loaded
        if isinstance(operand, LocalAddress):
            return id(operand.address) in loaded
        return id(operand) in loaded

    grown = True
    while grown:
        before = len(loaded)
        loaded |= {id(s.result) for s in statements if isinstance(s, Compute) and any(map(reads, s.operands))}
        grown = len(loaded) > before
    for statement in statements:
        if isinstance(statement, Issue):
            steers = any(reads(v) for name, v in statement.operands.items() if name not in ("scalar", "value"))
        elif isinstance(statement, Loop):
            steers = any(map(reads, (statement.start, statement.stop, statement.step)))
        elif isinstance(statement, (While, If)):
            steers = reads(statement.condition)
        else:
            steers = False
        if steers:
            return True
    return False


def bits_of(value: int | float) -> int:
    """The i64 with the bits of a slot."""
    if isinstance(value, float):
        return int(struct.unpack("<q", struct.pack("<d", value))[0])
    return (value + 2**63) % 2**64 - 2**63


class _Table:
    """Items in the order in which they came, each once."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items
        self._index = {item: number for number, item in enumerate(items)}

    def number(self, item: Any) -> int:
        if item not in self._index:
            self._index[item] = len(self.items)
            self.items.append(item)
        return self._index[item]


class _Encoder:
    def __init__(self, code: Code, locations: _Table, texts: _Table) -> None:
        self.result = EncodedCode(code.kind)
        self._locations = locations
        self._texts = texts
        self._constants: dict[tuple[type, int], int] = {}
        self._body(code.body)
        self._word("op_halt", "S", UNKNOWN, [])

    def _slot(self, value: Operand, as_float: bool | None = None) -> int:
        """The slot of a register or a number; `as_float` makes a number one of a kind."""
        result = self.result
        if isinstance(value, Register):
            if value not in result.registers:
                result.registers[value] = len(result.slots)
                result.slots.append(0)
            return result.registers[value]
        if as_float is not None:
            value = float(value) if as_float else int(value)
        key = (type(value), bits_of(value))
        if key not in self._constants:
            self._constants[key] = len(result.slots)
            result.slots.append(key[1])
        return self._constants[key]

    def _word(self, op: str, pipe: str, location: Location, operands: list[int]) -> int:
        result = self.result
        result.ops.append(_OPS[op])
        result.pipes.append(_PIPES[pipe])
        result.locations.append(self._locations.number(location))
        result.starts.append(len(result.operands))
        result.operands += operands
        return len(result.ops) - 1

    def _patch(self, word: int, operand: int) -> None:
        """Sets a jump's target to the next word."""
        self.result.operands[self.result.starts[word] + operand] = len(self.result.ops)

    def _body(self, body: list[Statement]) -> None:
        for statement in body:
            if isinstance(statement, Compute):
                self._compute(statement)
            elif isinstance(statement, Issue):
                self._issue(statement)
            elif isinstance(statement, Loop):
                self._loop(statement)
            elif isinstance(statement, While):
                self._while(statement)
            else:
                self._if(statement)

    def _compute(self, node: Compute) -> None:
        if node.name in CONVERSIONS:
            op, number = "op_convert", _CONVERSIONS[node.name]
            operands = [self._slot(node.operands[0], node.name in ("to_int", "to_unsigned", "round_to", "to_bits"))]
            dtype = _DTYPES.get(node.dtype, 0)
        elif node.dtype in ("f32", "f64"):
            assert node.name in FLOAT_OPS
            op, number, dtype = "op_float", _FLOAT[node.name], _DTYPES[node.dtype]
            condition = node.name == "select"
            operands = [self._slot(v, not (condition and i == 0)) for i, v in enumerate(node.operands)]
        else:
            op, number, dtype = "op_integer", _INTEGER[node.name], _DTYPES["i64"]
            operands = [self._slot(v, False) for v in node.operands]
        operands += [operands[0]] * (3 - len(operands))
        self._word(op, "S", node.location, [number, dtype, self._slot(node.result), *operands])

    def _loop(self, node: Loop) -> None:
        start, stop, step = (self._slot(value, False) for value in (node.start, node.stop, node.step))
        variable = self._slot(node.variable)
        move, add = _INTEGER["move"], _INTEGER["add"]
        self._word("op_integer", "S", node.location, [move, 0, variable, start, start, start])
        test = self._word("op_loop_test", "S", node.location, [variable, stop, step, 0])
        self._body(node.body)
        self._word("op_integer", "S", node.location, [add, 0, variable, variable, step, step])
        self._word("op_jump", "S", node.location, [test])
        self._patch(test, 3)

    def _while(self, node: While) -> None:
        start = len(self.result.ops)
        self._body(node.header)
        test = self._word("op_jump_if_zero", "S", node.location, [self._slot(node.condition, False), 0])
        self._body(node.body)
        self._word("op_jump", "S", node.location, [start])
        self._patch(test, 1)

    def _if(self, node: If) -> None:
        test = self._word("op_jump_if_zero", "S", node.location, [self._slot(node.condition, False), 0])
        self._body(node.then)
        if node.otherwise:
            over = self._word("op_jump", "S", node.location, [0])
            self._patch(test, 1)
            self._body(node.otherwise)
            self._patch(over, 0)
        else:
            self._patch(test, 1)

    def _issue(self, node: Issue) -> None:
        operands: list[int] = []
        for each in INSTRUCTIONS[node.name].fields:
            value = node.operands[each.name]
            if each.kind == "memory":
                operands += self._address(value)
            elif each.kind == "choice":
                if each.name == "event":
                    second = value.partition("_")[2]
                    operands.append(self._slot(self._texts.number(value)))
                    operands.append(self._slot(node.operands["event_id"], False))
                    operands.append(self._slot(each.choices.index(value)))
                    operands.append(self._slot(_PIPES[second]))
                    break
                operands.append(self._slot(each.choices.index(value)))
            elif each.kind == "text":
                operands.append(self._slot(self._texts.number(value)))
            elif each.kind == "float":
                operands.append(self._slot(value, works_in_floats(node.name, node.operands)))
            else:
                operands.append(self._slot(value, False))
        if node.result is not None:
            operands.append(self._slot(node.result))
        self._word(node.name, node.pipe, node.location, operands)

    def _address(self, address: GlobalAddress | LocalAddress | None) -> list[int]:
        if address is None:
            return [self._slot(-1), self._slot(0), self._slot(0)]
        dtype = self._slot(_DTYPES[address.dtype])
        if isinstance(address, GlobalAddress):
            return [self._slot(_npu.FIRST_TENSOR + address.tensor.index), dtype, self._slot(address.offset, False)]
        return [self._slot(_SPACES[address.buffer]), dtype, self._slot(address.address, False)]

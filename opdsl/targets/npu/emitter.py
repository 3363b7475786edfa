"""Appends nodes to the tree: the scalar unit, loops and branches, buffers, instructions at places in buffers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from opdsl.ir.types import DTYPES
from opdsl.npu.chip import Chip
from opdsl.npu.instructions import INSTRUCTIONS
from opdsl.npu.statements import Operand, Register, Tensor
from opdsl.support.location import UNKNOWN, Location
from opdsl.targets.npu.scalar_unit import ScalarUnit
from opdsl.targets.npu.tree import Access, Block, Branch, Buffer, Instruction, Loop, Node, Scalar, While


@dataclass(frozen=True)
class Place:
    """A byte offset in a buffer, seen as a dtype."""

    buffer: Buffer
    dtype: str
    offset: Operand = 0

    def at(self, bytes: int) -> Place:
        assert isinstance(self.offset, int)
        return replace(self, offset=self.offset + bytes)

    def view(self, dtype: str) -> Place:
        return replace(self, dtype=dtype)


@dataclass(frozen=True)
class GlobalPlace:
    """An element offset in a tensor, seen as a dtype. `memory` is what the access counts as touching."""

    tensor: Tensor | None
    dtype: str
    offset: Operand
    memory: Buffer | str


class Emitter:
    def __init__(self, chip: Chip) -> None:
        self.chip = chip
        self.program = Block()
        self.prologue = Block()  # goes before all of the program
        self._blocks: list[Block] = [self.program]
        self.loops: list[Loop | While] = []
        self._slot_counters: dict[int, list[Register]] = {}
        self._passing: set[Loop] = set()  # loops in which cores pass each other tiles
        self._groups = 0
        self.in_place: list[tuple[Buffer, Buffer, int]] = []  # (result, operand, group): may be the same memory
        self.location: Location = UNKNOWN
        self.s = ScalarUnit(self._append_scalar)
        self.core = "vector"  # which core runs what is issued now
        self.both = "vector"  # what runs on all kinds of cores that the kernel uses

    def _append_scalar(self, compute: Any) -> None:
        compute.location = self.location
        self.append(Scalar(compute, location=self.location))

    def append(self, node: Node) -> None:
        self._blocks[-1].nodes.append(node)

    def new_group(self) -> int:
        """A number for the accesses of one transfer or operation; see `tree.Access`."""
        self._groups += 1
        return self._groups

    # --- buffers

    def buffer(
        self, space: str, bytes: int, name: str, shape: tuple[int, ...] = (), dtype: str = "", slots: int = 1
    ) -> Buffer:
        """A buffer that is made here. With `slots` above 1 it rotates with the innermost loop that does."""
        rotates = self.turning_loop() if slots > 1 else None
        if space == "WS" and rotates is not None and rotates not in self._passing:
            # Flags between cores are taken in the order in which they were set, whatever their slots: slots must come in
            # turn, so no other loop may count with this one.
            self._passing.add(rotates)
            rotates.slot = self.s.register("i64", "slot")
        return Buffer(
            name,
            space,
            bytes,
            self.location,
            shape,
            dtype,
            rotates.slots if rotates is not None else 1,
            rotates,
            made_in=tuple(self.loops),
        )

    def turning_loop(self) -> Loop | None:
        """The innermost loop around with several slots."""
        return next((loop for loop in reversed(self.loops) if isinstance(loop, Loop) and loop.slots > 1), None)

    def _slot_counter(self, slots: int) -> Register:
        """A register that counts slots: one that none of the loops around counts with."""
        taken = {id(loop.slot) for loop in self.loops if isinstance(loop, Loop)}
        counters = self._slot_counters.setdefault(slots, [])
        free = next((register for register in counters if id(register) not in taken), None)
        if free is None:
            free = self.s.register("i64", "slot")
            counters.append(free)
        return free

    # --- control

    @contextmanager
    def block(self, block: Block) -> Iterator[None]:
        self._blocks.append(block)
        yield
        self._blocks.pop()

    @contextmanager
    def loop(
        self,
        start: Operand,
        stop: Operand,
        step: Operand = 1,
        *,
        name: str = "i",
        slots: int = 1,
        independent: bool = False,
        cores: str = "",
    ) -> Iterator[Register]:
        variable = self.s.register("i64", name)
        node = Loop(
            variable,
            start,
            stop,
            step,
            Block(),
            slots,
            None,
            independent,
            cores or "both",
            bool(cores),
            location=self.location,
        )
        if slots > 1:
            node.slot = self._slot_counter(slots)
        self.append(node)
        self.loops.append(node)
        with self.block(node.body):
            yield variable
        self.loops.pop()

    @contextmanager
    def if_(self, condition: Operand) -> Iterator[Branch]:
        """The branch that is taken; `with e.otherwise(branch)` fills the other one."""
        node = Branch(condition, location=self.location)
        self.append(node)
        with self.block(node.then):
            yield node

    @contextmanager
    def otherwise(self, node: Branch) -> Iterator[None]:
        with self.block(node.otherwise):
            yield

    @contextmanager
    def while_(self, condition: Register) -> Iterator[None]:
        """The body, which must set the condition anew."""
        node = While(condition, location=self.location)
        self.append(node)
        self.loops.append(node)
        with self.block(node.body):
            yield
        self.loops.pop()

    @contextmanager
    def on(self, core: str) -> Iterator[None]:
        before, self.core = self.core, core
        yield
        self.core = before

    # --- instructions

    def issue(
        self,
        name: str,
        pipe: str,
        accesses: Sequence[Access],
        result: Register | None = None,
        core: str = "",
        **operands: Any,
    ) -> None:
        """An instruction of the table opdsl/npu/instructions.py; fields that are not given have their defaults."""
        entry = INSTRUCTIONS[name]
        filled = {field.name: field.default for field in entry.fields}
        unknown = set(operands) - set(filled)
        assert not unknown, f"{name} has no fields {unknown}"
        filled.update(operands)
        node = Instruction(core or self.core, pipe, name, filled, result, tuple(accesses), location=self.location)
        self.append(node)

    def load(self, place: Place, hint: str = "") -> Register:
        """An element of UB into a register."""
        register = self.s.register("f64" if DTYPES[place.dtype].is_float else "i64", hint or "v")
        self.issue("load_scalar", "S", [Access(place.buffer, False)], register, src=place)
        return register

    def store(self, place: Place, value: Operand) -> None:
        """A register into an element of UB: of bools and other integers as a number, where the element is a float."""
        if DTYPES[place.dtype].is_float and isinstance(value, int):
            value = float(value)
        elif DTYPES[place.dtype].is_float and isinstance(value, Register) and value.dtype == "i64":
            value = self.s.compute("to_float", place.dtype, value, result="f64")
        self.issue("store_scalar", "S", [Access(place.buffer, True)], dst=place, value=value)

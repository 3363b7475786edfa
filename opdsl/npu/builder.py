"""Writes NPU programs by hand: `Builder` has a method for every instruction, named after Ascend C.

k = npu.Builder("add", "910b2")
x, y, z = k.argument("x", "f32"), k.argument("y", "f32"), k.argument("z", "f32")
with k.code("aiv"):
    a, b = k.allocate("UB", 4096, "f32", "a"), k.allocate("UB", 4096, "f32", "b")
    k.data_copy_pad(a, x[k.block_idx * 1024], block_len=4096)
    k.set_flag("MTE2_V", 0)
    ...
program = k.finish()
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from opdsl.ir.types import DTYPES
from opdsl.npu.addresses import Global, Local, Place, address_of, space_of
from opdsl.npu.chip import Chip, find_chip
from opdsl.npu.cube import CubeInstructions
from opdsl.npu.instructions import INSTRUCTIONS, RESULTS, Instruction, works_in_floats
from opdsl.npu.moves import MoveInstructions
from opdsl.npu.paths import find_pipe
from opdsl.npu.program import Program
from opdsl.npu.queues import Queue
from opdsl.npu.scalars import CONVERSIONS, FLOAT_OPS, INTEGER_OPS, RESULT_IS_INTEGER, Scalar, ScalarLike, dtype_of
from opdsl.npu.statements import (
    Address,
    Allocation,
    BufferName,
    Code,
    Compute,
    CoreKind,
    GlobalAddress,
    If,
    Issue,
    LocalAddress,
    Loop,
    Parameter,
    Pipe,
    Register,
    Statement,
    Tensor,
    While,
    register_of,
)
from opdsl.npu.sync import SyncInstructions
from opdsl.npu.vectors import VectorInstructions
from opdsl.support.errors import OpdslError, suggestion
from opdsl.support.location import UNKNOWN, Location


class NpuError(OpdslError):
    """A program that the described hardware cannot run, found while it is written. Names the user's line."""


class Builder(MoveInstructions, CubeInstructions, VectorInstructions, SyncInstructions):
    """Collects one program. `location`, if set, is the source place of all that follows; else the caller's line is."""

    def __init__(self, name: str, chip: str | Chip) -> None:
        self.chip = chip if isinstance(chip, Chip) else find_chip(chip)
        self.program = Program(name, self.chip.name)
        self.location: Location | None = None
        self._code: Code | None = None
        self._blocks: list[list[Statement]] = []
        self._known: list[dict[Any, Register]] = []
        self._variables: set[Register] = set()
        self._names: dict[str, int] = {}
        self._parameters: dict[tuple[str, int, int, str], Scalar] = {}
        self._used: dict[tuple[CoreKind, BufferName], int] = {}

    # ---- tensors and parameters

    def argument(self, name: str, dtype: str, rank: int = 1) -> Global:
        """The next tensor that the caller passes. Its elements may have any strides: see `dim` and `stride`."""
        return self._tensor(Tensor(len(self.program.tensors), name, self._dtype(dtype), "argument", rank))

    def workspace(self, name: str, dtype: str, bytes: ScalarLike) -> Global:
        """Global memory for exchange between cores, not initialised. `bytes`: a number or one of the parameters."""
        size = register_of(bytes)
        return self._tensor(Tensor(len(self.program.tensors), name, self._dtype(dtype), "workspace", 0, size))

    def _tensor(self, tensor: Tensor) -> Global:
        self.program.tensors.append(tensor)
        return Global(self, tensor)

    def scalar(self, name: str, dtype: Literal["i64", "f64"] = "i64") -> Scalar:
        """The next scalar argument that the caller passes."""
        return self.parameter("scalar", None, 0, name, dtype)

    @property
    def block_idx(self) -> Scalar:
        """The number of this block: on split chips, of a cube core and its vector cores."""
        return self.parameter("block_idx")

    @property
    def block_num(self) -> Scalar:
        return self.parameter("block_num")

    @property
    def sub_block_idx(self) -> Scalar:
        """Which vector core of its block this is; 0 on cube cores."""
        return self.parameter("sub_block_idx")

    @property
    def sub_block_num(self) -> Scalar:
        return self.parameter("sub_block_num")

    def parameter(
        self,
        kind: Any,
        tensor: Tensor | None = None,
        axis: int = 0,
        name: str = "",
        dtype: Literal["i64", "f64"] = "i64",
    ) -> Scalar:
        key = (kind, tensor.index if tensor else -1, axis, name)
        if key not in self._parameters:
            if tensor is not None and not 0 <= axis < tensor.rank:
                raise self.error(f"{tensor.name} has {tensor.rank} axes, there is no axis {axis}")
            label = name or (f"{tensor.name}.{kind}{axis}" if tensor else kind)
            register = Register(dtype, self._unique(label))
            self.program.parameters.append(Parameter(register, kind, tensor, axis, name))
            self._parameters[key] = Scalar(self, register)
        return self._parameters[key]

    # ---- codes and control

    @contextmanager
    def code(self, kind: CoreKind) -> Iterator[None]:
        """What follows is run by the cores of this kind."""
        if kind not in self.chip.kinds:
            raise self.error(
                f"{self.chip.name} has no cores of kind {kind!r}", f"its kinds are {', '.join(self.chip.kinds)}"
            )
        if self._code is not None:
            raise self.error(f"the code of {self._code.kind!r} is not finished")
        self._code = self.program.codes.setdefault(kind, Code(kind))
        with self._block(self._code.body):
            yield
        self._code = None

    @contextmanager
    def at(self, location: Location) -> Iterator[None]:
        """All that is written inside comes from this place of the source."""
        before, self.location = self.location, location
        yield
        self.location = before

    @contextmanager
    def _block(self, body: list[Statement]) -> Iterator[None]:
        self._blocks.append(body)
        self._known.append({})  # what is computed in a block holds in the blocks inside
        yield
        self._known.pop()
        self._blocks.pop()

    @contextmanager
    def loop(self, start: ScalarLike, stop: ScalarLike, step: ScalarLike = 1, name: str = "i") -> Iterator[Scalar]:
        """`for i in range(start, stop, step)` on the scalar unit."""
        variable = Register("i64", self._unique(name))
        node = Loop(variable, register_of(start), register_of(stop), register_of(step), [], self.here())
        self._append(node)
        with self._block(node.body):
            yield Scalar(self, variable)

    @contextmanager
    def if_(self, condition: ScalarLike) -> Iterator[None]:
        node = If(register_of(condition), [], [], self.here())
        self._append(node)
        with self._block(node.then):
            yield

    @contextmanager
    def else_(self) -> Iterator[None]:
        """The other branch of the `if_` just before."""
        block = self._blocks[-1] if self._blocks else []
        if not block or not isinstance(block[-1], If):
            raise self.error("else_ stands right after an if_")
        with self._block(block[-1].otherwise):
            yield

    @contextmanager
    def while_(self, header: Any) -> Iterator[None]:
        """`header()` is called once to write what computes the condition, and returns it."""
        node = While([], 0, [], self.here())
        self._append(node)
        with self._block(node.header):
            node.condition = register_of(header())
        with self._block(node.body):
            yield

    # ---- registers

    def constant(self, value: int | float) -> Scalar:
        return Scalar(self, value)

    def variable(self, value: ScalarLike, name: str = "v", dtype: Literal["i64", "f64"] | None = None) -> Scalar:
        """A register that `assign` can change, for values that loops carry."""
        register = Register(dtype or dtype_of(value), self._unique(name))
        self._variables.add(register)
        self.assign(Scalar(self, register), value)
        return Scalar(self, register)

    def assign(self, variable: Scalar, value: ScalarLike) -> None:
        """Sets a variable."""
        target = variable.operand
        if not isinstance(target, Register):
            raise self.error("a constant cannot be assigned to")
        dtype = "i64" if target.dtype == "i64" else "f64"
        if dtype_of(value) != dtype:
            raise self.error(
                f"{target.name} is {dtype}, the value {dtype_of(value)}", "convert it with compute('to_float', ...)"
            )
        self._append(Compute("move", dtype, target, (register_of(value),), self.here()))

    def compute(self, name: str, *values: ScalarLike, dtype: str = "i64", label: str = "") -> Scalar:
        """A scalar op of opdsl/npu/scalars.py into a new register. Numbers are computed while building."""
        integers = dtype not in ("f32", "f64") and name not in CONVERSIONS
        table = CONVERSIONS if name in CONVERSIONS else INTEGER_OPS if integers else FLOAT_OPS
        if name not in table:
            raise self.error(f"there is no scalar op {name!r} on {dtype}", suggestion(name, table))
        if len(values) != table[name]:
            raise self.error(f"{name} takes {table[name]} operands, not {len(values)}")
        operands = tuple(register_of(value) for value in values)
        folded = _fold(name, operands) if integers else None
        if folded is not None:
            return Scalar(self, folded)
        key = (name, dtype, operands)
        constant = not any(isinstance(value, Register) and value in self._variables for value in operands)
        for known in self._known if constant else ():
            if key in known:
                return Scalar(self, known[key])
        whole = integers or name in RESULT_IS_INTEGER
        register = Register("i64" if whole else "f64", self._unique(label or "s"))
        self._append(Compute(name, dtype, register, operands, self.here()))
        if constant:
            self._known[-1][key] = register
        return Scalar(self, register)

    def sum(self, a: ScalarLike, b: ScalarLike) -> Scalar:
        return self.compute("add", a, b)

    def product(self, a: ScalarLike, b: ScalarLike) -> Scalar:
        return self.compute("mul", a, b)

    def choose(self, condition: ScalarLike, a: ScalarLike, b: ScalarLike) -> Scalar:
        """a where the condition is not 0, else b."""
        floats = "f64" in (dtype_of(a), dtype_of(b))
        return self.compute("select", condition, a, b, dtype="f64" if floats else "i64")

    # ---- memory

    def local(self, buffer: BufferName, byte: ScalarLike, dtype: str, name: str = "") -> Local:
        """The place at a byte address of a buffer."""
        return Local(self, buffer, byte, self._dtype(dtype), name)

    def allocate(self, buffer: BufferName, bytes: int, dtype: str, name: str = "", at: int | None = None) -> Local:
        """The next free `bytes` of a buffer, or those at the address `at`; they stay allocated. Fails if they do not
        fit."""
        kind = self._kind()
        if buffer not in self.chip.buffers_of(kind):
            raise self.error(f"cores of kind {kind!r} of {self.chip.name} have no {buffer}")
        alignment = self.chip.alignments[buffer]
        used = self._used.get((kind, buffer), 0)
        address = -(-used // alignment) * alignment if at is None else at
        if address % alignment:
            raise self.error(f"{name or buffer} at byte {address}: {buffer} wants multiples of {alignment}")
        size = self.chip.buffers[buffer]
        if address + bytes > size:
            lines = [
                f"  {a.name or '?'}: {a.bytes} bytes at {a.address} ({a.location})" for a in self.program.allocations
            ]
            text = f"{name or 'this'} needs {bytes} bytes at {address}, {buffer} of {self.chip.name} has {size}"
            raise self.error("\n".join([text, *lines]))
        self._used[(kind, buffer)] = max(used, address + bytes)
        self.program.allocations.append(Allocation(kind, buffer, address, bytes, name, self.here()))
        return Local(self, buffer, address, self._dtype(dtype), name)

    def queue(
        self,
        buffer: BufferName,
        bytes: int,
        dtype: str,
        depth: int = 2,
        producer: Pipe = "MTE2",
        consumer: Pipe = "V",
        first_id: int = 0,
        name: str = "",
    ) -> Queue:
        """`depth` buffers of `bytes` that go round between two pipes; see opdsl/npu/queues.py."""
        return Queue(self, buffer, bytes, dtype, depth, producer, consumer, first_id, name)

    # ---- issuing

    def issue(self, name: str, on_pipe: Pipe | None = None, **operands: Any) -> Scalar | None:
        """Appends an instruction of the table. The named methods call this; so may a compiler."""
        entry = INSTRUCTIONS[name]
        values = self._operands(entry, operands)
        found = find_pipe(self, entry, values) if entry.pipe == "path" else entry.pipe
        pipe = on_pipe or found
        if pipe not in self.chip.pipes_of(self._kind()) and not (name == "pipe_barrier" and pipe == "S"):
            raise self.error(
                f"{name} runs on {pipe}, which cores of kind {self._kind()!r} of {self.chip.name} do not have"
            )
        self._check_dtypes(entry, values)
        self._check_scalar(entry, values)
        result = None
        if name in RESULTS:
            floats = name == "load_scalar" and DTYPES[values["src"].dtype].is_float
            result = Register("f64" if floats else "i64", self._unique("s"))
        self._append(Issue(name, pipe, values, self.here(), result))
        return None if result is None else Scalar(self, result)

    def _operands(self, entry: Instruction, given: dict[str, Any]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for field in entry.fields:
            value = given.pop(field.name, field.default)
            if value is None:
                raise self.error(f"{entry.name}: {field.name} is missing")
            if field.kind == "memory":
                values[field.name] = None if value == 0 else address_of(value)
            elif field.kind == "choice":
                if value not in field.choices:
                    known = ", ".join(field.choices)
                    raise self.error(
                        f"{entry.name}: {field.name} {value!r} is none of {known}",
                        suggestion(str(value), field.choices),
                    )
                values[field.name] = value
            elif field.kind == "text":
                values[field.name] = str(value)
            else:
                values[field.name] = register_of(value)
                if field.kind == "integer" and dtype_of(value) == "f64":
                    raise self.error(f"{entry.name}: {field.name} is an integer, not a float")
        if given:
            names = [field.name for field in entry.fields]
            wrong = next(iter(given))
            raise self.error(f"{entry.name} has no operand {wrong!r}", suggestion(wrong, names))
        return values

    def _check_dtypes(self, entry: Instruction, values: dict[str, Any]) -> None:
        allowed = entry.dtypes if self.chip.split else entry.coupled_dtypes
        if not entry.dtypes and not entry.coupled_dtypes:
            return
        if not allowed:
            raise self.error(f"{self.chip.name} has no instruction {entry.name}")
        address: Address | None = None
        for name in ("src0", "src", "a", "dst"):
            address = values.get(name)
            if address is not None:
                break
        if address is not None and address.dtype not in allowed:
            raise self.error(
                f"{entry.name} does not take {address.dtype} on {self.chip.name}",
                f"it takes {', '.join(sorted(allowed))}",
            )

    def _check_scalar(self, entry: Instruction, values: dict[str, Any]) -> None:
        """A register that an instruction works with has the kind of its elements."""
        for field in entry.fields:
            register = values[field.name]
            if field.kind != "float" or not isinstance(register, Register) or entry.name == "print_":
                continue
            floats = works_in_floats(entry.name, values)
            if (register.dtype == "f64") != floats:
                kind, name = ("a float", "to_float") if floats else ("an integer", "to_int")
                raise self.error(
                    f"{entry.name}: {field.name} is to be {kind}", f"k.compute({name!r}, ..., dtype='f32')"
                )

    def _append(self, statement: Statement) -> None:
        if not self._blocks:
            raise self.error("instructions stand in the code of a kind of core", "with k.code('aiv'): ...")
        self._blocks[-1].append(statement)

    # ---- places and names

    def here(self) -> Location:
        """`location` if it is set, else the line in the caller's file."""
        if self.location is not None:
            return self.location
        frame = sys._getframe(1)
        while frame.f_back is not None and (
            frame.f_globals.get("__name__", "").startswith("opdsl.npu")
            or frame.f_code.co_filename.endswith("contextlib.py")
        ):
            frame = frame.f_back
        return Location(frame.f_code.co_filename, frame.f_lineno, 1)

    def error(self, message: str, help: str = "") -> NpuError:
        place = self.here()
        where = f"{place}: " if place is not UNKNOWN else ""
        return NpuError(f"{where}error: {message}" + (f"\nhelp: {help}" if help else ""))

    def finish(self, block_num: ScalarLike = 0) -> Program:
        """The program, to be run by `block_num` blocks (0: all of the chip)."""
        self.program.block_num = register_of(block_num)
        return self.program

    def _kind(self) -> CoreKind:
        if self._code is None:
            raise self.error("this belongs to the code of a kind of core", "with k.code('aiv'): ...")
        return self._code.kind

    def _dtype(self, name: str) -> str:
        if name not in DTYPES:
            raise self.error(f"there is no dtype {name!r}", suggestion(name, DTYPES))
        return name

    def _unique(self, name: str) -> str:
        count = self._names.get(name, 0)
        self._names[name] = count + 1
        return f"{name}.{count}" if count else name

    def places(self, *places: Place | None) -> Sequence[Address | None]:
        return [None if place is None else address_of(place) for place in places]


def _fold(name: str, operands: tuple[Any, ...]) -> int | Register | None:
    """The result where it is known while building."""
    if name == "add" and 0 in [v for v in operands if isinstance(v, int)]:
        return next((v for v in operands if not (isinstance(v, int) and v == 0)), 0)
    if name == "mul" and any(isinstance(v, int) and v in (0, 1) for v in operands):
        if any(isinstance(v, int) and v == 0 for v in operands):
            return 0
        return next((v for v in operands if not (isinstance(v, int) and v == 1)), 1)
    if not all(isinstance(value, int) for value in operands):
        return None
    a, b = operands[0], operands[-1]
    results: dict[str, Any] = {
        "add": lambda: a + b,
        "sub": lambda: a - b,
        "mul": lambda: a * b,
        "floordiv": lambda: a // b if b else 0,
        "mod": lambda: a % b if b else 0,
        "min": lambda: min(a, b),
        "max": lambda: max(a, b),
        "and": lambda: a & b,
        "or": lambda: a | b,
        "xor": lambda: a ^ b,
        "neg": lambda: -a,
        "shl": lambda: a << b if 0 <= b < 64 else 0,
        "eq": lambda: int(a == b),
        "ne": lambda: int(a != b),
        "lt": lambda: int(a < b),
        "le": lambda: int(a <= b),
        "gt": lambda: int(a > b),
        "ge": lambda: int(a >= b),
        "select": lambda: operands[1] if a else b,
    }
    if name not in results:
        return None
    value: int = results[name]()
    return value if -(2**63) <= value < 2**63 else None


__all__ = ["Builder", "Global", "GlobalAddress", "Local", "LocalAddress", "NpuError", "space_of"]

"""The state of one Triton function while it is written: what every value is called, and what may still be inlined.

A value of the IR is either inlined into its one user, or assigned to a variable with the kernel's own name for it. Values
that loops carry share one variable, the loop's *slot*, as a person would write it: `acc = tl.dot(a, b, acc)`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from opdsl.ir.core import Kernel, Op, Region, Value, walk
from opdsl.ir.ops import OPS
from opdsl.ir.types import DType, TensorType, f8e4m3, f32, f64, i32, i64
from opdsl.support.errors import CompileError
from opdsl.targets.triton.arch import Arch
from opdsl.targets.triton.code import Code
from opdsl.targets.triton.errors import refusal
from opdsl.targets.triton.expression import (
    ATOM,
    F8,
    OPERATORS,
    Expression,
    Number,
    Shape,
    broadcast_shapes,
    holds,
    literal,
    literal_text,
    type_name,
)
from opdsl.targets.triton.intervals import Interval, Intervals, is_narrow
from opdsl.targets.triton.names import ArgumentNames
from opdsl.targets.triton.padding import Padding

INLINE_WIDTH = 72  # characters of an expression that is still put into its user
LARGEST_TILE = 1 << 20  # elements (TRITON_MAX_TENSOR_NUMEL)


@dataclass
class Options:
    """What a request may ask for. Numbers that are None are chosen by the generator."""

    num_warps: int | None = None
    num_stages: int | None = None
    index_bits: int = 32
    precision: str = "ieee"
    fp_fusion: bool = False
    # What is a multiple of 16, as (parameter, "pointer", -1), (parameter, "dim", axis), (parameter, "stride", axis),
    # and of which tensors descriptors can be made, as (parameter, "descriptor", -1); None: everything.
    aligned: frozenset[tuple[str, str, int]] | None = None
    maxnreg: int | None = None
    descriptors: int = 0  # 1: operands of products are loaded by tensor descriptors, where the architecture has them
    upcast_bf16: bool = False  # compute bf16 in f32, products too: Triton's interpreter has no bf16 arithmetic


@dataclass
class Slot:
    """A variable that is assigned more than once."""

    name: str


@dataclass
class Facts:
    """What the whole kernel tells, shared by its functions."""

    kernel: Kernel
    arch: Arch
    options: Options
    intervals: Intervals
    padding: Padding
    users: Mapping[Value, Sequence[tuple[Op, Region]]]
    region_of: Mapping[Value, Region]
    unit_axes: Mapping[Value, int | None]
    shared: Callable[[Value, Value], bool]  # whether two tensors may be one memory
    asserts: list[tuple[str, Op]] = field(default_factory=list)
    helpers: set[str] = field(default_factory=set)
    uses_libdevice: bool = False

    def __post_init__(self) -> None:
        self.names = ArgumentNames(self.kernel)

    def parameter(self, tensor: Value) -> str:
        return self.names.parameters[tensor]


def gather_users(kernel: Kernel) -> tuple[dict[Value, list[tuple[Op, Region]]], dict[Value, Region]]:
    """The users of every value with the regions they stand in, and the region that defines it."""
    users: dict[Value, list[tuple[Op, Region]]] = {}
    region_of: dict[Value, Region] = {}

    def visit(region: Region) -> None:
        for argument in region.arguments:
            users.setdefault(argument, [])
            region_of[argument] = region
        for op in region.ops:
            for operand in op.operands:
                users.setdefault(operand, []).append((op, region))
            for result in op.results:
                users.setdefault(result, [])
                region_of[result] = region
            for inner in op.regions:
                visit(inner)

    visit(kernel.body)
    return users, region_of


class Writer:
    """Writes one function."""

    def __init__(self, facts: Facts, taken: frozenset[str]) -> None:
        self.facts = facts
        self.kernel = facts.kernel
        self.code = Code(facts.kernel.source, taken)
        self.intervals = facts.intervals
        self.options = facts.options
        self.table: dict[Value, Expression] = {}
        self.slots: dict[Value, Slot] = {}  # values that are computed into a slot
        self.inlined: set[Value] = set()  # in the table as an expression that is not a variable
        self.dims: dict[str, None] = {}
        self.strides: dict[tuple[Value, int], None] = {}
        self.used: dict[Value, None] = {}  # parameters
        self.asserts = False
        self.products: dict[Value, tuple[Expression, Expression, str]] = {}  # dots that an add takes in
        self.has_dot = False
        self.written_out = False  # products without tensor cores
        self.largest_tile = 1
        self.largest_dot = 1  # elements of a product
        self.reads: list[tuple[Value, Op]] = []  # tensors read and written since the last barrier
        self.writes: list[tuple[Value, Op]] = []
        # Writes that go elsewhere in every iteration of the loops that they are in; loops take out those that do not.
        self.disjoint = {op for op in walk(facts.kernel.body) if op.name == "copy_out"}
        self.current: Op | None = None

    # --- errors ------------------------------------------------------------------------------------------------------

    def refuse(self, message: str, help: str) -> CompileError:
        assert self.current is not None
        return refusal(self.kernel, self.current, message, help)

    # --- what the function's arguments are ---------------------------------------------------------------------------

    def helper(self, name: str) -> str:
        """The name of a helper function, which the file then has."""
        self.facts.helpers.add(name)
        return name

    def dim(self, size: int | str) -> Expression:
        """The size of a tensor's dim."""
        if isinstance(size, int):
            return literal(size, i64)
        self.dims[size] = None
        return Expression(self.facts.names.dims[size], (), self.index_dtype)

    def unit_axis(self, tensor: Value) -> int | None:
        """The axis whose stride is one element."""
        return self.facts.unit_axes.get(tensor)

    @property
    def index_dtype(self) -> DType:
        return i32 if self.options.index_bits == 32 else i64

    def stride_name(self, tensor: Value, axis: int) -> str:
        self.strides[(tensor, axis)] = None
        return self.facts.names.strides[(tensor, axis)]

    # --- values ------------------------------------------------------------------------------------------------------

    def lanes(self, value: Value) -> Shape:
        """The block shape of a value, all lanes."""
        return self.facts.padding.shape(value)

    def value(self, value: Value) -> Expression:
        """The expression of a value that has been computed."""
        if len(self.facts.users[value]) == 1:  # nothing reads it later
            self.inlined.discard(value)
        expression = self.table.get(value)
        if expression is None:
            expression = self._parameter(value)
        return expression

    def _parameter(self, value: Value) -> Expression:
        self.used[value] = None
        name = self.facts.parameter(value)
        dtype = value.type.dtype
        assert not isinstance(value.type, TensorType)
        if dtype.is_bool:
            return Expression(f"({name} != 0)", (), dtype)
        if dtype in F8:  # comes as an f32
            function = self.helper("_to_f8e4m3" if dtype is f8e4m3 else "_to_f8e5m2")
            return self.remembered(("scalar", name), f"{name}_byte", Expression(f"{function}({name})", (), dtype))
        return Expression(name, (), dtype)

    def tensor(self, value: Value) -> str:
        """The pointer of a tensor."""
        self.used[value] = None
        return self.facts.parameter(value)

    def interval(self, value: Value) -> Interval:
        return self.intervals.of(value)

    def fits(self, value: Value) -> bool:
        """Whether an i64 can be kept in 32 bits."""
        return value.type.dtype is i64 and is_narrow(self.interval(value))

    def make(
        self,
        text: str,
        parts: Sequence[Expression],
        dtype: DType,
        *,
        shape: Shape | None = None,
        binding: int = ATOM,
        fill: Number | None = None,
    ) -> Expression:
        """An expression made of others; its shape is theirs broadcast unless given."""
        if shape is None:
            shape = broadcast_shapes(*(part.shape for part in parts))
        reads = frozenset().union(*(part.reads for part in parts)) if parts else frozenset()
        level = max((part.level for part in parts), default=0)
        return Expression(text, shape, dtype, binding, None, fill, reads, level)

    def binary(self, operator: str, a: Expression, b: Expression, dtype: DType) -> Expression:
        binding = OPERATORS[operator]
        left = a.inside(binding + 1 if operator in ("<", "<=", ">", ">=", "==", "!=") else binding)
        text = f"{left} {operator} {b.inside(binding + 1)}"
        return self.make(text, (a, b), dtype, binding=binding)

    def call(self, function: str, *arguments: Expression, dtype: DType, extra: str = "") -> Expression:
        arguments = tuple(self.exact(argument) for argument in arguments)
        inner = ", ".join([*(a.text for a in arguments), *([extra] if extra else [])])
        return self.make(f"{function}({inner})", arguments, dtype)

    def exact(self, expression: Expression) -> Expression:
        """As an argument of a function: there Triton takes a number for f32, which holds fewer than f64."""
        if expression.dtype is f64 and expression.number is not None and not holds(f32, float(expression.number)):
            return self.typed(expression)
        return expression

    def to(self, expression: Expression, dtype: DType) -> Expression:
        """The value converted as Triton converts."""
        if expression.dtype is dtype and not expression.is_literal:
            return expression
        if expression.is_literal:
            return self.typed(expression, dtype)
        text = f"{expression.inside(ATOM)}.to({type_name(dtype)})"
        if expression.is_name and not expression.shape and expression.dtype.is_integer:
            # In the interpreter, loops count with Python's integers, which have no `to`.
            text = f"tl.cast({expression.text}, {type_name(dtype)})"
        return replace(expression, text=text, dtype=dtype, binding=ATOM)

    def typed(self, expression: Expression, dtype: DType | None = None) -> Expression:
        """A literal as a scalar that has its type; anything else as it is."""
        if not expression.is_literal:
            return expression
        dtype = dtype or expression.dtype
        return replace(
            expression,
            text=f"tl.full([], {expression.text}, {type_name(dtype)})",
            dtype=dtype,
            binding=ATOM,
            number=None,
        )

    def materialize(self, expression: Expression, shape: Shape, dtype: DType) -> Expression:
        """The value with all its lanes and of exactly this type."""
        if expression.is_literal:
            if not shape:
                return self.typed(expression, dtype)
            if expression.number == 0 and literal_text(expression.number) in ("0", "0.0", "False"):
                text = f"tl.zeros({list(shape)}, {type_name(dtype)})"
            else:
                text = f"tl.full({list(shape)}, {expression.text}, {type_name(dtype)})"
            return replace(expression, text=text, dtype=dtype, binding=ATOM, number=None, shape=shape)
        expression = self.to(expression, dtype)
        if expression.shape == shape:
            return expression
        if not expression.shape:
            text = f"tl.full({list(shape)}, {expression.text}, {type_name(dtype)})"
        else:
            text = f"tl.broadcast_to({expression.text}, {list(shape)})"
        return replace(expression, text=text, binding=ATOM, shape=shape)

    def full(self, value: Value) -> Expression:
        """A value with all its lanes."""
        return self.materialize(self.value(value), self.lanes(value), value.type.dtype)

    # --- statements --------------------------------------------------------------------------------------------------

    def name(self, expression: Expression, hint: str, level: int | None = None) -> Expression:
        """The expression as a variable, so that it can be used several times."""
        if expression.is_name or expression.is_literal:
            return expression
        name = self.code.fresh(hint)
        self.code.line(f"{name} = {expression.text}", level)
        at = self.code.level if level is None else level
        return replace(expression, text=name, binding=ATOM, reads=frozenset(), level=at)

    def remembered(self, key: object, hint: str, expression: Expression) -> Expression:
        """A variable in the outermost scope that knows all that the expression needs; made once."""
        found: Expression | None = self.code.recall(key)
        if found is None:
            level = max(1, expression.level) if not expression.reads else self.code.level
            found = self.name(expression, hint, level)
            if not expression.reads:
                self.code.remember(key, found, level)
        return found

    def bind(self, value: Value, expression: Expression, *, keep: bool = False, hint: str = "") -> None:
        """Says what a value is: its slot, an expression inside its one user, or a variable of its own."""
        slot = self.slots.get(value)
        if slot is not None:
            self.assign(slot, self.materialize(expression, self.lanes(value), value.type.dtype))
            self.table[value] = self.slot_expression(slot, value)
            return
        if not keep and self._may_inline(value, expression):
            self.table[value] = expression
            self.inlined.add(value)
            return
        expression = self.typed(expression)
        if not expression.is_name:
            self.comment()
        name = self._same_variable(value) or self.code.fresh(value.name or hint or "value")
        self.code.line(f"{name} = {expression.text}")
        self.table[value] = replace(
            expression, text=name, binding=ATOM, reads=frozenset(), level=self.code.level, number=None
        )

    def _same_variable(self, value: Value) -> str | None:
        """The variable of an operand with the same name in the kernel that nothing reads any more: `s = f(s)`."""
        maker = self.intervals.definition.get(value)
        if maker is None or not value.name or maker.regions:
            return None
        region = self.facts.region_of[value]
        for operand in maker.operands:
            known = self.table.get(operand)
            if operand.name != value.name or known is None or not known.is_name or operand in self.kernel.parameters:
                continue
            dead = len(self.facts.users[operand]) == 1 and self.facts.region_of[operand] is region
            if dead and operand.type == value.type:
                return known.text
        return None

    def _may_inline(self, value: Value, expression: Expression) -> bool:
        if expression.is_literal:
            return True
        if expression.is_name and not value.name:
            return True
        users = self.facts.users[value]
        if len(users) != 1:
            return False
        user, region = users[0]
        if region is not self.facts.region_of[value] or user.regions:
            return False
        if user.name == "dot" or (user.name in _STATEMENTS and value.name):
            return False
        return len(expression.text) <= (INLINE_WIDTH // 2 if value.name else INLINE_WIDTH) and not value.name

    def alias(self, value: Value, expression: Expression) -> None:
        """A value that is another one seen differently, as a broadcast: never a variable of its own."""
        if value in self.slots:
            self.bind(value, expression)
            return
        self.table[value] = expression
        self.inlined.add(value)

    def comment(self) -> None:
        if self.current is not None:
            self.code.comment(self.current.location)

    # --- memory ------------------------------------------------------------------------------------------------------

    def before_read(self, tensor: Value, op: Op) -> None:
        """Threads see each other's stores after a barrier only: puts one where this read may need it."""
        for other, write in self.writes:
            if self.facts.shared(other, tensor) and not (write in self.disjoint and _same_place(write, op)):
                self.barrier()
                break
        self.reads.append((tensor, op))

    def before_write(self, tensor: Value, op: Op) -> None:
        again = any(
            self.facts.shared(other, tensor) and not _commute(op, before) and not (before is op and op in self.disjoint)
            for other, before in self.writes
        )
        early = any(self.facts.shared(other, tensor) and not self._follows(op, read) for other, read in self.reads)
        if again or early:
            self.barrier()
        self.writes.append((tensor, op))

    def barrier(self) -> None:
        self.comment()
        self.code.line("tl.debug_barrier()")
        self.reads.clear()
        self.writes.clear()

    def _follows(self, write: Op, read: Op) -> bool:
        """Whether a write stores, element by element, what was computed from the read at the same place."""
        if not _same_place(write, read):
            return False
        waiting = [write.operands[0]]
        while waiting:
            op = self.intervals.definition.get(waiting.pop())
            if op is read:
                return True
            if op is not None and (OPS[op.name].category == "elementwise"):
                waiting += op.operands
        return False

    # --- slots -------------------------------------------------------------------------------------------------------

    def slot_expression(self, slot: Slot, value: Value) -> Expression:
        return Expression(
            slot.name, self.lanes(value), value.type.dtype, reads=frozenset({slot.name}), level=self.code.level
        )

    def assign(self, slot: Slot, expression: Expression) -> None:
        """Gives a slot a new value; what still reads the old one is computed before."""
        if expression.text == slot.name:
            return
        self.flush({slot.name})
        self.comment()
        self.code.line(f"{slot.name} = {expression.text}")

    def assign_all(self, targets: Sequence[tuple[Slot, Expression]]) -> None:
        """Gives several slots new values at once."""
        changed = [(slot, e) for slot, e in targets if e.text != slot.name]
        if not changed:
            return
        self.flush({slot.name for slot, _ in changed})
        self.comment()
        if len(changed) == 1:
            self.code.line(f"{changed[0][0].name} = {changed[0][1].text}")
            return
        names = {slot.name for slot, _ in changed}
        if any(e.reads & (names - {slot.name}) for slot, e in changed):
            left, right = ", ".join(s.name for s, _ in changed), ", ".join(e.text for _, e in changed)
            self.code.line(f"{left} = {right}")
        else:
            for slot, expression in changed:
                self.code.line(f"{slot.name} = {expression.text}")

    def flush(self, names: set[str]) -> None:
        """Makes variables of the expressions that read these slots and may still be wanted."""
        for value in list(self.inlined):
            expression = self.table[value]
            if expression.reads & names and not expression.is_name:
                self.inlined.discard(value)
                self.table[value] = self.name(expression, value.name or "kept")
            elif expression.reads & names and value not in self.slots and expression.text in names:
                self.inlined.discard(value)
                name = self.code.fresh(value.name or "kept")
                self.code.line(f"{name} = {expression.text}")
                self.table[value] = replace(expression, text=name, reads=frozenset(), level=self.code.level)


def _same_place(write: Op, read: Op) -> bool:
    return bool(write.attributes["index"] == read.attributes["index"] and write.operands[2:] == read.operands[1:-1])


def _commute(a: Op, b: Op) -> bool:
    """Whether two writes are atomic updates of one kind, whose order does not matter."""
    return bool(a.attributes["mode"] == b.attributes["mode"] != "set")


_STATEMENTS = frozenset({"for", "while", "if", "parallel"})


def tensors_written(kernel: Kernel) -> frozenset[Value]:
    return frozenset(op.operands[1] for op in walk(kernel.body) if op.name == "copy_out")

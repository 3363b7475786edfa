"""From a kernel to a program: lower, place, find dependences, add flags, write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, replace

from opdsl.ir.core import Kernel, Location, Op
from opdsl.lang.errors import CompileError
from opdsl.npu.chip import Chip
from opdsl.npu.program import Program, Register
from opdsl.passes.pipeline import run_passes
from opdsl.targets.base import Request
from opdsl.targets.interp.errors import source_line
from opdsl.targets.npu.dependences import Dependence, answer, chain, confine, find_dependences, insert_flags
from opdsl.targets.npu.emit import UNCHANGED, Mutation, OnlyOnVectorCore, emit
from opdsl.targets.npu.events import number_events
from opdsl.targets.npu.knowledge import Knowledge
from opdsl.targets.npu.lowering import Choices, Lowered, Lowering, NeedsSingleCore
from opdsl.targets.npu.placement import DoesNotFit, Lifetime, explain, find_lifetimes, place
from opdsl.targets.npu.prune import Rehearsal, idle_slots, prune
from opdsl.targets.npu.trace import Trace
from opdsl.targets.npu.tree import Barrier, Block, Buffer, Flag, Node, blocks_of, empty_dead_ways

CHOICES = (Choices(2, True), Choices(1, True), Choices(1, False))


@dataclass(frozen=True)
class Compiled:
    """A program with what it was made of. `dependences` are those that flags or barriers stand for."""

    program: Program
    lifetimes: Sequence[Lifetime]
    assertions: dict[str, Op]
    kernel: Kernel
    chip: Chip
    lowered: Lowered
    dependences: Sequence[Dependence]

    def without(self, part: Dependence | Flag | Barrier) -> Program:
        """The program without all flags of a dependence, or without one flag or barrier: what fault injection runs."""
        return _emit(self.kernel, self.chip, self.lowered, self.lifetimes, Mutation(omitted=id(part)))

    def with_one_slot(self, buffer: Buffer) -> Program:
        """The program with a rotating buffer that stays in its first slot, and the flags of one that rotates."""
        return _emit(self.kernel, self.chip, self.lowered, self.lifetimes, Mutation(stuck=id(buffer)))


def compile_kernel(request: Request, chip: Chip, record: dict[str, str] | None = None) -> Compiled:
    """The program of a kernel for a chip. Raises CapacityError where its tiles do not fit."""
    kernel = run_passes(request.kernel, record=record)
    single: frozenset[int] = frozenset()
    while True:
        lowered, lifetimes = _placed(request, kernel, chip, single)
        buffers = [life.buffer for life in lifetimes]
        dependences = find_dependences(lowered.program, buffers, request.may_alias)
        try:
            kept, traces = synchronise(lowered.program, dependences, request.may_alias, lowered.parameters.least)
        except NoFlagLeft as error:
            tiles = f"{kernel.name} passes more tiles between the cube and the vector cores"
            line = source_line(error.location, kernel.source)
            help = "make the products in a loop that is not unrolled"
            raise CompileError(f"{tiles} than {chip.name} has flags for", error.location, line, help) from None
        idle = idle_slots(traces, kept, buffers)
        if not idle:
            break
        single |= {place for place, buffer in enumerate(buffers) if buffer in idle}
    try:
        program = _emit(kernel, chip, lowered, lifetimes)
    except OnlyOnVectorCore as error:
        message = f"whether or where the cube core of {chip.name} works here hangs on a number that a vector core computes"
        help = "let sizes, scalars or elements of arrays decide, or choose between results with od.where"
        raise CompileError(message, error.location, source_line(error.location, kernel.source), help) from None
    return Compiled(program, lifetimes, lowered.texts, kernel, chip, lowered, kept)


def _emit(
    kernel: Kernel, chip: Chip, lowered: Lowered, lifetimes: Sequence[Lifetime], mutation: Mutation = UNCHANGED
) -> Program:
    return emit(
        kernel.name, chip, lowered.program, lowered.parameters, lowered.cores, lifetimes, lowered.single_block, mutation
    )


def _placed(
    request: Request, kernel: Kernel, chip: Chip, single: frozenset[int]
) -> tuple[Lowered, list[Lifetime]]:
    """The tree with its buffers placed. `single`: which of them, in the order of their first uses, do not rotate."""
    capacities: dict[str, int] = {str(name): size for name, size in chip.buffers.items()}
    failed: DoesNotFit | None = None
    for choices in CHOICES:
        try:
            lowered = Lowering(request, kernel, chip, choices).lower()
        except NeedsSingleCore:
            lowered = Lowering(request, kernel, chip, replace(choices, distribute=False)).lower()
        empty_dead_ways(lowered.program)
        for number, life in enumerate(find_lifetimes(lowered.program)):
            if number in single:
                life.buffer.slots, life.buffer.rotates = 1, None
        try:
            return lowered, place(lowered.program, capacities, lowered.in_place)
        except DoesNotFit as error:
            failed = error
    assert failed is not None
    raise explain(failed, kernel.name, kernel.source, chip.name)


class NoFlagLeft(Exception):
    """Raised where there are not enough flags between cores."""

    def __init__(self, location: Location) -> None:
        super().__init__()
        self.location = location


def synchronise(
    program: Block, dependences: Sequence[Dependence], tensors_alias: bool, least: Mapping[Register, int]
) -> tuple[list[Dependence], list[Trace]]:
    """Adds the flags and barriers that are needed, and numbers their events. Gives the dependences that they are of,
    and the runs in the mind that show it."""
    insert_flags(program, dependences)
    order = _Order(program, tensors_alias, least)
    order.keep(dependences)
    left = order.number()
    if any(not d.crosses for d in left):
        # What loops that are chained wait for may make flags superfluous: those for which there are no events first.
        chain(program, order.kept)
        without = {id(d) for d in left}
        order.keep([*(d for d in order.kept if id(d) not in without), *left])
        left = order.number()
    if any(d.crosses for d in left):
        confine(program, [d for d in order.kept if d.crosses and d.distance])
        left = number_events(order.kept, order.knowledge(order.kept))
    for dependence in left:
        if dependence.crosses:
            raise NoFlagLeft(dependence.before.location)
    while left:  # what barriers of all pipes stand for; they make other flags superfluous, too
        replaced = {id(d) for d in left}
        kept = [d for d in order.kept if id(d) not in replaced]
        _clean(program, {id(d) for d in kept}, replaced)
        order.keep(kept)
        left = order.number()
    _clean(program, {id(d) for d in order.kept}, set())
    return order.kept, order.traces


class _Order:
    """The dependences that are needed, and the runs in the mind that show it."""

    def __init__(self, program: Block, tensors_alias: bool, least: Mapping[Register, int]) -> None:
        self.program = program
        self.tensors_alias = tensors_alias
        self.least = least
        self.kept: list[Dependence] = []
        self.traces: list[Trace] = []

    def keep(self, dependences: Sequence[Dependence], fixed: Sequence[Dependence] = ()) -> None:
        """Keeps those of the dependences that are needed, and those that are needed for something else."""
        self.kept, self.traces = prune(self.program, dependences, self.tensors_alias, self.least, fixed)

    def knowledge(self, dependences: Sequence[Dependence]) -> Knowledge:
        return Knowledge(self.program, dependences, self.traces[0].agents)

    def number(self) -> list[Dependence]:
        """Adds answers, and numbers events; gives the dependences for which there are none."""
        open_ended = self.knowledge(self.kept).unanswered
        if open_ended:
            rehearsal = Rehearsal(self.program, self.kept, self.tensors_alias, self.least)
            self._answer(rehearsal.repeated(list(open_ended.values()), self.traces))
        return number_events(self.kept, self.knowledge(self.kept))

    def _answer(self, repeated: Sequence[Dependence]) -> None:
        """Adds answers, without those that others make superfluous, and takes out what they make superfluous."""
        answers = answer(self.program, repeated)
        if not answers:
            return
        never = set(self.knowledge([*self.kept, *answers]).unanswered)  # that are set only once
        for one in list(answers):
            others = [d for d in answers if d is not one]
            if others and set(self.knowledge([*self.kept, *others]).unanswered) <= never:
                answers = others
        before, traces = [*self.kept, *answers], self.traces
        self.keep(before, [*answers, *repeated])
        if not set(self.knowledge(self.kept).unanswered) <= never:
            self.kept, self.traces = before, traces


def _clean(block: Block, kept: Set[int], replaced: Set[int]) -> None:
    """Takes out what is not needed. A wait that there is no event for becomes a barrier of all pipes."""
    nodes: list[Node] = []
    for node in block.nodes:
        for inner in blocks_of(node):
            _clean(inner, kept, replaced)
        stays = isinstance(node, Barrier) and node.dependence is None
        if not isinstance(node, Flag | Barrier) or id(node.dependence) in kept or stays:
            nodes.append(node)
        elif isinstance(node, Flag) and id(node.dependence) in replaced and not node.set and node.slot is None:
            nodes.append(Barrier(node.target[0], "ALL", location=node.location))
    block.nodes[:] = nodes

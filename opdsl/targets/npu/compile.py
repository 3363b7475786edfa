"""From a kernel to a program: lower, place, find dependences, add flags, write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from opdsl.ir.core import Kernel, Op
from opdsl.npu.chip import Chip
from opdsl.npu.program import Program
from opdsl.passes.pipeline import run_passes
from opdsl.support.errors import CompileError
from opdsl.support.location import source_line
from opdsl.targets.base import Request
from opdsl.targets.npu.dependences import Dependence, find_dependences
from opdsl.targets.npu.emit import UNCHANGED, Mutation, OnlyOnVectorCore, emit
from opdsl.targets.npu.lowering import Choices, Lowered, Lowering, NeedsSingleCore
from opdsl.targets.npu.placement import DoesNotFit, Lifetime, explain, find_lifetimes, place
from opdsl.targets.npu.prune import Ordering, idle_slots
from opdsl.targets.npu.synchronise import NoFlagLeft, synchronise
from opdsl.targets.npu.tree import Barrier, Buffer, Flag, empty_dead_ways

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
            kept = synchronise(lowered.program, dependences, request.may_alias)
        except NoFlagLeft as error:
            # With one slot for what they pass each other the cores take turns, which needs fewer of them.
            passed = {place for place, buffer in enumerate(buffers) if buffer.space == "WS" and buffer.slots > 1}
            if passed:
                single |= passed
                continue
            tiles = f"{kernel.name} passes more tiles between the cube and the vector cores"
            line = source_line(error.location, kernel.source)
            help = "make the products in a loop that is not unrolled"
            raise CompileError(f"{tiles} than {chip.name} has flags for", error.location, line, help) from None
        idle = idle_slots(Ordering(lowered.program, kept, request.may_alias), buffers)
        if not idle:
            break
        single |= {place for place, buffer in enumerate(buffers) if buffer in idle}
    try:
        program = _emit(kernel, chip, lowered, lifetimes)
    except OnlyOnVectorCore as error:
        message = (
            f"whether or where the cube core of {chip.name} works here hangs on a number that a vector core computes"
        )
        help = "let sizes, scalars or elements of arrays decide, or choose between results with od.where"
        raise CompileError(message, error.location, source_line(error.location, kernel.source), help) from None
    return Compiled(program, lifetimes, lowered.texts, kernel, chip, lowered, kept)


def _emit(
    kernel: Kernel, chip: Chip, lowered: Lowered, lifetimes: Sequence[Lifetime], mutation: Mutation = UNCHANGED
) -> Program:
    return emit(
        kernel.name, chip, lowered.program, lowered.parameters, lowered.cores, lifetimes, lowered.single_block, mutation
    )


def _placed(request: Request, kernel: Kernel, chip: Chip, single: frozenset[int]) -> tuple[Lowered, list[Lifetime]]:
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

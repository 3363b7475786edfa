"""Programs of a compiled kernel with something missing, and what the emulator says about them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from opdsl.npu.chip import Chip
from opdsl.npu.emulator import Hazard, NpuRunError, run
from opdsl.npu.program import Program
from opdsl.targets.npu.compile import Compiled, compile_kernel
from opdsl.targets.npu.dependences import Dependence
from opdsl.targets.npu.running import Runnable, split_arguments
from opdsl.targets.npu.target import NpuTarget
from opdsl.targets.npu.tree import Barrier, Block, Flag, blocks_of

from .cases import Arguments, Case
from .pairs import Pairs


@dataclass
class Mutant:
    """A program with something missing."""

    kind: str  # "dependence", "flag", "slot"
    text: str
    make: Callable[[], Program]
    dependence: Dependence | None = None  # that nothing stands for any more


def mutants(compiled: Compiled, kinds: Sequence[str] = ("dependence", "flag", "slot")) -> Iterator[Mutant]:
    if "dependence" in kinds:
        for dependence in compiled.dependences:
            yield Mutant("dependence", describe(dependence), lambda d=dependence: compiled.without(d), dependence)  # type: ignore[misc]
    if "flag" in kinds:
        for node in _orders(compiled.lowered.program):
            if isinstance(node, Barrier) and node.dependence is not None:
                continue  # is a dependence of its own
            yield Mutant("flag", _flag_text(node), lambda n=node: compiled.without(n))  # type: ignore[misc]
    if "slot" in kinds:
        for life in compiled.lifetimes:
            buffer = life.buffer
            if buffer.slots > 1:
                text = f"{buffer.space} {buffer.name}, line {buffer.location.line}, {buffer.slots} slots"
                yield Mutant("slot", text, lambda b=buffer: compiled.with_one_slot(b))  # type: ignore[misc]


def _orders(block: Block) -> Iterator[Flag | Barrier]:
    for node in block.nodes:
        if isinstance(node, Flag | Barrier):
            yield node
        for inner in blocks_of(node):
            yield from _orders(inner)


def describe(dependence: Dependence) -> str:
    source, target = (" ".join(agent) for agent in (dependence.source, dependence.target))
    lines = f"line {dependence.after.location.line} -> line {dependence.before.location.line}"
    kind = "barrier" if dependence.barrier else "flag"
    return f"{kind} {source} -> {target}, {lines}, distance {dependence.distance}"


def _flag_text(node: Flag | Barrier) -> str:
    if isinstance(node, Barrier):
        return f"barrier {node.pipe} of {node.core}, line {node.location.line}"
    text = f"{node.source[0]} {node.source[1]}_{node.target[1]} {node.dependence.event}, line {node.location.line}"
    return f"{'set' if node.set else 'wait'} {text}" + (f", slot {node.slot}" if node.slot is not None else "")


@dataclass(frozen=True)
class Subject:
    """A compiled kernel, the chip that runs it, its arguments, and the races that its flags prevent."""

    compiled: Compiled
    chip: Chip
    sets: Sequence[Callable[[], Arguments]]
    pairs: Pairs

    def hazards(self, program: Program, arguments: Arguments, seed: int = 0, values: bool = True) -> list[Hazard]:
        """What the emulator reports of one run."""
        arrays, scalars = split_arguments(Runnable.of(self.compiled), arguments)
        try:
            return run(
                program, arrays, scalars, chip=self.chip, values=values, hazards=True, strict=False, seed=seed
            ).hazards
        except NpuRunError as error:
            return error.hazards


def with_blocks(chip: Chip, blocks: int) -> Chip:
    """The chip with fewer cores, so that each has more to do; 0: as it is."""
    most = min(chip.cores.values())
    cores = {kind: count // most * (blocks or most) for kind, count in chip.cores.items()}
    return replace(chip, cores=cores)


@dataclass
class Findings:
    """Of one kernel on one chip: how many mutants, those not noticed, those noticed at another pair of lines."""

    name: str
    counts: dict[str, int] = field(default_factory=dict)
    false_alarms: list[str] = field(default_factory=list)
    missed: list[Mutant] = field(default_factory=list)
    elsewhere: list[Mutant] = field(default_factory=list)


def examine(
    case: Case, target: str, seeds: Sequence[int] = (0, 1, 2, 3), kinds: Sequence[str] = ("dependence", "flag", "slot")
) -> Findings:
    """Runs the kernel with all of its arguments on every schedule, and each mutant until it is noticed."""
    chip = NpuTarget(target.partition(":")[2]).chip
    compiled = compile_kernel(case.request, chip)
    subject = Subject(compiled, with_blocks(chip, case.blocks), case.sets, Pairs(compiled, case.request.may_alias))
    found = Findings(f"{case.name} {target}")
    for number, make in enumerate(case.sets):
        for seed in seeds:
            reports = subject.hazards(compiled.program, make(), seed)
            found.false_alarms += [f"set {number}, seed {seed}: {report}" for report in reports]
    for mutant in mutants(compiled, kinds):
        found.counts[mutant.kind] = found.counts.get(mutant.kind, 0) + 1
        noticed, named = _notice(subject, mutant)
        if not noticed:
            found.missed.append(mutant)
        elif not named:
            found.elsewhere.append(mutant)
    return found


def _notice(subject: Subject, mutant: Mutant) -> tuple[bool, bool]:
    """Whether a mutant is noticed, and at its pair. Races show without values, which takes less time; only what they do
    not tell is looked for with values."""
    program = mutant.make()
    noticed = False
    for values in (False, True):
        for make in subject.sets:
            reports = subject.hazards(program, make(), values=values)
            noticed |= bool(reports)
            if any(mutant.dependence is None or subject.pairs.fits(report, mutant.dependence) for report in reports):
                return True, True
    return noticed, False

"""Takes out flags and barriers that others make superfluous.

The program is run in the mind (`trace.py`) in a number of scenarios. What a pipe knows to be done is a clock for each
pipe, as in the emulator's hazard checker: a wait brings what the setting pipe knew, a barrier what came before on the
pipe, and whatever the scalar unit waited for holds for all that it hands out later. A flag is superfluous if all needs are
met without it in every scenario. The clocks are in C++ (csrc/npu_order), since they go along each scenario for each flag.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from opdsl._npu_order import Runs
from opdsl.npu.program import Register
from opdsl.targets.npu.dependences import Agent, Dependence, agents_of, blocks_around
from opdsl.targets.npu.trace import Relevant, Scenario, Step, Trace, scenarios
from opdsl.targets.npu.tree import Block, Branch, Buffer, Instruction, Loop, While, blocks_in, blocks_of

KINDS = {"run": 0, "set": 1, "wait": 2, "barrier": 3}
# Scenarios that go by chance: at least, at most, and how many steps of all scenarios are enough, if the last few went
# nowhere new: a few more where instructions are left that no run came to. So many that any two or three branches are seen
# each way together.
CHANCES, MOST_CHANCES, ENOUGH, PATIENCE, MOST_PATIENCE = 5, 40, 5000, 3, 10
# What was found superfluous must not be missed in so many further scenarios in a row; one that misses it is added to those
# that decide. Fewer of them, where they are long; gives up, and keeps all, after so many that miss it.
CONFIRMATIONS, FEWEST_CONFIRMATIONS, CONFIRMING_STEPS, MOST_COUNTEREXAMPLES = 16, 4, 50_000, 40


TOWARD = 4  # runs that go where a flag is set, to see whether it can be set twice


def prune(
    program: Block,
    dependences: Sequence[Dependence],
    tensors_alias: bool,
    least: Mapping[Register, int],
    fixed: Sequence[Dependence] = (),
) -> tuple[list[Dependence], list[Trace]]:
    """Those of the dependences whose flags are in the tree that are needed, and the scenarios that show it. `fixed`: those
    of them that are needed for something else."""
    rehearsal = Rehearsal(program, dependences, tensors_alias, least)
    traces = rehearsal.traces()
    numbers = _numbers(dependences)
    runs = _runs_of(traces, [_encoded(trace, numbers) for trace in traces], len(numbers))
    held = [runs.holds(place) for place in range(len(traces))]
    if not all(held):
        # A scenario asks for more than the dependences say: it cannot tell which of them are needed.
        return list(dependences), [trace for trace, holds in zip(traces, held, strict=True) if holds]
    stay = {numbers[id(d)] for d in fixed}
    seed = MOST_CHANCES
    for _ in range(MOST_COUNTEREXAMPLES):
        candidates = _candidates(program, dependences, traces, numbers)
        missing = set(runs.superfluous([number for number in candidates if number not in stay]))
        kept = [d for d in dependences if numbers[id(d)] not in missing]
        counterexample: Trace | None = None
        steps = 0
        for number in range(CONFIRMATIONS if missing and len(traces) > 1 else 0):
            if number >= FEWEST_CONFIRMATIONS and steps > CONFIRMING_STEPS:
                break
            seed += 1
            trace = rehearsal.by_chance(seed)
            steps += len(trace.steps)
            if not _holds(trace, kept):
                counterexample = trace
                break
        if counterexample is None:
            return kept, traces
        if not _holds(counterexample, dependences):
            break
        traces.append(counterexample)
        _add(runs, counterexample, _encoded(counterexample, numbers))
    return list(dependences), traces


def _numbers(dependences: Sequence[Dependence]) -> dict[int, int]:
    """Numbers for flags, from 1 on."""
    numbers = {id(d): number for number, d in enumerate(dependences, 1)}
    return {id(d): numbers[id(d.flag)] for d in dependences}


def _candidates(
    program: Block, dependences: Sequence[Dependence], traces: Sequence[Trace], numbers: Mapping[int, int]
) -> list[int]:
    """The numbers of the dependences that may be left out, last ones first: not those of what no run came to."""
    repeated = _repeated(program)
    visited = {node for trace in traces for node in trace.visited}
    unseen: dict[int, set[Agent]] = {}
    _note_unseen(program, visited, unseen)
    found = []
    chained = {id(d) for chain in dependences if chain.chained is not None for d in (chain, chain.chained)}
    met = {key for trace in traces for key in _met(trace)} - chained
    for dependence in reversed(dependences):
        if id(dependence) not in met or dependence.source in unseen.get(id(dependence.after), ()):
            continue  # nothing is known of it
        if dependence.target in unseen.get(id(dependence.before), ()):
            continue
        # What runs once costs little, and whether it is needed hangs on which branches were taken together: it stays.
        conditional = isinstance(dependence.after, Branch) or isinstance(dependence.before, Branch)
        if not conditional or id(dependence.block) in repeated:
            found.append(numbers[id(dependence)])
    return found


def _met(trace: Trace) -> set[int]:
    """The dependences that a run says something about: those between iterations where one waited for another one."""
    times: dict[int, int] = {}
    distances: dict[int, int] = {}
    for step in trace.steps:
        if step.dependence is not None and step.kind != "set" and not step.outside:
            times[id(step.dependence)] = times.get(id(step.dependence), 0) + 1
            distances[id(step.dependence)] = step.dependence.distance
    return {key for key, count in times.items() if count > distances[key]}


def _set_twice(trace: Trace) -> set[int]:
    """The dependences whose flags are set more than once in a run, besides before it."""
    sets = [step for step in trace.steps if step.dependence is not None and step.kind == "set" and not step.outside]
    return {key for key, count in Counter(id(step.dependence) for step in sets).items() if count > 1}


def _note_unseen(block: Block, visited: set[Instruction], unseen: dict[int, set[Agent]]) -> set[Agent]:
    """Notes for each statement the pipes that have instructions in it which no run came to; gives those of the block."""
    total: set[Agent] = set()
    for node in block.nodes:
        found: set[Agent] = set()
        if isinstance(node, Instruction) and node not in visited:
            found.update(agents_of(node))
        for inner in blocks_of(node):
            found |= _note_unseen(inner, visited, unseen)
        if found:
            unseen[id(node)] = found
        total |= found
    return total


def _holds(trace: Trace, dependences: Sequence[Dependence]) -> bool:
    """Whether the flags of the dependences meet all needs of a scenario."""
    numbers = _numbers(dependences)
    return bool(_runs_of([trace], [_encoded(trace, numbers)], len(numbers)).holds(0))


def idle_slots(
    traces: Sequence[Trace], dependences: Sequence[Dependence], buffers: Sequence[Buffer]
) -> set[Buffer]:
    """The buffers whose second slot lets nothing overlap: with one slot all needs would be met by the same flags."""
    numbers = _numbers(dependences)
    found: set[Buffer] = set()
    encoded = [_encoded(trace, numbers) for trace in traces]
    for buffer in buffers:
        if buffer.slots > 1:
            runs = _runs_of(traces, encoded, len(numbers), buffer)
            if all(runs.holds(place) for place in range(len(traces))):
                found.add(buffer)
    return found


Encoded = tuple[NDArray[np.int32], list[tuple[int, Step]]]


def _encoded(trace: Trace, numbers: dict[int, int]) -> Encoded:
    """The steps of a trace with the flags that have a number; its instructions and where they are among the steps."""
    rows: list[tuple[int, int, int, int, int]] = []
    instructions: list[tuple[int, Step]] = []
    for step in trace.steps:
        dependence = step.dependence
        flag = numbers.get(id(dependence), -1) if dependence is not None else 0
        if flag < 0:
            continue
        if step.kind == "run":
            instructions.append((len(rows), step))
        waiting = step.agent if dependence is None else trace.waiting(dependence) if step.kind == "wait" else -1
        rows.append((KINDS[step.kind], step.agent, flag, step.slot, waiting))
    return np.array(rows, np.int32).reshape(len(rows), 5), instructions


def _runs_of(traces: Sequence[Trace], encoded: Sequence[Encoded], flags: int, alone: Buffer | None = None) -> Runs:
    """`alone`: with the needs of a rotating buffer if it had one slot, instead of all others."""
    names = traces[0].names
    scalars = [names.index((core, "S")) for core, _ in names]
    runs = Runs(scalars, flags + 1)
    for trace, steps in zip(traces, encoded, strict=True):
        _add(runs, trace, steps, alone)
    return runs


def _add(runs: Runs, trace: Trace, encoded: Encoded, alone: Buffer | None = None) -> None:
    steps, instructions = encoded
    needs: list[tuple[int, int, int]] = []
    for place, step in instructions:
        for other, number in (step.needs if alone is None else step.alone.get(alone, {})).items():
            if other != step.agent or trace.names[other][1] != "S":  # the scalar unit's own come in order
                needs.append((place, other, number))
    runs.add(steps, np.array(needs, np.int32).reshape(len(needs), 3))


def _repeated(program: Block) -> set[int]:
    """The blocks that are in loops."""
    found: set[int] = set()

    def visit(block: Block, inside: bool) -> None:
        if inside:
            found.add(id(block))
        for node in block.nodes:
            for inner in blocks_of(node):
                visit(inner, inside or isinstance(node, Loop | While))

    visit(program, False)
    return found


class Rehearsal:
    """Runs of a program in the mind. `least`: registers with the least that they can hold."""

    def __init__(
        self, program: Block, dependences: Sequence[Dependence], tensors_alias: bool, least: Mapping[Register, int]
    ) -> None:
        self.program = program
        self.tensors_alias = tensors_alias
        self.relevant = Relevant(program, least)
        self.agents: dict[Agent, int] = {}
        for dependence in dependences:
            for name in (dependence.source, dependence.target):
                self.agents.setdefault(name, len(self.agents))
                self.agents.setdefault((name[0], "S"), len(self.agents))
        _add_agents(program, self.agents)

    def _trace(self, scenario: Scenario) -> Trace:
        return Trace(self.program, scenario, self.agents, self.tensors_alias, self.relevant)

    def by_chance(self, seed: int) -> Trace:
        return self._trace(Scenario(0, (), seed=seed))

    def repeated(self, dependences: Sequence[Dependence], traces: Sequence[Trace]) -> list[Dependence]:
        """Those whose flags a run sets more than once: some of the traces, or one that goes to them wherever it can."""
        found = {key for trace in traces for key in _set_twice(trace)}
        around = blocks_around(self.program)
        blocks = {id(d.block): frozenset(around[id(d.block)]) for d in dependences if id(d) not in found}
        for toward in blocks.values():
            for seed in range(1, TOWARD + 1):
                found |= _set_twice(self._trace(Scenario(0, (), seed=seed, toward=toward)))
        return [d for d in dependences if id(d) in found]

    def traces(self) -> list[Trace]:
        """Every scenario."""
        traces = [self._trace(scenario) for scenario in scenarios(self.program)]
        around = blocks_around(self.program)
        places = {
            node: frozenset(around[id(block)])
            for block in blocks_in(self.program)
            for node in block.nodes
            if isinstance(node, Instruction)
        }
        visited = {node for trace in traces for node in trace.visited}
        fruitless = 0  # how many in a row went nowhere new
        for seed in range(1, MOST_CHANCES + 1 if len(traces) > 1 else 1):
            before = self.relevant.ways_gone, len(visited)
            unseen = [place for node, place in places.items() if node not in visited]
            # Every other run goes where none was yet.
            toward = unseen[seed // 2 % len(unseen)] if unseen and seed % 2 else frozenset()
            traces.append(self._trace(Scenario(0, (), seed=seed, toward=toward)))
            visited |= traces[-1].visited
            fruitless = 0 if (self.relevant.ways_gone, len(visited)) > before else fruitless + 1
            enough = fruitless >= PATIENCE and sum(len(trace.steps) for trace in traces) > ENOUGH
            if seed >= CHANCES and enough and (not unseen or fruitless >= MOST_PATIENCE):
                break
        return traces


def _add_agents(block: Block, agents: dict[Agent, int]) -> None:
    for node in block.nodes:
        if isinstance(node, Instruction):
            for name in agents_of(node):
                agents.setdefault(name, len(agents))
                agents.setdefault((name[0], "S"), len(agents))
        for inner in blocks_of(node):
            _add_agents(inner, agents)

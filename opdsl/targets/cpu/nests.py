"""Runs of roots: what depends on what, the nests of loops that they share, and memory for what these pass on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from opdsl.ir.core import Op, Value
from opdsl.ir.types import ScalarType
from opdsl.targets.cpu.code import REGISTER, Register, local_element
from opdsl.targets.cpu.expressions import Expressions
from opdsl.targets.cpu.fusion import Dependence, build_nests, dependences, name_loops, results_in_memory, root_leaves
from opdsl.targets.cpu.isa import Isa
from opdsl.targets.cpu.lanes import lane_count, wanted_lane
from opdsl.targets.cpu.loop_ir import Buffer, Nest, Root, describe, make_buffer, walk_nests
from opdsl.targets.cpu.loops import LoopWriter
from opdsl.targets.cpu.masks import holding_conditions
from opdsl.targets.cpu.places import roots_comment
from opdsl.targets.cpu.tables import Loops, Stored

Place = Callable[[Buffer], None]


class Nests:
    """Emits runs of roots with the expressions that feed them."""

    def __init__(self, expressions: Expressions, isa: Isa, place: Place, report: list[str]) -> None:
        self.expressions = expressions
        self.tables = expressions.tables
        self.code = self.tables.code
        self.facts = self.tables.facts
        self.isa = isa
        self.place = place  # gives a buffer its memory
        self.report = report  # the loop IR as text
        self.ordered = False  # iterations of the grid at hand run one after another in one thread

    def emit(self, roots: list[Root], overwritten: Sequence[tuple[Value, Root]] = ()) -> None:
        """Emits a run of roots in an order that keeps their dependences.

        `overwritten` pairs a value with the root that takes over its buffer.
        """
        if not roots:
            return
        for value in (v for root in roots for v in root.values if isinstance(v.type, ScalarType)):
            name = self.code.fresh(value.name or "result")
            self.code.line(f"{REGISTER[value.type.dtype]} {name};")
            self.tables.scalars[value] = Register(name, value.type.dtype, False, self.code.level)
        name_loops(roots, self.code.fresh)
        defined = {value: root for root in roots for value in root.values}

        def is_stored(value: Value) -> bool:
            return value in self.tables.stored or value in defined

        edges = dependences(self.facts, is_stored, roots)
        edges += self._overwrites(roots, overwritten, is_stored)
        for root in roots:
            root.lane = wanted_lane(self.tables, is_stored, defined, root)
        tree = build_nests(roots, edges)
        for root, held in results_in_memory(tree, edges):
            self._store_result(root, held)
        self.report.extend(describe(tree))
        loops = LoopWriter(self.expressions, self.isa, self.ordered)
        outer = self.tables.loops
        self.tables.loops = Loops(read_again=self._read_again(tree, is_stored))
        for child in tree:
            # Each nest is a block: names in it end with it, and loads are not moved above the nests before.
            comparisons = holding_conditions(self.tables, child) if isinstance(child, Nest) else {}
            if comparisons:
                condition = " && ".join(dict.fromkeys(comparisons.values()))
                blocks = {f"if ({condition}) {{": frozenset(comparisons), "else {": frozenset()}
            else:
                blocks = {"{": frozenset()}
            # What the blocks share is defined before the first of them.
            bodies = [self._block_lines(loops, child, holding) for holding in blocks.values()]
            inside = child.roots if isinstance(child, Nest) else [child]
            self.code.line(roots_comment(self.facts, is_stored, inside))
            for opening, body in zip(blocks, bodies, strict=True):
                self.code.line(opening)
                self.code.lines(body, 1)
                self.code.line("}")
        self.tables.loops = outer

    def _read_again(self, tree: list[Nest | Root], is_stored: Callable[[Value], bool]) -> set[Op]:
        """The copy_ins that more than one loop reads."""
        readers: dict[Op, set[Nest]] = {}
        for root, nests in walk_nests(tree):
            for value, _ in root_leaves(self.facts, is_stored, root) if nests else ():
                op = self.facts.op(value)
                if op is not None and op.name == "copy_in":
                    readers.setdefault(op, set()).add(nests[-1])
        return {op for op, nests in readers.items() if len(nests) > 1}

    def _block_lines(self, loops: LoopWriter, child: Nest | Root, holding: frozenset[Value]) -> list[str]:
        self.tables.loops.holding = holding
        with self.code.scope() as scope:
            self.tables.loops.nest_level = self.code.level
            loops.emit(child)
        self.tables.loops.holding = frozenset()
        return scope.lines

    def _overwrites(
        self, roots: list[Root], overwritten: Sequence[tuple[Value, Root]], is_stored: Callable[[Value], bool]
    ) -> list[Dependence]:
        """What has to be read before a root overwrites it."""
        edges = []
        stored = self.tables.stored
        for old, writer in overwritten:
            for reader in roots[: roots.index(writer)]:
                for leaf, inside in root_leaves(self.facts, is_stored, reader):
                    if leaf is old:
                        edges.append(Dependence(reader, writer, inside, overwrites=True))
                    elif leaf in stored and writer.target is not None and stored[leaf].buffer.name == writer.target.name:
                        edges.append(Dependence(reader, writer, (), memory=True))  # under another shape
        return edges

    def _store_result(self, root: Root, held: tuple[Nest, ...]) -> None:
        """Gives a root's results local memory: of one iteration of the loops `held`, which all their readers share."""
        held_nests = {nest.variable: nest for nest in held}
        kept = root.kept()
        for value in root.values:
            if root.target is not None and value is root.values[0]:
                self.tables.stored[value] = Stored(root.target)
                continue
            shape, places = [], set()
            for place, dim in enumerate(kept):
                extent, variable = root.space[dim], root.variables.get(dim)
                if variable in held_nests:
                    places.add(place)
                    nest = held_nests[variable]
                    extent = lane_count(self.isa, nest) if nest.is_lane else 1
                shape.append(extent)
            # The lanes' dim is the innermost one.
            order = tuple(sorted(range(len(shape)), key=lambda place: kept[place] == root.lane))
            dtype = value.type.dtype
            name = self.code.fresh(value.name or root.kind)
            buffer = make_buffer(name, dtype, local_element(dtype)[1], tuple(shape), order)
            self.place(buffer)
            self.tables.stored[value] = Stored(buffer, frozenset(places))

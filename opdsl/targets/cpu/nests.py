"""Emits the loops of a run of roots: lane loops with a fast and a checked part, accumulators, stores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from opdsl.ir.core import Op, Region, Value
from opdsl.ir.types import DType, ScalarType, bool_, f64, i64, u64
from opdsl.targets.cpu import arithmetic
from opdsl.targets.cpu.code import HALF, REGISTER, Register, local_element
from opdsl.targets.cpu.coordinates import access_coordinates
from opdsl.targets.cpu.expressions import Clip, Expressions, Loops, Stored
from opdsl.targets.cpu.facts import tensor_index
from opdsl.targets.cpu.fusion import Dependence, build_nests, dependences, name_loops, read_values, root_leaves
from opdsl.targets.cpu.isa import Isa
from opdsl.targets.cpu.loop_ir import Buffer, Index, Nest, Root, describe, make_buffer, walk_nests
from opdsl.targets.cpu.masks import holding_conditions
from opdsl.targets.cpu.places import roots_comment

Place = Callable[[Buffer], None]
COPY = "§"  # in the text of a loop body: the number of the unrolled copy


@dataclass
class Accumulator:
    """The running values of a reduction, one for each operand; vectors when the lanes are open."""

    names: list[str]
    vector: bool
    dtypes: list[DType]
    type: str = ""  # of a built-in reduction's variables, and where they begin
    identity: str = ""


class Nests:
    """Emits roots with the expressions that feed them."""

    def __init__(self, expressions: Expressions, isa: Isa, place: Place, report: list[str]) -> None:
        self.expressions = expressions
        self.code = expressions.code
        self.facts = expressions.facts
        self.isa = isa
        self.place = place  # gives a buffer its memory
        self.report = report  # the loop IR as text
        self.ordered = False  # iterations run one after another in one thread: no atomics
        self._accumulators: dict[Root, Accumulator] = {}

    # --- planning ---

    def emit(self, roots: list[Root], overwritten: Sequence[tuple[Value, Root]] = ()) -> None:
        """Emits a run of roots in an order that keeps their dependences.

        `overwritten` pairs a value with the root that takes over its buffer.
        """
        if not roots:
            return
        for value in (v for root in roots for v in root.values if isinstance(v.type, ScalarType)):
            name = self.code.fresh(value.name or "result")
            self.code.line(f"{REGISTER[value.type.dtype]} {name};")
            self.expressions.scalars[value] = Register(name, value.type.dtype, False, self.code.level)
        name_loops(roots, self.code.fresh)
        defined = {value: root for root in roots for value in root.values}

        def is_stored(value: Value) -> bool:
            return value in self.expressions.stored or value in defined

        edges = dependences(self.facts, is_stored, roots)
        edges += self._overwrites(roots, overwritten, is_stored)
        for root in roots:
            root.lane = self._wanted_lane(root, is_stored, defined)
        tree = build_nests(roots, edges)
        self._store_results(tree, edges)
        self.expressions.read_again = self._read_again(tree, is_stored)
        self.report.extend(describe(tree))
        outer = self.expressions.loops
        self.expressions.loops = Loops()
        for child in tree:
            # Each nest is a block: names in it end with it, and loads are not moved above the nests before.
            comparisons = holding_conditions(self.expressions, child) if isinstance(child, Nest) else {}
            if comparisons:
                condition = " && ".join(dict.fromkeys(comparisons.values()))
                blocks = {f"if ({condition}) {{": frozenset(comparisons), "else {": frozenset()}
            else:
                blocks = {"{": frozenset()}
            # What the blocks share is defined before the first of them.
            bodies = [self._block_lines(child, holding) for holding in blocks.values()]
            inside = child.roots if isinstance(child, Nest) else [child]
            self.code.line(roots_comment(self.facts, is_stored, inside))
            for opening, body in zip(blocks, bodies, strict=True):
                self.code.line(opening)
                self.code.lines(body, 1)
                self.code.line("}")
        self.expressions.loops = outer

    def _read_again(self, tree: list[Nest | Root], is_stored: Callable[[Value], bool]) -> set[Op]:
        """The copy_ins that more than one loop reads."""
        readers: dict[Op, set[Nest]] = {}
        for root, nests in walk_nests(tree):
            for value, _ in root_leaves(self.facts, is_stored, root) if nests else ():
                op = self.facts.op(value)
                if op is not None and op.name == "copy_in":
                    readers.setdefault(op, set()).add(nests[-1])
        return {op for op, nests in readers.items() if len(nests) > 1}

    def _block_lines(self, child: Nest | Root, holding: frozenset[Value]) -> list[str]:
        self.expressions.holding = holding
        with self.code.scope() as scope:
            self.expressions.nest_level = self.code.level
            self._emit_child(child)
        self.expressions.holding = frozenset()
        return scope.lines

    def _overwrites(
        self, roots: list[Root], overwritten: Sequence[tuple[Value, Root]], is_stored: Callable[[Value], bool]
    ) -> list[Dependence]:
        edges = []
        stored = self.expressions.stored
        for old, writer in overwritten:
            for reader in roots[: roots.index(writer)]:
                for leaf, inside in root_leaves(self.facts, is_stored, reader):
                    if leaf is old:
                        edges.append(Dependence(reader, writer, inside, overwrites=True))
                    elif leaf in stored and writer.target is not None and stored[leaf].buffer.name == writer.target.name:
                        edges.append(Dependence(reader, writer, (), memory=True))  # under another shape
        return edges

    def _wanted_lane(self, root: Root, is_stored: Callable[[Value], bool], defined: dict[Value, Root]) -> int | None:
        """The dim of the root along which most of the memory it touches is contiguous."""
        votes: dict[int, int] = {}
        for leaf, inside in root_leaves(self.facts, is_stored, root):
            if not inside:
                continue
            producer = defined.get(leaf)
            inner: int | None
            if producer is not None:
                kept = producer.kept()
                inner = kept.index(producer.lane) if producer.lane in kept else None
            elif leaf in self.expressions.stored:
                inner = self.expressions.stored[leaf].buffer.innermost
            else:
                self._vote_tensor(root, self.facts.definition[leaf], inside, votes)
                continue
            if inner is not None:
                self._vote(root, inside[inner], votes, 2)
        if root.kind == "copy_out":
            self._vote_tensor(root, root.op, root.coordinates(), votes)
        elif root.target is not None and root.target.innermost is not None and root.kind == "tile":
            inner = root.target.innermost
            if inner in root.variables:
                votes[inner] = votes.get(inner, 0) + 2
        if not votes:
            return None
        return max(votes, key=lambda dim: (votes[dim], dim))

    def _vote(self, root: Root, index: Index, votes: dict[int, int], weight: int) -> None:
        for dim, variable in root.variables.items():
            if index.coefficient(variable) == 1:
                votes[dim] = votes.get(dim, 0) + weight

    def _vote_tensor(self, root: Root, op: Op, at: object, votes: dict[int, int]) -> None:
        tensor = self.expressions.tensors[op.operands[0] if op.name == "copy_in" else op.operands[1]]
        for dim, (place, _) in enumerate(access_coordinates(op, at)):  # type: ignore[arg-type]
            spec, _ = tensor_index(op)[dim]
            if place is not None and tensor.strides[dim] == "1" and getattr(spec, "step", 1) == 1:
                self._vote(root, place, votes, 2)

    def _store_results(self, tree: list[Nest | Root], edges: Sequence[Dependence]) -> None:
        """Gives local memory to the values that do not live in registers between producer and consumers."""
        around = dict(walk_nests(tree))
        for root, nests in around.items():
            if not root.values or isinstance(root.values[0].type, ScalarType):
                continue
            consumers = [e.consumer for e in edges if e.producer is root and not e.overwrites and not e.memory]
            shared = [self._shared(nests, around[c]) for c in consumers]
            common = min(shared, default=0)
            parallel = len([d for d in root.loops if d not in root.reduced])
            # Names end with the outermost loop: what another nest reads, even a single value, goes through memory.
            in_registers = root.kind in ("tile", "reduce", "reduce_custom", "arg_reduce")
            in_registers = in_registers and all(s >= max(parallel, 1) for s in shared)
            if root.kind == "tile":
                in_registers = in_registers and all(s == len(nests) for s in shared)
            if in_registers and not root.external and root.target is None:
                continue
            held_loops = 0 if root.external or root.target is not None else common
            self._store_root(root, nests, held_loops)

    @staticmethod
    def _shared(a: tuple[Nest, ...], b: tuple[Nest, ...]) -> int:
        count = 0
        for x, y in zip(a, b, strict=False):
            if x is not y:
                break
            count += 1
        return count

    def _store_root(self, root: Root, nests: tuple[Nest, ...], held_loops: int) -> None:
        kept = root.kept()
        held_variables = {nest.variable: nest for nest in nests[:held_loops]}
        for value in root.values:
            shape, held = [], set()
            lane_dim = None
            for place, dim in enumerate(kept):
                variable = root.variables.get(dim)
                extent = root.space[dim]
                if variable is not None and variable in held_variables:
                    held.add(place)
                    is_lane = held_variables[variable].is_lane
                    extent = self._lanes(held_variables[variable]) if is_lane else 1
                if dim == root.lane:
                    lane_dim = place
                shape.append(extent)
            if root.target is not None and value is root.values[0]:
                self.expressions.stored[value] = Stored(root.target)
                continue
            order = tuple(d for d in range(len(shape)) if d != lane_dim) + ((lane_dim,) if lane_dim is not None else ())
            dtype = value.type.dtype
            buffer = make_buffer(
                self.code.fresh(value.name or root.kind), dtype, local_element(dtype)[1], tuple(shape), order
            )
            self.place(buffer)
            self.expressions.stored[value] = Stored(buffer, frozenset(held))

    # --- lanes ---

    def _lanes(self, nest: Nest) -> int:
        """Lanes of a lane loop: full registers of the widest type that matters, no more than the loop has."""
        width = 4
        for root in nest.roots:
            values = [*root.values, *(v for v, _ in read_values(root))]
            for value in values:
                dtype = value.type.dtype
                if dtype in (f64, i64, u64):
                    width = 8
        lanes = self.isa.vector_bytes // width
        while lanes > 1 and lanes // 2 >= nest.variable.extent:
            lanes //= 2
        return lanes

    # --- loops ---

    def _emit_child(self, child: Nest | Root) -> None:
        if isinstance(child, Nest):
            self._emit_nest(child)
        else:
            self._emit_root(child)

    def _emit_nest(self, nest: Nest) -> None:
        starting = [r for r in nest.roots if r.reduced and self._first_reduced_depth(r) == nest.depth]
        for root in starting:
            self._open_accumulator(root, nest)
        clip = self._restriction(nest)
        if nest.is_lane:
            self._emit_lane_loop(nest, clip)
        else:
            self._emit_plain_loop(nest, clip)
        for root in starting:
            self._close_accumulator(root, nest)

    @staticmethod
    def _first_reduced_depth(root: Root) -> int:
        return next((depth for depth, dim in enumerate(root.loops) if dim in root.reduced), -1)

    def _restriction(self, nest: Nest) -> Clip | None:
        """The clip that all the stores of a loop share along it, where nothing else of the loop is seen outside."""
        clips: dict[tuple[object, ...], Clip] = {}
        loops = self.expressions.loops
        for root in nest.roots:
            if root.kind != "copy_out":
                if (
                    root.external
                    or root.target is not None
                    or (root.kind != "tile"
                    and root.loops[nest.depth] in root.reduced)
                ):
                    return None
                if any(v in self.expressions.stored and not self._held(root, v, nest) for v in root.values):
                    return None
                continue
            found = None
            for dim, (place, _) in enumerate(access_coordinates(root.op, root.coordinates())):
                if place is not None and place.is_variable(nest.variable):
                    found = self.expressions.clip(root.op, dim)
            if found is None:
                return None
            clips[found.key] = found
        if len(clips) != 1:
            return None
        (clip,) = clips.values()
        loops.inside.add((clip.key, nest.variable))
        return clip

    def _held(self, root: Root, value: Value, nest: Nest) -> bool:
        kept, dim = root.kept(), root.loops[nest.depth]
        return dim in kept and kept.index(dim) in self.expressions.stored[value].held

    def _emit_plain_loop(self, nest: Nest, clip: Clip | None) -> None:
        v = nest.variable
        with self.code.scope() as scope:
            self.expressions.loops.level[v] = self.code.level
            for child in nest.children:
                self._emit_child(child)
        low, high = (clip.low, clip.high) if clip is not None else ("0", str(v.extent))
        if any(r.op.attributes.get("reverse") and self._is_scanned(r, nest) for r in nest.roots):
            self.code.line(f"for (od::i64 {v.name} = {v.extent} - 1; {v.name} >= 0; --{v.name}) {{")
        elif self._only_reduces(nest):
            self._emit_reducing_loop(nest, scope.lines, low, high)
            return
        else:
            self.code.line(f"for (od::i64 {v.name} = {low}; {v.name} < {high}; ++{v.name}) {{")
        self.code.lines(self._numbered(scope.lines, 0), 1)
        self.code.line("}")

    PART = 16

    def _only_reduces(self, nest: Nest) -> bool:
        """Whether all that accumulates in a loop begins and ends with it."""
        inside = [r for r in nest.roots if r in self._accumulators]
        ends = all(
            r.kind == "reduce" and len(r.loops) - 1 == nest.depth == self._first_reduced_depth(r) for r in inside
        )
        return bool(inside) and ends and nest.variable.extent >= 4

    def _emit_reducing_loop(self, nest: Nest, body: list[str], low: str, high: str) -> None:
        """A loop with several accumulators, so that one addition need not wait for the one before.

        Long sums of floats are made in parts: rounding errors grow with the length of a chain of additions.
        """
        code, name = self.code, nest.variable.name
        inside = [(r, self._accumulators[r]) for r in nest.roots if r in self._accumulators]
        copies = 4 if len(body) <= 10 else 2 if len(body) <= 30 else 1
        part = self.PART * copies
        sums = any(r.op.attributes["kind"] == "sum" and a.dtypes[0].is_float for r, a in inside)
        begin, stop = f"{name}_begin", f"{name}_stop"
        in_parts = sums and nest.variable.extent > part
        if in_parts:
            code.line(f"for (od::i64 {begin} = {low}; {begin} < {high}; {begin} += {part}) {{")
            code.line(f"  const od::i64 {stop} = od::smaller({begin} + {part}, {high});")
        else:
            code.line("{")
            code.line(f"  const od::i64 {begin} = {low}, {stop} = {high};")
        for _, accumulator in inside:
            variables = ", ".join(f"{accumulator.names[0]}_p{copy} = {accumulator.identity}" for copy in range(copies))
            code.line(f"  {accumulator.type} {variables};")
        code.line(f"  od::i64 {name} = {begin};")
        if copies > 1:
            code.line(f"  for (; {name} + {copies} <= {stop}; {name} += {copies}) {{")
            code.line(f"    const od::i64 base = {name};")
            for copy in range(copies):
                code.line(f"    {{ const od::i64 {name} = base + {copy};")
                code.lines([line.replace(COPY, f"_p{copy}") for line in body], 3)
                code.line("    }")
            code.line("  }")
        code.line(f"  for (; {name} < {stop}; ++{name}) {{")
        code.lines([line.replace(COPY, "_p0") for line in body], 2)
        code.line("  }")
        for root, accumulator in inside:
            terms = [f"{accumulator.names[0]}_p{copy}" for copy in range(copies)]
            kind, dtype = root.op.attributes["kind"], accumulator.dtypes[0]
            while len(terms) > 1:
                terms = [arithmetic.combine(kind, a, b, dtype) for a, b in zip(terms[::2], terms[1::2], strict=True)]
            total = f"{accumulator.names[0]}_0"
            code.line(f"  {total} = {arithmetic.combine(kind, total, terms[0], dtype)};")
        code.line("}")

    @staticmethod
    def _is_scanned(root: Root, nest: Nest) -> bool:
        return root.loops[-1] in root.reduced and len(root.loops) - 1 == nest.depth

    def _emit_lane_loop(self, nest: Nest, clip: Clip | None) -> None:
        expressions, code, v = self.expressions, self.code, nest.variable
        loops = expressions.loops
        loops.lane, loops.lanes, loops.met = v, self._lanes(nest), []
        lanes = loops.lanes
        start, stop = (clip.low, clip.high) if clip is not None else ("0", str(v.extent))
        fast = self._body(nest, None)
        met = {c.key: c for c in loops.met}
        whole = clip is None and not met and v.extent % lanes == 0
        only_checked = clip is None and v.extent < lanes
        name = v.name
        if whole and v.extent == lanes:
            self._block([f"const od::i64 {name} = 0;", *self._numbered(fast, 0)])
        elif only_checked:
            checked = self._body(nest, str(v.extent))
            self._block([f"const od::i64 {name} = 0;", *self._numbered(checked, 0)])
        else:
            code.line("{")
            code.line(f"  od::i64 {name} = {start};")
            fast_stop = stop
            for condition in met.values():
                fast_stop = f"od::smaller({fast_stop}, {condition.high})"
            static_stop = clip is None and not met
            if static_stop:
                fast_stop = str(v.extent // lanes * lanes)
            lows = [c.low for c in met.values() if c.low != "0"]
            checked = [] if whole else self._body(nest, "limit" if not static_stop else str(v.extent % lanes))
            if met:
                code.line(f"  const od::i64 fast_stop = {fast_stop};")
                fast_stop = "fast_stop"
            prefix = checked if lows else []
            if prefix:
                low = lows[0]
                for other in lows[1:]:
                    low = f"od::larger({low}, {other})"
                code.line(f"  const od::i64 fast_start = {low};")
                code.line(f"  for (; {name} < fast_start && {name} < {stop}; {name} += {lanes}) {{")
                code.line(f"    const od::i64 limit = od::smaller({stop} - {name}, od::i64({lanes}));")
                code.lines(self._numbered(prefix, 0), 2)
                code.line("  }")
            self._fast_loops(nest, fast, fast_stop)
            if not whole:
                if static_stop:
                    code.line("  {")
                else:
                    code.line(f"  for (; {name} < {stop}; {name} += {lanes}) {{")
                    code.line(f"    const od::i64 limit = od::smaller({stop} - {name}, od::i64({lanes}));")
                code.lines(self._numbered(checked, 0), 2)
                code.line("  }")
            code.line("}")
        loops.lane, loops.lanes, loops.limit = None, 1, None

    def _fast_loops(self, nest: Nest, body: list[str], stop: str) -> None:
        name, lanes = nest.variable.name, self.expressions.loops.lanes
        copies = self._copies(nest, body)
        if copies > 1:
            self._keep_loop(stop, copies * lanes)
            self.code.line(f"  for (; {name} + {copies * lanes} <= {stop}; {name} += {copies * lanes}) {{")
            self.code.line(f"    const od::i64 base = {name};")
            for copy in range(copies):
                self.code.line(f"    {{ const od::i64 {name} = base + {copy * lanes};")
                self.code.lines(self._numbered(body, copy), 3)
                self.code.line("    }")
            self.code.line("  }")
        self._keep_loop(stop, lanes)
        self.code.line(f"  for (; {name} + {lanes} <= {stop}; {name} += {lanes}) {{")
        self.code.lines(self._numbered(body, 0), 2)
        self.code.line("  }")

    def _keep_loop(self, stop: str, step: int) -> None:
        """The compiler would write out a loop of known length up to 16 times its body: seconds of its time where the
        body has an exponential, for nothing at run time."""
        if stop.isdigit() and int(stop) // step > 4:
            self.code.line("  #pragma GCC unroll 1")

    def _copies(self, nest: Nest, body: list[str]) -> int:
        """Unrolled copies with accumulators of their own: as many as hide the latency of the additions."""
        reducing = any(r in self._accumulators for r in nest.roots)
        plain = all(isinstance(c, Root) for c in nest.children)
        if not reducing or not plain or nest.variable.extent < 4 * self.expressions.loops.lanes:
            return 1
        return 4 if len(body) <= 18 else 2 if len(body) <= 24 else 1

    COPIES = 4

    def _body(self, nest: Nest, limit: str | None) -> list[str]:
        self.expressions.loops.limit = limit
        lane, lanes = self.expressions.loops.lane, self.expressions.loops.lanes
        with self.code.scope() as scope:
            self.expressions.loops.level[nest.variable] = self.code.level
            for child in nest.children:
                self._emit_child(child)
        self.expressions.loops.lane, self.expressions.loops.lanes = lane, lanes
        self.expressions.loops.limit = limit
        return scope.lines

    @staticmethod
    def _numbered(body: list[str], copy: int) -> list[str]:
        return [line.replace(COPY, f"_{copy}") for line in body]

    def _block(self, body: list[str]) -> None:
        self.code.line("{")
        self.code.lines(body, 1)
        self.code.line("}")

    # --- roots ---

    def _emit_root(self, root: Root) -> None:
        expressions, at = self.expressions, root.coordinates()
        if root.kind == "copy_out":
            expressions.store_tensor(root.op, at, expressions.evaluate(root.op.operands[0], at), self.ordered)
        elif root.kind == "tile":
            self._emit_tile(root)
        elif not root.loops or all(d not in root.reduced for d in root.loops):
            self._emit_trivial_reduction(root)
        else:
            self._accumulate(root)

    def _emit_tile(self, root: Root) -> None:
        expressions, at = self.expressions, root.coordinates()
        assert root.source is not None
        if not root.values:
            assert root.target is not None
            expressions.store_local(Stored(root.target), at, expressions.evaluate(root.source, at))
            return
        (value,) = root.values
        place = expressions.stored.pop(value, None)  # so that it is computed, not loaded
        register = expressions.evaluate(value, at)
        if place is not None:
            expressions.stored[value] = place
            expressions.store_local(place, at, register)

    def _emit_trivial_reduction(self, root: Root) -> None:
        """A reduction over dims of one element."""
        at = root.coordinates()
        operands = [self.expressions.evaluate(v, at) for v, _ in read_values(root)]
        if root.kind == "arg_reduce":
            results = [Register("od::i64(0)", i64, False, 0)]
        elif root.kind in ("reduce", "scan"):
            exclusive = root.kind == "scan" and root.op.attributes["exclusive"]
            dtype = root.values[0].type.dtype
            identity = arithmetic.reduction_identity(root.op.attributes["kind"], dtype)
            results = [Register(identity, dtype, False, 0) if exclusive else self._to_result(root, operands[0])]
        else:
            results = operands
        self._finish(root, results)

    def _to_result(self, root: Root, register: Register) -> Register:
        """An operand in the type that a reduction or scan counts in."""
        dtype = root.values[0].type.dtype
        if register.dtype == dtype:
            return register
        if register.lane_step:
            register = self.expressions.as_vector(register)
        text = arithmetic.cast(register.text, register.dtype, dtype, register.vector)
        return self.expressions.define("term", dtype, register.vector, text, register.level)

    def _finish(self, root: Root, results: list[Register]) -> None:
        """Makes the results known to what follows in the loops around, and stores them where that is asked for."""
        at = root.result_coordinates()
        for value, register in zip(root.values, results, strict=True):
            if value in self.expressions.stored:
                self.expressions.store_local(self.expressions.stored[value], at, register)
            if at:
                register = Register(register.text, register.dtype, register.vector, self.code.level, register.lane_step)
                self.code.remember((value, at), register)
            elif not at and value not in self.expressions.stored:
                self._finish_scalar(value, register)

    def _finish_scalar(self, value: Value, register: Register) -> None:
        """A scalar result, declared before the loops."""
        known = self.expressions.scalars[value]
        self.code.line(f"{known.text} = {register.text};")

    # --- accumulators ---

    def _open_accumulator(self, root: Root, nest: Nest) -> None:
        loops = self.expressions.loops
        vector = loops.lane is not None or self._has_lane(nest, root)
        dtypes = [v.type.dtype for v in root.values]
        kind = root.op.attributes.get("kind", "")
        saved = loops.lanes
        if loops.lane is None and vector:
            lane_nest = self._lane_nest(nest, root)
            assert lane_nest is not None
            loops.lanes = self._lanes(lane_nest)
        names = []
        type = identity = ""
        lane_reduced = vector and loops.lane is None
        if root.kind in ("reduce", "scan"):
            name = self.code.fresh("sum" if kind == "sum" else kind)
            dtype = dtypes[0]
            type = self.expressions.vector_type(dtype) if vector else REGISTER[dtype]
            identity = arithmetic.reduction_identity(kind, dtype)
            if vector:
                identity = self.expressions.as_vector(Register(identity, dtype, False, 0)).text
            copies = range(self.COPIES) if lane_reduced and root.kind == "reduce" else range(1)
            declared = ", ".join(f"{name}_{copy} = {identity}" for copy in copies)
            self.code.line(f"{type} {declared};")
            names.append(name)
        elif root.kind == "arg_reduce":
            operand = root.op.operands[0].type.dtype
            best, place = self.code.fresh("best"), self.code.fresh("place")
            identity = arithmetic.reduction_identity(kind, operand)
            zero = "0"
            if vector:
                identity = self.expressions.as_vector(Register(identity, operand, False, 0)).text
                zero = self.expressions.as_vector(Register("od::i64(0)", i64, False, 0)).text
                self.code.line(f"{self.expressions.vector_type(operand)} {best} = {identity};")
                self.code.line(f"{self.expressions.vector_type(i64)} {place} = {zero};")
            else:
                self.code.line(f"{REGISTER[operand]} {best} = {identity};")
                self.code.line(f"od::i64 {place} = 0;")
            names, dtypes = [best, place], [operand, i64]
        else:
            for dtype in dtypes:
                name = self.code.fresh("carry")
                self.code.line(f"{self.expressions.vector_type(dtype) if vector else REGISTER[dtype]} {name}{{}};")
                names.append(name)
        loops.lanes = saved
        self._accumulators[root] = Accumulator(names, vector, dtypes, type, identity)

    def _has_lane(self, nest: Nest, root: Root) -> bool:
        return self._lane_nest(nest, root) is not None

    def _lane_nest(self, nest: Nest, root: Root) -> Nest | None:
        if nest.is_lane:
            return nest
        for child in nest.children:
            if isinstance(child, Nest) and root in child.roots:
                return self._lane_nest(child, root)
        return None

    def _masked(self, root: Root, register: Register, identity: str, dtype: DType) -> str:
        """The register as a term: lanes that do not count hold the identity."""
        loops = self.expressions.loops
        register = self.expressions.as_vector(register) if self._accumulators[root].vector else register
        if loops.limit is None or not register.vector or not self._lane_is_reduced(root):
            return register.text
        neutral = self.expressions.as_vector(Register(identity, dtype, False, 0)).text
        counts = f"od::first_lanes<{loops.lanes}>({loops.limit})"
        if dtype.is_bool:
            return f"(({counts} & {register.text}) | (~{counts} & {neutral}))"
        return f"od::select({counts}, {register.text}, {neutral})"

    def _lane_is_reduced(self, root: Root) -> bool:
        lane = self.expressions.loops.lane
        return any(root.variables.get(d) is lane for d in root.reduced)

    def _accumulate(self, root: Root) -> None:
        accumulator = self._accumulators[root]
        at = root.coordinates()
        operands = [self.expressions.evaluate(v, at) for v, _ in read_values(root)]
        kind = root.op.attributes.get("kind", "")
        if root.kind == "reduce":
            dtype = accumulator.dtypes[0]
            term = self._masked(
                root, self._to_result(root, operands[0]), arithmetic.reduction_identity(kind, dtype), dtype
            )
            name = accumulator.names[0] + COPY
            # The term first: `max` looks for NaN in its first operand, which should not wait for the sum so far.
            self.code.line(f"{name} = {arithmetic.combine(kind, term, name, dtype)};")
        elif root.kind == "scan":
            self._scan_step(root, accumulator, operands[0], kind)
        elif root.kind == "arg_reduce":
            self._arg_step(root, accumulator, operands[0], kind)
        else:
            self._custom_step(root, accumulator, operands)

    def _scan_step(self, root: Root, accumulator: Accumulator, operand: Register, kind: str) -> None:
        dtype = accumulator.dtypes[0]
        name = accumulator.names[0] + "_0"
        register = self._to_result(root, operand)
        if accumulator.vector:
            register = self.expressions.as_vector(register)
        before = None
        if root.op.attributes["exclusive"]:
            before = self.expressions.define("before", dtype, accumulator.vector, name, self.code.level)
        self.code.line(f"{name} = {arithmetic.combine(kind, name, register.text, dtype)};")
        result = before or self.expressions.define("running", dtype, accumulator.vector, name, self.code.level)
        if dtype in HALF:
            rounded = arithmetic.wrapped(result.text, dtype)
            result = self.expressions.define("rounded", dtype, accumulator.vector, rounded, self.code.level)
        self._finish(root, [result])

    def _arg_step(self, root: Root, accumulator: Accumulator, operand: Register, kind: str) -> None:
        best, place = accumulator.names
        dtype, vector = accumulator.dtypes[0], accumulator.vector
        if vector:
            operand = self.expressions.as_vector(operand)
        axis = root.variables[root.op.attributes["axis"]].name
        relation = "gt" if kind == "max" else "lt"
        if dtype.is_bool:
            better = f"({operand.text} & ~{best})" if kind == "max" else f"(~{operand.text} & {best})"
            better = better if vector else better.replace("~", "!")
        else:
            better = arithmetic.elementwise(relation, [operand.text, best], dtype, vector)
            if dtype.is_float:
                nan = arithmetic.elementwise("ne", [operand.text] * 2, dtype, vector)
                number = arithmetic.elementwise("eq", [best] * 2, dtype, vector)
                better = f"({better} | ({nan} & {number}))"
        condition = self.expressions.define("better", bool_, vector, better, self.code.level).text
        here = f"od::splat<od::i64, {self.expressions.loops.lanes}>({axis})" if vector else axis
        self.code.line(f"{best} = {arithmetic.elementwise('select', [condition, operand.text, best], dtype, vector)};")
        self.code.line(f"{place} = {arithmetic.elementwise('select', [condition, here, place], i64, vector)};")

    def _custom_step(self, root: Root, accumulator: Accumulator, operands: list[Register]) -> None:
        vector = accumulator.vector
        if vector:
            operands = [self.expressions.as_vector(o) for o in operands]
        axis = root.variables[root.op.attributes["axis"]]
        (combine,) = root.op.regions
        first = axis.extent - 1 if root.op.attributes.get("reverse") else 0
        with self.code.scope() as scope:
            level = self.code.level
            carried = [
                Register(n, d, vector, level) for n, d in zip(accumulator.names, accumulator.dtypes, strict=True)
            ]
            results = self._inline(combine, [*carried, *operands])
            temporary = [self.expressions.define("next", r.dtype, vector, r.text, level) for r in results]
            for name, register in zip(accumulator.names, temporary, strict=True):
                self.code.line(f"{name} = {register.text};")
        self.code.line(f"if ({axis.name} == {first}) {{")
        for name, register in zip(accumulator.names, operands, strict=True):
            self.code.line(f"  {name} = {register.text};")
        self.code.line("} else {")
        self.code.lines(scope.lines, 1)
        self.code.line("}")
        if root.kind == "scan_custom":
            registers = [
                self.expressions.define("running", d, vector, n, self.code.level)
                for n, d in zip(accumulator.names, accumulator.dtypes, strict=True)
            ]
            self._finish(root, registers)

    def _inline(
        self, region: Region, arguments: list[Register], around: dict[Value, Register] | None = None
    ) -> list[Register]:
        """A combine function's body on registers, at the current level."""
        known: dict[Value, Register] = {**(around or {}), **dict(zip(region.arguments, arguments, strict=True))}
        vector = any(a.vector for a in arguments)
        for op in region.ops[:-1]:
            if op.name == "constant":
                text = arithmetic.literal(op.attributes["value"], op.attributes["dtype"])
                known[op.result] = Register(text, op.attributes["dtype"], False, 0)
                continue
            operands = [known[o] if o in known else self.expressions.scalars[o] for o in op.operands]
            if op.name == "if":
                # Both sides are pure: compute both and choose.
                sides = [self._inline(side, [], known) for side in op.regions]
                for result, then, otherwise in zip(op.results, *sides, strict=True):
                    select = Op("select", (), (result,), {}, (), op.location)
                    known[result] = self.expressions.apply(select, [operands[0], then, otherwise])
                continue
            known[op.result] = self.expressions.apply(op, operands)
        results = [known.get(o) or self.expressions.scalars[o] for o in region.terminator.operands]
        return [self.expressions.as_vector(r) for r in results] if vector else results

    def _close_accumulator(self, root: Root, nest: Nest) -> None:
        accumulator = self._accumulators.pop(root)
        if root.kind in ("scan", "scan_custom"):
            return
        vector_left = self.expressions.loops.lane is not None
        level = self.code.level
        if root.kind == "arg_reduce":
            register = self.expressions.define("index", i64, accumulator.vector, accumulator.names[1], level)
            self._finish(root, [register])
            return
        if root.kind == "reduce_custom":
            registers = [
                self.expressions.define("total", d, accumulator.vector, n, level)
                for n, d in zip(accumulator.names, accumulator.dtypes, strict=True)
            ]
            self._finish(root, registers)
            return
        name, dtype, kind = accumulator.names[0], accumulator.dtypes[0], root.op.attributes["kind"]
        result_dtype = dtype
        if accumulator.vector and not vector_left:
            total = f"{name}_0"
            if self.COPIES == 4:
                pairs = [arithmetic.combine(kind, f"{name}_{a}", f"{name}_{a + 1}", dtype) for a in (0, 2)]
                total = arithmetic.combine(kind, pairs[0], pairs[1], dtype)
            if dtype.is_bool:
                text = f"od::{'any' if kind in ('any', 'max') else 'all'}({total})"
            else:
                function = {"sum": "add", "prod": "mul"}.get(kind, kind)
                text = f"od::reduce_{function}({total})"
            vector = False
        else:
            text, vector = f"{name}_0", accumulator.vector
        if result_dtype in HALF and kind in ("sum", "prod"):
            text = arithmetic.wrapped(text, result_dtype)
        register = self.expressions.define(root.values[0].name or kind, result_dtype, vector, text, level)
        self._finish(root, [register])

"""The loops of one nest: plain ones, lane loops with a fast and a checked part, and what their roots do inside."""

from __future__ import annotations

from opdsl.ir.core import Value
from opdsl.targets.cpu import arithmetic
from opdsl.targets.cpu.accesses import clip_of
from opdsl.targets.cpu.coordinates import access_coordinates
from opdsl.targets.cpu.expressions import Expressions
from opdsl.targets.cpu.isa import Isa
from opdsl.targets.cpu.lanes import lane_count
from opdsl.targets.cpu.local_memory import store_local
from opdsl.targets.cpu.loop_ir import Nest, Root
from opdsl.targets.cpu.reductions import COPIES, COPY, Reductions
from opdsl.targets.cpu.tables import Clip, Stored

STORING = ("copy_out", "tile")  # kinds of roots whose lanes have nothing to do with each other
PART = 16  # additions of floats one after another in a long sum


class LoopWriter:
    """Writes the nests of a run. `ordered`: iterations of the grid run one after another in one thread, no atomics."""

    def __init__(self, expressions: Expressions, isa: Isa, ordered: bool) -> None:
        self.expressions = expressions
        self.tables = expressions.tables
        self.code = self.tables.code
        self.isa = isa
        self.ordered = ordered
        self.reductions = Reductions(expressions, isa)

    def emit(self, child: Nest | Root) -> None:
        """A nest with all that is inside, or a root whose loops are open."""
        if isinstance(child, Nest):
            self._emit_nest(child)
        else:
            self._emit_root(child)

    def _emit_nest(self, nest: Nest) -> None:
        starting = [r for r in nest.roots if r.reduced and _first_reduced_depth(r) == nest.depth]
        for root in starting:
            self.reductions.open(root, nest)
        clip = self._restriction(nest)
        if nest.is_lane:
            self._emit_lane_loop(nest, clip)
        else:
            self._emit_plain_loop(nest, clip)
        for root in starting:
            self.reductions.close(root)

    def _restriction(self, nest: Nest) -> Clip | None:
        """The clip that all the stores of a loop share along it, where nothing else of the loop is seen outside."""
        clips: dict[tuple[object, ...], Clip] = {}
        loops = self.tables.loops
        for root in nest.roots:
            if root.kind != "copy_out":
                lasts = root.external or root.target is not None
                if lasts or (root.kind != "tile" and root.loops[nest.depth] in root.reduced):
                    return None
                if any(v in self.tables.stored and not self._held(root, v, nest) for v in root.values):
                    return None
                continue
            found = None
            for dim, (place, _) in enumerate(access_coordinates(root.op, root.coordinates())):
                if place is not None and place.is_variable(nest.variable):
                    found = clip_of(self.tables, root.op, dim)
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
        return dim in kept and kept.index(dim) in self.tables.stored[value].held

    def _emit_plain_loop(self, nest: Nest, clip: Clip | None) -> None:
        v = nest.variable
        with self.code.scope() as scope:
            self.tables.loops.level[v] = self.code.level
            for child in nest.children:
                self.emit(child)
        low, high = (clip.low, clip.high) if clip is not None else ("0", str(v.extent))
        if any(r.op.attributes.get("reverse") and _is_scanned(r, nest) for r in nest.roots):
            self.code.line(f"for (od::i64 {v.name} = {v.extent} - 1; {v.name} >= 0; --{v.name}) {{")
        elif self._only_reduces(nest):
            self._emit_reducing_loop(nest, scope.lines, low, high)
            return
        else:
            self.code.line(f"for (od::i64 {v.name} = {low}; {v.name} < {high}; ++{v.name}) {{")
        self.code.lines(_numbered(scope.lines, 0), 1)
        self.code.line("}")

    def _only_reduces(self, nest: Nest) -> bool:
        """Whether all that accumulates in a loop begins and ends with it."""
        inside = self.reductions.open_in(nest)
        ends = all(
            r.kind == "reduce" and len(r.loops) - 1 == nest.depth == _first_reduced_depth(r) for r, _ in inside
        )
        return bool(inside) and ends and nest.variable.extent >= 4

    def _emit_reducing_loop(self, nest: Nest, body: list[str], low: str, high: str) -> None:
        """A loop with several accumulators, so that one addition need not wait for the one before.

        Long sums of floats are made in parts: rounding errors grow with the length of a chain of additions.
        """
        code, name = self.code, nest.variable.name
        inside = self.reductions.open_in(nest)
        copies = 4 if len(body) <= 10 else 2 if len(body) <= 30 else 1
        part = PART * copies
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
                code.lines(_numbered(body, f"p{copy}"), 3)
                code.line("    }")
            code.line("  }")
        code.line(f"  for (; {name} < {stop}; ++{name}) {{")
        code.lines(_numbered(body, "p0"), 2)
        code.line("  }")
        for root, accumulator in inside:
            terms = [f"{accumulator.names[0]}_p{copy}" for copy in range(copies)]
            kind, dtype = root.op.attributes["kind"], accumulator.dtypes[0]
            while len(terms) > 1:
                terms = [arithmetic.combine(kind, a, b, dtype) for a, b in zip(terms[::2], terms[1::2], strict=True)]
            total = f"{accumulator.names[0]}_0"
            code.line(f"  {total} = {arithmetic.combine(kind, total, terms[0], dtype)};")
        code.line("}")

    def _emit_lane_loop(self, nest: Nest, clip: Clip | None) -> None:
        code, v = self.code, nest.variable
        loops = self.tables.loops
        loops.lane, loops.lanes, loops.met, loops.passing = v, lane_count(self.isa, nest), {}, []
        lanes = loops.lanes
        start, stop = (clip.low, clip.high) if clip is not None else ("0", str(v.extent))
        fast = self._body(nest, None)
        met = list(loops.met.values())
        lows = [low for low, _ in met if low != "0"]
        whole = clip is None and not met and v.extent % lanes == 0
        only_checked = clip is None and v.extent < lanes
        if whole and v.extent == lanes:
            self._block([f"const od::i64 {v.name} = 0;", *_numbered(fast, 0)])
        elif only_checked:
            checked = self._body(nest, str(v.extent))
            self._block([f"const od::i64 {v.name} = 0;", *_numbered(checked, 0)])
        else:
            code.line("{")
            code.line(f"  od::i64 {v.name} = {start};")
            fast_stop = stop
            for _, high in met:
                fast_stop = f"od::smaller({fast_stop}, {high})"
            if met:
                code.line(f"  const od::i64 fast_stop = {fast_stop};")
                fast_stop = "fast_stop"
            if loops.passing and not lows and all(isinstance(c, Root) and c.kind in STORING for c in nest.children):
                self._emit_up_to_boundary(nest, fast, fast_stop, stop)
            else:
                self._emit_fast_and_checked(nest, fast, fast_stop, stop, lows, whole, static=clip is None and not met)
            code.line("}")
        loops.lane, loops.lanes, loops.limit = None, 1, None

    def _emit_fast_and_checked(
        self, nest: Nest, fast: list[str], fast_stop: str, stop: str, lows: list[str], whole: bool, static: bool
    ) -> None:
        """Whole vectors, and before and after them what is checked. `static`: all bounds are known."""
        code, name, lanes, extent = self.code, nest.variable.name, self.tables.loops.lanes, nest.variable.extent
        checked = [] if whole else self._body(nest, "limit" if not static else str(extent % lanes))
        if static:
            fast_stop = str(extent // lanes * lanes)
        if checked and lows:
            low = lows[0]
            for other in lows[1:]:
                low = f"od::larger({low}, {other})"
            code.line(f"  const od::i64 fast_start = {low};")
            code.line(f"  for (; {name} < fast_start && {name} < {stop}; {name} += {lanes}) {{")
            code.line(f"    const od::i64 limit = od::smaller({stop} - {name}, od::i64({lanes}));")
            code.lines(_numbered(checked, 0), 2)
            code.line("  }")
        self._fast_loops(nest, fast, fast_stop)
        if not whole:
            if static:
                code.line("  {")
            else:
                code.line(f"  for (; {name} < {stop}; {name} += {lanes}) {{")
                code.line(f"    const od::i64 limit = od::smaller({stop} - {name}, od::i64({lanes}));")
            code.lines(_numbered(checked, 0), 2)
            code.line("  }")

    def _emit_up_to_boundary(self, nest: Nest, fast: list[str], fast_stop: str, stop: str) -> None:
        """The same where stores pass the caches, for which vectors must lie on their boundaries in memory: the checked part
        does what comes before the first boundary, too. (NumPy's large arrays begin 16 bytes into a page.)"""
        code, name, lanes = self.code, nest.variable.name, self.tables.loops.lanes
        flag, row = self.tables.loops.passing[0]
        checked = self._body(nest, "limit")
        before = f"{flag} ? od::smaller(od::before_boundary<{lanes}>({row} + {name}), {stop} - {name}) : 0"
        code.line(f"  for (od::i64 limit = {before};; limit = od::smaller({stop} - {name}, od::i64({lanes}))) {{")
        code.line("    if (limit > 0) {")
        code.lines(_numbered(checked, 0), 3)
        code.line(f"      {name} += limit;")
        code.line("    }")
        self._fast_loops(nest, fast, fast_stop)
        code.line(f"    if ({name} >= {stop}) break;")
        code.line("  }")

    def _fast_loops(self, nest: Nest, body: list[str], stop: str) -> None:
        name, lanes = nest.variable.name, self.tables.loops.lanes
        copies = self._copies(nest, body)
        if copies > 1:
            self._keep_loop(stop, copies * lanes)
            self.code.line(f"  for (; {name} + {copies * lanes} <= {stop}; {name} += {copies * lanes}) {{")
            self.code.line(f"    const od::i64 base = {name};")
            for copy in range(copies):
                self.code.line(f"    {{ const od::i64 {name} = base + {copy * lanes};")
                self.code.lines(_numbered(body, copy), 3)
                self.code.line("    }")
            self.code.line("  }")
        self._keep_loop(stop, lanes)
        self.code.line(f"  for (; {name} + {lanes} <= {stop}; {name} += {lanes}) {{")
        self.code.lines(_numbered(body, 0), 2)
        self.code.line("  }")

    def _keep_loop(self, stop: str, step: int) -> None:
        """The compiler would write out a loop of known length up to 16 times its body: seconds of its time where the
        body has an exponential, for nothing at run time."""
        if stop.isdigit() and int(stop) // step > 4:
            self.code.line("  #pragma GCC unroll 1")

    def _copies(self, nest: Nest, body: list[str]) -> int:
        """Unrolled copies with accumulators of their own: as many as hide the latency of the additions."""
        plain = all(isinstance(c, Root) for c in nest.children)
        if not self.reductions.open_in(nest) or not plain or nest.variable.extent < 4 * self.tables.loops.lanes:
            return 1
        return COPIES if len(body) <= 18 else 2 if len(body) <= 24 else 1

    def _body(self, nest: Nest, limit: str | None) -> list[str]:
        self.tables.loops.limit = limit
        lane, lanes = self.tables.loops.lane, self.tables.loops.lanes
        with self.code.scope() as scope:
            self.tables.loops.level[nest.variable] = self.code.level
            for child in nest.children:
                self.emit(child)
        self.tables.loops.lane, self.tables.loops.lanes = lane, lanes
        self.tables.loops.limit = limit
        return scope.lines

    def _block(self, body: list[str]) -> None:
        self.code.line("{")
        self.code.lines(body, 1)
        self.code.line("}")

    # --- roots ---

    def _emit_root(self, root: Root) -> None:
        expressions, at = self.expressions, root.coordinates()
        if root.kind == "copy_out":
            expressions.store(root.op, at, expressions.evaluate(root.op.operands[0], at), self.ordered)
        elif root.kind == "tile":
            self._emit_tile(root)
        elif not root.loops or all(d not in root.reduced for d in root.loops):
            self.reductions.trivial(root)
        else:
            self.reductions.accumulate(root)

    def _emit_tile(self, root: Root) -> None:
        expressions, at = self.expressions, root.coordinates()
        assert root.source is not None
        if not root.values:
            assert root.target is not None
            store_local(self.tables, Stored(root.target), at, expressions.evaluate(root.source, at))
            return
        (value,) = root.values
        place = self.tables.stored.pop(value, None)  # so that it is computed, not loaded
        register = expressions.evaluate(value, at)
        if place is not None:
            self.tables.stored[value] = place
            store_local(self.tables, place, at, register)


def _first_reduced_depth(root: Root) -> int:
    return next((depth for depth, dim in enumerate(root.loops) if dim in root.reduced), -1)


def _is_scanned(root: Root, nest: Nest) -> bool:
    return root.loops[-1] in root.reduced and len(root.loops) - 1 == nest.depth


def _numbered(body: list[str], copy: int | str) -> list[str]:
    """A loop's body with the accumulators of one unrolled copy."""
    return [line.replace(COPY, f"_{copy}") for line in body]

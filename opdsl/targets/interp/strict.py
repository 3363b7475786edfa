"""Strict mode: accesses that lie wholly outside their tensor, and races between iterations of a parallel loop.

Outside: a write with no element inside its tensor is an error. A read is an error only where it misses the tensor by
more than `HALO` elements and more than its own length, because padding (of a convolution, say) is reading out of
bounds. The index tiles of gathers and scatters are exempt: an index out of range is the way to leave an element out.

Races: two iterations of one execution of a parallel loop touch one element, and not both of them read it, nor combine
into it by the same mode. What one iteration does to an element twice is never a race.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from opdsl.ir.core import Kernel, Op
from opdsl.ir.semantics.values import Array
from opdsl.support.errors import Note
from opdsl.support.location import source_line
from opdsl.support.run_errors import OutOfBoundsError, RaceError
from opdsl.targets.interp.memory import Touched, missed_by

HALO = 64
_NOBODY = -1

_VERBS = {
    "read": "reads",
    "set": "writes",
    "add": "adds to",
    "max": "takes the maximum with",
    "min": "takes the minimum with",
}


class _Marks:
    """For one tensor and one kind of access: the first two different iterations that touched each element."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.first = np.full(shape, _NOBODY, np.int64)
        self.second = np.full(shape, _NOBODY, np.int64)
        self.first_op = np.zeros(shape, np.int32)
        self.second_op = np.zeros(shape, np.int32)

    def note(self, touched: Touched, iteration: int, op: int) -> None:
        first = self.first[touched.inside]
        new = first == _NOBODY
        other = ~new & (first != iteration) & (self.second[touched.inside] == _NOBODY)
        self.second_op[touched.inside] = np.where(other, op, self.second_op[touched.inside])
        self.second[touched.inside] = np.where(other, iteration, self.second[touched.inside])
        self.first_op[touched.inside] = np.where(new, op, self.first_op[touched.inside])
        self.first[touched.inside] = np.where(new, iteration, first)


@dataclass
class _ParallelLoop:
    """One execution of a parallel loop."""

    iteration: int = 0
    variables: dict[int, tuple[int, ...]] = field(default_factory=dict)
    marks: dict[tuple[Any, str], _Marks] = field(default_factory=dict)


class StrictChecks:
    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._loops: list[_ParallelLoop] = []
        self._ops: list[Op] = []
        self._number: dict[int, int] = {}
        self._names = {id(v): n for v, n in zip(kernel.parameters, kernel.parameter_names, strict=True)}

    def enter_parallel(self) -> None:
        self._loops.append(_ParallelLoop())

    def leave_parallel(self) -> None:
        self._loops.pop()

    def begin_iteration(self, iteration: int, variables: tuple[int, ...]) -> None:
        loop = self._loops[-1]
        loop.iteration = iteration
        loop.variables[iteration] = variables

    def access(self, op: Op, tensor: Array, operands: list[Array], touched: Touched) -> None:
        """Checks one execution of a copy_in or copy_out before it happens."""
        position = 0 if op.name == "copy_in" else 1
        kind = "read" if op.name == "copy_in" else op.attributes["mode"]
        self._check_bounds(op, position, kind, tensor, operands)
        if touched.empty:
            return
        interface = tensor.__array_interface__
        key = (interface["data"][0], tensor.shape, tensor.strides, tensor.dtype)
        for loop in self._loops:
            self._check_races(loop, op, position, kind, tensor, key, touched)

    def _check_bounds(self, op: Op, position: int, kind: str, tensor: Array, operands: list[Array]) -> None:
        missed = missed_by(tensor.shape, op.attributes["index"], operands)
        if missed is None:
            return
        dim, distance, span = missed
        if kind == "read" and distance <= max(HALO, span):
            return
        start = int(operands[dim])
        name = self._names.get(id(op.operands[position]), "the tensor")
        what = f"index {start}" if span == 1 else f"elements {start}..{start + span - 1}"
        raise OutOfBoundsError(
            f"the access lies wholly outside '{name}': {what} of dim {dim}, which has the size {tensor.shape[dim]}"
            + self._where(),
            op.location,
            self._kernel.source,
            help="check the index arithmetic, or put the access under an `if`",
        )

    def _where(self) -> str:
        if not self._loops:
            return ""
        return f", in the parallel iteration {self._describe(self._loops[-1], self._loops[-1].iteration)}"

    @staticmethod
    def _describe(loop: _ParallelLoop, iteration: int) -> str:
        return f"({', '.join(map(str, loop.variables[iteration]))})"

    def _check_races(
        self, loop: _ParallelLoop, op: Op, position: int, kind: str, tensor: Array, key: Any, touched: Touched
    ) -> None:
        for other_kind in _VERBS:
            marks = loop.marks.get((key, other_kind))
            if marks is None or (other_kind == kind and kind != "set"):
                continue
            for iterations, ops in ((marks.first, marks.first_op), (marks.second, marks.second_op)):
                found = iterations[touched.inside]
                conflict = (found != _NOBODY) & (found != loop.iteration)
                if np.any(conflict):
                    self._report(loop, op, position, kind, other_kind, tensor, touched, conflict, found, ops)
        if (key, kind) not in loop.marks:
            loop.marks[(key, kind)] = _Marks(tensor.shape)
        loop.marks[(key, kind)].note(touched, loop.iteration, self._number_of(op))

    def _number_of(self, op: Op) -> int:
        number = self._number.setdefault(id(op), len(self._ops))
        if number == len(self._ops):
            self._ops.append(op)
        return number

    def _report(
        self,
        loop: _ParallelLoop,
        op: Op,
        position: int,
        kind: str,
        other_kind: str,
        tensor: Array,
        touched: Touched,
        conflict: Any,
        found: Any,
        ops: Any,
    ) -> None:
        place = int(np.argmax(np.ravel(conflict)))
        other = int(np.ravel(found)[place])
        other_op = self._ops[int(np.ravel(ops[touched.inside])[place])]
        element = np.unravel_index(
            int(np.ravel(np.arange(tensor.size).reshape(tensor.shape)[touched.inside])[place]), tensor.shape
        )
        name = self._names.get(id(op.operands[position]), "the tensor")
        spelled = f"{name}[{', '.join(str(int(i)) for i in element)}]"
        raise RaceError(
            f"a race between iterations of a parallel loop: iteration {self._describe(loop, loop.iteration)} "
            f"{_VERBS[kind]} {spelled}",
            op.location,
            self._kernel.source,
            help='let each element be written by one iteration only, or combine with mode="add", "max" or "min"',
            notes=(
                Note(
                    f"iteration {self._describe(loop, other)} {_VERBS[other_kind]} it here",
                    other_op.location,
                    source_line(other_op.location, self._kernel.source),
                ),
            ),
        )

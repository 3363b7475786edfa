"""A process that times one revision when asked: a line of JSON in, a line out. Started by regression.py as

    python -c "..." ROOT BENCH

with the installed tree of the revision and this folder. The problems are this folder's for both revisions; only `opdsl`
differs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import IO, Any

from . import checks
from .arrays import Array, Inputs
from .cases import Case
from .problems import Implementation, Problem
from .runner import Contender, hash_of
from .timer import Timed, batch, calls_per_batch

# What the process runs first: it must not find the checkout's editable install, but the tree that it is told.
BOOTSTRAP = """
import sys
root, bench = sys.argv[1:3]
sys.meta_path[:] = [f for f in sys.meta_path if "Editable" not in type(f).__name__ and "Redirect" not in type(f).__name__]
sys.path[:] = [root, bench, *sys.path]
import opdsl
assert opdsl.__file__.startswith(root), opdsl.__file__
from bench.server import serve
serve(int(sys.argv[3]))
"""


class Server:
    """Holds the case that is being measured."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.timed: Timed | None = None
        self.calls = 1

    def prepare(self, suite: str, op: str, dtype: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """Builds a case and checks it once; `error` in the answer says why it cannot be timed."""
        from .suites import problems

        case = Case(suite, op, dtype, parameters)
        problem = problems(suite)[op](case)
        ours = problem.implementations["opdsl"]
        if not isinstance(ours, Implementation):
            return {"error": ours.reason, "shape": problem.shape}
        contender = self._contender(case, problem, ours)
        if contender.problem:
            return {"error": contender.problem, "shape": problem.shape}
        self.timed = Timed(contender.call)
        self.calls = calls_per_batch(self.timed, 5e-3)
        return {"shape": problem.shape}

    def _contender(self, case: Case, problem: Problem, ours: Implementation) -> Contender:
        import opdsl as od

        inputs = Inputs(problem.inputs)
        inputs.fill(hash_of(case))
        out: Array = od.empty(problem.output[0], problem.output_dtype)
        contender = Contender("opdsl", ours.prepare(inputs.arrays, out), out)
        contender.check(problem, checks.truth(problem, inputs.arrays, 1), "")
        return contender

    def time(self) -> dict[str, Any]:
        """Seconds per call in one batch."""
        if self.timed is None:
            return {"error": "nothing is prepared"}
        return {"seconds": batch(self.timed, self.calls) / self.calls}


def serve(threads: int, source: IO[str] | None = None, sink: IO[str] | None = None) -> None:
    """Answers until the input ends."""
    from . import machine

    answers = sink or sys.stdout
    sys.stdout = sys.stderr  # what a kernel prints must not look like an answer
    machine.use_threads(threads, pin=False)
    machine.settle_torch()
    server = Server(threads)
    requests: dict[str, Callable[..., dict[str, Any]]] = {"prepare": server.prepare, "time": server.time}
    for line in source or sys.stdin:
        request = json.loads(line)
        try:
            answer = requests[request.pop("do")](**request)
        except Exception as error:  # noqa: BLE001 - an old revision may fail in any way; the driver says so
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)

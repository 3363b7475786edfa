"""Whether revision B is slower than revision A: both are installed into folders of their own and measured side by side.

    opdsl bench matmul --compare HEAD~5 HEAD
    python -m opdsl.bench.regression matmul HEAD~5 HEAD

Three processes take turns, A, B and A once more: the two of A are the control. B is called slower where the difference
is significant (bootstrap, 95 %) and more than both 3 % and twice what the control differs from A. Whatever looks slower
is measured a second time, and must be slower again. "." stands for the working tree as it is.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import server
from .cases import Case, load, matches
from .summary import is_slower, ratio_interval, same_twice
from .table import print_table, time_text

BENCH = Path(__file__).resolve().parent
ROUNDS = 20


@dataclass(frozen=True)
class Outcome:
    """One case: the times of A, B and the control, or why there are none."""

    case: Case
    shape: str
    times: Mapping[str, list[float]]
    error: str = ""

    @property
    def control(self) -> float:
        return same_twice(self.times["A"], self.times["control"])

    @property
    def slower(self) -> bool:
        return not self.error and is_slower(self.times["A"], self.times["B"], self.control)


class Process:
    """A server of one revision."""

    def __init__(self, tree: Path, threads: int, cache: Path) -> None:
        environment = {**os.environ, "OPDSL_CACHE_DIR": str(cache), "OMP_NUM_THREADS": str(threads)}
        environment.pop("PYTHONPATH", None)
        self.process = subprocess.Popen(
            [sys.executable, "-c", server.BOOTSTRAP, str(tree), str(BENCH.parent), str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=tree,
        )  # fmt: skip

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """One request, one answer."""
        if self.process.stdin is None or self.process.stdout is None:
            raise RuntimeError("the measuring process has no pipes")
        self.process.stdin.write(json.dumps({"do": do, **request}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"a measuring process ended with {self.process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def _git(*words: str) -> str:
    result = subprocess.run(["git", "-C", str(BENCH.parent), *words], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise RuntimeError(f"git {words[0]}: {result.stderr.strip()}")
    return result.stdout.strip()


def install(revision: str, folder: Path) -> Path:
    """Installs a revision, compiled part included, below `folder`."""
    tree = folder / "installed"
    if revision == ".":
        source = BENCH.parent
    else:
        source = folder / "source"
        commit = _git("rev-parse", "--verify", f"{revision}^{{commit}}")
        _git("worktree", "add", "--detach", str(source), commit)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-build-isolation", "--target", str(tree), "--config-settings", f"build-dir={folder / 'build'}"]
    scripts = str(Path(sys.executable).parent)  # where the build tools of this environment are
    environment = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ.get('PATH', '')}"}
    result = subprocess.run([*command, str(source)], env=environment, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise RuntimeError(f"revision {revision} does not build: {result.stderr.strip().splitlines()[-1:]}")
    return tree


@contextmanager
def _revisions(names: Sequence[str]) -> Iterator[list[Path]]:
    folder = Path(tempfile.mkdtemp(prefix="opdsl-regression-"))
    try:
        trees = []
        for number, name in enumerate(names):
            print(f"building {name} ...", file=sys.stderr)
            (folder / str(number)).mkdir()
            trees.append(install(name, folder / str(number)))
        yield trees
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _git("worktree", "prune")


def measure(processes: Mapping[str, Process], case: Case, seconds: float) -> Outcome:
    """Prepares a case everywhere and lets the processes take turns."""
    shape = ""
    for name, process in processes.items():
        answer = process.ask(
            "prepare", suite=case.suite, op=case.op, dtype=case.dtype, parameters=dict(case.parameters)
        )
        shape = answer.get("shape", shape)
        if "error" in answer:
            return Outcome(case, shape, {}, f"{name}: {answer['error']}")
    times: dict[str, list[float]] = {name: [] for name in processes}
    names, end = list(processes), time.monotonic() + seconds
    turn = 0
    while turn < ROUNDS or time.monotonic() < end:
        for name in names[turn % 3 :] + names[: turn % 3]:
            times[name].append(float(processes[name].ask("time")["seconds"]))
        turn += 1
        if turn >= 4 and time.monotonic() > end + 4 * seconds:
            break
    return Outcome(case, shape, times)


def compare(suites: Sequence[str], options: Namespace) -> int:
    """Prints every case; 1 if one is slower in B."""
    cases = [
        case
        for suite in suites if suite != "compile"
        for case in load(suite, options.shapes)
        if matches(options.filter, case.op, " ".join(map(str, case.parameters.values())), case.dtype)
    ]
    if not cases:
        raise ValueError("there is nothing to compare; the suite compile has no problems that two processes could share")
    with _revisions(options.compare) as (first, second):
        caches = first.parent / "cache", second.parent / "cache"
        processes = {
            "A": Process(first, options.threads, caches[0]),
            "B": Process(second, options.threads, caches[1]),
            "control": Process(first, options.threads, caches[0]),
        }
        try:
            outcomes = []
            for case in cases:
                outcome = measure(processes, case, options.seconds)
                if outcome.slower:
                    outcome = measure(processes, case, 2 * options.seconds)
                outcomes.append(outcome)
        finally:
            for process in processes.values():
                process.close()
    return report(outcomes, options.compare)


def report(outcomes: Sequence[Outcome], names: Sequence[str]) -> int:
    """Prints the outcomes; 1 if one of them is slower."""
    lines = []
    for outcome in outcomes:
        head = (outcome.case.op, outcome.shape, outcome.case.dtype)
        if outcome.error:
            lines.append((*head, "-", "-", "", "", "", outcome.error))
            continue
        before, after = min(outcome.times["A"]), min(outcome.times["B"])
        low, high = ratio_interval(outcome.times["A"], outcome.times["B"])
        lines.append(
            (
                *head, time_text(1e3 * before), time_text(1e3 * after), f"{100 * (after / before - 1):+.1f} %",
                f"{100 * (low - 1):+.1f} .. {100 * (high - 1):+.1f} %", f"{100 * outcome.control:.1f} %",
                "SLOWER" if outcome.slower else "",
            )
        )  # fmt: skip
    heads = ("op", "shape", "dtype", "A", "B", "B / A", "95 % interval", "A/A", "")
    print_table(f"A = {names[0]}, B = {names[1]}", heads, lines)
    slower = sum(outcome.slower for outcome in outcomes)
    print(f"  {slower} of {len(outcomes)} cases are slower" if slower else f"  none of {len(outcomes)} cases is slower")
    return 1 if slower else 0


def main() -> int:
    import argparse

    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("suite")
    parser.add_argument("compare", nargs=2, metavar=("A", "B"), help='revisions; "." is the working tree')
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--shapes", default="core")
    parser.add_argument("--filter")
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    options.compare = list(options.compare)
    return compare([options.suite], options)


if __name__ == "__main__":
    sys.exit(main())

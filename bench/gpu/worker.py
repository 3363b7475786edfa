"""Worker processes: each runs jobs one after the other. One that dies, hangs, or breaks its GPU context is replaced, and
the job that it had is counted as failed."""

from __future__ import annotations

import json
import os
import queue
import select
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict

from opdsl.support.child import start_module

from .jobs import Job, Outcome

JOB_SECONDS = 120.0
# An error after which a CUDA context is of no more use.
FATAL = ("CUDA error", "illegal memory access", "misaligned address", "device-side assert")


def run_all(
    jobs: Sequence[Job],
    target: str,
    on_gpu: bool,
    processes: int,
    deadline: float,
    progress: Callable[[int, Job, Outcome], None] = lambda number, job, outcome: None,
) -> list[Outcome | None]:
    """The outcome of each job; None where time was up before (`deadline` as time.monotonic has it)."""
    waiting: queue.Queue[int] = queue.Queue()
    for number in range(len(jobs)):
        waiting.put(number)
    outcomes: list[Outcome | None] = [None] * len(jobs)
    lock = threading.Lock()

    def serve() -> None:
        worker: Worker | None = None
        try:
            while time.monotonic() < deadline:
                try:
                    number = waiting.get_nowait()
                except queue.Empty:
                    return
                worker = worker or Worker(target, on_gpu)
                outcome, usable = worker.do(jobs[number], min(JOB_SECONDS, deadline - time.monotonic()))
                if not usable:
                    worker.stop()
                    worker = None
                if outcome is not None:
                    outcomes[number] = outcome
                    with lock:
                        progress(number, jobs[number], outcome)
        finally:
            if worker is not None:
                worker.stop()

    threads = [threading.Thread(target=serve) for _ in range(max(1, min(processes, len(jobs))))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


class Worker:
    """One process that answers a line for each line."""

    def __init__(self, target: str, on_gpu: bool) -> None:
        self.process = start_module("opdsl.bench.gpu.worker", target, "gpu" if on_gpu else "none")

    def do(self, job: Job, seconds: float) -> tuple[Outcome | None, bool]:
        """The outcome (None: no time was left), and whether the process can do another."""
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None and stdout is not None
        started = time.monotonic()
        try:
            stdin.write((json.dumps(job.as_json()) + "\n").encode())
            stdin.flush()
        except OSError:
            return Outcome("failed", "its process had ended"), False
        if not select.select([stdout], [], [], max(seconds, 0.0))[0]:
            if time.monotonic() - started < JOB_SECONDS * 0.9:
                return None, False
            return Outcome("failed", f"no result after {JOB_SECONDS:.0f} s"), False
        line = stdout.readline()
        if not line:
            return Outcome("failed", f"its process ended with code {self.process.wait()}"), False
        outcome = Outcome(**json.loads(line))
        return outcome, not any(word in outcome.detail for word in FATAL)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def main(words: Sequence[str]) -> int:
    """Reads jobs from standard input; what a job prints goes to standard error."""
    from .jobs import run

    target, on_gpu = words[0], words[1] == "gpu"
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for line in sys.stdin:
        outcome = run(Job(**json.loads(line)), target, on_gpu)
        print(json.dumps(asdict(outcome)), file=answers, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

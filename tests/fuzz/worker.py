"""Checks programs in a process of their own, so that a crash or a hang is a result like any other."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import pickle
import select
import signal
import struct
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """What became of one item: no text if all was well."""

    item: int
    failure: str = ""

    @property
    def kind(self) -> str:
        """The class of the failure, which a smaller program must share."""
        return self.failure.split(":", 1)[0]


Check = Callable[[int], None]


def describe_failure(error: BaseException) -> str:
    where = traceback.extract_tb(error.__traceback__)
    inside = [f"{os.path.basename(f.filename)}:{f.lineno} {f.name}" for f in where[-3:]]  # noqa: PTH119
    return f"{type(error).__name__}: {error}\n  raised in {' < '.join(reversed(inside))}"


def _serve(check: Check, items: list[int], output: int) -> None:
    for item in items:
        try:
            check(item)
            outcome = Outcome(item)
        except Exception as error:
            outcome = Outcome(item, describe_failure(error))
        payload = pickle.dumps((outcome.item, outcome.failure))
        os.write(output, struct.pack("<I", len(payload)) + payload)


def _read_exactly(source: int, count: int, deadline: float) -> bytes | None:
    """The bytes; None at the end of the stream. TimeoutError when nothing comes in time."""
    data = b""
    while len(data) < count:
        ready, _, _ = select.select([source], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise TimeoutError
        part = os.read(source, count - len(data))
        if not part:
            return None
        data += part
    return data


def _waiting_for_each_core() -> float:
    """Processes that want to run, for each core, and at least 1: on a busy machine all takes so much longer."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def run_isolated(check: Check, items: Iterable[int], timeout: float = 120.0) -> Iterator[Outcome]:
    """Calls `check` on each item in a forked process; starts another after a crash or a hang."""
    waiting = list(items)
    while waiting:
        source, output = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(source)
            status = 1
            faulthandler.disable()
            with contextlib.suppress(BaseException):
                _serve(check, waiting, output)
                status = 0
            os._exit(status)
        os.close(output)
        failure = ""
        try:
            while waiting and not failure:
                try:
                    patience = timeout * _waiting_for_each_core()
                    deadline = time.monotonic() + patience
                    head = _read_exactly(source, 4, deadline)
                    payload = _read_exactly(source, struct.unpack("<I", head)[0], deadline) if head else None
                except TimeoutError:
                    os.kill(child, signal.SIGKILL)
                    failure = f"Hang: no result within {patience:.0f} s"
                    break
                if payload is None:
                    failure = "crash"
                    break
                waiting.pop(0)
                yield Outcome(*pickle.loads(payload))  # noqa: S301 - our own child wrote it
        finally:
            os.close(source)
            with contextlib.suppress(ProcessLookupError):
                if failure != "crash" and waiting:
                    os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
        if failure == "crash":
            exit_text = f"exit {os.waitstatus_to_exitcode(status)}"
            by = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else exit_text
            failure = f"Crash {by}: the process ended"
        if failure:
            yield Outcome(waiting.pop(0), failure)

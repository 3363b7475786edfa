"""Running generated source in Triton's interpreter: on the CPU, with no GPU, slowly.

Triton decides when it is imported whether it interprets, so this happens in a process of its own, which is started on
the first call and kept. Arrays go there as bytes with guards around them: a store outside of an array is an error.
The interpreter computes with NumPy; it knows no bfloat16 arithmetic.
"""

from __future__ import annotations

import atexit
import json
import os
import threading
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opdsl.support.child import start_module
from opdsl.targets.base import Request
from opdsl.targets.triton.arch import ARCHES, DEFAULT_ARCH
from opdsl.targets.triton.arguments import Aligned, hints, value_of, with_tensors
from opdsl.targets.triton.buffers import Buffers
from opdsl.targets.triton.errors import INSTALL, InterpreterFailure, TritonMissingError
from opdsl.targets.triton.generate import generate
from opdsl.targets.triton.reports import check_reports
from opdsl.targets.triton.source import Generated
from opdsl.targets.triton.toolchain import load_triton, version_of

OLDEST_INTERPRETER = (3, 9)


class InterpretedExecutable:
    def __init__(self, request: Request) -> None:
        version = load_triton().__version__
        if version_of(version) < OLDEST_INTERPRETER:
            needed = ".".join(map(str, OLDEST_INTERPRETER))
            raise TritonMissingError(
                f"the interpreter of Triton {version} does not work with new versions of NumPy; triton:interpreter needs "
                f"Triton {needed}: {INSTALL}"
            )
        self._kernel = request.kernel
        self._request = replace(request, options={**request.options, "upcast_bf16": True})
        self._generated: dict[Aligned | None, Generated] = {}
        self._source(None)  # what is wrong with the kernel comes before its arguments

    def _source(self, aligned: Aligned | None) -> Generated:
        if aligned not in self._generated:
            options = {**self._request.options, "aligned": aligned}
            self._generated[aligned] = generate(replace(self._request, options=options), ARCHES[DEFAULT_ARCH])
        return self._generated[aligned]

    def __call__(self, arguments: Sequence[NDArray[Any] | int | float | bool]) -> None:
        buffers = Buffers([a for a in arguments if isinstance(a, np.ndarray)])
        values = with_tensors(self._kernel, arguments, buffers.tensor)
        aligned = None
        if self._request.options.get("descriptors"):
            aligned, _ = hints(self._kernel, values, self._request.options)
        generated = self._source(aligned)
        launches = []
        for launch in generated.launches:
            found = [value_of(argument, values, None) for argument in launch.arguments]
            launches.append({**asdict(launch), "options": {}, "values": found})
        header = {
            "text": generated.text,
            "name": self._kernel.name,
            "launches": launches,
            "sizes": [len(data) for data in buffers.data],
            "asserts": len(generated.asserts),
        }
        answer, data = _worker().run(header, buffers.data)
        if "error" in answer:
            raise InterpreterFailure(f"Triton's interpreter, running {self._kernel.name}: {answer['error']}")
        buffers.take_back(data, self._kernel.name)
        check_reports(generated, self._kernel, answer["failures"])


class _Worker:
    """The process that interprets."""

    def __init__(self) -> None:
        self._process = start_module("opdsl.targets.triton.interpreter_worker", environment={"TRITON_INTERPRET": "1"})
        self._lock = threading.Lock()
        self.owner = os.getpid()

    @property
    def alive(self) -> bool:
        return self.owner == os.getpid() and self._process.poll() is None

    def run(self, header: dict[str, Any], data: Sequence[bytearray]) -> tuple[dict[str, Any], list[bytearray]]:
        assert self._process.stdin is not None and self._process.stdout is not None
        with self._lock:
            try:
                encoded = json.dumps(header).encode()
                self._process.stdin.write(len(encoded).to_bytes(8, "little") + encoded + b"".join(data))
                self._process.stdin.flush()
                size = int.from_bytes(self._read(8), "little")
                answer = json.loads(self._read(size))
                return answer, [bytearray(self._read(length)) for length in answer.get("sizes", ())]
            except (EOFError, BrokenPipeError):
                status = self._process.wait()
                raise InterpreterFailure(
                    f"Triton's interpreter ended with exit status {status} while it ran {header['name']}: the kernel "
                    "reads or writes outside of its arrays"
                ) from None

    def _read(self, count: int) -> bytes:
        assert self._process.stdout is not None
        data = self._process.stdout.read(count)
        if len(data) < count:
            raise EOFError
        return data

    def end(self) -> None:
        if self.alive:
            self._process.kill()
            self._process.wait()


_current: _Worker | None = None


def _worker() -> _Worker:
    global _current
    if _current is None or not _current.alive:
        _current = _Worker()
        atexit.register(_current.end)
    return _current

"""The process in which Triton interprets: `python -m opdsl.targets.triton.interpreter_worker`, with TRITON_INTERPRET=1.

Reads launches from its standard input and writes memory to its standard output; see `interpreter.py`.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any, BinaryIO

import numpy as np

from opdsl.ir.functions import COMPOSITIONS, FUNCTIONS
from opdsl.targets.triton.arguments import tiles_function
from opdsl.targets.triton.source import Launch, LaunchArgument
from opdsl.targets.triton.toolchain import functions_of

NUMPY = {
    "fp64": np.float64, "fp32": np.float32, "fp16": np.float16,
    "i64": np.int64, "i32": np.int32, "i16": np.int16, "i8": np.int8, "i1": np.int8,
    "u64": np.uint64, "u32": np.uint32, "u16": np.uint16, "u8": np.uint8,
}  # fmt: skip
PERSISTENT = 3  # programs of a persistent function: few, so that each has several tiles


def _libdevice() -> Any:
    """The functions of libdevice, which the interpreter lacks, by NumPy."""
    from triton.language import core
    from triton.runtime.interpreter import TensorHandle

    def of(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*operands: Any) -> Any:
            with np.errstate(all="ignore"):
                arrays = [x.handle.data.astype(np.float64) for x in operands]
                result = np.asarray(function(*arrays)).astype(operands[0].handle.data.dtype)
            handle = TensorHandle(result, operands[0].dtype)
            shape = np.broadcast_shapes(*(x.handle.data.shape for x in operands))
            blocks = [x for x in operands if x.type.is_block()]
            type = core.block_type(operands[0].dtype, list(shape)) if blocks else operands[0].type
            return core.tensor(handle, type)

        return call

    functions = {row.libdevice: row.exact for row in (*FUNCTIONS.values(), *COMPOSITIONS.values()) if row.libdevice} | {
        "fmod": np.fmod
    }
    return SimpleNamespace(**{name: of(function) for name, function in functions.items()})


def _to_bf16(values: Any) -> Any:
    """f32 as the bits of bf16, rounded to nearest even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(values), np.uint16(0x7FC0), rounded)


def _mend_interpreter() -> None:
    """What Triton 3.9's interpreter gets wrong. The variables of its loops are Python's ints. Comparisons of scalars give
    handles that say i32: spread over a block, they would be no masks. Casts between f32 and bf16 do not round to nearest
    even, and take subnormal numbers for others."""
    import triton.language as tl
    from triton.runtime import interpreter
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

    binary_op = InterpreterBuilder.binary_op

    def mended(self: Any, left: Any, right: Any, function: Any) -> Any:
        handle = binary_op(self, left, right, function)
        return TensorHandle(handle.data, tl.int1) if handle.data.dtype == np.bool_ else handle

    InterpreterBuilder.binary_op = mended
    cast = InterpreterBuilder.cast_impl

    def rounded(self: Any, source: Any, type: Any) -> Any:
        have, want = source.dtype.scalar, type.scalar
        if have != want and have == tl.bfloat16:
            source = TensorHandle((source.data.astype(np.uint32) << 16).view(np.float32), tl.float32)
            have = tl.float32
        if have != want and want == tl.bfloat16:
            return TensorHandle(_to_bf16(source.data.astype(np.float32)), want)
        return source if have == want else cast(self, source, type)

    InterpreterBuilder.cast_impl = rounded
    patch = interpreter._patch_lang_core

    def with_range(language: Any, scope: Any) -> None:
        patch(language, scope)
        scope.set_attr(language, "range", lambda *bounds, **hints: _typed_range(*bounds))

    interpreter._patch_lang_core = with_range


class _Memory:
    """The buffers of one request, at addresses of this process."""

    def __init__(self, data: Sequence[bytearray]) -> None:
        self.data = data
        self._views = [(ctypes.c_char * len(d)).from_buffer(d) for d in data]

    def address(self, pointer: int) -> int:
        number, offset = pointer >> 48, pointer & ((1 << 48) - 1)
        return ctypes.addressof(self._views[number]) + offset if self._views else 0


def _tensor(argument: LaunchArgument, value: Any, memory: _Memory, report: Any) -> Any:
    """An argument as the interpreter's own scalar, with the type that a compiled kernel would see."""
    import triton.language as tl
    from triton.runtime.interpreter import TensorHandle

    if argument.type.startswith("*"):
        name = argument.type[1:]
        address = report.ctypes.data if argument.kind == "report" else memory.address(value)
        type = tl.pointer_type(tl.str_to_ty(name, None)) if name != "i1" else tl.pointer_type(tl.int1)
        return tl.tensor(TensorHandle(np.array([address], np.uint64), type), type)
    type = tl.str_to_ty(argument.type, None)
    if argument.type == "bf16":
        return tl.tensor(TensorHandle(_to_bf16(np.array([value], np.float32)), type), type)
    return tl.tensor(TensorHandle(np.array([value], NUMPY[argument.type]), type), type)


def serve(request: dict[str, Any], data: Sequence[bytearray]) -> list[int]:
    """Runs the launches of a request on memory; gives the marks that failed assertions left."""
    memory = _Memory(data)
    report = np.zeros(max(1, request["asserts"]), np.int32)
    launches = []
    for entry in request["launches"]:
        values = entry.pop("values")
        arguments = tuple(LaunchArgument(**a) for a in entry.pop("arguments"))
        launches.append((Launch(arguments=arguments, **entry), values))
    functions = functions_of(request["text"], request["name"], [launch for launch, _ in launches])
    library = _libdevice()
    for (launch, values), function in zip(launches, functions, strict=True):
        _use_library(function, library)
        tiles = tiles_function(launch)(*values)
        programs = PERSISTENT if tiles < 0 else min(tiles, PERSISTENT) if launch.persistent else tiles
        if programs > 0:
            tensors = [_tensor(a, v, memory, report) for a, v in zip(launch.arguments, values, strict=True)]
            with np.errstate(all="ignore"):
                function[(programs,)](*tensors)
    found: list[int] = report[: request["asserts"]].tolist()
    return found


def _typed_range(*bounds: Any) -> Iterator[Any]:
    """Python's range, whose variable is a scalar of i32, or of i64 where a bound is, as in compiled code. The interpreter's
    own is a Python int, which takes the type of what it meets and cannot be cast."""
    import triton.language as tl
    from triton.runtime.interpreter import TensorHandle

    numbers = [int(b.handle.data.item()) if isinstance(b, tl.tensor) else int(b) for b in bounds]
    wide = any(isinstance(b, tl.tensor) and b.dtype == tl.int64 for b in bounds) or max(map(abs, numbers)) >= 1 << 31
    type, dtype = (tl.int64, np.int64) if wide else (tl.int32, np.int32)
    for value in range(*numbers):
        yield tl.tensor(TensorHandle(np.array([value], dtype), type), type)


def _use_library(function: Any, library: Any) -> None:
    function.fn.__globals__.update(libdevice=library, range=_typed_range)


def main() -> None:
    # Whatever is printed while a kernel runs goes to the standard error.
    output: BinaryIO = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    source = sys.stdin.buffer
    _mend_interpreter()
    while head := source.read(8):
        request = json.loads(source.read(int.from_bytes(head, "little")))
        data = [bytearray(source.read(size)) for size in request["sizes"]]
        answer: dict[str, Any]
        try:
            answer = {"failures": serve(request, data), "sizes": request["sizes"]}
        except Exception as error:  # noqa: BLE001 - the parent reports whatever it is
            answer = {"error": f"{type(error).__name__}: {error}", "sizes": []}
            data = []
        encoded = json.dumps(answer).encode()
        output.write(len(encoded).to_bytes(8, "little") + encoded)
        for buffer in data:
            output.write(buffer)
        output.flush()


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        main()

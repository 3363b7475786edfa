"""The text of a request on every target: IR, C++ for several instruction sets, Triton source, NPU programs."""

from __future__ import annotations

from collections.abc import Iterator

from opdsl.ir.printer import canonical_text
from opdsl.npu.chip import find_chip
from opdsl.support.errors import OpdslError
from opdsl.targets.base import Request
from opdsl.targets.cpu.generate import generate as generate_cpp
from opdsl.targets.cpu.isa import ISAS
from opdsl.targets.npu.compile import compile_kernel
from opdsl.targets.triton.arch import ARCHES
from opdsl.targets.triton.generate import generate as generate_triton

CPU = ("cpu:amx", "cpu:avx2")
ALL = ("ir", *CPU, "triton:sm_90", "npu:910b2")


def text(request: Request, what: str) -> str:
    """The text for one of `ALL`, or the error that a target refuses the kernel with."""
    target, _, option = what.partition(":")
    try:
        if target == "ir":
            return canonical_text(request.kernel)
        if target == "cpu":
            return generate_cpp(request, ISAS[option])[1]
        if target == "triton":
            return generate_triton(request, ARCHES[option], {}).text
        return f"{compile_kernel(request, find_chip(option)).program}\n"
    except OpdslError as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0].partition('error: ')[2]}\n"


def texts(request: Request, chosen: tuple[str, ...] = ALL) -> Iterator[tuple[str, str]]:
    for what in chosen:
        yield what, text(request, what)

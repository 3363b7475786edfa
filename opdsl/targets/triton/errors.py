"""Errors of the target `triton`."""

from __future__ import annotations

from opdsl.ir.core import Kernel, Op
from opdsl.support.errors import CompileError, OpdslError
from opdsl.support.extras import install_help

INSTALL = install_help("triton")


class TritonMissingError(OpdslError, ImportError):
    """Triton is not installed, or is a version that this target does not know."""


class TritonCompileError(OpdslError, RuntimeError):
    """Triton could not compile what was generated."""


class InterpreterFailure(OpdslError, RuntimeError):
    """Triton's interpreter could not run a kernel."""


class StrayStoreError(OpdslError, RuntimeError):
    """A kernel wrote outside of its arrays: a bug of the target, or of Triton."""


class DeviceError(OpdslError, RuntimeError):
    """There is no GPU, or it refuses a launch."""


def refusal(kernel: Kernel, op: Op, message: str, help: str) -> CompileError:
    """What this target cannot do, at the op's place in the kernel."""
    location = op.location
    lines = kernel.source.text.splitlines() if location.file == kernel.source.file else []
    line = lines[location.line - 1] if 0 < location.line <= len(lines) else ""
    return CompileError(f"the target triton {message}", location, line, help)

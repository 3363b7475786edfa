"""Triton itself: is it here, which version, and generated source as its functions."""

from __future__ import annotations

import functools
import hashlib
import linecache
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from opdsl.targets.triton.arch import Arch
from opdsl.targets.triton.errors import INSTALL, TritonMissingError
from opdsl.targets.triton.source import Launch

OLDEST = (3, 6)


@functools.cache
def load_triton() -> ModuleType:
    """The module `triton`. Raises TritonMissingError where it is missing or too old."""
    try:
        import triton
    except ImportError as error:
        raise TritonMissingError(f"the target triton needs Triton, which cannot be imported ({error}); {INSTALL}") from None
    version = version_of(triton.__version__)
    if version < OLDEST:
        needed = ".".join(map(str, OLDEST))
        raise TritonMissingError(f"Triton {triton.__version__} is too old: {needed} or newer is needed; {INSTALL}")
    return triton  # type: ignore[no-any-return]


def version_of(text: str) -> tuple[int, int]:
    """(major, minor) of a version text such as "3.6.0+git1234"."""
    major, minor, *_ = text.split(".")
    return int(major), int(minor)


def fingerprint() -> str:
    """What of the tools decides the result of a compilation."""
    return f"triton {load_triton().__version__}"


def gpu_target(arch: Arch) -> Any:
    from triton.backends.compiler import GPUTarget

    return GPUTarget(arch.vendor, arch.identity, arch.warp_size)


def file_name(text: str, name: str) -> str:
    """The name under which a generated file is known to Triton: the same wherever the cache lies, so that line tables,
    and with them binaries, are the same too."""
    return f"opdsl_{name}_{hashlib.sha256(text.encode()).hexdigest()[:12]}.py"


def functions_of(text: str, name: str, launches: Sequence[Launch]) -> list[Any]:
    """The generated functions as Triton's objects. The text is registered with `linecache`, where Triton finds it."""
    load_triton()
    file = file_name(text, name)
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    module = ModuleType(file.removesuffix(".py"))
    module.__file__ = file
    exec(compile(text, file, "exec"), module.__dict__)  # noqa: S102 - what we generated ourselves
    return [module.__dict__[launch.function] for launch in launches]


def ast_source(function: Any, launch: Launch) -> Any:
    """What `triton.compile` takes."""
    from triton.compiler import ASTSource

    signature = {argument.name: argument.type for argument in launch.arguments}
    attributes = {
        (place,): [["tt.divisibility", 16]] for place, argument in enumerate(launch.arguments) if argument.aligned
    }
    return ASTSource(function, signature, {}, attributes)

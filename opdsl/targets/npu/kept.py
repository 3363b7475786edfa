"""Compiled programs in the cache: compiling for a chip takes seconds, reading what was compiled milliseconds."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import replace
from pathlib import Path

from opdsl import _npu_order
from opdsl.ir.core import Kernel, walk
from opdsl.npu.chip import Chip
from opdsl.support.cache import default_cache
from opdsl.support.digests import digest_of_files, generator_digest
from opdsl.support.location import Source
from opdsl.targets.base import Request
from opdsl.targets.npu.program_text import dump, load
from opdsl.targets.npu.running import Runnable

FILE = "program.json"
_PACKAGE = Path(__file__).resolve().parents[2]
def load_or_compile(request: Request, chip: Chip) -> Runnable:
    """The program from the cache, or compiled and kept there. Raises what `compile_kernel` does."""
    source = request.kernel.source

    def build(directory: Path) -> None:
        from opdsl.targets.npu.compile import compile_kernel

        runnable = Runnable.of(compile_kernel(request, chip))
        # The file's text is not kept: an edit elsewhere in it does not change the program.
        runnable = replace(runnable, source=Source(source.file, ""))
        (directory / FILE).write_text(dump(runnable), encoding="utf-8")

    directory = default_cache().get_or_build(_parts(request, chip), build)
    runnable = load((directory / FILE).read_text(encoding="utf-8"))
    return replace(runnable, source=source)


def _parts(request: Request, chip: Chip) -> dict[str, str]:
    """All that decides the program: the key in the cache."""
    return {
        "kernel": request.source.name,
        "target": f"npu:{chip.name}",
        "ir": request.digest,
        "places": _places(request.kernel),
        "unit_axes": repr(request.unit_axes),
        "may_alias": repr(request.may_alias),
        "compiler": _compiler(),
    }


def _places(kernel: Kernel) -> str:
    """A digest of the lines and columns that instructions, and so reports and profiles, speak of."""
    return hashlib.sha256("\n".join(repr(op.location) for op in walk(kernel.body)).encode()).hexdigest()


@functools.cache
def _compiler() -> str:
    """A digest of all that makes a program of a kernel, and of the chips."""
    chips = sorted(_PACKAGE.glob("npu/chips/*.toml"))
    return generator_digest("npu", "targets/npu") + digest_of_files([*chips, Path(str(_npu_order.__file__))])

"""Compiling: a request and an architecture -> Triton source and its artefacts, kept in the compile cache.

compiled = compile_request(request, ARCHES["sm_90"])
compiled.generated.text            the Triton source
compiled.modules[0].text("ptx")    one module for each launch: ttir, ttgir, llir, ptx or amdgcn
compiled.modules[0].binary         the cubin or hsaco
compiled.modules[0].metadata       what Triton says of it: "name", "shared", "num_warps", ...
"""

from __future__ import annotations

import functools
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from opdsl.ir.printer import print_kernel
from opdsl.support.cache import default_cache
from opdsl.support.digests import generator_digest
from opdsl.support.errors import CompileError, OpdslError
from opdsl.support.location import Location
from opdsl.targets.base import Request
from opdsl.targets.triton import toolchain
from opdsl.targets.triton.arch import Arch
from opdsl.targets.triton.errors import TritonCompileError
from opdsl.targets.triton.generate import generate
from opdsl.targets.triton.source import AssertSite, Generated, Launch, LaunchArgument

SOURCE = "kernel.py"
LAUNCHES = "launches.json"


@dataclass(frozen=True)
class Module:
    """The artefacts of one launch, files of the cache."""

    launch: Launch
    arch: Arch
    directory: Path

    def path(self, stage: str) -> Path:
        """The file of a stage: ttir, ttgir, llir, ptx or amdgcn, cubin or hsaco, json."""
        return self.directory / f"{self.launch.function}.{stage}"

    def text(self, stage: str) -> str:
        return self.path(stage).read_text()

    @property
    def binary(self) -> bytes:
        """What a driver loads."""
        return self.path(self.arch.binary).read_bytes()

    @cached_property
    def metadata(self) -> Mapping[str, Any]:
        """Triton's own: name (of the entry), shared (bytes), num_warps, warp_size, num_ctas, global_scratch_size, ..."""
        found: dict[str, Any] = json.loads(self.path("json").read_text())
        return found


@dataclass(frozen=True)
class Compiled:
    """A kernel compiled for one architecture."""

    generated: Generated
    arch: Arch
    modules: tuple[Module, ...]
    directory: Path


def compile_request(request: Request, arch: Arch, *, exact: bool = True) -> Compiled:
    """Compiles, or takes from the cache. Raises TritonMissingError; CompileError for what this target cannot do.

    With `exact`, the source has the names and comments of this very kernel; else, which is quicker, maybe those of one
    that is the same but for these.
    """
    parts = {
        "kernel": request.source.name,
        "target": f"triton:{arch.name}",
        "ir": request.digest,
        "source": source_comments(request) if exact else "",
        "unit_axes": repr(request.unit_axes),
        "may_alias": repr(request.may_alias),
        "options": repr(sorted((name, _plain(value)) for name, value in request.options.items())),
        "toolchain": toolchain.fingerprint(),
        "generator": generator(),
    }
    directory = default_cache().get_or_build(parts, lambda folder: _build(request, arch, folder))
    generated = _read(directory)
    modules = tuple(Module(launch, arch, directory) for launch in generated.launches)
    return Compiled(generated, arch, modules, directory)


def source_comments(request: Request) -> str:
    """What a kernel's places and lines add to the generated text: a cached file shows the lines of this very kernel."""
    return print_kernel(request.kernel) + request.kernel.source.text


def _plain(value: Any) -> str:
    return repr(sorted(map(repr, value))) if isinstance(value, frozenset | set) else repr(value)


def _build(request: Request, arch: Arch, folder: Path) -> None:
    """Compiles into a folder. Where the buffers of pipelined loops do not fit into shared memory, with fewer."""
    generated = generate(request, arch)
    while True:
        needed = 0
        for launch, function in zip(
            generated.launches,
            toolchain.functions_of(generated.text, request.kernel.name, generated.launches),
            strict=True,
        ):
            needed = max(needed, _compile(request, launch, function, arch, folder))
        if needed <= arch.shared_bytes:
            break
        stages = max(launch.num_stages for launch in generated.launches)
        if stages == 1:
            raise CompileError(
                f"the target triton: {request.kernel.name} needs {needed >> 10} KiB of shared memory, and {arch.name} "
                f"has {arch.shared_bytes >> 10} KiB",
                _place(request),
                _line(request),
                "choose smaller tiles, by the kernel's constexprs",
            )
        options = {**request.options, "num_stages": stages - 1}
        generated = generate(replace(request, options=options), arch)
    (folder / SOURCE).write_text(generated.text)
    (folder / LAUNCHES).write_text(json.dumps(_as_json(generated), indent=1))


def _place(request: Request) -> Location:
    ops = request.kernel.body.ops
    return ops[-1].location


def _line(request: Request) -> str:
    lines = request.kernel.source.text.splitlines()
    number = _place(request).line
    return lines[number - 1] if 0 < number <= len(lines) else ""


def _compile(request: Request, launch: Launch, function: Any, arch: Arch, folder: Path) -> int:
    """One launch; gives the shared memory that it needs."""
    triton = toolchain.load_triton()
    if triton.knobs.runtime.interpret:
        raise TritonCompileError("TRITON_INTERPRET is set, so that Triton compiles nothing; unset it")
    options = {"num_warps": launch.num_warps, "num_stages": launch.num_stages, **launch.options}
    source = toolchain.ast_source(function, launch)
    with tempfile.TemporaryDirectory(prefix="opdsl-triton-") as scratch, triton.knobs.cache.scope():
        triton.knobs.cache.dir = scratch  # one cache is enough
        try:
            kernel = triton.compile(source, target=toolchain.gpu_target(arch), options=options)
        except OpdslError:
            raise
        except Exception as error:
            raise TritonCompileError(_explain(request, launch, arch, error)) from error
        for name, path in kernel.metadata_group.items():
            shutil.copyfile(path, folder / f"{launch.function}{Path(name).suffix}")
    return int(kernel.metadata.shared)


def _explain(request: Request, launch: Launch, arch: Arch, error: Exception) -> str:
    text = str(error) or type(error).__name__
    shown = text if len(text) < 2000 else f"{text[:1000]}\n...\n{text[-900:]}"
    return (
        f"Triton could not compile the function {launch.function} of the kernel {request.kernel.name} for {arch.name}: "
        f"{type(error).__name__}: {shown}\nsee its source by `opdsl inspect --target triton:{arch.name} --stage source`"
    )


def _as_json(generated: Generated) -> dict[str, Any]:
    return {
        "launches": [{**asdict(launch), "options": dict(launch.options)} for launch in generated.launches],
        "asserts": [{"message": a.message, "location": asdict(a.location)} for a in generated.asserts],
    }


def _read(directory: Path) -> Generated:
    data = json.loads((directory / LAUNCHES).read_text())
    launches = tuple(
        Launch(**{**launch, "arguments": tuple(LaunchArgument(**a) for a in launch["arguments"])})
        for launch in data["launches"]
    )
    asserts = tuple(AssertSite(a["message"], Location(**a["location"])) for a in data["asserts"])
    return Generated((directory / SOURCE).read_text(), launches, asserts)


@functools.cache
def generator() -> str:
    """Changes whenever the generator does, so that a cached kernel is never an older generator's."""
    return generator_digest("targets/triton")

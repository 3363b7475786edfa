"""Builds a library: every variant to an object file, then one shared object, its header, loader, extension, manifest."""

from __future__ import annotations

import json
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from opdsl import _runtime
from opdsl.ir.printer import canonical_text
from opdsl.support import toolchain
from opdsl.support.digests import digests
from opdsl.support.paths import host_sources
from opdsl.targets.ahead_of_time.building import BuildError, digest, opdsl_version
from opdsl.targets.ahead_of_time.interface import Tensor, UnitAxes, shown_value
from opdsl.targets.base import Request
from opdsl.targets.cpu.ahead_of_time.extension import extension
from opdsl.targets.cpu.ahead_of_time.glue import CompiledVariant, LibraryFunction, glue
from opdsl.targets.cpu.ahead_of_time.header import header
from opdsl.targets.cpu.ahead_of_time.loader import loader
from opdsl.targets.cpu.ahead_of_time.plan import Part, machine_of, useful_isas
from opdsl.targets.cpu.isa import ISAS, entry_name
from opdsl.targets.cpu.lowering import Lowering
from opdsl.targets.cpu.target import flags, lower

FORMAT = 1
HOST_FLAGS = ("-fvisibility=hidden",)


@dataclass(frozen=True)
class Settings:
    """How a library is built. `python`: the extension is wanted, not wanted, or built where that is possible (None)."""

    name: str
    directory: Path
    isas: tuple[str, ...]
    in_place: bool = False
    python: bool | None = None
    keep_sources: bool = False


@dataclass(frozen=True)
class Built:
    """What was written, and what was left out, with the reason."""

    files: tuple[Path, ...]
    manifest: dict[str, Any]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Variant:
    part: Part
    isa: str
    axes: UnitAxes
    symbol: str
    lowering: Lowering
    text: str

    def compiled(self) -> CompiledVariant:
        axes = (
            -1 if axis is None else axis
            for parameter, axis in zip(self.part.interface.parameters, self.axes, strict=True)
            if isinstance(parameter, Tensor)
        )
        return CompiledVariant(self.symbol, self.isa, tuple(axes))


def build(parts: Sequence[Part], settings: Settings, progress: Callable[[str], None] = lambda text: None) -> Built:
    """Builds the library in a temporary folder, then moves its files to their place."""
    check_names(parts, settings.name)
    used = {isa for part in parts for isa in useful_isas(settings.isas, part.ir)}
    settings = replace(settings, isas=tuple(isa for isa in settings.isas if isa in used))
    python, notes = _extension_flags(settings)
    variants = _variants(parts, settings)
    settings.directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="opdsl-build-") as folder:
        work = Path(folder)
        outputs = _write_texts(parts, variants, settings, work)
        jobs = _jobs(variants, settings, work, python)
        objects = _compile(jobs, progress)
        progress("linking")
        library = work / f"lib{settings.name}.so"
        toolchain.link_shared_object(objects[:-1] if python else objects, library, [f"-Wl,-soname,{library.name}"])
        outputs.append(library)
        if python:
            module = work / f"{settings.name}{sysconfig.get_config_var('EXT_SUFFIX')}"
            toolchain.link_shared_object(objects, module, python_library=True)
            outputs.append(module)
        manifest = _manifest(parts, settings, outputs)
        outputs.append(work / f"{settings.name}_manifest.json")
        outputs[-1].write_text(json.dumps(manifest, indent=1) + "\n")
        files = [_publish(path, settings.directory / path.name) for path in outputs]
        if settings.keep_sources:
            kept = settings.directory / "sources"
            kept.mkdir(exist_ok=True)
            files += [_publish(path, kept / path.name) for path in sorted(work.glob("*.cpp"))]
    return Built(tuple(files), manifest, tuple(notes))


def check_names(parts: Sequence[Part], library: str) -> None:
    if not (library.isidentifier() and library.isascii()):
        raise BuildError(f"a library cannot be called {library!r}", "give a name of letters, digits and _ by --name")
    if library in sys.stdlib_module_names or library in ("numpy", "cffi", "opdsl"):
        raise BuildError(f"a Python module is called {library!r} already", "give another name by --name")
    functions = [part.interface.function for part in parts]
    for function in functions:
        if functions.count(function) > 1:
            raise BuildError(f"two kernels of the library would be called {function}")


def _variants(parts: Sequence[Part], settings: Settings) -> list[_Variant]:
    found = []
    for part in parts:
        for isa in useful_isas(settings.isas, part.ir):
            for place, axes in enumerate(part.layouts):
                lowering, text = lower(Request(part.ir, axes, settings.in_place), ISAS[isa])
                symbol = f"opdsl_{part.interface.function}_{isa}_{place}"
                found.append(_Variant(part, isa, axes, symbol, lowering, text))
    return found


def _functions(parts: Sequence[Part], variants: Sequence[_Variant]) -> list[LibraryFunction]:
    functions = []
    for part in parts:
        own = [variant for variant in variants if variant.part is part]
        sites = []
        for site in own[0].lowering.sites:
            location = site.op.location
            sites.append((site.text, f"{Path(location.file).name}:{location.line}"))
        functions.append(LibraryFunction(part.interface, [v.compiled() for v in own], sites))
    return functions


def _write_texts(parts: Sequence[Part], variants: Sequence[_Variant], settings: Settings, work: Path) -> list[Path]:
    """Writes all sources; returns the files that belong to the result."""
    name = settings.name
    interfaces = [part.interface for part in parts]
    for variant in variants:
        (work / f"{variant.symbol}.cpp").write_text(variant.text)
    (work / f"{name}_glue.cpp").write_text(glue(name, _functions(parts, variants), settings.isas, settings.in_place))
    (work / f"{name}_extension.cpp").write_text(extension(name, interfaces, opdsl_version()))
    header_path, loader_path = work / f"{name}.h", work / f"{name}_cffi.py"
    header_path.write_text(header(name, interfaces, settings.isas, opdsl_version(), settings.in_place))
    loader_path.write_text(loader(name, interfaces))
    return [header_path, loader_path]


@dataclass(frozen=True)
class _Job:
    source: Path
    output: Path
    flags: tuple[str, ...]


def _jobs(variants: Sequence[_Variant], settings: Settings, work: Path, python: Sequence[str] | None) -> list[_Job]:
    """All compilations; the extension's is the last one."""
    include = ("-I", str(work))
    jobs = []
    for variant in variants:
        # Each variant has a namespace and an entry point of its own: nothing of two of them may be merged by the linker.
        names = (f"-Dod={variant.symbol}_namespace", f"-D{entry_name(variant.part.ir.name)}={variant.symbol}")
        own = (*flags(ISAS[variant.isa]), *names, "-fvisibility=hidden")
        jobs.append(_Job(work / f"{variant.symbol}.cpp", work / f"{variant.symbol}.o", own))
    glue_source = work / f"{settings.name}_glue.cpp"
    for source in (*host_sources(), glue_source):
        jobs.append(_Job(source, work / f"host_{source.stem}.o", (*HOST_FLAGS, *include)))
    if python is not None:
        source = work / f"{settings.name}_extension.cpp"
        jobs.append(_Job(source, work / "extension.o", (*python, *include)))
    return jobs


def _compile(jobs: Sequence[_Job], progress: Callable[[str], None]) -> list[Path]:
    done = 0
    # The extension takes longest: it starts first.
    with ThreadPoolExecutor(max(_runtime.usable_cores(), 1)) as pool:
        running = [pool.submit(toolchain.compile_object, job.source, job.output, job.flags) for job in reversed(jobs)]
        for future in running:
            progress(f"compiling {done + 1} of {len(jobs)}")
            future.result()
            done += 1
    return [job.output for job in jobs]


def _extension_flags(settings: Settings) -> tuple[list[str] | None, list[str]]:
    """The flags that compile the extension, or None with the reason why there is none."""
    if settings.python is False:
        return None, []
    problem = None
    try:
        import pybind11
    except ImportError:
        problem = "pybind11 is not installed; pip install pybind11"
    headers = Path(sysconfig.get_path("include"), "Python.h")
    here, there = sysconfig.get_platform().rpartition("-")[2], machine_of(toolchain.find_compiler())
    if problem is None and not headers.is_file():
        problem = f"Python's headers are not installed ({headers}); as apt-get install python3-dev"
    if problem is None and here != there:
        problem = f"the compiler compiles for {there}, and this Python runs on {here}"
    if problem is not None:
        if settings.python:
            raise BuildError(f"the Python extension cannot be built: {problem}", "or leave it out by --no-python")
        return None, [f"without the Python extension: {problem}"]
    include = ["-I", pybind11.get_include(), "-I", str(headers.parent)]
    # Exceptions and type information: pybind11 needs both.
    return ["-fexceptions", "-frtti", "-O2", "-fvisibility=hidden", *include], []


def _manifest(parts: Sequence[Part], settings: Settings, files: Sequence[Path]) -> dict[str, Any]:
    compiler = toolchain.find_compiler()
    return {
        "format": FORMAT,
        "name": settings.name,
        "target": "cpu",
        "machine": compiler.machine,
        "isas": list(settings.isas),
        "in_place": settings.in_place,
        "opdsl": opdsl_version(),
        "abi": _runtime.ABI_VERSION,
        "compiler": f"{compiler.family} {compiler.version_text}",
        "flags": {isa: [*toolchain.BASE_FLAGS, *flags(ISAS[isa])] for isa in settings.isas},
        "headers_sha256": digests().headers,
        "kernels": [_kernel_record(part) for part in parts],
        "files": {p.name: {"bytes": p.stat().st_size, "sha256": digest(p.read_bytes())} for p in files},
    }


def _kernel_record(part: Part) -> dict[str, Any]:
    interface = part.interface
    parameters: list[dict[str, Any]] = []
    for parameter in interface.parameters:
        record: dict[str, Any] = {"name": parameter.name, "dtype": parameter.dtype.name}
        if isinstance(parameter, Tensor):
            record |= {"kind": "tensor", "dims": list(parameter.dims), "access": parameter.access}
        else:
            record["kind"] = "scalar"
            if parameter.has_default:
                record["default"] = parameter.default
        parameters.append(record)
    constexprs = interface.constexprs
    return {
        "name": interface.kernel,
        "function": interface.function,
        "source": {"file": interface.file, "line": interface.line, "sha256": digest(part.ir.source.text.encode())},
        "parameters": parameters,
        "sizes": list(interface.sizes),
        "dtypes": interface.dtypes,
        "dims": {name: constexprs[name] for name in sorted(interface.bound)},
        "constexprs": {n: shown_value(v) for n, v in constexprs.items() if n not in interface.bound},
        "layouts": [list(axes) for axes in part.layouts],
        "ir_sha256": digest(canonical_text(part.ir).encode()),
    }


def _publish(source: Path, target: Path) -> Path:
    """Moves a file to its place by one rename, so that a library in use is replaced, not overwritten."""
    temporary = target.with_name(f".{target.name}.new")
    temporary.write_bytes(source.read_bytes())
    temporary.chmod(0o755 if source.suffix == ".so" else 0o644)
    temporary.replace(target)
    return target

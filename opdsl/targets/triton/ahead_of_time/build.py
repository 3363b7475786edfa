"""Writes what `opdsl build --target triton` gives: sources, code, manifest, and for NVIDIA's GPUs the launcher in C."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from opdsl.ir.core import Kernel as IrKernel
from opdsl.ir.printer import canonical_text
from opdsl.targets.ahead_of_time.building import BuildError, digest, opdsl_version
from opdsl.targets.ahead_of_time.interface import Interface, Tensor, shown_value
from opdsl.targets.triton.ahead_of_time.launcher import header, launcher, prototype
from opdsl.targets.triton.ahead_of_time.plan import Part, Variant, entry_parameters, make_part
from opdsl.targets.triton.arch import Arch
from opdsl.targets.triton.compiler import Module
from opdsl.targets.triton.toolchain import load_triton

FORMAT = 1


@dataclass(frozen=True)
class Settings:
    """How a library is built. `options` are the target's, such as num_warps."""

    name: str
    directory: Path
    arches: Sequence[Arch]
    in_place: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Built:
    """What was written."""

    files: tuple[Path, ...]
    manifest: dict[str, Any]


def build(
    kernels: Sequence[tuple[Interface, IrKernel]], settings: Settings, progress: Callable[[str], None] = lambda _: None
) -> Built:
    """Compiles everything, then writes. Raises BuildError, CompileError, TritonMissingError, OSError."""
    _check_names(kernels, settings.name)
    parts = []
    for number, (interface, ir) in enumerate(kernels, 1):
        progress(f"compiling {interface.kernel}, {number} of {len(kernels)}")
        parts.append(make_part(interface, ir, settings.arches, settings.options, settings.in_place))
    settings.directory.mkdir(parents=True, exist_ok=True)
    texts = _texts(parts, settings)
    manifest = _manifest(parts, settings, texts)
    texts[f"{settings.name}_manifest.json"] = (json.dumps(manifest, indent=1) + "\n").encode()
    files = []
    for name, content in texts.items():
        path = settings.directory / name
        temporary = path.with_name(f".{name}.new")
        temporary.write_bytes(content)
        temporary.replace(path)
        files.append(path)
    return Built(tuple(files), manifest)


def _check_names(kernels: Sequence[tuple[Interface, IrKernel]], library: str) -> None:
    if not (library.isidentifier() and library.isascii()):
        raise BuildError(f"a library cannot be called {library!r}", "give a name of letters, digits and _ by --name")
    functions = [interface.function for interface, _ in kernels]
    for function in functions:
        if functions.count(function) > 1 or function == f"{library}_message":
            raise BuildError(f"two functions of the library would be called {function}", "rename a kernel")
    for interface, _ in kernels:
        _check_parameters(interface)


# What the launcher's functions call their own variables.
_TAKEN = frozenset({"stream", "status", "failures", "failed", "parameters", "i"})
_TAKEN_BEGINNINGS = ("opdsl_", "dims_", "strides_", "array_", "images_", "code_", "asserts_", "scratch_", "v_")


def _check_parameters(interface: Interface) -> None:
    names = [p.c_name for p in interface.parameters] + [interface.size_name(size) for size in interface.sizes]
    for name in names:
        if name in _TAKEN or name.startswith(_TAKEN_BEGINNINGS):
            raise BuildError(
                f"{interface.kernel} has a parameter or dim called {name}, a name that the launcher needs itself",
                "rename it in the kernel",
            )


def stem(part: Part, variant: Variant, module: Module) -> str:
    """The name of a module's files without their ending."""
    several = f"_{module.launch.function}" if len(variant.launches) > 1 else ""
    return f"{part.interface.function}_{variant.name}{several}"


def _texts(parts: Sequence[Part], settings: Settings) -> dict[str, bytes]:
    """Every file but the manifest."""
    found: dict[str, bytes] = {}
    for part in parts:
        for variant in part.variants:
            for compiled in variant.compiled:
                arch = compiled.arch
                source = f"{part.interface.function}_{variant.name}.{arch.name}.py"
                found[source] = compiled.generated.text.encode()
                for module in compiled.modules:
                    base = f"{stem(part, variant, module)}.{arch.name}"
                    found[f"{base}.{arch.assembly}"] = module.text(arch.assembly).encode()
                    found[f"{base}.{arch.binary}"] = module.binary
    if settings.arches[0].vendor == "cuda":
        interfaces, names = [part.interface for part in parts], [arch.name for arch in settings.arches]
        version = opdsl_version()
        found[f"{settings.name}.h"] = header(settings.name, interfaces, names, version, settings.in_place).encode()
        found[f"{settings.name}.c"] = launcher(settings.name, parts, version, settings.in_place).encode()
    return found


# --- the manifest ----------------------------------------------------------------------------------------------------


def _manifest(parts: Sequence[Part], settings: Settings, texts: Mapping[str, bytes]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "name": settings.name,
        "target": "triton",
        "arches": [arch.name for arch in settings.arches],
        "in_place": settings.in_place,
        "options": dict(settings.options),
        "opdsl": opdsl_version(),
        "triton": load_triton().__version__,
        "kernels": [_kernel(part) for part in parts],
        "files": {name: {"bytes": len(data), "sha256": digest(data)} for name, data in texts.items()},
    }


def _kernel(part: Part) -> dict[str, Any]:
    interface = part.interface
    parameters: list[dict[str, Any]] = []
    for parameter in interface.parameters:
        record: dict[str, Any] = {"name": parameter.name, "dtype": parameter.dtype.name}
        if isinstance(parameter, Tensor):
            record |= {"kind": "tensor", "dims": list(parameter.dims), "access": parameter.access}
        else:
            record["kind"] = "scalar"
        parameters.append(record)
    constexprs = interface.constexprs
    return {
        "name": interface.kernel,
        "function": interface.function,
        "prototype": " ".join(prototype(interface).split()),
        "source": {"file": interface.file, "line": interface.line, "sha256": digest(part.ir.source.text.encode())},
        "parameters": parameters,
        "sizes": list(interface.sizes),
        "dtypes": interface.dtypes,
        "dims": {name: constexprs[name] for name in sorted(interface.bound)},
        "constexprs": {n: shown_value(v) for n, v in constexprs.items() if n not in interface.bound},
        "variants": [_variant(part, variant) for variant in part.variants],
        "ir_sha256": digest(canonical_text(part.ir).encode()),
    }


def _variant(part: Part, variant: Variant) -> dict[str, Any]:
    """How to launch one compilation, for launchers in other languages."""
    launches = []
    for number, first in enumerate(variant.launches):
        launch = first.launch
        launches.append(
            {
                "function": launch.function,
                "arguments": [asdict(argument) for argument in launch.arguments],
                "programs": launch.programs,
                "persistent": launch.persistent,
                "code": {
                    compiled.arch.name: _code(part, variant, compiled.modules[number]) for compiled in variant.compiled
                },
            }
        )
    return {
        "name": variant.name,
        "unit_axes": list(variant.unit_axes),
        "index_bits": variant.index_bits,
        "asserts": [site.message for site in variant.compiled[0].generated.asserts],
        "launches": launches,
    }


def _code(part: Part, variant: Variant, module: Module) -> dict[str, Any]:
    metadata, arch = module.metadata, module.arch
    return {
        "file": f"{stem(part, variant, module)}.{arch.name}.{arch.binary}",
        "entry": metadata["name"],
        "threads": int(metadata["num_warps"]) * arch.warp_size,
        "num_warps": metadata["num_warps"],
        "num_stages": module.launch.num_stages,
        "shared_bytes": metadata["shared"],
        "scratch_bytes": metadata.get("global_scratch_size", 0),
        "own_parameters": entry_parameters(module) - len(module.launch.arguments) if arch.vendor == "cuda" else None,
    }

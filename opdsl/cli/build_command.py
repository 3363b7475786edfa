"""`opdsl build`: kernels compiled ahead of time, for CPUs and GPUs, into what needs no OpDSL."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from opdsl.harness import specialising
from opdsl.harness.errors import CommandError, listed
from opdsl.harness.loading import choose_kernels, split_target
from opdsl.harness.specialising import Options, Specialisation

if TYPE_CHECKING:
    from opdsl.targets.cpu.ahead_of_time.plan import Part


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kernel", metavar="FILE[:KERNEL]", help="a Python file; without a kernel, all that it defines")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="the folder for the results")
    parser.add_argument("--target", default="cpu", help="what to build for: cpu, triton (default: cpu)")
    parser.add_argument("--arch", help="GPU architectures with commas between, as sm_90,sm_80 (default: sm_90)")
    parser.add_argument(
        "--option", action="append", default=[], metavar="num_warps=8", help="an option of the target triton"
    )
    parser.add_argument("--isa", help="instruction sets with commas between, as avx2,avx512 (default: all that help)")
    parser.add_argument("--name", help="the library's name (default: the kernel's, or the file's)")
    specialising.add_arguments(parser)
    parser.add_argument(
        "--layout",
        action="append",
        default=[],
        metavar="b=0",
        help="one more layout that is compiled specially: which axis of an array has stride 1, or b=any",
    )
    parser.add_argument(
        "--only-given-layouts", action="store_true", help="leave out the compilation that takes any strides"
    )
    parser.add_argument("--in-place", action="store_true", help="let an output be the very same view as an input")
    parser.add_argument(
        "--python", action=argparse.BooleanOptionalAction, default=None, help="build the Python extension, or do not"
    )
    parser.add_argument("--keep-sources", action="store_true", help="keep the generated C++ in DIR/sources")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    base, _, option = arguments.target.partition(":")
    if base not in ("cpu", "triton") or (base == "cpu" and option):
        raise CommandError(
            f"--target {arguments.target}: kernels are built for cpu and triton", "--isa or --arch say more"
        )
    _check_options(arguments, base)
    file, kernels = choose_kernels(arguments.kernel, several=True)
    options = Options(arguments, kernels, file.module)
    specialisations = [one for kernel in kernels for one in options.specialise(kernel)]
    wanted = split_target(arguments.kernel)[1]
    name = arguments.name or wanted or file.path.stem
    if base == "triton":
        return _build_triton(arguments, specialisations, name, option)
    return _build(arguments, specialisations, name)


def _check_options(arguments: argparse.Namespace, base: str) -> None:
    """What only the other target has."""
    given = {
        "cpu": {"--arch": arguments.arch, "--option": arguments.option},
        "triton": {
            "--isa": arguments.isa,
            "--layout": arguments.layout,
            "--only-given-layouts": arguments.only_given_layouts,
            "--python": arguments.python is not None,
            "--keep-sources": arguments.keep_sources,
        },
    }[base]
    for name, value in given.items():
        if value:
            raise CommandError(f"{name} is not for the target {base}", f"leave {name} out")


def _build_triton(arguments: argparse.Namespace, specialisations: list[Specialisation], name: str, option: str) -> int:
    from opdsl.lang.config import OPTIONS, Config
    from opdsl.targets.ahead_of_time.building import BuildError
    from opdsl.targets.ahead_of_time.interface import read_interface
    from opdsl.targets.triton.ahead_of_time.build import Settings, build
    from opdsl.targets.triton.ahead_of_time.plan import choose_arches

    values: dict[str, int] = {}
    for text in arguments.option:
        key, sign, value = text.partition("=")
        if not sign or not value.isdigit():
            raise CommandError(f"--option {text}: expected NAME=NUMBER, as num_warps=8")
        values[key] = int(value)
    config = Config(values)
    if config.constexprs:
        raise CommandError(f"there is no option {next(iter(config.constexprs))!r}", f"there are {listed(OPTIONS)}")
    if config.options.get("descriptors"):
        raise CommandError(
            "--option descriptors=1: a library takes arrays of any strides, and descriptors do not",
            "leave it out: its kernels load by pointers",
        )
    try:
        kernels = [
            (read_interface(name, function, one.kernel, one.ir, one.dtypes, one.constexprs), one.ir)
            for function, one in _named(specialisations)
        ]
        arches = choose_arches(arguments.arch, option)
        settings = Settings(name, arguments.output, arches, arguments.in_place, config.options)
        built = build(kernels, settings, _progress())
    except BuildError as error:
        raise CommandError(error.message, error.help) from None
    except OSError as error:
        raise CommandError(f"{arguments.output} cannot be written: {error.strerror or error}", code=1) from None
    finally:
        _progress()("linking")
    if arguments.json:
        files = [str(path) for path in built.files]
        print(json.dumps({"directory": str(arguments.output), "files": files, "manifest": built.manifest}))
        return 0
    width = max(len(path.name) for path in built.files)
    for path in built.files:
        print(f"{path.name:<{width}}  {path.stat().st_size / 1024:8.1f} KiB  {_GPU_PURPOSES.get(path.suffix, '')}")
    functions = ", ".join(interface.function for interface, _ in kernels)
    print(f"{arguments.output}: {functions} for {', '.join(built.manifest['arches'])}")
    return 0


_GPU_PURPOSES = {
    ".py": "the Triton source",
    ".ptx": "the assembly",
    ".amdgcn": "the assembly",
    ".cubin": "the machine code",
    ".hsaco": "the machine code",
    ".h": "the C header",
    ".c": "the launcher, with the machine code in it",
    ".json": "what was compiled, and how it is launched",
}


def _build(arguments: argparse.Namespace, specialisations: list[Specialisation], name: str) -> int:
    from opdsl.support import toolchain
    from opdsl.targets.ahead_of_time.building import BuildError
    from opdsl.targets.cpu.ahead_of_time.build import Settings, build
    from opdsl.targets.cpu.ahead_of_time.plan import choose_isas, make_part

    try:
        isas = choose_isas(arguments.isa.split(",") if arguments.isa else None, toolchain.find_compiler())
        parts = [
            make_part(
                *(name, function, one.kernel, one.ir, one.dtypes, one.constexprs),
                layouts=arguments.layout,
                general=not arguments.only_given_layouts,
            )
            for function, one in _named(specialisations)
        ]
        _check_layouts(arguments.layout, parts)
        settings = Settings(name, arguments.output, isas, arguments.in_place, arguments.python, arguments.keep_sources)
        built = build(parts, settings, _progress())
    except BuildError as error:
        raise CommandError(error.message, error.help) from None
    except OSError as error:
        raise CommandError(f"{arguments.output} cannot be written: {error.strerror or error}", code=1) from None
    for note in built.notes:
        print(f"opdsl: {note}", file=sys.stderr)
    if arguments.json:
        files = [str(path) for path in built.files]
        print(json.dumps({"directory": str(arguments.output), "files": files, "manifest": built.manifest}))
        return 0
    width = max(len(path.name) for path in built.files)
    for path in built.files:
        print(f"{path.name:<{width}}  {path.stat().st_size / 1024:8.1f} KiB  {_purpose(path)}")
    functions = ", ".join(part.interface.function for part in parts)
    print(f"{arguments.output}: {functions} for {', '.join(built.manifest['isas'])}")
    return 0


def _check_layouts(layouts: list[str], parts: list[Part]) -> None:
    arrays = dict.fromkeys(tensor.name for part in parts for tensor in part.interface.tensors)
    for text in layouts:
        for piece in text.split(","):
            name, sign, _ = piece.partition("=")
            if not sign or name not in arrays:
                raise CommandError(
                    f"--layout {text}: expected ARRAY=AXIS or ARRAY=any", f"the arrays are {listed(arrays)}"
                )


def _named(specialisations: list[Specialisation]) -> list[tuple[str, Specialisation]]:
    """Each with its name in the library: the kernel's, with the dtypes where there are several."""
    counts = Counter(one.kernel.name for one in specialisations)
    named = []
    for one in specialisations:
        dtypes = [dtype.name for dtype in one.dtypes.values()]
        named.append(("_".join([one.kernel.name, *(dtypes if counts[one.kernel.name] > 1 else [])]), one))
    return named


def _purpose(path: Path) -> str:
    if path.name.endswith("_cffi.py"):
        return "Python, through cffi"
    if path.suffix == ".so":
        return "the library" if path.name.startswith("lib") else "the Python extension"
    return {".h": "its C header", ".json": "what was compiled, and how", ".cpp": "generated"}.get(path.suffix, "")


def _progress() -> Callable[[str], None]:
    """Shows the progress on one line of a terminal, and nothing elsewhere."""
    if not sys.stderr.isatty():
        return lambda text: None

    def show(text: str) -> None:
        print(f"\r\033[K{text}" if text != "linking" else "\r\033[K", end="", file=sys.stderr, flush=True)

    return show


__all__ = ["add_arguments", "run"]

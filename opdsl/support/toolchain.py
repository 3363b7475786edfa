"""The C++ compiler: finding it, knowing it, and turning generated text into a shared object.

Measured with g++ 12 on a small kernel (minimum of interleaved runs, on a busy machine): the ordinary way to a shared
object takes 99 ms, of which linking is about 30. Without the standard libraries and the link-time-optimisation plugin
(FAST_LINK) it is 69: generated code needs neither, and finds memcpy and the like in the process that loads it.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from opdsl.support.digests import digests
from opdsl.support.errors import OpdslError
from opdsl.support.knobs import knobs
from opdsl.support.paths import include_directory

if TYPE_CHECKING:
    import subprocess  # imported where used: loading a cached kernel does without it

# What every compilation gets. Floating-point policy and instruction set are the target's, and come as `flags`.
BASE_FLAGS = (
    "-std=gnu++17",
    "-O3",
    "-fPIC",
    "-fno-exceptions",
    "-fno-rtti",
    "-fno-semantic-interposition",
    "-pipe",
    "-w",
)
FAST_LINK = ("-shared", "-nostdlib", "-fno-use-linker-plugin", "-lgcc")
FAST_LINK_CLANG = ("-shared", "-nostdlib", "-lgcc")
PLAIN_LINK = ("-shared",)

MINIMUM_VERSION = {"gcc": (10, 0), "clang": (12, 0)}
INSTALL_HINT = "install one, as `apt-get install g++` (Debian, Ubuntu) or `dnf install gcc-c++` (Fedora)"


class ToolchainError(OpdslError, RuntimeError):
    """There is no usable compiler, or it failed."""


class CompilerNotFound(ToolchainError):
    """There is no C++ compiler."""


class CompilationError(ToolchainError):
    """The compiler refused generated code: a bug of OpDSL, or a compiler that is too old."""


@dataclass(frozen=True)
class Compiler:
    """A C++ compiler. `family` is "gcc" or "clang"; `machine` is what it compiles for, as "x86_64-linux-gnu"."""

    path: str
    family: str
    version: tuple[int, ...]
    machine: str

    @property
    def version_text(self) -> str:
        return ".".join(map(str, self.version))

    @property
    def is_recent_enough(self) -> bool:
        return self.version >= MINIMUM_VERSION[self.family]


def _candidates() -> list[str]:
    return [knobs.cxx] if knobs.cxx else ["c++", "g++", "clang++"]


def find_compiler() -> Compiler:
    """The compiler that the knob `cxx` names, or the first of c++, g++ and clang++ that is there."""
    for name in _candidates():
        path = _which(name)
        if path is not None:
            return _identify(path, _stamp(path))
    if knobs.cxx:
        raise CompilerNotFound(
            f"OPDSL_CXX is {knobs.cxx!r}, but there is no such program; {INSTALL_HINT} or correct it"
        )
    raise CompilerNotFound(
        f"compiling a kernel for the CPU needs a C++ compiler, and none of c++, g++, clang++ is on PATH; "
        f"{INSTALL_HINT}, or name it by OPDSL_CXX"
    )


def _which(name: str) -> str | None:
    if os.sep in name:
        candidates = [name]
    else:
        candidates = [os.path.join(folder, name) for folder in os.get_exec_path()]  # noqa: PTH118
    return next((path for path in candidates if os.path.isfile(path) and os.access(path, os.X_OK)), None)  # noqa: PTH113


def _stamp(path: str) -> str:
    """Changes when the compiler is replaced."""
    real = Path(path).resolve()
    status = real.stat()
    return f"{real}:{status.st_size}:{status.st_mtime_ns}"


@functools.lru_cache(maxsize=8)
def _identify(path: str, stamp: str) -> Compiler:
    """Asks the compiler who it is, once for each compiler and cache directory: it takes some milliseconds."""
    from opdsl.support.cache import default_cache

    memo_name = "compiler-" + hashlib.sha256(f"{path}\n{stamp}".encode()).hexdigest()[:24] + ".json"
    text = default_cache().read_memo(memo_name)
    if text is not None:
        try:
            memo = json.loads(text)
            version = tuple(int(part) for part in memo["version"])
            if memo["family"] in MINIMUM_VERSION and version:
                return Compiler(path, memo["family"], version, str(memo["machine"]))
        except (ValueError, KeyError, TypeError):
            pass  # a damaged memo is written anew
    compiler = _ask(path)
    memo = {"family": compiler.family, "version": compiler.version, "machine": compiler.machine}
    default_cache().write_memo(memo_name, json.dumps(memo))
    return compiler


def _ask(path: str) -> Compiler:
    banner = _output([path, "--version"])
    family = "clang" if "clang" in banner.lower() else "gcc"
    if family == "clang":
        found = re.search(r"version (\d+)\.(\d+)(?:\.(\d+))?", banner)
        text = ".".join(part for part in found.groups() if part) if found else ""
    else:
        text = _output([path, "-dumpfullversion", "-dumpversion"]).strip()
    if not re.fullmatch(r"\d+(\.\d+)*", text):
        raise ToolchainError(
            f"{path} does not say which version it is (it says {banner.splitlines()[:1]}); set OPDSL_CXX"
        )
    return Compiler(path, family, tuple(map(int, text.split("."))), _output([path, "-dumpmachine"]).strip())


def _output(command: Sequence[str]) -> str:
    import subprocess

    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=True, env=_environment()
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise ToolchainError(f"{command[0]} does not run: {error}; {INSTALL_HINT}, or set OPDSL_CXX") from error


def _environment() -> dict[str, str]:
    """Messages in English; no include or library path of the user's that would change what is compiled."""
    dropped: tuple[str, ...] = ("CPATH", "CPLUS_INCLUDE_PATH", "C_INCLUDE_PATH", "LIBRARY_PATH", "GCC_EXEC_PREFIX")
    if knobs.sanitize:
        dropped += ("LD_PRELOAD",)  # the sanitizers' libraries are for generated code, and make compilers slow
    return {**{k: v for k, v in os.environ.items() if k not in dropped}, "LC_ALL": "C"}


def _extra_flags() -> tuple[str, ...]:
    extra = knobs.cxxflags
    if knobs.sanitize:
        extra += (f"-fsanitize={knobs.sanitize}", "-fno-omit-frame-pointer", "-g1")
    return extra


def fingerprint(flags: Sequence[str] = ()) -> str:
    """Everything besides the text that decides what a compilation with `flags` gives; a part of the cache's key."""
    compiler = find_compiler()
    all_flags = " ".join((*BASE_FLAGS, *flags, *_extra_flags()))
    return f"{compiler.family} {compiler.version_text} {compiler.machine}; {all_flags}; headers {digests().headers}"


def compile_shared_object(source: Path, output: Path, flags: Sequence[str] = ()) -> None:
    """Compiles the C++ file `source` into the shared object `output`."""
    compiler = _checked_compiler()
    compile_flags = [*BASE_FLAGS, *flags, *_extra_flags(), "-I", str(include_directory())]
    fast = not any(flag.startswith(("-fsanitize", "-fopenmp", "-l")) for flag in compile_flags)
    links: list[tuple[str, ...]] = [PLAIN_LINK]
    if fast:
        links.insert(0, FAST_LINK if compiler.family == "gcc" else FAST_LINK_CLANG)
    for attempt, link in enumerate(links):
        objects = ["-x", "c++", str(source), "-x", "none"]
        command = [compiler.path, *compile_flags, *objects, "-o", str(output), *link]
        result = _run(command)
        if result.returncode == 0:
            return
        about_linking = re.search(r"\b(ld|collect2|linker)\b", result.stderr) is not None
        if not about_linking or attempt + 1 == len(links):
            raise _compilation_error(compiler, command, source, result)


def compile_object(source: Path, output: Path, flags: Sequence[str] = ()) -> None:
    """Compiles the C++ file `source` into an object file, for a library built ahead of time."""
    compiler = _checked_compiler()
    command = [compiler.path, *BASE_FLAGS, *flags, *_extra_flags(), "-I", str(include_directory())]
    result = _run([*command, "-c", "-x", "c++", str(source), "-o", str(output)])
    if result.returncode != 0:
        raise _compilation_error(compiler, command, source, result)


# Symbols are found now rather than at the first call; the pool's threads sleep in the library's code, so it stays.
LIBRARY_LINK = ("-shared", "-pthread", "-Wl,-z,nodelete", "-Wl,-z,now", "-Wl,--as-needed", "-s")


def link_shared_object(
    objects: Sequence[Path], output: Path, flags: Sequence[str] = (), python_library: bool = False
) -> None:
    """Links object files into a shared object that stands alone: it needs the C library only, or, as an extension of
    Python, the C++ library and the process that imports it."""
    compiler = _checked_compiler()
    own = () if python_library or knobs.sanitize else ("-static-libgcc", "-Wl,--no-undefined")
    command = [compiler.path, *LIBRARY_LINK, *own, *_extra_flags(), "-o", str(output), *map(str, objects), *flags]
    result = _run(command)
    if result.returncode != 0:
        raise _compilation_error(compiler, command, output, result)


def compile_assembly(source: Path, flags: Sequence[str] = ()) -> str:
    """The assembly text of the C++ file `source`, with line numbers and readable names."""
    compiler = _checked_compiler()
    dialect = ["-masm=intel"] if compiler.machine.startswith(("x86_64", "i686")) else []
    lines = ["-g1"]
    if compiler.family == "gcc":
        lines += ["-gno-variable-location-views", "-fno-asynchronous-unwind-tables", "-fno-dwarf2-cfi-asm"]
    command = [compiler.path, *BASE_FLAGS, *flags, *_extra_flags(), *dialect, *lines]
    command += ["-I", str(include_directory()), "-S", "-x", "c++", str(source), "-o", "-"]
    result = _run(command)
    if result.returncode != 0:
        raise _compilation_error(compiler, command, source, result)
    return _demangled(result.stdout)


def _demangled(text: str) -> str:
    """With C++ names instead of the linker's, where c++filt is there: it comes with every g++."""
    import subprocess

    path = _which("c++filt")
    if path is None:
        return text
    result = subprocess.run([path, "--no-params"], input=text, capture_output=True, text=True, check=False)
    return result.stdout if result.returncode == 0 else text


def _checked_compiler() -> Compiler:
    compiler = find_compiler()
    if not compiler.is_recent_enough:
        needed = ".".join(map(str, MINIMUM_VERSION[compiler.family]))
        raise ToolchainError(
            f"{compiler.path} is {compiler.family} {compiler.version_text}; generated code needs {needed} or newer; "
            "install a newer one and name it by OPDSL_CXX"
        )
    return compiler


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    import subprocess

    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=knobs.compile_timeout,
            check=False,
            env=_environment(),
        )
    except subprocess.TimeoutExpired:
        raise ToolchainError(
            f"{command[0]} did not finish within {knobs.compile_timeout} s; "
            "raise OPDSL_COMPILE_TIMEOUT or use smaller tiles"
        ) from None
    except OSError as error:
        raise ToolchainError(f"{command[0]} does not run: {error}; set OPDSL_CXX to a compiler that does") from error


_STOPPED = re.compile(r"signal terminated program|(?i:out of memory|memory exhausted|cannot allocate memory)|bad_alloc")


def _compilation_error(
    compiler: Compiler, command: Sequence[str], source: Path, result: subprocess.CompletedProcess[str]
) -> ToolchainError | OSError:
    errors = [line for line in result.stderr.splitlines() if "error" in line] or result.stderr.splitlines()
    if "No space left on device" in result.stderr:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(source.parent))
    shown = "\n  ".join(errors[:8])
    if result.returncode < 0 or _STOPPED.search(result.stderr):
        return ToolchainError(
            f"{compiler.family} {compiler.version_text} was stopped while it compiled {source.name}: memory, or a limit "
            f"of the shell or the container, did not suffice; see `ulimit -a`, or use smaller tiles.\n  {shown}"
        )
    return CompilationError(
        f"{compiler.family} {compiler.version_text} refused generated code ({source.name}); "
        f"this is a bug of OpDSL: please report it with the kernel.\n  {shown}\nThe command was: {' '.join(command)}"
    )

"""FILE[:KERNEL] on the command line: imports the file and finds its kernels."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from opdsl.harness.errors import CommandError, listed, suggestion
from opdsl.lang.kernel import Kernel
from opdsl.support.errors import OpdslError, shown_file


@dataclass(frozen=True)
class KernelFile:
    """An imported file with its kernels in the order of their definition, imported ones last."""

    path: Path
    module: ModuleType
    kernels: dict[str, Kernel]

    def own(self) -> dict[str, Kernel]:
        """The kernels that are written in the file itself."""
        return {name: kernel for name, kernel in self.kernels.items() if Path(kernel.source.file) == self.path}


def split_target(text: str) -> tuple[str, str]:
    """FILE[:KERNEL] -> file and kernel name, or an empty name."""
    file, _, kernel = text.partition(":")
    return file, kernel


def load_file(name: str) -> KernelFile:
    """Imports a file (or an importable module, as opdsl.ops.softmax). Raises CommandError, without our frames."""
    path = _find(name)
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)  # the file may import its neighbours, as when it is run as a script
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise CommandError(f"{name} is not a Python file", "give a file that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)
    try:
        spec.loader.exec_module(module)
    except OpdslError:
        raise
    except SyntaxError as error:
        raise CommandError(f"{shown_file(str(path))}:{error.lineno}: {error.msg}", code=1) from None
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the user's own program
        raise CommandError(_import_error(path, error), code=1) from None
    found = {value.name: value for value in vars(module).values() if isinstance(value, Kernel)}
    own = sorted(found.values(), key=lambda k: (Path(k.source.file) != path, k.source.first_line))
    return KernelFile(path, module, {kernel.name: kernel for kernel in own})


def _find(name: str) -> Path:
    path = Path(name)
    if path.is_file():
        return path.resolve()
    if path.suffix != ".py" and "/" not in name:
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            spec = None
        if spec is not None and spec.origin is not None and spec.origin.endswith(".py"):
            return Path(spec.origin)
    if path.is_dir():
        raise CommandError(f"{name} is a folder", "give a Python file with kernels, as FILE or FILE:KERNEL")
    folder = path.parent if path.parent.is_dir() else Path()
    files = sorted(str(p) for p in folder.glob("*.py"))
    hint = suggestion(name, files) if files else ""
    raise CommandError(f"there is no file {name!r}", hint or "give a Python file with kernels, as FILE or FILE:KERNEL")


def _import_error(path: Path, error: BaseException) -> str:
    """Where in the user's files it happened, and what."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename) == path]
    line = f":{frames[-1].lineno}" if frames else ""
    return f"{shown_file(str(path))}{line}: the file cannot be imported: {type(error).__name__}: {error}"


def choose_kernels(text: str, several: bool) -> tuple[KernelFile, list[Kernel]]:
    """The kernels that FILE[:KERNEL] means: the named one, or all that the file defines. Where only one can be used,
    a file with several needs the name."""
    name, wanted = split_target(text)
    file = load_file(name)
    shown = shown_file(str(file.path))
    if wanted:
        if wanted not in file.kernels:
            hint = suggestion(wanted, file.kernels)
            raise CommandError(f"{shown} has no kernel {wanted!r}", hint or "a kernel is a function under @od.kernel")
        return file, [file.kernels[wanted]]
    kernels = list((file.own() or file.kernels).values())
    if not kernels:
        raise CommandError(f"{shown} has no kernel", "a kernel is a function under @od.kernel, at the file's top level")
    if len(kernels) > 1 and not several:
        names = [kernel.name for kernel in kernels]
        raise CommandError(f"{shown} has {len(kernels)} kernels: {listed(names)}", f"say which: {name}:{names[0]}")
    return file, kernels

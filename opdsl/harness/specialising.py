"""The options that say for what a kernel is compiled: --dtype, --set, --dim."""

from __future__ import annotations

import argparse
import ast
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from opdsl.harness.errors import CommandError, listed, suggestion
from opdsl.ir.core import Kernel as IrKernel
from opdsl.ir.types import DTYPES, DType
from opdsl.lang.kernel import Kernel


def default_size(kernel: Kernel) -> int:
    """The size of dims of made-up arguments: the more dims, the smaller."""
    count = len(kernel.signature.symbols)
    return 256 if count <= 3 else 64 if count <= 5 else 8


@dataclass(frozen=True)
class Specialisation:
    """A kernel compiled for these dtypes and constexprs. `dims` are the sizes given, bound ones and others."""

    kernel: Kernel
    dtypes: dict[str, DType]
    constexprs: dict[str, Any]
    dims: dict[str, int]
    ir: IrKernel

    @property
    def symbols(self) -> list[str]:
        """The dims whose sizes are known only at run time, in the order of their first use."""
        return [name for name in self.kernel.signature.symbols if name not in self.constexprs]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dtype",
        action="append",
        default=[],
        metavar="T=f32",
        help="the dtype of a dtype variable, or of all of them (--dtype f32)",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="BM=64",
        help="the value of a constexpr: a Python literal, or a name from the file",
    )
    parser.add_argument("--dim", action="append", default=[], metavar="N=1000", help="the size of a dim")


def _pairs(texts: Iterable[str], option: str) -> Iterator[tuple[str, str]]:
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name or not value:
            raise CommandError(f"{option} {text}: expected NAME=VALUE")
        yield name.strip(), value.strip()


class Options:
    """The three options, read and checked against the kernels that they are for."""

    def __init__(
        self, arguments: argparse.Namespace, kernels: Sequence[Kernel], module: ModuleType, all_dims: bool = False
    ) -> None:
        """With `all_dims`, for a run, `--dim` may also give sizes that are no constexprs, and those that it does not give
        get one."""
        self.all_dims = all_dims
        self.dtypes = self._read_dtypes(arguments.dtype)
        self.constexprs = {name: value_of(text, module) for name, text in _pairs(arguments.set, "--set")}
        self.dims = {name: _size(name, text) for name, text in _pairs(arguments.dim, "--dim")}
        self._check_names(kernels)
        if not all_dims:
            self._check_dims(kernels)

    @staticmethod
    def _read_dtypes(texts: Iterable[str]) -> dict[str, list[DType]]:
        """Variable -> its dtypes; "" stands for all variables."""
        found: dict[str, list[DType]] = {}
        for text in texts:
            name, sign, names = text.partition("=")
            if not sign:
                name, names = "", text
            for dtype in names.split(","):
                if dtype not in DTYPES:
                    raise CommandError(f"--dtype {text}: there is no dtype {dtype!r}", suggestion(dtype, DTYPES))
                found.setdefault(name, []).append(DTYPES[dtype])
        return found

    def _check_names(self, kernels: Sequence[Kernel]) -> None:
        """Every name must mean something to one of the kernels."""
        variables = {name for kernel in kernels for name in kernel.signature.dtype_variables}
        constexprs = {name for kernel in kernels for name in kernel.signature.constexprs}
        symbols = {name for kernel in kernels for name in kernel.signature.symbols}
        names = listed(kernel.name for kernel in kernels)
        for what, option, given, known in (
            ("dtype variable", "--dtype", self.dtypes, variables),
            ("constexpr", "--set", self.constexprs, constexprs),
            ("dim", "--dim", self.dims, symbols),
        ):
            for name in given:
                if name and name not in known:
                    hint = suggestion(name, sorted(known)) if known else ""
                    if option == "--dim" and name in constexprs:
                        hint = f"it is a constexpr: --set {name}={self.dims[name]}"
                    raise CommandError(f"{option} {name}: {names} has no {what} {name!r}", hint)

    def _check_dims(self, kernels: Sequence[Kernel]) -> None:
        for name, size in self.dims.items():
            if not any(name in kernel.signature.constexprs for kernel in kernels):
                raise CommandError(
                    f"--dim {name}={size}: {name!r} is a constexpr of none of {listed(k.name for k in kernels)}, so this "
                    "size is an argument at run time"
                    if len(kernels) > 1
                    else f"--dim {name}={size}: {name!r} is no constexpr of {kernels[0].name}, so its size is an "
                    "argument at run time",
                    f"leave --dim {name} out",
                )

    def specialise(self, kernel: Kernel) -> list[Specialisation]:
        """One for each combination of the dtypes given."""
        signature = kernel.signature
        constexprs = {n: v for n, v in self.constexprs.items() if n in signature.constexprs}
        bound = [name for name in signature.constexprs if name in signature.symbols]
        for name in bound:
            if name in self.dims or (self.all_dims and name not in constexprs):
                constexprs[name] = self.dims.get(name, default_size(kernel))
            elif name in constexprs:
                constexprs[name] = _size(name, repr(constexprs[name]))
        self._check_complete(kernel, constexprs)
        choices = [self.dtypes.get(name, self.dtypes.get("", [])) for name in signature.dtype_variables]
        found = []
        for combination in itertools.product(*choices):
            dtypes = dict(zip(signature.dtype_variables, combination, strict=True))
            values = kernel.check_constexprs(constexprs, {})
            ir = kernel.specialise(dtypes, constexprs)
            dims = {name: size for name, size in self.dims.items() if name in signature.symbols}
            dims |= {name: values[name] for name in bound}
            found.append(Specialisation(kernel, dtypes, values, dims, ir))
        return found

    def _check_complete(self, kernel: Kernel, constexprs: dict[str, Any]) -> None:
        """Names every option that is missing at once."""
        signature = kernel.signature
        missing = []
        for name in signature.dtype_variables:
            if name not in self.dtypes and "" not in self.dtypes:
                missing.append((f"the dtype of {name!r}", f"--dtype {name}=f32"))
        for name in signature.constexprs:
            if name not in constexprs and name not in signature.defaults:
                if name in signature.symbols:
                    missing.append((f"the size of {name!r}", f"--dim {name}=1000"))
                else:
                    missing.append((f"the constexpr {name!r}", f"--set {name}=..."))
        if missing:
            raise CommandError(
                f"{kernel.name} is compiled for {listed(what for what, _ in missing)}, which {_is(missing)} not given",
                f"add {' '.join(flag for _, flag in missing)}",
            )


def _is(words: Sequence[object]) -> str:
    return "is" if len(words) == 1 else "are"


def _size(name: str, text: str) -> int:
    try:
        size = int(text)
    except ValueError:
        size = -1
    if size < 0:
        raise CommandError(f"{name}={text}: the size of a dim is a whole number of at least 0")
    return size


def value_of(text: str, module: ModuleType) -> Any:
    """A Python literal, a dtype (f32, od.f32), or a name of the file."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        pass
    value: Any = module
    for part in text.split("."):
        value = getattr(value, part, None)
    if value is not None:
        return value
    if text in DTYPES:
        return DTYPES[text]
    names = [n for n in vars(module) if not n.startswith("_")]
    raise CommandError(
        f"--set ...={text}: {text!r} is neither a Python literal nor a name of {module.__name__}",
        suggestion(text, names) if text.isidentifier() else "quote strings twice in a shell: --set NAME='\"text\"'",
    )

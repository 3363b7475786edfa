"""`opdsl demo`: compiles example kernels, checks them against their references, and shows their speed beside NumPy."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import opdsl
from opdsl.cli.timing import Timing, shown_time, time_alternately
from opdsl.harness.arguments import Comparison, Prepared, compare, find_reference, prepare, reference_arguments
from opdsl.harness.errors import CommandError
from opdsl.harness.loading import KernelFile, load_file
from opdsl.harness.specialising import Options


@dataclass(frozen=True)
class Case:
    """A kernel of a file with sizes and scalars, in words as `opdsl run` takes them."""

    kernel: str
    dims: str
    set: str = ""
    arg: str = ""
    file: str = ""  # where it is not the kernel's name

    @property
    def path(self) -> str:
        return f"{self.file or self.kernel}.py"


ACCEPTANCE = (
    Case("add", "N=4000000"),
    Case("softmax", "M=4096 N=1024"),
    Case("softmax_online", "M=4096 N=1024", file="softmax"),
    Case("layer_norm", "M=4096 N=1024", arg="eps=1e-5"),
    Case("dropout", "N=4000000", arg="p=0.3 seed=7"),
    Case("embedding", "V=8192 D=512 N=8192"),
    Case("embedding_backward", "V=8192 D=512 N=8192", file="embedding"),
    Case("matmul", "M=1024 K=1024 N=1024"),
    Case("conv2d", "B=1 H=56 W=56 C=64 KH=3 KW=3 F=64 OH=56 OW=56", set="padding=1"),
    Case("flash_attention", "B=1 H=8 HK=8 M=1024 N=1024 D=64", set="causal=True", arg="scale=0.125"),
)

EXAMPLES = (
    Case("vector_add", "N=4000000"),
    Case("bias_gelu", "M=2048 N=1024"),
    Case("row_softmax", "M=4096 N=1024"),
    Case("linear", "M=1024 K=1024 N=1024", set="activation=relu"),
    Case("histogram", "N=4000000 BINS=256", arg="low=-4.0 high=4.0"),
    Case("heat_step", "H=2048 W=2048", file="stencil"),
    Case("recurrence", "M=1024 N=1024"),
)


def _numpy_dropout(x: Any, p: float, seed: int) -> Callable[[], object]:
    generator = np.random.default_rng(seed)
    return lambda: np.where(generator.random(x.shape, np.float32) >= p, x / np.float32(1 - p), np.float32(0))


def _numpy_embedding_backward(dy: Any, ids: Any, dtable: Any) -> Callable[[], object]:
    return lambda: np.add.at(dtable, ids, dy)


# What NumPy does where the file's reference cannot be called with the kernel's inputs alone.
PEERS: dict[str, Callable[[dict[str, Any]], Callable[[], object]]] = {
    "dropout": lambda a: _numpy_dropout(a["x"], a["p"], a["seed"]),
    "embedding_backward": lambda a: _numpy_embedding_backward(a["dy"], a["ids"], a["dtable"].copy()),
    "histogram": lambda a: lambda: np.histogram(a["x"], len(a["counts"]), (a["low"], a["high"])),
}


@dataclass(frozen=True)
class Row:
    """One kernel's results. `checked` says what with: its reference, or the interpreter."""

    case: Case
    shapes: str
    checked: str
    comparison: Comparison
    first_seconds: float
    ours: Timing
    numpy: Timing

    @property
    def ratio(self) -> float:
        return self.numpy.fastest / self.ours.fastest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--target", default="cpu", help="cpu, cpu:avx2, ... (default: cpu)")
    parser.add_argument("--json", action="store_true", help="print JSON, one line for each kernel")


def find_cases() -> tuple[Path, tuple[Case, ...]]:
    """The acceptance kernels where the checkout has them beside it, else the examples that come with OpDSL."""
    package = Path(opdsl.__file__).resolve().parent
    checkout = package.parent
    places = (
        (checkout.parent / "shared" / "kernels", ACCEPTANCE),
        (checkout / "examples", EXAMPLES),
        (package / "examples", EXAMPLES),
    )
    for folder, cases in places:
        if all((folder / case.path).is_file() for case in cases):
            return folder, cases
    raise CommandError("there are no example kernels here", "run the demo from a checkout: make demo", code=1)


def run(arguments: argparse.Namespace) -> int:
    from opdsl.targets.base import find_target

    try:
        target = find_target(arguments.target)
    except ValueError as error:
        raise CommandError(f"--target {arguments.target}: {error}") from None
    folder, cases = find_cases()
    if not arguments.json:
        print(_heading(target.name, folder))
    rows = []
    for place, case in enumerate(cases, 1):
        if sys.stderr.isatty():
            print(f"\r\033[K{place} of {len(cases)}: {case.kernel}", end="", file=sys.stderr, flush=True)
        row = run_case(folder, case, arguments.target)
        rows.append(row)
        if arguments.json:
            print(json.dumps(_record(row)))
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)
    if not arguments.json:
        show_table(rows)
    wrong = [row.case.kernel for row in rows if not row.comparison.good]
    if wrong:
        print(f"WRONG: {', '.join(wrong)}", file=sys.stderr)
    elif not arguments.json:
        print(f"All {len(rows)} kernels agree with their references.")
    return 1 if wrong else 0


def _heading(target: str, folder: Path) -> str:
    from opdsl import _runtime
    from opdsl.support import toolchain

    compiler = toolchain.find_compiler()
    threads = _runtime.get_num_threads()
    return (
        f"The kernels of {folder.parent.name}/{folder.name} on {target}, {threads} thread{'s' if threads > 1 else ''}, "
        f"{compiler.family} {compiler.version_text}; NumPy {np.__version__} with all its threads\n"
    )


def run_case(folder: Path, case: Case, target: str) -> Row:
    """Compiles, checks, times."""
    file = load_file(str(folder / case.path))
    kernel = file.kernels[case.kernel]
    dtype = ["f32"] if kernel.signature.dtype_variables else []
    words = argparse.Namespace(dtype=dtype, dim=case.dims.split(), set=case.set.split(), arg=case.arg.split(), seed=0)
    (one,) = Options(words, [kernel], file.module, all_dims=True).specialise(kernel)
    prepared = prepare(one, words)
    start = time.perf_counter()
    prepared.call(target)
    first = time.perf_counter() - start
    checked, comparison = _check(file, prepared)
    times = time_alternately({"ours": lambda: prepared.call(target), "numpy": _peer(file, prepared)})
    return Row(case, prepared.shapes_text(), checked, comparison, first, times["ours"], times["numpy"])


def _check(file: KernelFile, prepared: Prepared) -> tuple[str, Comparison]:
    """Against the file's reference; without one, against the interpreter."""
    reference = find_reference(file, prepared.specialisation.kernel.name)
    if reference is not None:
        try:
            return "reference", compare(reference, prepared)
        except CommandError:
            pass
    found = {name: array.copy() for name, array in prepared.outputs().items()}
    prepared.clear_outputs()
    prepared.call("interp")
    error = 0.0
    for name, array in prepared.outputs().items():
        size = float(np.max(np.abs(array), initial=0)) or 1.0
        error = max(error, float(np.max(np.abs(found[name].astype(np.float64) - array), initial=0)) / size)
    return "interpreter", Comparison(error, 4 * float(np.finfo(np.float32).eps))


def _peer(file: KernelFile, prepared: Prepared) -> Callable[[], object]:
    name = prepared.specialisation.kernel.name
    if name in PEERS:
        return PEERS[name](prepared.named())
    reference = find_reference(file, name)
    assert reference is not None
    given = reference_arguments(reference, prepared)
    return lambda: reference(**given)


def _record(row: Row) -> dict[str, Any]:
    return {
        "kernel": row.case.kernel,
        "arguments": row.shapes,
        "checked_with": row.checked,
        "error": row.comparison.error,
        "allowed": row.comparison.allowed,
        "first_ms": row.first_seconds * 1e3,
        "ms_min": row.ours.fastest * 1e3,
        "numpy_ms_min": row.numpy.fastest * 1e3,
        "times_numpy": row.ratio,
    }


COLUMNS = ("kernel", "sizes", "error", "", "first call", "OpDSL", "NumPy", "times as fast")


def _cells(row: Row) -> list[str]:
    return [
        row.case.kernel,
        row.case.dims,
        f"{row.comparison.error:.1e}",
        "ok" if row.comparison.good else "WRONG",
        shown_time(row.first_seconds),
        shown_time(row.ours.fastest),
        shown_time(row.numpy.fastest),
        f"{row.ratio:.1f}",
    ]


def show_table(rows: list[Row]) -> None:
    """With rich where it is installed and the output is a terminal, else as plain text."""
    cells = [_cells(row) for row in rows]
    if sys.stdout.isatty():
        try:
            from rich.console import Console
            from rich.table import Table
        except ImportError:
            pass
        else:
            table = Table()
            for place, column in enumerate(COLUMNS):
                table.add_column(column, justify="left" if place in (0, 1, 3) else "right")
            for line in cells:
                table.add_row(*line)
            Console().print(table)
            return
    widths = [max(len(line[place]) for line in (COLUMNS, *cells)) for place in range(len(COLUMNS))]
    for line in (list(COLUMNS), ["-" * width for width in widths], *cells):
        padded = (
            text.ljust(width) if place in (0, 1, 3) else text.rjust(width)
            for place, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        print("  ".join(padded).rstrip())
    print()

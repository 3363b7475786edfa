"""Records of tuning: text files beside the kernels' files, written by `opdsl tune`, read by launches.

A launch looks for a record on its long way only, once for each set of sizes; it measures nothing. Which record counts
is a function of the call, the target and the machine's name alone, never of the number of threads, so that results stay
the same bits whatever that is.
"""

from __future__ import annotations

import ast
import json
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opdsl.lang.config import OPTIONS, Config, shown
from opdsl.support.errors import OpdslError
from opdsl.support.knobs import knobs

if TYPE_CHECKING:
    from opdsl.ir.types import DType
    from opdsl.lang.kernel import Kernel

FORMAT = 1
SUFFIX = ".tuning.json"
FARTHEST = 8.0  # a record counts for sizes up to so many times larger or smaller than those it was measured with


class TuningWarning(UserWarning):
    """A file of records cannot be used: said once."""


class RecordError(OpdslError, ValueError):
    """A file of records is not as it must be, or something cannot be recorded."""


@dataclass(frozen=True)
class Trial:
    """What one configuration took, or why it could not be measured. Its values are texts: they are for people."""

    values: Mapping[str, str]
    ms_min: float | None
    ms_median: float | None
    problem: str = ""


@dataclass(frozen=True)
class Record:
    """The best configuration of a kernel for one target, one set of dtypes and one set of sizes.

    `given` are the constexprs that were fixed, as text. `noise` is how far two timings of one and the same configuration
    lay apart, as a part of them. `source` is the digest of the kernel's text when it was measured.
    """

    kernel: str
    target: str
    device: str
    dtypes: Mapping[str, str]
    sizes: Mapping[str, int]
    given: Mapping[str, str]
    constexprs: Mapping[str, Any]
    options: Mapping[str, int]
    ms_min: float
    default_ms_min: float | None
    noise: float
    threads: int | None
    date: str
    versions: Mapping[str, str]
    source: str
    trials: Sequence[Trial] = field(default_factory=tuple)

    @property
    def config(self) -> Config:
        return Config({**self.constexprs, **self.options})

    @property
    def place(self) -> tuple[object, ...]:
        """Two records with the same place are measurements of the same thing: the later one replaces the other."""
        pairs = (tuple(sorted(part.items())) for part in (self.dtypes, self.sizes, self.given))
        return (self.kernel, self.target, self.device, *pairs)


# --- files -----------------------------------------------------------------------------------------------------------


def records_file(kernel: Kernel, folder: Path | None = None) -> Path:
    """Where the records of a kernel are: beside its file, or in a folder of records."""
    source = Path(kernel.source.file)
    return (folder or source.parent) / (source.stem + SUFFIX)


def files_for(kernel: Kernel) -> list[Path]:
    """The files in which a launch looks, the first first: those of the folder OPDSL_TUNING, then the kernel's own."""
    chosen = knobs.tuning
    if chosen == "0":
        return []
    return [*([records_file(kernel, Path(chosen))] if chosen else []), records_file(kernel)]


def read(path: Path) -> list[Record]:
    """All records of a file. Raises RecordError, OSError."""
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise RecordError(f"{path}: no JSON: {error}") from None
    if not isinstance(content, dict) or content.get("format") != FORMAT or not isinstance(content.get("records"), list):
        raise RecordError(f"{path}: expected records of tuning of format {FORMAT}; measure anew by opdsl tune")
    return [_record(path, number, item) for number, item in enumerate(content["records"], 1)]


def _record(path: Path, number: int, item: Any) -> Record:
    try:
        trials = [Trial(**trial) for trial in item.pop("trials", [])]
        item["constexprs"] = {name: _from_json(value) for name, value in item["constexprs"].items()}
        record = Record(**item, trials=tuple(trials))
        if any(name not in OPTIONS for name in record.options):
            raise ValueError(f"its options are {', '.join(record.options)}")
        if any(type(size) is not int for size in record.sizes.values()):
            raise ValueError("a size is no whole number")
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise RecordError(f"{path}: record {number} is not as it must be: {error}") from None
    return record


def merged(old: Sequence[Record], new: Sequence[Record]) -> list[Record]:
    """The old records, those measured anew replaced, sorted so that files change little from run to run."""
    found = {record.place: record for record in (*old, *new)}
    return [found[place] for place in sorted(found, key=repr)]


def write(path: Path, records: Sequence[Record]) -> None:
    """Writes a file of records as text that shows in a review what has changed: a line for each trial."""
    lines = ["{", f' "format": {FORMAT},', ' "records": [']
    for number, record in enumerate(records):
        lines += _lines(record)
        lines[-1] += "," if number + 1 < len(records) else ""
    text = "\n".join([*lines, " ]", "}", ""])
    staging = path.with_name(path.name + ".new")
    staging.write_text(text)
    staging.replace(path)


def _lines(record: Record) -> list[str]:
    """One record as JSON, a line for each of its parts."""
    parts = []
    for name, value in vars(record).items():
        if name == "trials":
            trials = ",\n    ".join(json.dumps(_trial_as_json(trial)) for trial in value)
            parts.append(f'   "trials": [\n    {trials}\n   ]')
        else:
            if name == "constexprs":
                value = {key: _to_json(key, each) for key, each in value.items()}
            parts.append(f'   "{name}": {json.dumps(value)}')
    return ["  {", *",\n".join(parts).split("\n"), "  }"]


def _trial_as_json(trial: Trial) -> dict[str, Any]:
    return {name: value for name, value in vars(trial).items() if name != "problem" or value}


def _to_json(name: str, value: Any) -> Any:
    """Numbers and booleans as they are; other literals as a text under "python"."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    text = repr(value)
    try:
        if ast.literal_eval(text) == value:
            return {"python": text}
    except (ValueError, SyntaxError):
        pass
    raise RecordError(
        f"the value {shown(value)} of {name} cannot be written into a record: only numbers, strings, booleans and tuples "
        f"of them can; give it by --set {name}=..., then it is the call that says so"
    )


def check_recordable(config: Config) -> None:
    """Raises RecordError where a configuration could not be written down."""
    for name, value in config.constexprs.items():
        _to_json(name, value)


def _from_json(value: Any) -> Any:
    return ast.literal_eval(value["python"]) if isinstance(value, dict) else value


def source_digest(kernel: Kernel) -> str:
    """Changes when the kernel's own text does."""
    import hashlib

    node = kernel.source.node
    lines = kernel.source.lines[node.lineno - 1 : node.end_lineno]
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:16]


# --- what a launch asks ----------------------------------------------------------------------------------------------


class Book:
    """The records of one kernel for one target."""

    def __init__(self, kernel: Kernel, target: str, records: Sequence[Record]) -> None:
        self.kernel = kernel
        self.target = target
        self.records = list(records)

    def choose(self, dtypes: Mapping[str, DType], sizes: Mapping[str, int], given: Mapping[str, Any]) -> Config | None:
        """The configuration for a call, or None: the kernel's defaults. `given` are the constexprs of the call.

        A record counts where its target and dtypes are the call's, every size is at most FARTHEST times as large or
        small, and the call sets none of the constexprs that it would. Of several, one of this machine comes first, then
        one measured with the constexprs of the call, then the one with the nearest sizes.
        """
        names = {variable: dtype.name for variable, dtype in dtypes.items()}
        texts = {name: shown(value) for name, value in given.items()}
        best: tuple[tuple[float, ...], Record] | None = None
        for number, record in enumerate(self.records):
            if dict(record.dtypes) != names or not record.constexprs.keys().isdisjoint(given):
                continue
            distance = _distance(record.sizes, sizes)
            if distance is None:
                continue
            elsewhere = record.device != device_name(self.target)
            differences = len(set(texts.items()) ^ set(record.given.items()))
            rank = (float(elsewhere), float(differences), distance, float(number))
            if best is None or rank < best[0]:
                best = (rank, record)
        return None if best is None else best[1].config


def _distance(measured: Mapping[str, int], sizes: Mapping[str, int]) -> float | None:
    """How far sizes are from those of a record, summed in powers of two; None where one is too far."""
    if measured.keys() != sizes.keys():
        return None
    total = 0.0
    for name, size in sizes.items():
        ratio = math.log2((size + 1) / (measured[name] + 1))
        if abs(ratio) > math.log2(FARTHEST):
            return None
        total += abs(ratio)
    return total


def record_target(name: str) -> str:
    """A target with what code is made for here: cpu -> cpu:avx512, triton -> triton:sm_90. Raises ValueError."""
    from opdsl.targets.base import find_target

    target = find_target(name)
    arch = getattr(target, "arch", None)
    return target.name if arch is None else f"{target.name.partition(':')[0]}:{arch.name}"


def book(kernel: Kernel, target_name: str) -> Book | None:
    """The records that launches of a kernel on a target may use, or None where there are none. Raises ValueError where
    there is no such target."""
    target = record_target(target_name)
    found = [
        record
        for path in files_for(kernel)
        for record in _usable(path)
        if record.kernel == kernel.name and record.target == target and _fits(kernel, record, path)
    ]
    return Book(kernel, target, found) if found else None


def _fits(kernel: Kernel, record: Record, path: Path) -> bool:
    """Whether the kernel still has what the record sets."""
    signature = kernel.signature
    missing = [n for n in record.constexprs if n not in signature.constexprs or n in signature.symbols]
    if missing:
        _warn(f"{path}: a record of {kernel.name} sets {', '.join(missing)}, which it has no more; measure it anew")
    return not missing


@cache
def _warn(text: str) -> None:
    warnings.warn(text, TuningWarning, stacklevel=2)


_read: dict[Path, list[Record]] = {}


def _usable(path: Path) -> list[Record]:
    """The records of a file, read once in a process; none, with one warning, where it cannot be read."""
    found = _read.get(path)
    if found is None:
        try:
            found = read(path)
        except (FileNotFoundError, NotADirectoryError):
            found = []
        except (RecordError, OSError) as error:
            _warn(f"records of tuning are left out: {error}")
            found = []
        _read[path] = found
    return found


def forget() -> None:
    """Files are read again by kernels that are launched for the first time, or after `Kernel.forget_launches`."""
    _read.clear()


@cache
def device_name(target: str) -> str:
    """The model of the processor or of the GPU that a target runs on."""
    from opdsl.runtime.devices import device_for

    return device_for(target).model()

"""`opdsl tune`: measures a kernel's configurations on this machine and records the best. docs/tuning.md is its page."""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from opdsl.harness import arguments as made_up
from opdsl.harness import specialising
from opdsl.harness.arguments import Prepared, compare, find_reference, prepare
from opdsl.harness.errors import CommandError, listed
from opdsl.harness.loading import KernelFile, choose_kernels
from opdsl.harness.specialising import Options, Specialisation
from opdsl.lang.config import OPTIONS, Config, shown
from opdsl.lang.kernel import Kernel
from opdsl.runtime import tuning_records as records
from opdsl.runtime.devices import device_for
from opdsl.runtime.tuning_records import Record
from opdsl.support.errors import CompileError
from opdsl.tuning.search import Outcome, Problem, search

if TYPE_CHECKING:
    from opdsl.runtime.devices import Device


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kernel", metavar="FILE[:KERNEL]", help="a Python file, and one of its kernels")
    parser.add_argument("--target", default="cpu", help="cpu, cpu:avx2, ..., triton (default: cpu)")
    specialising.add_arguments(parser)
    made_up.add_arguments(parser)
    parser.add_argument(
        "--sizes", action="append", default=[], metavar="M=64,N=128", help="sizes of dims; each --sizes is tuned apart"
    )
    parser.add_argument(
        "--try", action="append", default=[], dest="choices", metavar="BM=64,128",
        help="values to try instead of the declared configurations; several --try: every combination",
    )  # fmt: skip
    parser.add_argument("--threads", type=int, help="threads of a launch")
    parser.add_argument("--seconds", type=float, default=0.3, help="for each configuration, on average (default: 0.3)")
    parser.add_argument("--records", type=Path, metavar="DIR", help="folder for the record (default: beside the file)")
    parser.add_argument("--dry-run", action="store_true", help="measure, and write nothing")
    parser.add_argument("--show", action="store_true", help="measure nothing: show what is recorded")
    parser.add_argument("--json", action="store_true", help="print the records as JSON")


def run(arguments: argparse.Namespace) -> int:
    from opdsl.support.knobs import knobs

    file, (kernel,) = choose_kernels(arguments.kernel, several=False)
    path = records.records_file(kernel, arguments.records)
    if arguments.show:
        return _show(kernel, path, arguments.json)
    target = _target(arguments.target)
    device = device_for(target)
    device.check()
    if arguments.seconds <= 0:
        raise CommandError(f"--seconds {arguments.seconds}: expected a positive number")
    if arguments.threads is not None:
        from opdsl.runtime.threads import set_num_threads

        if arguments.threads < 1:
            raise CommandError(f"--threads {arguments.threads}: expected a whole number from 1 up")
        set_num_threads(arguments.threads)
    configs = _configs(arguments.choices, kernel, target, file)
    _check_writable(path, arguments.dry_run)
    found: list[Record] = []
    with knobs.scope(tuning="0"):
        for one in _specialisations(arguments, file, kernel, configs):
            record = _tune(arguments, file, one, target, device, configs)
            found.append(record)
            if not arguments.json:
                print(_shown(record))
            if not arguments.dry_run:  # what has been measured is kept, whatever becomes of the rest
                _add(path, record)
    if arguments.json:
        print(json.dumps([_as_json(record) for record in found]))
    elif not arguments.dry_run:
        print(f"recorded in {path}; launches use it from now on")
    return 0


def _target(name: str) -> str:
    """The target's whole name, as cpu:avx512."""
    try:
        return records.record_target(name)
    except ValueError as error:
        raise CommandError(f"--target {name}: {error}") from None


def _configs(choices: list[str], kernel: Kernel, target: str, file: KernelFile) -> list[Config]:
    """What is measured: --try, or what the kernel declares for this target."""
    if choices:
        return list(_combinations(choices, kernel, file))
    if not kernel.configs:
        free = [name for name in kernel.signature.constexprs if name not in kernel.signature.symbols]
        example = free[0] if free else "num_warps"
        raise CommandError(
            f"{kernel.name} declares no configurations",
            f"write @od.kernel(configs=[od.Config({example}=64), ...]), or give --try {example}=64,128",
        )
    found = [config for config in kernel.configs if config.is_for(target)]
    if not found:
        raise CommandError(
            f"none of the {len(kernel.configs)} configurations of {kernel.name} is for {target}",
            "declare one without num_warps and the like, or give --try",
        )
    return found


def _combinations(choices: list[str], kernel: Kernel, file: KernelFile) -> Iterator[Config]:
    names, values = [], []
    for text in choices:
        name, sign, rest = text.partition("=")
        known = [n for n in kernel.signature.constexprs if n not in kernel.signature.symbols]
        if not sign or not rest or name not in (*known, *OPTIONS):
            raise CommandError(
                f"--try {text}: expected NAME=VALUE,VALUE",
                f"the constexprs of {kernel.name} are {listed(known) or 'none'}; the options {listed(OPTIONS)}",
            )
        names.append(name)
        values.append([specialising.value_of(part, file.module) for part in rest.split(",")])
    for combination in itertools.product(*values):
        config = Config(dict(zip(names, combination, strict=True)))
        records.check_recordable(config)
        yield config


def _check_writable(path: Path, dry_run: bool) -> None:
    """Before anything is measured."""
    if dry_run:
        return
    if not path.parent.is_dir():
        raise CommandError(f"there is no folder {path.parent} for the record", "make it, or give another --records DIR")
    import os

    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise CommandError(f"{path} cannot be written", "give a folder by --records DIR, or --dry-run", code=1)
    if path.exists():
        records.read(path)  # an error now, rather than after the measurements


def _specialisations(
    arguments: argparse.Namespace, file: KernelFile, kernel: Kernel, configs: list[Config]
) -> Iterator[Specialisation]:
    """One for each set of sizes and each combination of dtypes."""
    tuned = dict.fromkeys(name for config in configs for name in config.constexprs)
    for name in tuned:
        if any(text.partition("=")[0].strip() == name for text in arguments.set):
            raise CommandError(f"--set {name}=...: the configurations set {name}, too", f"leave --set {name} out")
    for sizes in arguments.sizes or [""]:
        dims = [*arguments.dim, *(part for part in sizes.split(",") if part)]
        words = argparse.Namespace(dtype=arguments.dtype, set=arguments.set, dim=dims)
        options = Options(words, [kernel], file.module, all_dims=True)
        yield from _first_that_compiles(options, kernel, configs)


def _first_that_compiles(options: Options, kernel: Kernel, configs: list[Config]) -> list[Specialisation]:
    """The kernel with its defaults, or where it has none, or they cannot be compiled, with a configuration: arguments do
    not depend on which."""
    fixed, failure = dict(options.constexprs), None
    for config in (Config(), *configs):
        options.constexprs = {**fixed, **config.constexprs}
        try:
            return options.specialise(kernel)
        except CompileError as error:
            failure = failure or error
        except CommandError:
            if config.constexprs or not configs[0].constexprs:
                raise
    assert failure is not None
    raise failure


def _given(one: Specialisation, arguments: argparse.Namespace) -> dict[str, Any]:
    """The constexprs that the command line fixes."""
    names = {text.partition("=")[0].strip() for text in arguments.set}
    bound = one.kernel.signature.symbols
    return {name: value for name, value in one.constexprs.items() if name in names and name not in bound}


def _tune(
    arguments: argparse.Namespace,
    file: KernelFile,
    one: Specialisation,
    target: str,
    device: Device,
    configs: list[Config],
) -> Record:
    prepared = prepare(one, arguments)
    given = _given(one, arguments)
    problem = Problem(one.kernel, target, prepared.values, prepared.written, given, _check(file, prepared))
    progress = _progress()
    try:
        outcome = search(problem, configs, device, arguments.seconds, progress)
    finally:
        progress("")
    return _record(one, prepared, given, target, device, outcome)


def _check(file: KernelFile, prepared: Prepared) -> Callable[[list[Any]], str] | None:
    """Compares with the `reference` of the file, where there is one that can be used."""
    reference = find_reference(file, prepared.specialisation.kernel.name)
    if reference is None:
        return None
    outputs = list(prepared.outputs().values())

    def check(found: list[Any]) -> str:
        for output, result in zip(outputs, found, strict=True):
            output[...] = result
        comparison = compare(reference, prepared)
        if comparison.good:
            return ""
        return f"wrong: its error is {comparison.error:.2g} of the largest element, allowed {comparison.allowed:.2g}"

    try:
        check([np.array(output) for output in outputs])
    except Exception:  # noqa: BLE001 - the user's function does not take these arguments: configurations check each other
        return None
    return check


def _record(
    one: Specialisation, prepared: Prepared, given: dict[str, Any], target: str, device: Device, outcome: Outcome
) -> Record:
    from importlib.metadata import version

    return Record(
        kernel=one.kernel.name,
        target=target,
        device=device.model(),
        dtypes={name: dtype.name for name, dtype in one.dtypes.items()},
        sizes=prepared.sizes,
        given={name: shown(value) for name, value in given.items()},
        constexprs=outcome.best.constexprs,
        options=outcome.best.options,
        ms_min=round(outcome.ms_min, 6),
        default_ms_min=None if outcome.default_ms_min is None else round(outcome.default_ms_min, 6),
        noise=round(outcome.noise, 4),
        threads=device.threads(),
        date=time.strftime("%Y-%m-%d", time.gmtime()),
        versions={"opdsl": version("opdsl"), **device.versions()},
        source=records.source_digest(one.kernel),
        trials=outcome.trials,
    )


def _add(path: Path, record: Record) -> None:
    old = records.read(path) if path.exists() else []
    try:
        records.write(path, records.merged(old, [record]))
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror or error}", code=1) from None
    records.forget()


# --- showing ---------------------------------------------------------------------------------------------------------


def _as_json(record: Record) -> dict[str, Any]:
    found = {**vars(record), "trials": [vars(trial) for trial in record.trials]}
    return json.loads(json.dumps(found, default=shown))  # type: ignore[no-any-return]


def _words(pairs: Any) -> str:
    return " ".join(f"{name}={value}" for name, value in pairs.items())


def _shown(record: Record) -> str:
    """The record with its trials, the fastest first."""
    about = "  ".join(filter(None, (_words(record.dtypes), _words(record.sizes), _words(record.given))))
    threads = f", {record.threads} thread{'s' if record.threads != 1 else ''}" if record.threads else ""
    lines = [f"{record.kernel} on {record.target} ({record.device}{threads})  {about}"]
    chosen = {**record.constexprs, **record.options}
    width = max((len(_words(trial.values)) for trial in record.trials), default=0)
    for trial in record.trials:
        mark = "->" if trial.values == {name: shown(value) for name, value in chosen.items()} else "  "
        times = trial.problem or f"{trial.ms_min:10.4f} ms at best {trial.ms_median:10.4f} median"
        lines.append(f"  {mark} {_words(trial.values):<{width}}  {times}")
    if record.default_ms_min is not None:
        gain = record.default_ms_min / record.ms_min
        lines.append(f"  {gain:.2f} times as fast as the kernel's defaults; noise {100 * record.noise:.1f} %")
    return "\n".join(lines)


def _show(kernel: Kernel, path: Path, as_json: bool) -> int:
    if not path.is_file():
        raise CommandError(f"nothing is recorded for {kernel.name}: there is no {path}", code=1)
    found = [record for record in records.read(path) if record.kernel == kernel.name]
    if as_json:
        print(json.dumps([_as_json(record) for record in found]))
        return 0
    digest = records.source_digest(kernel)
    for record in found:
        print(_shown(record))
        changed = "" if record.source == digest else "; the kernel has changed since: measure it anew"
        print(f"  {record.date}, {', '.join(f'{name} {value}' for name, value in record.versions.items())}{changed}")
    return 0


def _progress() -> Callable[[str], None]:
    """Shows the progress on one line of a terminal, and nothing elsewhere."""
    if not sys.stderr.isatty():
        return lambda text: None
    return lambda text: print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)

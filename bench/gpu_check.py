"""Everything that needs a GPU, in one go and under eight minutes: values, tuning, benchmarks.

    python -m opdsl.bench.gpu_check --out results     # on a machine with an NVIDIA GPU, PyTorch and Triton 3.6 or newer
    python -m opdsl.bench.gpu_check --dry-run         # what of it needs no GPU: everything is compiled, the harness runs

It needs an installed OpDSL (or a checkout with the module built in it: pip install -e .), and nothing from outside. Stages:

    values    every operator, acceptance kernel and example in every dtype against float64 (in worker processes)
    compile   every configuration of the benchmarks' kernels (in worker processes, into the cache)
    tune      those configurations are measured; the records go to OUT and are used from there on
    bench     `opdsl bench all --target triton`: beside torch and hand-written Triton, with the roofs

OUT gets gpu_values.jsonl, kernels.tuning.json, gpu_bench.jsonl and gpu_summary.txt. The exit code is 1 if anything is
wrong, fails, or was cut short. A stage that takes too long is cut, so that the later ones have their time.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from opdsl.bench.gpu.jobs import Job, Outcome, arguments_for, config_jobs, value_jobs

STAGES = ("values", "compile", "tune", "bench")
# The part of the time after which a stage is cut, beginning from the start of everything.
SHARES = {"values": 0.45, "compile": 0.55, "tune": 0.72, "bench": 1.0}
# What is tuned: kernel, dtype, sizes, fixed constexprs, scalars. The benchmarks' core shapes, or ones near them.
TUNED: tuple[tuple[str, str, dict[str, int], dict[str, Any], tuple[float, ...]], ...] = (
    ("matmul", "bf16", {"M": 8192, "K": 8192, "N": 8192}, {}, ()),
    ("matmul", "bf16", {"M": 4096, "K": 4096, "N": 4096}, {}, ()),
    ("matmul", "f16", {"M": 8192, "K": 8192, "N": 8192}, {}, ()),
    ("matmul", "f16", {"M": 4096, "K": 4096, "N": 4096}, {}, ()),
    ("attention", "bf16", {"B": 4, "H": 32, "M": 4096, "D": 64, "N": 4096}, {"causal": True}, (0.125,)),
    ("attention", "bf16", {"B": 4, "H": 32, "M": 4096, "D": 128, "N": 4096}, {"causal": True}, (0.0884,)),
    ("attention", "f16", {"B": 4, "H": 32, "M": 4096, "D": 64, "N": 4096}, {"causal": False}, (0.125,)),
    ("softmax", "f32", {"M": 32768, "N": 1024}, {}, ()),
    ("softmax", "f32", {"M": 8192, "N": 8192}, {}, ()),
    ("softmax", "bf16", {"M": 32768, "N": 1024}, {}, ()),
    ("softmax", "bf16", {"M": 8192, "N": 8192}, {}, ()),
    ("layer_norm", "f32", {"M": 32768, "N": 1024}, {}, (1e-5,)),
    ("layer_norm", "f32", {"M": 8192, "N": 8192}, {}, (1e-5,)),
    ("layer_norm", "bf16", {"M": 32768, "N": 1024}, {}, (1e-5,)),
    ("layer_norm", "bf16", {"M": 8192, "N": 8192}, {}, (1e-5,)),
    ("rms_norm", "f32", {"M": 32768, "N": 1024}, {}, (1e-5,)),
    ("rms_norm", "f32", {"M": 8192, "N": 8192}, {}, (1e-5,)),
    ("rms_norm", "bf16", {"M": 32768, "N": 1024}, {}, (1e-5,)),
    ("rms_norm", "bf16", {"M": 8192, "N": 8192}, {}, (1e-5,)),
    ("add", "f32", {"N": 1 << 26}, {}, ()),
    ("add", "bf16", {"N": 1 << 26}, {}, ()),
    ("gelu", "f32", {"N": 1 << 26}, {}, ()),
    ("gelu", "bf16", {"N": 1 << 26}, {}, ()),
    ("copy", "f32", {"N": 1 << 26}, {}, ()),
    ("embedding", "bf16", {"N": 65536, "V": 50257, "D": 1024}, {}, ()),
)


@dataclass
class Check:
    """One run: its options, its clock, what went wrong."""

    dry: bool
    target: str
    out: Path
    seconds: float
    processes: int
    started: float = field(default_factory=time.monotonic)
    problems: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        line = f"[{time.monotonic() - self.started:5.0f} s] {text}"
        print(line, flush=True)
        self.lines.append(line)

    def fail(self, text: str) -> None:
        self.problems.append(text)
        self.say(f"PROBLEM: {text}")

    def deadline(self, stage: str) -> float:
        """As time.monotonic() has it. A dry run takes the time it needs."""
        return self.started + (1e9 if self.dry else self.seconds * SHARES[stage])


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="gpu_check", description="Values, tuning and benchmarks on the GPU at hand.")
    parser.add_argument("--dry-run", action="store_true", help="everything that needs no GPU")
    parser.add_argument("--out", type=Path, default=Path("gpu_results"), help="folder for the results")
    parser.add_argument("--minutes", type=float, default=7.5, help="when to be done (default: 7.5)")
    parser.add_argument("--arch", default="sm_90", help="what a dry run compiles for (default: sm_90)")
    parser.add_argument("--processes", type=int, help="worker processes (default: half the cores, at most 8)")
    parser.add_argument("--kernels", type=Path, help="folder of the acceptance kernels (default: ../shared/kernels)")
    parser.add_argument("--filter", default="", help="only checks of values with all of these words in their titles")
    parser.add_argument("--stages", default=",".join(STAGES), help=f"with commas between (default: {','.join(STAGES)})")
    options = parser.parse_args(words)
    stages = options.stages.split(",")
    if unknown := set(stages) - set(STAGES):
        parser.error(f"there is no stage {sorted(unknown)[0]!r}; there are {', '.join(STAGES)}")
    check = _prepare(options)
    if check is None:
        return 1
    if "values" in stages:
        _values(check, _value_jobs(check, options))
    if "compile" in stages:
        _compile(check)
    if "tune" in stages:
        _tune(check)
    if "bench" in stages:
        _bench(check)
    check.say(f"{len(check.problems)} problems" if check.problems else "everything is as it should be")
    for problem in check.problems:
        check.say(f"  {problem}")
    (check.out / "gpu_summary.txt").write_text("\n".join(check.lines) + "\n")
    return 1 if check.problems else 0


def _prepare(options: argparse.Namespace) -> Check | None:
    """Looks at the machine. None where nothing can be done."""
    from opdsl.runtime.devices import Cuda, DeviceError
    from opdsl.runtime.tuning_records import record_target
    from opdsl.support.errors import OpdslError
    from opdsl.targets.triton.arch import ARCHES
    from opdsl.targets.triton.toolchain import load_triton

    options.out.mkdir(parents=True, exist_ok=True)
    cores = len(os.sched_getaffinity(0))
    processes = options.processes or max(1, min(8, cores // 2))
    try:
        load_triton()
        if not options.dry_run:
            Cuda().check()
    except (OpdslError, DeviceError) as error:
        print(f"gpu_check: {error}; --dry-run does what needs no GPU", file=sys.stderr)
        return None
    if options.arch not in ARCHES:
        print(f"gpu_check: there is no architecture {options.arch!r}; there are {', '.join(ARCHES)}", file=sys.stderr)
        return None
    target = f"triton:{options.arch}" if options.dry_run else record_target("triton")
    check = Check(options.dry_run, target, options.out, 60 * options.minutes, processes)
    versions = ", ".join(f"{name} {value}" for name, value in _versions(options.dry_run).items())
    device = "no GPU: a dry run" if options.dry_run else Cuda().model()
    check.say(f"{device}, {check.target}, {cores} cores, {processes} processes; {versions}")
    return check


def _versions(dry: bool) -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    from opdsl.runtime.devices import Cuda

    found = {"python": sys.version.split()[0]}
    for name in ("opdsl", "torch", "triton", "numpy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found if dry else {**found, **Cuda().versions()}


# --- values ----------------------------------------------------------------------------------------------------------


def _value_jobs(check: Check, options: argparse.Namespace) -> list[Job]:
    import opdsl

    package = Path(opdsl.__file__).resolve().parent
    acceptance = options.kernels or package.parent.parent / "shared" / "kernels"
    examples = next(
        (f for f in (package.parent / "examples", package / "examples") if (f / "linear.py").is_file()), None
    )
    if not (acceptance / "matmul.py").is_file():
        check.say(f"the acceptance kernels are not in {acceptance}: --kernels says where they are; they are left out")
        acceptance = None
    jobs = value_jobs(acceptance, examples)
    return [job for job in jobs if all(word in job.title for word in options.filter.split())]


def _values(check: Check, jobs: list[Job]) -> None:
    outcomes = _run(check, "values", jobs)
    path = check.out / "gpu_values.jsonl"
    with path.open("w") as file:
        for job, outcome in zip(jobs, outcomes, strict=True):
            record = {**job.as_json(), "file": Path(job.file).name, **(vars(outcome) if outcome else {"status": "cut"})}
            file.write(json.dumps({name: value for name, value in record.items() if value not in ("", None)}) + "\n")


def _run(check: Check, stage: str, jobs: list[Job]) -> list[Outcome | None]:
    """Runs jobs in worker processes; what is not good is a problem."""
    from opdsl.bench.gpu.worker import run_all

    check.say(f"{stage}: {len(jobs)} checks")
    done = 0

    def progress(number: int, job: Job, outcome: Outcome) -> None:
        nonlocal done
        done += 1
        if not outcome.good:
            check.fail(f"{job.title}: {outcome.status}: {outcome.detail}")
        elif sys.stderr.isatty():
            print(f"\r\033[K{done}/{len(jobs)} {job.title}", end="", file=sys.stderr, flush=True)

    deadline = check.deadline(stage)
    outcomes: list[Outcome | None] = run_all(jobs, check.target, not check.dry, check.processes, deadline, progress)
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    counts = Counter("cut" if outcome is None else outcome.status for outcome in outcomes)
    check.say(f"{stage}: " + ", ".join(f"{count} {status}" for status, count in sorted(counts.items())))
    if counts["cut"]:
        check.fail(f"{stage}: {counts['cut']} checks were cut: out of time")
    return outcomes


# --- compiling and tuning --------------------------------------------------------------------------------------------


def _compile(check: Check) -> None:
    """Every configuration that will be tuned, once for each set of constexprs."""
    jobs = (job for name, dtype, sizes, given, _ in TUNED for job in config_jobs(name, dtype, sizes, given))
    found = dict.fromkeys(jobs)
    _run(check, "compile", list(found))


def _tune(check: Check) -> None:
    """Measures the configurations; the records are used by what comes after. Without a GPU the same is done on the CPU at
    sizes that take no time, to see that it can be done."""
    from opdsl.bench.gpu import kernels

    from opdsl.runtime import tuning_records as records
    from opdsl.support.knobs import knobs

    path = records.records_file(kernels.matmul, check.out)
    done = 0
    for row in TUNED:
        if time.monotonic() > check.deadline("tune"):
            check.fail(f"tune: {len(TUNED) - done} of {len(TUNED)} were cut: out of time")
            break
        try:
            record = _tune_one(check, *row)
        except Exception as error:  # noqa: BLE001 - the others are worth having
            check.fail(f"tune {row[0]} {row[1]} {row[2]}: {type(error).__name__}: {str(error).splitlines()[0][:300]}")
            continue
        done += 1
        records.write(path, records.merged(records.read(path) if path.exists() else [], [record]))
        chosen = " ".join(f"{name}={value}" for name, value in {**record.constexprs, **record.options}.items())
        gain = record.default_ms_min / record.ms_min if record.default_ms_min else 1.0
        what = f"{row[0]} {row[1]} {_text(row[2])}"
        check.say(f"tune: {what}: {chosen}, {record.ms_min:.4g} ms, {gain:.2f} times the default")
        for trial in record.trials:
            if trial.problem:
                check.say(f"  not measured: {dict(trial.values)}: {trial.problem}")
    records.forget()
    if not check.dry:
        knobs.tuning = str(check.out.resolve())
        for kernel in {row[0]: getattr(kernels, row[0]) for row in TUNED}.values():
            kernel.forget_launches()


def _text(sizes: dict[str, int]) -> str:
    return " ".join(f"{name}={size}" for name, size in sizes.items())


def _tune_one(
    check: Check, name: str, dtype: str, sizes: dict[str, int], given: dict[str, Any], scalars: tuple[float, ...]
) -> Any:
    from opdsl.bench.gpu import kernels

    from opdsl.lang.config import Config, shown
    from opdsl.runtime import tuning_records as records
    from opdsl.runtime.devices import device_for
    from opdsl.runtime.specialised import written_parameters
    from opdsl.support.knobs import knobs
    from opdsl.tuning.search import Problem, search

    kernel = getattr(kernels, name)
    target = check.target
    configs = list(kernel.configs)
    if check.dry:
        target = records.record_target("cpu")
        sizes = {n: 64 if n == "D" else 8 if n in "BH" else 256 for n in sizes}
        configs = list(dict.fromkeys(Config(config.constexprs) for config in configs))
    device = device_for(target)
    where = "cpu" if check.dry else "cuda"
    ir = kernel.lower(T=dtype, **given, **{n: s for n, s in sizes.items() if n in kernel.signature.constexprs})
    arguments = arguments_for(ir, sizes, scalars, where)
    if check.dry:
        arguments = [_as_array(argument) for argument in arguments]
    with knobs.scope(tuning="0"):
        problem = Problem(kernel, target, arguments, written_parameters(ir), given)
        outcome = search(problem, configs, device, 0.01 if check.dry else 0.15)
    return records.Record(
        kernel=name, target=target, device=device.model(), dtypes={"T": dtype}, sizes=sizes,
        given={n: shown(v) for n, v in given.items()}, constexprs=outcome.best.constexprs, options=outcome.best.options,
        ms_min=round(outcome.ms_min, 6), default_ms_min=outcome.default_ms_min and round(outcome.default_ms_min, 6),
        noise=round(outcome.noise, 4), threads=device.threads(), date=time.strftime("%Y-%m-%d", time.gmtime()),
        versions={"opdsl": _versions(True).get("opdsl", ""), **device.versions()}, source=records.source_digest(kernel),
        trials=outcome.trials,
    )  # fmt: skip


def _as_array(argument: Any) -> Any:
    from opdsl.runtime.devices import to_numpy

    return to_numpy(argument) if hasattr(argument, "detach") else argument


# --- benchmarks ------------------------------------------------------------------------------------------------------


def _bench(check: Check) -> None:
    """The suites of `opdsl bench --target triton`. Without a GPU: the harness on the CPU, at sizes that take no time, and
    the hand-written peers are compiled."""
    from opdsl.bench import bars, rows, table
    from opdsl.bench.gpu import run
    from opdsl.bench.gpu.problems import SUITES, Place

    if check.dry:
        _compile_peers(check)
    place = Place("cpu", "cpu") if check.dry else Place("cuda", check.target)
    shapes, seconds = ("smoke", 0.02) if check.dry else ("core", 1.0)
    options = run.Options(place, shapes, ("torch", "triton"), seconds)
    header = run.header(options, list(SUITES))
    header["command"] = "gpu_check"
    found: list[Any] = [] if check.dry else _survey(check)
    path = check.out / "gpu_bench.jsonl"
    for suite in SUITES:
        left = len(run.cases_of(suite, shapes))
        for group in run.run_suite(suite, options):
            left -= 1
            found += group
            for row in group:
                if row.correct is False:
                    text = f"bench {row.op} {row.shape} {row.dtype}, {row.impl}: {row.note}"
                    (check.fail if row.impl == "opdsl" else check.say)(text)
            rows.write(path, header, found)
            if time.monotonic() > check.deadline("bench") and left:
                check.fail(f"bench: {left} rows of {suite} were cut: out of time")
                break
    results = bars.judge([r for r in found if isinstance(r, rows.Row)]) if not check.dry else []
    rows.write(path, header, [*found, *results])
    measured = [record for record in found if isinstance(record, rows.Row)]
    table.show(measured, results, f"{header['device']}, {place.target}")
    check.say(f"bench: {len(measured)} rows in {path}")
    for result in results:
        check.say(f"target: {'pass' if result.passed else 'FAIL'} {result.text}: {result.value} {result.bound}")


def _survey(check: Check) -> list[Any]:
    """What the GPU can do, measured by itself."""
    from opdsl.bench.gpu import roofs

    from opdsl.runtime.devices import device_for

    found = roofs.survey(device_for(check.target))
    for roof in found:
        check.say(f"roof: {roof.name}: " + (f"{roof.gbps:.0f} GB/s" if roof.gbps else f"{roof.gflops:.0f} GFLOP/s"))
    return list(found)


def _compile_peers(check: Check) -> None:
    from opdsl.bench.triton_peers.all import PEERS
    from opdsl.bench.triton_peers.peer import compile_for

    from opdsl.targets.triton.arch import ARCHES

    arch = ARCHES[check.target.partition(":")[2]]
    count = 0
    for name, peer in PEERS.items():
        for config in peer.configs:
            try:
                compile_for(peer, peer.dtypes[-1], config, arch.vendor, arch.identity, arch.warp_size)
                count += 1
            except Exception as error:  # noqa: BLE001 - the others are worth knowing
                check.fail(f"peer {name} {dict(config)}: {type(error).__name__}: {str(error).splitlines()[0][:300]}")
    check.say(f"peers: {count} configurations compiled for {arch.name}")


if __name__ == "__main__":
    sys.exit(main())

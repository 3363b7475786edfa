"""`python -m tests.fuzz --count 2000 --seed 1`: generates kernels and compares the CPU target with the interpreter.

Failures are printed with their seed, made smaller, and kept in the directory `--out`, each a file that
`--replay FILE` runs again. With `--state FILE` a run that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .check import Refused, check_program
from .sections import generate
from .shrink import shrink
from .worker import Check, Outcome, run_isolated

ISAS = ("amx", "avx512_vnni", "avx512", "avx2", "baseline", "neon")
PRODUCT_ISAS = ("amx", "avx512_vnni")  # avx512 but for products of these:
PRODUCT_DTYPES = ("od.i8", "od.u8", "od.f16", "od.bf16")

# How programs are compiled, by their seeds: one in sixteen as for users, most in the way that takes the least time.
LEVELS = ("", "O1", "Og", "Og", "Og", "O1", "Og", "Og", "Og", "O1", "Og", "Og", "Og", "O1", "Og", "Og")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=100, help="how many programs (default 100)")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the first program")
    parser.add_argument("--isa", default="", help="instruction sets, with commas (default: all of this machine)")
    parser.add_argument("--targets", default="", help="targets instead, with commas: npu:910b2, npu:910a, ...")
    parser.add_argument("--jobs", type=int, default=1, help="processes at once")
    parser.add_argument("--out", type=Path, default=Path("build/fuzz"), help="where failing programs go")
    parser.add_argument("--state", type=Path, help="a file that notes which seeds are done")
    parser.add_argument("--replay", type=Path, help="runs the program of a file")
    parser.add_argument("--show", action="store_true", help="prints the program of --seed")
    parser.add_argument("--no-shrink", action="store_true", help="leaves failing programs as they are")
    parser.add_argument("--strict", action="store_true", help="also checks each program for races")
    parser.add_argument("--every-run", action="store_true", help="every run on every target (see docs/fuzzing.md)")
    parser.add_argument("--level", default="", help="optimisation of generated code: O0 to O3 (default: mostly Og)")
    return parser.parse_args(arguments)


def targets_of(isa: str) -> list[str]:
    from opdsl import _runtime

    names = isa.split(",") if isa else [n for n in ISAS if _runtime.supports_isa(n)]
    return [f"cpu:{name}" for name in names]


def chosen_targets(options: argparse.Namespace) -> list[str]:
    return options.targets.split(",") if options.targets else targets_of(options.isa)


def fitting(targets: list[str], text: str) -> list[str]:
    """The targets without those whose code can only differ in some products, if a program has none of them."""
    if len(targets) == 1 or ("od.dot" in text and any(dtype in text for dtype in PRODUCT_DTYPES)):
        return targets
    return [t for t in targets if t.removeprefix("cpu:") not in PRODUCT_ISAS]


def prepare(level: str) -> None:
    """Settings of this process, before anything is compiled: compiled kernels are not kept."""
    os.environ.setdefault("OPDSL_CACHE", "0")
    os.environ.setdefault("OPDSL_VERIFY", "1")
    if level:
        os.environ["OPDSL_CXXFLAGS"] = f"-{level}"


def checker(folder: Path, targets: list[str], strict: bool, level: str, sparing: bool = False) -> Check:
    def check(seed: int) -> None:
        chosen = level or LEVELS[seed % len(LEVELS)]
        os.environ["OPDSL_CXXFLAGS"] = f"-{chosen}" if chosen else ""
        path = folder / f"fuzz_{seed}.py"
        text = generate(seed)
        path.write_text(text)
        try:
            check_program(path, fitting(targets, text), strict, sparing)
        finally:
            path.unlink()

    return check


def still_fails(failure: Outcome, folder: Path, targets: list[str], text: str) -> bool:
    path = folder / "candidate.py"
    path.write_text(text)
    (outcome,) = run_isolated(lambda _: check_program(path, targets), [failure.item], 60.0)
    return outcome.kind == failure.kind


def report(outcome: Outcome, options: argparse.Namespace, targets: list[str], folder: Path) -> None:
    print(f"\nseed {outcome.item}: {outcome.failure}", flush=True)
    text = generate(outcome.item)
    if not options.no_shrink:
        own = [t for t in targets if f"{t}," in outcome.failure] or targets
        text = shrink(text, lambda candidate: still_fails(outcome, folder, own, candidate))
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"fuzz_{outcome.item}.py"
    path.write_text(text)
    print(f"kept in {path}:\n{text}", flush=True)


def run(options: argparse.Namespace) -> int:
    targets = chosen_targets(options)
    done: set[int] = set()
    if options.state and options.state.exists():
        done = set(json.loads(options.state.read_text()))
    seeds = [s for s in range(options.seed, options.seed + options.count) if s not in done]
    failures: list[Outcome] = []
    refused: list[Outcome] = []
    started = last = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as directory:
        folder = Path(directory)
        check = checker(folder, targets, options.strict, options.level, not options.every_run)

        def share(number: int) -> None:
            nonlocal last
            for outcome in run_isolated(check, seeds[number :: options.jobs]):
                done.add(outcome.item)
                if outcome.kind == Refused.__name__:
                    refused.append(outcome)
                elif outcome.failure:
                    failures.append(outcome)
                    report(outcome, options, targets, folder)
                if time.monotonic() - last > 15:
                    last = time.monotonic()
                    counts = f"{len(failures)} failures, {len(refused)} refused"
                    print(f"{len(done)} programs, {counts}, {last - started:.0f} s", flush=True)
                    if options.state:
                        options.state.write_text(json.dumps(sorted(done)))

        if options.jobs == 1:
            share(0)
        else:
            with ThreadPoolExecutor(options.jobs) as pool:
                list(pool.map(share, range(options.jobs)))
    if options.state:
        options.state.write_text(json.dumps(sorted(done)))
    seconds = time.monotonic() - started
    print(
        f"{len(seeds)} programs from seed {options.seed} on {', '.join(targets)}: {len(failures)} failures, "
        f"{len(refused)} refused, {seconds:.0f} s"
    )
    for outcome in refused:
        print(f"  seed {outcome.item}: {outcome.failure.splitlines()[0][:150]}")
    for outcome in failures:
        print(f"  seed {outcome.item}: {outcome.failure.splitlines()[0][:150]}")
    return 1 if failures else 0


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    prepare(options.level)
    if options.show:
        print(generate(options.seed))
        return 0
    if options.replay:
        (outcome,) = run_isolated(lambda _: check_program(options.replay, chosen_targets(options), options.strict), [0])
        print(outcome.failure or "no difference")
        return 1 if outcome.failure else 0
    return run(options)


if __name__ == "__main__":
    sys.exit(main())

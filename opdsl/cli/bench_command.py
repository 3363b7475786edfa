"""`opdsl bench SUITE`: measures the operators beside other libraries. docs/benchmarks.md says how."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from opdsl.support.extras import install_help

SUITES = ("elementwise", "softmax_norm", "matmul", "acceptance", "compile")
GPU_SUITES = ("elementwise", "softmax_norm", "matmul", "attention")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("suite", nargs="?", help=f"{', '.join(SUITES)} or all")
    parser.add_argument("--target", default="cpu", help="cpu, or triton: the suites of GPUs (default: cpu)")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="threads for everyone (default: 1)")
    parser.add_argument(
        "--shapes", default="core", metavar="SET", help="smoke, core, full or a TOML file (default: core)"
    )
    parser.add_argument(
        "--peers", help="with commas between; none for none (default: torch,numpy; on GPUs torch,triton)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows as JSON lines")
    parser.add_argument(
        "--html", type=Path, metavar="FILE", help="write a report with roofline plots (needs matplotlib)"
    )
    parser.add_argument(
        "--filter", metavar="WORDS", help="only rows whose operator, shape and dtype have all these words"
    )
    parser.add_argument("--seconds", type=float, metavar="S", help="time for each row (default: 3; on GPUs 1.5)")
    parser.add_argument(
        "--outputs", choices=("reused", "fresh"), default="reused", help="out= (default), or new outputs"
    )
    parser.add_argument("--no-pin", action="store_true", help="do not choose cores")
    parser.add_argument("--no-roofs", action="store_true", help="do not measure the machine's limits")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if a target is missed")
    parser.add_argument(
        "--compare", nargs=2, metavar=("A", "B"),
        help="compare two revisions of the repository (B slower than A: exit 1), or the ratios of two JSON files",
    )  # fmt: skip
    parser.add_argument("--render", type=Path, metavar="FILE", help="measure nothing: show an earlier --json file")


def run(arguments: argparse.Namespace) -> int:
    try:
        return _run(arguments)
    except BrokenPipeError:  # as in `opdsl bench ... | head`: the command line's frame knows what to do
        raise
    except (ValueError, OSError, RuntimeError) as error:
        print(f"opdsl bench: {error}", file=sys.stderr)
        return 2


def _run(arguments: argparse.Namespace) -> int:
    if arguments.render is not None:
        from opdsl.bench import rows as records

        header, found = records.read(arguments.render)
        return _finish(arguments, header, found)
    if arguments.compare and all(Path(name).is_file() for name in arguments.compare):
        from opdsl.bench import comparing

        return int(comparing.show_files(*map(Path, arguments.compare)))
    base = arguments.target.partition(":")[0]
    if base not in ("cpu", "triton"):
        raise ValueError(f"--target {arguments.target}: the suites are for cpu and triton")
    known = GPU_SUITES if base == "triton" else SUITES
    if arguments.suite is None or (arguments.suite != "all" and arguments.suite not in known):
        given = "name a suite" if arguments.suite is None else f"there is no suite {arguments.suite!r} for {base}"
        print(f"opdsl bench: {given}; the suites are {', '.join(known)} and all", file=sys.stderr)
        return 2
    gpu = base == "triton"
    arguments.seconds = (1.5 if gpu else 3.0) if arguments.seconds is None else arguments.seconds
    arguments.peers = ("torch,triton" if gpu else "torch,numpy") if arguments.peers is None else arguments.peers
    if arguments.threads < 1 or arguments.seconds <= 0:
        print("opdsl bench: --threads and --seconds must be positive", file=sys.stderr)
        return 2
    suites = known if arguments.suite == "all" else (arguments.suite,)
    if gpu:
        return _measure_gpu(suites, arguments)
    if arguments.compare:
        from opdsl.bench import regression

        return int(regression.compare(suites, arguments))
    return _measure(suites, arguments)


def _measure(suites: tuple[str, ...], arguments: argparse.Namespace) -> int:
    from opdsl.bench import machine, roofs
    from opdsl.bench import suites as known
    from opdsl.bench.runner import Options

    if not machine.has_torch():
        raise ValueError(f"the suites need PyTorch as peer and for arguments: {install_help('bench')}")
    options = Options(
        threads=arguments.threads,
        peers=() if arguments.peers == "none" else tuple(arguments.peers.split(",")),
        seconds=arguments.seconds,
        outputs=arguments.outputs,
        pattern=arguments.filter,
        measure_roofs=not arguments.no_roofs,
    )
    if unknown := set(options.peers) - {"torch", "numpy"}:
        raise ValueError(f"there is no peer {sorted(unknown)[0]!r}; the peers are torch and numpy")
    cases = {suite: known.load(suite, arguments.shapes) for suite in suites}
    progress = Progress()
    progress("preparing")
    cores = machine.use_threads(options.threads, pin=not arguments.no_pin)
    machine.settle_torch()
    settings = {
        "shapes": arguments.shapes,
        "outputs": options.outputs,
        "seconds": options.seconds,
        "suites": list(suites),
    }
    header = machine.header(options.threads, cores, **settings)
    found: list[Any] = []
    if options.measure_roofs and any(suite != "compile" for suite in suites):
        found += roofs.survey(options.threads, dram=arguments.shapes != "smoke")
    for suite in suites:
        progress.start(suite, len(cases[suite]))
        for group in known.run(suite, arguments.shapes, options, progress):
            found += group
            if arguments.json is not None:  # a run that is cut short keeps what it has
                _write_json(arguments.json, header, found)
    progress.end()
    return _finish(arguments, header, found)


def _measure_gpu(suites: tuple[str, ...], arguments: argparse.Namespace) -> int:
    from opdsl.bench.gpu import roofs, run
    from opdsl.bench.gpu.problems import Place
    from opdsl.runtime.devices import device_for
    from opdsl.runtime.tuning_records import record_target

    if arguments.compare or arguments.threads != 1 or arguments.outputs != "reused":
        raise ValueError("--compare, --threads and --outputs are for the CPU's suites")
    device_for(arguments.target).check()
    place = Place("cuda", record_target(arguments.target))
    peers = () if arguments.peers == "none" else tuple(arguments.peers.split(","))
    if unknown := set(peers) - {"torch", "triton"}:
        raise ValueError(f"there is no peer {sorted(unknown)[0]!r}; on GPUs the peers are torch and triton")
    options = run.Options(
        place, arguments.shapes, peers, arguments.seconds, arguments.filter, measure_roofs=not arguments.no_roofs
    )
    progress = Progress()
    header = run.header(options, suites)
    progress("preparing")
    found: list[Any] = [] if arguments.no_roofs else list(roofs.survey(device_for(arguments.target)))
    for suite in suites:
        progress.start(suite, len(run.cases_of(suite, arguments.shapes)))
        for group in run.run_suite(suite, options, progress):
            found += group
            if arguments.json is not None:
                _write_json(arguments.json, header, found)
    progress.end()
    return _finish(arguments, header, found)


def _write_json(path: Path, header: dict[str, Any], found: list[Any]) -> None:
    from opdsl.bench import rows as records

    records.write(path, header, found)


def _finish(arguments: argparse.Namespace, header: dict[str, Any], found: list[Any]) -> int:
    from opdsl.bench import bars, table
    from opdsl.bench.rows import BarResult, Row

    rows = [record for record in found if isinstance(record, Row)]
    found = [record for record in found if not isinstance(record, BarResult)]
    results = bars.judge(rows) if header.get("shapes") != "smoke" else []
    found += results
    if not rows:
        raise ValueError("no row was chosen; look at --filter and --shapes")
    threads = (
        "" if "target" in header else f", {header.get('threads')} thread{'s' if header.get('threads') != 1 else ''}"
    )
    title = f"{header.get('device')}, {header.get('isa')}{threads}"
    table.show(rows, results, title)
    if arguments.json is not None:
        _write_json(arguments.json, header, found)
    if arguments.html is not None:
        from opdsl.bench import report

        try:
            report.write(arguments.html, header, found)
        except ImportError:
            print(f"opdsl bench: --html needs matplotlib: {install_help('bench')}", file=sys.stderr)
            return 2
        print(f"report: {arguments.html}")
    if any(row.correct is False and row.impl == "opdsl" for row in rows):
        return 1
    return 1 if arguments.strict and any(result.passed is False for result in results) else 0


class Progress:
    """One line on the terminal that says what is being measured; nothing where there is no terminal."""

    def __init__(self, write: Callable[[str], Any] | None = None) -> None:
        self.write = write or (sys.stderr.write if sys.stderr.isatty() else None)
        self.suite, self.total, self.done = "", 0, 0
        self.began = time.monotonic()

    def start(self, suite: str, total: int) -> None:
        self.suite, self.total, self.done = suite, total, 0

    def __call__(self, text: str) -> None:
        if self.write is None:
            return
        self.done += 1
        counted = f"{self.suite} {self.done}/{self.total}  " if self.total else ""
        self.write(f"\r\x1b[K{counted}{text}  [{time.monotonic() - self.began:.0f} s]")
        sys.stderr.flush()

    def end(self) -> None:
        if self.write is not None:
            self.write("\r\x1b[K")

"""`opdsl profile`: the speed of a kernel beside the roofs of the machine, and what bounds it."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from typing import Any

from opdsl.analysis.cost import Unknown, Work, count_work
from opdsl.cli.roofs import Probe, Roofs
from opdsl.cli.timing import Timing, shown_time, time_calls
from opdsl.harness import arguments as made_up
from opdsl.harness import specialising
from opdsl.harness.arguments import Prepared, prepare
from opdsl.harness.errors import CommandError
from opdsl.harness.loading import choose_kernels
from opdsl.harness.specialising import Options

LAUNCH_SECONDS = 20e-6  # below this, launching is what takes the time
FAR_FROM_ROOFS = 0.35


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kernel", metavar="FILE[:KERNEL]", help="a Python file, and one of its kernels")
    parser.add_argument("--target", default="cpu", help="cpu, cpu:avx2, ..., npu:910b2, ... (default: cpu)")
    specialising.add_arguments(parser)
    made_up.add_arguments(parser)
    parser.add_argument("--threads", help="numbers of threads with commas between (default: 1 and all usable cores)")
    parser.add_argument("--seconds", type=float, default=0.5, help="how long to measure for each number of threads")
    parser.add_argument(
        "-o", "--output", metavar="DIR", help="npu: the folder for timeline.html, trace.json and tables"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


@dataclass(frozen=True)
class Measured:
    threads: int
    timing: Timing
    roofs: Roofs

    def shares(self, work: Work) -> tuple[float, float]:
        """The parts of the roofs of arithmetic and of memory that are reached."""
        seconds = self.timing.fastest
        return work.operations / seconds / self.roofs.operations, work.bytes / seconds / self.roofs.bytes


def run(arguments: argparse.Namespace) -> int:
    from opdsl.targets.base import find_target
    from opdsl.targets.cpu.target import CpuTarget

    try:
        target = find_target(arguments.target)
    except ValueError as error:
        raise CommandError(f"--target {arguments.target}: {error}") from None
    file, (kernel,) = choose_kernels(arguments.kernel, several=False)
    options = Options(arguments, [kernel], file.module, all_dims=True)
    if target.name.startswith("npu"):
        from opdsl.cli.npu_profile import profile
        from opdsl.targets.npu.target import NpuTarget

        assert isinstance(target, NpuTarget)
        return profile(target, options, kernel, arguments)
    if not isinstance(target, CpuTarget):
        raise CommandError(f"--target {arguments.target}: only cpu and npu can be profiled")
    if arguments.output is not None:
        raise CommandError("-o: the profile of cpu is what is printed", "--json prints it for other programs")
    for one in options.specialise(kernel):
        prepared = prepare(one, arguments)
        try:
            work = count_work(one.ir, prepared.values)
        except Unknown as reason:
            raise CommandError(f"the work of {kernel.name} cannot be counted: {reason}", "opdsl run times it") from None
        prepared.call(target.name)
        probe = Probe(target.isa)
        wide = any(dtype.name == "f64" for dtype in one.dtypes.values())
        measured = [
            _measure(prepared, target.name, n, work, probe, wide, arguments.seconds) for n in _threads(arguments)
        ]
        record = _record(prepared, target.name, work, measured)
        print(json.dumps(record) if arguments.json else _shown(record))
    return 0


def _threads(arguments: argparse.Namespace) -> list[int]:
    from opdsl import _runtime

    if arguments.threads is None:
        return sorted({1, _runtime.usable_cores()})
    try:
        counts = [int(text) for text in arguments.threads.split(",")]
    except ValueError:
        counts = [0]
    if min(counts) < 1:
        raise CommandError(f"--threads {arguments.threads}: expected whole numbers from 1 up, as 1,2,4")
    return counts


def _measure(
    prepared: Prepared, target: str, threads: int, work: Work, probe: Probe, wide: bool, seconds: float
) -> Measured:
    from opdsl.runtime.threads import set_num_threads

    set_num_threads(threads)
    timing = time_calls(lambda: prepared.call(target), seconds)
    roofs = Roofs(probe.operations(wide, threads), probe.bandwidth(work.read_bytes, work.written_bytes))
    return Measured(threads, timing, roofs)


def _bound(measured: Measured, work: Work) -> str:
    """What keeps the kernel from being faster."""
    arithmetic, memory = measured.shares(work)
    if max(arithmetic, memory) >= FAR_FROM_ROOFS:
        return "arithmetic" if arithmetic > memory else "memory"
    if measured.timing.fastest < LAUNCH_SECONDS:
        return "launch"
    if work.functions > 0.1 * work.operations:
        return "functions"
    return "neither"


EXPLANATIONS = {
    "arithmetic": "arithmetic: multiply-adds",
    "memory": "memory: moving the arrays",
    "launch": "the launch: there is too little work for one call",
    "functions": "functions such as exp, each of which takes ten or more operations (counted as one)",
    "neither": "neither roof: dependences, other instructions, or tiles that fit badly; see opdsl inspect",
}


def _record(prepared: Prepared, target: str, work: Work, measured: list[Measured]) -> dict[str, Any]:
    one = prepared.specialisation
    rows = []
    for m in measured:
        arithmetic, memory = m.shares(work)
        rows.append(
            {
                "threads": m.threads,
                "ms_min": m.timing.fastest * 1e3,
                "ms_median": m.timing.median * 1e3,
                "calls": m.timing.calls,
                "gflops": work.operations / m.timing.fastest / 1e9,
                "gbps": work.bytes / m.timing.fastest / 1e9,
                "roof_gflops": m.roofs.operations / 1e9,
                "roof_gbps": m.roofs.bytes / 1e9,
                "arithmetic_share": arithmetic,
                "memory_share": memory,
                "bound_by": _bound(m, work),
                "speedup": measured[0].timing.fastest / m.timing.fastest,
            }
        )
    return {
        "kernel": one.kernel.name,
        "target": target,
        "dtypes": {name: dtype.name for name, dtype in one.dtypes.items()},
        "sizes": prepared.sizes,
        "arguments": prepared.shapes_text(),
        "operations": work.operations,
        "operations_in_products": work.products,
        "functions": work.functions,
        "read_bytes": work.read_bytes,
        "written_bytes": work.written_bytes,
        "exact": work.exact,
        "runs": rows,
    }


def _amount(value: float, unit: str) -> str:
    for prefix, factor in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= factor:
            return f"{value / factor:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}"


def _shown(record: dict[str, Any]) -> str:
    dtypes = " ".join(f"{name}={dtype}" for name, dtype in record["dtypes"].items())
    total = record["read_bytes"] + record["written_bytes"]
    about = "" if record["exact"] else "about "
    parts = [f"{about}{_amount(record['operations'], 'FLOP')}"]
    if record["operations_in_products"]:
        parts.append(f"{100 * record['operations_in_products'] / record['operations']:.0f} % in products")
    if record["functions"]:
        parts.append(f"{_amount(record['functions'], 'exp and the like')}")
    read, written = _amount(record["read_bytes"], "B"), _amount(record["written_bytes"], "B")
    lines = [
        f"{record['kernel']} on {record['target']}  {dtypes}  {record['arguments']}",
        f"  work        {', '.join(parts)}",
        f"  memory      {read} read and {written} written at least; {record['operations'] / max(total, 1):.3g} FLOP a byte",
    ]
    for row in record["runs"]:
        threads = f"{row['threads']} thread" + ("s" if row["threads"] > 1 else "")
        speedup = f", {row['speedup']:.2f} times the first" if row["speedup"] != 1 else ""
        arithmetic = f"{row['gflops']:8.1f} GFLOP/s, {100 * row['arithmetic_share']:3.0f} % of {row['roof_gflops']:.0f}"
        memory = f"{row['gbps']:8.1f} GB/s,    {100 * row['memory_share']:3.0f} % of {row['roof_gbps']:.0f}"
        lines += [
            f"  {threads}: {shown_time(row['ms_min'] / 1e3)} at best, {shown_time(row['ms_median'] / 1e3)} median{speedup}",
            f"    arithmetic  {arithmetic} (multiply-adds in registers)",
            f"    memory      {memory} (a plain loop over as many bytes)",
            f"    bound by    {EXPLANATIONS[row['bound_by']]}",
        ]
    return "\n".join(lines)

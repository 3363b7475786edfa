"""`python -m tests.faults --targets npu:910b2,npu:910a`: every acceptance kernel, with one thing missing at a time.

Left out, each by itself: all flags of a dependence, or its barrier; one set or wait; the second slot of a double buffer.
The emulator must report each, for one of the kernel's sets of arguments, and nothing of the kernel as it is.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the tests' helpers: support

from opdsl.ops.registry import OPERATORS

from .cases import Case, acceptance
from .mutants import examine
from .operators import operator_cases


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.faults", description=__doc__)
    parser.add_argument("--kernels", default="", help="names, with commas between (default: all)")
    parser.add_argument("--operators", default="", help="instead of them, operators of the library, or all of those")
    parser.add_argument("--targets", default="npu:910b2,npu:910a", help="chips, with commas between")
    parser.add_argument("--kinds", default="dependence,flag,slot", help="what is left out")
    parser.add_argument("--schedules", type=int, default=3, help="random schedules of the kernels as they are")
    options = parser.parse_args()
    failed = False
    for target in options.targets.split(","):
        for case in _cases(options.kernels, options.operators, target):
            begin = time.monotonic()
            found = examine(case, target, range(options.schedules + 1), options.kinds.split(","))
            counts = ", ".join(f"{count} {kind}" for kind, count in found.counts.items())
            print(
                f"{found.name}: {counts}; missed {len(found.missed)}, elsewhere {len(found.elsewhere)}, "
                f"false alarms {len(found.false_alarms)}, {time.monotonic() - begin:.0f} s",
                flush=True,
            )
            for alarm in found.false_alarms[:3]:
                print(f"  false alarm: {alarm}")
            for what, list in (("missed", found.missed), ("elsewhere", found.elsewhere)):
                for mutant in list:
                    print(f"  {what}: {mutant.kind} {mutant.text}", flush=True)
            failed |= bool(found.missed or found.false_alarms)
    return int(failed)


def _cases(kernels: str, operators: str, target: str) -> Iterator[Case]:
    if operators:
        yield from operator_cases(list(OPERATORS) if operators == "all" else operators.split(","), target)
        return
    for case in acceptance():
        if not kernels or case.name in kernels.split(","):
            yield case


if __name__ == "__main__":
    sys.exit(main())

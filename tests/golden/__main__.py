"""Writes the texts of all kernels to a folder: `PYTHONPATH=tests python -m golden FOLDER [--targets ir,cpu:avx2]`.
`--record` renews what stands in the repository, `--digests TARGET` prints what it would be for one target."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from golden import recorded, requests
from golden.texts import ALL, text


def every_text(targets: tuple[str, ...], fuzz: int) -> Iterator[tuple[str, str]]:
    """Name, as `operators/softmax_float32_0_softmax_rows/cpu:avx2`, and text."""
    with tempfile.TemporaryDirectory() as folder:
        for source in (requests.ops(), requests.examples(), requests.generated(Path(folder), fuzz)):
            for name, request in source:
                for target in targets:
                    yield f"{name}/{target}", text(request, target)
    for target in targets:
        for name, request in requests.operators(target):
            yield f"{name}/{target}", text(request, target)


def main() -> None:
    parser = argparse.ArgumentParser(prog="golden", description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--fuzz", type=int, default=100, help="how many programs of the fuzzer are among them")
    parser.add_argument("--targets", default=",".join(ALL))
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--digests", metavar="TARGET")
    arguments = parser.parse_args()
    if arguments.digests:
        print(recorded.digests(arguments.digests), end="")
        return
    targets = tuple(arguments.targets.split(","))
    if arguments.record:
        recorded.record(targets)
    if arguments.folder is None:
        return
    began, count = time.monotonic(), 0
    for name, content in every_text(targets, arguments.fuzz):
        path = arguments.folder / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        count += 1
    print(f"{count} texts in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()

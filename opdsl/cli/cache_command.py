"""`opdsl cache ls|verify|clear`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from opdsl.support.cache import Cache, default_root


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("ls", "verify", "clear"), help="what to do")
    parser.add_argument("--dir", type=Path, help="another cache than the one in use")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    cache = Cache(arguments.dir.absolute() if arguments.dir else default_root())
    if arguments.action == "ls":
        return _list(cache, arguments.json)
    if arguments.action == "verify":
        return _verify(cache, arguments.json)
    return _clear(cache, arguments.json)


def _list(cache: Cache, as_json: bool) -> int:
    entries = cache.entries()
    if as_json:
        rows = [
            {
                "key": entry.key,
                "label": entry.label,
                "created": entry.created,
                "bytes": entry.size_bytes,
                "directory": str(entry.directory),
            }
            for entry in entries
        ]
        print(json.dumps({"root": str(cache.root), "entries": rows}))
        return 0
    for entry in entries:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(entry.created))
        print(f"{entry.key[:16]}  {when}  {_size(entry.size_bytes):>9}  {entry.label}")
    total = sum(entry.size_bytes for entry in entries)
    print(f"{len(entries)} compiled kernels, {_size(total)}, in {cache.root}")
    return 0


def _verify(cache: Cache, as_json: bool) -> int:
    problem = cache.problem() if cache.root.exists() else None
    damaged = cache.verify()
    if as_json:
        rows = [{"directory": str(directory), "reason": reason} for directory, reason in damaged]
        checked = len(cache.entry_directories())
        print(json.dumps({"root": str(cache.root), "checked": checked, "damaged": rows, "problem": problem}))
    else:
        for directory, reason in damaged:
            print(f"damaged: {directory}: {reason}")
        if problem:
            print(f"not usable: {problem}")
        sound = len(cache.entry_directories()) - len(damaged)
        print(f"{sound} compiled kernels are sound, {len(damaged)} damaged, in {cache.root}")
        if damaged:
            print("A damaged one is put aside and compiled again when it is next needed.")
    return 1 if damaged or problem else 0


def _clear(cache: Cache, as_json: bool) -> int:
    if cache.root.exists() and (problem := cache.problem()):
        print(f"opdsl: not cleared: {problem}", file=sys.stderr)
        return 1
    removed = cache.clear()
    left = len(cache.entry_directories())
    if as_json:
        print(json.dumps({"root": str(cache.root), "removed": removed - left, "left": left}))
    else:
        print(f"removed {removed - left} compiled kernels from {cache.root}")
        if left:
            print(f"{left} could not be removed: is the directory read-only?")
    return 1 if left else 0


def _size(count: int) -> str:
    value = float(count)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"

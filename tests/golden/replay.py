"""Compares the texts of kernels of two revisions byte for byte: `PYTHONPATH=tests python -m golden.replay BASE [REVISION]`.

Each revision is checked out, built and asked for its texts by its own `tests/golden`, so that whatever moved in between
does not matter. Without REVISION the working tree is compared. Ends with 1 where a text changed.
"""

from __future__ import annotations

import argparse
import difflib
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "build" / "replay"


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def texts_of_tree(tree: Path, folder: Path, packages: str, fuzz: int, targets: str | None) -> dict[str, str]:
    """Texts by name, as the checkout `tree` makes them with the packages of `packages`."""
    shutil.rmtree(folder, ignore_errors=True)
    chosen = ["--targets", targets] if targets else []
    command = [sys.executable, "-m", "golden", str(folder), "--fuzz", str(fuzz), *chosen]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tree / "tests"), packages])}
    if packages:  # not the package that this environment has
        command.insert(1, "-S")
        environment["PYTHONPATH"] += os.pathsep + sysconfig.get_path("purelib")
    subprocess.run(command, check=True, env=environment, cwd=folder.parent)
    return {str(path.relative_to(folder))[:-4]: path.read_text() for path in folder.rglob("*.txt")}


def texts_of_revision(revision: str, fuzz: int, targets: str | None) -> dict[str, str]:
    """Texts of a commit, which is checked out and built under build/replay."""
    commit = _git("rev-parse", f"{revision}^{{commit}}")
    tree, site = WORK / commit / "tree", WORK / commit / "site"
    if not tree.is_dir():
        _git("worktree", "prune")
        _git("worktree", "add", "--detach", str(tree), commit)
    if not (tree / "tests" / "golden" / "__main__.py").is_file():
        sys.exit(f"{revision} has no tests/golden: replay compares commits that have it")
    if not site.is_dir():
        install = ["install", "--quiet", "--no-deps", "--no-build-isolation", "--target", str(site), str(tree)]
        subprocess.run([sys.executable, "-m", "pip", *install], check=True)
    return texts_of_tree(tree, WORK / commit / "texts", str(site), fuzz, targets)


def difference(before: str, after: str, name: str, lines: int) -> str:
    found = list(
        difflib.unified_diff(before.splitlines(), after.splitlines(), f"a/{name}", f"b/{name}", lineterm="", n=2)
    )
    more = f"\n... {len(found) - lines} lines more" if len(found) > lines else ""
    return "\n".join(found[:lines]) + more


def compare(before: Mapping[str, str], after: Mapping[str, str], lines: int) -> bool:
    """Prints what differs; whether nothing did. A text that only has another name is no change."""
    changed = sorted(name for name in before.keys() & after.keys() if before[name] != after[name])
    gone, new = sorted(before.keys() - after.keys()), sorted(after.keys() - before.keys())
    kept = {(name.rpartition("/")[2], before[name]) for name in gone}
    known = {(name.rpartition("/")[2], after[name]) for name in new}
    renamed = [name for name in new if (name.rpartition("/")[2], after[name]) in kept]
    gone = [name for name in gone if (name.rpartition("/")[2], before[name]) not in known]
    new = [name for name in new if name not in renamed]
    for name in changed:
        print(difference(before[name], after[name], name, lines), end="\n\n")
    for title, names in (("changed", changed), ("gone", gone), ("new", new)):
        for name in names:
            print(f"{title}: {name}")
    alike = len(before.keys() & after.keys()) - len(changed)
    counts = f"{alike} texts alike, {len(renamed)} under another name, {len(changed)} changed"
    print(f"{counts}, {len(gone)} gone, {len(new)} new")
    return not (changed or gone or new)


def main() -> None:
    parser = argparse.ArgumentParser(prog="golden.replay", description=__doc__)
    parser.add_argument("base")
    parser.add_argument("revision", nargs="?", help="the working tree, where none is given")
    parser.add_argument("--fuzz", type=int, default=100)
    parser.add_argument("--targets")
    parser.add_argument("--lines", type=int, default=40, help="of each difference that are shown")
    arguments = parser.parse_args()
    before = texts_of_revision(arguments.base, arguments.fuzz, arguments.targets)
    if arguments.revision:
        after = texts_of_revision(arguments.revision, arguments.fuzz, arguments.targets)
    else:
        WORK.mkdir(parents=True, exist_ok=True)
        after = texts_of_tree(ROOT, WORK / "now", "", arguments.fuzz, arguments.targets)
    sys.exit(not compare(before, after, arguments.lines))


if __name__ == "__main__":
    main()

"""Texts of kernels change only on purpose."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from golden import recorded
from golden.texts import ALL

TESTS = Path(__file__).resolve().parents[1]


def _by_name(lines: str) -> dict[str, str]:
    return {name: digest for digest, name in map(str.split, lines.splitlines())}


def _changed(found: str, wanted: str) -> list[str]:
    before, after = _by_name(wanted), _by_name(found)
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


@pytest.mark.parametrize("target", ALL)
def test_digests(target: str, update_golden: bool) -> None:
    """Every op and every operator, in a process of its own: operators keep what they compiled, and recording compiles
    nothing, so that later tests of the same process would launch nothing."""
    command = [sys.executable, "-m", "golden", "--digests", target]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(TESTS.parent), str(TESTS)))}
    found = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
    path = recorded.digest_file(target)
    if update_golden:
        path.write_text(found)
    changed = _changed(found, path.read_text())
    assert not changed, (
        f"{len(changed)} texts for {target} differ. `make replay BASE=HEAD` shows how; where that is meant, "
        "`pytest tests/golden --update-golden` records it"
    )


@pytest.mark.parametrize("target", ALL)
def test_examples(target: str, update_golden: bool) -> None:
    for path, found in recorded.examples(target):
        if update_golden:
            path.write_text(found)
        assert found == path.read_text(), path

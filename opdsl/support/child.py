"""Python processes that this one talks to by pipes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]


def start_module(module: str, *words: str, environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Starts `python -m module words`, with pipes to its input and from its output, and with more environment variables.

    The process imports the OpDSL that this one has: not another one that lies in the current directory, as a checkout
    does beside an installed package.
    """
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.Popen(
        [sys.executable, "-P", "-m", module, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **(environment or {}), "PYTHONPATH": os.pathsep.join(paths)},
    )

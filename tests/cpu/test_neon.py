"""What is generated for NEON compiles. It is not run here: that takes such a machine."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from support.acceptance_calls import NAMES, call_of

from opdsl.runtime.launch import contiguous_request, lower_call
from opdsl.support.paths import include_directory
from opdsl.support.toolchain import BASE_FLAGS
from opdsl.targets.cpu.generate import generate
from opdsl.targets.cpu.isa import ISAS
from opdsl.targets.cpu.target import flags

COMPILER = "aarch64-linux-gnu-g++"


@pytest.mark.parametrize("name", NAMES)
def test_acceptance_kernels_compile(name: str, tmp_path: Path) -> None:
    if shutil.which(COMPILER) is None:
        pytest.skip(f"no {COMPILER} (Debian, Ubuntu: apt install g++-aarch64-linux-gnu)")
    call = call_of(name)
    isa = ISAS["neon"]
    _, text = generate(contiguous_request(lower_call(call.function(), call.arguments, call.constexprs)), isa)
    source = tmp_path / "kernel.cpp"
    source.write_text(text)
    # Optimised a little, so that the instructions are chosen and not only the types checked.
    options = ["-O1" if flag.startswith("-O") else flag for flag in (*BASE_FLAGS, *flags(isa))]
    command = [COMPILER, *options, "-I", str(include_directory()), "-c", str(source), "-o", str(tmp_path / "kernel.o")]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr

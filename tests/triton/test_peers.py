"""The hand-written Triton kernels that ours are measured beside: they compile with no GPU, and are right."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton.language")  # this folder is called triton, too

from opdsl.bench.triton_peers.all import PEERS
from opdsl.bench.triton_peers.peer import compile_for

PRODUCTS = ("matmul", "attention")


@pytest.mark.torch
def test_values_in_the_interpreter() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("triton", minversion="3.7")  # 3.6's interpreter does not know this NumPy
    script = Path(__file__).with_name("peers_in_interpreter.py")
    result = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("name", PEERS)
def test_compiles_for_hopper(name: str) -> None:
    peer = PEERS[name]
    dtype = peer.dtypes[-1]
    asm = compile_for(peer, dtype, peer.configs[0], "cuda", 90, 32)
    ptx = asm["ptx"]
    assert ".target sm_90a" in ptx
    assert asm["cubin"][:4] == b"\x7fELF"
    assert not re.search(r"\b(ld|st)\.local", ptx)
    if name in PRODUCTS:
        assert "wgmma.mma_async" in ptx
        assert "cp.async.bulk" in ptx
    else:
        assert re.search(r"ld\.global\.\S*v[48]\.b32|ld\.global\.\S*v[24]\.b64", ptx)


@pytest.mark.parametrize("name", PRODUCTS)
def test_compiles_for_ampere(name: str) -> None:
    ptx = compile_for(PEERS[name], "f16", PEERS[name].configs[-1], "cuda", 80, 32)["ptx"]
    assert "mma.sync" in ptx


def test_compiles_for_amd() -> None:
    peer = PEERS["rms_norm"]
    assert "hsaco" in compile_for(peer, "f16", peer.configs[0], "hip", "gfx942", 64)

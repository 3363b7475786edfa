"""Compiling without a GPU, and what must be seen in the results. All kernels, dtypes and architectures:

pytest tests/triton/everything.py
"""

from __future__ import annotations

import re

import pytest

pytest.importorskip("triton.language")  # this folder is called triton, too

from support.triton_kernels import ARCHES as NAMES
from support.triton_kernels import CASES

import opdsl as od
from opdsl.runtime.launch import contiguous_request
from opdsl.targets.base import find_target
from opdsl.targets.triton.arch import ARCHES
from opdsl.targets.triton.compiler import Module, compile_request
from opdsl.targets.triton.target import disassemble

TENSOR_CORES = {"sm_80": "mma.sync", "sm_90": "wgmma.mma_async", "sm_100": "tcgen05.mma", "gfx942": "mfma"}


def compiled(name: str, arch: str, dtype: str = "f16") -> Module:
    (module,) = compile_request(CASES[name].request(dtype), ARCHES[arch]).modules
    return module


@pytest.mark.parametrize("arch", NAMES)
@pytest.mark.parametrize("name", CASES)
def test_acceptance_kernels_compile(name: str, arch: str) -> None:
    case, module = CASES[name], compiled(name, arch)
    assembly = module.text(module.arch.assembly)
    assert len(module.binary) > 1000
    # Too few rows for a warp group: a row of 32 pixels goes to the tensor cores as on Ampere.
    core = "mma.sync" if name == "conv2d" and arch != "gfx942" else TENSOR_CORES[arch]
    assert (core in assembly) == case.products
    if ARCHES[arch].vendor == "cuda":
        assert ("cp.async" in assembly) == case.pipelined
        assert case.pipelined or re.search(r"ld\.global\S*\.(v4\.b32|v2\.b64)", assembly), "no 128-bit loads"


@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_100"])
@pytest.mark.parametrize("name", CASES)
def test_no_spills(name: str, arch: str) -> None:
    """Registers are kept; ptxas leaves up to three numbers of conv2d in local memory, outside of its loop over products."""
    found = re.findall(r"\b(LDL|STL)\b", disassemble(compiled(name, arch).path("cubin")))
    assert len(found) <= (6 if name == "conv2d" else 0)


@pytest.mark.parametrize("arch", ["sm_90", "sm_100"])
@pytest.mark.parametrize("name", ["matmul", "flash_attention", "conv2d"])
def test_descriptors(name: str, arch: str) -> None:
    """Bulk copies for all operands, in place of asynchronous ones, and memory for the descriptors."""
    (module,) = compile_request(CASES[name].request("f16", descriptors=1), ARCHES[arch]).modules
    assembly = module.text("ptx")
    operands = module.text("ttir").count("tt.make_tensor_descriptor")
    assert operands == (3 if name == "flash_attention" else 2)
    assert assembly.count("cp.async.bulk.tensor") >= operands and "cp.async.cg" not in assembly
    assert module.metadata["global_scratch_size"] == 128 * operands
    assert not re.findall(r"\b(?:LDL|STL)\b", disassemble(module.path("cubin"))) or name == "conv2d"


def test_compiled_twice_is_the_same_to_the_bit(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    first = compiled("add", "sm_90").binary
    from opdsl.support.knobs import knobs

    with knobs.scope(cache_dir=str(tmp_path)):
        assert compiled("add", "sm_90").binary == first


def test_stages() -> None:
    stages = find_target("triton:sm_90").stages(CASES["add"].request("f32"))
    assert list(stages)[-6:] == ["source", "ttir", "ttgir", "llir", "ptx", "sass"]
    assert "tl.load" in stages["source"] and "tt.load" in stages["ttir"] and ".entry add" in stages["ptx"]
    assert "EXIT" in stages["sass"]


def test_loops_get_fewer_buffers_where_shared_memory_is_short() -> None:
    """A step of 128 by 128 halves twice, two buffers each, are 128 KiB; sm_86 has 99."""
    assert compiled("matmul", "sm_90").launch.num_stages == 2
    assert compiled("matmul", "sm_86").metadata["shared"] <= ARCHES["sm_86"].shared_bytes


@od.kernel
def round_both(x: od.Tensor[od.f32, 64], y: od.Tensor[od.f64, 64]):
    od.copy_out(od.round(od.copy_in(x)), x)
    od.copy_out(od.round(od.copy_in(y)), y)


@pytest.mark.parametrize("arch", NAMES)
def test_one_function_on_two_types_in_a_kernel(arch: str) -> None:
    """libdevice.rint has one name for f32 and f64 on AMD, which may not both be in a kernel."""
    request = contiguous_request(round_both.specialise({}, {}))
    assert len(compile_request(request, ARCHES[arch]).modules[0].binary) > 500


def test_calls_without_a_gpu_say_so() -> None:
    import numpy as np
    from support.acceptance import load

    from opdsl.targets.triton.device import device_arch

    if device_arch() is not None:
        pytest.skip("there is a GPU")
    x = np.ones(4, np.float32)
    with pytest.raises(od.OpdslError, match="there is no GPU"):
        load("add").add(x, x, x.copy(), target="triton:sm_90")
    with pytest.raises(od.ArgumentError, match="no architecture 'sm_12'"):
        load("add").add(x, x, x.copy(), target="triton:sm_12")

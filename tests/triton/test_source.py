"""The generated source of the acceptance kernels, as text; needs no Triton.

`pytest tests/triton/test_source.py --update-golden` writes the files anew; read the difference as a reviewer would.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from support.triton_kernels import CASES, Case

import opdsl as od
from opdsl.runtime.launch import contiguous_request
from opdsl.targets.triton.arch import ARCHES
from opdsl.targets.triton.arguments import Tensor, hints
from opdsl.targets.triton.generate import generate
from opdsl.targets.triton.source import compile_sizes, evaluate_size

GOLDEN = Path(__file__).with_name("golden")


@pytest.mark.parametrize("name", CASES)
def test_golden_source(name: str, update_golden: bool) -> None:
    text = generate(CASES[name].request("f16"), ARCHES["sm_90"]).text
    path = GOLDEN / f"{name}.txt"
    if update_golden:
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("name", ["matmul", "flash_attention"])
def test_golden_source_with_descriptors(name: str, update_golden: bool) -> None:
    text = generate(CASES[name].request("f16", descriptors=1), ARCHES["sm_90"]).text
    path = GOLDEN / f"{name}_descriptors.txt"
    if update_golden:
        path.write_text(text)
    assert text == path.read_text()


def loads_of(parameter: str, arch: str = "sm_90", dtype: str = "f16", constexprs=None, **options) -> str:
    """How the kernel matmul loads its operand: "descriptor" or "pointers"."""
    case = CASES["matmul"]
    request = Case(case.module, case.kernel, constexprs or {}).request(dtype, descriptors=1, **options)
    text = generate(request, ARCHES[arch]).text
    found = [f"{parameter}_blocks.load(" in text, f"{parameter} + " in text]
    assert found in ([True, False], [False, True])
    return "descriptor" if found[0] else "pointers"


def test_which_loads_go_by_descriptors() -> None:
    assert loads_of("a") == loads_of("b") == loads_of("a", "sm_100") == "descriptor"
    assert loads_of("a", "sm_80") == loads_of("a", "gfx942") == "pointers"  # have no copy engine
    assert loads_of("a", index_bits=64) == "pointers"
    assert loads_of("a", constexprs={"BK": 48}) == "pointers"  # lanes of tiles that are no powers of two must be 0
    assert loads_of("a", constexprs={"BM": 512, "BK": 32}) == "pointers"  # more than the engine takes along a dim
    assert loads_of("a", aligned=frozenset({("b", "descriptor", -1)})) == "pointers"
    assert loads_of("b", aligned=frozenset({("b", "descriptor", -1)})) == "descriptor"


@pytest.mark.parametrize(
    ("pointer", "shape", "strides", "wanted"),
    [
        (4096, (37, 48), (48, 1), True), (4096, (48, 37), (1, 40), True), (4096, (37, 1), (1, 1), False),
        (4104, (37, 48), (48, 1), False), (4096, (37, 48), (52, 1), False), (4096, (37, 48), (0, 1), False),
        (4096, (37, 48), (-48, 1), False), (4096, (0, 48), (48, 1), False), (4096, (37, 48), (96, 2), False),
    ],
)  # fmt: skip
def test_what_a_descriptor_can_be_made_of(pointer: int, shape, strides, wanted: bool) -> None:
    others = [Tensor(4096, (), ())] * 3
    aligned, _ = hints(CASES["matmul"].ir("f16"), [Tensor(pointer, shape, strides), *others], {"descriptors": 1})
    assert (("a", "descriptor", -1) in aligned) == wanted


@od.kernel
def updated(a: od.Tensor[od.f16, 64, 64], b: od.Tensor[od.f16, 64, 64]):
    for m in od.parallel(range(0, 64, 16)):
        t = od.copy_in(a[m : m + 16, :])
        od.copy_out(od.dot(t, od.copy_in(b)), a[m : m + 16, :])


def test_what_the_kernel_writes_is_not_loaded_by_descriptors() -> None:
    """The copy engine does not see a program's own stores."""
    text = generate(contiguous_request(updated.lower(), descriptors=1), ARCHES["sm_90"]).text
    assert "tl.load(a" in text and "b_blocks.load(" in text


@pytest.mark.parametrize("dtype", ["f64", "f32", "bf16", "f8e4m3", "f8e5m2", "i32", "u8"])
@pytest.mark.parametrize("name", ["add", "embedding", "embedding_backward"])
def test_source_is_python_with_short_lines(name: str, dtype: str) -> None:
    text = generate(CASES[name].request(dtype), ARCHES["sm_80"]).text
    ast.parse(text)
    assert all(len(line) <= 124 for line in text.splitlines())


@od.kernel
def known_size(x: od.Tensor["T", 1024, 64], y: od.Tensor["T", 1024, 64]):
    for i in od.parallel(range(0, 1024, 16)):
        od.copy_out(od.copy_in(x[i : i + 16, :]), y[i : i + 16, :])


def test_no_masks_where_sizes_are_known() -> None:
    text = generate(contiguous_request(known_size.lower(T=od.f32)), ARCHES["sm_90"]).text
    assert "mask" not in text and "other" not in text


@od.kernel
def two_steps(x: od.Tensor[od.f32, "N"], y: od.Tensor[od.f32, "N"], z: od.Tensor[od.f32, "N"]):
    for i in od.parallel(range(0, x.shape[0], 64)):
        od.copy_out(od.copy_in(x[i : i + 64]) * 2, y[i : i + 64])
    for i in od.parallel(range(0, x.shape[0], 64)):
        od.copy_out(od.copy_in(y[i + 1 : i + 65]), z[i : i + 64])


def test_every_grid_is_a_launch() -> None:
    generated = generate(contiguous_request(two_steps.lower()), ARCHES["sm_90"])
    assert [launch.function for launch in generated.launches] == ["two_steps_1", "two_steps_2"]
    assert [launch.programs for launch in generated.launches] == ["cdiv(N, 64)", "cdiv(N, 64)"]


@od.kernel
def keeps_the_old(x: od.Tensor[od.f32, 64], y: od.Tensor[od.f32, 64]):
    before = od.copy_in(x[:])
    for i in od.parallel(range(0, 64, 16)):
        od.copy_out(od.zeros(16, od.f32), x[i : i + 16])
    od.copy_out(before, y[:])


def test_a_value_from_before_a_write_keeps_the_kernel_in_one_program() -> None:
    (launch,) = generate(contiguous_request(keeps_the_old.lower()), ARCHES["sm_90"]).launches
    assert launch.programs == "1"


@od.kernel
def shifted(x: od.Tensor[od.f32, 64]):
    for _ in od.parallel(range(1)):
        for step in range(3):
            od.copy_out(od.copy_in(x[step : step + 32]) + 1, x[step + 1 : step + 33])


def test_barriers_between_stores_and_loads_of_one_program() -> None:
    assert "tl.debug_barrier()" in generate(contiguous_request(shifted.lower()), ARCHES["sm_90"]).text
    for name in ("matmul", "softmax_online", "flash_attention"):
        assert "barrier" not in generate(CASES[name].request("f16"), ARCHES["sm_90"]).text


def test_wide_offsets() -> None:
    narrow = generate(CASES["add"].request("f32"), ARCHES["sm_90"])
    wide = generate(CASES["add"].request("f32", index_bits=64), ARCHES["sm_90"])
    assert "int64" not in narrow.text and "tl.program_id(0).to(tl.int64)" in wide.text
    assert [a.type for a in narrow.launches[0].arguments] == ["*fp32", "*fp32", "*fp32", "i32"]
    assert wide.launches[0].arguments[-1].type == "i64"


def test_alignment_is_what_the_request_says() -> None:
    request = CASES["matmul"].request("f16", aligned=frozenset({("a", "pointer", -1), ("a", "stride", 0)}))
    (launch,) = generate(request, ARCHES["sm_90"]).launches
    assert [a.name for a in launch.arguments if a.aligned] == ["a", "a_stride0"]


def test_unknown_options_are_refused() -> None:
    with pytest.raises(ValueError, match="no option 'num_wraps'"):
        generate(CASES["add"].request("f32", num_wraps=4), ARCHES["sm_90"])


@od.kernel
def too_large(x: od.Tensor[od.f32, 2048, 2048], y: od.Tensor[od.f32, 2048, 2048]):
    od.copy_out(od.copy_in(x) + 1, y)


def test_too_large_a_tile_is_refused_at_its_line() -> None:
    with pytest.raises(od.CompileError, match=r"test_source.py:\d+:\d+: error: .* at most 1048576 elements"):
        generate(contiguous_request(too_large.lower()), ARCHES["sm_90"])


def test_sizes_of_grids() -> None:
    assert evaluate_size("cdiv(N, 128) * max(0, cdiv((M - 3), 4))", {"N": 129, "M": 12}) == 6
    assert evaluate_size("floordiv(N, M) + mod(N, M)", {"N": 7, "M": 0}) == 0
    for wrong in ("__import__('os')", "N.real", "(lambda: 1)()", "x"):
        with pytest.raises(ValueError):
            compile_sizes([wrong], ["N"])

"""The GPU benchmarks' kernels and harness, on the CPU: what of them needs no GPU."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from opdsl.bench.gpu import kernels, run
from opdsl.bench.gpu.problems import SUITES, Place

import opdsl as od
from opdsl.cli.main import main
from opdsl.lang.kernel import Kernel

OPTIONS = run.Options(Place("cpu", "cpu"), "smoke", ("torch",), seconds=0.01)


@pytest.mark.parametrize("suite", SUITES)
def test_rows(suite: str) -> None:
    """Kernels are right, rows are complete."""
    groups = list(run.run_suite(suite, OPTIONS))
    assert len(groups) == len(run.cases_of(suite, "smoke"))
    for group in groups:
        assert {row.impl for row in group} == {"opdsl", "torch"}
        for row in group:
            assert row.correct, row.note
            assert row.ms_min is not None and row.gbps is not None
            assert row.suite == f"gpu_{suite}"
        assert set(next(row.ratios for row in group if row.impl == "opdsl")) == {"torch"}


def test_every_operator_has_core_rows_and_a_kernel() -> None:
    for suite, problems in SUITES.items():
        assert {case.op for case in run.cases_of(suite, "core")} == set(problems)
        for op in problems:
            kernel = getattr(kernels, op)
            assert isinstance(kernel, Kernel)
            assert len(kernel.configs) > 1
            assert all(config.is_for("triton:sm_90") and not config.is_for("cpu") for config in kernel.configs)


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda out: out.zero_(), "error"),
        (lambda out: out.mul_(1.01), "error"),
        (lambda out: out[:1].fill_(float("nan")), "not written"),
        (lambda out: None, "not written"),
    ],
)
def test_wrong_results_are_not_timed(damage: object, text: str) -> None:
    (case,) = [case for case in run.cases_of("elementwise", "smoke") if case.op == "add"]
    problem = SUITES["elementwise"]["add"](case, OPTIONS.place)
    right = problem.contenders["torch"][0]

    def wrong(arguments: object, out: object) -> object:
        call = right(arguments, out)  # type: ignore[arg-type]

        def damaged() -> object:
            if text == "error":
                call()
            damage(out)  # type: ignore[operator]
            return out

        return damaged

    object.__setattr__(problem, "contenders", {"opdsl": [wrong], "torch": [right]})
    (ours, theirs) = run.run_case(case, problem, OPTIONS)
    assert ours.correct is False and text in ours.note and ours.ms_min is None
    assert theirs.correct is True


def test_a_result_kept_from_before_is_found() -> None:
    (case,) = [case for case in run.cases_of("elementwise", "smoke") if case.op == "copy"]
    problem = SUITES["elementwise"]["copy"](case, OPTIONS.place)

    def kept(arguments: object, out: object) -> object:
        first = arguments[0].clone()  # type: ignore[index]
        return lambda: out.copy_(first)  # type: ignore[attr-defined]

    object.__setattr__(problem, "contenders", {"opdsl": [kept]})
    (ours,) = run.run_case(case, problem, OPTIONS)
    assert ours.correct is False and "with other values" in ours.note


def test_attention_on_other_shapes() -> None:
    """Blocks that do not divide the sizes, blocks wider than a query block, one query."""
    generator = np.random.default_rng(0)
    for m, causal, bm, bn in ((70, True, 16, 32), (70, False, 32, 16), (1, True, 16, 16), (33, True, 64, 16)):
        q, k, v = (generator.standard_normal((1, 2, m, 16)).astype(np.float32) for _ in range(3))
        out = np.full_like(q, np.nan)
        with od.knobs.scope(target="interp"):
            kernels.attention(q, k, v, out, 0.25, causal=causal, BM=bm, BN=bn)
        scores = np.einsum("bhmd,bhnd->bhmn", q.astype(float), k) * 0.25
        if causal:
            scores = np.where(np.tri(m, dtype=bool), scores, -np.inf)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        np.testing.assert_allclose(out, (weights / weights.sum(-1, keepdims=True)) @ v, rtol=1e-4, atol=1e-5)


def test_tensors_and_arrays() -> None:
    """What goes to a GPU and back: every dtype keeps its bits; distances are those of NumPy's arrays."""
    import ml_dtypes
    import torch

    from opdsl.runtime.devices import Cuda, Processor, to_numpy, to_torch

    values = np.array([[1.5, -2.0, 0.0], [4.0, -0.5, 8.0]])
    for dtype in (np.float64, np.float32, np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn,
                  ml_dtypes.float8_e5m2, np.int64, np.int8, np.bool_):  # fmt: skip
        array = values.astype(dtype)
        tensor = to_torch(array)
        assert np.array_equal(tensor.to(torch.float64).numpy(), array.astype(np.float64))
        back = to_numpy(tensor)
        assert back.dtype == array.dtype and back.tobytes() == array.tobytes()
    x = np.array([1.0, 2.0, np.nan, np.inf, 5.0], np.float32)
    y = np.array([1.0, 2.5, np.nan, np.inf, -7.0], np.float32)
    for change, same in ((y, True), (np.where(np.isnan(y), 3, y).astype(np.float32), False)):
        here, there = Processor().distance(x, change), Cuda().distance(to_torch(x), to_torch(change))
        assert here == there
        assert (here.error, here.largest, here.same_special) == (12.0, 7.0, same)
    whole = Cuda().distance(to_torch(np.arange(4)), to_torch(np.arange(4) * 2))
    assert (whole.error, whole.largest, whole.unit) == (3.0, 6.0, 0.0)


def test_without_a_gpu(capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    assert main(["bench", "matmul", "--target", "triton:sm_90"]) == 2
    assert "there is no GPU" in capsys.readouterr().err
    assert main(["bench", "acceptance", "--target", "triton:sm_90"]) == 2
    assert "attention" in capsys.readouterr().err
    assert main(["bench", "matmul", "--target", "npu"]) == 2

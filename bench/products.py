"""Problems of the suite `matmul`."""

from __future__ import annotations

import numpy as np

from .arrays import Array, Input
from .cases import Case
from .problems import Implementation, Missing, Problem, numpy_peer, operator, size_of, torch_peer


def product_in_order(a: Array, b: Array) -> Array:
    """a @ b with each sum in ascending k."""
    total = np.zeros((*a.shape[:-1], b.shape[-1]), a.dtype)
    for k in range(a.shape[-1]):
        total += a[..., k, None] * b[..., k, None, :]
    return total


def matmul(case: Case) -> Problem:
    import torch

    m, k, n = case.integer("m"), case.integer("k"), case.integer("n")
    batch = case.integer("batch", 0)
    transposed = case.text("layout", "kn") == "nk"
    lead = (batch,) if batch else ()
    axes = (0, 2, 1) if batch else (1, 0)
    a = Input((*lead, m, k), case.dtype)
    b = Input((*lead, n, k), case.dtype, axes=axes) if transposed else Input((*lead, k, n), case.dtype)
    out = ((*lead, m, n), "i32" if case.dtype == "i8" else case.dtype)
    if case.dtype == "i8":
        peer = torch_peer(torch.ops.aten._int_mm.out, fresh=torch._int_mm)
    else:
        peer = torch_peer(torch.bmm if batch else torch.matmul)
    peers: dict[str, Implementation | Missing] = {"opdsl": operator("matmul"), "torch": peer}
    if case.dtype in ("f32", "f64"):  # NumPy has no library for the others
        peers["numpy"] = numpy_peer(np.matmul)
    shape = f"{batch} x {m}x{k}x{n}" if batch else f"{m}x{k}x{n}"
    return Problem(
        shape + (" B as NxK" if transposed else ""), [a, b], out, np.matmul, peers,
        size_of((a.shape, a.dtype), (b.shape, b.dtype)), size_of(out), flops=2.0 * m * k * n * max(batch, 1),
        by_rows=(True, bool(batch)), in_order=product_in_order,
        check_cost=2.0 * k,
    )  # fmt: skip


PROBLEMS = {"matmul": matmul}

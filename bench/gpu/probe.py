"""The Triton kernel that measures the speed of tensor cores."""

import triton
import triton.language as tl


@triton.jit
def products_kernel(a, b, out, steps, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr):
    rows = tl.arange(0, M)
    columns = tl.arange(0, N)
    inner = tl.arange(0, K)
    left = tl.load(a + rows[:, None] * K + inner[None, :])
    right = tl.load(b + inner[:, None] * N + columns[None, :])
    total = tl.zeros((M, N), tl.float32)
    for _ in range(steps):
        total = tl.dot(left, right, total)
    # Something of every sum is written, so that none can be left out.
    tl.store(out + tl.program_id(0), tl.sum(tl.sum(total, 1), 0))

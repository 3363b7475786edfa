"""The kernels that are measured on GPUs, as a user would write them, with the configurations that `opdsl tune` tries.

Their records of tuning are in kernels.tuning.json beside this file.
"""

import opdsl as od

LOG2_E = 1.4426950408889634


@od.kernel(
    configs=[
        od.Config(BM=128, BN=256, BK=64, num_warps=8, num_stages=3),
        od.Config(BM=128, BN=256, BK=64, num_warps=8, num_stages=4),
        od.Config(BM=128, BN=128, BK=64, num_warps=8, num_stages=4),
        od.Config(BM=128, BN=128, BK=64, num_warps=4, num_stages=4),
        od.Config(BM=256, BN=128, BK=64, num_warps=8, num_stages=3),
        od.Config(BM=64, BN=128, BK=64, num_warps=4, num_stages=4),
        od.Config(BM=64, BN=64, BK=128, num_warps=4, num_stages=3),
        od.Config(BM=16, BN=64, BK=128, num_warps=4, num_stages=4),
        od.Config(BM=128, BN=256, BK=64, num_warps=8, num_stages=3, descriptors=1),
        od.Config(BM=128, BN=256, BK=64, num_warps=8, num_stages=4, descriptors=1),
        od.Config(BM=128, BN=128, BK=64, num_warps=4, num_stages=4, descriptors=1),
        od.Config(BM=256, BN=128, BK=64, num_warps=8, num_stages=3, descriptors=1),
    ]
)
def matmul(a: od.Tensor["T", "M", "K"], b: od.Tensor["T", "K", "N"], c: od.Tensor["T", "M", "N"], *,
           BM: od.constexpr = 128, BN: od.constexpr = 256, BK: od.constexpr = 64):
    """c = a @ b."""
    M, K = a.shape
    N = b.shape[1]
    for m, n in od.parallel(range(0, M, BM), range(0, N, BN)):
        acc = od.zeros((BM, BN), od.f32)
        for k in od.pipelined(range(0, K, BK), depth=3):
            acc += od.dot(od.copy_in(a[m:m + BM, k:k + BK]), od.copy_in(b[k:k + BK, n:n + BN]))
        od.copy_out(acc, c[m:m + BM, n:n + BN])


@od.function
def attend(q, kt, vt, visible, top, total, acc, scale):
    """One block of keys added to the running maximum, sum and result; the scale is in powers of two."""
    scores = od.dot(q, kt.T) * scale
    if visible is not None:
        scores = od.where(visible, scores, -od.inf)
    new_top = od.maximum(top, od.max(scores, axis=1, keepdims=True))
    p = od.exp2(scores - new_top)
    rescale = od.exp2(top - new_top)
    total = total * rescale + od.sum(p, axis=1, keepdims=True)
    return new_top, total, acc * rescale + od.dot(od.cast(p, vt.dtype), vt)


@od.kernel(
    configs=[
        od.Config(BM=128, BN=128, num_warps=8, num_stages=2),
        od.Config(BM=128, BN=64, num_warps=8, num_stages=3),
        od.Config(BM=128, BN=64, num_warps=4, num_stages=3),
        od.Config(BM=64, BN=128, num_warps=4, num_stages=2),
        od.Config(BM=64, BN=64, num_warps=4, num_stages=3),
        od.Config(BM=128, BN=128, num_warps=8, num_stages=2, descriptors=1),
        od.Config(BM=128, BN=64, num_warps=8, num_stages=3, descriptors=1),
        od.Config(BM=64, BN=64, num_warps=4, num_stages=3, descriptors=1),
    ]
)
def attention(q: od.Tensor["T", "B", "H", "M", "D"], k: od.Tensor["T", "B", "H", "N", "D"],
              v: od.Tensor["T", "B", "H", "N", "D"], o: od.Tensor["T", "B", "H", "M", "D"], scale: od.f32, *,
              D: od.constexpr, causal: od.constexpr = False, BM: od.constexpr = 128, BN: od.constexpr = 64):
    """Attention with running softmax; causal: query m sees the keys up to m. Only blocks at an edge are masked."""
    B, H, M, _ = q.shape
    N = k.shape[2]
    for b, h, m in od.parallel(range(B), range(H), range(0, M, BM)):
        qt = od.copy_in(q[b, h, m:m + BM, :])
        rows = m + od.arange(BM)
        top = od.full((BM, 1), -od.inf, od.f32)
        total = od.zeros((BM, 1), od.f32)
        acc = od.zeros((BM, D), od.f32)
        power = scale * LOG2_E
        whole = od.minimum(m // BN * BN, N // BN * BN) if causal else N // BN * BN
        last = od.minimum(N, m + BM) if causal else N
        for n in od.pipelined(range(0, whole, BN), depth=2):
            kt = od.copy_in(k[b, h, n:n + BN, :])
            vt = od.copy_in(v[b, h, n:n + BN, :])
            top, total, acc = attend(qt, kt, vt, None, top, total, acc, power)
        for n in od.pipelined(range(whole, last, BN), depth=2):
            kt = od.copy_in(k[b, h, n:n + BN, :])
            vt = od.copy_in(v[b, h, n:n + BN, :])
            cols = n + od.arange(BN)
            visible = cols[None, :] < N
            if causal:
                visible = visible & (cols[None, :] <= rows[:, None])
            top, total, acc = attend(qt, kt, vt, visible, top, total, acc, power)
        od.copy_out(acc / total, o[b, h, m:m + BM, :])


ROWS = [od.Config(BM=bm, num_warps=warps) for bm, warps in ((1, 4), (1, 8), (1, 16), (2, 8), (4, 8))]


@od.kernel(configs=ROWS)
def softmax(x: od.Tensor["T", "M", "N"], y: od.Tensor["T", "M", "N"], *, N: od.constexpr, BM: od.constexpr = 1):
    for m in od.parallel(range(0, x.shape[0], BM)):
        t = od.cast(od.copy_in(x[m:m + BM, :]), od.f32)
        t = od.exp(t - od.max(t, axis=1, keepdims=True))
        od.copy_out(t / od.sum(t, axis=1, keepdims=True), y[m:m + BM, :])


@od.kernel(configs=ROWS)
def layer_norm(x: od.Tensor["T", "M", "N"], weight: od.Tensor["T", "N"], bias: od.Tensor["T", "N"],
               y: od.Tensor["T", "M", "N"], eps: od.f32, *, N: od.constexpr, BM: od.constexpr = 1):
    w = od.cast(od.copy_in(weight[:]), od.f32)
    b = od.cast(od.copy_in(bias[:]), od.f32)
    for m in od.parallel(range(0, x.shape[0], BM)):
        t = od.cast(od.copy_in(x[m:m + BM, :]), od.f32)
        away = t - od.sum(t, axis=1, keepdims=True) / N
        variance = od.sum(away * away, axis=1, keepdims=True) / N
        od.copy_out(away * od.rsqrt(variance + eps) * w + b, y[m:m + BM, :])


@od.kernel(configs=ROWS)
def rms_norm(x: od.Tensor["T", "M", "N"], weight: od.Tensor["T", "N"], y: od.Tensor["T", "M", "N"], eps: od.f32, *,
             N: od.constexpr, BM: od.constexpr = 1):
    w = od.cast(od.copy_in(weight[:]), od.f32)
    for m in od.parallel(range(0, x.shape[0], BM)):
        t = od.cast(od.copy_in(x[m:m + BM, :]), od.f32)
        mean = od.sum(t * t, axis=1, keepdims=True) / N
        od.copy_out(t * od.rsqrt(mean + eps) * w, y[m:m + BM, :])


BLOCKS = [od.Config(BLOCK=block, num_warps=warps) for block, warps in ((1024, 4), (2048, 4), (2048, 8), (4096, 8))]


@od.kernel(configs=BLOCKS)
def add(x: od.Tensor["T", "N"], y: od.Tensor["T", "N"], z: od.Tensor["T", "N"], *, BLOCK: od.constexpr = 2048):
    for i in od.parallel(range(0, x.shape[0], BLOCK)):
        od.copy_out(od.copy_in(x[i:i + BLOCK]) + od.copy_in(y[i:i + BLOCK]), z[i:i + BLOCK])


@od.kernel(configs=BLOCKS)
def gelu(x: od.Tensor["T", "N"], y: od.Tensor["T", "N"], *, BLOCK: od.constexpr = 2048):
    for i in od.parallel(range(0, x.shape[0], BLOCK)):
        t = od.cast(od.copy_in(x[i:i + BLOCK]), od.f32)
        od.copy_out(0.5 * t * (1.0 + od.erf(t * 0.7071067811865476)), y[i:i + BLOCK])


@od.kernel(configs=BLOCKS)
def copy(x: od.Tensor["T", "N"], y: od.Tensor["T", "N"], *, BLOCK: od.constexpr = 2048):
    for i in od.parallel(range(0, x.shape[0], BLOCK)):
        od.copy_out(od.copy_in(x[i:i + BLOCK]), y[i:i + BLOCK])


@od.kernel(configs=[od.Config(BN=bn, num_warps=warps) for bn, warps in ((1, 4), (2, 4), (4, 8), (8, 8))])
def embedding(ids: od.Tensor[od.i64, "N"], table: od.Tensor["T", "V", "D"], y: od.Tensor["T", "N", "D"], *,
              D: od.constexpr, BN: od.constexpr = 1):
    for n in od.parallel(range(0, ids.shape[0], BN)):
        od.copy_out(od.copy_in(table[od.copy_in(ids[n:n + BN]), :]), y[n:n + BN, :])

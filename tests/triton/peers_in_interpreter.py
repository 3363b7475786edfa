"""Runs the hand-written peers in Triton's interpreter on torch's CPU tensors; exits with 1 where one is wrong.

A process of its own: TRITON_INTERPRET must be set before a kernel is decorated.
"""

from __future__ import annotations

import os
import sys

os.environ["TRITON_INTERPRET"] = "1"

import torch
from opdsl.bench.triton_peers.all import PEERS
from torch.nn import functional

torch.manual_seed(0)
failures = 0


def compare(what: str, found: torch.Tensor, wanted: torch.Tensor, allowed: float) -> None:
    global failures
    error = float((found.double() - wanted.double()).abs().max())
    good = error <= allowed and bool(torch.isfinite(found).all())
    failures += not good
    print(f"{'ok   ' if good else 'WRONG'} {what}: {error:.2g}, allowed {allowed:.2g}")


def nothing(like: torch.Tensor) -> torch.Tensor:
    return torch.full_like(like, float("nan"))


def small(config: dict[str, int], **changes: int) -> dict[str, int]:
    return {**config, **{name: value for name, value in changes.items() if name in config}}


for columns in (64, 37):
    x, w, b = torch.randn(5, columns), torch.randn(columns), torch.randn(columns)
    config = PEERS["softmax"].configs[0]
    compare("softmax", PEERS["softmax"].launch(config, x, nothing(x)), x.double().softmax(-1), 1e-6)
    out = PEERS["layer_norm"].launch(config, x, w, b, nothing(x), eps=1e-5)
    compare("layer_norm", out, functional.layer_norm(x.double(), (columns,), w.double(), b.double()), 1e-5)
    out = PEERS["rms_norm"].launch(config, x, w, nothing(x), eps=1e-5)
    compare("rms_norm", out, functional.rms_norm(x.double(), (columns,), w.double(), 1e-5), 1e-5)

for size in (3000, 1):
    x, y = torch.randn(size), torch.randn(size)
    for config in PEERS["add"].configs:
        compare("add", PEERS["add"].launch(config, x, y, nothing(x)), x + y, 0)
        compare("copy", PEERS["copy"].launch(config, x, nothing(x)), x, 0)
        compare("gelu", PEERS["gelu"].launch(config, x, nothing(x)), functional.gelu(x.double()), 1e-6)

table, indices = torch.randn(11, 600), torch.randint(0, 11, (7,))
for config in PEERS["embedding"].configs:
    compare("embedding", PEERS["embedding"].launch(config, indices, table, torch.zeros(7, 600)), table[indices], 0)

for m, n, k in ((64, 64, 64), (72, 40, 48), (16, 136, 200)):
    a, b = torch.randn(m, k).half(), torch.randn(k, n).half()
    config = small(PEERS["matmul"].configs[0], BM=16, BN=32, BK=32, GROUP=2)
    for programs in (1, 3, 100):
        out = PEERS["matmul"].launch(config, a, b, torch.zeros(m, n).half(), programs=programs)
        compare(f"matmul {m}x{n}x{k}", out, a.double() @ b.double(), 0.05)

for causal in (False, True):
    for m, n in ((64, 64), (40, 40), (33, 64) if not causal else (50, 50)):
        q = torch.randn(1, 2, m, 32).half()
        k, v = torch.randn(1, 2, n, 32).half(), torch.randn(1, 2, n, 32).half()
        for bm, bn in ((16, 32), (32, 16)):
            config = small(PEERS["attention"].configs[0], BM=bm, BN=bn)
            out = PEERS["attention"].launch(config, q, k, v, torch.zeros_like(q), causal=causal, scale=0.18)
            scores = q.double() @ k.double().mT * 0.18
            scores = scores.masked_fill(torch.ones(m, n, dtype=torch.bool).triu(1), float("-inf")) if causal else scores
            wanted = scores.softmax(-1) @ v.double()
            compare(f"attention {m} {n} causal={causal} {bm}x{bn}", out, wanted, 5e-3)

sys.exit(1 if failures else 0)

"""The limits of a GPU, timed in the rounds of each row: copying as many bytes as the row moves, and multiplying on tensor
cores without touching memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from opdsl.runtime.devices import Device

from ..rows import Roof
from .problems import torch_dtype

TILE_M, TILE_N, TILE_K, WARPS = 128, 256, 64, 8
STEPS = 400  # products of tiles in a program: about half a millisecond
# Copies smaller than this are no measure: their time is that of the launch.
LEAST_BYTES = 1 << 20


@dataclass(frozen=True)
class Probe:
    """A limit as something to call; `amount` is what one call does: floating-point operations, or bytes moved."""

    name: str
    call: Callable[[], object]
    amount: float


def memory(bytes_moved: int) -> Probe:
    """PyTorch's copy of half as many bytes: each is read once and written once."""
    import torch

    size = max(bytes_moved // 2, LEAST_BYTES) // 16 * 16
    source = torch.zeros(size, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return Probe("memory", lambda: target.copy_(source), 2.0 * size)


@cache
def _probe_kernel() -> Any:
    from .probe import products_kernel

    return products_kernel


def tensor_cores(dtype: str) -> Probe | None:
    """Products of one pair of tiles, over and over, into sums in registers; None for dtypes without tensor cores."""
    import torch

    if dtype not in ("f16", "bf16"):
        return None
    programs = 2 * torch.cuda.get_device_properties("cuda").multi_processor_count
    a = torch.randn(TILE_M, TILE_K, device="cuda").to(torch_dtype(dtype))
    b = torch.randn(TILE_K, TILE_N, device="cuda").to(torch_dtype(dtype))
    out = torch.empty(programs, device="cuda")
    kernel = _probe_kernel()

    def call() -> None:
        kernel[(programs,)](a, b, out, STEPS, M=TILE_M, N=TILE_N, K=TILE_K, num_warps=WARPS, enable_fp_fusion=True)

    return Probe("tensor cores", call, 2.0 * TILE_M * TILE_N * TILE_K * STEPS * programs)


def survey(device: Device) -> list[Roof]:
    """The limits of the GPU, for the report's lines; rows have their own beside them."""
    found = []
    copy = memory(2 << 30)
    best = min(device.time(copy.call, 5) / 5 for _ in range(5))
    found.append(Roof("copy", 1, gbps=copy.amount / best / 1e9, bytes=int(copy.amount)))
    for dtype in ("f16", "bf16"):
        products = tensor_cores(dtype)
        if products is not None:
            best = min(device.time(products.call, 10) / 10 for _ in range(5))
            found.append(Roof(f"{dtype} tensor cores", 1, gflops=products.amount / best / 1e9))
    return found

"""The acceptance kernels with several sets of arguments each, so that every branch of their programs is taken by one of
them: whole tiles, tiles that stick out, one tile, several iterations on a core, none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from support.acceptance import load
from support.checks import F16, F32, exact_integers, real
from support.ops import unit_axis

from opdsl.runtime.launch import lower_call
from opdsl.targets.base import Request

Arguments = Sequence[Any]


@dataclass(frozen=True)
class Case:
    """A specialised kernel. `sets` makes the sets of arguments anew. `blocks`: how many of the chip's cores run it, or of
    its pairs of vector cores; 0: all."""

    name: str
    request: Request
    sets: Sequence[Callable[[], Arguments]]
    blocks: int = 0


def _case(name: str, kernel: Any, constexprs: Mapping[str, Any], sets: Sequence[Callable[[], Arguments]]) -> Case:
    arguments = sets[0]()
    axes = tuple(unit_axis(a) if isinstance(a, np.ndarray) else None for a in arguments)
    return Case(name, Request(lower_call(kernel, arguments, constexprs), axes), sets)


def _add(n: int) -> Arguments:
    return real((n,), F32), real((n,), F32, 1), np.zeros(n, F32)


def _dropout(n: int) -> Arguments:
    return real((n,), F32), np.zeros(n, F32), 0.3, 7


def _rows(m: int, n: int) -> Arguments:
    return real((m, n), F32), np.zeros((m, n), F32)


def _layer_norm(m: int, n: int) -> Arguments:
    return real((m, n), F32), real((n,), F32, 1), real((n,), F32, 2), np.zeros((m, n), F32), 1e-5


def _matmul(m: int, k: int, n: int) -> Arguments:
    return exact_integers((m, k), F16), exact_integers((k, n), F16, 1), real((n,), F16, 2), np.zeros((m, n), F16)


def _convolution(batch: int, size: int, channels: int, filters: int, padding: int) -> Arguments:
    x, w = real((batch, size, size, channels), F16), real((3, 3, channels, filters), F16, 1)
    return x, w, np.zeros((batch, size - 2 + 2 * padding, size - 2 + 2 * padding, filters), F16)


def _attention(batch: int, m: int, n: int, width: int) -> Arguments:
    q, k, v = real((batch, 2, m, width), F16), real((batch, 1, n, width), F16, 1), real((batch, 1, n, width), F16, 2)
    return q, k, v, np.zeros_like(q), np.zeros(q.shape[:3], F32), 0.25


def _embedding(count: int, width: int) -> Arguments:
    ids = np.random.default_rng(3).integers(-1, 50, count)
    return real((50, width), F32), ids, np.zeros((count, width), F32)


def _embedding_backward(count: int, width: int) -> Arguments:
    ids = np.random.default_rng(3).integers(-1, 50, count)
    return real((count, width), F32), ids, np.zeros((50, width), F32)


def _over(make: Callable[..., Arguments], *sizes: tuple[int, ...]) -> list[Callable[[], Arguments]]:
    return [lambda s=size: make(*s) for size in sizes]  # type: ignore[misc]


def acceptance() -> Iterator[Case]:
    """The acceptance kernels with small tiles, so that each core has several; in one set so many that a core which
    nothing holds would get more than 15 flags ahead."""
    yield _case("add", load("add").add, {"BLOCK": 1000}, _over(_add, (119990,), (120000,), (500,), (49_001,)))
    yield _case("dropout", load("dropout").dropout, {"BLOCK": 64}, _over(_dropout, (9000,), (8192,), (30,)))
    rows = ((399, 300), (400, 256), (390, 40), (3, 70), (397, 128), (398, 1), (399, 0))
    yield _case("softmax", load("softmax").softmax, {}, _over(_rows, *((m, 100) for m in (399, 400, 3, 1))))
    yield _case("softmax_online", load("softmax").softmax_online, {"BN": 64}, _over(_rows, *rows))
    norm = [(m, 100) for m in (399, 400, 3, 1)]
    yield _case("layer_norm", load("layer_norm").layer_norm, {}, _over(_layer_norm, *norm))
    tables = [(1001, 31), (1600, 31), (3, 31)]
    yield _case("embedding", load("embedding").embedding, {}, _over(_embedding, *tables))
    yield _case("embedding_backward", load("embedding").embedding_backward, {}, _over(_embedding_backward, *tables))
    whole = ((256, 128, 320), (1280, 16, 640))
    empty = ((250, 0, 331), (1280, 0, 640))
    products = (*whole, (250, 100, 331), (31, 20, 17), (200, 32, 330), (256, 33, 352), *empty)
    tiles = {"BM": 32, "BN": 32, "BK": 32}
    yield _case("matmul", load("matmul").matmul, tiles, _over(_matmul, *products))
    yield _case(
        "matmul_silu", load("matmul").matmul, {**tiles, "activation": load("matmul").silu}, _over(_matmul, *products)
    )
    images = [(2, 20, 40, 70, 1), (1, 34, 32, 64, 1), (1, 5, 20, 3, 1), (2, 35, 32, 64, 1), (2, 64, 16, 64, 1)]
    images.append((2, 20, 0, 70, 1))  # no channels: nothing is added up
    options = {"padding": 1, "BC": 16, "BW": 16, "BF": 32}
    yield _case("conv2d", load("conv2d").conv2d, options, _over(_convolution, *images))
    sequences = ((1, 200, 170, 16), (4, 384, 128, 16), (9, 192, 40, 16), (1, 30, 70, 16), (8, 200, 192, 16), (8, 70, 0, 16))
    for causal in (False, True):
        name = "flash_attention" + "_causal" * causal
        kernel = load("flash_attention").flash_attention
        yield _case(name, kernel, {"causal": causal, "BM": 32, "BN": 32}, _over(_attention, *sequences))

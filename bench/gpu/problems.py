"""What the GPU rows measure: arguments as torch tensors, the formula that says what is right, costs, the contenders."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..cases import Case

Tensor = Any  # torch.Tensor: parts of torch have no types
Call = Callable[[], Tensor]
EPS = 1e-5


@dataclass(frozen=True)
class Place:
    """Where rows are measured: tensors on `device`, our kernels on `target`. On "cpu" only the harness is tried."""

    device: str
    target: str


@dataclass(frozen=True)
class Argument:
    """How an argument is made. Integers (i64) are indices below `below`."""

    shape: tuple[int, ...]
    dtype: str
    below: int = 0

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * int(torch_dtype(self.dtype).itemsize)


@dataclass(frozen=True)
class Problem:
    """A row to be. `formula(*arguments)` works in f64 and f32 alike.

    `part(arguments, result)` takes what is checked of large ones. `contenders` make a call of (arguments, out), which
    returns the result; those of a name are ways to the same, of which the fastest counts.
    """

    shape: str
    arguments: Sequence[Argument]
    output: Argument
    formula: Callable[..., Tensor]
    contenders: Mapping[str, Sequence[Callable[[Sequence[Tensor], Tensor], Call]]]
    flops: float | None = None
    part: Callable[[Sequence[Tensor], Tensor], tuple[Sequence[Tensor], Tensor]] | None = None
    read: int | None = None  # bytes, where not every argument is read whole

    @property
    def bytes(self) -> int:
        """Each array read or written once."""
        read = sum(argument.bytes for argument in self.arguments) if self.read is None else self.read
        return read + self.output.bytes


def torch_dtype(name: str) -> Any:
    import torch

    return {
        "f64": torch.float64, "f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16, "i64": torch.int64,
    }[name]  # fmt: skip


def make(argument: Argument, device: str, seed: int) -> Tensor:
    """Normal numbers, or indices."""
    import torch

    generator = torch.Generator(device=device).manual_seed(seed)
    if argument.below:
        return torch.randint(0, argument.below, argument.shape, generator=generator, device=device)
    made = torch.randn(argument.shape, generator=generator, device=device, dtype=torch.float32)
    return made.to(torch_dtype(argument.dtype))


def _ours(place: Place, name: str, *extra: Any, **constexprs: Any) -> list[Callable[..., Call]]:
    """The kernel of bench/gpu/kernels.py on (arguments, out, extra scalars)."""

    def prepare(arguments: Sequence[Tensor], out: Tensor) -> Call:
        from . import kernels

        kernel, target = getattr(kernels, name), place.target

        def call() -> Tensor:
            kernel(*arguments, out, *extra, target=target, **constexprs)
            return out

        return call

    return [prepare]


def _peer(name: str, **options: Any) -> list[Callable[..., Call]]:
    """The hand-written Triton kernel, a way for each of its configurations. None where Triton is not installed."""
    try:
        from ..triton_peers.all import PEERS
    except ImportError:
        return []
    peer = PEERS[name]

    def prepare(config: Mapping[str, int], arguments: Sequence[Tensor], out: Tensor) -> Call:
        return functools.partial(peer.launch, config, *arguments, out, **options)

    return [functools.partial(prepare, config) for config in peer.configs]


def _torch(function: Callable[..., Tensor]) -> list[Callable[..., Call]]:
    """`function(*arguments, out)`; it may leave out alone and make its own."""
    return [lambda arguments, out: functools.partial(function, *arguments, out)]


def _contenders(
    place: Place, ours: list[Callable[..., Call]], torch: Callable[..., Tensor], peer: list[Callable[..., Call]]
) -> dict[str, Sequence[Callable[[Sequence[Tensor], Tensor], Call]]]:
    found: dict[str, Sequence[Callable[[Sequence[Tensor], Tensor], Call]]] = {"opdsl": ours, "torch": _torch(torch)}
    if place.device == "cuda" and peer:
        found["triton"] = peer
    return found


# --- the operators ---------------------------------------------------------------------------------------------------


def matmul(case: Case, place: Place) -> Problem:
    import torch

    m, n, k = case.integer("m"), case.integer("n"), case.integer("k")

    def part(arguments: Sequence[Tensor], result: Tensor) -> tuple[Sequence[Tensor], Tensor]:
        rows = _some(m, 256)
        return (arguments[0][rows], arguments[1]), result[rows]

    return Problem(
        f"{m}x{k}x{n}",
        [Argument((m, k), case.dtype), Argument((k, n), case.dtype)],
        Argument((m, n), case.dtype),
        torch.matmul,
        _contenders(place, _ours(place, "matmul"), lambda a, b, out: torch.matmul(a, b, out=out), _peer("matmul")),
        flops=2.0 * m * n * k,
        part=part,
    )


def attention(case: Case, place: Place) -> Problem:
    from torch.nn import functional

    b, h, m, d = (case.integer(name) for name in "bhmd")
    causal, scale = bool(case.parameters.get("causal", False)), 1 / math.sqrt(case.integer("d"))
    operand = Argument((b, h, m, d), case.dtype)

    def formula(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        import torch

        scores = q @ k.transpose(-1, -2) * scale
        if causal:
            hidden = torch.ones(m, m, dtype=torch.bool, device=q.device).triu(1)
            scores = scores.masked_fill(hidden, float("-inf"))
        return scores.softmax(-1) @ v

    def part(arguments: Sequence[Tensor], result: Tensor) -> tuple[Sequence[Tensor], Tensor]:
        heads = (slice(b - 1, b), slice(h - 1, h))
        return tuple(x[heads] for x in arguments), result[heads]

    def sdpa(q: Tensor, k: Tensor, v: Tensor, out: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale)

    ours = _ours(place, "attention", scale, causal=causal)
    return Problem(
        f"{b}x{h}x{m}x{d}" + (" causal" if causal else ""),
        [operand] * 3,
        operand,
        formula,
        _contenders(place, ours, sdpa, _peer("attention", causal=causal, scale=scale)),
        flops=4.0 * b * h * m * m * d * (0.5 if causal else 1.0),
        part=part,
    )


def _rows(case: Case) -> tuple[Argument, Argument]:
    m, n = case.integer("m"), case.integer("n")
    return Argument((m, n), case.dtype), Argument((n,), case.dtype)


def softmax(case: Case, place: Place) -> Problem:
    import torch

    x, _ = _rows(case)
    peers = _contenders(place, _ours(place, "softmax"), lambda x, out: torch.softmax(x, -1), _peer("softmax"))
    return Problem(_shape(x), [x], x, lambda t: t.softmax(-1), peers)


def layer_norm(case: Case, place: Place) -> Problem:
    from torch.nn import functional

    x, row = _rows(case)

    def norm(x: Tensor, weight: Tensor, bias: Tensor, out: Tensor = None) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:], weight, bias, EPS)

    peers = _contenders(place, _ours(place, "layer_norm", EPS), norm, _peer("layer_norm", eps=EPS))
    return Problem(_shape(x), [x, row, row], x, norm, peers)


def rms_norm(case: Case, place: Place) -> Problem:
    from torch.nn import functional

    x, row = _rows(case)

    def norm(x: Tensor, weight: Tensor, out: Tensor = None) -> Tensor:
        return functional.rms_norm(x, x.shape[-1:], weight, EPS)

    peers = _contenders(place, _ours(place, "rms_norm", EPS), norm, _peer("rms_norm", eps=EPS))
    return Problem(_shape(x), [x, row], x, norm, peers)


def _flat(case: Case) -> Argument:
    return Argument((case.integer("n"),), case.dtype)


def add(case: Case, place: Place) -> Problem:
    import torch

    x = _flat(case)
    peers = _contenders(place, _ours(place, "add"), lambda x, y, out: torch.add(x, y, out=out), _peer("add"))
    return Problem(_shape(x), [x, x], x, torch.add, peers)


def gelu(case: Case, place: Place) -> Problem:
    from torch.nn import functional

    x = _flat(case)
    peers = _contenders(place, _ours(place, "gelu"), lambda x, out: functional.gelu(x), _peer("gelu"))
    return Problem(_shape(x), [x], x, functional.gelu, peers)


def copy(case: Case, place: Place) -> Problem:
    x = _flat(case)
    peers = _contenders(place, _ours(place, "copy"), lambda x, out: out.copy_(x), _peer("copy"))
    return Problem(_shape(x), [x], x, lambda t: t, peers)


def embedding(case: Case, place: Place) -> Problem:
    import torch

    v, d, n = case.integer("v"), case.integer("d"), case.integer("n")
    ids, table = Argument((n,), "i64", below=v), Argument((v, d), case.dtype)
    out = Argument((n, d), case.dtype)
    peers = _contenders(
        place,
        _ours(place, "embedding"),
        lambda ids, table, out: torch.index_select(table, 0, ids, out=out),
        _peer("embedding"),
    )
    read = ids.bytes + min(table.bytes, out.bytes)
    return Problem(f"{n} of {v}x{d}", [ids, table], out, lambda i, t: t[i], peers, read=read)


def _shape(argument: Argument) -> str:
    return "x".join(map(str, argument.shape))


def _some(size: int, count: int) -> Any:
    """Rows to check: the first, the last, and some between."""
    import torch

    if size <= count:
        return torch.arange(size)
    return torch.unique(torch.linspace(0, size - 1, count).round().long())


SUITES: dict[str, dict[str, Callable[[Case, Place], Problem]]] = {
    "matmul": {"matmul": matmul},
    "attention": {"attention": attention},
    "softmax_norm": {"softmax": softmax, "layer_norm": layer_norm, "rms_norm": rms_norm},
    "elementwise": {"add": add, "gelu": gelu, "copy": copy, "embedding": embedding},
}

"""What a peer is: a Triton kernel with the configurations that may be fast, how it is launched, how it is compiled."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Config = Mapping[str, int]

POINTERS = {"f32": "*fp32", "f16": "*fp16", "bf16": "*bf16", "i64": "*i64"}


@dataclass(frozen=True)
class Value:
    """A constexpr among the arguments of a kernel."""

    value: Any


@dataclass(frozen=True)
class Peer:
    """`launch(config, *tensors, out, **options)` runs it and returns its output. `signature(dtype, config)` has the
    types of the kernel's arguments in order, and the values of its constexprs: what compiling without a GPU needs."""

    name: str
    kernel: Any
    configs: Sequence[Config]
    launch: Callable[..., Any]
    signature: Callable[[str, Config], Mapping[str, Any]]
    dtypes: Sequence[str] = ("f32", "f16", "bf16")


def compiler_options(config: Config) -> dict[str, Any]:
    """The part of a configuration that is the compiler's. Fused multiply-adds as everywhere on GPUs."""
    return {name: config[name] for name in ("num_warps", "num_stages") if name in config} | {"enable_fp_fusion": True}


def values(config: Config, *names: str) -> dict[str, Value]:
    """Constexprs that have the names and values of a configuration."""
    return {name: Value(config[name]) for name in names}


def compile_for(peer: Peer, dtype: str, config: Config, backend: str, arch: int | str, warp: int) -> Mapping[str, Any]:
    """The compiled kernel's stages (ttir, ttgir, ptx, ...), for a GPU that need not be there."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    types = peer.signature(dtype, config)
    signature = {name: "constexpr" if isinstance(kind, Value) else kind for name, kind in types.items()}
    constants = {name: kind.value for name, kind in types.items() if isinstance(kind, Value)}
    aligned = {(place,): [["tt.divisibility", 16]] for place, kind in enumerate(signature.values())
               if kind.startswith("*") or kind == "i32"}  # fmt: skip
    source = ASTSource(peer.kernel, signature=signature, constexprs=constants, attrs=aligned)
    compiled = triton.compile(source, target=GPUTarget(backend, arch, warp), options=compiler_options(config))
    return dict(compiled.asm)

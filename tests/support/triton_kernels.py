"""The acceptance kernels as the tests of the target `triton` compile them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from opdsl.ir.core import Kernel
from opdsl.ir.types import DTYPES
from opdsl.runtime.launch import contiguous_request
from opdsl.targets.base import Request
from support.acceptance import load

ARCHES = ("sm_80", "sm_90", "sm_100", "gfx942")


@dataclass(frozen=True)
class Case:
    """A kernel of an acceptance file, with constexprs. `extras` are features that its PTX must show."""

    module: str
    kernel: str
    constexprs: Mapping[str, Any] = field(default_factory=dict)
    products: bool = False
    pipelined: bool = False
    wide_loads: bool = True

    @property
    def name(self) -> str:
        return self.kernel

    def ir(self, dtype: str) -> Kernel:
        kernel = getattr(load(self.module), self.kernel)
        dtypes = dict.fromkeys(kernel.signature.dtype_variables, DTYPES[dtype])
        values = kernel.check_constexprs(dict(self.constexprs), {})
        result: Kernel = kernel.specialise(dtypes, values)
        return result

    def request(self, dtype: str, **options: Any) -> Request:
        return contiguous_request(self.ir(dtype), **options)


CASES = {
    case.name: case
    for case in (
        Case("add", "add"),
        Case("matmul", "matmul", products=True, pipelined=True),
        Case("softmax", "softmax", {"N": 1024}),
        Case("softmax", "softmax_online", pipelined=True),
        Case("layer_norm", "layer_norm", {"N": 1000}),
        Case("flash_attention", "flash_attention", {"D": 64, "causal": True}, products=True, pipelined=True),
        Case("conv2d", "conv2d", {"KH": 1, "KW": 1}, products=True, pipelined=True),
        Case("dropout", "dropout"),
        Case("embedding", "embedding", {"D": 256}),
        Case("embedding", "embedding_backward", {"D": 256}),
    )
}

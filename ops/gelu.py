"""GELU, x times the normal distribution's function: `gelu(x, *, approximate="none", out=None, target=None)`.

Any shape and strides; floats keep their dtype (narrow ones are computed in f32), integers give f32. Source: Hendrycks &
Gimpel, arXiv:1606.08415; torch.nn.functional.gelu. Errors: ArgumentError for another `approximate`, else those of the
activations.
"""

from __future__ import annotations

import math
from typing import Any

from opdsl.ops.arguments import argument_error
from opdsl.ops.launching import FastCall
from opdsl.ops.pointwise import Pointwise

import opdsl as od
from opdsl.support.knobs import knobs


@od.function
def gelu_erf_(x):
    # In this order 1 + erf is exact where it cancels; half + half * erf would round half * erf first.
    return (0.5 * x) * (1.0 + od.erf(x * math.sqrt(0.5)))


@od.function
def gelu_tanh_(x):
    # 0.5 (1 + tanh(u)) = 1 / (1 + exp(-2 u)): one exponential, to base 2 so that its scale is in the constants.
    scale = -2.0 * math.sqrt(2.0 / math.pi) * math.log2(math.e)
    return x / (1.0 + od.exp2(x * (scale + 0.044715 * scale * (x * x))))


_forms = {
    "none": Pointwise("gelu", gelu_erf_, result="float"),
    "tanh": Pointwise("gelu", gelu_tanh_, result="float"),
}
_exact: FastCall = _forms["none"].call


def gelu(x: Any, *, approximate: str = "none", out: Any = None, target: str | None = None) -> Any:
    """x * (1 + erf(x / sqrt(2))) / 2; with approximate="tanh", its approximation by tanh."""
    call = _exact if approximate == "none" else None
    if call is not None and target is None and call.generation == knobs.generation and call.fast(x, out) is None:
        return out
    form = _forms.get(approximate)
    if form is None:
        raise argument_error("gelu", f"approximate is {approximate!r}", 'it is "none" or "tanh"')
    return form((x,), out, target)

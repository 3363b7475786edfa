"""A kernel language and operator library: one source for CPUs, GPUs and an emulated NPU.

    import opdsl as od

    @od.kernel
    def add(x: od.Tensor["T", "N"], y: od.Tensor["T", "N"], z: od.Tensor["T", "N"], *, BLOCK: od.constexpr = 4096):
        (N,) = x.shape
        for i in od.parallel(range(0, N, BLOCK)):
            od.copy_out(od.copy_in(x[i:i + BLOCK]) + od.copy_in(y[i:i + BLOCK]), z[i:i + BLOCK])

`docs/language.md` has every construct with an example.
"""

from typing import TYPE_CHECKING
from typing import Any as _Any

import opdsl.runtime.launch  # here rather than at the first call, which is to take as little time as can be
import opdsl.support.clock  # first: it notes when the package was loaded
import opdsl.targets.cpu.target  # noqa: F401
from opdsl.ir.types import bf16, f8e4m3, f8e5m2, f16, f32, f64, i8, i16, i32, i64, u8, u16, u32, u64
from opdsl.ir.types import bool_ as bool
from opdsl.lang.annotations import Tensor, constexpr
from opdsl.lang.config import Config
from opdsl.lang.function import function
from opdsl.lang.kernel import kernel
from opdsl.support.errors import (
    ArgumentError,
    CompileError,
    DTypeError,
    LaunchError,
    OpdslError,
    ShapeError,
    UsageError,
)

# The built-ins are needed where a kernel is traced, which a kernel in the cache does without. So they are loaded on
# first use, as other names that most programs do not need. `name=other`: the name there, and ours.
_LATER = {
    "opdsl.lang.builtins_control": "assert_ parallel pipelined static_assert static_print unrolled print_=print",
    "opdsl.lang.builtins_math": (
        "abs_=abs acos asin atan atan2 cast cdiv ceil clamp cos cosh erf exp exp2 expm1 floor fma inf "
        "isfinite isinf isnan log log1p log2 log10 logical_not maximum minimum nan pi rsqrt sigmoid sin sinh "
        "sqrt tan tanh trunc where pow_=pow round_=round"
    ),
    "opdsl.lang.builtins_memory": "copy_in copy_out rand rand_bits randint randn",
    "opdsl.lang.builtins_reduce": (
        "all_=all any_=any argmax argmin argsort cummax cummin cumprod cumsum dot mean prod scan sort topk "
        "max_=max min_=min reduce_=reduce sum_=sum"
    ),
    "opdsl.lang.builtins_shape": (
        "arange broadcast_to concat expand_dims flip full ones reshape split squeeze stack transpose zeros"
    ),
    "opdsl.runtime.threads": "set_num_threads get_num_threads",
    "opdsl.runtime.memory": "empty",
    "opdsl.support.knobs": "knobs",
}
_PLACES: dict[str, tuple[str, str]] = {}  # our name -> module and name there
for _module, _names in _LATER.items():
    for _name in _names.split():
        _theirs, _, _ours = _name.partition("=")
        _PLACES[_ours or _theirs] = (_module, _theirs)

if TYPE_CHECKING:
    from opdsl.lang.builtins_control import assert_, parallel, pipelined, static_assert, static_print, unrolled
    from opdsl.lang.builtins_control import print_ as print
    from opdsl.lang.builtins_math import abs_ as abs
    from opdsl.lang.builtins_math import (
        acos,
        asin,
        atan,
        atan2,
        cast,
        cdiv,
        ceil,
        clamp,
        cos,
        cosh,
        erf,
        exp,
        exp2,
        expm1,
        floor,
        fma,
        inf,
        isfinite,
        isinf,
        isnan,
        log,
        log1p,
        log2,
        log10,
        logical_not,
        maximum,
        minimum,
        nan,
        pi,
        rsqrt,
        sigmoid,
        sin,
        sinh,
        sqrt,
        tan,
        tanh,
        trunc,
        where,
    )
    from opdsl.lang.builtins_math import pow_ as pow
    from opdsl.lang.builtins_math import round_ as round
    from opdsl.lang.builtins_memory import copy_in, copy_out, rand, rand_bits, randint, randn
    from opdsl.lang.builtins_reduce import all_ as all
    from opdsl.lang.builtins_reduce import any_ as any
    from opdsl.lang.builtins_reduce import (
        argmax,
        argmin,
        argsort,
        cummax,
        cummin,
        cumprod,
        cumsum,
        dot,
        mean,
        prod,
        scan,
        sort,
        topk,
    )
    from opdsl.lang.builtins_reduce import max_ as max
    from opdsl.lang.builtins_reduce import min_ as min
    from opdsl.lang.builtins_reduce import reduce_ as reduce
    from opdsl.lang.builtins_reduce import sum_ as sum
    from opdsl.lang.builtins_shape import (
        arange,
        broadcast_to,
        concat,
        expand_dims,
        flip,
        full,
        ones,
        reshape,
        split,
        squeeze,
        stack,
        transpose,
        zeros,
    )

__all__ = [
    "ArgumentError",
    "CompileError",
    "Config",
    "DTypeError",
    "LaunchError",
    "OpdslError",
    "ShapeError",
    "Tensor",
    "UsageError",
    "abs",
    "acos",
    "all",
    "any",
    "arange",
    "argmax",
    "argmin",
    "argsort",
    "asin",
    "assert_",
    "atan",
    "atan2",
    "bf16",
    "bool",
    "broadcast_to",
    "cast",
    "cdiv",
    "ceil",
    "clamp",
    "concat",
    "constexpr",
    "copy_in",
    "copy_out",
    "cos",
    "cosh",
    "cummax",
    "cummin",
    "cumprod",
    "cumsum",
    "dot",
    "erf",
    "exp",
    "exp2",
    "expand_dims",
    "expm1",
    "f8e4m3",
    "f8e5m2",
    "f16",
    "f32",
    "f64",
    "flip",
    "floor",
    "fma",
    "full",
    "function",
    "i8",
    "i16",
    "i32",
    "i64",
    "inf",
    "isfinite",
    "isinf",
    "isnan",
    "kernel",
    "log",
    "log1p",
    "log2",
    "log10",
    "logical_not",
    "max",
    "maximum",
    "mean",
    "min",
    "minimum",
    "nan",
    "ones",
    "parallel",
    "pi",
    "pipelined",
    "pow",
    "print",
    "prod",
    "rand",
    "rand_bits",
    "randint",
    "randn",
    "reduce",
    "reshape",
    "round",
    "rsqrt",
    "scan",
    "sigmoid",
    "sin",
    "sinh",
    "sort",
    "split",
    "sqrt",
    "squeeze",
    "stack",
    "static_assert",
    "static_print",
    "sum",
    "tan",
    "tanh",
    "topk",
    "transpose",
    "trunc",
    "u8",
    "u16",
    "u32",
    "u64",
    "unrolled",
    "where",
    "zeros",
]


def __getattr__(name: str) -> _Any:
    place = _PLACES.get(name)
    if place is None:
        message = f"module 'opdsl' has no attribute {name!r}"
        if name.startswith("_"):  # `from opdsl import _runtime` asks here before it looks for a module
            raise AttributeError(message)
        from opdsl.lang.foreign_names import equivalent

        help = equivalent(name)
        raise AttributeError(f"{message}; {help}" if help else message)
    import importlib

    value = getattr(importlib.import_module(place[0]), place[1])
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PLACES})

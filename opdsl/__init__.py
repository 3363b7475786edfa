"""A kernel language and operator library: one source for CPUs, GPUs and an emulated NPU.

    import opdsl as od

    @od.kernel
    def add(x: od.Tensor["T", "N"], y: od.Tensor["T", "N"], z: od.Tensor["T", "N"], *, BLOCK: od.constexpr = 4096):
        (N,) = x.shape
        for i in od.parallel(range(0, N, BLOCK)):
            od.copy_out(od.copy_in(x[i:i + BLOCK]) + od.copy_in(y[i:i + BLOCK]), z[i:i + BLOCK])

`docs/language.md` has every construct with an example.
"""

from typing import Any as _Any

import opdsl.runtime.launch  # here rather than at the first call, which is to take as little time as can be
import opdsl.support.clock  # first: it notes when the package was loaded
import opdsl.targets.cpu.target
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
    "opdsl.lang.builtins_math": (  # beside those of `opdsl.ir.functions`
        "abs_=abs atan2 cast cdiv clamp fma inf isfinite isinf isnan logical_not maximum minimum nan pi pow_=pow where"
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

_OURS = {name for name, value in globals().items() if name[0] != "_" and type(value).__name__ != "module"}


def _names() -> list[str]:
    """All that `import opdsl as od` offers. Editors and type checkers read `__init__.pyi`, which tests keep in step."""
    from opdsl.ir.functions import COMPOSITIONS, FUNCTIONS

    return sorted({*_OURS, *_PLACES, *FUNCTIONS, *COMPOSITIONS})


def _place(name: str) -> tuple[str, str] | None:
    """Where a name that is loaded on first use is: a module, and the name there."""
    if name in _PLACES or name.startswith("_"):  # `from opdsl import _runtime` asks here before it looks for a module
        return _PLACES.get(name)
    from opdsl.ir.functions import COMPOSITIONS, FUNCTIONS

    if name in COMPOSITIONS:
        return "opdsl.lang.compositions", name
    return ("opdsl.lang.builtins_math", name) if name in FUNCTIONS else None


def __getattr__(name: str) -> _Any:
    if name == "__all__":
        return _names()
    if name == "__version__":
        from importlib.metadata import version

        return version("opdsl")
    place = _place(name)
    if place is None:
        message = f"module 'opdsl' has no attribute {name!r}"
        if name.startswith("_"):
            raise AttributeError(message)
        from opdsl.lang.foreign_names import equivalent

        help = equivalent(name)
        raise AttributeError(f"{message}; {help}" if help else message)
    import importlib

    value = getattr(importlib.import_module(place[0]), place[1])
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_names()})

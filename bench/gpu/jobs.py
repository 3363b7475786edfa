"""What `gpu_check` checks: every operator, every acceptance kernel and example, every kernel of the benchmarks, in every
dtype; each is a job of its own, which a worker process runs (worker.py)."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import DTYPES

FLOATS = ("f32", "f16", "bf16")
SIZE = 20011  # elements of an operator's arguments: more than one tile, no multiple of anything
SOME_ROUNDINGS = 4.0  # units in the last place that are always allowed


@dataclass(frozen=True)
class Job:
    """One check. `kind` says which of the functions below runs it."""

    kind: str
    name: str
    dtype: str
    file: str = ""
    dims: str = ""
    set: str = ""
    arg: str = ""
    config: int = -1

    @property
    def title(self) -> str:
        return " ".join(filter(None, (self.kind, self.name, self.dtype, self.set)))

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Outcome:
    """`status`: ok, wrong, failed, compiled (no GPU), refused (the target says that it cannot)."""

    status: str
    detail: str = ""
    error: float | None = None
    allowed: float | None = None

    @property
    def good(self) -> bool:
        return self.status in ("ok", "compiled")


# File, kernel, sizes that are no multiples of tiles, --set, --arg, dtypes.
_KERNELS: tuple[tuple[str, str, str, str, str, tuple[str, ...]], ...] = (
    ("add", "add", "N=100003", "", "", (*FLOATS, "f64", "i32")),
    ("softmax", "softmax", "M=101 N=700", "", "", FLOATS),
    ("softmax", "softmax", "M=64 N=1024", "BM=1", "", FLOATS),
    ("softmax", "softmax_online", "M=101 N=3000", "", "", FLOATS),
    ("layer_norm", "layer_norm", "M=101 N=700", "", "eps=1e-5", FLOATS),
    ("dropout", "dropout", "N=100003", "", "p=0.3 seed=7", FLOATS),
    ("embedding", "embedding", "V=50 D=60 N=2000", "", "", FLOATS),
    ("embedding", "embedding_backward", "V=50 D=60 N=2000", "", "", FLOATS),
    ("matmul", "matmul", "M=300 K=200 N=170", "", "", FLOATS),
    ("matmul", "matmul", "M=256 K=512 N=256", "activation=silu BM=64", "", FLOATS),
    ("conv2d", "conv2d", "B=2 H=12 W=40 C=20 KH=3 KW=3 F=70 OH=12 OW=40", "padding=1", "", FLOATS),
    ("flash_attention", "flash_attention", "B=2 H=4 HK=2 M=150 N=170 D=32", "", "scale=0.2", FLOATS),
    ("flash_attention", "flash_attention", "B=1 H=4 HK=4 M=256 N=256 D=64", "causal=True", "scale=0.125", FLOATS),
)
_EXAMPLES: tuple[tuple[str, str, str, str, str, tuple[str, ...]], ...] = (
    ("vector_add", "vector_add", "N=100003", "", "", FLOATS),
    ("bias_gelu", "bias_gelu", "M=100 N=300", "", "", FLOATS),
    ("row_softmax", "row_softmax", "M=100 N=300", "", "", FLOATS),
    ("linear", "linear", "M=130 K=200 N=150", "activation=relu", "", FLOATS),
    ("histogram", "histogram", "N=100003 BINS=64", "", "low=-4.0 high=4.0", ("f32",)),
    ("stencil", "heat_step", "H=130 W=200", "", "", ("f32",)),
    ("recurrence", "recurrence", "M=100 N=64", "", "", ("f32",)),
)


def value_jobs(acceptance: Path | None, examples: Path | None) -> list[Job]:
    """Every check of values; those of files where the folder is there."""
    found = []
    for folder, kernels in ((acceptance, _KERNELS), (examples, _EXAMPLES)):
        for file, kernel, dims, given, arg, dtypes in kernels if folder is not None else ():
            path = str(folder / f"{file}.py") if folder is not None else ""
            found += [Job("kernel", kernel, dtype, path, dims, given, arg) for dtype in dtypes]
    return [*found, *_operator_jobs()]


def _operator_jobs() -> Iterator[Job]:
    from opdsl.ops.registry import OPERATORS

    short = {"float32": "f32", "float64": "f64", "float16": "f16", "bfloat16": "bf16"}
    for name, operator in OPERATORS.items():
        for dtype in operator.dtypes:
            yield Job("operator", name, short.get(dtype, dtype))


def config_jobs(name: str, dtype: str, sizes: Mapping[str, int], given: Mapping[str, Any]) -> list[Job]:
    """Compiling every configuration of one of the benchmarks' kernels, and its defaults."""
    from . import kernels

    kernel = getattr(kernels, name)
    dims = " ".join(f"{n}={size}" for n, size in small(sizes, kernel.signature.constexprs).items())
    fixed = " ".join(f"{n}={value}" for n, value in given.items())
    return [
        Job("config", name, dtype, dims=dims, set=fixed, config=number) for number in range(-1, len(kernel.configs))
    ]


# --- running one -----------------------------------------------------------------------------------------------------


def run(job: Job, target: str, on_gpu: bool) -> Outcome:
    """Does a job. Without a GPU everything is compiled, and nothing runs."""
    from opdsl.support.errors import CompileError
    from opdsl.targets.triton.errors import DeviceError

    kinds: dict[str, Callable[[Job, str, bool], Outcome]] = {
        "operator": _operator, "kernel": _kernel, "config": _config,
    }  # fmt: skip
    try:
        return kinds[job.kind](job, target, on_gpu)
    except DeviceError as error:
        return Outcome("failed", _first_line(error)) if on_gpu else Outcome("compiled")
    except CompileError as error:
        return Outcome("refused", _first_line(error))
    except Exception as error:  # noqa: BLE001 - a failure is a result
        return Outcome("failed", f"{type(error).__name__}: {_first_line(error)}")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:400]


def judge(result: Any, exact: Any, plain: Any, ulps: float = SOME_ROUNDINGS) -> Outcome:
    """Rule 2 of the project's checks: at most twice the error of the formula in f32 rounded once, in maximum and in root
    mean square, with a floor of a few units in the last place. Integers and booleans: equal."""
    import ml_dtypes

    found = np.asarray(result)
    wanted = np.asarray(exact)
    if found.shape != wanted.shape:
        return Outcome("wrong", f"shape {found.shape}, not {wanted.shape}")
    if found.dtype.kind in "iub":
        return Outcome("ok", error=0.0) if np.array_equal(found, wanted) else Outcome("wrong", "not equal")
    with np.errstate(all="ignore"):
        rounded, z = (np.asarray(a).astype(found.dtype).astype(np.float64) for a in (wanted, plain))
    x, y = found.astype(np.float64), wanted.astype(np.float64)
    # NaN, infinities, and what the result's type cannot hold: as the exact result rounded, or as the plain one.
    special = ~(np.isfinite(rounded) & np.isfinite(z))
    as_either = (x == rounded) | (x == z) | (np.isnan(x) & (np.isnan(rounded) | np.isnan(z)))
    if not as_either[special].all() or not np.isfinite(x[~special]).all():
        return Outcome("wrong", "NaN or infinity where there should be none, or the other way round")
    x, y, z = x[~special], y[~special], z[~special]
    unit = ulps * float(ml_dtypes.finfo(found.dtype).eps)  # type: ignore[no-untyped-call]
    largest = Outcome("ok", error=0.0, allowed=0.0)
    for name, norm in (("largest", _largest), ("root mean square", _root_mean_square)):
        error, allowed = norm(x - y), max(2 * norm(z - y), unit * norm(y))
        if not error <= allowed:
            return Outcome("wrong", f"the {name} error is {error:.2e}, allowed are {allowed:.2e}", error, allowed)
        if name == "largest":
            largest = Outcome("ok", error=error, allowed=allowed)
    return largest


def _largest(values: Any) -> float:
    return float(np.abs(values).max(initial=0.0))


def _root_mean_square(values: Any) -> float:
    return float(np.sqrt(np.mean(np.square(values)))) if values.size else 0.0


def _operator(job: Job, target: str, on_gpu: bool) -> Outcome:
    """An operator on random arguments against its reference in f64."""
    from opdsl.ops.registry import OPERATORS

    operator = OPERATORS[job.name]
    dtype = DTYPES.get(job.dtype, np.dtype(np.float32))
    worst = Outcome("ok", error=0.0, allowed=0.0)
    compiled: Outcome | None = None
    for call in operator.calls(np.random.default_rng(7), dtype, SIZE):
        try:
            result = operator.function(*call.arguments, target=target, **call.keywords)
        except Exception as error:
            from opdsl.targets.triton.errors import DeviceError

            if on_gpu or not isinstance(error, DeviceError):
                raise
            compiled = Outcome("compiled")
            continue

        def widened(value: Any, to: Any) -> Any:
            is_float = isinstance(value, np.ndarray) and value.dtype.kind not in "iub"
            return value.astype(to) if is_float else value

        results = []
        for wide in (np.float64, np.float64 if dtype == np.float64 else np.float32):
            with np.errstate(all="ignore"):
                arguments = [widened(value, wide) for value in call.arguments]
                keywords = {name: widened(value, wide) for name, value in call.keywords.items()}
                results.append(operator.reference(*arguments, **keywords))
        outcome = judge(result, results[0], results[1], operator.ulps)
        if not outcome.good:
            return outcome
        if (outcome.error or 0.0) > (worst.error or 0.0):
            worst = outcome
    return compiled or worst


def _kernel(job: Job, target: str, on_gpu: bool) -> Outcome:
    """A kernel of a file on random arguments, as `opdsl run` does it; without a usable reference, the interpreter's
    result counts, for which both compute in the same types."""
    from opdsl.harness.arguments import compare, find_reference, prepare
    from opdsl.harness.errors import CommandError
    from opdsl.harness.loading import load_file
    from opdsl.harness.specialising import Options

    file = load_file(job.file)
    kernel = file.kernels[job.name]
    dtype = [job.dtype] if kernel.signature.dtype_variables else []
    words = argparse.Namespace(dtype=dtype, dim=job.dims.split(), set=job.set.split(), arg=job.arg.split(), seed=0)
    (one,) = Options(words, [kernel], file.module, all_dims=True).specialise(kernel)
    prepared = prepare(one, words)
    prepared.call(target)
    reference = find_reference(file, kernel.name)
    if reference is not None:
        try:
            comparison = compare(reference, prepared)
        except (CommandError, TypeError):
            pass
        else:
            return Outcome(
                "ok" if comparison.good else "wrong",
                ""
                if comparison.good
                else f"error {comparison.error:.2e} of the largest, allowed {comparison.allowed:.2e}",
                comparison.error,
                comparison.allowed,
            )
    found = {name: array.copy() for name, array in prepared.outputs().items()}
    prepared.clear_outputs()
    prepared.call("interp")
    outcomes = [judge(found[name], array, array, 8.0) for name, array in prepared.outputs().items()]
    return next((outcome for outcome in outcomes if not outcome.good), outcomes[0])


def small(sizes: Mapping[str, int], bound: Sequence[str]) -> dict[str, int]:
    """Sizes for which the same code is made as for these: what is a multiple of 16 stays one, constexprs stay."""
    return {name: size if size < 256 or name in bound else 256 + (size % 16 != 0) for name, size in sizes.items()}


def _config(job: Job, target: str, on_gpu: bool) -> Outcome:
    """Compiles a configuration of a kernel of the benchmarks into the cache; on a GPU by a small call."""
    from opdsl.runtime.launch import KernelLaunch, contiguous_request
    from opdsl.targets.triton.arch import ARCHES
    from opdsl.targets.triton.compiler import compile_request

    from . import kernels

    kernel = getattr(kernels, job.name)
    config = kernel.configs[job.config] if job.config >= 0 else None
    constexprs = dict(config.constexprs) if config else {}
    options = dict(config.options) if config else {}
    if job.name == "attention":
        constexprs["causal"] = job.set == "causal=True"
    sizes = {name: int(value) for name, value in (pair.split("=") for pair in job.dims.split())}
    bound = {name: size for name, size in sizes.items() if name in kernel.signature.constexprs}
    ir = kernel.lower(T=job.dtype, **bound, **constexprs)
    if not on_gpu:
        compile_request(contiguous_request(ir, **options), ARCHES[target.partition(":")[2]])
        return Outcome("compiled")
    variant = KernelLaunch(kernel).variant(target, constexprs, options)
    variant.run_on_device(arguments_for(ir, sizes, [0.1], "cuda"))
    return Outcome("compiled")


def arguments_for(ir: Any, sizes: Mapping[str, int], scalars: Sequence[float], device: str) -> list[Any]:
    """Random tensors for the parameters of a kernel, and scalars in their order."""
    from opdsl.ir.types import TensorType

    from .problems import Argument, make

    left, found = list(scalars), []
    for place, value in enumerate(ir.parameters):
        if not isinstance(value.type, TensorType):
            found.append(left.pop(0))
            continue
        shape = tuple(dim if isinstance(dim, int) else sizes[dim] for dim in value.type.dims)
        below = sizes["V"] if value.type.dtype.name == "i64" else 0
        found.append(make(Argument(shape, value.type.dtype.name, below), device, place))
    return found

"""Where a target's kernels run: how arguments get there, how calls are timed there, what to call the machine."""

from __future__ import annotations

import platform
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from opdsl.support.errors import OpdslError

Call = Callable[[], object]


class DeviceError(OpdslError, RuntimeError):
    """There is no such device here."""


@dataclass(frozen=True)
class Distance:
    """How far one array is from another: the largest difference, the largest element, whether NaN and infinities are at
    the same places, and the unit in the last place of 1 (0: whole numbers)."""

    error: float
    largest: float
    same_special: bool
    unit: float


class Device(Protocol):
    """One machine's processor, or a GPU. `on_gpu`: whether arguments lie in a GPU's memory."""

    on_gpu: bool

    def model(self) -> str:
        """The name that records carry. Works where the device is not there, too: it is then empty."""

    def check(self) -> None:
        """Raises DeviceError where kernels cannot run here."""

    def place(self, arrays: Sequence[Any]) -> list[Any]:
        """Arguments for the device: NumPy's arrays copied there, scalars as they are."""

    def fetch(self, argument: Any) -> Any:
        """A placed array as one of NumPy's."""

    def keep(self, argument: Any) -> Any:
        """A copy of a placed array, where that one is."""

    def distance(self, found: Any, wanted: Any) -> Distance:
        """Of two placed arrays, measured where they are."""

    def time(self, call: Call, calls: int) -> float:
        """Seconds that so many calls take, one after the other."""

    def threads(self) -> int | None:
        """How many threads a launch uses, where that means anything."""

    def versions(self) -> Mapping[str, str]:
        """What else decides the times: a compiler, a driver."""


class Processor:
    """The machine's own processor."""

    on_gpu = False

    def model(self) -> str:
        return processor()

    def check(self) -> None:
        return None

    def place(self, arrays: Sequence[Any]) -> list[Any]:
        return list(arrays)

    def fetch(self, argument: Any) -> Any:
        return argument

    def keep(self, argument: Any) -> Any:
        return np.array(argument)

    def distance(self, found: Any, wanted: Any) -> Distance:
        import ml_dtypes

        x, y = found.astype(np.float64), wanted.astype(np.float64)
        finite = np.isfinite(x) & np.isfinite(y)
        whole = found.dtype.kind in "iub"
        return Distance(
            float(np.abs(x[finite] - y[finite]).max(initial=0.0)),
            float(np.abs(y[finite]).max(initial=0.0)),
            np.array_equal(x[~finite], y[~finite], equal_nan=True),
            0.0 if whole else float(ml_dtypes.finfo(found.dtype).eps),  # type: ignore[no-untyped-call]
        )

    def time(self, call: Call, calls: int) -> float:
        repetitions = range(calls)
        start = time.perf_counter()
        for _ in repetitions:
            call()
        return time.perf_counter() - start

    def threads(self) -> int | None:
        from opdsl.runtime.threads import get_num_threads

        return get_num_threads()

    def versions(self) -> Mapping[str, str]:
        from opdsl.support import toolchain

        found = toolchain.find_compiler()
        return {"compiler": f"{found.family} {found.version_text}"}


@cache
def processor() -> str:
    """The processor's model, as the system has it."""
    try:
        with Path("/proc/cpuinfo").open() as lines:
            for line in lines:
                if found := re.match(r"model name\s*:\s*(.+)", line):
                    return found.group(1).strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


class Cuda:
    """An NVIDIA GPU, by PyTorch. Times are those between two events on the stream, launches included."""

    on_gpu = True
    CACHE_BYTES = 256 << 20  # written between calls, so that each finds the second-level cache as cold as the last one

    def __init__(self) -> None:
        self._flushed: Any = None

    def model(self) -> str:
        return _cuda_model()

    def check(self) -> None:
        if not self.model():
            raise DeviceError(
                "there is no GPU that PyTorch can use here: kernels for it can be built (opdsl build --target triton "
                "--arch sm_90) but not measured; run this where there is one, with a CUDA build of PyTorch"
            )

    def place(self, arrays: Sequence[Any]) -> list[Any]:
        return [to_torch(array).cuda() if isinstance(array, np.ndarray) else array for array in arrays]

    def fetch(self, argument: Any) -> Any:
        return to_numpy(argument)

    def keep(self, argument: Any) -> Any:
        return argument.clone()

    def distance(self, found: Any, wanted: Any) -> Distance:
        torch = _torch()
        whole = not found.is_floating_point()
        x, y = (t.double() if whole or t.dtype == torch.float64 else t.float() for t in (found, wanted))
        finite = torch.isfinite(x) & torch.isfinite(y)
        zero = torch.zeros((), dtype=x.dtype, device=x.device)
        same = bool(((x == y) | (torch.isnan(x) & torch.isnan(y)) | finite).all())
        if x.numel() == 0:
            return Distance(0.0, 0.0, True, 0.0)
        return Distance(
            float(torch.where(finite, (x - y).abs(), zero).max()),
            float(torch.where(finite, y.abs(), zero).max()),
            same,
            0.0 if whole else float(torch.finfo(found.dtype).eps),
        )

    def time(self, call: Call, calls: int) -> float:
        """The sum over calls, each between two events, after the second-level cache was overwritten."""
        torch = _torch()
        if self._flushed is None:
            self._flushed = torch.empty(self.CACHE_BYTES, dtype=torch.int8, device="cuda")
        starts = [torch.cuda.Event(enable_timing=True) for _ in range(calls)]
        ends = [torch.cuda.Event(enable_timing=True) for _ in range(calls)]
        for start, end in zip(starts, ends, strict=True):
            self._flushed.zero_()
            start.record()
            call()
            end.record()
        torch.cuda.synchronize()
        milliseconds: float = sum(start.elapsed_time(end) for start, end in zip(starts, ends, strict=True))
        return milliseconds / 1e3

    def threads(self) -> int | None:
        return None

    def versions(self) -> Mapping[str, str]:
        from importlib.metadata import PackageNotFoundError, version

        import torch

        found = {"cuda": str(torch.version.cuda)}
        for name in ("torch", "triton"):
            try:
                found[name] = version(name)
            except PackageNotFoundError:
                continue
        return found


def _torch() -> Any:
    """PyTorch, parts of which have no types."""
    import torch

    return torch


@cache
def _cuda_model() -> str:
    try:
        import torch
    except ImportError:
        return ""
    return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else ""


def to_torch(array: Any) -> Any:
    """NumPy's array as a tensor of the same memory; bf16 and f8, which NumPy's own types lack, by their bits."""
    import torch

    bits = {"bfloat16": ("int16", torch.bfloat16), "float8_e4m3fn": ("int8", torch.float8_e4m3fn),
            "float8_e5m2": ("int8", torch.float8_e5m2)}.get(array.dtype.name)  # fmt: skip
    if bits is None:
        return torch.from_numpy(array)
    return torch.from_numpy(array.view(bits[0])).view(bits[1])


def to_numpy(tensor: Any) -> Any:
    """A tensor, wherever it is, as NumPy's array."""
    import ml_dtypes
    import torch

    host = tensor.detach().cpu()
    bits = {torch.bfloat16: (torch.int16, ml_dtypes.bfloat16), torch.float8_e4m3fn: (torch.int8, ml_dtypes.float8_e4m3fn),
            torch.float8_e5m2: (torch.int8, ml_dtypes.float8_e5m2)}.get(host.dtype)  # fmt: skip
    return host.numpy() if bits is None else host.view(bits[0]).numpy().view(bits[1])


@cache
def device_for(target: str) -> Device:
    """The device of a target such as "cpu:avx2" or "triton:sm_90". Raises DeviceError for one that has none."""
    base = target.partition(":")[0]
    if base == "cpu":
        return Processor()
    if base == "triton":
        return Cuda()
    raise DeviceError(f"the target {target} is not measured: only cpu and triton run on a machine")

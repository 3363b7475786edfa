"""GPUs: which one is at hand, its loaded kernels, and how they are launched. Everything goes through torch's CUDA (or
ROCm) and Triton's driver, so that launches are ordered with torch's own work on the current stream."""

from __future__ import annotations

import contextvars
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opdsl.targets.base import Request
from opdsl.targets.triton.arch import ARCHES, Arch
from opdsl.targets.triton.arguments import Tensor, hints, tiles_function, value_of, with_tensors
from opdsl.targets.triton.buffers import NUMBER_SHIFT, Buffers
from opdsl.targets.triton.compiler import Compiled, Module, compile_request
from opdsl.targets.triton.errors import DeviceError
from opdsl.targets.triton.reports import check_reports
from opdsl.targets.triton.toolchain import ast_source, functions_of, load_triton

DEVICE_FILES = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
LARGEST_GRID = (1 << 31) - 1
REGISTERS = 1 << 16  # of a multiprocessor
THREADS = 2048


def has_device_file() -> bool:
    """Whether the system shows a GPU at all: looking is far cheaper than importing torch."""
    return any(Path(file).exists() for file in DEVICE_FILES)


def device_arch(index: int | None = None) -> Arch | None:
    """The architecture of a GPU that torch can use, or None."""
    if not has_device_file():
        return None
    try:
        import torch
    except ImportError:
        return None
    if not torch.cuda.is_available():
        return None
    return _arch_of(torch.cuda.current_device() if index is None else index)


@functools.cache
def _arch_of(index: int) -> Arch:
    import torch

    properties = torch.cuda.get_device_properties(index)
    if torch.version.hip:
        name = properties.gcnArchName.split(":")[0]
        return ARCHES.get(name) or Arch(name, "hip", name, int(properties.warp_size), 64 << 10)
    number = properties.major * 10 + properties.minor
    name = f"sm_{number}"
    shared = int(getattr(properties, "shared_memory_per_block_optin", 99 << 10))
    return ARCHES.get(name) or Arch(name, "cuda", number, 32, shared)


@functools.cache
def multiprocessors(index: int) -> int:
    import torch

    return int(torch.cuda.get_device_properties(index).multi_processor_count)


def require_device(arch: Arch) -> int:
    """The number of the current GPU. Raises DeviceError where there is none, or one of another architecture."""
    found = device_arch()
    if found is None:
        raise DeviceError(
            f"there is no GPU here that torch can use, so code for {arch.name} cannot run; `opdsl inspect` and "
            '`opdsl build` do without one, and target="triton:interpreter" runs it on the CPU, slowly'
        )
    if found.identity != arch.identity:
        raise DeviceError(f"the GPU here is {found.name}, and the target says {arch.name}; leave the architecture out")
    import torch

    return int(torch.cuda.current_device())


def _run_with_memory(run: Any, *arguments: Any) -> None:
    """A launch of a kernel that keeps tensor descriptors in memory which Triton asks for. In a context of its own, so that
    an allocator that a program has given Triton stays."""
    import triton

    context = contextvars.copy_context()
    context.run(triton.set_allocator, _allocate)
    context.run(run, *arguments)


def _allocate(size: int, alignment: int, stream: int | None) -> Any:
    """From torch's pool, whose blocks begin at multiples of 512 bytes, on the current stream: the launch's own."""
    import torch

    return torch.empty(size, dtype=torch.uint8, device="cuda")


class LoadedLaunch:
    """One function, loaded on the current device."""

    def __init__(self, module: Module, function: Any, device: int) -> None:
        from triton.compiler import CompiledKernel

        self.launch = module.launch
        source = ast_source(function, module.launch)
        files = sorted(module.directory.glob(f"{module.launch.function}.*"))
        kernel = CompiledKernel(source, {file.name: str(file) for file in files}, source.hash())
        self.run = kernel.run  # loads the binary
        if module.metadata.get("global_scratch_size", 0):
            self.run = functools.partial(_run_with_memory, kernel.run)
        self.function = kernel.function
        self.metadata = kernel.packed_metadata
        self.kernel = kernel
        self.tiles = tiles_function(module.launch)
        self.most_programs = multiprocessors(device) * self._resident(module)

    def _resident(self, module: Module) -> int:
        """How many programs a multiprocessor runs at once, by threads, registers and shared memory."""
        threads = module.launch.num_warps * module.arch.warp_size
        registers = max(1, int(self.kernel.n_regs)) * threads
        shared = max(1, int(module.metadata["shared"]))
        return max(1, min(THREADS // threads, REGISTERS // registers, module.arch.shared_bytes // shared))

    def programs(self, tiles: int, name: str) -> int:
        if self.launch.persistent:
            return self.most_programs if tiles < 0 else min(tiles, self.most_programs)
        if tiles > LARGEST_GRID:
            raise DeviceError(
                f"{name} has {tiles} iterations, and a GPU takes at most {LARGEST_GRID} in a launch; use larger tiles"
            )
        return tiles


class LoadedKernel:
    """A compiled kernel on the current device."""

    def __init__(self, compiled: Compiled, name: str, device: int) -> None:
        self.name = name
        self.generated = compiled.generated
        functions = functions_of(compiled.generated.text, name, compiled.generated.launches)
        self.launches = [
            LoadedLaunch(module, function, device) for module, function in zip(compiled.modules, functions, strict=True)
        ]

    def start(self, values: Sequence[Any], report: Any, stream: int) -> None:
        """Launches on a stream; `values` are Tensors (with pointers of the device) and scalars, in parameter order."""
        for loaded in self.launches:
            arguments = [value_of(argument, values, report) for argument in loaded.launch.arguments]
            programs = loaded.programs(loaded.tiles(*arguments), self.name)
            if programs:
                loaded.run(
                    programs, 1, 1, stream, loaded.function, loaded.metadata, None, None, None, *arguments
                )


class DeviceExecutable:
    """Runs on NumPy arrays, by way of copies in the GPU's memory: for checks, not for speed."""

    def __init__(self, request: Request, arch: Arch) -> None:
        load_triton()
        self._request = request
        self._arch = arch
        self._loaded: dict[Any, LoadedKernel] = {}

    def __call__(self, arguments: Sequence[NDArray[Any] | int | float | bool]) -> None:
        request = self._request
        kernel = request.kernel
        if not has_device_file():
            compile_request(request, self._arch)  # what is wrong with the kernel comes first
        device = require_device(self._arch)
        import torch

        buffers = Buffers([a for a in arguments if isinstance(a, np.ndarray)])
        copies = [torch.frombuffer(data, dtype=torch.uint8).to(f"cuda:{device}") for data in buffers.data]
        values = with_tensors(kernel, arguments, lambda array: _moved(buffers.tensor(array), copies))
        aligned, bits = hints(kernel, values, request.options)
        key = (aligned, bits)
        if key not in self._loaded:
            options = {**request.options, "aligned": aligned, "index_bits": bits}
            asked = Request(request.source, request.unit_axes, request.may_alias, options)
            self._loaded[key] = LoadedKernel(compile_request(asked, self._arch), kernel.name, device)
        loaded = self._loaded[key]
        report = new_report(loaded, device)
        loaded.start(values, None if report is None else report.data_ptr(), torch.cuda.current_stream().cuda_stream)
        torch.cuda.synchronize()
        buffers.take_back([bytearray(copy.cpu().numpy().tobytes()) for copy in copies], kernel.name)
        deliver(loaded, report, kernel)


def new_report(loaded: LoadedKernel, device: int) -> Any:
    """Zeroed memory for the marks of failed assertions, or None where the kernel has none."""
    import torch

    count = len(loaded.generated.asserts)
    return torch.zeros(count, dtype=torch.int32, device=f"cuda:{device}") if count else None


def deliver(loaded: LoadedKernel, report: Any, kernel: Any) -> None:
    """Waits for a kernel that has assertions, and raises what failed."""
    if report is not None:
        check_reports(loaded.generated, kernel, report.cpu().tolist())


def _moved(tensor: Tensor, copies: Sequence[Any]) -> Tensor:
    number, offset = tensor.pointer >> NUMBER_SHIFT, tensor.pointer & ((1 << NUMBER_SHIFT) - 1)
    base = copies[number].data_ptr() if copies else 0
    return Tensor(base + offset, tensor.shape, tensor.strides)

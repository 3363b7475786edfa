"""Calls of kernels with arrays in a GPU's memory: torch tensors, or anything with DLPack on a CUDA or ROCm device.

A call that looks like one before (shapes, strides, dtypes, alignment) finds its *plan*: loaded functions, with the sizes
and strides that they take already in place. Only pointers and scalars are filled in.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from opdsl.ir.numpy_types import numpy_dtype
from opdsl.ir.types import TensorType
from opdsl.lang.annotations import TensorAnnotation
from opdsl.lang.kernel import Kernel
from opdsl.runtime import arrays, binding
from opdsl.support.errors import ArgumentError
from opdsl.targets.base import Request
from opdsl.targets.triton.arguments import Tensor, hints, value_of
from opdsl.targets.triton.compiler import compile_request
from opdsl.targets.triton.device import LoadedKernel, LoadedLaunch, deliver, device_arch, new_report
from opdsl.targets.triton.errors import DeviceError
from opdsl.targets.triton.target import TritonTarget

MOST_PLANS = 4096

_NAMES = {
    "float64": "f64", "float32": "f32", "float16": "f16", "bfloat16": "bf16", "float8_e4m3fn": "f8e4m3",
    "float8_e5m2": "f8e5m2", "int64": "i64", "int32": "i32", "int16": "i16", "int8": "i8", "uint64": "u64",
    "uint32": "u32", "uint16": "u16", "uint8": "u8", "bool": "bool",
}  # fmt: skip


@dataclass(frozen=True)
class _Step:
    """One launch of a plan: its arguments with holes, and where the holes are filled from."""

    loaded: LoadedLaunch
    template: tuple[Any, ...]
    pointers: tuple[tuple[int, int], ...]  # (place in the launch, parameter)
    scalars: tuple[tuple[int, int], ...]
    report: int  # place of the report, or -1
    programs: int  # 0: none; -1: depends on scalars


class _Plan:
    """What a call of this look does."""

    def __init__(self, kernel: LoadedKernel, values: Sequence[Any], ir: Any) -> None:
        self.kernel = kernel
        self.ir = ir
        self.scalars = tuple(
            (place, name, value.type.dtype)
            for place, (name, value) in enumerate(zip(ir.parameter_names, ir.parameters, strict=True))
            if not isinstance(value.type, TensorType)
        )
        self.steps: list[_Step] = []
        for loaded in kernel.launches:
            arguments = loaded.launch.arguments
            template = tuple(value_of(a, values, None) for a in arguments)
            scalars = tuple((n, a.parameter) for n, a in enumerate(arguments) if a.kind == "scalar")
            fixed = not any(a.kind == "scalar" and a.name in loaded.launch.programs for a in arguments)
            self.steps.append(
                _Step(
                    loaded,
                    template,
                    tuple((n, a.parameter) for n, a in enumerate(arguments) if a.kind == "pointer"),
                    scalars,
                    next((n for n, a in enumerate(arguments) if a.kind == "report"), -1),
                    loaded.programs(loaded.tiles(*template), kernel.name) if fixed else -1,
                )
            )

    def start(self, kernel: Kernel, given: Sequence[Any], device: int, stream: int) -> None:
        arguments = list(given)
        for place, name, dtype in self.scalars:
            arguments[place] = binding.checked_scalar(kernel, name, dtype, given[place])
        report = new_report(self.kernel, device) if self.kernel.generated.asserts else None
        for step in self.steps:
            if step.programs == 0:
                continue
            values = list(step.template)
            for place, parameter in step.pointers:
                values[place] = arguments[parameter]
            for place, parameter in step.scalars:
                value = arguments[parameter]
                values[place] = int(value) if isinstance(value, bool) else value
            if step.report >= 0:
                values[step.report] = report
            loaded = step.loaded
            programs = step.programs
            if programs < 0:
                sized = [value_of(a, arguments, None) if a.kind == "scalar" else v for a, v in
                         zip(loaded.launch.arguments, step.template, strict=True)]  # fmt: skip
                programs = loaded.programs(loaded.tiles(*sized), self.kernel.name)
                if programs == 0:
                    continue
            loaded.run(programs, 1, 1, stream, loaded.function, loaded.metadata, None, None, None, *values)
        deliver(self.kernel, report, self.ir)


class DeviceCalls:
    """The calls of one kernel with one target string and one set of constexprs, on GPUs. `variant` is the launch's
    own view of them (`opdsl.runtime.launch`): it specialises the kernel and knows records of tuning."""

    def __init__(self, kernel: Kernel, target: str, variant: Any) -> None:
        self.kernel = kernel
        self.variant = variant
        option = target.partition(":")[2] if target.partition(":")[0] == "triton" else ""
        self.target = TritonTarget(option)
        self.tensors = tuple(
            place for place, p in enumerate(kernel.signature.parameters) if isinstance(p.annotation, TensorAnnotation)
        )
        self.plans: dict[Hashable, _Plan] = {}
        self.loaded: dict[Hashable, LoadedKernel] = {}

    def run(self, arguments: list[Any]) -> None:
        """Runs on arguments in parameter order, on the current stream of their device."""
        import torch

        for place in self.tensors:
            if not isinstance(arguments[place], torch.Tensor):
                arguments[place] = self._as_tensor(arguments[place], place)
        device = self._device(arguments)
        if device != torch.cuda.current_device():
            with torch.cuda.device(device):
                self._run_here(arguments, device)
        else:
            self._run_here(arguments, device)

    def _run_here(self, arguments: list[Any], device: int) -> None:
        from triton.runtime import driver

        key: list[Any] = [device]
        spans: list[tuple[int, int]] = []
        for place in self.tensors:
            tensor = arguments[place]
            pointer = tensor.data_ptr()
            end = pointer + _bytes(tensor)
            key += (pointer & 15, tensor.shape, tensor.stride(), tensor.dtype)
            # Tensors that may share memory: whether they do, and how, is decided by how far apart they begin.
            for number, (low, high) in enumerate(spans):
                if low < end and pointer < high:
                    key.append((number, pointer - low))
            spans.append((pointer, end))
        found = tuple(key)
        plan = self.plans.get(found)
        if plan is None:
            plan = self._plan(arguments, device)
            if len(self.plans) >= MOST_PLANS:
                self.plans.clear()
            self.plans[found] = plan
        plan.start(self.kernel, arguments, device, driver.active.get_current_stream(device))

    def _as_tensor(self, argument: Any, place: int) -> Any:
        import torch

        name = self.kernel.signature.parameters[place].name
        if not hasattr(argument, "__dlpack__"):
            raise ArgumentError(
                f"{self.kernel.name}: {name!r} is a {type(argument).__name__} in the CPU's memory, but other arguments are "
                "on a GPU",
                f"copy it there, as torch.from_numpy({name}).cuda()",
                (name,),
            )
        return torch.utils.dlpack.from_dlpack(argument)

    def _device(self, arguments: Sequence[Any]) -> int:
        devices = {}
        for place in self.tensors:
            tensor, name = arguments[place], self.kernel.signature.parameters[place].name
            if not tensor.is_cuda:
                raise ArgumentError(
                    f"{self.kernel.name}: {name!r} is in the CPU's memory, and this call runs on a GPU",
                    f"pass {name}.cuda()",
                    (name,),
                )
            if tensor.requires_grad:
                raise ArgumentError(
                    f"{self.kernel.name}: {name!r} requires a gradient, which a kernel would not pass on",
                    f"pass {name}.detach(), or call the kernel from a torch.autograd.Function",
                    (name,),
                )
            devices[tensor.device.index] = name
        if len(devices) > 1:
            (first, a), (second, b), *_ = devices.items()
            raise ArgumentError(
                f"{self.kernel.name}: {a!r} is on the GPU {first} and {b!r} on the GPU {second}",
                "put all arguments on one GPU",
                (a, b),
            )
        if not devices:
            raise DeviceError(f"{self.kernel.name} has no tensor, so that there is no GPU to run it on")
        return int(next(iter(devices)))

    # --- the long way ------------------------------------------------------------------------------------------------

    def _plan(self, arguments: Sequence[Any], device: int) -> _Plan:
        """Checks the arguments as those of any launch are, and compiles."""
        shown: list[Any] = [
            described(a, self.kernel.signature.parameters[n].name) if n in self.tensors else a
            for n, a in enumerate(arguments)
        ]
        ordered = binding.checked_scalars(self.kernel, shown)
        facts = self.variant.facts(ordered)
        ir = facts.kernel.ir
        values = [_as_launched(v) if isinstance(v, np.ndarray) else v for v in ordered]
        aligned, bits = hints(ir, values, facts.options)
        pairs = frozenset(
            frozenset((a, b))
            for a in facts.written
            for b in self.tensors
            if a != b and arrays.same_view(ordered[a], ordered[b])
        )
        key = (facts.kernel.digest, facts.unit_axes, pairs, aligned, bits, device, tuple(facts.options.items()))
        loaded = self.loaded.get(key)
        if loaded is None:
            arch = device_arch(device)
            if arch is None:
                raise DeviceError("torch does not see the GPU that these tensors are on")
            wanted = self.target.option
            if wanted and wanted != arch.name:
                raise DeviceError(f"these tensors are on a GPU that is {arch.name}, and the target says {wanted}")
            options = {**facts.options, "aligned": aligned, "index_bits": bits, "aliases": pairs}
            request = Request(facts.kernel, facts.unit_axes, bool(pairs), options)
            loaded = LoadedKernel(compile_request(request, arch, exact=False), self.kernel.name, device)
            self.loaded[key] = loaded
        return _Plan(loaded, values, ir)


def _bytes(tensor: Any) -> int:
    """How far a tensor's memory reaches from its first element, at least; strides of torch are never negative."""
    reach = 1
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        if size == 0:
            return 0
        reach += (size - 1) * stride
    return int(reach * tensor.element_size())


class _Memory:
    """What NumPy needs to make an array of memory that it must not touch."""

    def __init__(self, pointer: int, shape: tuple[int, ...], strides: tuple[int, ...], item: int) -> None:
        self.__array_interface__ = {
            "version": 3,
            "data": (pointer or 16, False),
            "shape": shape,
            "strides": tuple(stride * item for stride in strides),
            "typestr": f"<u{item}",
        }


def described(tensor: Any, name: str) -> NDArray[Any]:
    """An array with the address, shape, strides and dtype of a tensor on a device, so that all checks of arguments hold
    for it too. Nothing reads it."""
    dtype = _NAMES.get(str(tensor.dtype).removeprefix("torch."))
    if dtype is None:
        known = ", ".join(_NAMES)
        raise ArgumentError(
            f"{name!r} has the dtype {tensor.dtype}; kernels know {known}", f"convert it by {name}.to(...)"
        )
    memory = _Memory(tensor.data_ptr(), tuple(tensor.shape), tuple(tensor.stride()), tensor.element_size())
    return np.asarray(memory).view(numpy_dtype(dtype))


def _as_launched(array: NDArray[Any]) -> Tensor:
    """The strides that a kernel takes: those of axes of one element are made up as for a contiguous array."""
    info = arrays.describe(array, "", written=False)
    return Tensor(info.pointer, info.shape, info.strides)

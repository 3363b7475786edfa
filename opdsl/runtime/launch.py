"""Launching a kernel: arguments are bound and checked, the kernel is specialised and compiled, and runs.

A call first tries the kernel's `Launcher` (C++), which knows the calls that went the long way once. All checks, and
all error messages, are on the long way here.
"""

from __future__ import annotations

import threading
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from opdsl._runtime import MISS, Entry, Launcher
from opdsl.ir.core import Kernel as IrKernel
from opdsl.ir.types import TensorType
from opdsl.lang.annotations import TensorAnnotation
from opdsl.lang.kernel import Kernel, constexpr_key, register_runner
from opdsl.runtime import arrays, binding
from opdsl.runtime.specialised import Specialised
from opdsl.support.errors import ArgumentError, OpdslError
from opdsl.support.knobs import knobs
from opdsl.targets.base import Executable, Request, find_target, target_help, target_names

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from opdsl._runtime import LaunchReport
    from opdsl.runtime.device_calls import DeviceCalls
    from opdsl.runtime.tuning_records import Book

Argument = Any  # an array or a scalar

NO_OPTIONS: Mapping[str, Any] = {}
MOST_REMEMBERED = 4096  # calls with different keys that a Launcher knows at once


@runtime_checkable
class NativeExecutable(Protocol):
    """An executable that is a C function: calls of it need no Python. `report` raises or prints what it reported."""

    entry: Entry

    def report(self, report: LaunchReport) -> None: ...


@dataclass(frozen=True)
class _Facts:
    """What the compiler needs to know of one call."""

    kernel: Specialised
    unit_axes: tuple[int | None, ...]
    may_alias: bool
    options: Mapping[str, Any]  # of the target, from a record of tuning

    @property
    def written(self) -> frozenset[int]:
        return self.kernel.written


def contiguous_request(kernel: IrKernel, **options: Any) -> Request:
    """The request for C-contiguous arguments that share no memory: what `opdsl inspect` and `build` compile."""
    types = [value.type for value in kernel.parameters]
    axes = tuple(len(t.dims) - 1 if isinstance(t, TensorType) and t.dims else None for t in types)
    return Request(kernel, axes, options=options)


class _Variant:
    """The calls of a kernel with one target and one set of constexprs (and, while tuning, options) given by the user."""

    def __init__(
        self, launch: KernelLaunch, target: str, constexprs: Mapping[str, Any], options: Mapping[str, Any]
    ) -> None:
        self.launch = launch
        self.target = target
        self.constexprs = dict(constexprs)
        self.options = dict(options)
        self.fast: Launcher | None = None
        self.written: frozenset[int] = frozenset()
        self.specialised: dict[Hashable, Specialised] = {}
        self.executables: dict[Hashable, Executable] = {}
        self.by_fast_key: dict[bytes, Any] = {}
        self._book: Book | None = None
        self._looked = False
        self._device_calls: DeviceCalls | None = None

    def run(self, arguments: Sequence[Argument]) -> None:
        """Runs on arguments in parameter order, each an array already."""
        if self.fast is not None:
            result = self.fast(*arguments)
            if result is not MISS:
                self.finish(result, arguments)
                return
        kernel = self.launch.kernel
        ordered = binding.checked_scalars(kernel, arguments)
        facts = self.facts(ordered)
        executable = self._executable(facts)
        self._remember(facts, ordered, executable)
        executable(ordered)

    def facts(self, arguments: Sequence[Argument]) -> _Facts:
        """What the compiler needs to know of a call; checks the arguments, whose scalars are checked already."""
        specialised, options = self._specialised(arguments)
        return _facts(self.launch.kernel, arguments, specialised, options)

    def run_on_device(self, arguments: list[Argument]) -> None:
        """Runs on arguments of which some lie in a GPU's memory."""
        from opdsl.runtime.device_calls import DeviceCalls

        if self._device_calls is None:
            self._device_calls = DeviceCalls(self.launch.kernel, self.target, self)
        self._device_calls.run(arguments)

    def records(self) -> Book | None:
        """The records of tuning for this kernel and target, looked for once."""
        if not self._looked:
            self._book, self._looked = _find_book(self.launch.kernel, self.target), True
        return self._book

    def _specialised(self, arguments: Sequence[Argument]) -> tuple[Specialised, Mapping[str, Any]]:
        """The kernel for the dtypes and dims of these arguments, and the target's options."""
        kernel = self.launch.kernel
        dtypes, values, recorded = binding.specialisation(kernel, arguments, self.constexprs, self.records())
        key = kernel.specialisation_key(dtypes, values)
        with self.launch.lock:
            found = self.specialised.get(key)
            if found is None:
                # The interpreter runs the IR itself: nothing is gained by not making it.
                remembers = self.target.partition(":")[0] != "interp"
                found = self.specialised[key] = Specialised(kernel, dtypes, values, remembers=remembers)
        return found, {**recorded, **self.options}

    def finish(self, result: Any, arguments: Sequence[Argument]) -> None:
        """Deals with what a native executable reported."""
        if result is None:
            return
        assert self.fast is not None
        key = self.fast.key(*arguments)
        executable = self.by_fast_key.get(key) if key is not None else None
        if isinstance(executable, NativeExecutable):
            executable.report(result)

    def _executable(self, facts: _Facts) -> Executable:
        kernel = facts.kernel
        key = (id(kernel), facts.unit_axes, facts.may_alias, tuple(facts.options.items()))
        with self.launch.lock:
            executable = self.executables.get(key)
            if executable is None:
                request = Request(kernel, facts.unit_axes, facts.may_alias, facts.options)
                executable = _compile(self.target, request)
                self.executables[key] = executable
        return executable

    def _remember(self, facts: _Facts, arguments: Sequence[Argument], executable: Executable) -> None:
        """Lets the Launcher take the next call like this one. Calls with arguments that share memory in part stay on
        the long way, which tells harmless overlaps from others."""
        with self.launch.lock:
            if self.fast is None:
                self.fast = self._new_launcher(facts)
                self.written = facts.written
            if self.fast is None or facts.written != self.written:
                return
            key = self.fast.key(*arguments)
            # The key's first word: 0 nothing is shared, 1 a written tensor is one that is read too (in place), 2 other.
            if key is None or int.from_bytes(key[:8], "little") != int(facts.may_alias):
                return
            if len(self.by_fast_key) >= MOST_REMEMBERED:
                self.fast.clear()
                self.by_fast_key.clear()
            self.by_fast_key[key] = executable
            self.fast.register(key, executable.entry if isinstance(executable, NativeExecutable) else executable)

    def _new_launcher(self, facts: _Facts) -> Launcher | None:
        kernel = self.launch.kernel
        plan: list[tuple[Any, ...]] = []
        for place, parameter in enumerate(kernel.signature.parameters):
            annotation = parameter.annotation
            if isinstance(annotation, TensorAnnotation):
                plan.append(("tensor", annotation.dims, place in facts.written))
            elif isinstance(annotation.dtype, str):
                return None  # the type of this scalar comes from a tensor: the Launcher does not know it
            else:
                plan.append(("scalar", annotation.dtype.name))
        # With records of tuning, sizes decide which executable runs: then all of them are part of the Launcher's key.
        known = kernel.signature.constexprs if self.records() is None else kernel.signature.symbols
        bound = [name for name in known if name in kernel.signature.symbols]
        try:
            return Launcher(plan, bound)
        except ValueError:
            return None  # more parameters than it takes


class KernelLaunch:
    """All calls of one kernel."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.lock = threading.RLock()
        self._variants: dict[Hashable, _Variant] = {}
        self._generation = -1
        self._state: Hashable = ()

    def __call__(self, *arguments: Any, target: str | None = None, **named: Any) -> None:
        kernel = self.kernel
        ordered, constexprs = binding.bind(kernel, arguments, named)
        if (target is None or str(target).startswith("triton")) and any(map(_on_device, ordered)):
            self.variant(target or "triton", constexprs).run_on_device(ordered)
            return
        variant = self.variant(target, constexprs)
        variant.run(binding.as_arrays(kernel, ordered))
        if target is None and not constexprs:
            kernel.use_fast(variant.fast, variant.finish, self._generation)

    def variant(
        self, target: str | None, constexprs: Mapping[str, Any], options: Mapping[str, Any] = NO_OPTIONS
    ) -> _Variant:
        """What runs the calls with this target, these constexprs and these options of the target."""
        if knobs.generation != self._generation:
            self._state = tuple(sorted((name, repr(value)) for name, value in knobs.overrides.items()))
            self._generation = knobs.generation
        if target is None:
            target = knobs.target
        elif not isinstance(target, str):
            raise ArgumentError(
                f"{self.kernel.name}: target is {target!r}", f"give a string: {', '.join(map(repr, target_names()))}"
            )
        given = tuple((k, constexpr_key(v)) for k, v in constexprs.items())
        key: Hashable = (target, self._state, given, tuple(options.items()) if options else ())
        try:
            variant = self._variants.get(key)
        except TypeError:
            return _Variant(self, target, constexprs, options)  # not hashable: an error follows that says which
        if variant is None:
            variant = self._variants[key] = _Variant(self, target, constexprs, options)
        return variant


def _on_device(argument: Argument) -> bool:
    """Whether an argument lies in a GPU's memory."""
    is_cuda = getattr(argument, "is_cuda", None)  # torch's tensors
    if is_cuda is not None or type(argument).__module__ == "numpy" or not hasattr(argument, "__dlpack_device__"):
        return bool(is_cuda)
    return int(argument.__dlpack_device__()[0]) in arrays.GPU_DEVICES


def _compile(name: str, request: Request) -> Executable:
    hint = target_help(name)
    try:
        target = find_target(name)
    except ValueError as error:
        raise ArgumentError(str(error), hint) from None
    try:
        return target.compile(request)
    except ValueError as error:
        inside = error.__traceback__.tb_next if error.__traceback__ else None
        if isinstance(error, OpdslError) or inside is None or inside.tb_next is not None:
            raise
        raise ArgumentError(str(error), hint) from None  # the target's own word: this machine cannot run it


def _find_book(kernel: Kernel, target: str) -> Book | None:
    """Records of tuning are asked for only where there is a file of them: most kernels have none."""
    name = kernel.source.file
    beside = name[: name.rfind(".")] + ".tuning.json"
    if target.startswith("interp") or (knobs.tuning in (None, "0") and (knobs.tuning or not Path(beside).is_file())):
        return None
    from opdsl.runtime.tuning_records import book

    try:
        return book(kernel, target)
    except ValueError:
        return None  # no such target: compiling says so


def _facts(
    kernel: Kernel, arguments: Sequence[Argument], specialised: Specialised, options: Mapping[str, Any]
) -> _Facts:
    written = specialised.written
    unit_axes: list[int | None] = []
    tensors: dict[int, NDArray[Any]] = {}
    for place, (parameter, argument) in enumerate(zip(kernel.signature.parameters, arguments, strict=True)):
        if not isinstance(parameter.annotation, TensorAnnotation):
            unit_axes.append(None)
            continue
        try:
            info = arrays.describe(argument, parameter.name, written=place in written)
        except arrays.ArgumentError as error:
            raise binding.argument_error(kernel, error, parameter.name) from None
        unit_axes.append(info.unit_axis)
        tensors[place] = argument
    may_alias = _check_sharing(kernel, tensors, written)
    return _Facts(specialised, tuple(unit_axes), may_alias, options)


def _check_sharing(kernel: Kernel, tensors: Mapping[int, NDArray[Any]], written: frozenset[int]) -> bool:
    """Whether a written tensor shares memory with another argument. Refuses it where that cannot go well."""
    shares = False
    for place in sorted(written):
        target = tensors[place]
        for other, array in tensors.items():
            if other == place or (other in written and other < place) or not arrays.may_share_memory(target, array):
                continue
            names = [kernel.signature.parameters[i].name for i in (place, other)]
            if other in written:
                raise ArgumentError(
                    f"{kernel.name}: {names[0]!r} and {names[1]!r} share memory, and the kernel writes both",
                    "give each its own array",
                    tuple(names),
                )
            if not arrays.same_view(target, array):
                raise ArgumentError(
                    f"{kernel.name}: {names[0]!r}, which the kernel writes, overlaps {names[1]!r} in part, so the result "
                    "would depend on the order of its iterations",
                    f"pass {names[1]}.copy(), or the very same view for both (in place)",
                    tuple(names),
                )
            shares = True
    return shares


def lower_call(kernel: Kernel, arguments: Sequence[Any], named: Mapping[str, Any]) -> IrKernel:
    """The tile IR that a call with these arguments would compile."""
    named = {name: value for name, value in named.items() if name != "target"}
    ordered, constexprs = binding.bind(kernel, arguments, named)
    checked = binding.checked_scalars(kernel, binding.as_arrays(kernel, ordered))
    dtypes, values, _ = binding.specialisation(kernel, checked, constexprs, None)
    return kernel.specialise(dtypes, values)


class _Runner:
    launcher = staticmethod(KernelLaunch)
    lower_call = staticmethod(lower_call)


register_runner(_Runner())

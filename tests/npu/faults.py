"""Fault injection: a compiled kernel without one of its flags or barriers must be found out by the emulator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from opdsl.npu.emulator import NpuRunError, run
from opdsl.runtime.launch import lower_call
from opdsl.targets.base import Request
from opdsl.targets.npu.compile import Compiled, compile_kernel
from opdsl.targets.npu.dependences import Dependence
from opdsl.targets.npu.running import split_arguments
from opdsl.targets.npu.target import NpuTarget


def unit_axis(array: np.ndarray) -> int | None:
    axes = [axis for axis, stride in enumerate(array.strides) if stride == array.itemsize]
    return axes[-1] if axes else None


def compiled_call(kernel: Any, arguments: Sequence[Any], target: str, **constexprs: Any) -> Compiled:
    ir = lower_call(kernel, arguments, constexprs)
    axes = tuple(unit_axis(a) if isinstance(a, np.ndarray) else None for a in arguments)
    return compile_kernel(Request(ir, axes), NpuTarget(target.partition(":")[2]).chip)


def survivors(compiled: Compiled, make: Callable[[], Sequence[Any]], seeds: Sequence[int] = (0,)) -> list[Dependence]:
    """The dependences whose loss no run notices. `make` gives fresh arguments."""
    found = []
    for dependence in compiled.dependences:
        program = compiled.without(dependence)
        if not any(_noticed(compiled, program, make(), seed) for seed in seeds):
            found.append(dependence)
    return found


def _noticed(compiled: Compiled, program: Any, arguments: Sequence[Any], seed: int) -> bool:
    arrays, scalars = split_arguments(compiled, arguments)
    try:
        run(program, arrays, scalars, seed=seed)
    except NpuRunError:
        return True
    return False


def describe(dependence: Dependence) -> str:
    source, target = (" ".join(agent) for agent in (dependence.source, dependence.target))
    lines = f"line {dependence.after.location.line} -> line {dependence.before.location.line}"
    return f"{source} -> {target}, {lines}, distance {dependence.distance}"

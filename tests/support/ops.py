"""Single ops as kernels: the way to test one op of the tile IR on any target."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from opdsl.ir.builder import Builder, argument
from opdsl.ir.core import Kernel, Region, Slice, Value
from opdsl.ir.semantics.values import NUMPY_DTYPES
from opdsl.ir.types import DType, ScalarType, TensorType, shape_of
from opdsl.ir.verifier import verify
from opdsl.support.location import Source
from opdsl.targets.base import Request, find_target

IR_DTYPES: dict[Any, DType] = {numpy: dtype for dtype, numpy in NUMPY_DTYPES.items()}

Compute = Callable[[Builder, Sequence[Value]], Sequence[Value]]


def whole(builder: Builder, tensor: Value) -> Value:
    """A copy_in of a whole tensor of known dims."""
    assert isinstance(tensor.type, TensorType)
    zero = builder.constant(0, ScalarType(tensor.type.dtype).dtype)
    start = [builder.constant(0, IR_DTYPES[np.dtype(np.int64)]) for _ in tensor.type.dims]
    return builder.copy_in(tensor, tuple(Slice(int(d)) for d in tensor.type.dims), start, zero)


def tile_kernel(compute: Compute, inputs: Sequence[np.ndarray]) -> tuple[Kernel, list[np.ndarray]]:
    """A kernel that reads every input as one tile (0-d: a scalar), computes, and writes every result whole. Gives
    the kernel and outputs filled with garbage."""
    builder = Builder()
    parameters = [argument(TensorType(IR_DTYPES[a.dtype], a.shape), f"x{n}") for n, a in enumerate(inputs)]
    tiles = [whole(builder, p) for p in parameters]
    results = compute(builder, tiles)
    outputs = []
    for number, result in enumerate(results):
        shape = shape_of(result.type)
        out = argument(TensorType(result.type.dtype, shape), f"y{number}")
        start = [builder.constant(0, IR_DTYPES[np.dtype(np.int64)]) for _ in shape]
        builder.copy_out(result, out, tuple(Slice(n) for n in shape), start)
        parameters.append(out)
        outputs.append(np.frombuffer(b"\xa5" * (8 * max(1, out_size(shape))), NUMPY_DTYPES[result.type.dtype]))
        outputs[-1] = outputs[-1][: out_size(shape)].reshape(shape).copy()
    builder.op("yield")
    body = Region(tuple(parameters), builder.ops)
    kernel = Kernel("single", tuple(p.name for p in parameters), body, Source("<test>", ""))
    verify(kernel)
    return kernel, outputs


def out_size(shape: Sequence[int]) -> int:
    return int(np.prod(shape, dtype=np.int64))


def run_tiles(target: str, compute: Compute, *inputs: Any) -> tuple[np.ndarray, ...]:
    """What `compute` gives for whole arrays as tiles, on a target."""
    arrays = [np.asarray(a) for a in inputs]
    kernel, outputs = tile_kernel(compute, arrays)
    unit_axes = [unit_axis(a) for a in (*arrays, *outputs)]
    find_target(target).compile(Request(kernel, tuple(unit_axes)))([*arrays, *outputs])
    return tuple(outputs)


def unit_axis(array: np.ndarray) -> int | None:
    axes = [axis for axis, stride in enumerate(array.strides) if stride == array.itemsize]
    return axes[-1] if axes else None


def run_op(
    target: str, name: str, *inputs: Any, combine: Callable[..., Any] | None = None, **attributes: Any
) -> tuple[np.ndarray, ...]:
    """The results of one op. `combine(builder, *scalars)` builds the region of a custom reduction or scan."""

    def compute(builder: Builder, tiles: Sequence[Value]) -> Sequence[Value]:
        regions = [combine_region(builder, tiles, combine)] if combine else []
        return builder.op(name, *tiles, regions=regions, **attributes)

    return run_tiles(target, compute, *inputs)


def combine_region(builder: Builder, tiles: Sequence[Value], combine: Callable[..., Any]) -> Region:
    arguments = [argument(ScalarType(t.type.dtype), f"{side}{n}") for side in "ab" for n, t in enumerate(tiles)]
    with builder.region(arguments) as region:
        result = combine(builder, *arguments)
        region.close(result if isinstance(result, (tuple, list)) else [result])
    return region.region

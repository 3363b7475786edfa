"""The kernels that the library's operators launch, with the arguments that they launch them with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import numpy as np
from opdsl.ops import elementwise, launching, matmul_tiling, references, tiling
from opdsl.ops.registry import OPERATORS, Call, Operator
from support.checks import F16, F32
from support.operators import arguments_of, calls_of

from opdsl.ir.types import TensorType
from opdsl.support.errors import ShapeError
from opdsl.targets.base import Executable, Request, find_target
from opdsl.targets.npu.target import NpuTarget

from .cases import Arguments, Case

BLOCKS = 1
# Tiles of one size, so that calls of all shapes are of one specialisation, and small, so that each core has several.
TILES: dict[str, Any] = {
    "FLAT": 512,
    "GRID": ((None, (8, 64)),),
    "TRANSPOSED": (16, 32),
    "TRANSPOSED_UNALIGNED": (16, 32),
    "LENGTHS": (64,),
    "ROW_CHUNK": 256,
    "COLUMN_CHUNK": 128,
}
PRODUCT = {"BM": 32, "BN": 32, "BK": 16}
# Rows and columns; what has one dim has as many elements. None, one, less than a tile, many tiles, some that stick out.
SHAPES = ((0, 0), (1, 1), (7, 43), (131, 200), (128, 256), (100, 1000), (3, 1000))
LARGEST = 150_000  # elements of an array: what has more takes long, and tells nothing new
# Lengths that dims are given besides: each in turn a long one, the last two axes few or a tile and a bit, others few.
TILE, FEW, LONG, LONGEST = 65, 3, 300, 5000
FORMS = ("neg", "add", "where")  # the operators whose arrays come in other shapes, too: one for each number of operands


@dataclass
class _Launches:
    """The arguments that one specialised kernel was launched with, by operator."""

    request: Request
    operators: dict[str, None] = field(default_factory=dict)
    sets: list[Arguments] = field(default_factory=list)


def operator_cases(names: Sequence[str], target: str) -> Iterator[Case]:
    """Each specialised kernel once, whichever of the operators launch it."""
    found: dict[Any, _Launches] = {}
    for name in names:
        operator = OPERATORS[name]

        def note(request: Request, arguments: Arguments, name: str = name) -> None:
            if max(np.size(argument) for argument in arguments) > LARGEST:
                return
            key = (request.digest, request.unit_axes, request.may_alias)
            launches = found.setdefault(key, _Launches(request))
            launches.operators[name] = None
            launches.sets.append(arguments)

        with _recorded(note):
            for call in _calls(operator):
                with suppress(ShapeError):  # of nothing there is no maximum
                    operator.function(*call.arguments, target=target, **call.keywords)
    for number, launches in enumerate(found.values()):
        title = f"{'/'.join(launches.operators)} {number} {launches.request.kernel.name}"
        sets = [*launches.sets, *_resized(launches)]
        yield Case(title, launches.request, [lambda s=s: s for s in sets], BLOCKS)  # type: ignore[misc]


def _resized(launches: _Launches) -> Iterator[Arguments]:
    """The largest arguments with each dim that the kernel does not know cut by one, to nothing, and made long: the program
    must do for what the operator does not launch it for, too."""
    request = launches.request
    dims = [p.type.dims if isinstance(p.type, TensorType) else () for p in request.kernel.parameters]
    largest = max(launches.sets, key=lambda arguments: max(np.size(a) for a in arguments))
    sizes = {d: n for own, a in zip(dims, largest, strict=True) for d, n in zip(own, np.shape(a), strict=True)}
    symbols = [d for d in sizes if isinstance(d, str)]
    for symbol in symbols:
        for last in (-1, 0):
            cuts = [tuple(slice(last if d == symbol else None) for d in own) for own in dims]
            yield [argument[cut] if cut else argument for argument, cut in zip(largest, cuts, strict=True)]
        for inner in () if request.may_alias else (FEW, TILE):
            shape = {d: inner if any(d in own[-2:] for own in dims) else FEW for d in symbols}
            shape[symbol] = LONG if len(symbols) > 1 else LONGEST
            shapes = [tuple(shape[d] if isinstance(d, str) else d for d in own) for own in dims]
            given = zip(largest, shapes, request.unit_axes, strict=True)
            yield [_of_shape(argument, own, axis) if own else argument for argument, own, axis in given]


def _of_shape(array: np.ndarray[Any, Any], shape: tuple[int, ...], unit_axis: int | None) -> np.ndarray[Any, Any]:
    """The values of an array, over and over, in an array of a shape; no neighbours where there is no unit axis."""
    if unit_axis is None:
        return np.resize(array, (*shape[:-1], 2 * shape[-1]))[..., ::2]
    order = [*(a for a in range(len(shape)) if a != unit_axis), unit_axis]
    return np.resize(array, [shape[a] for a in order]).transpose(np.argsort(order))


def _calls(operator: Operator) -> Iterator[Call]:
    """Calls of all shapes; those of one dim as matrices and as blocks whose rows do not touch, too."""
    dtype = F16 if operator.name == "matmul" else F32
    for shape in SHAPES:
        with patch.object(references, "split", lambda _, shape=shape: shape):
            for call in calls_of(operator, dtype, shape[0] * shape[1]):
                yield call
                if operator.name in FORMS:
                    for dims in (shape, (2, *shape, 3)):
                        arguments, keywords = arguments_of(call, lambda a, dims=dims: _apart(a, dims))
                        yield Call(tuple(arguments), keywords)


def _apart(values: np.ndarray[Any, Any], shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Values of one dim, over and over, as an array of a shape whose rows do not touch."""
    parent = np.resize(values, (*shape[:-1], shape[-1] + 1))
    return parent[..., :-1]


@contextmanager
def _recorded(note: Callable[[Request, Arguments], None]) -> Iterator[None]:
    """Launches of operators on a chip are noted, and run by the interpreter."""

    def compile_for(self: NpuTarget, request: Request) -> Executable:
        interpreted = find_target("interp").compile(request)

        def execute(arguments: Arguments) -> None:
            note(request, tuple(arguments))
            interpreted(arguments)

        return execute

    with (
        patch.multiple(tiling, **TILES),
        patch.object(matmul_tiling, "accelerator_tile", lambda *_: PRODUCT),
        patch.dict(elementwise._calls, clear=True),
        patch.dict(launching._launches, clear=True),
        patch.object(NpuTarget, "compile", compile_for),
    ):
        yield

"""Runs a program on the emulator: values, cycles and hazards at once."""

from __future__ import annotations

import linecache
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from opdsl import _npu
from opdsl.ir.numpy_types import dtype_name
from opdsl.ir.types import DTYPES
from opdsl.npu.chip import Chip, find_chip
from opdsl.npu.encode import Encoded, bits_of, encode
from opdsl.npu.program import Program
from opdsl.npu.statements import Register
from opdsl.npu.timing import emulator_numbers
from opdsl.support.errors import OpdslError, shown_file
from opdsl.support.location import UNKNOWN, Location

MAX_REPORTS = 100
PLAIN = (
    "cycles",
    "printed",
    "l2_hits",
    "l2_misses",
    "l2_written_back",
    "read_bytes",
    "written_bytes",
    "memory_busy",
    "memory_saturated",
    "instructions",
    "scalar_operations",
    "macs",
    "vector_elements",
)
"""What the emulator reports as it is."""


@dataclass(frozen=True)
class ShapeOnly:
    """Stands for an array where only the time is asked for: no memory is needed. Strides in elements."""

    shape: tuple[int, ...]
    dtype: str
    strides: tuple[int, ...] | None = None


Array = NDArray[Any] | ShapeOnly


@dataclass(frozen=True)
class Hazard:
    """Something that the described hardware forbids, or does not promise.

    kind: `RAW`, `WAR`, `WAW` (this instruction and `other` touch the same bytes, and nothing orders them), `stale`
    (the data cache holds what was written), `uninitialised`, `flag_set_twice`, `flag_left_set`, `deadlock`; and those
    that end a run: `out_of_range`, `alignment`, `operand`, `assert`, `trap`, `endless`."""

    kind: str
    message: str
    location: Location
    core: str
    pipe: str
    instruction: str = ""
    other_location: Location = UNKNOWN
    other_core: str = ""
    other_pipe: str = ""
    count: int = 1

    def __str__(self) -> str:
        lines = [f"{_place(self.location)}: {self.kind}: {self._sentence()}", *_excerpt(self.location)]
        if self.other_location is not UNKNOWN:
            lines += [
                f"{_place(self.other_location)}: note: the other one, {self._other()}",
                *_excerpt(self.other_location),
            ]
        help = self._help()
        if help:
            lines.append(f"help: {help}")
        return "\n".join(lines)

    def _sentence(self) -> str:
        where = f"{self.pipe} of {self.core}" if self.pipe else self.core
        times = f" ({self.count} times)" if self.count > 1 else ""
        verbs = {"RAW": "reads", "WAR": "writes", "WAW": "writes"}
        if self.kind in verbs:
            before = {"RAW": "has written", "WAR": "has read", "WAW": "has written"}[self.kind]
            return (
                f"{where} {verbs[self.kind]} {self.message}, and nothing says that {self._other()} {before} them{times}"
            )
        return f"{where}: {self.message}{times}"

    def _other(self) -> str:
        same = self.other_core == self.core
        return self.other_pipe if same else f"{self.other_pipe} of {self.other_core}"

    def _help(self) -> str:
        if self.kind not in ("RAW", "WAR", "WAW"):
            return ""
        if self.core != self.other_core:
            return "order the cores: cross_core_set_flag and cross_core_wait_flag, or sync_all"
        if self.pipe == self.other_pipe:
            return f'pipe_barrier("{self.pipe}") between them'
        event = f"{self.other_pipe}_{self.pipe}"
        return f'set_flag("{event}", id) after the first, wait_flag("{event}", id) before the second'


class NpuRunError(OpdslError):
    """A run that ended early, or had hazards. `hazards` lists them."""

    def __init__(self, hazards: Sequence[Hazard]) -> None:
        self.hazards = list(hazards)
        shown = [str(hazard) for hazard in self.hazards[:10]]
        if len(self.hazards) > 10:
            shown.append(f"and {len(self.hazards) - 10} more places")
        super().__init__("\n".join(shown))


@dataclass(frozen=True)
class PipeUse:
    """What a pipe of a core did, in cycles. `stalls`: why it stood still between its first and last instruction."""

    busy: float
    instructions: int
    first: float
    end: float
    stalls: Mapping[str, float]


@dataclass(frozen=True)
class CoreUse:
    kind: str
    block: int
    sub: int
    pipes: Mapping[str, PipeUse]
    bank_conflicts: int
    """Cycles lost to conflicts of UB banks."""

    @property
    def name(self) -> str:
        return f"{self.kind} {self.block}" + (f".{self.sub}" if self.kind == "aiv" else "")


@dataclass(frozen=True)
class PlaceUse:
    """What the instructions of a source line did on a pipe, over all cores. `bytes`: moved (V: repeats; M:
    products)."""

    location: Location
    pipe: str
    count: int
    bytes: int
    busy: float
    conflicts: float
    stalls: Mapping[str, float]


@dataclass
class Result:
    """A run. Cycles are of the chip's clock, from the launch to the end of the last core."""

    program: Program
    chip: Chip
    cycles: float
    hazards: list[Hazard]
    cores: list[CoreUse]
    places: list[PlaceUse]
    printed: list[str]
    l2_hits: int
    l2_misses: int
    l2_written_back: int
    read_bytes: int
    written_bytes: int
    memory_busy: float
    memory_saturated: float
    instructions: int
    scalar_operations: int
    macs: float
    vector_elements: float
    event_words: NDArray[np.int32] | None = None
    """With `trace`: for each instruction its core, pipe, op, location."""
    event_times: NDArray[np.float64] | None = None
    """With `trace`: start, end, bytes."""
    locations: list[Location] = field(default_factory=list)

    @property
    def microseconds(self) -> float:
        return self.cycles / self.chip.clock_mhz

    @property
    def l2_hit_rate(self) -> float:
        touched = self.l2_hits + self.l2_misses
        return self.l2_hits / touched if touched else 1.0

    def busy_share(self, pipe: str, kind: str = "") -> float:
        """The mean over the cores (of a kind) that have this pipe's instructions, of the time of the whole kernel."""
        uses = [core.pipes[pipe].busy for core in self.cores if pipe in core.pipes and kind in ("", core.kind)]
        return sum(uses) / len(uses) / self.cycles if uses and self.cycles else 0.0


def run(
    program: Program,
    arguments: Sequence[Array],
    scalars: Mapping[str, int | float] | None = None,
    *,
    chip: Chip | None = None,
    values: bool = True,
    hazards: bool | None = None,
    strict: bool = True,
    trace: bool = False,
    seed: int = 0,
    l2: Literal["warm", "cold", "drained"] = "warm",
) -> Result:
    """Runs a program; arrays that it writes are changed in place.

    values: False computes the time only (arguments may be `ShapeOnly`), unless control depends on data.
    hazards: whether to check for them (default: as `values`). strict: raise NpuRunError if there are any.
    trace: keep every instruction's start and end. seed: not 0 tries another schedule, with delays by chance.
    l2: `warm` starts with the arguments in the L2 as far as they fit, as a benchmark's repetitions find them; `cold` starts
    without; `drained` too, and ends when all that was written has reached HBM.
    """
    chip = chip or find_chip(program.chip)
    encoded = encode(program)
    if encoded.needs_values and not values:
        values = True
        if any(isinstance(argument, ShapeOnly) for argument in arguments):
            raise OpdslError(f"{program.name} reads data to decide what to do: its time needs arrays, not shapes")
    checks = values if hazards is None else hazards
    given = dict(scalars or {})
    data = _program_data(program, encoded, list(arguments), given, chip, values)
    settings = {
        "values": values,
        "hazards": checks,
        "trace": trace,
        "warm": l2 == "warm",
        "drained": l2 == "drained",
        "seed": seed,
        "max_reports": MAX_REPORTS,
    }
    raw = _npu.run(emulator_numbers(chip), data, settings)
    result = _result(raw, program, chip, encoded)
    if "fault" in raw:
        raise NpuRunError([_hazard(raw["fault"], result.cores, encoded), *result.hazards])
    if strict and result.hazards:
        raise NpuRunError(result.hazards)
    return result


def _program_data(
    program: Program,
    encoded: Encoded,
    arguments: list[Array],
    scalars: dict[str, int | float],
    chip: Chip,
    values: bool,
) -> dict[str, Any]:
    wanted = program.arguments
    if len(arguments) != len(wanted):
        names = ", ".join(tensor.name for tensor in wanted)
        raise OpdslError(f"{program.name} takes {len(wanted)} arrays ({names}), not {len(arguments)}")
    missing = [name for name in program.scalar_names if name not in scalars]
    if missing:
        raise OpdslError(f"{program.name} needs the scalar {missing[0]!r}")
    shapes: dict[int, tuple[tuple[int, ...], tuple[int, ...]]] = {}
    tensors = []
    for tensor, argument in zip(wanted, arguments, strict=True):
        info = _describe(tensor.name, tensor.dtype, tensor.rank, argument, values, tensor.index in encoded.written)
        shapes[tensor.index] = (info["shape"], info["strides"])
        tensors.append((tensor.index, info))

    def value_of(register: Register) -> int | float:
        for parameter in program.parameters:
            if parameter.register is register:
                if parameter.kind == "scalar":
                    return scalars[parameter.name]
                if parameter.tensor is not None:
                    return shapes[parameter.tensor.index][parameter.kind == "stride"][parameter.axis]
        raise OpdslError(f"{program.name}: {register.name} is not known before the launch")

    for tensor in program.tensors:
        if tensor.kind == "workspace":
            size = int(value_of(tensor.bytes)) if isinstance(tensor.bytes, Register) else int(tensor.bytes)
            info = {"name": tensor.name, "data": 0, "low": 0, "high": size, "shape": (), "strides": ()}
            tensors.append((tensor.index, info))
    tensors.sort(key=lambda item: item[0])
    for index, info in tensors:
        info["workspace"] = program.tensors[index].kind == "workspace"
        info["written"] = index in encoded.written
    most = max_blocks(chip, program)
    blocks = int(value_of(program.block_num)) if isinstance(program.block_num, Register) else int(program.block_num)
    blocks = blocks or most
    if not 1 <= blocks <= most:
        raise OpdslError(f"{program.name}: {blocks} blocks, {chip.name} runs 1 to {most} at a time")
    codes = []
    for code in encoded.codes:
        fields = code.fields()
        fields["parameters"] = [
            (
                parameter.kind,
                code.registers[parameter.register],
                parameter.tensor.index if parameter.tensor else -1,
                parameter.axis,
                _scalar_bits(parameter.register, scalars[parameter.name]) if parameter.kind == "scalar" else 0,
            )
            for parameter in program.parameters
            if parameter.register in code.registers
        ]
        codes.append(fields)
    return {
        "blocks": blocks,
        "texts": encoded.texts,
        "codes": codes,
        "tensors": [info for _, info in tensors],
        "locations": len(encoded.locations),
    }


def max_blocks(chip: Chip, program: Program) -> int:
    """The blocks that run at a time: cube cores, or pairs of vector cores."""
    return chip.cores["aic"] if chip.split else chip.cores["core"]


def _scalar_bits(register: Register, value: int | float) -> int:
    return bits_of(float(value) if register.dtype == "f64" else int(value))


def _describe(name: str, dtype: str, rank: int, argument: Array, values: bool, written: bool) -> dict[str, Any]:
    size = DTYPES[dtype].bytes
    if isinstance(argument, ShapeOnly):
        if values:
            raise OpdslError(f"{name}: a ShapeOnly has no values; pass an array, or values=False")
        shape, given = tuple(argument.shape), argument.dtype
        strides = argument.strides or _contiguous(shape)
        pointer = 0
    else:
        shape, given = argument.shape, dtype_name(argument.dtype) or str(argument.dtype)
        if any(stride % size for stride in argument.strides):
            raise OpdslError(f"{name}: strides that are no whole numbers of elements")
        if written and not argument.flags.writeable:
            raise OpdslError(f"{name} is written, the array is read-only")
        strides = tuple(stride // size for stride in argument.strides)
        pointer = argument.ctypes.data
    if given != dtype:
        raise OpdslError(f"{name} is {dtype}, the array {given}")
    if len(shape) != rank:
        raise OpdslError(f"{name} has {rank} axes, the array {len(shape)}")
    empty = 0 in shape
    reach = [0 if empty else (length - 1) * stride for length, stride in zip(shape, strides, strict=True)]
    low = sum(step for step in reach if step < 0) * size
    high = 0 if empty else (sum(step for step in reach if step > 0) + 1) * size
    return {"name": name, "data": pointer, "low": low, "high": high, "shape": shape, "strides": strides}


def _contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    strides, step = [], 1
    for length in reversed(shape):
        strides.append(step)
        step *= max(length, 1)
    return tuple(reversed(strides))


def _result(raw: dict[str, Any], program: Program, chip: Chip, encoded: Encoded) -> Result:
    cores = [
        CoreUse(
            core["kind"],
            core["block"],
            core["sub"],
            {
                pipe: PipeUse(use["busy"], use["instructions"], use["first"], use["end"], _stalls(use["stalls"]))
                for pipe, use in core["pipes"].items()
            },
            core["bank_conflicts"],
        )
        for core in raw["cores"]
    ]
    places = [
        PlaceUse(
            encoded.locations[place["location"]],
            place["pipe"],
            place["count"],
            place["bytes"],
            place["busy"],
            place["conflicts"],
            _stalls(place["stalls"]),
        )
        for place in raw["places"]
    ]
    plain = {name: raw[name] for name in PLAIN}
    return Result(
        program=program,
        chip=chip,
        hazards=_without_echoes([_hazard(report, cores, encoded) for report in raw["reports"]]),
        cores=cores,
        places=places,
        event_words=raw.get("event_words"),
        event_times=raw.get("event_times"),
        locations=encoded.locations,
        **plain,
    )


def _without_echoes(hazards: list[Hazard]) -> list[Hazard]:
    """A race may also leave bytes without a value where they are read: the race says more."""
    raced = {place for h in hazards if h.kind in ("RAW", "WAR", "WAW") for place in (h.location, h.other_location)}
    return [h for h in hazards if h.kind != "uninitialised" or h.location not in raced]


def _stalls(cycles: Sequence[float]) -> dict[str, float]:
    return dict(zip(_npu.STALLS, cycles, strict=True))


def _hazard(raw: dict[str, Any], cores: list[CoreUse], encoded: Encoded) -> Hazard:
    def location(index: int) -> Location:
        return encoded.locations[index] if index >= 0 else UNKNOWN

    def name(index: int) -> str:
        return cores[index].name if 0 <= index < len(cores) else ""

    return Hazard(
        raw["kind"],
        raw["message"],
        location(raw["location"]),
        name(raw["core"]),
        raw["pipe"],
        "",
        location(raw["other_location"]),
        name(raw["other_core"]),
        raw["other_pipe"],
        raw["count"],
    )


def _place(location: Location) -> str:
    return f"{shown_file(location.file)}:{location.line}" if location.line else location.file


def _excerpt(location: Location) -> list[str]:
    line = linecache.getline(location.file, location.line).strip() if location.line else ""
    return [f"    {line}"] if line else []

"""Gives buffers their addresses: each space by itself, first fit, reusing the place of what is no longer needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from opdsl.support.errors import CompileError
from opdsl.support.location import Location, Source, source_line
from opdsl.targets.npu.tree import Block, Buffer, Instruction, Loop, While, blocks_of

# What an instruction can address in each space, in bytes.
ALIGNMENT = {"UB": 32, "L1": 32, "L0A": 512, "L0B": 512, "L0C": 64, "WS": 512}


@dataclass(frozen=True)
class Lifetime:
    """The places in the program, counted in instructions, between which a buffer holds something."""

    buffer: Buffer
    first: int
    last: int


class CapacityError(CompileError):
    """The buffers of a kernel do not fit a memory of the chip."""


class DoesNotFit(Exception):
    """Raised by `place`: lifetimes of one space that do not fit its bytes."""

    def __init__(self, space: str, capacity: int, lifetimes: Sequence[Lifetime]) -> None:
        super().__init__(space)
        self.space = space
        self.capacity = capacity
        self.lifetimes = list(lifetimes)


InPlace = Sequence[tuple[Buffer, Buffer, int]]


def find_lifetimes(program: Block, groups: dict[int, list[int]] | None = None) -> list[Lifetime]:
    """A buffer lives from its first access to its last. One that was made outside of a loop lives through all of it,
    since the next iteration may want it, and so does one that rotates, since the next iteration is already at it.
    `groups` gets the first and last place of each operation."""
    spans: dict[Buffer, list[int]] = {}
    loops: list[tuple[Loop | While, int]] = []
    open_until: list[tuple[Loop | While, set[Buffer], int]] = []
    place = 0

    def visit(block: Block) -> None:
        nonlocal place
        for node in block.nodes:
            if isinstance(node, Instruction):
                place += 1
                for access in node.accesses:
                    if groups is not None and access.group:
                        groups.setdefault(access.group, [place, place])[1] = place
                    buffer = access.memory
                    if not isinstance(buffer, Buffer):
                        continue
                    span = spans.setdefault(buffer, [place, place])
                    span[1] = max(span[1], place)
                    for loop, begin in loops:
                        if loop not in buffer.made_in or loop is buffer.rotates:
                            if loop is buffer.rotates or span[0] > begin:
                                span[0] = min(span[0], begin)
                            for entry in open_until:
                                if entry[0] is loop:
                                    entry[1].add(buffer)
            if isinstance(node, Loop | While):
                place += 1
                loops.append((node, place))
                open_until.append((node, set(), place))
                for inner in blocks_of(node):
                    visit(inner)
                place += 1
                loops.pop()
                for buffer in open_until.pop()[1]:
                    spans[buffer][1] = max(spans[buffer][1], place)
            else:
                for inner in blocks_of(node):
                    visit(inner)

    visit(program)
    return [Lifetime(buffer, first, last) for buffer, (first, last) in spans.items()]


def _rounded(size: int, space: str) -> int:
    unit = ALIGNMENT[space]
    return -(-size // unit) * unit


def _fit(chosen: Sequence[Lifetime], sizes: Mapping[Buffer, int]) -> tuple[dict[Buffer, int], int]:
    """Addresses by first fit, longest-living and largest first; and the bytes that takes."""
    placed: list[tuple[int, int, Lifetime]] = []
    addresses: dict[Buffer, int] = {}
    top = 0
    for life in sorted(chosen, key=lambda e: (e.first, -(e.last - e.first), -sizes[e.buffer])):
        size = sizes[life.buffer]
        address = 0
        for begin, end, other in sorted(placed, key=lambda e: e[0]):
            if other.last < life.first or life.last < other.first or address + size <= begin:
                continue
            address = max(address, end)
        # `sorted` by begin and one sweep find the lowest gap, since `address` only ever moves past a conflict.
        placed.append((address, address + size, life))
        addresses[life.buffer] = address
        top = max(top, address + size)
    return addresses, top


def _shared(found: Sequence[Lifetime], in_place: InPlace, groups: Mapping[int, Sequence[int]]) -> dict[Buffer, Buffer]:
    """Which buffers take over the place of another: results of operations that are the last to read an operand."""
    by_buffer = {life.buffer: life for life in found}
    taken: dict[Buffer, Buffer] = {}
    used: set[Buffer] = set()
    for result, operand, group in in_place:
        first, last = groups.get(group, (0, -1))
        new, old = by_buffer.get(result), by_buffer.get(operand)
        if new is None or old is None or new.buffer in taken or operand in used:
            continue
        if result.rotates is not None or operand.rotates is not None or result.bytes > operand.bytes:
            continue
        if first <= new.first and old.last <= last and old.first < first:
            taken[result] = operand
            used.add(operand)
    return taken


def _merged(chosen: Sequence[Lifetime], taken: Mapping[Buffer, Buffer]) -> list[Lifetime]:
    """One lifetime for buffers that share their place."""
    spans: dict[Buffer, list[int]] = {}
    for life in chosen:
        root = _root(life.buffer, taken)
        span = spans.setdefault(root, [life.first, life.last])
        span[0], span[1] = min(span[0], life.first), max(span[1], life.last)
    return [Lifetime(buffer, first, last) for buffer, (first, last) in spans.items()]


def _root(buffer: Buffer, taken: Mapping[Buffer, Buffer]) -> Buffer:
    while buffer in taken:
        buffer = taken[buffer]
    return buffer


def place(program: Block, capacities: Mapping[str, int], in_place: InPlace = ()) -> list[Lifetime]:
    """Sets the addresses of all buffers. Raises DoesNotFit."""
    groups: dict[int, list[int]] = {}
    found = find_lifetimes(program, groups)
    taken = _shared(found, in_place, groups)
    for space in sorted({life.buffer.space for life in found}):
        chosen = [life for life in found if life.buffer.space == space]
        sizes = {life.buffer: _rounded(life.buffer.bytes, space) * life.buffer.slots for life in chosen}
        for life in chosen:
            life.buffer.bytes = _rounded(life.buffer.bytes, space)
        if space == "WS":  # global memory is plenty: each has its own place, so that nothing waits for a neighbour
            address = 0
            for life in chosen:
                life.buffer.address = address
                address += sizes[life.buffer]
            continue
        merged = _merged(chosen, taken)
        addresses, top = _fit(merged, sizes)
        if top > capacities[space]:
            raise DoesNotFit(space, capacities[space], merged)
        for life in chosen:
            life.buffer.address = addresses[_root(life.buffer, taken)]
    return found


def peak(chosen: Sequence[Lifetime]) -> list[Lifetime]:
    """What lives at the place where most bytes do."""
    best: list[Lifetime] = []
    most = -1
    for moment in {life.first for life in chosen}:
        alive = [life for life in chosen if life.first <= moment <= life.last]
        total = sum(life.buffer.size for life in alive)
        if total > most:
            best, most = alive, total
    return sorted(best, key=lambda e: -e.buffer.size)


def largest_fitting(error: DoesNotFit) -> str:
    """The largest size of one dim with which everything fits, the other dims as they are; or nothing."""
    suggestions: list[tuple[float, str]] = []
    extents = {n for life in error.lifetimes for n in life.buffer.shape if n > 1}
    for extent in extents:
        users = [life for life in error.lifetimes if extent in life.buffer.shape]
        low, high = 0, extent
        while low < high:
            middle = (low + high + 1) // 2
            sizes = {}
            for life in error.lifetimes:
                count = sum(n == extent for n in life.buffer.shape)
                bytes = life.buffer.bytes * (middle / extent) ** count if count else life.buffer.bytes
                sizes[life.buffer] = _rounded(int(bytes), error.space) * life.buffer.slots
            fits = _fit(error.lifetimes, sizes)[1] <= error.capacity
            low, high = (middle, high) if fits else (low, middle - 1)
        if low:
            widest = max(users, key=lambda e: e.buffer.size).buffer
            shape = " x ".join(str(low if n == extent else n) for n in widest.shape)
            if low >= 16:
                low -= low % 16
                shape = " x ".join(str(low if n == extent else n) for n in widest.shape)
            whole = " x ".join(map(str, widest.shape))
            suggestions.append((low / extent, f"{shape} instead of {whole} for {widest.name}"))
    best = sorted(suggestions, reverse=True)[:2]
    return ", or ".join(text for _, text in best)


def explain(error: DoesNotFit, kernel: str, source: Source, chip: str) -> CapacityError:
    """The error that a user sees: every buffer, its bytes, its line, and what would fit."""
    alive = peak(error.lifetimes)
    total = sum(life.buffer.size for life in alive)
    lines = []
    for life in alive:
        buffer = life.buffer
        place: Location = buffer.location
        times = f" ({buffer.slots} x {buffer.bytes})" if buffer.slots > 1 else ""
        shape = " x ".join(map(str, buffer.shape))
        line = source_line(place, source).strip()
        lines.append(
            f"  {buffer.size:>9} bytes{times}  {buffer.name}: {shape} {buffer.dtype}  line {place.line}: {line}"
        )
    suggestion = largest_fitting(error)
    help = f"the largest tile that fits: {suggestion}" if suggestion else "use smaller tiles"
    where = max(alive, key=lambda e: e.buffer.size).buffer.location
    message = (
        f"the tiles of {kernel} do not fit {error.space} of {chip}: {total} bytes are needed at once, there are "
        f"{error.capacity}\n" + "\n".join(lines)
    )
    return CapacityError(message, where, source_line(where, source), help)

"""Chips are data: opdsl/npu/chips/*.toml, each number with its source."""

from __future__ import annotations

import functools
import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import Any

from opdsl.npu.statements import BUFFERS, BufferName, CoreKind
from opdsl.support.errors import OpdslError, suggestion


@dataclass(frozen=True)
class Chip:
    """`split`: cube and vector cores apart (`aic`, `aiv`); else one coupled kind (`core`). Sizes in bytes."""

    name: str
    split: bool
    cores: dict[CoreKind, int]
    clock_mhz: int
    buffers: dict[BufferName, int]
    alignments: dict[str, int]
    data: dict[str, Any]
    """All of the file, for the emulator."""

    @property
    def kinds(self) -> tuple[CoreKind, ...]:
        return tuple(self.cores)

    @property
    def vector_cores_per_block(self) -> int:
        return self.cores["aiv"] // self.cores["aic"] if self.split else 1

    def buffers_of(self, kind: CoreKind) -> tuple[BufferName, ...]:
        """The buffers that a core of this kind has."""
        if not self.split:
            return tuple(name for name in BUFFERS if name in self.buffers)
        return ("UB",) if kind == "aiv" else tuple(name for name in BUFFERS if name in self.buffers and name != "UB")

    def pipes_of(self, kind: CoreKind) -> tuple[str, ...]:
        """The pipes that a core of this kind has, the scalar unit first."""
        if not self.split:
            return ("S", "V", "M", "MTE1", "MTE2", "MTE3")
        return ("S", "V", "MTE2", "MTE3") if kind == "aiv" else ("S", "M", "MTE1", "MTE2", "FIX")


def chip_names() -> list[str]:
    folder = resources.files("opdsl.npu") / "chips"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


@functools.cache
def find_chip(name: str) -> Chip:
    """The chip of a name; an OpdslError for one that there is not."""
    file = resources.files("opdsl.npu") / "chips" / f"{name}.toml"
    if not name.isalnum() or not file.is_file():
        known = chip_names()
        raise OpdslError(
            f"there is no chip {name!r}; help: {suggestion(name, known) or 'the chips are ' + ', '.join(known)}"
        )
    data = tomllib.loads(file.read_text())
    base = data.get("like")
    if base:
        data = _merged(find_chip(base).data, data)
    cores: dict[CoreKind, int] = dict(data["cores"])
    buffers: dict[BufferName, int] = {key: int(value * 1024) for key, value in data["buffers_kib"].items() if value}
    return Chip(name, data["split"], cores, data["clock_mhz"], buffers, dict(data["alignment"]), data)


def _merged(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in change.items():
        result[key] = _merged(base.get(key, {}), value) if isinstance(value, dict) and key != "cores" else value
    return result

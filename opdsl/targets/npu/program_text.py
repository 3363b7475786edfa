"""Compiled programs as JSON, for the cache, which keeps nothing that runs when it is read.

Objects are listed in the order in which they are needed: each is its class and its fields, in which `{"o": 3}` stands for
the object at place 3, so that a register is one object again wherever it is used.
"""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from opdsl.ir.types import DTYPES, DType
from opdsl.npu import program, statements
from opdsl.support.location import Location, Source
from opdsl.targets.npu.running import Runnable

CLASSES: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        *(
            statements.Register,
            statements.Tensor,
            statements.GlobalAddress,
            statements.LocalAddress,
            statements.Compute,
            statements.Issue,
        ),
        *(
            statements.Loop,
            statements.While,
            statements.If,
            statements.Parameter,
            statements.Allocation,
            statements.Code,
            program.Program,
        ),
        *(Location, Source, Runnable),
    )
}


def dump(runnable: Runnable) -> str:
    """The text of a program."""
    objects: list[list[Any]] = []
    places: dict[int, int] = {}

    def encode(value: Any) -> Any:
        if isinstance(value, np.generic):
            value = value.item()
        if value is None or isinstance(value, bool | int | str):
            return value
        if isinstance(value, float):
            return {"f": value.hex()}
        if isinstance(value, DType):
            return {"y": value.name}
        if isinstance(value, list | tuple):
            return {"l" if isinstance(value, list) else "t": [encode(item) for item in value]}
        if isinstance(value, dict):
            return {"d": [[encode(key), encode(item)] for key, item in value.items()]}
        if not is_dataclass(value) or type(value).__name__ not in CLASSES:
            raise TypeError(f"a program holds {value!r}, which has no text")
        if id(value) not in places:
            made = {field.name: encode(getattr(value, field.name)) for field in fields(value)}
            places[id(value)] = len(objects)
            objects.append([type(value).__name__, made])
        return {"o": places[id(value)]}

    encode(runnable)
    return json.dumps(objects, separators=(",", ":"))


def load(text: str) -> Runnable:
    """The program of a text that `dump` wrote."""
    objects: list[Any] = []

    def decode(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        ((kind, held),) = value.items()
        if kind == "o":
            return objects[held]
        if kind == "f":
            return float.fromhex(held)
        if kind == "y":
            return DTYPES[held]
        if kind == "d":
            return {decode(key): decode(item) for key, item in held}
        items = [decode(item) for item in held]
        return items if kind == "l" else tuple(items)

    for name, made in json.loads(text):
        objects.append(CLASSES[name](**{field: decode(value) for field, value in made.items()}))
    runnable: Runnable = objects[-1]
    return runnable

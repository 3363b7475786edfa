"""Shapes are data: bench/shapes/SUITE.toml has the cases of a suite and the sets (smoke, core, full) that each is in.

    suite = "matmul"

    [[case]]
    op = "matmul"
    sets = ["core", "full"]
    dtypes = ["f32", "bf16"]
    m = [256, 512]          # a list makes a case of each; several lists of one length go together
    n = [256, 512]
    k = 64                  # everything else is a parameter of the operator
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

SHAPES = Path(__file__).parent / "shapes"
SETS = ("smoke", "core", "full")
DTYPES = ("f32", "f64", "f16", "bf16", "i8")

Parameter = int | float | str | bool


class ShapesError(ValueError):
    """A shapes file is not as it must be."""


@dataclass(frozen=True)
class Case:
    """An operator with the parameters of one row."""

    suite: str
    op: str
    dtype: str
    parameters: Mapping[str, Parameter]

    def integer(self, name: str, default: int | None = None) -> int:
        """A parameter that is a whole number."""
        value = self.parameters.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int):
            raise ShapesError(f"{self.suite}: the operator {self.op} needs the whole number {name!r}, not {value!r}")
        return value

    def text(self, name: str, default: str) -> str:
        return str(self.parameters.get(name, default))


def load(suite: str, shapes: str, file: Path | None = None) -> list[Case]:
    """The cases of a suite: of one of the sets (in `file`, or the suite's own), or all of the file `shapes`."""
    if shapes in SETS:
        return list(_cases(file or SHAPES / f"{suite}.toml", suite, shapes))
    path = Path(shapes)
    if not path.is_file():
        raise ShapesError(f"--shapes takes {', '.join(SETS)} or a file; there is no file {shapes}")
    return list(_cases(path, suite, None))


def _cases(path: Path, suite: str, chosen: str | None) -> Iterator[Case]:
    try:
        content = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise ShapesError(f"{path.name}: {error}") from None
    if chosen is not None and content.get("suite", suite) != suite:
        raise ShapesError(f"{path.name}: suite = {suite!r} is missing")
    for number, entry in enumerate(content.get("case", []), 1):
        where = f"{path.name}, case {number}"
        if "op" not in entry:
            raise ShapesError(f"{where}: it has no op")
        belongs = entry.get("suite", content.get("suite"))
        sets = entry.get("sets", ["full"])
        if unknown := set(sets) - set(SETS):
            raise ShapesError(f"{where}: there is no set {sorted(unknown)[0]!r}; the sets are {', '.join(SETS)}")
        dtypes = entry.get("dtypes", ["f32"])
        if unknown := set(dtypes) - set(DTYPES):
            raise ShapesError(f"{where}: there is no dtype {sorted(unknown)[0]!r}; they are {', '.join(DTYPES)}")
        if belongs != suite or (chosen is not None and chosen not in sets):
            continue
        parameters = {k: v for k, v in entry.items() if k not in ("op", "sets", "dtypes", "suite")}
        for each in _spread(where, parameters):
            for dtype in dtypes:
                yield Case(suite, entry["op"], dtype, each)


def _spread(where: str, parameters: Mapping[str, Any]) -> Iterator[dict[str, Parameter]]:
    lengths = {len(value) for value in parameters.values() if isinstance(value, list)}
    if len(lengths) > 1:
        raise ShapesError(f"{where}: its lists must be of one length")
    for index in range(lengths.pop() if lengths else 1):
        yield {name: value[index] if isinstance(value, list) else value for name, value in parameters.items()}


def matches(pattern: str | None, op: str, shape: str, dtype: str) -> bool:
    """Whether `--filter` lets a row pass: words that must all be a part of, or with * and ? match, its description."""
    text = f"{op} {shape} {dtype}".lower()
    return all(
        fnmatch(text, f"*{word}*") if any(c in word for c in "*?") else word in text.split() or word in text
        for word in (pattern or "").lower().split()
    )

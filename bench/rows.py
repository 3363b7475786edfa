"""The records of a run, one JSON object a line. `kind` says which: header, roof, row, bar."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

SCHEMA = 1


@dataclass(frozen=True)
class Row:
    """One implementation in one case.

    `ratios` (in rows of impl "opdsl") has each peer's minimum divided by ours: above 1 we are faster; `ratio` is the one
    to the best peer. `aa` is the A/A control: what the same code differs from itself. `roof_pct` is the part of the
    speed that `roof`, measured in the same rounds, allows.
    """

    suite: str
    op: str
    shape: str
    dtype: str
    threads: int
    impl: str
    ms_min: float | None = None
    ms_median: float | None = None
    spread: float | None = None
    runs: int = 0
    gflops: float | None = None
    gbps: float | None = None
    roof_pct: float | None = None
    roof: str = ""
    intensity: float | None = None
    max_err: float | None = None
    err_allowed: float | None = None
    correct: bool | None = None
    ratio: float | None = None
    ratios: Mapping[str, float] = field(default_factory=dict)
    aa: float | None = None
    scaling: float | None = None
    outputs: str = ""
    peak_mb: float | None = None
    note: str = ""
    kind: str = "row"

    @property
    def case(self) -> tuple[str, str, str, str]:
        return (self.suite, self.op, self.shape, self.dtype)


@dataclass(frozen=True)
class Roof:
    """A limit measured in this run, by itself: for the lines of the roofline plots. Rows have their own beside them."""

    name: str
    threads: int
    gflops: float | None = None
    gbps: float | None = None
    bytes: int | None = None
    kind: str = "roof"


@dataclass(frozen=True)
class BarResult:
    """A target of bars.toml and what was found. `value` is None where the run has no row that it is about."""

    suite: str
    text: str
    value: float | None
    bound: str
    passed: bool | None
    detail: str = ""
    kind: str = "bar"


Record = Row | Roof | BarResult


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return value


def to_line(record: Record | Mapping[str, Any]) -> str:
    """One line of JSON; what is unknown or empty is left out, but for the fields that every row has."""
    values = dict(record) if isinstance(record, Mapping) else asdict(record)
    always = ("suite", "op", "shape", "dtype", "threads", "impl", "ms_min", "ms_median", "gflops", "gbps", "roof_pct")
    kept = {
        key: _rounded(value)
        for key, value in values.items()
        if (value is not None and value != "" and value != {}) or (key in (*always, "max_err") and values["kind"] == "row")
    }
    return json.dumps({"kind": kept.pop("kind"), **kept})


def write(path: Path, header: Mapping[str, Any], records: Iterable[Record]) -> None:
    """Writes header and records as JSON lines."""
    lines = [to_line(header), *map(to_line, records)]
    path.write_text("\n".join(lines) + "\n")


def read(path: Path) -> tuple[dict[str, Any], list[Record]]:
    """The inverse of `write`. Raises ValueError for what no such file can hold."""
    header: dict[str, Any] = {}
    records: list[Record] = []
    types: dict[str, type[Row] | type[Roof] | type[BarResult]] = {"row": Row, "roof": Roof, "bar": BarResult}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            values = json.loads(line)
            kind = values["kind"]
            if kind == "header":
                header = values
            else:
                optional = {"value": None, "passed": None} if kind == "bar" else {}
                records.append(types[kind](**{**optional, **values}))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}:{number}: not a line of benchmark results ({error})") from None
    return header, records

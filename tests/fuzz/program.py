"""A generated program: tensors, lines of source, and the plan of its runs. All of it is text in one file."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from opdsl.ir.types import DType

from .values import od

Dim = int | str


@dataclass
class Tensor:
    """role: "in", "out" or "inout". compare: "exact", "zero" (signs of zeros are open) or ["rel", error]."""

    name: str
    dtype: DType
    dims: tuple[Dim, ...]
    data: str
    layout: str
    role: str
    compare: Any = "exact"

    def plan(self) -> dict[str, Any]:
        return {
            "dtype": self.dtype.name,
            "dims": self.dims,
            "data": self.data,
            "layout": self.layout,
            "role": self.role,
            "compare": self.compare,
        }


INPUT_LAYOUTS = ("contiguous",) * 5 + ("transposed", "strided", "reversed", "broadcast")
OUTPUT_LAYOUTS = ("contiguous",) * 5 + ("transposed", "strided", "reversed")


def plan_lines(plan: dict[str, Any]) -> list[str]:
    """The plan as readable source, one tensor or run a line."""
    lines = ["PLAN = {"]
    for key, value in plan.items():
        if key == "tensors":
            lines += ['    "tensors": {', *(f"        {n!r}: {t!r}," for n, t in value.items()), "    },"]
        elif key == "runs":
            lines += ['    "runs": [', *(f"        {run!r}," for run in value), "    ],"]
        else:
            lines.append(f"    {key!r}: {value!r},")
    return [*lines, "}"]


@dataclass
class Program:
    """Collects what the sections of one kernel need."""

    seed: int
    rng: random.Random
    tensors: list[Tensor] = field(default_factory=list)
    scalars: dict[str, tuple[DType, Any]] = field(default_factory=dict)
    hints: dict[str, int] = field(default_factory=dict)  # symbolic dims and the size they are meant for
    functions: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    same: dict[str, str] = field(default_factory=dict)  # arguments that are passed the same array
    names: int = 0

    def fresh(self, stem: str) -> str:
        self.names += 1
        return f"{stem}{self.names}"

    def symbol(self, size: int) -> str:
        name = f"N{len(self.hints)}"
        self.hints[name] = size
        return name

    def tensor(self, dtype: DType, dims: tuple[Dim, ...], role: str, data: str) -> Tensor:
        stem = {"in": "x", "out": "y", "inout": "z"}[role]
        layout = self.rng.choice(INPUT_LAYOUTS if role == "in" else OUTPUT_LAYOUTS)
        tensor = Tensor(self.fresh(stem), dtype, dims, data, layout, role)
        self.tensors.append(tensor)
        return tensor

    def scalar(self, dtype: DType, value: Any) -> str:
        name = self.fresh("s")
        self.scalars[name] = (dtype, value)
        return name

    def runs(self, count: int) -> list[dict[str, int]]:
        """Sizes of the symbolic dims for each run: as meant first, then others, with some of 1 and 0."""
        found = [dict(self.hints)]
        for _ in range(count - 1):
            sizes = {}
            for name, hint in self.hints.items():
                choice = self.rng.random()
                sizes[name] = hint if choice < 0.3 else self.rng.randint(0, 1) if choice < 0.42 else 0
                if choice >= 0.42:
                    sizes[name] = self.rng.randint(1, hint + hint // 2 + 2)
            found.append(sizes)
        return found

    def text(self) -> str:
        name = f"fuzz_{self.seed}"
        parameters = []
        for tensor in self.tensors:
            dims = "".join(", " + (repr(d).replace("'", '"') if isinstance(d, str) else str(d)) for d in tensor.dims)
            parameters.append(f"{tensor.name}: od.Tensor[{od(tensor.dtype)}{dims}]")
        parameters += [f"{scalar}: {od(dtype)}" for scalar, (dtype, _) in self.scalars.items()]
        plan = {
            "kernel": name,
            "seed": self.seed,
            "tensors": {t.name: t.plan() for t in self.tensors},
            "scalars": {n: (d.name, v) for n, (d, v) in self.scalars.items()},
            "runs": self.runs(3),
            "same": self.same,
        }
        return "\n".join(
            [
                "from math import inf, nan  # noqa: F401",
                "",
                "import opdsl as od",
                "",
                *(f"{function}\n\n" for function in self.functions),
                "@od.kernel",
                f"def {name}(",
                *(f"    {p}," for p in parameters),
                "):",
                *(self.lines or ["    pass"]),
                "",
                "",
                *plan_lines(plan),
                "",
            ]
        )

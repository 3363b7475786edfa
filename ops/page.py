"""Writes the tables of `docs/operators.md` from the records; `python -m opdsl.ops.page docs/operators.md` renews them."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

from opdsl.ops.registry import OPERATORS, Operator

BEGIN, END = "<!-- tables: made by opdsl.ops.page -->", "<!-- end of tables -->"
FAMILIES = {
    "unary": "Elementwise, one array",
    "binary": "Elementwise, with broadcasting",
    "activation": "Activations",
    "copy": "Copies",
    "reduction": "Reductions",
    "rows": "Softmax and norms",
    "product": "Matrix products",
    "table": "Tables",
}


def signature(operator: Operator) -> str:
    """The call as a user writes it, without what all operators take."""
    parameters = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for name, parameter in inspect.signature(operator.function).parameters.items()
        if name not in ("out", "target")
    ]
    text = str(inspect.Signature(parameters))
    return f"{operator.name}{text}"


def tables() -> str:
    """A table for each family."""
    parts = []
    for family, title in FAMILIES.items():
        rows = [operator for operator in OPERATORS.values() if operator.family == family]
        kernels = dict.fromkeys(kernel.name for operator in rows for kernel in operator.kernels)
        parts.append(
            f"### {title}\n\nKernels: {', '.join(f'`{name}`' for name in kernels)}.\n\n| call | result |\n|---|---|"
        )
        for operator in rows:
            summary = " ".join((inspect.getdoc(operator.function) or "").split())
            parts[-1] += f"\n| `{signature(operator)}` | {summary.replace('|', chr(92) + '|')} |"
    return "\n\n".join(parts)


def renewed(page: str) -> str:
    """The page with its tables made anew."""
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n\n{tables()}\n\n{END}{tail}"


def main() -> None:
    path = Path(sys.argv[1])
    path.write_text(renewed(path.read_text()))


if __name__ == "__main__":
    main()

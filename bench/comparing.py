"""Two files of results beside each other, by their ratios to the peers: times of different runs cannot be compared."""

from __future__ import annotations

from pathlib import Path

from . import rows as records
from .rows import Row
from .summary import geometric_mean
from .table import print_table


def show_files(first: Path, second: Path) -> int:
    """Prints the rows that both have. Never fails: it cannot tell a slower opdsl from another machine."""
    before, after = _ratios(first), _ratios(second)
    shared = [case for case in before if case in after]
    if not shared:
        raise ValueError(f"{first} and {second} have no rows in common that both compare with a peer")
    changes = [after[case] / before[case] for case in shared]
    lines = [
        (*case[1:4], str(case[4]), f"{before[case]:.3f}x", f"{after[case]:.3f}x", f"{100 * (change - 1):+.1f} %")
        for case, change in zip(shared, changes, strict=True)
    ]
    title = f"ratio to the best peer, {first.name} and {second.name}"
    print_table(title, ("op", "shape", "dtype", "threads", "A", "B", "B / A"), lines)
    print(f"  geometric mean of B / A over {len(changes)} rows: {geometric_mean(changes):.3f}")
    print("  To tell whether a revision is slower, give two revisions: they are then measured side by side.")
    return 0


def _ratios(path: Path) -> dict[tuple[str, str, str, str, int], float]:
    _, found = records.read(path)
    return {(*row.case, row.threads): row.ratio for row in found if isinstance(row, Row) and row.ratio}

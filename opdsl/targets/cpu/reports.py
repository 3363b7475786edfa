"""What a kernel reported while it ran: od.print goes to standard output, a failed od.assert_ is raised."""

from __future__ import annotations

from opdsl._runtime import LaunchReport
from opdsl.ir.core import Kernel, Op, walk


def sites(kernel: Kernel) -> list[Op]:
    """The prints and assertions of a kernel, in the order in which generated code numbers them."""
    return [op for op in walk(kernel.body) if op.name in ("print", "assert")]

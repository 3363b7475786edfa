"""What a kernel reported while it ran: od.print goes to standard output, a failed od.assert_ is raised."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from opdsl.ir.ops import print_parts
from opdsl.ir.semantics.values import NUMPY_DTYPES
from opdsl.ir.types import DType
from opdsl.support.location import Source
from opdsl.support.run_errors import KernelAssertionError

if TYPE_CHECKING:
    from opdsl._runtime import LaunchReport
    from opdsl.targets.cpu.report_calls import Site


def deliver(sites: Sequence[Site], source: Source, report: LaunchReport) -> None:
    """Prints all that was printed, then raises for the first assertion that failed. Raises MemoryError where the
    kernel found no memory for its tiles."""
    code, printed, dropped = report
    for number, values in printed:
        site = sites[number]
        dtypes = [operand.type.dtype for operand in site.op.operands]
        parts = print_parts(site.text)
        shown = [*(_shown(value, dtype) for value, dtype in zip(values, dtypes, strict=True)), ""]
        print("".join(text + value for text, value in zip(parts, shown, strict=False)))
    if dropped:
        print(f"... and {dropped} more lines, which were not kept")
    if code < 0:
        raise MemoryError("there is not enough memory for the kernel's tiles; use smaller tiles")
    if code > 0:
        site = sites[code - 1]
        raise KernelAssertionError(f"assertion failed: {site.text}", site.op.location, source)


def _shown(value: Any, dtype: DType) -> str:
    return str(np.asarray(value).astype(NUMPY_DTYPES[dtype]))

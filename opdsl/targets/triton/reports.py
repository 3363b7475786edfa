"""What a kernel's assertions left behind."""

from __future__ import annotations

from collections.abc import Sequence

from opdsl.ir.core import Kernel
from opdsl.support.run_errors import KernelAssertionError
from opdsl.targets.triton.source import Generated


def check_reports(generated: Generated, kernel: Kernel, failures: Sequence[int]) -> None:
    """Raises the error of the first assertion that failed."""
    for site, failed in zip(generated.asserts, failures, strict=False):
        if failed:
            raise KernelAssertionError(f"assertion failed: {site.message}", site.location, kernel.source)

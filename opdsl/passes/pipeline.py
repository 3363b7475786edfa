"""Runs passes in order, verifies the kernel after each, and keeps the text of each stage where that is wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from opdsl.ir.core import Kernel
from opdsl.ir.ops import IrError
from opdsl.ir.printer import print_kernel
from opdsl.ir.verifier import verify
from opdsl.passes.hoist import hoist
from opdsl.passes.inline import inline
from opdsl.passes.simplify import simplify

Pass = Callable[[Kernel], Kernel]


@dataclass(frozen=True)
class NamedPass:
    name: str
    run: Pass


STANDARD: tuple[NamedPass, ...] = (
    NamedPass("simplify", simplify),
    NamedPass("hoist", hoist),
    NamedPass("simplify-2", simplify),  # what was hoisted may now be shared
)


def run_passes(
    kernel: Kernel,
    passes: Sequence[NamedPass] = STANDARD,
    *,
    compositions: frozenset[str] = frozenset(),
    record: dict[str, str] | None = None,
    check: bool = True,
) -> Kernel:
    """The kernel after all passes. `compositions` are those that the target has by name; all others are inlined.
    `record` gets the text after each pass, by its name, for `opdsl inspect`."""
    if check:
        verify(kernel)
    kernel = inline(kernel, compositions)
    for step in passes:
        changed = step.run(kernel)
        if check and changed is not kernel:
            try:
                verify(changed)
            except IrError as error:
                raise IrError(f"after the pass '{step.name}': {error}") from None
        kernel = changed
        if record is not None:
            record[step.name] = print_kernel(kernel)
    return kernel

"""From a request to C++ text: the passes, then the lowering."""

from __future__ import annotations

from opdsl.passes.lengthen import lengthen_products
from opdsl.passes.pipeline import STANDARD, NamedPass, run_passes
from opdsl.targets.base import Request
from opdsl.targets.cpu.isa import Isa
from opdsl.targets.cpu.lowering import Lowering

# Steps of a product that go through the register tile at once: the accumulators are read and written once for each, and
# a block of rows of A this long stays in the first-level cache (docs/dot.md).
LONGEST_STEP = 512
PASSES = (*STANDARD, NamedPass("lengthen", lambda kernel: lengthen_products(kernel, LONGEST_STEP)))


def generate(request: Request, isa: Isa, record: dict[str, str] | None = None) -> tuple[Lowering, str]:
    """The C++ text, and the lowering that made it. `record` gets the IR's text after each pass."""
    kernel = run_passes(request.kernel, PASSES, record=record)
    lowering = Lowering(Request(kernel, request.unit_axes, request.may_alias, request.options), isa)
    return lowering, lowering.text()

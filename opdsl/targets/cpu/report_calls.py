"""What a kernel reports while it runs: the calls that od.print and od.assert_ become, and the sites that they name."""

from __future__ import annotations

import math
from dataclasses import dataclass

from opdsl.analysis.facts import is_tile
from opdsl.ir.core import Op
from opdsl.ir.types import shape_of
from opdsl.targets.cpu.writer import Writer


@dataclass(frozen=True)
class Site:
    """An od.print or od.assert_ in the kernel, for messages."""

    kind: str
    text: str
    op: Op


class ReportCalls:
    """Lowers what reports."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.sites: list[Site] = []

    def lower(self, op: Op) -> None:
        writer = self.writer
        site = len(self.sites)
        kind = op.name
        self.sites.append(Site(kind, op.attributes["text" if kind == "print" else "message"], op))
        if kind == "assert" and not is_tile(op.operands[0]):
            writer.flush()
            holds = writer.scalar(op.operands[0])
            writer.code.line(f"if (!({holds})) {{ od::record_failure(&failed, {site}); return; }}")
            return
        buffers = [writer.stored_row_major(o) if is_tile(o) else None for o in op.operands]
        writer.flush()
        if kind == "assert":
            size = math.prod(shape_of(op.operands[0].type))
            assert buffers[0] is not None
            writer.code.line(
                f"if (!od::all_true({buffers[0].name}, {size})) {{ od::record_failure(&failed, {site}); return; }}"
            )
            return
        values = []
        for operand, buffer in zip(op.operands, buffers, strict=True):
            if buffer is None:
                values.append(f"od::reported({writer.scalar(operand)})")
            else:
                dims = ", ".join(str(n) for n in shape_of(operand.type))
                values.append(f"od::reported_tile({buffer.name}, {{{dims}}})")
        writer.code.line(f"od::report(runtime, {site}{''.join(', ' + v for v in values)});")

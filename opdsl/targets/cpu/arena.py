"""Places of buffers in memory that is allocated once: for a kernel, and for each thread of a grid."""

from __future__ import annotations

from dataclasses import dataclass, field

from opdsl.targets.cpu.code import local_element
from opdsl.targets.cpu.loop_ir import Buffer, round_up

ALIGNMENT = 64
FIXED = "@FIXED@"  # in declarations: the bytes of the fixed part


@dataclass
class Arena:
    """Memory of one scope of execution: fixed places for the buffers, and a part whose size is known at run time."""

    base: str
    bytes: int = 0
    declarations: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)  # texts of run-time sizes in bytes, after the fixed part

    def place(self, buffer: Buffer) -> None:
        element, size = local_element(buffer.dtype)
        self._declare(buffer.name, element, str(self.bytes))
        self.bytes += round_up(buffer.elements * size, ALIGNMENT)

    def place_extra(self, name: str, element: str, size_text: str) -> None:
        """Memory of a run-time size in bytes, a multiple of the alignment."""
        self._declare(name, element, " + ".join([FIXED, *self.extra]))
        self.extra.append(size_text)

    def place_part(self, name: str, whole: Buffer, offset: int) -> None:
        """A part of a buffer that has its place, `offset` elements after its start."""
        element = local_element(whole.dtype)[0]
        self.declarations.append(f"{element}* const {name} = {whole.name} + {offset};")

    def _declare(self, name: str, element: str, offset: str) -> None:
        self.declarations.append(f"{element}* const {name} = reinterpret_cast<{element}*>({self.base} + {offset});")

    def declared(self) -> list[str]:
        return [line.replace(FIXED, str(self.bytes)) for line in self.declarations]

    def total(self) -> str:
        return " + ".join([str(self.bytes), *self.extra])

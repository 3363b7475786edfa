"""The target `cpu`: tile IR -> loops -> C++ -> a shared object. `cpu:avx2` and the like force an instruction set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from opdsl import _runtime
from opdsl.support import toolchain
from opdsl.support.cache import default_cache
from opdsl.support.digests import digests
from opdsl.support.knobs import knobs
from opdsl.targets.base import Request
from opdsl.targets.cpu.isa import Isa, chosen, entry_name

if TYPE_CHECKING:  # a kernel that is in the cache needs no code generator
    from opdsl.targets.cpu.lowering import Lowering
    from opdsl.targets.cpu.report_calls import Site

# No lane's result may depend on its neighbours or on how the compiler feels: no contraction, no reassociation.
POLICY_FLAGS = ("-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math", "-fwrapv", "-fno-finite-loops")


class CpuTarget:
    """Generated C++ for one instruction set."""

    def __init__(self, option: str = "") -> None:
        self.isa = chosen(option)
        self.name = f"cpu:{self.isa.name}"

    def stages(self, request: Request) -> Mapping[str, str]:
        """ir, the passes' results, loops, c++, assembly."""
        import tempfile

        from opdsl.ir.printer import print_kernel
        from opdsl.targets.cpu.assembly import readable

        record = {"ir": print_kernel(request.kernel)}
        lowering, text = lower(request, self.isa, record)
        record["loops"] = "\n".join(lowering.report) + "\n"
        record["c++"] = text
        with tempfile.TemporaryDirectory() as directory:
            source = Path(directory) / "kernel.cpp"
            source.write_text(text)
            try:
                assembly = toolchain.compile_assembly(source, flags(self.isa))
            except toolchain.ToolchainError as error:
                record["assembly"] = f"# {error}\n"  # the other stages need no compiler
            else:
                record["assembly"] = readable(assembly, text)
        return record

    def compile(self, request: Request) -> CpuExecutable:
        """Compiles, or takes from the cache. Raises ToolchainError where there is no usable compiler."""
        if not _runtime.supports_isa(self.isa.name):
            raise ValueError(f"this machine does not have {self.isa.name}; it has {_runtime.best_isa()} and less")

        def build(directory: Path) -> None:
            _, text = lower(request, self.isa)
            source = directory / "kernel.cpp"
            source.write_text(text)
            toolchain.compile_shared_object(source, directory / "kernel.so", flags(self.isa))

        cache = default_cache()
        directory = cache.find(self._parts(request))
        if directory is None:
            _ = request.kernel  # the digest is now that of this IR, whatever has been kept of it
            directory = cache.get_or_build(self._parts(request), build)
        entry = _runtime.load(str(directory / "kernel.so"), entry_name(request.source.name))
        return CpuExecutable(request, self.isa, entry)

    def _parts(self, request: Request) -> dict[str, str]:
        """All that decides the shared object: the key in the cache."""
        return {
            "kernel": request.source.name,
            "isa": self.isa.name,
            "ir": request.digest,
            "unit_axes": repr(request.unit_axes),
            "may_alias": repr(request.may_alias),
            "toolchain": toolchain.fingerprint(flags(self.isa)),
            "batch_invariant": repr(knobs.batch_invariant),
            "generator": digests().generator,
        }


def flags(isa: Isa) -> tuple[str, ...]:
    """The compiler's flags for generated code."""
    return (*POLICY_FLAGS, *isa.flags)


def lower(request: Request, isa: Isa, record: dict[str, str] | None = None) -> tuple[Lowering, str]:
    """The C++ text of a kernel, and the lowering that made it. `record` gets the text of each stage before."""
    from opdsl.targets.cpu.generate import generate

    return generate(request, isa, record)


class CpuExecutable:
    """A loaded kernel."""

    def __init__(self, request: Request, isa: Isa, entry: _runtime.Entry) -> None:
        self.entry = entry
        self._request = request
        self._isa = isa
        self._sites: list[Site] | None = None

    def __call__(self, arguments: Sequence[np.ndarray[Any, Any] | int | float | bool]) -> None:
        arrays = [a for a in arguments if isinstance(a, np.ndarray)]
        scalars = [a for a in arguments if not isinstance(a, np.ndarray)]
        report = self.entry(arrays, scalars)
        if report is not None:
            self.report(report)

    def report(self, report: _runtime.LaunchReport) -> None:
        """Prints what the kernel printed; raises what it found wrong."""
        from opdsl.targets.cpu.reports import deliver

        if self._sites is None:  # the shared object may have come from the cache: find the sites again
            self._sites = lower(self._request, self._isa)[0].sites
        deliver(self._sites, self._request.kernel.source, report)


__all__ = ["CpuExecutable", "CpuTarget", "flags", "lower"]

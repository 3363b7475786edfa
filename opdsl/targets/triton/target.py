"""The target `triton`: tile IR -> Triton source -> ttir -> ttgir -> ptx -> cubin. `triton:sm_90` names the architecture;
`triton:interpreter` runs the source in Triton's interpreter, on the CPU."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from opdsl.ir.printer import print_kernel
from opdsl.targets.base import Executable, Request
from opdsl.targets.triton.arch import ARCHES, DEFAULT_ARCH, Arch
from opdsl.targets.triton.errors import TritonMissingError

INTERPRETER = "interpreter"


class TritonTarget:
    def __init__(self, option: str = "") -> None:
        if option and option not in ARCHES and option != INTERPRETER:
            known = ", ".join((*ARCHES, INTERPRETER))
            raise ValueError(f"there is no architecture {option!r}; the target triton knows {known}")
        self.option = option
        self.name = f"triton:{option}" if option else "triton"

    @property
    def arch(self) -> Arch:
        """The architecture named, or that of the GPU at hand, or the default one."""
        if self.option in ARCHES:
            return ARCHES[self.option]
        if self.option != INTERPRETER:
            from opdsl.targets.triton.device import device_arch

            found = device_arch()
            if found is not None:
                return found
        return ARCHES[DEFAULT_ARCH]

    def stages(self, request: Request) -> Mapping[str, str]:
        """ir, the passes' results, source, ttir, ttgir, llir, ptx or amdgcn, sass."""
        from opdsl.targets.triton.compiler import compile_request
        from opdsl.targets.triton.generate import generate

        record = {"ir": print_kernel(request.kernel)}
        arch = self.arch
        record["source"] = generate(request, arch, record).text
        try:
            compiled = compile_request(request, arch)
        except TritonMissingError as error:
            record["ttir"] = f"# {error}\n"  # the stages before need no Triton
            return record
        record["source"] = compiled.generated.text  # with the stages that fit into shared memory
        for stage in ("ttir", "ttgir", "llir", arch.assembly):
            texts = [module.text(stage) for module in compiled.modules]
            record[stage] = "\n".join(texts)
        if arch.vendor == "cuda":
            record["sass"] = "\n".join(disassemble(module.path(arch.binary)) for module in compiled.modules)
        return record

    def compile(self, request: Request) -> Executable:
        """Compiles, or takes from the cache. What it gives runs on NumPy arrays, by way of the GPU's memory."""
        if self.option == INTERPRETER:
            from opdsl.targets.triton.interpreter import InterpretedExecutable

            return InterpretedExecutable(request)
        from opdsl.targets.triton.device import DeviceExecutable

        return DeviceExecutable(request, self.arch)


def disassemble(cubin: Path) -> str:
    """A cubin's machine code, by the disassembler that Triton brings."""
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "nvdisasm"
    if not tool.is_file():
        return "# this version of Triton brings no disassembler\n"
    result = subprocess.run([str(tool), "-c", str(cubin)], capture_output=True, text=True, check=False, timeout=60)
    return result.stdout if result.returncode == 0 else f"# {result.stderr.strip()}\n"

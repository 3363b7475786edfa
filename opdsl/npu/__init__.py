"""The emulated NPU: programs written by hand in Python, run with values, cycles and hazards. See docs/npu.md."""

from opdsl.npu.addresses import Global, Local
from opdsl.npu.builder import Builder, NpuError
from opdsl.npu.chip import Chip, chip_names, find_chip
from opdsl.npu.emulator import Hazard, NpuRunError, Result, ShapeOnly, run
from opdsl.npu.program import Program
from opdsl.npu.scalars import Scalar

__all__ = [
    "Builder",
    "Chip",
    "Global",
    "Hazard",
    "Local",
    "NpuError",
    "NpuRunError",
    "Program",
    "Result",
    "Scalar",
    "ShapeOnly",
    "chip_names",
    "find_chip",
    "run",
]

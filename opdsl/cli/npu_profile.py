"""`opdsl profile --target npu:...`: the timeline of a kernel on an emulated chip, as files and as one page of text."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from opdsl.harness.arguments import prepare
from opdsl.harness.errors import CommandError
from opdsl.harness.specialising import Options, Specialisation
from opdsl.npu.emulator import Result
from opdsl.npu.profile import write_profile
from opdsl.npu.summary import bound_by, roofline, summary
from opdsl.targets.npu.target import NpuTarget


def profile(target: NpuTarget, options: Options, kernel: Any, arguments: argparse.Namespace) -> int:
    """Profiles every specialisation; with several, each in a folder named after its dtypes."""
    specialisations = list(options.specialise(kernel))
    for one in specialisations:
        result = _run(target, one, arguments)
        files = []
        if arguments.output is not None:
            folder = Path(arguments.output)
            if len(specialisations) > 1:
                folder /= "_".join(dtype.name for dtype in one.dtypes.values())
            try:
                files = write_profile(result, folder)
            except OSError as error:
                raise CommandError(f"-o {arguments.output}: {error.strerror or error}") from None
        if arguments.json:
            print(json.dumps(_record(result, one, files)))
            continue
        print(summary(result), end="")
        if files:
            print(f"\nwritten to {files[0].parent}: {', '.join(file.name for file in files)}")
            print("open timeline.html in a browser, or trace.json in https://ui.perfetto.dev")
    return 0


def _run(target: NpuTarget, one: Specialisation, arguments: argparse.Namespace) -> Result:
    from opdsl.runtime.launch import contiguous_request
    from opdsl.targets.npu.running import run_compiled

    prepared = prepare(one, arguments)
    executable = target.compile(contiguous_request(one.ir))
    return run_compiled(executable.runnable, prepared.values, trace=True, strict=False)


def _record(result: Result, one: Specialisation, files: list[Path]) -> dict[str, Any]:
    roof = roofline(result)
    return {
        "kernel": one.kernel.name,
        "chip": result.chip.name,
        "dtypes": {name: dtype.name for name, dtype in one.dtypes.items()},
        "us": result.microseconds,
        "cycles": result.cycles,
        "bound_by": bound_by(result),
        "busy": {pipe: result.busy_share(pipe) for pipe in ("M", "V", "MTE1", "MTE2", "MTE3", "FIX")},
        "l2_hit_rate": result.l2_hit_rate,
        "cube_tflops": roof.cube,
        "memory_gbps": roof.memory,
        "hazards": [str(hazard) for hazard in result.hazards],
        "files": [str(file) for file in files],
    }

"""`opdsl inspect`: what a kernel becomes, stage by stage."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping

from opdsl.harness import specialising
from opdsl.harness.errors import CommandError, suggestion
from opdsl.harness.loading import choose_kernels
from opdsl.harness.specialising import Options

MEANINGS = {
    "buffers": "npu: where every tile lies, with its bytes and its line",
    "program": "npu: the instructions of each kind of core, their pipes and lines",
    "ir": "the tile IR, as the front end makes it",
    "loops": "the loop nests with the tiles that are kept in memory",
    "c++": "the generated C++; `// file.py:LINE` names the kernel's lines",
    "source": "triton: the Triton source; its comments quote the kernel's lines",
    "ttir": "triton: Triton's IR",
    "ttgir": "triton: Triton's IR with layouts, for the GPU",
    "llir": "triton: LLVM IR",
    "ptx": "triton: NVIDIA's virtual assembly",
    "sass": "triton: NVIDIA's machine code",
    "amdgcn": "triton: AMD's assembly",
    "assembly": "the compiler's output; `# file.py:LINE` names the kernel's lines",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kernel", metavar="FILE[:KERNEL]", help="a Python file, and one of its kernels")
    parser.add_argument("--stage", help="the stage to print (default: a list of the stages); `all` prints all")
    targets = "cpu, cpu:avx2, ..., triton:sm_90, ..., npu:910b2, ..., interp"
    parser.add_argument("--target", default="cpu", help=f"{targets} (default: cpu)")
    specialising.add_arguments(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    from opdsl.runtime.launch import contiguous_request
    from opdsl.targets.base import find_target

    file, (kernel,) = choose_kernels(arguments.kernel, several=False)
    try:
        target = find_target(arguments.target)
    except ValueError as error:
        raise CommandError(f"--target {arguments.target}: {error}") from None
    specialisations = Options(arguments, [kernel], file.module).specialise(kernel)
    if len(specialisations) != 1:
        raise CommandError("--dtype gives several dtypes; inspect shows one compilation", "give one dtype for each")
    stages = target.stages(contiguous_request(specialisations[0].ir))
    name = arguments.stage
    if name is not None and name != "all" and name not in stages:
        raise CommandError(f"the target {target.name} has no stage {name!r}", suggestion(name, stages))
    chosen = stages if name in (None, "all") else {name: stages[name]}
    if arguments.json:
        listed = {"kernel": kernel.name, "target": target.name, "stages": list(stages)}
        print(json.dumps(listed if name is None else {**listed, "text": dict(chosen)}))
    elif name is None:
        _list(kernel.name, target.name, stages)
    elif name == "all":
        print("\n".join(f"===== {stage} =====\n{text}" for stage, text in chosen.items()), end="")
    else:
        sys.stdout.write(stages[name])
    return 0


def _list(kernel: str, target: str, stages: Mapping[str, str]) -> None:
    print(f"{kernel} for {target} has the stages")
    width = max(map(len, stages))
    previous = ""
    for stage, text in stages.items():
        meaning = MEANINGS.get(stage, f"the IR after the pass {stage}")
        if stage not in MEANINGS and text == previous:
            meaning += ", which changed nothing"
        print(f"  {stage:<{width}}  {text.count(chr(10)):6} lines  {meaning}")
        previous = text
    print("Show one by --stage NAME, or all by --stage all.")

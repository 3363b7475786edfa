"""Kernels whose names are words of the languages that are generated, or look like what the generators make up."""

from __future__ import annotations

import importlib.util
import keyword
from pathlib import Path
from typing import Any

import numpy as np

WORDS = (
    *("double", "int", "auto", "struct", "union", "template", "register", "this", "new", "delete", "operator", "bool"),
    *("array", "scalar", "entry", "runtime", "i64", "i32", "report_value", "body", "main", "exit", "NULL", "errno"),
    *("arrays", "scalars", "failed", "kernel", "workspace", "scratch", "begin", "end", "state", "memcpy", "size_t"),
    *(
        "tl",
        "triton",
        "libdevice",
        "range",
        "min",
        "max",
        "float",
        "print",
        "cdiv",
        "floordiv",
        "mod",
        "grid",
        "failures",
    ),
    *(
        "x_0",
        "dim_x",
        "dim_x_0",
        "x_n0",
        "x_s0",
        "x_stride0",
        "x_streams",
        "t_0",
        "grid_0",
        "task_0",
        "count_0",
        "tiles",
    ),
    *("_philox_32", "_floor_div", "_", "__x", "größe", "μ", "数", "e", "E", "od", "T", "N", "f32", "out", "self", "np"),
)
TEXT = """import opdsl as od


@od.kernel
def {kernel}({tensor}: od.Tensor["f32", "{dim}"], result: od.Tensor["f32", "{dim}"], {scalar}: od.i64, *,
             {constexpr}: od.constexpr = 4):
    ({size},) = {tensor}.shape
    for {variable} in od.parallel(range(0, {size}, {constexpr})):
        {tile} = od.copy_in({tensor}[{variable} : {variable} + {constexpr}])
        od.assert_({tile} >= 0, "not negative")
        od.copy_out({tile} // 2 + od.cast({scalar}, od.f32), result[{variable} : {variable} + {constexpr}])
"""
ROLES = ("kernel", "tensor", "dim", "scalar", "constexpr", "size", "variable", "tile")
USUAL = dict(zip(ROLES, ("halved", "x", "M", "s", "BLOCK", "m", "i", "t"), strict=True))
TAKEN = {"od", "result"}  # what the kernel itself uses
ALIKE = (
    {"tensor": "x", "dim": "x"},
    {"scalar": "M"},
    {"scalar": "x_stride0"},
    {"tensor": "halved", "kernel": "halved"},
    {"kernel": "tl", "tensor": "triton", "dim": "tl", "scalar": "libdevice"},
    {"tensor": "x", "scalar": "x_0", "dim": "x_0", "size": "x_1", "tile": "x_0_0"},
    {"dim": "x1", "tile": "dim_x1", "variable": "dim_x"},
    {"kernel": "failures", "scalar": "failures", "dim": "failures"},
)


def cases() -> list[dict[str, str]]:
    """Each word in every role where Python takes it."""
    found: list[dict[str, str]] = []
    for word in WORDS:
        assert not keyword.iskeyword(word)
        if word in TAKEN:
            continue
        roles = ("dim",) if word == "range" else ROLES  # the kernel calls Python's
        found += [{role: word} for role in roles]
    return [*found, *ALIKE]


def kernel_of(case: dict[str, str], folder: Path) -> tuple[Any, Path]:
    names = USUAL | case
    path = folder / f"names_{len(list(folder.iterdir()))}.py"
    path.write_text(TEXT.format(**names), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, names["kernel"]), path


def check_names(case: dict[str, str], target: str, folder: Path) -> None:
    kernel, _ = kernel_of(case, folder)
    x = np.repeat(np.arange(7, dtype=np.float32), 2)[::2]  # with a stride, which then has a name
    result = np.full(7, np.nan, np.float32)
    kernel(x, result, 3, target=target)
    np.testing.assert_array_equal(result, x // 2 + 3, err_msg=str(case))

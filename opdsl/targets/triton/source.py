"""What the generator makes: Triton source, and how each of its functions is launched.

The grid's sizes are texts in a small language that Python and C read alike: names of arguments, whole numbers,
`+ - *`, and calls of `cdiv`, `floordiv`, `mod`, `min` and `max` (`evaluate_size` is its definition).
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

ArgumentKind = Literal["pointer", "scalar", "dim", "stride", "report"]


@dataclass(frozen=True)
class LaunchArgument:
    """One argument of a generated function.

    kind: "pointer" and "scalar" are the kernel's parameter `parameter`; "dim" is the size and "stride" the stride (in
    elements) of its axis `axis`; "report" is a zeroed array of i32, one for each assertion, where a 1 says it failed.
    type: as in Triton's signatures, "*fp16", "i32", "fp32".
    aligned: the compiled code relies on a multiple of 16 (a pointer: of 16 bytes).
    """

    name: str
    kind: ArgumentKind
    type: str
    parameter: int = -1
    axis: int = -1
    aligned: bool = False


@dataclass(frozen=True)
class Launch:
    """One generated function, launched on a one-dimensional grid.

    `programs` is the number of tiles. A `persistent` function takes any grid: its programs share the tiles, so launch as
    many as the device runs at once, and no more than there are tiles. An empty `programs` means that the number is
    known on the device only: launch one for each multiprocessor.
    `condition` is a size that must not be 0 for the launch to do anything; `programs` of 0 means no launch.
    """

    function: str
    arguments: tuple[LaunchArgument, ...]
    programs: str
    persistent: bool
    num_warps: int
    num_stages: int
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class AssertSite:
    """An `od.assert_` of the kernel: the message, and where it stands."""

    message: str
    location: Any


@dataclass(frozen=True)
class Generated:
    """The Triton source of a kernel. Its functions are launched one after the other."""

    text: str
    launches: tuple[Launch, ...]
    asserts: tuple[AssertSite, ...] = ()


def _cdiv(a: int, b: int) -> int:
    return -(-a // b)


def _floordiv(a: int, b: int) -> int:
    return a // b if b else 0


def _mod(a: int, b: int) -> int:
    return a % b if b else 0


_FUNCTIONS = {"cdiv": _cdiv, "floordiv": _floordiv, "mod": _mod, "min": min, "max": max}


def compile_sizes(texts: Sequence[str], names: Sequence[str]) -> Any:
    """A function of the named values that gives the tuple of sizes that the texts stand for."""
    for text in texts:
        _check(ast.parse(text, mode="eval"), names)
    body = "".join(f"{text}, " for text in texts)
    code = compile(f"lambda {', '.join(names)}: ({body})", "<grid>", "eval")
    return eval(code, dict(_FUNCTIONS))  # noqa: S307 - checked just now to be arithmetic on these names


def evaluate_size(text: str, values: Mapping[str, int]) -> int:
    """The value of one size."""
    (size,) = compile_sizes([text], list(values))(*values.values())
    return int(size)


def _check(tree: ast.AST, names: Sequence[str]) -> None:
    allowed = (ast.Expression, ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.UnaryOp, ast.USub, ast.Call, ast.Name)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and type(node.value) is int:
            continue
        if isinstance(node, ast.Load):
            continue
        if not isinstance(node, allowed) or (isinstance(node, ast.Name) and node.id not in (*names, *_FUNCTIONS)):
            raise ValueError(f"{ast.unparse(tree)!r} is not a size")

"""Makes a failing program smaller: drops lines and blocks, replaces values by constants, drops arguments and runs."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from typing import Any

from .program import plan_lines

Fails = Callable[[str], bool]

_TYPED = re.compile(r"^(\s*)(\w+) = (.*)  # (\w+) ([\dx]*)$")


def shrink(text: str, fails: Fails, budget: int = 300) -> str:
    """The smallest text found that still fails in the same way, with at most `budget` tries."""
    tries = 0

    def attempt(candidate: str) -> bool:
        nonlocal tries
        tries += 1
        return tries <= budget and candidate != text and fails(candidate)

    progress = True
    while progress and tries < budget:
        progress = False
        for step in STEPS:
            moved = True
            while moved and tries < budget:
                moved = False
                for candidate in step(text):
                    if attempt(candidate):
                        text, moved, progress = candidate, True, True
                        break
    return text


def _parts(text: str) -> tuple[list[str], list[str], dict[str, Any]]:
    """Lines up to the kernel's body, the body, the plan."""
    lines = text.splitlines()
    begin = lines.index("):") + 1
    end = next(i for i, line in enumerate(lines) if line.startswith("PLAN = "))
    plan = ast.literal_eval("\n".join(lines[end:]).removeprefix("PLAN = ").replace("nan", "None"))
    return lines[:begin], [line for line in lines[begin:end] if line.strip()], plan


def _joined(head: list[str], body: list[str], plan: dict[str, Any]) -> str:
    return "\n".join([*head, *(body or ["    pass"]), "", "", *plan_lines(plan), ""])


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _block_end(body: list[str], start: int) -> int:
    end = start + 1
    while end < len(body) and _indent(body[end]) > _indent(body[start]):
        end += 1
    return end


def _fewer_runs(text: str) -> Iterator[str]:
    head, body, plan = _parts(text)
    for run in plan["runs"] if len(plan["runs"]) > 1 else ():
        yield _joined(head, body, {**plan, "runs": [run]})


def _without_blocks(text: str) -> Iterator[str]:
    head, body, plan = _parts(text)
    for i in range(len(body)):
        end = _block_end(body, i)
        if end > i + 1:
            yield _joined(head, body[:i] + body[end:], plan)


def _without_lines(text: str) -> Iterator[str]:
    head, body, plan = _parts(text)
    half = len(body) // 2
    if half > 4:
        yield _joined(head, body[:half], plan)
    for i in reversed(range(len(body))):
        if _block_end(body, i) == i + 1:
            yield _joined(head, body[:i] + body[i + 1 :], plan)


def _unindented(text: str) -> Iterator[str]:
    head, body, plan = _parts(text)
    for i in range(len(body)):
        end = _block_end(body, i)
        if end > i + 1:
            yield _joined(head, body[:i] + [line[4:] for line in body[i + 1 : end]] + body[end:], plan)


def _constants(text: str) -> Iterator[str]:
    head, body, plan = _parts(text)
    for i, line in enumerate(body):
        match = _TYPED.match(line)
        if match is None or "od.full" in line:
            continue
        indent, name, _, dtype, dims = match.groups()
        if dims:
            shape = ", ".join(dims.split("x")) + ","
            value = f"od.full(({shape}), 1, od.{dtype})"
            yield _joined(head, [*body[:i], f"{indent}{name} = {value}  # {dtype} {dims}", *body[i + 1 :]], plan)


def _plain_layouts(text: str) -> Iterator[str]:
    head, body, plan = _parts(text)
    for name, tensor in plan["tensors"].items():
        if tensor["layout"] != "contiguous":
            changed = {**plan["tensors"], name: {**tensor, "layout": "contiguous"}}
            yield _joined(head, body, {**plan, "tensors": changed})


def _fewer_arguments(text: str) -> Iterator[str]:
    head, body, plan = _parts(text)
    used = "\n".join(body)
    for group in ("tensors", "scalars"):
        for name in plan[group]:
            if not re.search(rf"\b{name}\b", used):
                kept = [line for line in head if not line.startswith(f"    {name}: ")]
                changed = {k: v for k, v in plan[group].items() if k != name}
                same = {k: v for k, v in plan["same"].items() if name not in (k, v)}
                yield _joined(kept, body, {**plan, group: changed, "same": same})


STEPS = (_fewer_runs, _without_blocks, _without_lines, _unindented, _constants, _plain_layouts, _fewer_arguments)

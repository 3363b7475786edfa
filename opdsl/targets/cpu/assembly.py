"""The compiler's assembly made readable: the kernel's own instructions with the lines of the kernel they come from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_PLACE = re.compile(r"^( *).*?// (\S+\.py:[\d,-]+(?: \S+\.py:[\d,-]+)*)")
_FILE = re.compile(r'\.file\s+(\d+)\s+.*"([^"]*)"')
_LOC = re.compile(r"\.loc\s+(\d+)\s+(\d+)")
_LABEL = re.compile(r"^(\S.*):$")
_CODE_SECTION = re.compile(r"\.(text\b|section\s+\.text)")
_REFERENCE = re.compile(r"\.L\w+")


def places(source: Iterable[str]) -> list[str]:
    """For each line of generated C++, the lines of the kernel: those named by the comment before it that stands no
    deeper."""
    found: list[str] = []
    open_places: list[tuple[int, str]] = []
    for line in source:
        indent = len(line) - len(line.lstrip())
        while open_places and open_places[-1][0] > indent:
            open_places.pop()
        match = _PLACE.match(line)
        if match:
            while open_places and open_places[-1][0] >= indent:
                open_places.pop()
            open_places.append((indent, match.group(2)))
        found.append(open_places[-1][1] if open_places else "")
    return found


def readable(assembly: str, source: str, file: str = "kernel.cpp") -> str:
    """Instructions, functions and the labels that are jumped to, with a comment where the kernel's line changes; the
    kernel's own functions first. The assembly must have line numbers (-g1)."""
    kept = list(_instructions(assembly, places(source.splitlines()), file))
    used = {name for kind, text in kept if kind == "code" for name in _REFERENCE.findall(text)}
    functions: list[list[str]] = [[]]
    shown = ""
    for kind, text in kept:
        if kind == "place":
            if text != shown:
                functions[-1].append(f"    # {text}")
                shown = text
        elif kind == "code":
            functions[-1].append("    " + text)
        elif not text.startswith(".L"):
            functions.append([f"{_function_name(text)}:"])
            shown = ""
        elif text in used:
            functions[-1].append(f"{text}:")
    functions.sort(key=lambda lines: not lines or "opdsl_" not in lines[0])
    return "\n\n".join("\n".join(_without_idle_places(lines)) for lines in functions if lines) + "\n"


def _function_name(label: str) -> str:
    """The body of a parallel loop has a name of several lines otherwise."""
    kernel = re.search(r"opdsl_\w+", label)
    return f"{kernel.group()}, pieces of a parallel loop" if kernel and "trampoline" in label else label


def _without_idle_places(lines: list[str]) -> Iterator[str]:
    """A place that another follows at once says nothing."""
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if not (line.startswith("    # ") and (following.startswith("    # ") or not following)):
            yield line


def _instructions(assembly: str, lines: list[str], file: str) -> Iterator[tuple[str, str]]:
    """Pairs of a kind (place, label, code) and its text, from the sections with code."""
    numbers: set[str] = set()
    in_code = False
    for line in assembly.splitlines():
        text = line.strip()
        declared = _FILE.match(text)
        if declared:
            if declared.group(2).endswith(file):
                numbers.add(declared.group(1))
        elif _CODE_SECTION.match(text):
            in_code = True
        elif text.startswith((".section", ".data", ".bss", ".ident")):
            in_code = False
        elif not in_code or not text or text.startswith("#"):
            continue
        elif located := _LOC.match(text):
            number = int(located.group(2))
            if located.group(1) in numbers and 0 < number <= len(lines) and lines[number - 1]:
                yield "place", lines[number - 1]
        elif label := _LABEL.match(line):
            yield "label", label.group(1)
        elif not text.startswith("."):
            yield "code", re.sub(r"\s+", " ", text.split("\t# ")[0])

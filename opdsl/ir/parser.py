"""Reads the text form of kernels. What it builds has been through the op table, but not through the verifier."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from types import MappingProxyType
from typing import Any, TypeVar

from opdsl.ir.core import Gather, Kernel, Op, Point, Region, Slice, Value
from opdsl.ir.ops import IrError
from opdsl.ir.types import DTYPES, DType, ScalarType, TensorType, TileType, Type
from opdsl.support.location import UNKNOWN, Location, Source

_TOKEN = re.compile(
    r"""
    (?P<space>[ \t\r\n]+|//[^\n]*)
  | (?P<value>%[\w.]+)
  | (?P<tile>tile<[0-9x]+x\w+>)
  | (?P<tensor>tensor<[^>]*>)
  | (?P<string>"(?:[^"\\]|\\.)*")
  | (?P<number>-?(?:inf\b|nan\b|\d+(?:\.\d+)?(?:[eE][-+]?\d+)?))
  | (?P<word>[A-Za-z_][\w.]*)
  | (?P<punctuation>[(){}\[\],:=@])
    """,
    re.VERBOSE,
)
_VALUE = re.compile(r"%([A-Za-z_]\w*)(?:\.\d+)?\Z")
_Item = TypeVar("_Item")


def parse_kernel(text: str, source_text: str = "") -> Kernel:
    """The kernel of a text form. Raises IrError with the line and column where the text is wrong."""
    return _Parser(text).kernel(source_text)


def parse_type(text: str) -> Type:
    parser = _Parser(text)
    result = parser.type()
    parser.expect("end")
    return result


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[tuple[str, str, int]] = []
        place = 0
        while place < len(text):
            match = _TOKEN.match(text, place)
            if match is None:
                raise self._error(f"unexpected {text[place]!r}", place)
            kind = match.lastgroup or ""
            if kind != "space":
                self._tokens.append((kind, match.group(), place))
            place = match.end()
        self._tokens.append(("end", "", len(text)))
        self._next = 0
        self._values: dict[str, Value] = {}
        self._file = "<unknown>"

    # --- tokens ---

    def _error(self, message: str, place: int | None = None) -> IrError:
        if place is None:
            place = self._tokens[self._next][2]
        line = self._text.count("\n", 0, place) + 1
        column = place - self._text.rfind("\n", 0, place)
        return IrError(f"IR text, line {line}, column {column}: {message}")

    def _peek(self, text: str) -> bool:
        return self._tokens[self._next][1] == text and self._tokens[self._next][0] != "string"

    def _take(self, text: str) -> bool:
        if self._peek(text):
            self._next += 1
            return True
        return False

    def expect(self, kind: str, text: str = "") -> str:
        found_kind, found, _ = self._tokens[self._next]
        if found_kind != kind or (text and found != text):
            raise self._error(f"expected {text or kind}, found {found or 'the end'!r}")
        self._next += 1
        return found

    def _punctuation(self, text: str) -> None:
        self.expect("punctuation", text)

    def _list(self, item: Callable[[], _Item], close: str) -> list[_Item]:
        """Items with commas between, up to and with `close`."""
        items: list[_Item] = []
        while not self._take(close):
            if items:
                self._punctuation(",")
            items.append(item())
        return items

    # --- grammar ---

    def kernel(self, source_text: str) -> Kernel:
        self.expect("word", "kernel")
        name = self.expect("word")
        self._punctuation("(")
        parameters = self._list(self._argument, ")")
        if self._take("source"):
            self._file = json.loads(self.expect("string"))
        self._punctuation("{")
        ops = self._ops()
        self.expect("end")
        body = Region(tuple(parameters), ops)
        return Kernel(name, tuple(p.name for p in parameters), body, Source(self._file, source_text))

    def _argument(self) -> Value:
        name = self.expect("value")
        self._punctuation(":")
        return self._bind(name, self.type())

    def _bind(self, name: str, type: Type) -> Value:
        match = _VALUE.match(name)
        if name in self._values:
            raise self._error(f"{name} is defined twice")
        value = self._values[name] = Value(type, match.group(1) if match else "")
        return value

    def type(self) -> Type:
        kind, text, _ = self._tokens[self._next]
        if kind == "tile":
            *shape, dtype = text[5:-1].split("x")
            result: Type = TileType(self._dtype(dtype), tuple(map(int, shape)))
        elif kind == "tensor":
            *dims, dtype = text[7:-1].split(" x ")
            result = TensorType(self._dtype(dtype), tuple(int(d) if d.isdigit() else d for d in dims))
        else:
            result = ScalarType(self._dtype(text))
        self._next += 1
        return result

    def _dtype(self, name: str) -> DType:
        if name not in DTYPES:
            raise self._error(f"there is no dtype {name!r}")
        return DTYPES[name]

    def _ops(self) -> tuple[Op, ...]:
        ops = []
        while not self._take("}"):
            ops.append(self._op())
        return tuple(ops)

    def _op(self) -> Op:
        results: list[str] = []
        if self._tokens[self._next][0] == "value":
            results = self._list(lambda: self.expect("value"), "=")
        name = self.expect("word")
        operands: list[Value] = []
        while self._tokens[self._next][0] == "value":
            operands.append(self._operand())
            if not self._take(","):
                break
        attributes: dict[str, Any] = {}
        if self._peek("{") and self._tokens[self._next + 1][0] == "word" and self._tokens[self._next + 2][1] == "=":
            self._punctuation("{")
            attributes = dict(self._list(self._attribute, "}"))
        types: list[Type] = []
        if self._take(":"):
            types.append(self.type())
            while self._take(","):
                types.append(self.type())
        if len(types) != len(results):
            raise self._error(f"'{name}' has {len(results)} results and {len(types)} types")
        location = self._location() if self._take("@") else UNKNOWN
        regions: list[Region] = []
        values = dict(self._values)  # what the regions define is not visible after them
        while self._peek("(") or self._peek("{"):
            arguments = self._list(self._argument, ")") if self._take("(") else []
            self._punctuation("{")
            regions.append(Region(tuple(arguments), self._ops()))
            self._values = dict(values)
        bound = [self._bind(result, type) for result, type in zip(results, types, strict=True)]
        return Op(name, tuple(operands), tuple(bound), MappingProxyType(attributes), tuple(regions), location)

    def _operand(self) -> Value:
        name = self.expect("value")
        if name not in self._values:
            self._next -= 1
            raise self._error(f"{name} is not defined here")
        return self._values[name]

    def _location(self) -> Location:
        file = self._file
        if self._tokens[self._next][0] == "string":
            file = json.loads(self.expect("string"))
        line, column = self._position()
        end = self._position() if self._take("to") else (0, 0)
        return Location(file, line, column, *end)

    def _position(self) -> tuple[int, int]:
        line = int(self.expect("number"))
        self._punctuation(":")
        return line, int(self.expect("number"))

    def _attribute(self) -> tuple[str, Any]:
        name = self.expect("word")
        self._punctuation("=")
        return name, self._attribute_value()

    def _attribute_value(self) -> Any:
        kind, text, _ = self._tokens[self._next]
        self._next += 1
        if text == "[":
            return tuple(self._list(self._attribute_value, "]"))
        if kind == "string":
            return json.loads(text)
        if kind == "number":
            return int(text) if re.fullmatch(r"-?\d+", text) else float(text)
        if text in ("true", "false"):
            return text == "true"
        if text == "slice":
            length = int(self.expect("number"))
            return Slice(length, int(self.expect("number")) if self._take("by") else 1)
        if text in ("point", "gather"):
            return Point() if text == "point" else Gather()
        if text in DTYPES:
            return DTYPES[text]
        self._next -= 1
        raise self._error(f"{text!r} is no attribute's value")

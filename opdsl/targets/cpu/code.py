"""Text of C++ under construction: nested scopes, each with what is already computed in it."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from opdsl.ir.types import DType, bf16, bool_, f8e4m3, f8e5m2, f16, f32, f64, i8, i16, i32, i64, u8, u16, u32, u64

STORAGE = {
    f64: "double", f32: "float", f16: "od::f16", bf16: "od::bf16", f8e4m3: "od::f8e4m3", f8e5m2: "od::f8e5m2",
    i64: "od::i64", i32: "od::i32", i16: "od::i16", i8: "od::i8",
    u64: "od::u64", u32: "od::u32", u16: "od::u16", u8: "od::u8", bool_: "od::bool8",
}
REGISTER = {
    f64: "double", f32: "float", f16: "float", bf16: "float", f8e4m3: "float", f8e5m2: "float",
    i64: "od::i64", i32: "od::i32", i16: "od::i32", i8: "od::i32",
    u64: "od::u64", u32: "od::u32", u16: "od::i32", u8: "od::i32", bool_: "bool",
}
HALF = (f16, bf16, f8e4m3, f8e5m2)
NARROW = (i8, i16, u8, u16)


def local_element(dtype: DType) -> tuple[str, int]:
    """C++ type and bytes of an element in local memory: halves are kept as the floats that they are equal to."""
    return ("float", 4) if dtype in HALF else (STORAGE[dtype], dtype.bytes)


def loaded(dtype: DType, address: str) -> str:
    """An element in memory as it is in a register."""
    return f"bool(od::load1({address}))" if dtype.is_bool else f"od::load1({address})"


def dim_name(symbol: str) -> str:
    """The constant that holds a dim's size; another one for each symbol. Names from `Code.fresh` end in a number."""
    stem, plain = "dim", symbol
    if not symbol.isascii():
        stem, plain = "dimu", "".join(c if c.isascii() and c != "u" else f"u{ord(c):x}_" for c in symbol)
    return f"{stem}ension_{plain}_" if plain[-1].isdigit() else f"{stem}_{plain}"


@dataclass(frozen=True)
class Register:
    """A computed value: C++ text that may be repeated freely. `level` is the depth of the scope that it stands in.

    With `lane_step`, the value in lane k is text + lane_step * k (i64 only) and is not yet a vector. `unrounded` is what
    a vector of bf16 was before it was rounded: stores round by themselves in fewer instructions.
    """

    text: str
    dtype: DType
    vector: bool
    level: int
    lane_step: int = 0
    unrounded: str | None = None


@dataclass
class Scope:
    level: int
    lines: list[str] = field(default_factory=list)
    memo: dict[Hashable, Register] = field(default_factory=dict)


class Code:
    """A stack of scopes. Lines go to the scope that holds what they need; inner scopes see the outer ones' memo."""

    def __init__(self) -> None:
        self.scopes = [Scope(0)]
        self._counts: dict[str, int] = {}

    def fresh(self, hint: str) -> str:
        """A C++ name that is not taken."""
        stem = "".join(c if c.isalnum() and c.isascii() else "_" for c in hint) or "t"
        stem = f"v{stem}" if stem[0].isdigit() or stem[0] == "_" else stem
        count = self._counts.get(stem, 0)
        self._counts[stem] = count + 1
        return f"{stem}_{count}"

    @property
    def level(self) -> int:
        return len(self.scopes) - 1

    def line(self, text: str, level: int | None = None) -> None:
        self.scopes[self.level if level is None else level].lines.append(text)

    def lines(self, block: list[str], indent: int = 0) -> None:
        self.scopes[-1].lines.extend("  " * indent + line for line in block)

    @contextmanager
    def scope(self) -> Iterator[Scope]:
        """An inner scope, whose lines are the caller's to place."""
        inner = Scope(len(self.scopes))
        self.scopes.append(inner)
        try:
            yield inner
        finally:
            self.scopes.pop()

    def recall(self, key: Hashable) -> Register | None:
        for scope in reversed(self.scopes):
            if key in scope.memo:
                return scope.memo[key]
        return None

    def remember(self, key: Hashable, register: Register) -> Register:
        self.scopes[register.level].memo[key] = register
        return register

    def define(self, hint: str, type: str, expression: str, level: int) -> str:
        """A new constant in the scope at `level`."""
        name = self.fresh(hint)
        constant = f"{type} const" if type.endswith("*") else f"const {type}"
        self.line(f"{constant} {name} = {expression};", level)
        return name

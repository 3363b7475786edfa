"""Configurations: the choices of a kernel that `opdsl tune` measures, declared by `@od.kernel(configs=[...])`."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

from opdsl.support.errors import UsageError, suggestion

# What a target may be told beside constexprs, with the values that make sense.
OPTIONS: Mapping[str, tuple[int, ...]] = {
    "num_warps": (1, 2, 4, 8, 16, 32),
    "num_stages": (1, 2, 3, 4, 5, 6, 7, 8),
    "maxnreg": tuple(range(24, 256, 8)),  # registers of a thread, on NVIDIA's GPUs
    "descriptors": (0, 1),  # load operands of products by tensor descriptors (TMA), from sm_90 on
}


class Config:
    """One choice: values of constexprs, and options of the target, such as `num_warps` of a GPU.

        @od.kernel(configs=[od.Config(BM=128, BN=256, BK=64, num_warps=8), od.Config(BM=64, BN=64, BK=64, target="cpu")])

    `target` is the base name of the only target that it is for ("cpu", "triton"); without it, all try it.
    Raises UsageError for a value that an option cannot have.
    """

    __slots__ = ("constexprs", "options", "target")

    def __init__(self, constexprs: Mapping[str, Any] | None = None, /, *, target: str = "", **values: Any) -> None:
        given = {**(constexprs or {}), **values}
        if not isinstance(target, str) or ":" in target:
            raise UsageError(
                f"the target of a configuration is {target!r}", 'give a base name: target="cpu" or target="triton"'
            )
        self.target = target
        self.options = {name: given.pop(name) for name in OPTIONS if name in given}
        self.constexprs = given
        for name, value in self.options.items():
            if type(value) is not int or value not in OPTIONS[name]:
                raise UsageError(
                    f"{name} of a configuration is {value!r}", f"it may be {', '.join(map(str, OPTIONS[name]))}"
                )

    def is_for(self, target: str) -> bool:
        """Whether a target such as "cpu:avx2" tries it. Options are a GPU's, so no other target tries one that has any."""
        base = target.partition(":")[0]
        return base == self.target if self.target else base == "triton" or not self.options

    @property
    def values(self) -> dict[str, Any]:
        """Constexprs and options together."""
        return {**self.constexprs, **self.options}

    def _key(self) -> Hashable:
        return (self.target, tuple(sorted((n, repr(v)) for n, v in self.values.items())))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Config) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __str__(self) -> str:
        """BM=128 BN=64 num_warps=8"""
        return " ".join(f"{name}={shown(value)}" for name, value in self.values.items())

    def __repr__(self) -> str:
        parts = [f"{name}={shown(value)}" for name, value in self.values.items()]
        return f"od.Config({', '.join([*parts, *([f'target={self.target!r}'] if self.target else [])])})"


def shown(value: Any) -> str:
    """A constexpr as text: functions and kernels by their names."""
    name = getattr(value, "__name__", None)
    return name if isinstance(name, str) else repr(value)


class BadConfig(Exception):
    """One of a kernel's configurations cannot be; `place` is its place in the list."""

    def __init__(self, place: int, message: str, help: str) -> None:
        super().__init__(message)
        self.place = place
        self.message = message
        self.help = help


def read_configs(
    given: Iterable[Config | Mapping[str, Any]], constexprs: Iterable[str], bound: Iterable[str]
) -> tuple[Config, ...]:
    """The configurations that a kernel with these constexprs declares; `bound` are those that shapes decide.

    Raises BadConfig.
    """
    known, from_shapes = list(constexprs), set(bound)
    free = [name for name in known if name not in from_shapes]
    found: dict[Config, None] = {}
    for place, item in enumerate(given):
        if not isinstance(item, Config | Mapping):
            raise BadConfig(
                place, f"configs has {item!r}, which is no configuration", "write od.Config(BM=64), or {'BM': 64}"
            )
        config = item if isinstance(item, Config) else Config(item)
        for name in config.constexprs:
            if name in from_shapes:
                raise BadConfig(place, f"{name} is the size of a dim: shapes decide it", f"leave {name} out")
            if name not in free:
                hint = suggestion(name, [*free, *OPTIONS])
                raise BadConfig(
                    place,
                    f"there is no constexpr {name!r} that this configuration could set",
                    hint or f"the constexprs are {', '.join(free) or 'none'}; the options {', '.join(OPTIONS)}",
                )
        found[config] = None
    return tuple(found)

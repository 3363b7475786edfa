"""Kernels for given dtypes and constexprs, without tracing them where a memo has what a launch needs.

A process that finds a kernel in the compile cache needs little of its IR: the IR's digest, which is part of the cache's
key, and which tensors are written. Both are kept in a memo, under a fingerprint of all that the IR depends on
(`opdsl.lang.fingerprint`). The IR itself is made when something asks for it: the compiler, or a report of the kernel.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from opdsl.ir.core import Kernel as IrKernel
from opdsl.ir.core import walk
from opdsl.ir.types import DType
from opdsl.lang.fingerprint import Unknown, fingerprint
from opdsl.support.cache import default_cache
from opdsl.support.digests import digests, is_settled
from opdsl.support.errors import OpdslError
from opdsl.support.knobs import knobs
from opdsl.targets.base import digest_of

if TYPE_CHECKING:
    from opdsl.lang.kernel import Kernel

FORMAT = 1


class MemoError(OpdslError):
    """With OPDSL_VERIFY=1: a memo is not what tracing the kernel gives."""


def written_parameters(kernel: IrKernel) -> frozenset[int]:
    """The places of the tensors that a kernel writes."""
    places = {id(value): place for place, value in enumerate(kernel.parameters)}
    targets = (op.operands[1] for op in walk(kernel.body) if op.name == "copy_out")
    return frozenset(places[id(target)] for target in targets)


class Specialised:
    """A kernel for dtypes (of each dtype variable) and constexprs (the value of each).

    `remembers`: whether to use memos, which is no help to targets that run the IR itself.
    """

    def __init__(
        self, kernel: Kernel, dtypes: Mapping[str, DType], constexprs: Mapping[str, Any], *, remembers: bool
    ) -> None:
        self.name = kernel.name
        self._kernel = kernel
        self._dtypes = dict(dtypes)
        self._constexprs = dict(constexprs)
        self._remembers = remembers

    @property
    def is_traced(self) -> bool:
        """Whether the IR is there already."""
        return "ir" in self.__dict__

    @property
    def written(self) -> frozenset[int]:
        """The places of the parameters that are written."""
        return written_parameters(self.ir) if self.is_traced or self._memo is None else self._memo[0]

    @property
    def digest(self) -> str:
        """The SHA-256 of the IR's canonical text."""
        return self._digest if self.is_traced or self._memo is None else self._memo[1]

    @cached_property
    def _digest(self) -> str:
        return digest_of(self.ir)

    @cached_property
    def ir(self) -> IrKernel:
        """The tile IR. Raises CompileError where the kernel is wrong."""
        before = self._memo_name() if self._remembers else None
        traced = self._kernel.specialise(self._dtypes, self._constexprs)
        # A constexpr function may change what it depends on: then nothing is kept.
        if before is not None and before == self._memo_name():
            self._keep(before, traced, digest_of(traced))
        return traced

    # --- the memo ----------------------------------------------------------------------------------------------------

    @cached_property
    def _memo(self) -> tuple[frozenset[int], str] | None:
        """The written places and the digest, as a process before this one kept them."""
        if not self._remembers or knobs.verify:
            return None
        name = self._memo_name()
        text = None if name is None else default_cache().read_memo(name)
        return None if text is None else self._read(text)

    def _memo_name(self) -> str | None:
        """None where the kernel depends on something that cannot be told apart from what it was yesterday."""
        kernel = self._kernel
        if not default_cache().is_usable():
            return None
        try:
            found = fingerprint(kernel.function, kernel.source, kernel.signature, self._constexprs)
        except Unknown:
            return None
        dtypes = sorted((variable, dtype.name) for variable, dtype in self._dtypes.items())
        parts = (FORMAT, digests().front_end, kernel.name, dtypes, found)
        return f"ir-{hashlib.sha256(repr(parts).encode()).hexdigest()[:40]}.json"

    def _read(self, text: str) -> tuple[frozenset[int], str] | None:
        try:
            memo = json.loads(text)
            written = frozenset(map(int, memo["written"]))
            digest = str(memo["ir"])
        except (ValueError, KeyError, TypeError):
            return None
        return (written, digest) if written <= set(range(len(self._kernel.signature.parameters))) else None

    def _keep(self, name: str, traced: IrKernel, digest: str) -> None:
        self._digest = digest
        cache = default_cache()
        text = json.dumps({"kernel": self.name, "written": sorted(written_parameters(traced)), "ir": digest})
        if knobs.verify:
            kept = cache.read_memo(name)
            if kept is not None and kept != text:
                raise MemoError(
                    f"what the cache remembers of the kernel {self.name!r} is not what it is: a defect of OpDSL; please "
                    "report it with the kernel, and run `opdsl cache clear`"
                )
        if is_settled():
            cache.write_memo(name, text)

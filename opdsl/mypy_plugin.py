"""Lets mypy read the annotations of kernels, which are data and not types: `plugins = ["opdsl.mypy_plugin"]`."""

from __future__ import annotations

from collections.abc import Callable

from mypy.plugin import AnalyzeTypeContext, Plugin
from mypy.types import AnyType, Type, TypeOfAny

ANNOTATIONS = ("opdsl.lang.annotations.Tensor", "opdsl.lang.annotations.constexpr")
DTYPES = "opdsl.ir.types."


def _anything(context: AnalyzeTypeContext) -> Type:
    return AnyType(TypeOfAny.explicit)


class KernelAnnotations(Plugin):
    def get_type_analyze_hook(self, fullname: str) -> Callable[[AnalyzeTypeContext], Type] | None:
        is_dtype = fullname.startswith(DTYPES) and fullname.removeprefix(DTYPES).rstrip("0123456789e_m").islower()
        return _anything if fullname in ANNOTATIONS or is_dtype else None


def plugin(version: str) -> type[Plugin]:
    return KernelAnnotations

"""The C++ file that gives a library its C functions: tables for csrc/runtime/library.cpp, and a call of it for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from opdsl.targets.ahead_of_time.interface import Interface, scalar_field
from opdsl.targets.cpu.ahead_of_time.header import prototype


@dataclass(frozen=True)
class CompiledVariant:
    """One compilation: its symbol, instruction set, and the unit axis of each array (-1: any strides)."""

    symbol: str
    isa: str
    unit_axes: tuple[int, ...]


@dataclass(frozen=True)
class LibraryFunction:
    """A function with its compilations, in the order in which they are tried, and its sites (text, place)."""

    interface: Interface
    variants: Sequence[CompiledVariant]
    sites: Sequence[tuple[str, str]] = field(default_factory=tuple)


def text(value: str) -> str:
    """A C string literal."""
    plain = (chr(byte) if 32 <= byte < 127 and byte not in b'"\\?' else f"\\{byte:03o}" for byte in value.encode())
    return '"' + "".join(plain) + '"'


def _table(type: str, name: str, items: Sequence[str]) -> str:
    """A constant array; C++ has none without elements."""
    return f"constexpr {type} {name}[] = {{{', '.join(items) or '{}'}}};"


def _function_tables(function: LibraryFunction, isas: Sequence[str], first_site: int, in_place: bool) -> list[str]:
    interface = function.interface
    name = interface.kernel
    lines = [
        f'extern "C" opdsl_i32 {v.symbol}(const opdsl_runtime*, const opdsl_array*, const opdsl_scalar*);'
        for v in function.variants
    ]
    lines.append(f"namespace {name}_tables {{")
    arrays = []
    for place, tensor in enumerate(interface.tensors):
        lines.append(_table("opdsl_i64", f"dims_{place}", [str(dim) for dim in interface.dims_of(tensor)]))
        written = "true" if tensor.writes else "false"
        arrays.append(f"{{{text(tensor.name)}, {len(tensor.dims)}, {tensor.dtype.bytes}, {written}, dims_{place}}}")
    lines.append(_table("opdsl::LibraryArray", "arrays", arrays))
    lines.append(
        _table("const char*", "size_names", [text(size) for size in interface.sizes]).replace("{{}}", "{nullptr}")
    )
    variants = []
    for place, variant in enumerate(function.variants):
        lines.append(_table("signed char", f"axes_{place}", [str(axis) for axis in variant.unit_axes]))
        variants.append(f"{{{isas.index(variant.isa)}, axes_{place}, {variant.symbol}}}")
    lines.append(_table("opdsl::LibraryVariant", "variants", variants))
    lines.append(
        f"constexpr opdsl::LibraryKernel kernel{{{text(name)}, {len(interface.tensors)}, arrays, {len(interface.sizes)}, "
        f"size_names, {len(variants)}, variants, {first_site}, {'true' if in_place else 'false'}}};"
    )
    lines.append("}")
    return lines


def _function(interface: Interface, upper: str) -> list[str]:
    data = [f"const_cast<void*>(static_cast<const void*>({t.c_name}))" for t in interface.tensors]
    strides = [f"{t.c_name}_strides" for t in interface.tensors]
    sizes = [interface.size_name(size) for size in interface.sizes]
    lines = [
        f"{upper}_API {prototype(interface)} {{",
        f"  void* const data[] = {{{', '.join(data) or 'nullptr'}}};",
        f"  const opdsl_i64* const strides[] = {{{', '.join(strides) or 'nullptr'}}};",
        f"  const opdsl_i64 sizes[] = {{{', '.join(sizes) or '0'}}};",
        f"  opdsl_scalar scalars[{max(len(interface.scalars), 1)}] = {{}};",
    ]
    for place, scalar in enumerate(interface.scalars):
        lines.append(f"  scalars[{place}].{scalar_field(scalar)} = {scalar.c_name};")
    kernel = f"{interface.kernel}_tables::kernel"
    return [*lines, f"  return opdsl::library_call(library, {kernel}, data, strides, sizes, scalars);", "}"]


def glue(library: str, functions: Sequence[LibraryFunction], isas: Sequence[str], in_place: bool) -> str:
    """The whole file."""
    upper = library.upper()
    sites = [site for function in functions for site in function.sites]
    lines = [
        f"// The C functions of lib{library}.so, written by `opdsl build`.",
        f'#define {upper}_API extern "C" __attribute__((visibility("default")))',
        f'#include "{library}.h"',
        "",
        '#include "runtime/library.h"',
        '#include "runtime/memory.h"',
        '#include "runtime/pool.h"',
        "",
    ]
    first_site = 0
    tables: list[str] = []
    for function in functions:
        tables += _function_tables(function, isas, first_site, in_place)
        first_site += len(function.sites)
    symbols = [line for line in tables if line.startswith("extern")]
    lines += [*symbols, "", "namespace {", *(line for line in tables if not line.startswith("extern"))]
    lines.append(_table("const char*", "isas", [text(isa) for isa in isas]))
    lines.append(_table("opdsl::LibrarySite", "sites", [f"{{{text(t)}, {text(p)}}}" for t, p in sites]))
    lines.append(f"constexpr opdsl::Library library{{{text(library)}, {len(isas)}, isas, {len(sites)}, sites}};")
    lines += ["}  // namespace", ""]
    for function in functions:
        lines += [*_function(function.interface, upper), ""]
    lines += [
        f"{upper}_API const char* {library}_message(int32_t status) {{ return opdsl::library_message(library, status); }}",
        f"{upper}_API void {library}_set_threads(int32_t count) {{ opdsl::pool_set_thread_count(count); }}",
        f"{upper}_API int32_t {library}_threads(void) {{ return opdsl::pool_thread_count(); }}",
        f"{upper}_API const char* {library}_isa(void) {{ return opdsl::library_isa(library); }}",
        f"{upper}_API int32_t {library}_set_isa(const char* isa) {{ return opdsl::library_set_isa(library, isa); }}",
        f"{upper}_API void {library}_trim(void) {{ opdsl::memory_trim(); }}",
        "",
    ]
    return "\n".join(lines)

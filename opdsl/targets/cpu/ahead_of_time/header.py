"""The C header of a library."""

from __future__ import annotations

from collections.abc import Sequence

from opdsl.targets.ahead_of_time.interface import C_TYPES, Interface, Tensor, comment

# As in csrc/runtime/library.h.
STATUSES = {"OK": 0, "OUT_OF_MEMORY": -1, "BAD_ARGUMENT": -2, "OVERLAP": -3, "UNSUPPORTED_PROCESSOR": -4}


def prototype(interface: Interface, multiline: bool = True) -> str:
    """The C declaration of one function, without the semicolon."""
    words = []
    for parameter in interface.parameters:
        if isinstance(parameter, Tensor):
            const = "" if parameter.writes else "const "
            pointer = f"{const}{C_TYPES[parameter.dtype.name]} *{parameter.c_name}"
            words.append(f"{pointer}, const int64_t *{parameter.c_name}_strides")
        else:
            words.append(f"{parameter.c_type} {parameter.c_name}")
    words += [f"int64_t {interface.size_name(size)}" for size in interface.sizes]
    separator = ",\n    " if multiline else ", "
    return f"int32_t {interface.function}({separator.join(words) or 'void'})"


def declarations(library: str, interfaces: Sequence[Interface]) -> str:
    """What cffi reads: no preprocessor, no comments."""
    upper = library.upper()
    statuses = (f"{upper}_{name} = {value}" for name, value in STATUSES.items())
    lines = [
        f"enum {{ {', '.join(statuses)} }};",
        *(f"{prototype(interface, multiline=False)};" for interface in interfaces),
        f"const char *{library}_message(int32_t status);",
        f"void {library}_set_threads(int32_t count);",
        f"int32_t {library}_threads(void);",
        f"const char *{library}_isa(void);",
        f"int32_t {library}_set_isa(const char *isa);",
        f"void {library}_trim(void);",
    ]
    return "\n".join(lines)


def header(library: str, interfaces: Sequence[Interface], isas: Sequence[str], version: str, in_place: bool) -> str:
    upper = library.upper()
    statuses = ",\n".join(f"  {upper}_{name} = {value}" for name, value in STATUSES.items())
    functions = "\n\n".join(f"/*\n{comment(i, in_place)}\n */\n{upper}_API {prototype(i)};" for i in interfaces)
    return f"""/* lib{library}.so: kernels compiled by OpDSL {version} for {", ".join(isas)}. Written by `opdsl build`.
 *
 * Every function takes, for each array, a pointer to its first element and its strides: one for each axis, in elements,
 * of any sign. NULL strides mean a contiguous array in C order. Then come the scalars in their order, and the sizes.
 * Arrays that are written must not overlap others. A result of 0 ({upper}_OK) says that all went well; any other leaves
 * outputs undefined, and {library}_message puts it into words. Functions may be called from several threads at once.
 *
 * The instruction set is chosen when the first kernel runs; the environment variable OPDSL_ISA forces one. Threads:
 * {library}_set_threads, or OPDSL_NUM_THREADS, or OMP_NUM_THREADS, or as many as there are usable cores. Results do not
 * depend on it.
 */
#ifndef OPDSL_{upper}_H
#define OPDSL_{upper}_H

#include <stdbool.h>
#include <stdint.h>

#ifndef {upper}_API
#define {upper}_API
#endif

#ifdef __cplusplus
extern "C" {{
#endif

/* Results. A positive one is that of an od.assert_ that failed. */
enum {{
{statuses}
}};

{functions}

/* A status in words; that of the calling thread's last failure with the argument's name. Valid until its next call. */
{upper}_API const char *{library}_message(int32_t status);

/* The threads that a call uses from now on, the calling one included. */
{upper}_API void {library}_set_threads(int32_t count);
{upper}_API int32_t {library}_threads(void);

/* The instruction set in use ("" where the processor has none of the library's), and another one, for tests; NULL takes
 * the best again. */
{upper}_API const char *{library}_isa(void);
{upper}_API int32_t {library}_set_isa(const char *isa);

/* Workspaces are kept for reuse: this gives them back to the system. */
{upper}_API void {library}_trim(void);

#ifdef __cplusplus
}}
#endif
#endif
"""

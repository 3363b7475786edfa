"""The launcher of a library for NVIDIA's GPUs: a C header, and a C file with the machine code in it, which needs the CUDA
driver (libcuda, version 12 or newer) and nothing else."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path

from opdsl.targets.ahead_of_time.interface import C_TYPES, Interface, Scalar, Tensor, comment
from opdsl.targets.triton.ahead_of_time.plan import ALIGNMENT, Part, Variant, entry_parameters, tensors
from opdsl.targets.triton.compiler import Module
from opdsl.targets.triton.intervals import LARGEST_NARROW_DIM
from opdsl.targets.triton.source import LaunchArgument

STATUSES = {
    "OK": 0,
    "OUT_OF_MEMORY": -1,
    "BAD_ARGUMENT": -2,
    "OVERLAP": -3,
    "UNSUPPORTED_DEVICE": -4,
    "DRIVER": -5,
}
# Triton's types of scalars -> C's. Halves are handed over as floats and turned into their bits.
SCALAR_TYPES = {
    "fp64": "double", "fp32": "float", "i64": "int64_t", "i32": "int32_t", "i16": "int16_t", "i8": "int8_t",
    "u64": "uint64_t", "u32": "uint32_t", "u16": "uint16_t", "u8": "uint8_t",
}  # fmt: skip
HALVES = {"fp16": "opdsl_half", "bf16": "opdsl_bfloat16"}


def prototype(interface: Interface) -> str:
    """The C declaration of one function, without the semicolon."""
    words = ["struct CUstream_st *stream"]
    for parameter in interface.parameters:
        if isinstance(parameter, Tensor):
            const = "" if parameter.writes else "const "
            words.append(
                f"{const}{C_TYPES[parameter.dtype.name]} *{parameter.c_name}, const int64_t *{parameter.c_name}_strides"
            )
        else:
            words.append(f"{parameter.c_type} {parameter.c_name}")
    words += [f"int64_t {interface.size_name(size)}" for size in interface.sizes]
    separator = ",\n    "
    return f"int32_t {interface.function}({separator.join(words)})"


def header(library: str, interfaces: Sequence[Interface], arches: Sequence[str], version: str, in_place: bool) -> str:
    upper = library.upper()
    statuses = ",\n".join(f"  {upper}_{name} = {value}" for name, value in STATUSES.items())
    functions = "\n\n".join(f"/*\n{comment(i, in_place)}\n */\n{prototype(i)};" for i in interfaces)
    return f"""/* {library}: kernels compiled by OpDSL {version} for {", ".join(arches)}. Written by `opdsl build`.
 *
 * Compile {
        library
    }.c into your program and link libcuda. A CUDA context must be current in the calling thread, as it is
 * after any call of the CUDA runtime.
 *
 * Every function queues its work on a stream (a cudaStream_t or CUstream; NULL: the default one) and does not wait for it.
 * It takes, for each array, a pointer to its first element in the GPU's memory and its strides, one for each axis, in
 * elements; the strides themselves are in the host's memory. NULL strides mean a contiguous array in C order. Then come the
 * scalars in their order, and the sizes. Arrays that are written must not overlap others{
        ", but may be the very same view" if in_place else ""
    }. A result of 0 ({upper}_OK) says
 * that all was queued; {library}_message puts any other into words. Functions with an od.assert_ wait for their result.
 */
#ifndef OPDSL_{upper}_H
#define OPDSL_{upper}_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {{
#endif

struct CUstream_st;

/* Results. A positive one is the number of the od.assert_ that failed. */
enum {{
{statuses}
}};

{functions}

/* A status in words; that of the calling thread's last failure with what was wrong. Valid until its next call. */
const char *{library}_message(int32_t status);

#ifdef __cplusplus
}}
#endif
#endif
"""


_SUPPORT = r"""
typedef struct {
  int major, minor;
  bool exact; /* runs on this compute capability only, else on later minor versions too */
  const unsigned char *bytes;
  const char *name;
  unsigned shared_bytes, threads;
  size_t scratch_bytes; /* of each program */
  CUlibrary library;
  CUkernel kernel;
  uint64_t prepared; /* a bit for each device */
} opdsl_image;

static _Thread_local char opdsl_text[400];

static int32_t opdsl_fail(int32_t status, const char *text) {
  snprintf(opdsl_text, sizeof opdsl_text, "%s", text);
  return status;
}

static int32_t opdsl_driver(CUresult result, const char *what) {
  const char *name = NULL;
  if (result == CUDA_SUCCESS) return 0;
  if (cuGetErrorName(result, &name) != CUDA_SUCCESS || name == NULL) name = "an unknown error";
  snprintf(opdsl_text, sizeof opdsl_text, "%s: %s", what, name);
  return result == CUDA_ERROR_OUT_OF_MEMORY ? OPDSL_OUT_OF_MEMORY : OPDSL_DRIVER;
}

/* The image for the device of the current context, loaded, and its function. */
static int32_t opdsl_load(opdsl_image *images, int count, opdsl_image **chosen, CUfunction *function, int *processors) {
  static char lock;
  CUdevice device;
  int major = 0, minor = 0;
  int32_t status = opdsl_driver(cuCtxGetDevice(&device), "no CUDA context is current");
  opdsl_image *image = NULL;
  if (status != 0) return status;
  cuDeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device);
  cuDeviceGetAttribute(&minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, device);
  cuDeviceGetAttribute(processors, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, device);
  for (int i = 0; i < count; ++i) {
    const bool runs = images[i].major == major && (images[i].exact ? images[i].minor == minor : images[i].minor <= minor);
    if (runs && (image == NULL || images[i].minor > image->minor)) image = &images[i];
  }
  if (image == NULL) {
    snprintf(opdsl_text, sizeof opdsl_text, "nothing was compiled for compute capability %d.%d", major, minor);
    return OPDSL_UNSUPPORTED_DEVICE;
  }
  while (__atomic_test_and_set(&lock, __ATOMIC_ACQUIRE)) {
  }
  if (image->library == NULL) {
    status = opdsl_driver(cuLibraryLoadData(&image->library, image->bytes, NULL, NULL, 0, NULL, NULL, 0), "loading");
    if (status == 0) status = opdsl_driver(cuLibraryGetKernel(&image->kernel, image->library, image->name), "loading");
    if (status != 0) image->library = NULL;
  }
  if (status == 0 && (device >= 64 || (image->prepared >> device & 1) == 0)) {
    status = opdsl_driver(cuKernelSetAttribute(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, (int)image->shared_bytes,
                                               image->kernel, device), "asking for shared memory");
    if (status == 0 && device < 64) image->prepared |= (uint64_t)1 << device;
  }
  __atomic_clear(&lock, __ATOMIC_RELEASE);
  if (status == 0) status = opdsl_driver(cuKernelGetFunction(function, image->kernel), "loading");
  *chosen = image;
  return status;
}

/* Queues one launch. `scratch` is where the address of Triton's own memory goes among the parameters, or null. */
static int32_t opdsl_launch(opdsl_image *images, int count, int64_t tiles, bool persistent, bool counted,
                            CUstream stream, void **parameters, CUdeviceptr *scratch) {
  opdsl_image *image;
  CUfunction function;
  int processors = 1, together = 1;
  int32_t status;
  if (counted && tiles <= 0) return 0;
  status = opdsl_load(images, count, &image, &function, &processors);
  if (status != 0) return status;
  if (persistent) {
    if (cuOccupancyMaxActiveBlocksPerMultiprocessor(&together, function, (int)image->threads, image->shared_bytes) !=
            CUDA_SUCCESS || together < 1)
      together = 1;
    if (!counted) tiles = processors;
    else if (tiles > (int64_t)processors * together) tiles = (int64_t)processors * together;
  }
  if (tiles > INT32_MAX) return opdsl_fail(OPDSL_BAD_ARGUMENT, "more tiles than a grid can have");
  if (scratch != NULL && image->scratch_bytes > 0) {
    status = opdsl_driver(cuMemAllocAsync(scratch, image->scratch_bytes * (size_t)tiles, stream), "workspace");
    if (status != 0) return status;
  }
  status = opdsl_driver(cuLaunchKernel(function, (unsigned)tiles, 1, 1, image->threads, 1, 1, image->shared_bytes, stream,
                                       parameters, NULL), "launching");
  if (scratch != NULL && image->scratch_bytes > 0) cuMemFreeAsync(*scratch, stream);
  return status;
}

static inline int64_t opdsl_floordiv(int64_t a, int64_t b) {
  return b == 0 ? 0 : a / b - (a % b != 0 && (a < 0) != (b < 0));
}
static inline int64_t opdsl_cdiv(int64_t a, int64_t b) { return -opdsl_floordiv(-a, b); }
static inline int64_t opdsl_mod(int64_t a, int64_t b) { return b == 0 ? 0 : a - opdsl_floordiv(a, b) * b; }
static inline int64_t opdsl_min(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t opdsl_max(int64_t a, int64_t b) { return a > b ? a : b; }

/* An array as it was given. */
typedef struct {
  uintptr_t address;
  int rank, bytes;
  const int64_t *dims;
  int64_t *strides;
  uintptr_t begin, end; /* of its elements */
  bool narrow;          /* offsets in it fit into 32 bits */
} opdsl_array;

static int32_t opdsl_describe(opdsl_array *array, const int64_t *strides, const char *name) {
  int64_t contiguous = 1, below = 0, above = 0;
  bool empty = false;
  array->narrow = true;
  for (int axis = array->rank - 1; axis >= 0; --axis) {
    const int64_t size = array->dims[axis];
    if (size < 0) {
      snprintf(opdsl_text, sizeof opdsl_text, "dim %d of %s is negative", axis, name);
      return OPDSL_BAD_ARGUMENT;
    }
    empty |= size == 0;
    array->strides[axis] = strides == NULL || size <= 1 ? contiguous : strides[axis];
    contiguous *= size > 0 ? size : 1;
    if (size > 1) *(array->strides[axis] < 0 ? &below : &above) += array->strides[axis] * (size - 1);
    array->narrow &= size <= OPDSL_LARGEST_NARROW_DIM;
  }
  array->narrow &= above - below <= INT32_MAX && below >= INT32_MIN;
  if (!empty && (array->address == 0 || array->address % (uintptr_t)array->bytes != 0)) {
    snprintf(opdsl_text, sizeof opdsl_text, "%s is %s", name, array->address == 0 ? "a null pointer" : "misaligned");
    return OPDSL_BAD_ARGUMENT;
  }
  array->begin = array->address + (uintptr_t)(below * array->bytes);
  array->end = empty ? array->begin : array->address + (uintptr_t)((above + 1) * array->bytes);
  return 0;
}

static bool opdsl_overlap(const opdsl_array *a, const opdsl_array *b, bool same_view_is_fine) {
  if (a->end <= b->begin || b->end <= a->begin) return false;
  if (!same_view_is_fine || a->address != b->address || a->rank != b->rank) return true;
  for (int axis = 0; axis < a->rank; ++axis)
    if (a->dims[axis] != b->dims[axis] || a->strides[axis] != b->strides[axis]) return true;
  return false;
}
"""

_HALF_TEXT = r"""
static inline uint16_t opdsl_bfloat16(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  if (x != x) return (uint16_t)(bits >> 16 | 0x40);
  return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static inline uint16_t opdsl_half(float x) {
  uint32_t bits, sign, magnitude;
  memcpy(&bits, &x, 4);
  sign = bits >> 16 & 0x8000;
  magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return (uint16_t)(sign | 0x7e00);
  if (magnitude >= 0x477ff000) return (uint16_t)(sign | 0x7c00);
  if (magnitude < 0x38800000) { /* subnormal: adding one half puts the rounded bits at the end */
    float y, half = 0.5f;
    uint32_t rounded;
    memcpy(&y, &magnitude, 4);
    y += half;
    memcpy(&rounded, &y, 4);
    return (uint16_t)(sign | (rounded - 0x3f000000));
  }
  magnitude += 0xfff + (magnitude >> 13 & 1);
  return (uint16_t)(sign | ((magnitude - 0x38000000) >> 13));
}
"""


def launcher(library: str, parts: Sequence[Part], version: str, in_place: bool) -> str:
    """The C file."""
    upper = library.upper()
    defines = "\n".join(f"#define OPDSL_{name} {upper}_{name}" for name in STATUSES)
    used = {a.type for part in parts for v in part.variants for m in v.launches for a in m.launch.arguments}
    pieces = [
        f"/* {library}: launches kernels compiled by OpDSL {version}. Written by `opdsl build`. */",
        f'#include "{library}.h"',
        "#include <cuda.h>\n#include <limits.h>\n#include <stddef.h>\n#include <stdio.h>\n#include <string.h>",
        f"{defines}\n#define OPDSL_LARGEST_NARROW_DIM {LARGEST_NARROW_DIM}",
        _SUPPORT.strip(),
    ]
    if used & HALVES.keys():
        pieces.append(_HALF_TEXT.strip())
    for part in parts:
        pieces += [_images(part), *filter(None, [_assert_texts(part)]), _function(part, in_place)]
    pieces.append(_message(library, parts))
    return "\n\n".join(pieces) + "\n"


def _symbol(part: Part, variant: Variant, number: int) -> str:
    return f"{part.interface.function}_{variant.name}_{number}"


def _images(part: Part) -> str:
    """The machine code of every launch, and tables of it by architecture."""
    lines = []
    for variant in part.variants:
        for number in range(len(variant.launches)):
            symbol = _symbol(part, variant, number)
            entries = []
            for compiled in variant.compiled:
                module = compiled.modules[number]
                data = f"code_{symbol}_{compiled.arch.name}"
                lines.append(f"static const unsigned char {data}[] = {{\n{_bytes(module.binary)}\n}};")
                entries.append(f"  {{{_image(module, data)}}}")
            rows = ",\n".join(entries)
            lines.append(f"static opdsl_image images_{symbol}[] = {{\n{rows},\n}};")
    return "\n".join(lines)


def _image(module: Module, data: str) -> str:
    capability = int(module.arch.identity)
    major, minor = divmod(capability, 10)
    metadata = module.metadata
    threads = int(metadata["num_warps"]) * int(metadata.get("warp_size", 32))
    scratch = int(metadata.get("global_scratch_size", 0))
    # From 9.0 on, Triton uses instructions of this very architecture (sm_90a), which later ones need not have.
    exact = "true" if capability >= 90 else "false"
    return (
        f'{major}, {minor}, {exact}, {data}, "{metadata["name"]}", {metadata["shared"]}, {threads}, {scratch}, '
        "NULL, NULL, 0"
    )


def _bytes(data: bytes) -> str:
    return "\n".join(",".join(map(str, data[start : start + 32])) + "," for start in range(0, len(data), 32))


# --- one function ----------------------------------------------------------------------------------------------------


def _function(part: Part, in_place: bool) -> str:
    interface = part.interface
    lines = [f"{prototype(interface)} {{"]
    lines.append("  int32_t status;")
    for tensor in interface.tensors:
        dims = ", ".join(str(d) if isinstance(d, int) else interface.size_name(d) for d in tensor.dims) or "1"
        name = tensor.c_name
        rank, size = len(tensor.dims), tensor.dtype.bytes
        lines += [
            f"  const int64_t dims_{name}[] = {{{dims}}};",
            f"  int64_t strides_{name}[{max(rank, 1)}] = {{1}};",
            f"  opdsl_array array_{name} = {{(uintptr_t){name}, {rank}, {size}, dims_{name}, strides_{name}, 0, 0, true}};",
        ]
    for tensor in interface.tensors:
        name = tensor.c_name
        lines += [
            f'  status = opdsl_describe(&array_{name}, {name}_strides, "{tensor.name}");',
            "  if (status != 0) return status;",
        ]
    lines += _overlaps(interface, in_place)
    for variant in part.variants:
        lines += _variant(part, variant)
    lines += ['  return opdsl_fail(OPDSL_BAD_ARGUMENT, "no variant takes these arguments");', "}"]
    return "\n".join(lines)


def _overlaps(interface: Interface, in_place: bool) -> list[str]:
    lines = []
    for place, one in enumerate(interface.tensors):
        for other in interface.tensors[place + 1 :]:
            if one.writes or other.writes:
                both = one.writes and other.writes
                fine = "true" if in_place and not both else "false"
                lines += [
                    f"  if (opdsl_overlap(&array_{one.c_name}, &array_{other.c_name}, {fine}))",
                    f'    return opdsl_fail(OPDSL_OVERLAP, "{one.name} and {other.name} overlap");',
                ]
    return lines


def _conditions(part: Part, variant: Variant) -> list[str]:
    """What a call must be like to be served by a variant."""
    found = []
    arrays = tensors(part.interface)
    for place, tensor in arrays.items():
        axis = variant.unit_axes[place]
        if axis is not None:
            found.append(f"(dims_{tensor.c_name}[{axis}] <= 1 || strides_{tensor.c_name}[{axis}] == 1)")
        if variant.index_bits == 32:
            found.append(f"array_{tensor.c_name}.narrow")
    for module in variant.launches:
        for argument in module.launch.arguments:
            if not argument.aligned or argument.kind == "report":
                continue
            name = arrays[argument.parameter].c_name
            value = {
                "pointer": f"array_{name}.address",
                "dim": f"dims_{name}[{argument.axis}]",
                "stride": f"strides_{name}[{argument.axis}]",
            }[argument.kind]
            found.append(f"{value} % {ALIGNMENT} == 0")
    return list(dict.fromkeys(found))


def _variant(part: Part, variant: Variant) -> list[str]:
    conditions = " &&\n      ".join(_conditions(part, variant)) or "true"
    asserts = variant.compiled[0].generated.asserts
    lines = [f"  if ({conditions}) {{ /* {variant.name} */"]
    size = 4 * len(asserts)
    if asserts:
        lines += [
            "    CUdeviceptr failures = 0;",
            f"    int32_t failed[{len(asserts)}] = {{0}};",
            f'    status = opdsl_driver(cuMemAllocAsync(&failures, {size}, stream), "memory for assertions");',
            "    if (status != 0) return status;",
            f'    status = opdsl_driver(cuMemsetD8Async(failures, 0, {size}, stream), "memory for assertions");',
        ]
    else:
        lines.append("    status = 0;")
    for number, module in enumerate(variant.launches):
        lines += _launch(part, variant, number, module)
    if asserts:
        lines += [
            "    if (status == 0)",
            f'      status = opdsl_driver(cuMemcpyDtoHAsync(failed, failures, {size}, stream), "reading assertions");',
            '    if (status == 0) status = opdsl_driver(cuStreamSynchronize(stream), "running");',
            "    cuMemFreeAsync(failures, stream);",
            f"    for (int i = 0; status == 0 && i < {len(asserts)}; ++i)",
            "      if (failed[i] != 0) {",
            "        status = i + 1;",
            f'        snprintf(opdsl_text, sizeof opdsl_text, "%s", asserts_{part.interface.function}[i]);',
            "      }",
        ]
    return [*lines, "    return status;", "  }"]


def _launch(part: Part, variant: Variant, number: int, module: Module) -> list[str]:
    launch = module.launch
    lines = ["    if (status == 0) {"]
    names: dict[str, str] = {}
    for argument in launch.arguments:
        variable = f"v_{len(names)}"
        names[argument.name] = variable
        lines.append(f"      {_declared(part.interface, argument, variable)}")
    extra = max(entry_parameters(module) - len(launch.arguments), 0)
    # Triton's own parameters come last: memory that it asks for, first of all.
    own = [f"scratch_{i}" for i in range(extra)]
    lines += [f"      CUdeviceptr {name} = 0;" for name in own]
    pointers = ", ".join(f"&{name}" for name in (*names.values(), *own)) or "NULL"
    lines.append(f"      void *parameters[] = {{{pointers}}};")
    counted = bool(launch.programs)
    tiles = _size(launch.programs, names) if counted else "0"
    symbol = _symbol(part, variant, number)
    flags = f"{'true' if launch.persistent else 'false'}, {'true' if counted else 'false'}"
    return [
        *lines,
        f"      status = opdsl_launch(images_{symbol}, {len(variant.compiled)}, {tiles}, {flags}, stream, parameters,",
        f"                            {'&' + own[0] if own else 'NULL'});",
        "    }",
    ]


def _declared(interface: Interface, argument: LaunchArgument, variable: str) -> str:
    """A C variable with an argument's value."""
    if argument.kind == "report":
        return f"CUdeviceptr {variable} = failures;"
    parameter = interface.parameters[argument.parameter]
    name = parameter.c_name
    if argument.kind == "pointer":
        return f"CUdeviceptr {variable} = (CUdeviceptr)(uintptr_t){name};"
    if argument.kind == "scalar":
        assert isinstance(parameter, Scalar)
        if argument.type in HALVES:
            return f"uint16_t {variable} = {HALVES[argument.type]}({name});"
        kind = SCALAR_TYPES[argument.type]
        return f"{kind} {variable} = ({kind}){name};"
    kind = SCALAR_TYPES[argument.type]
    array = "dims" if argument.kind == "dim" else "strides"
    return f"{kind} {variable} = ({kind}){array}_{name}[{argument.axis}];"


class _Names(ast.NodeTransformer):
    """Puts C's names into a size: of variables, in 64 bits, and of functions."""

    def __init__(self, names: dict[str, str]) -> None:
        self.names = names

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Name(self.names[node.id])

    def visit_Call(self, node: ast.Call) -> ast.AST:
        assert isinstance(node.func, ast.Name)
        return ast.Call(ast.Name(f"opdsl_{node.func.id}"), [self.visit(a) for a in node.args], [])


def _size(text: str, names: dict[str, str]) -> str:
    """A size in C. Every operation is in 64 bits, as its variables are widened first."""
    wide = {name: f"(int64_t){variable}" for name, variable in names.items()}
    return ast.unparse(_Names(wide).visit(ast.parse(text, mode="eval")))


def _message(library: str, parts: Sequence[Part]) -> str:
    upper = library.upper()
    words = {
        "OUT_OF_MEMORY": "out of memory on the GPU",
        "BAD_ARGUMENT": "an argument is wrong",
        "OVERLAP": "an array that is written overlaps another",
        "UNSUPPORTED_DEVICE": "nothing was compiled for this GPU",
        "DRIVER": "the CUDA driver failed",
    }
    cases = "\n".join(f'    case {upper}_{name}: return "{text}";' for name, text in words.items())
    return f"""const char *{library}_message(int32_t status) {{
  if (status == {upper}_OK) return "done";
  if (opdsl_text[0] != 0) return opdsl_text;
  switch (status) {{
{cases}
    default: return "an assertion failed";
  }}
}}"""


def _assert_texts(part: Part) -> str:
    """The messages of a kernel's assertions with their places."""
    found = []
    for site in part.variants[0].compiled[0].generated.asserts:
        place = site.location
        where = f"{Path(place.file).name}:{place.line}"
        found.append(f"  {_c_string(f'{where}: assertion failed: {site.message}')},")
    name = f"asserts_{part.interface.function}"
    return "\n".join([f"static const char *const {name}[] = {{", *found, "};"]) if found else ""


def _c_string(text: str) -> str:
    escaped = "".join(
        c if 32 <= ord(c) < 127 and c not in '"\\' else "".join(f"\\{byte:03o}" for byte in c.encode()) for c in text
    )
    return f'"{escaped}"'

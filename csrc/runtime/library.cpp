#include "runtime/library.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <atomic>

#include "runtime/machine.h"
#include "runtime/memory.h"
#include "runtime/pool.h"

// No C++ library symbols here: C programs link this.

namespace opdsl {
namespace {

constexpr int kMaximumArrays = 64;
constexpr int kMaximumAxes = 256;  // of all arrays together

thread_local char last_message[256];
thread_local opdsl_i32 last_status;

__attribute__((format(printf, 2, 3))) opdsl_i32 fail(opdsl_i32 status, const char* format, ...) {
  va_list values;
  va_start(values, format);
  vsnprintf(last_message, sizeof(last_message), format, values);
  va_end(values);
  last_status = status;
  return status;
}

// ---- what a kernel needs of its host -----------------------------------------------------------------------------------

struct CallState {
  const Library* library;
  const LibraryKernel* kernel;
};

void* allocate(const opdsl_runtime*, opdsl_i64 bytes) { return memory_allocate(static_cast<size_t>(bytes)); }
void release(const opdsl_runtime*, void* block) { memory_release(block); }

void print_element(const opdsl_report_value& value, opdsl_i64 place) {
  if (value.is_float)
    fprintf(stderr, "%.9g", value.elements[place].f);
  else
    fprintf(stderr, "%lld", static_cast<long long>(value.elements[place].i));
}

void print_value(const opdsl_report_value& value, opdsl_i32 axis, opdsl_i64 first) {
  if (axis == value.rank) return print_element(value, first);
  opdsl_i64 step = 1;
  for (opdsl_i32 inner = axis + 1; inner < value.rank; ++inner) step *= value.shape[inner];
  fputc('[', stderr);
  for (opdsl_i64 i = 0; i < value.shape[axis]; ++i) {
    if (i > 0) fputc(' ', stderr);
    print_value(value, axis + 1, first + i * step);
  }
  fputc(']', stderr);
}

// The text of a site with its values, to stderr: a library has no other place for what a kernel prints.
void report(const opdsl_runtime* runtime, opdsl_i32 site, const opdsl_report_value* values, opdsl_i32 count) {
  const CallState& state = *static_cast<const CallState*>(runtime->state);
  opdsl_i32 next = 0;
  flockfile(stderr);
  for (const char* text = state.library->sites[state.kernel->first_site + site].text; *text != 0; ++text) {
    if (text[0] == '{' && text[1] == '}') {
      if (next < count) print_value(values[next++], 0, 0);
      ++text;
    } else {
      if ((text[0] == '{' || text[0] == '}') && text[1] == text[0]) ++text;
      fputc(*text, stderr);
    }
  }
  fputc('\n', stderr);
  funlockfile(stderr);
}

// ---- instruction sets --------------------------------------------------------------------------------------------------

// The library's instruction set in use; a library has one copy of this file, so one of this variable.
std::atomic<const char*> chosen_isa{nullptr};

const char* find_isa(const Library& library, const char* wanted) {
  for (opdsl_i32 i = 0; i < library.isa_count; ++i) {
    const char* isa = library.isas[i];
    if ((wanted == nullptr || strcmp(isa, wanted) == 0) && machine_supports_isa(isa)) return isa;
  }
  return "";
}

// ---- arguments ---------------------------------------------------------------------------------------------------------

struct Range {
  uintptr_t begin;
  uintptr_t end;
};

struct Arguments {
  opdsl_array arrays[kMaximumArrays];
  Range ranges[kMaximumArrays];
  opdsl_i64 extents[2 * kMaximumAxes];
};

// Whether no two indices of a written array are one element, shown by the axes nesting in one another.
bool elements_are_distinct(opdsl_i32 rank, const opdsl_i64* shape, const opdsl_i64* strides) {
  opdsl_i64 reach = 0;
  uint64_t taken = 0;
  for (opdsl_i32 round = 0; round < rank; ++round) {
    opdsl_i32 smallest = -1;
    opdsl_i64 smallest_stride = 0;
    for (opdsl_i32 axis = 0; axis < rank; ++axis) {
      const opdsl_i64 stride = strides[axis] < 0 ? -strides[axis] : strides[axis];
      if ((taken >> axis & 1) != 0 || shape[axis] <= 1 || (smallest >= 0 && stride >= smallest_stride)) continue;
      smallest = axis;
      smallest_stride = stride;
    }
    if (smallest < 0) return true;
    taken |= uint64_t{1} << smallest;
    if (smallest_stride <= reach) return false;
    reach += smallest_stride * (shape[smallest] - 1);
  }
  return true;
}

opdsl_i32 read_array(const LibraryKernel& kernel, opdsl_i32 place, void* data, const opdsl_i64* strides,
                     const opdsl_i64* sizes, opdsl_i64* shape_out, Arguments* arguments) {
  const LibraryArray& array = kernel.arrays[place];
  opdsl_i64* stride_out = shape_out + array.rank;
  bool empty = false;
  for (opdsl_i32 axis = 0; axis < array.rank; ++axis) {
    shape_out[axis] = array.dims[axis] < 0 ? sizes[~array.dims[axis]] : array.dims[axis];
    empty |= shape_out[axis] == 0;
  }
  Range range{reinterpret_cast<uintptr_t>(data), reinterpret_cast<uintptr_t>(data)};
  opdsl_i64 contiguous = 1;
  for (opdsl_i32 axis = array.rank - 1; axis >= 0; --axis) {
    const opdsl_i64 size = shape_out[axis];
    // The stride of an axis with one element means nothing: it gets the one that a contiguous array would have.
    stride_out[axis] = strides == nullptr || size <= 1 || empty ? contiguous : strides[axis];
    const opdsl_i64 reach = (size - 1) * stride_out[axis] * array.element_bytes;
    if (!empty) (reach < 0 ? range.begin : range.end) += static_cast<uintptr_t>(reach);
    contiguous = stride_out[axis] * size;
  }
  if (!empty) {
    if (data == nullptr) return fail(kBadArgument, "%s: %s is a null pointer", kernel.name, array.name);
    if (reinterpret_cast<uintptr_t>(data) % static_cast<uintptr_t>(array.element_bytes) != 0)
      return fail(kBadArgument, "%s: the address of %s is not a multiple of its element's %d bytes", kernel.name,
                  array.name, static_cast<int>(array.element_bytes));
    range.end += static_cast<uintptr_t>(array.element_bytes);
    if (array.is_written && !elements_are_distinct(array.rank, shape_out, stride_out))
      return fail(kOverlap, "%s: %s is written, but by its strides some of its elements are one", kernel.name, array.name);
  }
  arguments->arrays[place] = {data, shape_out, stride_out};
  arguments->ranges[place] = range;
  return kOk;
}

bool is_same_view(const LibraryKernel& kernel, opdsl_i32 a, opdsl_i32 b, const Arguments& arguments) {
  const LibraryArray &left = kernel.arrays[a], &right = kernel.arrays[b];
  const opdsl_array &x = arguments.arrays[a], &y = arguments.arrays[b];
  const size_t bytes = static_cast<size_t>(left.rank) * sizeof(opdsl_i64);
  return !right.is_written && left.rank == right.rank && left.element_bytes == right.element_bytes && x.data == y.data &&
         memcmp(x.shape, y.shape, bytes) == 0 && memcmp(x.strides, y.strides, bytes) == 0;
}

opdsl_i64 magnitude(opdsl_i64 x) { return x < 0 ? -x : x; }

// How far an array's elements reach from its lowest address, in elements and modulo `step`.
opdsl_i64 reach_within(opdsl_i32 rank, const opdsl_array& array, opdsl_i64 step) {
  opdsl_i64 reach = 1;
  for (opdsl_i32 axis = 0; axis < rank; ++axis)
    if (array.strides[axis] % step != 0) reach += magnitude(array.strides[axis]) * (array.shape[axis] - 1);
  return reach;
}

// Whether two arrays whose address ranges meet are interleaved, as columns of one matrix are: for some stride of theirs,
// their addresses modulo it lie apart.
bool are_interleaved(const LibraryKernel& kernel, opdsl_i32 a, opdsl_i32 b, const Arguments& arguments) {
  const LibraryArray& left = kernel.arrays[a];
  const LibraryArray& right = kernel.arrays[b];
  for (opdsl_i32 i = 0; i < left.rank + right.rank; ++i) {
    const bool of_left = i < left.rank;
    const opdsl_array& array = arguments.arrays[of_left ? a : b];
    const opdsl_i32 axis = of_left ? i : i - left.rank;
    const opdsl_i64 step = magnitude(array.strides[axis]) * (of_left ? left : right).element_bytes;
    if (array.shape[axis] <= 1 || step % left.element_bytes != 0 || step % right.element_bytes != 0 || step == 0) continue;
    const opdsl_i64 left_bytes =
        reach_within(left.rank, arguments.arrays[a], step / left.element_bytes) * left.element_bytes;
    const opdsl_i64 right_bytes =
        reach_within(right.rank, arguments.arrays[b], step / right.element_bytes) * right.element_bytes;
    opdsl_i64 distance = static_cast<opdsl_i64>(arguments.ranges[b].begin - arguments.ranges[a].begin) % step;
    if (distance < 0) distance += step;
    if (distance >= left_bytes && distance + right_bytes <= step) return true;
  }
  return false;
}

opdsl_i32 check_sharing(const LibraryKernel& kernel, const Arguments& arguments) {
  for (opdsl_i32 written = 0; written < kernel.array_count; ++written) {
    if (!kernel.arrays[written].is_written) continue;
    const Range& a = arguments.ranges[written];
    for (opdsl_i32 other = 0; other < kernel.array_count; ++other) {
      const Range& b = arguments.ranges[other];
      const bool apart = a.begin >= b.end || b.begin >= a.end || a.begin == a.end || b.begin == b.end;
      if (other == written || apart || are_interleaved(kernel, written, other, arguments)) continue;
      const char *name = kernel.arrays[written].name, *other_name = kernel.arrays[other].name;
      if (!is_same_view(kernel, written, other, arguments))
        return fail(kOverlap, "%s: %s, which is written, overlaps %s in memory", kernel.name, name, other_name);
      if (!kernel.in_place)
        return fail(kOverlap, "%s: %s and %s are the same memory; build the library with --in-place to allow that",
                    kernel.name, name, other_name);
    }
  }
  return kOk;
}

bool fits(const LibraryKernel& kernel, const LibraryVariant& variant, const Arguments& arguments) {
  for (opdsl_i32 place = 0; place < kernel.array_count; ++place) {
    const signed char axis = variant.unit_axes[place];
    if (axis >= 0 && arguments.arrays[place].shape[axis] > 1 && arguments.arrays[place].strides[axis] != 1) return false;
  }
  return true;
}

}  // namespace

const char* library_isa(const Library& library) {
  const char* isa = chosen_isa.load(std::memory_order_acquire);
  if (isa == nullptr) {
    const char* wanted = getenv("OPDSL_ISA");
    isa = find_isa(library, wanted != nullptr && *wanted != 0 ? wanted : nullptr);
    chosen_isa.store(isa, std::memory_order_release);
  }
  return isa;
}

opdsl_i32 library_set_isa(const Library& library, const char* isa) {
  const char* found = find_isa(library, isa);
  if (*found == 0)
    return fail(kUnsupportedProcessor, "%s: it is not built for %s, or this processor does not run that", library.name,
                isa != nullptr ? isa : "any instruction set of this processor");
  chosen_isa.store(found, std::memory_order_release);
  return kOk;
}

opdsl_i32 library_call(const Library& library, const LibraryKernel& kernel, void* const* data,
                       const opdsl_i64* const* strides, const opdsl_i64* sizes, const opdsl_scalar* scalars) {
  for (opdsl_i32 i = 0; i < kernel.size_count; ++i)
    if (sizes[i] < 0)
      return fail(kBadArgument, "%s: the size %s is %lld", kernel.name, kernel.size_names[i],
                  static_cast<long long>(sizes[i]));
  Arguments arguments;
  opdsl_i64* extents = arguments.extents;
  for (opdsl_i32 i = 0; i < kernel.array_count; ++i) {
    const opdsl_i32 status = read_array(kernel, i, data[i], strides[i], sizes, extents, &arguments);
    if (status != kOk) return status;
    extents += 2 * kernel.arrays[i].rank;
  }
  const opdsl_i32 sharing = check_sharing(kernel, arguments);
  if (sharing != kOk) return sharing;

  const char* isa = library_isa(library);
  opdsl_i32 isa_place = 0;
  while (isa_place < library.isa_count && strcmp(library.isas[isa_place], isa) != 0) ++isa_place;
  for (opdsl_i32 i = 0; i < kernel.variant_count; ++i) {
    const LibraryVariant& variant = kernel.variants[i];
    if (variant.isa < isa_place || !fits(kernel, variant, arguments)) continue;
    CallState state{&library, &kernel};
    const opdsl_runtime runtime{pool_parallel_for, allocate, release, report, &state};
    const opdsl_i32 status = variant.entry(&runtime, arguments.arrays, scalars);
    if (status > 0) {
      const LibrarySite& site = library.sites[kernel.first_site + status - 1];
      return fail(kernel.first_site + status, "%s: assertion failed: %s", site.place, site.text);
    }
    if (status == kOutOfMemory) return fail(status, "%s: there is not enough memory for its tiles", kernel.name);
    return status;
  }
  if (*isa == 0)
    return fail(kUnsupportedProcessor, "%s: this processor runs none of the instruction sets of the library", library.name);
  return fail(kBadArgument, "%s: it was built without general strides, and these strides fit none of its layouts",
              kernel.name);
}

const char* library_message(const Library& library, opdsl_i32 status) {
  if (status != kOk && status == last_status) return last_message;
  switch (status) {
    case kOk: return "done";
    case kOutOfMemory: return "there is not enough memory for the kernel's tiles";
    case kBadArgument: return "an argument is wrong";
    case kOverlap: return "an array that is written overlaps another, or itself";
    case kUnsupportedProcessor: return "this processor runs none of the instruction sets of the library";
    default: break;
  }
  if (status > 0 && status <= library.site_count) return library.sites[status - 1].text;
  return "there is no such status";
}

}  // namespace opdsl

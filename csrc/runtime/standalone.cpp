// The host of a kernel in a library that needs no Python: the same thread pool and memory, and reports on stderr.
// `opdsl build` compiles this file, pool.cpp, memory.cpp and machine.cpp into the library. Link it with
// `-Wl,-z,nodelete`: the pool's threads sleep in its code.
#include <stdio.h>

#include "runtime/machine.h"
#include "runtime/memory.h"
#include "runtime/pool.h"
#include "simd/abi.h"

namespace {

void* allocate(const opdsl_runtime*, opdsl_i64 bytes) { return opdsl::memory_allocate(static_cast<size_t>(bytes)); }

void release(const opdsl_runtime*, void* block) { opdsl::memory_release(block); }

void print_value(const opdsl_report_value& value) {
  opdsl_i64 elements = 1;
  for (opdsl_i32 axis = 0; axis < value.rank; ++axis) elements *= value.shape[axis];
  if (value.rank > 0) fputc('[', stderr);
  for (opdsl_i64 i = 0; i < elements; ++i) {
    if (i > 0) fputc(' ', stderr);
    if (value.is_float)
      fprintf(stderr, "%.9g", value.elements[i].f);
    else
      fprintf(stderr, "%lld", static_cast<long long>(value.elements[i].i));
  }
  if (value.rank > 0) fputc(']', stderr);
}

void report(const opdsl_runtime*, opdsl_i32 site, const opdsl_report_value* values, opdsl_i32 count) {
  flockfile(stderr);
  fprintf(stderr, "opdsl: report from site %d:", static_cast<int>(site));
  for (opdsl_i32 i = 0; i < count; ++i) {
    fputc(' ', stderr);
    print_value(values[i]);
  }
  fputc('\n', stderr);
  funlockfile(stderr);
}

const opdsl_runtime kRuntime = {opdsl::pool_parallel_for, allocate, release, report, nullptr};

}  // namespace

extern "C" {

const opdsl_runtime* opdsl_default_runtime(void) { return &kRuntime; }

// For dispatch at run time: whether this machine runs code built for an ISA, "avx512", "avx2", "neon" or "baseline".
int opdsl_machine_supports(const char* isa) { return opdsl::machine_supports_isa(isa) ? 1 : 0; }

// Whether this machine has a feature, as "avx512fp16".
int opdsl_machine_has_feature(const char* feature) { return opdsl::machine_has_feature_named(feature) ? 1 : 0; }
}

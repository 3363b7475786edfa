// The limits that rows are held against. Each entry has a generated kernel's interface, so that it is loaded like one
// and uses the same thread pool. arrays[0] takes the operations done, an i64 for each piece.
#include "simd/kernel.h"
#include "simd/probe.h"

namespace {

using od::i32;
using od::i64;

template <class Probe>
void on_all_threads(const opdsl_runtime* runtime, const opdsl_array* arrays, i64 pieces, Probe probe) {
  struct Closure {
    i64* counts;
    Probe probe;
  } closure = {(i64*)arrays[0].data, probe};
  runtime->parallel_for(
      runtime, pieces, 1, 0,
      [](void* data, i64 begin, i64 end, char*) {
        Closure* c = (Closure*)data;
        for (i64 i = begin; i < end; i++) c->counts[i] = c->probe();
      },
      &closure);
}

// Chains of T-wide registers, for the instructions that have no operator: `step` is one of them.
template <class V, class Step>
i64 probe_chains(i64 iterations, V start, i64 operations, Step step) {
  constexpr int chains = 24;
  V sum[chains], x = start, y = start;
  asm volatile("" : "+v"(x), "+v"(y));
  OD_UNROLL for (int i = 0; i < chains; i++) sum[i] = x;
  for (i64 n = 0; n < iterations; n++) {
    OD_UNROLL for (int i = 0; i < chains; i++) sum[i] = step(sum[i], x, y);
    // Nothing is kept in memory, nothing is left out.
    OD_UNROLL for (int i = 0; i < chains; i++) asm volatile("" : "+v"(sum[i]));
  }
  return iterations * chains * operations;
}

#if defined(__AMX_TILE__) && defined(__x86_64__)
bool tiles_permitted() {
  i64 result;
  asm volatile("syscall" : "=a"(result) : "0"(158L), "D"(0x1023L), "S"(18L) : "rcx", "r11", "memory");
  return result == 0;
}

void tiles_begin() {
  struct alignas(64) {
    od::u8 palette, start, reserved[14];
    od::u16 bytes_per_row[16];
    od::u8 rows[16];
  } shape = {};
  shape.palette = 1;
  for (int t = 0; t < 8; t++) {
    shape.bytes_per_row[t] = 64;
    shape.rows[t] = 16;
  }
  asm volatile("ldtilecfg %0" ::"m"(shape));
  asm volatile(
      "tilezero %%tmm0\n\ttilezero %%tmm1\n\ttilezero %%tmm2\n\ttilezero %%tmm3\n\t"
      "tilezero %%tmm4\n\ttilezero %%tmm5\n\ttilezero %%tmm6\n\ttilezero %%tmm7" ::
          : "memory");
}

#define FOUR_PRODUCTS(name)                                                                     \
  name " %%tmm6, %%tmm4, %%tmm0\n\t" name " %%tmm7, %%tmm4, %%tmm1\n\t"                         \
       name " %%tmm6, %%tmm5, %%tmm2\n\t" name " %%tmm7, %%tmm5, %%tmm3\n\t"

#define TILE_PROBE(entry, name, depth)                                                          \
  extern "C" opdsl_i32 entry(const opdsl_runtime* r, const opdsl_array* a, const opdsl_scalar* s) { \
    const i64 iterations = s[0].i;                                                              \
    on_all_threads(r, a, s[1].i, [iterations]() -> i64 {                                        \
      if (!tiles_permitted()) return 0;                                                         \
      tiles_begin();                                                                            \
      for (i64 n = 0; n < iterations; n++) asm volatile(FOUR_PRODUCTS(name) :::"memory");       \
      asm volatile("tilerelease" ::: "memory");                                                 \
      return iterations * 4 * 16 * 16 * depth * 2;                                              \
    });                                                                                         \
    return OPDSL_OK;                                                                            \
  }
#endif

#if defined(__AVX__)
#define HAS_STREAMING_STORE 1
typedef float streamed __attribute__((vector_size(od::native_bytes), aligned(1), may_alias));
OD_INLINE void store_past_caches(char* to, const char* from) {
  const streamed value = *(const streamed*)from;
  asm volatile("vmovntps %1, %0" : "=m"(*(streamed*)to) : "v"(value));
}
#endif

typedef od::i32 words __attribute__((vector_size(od::native_bytes), aligned(1), may_alias));

// What is summed up must not be of a type that may alias, or every store would send it to memory.
typedef od::i32 sums __attribute__((vector_size(od::native_bytes)));

// Reads `read` bytes and writes `written`: what both have is copied, the rest only read, or only written. `Ahead` bytes
// before they are needed they are asked for, where the hardware's own prefetching does not do.
template <bool Streaming, i64 Ahead>
void stream(const char* from, i64 read, char* to, i64 written) {
  constexpr i64 step = 4 * od::native_bytes;
  const i64 both = od::smaller(read, written) / step * step;
  const bool aligned = ((i64)to & (od::native_bytes - 1)) == 0;
  sums sum[4] = {};
  // Where more is read than written, as in adding, every pass of the loop does its part of both.
  const i64 extra = both == 0 ? 0 : od::smaller(read / both - 1, 2);
  for (i64 i = 0; i < both; i += step) {
    if (Ahead)
      OD_UNROLL for (i64 j = 0; j < step; j += 64) __builtin_prefetch(from + i + j + Ahead);
    for (i64 e = 1; e <= extra; e++) {
      const char* other = from + e * both + i;
      if (Ahead)
        OD_UNROLL for (i64 j = 0; j < step; j += 64) __builtin_prefetch(other + j + Ahead);
      OD_UNROLL for (int j = 0; j < 4; j++) sum[j] += (sums) * (const words*)(other + j * od::native_bytes);
    }
    OD_UNROLL for (i64 j = i; j < i + step; j += od::native_bytes) {
#if defined(HAS_STREAMING_STORE)
      if (Streaming && aligned) {
        store_past_caches(to + j, from + j);
        continue;
      }
#endif
      *(words*)(to + j) = *(const words*)(from + j);
    }
  }
  for (i64 i = both * (1 + extra); i + step <= read; i += step) {
    if (Ahead)
      OD_UNROLL for (i64 j = 0; j < step; j += 64) __builtin_prefetch(from + i + j + Ahead);
    OD_UNROLL for (int j = 0; j < 4; j++) sum[j] += (sums) * (const words*)(from + i + j * od::native_bytes);
  }
  const sums kept = sum[0] + sum[1] + sum[2] + sum[3];
  asm volatile("" ::"m"(kept));
  for (i64 i = both; i + step <= written; i += step)
    OD_UNROLL for (int j = 0; j < 4; j++) *(words*)(to + i + j * od::native_bytes) = words{};
#if defined(HAS_STREAMING_STORE)
  if (Streaming) asm volatile("sfence" ::: "memory");
#endif
}

// arrays[1] is read, arrays[2] written (both bytes), in `pieces` equal parts.
template <bool Streaming, i64 Ahead>
opdsl_i32 stream_entry(const opdsl_runtime* runtime, const opdsl_array* arrays, const opdsl_scalar* scalars) {
  struct Closure {
    const char* from;
    char* to;
    i64 read, written;
  } closure = {(const char*)arrays[1].data, (char*)arrays[2].data, arrays[1].shape[0] / scalars[1].i / 64 * 64,
               arrays[2].shape[0] / scalars[1].i / 64 * 64};
  runtime->parallel_for(
      runtime, scalars[1].i, 1, 0,
      [](void* data, i64 begin, i64 end, char*) {
        const Closure* c = (const Closure*)data;
        for (i64 i = begin; i < end; i++)
          stream<Streaming, Ahead>(c->from + i * c->read, c->read, c->to + i * c->written, c->written);
      },
      &closure);
  return OPDSL_OK;
}

}  // namespace

#define PROBE(entry, expression)                                                                    \
  extern "C" opdsl_i32 entry(const opdsl_runtime* r, const opdsl_array* a, const opdsl_scalar* s) { \
    const i64 iterations = s[0].i;                                                                  \
    on_all_threads(r, a, s[1].i, [iterations]() -> i64 { return expression; });                     \
    return OPDSL_OK;                                                                                \
  }

PROBE(roof_f32_fma, od::probe_fma<float>(iterations))
PROBE(roof_f64_fma, od::probe_fma<double>(iterations))

#if defined(__AVX512FP16__) && defined(OD_AVX512)
typedef _Float16 half_register __attribute__((vector_size(64)));
PROBE(roof_f16_fma, probe_chains(iterations, half_register{}, 64, [](half_register c, half_register a, half_register b) {
        asm("vfmadd231ph %2, %1, %0" : "+v"(c) : "v"(a), "v"(b));
        return c;
      }))
#endif

#if defined(OD_DOT_QUADS)
typedef od::dot_config<od::quads>::vector quad_register;
PROBE(roof_i8_dot, probe_chains(iterations, quad_register{}, 8 * od::dot_config<od::quads>::lanes,
                                [](quad_register c, quad_register a, quad_register b) {
                                  return od::dot_multiply_add<od::quads>(a, b, c);
                                }))
#endif

#if defined(__AMX_BF16__)
TILE_PROBE(roof_bf16_tiles, "tdpbf16ps", 32)
#endif
#if defined(__AMX_INT8__)
TILE_PROBE(roof_i8_tiles, "tdpbssd", 64)
#endif

extern "C" opdsl_i32 roof_stream(const opdsl_runtime* r, const opdsl_array* a, const opdsl_scalar* s) {
  return stream_entry<false, 0>(r, a, s);
}
extern "C" opdsl_i32 roof_stream_past_caches(const opdsl_runtime* r, const opdsl_array* a, const opdsl_scalar* s) {
  return stream_entry<true, 0>(r, a, s);
}
extern "C" opdsl_i32 roof_stream_prefetched(const opdsl_runtime* r, const opdsl_array* a, const opdsl_scalar* s) {
  return stream_entry<false, 2048>(r, a, s);
}
extern "C" opdsl_i32 roof_stream_past_caches_prefetched(const opdsl_runtime* r, const opdsl_array* a,
                                                        const opdsl_scalar* s) {
  return stream_entry<true, 2048>(r, a, s);
}

// The SIMD headers as plain C functions on arrays, for tests/cpu/test_simd.py.
#include "simd.h"
#include "elementary.h"

using namespace od;

#define EXPORT extern "C" __attribute__((visibility("default")))

EXPORT int native_register_bytes() { return native_bytes; }

// Memory access to each storage type: everything with `full` lanes, loads and stores also with 1, 4 and twice as many.
constexpr int full = native_bytes == 64 ? 16 : 8;

template <int L, class S> static void access(int what, S* p, i64 a, i64 lo, i64 hi, register_of<S>* values, i64* offsets) {
  typedef register_of<S> R;
  const R pad = R(3);
  switch (what) {
    case 0: return store<L>(values, load<L>((const S*)p));
    case 1: return store<L>(p, load<L>(values));
    case 2: return store<L>(values, load_range<L>((const S*)p, lo, hi, pad));
    case 3: return store<L>(values, load_range<L>((const S*)p, lo, hi, R(0)));
    case 4: return store_range<L>(p, load<L>(values), lo, hi);
  }
  if constexpr (L == full) switch (what) {
    case 5: return store<L>(values, load_strided<L>((const S*)p, a));
    case 6: return store_strided<L>(p, load<L>(values), a);
    case 7: return store<L>(values, load_strided_range<L>((const S*)p, a, lo, hi, pad));
    case 8: return store_strided_range<L>(p, load<L>(values), a, lo, hi);
    case 9: return store<L>(values, gather<L>((const S*)p, load<L>(offsets), range_mask<L>(lo, hi), pad));
    case 10: return scatter<L>(p, load<L>(offsets), load<L>(values), range_mask<L>(lo, hi));
    case 11: return scatter_add<L>(p, load<L>(offsets), load<L>(values), range_mask<L>(lo, hi));
    case 12: return scatter_max<L>(p, load<L>(offsets), load<L>(values), range_mask<L>(lo, hi));
    case 13: return scatter_min<L>(p, load<L>(offsets), load<L>(values), range_mask<L>(lo, hi));
    case 14: store_stream<L>(p, load<L>(values)); return stream_fence();
    case 15: for (i64 k = 0; k < L; ++k) values[k] = load1((const S*)p + k); return;
    case 16: for (i64 k = 0; k < L; ++k) store1(p + k, values[k]); return;
  }
}
#define ACCESS(name, S)                                                                                              \
  EXPORT void access_##name(int lanes, int what, S* p, i64 a, i64 lo, i64 hi, register_of<S>* v, i64* offsets) {     \
    if (lanes == 1) access<1>(what, p, a, lo, hi, v, offsets);                                                       \
    if (lanes == 4) access<4>(what, p, a, lo, hi, v, offsets);                                                       \
    if (lanes == full) access<full>(what, p, a, lo, hi, v, offsets);                                                 \
    if (lanes == 2 * full) access<2 * full>(what, p, a, lo, hi, v, offsets);                                         \
  }                                                                                                                  \
  EXPORT void expand_##name(const S* p, register_of<S>* out, i64 count) {                                            \
    for (i64 k = 0; k < count; k += 16) store<16>(out + k, load<16>(p + k));                                         \
  }                                                                                                                  \
  EXPORT void contract_##name(const register_of<S>* p, S* out, i64 count) {                                          \
    for (i64 k = 0; k < count; k += 16) store<16>(out + k, load<16>(p + k));                                         \
  }
ACCESS(f32, float)
ACCESS(f64, double)
ACCESS(i8, i8)
ACCESS(i16, i16)
ACCESS(i32, i32)
ACCESS(i64, i64)
ACCESS(u8, u8)
ACCESS(u16, u16)
ACCESS(u32, u32)
ACCESS(u64, u64)
ACCESS(f16, f16)
ACCESS(bf16, bf16)
ACCESS(f8e4m3, f8e4m3)
ACCESS(f8e5m2, f8e5m2)
ACCESS(bool8, bool8)
EXPORT void contract_rounded_bf16(const float* p, bf16* out, i64 count) {
  for (i64 k = 0; k < count; k += 16) store<16>(rounding(out + k), load<16>(p + k));
}

// Elementwise functions, with L lanes and as scalars ----------------------------------------------------------------

// LANES is 16 (pairs of registers on the smaller instruction sets) for short functions, one register for long ones.
#define UNARY_ON(name, T, suffix, LANES)                                                                             \
  EXPORT void name##_##suffix(const T* x, T* y, i64 count) {                                                         \
    for (i64 k = 0; k < count; k += LANES) store<LANES>(y + k, od::name(load<LANES>(x + k)));                        \
  }                                                                                                                  \
  EXPORT void name##_scalar_##suffix(const T* x, T* y, i64 count) {                                                  \
    for (i64 k = 0; k < count; ++k) y[k] = od::name(x[k]);                                                           \
  }
#define BINARY_ON(name, T, suffix, LANES)                                                                            \
  EXPORT void name##_##suffix(const T* x, const T* z, T* y, i64 count) {                                             \
    for (i64 k = 0; k < count; k += LANES)                                                                           \
      store<LANES>(y + k, od::name(load<LANES>(x + k), load<LANES>(z + k)));                                         \
  }                                                                                                                  \
  EXPORT void name##_scalar_##suffix(const T* x, const T* z, T* y, i64 count) {                                      \
    for (i64 k = 0; k < count; ++k) y[k] = od::name(x[k], z[k]);                                                     \
  }
#define UNARY_FLOATS(name) UNARY_ON(name, float, f32, 16) UNARY_ON(name, double, f64, 16)
#define BINARY_FLOATS(name) BINARY_ON(name, float, f32, 16) BINARY_ON(name, double, f64, 16)
#define BINARY_INTEGERS(name)                                                                                        \
  BINARY_ON(name, i32, i32, 16) BINARY_ON(name, u32, u32, 16) BINARY_ON(name, i64, i64, 16) BINARY_ON(name, u64, u64, 16)
#define INTEGER_DIVISION(name)                                                                                       \
  BINARY_ON(name, i32, i32, native_lanes<i32>) BINARY_ON(name, u32, u32, native_lanes<u32>)                          \
  BINARY_ON(name, i64, i64, native_lanes<i64>) BINARY_ON(name, u64, u64, native_lanes<u64>)
#define ELEMENTARY(name) UNARY_ON(name, float, f32, native_lanes<float>) UNARY_ON(name, double, f64, native_lanes<double>)
#define ELEMENTARY_2(name) BINARY_ON(name, float, f32, native_lanes<float>) BINARY_ON(name, double, f64, native_lanes<double>)

UNARY_FLOATS(abs)
UNARY_FLOATS(floor)
UNARY_FLOATS(ceil)
UNARY_FLOATS(trunc)
UNARY_FLOATS(rint)
UNARY_FLOATS(sqrt)
UNARY_FLOATS(rsqrt)
UNARY_ON(abs, i32, i32, 16)
UNARY_ON(abs, i64, i64, 16)
UNARY_ON(round_f16, float, f32, 16)
UNARY_ON(round_bf16, float, f32, 16)
UNARY_ON(round_f8e4m3, float, f32, 16)
UNARY_ON(round_f8e5m2, float, f32, 16)
UNARY_ON(wrap_i8, i32, i32, 16)
UNARY_ON(wrap_u8, i32, i32, 16)
UNARY_ON(wrap_i16, i32, i32, 16)
UNARY_ON(wrap_u16, i32, i32, 16)
BINARY_FLOATS(min)
BINARY_FLOATS(max)
BINARY_INTEGERS(min)
BINARY_INTEGERS(max)
BINARY_FLOATS(copysign)
ELEMENTARY_2(floordiv)
ELEMENTARY_2(floormod)
INTEGER_DIVISION(floordiv)
INTEGER_DIVISION(floormod)
BINARY_INTEGERS(shift_left)
BINARY_INTEGERS(shift_right)

ELEMENTARY(exp)
ELEMENTARY(exp2)
ELEMENTARY(expm1)
ELEMENTARY(log)
ELEMENTARY(log2)
ELEMENTARY(log10)
ELEMENTARY(log1p)
ELEMENTARY(sin)
ELEMENTARY(cos)
ELEMENTARY(tan)
ELEMENTARY(tanh)
ELEMENTARY(sigmoid)
ELEMENTARY(erf)
ELEMENTARY(atan)
ELEMENTARY(asin)
ELEMENTARY(acos)
ELEMENTARY(sinh)
ELEMENTARY(cosh)
ELEMENTARY_2(pow)
ELEMENTARY_2(atan2)

// Comparisons, selections and predicates, packed into bits so that one function covers them.
template <class T> static void relations(const T* x, const T* z, i32* bits, T* chosen, i64 count) {
  for (i64 k = 0; k < count; k += 16) {
    const auto a = load<16>(x + k), b = load<16>(z + k);
    mask<16> r = (eq(a, b) & 1) | (ne(a, b) & 2) | (lt(a, b) & 4) | (le(a, b) & 8) | (gt(a, b) & 16) | (ge(a, b) & 32);
    r = r | (to_mask(a) & 64) | (mask_to<i32>(lt(a, b)) << 7);
    if constexpr (is_float<T>) r = r | (isnan(a) & 256) | (isinf(a) & 512) | (isfinite(a) & 1024);
    r = r | (convert<i32>(mask_to<T>(gt(a, b))) << 11);
    store<16>(bits + k, r);
    store<16>(chosen + k, select(lt(a, b), a, b));
  }
}
EXPORT void relations_f32(const float* x, const float* z, i32* b, float* c, i64 n) { relations(x, z, b, c, n); }
EXPORT void relations_f64(const double* x, const double* z, i32* b, double* c, i64 n) { relations(x, z, b, c, n); }
EXPORT void relations_i32(const i32* x, const i32* z, i32* b, i32* c, i64 n) { relations(x, z, b, c, n); }
EXPORT void relations_u64(const u64* x, const u64* z, i32* b, u64* c, i64 n) { relations(x, z, b, c, n); }

// Every conversion between register types.
#define CONVERT_ON(A, from, B, to)                                                                                   \
  EXPORT void convert_##from##_##to(const A* x, B* y, i64 count) {                                                   \
    for (i64 k = 0; k < count; k += 16) store<16>(y + k, convert<B>(load<16>(x + k)));                               \
  }
#define CONVERT_FROM(A, from)                                                                                        \
  CONVERT_ON(A, from, float, f32) CONVERT_ON(A, from, double, f64) CONVERT_ON(A, from, i32, i32)                     \
  CONVERT_ON(A, from, u32, u32) CONVERT_ON(A, from, i64, i64) CONVERT_ON(A, from, u64, u64)
CONVERT_FROM(float, f32)
CONVERT_FROM(double, f64)
CONVERT_FROM(i32, i32)
CONVERT_FROM(u32, u32)
CONVERT_FROM(i64, i64)
CONVERT_FROM(u64, u64)
EXPORT void convert_odd_f16(const double* x, f16* y, i64 count) {
  for (i64 k = 0; k < count; k += 16) store<16>(y + k, convert_odd(load<16>(x + k)));
}

EXPORT void fma_f32(const float* a, const float* b, const float* c, float* y, i64 count) {
  for (i64 k = 0; k < count; k += 16) store<16>(y + k, fma(load<16>(a + k), load<16>(b + k), load<16>(c + k)));
}
EXPORT void fma_f64(const double* a, const double* b, const double* c, double* y, i64 count) {
  for (i64 k = 0; k < count; k += 16) store<16>(y + k, fma(load<16>(a + k), load<16>(b + k), load<16>(c + k)));
}
#define INVARIANT_DIVIDE(S, T, L)                                                                                    \
  EXPORT void invariant_divide_##S(const T* a, const T* b, T* y, i64 count) {                                        \
    for (i64 k = 0; k < count; k += L)                                                                               \
      store<L>(y + k, invariant_divide(load<L>(a + k), load<L>(b + k), invariant_inverse(load<L>(b + k))));          \
  }
INVARIANT_DIVIDE(f32, float, 4)
INVARIANT_DIVIDE(f64, double, 2)

// Reductions: add, mul, min, max, and, or of L lanes; scans of 16.
template <class T, int L> static void reductions(const T* x, T* out) {
  const auto v = load<L>(x);
  out[0] = reduce_add(v);
  out[1] = reduce_mul(v);
  out[2] = reduce_min(v);
  out[3] = reduce_max(v);
  if constexpr (!is_float<T>) {
    out[4] = reduce_and(v);
    out[5] = reduce_or(v);
  }
}
#define REDUCE(T, suffix)                                                                                            \
  EXPORT void reduce_##suffix(int lanes, const T* x, T* out) {                                                       \
    if (lanes == 1) reductions<T, 1>(x, out);                                                                        \
    if (lanes == 4) reductions<T, 4>(x, out);                                                                        \
    if (lanes == 64) reductions<T, 64>(x, out);                                                                      \
  }                                                                                                                  \
  EXPORT void scan_##suffix(const T* x, T* out) {                                                                    \
    const auto v = load<16>(x);                                                                                      \
    store<16>(out, scan_add(v));                                                                                     \
    store<16>(out + 16, scan_mul(v));                                                                                \
    store<16>(out + 32, scan_min(v));                                                                                \
    store<16>(out + 48, scan_max(v));                                                                                \
  }
REDUCE(float, f32)
REDUCE(double, f64)
REDUCE(i32, i32)
REDUCE(u64, u64)
EXPORT int any_all(const i32* m) {
  return any(load<16>(m)) | all(load<16>(m)) << 1 | any(load<4>(m)) << 2 | all(load<4>(m)) << 3 |
         any(load<64>(m)) << 4 | all(load<64>(m)) << 5 | any(load<1>(m)) << 6 | all(load<1>(m)) << 7;
}

EXPORT void philox_words(i64 seed, const i64* counter, const i64* upper, u32* out, i64 count) {
  for (i64 k = 0; k < count; k += 16) {
    const auto r = philox4<16>(seed, load<16>(counter + k), load<16>(upper + k));
    for (int w = 0; w < 4; ++w) store<16>(out + w * count + k, r.word[w]);
  }
}
EXPORT void philox_uniform(i64 seed, const i64* counter, u32* words, float* out, i64 count) {
  for (i64 k = 0; k < count; k += 16) {
    const auto r = philox<16>(seed, load<16>(counter + k));
    store<16>(words + k, r);
    store<16>(out + k, uniform(r));
  }
}

// parallel_for over a host that hands out fixed pieces in this thread.
static opdsl_i32 serial(const opdsl_runtime*, opdsl_i64 count, opdsl_i64 chunk, opdsl_i64, opdsl_body body, void* closure) {
  char scratch[64];
  for (i64 k = 0; k < count; k += chunk) body(closure, k, k + chunk < count ? k + chunk : count, scratch);
  return OPDSL_OK;
}
EXPORT i64 parallel_sum(i64 count, i64 chunk) {
  opdsl_runtime runtime = {};
  runtime.parallel_for = serial;
  i64 sum = 0;
  parallel_for(&runtime, count, chunk, 64, [&](i64 begin, i64 end, char* scratch) {
    scratch[0] = 1;
    for (i64 k = begin; k < end; ++k) sum += k;
  });
  return sum;
}

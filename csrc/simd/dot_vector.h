// The few vector operations that the dot kernels need, as overloads on plain GCC/Clang vector types. Multiply-add is
// explicit where the ISA has it, so that results do not depend on the -ffp-contract setting of the generated file.
#ifndef OPDSL_DOT_VECTOR_H
#define OPDSL_DOT_VECTOR_H

#include "types.h"

// Not cloned either: a copy of a micro-kernel for each constant argument costs compile time and gains nothing.
#if defined(__clang__)
#define OD_NOINLINE static __attribute__((noinline, unused))
#else
#define OD_NOINLINE static __attribute__((noinline, noclone, unused))
#endif
#define OD_UNROLL _Pragma("GCC unroll 32")

namespace od {

// The shape of the register tile: `rows` x `vectors` accumulators. 12 x 2 leaves 8 of 32 registers for operands; the
// 16-register ISAs take what fits. `columns` is the width of a packed panel.
template <class T>
struct dot_config {
  static constexpr int lanes = native_lanes<T>;
#if defined(OD_AVX512)
  static constexpr int rows = 12, vectors = 2;
#elif defined(__aarch64__)
  static constexpr int rows = 8, vectors = 3;
#elif defined(OD_AVX2) && defined(OD_HAS_FMA)
  static constexpr int rows = 6, vectors = 2;
#else
  static constexpr int rows = 4, vectors = 2;
#endif
  static constexpr int columns = lanes * vectors;
  typedef vec<T, lanes> vector;
  // At any address, aliasing anything.
  typedef T loose __attribute__((vector_size(native_bytes), aligned(1), may_alias));
};

template <class T>
OD_INLINE typename dot_config<T>::vector dot_load(const T* p) {
  return *(const typename dot_config<T>::loose*)p;
}

template <class T>
OD_INLINE void dot_store(T* p, typename dot_config<T>::vector v) {
  *(typename dot_config<T>::loose*)p = v;
}

// x - 0 is x for every x (also -0), and both compilers fold it into a broadcast load.
template <class T>
OD_INLINE typename dot_config<T>::vector dot_broadcast(T x) {
  return x - typename dot_config<T>::vector{};
}

typedef dot_config<float>::vector dot_f32;
typedef dot_config<double>::vector dot_f64;

#if defined(OD_AVX512)

OD_INLINE dot_f32 dot_fma(dot_f32 a, dot_f32 b, dot_f32 c) {
  return __builtin_ia32_vfmaddps512_mask(a, b, c, (unsigned short)-1, 4);
}
OD_INLINE dot_f64 dot_fma(dot_f64 a, dot_f64 b, dot_f64 c) {
  return __builtin_ia32_vfmaddpd512_mask(a, b, c, (unsigned char)-1, 4);
}
// The first n lanes (0 <= n <= lanes); the others are zero, and their memory is not touched.
OD_INLINE dot_f32 dot_load_part(const float* p, i64 n) {
  return __builtin_ia32_loadups512_mask((const float*)p, dot_f32{}, (unsigned short)((1u << n) - 1));
}
OD_INLINE dot_f64 dot_load_part(const double* p, i64 n) {
  return __builtin_ia32_loadupd512_mask((const double*)p, dot_f64{}, (unsigned char)((1u << n) - 1));
}
OD_INLINE void dot_store_part(float* p, dot_f32 v, i64 n) {
  __builtin_ia32_storeups512_mask(p, v, (unsigned short)((1u << n) - 1));
}
OD_INLINE void dot_store_part(double* p, dot_f64 v, i64 n) {
  __builtin_ia32_storeupd512_mask(p, v, (unsigned char)((1u << n) - 1));
}

#else

#if defined(OD_AVX2) && defined(OD_HAS_FMA)
OD_INLINE dot_f32 dot_fma(dot_f32 a, dot_f32 b, dot_f32 c) { return __builtin_ia32_vfmaddps256(a, b, c); }
OD_INLINE dot_f64 dot_fma(dot_f64 a, dot_f64 b, dot_f64 c) { return __builtin_ia32_vfmaddpd256(a, b, c); }
#elif defined(__aarch64__) && !defined(__clang__)
OD_INLINE dot_f32 dot_fma(dot_f32 a, dot_f32 b, dot_f32 c) { return __builtin_aarch64_fmav4sf(a, b, c); }
OD_INLINE dot_f64 dot_fma(dot_f64 a, dot_f64 b, dot_f64 c) { return __builtin_aarch64_fmav2df(a, b, c); }
#elif defined(__aarch64__)
OD_INLINE dot_f32 dot_fma(dot_f32 a, dot_f32 b, dot_f32 c) { return __builtin_elementwise_fma(a, b, c); }
OD_INLINE dot_f64 dot_fma(dot_f64 a, dot_f64 b, dot_f64 c) { return __builtin_elementwise_fma(a, b, c); }
#else
OD_INLINE dot_f32 dot_fma(dot_f32 a, dot_f32 b, dot_f32 c) { return a * b + c; }
OD_INLINE dot_f64 dot_fma(dot_f64 a, dot_f64 b, dot_f64 c) { return a * b + c; }
#endif

template <class T>
OD_INLINE typename dot_config<T>::vector dot_load_part(const T* p, i64 n) {
  typename dot_config<T>::vector v{};
  for (i64 i = 0; i < n; i++) v[i] = p[i];
  return v;
}
template <class T>
OD_INLINE void dot_store_part(T* p, typename dot_config<T>::vector v, i64 n) {
  for (i64 i = 0; i < n; i++) p[i] = v[i];
}

#endif

}  // namespace od
#endif

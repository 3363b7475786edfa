// The register tile of each instruction set, and the few vector operations that the dot kernels need.
#ifndef OPDSL_DOT_VECTOR_H
#define OPDSL_DOT_VECTOR_H

#include "memory.h"

// Not cloned either: a copy of a micro-kernel for each constant argument costs compile time and gains nothing.
#if defined(__clang__)
#define OD_NOINLINE static __attribute__((noinline, unused))
#else
#define OD_NOINLINE static __attribute__((noinline, noclone, unused))
#endif
#define OD_UNROLL _Pragma("GCC unroll 32")

namespace od {

// How a product is computed. float and double stand for themselves; the others take several steps of k at once, as
// groups that fill 32 bits: `pairs` two 16-bit integers, `quads` four bytes.
struct pairs {};
struct quads {};

template <class T>
struct dot_types {
  typedef T element, result;
  static constexpr int group = 1;
};
template <>
struct dot_types<pairs> {
  typedef i32 element, result;
  static constexpr int group = 2;
};
template <>
struct dot_types<quads> {
  typedef i32 element, result;
  static constexpr int group = 4;
};

// The register tile: `rows` x `vectors` accumulators. 6 x 4 leaves 8 of 32 registers for operands and needs the fewest
// instructions, which counts where two hardware threads share a core; the 16-register ISAs take what fits. `columns` is
// the width of a packed panel.
template <class T>
struct dot_config {
  typedef typename dot_types<T>::element element;
  typedef typename dot_types<T>::result result;
  static constexpr int lanes = native_lanes<element>;
#if defined(OD_AVX512)
  static constexpr int rows = 6, vectors = 4;
#elif defined(__aarch64__)
  static constexpr int rows = 8, vectors = 3;
#elif defined(OD_AVX2)
  static constexpr int rows = 6, vectors = 2;
#else
  static constexpr int rows = 4, vectors = 2;
#endif
  static constexpr int columns = lanes * vectors;
  typedef vec<element, lanes> vector;
  typedef element anywhere __attribute__((vector_size(native_bytes), aligned(1), may_alias));
};

// The micro-kernels are mostly these three, so they are as shallow as can be: every level of inlining shows in the
// compile time.
template <class T>
OD_INLINE typename dot_config<T>::vector dot_load(const T* p) {
  return *(const typename dot_config<T>::anywhere*)p;
}

template <class T>
OD_INLINE void dot_store(T* p, typename dot_config<T>::vector v) {
  *(typename dot_config<T>::anywhere*)p = v;
}

// x - 0 is x for every x (also -0), and both compilers fold it into a broadcast load.
template <class T>
OD_INLINE typename dot_config<T>::vector dot_broadcast(T x) {
  return x - typename dot_config<T>::vector{};
}

// The compilers' names for one instruction.
#if defined(__clang__)
#define OD_VNNI_PAIRS_512 __builtin_ia32_vpdpwssd512
#define OD_VNNI_QUADS_512 __builtin_ia32_vpdpbusd512
#define OD_VNNI_QUADS_256 __builtin_ia32_vpdpbusd256
#define OD_PAIRS_512(a, b) (raw<i32, 16>)__builtin_ia32_pmaddwd512((raw<i16, 32>)(a), (raw<i16, 32>)(b))
#else
#define OD_VNNI_PAIRS_512 __builtin_ia32_vpdpwssd_v16si
#define OD_VNNI_QUADS_512 __builtin_ia32_vpdpbusd_v16si
#define OD_VNNI_QUADS_256 __builtin_ia32_vpdpbusd_v8si
#define OD_PAIRS_512(a, b) \
  __builtin_ia32_pmaddwd512_mask((raw<i16, 32>)(a), (raw<i16, 32>)(b), raw<i32, 16>{}, (unsigned short)-1)
#endif

// c + a * b. Two roundings where the ISA has no fused multiply-add: there, exact emulation would cost far too much.
template <class T, class V>
OD_INLINE V dot_multiply_add(V a, V b, V c) {
  if constexpr (same<T, pairs>) {
#if defined(__AVX512VNNI__) && defined(OD_AVX512)
    return OD_VNNI_PAIRS_512(c, a, b);
#elif defined(OD_AVX512)
    return c + OD_PAIRS_512(a, b);
#elif defined(OD_AVX2)
    return c + __builtin_ia32_pmaddwd256((raw<i16, 16>)a, (raw<i16, 16>)b);
#elif defined(__x86_64__)
    return c + __builtin_ia32_pmaddwd128((raw<i16, 8>)a, (raw<i16, 8>)b);
#else
    return c + (a << 16 >> 16) * (b << 16 >> 16) + (a >> 16) * (b >> 16);
#endif
  } else if constexpr (same<T, quads>) {
    // a unsigned, b signed; the sum of the four products is not saturated.
#if defined(__AVX512VNNI__) && defined(OD_AVX512)
    return OD_VNNI_QUADS_512(c, a, b);
#elif defined(__AVXVNNI__) && defined(OD_AVX2)
    return OD_VNNI_QUADS_256(c, a, b);
#else
    return c;
#endif
  } else {
#if defined(OD_HAS_FMA)
    return detail::fma_register(a, b, c);
#else
    return a * b + c;
#endif
  }
}

#if (defined(__AVX512VNNI__) && defined(OD_AVX512)) || (defined(__AVXVNNI__) && defined(OD_AVX2))
#define OD_DOT_QUADS 1
#endif

// A register of S at p, as T; with n, only the first n lanes, the others zero.
template <class T, class S>
OD_INLINE typename dot_config<T>::vector dot_load_as(const S* p) {
  return convert<T>(load<native_lanes<T>>(p));
}
template <class T, class S>
OD_INLINE typename dot_config<T>::vector dot_load_as(const S* p, i64 n) {
  return convert<T>(load_range<native_lanes<T>>(p, 0, n, 0));
}
template <class T, class S>
OD_INLINE T dot_value_as(const S* p) {
  return T(load1(p));
}

}  // namespace od
#endif

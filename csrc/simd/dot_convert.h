// Loads that widen to the type a dot accumulates in.
#ifndef OPDSL_DOT_CONVERT_H
#define OPDSL_DOT_CONVERT_H

#include "dot_vector.h"

#ifndef OPDSL_HAVE_HALF_STORAGE
#define OPDSL_HAVE_HALF_STORAGE
namespace od {
struct f16 {
  unsigned short bits;
};
struct bf16 {
  unsigned short bits;
};
}  // namespace od
#endif

namespace od {

// 16-bit patterns to f32 vectors of the native width.
typedef dot_config<float>::vector dot_f32;
typedef raw<u16, native_lanes<float>> dot_half_bits;
typedef raw<u32, native_lanes<float>> dot_f32_bits;
typedef u16 dot_loose_half_bits __attribute__((vector_size(native_bytes / 2), aligned(1), may_alias));

OD_INLINE dot_f32 dot_widen(dot_half_bits bits, bf16) {
  return (dot_f32)(__builtin_convertvector(bits, dot_f32_bits) << 16);
}

OD_INLINE dot_f32 dot_widen(dot_half_bits bits, f16) {
#if defined(OD_AVX512)
  return __builtin_ia32_vcvtph2ps512_mask((raw<i16, 16>)bits, dot_f32{}, (unsigned short)-1, 4);
#elif defined(OD_AVX2) && defined(__F16C__)
  return __builtin_ia32_vcvtph2ps256((raw<i16, 8>)bits);
#else
  // Exponent and mantissa shifted into place and scaled by 2^112: exact for normal and denormal numbers; infinity and
  // NaN get their exponent afterwards.
  const dot_f32_bits wide = __builtin_convertvector(bits, dot_f32_bits);
  const dot_f32_bits magnitude = (wide & 0x7fff) << 13;
  dot_f32_bits value = (dot_f32_bits)((dot_f32)magnitude * 0x1p112f);
  value |= (dot_f32_bits)(magnitude >= 0x0f800000u) & 0x7f800000u;
  return (dot_f32)(value | (wide & 0x8000) << 16);
#endif
}

// A register of S at p, as T.
template <class T, class S>
OD_INLINE typename dot_config<T>::vector dot_load_as(const S* p) {
  if constexpr (same<T, S>) return dot_load(p);
  else return dot_widen(*(const dot_loose_half_bits*)p, S());
}

// Its first n lanes, the others zero.
template <class T, class S>
OD_INLINE typename dot_config<T>::vector dot_load_part_as(const S* p, i64 n) {
  if constexpr (same<T, S>) {
    return dot_load_part(p, n);
  } else {
    dot_half_bits bits{};
    for (i64 i = 0; i < n; i++) bits[i] = p[i].bits;
    return dot_widen(bits, S());
  }
}

template <class T, class S>
OD_INLINE T dot_value_as(S x) {
  if constexpr (same<T, S>) return x;
  else return dot_widen(dot_half_bits{} + x.bits, S())[0];
}

}  // namespace od
#endif

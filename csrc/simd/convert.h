// Storage types and their conversion to and from register types. Every rounding is to nearest even and equals what
// NumPy's and ml_dtypes' astype give, bit for bit (NaNs stay NaNs of the same sign; payloads are not promised).
#ifndef OPDSL_SIMD_CONVERT_H
#define OPDSL_SIMD_CONVERT_H

#include "types.h"

namespace od {

struct f16 { u16 bits; };     // IEEE binary16
struct bf16 { u16 bits; };    // the upper half of a binary32
struct rounded_bf16 { u16 bits; };  // the same in memory; storing rounds, so it takes what round_bf16 was not called for
struct f8e4m3 { u8 bits; };   // OCP E4M3: no infinity, NaN is 0x7f, overflow gives NaN
struct f8e5m2 { u8 bits; };   // OCP E5M2: the upper half of a binary16
struct bool8 { u8 bits; };    // 0 or 1; in registers a mask

namespace detail {

template <class S> struct storage { typedef S in_register; typedef S image; };
template <> struct storage<f16> { typedef float in_register; typedef u16 image; };
template <> struct storage<bf16> { typedef float in_register; typedef u16 image; };
template <> struct storage<rounded_bf16> { typedef float in_register; typedef u16 image; };
template <> struct storage<f8e4m3> { typedef float in_register; typedef u8 image; };
template <> struct storage<f8e5m2> { typedef float in_register; typedef u8 image; };
template <> struct storage<bool8> { typedef i32 in_register; typedef u8 image; };
template <> struct storage<i8> { typedef i32 in_register; typedef i8 image; };
template <> struct storage<i16> { typedef i32 in_register; typedef i16 image; };
template <> struct storage<u8> { typedef i32 in_register; typedef u8 image; };
template <> struct storage<u16> { typedef i32 in_register; typedef u16 image; };

}  // namespace detail

template <class S> using register_of = typename detail::storage<S>::in_register;
// The arithmetic type that has the storage type's bits.
template <class S> using image_of = typename detail::storage<S>::image;

namespace detail {

// Small floats in the low bits of u32 lanes. Normal numbers only need their exponent moved; subnormal ones are an
// integer times a power of two, which adding and subtracting a float of the right exponent computes exactly.
template <class U> OD_INLINE auto f16_to_float(U h) {
  const U magnitude = (h & 0x7fffu) << 13, normal = magnitude + (112u << 23);
  const U special = magnitude + (224u << 23);
  const auto base = bits_as<float>(constant<U>(113u << 23));
  const U tiny = bits_as<u32>(bits_as<float>(magnitude + (113u << 23)) - base);
  U r = select(convert<i32>(magnitude >= (0x7c00u << 13)), special, normal);
  r = select(convert<i32>(magnitude < (0x0400u << 13)), tiny, r);
  return bits_as<float>(r | (h & 0x8000u) << 16);
}
template <class U> OD_INLINE auto f8e4m3_to_float(U b) {
  const U magnitude = (b & 0x7fu) << 20;
  const auto base = bits_as<float>(constant<U>(121u << 23));
  const U tiny = bits_as<u32>(bits_as<float>(magnitude + (121u << 23)) - base);
  U r = select(convert<i32>(magnitude < (0x08u << 20)), tiny, U(magnitude + (120u << 23)));
  r = select(convert<i32>(magnitude == (0x7fu << 20)), constant<U>(0x7fc00000u), r);
  return bits_as<float>(r | (b & 0x80u) << 24);
}
template <class U> OD_INLINE auto f8e5m2_to_float(U b) { return f16_to_float(b << 8); }

// The other way. `Dropped` mantissa bits are rounded off; below the smallest normal number the float adder rounds:
// adding 2^(23 + exponent of the unit) leaves the wanted integer in the low bits.
template <int Dropped, u32 Bias, class V> OD_INLINE auto round_magnitude(V x) {
  auto a = bits_as<u32>(x) & 0x7fffffffu;
  typedef decltype(a) U;
  const U odd = (a >> Dropped) & 1u;
  const U normal = (a + odd + ((1u << (Dropped - 1)) - 1u) - ((127u - Bias) << 23)) >> Dropped;
  constexpr u32 magic = (127u - Bias + 1u + u32(Dropped)) << 23;
  const U tiny = bits_as<u32>(bits_as<float>(a) + bits_as<float>(constant<U>(magic))) - magic;
  return select(convert<i32>(a < ((128u - Bias) << 23)), tiny, normal);
}
template <class V> OD_INLINE auto float_to_f16(V x) {
  auto r = round_magnitude<13, 15>(x);
  typedef decltype(r) U;
  const U bits = bits_as<u32>(x), a = bits & 0x7fffffffu;
  r = select(convert<i32>(a >= (143u << 23)), constant<U>(0x7c00u), r);
  r = select(convert<i32>(a > (255u << 23)), U(((a >> 13) & 0x3ffu) | 0x7e00u), r);
  return r | ((bits >> 16) & 0x8000u);
}
template <class V> OD_INLINE auto float_to_f8e5m2(V x) {
  auto r = round_magnitude<21, 15>(x);
  typedef decltype(r) U;
  const U bits = bits_as<u32>(x), a = bits & 0x7fffffffu;
  r = select(convert<i32>(a >= (143u << 23)), constant<U>(0x7cu), r);
  r = select(convert<i32>(a > (255u << 23)), constant<U>(0x7eu), r);
  return r | ((bits >> 24) & 0x80u);
}
template <class V> OD_INLINE auto float_to_f8e4m3(V x) {
  auto r = round_magnitude<20, 7>(x);
  typedef decltype(r) U;
  const U bits = bits_as<u32>(x), a = bits & 0x7fffffffu;
  r = select(convert<i32>(a > 0x43e80000u), constant<U>(0x7fu), r);  // beyond 464, the middle of 448 and 480
  return r | ((bits >> 24) & 0x80u);
}
// In the upper half of the lane.
template <class V> OD_INLINE auto float_to_bf16_upper(V x) {
  const auto bits = bits_as<u32>(x);
  typedef decltype(bits_as<u32>(x)) U;
  const U rounded = bits + ((bits >> 16) & 1u) + 0x7fffu;
  return select(convert<i32>((bits & 0x7fffffffu) > (255u << 23)), U((bits & 0x80000000u) | 0x7fc00000u), rounded);
}

#if defined(__F16C__) && defined(__x86_64__)
#define OD_F16C 1
// Whole registers of 4, 8 or 16 lanes.
template <int L> OD_INLINE vec<float, L> f16c_to_float(raw<u16, L> h) {
  if constexpr (L == 4) return __builtin_ia32_vcvtph2ps((raw<i16, 8>)repeat_lanes<4>(h, up_to<8>{}));
  else if constexpr (L == 8) return __builtin_ia32_vcvtph2ps256((raw<i16, 8>)h);
#if defined(OD_AVX512)
  else return __builtin_ia32_vcvtph2ps512_mask((raw<i16, 16>)h, vec<float, 16>{}, -1, 4);
#endif
}
template <int L> OD_INLINE raw<u16, L> float_to_f16c(vec<float, L> x) {
  if constexpr (L == 4) return (raw<u16, 4>)low_lanes(__builtin_ia32_vcvtps2ph(x, 0), up_to<4>{});
  else if constexpr (L == 8) return (raw<u16, 8>)__builtin_ia32_vcvtps2ph256(x, 0);
#if defined(OD_AVX512)
  else return (raw<u16, 16>)__builtin_ia32_vcvtps2ph512_mask(x, 0, raw<i16, 16>{}, -1);
#endif
}
#endif

// Integer lanes of 1 or 2 bytes to 4 bytes and back. GCC 12 takes these apart above 128 bits: name the instruction.
template <class To, int L, class B> OD_INLINE vec<To, L> widen(B image) {
#if defined(OD_GCC_X86) && defined(OD_AVX2)
  constexpr bool byte = sizeof(B) == L, sign = is_signed<element<B>>;
  (void)byte;
  (void)sign;
#if defined(OD_AVX512)
  if constexpr (L == 16) {
    typedef raw<i32, 16> W;
    if constexpr (byte && sign) return (vec<To, L>)__builtin_ia32_pmovsxbd512_mask((raw<char, 16>)image, W{}, -1);
    else if constexpr (byte) return (vec<To, L>)__builtin_ia32_pmovzxbd512_mask((raw<char, 16>)image, W{}, -1);
    else if constexpr (sign) return (vec<To, L>)__builtin_ia32_pmovsxwd512_mask((raw<i16, 16>)image, W{}, -1);
    else return (vec<To, L>)__builtin_ia32_pmovzxwd512_mask((raw<i16, 16>)image, W{}, -1);
  } else
#endif
  if constexpr (L == 8 && byte) {
    const raw<char, 16> padded = (raw<char, 16>)repeat_lanes<8>(image, up_to<16>{});
    if constexpr (sign) return (vec<To, L>)__builtin_ia32_pmovsxbd256(padded);
    else return (vec<To, L>)__builtin_ia32_pmovzxbd256(padded);
  } else if constexpr (L == 8) {
    if constexpr (sign) return (vec<To, L>)__builtin_ia32_pmovsxwd256((raw<i16, 8>)image);
    else return (vec<To, L>)__builtin_ia32_pmovzxwd256((raw<i16, 8>)image);
  } else
#endif
  return __builtin_convertvector(image, vec<To, L>);
}
template <class Image, int L, class V> OD_INLINE Image narrow(V v) {
#if defined(OD_GCC_X86) && defined(OD_AVX512)
  if constexpr (L == 16 && sizeof(Image) == 32)
    return (Image)__builtin_ia32_pmovdw512_mask((raw<i32, 16>)v, raw<i16, 16>{}, -1);
  else
#elif defined(OD_GCC_X86) && defined(OD_AVX2)
  // The low bytes of each half, then the halves' four bytes side by side.
  if constexpr (L == 8 && sizeof(Image) == 8) {
    const raw<char, 32> low_bytes = {0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12,
                                     0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12};
    const auto packed = (raw<i32, 8>)__builtin_ia32_pshufb256((raw<char, 32>)v, low_bytes);
    return (Image)__builtin_shufflevector(packed, packed, 0, 4);
  } else
#endif
  return __builtin_convertvector(v, Image);
}

// An image of L lanes (at most one register of register_of<S>) to lanes of the register type, and back.
template <class S, int L> OD_INLINE vec<register_of<S>, L> expand(raw<image_of<S>, L> image) {
  typedef register_of<S> R;
  if constexpr (same<S, R>) return image;
  else if constexpr (L < 4) return shrink<L>(expand<S, 4>(repeat_lanes<L>(image, up_to<4>{})));
#if defined(OD_F16C)
  else if constexpr (same<S, f16>) return f16c_to_float<L>(image);
  else if constexpr (same<S, f8e5m2>)
    return f16c_to_float<L>(__builtin_convertvector(image, raw<u16, L>) << 8);
#endif
  else if constexpr (same<R, float>) {
    const vec<u32, L> bits = widen<u32, L>(image);
    if constexpr (same<S, bf16>) return bits_as<float>(bits << 16);
    else if constexpr (same<S, f16>) return f16_to_float(bits);
    else if constexpr (same<S, f8e4m3>) return f8e4m3_to_float(bits);
    else return f8e5m2_to_float(bits);
  } else {
    const vec<i32, L> v = widen<i32, L>(image);
    if constexpr (same<S, bool8>) return v != constant<vec<i32, L>>(0);
    else return v;
  }
}
// The instruction takes subnormal numbers for zeros, so where there is one all lanes are rounded step by step.
template <int L> OD_INLINE raw<u16, L> float_to_bf16(vec<float, L> x) {
#if defined(__AVX512BF16__) && defined(OD_AVX512) && defined(OD_GCC_X86)
  if constexpr (L == 16) {
    constexpr int subnormal = 0x20;
    if (__builtin_expect(__builtin_ia32_fpclassps512_mask(x, subnormal, -1) == 0, 1)) {
      raw<u16, 16> image;
      __asm__("vcvtneps2bf16 %1, %0" : "=v"(image) : "v"(x));
      return image;
    }
  }
#endif
  return narrow<raw<u16, L>, L>(float_to_bf16_upper(x) >> 16);
}

// A bf16 has been rounded before (round_bf16), as every value of that type is.
template <class S, int L> OD_INLINE raw<image_of<S>, L> contract(vec<register_of<S>, L> v) {
  typedef register_of<S> R;
  typedef raw<image_of<S>, L> image;
  if constexpr (same<S, R>) return v;
  else if constexpr (L == 1) return image{contract<S, 4>(grow<4>(v))[0]};
  else if constexpr (L < 4) return low_lanes(contract<S, 4>(grow<4>(v)), up_to<L>{});
#if defined(OD_F16C)
  else if constexpr (same<S, f16>) return float_to_f16c<L>(v);
#endif
  else if constexpr (same<S, bf16>) return narrow<image, L>(bits_as<u32>(v) >> 16);
  else if constexpr (same<S, rounded_bf16>) return float_to_bf16<L>(v);
  else if constexpr (same<S, f16>) return narrow<image, L>(float_to_f16(v));
  else if constexpr (same<S, f8e4m3>) return narrow<image, L>(float_to_f8e4m3(v));
  else if constexpr (same<S, f8e5m2>) return narrow<image, L>(float_to_f8e5m2(v));
  else if constexpr (same<S, bool8>) return narrow<image, L>(v & 1);
  else return narrow<image, L>(v);
}

struct round_f16_step {
  template <class V> OD_MEMBER V operator()(V x) const {
    return expand<f16, lanes<V>>(contract<f16, lanes<V>>(x));
  }
};
struct round_bf16_step {
  template <class V> OD_MEMBER V operator()(V x) const {
    return bits_as<float>(float_to_bf16_upper(x) & 0xffff0000u);
  }
};
struct round_f8e4m3_step {
  template <class V> OD_MEMBER V operator()(V x) const { return f8e4m3_to_float(float_to_f8e4m3(x)); }
};
struct round_f8e5m2_step {
  template <class V> OD_MEMBER V operator()(V x) const { return f8e5m2_to_float(float_to_f8e5m2(x)); }
};

}  // namespace detail

// Where a store is to round.
OD_INLINE rounded_bf16* rounding(bf16* p) { return (rounded_bf16*)p; }

// Rounding to a storage type and back, in registers.
template <class V> OD_INLINE V round_f16(V x) { return detail::by_register(detail::round_f16_step{}, x); }
template <class V> OD_INLINE V round_bf16(V x) { return detail::by_register(detail::round_bf16_step{}, x); }
template <class V> OD_INLINE V round_f8e4m3(V x) { return detail::by_register(detail::round_f8e4m3_step{}, x); }
template <class V> OD_INLINE V round_f8e5m2(V x) { return detail::by_register(detail::round_f8e5m2_step{}, x); }

template <class V> OD_INLINE V wrap_i8(V x) { return bits_as<i32>(bits_as<u32>(x) << 24) >> 24; }
template <class V> OD_INLINE V wrap_i16(V x) { return bits_as<i32>(bits_as<u32>(x) << 16) >> 16; }
template <class V> OD_INLINE V wrap_u8(V x) { return x & 0xff; }
template <class V> OD_INLINE V wrap_u16(V x) { return x & 0xffff; }

namespace detail {
struct round_to_odd_step {
  template <class V> OD_MEMBER V operator()(V x) const {
    // Clear the bits below a float's and keep "something was there" in the lowest one that stays.
    const auto bits = bits_as<u64>(x);
    typedef decltype(bits_as<u64>(x)) U;
    const U tail = bits & 0x1fffffffull, sticky = select(ne(tail, constant<U>(0)), constant<U>(1ull << 29), constant<U>(0));
    const V odd = bits_as<double>((bits & ~U(constant<U>(0x1fffffffull))) | sticky);
    return select(ne(x, x), x, odd);
  }
};
}  // namespace detail

// double -> float rounded to odd: rounding the result once more to f16, bf16 or f8 then gives what rounding the
// double at once would have given (Boldo & Melquiond 2008). Exact only down to float's normal range, which is far
// below where the small types vanish (bf16 excepted).
template <class V> OD_INLINE auto convert_odd(V x) {
  return convert<float>(detail::by_register(detail::round_to_odd_step{}, x));
}

}  // namespace od

#endif

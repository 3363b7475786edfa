// Counter-based random numbers: Philox 4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as
// 1, 2, 3", SC 2011).
#ifndef OPDSL_SIMD_RANDOM_H
#define OPDSL_SIMD_RANDOM_H

#include "types.h"

namespace od {
namespace detail {

// 32 x 32 -> 64 bits in u64 lanes whose upper halves may hold anything.
template <class W> OD_INLINE W multiply_low(W a, u32 b) {
  constexpr int L = lanes<W>;
  (void)L;
  const W wide_b = constant<W>(b);
#if defined(OD_GCC_X86)
#if defined(OD_AVX512)
  if constexpr (L == 8)
    return (W)__builtin_ia32_pmuludq512_mask((raw<i32, 16>)a, (raw<i32, 16>)wide_b, raw<long long, 8>{}, -1);
#endif
#if defined(OD_AVX2)
  if constexpr (L == 4) return (W)__builtin_ia32_pmuludq256((raw<i32, 8>)a, (raw<i32, 8>)wide_b);
#endif
  if constexpr (L == 2) return (W)__builtin_ia32_pmuludq128((raw<i32, 4>)a, (raw<i32, 4>)wide_b);
#endif
  return (a & 0xffffffffull) * wide_b;
}

// The upper half of a product, the rest of the lane being of no account.
template <class W> OD_INLINE W upper_word(W product) {
#if defined(OD_AVX512) && defined(OD_GCC_X86)
  // Shifts and products share a port, shuffles have another.
  if constexpr (sizeof(W) == 64) return (W)__builtin_ia32_pshufd512_mask((raw<i32, 16>)product, 0xf5, raw<i32, 16>{}, -1);
  else
#endif
  return product >> 32;
}

template <class W> struct philox_words { W word[4]; };

// Rounds `from` to ten on registers of u64 lanes with a 32-bit word in each lower half.
template <class W> OD_INLINE philox_words<W> philox_rounds(philox_words<W> c, u32 key_low, u32 key_high, int from = 0) {
  for (int round = from; round < 10; ++round) {
    const W a = multiply_low(c.word[0], 0xD2511F53u), b = multiply_low(c.word[2], 0xCD9E8D57u);
    c.word[0] = upper_word(b) ^ c.word[1] ^ constant<W>(key_low);
    c.word[2] = upper_word(a) ^ c.word[3] ^ constant<W>(key_high);
    c.word[1] = b;
    c.word[3] = a;
    key_low += 0x9E3779B9u;
    key_high += 0xBB67AE85u;
  }
  return c;
}

}  // namespace detail

template <int L> struct philox_block { vec<u32, L> word[4]; };

// All four output words for counter words (low, high of counter, low, high of upper) and the key (low, high of seed).
template <int L> OD_INLINE philox_block<L> philox4(i64 seed, vec<i64, L> counter, vec<i64, L> upper = vec<i64, L>{}) {
  if constexpr (is_wide<vec<i64, L>>) {
    const auto a = philox4<L / 2>(seed, low_half(counter), low_half(upper));
    const auto b = philox4<L / 2>(seed, high_half(counter), high_half(upper));
    return {{join(a.word[0], b.word[0]), join(a.word[1], b.word[1]), join(a.word[2], b.word[2]), join(a.word[3], b.word[3])}};
  } else {
    typedef vec<u64, L> W;
    const W low = (W)counter, high = (W)upper;
    const auto r = detail::philox_rounds<W>({{low, low >> 32, high, high >> 32}}, u32(u64(seed)), u32(u64(seed) >> 32));
    return {{convert<u32>(r.word[0]), convert<u32>(r.word[1]), convert<u32>(r.word[2]), convert<u32>(r.word[3])}};
  }
}
// Word 0 only: one random number for each counter.
template <int L> OD_INLINE vec<u32, L> philox(i64 seed, vec<i64, L> counter) {
  if constexpr (is_wide<vec<i64, L>>)
    return join(philox<L / 2>(seed, low_half(counter)), philox<L / 2>(seed, high_half(counter)));
  else {
    // The first round by hand, since the upper words are 0.
    typedef vec<u64, L> W;
    const u32 key_low = u32(u64(seed)), key_high = u32(u64(seed) >> 32);
    const W low = (W)counter, a = detail::multiply_low(low, 0xD2511F53u), zero = W{};
    const auto r = detail::philox_rounds<W>({{(low >> 32) ^ constant<W>(key_low), zero, detail::upper_word(a) ^ constant<W>(key_high), a}},
                                            key_low + 0x9E3779B9u, key_high + 0xBB67AE85u, 1);
    return convert<u32>(r.word[0]);
  }
}
OD_INLINE u32 philox(i64 seed, i64 counter) { return philox<1>(seed, vec<i64, 1>{counter})[0]; }

// The upper 24 bits as a float in [0, 1).
template <class V> OD_INLINE auto uniform(V x) {
  const auto r = convert<float>(bits_as<i32>(x >> 8));
  return r * 5.9604644775390625e-08f;
}

}  // namespace od

#endif

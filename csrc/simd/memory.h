// Loads and stores: whole, bounded to a range of lanes, strided, gathered and scattered, atomic, streaming.
// Pointers need the alignment of nothing; a bounded access never touches memory outside its range.
#ifndef OPDSL_SIMD_MEMORY_H
#define OPDSL_SIMD_MEMORY_H

#include "arithmetic.h"
#include "convert.h"

namespace od {
namespace detail {

template <class B> struct anywhere { typedef B type __attribute__((aligned(1), may_alias)); };
template <class B, int L> struct anywhere_vector {
  typedef B type __attribute__((vector_size(sizeof(B) * L), aligned(1), may_alias));
};

template <class B> OD_INLINE B read(const void* p) { return *(const typename anywhere<B>::type*)p; }
template <class B> OD_INLINE void write(void* p, B x) { *(typename anywhere<B>::type*)p = x; }
template <class B, int L> OD_INLINE raw<B, L> read_image(const void* p) {
  return (raw<B, L>)*(const typename anywhere_vector<B, L>::type*)p;
}
template <class B, int L> OD_INLINE void write_image(void* p, raw<B, L> v) {
  *(typename anywhere_vector<B, L>::type*)p = v;
}

// Register-sized pieces only from here: L lanes of register_of<S> fill at most one register.
template <class S, int L> constexpr bool splits = is_wide<vec<register_of<S>, L>>;

#if defined(OD_AVX512) && defined(OD_GCC_X86)
#define OD_MASKED_ACCESS 1
// Bits begin to end. (An and-not would do, but GCC 12 makes it in mask registers where BMI is off.)
OD_INLINE u32 lane_bits(i32 begin, i32 end) { return (~0u << (begin < end ? begin : end)) ^ (~0u << end); }
// Hardware masks a lane's memory access, faults included.
template <class B, int L> OD_INLINE raw<B, L> read_masked(const void* p, u32 bits) {
  typedef raw<B, L> R;
  if constexpr (sizeof(B) == 8) {
    if constexpr (L == 8) return (R)__builtin_ia32_loaddqudi512_mask((const long long*)p, raw<long long, 8>{}, bits);
    else if constexpr (L == 4) return (R)__builtin_ia32_loaddqudi256_mask((const long long*)p, raw<long long, 4>{}, bits);
    else return (R)__builtin_ia32_loaddqudi128_mask((const long long*)p, raw<long long, 2>{}, bits);
  } else if constexpr (sizeof(B) == 4) {
    if constexpr (L == 16) return (R)__builtin_ia32_loaddqusi512_mask((const i32*)p, raw<i32, 16>{}, bits);
    else if constexpr (L == 8) return (R)__builtin_ia32_loaddqusi256_mask((const i32*)p, raw<i32, 8>{}, bits);
    else return (R)__builtin_ia32_loaddqusi128_mask((const i32*)p, raw<i32, 4>{}, bits);
  } else if constexpr (sizeof(B) == 2) {
    if constexpr (L == 16) return (R)__builtin_ia32_loaddquhi256_mask((const i16*)p, raw<i16, 16>{}, bits);
    else return (R)__builtin_ia32_loaddquhi128_mask((const i16*)p, raw<i16, 8>{}, bits);
  } else return (R)__builtin_ia32_loaddquqi128_mask((const char*)p, raw<char, 16>{}, bits);
}
template <class B, int L> OD_INLINE void write_masked(void* p, raw<B, L> v, u32 bits) {
  // Part of a wider register GCC would store by vextracti32x8 and the like, whose mask does not keep them from faulting.
  if constexpr (sizeof(B) * L < 64) asm("" : "+v"(v));
  if constexpr (sizeof(B) == 8) {
    if constexpr (L == 8) __builtin_ia32_storedqudi512_mask((long long*)p, (raw<long long, 8>)v, bits);
    else if constexpr (L == 4) __builtin_ia32_storedqudi256_mask((long long*)p, (raw<long long, 4>)v, bits);
    else __builtin_ia32_storedqudi128_mask((long long*)p, (raw<long long, 2>)v, bits);
  } else if constexpr (sizeof(B) == 4) {
    if constexpr (L == 16) __builtin_ia32_storedqusi512_mask((i32*)p, (raw<i32, 16>)v, bits);
    else if constexpr (L == 8) __builtin_ia32_storedqusi256_mask((i32*)p, (raw<i32, 8>)v, bits);
    else __builtin_ia32_storedqusi128_mask((i32*)p, (raw<i32, 4>)v, bits);
  } else if constexpr (sizeof(B) == 2) {
    if constexpr (L == 16) __builtin_ia32_storedquhi256_mask((i16*)p, (raw<i16, 16>)v, bits);
    else __builtin_ia32_storedquhi128_mask((i16*)p, (raw<i16, 8>)v, bits);
  } else __builtin_ia32_storedquqi128_mask((char*)p, (raw<char, 16>)v, bits);
}
#endif

// Lanes begin <= k < end of an image, the others zero.
template <class B, int L> OD_INLINE raw<B, L> read_range(const void* p, i32 begin, i32 end) {
#if defined(OD_MASKED_ACCESS)
  if constexpr (sizeof(B) * L >= 16)
    return read_masked<B, L>(p, lane_bits(begin, end));
#elif defined(OD_AVX2) && defined(OD_GCC_X86)
  if constexpr (sizeof(B) == 4 && L >= 4) {
    const auto ok = range_mask<L>(begin, end);
    if constexpr (L == 8) return (raw<B, 8>)__builtin_ia32_maskloadd256((const raw<i32, 8>*)p, ok);
    else return (raw<B, 4>)__builtin_ia32_maskloadd((const raw<i32, 4>*)p, ok);
  } else if constexpr (sizeof(B) == 8 && L == 4) {
    const raw<long long, 4> k = {0, 1, 2, 3}, ok = (k >= begin) & (k < end);
    return (raw<B, 4>)__builtin_ia32_maskloadq256((const raw<long long, 4>*)p, ok);
  }
#endif
  if (begin == 0 && end == L) return read_image<B, L>(p);
  union { B lane[L]; raw<B, L> image; } buffer;
  buffer.image = raw<B, L>{};
  for (i32 k = begin; k < end; ++k) buffer.lane[k] = read<B>((const char*)p + i64(k) * i64(sizeof(B)));
  return buffer.image;
}
template <class B, int L> OD_INLINE void write_range(void* p, raw<B, L> v, i32 begin, i32 end) {
#if defined(OD_MASKED_ACCESS)
  if constexpr (sizeof(B) * L >= 16) {
    write_masked<B, L>(p, v, lane_bits(begin, end));
    return;
  }
#elif defined(OD_AVX2) && defined(OD_GCC_X86)
  if constexpr (sizeof(B) == 4 && L >= 4) {
    const auto ok = range_mask<L>(begin, end);
    if constexpr (L == 8) __builtin_ia32_maskstored256((raw<i32, 8>*)p, ok, (raw<i32, 8>)v);
    else __builtin_ia32_maskstored((raw<i32, 4>*)p, ok, (raw<i32, 4>)v);
    return;
  } else if constexpr (sizeof(B) == 8 && L == 4) {
    const raw<long long, 4> k = {0, 1, 2, 3}, ok = (k >= begin) & (k < end);
    __builtin_ia32_maskstoreq256((raw<long long, 4>*)p, ok, (raw<long long, 4>)v);
    return;
  }
#endif
  if (begin == 0 && end == L) return write_image<B, L>(p, v);
  union { B lane[L]; raw<B, L> image; } buffer;
  buffer.image = v;
  for (i32 k = begin; k < end; ++k) write<B>((char*)p + i64(k) * i64(sizeof(B)), buffer.lane[k]);
}

template <class B, int... I> OD_INLINE raw<B, int(sizeof...(I))> read_strided(const B* p, i64 stride, indices<I...>) {
  return raw<B, int(sizeof...(I))>{read<B>(p + I * stride)...};
}
template <class B, class V, int... I> OD_INLINE void write_strided(B* p, i64 stride, V v, indices<I...>) {
  (write<B>(p + I * stride, v[I]), ...);
}

template <class R> OD_INLINE bool known_zero(R x) {
  if constexpr (is_float<R>) return known_zero(bits_as<unsigned_of<R>>(x));
  else return __builtin_constant_p(x) && x == 0;
}
// A pad as a register value: a bool may come as 1 or -1.
template <class S> OD_INLINE register_of<S> pad_value(register_of<S> pad) {
  if constexpr (same<S, bool8>) return pad ? -1 : 0;
  else return pad;
}

}  // namespace detail

template <int L, class S> OD_INLINE vec<register_of<S>, L> load(const S* p) {
  if constexpr (detail::splits<S, L>) return {load<L / 2>(p), load<L / 2>(p + L / 2)};
  else return detail::expand<S, L>(detail::read_image<image_of<S>, L>(p));
}
template <int L, class S> OD_INLINE void store(S* p, vec<register_of<S>, L> v) {
  if constexpr (detail::splits<S, L>) {
    store<L / 2>(p, v.low);
    store<L / 2>(p + L / 2, v.high);
  } else detail::write_image<image_of<S>, L>(p, detail::contract<S, L>(v));
}

// Lane k is p[k] where lo <= k < hi, elsewhere pad.
template <int L, class S>
OD_INLINE vec<register_of<S>, L> load_range(const S* p, i64 lo, i64 hi, register_of<S> pad) {
  const i32 begin = clamp_lane(lo, L), end = clamp_lane(hi, L);
  if constexpr (detail::splits<S, L>)
    return {load_range<L / 2>(p, begin, end, pad),
            load_range<L / 2>((const S*)((const char*)p + L / 2 * sizeof(S)), begin - L / 2, end - L / 2, pad)};
  else {
    typedef vec<register_of<S>, L> V;
    const V v = detail::expand<S, L>(detail::read_range<image_of<S>, L>(p, begin, end));
    if (detail::known_zero(pad)) return v;
    return select(range_mask<L>(begin, end), v, constant<V>(detail::pad_value<S>(pad)));
  }
}
template <int L, class S> OD_INLINE void store_range(S* p, vec<register_of<S>, L> v, i64 lo, i64 hi) {
  const i32 begin = clamp_lane(lo, L), end = clamp_lane(hi, L);
  if constexpr (detail::splits<S, L>) {
    store_range<L / 2>(p, v.low, begin, end);
    store_range<L / 2>((S*)((char*)p + L / 2 * sizeof(S)), v.high, begin - L / 2, end - L / 2);
  } else detail::write_range<image_of<S>, L>(p, detail::contract<S, L>(v), begin, end);
}

// Lane k is p[k * stride].
template <int L, class S> OD_INLINE vec<register_of<S>, L> load_strided(const S* p, i64 stride) {
  if constexpr (detail::splits<S, L>) return {load_strided<L / 2>(p, stride), load_strided<L / 2>(p + L / 2 * stride, stride)};
  else return detail::expand<S, L>(detail::read_strided((const image_of<S>*)p, stride, up_to<L>{}));
}
template <int L, class S> OD_INLINE void store_strided(S* p, vec<register_of<S>, L> v, i64 stride) {
  if constexpr (detail::splits<S, L>) {
    store_strided<L / 2>(p, v.low, stride);
    store_strided<L / 2>(p + L / 2 * stride, v.high, stride);
  } else detail::write_strided((image_of<S>*)p, stride, detail::contract<S, L>(v), up_to<L>{});
}
template <int L, class S>
OD_INLINE vec<register_of<S>, L> load_strided_range(const S* p, i64 stride, i64 lo, i64 hi, register_of<S> pad) {
  const i32 begin = clamp_lane(lo, L), end = clamp_lane(hi, L);
  if (begin == 0 && end == L) return load_strided<L>(p, stride);
  S buffer[L] = {};
  for (i32 k = begin; k < end; ++k)
    detail::write<image_of<S>>(buffer + k, detail::read<image_of<S>>((const char*)p + k * stride * i64(sizeof(S))));
  return load_range<L>(buffer, begin, end, pad);
}
template <int L, class S>
OD_INLINE void store_strided_range(S* p, vec<register_of<S>, L> v, i64 stride, i64 lo, i64 hi) {
  const i32 begin = clamp_lane(lo, L), end = clamp_lane(hi, L);
  if (begin == 0 && end == L) return store_strided<L>(p, v, stride);
  S buffer[L];
  store<L>(buffer, v);
  for (i32 k = begin; k < end; ++k)
    detail::write<image_of<S>>((char*)p + k * stride * i64(sizeof(S)), detail::read<image_of<S>>(buffer + k));
}

// Lane k is base[offset[k]] where ok, elsewhere pad.
template <int L, class S>
OD_INLINE vec<register_of<S>, L> gather(const S* base, vec<i64, L> offset, mask<L> ok, register_of<S> pad) {
  typedef vec<register_of<S>, L> V;
  if constexpr (detail::splits<S, L>)
    return {gather<L / 2>(base, low_half(offset), low_half(ok), pad), gather<L / 2>(base, high_half(offset), high_half(ok), pad)};
#if defined(OD_MASKED_ACCESS)
  else if constexpr (L == 16 && sizeof(S) == 4)
    return join(gather<8>(base, offset.low, low_half(ok), pad), gather<8>(base, offset.high, high_half(ok), pad));
  else if constexpr (L == 8 && sizeof(S) == 4)
    return (V)__builtin_ia32_gatherdiv16si((vec<i32, 8>)constant<V>(pad), base, (raw<long long, 8>)offset,
                                           __builtin_ia32_cvtd2mask256(ok), 4);
  else if constexpr (L == 8 && sizeof(S) == 8)
    return (V)__builtin_ia32_gatherdiv8di((raw<long long, 8>)constant<V>(pad), base, (raw<long long, 8>)offset,
                                          __builtin_ia32_cvtd2mask256(ok), 8);
#endif
  else {
    i64 offsets[L];
    i32 present[L];
    image_of<S> buffer[L];
    store<L>(offsets, offset);
    store<L>(present, ok);
    for (int k = 0; k < L; ++k)
      buffer[k] = present[k] ? detail::read<image_of<S>>(base + offsets[k]) : image_of<S>(0);
    return select(ok, load<L>((const S*)buffer), constant<V>(detail::pad_value<S>(pad)));
  }
}

namespace detail {
template <int L, class S, class Put> OD_INLINE void scatter_with(S* base, vec<i64, L> offset, mask<L> ok, Put put) {
  i64 offsets[L];
  i32 present[L];
  store<L>(offsets, offset);
  store<L>(present, ok);
  for (int k = 0; k < L; ++k)
    if (present[k]) put(base + offsets[k], k);
}
}  // namespace detail

// Lanes are stored in increasing order: of equal offsets the last lane wins.
template <int L, class S>
OD_INLINE void scatter(S* base, vec<i64, L> offset, vec<register_of<S>, L> v, mask<L> ok) {
  S buffer[L];
  store<L>(buffer, v);
  detail::scatter_with<L>(base, offset, ok, [&](S* p, int k) { detail::write(p, detail::read<image_of<S>>(buffer + k)); });
}

// One element as a register value, and back, rounded.
template <class S> OD_INLINE register_of<S> load1(const S* p) {
  return first(detail::expand<S, 1>(raw<image_of<S>, 1>{detail::read<image_of<S>>(p)}));
}
template <class S> OD_INLINE void store1(S* p, register_of<S> x) {
  vec<register_of<S>, 1> v{x};
  if constexpr (same<S, bf16>) v = detail::round_bf16_step()(v);
  detail::write<image_of<S>>(p, detail::contract<S, 1>(v)[0]);
}

namespace detail {
template <class S, class Combine> OD_INLINE void atomic_update(S* p, Combine combine) {
  typedef unsigned_of<image_of<S>> B;
  B old = __atomic_load_n((B*)p, __ATOMIC_RELAXED);
  for (;;) {
    S next;
    store1(&next, combine(load1((const S*)&old)));
    if (__atomic_compare_exchange_n((B*)p, &old, read<B>(&next), true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) return;
  }
}
}  // namespace detail

// Atomic on the element in memory (which must have its natural alignment); 16- and 8-bit floats round each time.
template <class S> OD_INLINE void atomic_add(S* p, register_of<S> x) {
  if constexpr (is_scalar<S> && !is_float<S>) __atomic_fetch_add(p, S(x), __ATOMIC_RELAXED);
  else detail::atomic_update(p, [=](register_of<S> old) { return old + x; });
}
template <class S> OD_INLINE void atomic_max(S* p, register_of<S> x) {
  detail::atomic_update(p, [=](register_of<S> old) { return max(old, x); });
}
template <class S> OD_INLINE void atomic_min(S* p, register_of<S> x) {
  detail::atomic_update(p, [=](register_of<S> old) { return min(old, x); });
}

#define OD_SCATTER(name, update)                                                                                     \
  template <int L, class S>                                                                                          \
  OD_INLINE void name(S* base, vec<i64, L> offset, vec<register_of<S>, L> v, mask<L> ok) {                           \
    register_of<S> values[L];                                                                                        \
    store<L>(values, v);                                                                                             \
    detail::scatter_with<L>(base, offset, ok, [&](S* p, int k) { update(p, values[k]); });                           \
  }
OD_SCATTER(scatter_add, atomic_add)
OD_SCATTER(scatter_max, atomic_max)
OD_SCATTER(scatter_min, atomic_min)
#undef OD_SCATTER

// A store that goes past the caches where p is aligned to the bytes stored (else an ordinary one). Before other
// threads read what was streamed, call stream_fence().
template <int L, class S> OD_INLINE void store_stream(S* p, vec<register_of<S>, L> v) {
  if constexpr (detail::splits<S, L>) {
    store_stream<L / 2>(p, v.low);
    store_stream<L / 2>(p + L / 2, v.high);
  } else {
    const auto image = detail::contract<S, L>(v);
    constexpr u64 bytes = sizeof(image);
    if (bytes >= 16 && ((u64)p & (bytes - 1)) == 0) {
#if defined(__clang__)
      __builtin_nontemporal_store(image, (raw<image_of<S>, L>*)p);
      return;
#elif defined(OD_GCC_X86)
      if constexpr (bytes == 16) return __builtin_ia32_movntdq((raw<long long, 2>*)p, (raw<long long, 2>)image);
#if defined(OD_AVX2)
      if constexpr (bytes == 32) return __builtin_ia32_movntdq256((raw<long long, 4>*)p, (raw<long long, 4>)image);
#endif
#if defined(OD_AVX512)
      if constexpr (bytes == 64) return __builtin_ia32_movntdq512((raw<long long, 8>*)p, (raw<long long, 8>)image);
#endif
#endif
    }
    detail::write_image<image_of<S>, L>(p, image);
  }
}
OD_INLINE void stream_fence() {
#if defined(__x86_64__)
  __builtin_ia32_sfence();
#endif
}

}  // namespace od

#endif

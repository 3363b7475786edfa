// Vector types and the operations that move lanes about, over GCC/Clang vector extensions only.
//
// vec<T, L> holds L lanes of T (float, double, i32, u32, i64, u64). Up to the width of a hardware register it is a
// plain compiler vector. Wider ones are `wide`: a pair of halves with the same operators. The compilers accept wider
// vectors too, but keep them in memory and take comparisons apart lane by lane; pairs stay in registers.
//
// mask<L> is vec<i32, L> with lanes 0 or -1, whatever the type that was compared.
//
// Compile with -fwrapv (integer lanes wrap), -fno-math-errno, -fno-trapping-math and -ffp-contract=off: multiply-adds
// are fused where fma() is written and nowhere else, so that one expression gives the same bits in every context.
#ifndef OPDSL_SIMD_TYPES_H
#define OPDSL_SIMD_TYPES_H

#pragma GCC diagnostic ignored "-Wpsabi"

#define OD_INLINE static inline __attribute__((always_inline, unused))
#define OD_MEMBER inline __attribute__((always_inline))

// One switch per instruction set; AVX-512 counts only with its byte/word, double/quad and short-vector parts.
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#define OD_AVX512 1
#endif
#if defined(__AVX2__)
#define OD_AVX2 1
#endif
#if defined(__x86_64__) && !defined(__clang__)
#define OD_GCC_X86 1
#endif
#if defined(__FMA__) || defined(__AVX512F__) || defined(__ARM_FEATURE_FMA)
#define OD_HAS_FMA 1
#endif

namespace od {

typedef __INT8_TYPE__ i8;
typedef __INT16_TYPE__ i16;
typedef __INT32_TYPE__ i32;
typedef __INT64_TYPE__ i64;
typedef __UINT8_TYPE__ u8;
typedef __UINT16_TYPE__ u16;
typedef __UINT32_TYPE__ u32;
typedef __UINT64_TYPE__ u64;

#if defined(OD_AVX512)
constexpr int native_bytes = 64;
#elif defined(OD_AVX2)
constexpr int native_bytes = 32;
#else
constexpr int native_bytes = 16;
#endif

template <class T, int L> struct wide;
template <class T, int L, bool Wide> struct vec_of { typedef T type __attribute__((vector_size(sizeof(T) * L))); };
template <class T, int L> struct vec_of<T, L, true> { typedef wide<T, L> type; };
template <class T, int L> using vec = typename vec_of<T, L, (sizeof(T) * L > native_bytes)>::type;
template <int L> using mask = vec<i32, L>;
// The compiler's own vector whatever its width, for memory images of storage types.
template <class T, int L> using raw = typename vec_of<T, L, false>::type;

// Lanes of a full hardware register.
template <class T> constexpr int native_lanes = native_bytes / int(sizeof(T));

template <class A, class B> constexpr bool same = false;
template <class A> constexpr bool same<A, A> = true;
template <bool C, class A, class B> struct choose { typedef A type; };
template <class A, class B> struct choose<false, A, B> { typedef B type; };
template <class T> struct strip { typedef T type; };
template <class T> struct strip<T&> { typedef T type; };
template <class T> struct strip<const T> { typedef T type; };
template <class T> struct strip<const T&> { typedef T type; };

template <class T>
constexpr bool is_scalar = same<T, float> || same<T, double> || same<T, i8> || same<T, i16> || same<T, i32> ||
                           same<T, i64> || same<T, u8> || same<T, u16> || same<T, u32> || same<T, u64>;
template <class T> constexpr bool is_float = same<T, float> || same<T, double>;
template <class T> constexpr bool is_signed = T(-1) < T(0);
template <class T> using signed_of = typename choose<sizeof(T) == 8, i64, typename choose<sizeof(T) == 4, i32,
                            typename choose<sizeof(T) == 2, i16, i8>::type>::type>::type;
template <class T> using unsigned_of = typename choose<sizeof(T) == 8, u64, typename choose<sizeof(T) == 4, u32,
                              typename choose<sizeof(T) == 2, u16, u8>::type>::type>::type;

template <class V> constexpr bool is_wide = false;
template <class T, int L> constexpr bool is_wide<wide<T, L>> = true;

template <class T> T some();  // for decltype only
template <class V, bool Scalar> struct element_type { typedef V type; };
template <class V> struct element_type<V, false> {
  typedef typename strip<decltype(some<const V&>()[0])>::type type;
};
// Element type and lane count of a vector; a scalar is its own element.
template <class V> using element = typename element_type<V, is_scalar<V>>::type;
template <class V> constexpr int lanes = int(sizeof(V) / sizeof(element<V>));

// 0 .. N-1 as a parameter pack.
template <int... I> struct indices {};
#if defined(__clang__)
template <class, int... I> using indices_alias = indices<I...>;
template <int N> using up_to = __make_integer_seq<indices_alias, int, N>;
#else
template <int N> using up_to = indices<__integer_pack(N)...>;
#endif

template <class T, int L> OD_INLINE vec<T, L> splat(T x);

template <class T, int L> struct wide {
  typedef vec<T, L / 2> half;
  half low, high;
  OD_MEMBER T operator[](int k) const { return k < L / 2 ? low[k] : high[k - L / 2]; }

#define OD_WIDE_OPERATOR(op)                                                                                        \
  friend OD_MEMBER wide operator op(const wide& a, const wide& b) { return {a.low op b.low, a.high op b.high}; }     \
  friend OD_MEMBER wide operator op(const wide& a, T b) { return a op splat<T, L>(b); }                              \
  friend OD_MEMBER wide operator op(T a, const wide& b) { return splat<T, L>(a) op b; }                              \
  template <class B> OD_MEMBER wide& operator op##=(const B & b) { return *this = *this op b; }
  OD_WIDE_OPERATOR(+)
  OD_WIDE_OPERATOR(-)
  OD_WIDE_OPERATOR(*)
  OD_WIDE_OPERATOR(/)
  OD_WIDE_OPERATOR(%)
  OD_WIDE_OPERATOR(&)
  OD_WIDE_OPERATOR(|)
  OD_WIDE_OPERATOR(^)
  OD_WIDE_OPERATOR(<<)
  OD_WIDE_OPERATOR(>>)
#undef OD_WIDE_OPERATOR
#define OD_WIDE_COMPARISON(op)                                                                                      \
  friend OD_MEMBER wide<signed_of<T>, L> operator op(const wide& a, const wide& b) {                                 \
    return {a.low op b.low, a.high op b.high};                                                                       \
  }                                                                                                                  \
  friend OD_MEMBER wide<signed_of<T>, L> operator op(const wide& a, T b) { return a op splat<T, L>(b); }
  OD_WIDE_COMPARISON(==)
  OD_WIDE_COMPARISON(!=)
  OD_WIDE_COMPARISON(<)
  OD_WIDE_COMPARISON(<=)
  OD_WIDE_COMPARISON(>)
  OD_WIDE_COMPARISON(>=)
#undef OD_WIDE_COMPARISON
  friend OD_MEMBER wide operator-(const wide& a) { return {-a.low, -a.high}; }
  friend OD_MEMBER wide operator+(const wide& a) { return a; }
  friend OD_MEMBER wide operator~(const wide& a) { return {~a.low, ~a.high}; }
};

namespace detail {

template <class V, class T, int... I> OD_INLINE V fill(T x, indices<I...>) { return V{((void)I, x)...}; }
template <class V, int... I> OD_INLINE V count(indices<I...>) { return V{element<V>(I)...}; }

template <class V, int... I> OD_INLINE auto low_lanes(V v, indices<I...>) { return __builtin_shufflevector(v, v, I...); }
template <class V, int... I> OD_INLINE auto high_lanes(V v, indices<I...>) {
  return __builtin_shufflevector(v, v, (I + int(sizeof...(I)))...);
}
template <class V, int... I> OD_INLINE auto join_lanes(V a, V b, indices<I...>) {
  return __builtin_shufflevector(a, b, I...);
}
template <int From, class V, int... I> OD_INLINE auto repeat_lanes(V v, indices<I...>) {
  return __builtin_shufflevector(v, v, (I % From)...);
}

}  // namespace detail

template <class T, int L> OD_INLINE vec<T, L> splat(T x) {
  if constexpr (is_wide<vec<T, L>>) {
    const auto half = splat<T, L / 2>(x);
    return {half, half};
  } else {
    return detail::fill<vec<T, L>>(x, up_to<L>{});
  }
}

// A vector (or scalar) of type V with x in every lane.
template <class V> OD_INLINE V constant(element<V> x) {
  if constexpr (is_scalar<V>) return x;
  else return splat<element<V>, lanes<V>>(x);
}

// 0, 1, 2, ...
template <class T, int L> OD_INLINE vec<T, L> iota() {
  if constexpr (is_wide<vec<T, L>>) return {iota<T, L / 2>(), iota<T, L / 2>() + T(L / 2)};
  else return detail::count<vec<T, L>>(up_to<L>{});
}

template <class V> OD_INLINE vec<element<V>, lanes<V> / 2> low_half(V v) {
  if constexpr (is_wide<V>) return v.low;
  else if constexpr (lanes<V> == 2) return vec<element<V>, 1>{v[0]};
  else return detail::low_lanes(v, up_to<lanes<V> / 2>{});
}
template <class V> OD_INLINE vec<element<V>, lanes<V> / 2> high_half(V v) {
  if constexpr (is_wide<V>) return v.high;
  else if constexpr (lanes<V> == 2) return vec<element<V>, 1>{v[1]};
  else return detail::high_lanes(v, up_to<lanes<V> / 2>{});
}
template <class V> OD_INLINE vec<element<V>, lanes<V> * 2> join(V a, V b) {
  typedef vec<element<V>, lanes<V> * 2> R;
  if constexpr (is_wide<R>) return R{a, b};
  else if constexpr (lanes<V> == 1) return R{a[0], b[0]};
  else return detail::join_lanes(a, b, up_to<lanes<V> * 2>{});
}

// More lanes (the old ones repeated) and fewer (the first ones).
template <int L, class V> OD_INLINE vec<element<V>, L> grow(V v) {
  if constexpr (lanes<V> == L) return v;
  else if constexpr (lanes<V> == 1) return splat<element<V>, L>(v[0]);
  else if constexpr (is_wide<vec<element<V>, L>>) {
    const auto half = grow<L / 2>(v);
    return {half, half};
  } else return detail::repeat_lanes<lanes<V>>(v, up_to<L>{});
}
template <int L, class V> OD_INLINE vec<element<V>, L> shrink(V v) {
  if constexpr (lanes<V> == L) return v;
  else if constexpr (L == 1) return vec<element<V>, 1>{v[0]};
  else if constexpr (is_wide<V>) return shrink<L>(v.low);
  else return detail::low_lanes(v, up_to<L>{});
}

// The same bits as lanes of T; vectors keep their size, so the lane count may change.
template <class T, class V> OD_INLINE auto bits_as(V v) {
  if constexpr (is_scalar<V>) {
    static_assert(sizeof(T) == sizeof(V), "bits_as keeps the size");
    return __builtin_bit_cast(T, v);
  } else if constexpr (is_wide<V>) {
    return wide<T, int(sizeof(V) / sizeof(T))>{bits_as<T>(v.low), bits_as<T>(v.high)};
  } else {
    return (vec<T, int(sizeof(V) / sizeof(T))>)v;
  }
}

template <class V> OD_INLINE element<V> first(V v) {
  if constexpr (is_scalar<V>) return v;
  else if constexpr (is_wide<V>) return first(v.low);
  else return v[0];
}

// One lane replaced.
template <class V> OD_INLINE V insert(V v, int k, element<V> x) {
  if constexpr (is_wide<V>) {
    if (k < lanes<V> / 2) v.low = insert(v.low, k, x);
    else v.high = insert(v.high, k - lanes<V> / 2, x);
  } else v[k] = x;
  return v;
}

namespace detail {

// Runs f on full hardware registers: scalars and narrow vectors are padded, wide ones taken apart. So each function
// is written once per instruction set, and a lane's bits never depend on how many lanes came with it.
template <class F, class V, class... More> OD_INLINE V by_register(F f, V x, More... more) {
  typedef element<V> T;
  if constexpr (is_scalar<V>) return first(f(splat<T, native_lanes<T>>(x), splat<T, native_lanes<T>>(more)...));
  else if constexpr (is_wide<V>)
    return V{by_register(f, x.low, more.low...), by_register(f, x.high, more.high...)};
  else if constexpr (lanes<V> < native_lanes<T>)
    return shrink<lanes<V>>(f(grow<native_lanes<T>>(x), grow<native_lanes<T>>(more)...));
  else return f(x, more...);
}

}  // namespace detail

#if defined(OD_AVX512) && defined(OD_GCC_X86)
namespace detail {

typedef raw<long long, 8> q8;

// Eight lanes from a 4-byte to an 8-byte type or back.
template <class To, class V> OD_INLINE vec<To, 8> resize_8(V v) {
  typedef element<V> From;
  constexpr int now = 4;  // rounding mode: the current one
  if constexpr (same<To, double>) {
    if constexpr (same<From, float>) return __builtin_ia32_cvtps2pd512_mask(v, vec<double, 8>{}, -1, now);
    else if constexpr (same<From, i32>) return __builtin_ia32_cvtdq2pd512_mask(v, vec<double, 8>{}, -1);
    else return __builtin_ia32_cvtudq2pd512_mask((vec<i32, 8>)v, vec<double, 8>{}, -1);
  } else if constexpr (same<From, double>) {
    if constexpr (same<To, float>) return __builtin_ia32_cvtpd2ps512_mask(v, vec<float, 8>{}, -1, now);
    else if constexpr (same<To, i32>) return __builtin_ia32_cvttpd2dq512_mask(v, vec<i32, 8>{}, -1, now);
    else return (vec<To, 8>)__builtin_ia32_cvttpd2udq512_mask(v, vec<i32, 8>{}, -1, now);
  } else if constexpr (same<From, i32>) return (vec<To, 8>)__builtin_ia32_pmovsxdq512_mask(v, q8{}, -1);
  else if constexpr (same<From, u32>) return (vec<To, 8>)__builtin_ia32_pmovzxdq512_mask((vec<i32, 8>)v, q8{}, -1);
  else if constexpr (same<From, float>) {
    if constexpr (same<To, i64>) return (vec<To, 8>)__builtin_ia32_cvttps2qq512_mask(v, q8{}, -1, now);
    else return (vec<To, 8>)__builtin_ia32_cvttps2uqq512_mask(v, q8{}, -1, now);
  } else if constexpr (same<To, float>) {
    if constexpr (same<From, i64>) return __builtin_ia32_cvtqq2ps512_mask((q8)v, vec<float, 8>{}, -1, now);
    else return __builtin_ia32_cvtuqq2ps512_mask((q8)v, vec<float, 8>{}, -1, now);
  } else return (vec<To, 8>)__builtin_ia32_pmovqd512_mask((q8)v, vec<i32, 8>{}, -1);
}

}  // namespace detail
#endif

#if defined(OD_AVX2) && defined(OD_GCC_X86)
namespace detail {

// The same for four lanes.
template <class To, class V> OD_INLINE vec<To, 4> resize_4(V v) {
  typedef element<V> From;
  if constexpr (same<To, double> && same<From, float>) return __builtin_ia32_cvtps2pd256(v);
  else if constexpr (same<To, double> && same<From, i32>) return __builtin_ia32_cvtdq2pd256(v);
  else if constexpr (same<From, double> && same<To, i32>) return __builtin_ia32_cvttpd2dq256(v);
  else if constexpr (is_float<To> || is_float<From>) return __builtin_convertvector(v, vec<To, 4>);
  else if constexpr (same<From, i32>) return (vec<To, 4>)__builtin_ia32_pmovsxdq256(v);
  else if constexpr (same<From, u32>) return (vec<To, 4>)__builtin_ia32_pmovzxdq256((vec<i32, 4>)v);
  else {
    const raw<i32, 8> even = {0, 2, 4, 6, 0, 2, 4, 6};
    return (vec<To, 4>)low_lanes(__builtin_ia32_permvarsi256((raw<i32, 8>)v, even), up_to<4>{});
  }
}

}  // namespace detail
#endif

// Numeric conversion lane by lane, as NumPy's astype: to integer truncates, out of range is unspecified.
template <class To, class V> OD_INLINE auto convert(V v) {
  if constexpr (is_scalar<V>) {
    if constexpr (is_float<V> && !is_float<To>) return first(convert<To>(splat<V, 4>(v)));
    else return To(v);
  } else if constexpr (same<element<V>, To>) return v;
  else if constexpr (is_wide<V> || is_wide<vec<To, lanes<V>>>)
    return join(convert<To>(low_half(v)), convert<To>(high_half(v)));
  else if constexpr (lanes<V> == 1) return vec<To, 1>{To(v[0])};
  else if constexpr (sizeof(V) == sizeof(vec<To, lanes<V>>) && !is_float<element<V>> && !is_float<To>)
    return (vec<To, lanes<V>>)v;
#if defined(OD_AVX512) && defined(OD_GCC_X86)
  // GCC 12 takes conversions between 256 and 512 bits apart; name the instruction.
  else if constexpr (lanes<V> == 8 && sizeof(To) != sizeof(element<V>)) return detail::resize_8<To>(v);
#endif
#if defined(OD_AVX2) && defined(OD_GCC_X86)
  else if constexpr (lanes<V> == 4 && sizeof(To) != sizeof(element<V>)) return detail::resize_4<To>(v);
#endif
  else return __builtin_convertvector(v, vec<To, lanes<V>>);
}

// m ? a : b, lane by lane.
template <class M, class V> OD_INLINE V select(M m, V a, V b) {
  if constexpr (is_scalar<V>) return m ? a : b;
  else {
    static_assert(lanes<M> == lanes<V>, "mask and values differ in lanes");
    if constexpr (is_wide<V>)
      return V{select(low_half(m), a.low, b.low), select(high_half(m), a.high, b.high)};
    else if constexpr (sizeof(M) == sizeof(V)) return m ? a : b;
#if defined(OD_AVX512) && defined(OD_GCC_X86)
    else if constexpr (lanes<V> == 8 && same<element<V>, double>)
      return __builtin_ia32_blendmpd_512_mask(b, a, __builtin_ia32_cvtd2mask256(m));
    else if constexpr (lanes<V> == 8)
      return (V)__builtin_ia32_blendmq_512_mask((raw<long long, 8>)b, (raw<long long, 8>)a,
                                                __builtin_ia32_cvtd2mask256(m));
#endif
    else return convert<signed_of<element<V>>>(m) ? a : b;
  }
}

#if defined(OD_AVX512) && defined(OD_GCC_X86)
#define OD_COMPARE_DOUBLE(predicate)                                                                                 \
  else if constexpr (same<V, vec<double, 8>>) return __builtin_ia32_cvtmask2d256(                                    \
      __builtin_ia32_cmppd512_mask(a, b, predicate, -1, 4));
#else
#define OD_COMPARE_DOUBLE(predicate)
#endif
#define OD_COMPARISON(name, op, predicate)                                                                           \
  template <class V> OD_INLINE auto name(V a, V b) {                                                                 \
    if constexpr (is_scalar<V>) return i32(a op b ? -1 : 0);                                                         \
    else if constexpr (is_wide<V>) return join(name(a.low, b.low), name(a.high, b.high));                             \
    OD_COMPARE_DOUBLE(predicate)                                                                                     \
    else return convert<i32>(a op b);                                                                                \
  }
OD_COMPARISON(eq, ==, 0)
OD_COMPARISON(ne, !=, 4)
OD_COMPARISON(lt, <, 1)
OD_COMPARISON(le, <=, 2)
OD_COMPARISON(gt, >, 14)
OD_COMPARISON(ge, >=, 13)
#undef OD_COMPARISON
#undef OD_COMPARE_DOUBLE

template <class V> OD_INLINE auto to_mask(V v) { return ne(v, constant<V>(0)); }

// A mask as numbers 0 and 1.
template <class T, class M> OD_INLINE auto mask_to(M m) {
  if constexpr (is_scalar<M>) return T(m ? 1 : 0);
  else if constexpr (same<T, float>) return bits_as<float>(m & i32(0x3f800000));
  else if constexpr (is_float<T>) return select(m, splat<T, lanes<M>>(1), splat<T, lanes<M>>(0));
  else return convert<T>(m & i32(1));
}

template <class M> OD_INLINE bool any(M m) {
  if constexpr (is_scalar<M>) return m != 0;
  else if constexpr (is_wide<M>) return any(m.low | m.high);
#if defined(OD_AVX512) && defined(OD_GCC_X86)
  else if constexpr (lanes<M> == 16) return __builtin_ia32_cvtd2mask512(m) != 0;
  else if constexpr (lanes<M> == 8) return __builtin_ia32_cvtd2mask256(m) != 0;
#elif defined(OD_AVX2)
  else if constexpr (lanes<M> == 8) return __builtin_ia32_movmskps256((raw<float, 8>)m) != 0;
#endif
#if defined(__x86_64__)
  else if constexpr (lanes<M> == 4) return __builtin_ia32_movmskps((raw<float, 4>)m) != 0;
#endif
  else if constexpr (lanes<M> == 1) return m[0] != 0;
  else return any(low_half(m) | high_half(m));
}
template <class M> OD_INLINE bool all(M m) { return !any(~m); }

OD_INLINE i32 clamp_lane(i64 k, i32 count) { return k < 0 ? 0 : k > count ? count : i32(k); }
// Lanes k with lo <= k < hi.
template <int L> OD_INLINE mask<L> range_mask(i64 lo, i64 hi) {
  const i32 first_lane = clamp_lane(lo, L), end = clamp_lane(hi, L);
  const mask<L> k = iota<i32, L>();
  return (k >= splat<i32, L>(first_lane)) & (k < splat<i32, L>(end));
}

OD_INLINE void prefetch(const void* p) { __builtin_prefetch(p, 0, 3); }

}  // namespace od

#endif

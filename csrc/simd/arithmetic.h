// Elementwise arithmetic with NumPy's meaning. Everything takes a vector or a scalar and gives the same bits for both.
#ifndef OPDSL_SIMD_ARITHMETIC_H
#define OPDSL_SIMD_ARITHMETIC_H

#include "types.h"

namespace od {

template <class V> OD_INLINE auto isnan(V x) { return ne(x, x); }

namespace detail {

// a < b ? a : b and a > b ? a : b: one instruction, which gives b where the two are unordered. GCC 12 has to be told.
#if defined(OD_GCC_X86)
#if defined(OD_AVX512)
#define OD_LESSER_512(name)                                                                                          \
  if constexpr (same<V, raw<float, 16>>) return __builtin_ia32_##name##ps512_mask(a, b, V{}, -1, 4);                 \
  else if constexpr (same<V, raw<double, 8>>) return __builtin_ia32_##name##pd512_mask(a, b, V{}, -1, 4);            \
  else
#else
#define OD_LESSER_512(name)
#endif
#if defined(OD_AVX2)
#define OD_LESSER_256(name)                                                                                          \
  if constexpr (same<V, raw<float, 8>>) return __builtin_ia32_##name##ps256(a, b);                                   \
  else if constexpr (same<V, raw<double, 4>>) return __builtin_ia32_##name##pd256(a, b);                             \
  else
#else
#define OD_LESSER_256(name)
#endif
#define OD_LESSER(name)                                                                                              \
  OD_LESSER_512(name) OD_LESSER_256(name) if constexpr (same<V, raw<float, 4>>) return __builtin_ia32_##name##ps(a, b); \
  else if constexpr (same<V, raw<double, 2>>) return __builtin_ia32_##name##pd(a, b);                                \
  else
#else
#define OD_LESSER(name)
#endif
template <class V> OD_INLINE V lesser(V a, V b) {
  OD_LESSER(min) return a < b ? a : b;
}
template <class V> OD_INLINE V greater(V a, V b) {
  OD_LESSER(max) return a > b ? a : b;
}

}  // namespace detail

// np.minimum and np.maximum: a NaN in either wins.
template <class V> OD_INLINE V min(V a, V b) {
  if constexpr (is_wide<V>) return V{min(a.low, b.low), min(a.high, b.high)};
  else if constexpr (is_scalar<V>) return is_float<V> && a != a ? a : a < b ? a : b;
  else {
    const V r = detail::lesser(a, b);
    if constexpr (is_float<element<V>>) return a != a ? a : r;
    else return r;
  }
}
template <class V> OD_INLINE V max(V a, V b) {
  if constexpr (is_wide<V>) return V{max(a.low, b.low), max(a.high, b.high)};
  else if constexpr (is_scalar<V>) return is_float<V> && a != a ? a : a > b ? a : b;
  else {
    const V r = detail::greater(a, b);
    if constexpr (is_float<element<V>>) return a != a ? a : r;
    else return r;
  }
}

template <class V> OD_INLINE V abs(V x) {
  typedef element<V> T;
  if constexpr (is_float<T>) return bits_as<T>(bits_as<unsigned_of<T>>(x) & (unsigned_of<T>(-1) >> 1));
  else if constexpr (!is_signed<T>) return x;
  else if constexpr (is_scalar<V>) return x < 0 ? T(-unsigned_of<T>(x)) : x;
  else if constexpr (is_wide<V>) return V{abs(x.low), abs(x.high)};
  else {
    const V negated = (V)(-(vec<unsigned_of<T>, lanes<V>>)x);
    return x < constant<V>(0) ? negated : x;
  }
}
template <class V> OD_INLINE V copysign(V magnitude, V sign) {
  typedef element<V> T;
  typedef unsigned_of<T> U;
  constexpr U low = U(-1) >> 1;
#if defined(OD_AVX512) && defined(OD_GCC_X86)
  // One instruction for (low ? magnitude : sign), bit by bit.
  if constexpr (!is_scalar<V> && sizeof(V) == 64 && !is_wide<V>)
    return (V)__builtin_ia32_pternlogd512_mask((raw<i32, 16>)constant<vec<U, lanes<V>>>(low), (raw<i32, 16>)magnitude,
                                               (raw<i32, 16>)sign, 0xca, -1);
  else
#endif
  return bits_as<T>((bits_as<U>(magnitude) & low) | (bits_as<U>(sign) & U(~low)));
}
template <class V> OD_INLINE auto isinf(V x) {
  return eq(abs(x), constant<V>(__builtin_inff()));
}
template <class V> OD_INLINE auto isfinite(V x) {
  return lt(abs(x), constant<V>(__builtin_inff()));
}
template <class V> OD_INLINE auto signbit(V x) {
  typedef signed_of<element<V>> I;
  const auto bits = bits_as<I>(x);
  return lt(bits, constant<decltype(bits_as<I>(x))>(0));
}

#if defined(__has_builtin)
#define OD_HAS_BUILTIN(x) __has_builtin(x)
#else
#define OD_HAS_BUILTIN(x) 0
#endif

namespace detail {

// Instructions that vector extensions have no spelling for, on 16, 32 or 64 bytes.
template <class V> OD_INLINE V sqrt_register(V x) {
  constexpr bool single = sizeof(element<V>) == 4;
  constexpr int bytes = int(sizeof(V));
  (void)single;
  (void)bytes;
#if OD_HAS_BUILTIN(__builtin_elementwise_sqrt)
  return __builtin_elementwise_sqrt(x);
#elif defined(OD_GCC_X86)
#if defined(OD_AVX512)
  if constexpr (bytes == 64) {
    if constexpr (single) return __builtin_ia32_sqrtps512_mask(x, V{}, -1, 4);
    else return __builtin_ia32_sqrtpd512_mask(x, V{}, -1, 4);
  }
#endif
#if defined(OD_AVX2)
  if constexpr (bytes == 32) {
    if constexpr (single) return __builtin_ia32_sqrtps256(x);
    else return __builtin_ia32_sqrtpd256(x);
  }
#endif
  if constexpr (bytes == 16) {
    if constexpr (single) return __builtin_ia32_sqrtps(x);
    else return __builtin_ia32_sqrtpd(x);
  }
#else
  V r = x;
  for (int k = 0; k < lanes<V>; ++k) {
    if constexpr (single) r[k] = __builtin_sqrtf(x[k]);
    else r[k] = __builtin_sqrt(x[k]);
  }
  return r;
#endif
}

// Mode: 0 to nearest even, 1 down, 2 up, 3 to zero.
template <int Mode, class V> OD_INLINE V round_register(V x) {
  typedef element<V> T;
  constexpr bool single = sizeof(T) == 4;
  constexpr int bytes = int(sizeof(V)), quiet = Mode | 8;
  (void)bytes;
  (void)quiet;
#if defined(OD_AVX512) && defined(OD_GCC_X86)
  if constexpr (bytes == 64) {
    if constexpr (single) return __builtin_ia32_rndscaleps_mask(x, quiet, V{}, -1, 4);
    else return __builtin_ia32_rndscalepd_mask(x, quiet, V{}, -1, 4);
  } else
#endif
#if defined(OD_AVX2) && !OD_HAS_BUILTIN(__builtin_elementwise_roundeven)
  if constexpr (bytes == 32) {
    if constexpr (single) return __builtin_ia32_roundps256(x, quiet);
    else return __builtin_ia32_roundpd256(x, quiet);
  } else
#endif
#if defined(__SSE4_1__) && !OD_HAS_BUILTIN(__builtin_elementwise_roundeven)
  if constexpr (bytes == 16) {
    if constexpr (single) return __builtin_ia32_roundps(x, quiet);
    else return __builtin_ia32_roundpd(x, quiet);
  } else
#endif
  {
    // Adding and taking away 2^23 (2^52) leaves an integer; numbers from there on are integers already.
    const V magic = constant<V>(single ? T(8388608) : T(4503599627370496));
    const V a = abs(x);
    V r = (a + magic) - magic;
    if constexpr (Mode == 1) {
      r = copysign(r, x);
      r = r > x ? r - T(1) : r;
    } else if constexpr (Mode == 2) {
      r = copysign(r, x);
      r = r < x ? r + T(1) : r;
    } else if constexpr (Mode == 3) r = r > a ? r - T(1) : r;
    r = copysign(r, x);
    return a < magic ? r : x;
  }
}

template <class V> OD_INLINE V fma_register(V a, V b, V c) {
  typedef element<V> T;
  constexpr bool single = sizeof(T) == 4;
  constexpr int bytes = int(sizeof(V));
  (void)single;
  (void)bytes;
#if defined(OD_GCC_X86) && defined(OD_HAS_FMA)
#if defined(OD_AVX512)
  if constexpr (bytes == 64) {
    if constexpr (single) return __builtin_ia32_vfmaddps512_mask(a, b, c, -1, 4);
    else return __builtin_ia32_vfmaddpd512_mask(a, b, c, -1, 4);
  }
#endif
  if constexpr (bytes == 32) {
    if constexpr (single) return __builtin_ia32_vfmaddps256(a, b, c);
    else return __builtin_ia32_vfmaddpd256(a, b, c);
  } else if constexpr (bytes == 16) {
    if constexpr (single) return __builtin_ia32_vfmaddps(a, b, c);
    else return __builtin_ia32_vfmaddpd(a, b, c);
  }
#elif defined(OD_HAS_FMA) && OD_HAS_BUILTIN(__builtin_elementwise_fma)
  return __builtin_elementwise_fma(a, b, c);
#elif defined(OD_HAS_FMA)
  // Lane by lane; the compilers make one instruction of it.
  V r = a;
  for (int k = 0; k < lanes<V>; ++k) {
    if constexpr (single) r[k] = __builtin_fmaf(a[k], b[k], c[k]);
    else r[k] = __builtin_fma(a[k], b[k], c[k]);
  }
  return r;
#else
  if constexpr (single) {
    // The product is exact in double. The sum is rounded to odd there (its error by Moller and Knuth's two-sum says
    // whether and which way), so that rounding to float happens once (Boldo & Melquiond 2008).
    const auto product = convert<double>(a) * convert<double>(b), addend = convert<double>(c);
    const auto sum = product + addend, part = sum - product;
    const auto error = (product - (sum - part)) + (addend - part);
    typedef decltype(convert<double>(a)) D;
    const auto bits = bits_as<i64>(sum);
    typedef decltype(bits_as<i64>(sum)) I;
    // Away from zero where the error has the sum's sign.
    const I outward = (bits ^ bits_as<i64>(error)) >= constant<I>(0);
    const I step = (outward & i64(2)) - i64(1);
    const I inexact = (error != constant<D>(0)) & ((bits & i64(1)) == constant<I>(0)) &
                      (abs(sum) <= constant<D>(1.7976931348623157e308));
    return convert<float>(bits_as<double>(bits + (step & inexact)));
  } else {
    // Dekker's product and a two-sum: right to within a rounding of the small terms, for magnitudes below 2^995.
    const auto split = [](V x) {
      const V t = x * 134217729.0, high = t - (t - x);
      return high;
    };
    const V product = a * b, ah = split(a), bh = split(b), al = a - ah, bl = b - bh;
    const V low = ((ah * bh - product) + ah * bl + al * bh) + al * bl;
    const V sum = product + c, part = sum - product;
    const V error = (product - (sum - part)) + (c - part);
    const V rest = error + low, r = sum + rest;
    return (rest != 0.0) & (r == r) ? r : sum;  // a zero keeps its sign; without a rest where that overflows
  }
#endif
}

// Runs f on at least 16 bytes: the instructions above exist for any register, so narrower ones need no padding to
// the widest.
template <class F, class V, class... More> OD_INLINE V by_any_register(F f, V x, More... more) {
  typedef element<V> T;
  constexpr int least = 16 / int(sizeof(T));
  if constexpr (is_scalar<V>) return first(f(splat<T, least>(x), splat<T, least>(more)...));
  else if constexpr (is_wide<V>)
    return V{by_any_register(f, x.low, more.low...), by_any_register(f, x.high, more.high...)};
  else if constexpr (lanes<V> < least) return shrink<lanes<V>>(f(grow<least>(x), grow<least>(more)...));
  else return f(x, more...);
}

struct sqrt_step {
  template <class V> OD_MEMBER V operator()(V x) const { return sqrt_register(x); }
};
template <int Mode> struct round_step {
  template <class V> OD_MEMBER V operator()(V x) const {
    if constexpr (sizeof(V) == 64 && native_bytes == 64) return round_register<Mode>(x);
    else return round_register<Mode>(x);
  }
};
struct fma_step {
  template <class V> OD_MEMBER V operator()(V a, V b, V c) const { return fma_register(a, b, c); }
};

}  // namespace detail

template <class V> OD_INLINE V sqrt(V x) { return detail::by_any_register(detail::sqrt_step{}, x); }
// a * b + c rounded once. Without the instruction (baseline x86-64) floats are exact, doubles nearly always.
template <class V> OD_INLINE V fma(V a, V b, V c) {
#if defined(OD_HAS_FMA)
  if constexpr (same<V, float>) return __builtin_fmaf(a, b, c);
  else if constexpr (same<V, double>) return __builtin_fma(a, b, c);
  else
#endif
  return detail::by_any_register(detail::fma_step{}, a, b, c);
}
// a * b + c, fused where the machine does that in one instruction.
template <class V> OD_INLINE V mul_add(V a, V b, V c) {
#if defined(OD_HAS_FMA)
  return fma(a, b, c);
#else
  return a * b + c;
#endif
}
// 1 / sqrt(x), both steps correctly rounded: at most 1.5 ulp.
template <class V> OD_INLINE V rsqrt(V x) { return constant<V>(1) / sqrt(x); }

template <class V> OD_INLINE V rint(V x) {
  if constexpr (!is_float<element<V>>) return x;
  else return detail::by_any_register(detail::round_step<0>{}, x);
}
template <class V> OD_INLINE V floor(V x) {
  if constexpr (!is_float<element<V>>) return x;
  else return detail::by_any_register(detail::round_step<1>{}, x);
}
template <class V> OD_INLINE V ceil(V x) {
  if constexpr (!is_float<element<V>>) return x;
  else return detail::by_any_register(detail::round_step<2>{}, x);
}
template <class V> OD_INLINE V trunc(V x) {
  if constexpr (!is_float<element<V>>) return x;
  else return detail::by_any_register(detail::round_step<3>{}, x);
}

// a / b for many a, with r = invariant_inverse(b) at hand (P. W. Markstein, IBM J. Res. Dev. 34, 1990). Where a step
// might underflow or overflow, all lanes are divided the slow way: the quotient is always that of IEEE.
template <class V> OD_INLINE V invariant_inverse(V b) {
  typedef element<V> T;
  constexpr T limit = T(sizeof(T) == 4 ? 0x1p40 : 0x1p200);
  const auto safe = ge(abs(b), constant<V>(1 / limit)) & le(abs(b), constant<V>(limit));
  return select(safe, constant<V>(1) / b, constant<V>(T(__builtin_nan(""))));
}
template <class V> OD_INLINE V invariant_divide(V a, V b, V r) {
  typedef element<V> T;
  constexpr T limit = T(sizeof(T) == 4 ? 0x1p60 : 0x1p300);
  const V q = a * r, better = fma(fma(-q, b, a), r, q), size = abs(better);
  const auto safe = (ge(size, constant<V>(1 / limit)) & le(size, constant<V>(limit))) | eq(better, a);  // for zeros
  if (__builtin_expect(all(safe), 1)) return copysign(size, q);  // differs from better in the sign of zeros
  return a / b;
}

// Shifts; a distance of the width or more shifts everything out.
template <class V> OD_INLINE V shift_left(V a, V distance) {
  typedef element<V> T;
  typedef unsigned_of<T> U;
  constexpr U width = U(sizeof(T) * 8);
  const auto d = bits_as<U>(distance);
  typedef decltype(bits_as<U>(distance)) D;
  const D shifted = bits_as<U>(a) << (d & U(width - 1));
  return bits_as<T>(select(lt(d, constant<D>(width)), shifted, constant<D>(0)));
}
template <class V> OD_INLINE V shift_right(V a, V distance) {
  typedef element<V> T;
  typedef unsigned_of<T> U;
  constexpr U width = U(sizeof(T) * 8);
  const auto d = bits_as<U>(distance);
  typedef decltype(bits_as<U>(distance)) D;
  if constexpr (is_signed<T>) return a >> bits_as<T>(select(lt(d, constant<D>(width)), d, constant<D>(width - 1)));
  else return select(lt(d, constant<D>(width)), V(a >> (d & U(width - 1))), constant<V>(0));
}

namespace detail {

template <class T> OD_INLINE T floordiv_integer(T a, T b) {
  if (b == 0) return 0;
  if constexpr (is_signed<T>) {
    if (b == -1) return T(-unsigned_of<T>(a));
    const T q = a / b;
    return a % b != 0 && (a < 0) != (b < 0) ? q - 1 : q;
  } else return a / b;
}
template <class T> OD_INLINE T floormod_integer(T a, T b) {
  if (b == 0) return 0;
  if constexpr (is_signed<T>) {
    if (b == -1) return 0;
    const T r = a % b;
    return r != 0 && (r < 0) != (b < 0) ? r + b : r;
  } else return a % b;
}

// a mod b for a, b >= 0, exactly. A quotient too large for one step is taken off in pieces: with the quotient rounded
// down to the precision of T, what is left fits the significand and the fma that computes it does not round.
template <class V> OD_INLINE V remainder_magnitude(V a, V b) {
  typedef element<V> T;
  typedef signed_of<T> I;
  constexpr bool single = sizeof(T) == 4;
  const V whole = constant<V>(single ? T(16777216) : T(9007199254740992));
  const T up = single ? T(0x1p127) : T(0x1p1023);
  const V infinity = constant<V>(__builtin_inff()), zero = constant<V>(0);
  const auto usable = lt(a, infinity) & gt(b, zero);
  V r = a;
#if !defined(OD_HAS_FMA) && defined(__x86_64__)
  // The emulated fma cannot reach the ends of double's range; the x87's remainder instruction can.
  if constexpr (!single) {
    for (int k = 0; k < lanes<V>; ++k) {
      if (!(a[k] < infinity[k] && b[k] > 0)) continue;
      long double left = a[k], by = b[k];
      unsigned short status;
      do __asm__("fprem\n\tfnstsw %1" : "+t"(left), "=a"(status) : "u"(by));
      while (status & 0x400);
      r[k] = double(left);
    }
    return select(usable, r, constant<V>(__builtin_nanf("")));
  }
#endif
  for (;;) {
    const auto more = usable & ge(r, b);
    if (!any(more)) break;
    // Where r / b would overflow, divide by a multiple of b instead; twice if need be.
    V divisor = b, q = r / b;
    for (int k = 0; k < 2; ++k) {
      const auto large = ge(q, infinity);
      divisor = select(large, V(divisor * up), divisor);
      q = select(large, V(r / divisor), q);
    }
    const auto huge = ge(q, whole);
    q = select(huge, q, trunc(q));
    const auto over = lt(fma(-q, divisor, r), zero);
    q = select(over, select(huge, V(bits_as<T>(bits_as<I>(q) - I(1))), V(q - T(1))), q);
    r = select(more, fma(-q, divisor, r), r);
  }
  return select(usable, r, constant<V>(__builtin_nanf("")));
}

struct floordiv_step {
  template <class V> OD_MEMBER V operator()(V a, V b) const;
};
struct floormod_step {
  template <class V> OD_MEMBER V operator()(V a, V b) const;
};

// As NumPy's divmod does it: the remainder first, the quotient from it.
template <class V> OD_MEMBER V floormod_step::operator()(V a, V b) const {
  const V zero = constant<V>(0), m = copysign(remainder_magnitude(abs(a), abs(b)), a);
  const auto differ = ne(m, zero) & ~isnan(m) & (signbit(m) ^ signbit(b));
  V r = select(differ, V(m + b), m);
  r = select(eq(m, zero), copysign(zero, b), r);
  return r;
}
template <class V> OD_MEMBER V floordiv_step::operator()(V a, V b) const {
  typedef element<V> T;
  const V zero = constant<V>(0), m = copysign(remainder_magnitude(abs(a), abs(b)), a);
  const auto differ = ne(m, zero) & ~isnan(m) & (signbit(m) ^ signbit(b));
  V q = (a - m) / b;
  q = select(differ, V(q - T(1)), q);
  V whole = floor(q);
  whole = select(gt(V(q - whole), constant<V>(T(0.5))), V(whole + T(1)), whole);
  const V quotient = a / b;
  whole = select(eq(q, zero), copysign(zero, quotient), whole);
  return select(eq(b, zero), quotient, whole);
}

template <class V, class F> OD_INLINE V each_lane(V a, V b, F f) {
  V r = a;
  if constexpr (is_wide<V>) return V{each_lane(a.low, b.low, f), each_lane(a.high, b.high, f)};
  else {
    for (int k = 0; k < lanes<V>; ++k) r[k] = f(a[k], b[k]);
    return r;
  }
}

}  // namespace detail

// Python's // and %: towards minus infinity. Integers: division by zero gives 0, the smallest number over -1 wraps.
template <class V> OD_INLINE V floordiv(V a, V b) {
  typedef element<V> T;
  if constexpr (is_float<T>) return detail::by_register(detail::floordiv_step{}, a, b);
  else if constexpr (is_scalar<V>) return detail::floordiv_integer(a, b);
  else if constexpr (sizeof(T) == 4 && !is_wide<V>) {
    // A double holds the quotient of 32-bit integers closely enough to be rounded down right.
    const V zero = constant<V>(0);
    const auto divisor = convert<double>(select(eq(b, zero), constant<V>(1), b));
    const auto q = floor(convert<double>(a) / divisor);
    return select(eq(b, zero), zero, bits_as<T>(convert<i32>(convert<i64>(q))));
  } else if constexpr (sizeof(T) == 4) return V{floordiv(a.low, b.low), floordiv(a.high, b.high)};
  else return detail::each_lane(a, b, [](T x, T y) { return detail::floordiv_integer(x, y); });
}
template <class V> OD_INLINE V floormod(V a, V b) {
  typedef element<V> T;
  if constexpr (is_float<T>) return detail::by_register(detail::floormod_step{}, a, b);
  else if constexpr (is_scalar<V>) return detail::floormod_integer(a, b);
  else if constexpr (sizeof(T) == 4) {
    const V zero = constant<V>(0);
    return select(eq(b, zero), zero, V(a - floordiv(a, b) * b));
  } else return detail::each_lane(a, b, [](T x, T y) { return detail::floormod_integer(x, y); });
}

}  // namespace od

#endif

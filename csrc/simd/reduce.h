// Reductions and scans over the lanes of one vector. The order is a fixed tree (lane k with lane k + L/2, then the
// halves again), so the same lanes give the same bits on every machine.
#ifndef OPDSL_SIMD_REDUCE_H
#define OPDSL_SIMD_REDUCE_H

#include "arithmetic.h"

namespace od {
namespace detail {

template <class V, class F> OD_INLINE element<V> reduce(V v, F f) {
  if constexpr (is_scalar<V>) return v;
  else if constexpr (lanes<V> == 1) return v[0];
  else return reduce(f(low_half(v), high_half(v)), f);
}

template <int Distance, int L, class V, int... I> OD_INLINE V shift_lanes(V v, V filler, indices<I...>) {
  return __builtin_shufflevector(filler, v, (I < Distance ? I : L + I - Distance)...);
}
// Inclusive; Hillis & Steele within a register (log2 L steps), registers one after another.
template <int Distance, class V, class F> OD_INLINE V scan(V v, element<V> neutral, F f) {
  constexpr int L = lanes<V>;
  if constexpr (is_wide<V>) {
    const auto low = scan<1>(v.low, neutral, f), high = scan<1>(v.high, neutral, f);
    return V{low, f(splat<element<V>, L / 2>(low[L / 2 - 1]), high)};
  } else if constexpr (Distance >= L) return v;
  else return scan<Distance * 2>(f(shift_lanes<Distance, L>(v, constant<V>(neutral), up_to<L>{}), v), neutral, f);
}

#define OD_COMBINE(name, expression)                                                                                 \
  struct name {                                                                                                      \
    template <class V> OD_MEMBER V operator()(V a, V b) const { return expression; }                                 \
  };
OD_COMBINE(combine_add, a + b)
OD_COMBINE(combine_mul, a * b)
OD_COMBINE(combine_min, od::min(a, b))
OD_COMBINE(combine_max, od::max(a, b))
OD_COMBINE(combine_and, a & b)
OD_COMBINE(combine_or, a | b)
OD_COMBINE(combine_xor, a ^ b)
#undef OD_COMBINE

}  // namespace detail

// The smallest and largest value of a type: the neutral elements of max and min.
template <class T> constexpr T lowest() {
  if constexpr (is_float<T>) return T(-__builtin_inff());
  else if constexpr (is_signed<T>) return T(unsigned_of<T>(1) << (sizeof(T) * 8 - 1));
  else return 0;
}
template <class T> constexpr T highest() {
  if constexpr (is_float<T>) return T(__builtin_inff());
  else if constexpr (is_signed<T>) return T(unsigned_of<T>(-1) >> 1);
  else return T(-1);
}

template <class V> OD_INLINE element<V> reduce_add(V v) { return detail::reduce(v, detail::combine_add{}); }
template <class V> OD_INLINE element<V> reduce_mul(V v) { return detail::reduce(v, detail::combine_mul{}); }
template <class V> OD_INLINE element<V> reduce_min(V v) { return detail::reduce(v, detail::combine_min{}); }
template <class V> OD_INLINE element<V> reduce_max(V v) { return detail::reduce(v, detail::combine_max{}); }
template <class V> OD_INLINE element<V> reduce_and(V v) { return detail::reduce(v, detail::combine_and{}); }
template <class V> OD_INLINE element<V> reduce_or(V v) { return detail::reduce(v, detail::combine_or{}); }
template <class V> OD_INLINE element<V> reduce_xor(V v) { return detail::reduce(v, detail::combine_xor{}); }

// Inclusive scans: lane k combines lanes 0..k.
template <class V> OD_INLINE V scan_add(V v) { return detail::scan<1>(v, element<V>(0), detail::combine_add{}); }
template <class V> OD_INLINE V scan_mul(V v) { return detail::scan<1>(v, element<V>(1), detail::combine_mul{}); }
template <class V> OD_INLINE V scan_min(V v) { return detail::scan<1>(v, highest<element<V>>(), detail::combine_min{}); }
template <class V> OD_INLINE V scan_max(V v) { return detail::scan<1>(v, lowest<element<V>>(), detail::combine_max{}); }

}  // namespace od

#endif

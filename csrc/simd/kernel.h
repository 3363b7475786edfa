// What generated kernels use beside vectors: bounds of slices, grids, updates, reports.
#ifndef OPDSL_SIMD_KERNEL_H
#define OPDSL_SIMD_KERNEL_H

#include "abi.h"
#include "simd.h"

namespace od {

OD_INLINE i64 smaller(i64 a, i64 b) { return a < b ? a : b; }
OD_INLINE i64 larger(i64 a, i64 b) { return a > b ? a : b; }
// Rounds up; b > 0.
OD_INLINE i64 ceil_div(i64 a, i64 b) { return a >= 0 ? (a + b - 1) / b : -(-a / b); }
OD_INLINE bool inside(i64 index, i64 size) { return u64(index) < u64(size); }

// Places k of a slice start, start + step, ... (`length` of them) that lie in 0..size: slice_low <= k < slice_high. `start`
// may be any number, as what NaN becomes; distances are unsigned, since they may be more than an i64 holds.
OD_INLINE i64 steps_to(u64 distance, i64 step, i64 length) {
  const u64 steps = distance ? (distance - 1) / u64(step) + 1 : 0;
  return steps < u64(length) ? i64(steps) : length;
}
OD_INLINE i64 slice_low(i64 start, i64 step, i64 length) {
  return start >= 0 ? 0 : steps_to(-u64(start), step, length);
}
OD_INLINE i64 slice_high(i64 start, i64 step, i64 length, i64 size) {
  return start >= size ? 0 : steps_to(u64(size) - u64(start), step, length);
}

// A tensor of so many bytes displaces what the caches hold, and reading its lines only to overwrite them costs a third of
// the memory's time: stores to it go past the caches.
OD_INLINE bool is_huge(i64 bytes) { return bytes >= i64(8) << 20; }
template <int L, class S> OD_INLINE void store_past(S* p, vec<register_of<S>, L> v, bool streams) {
  if (streams) store_stream<L>(p, v);
  else store<L>(p, v);
}

// Elements from p to the first place where a vector may be stored so; 0 where there is none.
template <int L, class S> OD_INLINE i64 before_boundary(const S* p) {
  constexpr u64 bytes = L * sizeof(S) < 64 ? L * sizeof(S) : 64;
  return (u64)p % sizeof(S) ? 0 : i64(-(u64)p % bytes / sizeof(S));
}

// Iterations of range(start, stop, step); step > 0.
OD_INLINE i64 trips(i64 start, i64 stop, i64 step) {
  return stop <= start ? 0 : steps_to(u64(stop) - u64(start), step, i64(~u64(0) >> 1));
}

// The same for a step of any sign, as many as there may be; none for a step of 0.
OD_INLINE u64 trips_either_way(i64 start, i64 stop, i64 step) {
  if (step > 0) return stop <= start ? 0 : (u64(stop) - u64(start) - 1) / u64(step) + 1;
  if (step < 0) return stop >= start ? 0 : (u64(start) - u64(stop) - 1) / -u64(step) + 1;
  return 0;
}

// The first n lanes.
template <int L> OD_INLINE mask<L> first_lanes(i64 n) {
  const i32 count = n < 0 ? 0 : n > L ? L : i32(n);
  return lt(iota<i32, L>(), splat<i32, L>(count));
}

// Lanes whose index lies in 0..size.
template <class V> OD_INLINE auto inside_lanes(V index, i64 size) {
  return ge(index, constant<V>(0)) & lt(index, constant<V>(size));
}

#define OD_UPDATE(name, combined)                                                                        \
  template <class S> OD_INLINE void plain_##name(S* p, register_of<S> x) {                               \
    const register_of<S> old = load1(p);                                                                 \
    store1(p, combined);                                                                                 \
  }                                                                                                      \
  template <int L, class S> OD_INLINE void update_##name(S* p, vec<register_of<S>, L> x, mask<L> ok) {   \
    if (all(ok)) {                                                                                       \
      const auto old = load<L>(p);                                                                       \
      store<L>(p, combined);                                                                             \
    } else {                                                                                             \
      for (int k = 0; k < L; ++k)                                                                        \
        if (ok[k]) plain_##name(p + k, x[k]);                                                            \
    }                                                                                                    \
  }
OD_UPDATE(add, old + x)
OD_UPDATE(max, od::max(old, x))
OD_UPDATE(min, od::min(old, x))
#undef OD_UPDATE

// A parallel loop whose body works on a copy of its captured values: copies stay in registers, where values behind the
// closure's pointer would have to be read again after every store.
template <class Body>
OD_INLINE i32 run_grid(const opdsl_runtime* runtime, i64 count, i64 chunk, i64 scratch_bytes, const Body& body) {
  struct trampoline {
    static void call(void* closure, opdsl_i64 begin, opdsl_i64 end, char* scratch) {
      const Body copy = *static_cast<const Body*>(closure);
      copy(begin, end, scratch);
    }
  };
  if (count <= 0) return OPDSL_OK;
  return runtime->parallel_for(runtime, count, chunk, scratch_bytes, &trampoline::call,
                               const_cast<void*>(static_cast<const void*>(&body)));
}

// For what is read from front to back: the hardware prefetcher stops at the ends of pages, and starts anew too late, above all
// for loops that compute much on an element. Of 1 to 16 KiB ahead, a page gained most (gelu of 16M elements: 1.6 times).
OD_INLINE void prefetch_ahead(const void* p) { __builtin_prefetch((const char*)p + 4096, 0, 3); }
// Into the second-level cache: for what is wanted after many other things.
OD_INLINE void prefetch_far(const void* p) { __builtin_prefetch(p, 0, 2); }

// How many iterations of a grid to hand out together, where `same` neighbours share what is remembered: all of these,
// unless that leaves fewer than eight pieces.
OD_INLINE i64 memo_chunk(i64 same, i64 total) {
  return total >= 8 * same ? same : larger(1, smaller(same, total / 8));
}

// Zeros in `rows` rows of `columns` elements.
template <class T> OD_INLINE void fill_rows(T* p, i64 row_stride, i64 rows, i64 columns) {
  for (i64 i = 0; i < rows; ++i)
    for (i64 j = 0; j < columns; ++j) p[i * row_stride + j] = T(0);
}

// C (+)= A . B in i32, any integer elements; every operand's rows have unit column stride.
template <class S>
OD_INLINE void dot_plain(const S* a, i64 a_row_stride, i64 a_k_stride, const S* b, i64 b_k_stride, i32* c,
                           i64 c_row_stride, i64 m, i64 n, i64 k, bool accumulate) {
  for (i64 i = 0; i < m; ++i) {
    i32* row = c + i * c_row_stride;
    if (!accumulate)
      for (i64 j = 0; j < n; ++j) row[j] = 0;
    for (i64 l = 0; l < k; ++l) {
      const u32 left = u32(a[i * a_row_stride + l * a_k_stride]);
      const S* right = b + l * b_k_stride;
      for (i64 j = 0; j < n; ++j) row[j] = i32(u32(row[j]) + left * u32(right[j]));
    }
  }
}

// One of the four words of a Philox block; Lanes = 0 for a scalar.
template <int Lanes, class Counter> OD_INLINE auto random_word(i64 seed, Counter counter, int word) {
  if constexpr (Lanes == 0) return philox4<1>(seed, vec<i64, 1>{counter}).word[word][0];
  else return philox4<Lanes>(seed, counter).word[word];
}

// Integer powers by squaring; a negative exponent gives 0.
template <class V> OD_INLINE V ipow(V base, V exponent) {
  if constexpr (is_scalar<V>) {
    typedef unsigned_of<V> U;
    if (is_signed<V> && exponent < 0) return V(0);
    U result = 1, power = U(base);
    for (U left = U(exponent); left; left >>= 1) {
      if (left & 1) result *= power;
      power *= power;
    }
    return V(result);
  } else {
    V result = base;
    for (int k = 0; k < lanes<V>; ++k) result = insert(result, k, ipow(base[k], exponent[k]));
    return result;
  }
}

// Keeps the site of the first od.assert_ that failed.
OD_INLINE void record_failure(i32* failed, i32 site) {
  i32 none = 0;
  __atomic_compare_exchange_n(failed, &none, site + 1, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

}  // namespace od

#endif

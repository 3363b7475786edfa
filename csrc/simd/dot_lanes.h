// Products of few rows with vectors along k: faster than dot_inner in the caches, in another order.
#ifndef OPDSL_DOT_LANES_H
#define OPDSL_DOT_LANES_H

#include "dot_vector.h"
#include "reduce.h"

namespace od {

// R rows of A by N rows of B, vectors along k. Rows beyond m or n repeat the last one and are not stored.
template <class T, class S, int R, int N>
OD_NOINLINE void dot_lanes_block(const T* a, i64 a_row_stride, const S* b, i64 b_row_stride, T* c, i64 c_row_stride,
                                 i64 m, i64 n, i64 k, bool accumulate) {
  typedef typename dot_config<T>::vector vector;
  constexpr int L = dot_config<T>::lanes;
  vector sum[R][N];
  const T* left[R];
  const S* right[N];
  OD_UNROLL for (int r = 0; r < R; r++) {
    left[r] = a + (r < m ? r : m - 1) * a_row_stride;
    OD_UNROLL for (int j = 0; j < N; j++) sum[r][j] = vector{};
  }
  OD_UNROLL for (int j = 0; j < N; j++) right[j] = b + (j < n ? j : n - 1) * b_row_stride;
  i64 i = 0;
  for (; i + L <= k; i += L) {
    vector w[N];
    OD_UNROLL for (int j = 0; j < N; j++) {
      w[j] = dot_load_as<T>(right[j] + i);
      __builtin_prefetch(right[j] + i + N * b_row_stride, 0, 2);  // the rows after these
    }
    OD_UNROLL for (int r = 0; r < R; r++) {
      const vector x = dot_load(left[r] + i);
      OD_UNROLL for (int j = 0; j < N; j++) sum[r][j] = dot_multiply_add<T>(x, w[j], sum[r][j]);
    }
  }
  if (i < k) {
    vector w[N];
    OD_UNROLL for (int j = 0; j < N; j++) w[j] = dot_load_as<T>(right[j] + i, k - i);
    OD_UNROLL for (int r = 0; r < R; r++) {
      const vector x = dot_load_as<T>(left[r] + i, k - i);
      OD_UNROLL for (int j = 0; j < N; j++) sum[r][j] = dot_multiply_add<T>(x, w[j], sum[r][j]);
    }
  }
  alignas(64) vector sums[R * N];
  OD_UNROLL for (int r = 0; r < R; r++) {
    OD_UNROLL for (int j = 0; j < N; j++) sums[r * N + j] = sum[r][j];
  }
  for (i64 r = 0; r < (m < R ? m : R); r++) {
    for (i64 j = 0; j < (n < N ? n : N); j++) {
      T* to = c + r * c_row_stride + j;
      *to = reduce_add(sums[r * N + j]) + (accumulate ? *to : T(0));
    }
  }
}

template <class T, class S, int R, int N>
OD_INLINE void dot_lanes_rows(const T* a, i64 a_row_stride, const S* b, i64 b_row_stride, T* c, i64 c_row_stride, i64 m,
                              i64 n, i64 k, bool accumulate) {
  for (i64 j = 0; j < n; j += N)
    dot_lanes_block<T, S, R, N>(a, a_row_stride, b + j * b_row_stride, b_row_stride, c + j, c_row_stride, m, n - j, k,
                                accumulate);
}

// What dot_inner computes, without turning anything: each element is the sum of `lanes` chains over k, added up pairwise.
// Other bits than all other functions, so that it is used only where OPDSL_BATCH_INVARIANT=0 asks for speed.
template <class T, class S>
OD_INLINE void dot_lanes(const T* a, i64 a_row_stride, const S* b, i64 b_row_stride, T* c, i64 c_row_stride, i64 m,
                         i64 n, i64 k, bool accumulate) {
#if defined(OD_AVX512) || defined(__aarch64__)
  constexpr int wide = 3, middle = 4, narrow = 8;
#else
  constexpr int wide = 1, middle = 2, narrow = 4;
#endif
  for (; m > 0; m -= 8, a += 8 * a_row_stride, c += 8 * c_row_stride) {
    if (m > 4) dot_lanes_rows<T, S, 8, wide>(a, a_row_stride, b, b_row_stride, c, c_row_stride, m, n, k, accumulate);
    else if (m > 1)
      dot_lanes_rows<T, S, 4, middle>(a, a_row_stride, b, b_row_stride, c, c_row_stride, m, n, k, accumulate);
    else dot_lanes_rows<T, S, 1, narrow>(a, a_row_stride, b, b_row_stride, c, c_row_stride, m, n, k, accumulate);
  }
}

}  // namespace od
#endif

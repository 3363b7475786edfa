// Products with few rows of A, bound by reading B once from memory: B is not packed.
#ifndef OPDSL_DOT_SKINNY_H
#define OPDSL_DOT_SKINNY_H

#include "dot_kernel.h"
#include "dot_pack.h"
#include "reduce.h"

namespace od {

// R rows of A by V vectors of B's columns, over a few rows of B. Rows beyond m repeat the last one and are not stored;
// with Edge there are n < V * lanes columns.
template <class T, class S, int R, int V, bool Edge>
OD_NOINLINE void dot_rows_block(const T* a, i64 a_row_stride, i64 a_k_stride, const S* b, i64 b_k_stride, T* c,
                                i64 c_row_stride, i64 m, i64 n, i64 k, bool accumulate) {
  typedef typename dot_config<T>::vector vector;
  constexpr int L = dot_config<T>::lanes;
  vector sum[R][V];
  const T* left[R];
  OD_UNROLL for (int r = 0; r < R; r++) {
    left[r] = a + (r < m ? r : m - 1) * a_row_stride;
    OD_UNROLL for (int v = 0; v < V; v++) sum[r][v] = vector{};
  }
  for (i64 i = 0; i < k; i++) {
    vector right[V];
    OD_UNROLL for (int v = 0; v < V; v++) {
      if constexpr (Edge) {
        right[v] = v * L < n ? dot_load_as<T>(b + v * L, n - v * L) : vector{};
      } else {
        right[v] = dot_load_as<T>(b + v * L);
        if (v * L * sizeof(S) % 64 == 0) __builtin_prefetch((const char*)(b + v * L) + 256, 0, 2);
      }
    }
    b += b_k_stride;
    OD_UNROLL for (int r = 0; r < R; r++) {
      const vector x = dot_broadcast(*left[r]);
      left[r] += a_k_stride;
      OD_UNROLL for (int v = 0; v < V; v++) sum[r][v] = dot_multiply_add<T>(x, right[v], sum[r][v]);
    }
  }
  OD_UNROLL for (int r = 0; r < R; r++) {
    if (r >= m) break;
    OD_UNROLL for (int v = 0; v < V; v++) {
      T* to = c + r * c_row_stride + v * L;
      if constexpr (Edge) {
        if (v * L >= n) break;
        const vector before = accumulate ? dot_load_as<T>(to, n - v * L) : vector{};
        store_range<L>(to, accumulate ? before + sum[r][v] : sum[r][v], 0, n - v * L);
      } else {
        dot_store(to, accumulate ? dot_load(to) + sum[r][v] : sum[r][v]);
      }
    }
  }
}

template <class T, class S, int R, int V>
OD_INLINE void dot_rows_strips(const T* a, i64 a_row_stride, i64 a_k_stride, const S* b, i64 b_k_stride, T* c,
                               i64 c_row_stride, i64 m, i64 n, i64 k, bool accumulate) {
  constexpr i64 strip = 32, columns = V * dot_config<T>::lanes;
  for (i64 i = 0; i == 0 || i < k; i += strip) {
    const T* left = a + i * a_k_stride;
    const i64 depth = k - i < strip ? k - i : strip;
    i64 j = 0;
    for (; j + columns <= n; j += columns)
      dot_rows_block<T, S, R, V, false>(left, a_row_stride, a_k_stride, b + i * b_k_stride + j, b_k_stride, c + j,
                                        c_row_stride, m, columns, depth, accumulate || i > 0);
    if (j < n)
      dot_rows_block<T, S, R, V, true>(left, a_row_stride, a_k_stride, b + i * b_k_stride + j, b_k_stride, c + j,
                                       c_row_stride, m, n - j, depth, accumulate || i > 0);
  }
}

// B in rows (unit column stride). A strip of a few rows of B at a time, along all of n: memory is read in long runs,
// and C stays in L2. 16-bit B is widened in registers.
template <class T, class S>
OD_INLINE void dot_rows(const T* a, i64 a_row_stride, i64 a_k_stride, const S* b, i64 b_k_stride, T* c,
                        i64 c_row_stride, i64 m, i64 n, i64 k, bool accumulate) {
#if defined(OD_AVX512) || defined(__aarch64__)
  constexpr int most = 8, one = 8;
#else
  constexpr int most = 4, one = 4;
#endif
  for (; m > 0; m -= most, a += most * a_row_stride, c += most * c_row_stride) {
    if (m > 1)
      dot_rows_strips<T, S, most, 2>(a, a_row_stride, a_k_stride, b, b_k_stride, c, c_row_stride, m, n, k, accumulate);
    else
      dot_rows_strips<T, S, 1, one>(a, a_row_stride, a_k_stride, b, b_k_stride, c, c_row_stride, m, n, k, accumulate);
  }
}

// R rows of A by N rows of B, vectors along k. Rows beyond m or n repeat the last one and are not stored.
template <class T, class S, int R, int N>
OD_NOINLINE void dot_inner_block(const T* a, i64 a_row_stride, const S* b, i64 b_row_stride, T* c, i64 c_row_stride,
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
OD_INLINE void dot_inner_rows(const T* a, i64 a_row_stride, const S* b, i64 b_row_stride, T* c, i64 c_row_stride, i64 m,
                              i64 n, i64 k, bool accumulate) {
  for (i64 j = 0; j < n; j += N)
    dot_inner_block<T, S, R, N>(a, a_row_stride, b + j * b_row_stride, b_row_stride, c + j, c_row_stride, m, n - j, k,
                                accumulate);
}

// A and B both with unit k stride (B is n x k). Each element is the sum of `lanes` chains over k, added up pairwise:
// other bits than the functions above, but always the same ones. Rows go through eight at a time; beyond about 16,
// packing B pays.
template <class T, class S>
OD_INLINE void dot_inner(const T* a, i64 a_row_stride, const S* b, i64 b_row_stride, T* c, i64 c_row_stride, i64 m,
                         i64 n, i64 k, bool accumulate) {
#if defined(OD_AVX512) || defined(__aarch64__)
  constexpr int wide = 3, middle = 4, narrow = 8;
#else
  constexpr int wide = 1, middle = 2, narrow = 4;
#endif
  for (; m > 0; m -= 8, a += 8 * a_row_stride, c += 8 * c_row_stride) {
    if (m > 4) dot_inner_rows<T, S, 8, wide>(a, a_row_stride, b, b_row_stride, c, c_row_stride, m, n, k, accumulate);
    else if (m > 1)
      dot_inner_rows<T, S, 4, middle>(a, a_row_stride, b, b_row_stride, c, c_row_stride, m, n, k, accumulate);
    else dot_inner_rows<T, S, 1, narrow>(a, a_row_stride, b, b_row_stride, c, c_row_stride, m, n, k, accumulate);
  }
}

}  // namespace od
#endif

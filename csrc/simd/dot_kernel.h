// C (+)= A . B with register-blocked micro-kernels. C is row-major with unit column stride; A is read by broadcast
// through any two strides; B comes as packed panels (dot_packed) or as rows with unit column stride (dot_direct).
//
// Each call sums one chain of multiply-adds over its k in ascending order, from zero, and then adds it to C: the bits of
// an element do not depend on where it lies in a tile, and long sums made by several calls round as sums of parts do.
#ifndef OPDSL_DOT_KERNEL_H
#define OPDSL_DOT_KERNEL_H

#include "dot_vector.h"

namespace od {

// One register tile: the first m <= R rows by V vectors of a panel. The rows beyond m repeat the last one and are not
// stored, which costs less code than a kernel for each row count.
template <class T, int R, int V>
OD_NOINLINE void dot_block(const typename dot_config<T>::element* a, i64 a_row_stride, i64 a_k_stride,
                           const typename dot_config<T>::element* b, i64 b_k_stride,
                           typename dot_config<T>::result* c, i64 c_row_stride, i64 m, i64 k, bool accumulate) {
  typedef typename dot_config<T>::element element;
  typedef typename dot_config<T>::vector vector;
  constexpr int L = dot_config<T>::lanes;
  vector sum[R][V];
  // A pointer for each row and one index for all: addresses are base + index, so that a step adds to the index alone.
  const element* row[R];
  OD_UNROLL for (int r = 0; r < R; r++) {
    row[r] = a + (r < m ? r : m - 1) * a_row_stride;
    OD_UNROLL for (int v = 0; v < V; v++) sum[r][v] = vector{};
  }
  if constexpr (same<T, quads>) {
    // The panel begins with the correction for A's offset: see dot_integer.h.
    OD_UNROLL for (int v = 0; v < V; v++) {
      const vector correction = dot_load(b + v * L);
      OD_UNROLL for (int r = 0; r < R; r++) sum[r][v] += correction;
    }
    b += b_k_stride;
  }
  i64 at = 0;
  _Pragma("GCC unroll 2") for (i64 i = 0; i < k; i++) {
    vector right[V];
    OD_UNROLL for (int v = 0; v < V; v++) {
      right[v] = dot_load(b + v * L);
    }
    b += b_k_stride;
    OD_UNROLL for (int r = 0; r < R; r++) {
      const vector left = dot_broadcast(row[r][at]);
      OD_UNROLL for (int v = 0; v < V; v++) sum[r][v] = dot_multiply_add<T>(left, right[v], sum[r][v]);
    }
    at += a_k_stride;
  }
  OD_UNROLL for (int r = 0; r < R; r++) {
    if (r >= m) break;
    OD_UNROLL for (int v = 0; v < V; v++) {
      auto* to = c + r * c_row_stride + v * L;
      dot_store(to, accumulate ? dot_load(to) + sum[r][v] : sum[r][v]);
    }
  }
}

// The first n <= columns elements of each of `rows` rows.
template <class T>
OD_NOINLINE void dot_copy_part(const T* from, i64 from_stride, T* to, i64 to_stride, i64 rows, i64 n) {
  constexpr int L = native_lanes<T>;
  for (i64 r = 0; r < rows; r++) {
    _Pragma("GCC unroll 1") for (i64 j = 0; j < n; j += L)
      store_range<L>(to + r * to_stride + j, load_range<L>(from + r * from_stride + j, 0, n - j, 0), 0, n - j);
  }
}

// All panels of B for all rows. Rows are the outer loop: a few rows of A stay in L1 while the panels stream from L2.
// The columns beyond the last whole panel go through narrower register tiles; the last ones that do not fill a vector
// are read as if they did.
template <class T>
OD_NOINLINE void dot_panels(const typename dot_config<T>::element* a, i64 a_row_stride, i64 a_k_stride,
                            const typename dot_config<T>::element* b, i64 b_k_stride, i64 b_panel_stride,
                            typename dot_config<T>::result* c, i64 c_row_stride, i64 m, i64 n, i64 k,
                            bool accumulate) {
  constexpr int R = dot_config<T>::rows, V = dot_config<T>::vectors, L = dot_config<T>::lanes;
  alignas(64) typename dot_config<T>::result partial[R * L];  // what is read of it has been written before
  while (m > 0) {
    const i64 rows = m < R ? m : R;
    for (i64 j = 0; j < n; j += V * L) {
      const auto* panel = b + j / (V * L) * b_panel_stride;
      auto* to = c + j;
      i64 left = n - j < V * L ? n - j : V * L;
      if (left == V * L) {
        if (R > 4 && rows <= 4)
          dot_block<T, 4, V>(a, a_row_stride, a_k_stride, panel, b_k_stride, to, c_row_stride, rows, k, accumulate);
        else
          dot_block<T, R, V>(a, a_row_stride, a_k_stride, panel, b_k_stride, to, c_row_stride, rows, k, accumulate);
        continue;
      }
      for (; V > 2 && left >= 2 * L; left -= 2 * L, to += 2 * L, panel += 2 * L)
        dot_block<T, R, 2>(a, a_row_stride, a_k_stride, panel, b_k_stride, to, c_row_stride, rows, k, accumulate);
      for (; left > 0; left -= L, to += L, panel += L) {
        const bool whole = left >= L;
        if (!whole && accumulate) dot_copy_part(to, c_row_stride, partial, L, rows, left);
        dot_block<T, R, 1>(a, a_row_stride, a_k_stride, panel, b_k_stride, whole ? to : partial,
                           whole ? c_row_stride : L, rows, k, accumulate);
        if (!whole) dot_copy_part(partial, L, to, c_row_stride, rows, left);
      }
    }
    a += rows * a_row_stride;
    c += rows * c_row_stride;
    m -= rows;
  }
}

// B as pack_b leaves it: panel p holds columns p * columns.. of all k, row after row; `b_panel_stride` is
// columns * (the k extent that was packed), so a call may use a part of the packed k.
template <class T>
OD_INLINE void dot_packed(const typename dot_config<T>::element* a, i64 a_row_stride, i64 a_k_stride,
                          const typename dot_config<T>::element* b, i64 b_panel_stride,
                          typename dot_config<T>::result* c, i64 c_row_stride, i64 m, i64 n, i64 k, bool accumulate) {
  dot_panels<T>(a, a_row_stride, a_k_stride, b, dot_config<T>::columns, b_panel_stride, c, c_row_stride, m, n, k,
                accumulate);
}

// B as rows in memory, unit column stride, in pieces of k: the columns beyond the last whole vector go through a small
// packed copy of a piece, so nothing outside of B is read.
template <class T>
OD_INLINE void dot_direct(const T* a, i64 a_row_stride, i64 a_k_stride, const T* b, i64 b_k_stride, T* c,
                          i64 c_row_stride, i64 m, i64 n, i64 k, bool accumulate) {
  constexpr int L = dot_config<T>::lanes, columns = dot_config<T>::columns, piece = 128;
  const i64 whole = n / L * L;
  for (i64 i = 0; i == 0 || i < k; i += piece) {
    const i64 depth = k - i < piece ? k - i : piece;
    const T *left = a + i * a_k_stride, *right = b + i * b_k_stride;
    const bool add = accumulate || i > 0;
    if (whole > 0)
      dot_panels<T>(left, a_row_stride, a_k_stride, right, b_k_stride, columns, c, c_row_stride, m, whole, depth, add);
    if (whole == n) continue;
    alignas(64) T packed[piece * L] = {};
    dot_copy_part(right + whole, b_k_stride, packed, L, depth, n - whole);
    dot_panels<T>(left, a_row_stride, a_k_stride, packed, L, L, c + whole, c_row_stride, m, n - whole, depth, add);
  }
}

}  // namespace od
#endif

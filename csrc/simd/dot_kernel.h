// C (+)= A . B with register-blocked micro-kernels. C is row-major with unit column stride; A is read by broadcast
// through any two strides; B comes as packed panels (dot_packed) or as rows with unit column stride (dot_direct).
//
// Each call sums one chain of multiply-adds over its k in ascending order, from zero, and then adds it to C: the bits of
// an element do not depend on where it lies in a tile, and long sums made by several calls round as sums of parts do.
#ifndef OPDSL_DOT_KERNEL_H
#define OPDSL_DOT_KERNEL_H

#include "dot_vector.h"

namespace od {

// One register tile: R rows (with Edge, the first m <= R of them) by the first V vectors of a panel. The rows beyond m
// repeat the last one and are not stored, which costs less code than a kernel for each row count.
template <class T, int R, bool Edge, int V = dot_config<T>::vectors>
OD_NOINLINE void dot_block(const typename dot_config<T>::element* a, i64 a_row_stride, i64 a_k_stride,
                           const typename dot_config<T>::element* b, i64 b_k_stride,
                           typename dot_config<T>::result* c, i64 c_row_stride, i64 m, i64 k, bool accumulate) {
  typedef typename dot_config<T>::element element;
  typedef typename dot_config<T>::vector vector;
  constexpr int L = dot_config<T>::lanes;
  vector sum[R][V];
  // x86 addresses are base + index + displacement: three rows share a base pointer, so that 12 rows need few
  // registers. The empty asm keeps the compiler from deriving all the bases from one.
  constexpr int rows_per_base = Edge ? 1 : 3;
  constexpr int bases = (R + rows_per_base - 1) / rows_per_base;
  const element* base[bases];
  OD_UNROLL for (int g = 0; g < bases; g++) {
    base[g] = a + (Edge && g >= m ? m - 1 : g * rows_per_base) * a_row_stride;
    if (!Edge) asm("" : "+r"(base[g]));
  }
  OD_UNROLL for (int r = 0; r < R; r++) {
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
  // The panels stream from L2 faster than the hardware prefetcher brings them.
  _Pragma("GCC unroll 2") for (i64 i = 0; i < k; i++) {
    vector right[V];
    OD_UNROLL for (int v = 0; v < V; v++) {
      right[v] = dot_load(b + v * L);
      if (!Edge) __builtin_prefetch(b + 16 * b_k_stride + v * L);
    }
    b += b_k_stride;
    OD_UNROLL for (int r = 0; r < R; r++) {
      const vector left = dot_broadcast(base[r / rows_per_base][(r % rows_per_base) * a_row_stride]);
      OD_UNROLL for (int v = 0; v < V; v++) sum[r][v] = dot_multiply_add<T>(left, right[v], sum[r][v]);
    }
    OD_UNROLL for (int g = 0; g < bases; g++) base[g] += a_k_stride;
  }
  OD_UNROLL for (int r = 0; r < R; r++) {
    if (Edge && r >= m) break;
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

// All panels of B for all rows. Rows are the outer loop: R rows of A stay in L1 while the panels stream from L2.
template <class T>
OD_NOINLINE void dot_panels(const typename dot_config<T>::element* a, i64 a_row_stride, i64 a_k_stride,
                            const typename dot_config<T>::element* b, i64 b_k_stride, i64 b_panel_stride,
                            typename dot_config<T>::result* c, i64 c_row_stride, i64 m, i64 n, i64 k,
                            bool accumulate) {
  typedef typename dot_config<T>::result result;
  constexpr int full = dot_config<T>::rows, columns = dot_config<T>::columns;
  // Eight rows keep both multiply-add units busy; four with two vectors just do.
  constexpr int half = full > 8 ? 8 : full;
  alignas(64) result partial[full * columns];  // what is read of it has been written before
  while (m > 0) {
    // Two blocks of `half` rows run at full speed, where a full one would leave 4 rows that do not.
    i64 rows = m >= full && m != 2 * half ? full : m >= half ? half : m >= 4 ? 4 : m;
    const auto* panel = b;
    for (i64 j = 0; j < n; j += columns) {
      bool whole = n - j >= columns;
      // The next rows of A come from far away, in as many streams as there are rows: each panel fetches its share.
      for (i64 r = rows; a_k_stride == 1 && k >= 128 && r < 2 * rows; r++)
        for (i64 x = k * j / n; x < k * (j + columns) / n; x += 64 / sizeof(*a))
          __builtin_prefetch(a + r * a_row_stride + x, 0, 2);
      result* to = whole ? c + j : partial;
      i64 stride = whole ? c_row_stride : (i64)columns;
      if (!whole && accumulate) dot_copy_part(c + j, c_row_stride, to, stride, rows, n - j);
      if (rows == full && n - j <= dot_config<T>::lanes)
        dot_block<T, full, false, 1>(a, a_row_stride, a_k_stride, panel, b_k_stride, to, stride, rows, k, accumulate);
      else if (rows == full)
        dot_block<T, full, false>(a, a_row_stride, a_k_stride, panel, b_k_stride, to, stride, rows, k, accumulate);
      else if (half != full && rows == half)
        dot_block<T, half, false>(a, a_row_stride, a_k_stride, panel, b_k_stride, to, stride, rows, k, accumulate);
      else
        dot_block<T, 4, true>(a, a_row_stride, a_k_stride, panel, b_k_stride, to, stride, rows, k, accumulate);
      if (!whole) dot_copy_part(to, stride, c + j, c_row_stride, rows, n - j);
      panel += b_panel_stride;
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

// B as rows in memory, unit column stride, in pieces of k: the columns beyond the last whole panel go through a small
// packed copy of a piece, so nothing outside of B is read.
template <class T>
OD_INLINE void dot_direct(const T* a, i64 a_row_stride, i64 a_k_stride, const T* b, i64 b_k_stride, T* c,
                          i64 c_row_stride, i64 m, i64 n, i64 k, bool accumulate) {
  constexpr int columns = dot_config<T>::columns, piece = 128;
  const i64 whole = n / columns * columns;
  for (i64 i = 0; i == 0 || i < k; i += piece) {
    const i64 depth = k - i < piece ? k - i : piece;
    const T *left = a + i * a_k_stride, *right = b + i * b_k_stride;
    const bool add = accumulate || i > 0;
    if (whole > 0)
      dot_panels<T>(left, a_row_stride, a_k_stride, right, b_k_stride, columns, c, c_row_stride, m, whole, depth, add);
    if (whole == n) continue;
    alignas(64) T packed[piece * columns] = {};
    dot_copy_part(right + whole, b_k_stride, packed, columns, depth, n - whole);
    dot_panels<T>(left, a_row_stride, a_k_stride, packed, columns, columns, c + whole, c_row_stride, m, n - whole, depth,
                  add);
  }
}

}  // namespace od
#endif

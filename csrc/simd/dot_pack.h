// Copies for the dot kernels, widening on the way: B into panels (pack_b), A into padded rows (copy_a).
#ifndef OPDSL_DOT_PACK_H
#define OPDSL_DOT_PACK_H

#include "dot_vector.h"

namespace od {

// Swaps the off-diagonal D x D blocks of the pair of rows (x, y): doing so for D = L/2 .. 1 transposes an L x L matrix.
template <int D, class vector, int... I>
OD_INLINE void dot_swap(vector& x, vector& y, indices<I...>) {
  constexpr int L = sizeof...(I);
  vector low = __builtin_shufflevector(x, y, (I & D ? L + I - D : I)...);
  y = __builtin_shufflevector(x, y, (I & D ? L + I : I + D)...);
  x = low;
}

// The rows stay in memory, in L1: unrolled into registers this would be most of a kernel's compile time.
template <int D, int L, class vector>
OD_INLINE void dot_transpose(vector* row) {
  if constexpr (D > 0) {
    _Pragma("GCC unroll 1") for (int i = 0; i < L; i += 2 * D) {
      _Pragma("GCC unroll 1") for (int l = i; l < i + D; l++) dot_swap<D>(row[l], row[l + D], up_to<L>());
    }
    dot_transpose<D / 2, L>(row);
  }
}

// Where the destination of dot_copy lies: vector v of row i at i * row_stride + v / V * panel_stride + v % V * L.
struct dot_panels_layout {
  i64 row_stride, panel_stride;
};

template <class T>
OD_INLINE T* dot_place(T* dst, dot_panels_layout to, i64 row, i64 column) {
  constexpr i64 columns = dot_config<T>::columns;
  return dst + row * to.row_stride + column / columns * to.panel_stride + column % columns;
}

// Columns far apart and rows neighbours: L x L blocks are read along the rows and transposed. Runs along whole rows of
// memory, L of them at a time, which is what the hardware prefetcher can follow. `rows` is a multiple of L.
template <class T, class S>
OD_NOINLINE void dot_copy_transposed(const S* src, i64 column_stride, i64 rows, i64 columns, T* dst,
                                     dot_panels_layout to, i64 dst_columns) {
  typedef typename dot_config<T>::vector vector;
  constexpr int L = dot_config<T>::lanes;
  for (i64 j = 0; j < dst_columns; j += L) {
    T* panel = dot_place(dst, to, 0, j);
    const S* from = src + j * column_stride;
    const i64 width = columns - j;
    for (i64 i = 0; i < rows; i += L) {
      vector row[L];
      _Pragma("GCC unroll 1") for (int l = 0; l < L; l++) {
        // The L rows after these: 16 streams are too many for the hardware prefetcher to start anew so often.
        __builtin_prefetch(from + i + (l + L) * column_stride, 0, 2);
        row[l] = l < width ? dot_load_as<T>(from + i + l * column_stride) : vector{};
      }
      dot_transpose<L / 2, L>(row);
      _Pragma("GCC unroll 1") for (int l = 0; l < L; l++) dot_store(panel + (i + l) * to.row_stride, row[l]);
    }
  }
}

// dst = T(src), rows x columns, in whole vectors: lanes beyond `columns` are zero up to dst_columns, a multiple of L. Columns
// are neighbours in memory.
template <class T, class S>
OD_NOINLINE void dot_copy_rows(const S* src, i64 row_stride, i64 rows, i64 columns, T* dst, dot_panels_layout to,
                               i64 dst_columns) {
  constexpr int L = dot_config<T>::lanes;
  for (i64 i = 0; i < rows; i++) {
    const S* from = src + i * row_stride;
    // The next rows lie in other pages, where the hardware prefetcher does not go by itself.
    constexpr i64 ahead = 8;
    i64 j = 0;
    for (; j + L <= columns; j += L) {
      __builtin_prefetch(from + ahead * row_stride + j);
      dot_store(dot_place(dst, to, i, j), dot_load_as<T>(from + j));
    }
    for (; j < dst_columns; j += L) dot_store(dot_place(dst, to, i, j), dot_load_as<T>(from + j, columns - j));
  }
}

// The same for any strides.
template <class T, class S>
OD_NOINLINE void dot_copy(const S* src, i64 row_stride, i64 column_stride, i64 rows, i64 columns, T* dst,
                          dot_panels_layout to, i64 dst_columns) {
  constexpr int L = dot_config<T>::lanes;
  if (column_stride == 1) return dot_copy_rows<T>(src, row_stride, rows, columns, dst, to, dst_columns);
  i64 i = 0;
  if (row_stride == 1) {
    i = rows / L * L;
    dot_copy_transposed<T>(src, column_stride, i, columns, dst, to, dst_columns);
  }
  for (; i < rows; i++) {
    for (i64 j = 0; j < dst_columns; j++)
      *dot_place(dst, to, i, j) = j < columns ? dot_value_as<T>(src + i * row_stride + j * column_stride) : T(0);
  }
}

// B (k x n, any strides) into panels of dot_config<T>::columns columns, zero-filled to whole vectors: element (i, j) goes to
// dst[j / columns * panel_stride + i * columns + j % columns]. With panel_stride = columns * (all of k), successive
// calls may fill in pieces of k (dst advanced by columns * the k before) and of n.
template <class T, class S>
OD_INLINE void pack_b(const S* src, i64 k_stride, i64 n_stride, i64 k, i64 n, T* dst, i64 panel_stride) {
  constexpr int columns = dot_config<T>::columns, lanes = dot_config<T>::lanes;
  dot_copy<T, S>(src, k_stride, n_stride, k, n, dst, {columns, panel_stride}, (n + lanes - 1) / lanes * lanes);
}

// The same for n_stride = 1, in less code.
template <class T, class S>
OD_INLINE void pack_b_rows(const S* src, i64 k_stride, i64 k, i64 n, T* dst, i64 panel_stride) {
  constexpr int columns = dot_config<T>::columns, lanes = dot_config<T>::lanes;
  dot_copy_rows<T, S>(src, k_stride, k, n, dst, {columns, panel_stride}, (n + lanes - 1) / lanes * lanes);
}

// A (m x k, any strides) into rows dst_row_stride apart, a multiple of the lanes and at least k. An odd number of
// cache lines (such as k + 16 floats for k a multiple of 32) keeps the rows of a register tile in different L1 sets.
template <class T, class S>
OD_INLINE void copy_a(const S* src, i64 m_stride, i64 k_stride, i64 m, i64 k, T* dst, i64 dst_row_stride) {
  constexpr int lanes = dot_config<T>::lanes;
  dot_copy<T, S>(src, m_stride, k_stride, m, k, dst, {dst_row_stride, dot_config<T>::columns},
                 (k + lanes - 1) / lanes * lanes);
}

}  // namespace od
#endif

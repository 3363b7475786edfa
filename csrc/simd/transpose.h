// A part of a matrix whose rows lie contiguous in memory, into local memory where its columns do: square blocks of one
// register's lanes are transposed in registers.
#ifndef OPDSL_SIMD_TRANSPOSE_H
#define OPDSL_SIMD_TRANSPOSE_H

#include "memory.h"

#ifndef OD_NOINLINE
#define OD_NOINLINE static __attribute__((noinline, unused))
#endif

namespace od {
namespace detail {

// Swaps the off-diagonal D x D blocks of a pair of rows: doing so for D = L/2 .. 1 transposes an L x L matrix.
template <int D, class V, int... I> OD_INLINE void swap_blocks(V& x, V& y, indices<I...>) {
  constexpr int L = sizeof...(I);
  const V low = __builtin_shufflevector(x, y, (I & D ? L + I - D : I)...);
  y = __builtin_shufflevector(x, y, (I & D ? L + I : I + D)...);
  x = low;
}

template <int D, int L, class V> OD_INLINE void transpose_rows(V (&row)[L]) {
  if constexpr (D > 0) {
    _Pragma("GCC unroll 16") for (int i = 0; i < L; i += 2 * D) {
      _Pragma("GCC unroll 16") for (int l = i; l < i + D; ++l) swap_blocks<D>(row[l], row[l + D], up_to<L>{});
    }
    transpose_rows<D / 2>(row);
  }
}

// One block. `rows` and `columns` of the destination are those that exist in it; the source's lie in the ranges.
template <int L, bool Whole, class S, class T>
OD_INLINE void transpose_block(const S* src, i64 stride, i64 row_low, i64 row_high, i64 column_low, i64 column_high,
                               register_of<S> pad, T* dst, i64 dst_stride, i64 columns) {
  vec<register_of<S>, L> row[L];
  _Pragma("GCC unroll 16") for (int l = 0; l < L; ++l) {
    if constexpr (Whole) row[l] = load<L>(src + l * stride);
    else row[l] = l >= row_low && l < row_high ? load_range<L>(src + l * stride, column_low, column_high, pad)
                                               : splat<register_of<S>, L>(pad);
  }
  transpose_rows<L / 2>(row);
  _Pragma("GCC unroll 16") for (int l = 0; l < L; ++l)
    if (Whole || l < columns) store<L>(dst + l * dst_stride, row[l]);
}

}  // namespace detail

// dst[j * dst_stride + i] = src[i * stride + j] for i < rows, j < columns: pad where i lies outside of row_low..row_high, or
// j outside of column_low..column_high. Rows of dst have room for whole vectors of L lanes, one register.
template <int L, class S, class T>
OD_NOINLINE void load_transposed(const S* src, i64 stride, i64 rows, i64 columns, i64 row_low, i64 row_high,
                                 i64 column_low, i64 column_high, register_of<S> pad, T* dst, i64 dst_stride) {
  for (i64 i = 0; i < rows; i += L)
    for (i64 j = 0; j < columns; j += L) {
      const S* const from = src + i * stride + j;
      T* const to = dst + j * dst_stride + i;
      const bool whole = i >= row_low && i + L <= row_high && j >= column_low && j + L <= column_high && j + L <= columns;
      if (whole) detail::transpose_block<L, true>(from, stride, 0, L, 0, L, pad, to, dst_stride, L);
      else
        detail::transpose_block<L, false>(from, stride, row_low - i, row_high - i, column_low - j, column_high - j, pad,
                                          to, dst_stride, columns - j);
    }
}

}  // namespace od

#endif

// 8-bit products, exact in i32 (which wraps). Two ways, by what the ISA has and the types need:
//   quads  four bytes at once (VNNI), a unsigned, b signed. A signed A is offset by 128, and each panel of B begins
//          with a row that takes 128 * (sum of the column) back; so it serves i8 x i8 and u8 x i8.
//   pairs  two 16-bit integers at once, on every ISA; i8 and u8 in any mixture.
#ifndef OPDSL_DOT_INTEGER_H
#define OPDSL_DOT_INTEGER_H

#include "dot_group.h"
#include "dot_kernel.h"

namespace od {

#if defined(OD_DOT_QUADS)
template <class A, class B>
using dot_integer = typename choose<same<B, i8>, quads, pairs>::type;
#else
template <class A, class B>
using dot_integer = pairs;
#endif

// Rows (of `columns` groups) that a panel takes for k steps.
template <class T>
constexpr i64 packed_rows(i64 k) {
  return (k + dot_types<T>::group - 1) / dot_types<T>::group + (same<T, quads> ? 1 : 0);
}

// For chunks of k that are packed by themselves: T is dot_integer<A, B>, dst has packed_rows<T>(k) rows a panel.
template <class T, class A, class B>
OD_INLINE void pack_b_integer(const B* src, i64 k_stride, i64 n_stride, i64 k, i64 n, i32* dst, i64 panel_stride) {
  constexpr i64 columns = dot_config<T>::columns;
  if constexpr (same<T, pairs>) {
    pack_groups<2>(src, k_stride, n_stride, k, n, dst, columns, panel_stride, packed_rows<T>(k));
  } else {
    pack_groups<4>(src, k_stride, n_stride, k, n, dst + columns, columns, panel_stride, packed_rows<T>(k) - 1);
    for (i64 j = 0; j < n; j += columns) {
      i32* panel = dst + j / columns * panel_stride;
      for (i64 v = 0; v < columns; v += group_lanes) {
        group_vector sum{};
        // Signed bytes dotted with ones.
        if constexpr (same<A, i8>)
          for (i64 x = 1; x < packed_rows<T>(k); x++)
            sum = dot_multiply_add<quads>(group_vector{} + 0x01010101, load<group_lanes>(panel + x * columns + v), sum);
        store<group_lanes>(panel + v, sum * -128);
      }
    }
  }
}

// dst_row_stride in groups (i32), at least packed_rows<pairs or quads>(k); rows of up to the next multiple of `lanes`
// are not touched.
template <class T, class A>
OD_INLINE void copy_a_integer(const A* src, i64 m_stride, i64 k_stride, i64 m, i64 k, i32* dst, i64 dst_row_stride) {
  if constexpr (same<T, quads>) {
    copy_groups<4>(src, m_stride, k_stride, m, k, dst, dst_row_stride, m, (k + 3) / 4,
                   same<A, i8> ? i32(0x80808080u) : 0);
  } else {
    // Bytes widened to 16 bits: only the lane-wise path of copy_groups does that.
    for (i64 r = 0; r < m; r++) {
      const A* from = src + r * m_stride;
      i16* to = (i16*)(dst + r * dst_row_stride);
      for (i64 i = 0; i < k; i++) to[i] = from[i * k_stride];
      if (k & 1) to[k] = 0;
    }
  }
}

// C (i32) (+)= A . B over k steps.
template <class T>
OD_INLINE void dot_packed_integer(const i32* a, i64 a_row_stride, const i32* b, i64 b_panel_stride, i32* c,
                                  i64 c_row_stride, i64 m, i64 n, i64 k, bool accumulate) {
  constexpr int group = dot_types<T>::group;
  dot_packed<T>(a, a_row_stride, 1, b, b_panel_stride, c, c_row_stride, m, n, (k + group - 1) / group, accumulate);
}

}  // namespace od
#endif

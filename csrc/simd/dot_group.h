// Copies of 8- and 16-bit operands into groups of 2 or 4 steps of k that fill 32 bits (`Group` of them). Lanes are
// first widened to 32 bits, so that one routine serves signed and unsigned bytes, and bf16 as bit patterns.
#ifndef OPDSL_DOT_GROUP_H
#define OPDSL_DOT_GROUP_H

#include "dot_pack.h"

namespace od {

constexpr int group_lanes = native_lanes<i32>;
typedef vec<i32, group_lanes> group_vector;

template <int Group>
OD_INLINE group_vector join_group(const group_vector* step) {
  if constexpr (Group == 2) return (step[0] & 0xffff) | step[1] << 16;
  else return (step[0] & 0xff) | (step[1] & 0xff) << 8 | (step[2] & 0xff) << 16 | step[3] << 24;
}

// The group of element p in k (k_left of them in range), for `n` neighbours along the other axis.
template <int Group, class S>
OD_INLINE group_vector load_group(const S* p, i64 k_stride, i64 n_stride, i64 k_left, i64 n) {
  group_vector step[Group];
  OD_UNROLL for (int g = 0; g < Group; g++) {
    const S* from = p + g * k_stride;
    step[g] = group_vector{};
    if (g >= k_left) continue;
    if (n_stride == 1) {
      if (n >= group_lanes) step[g] = load<group_lanes>(from);
      else step[g] = load_range<group_lanes>(from, 0, n, 0);
    } else {
      for (int l = 0; l < group_lanes && l < n; l++) step[g][l] = load1(from + l * n_stride);
    }
  }
  return join_group<Group>(step);
}

// What is stored of a group. The halves of f16 pairs are their f16 values split into two bf16: `upper` the first 8
// significant bits, `lower` the other 3; both exact, `lower` zero for infinities and NaNs.
enum class part { whole, upper, lower };

template <part Part>
OD_INLINE group_vector part_of_group(group_vector group) {
  if constexpr (Part == part::whole) {
    return group;
  } else {
    group_vector half[2];
    OD_UNROLL for (int i = 0; i < 2; i++) {
      typedef vec<float, group_lanes> floats;
      const group_vector bits = i ? group >> 16 & 0xffff : group & 0xffff;
      const auto image = __builtin_convertvector(bits, raw<u16, group_lanes>);
      const floats value = detail::expand<f16, group_lanes>(image);
      const group_vector upper = bits_as<i32>(value) & i32(0xffff0000);
      const group_vector lower = bits_as<i32>(value - bits_as<float>(upper));
      const group_vector special = convert<i32>((bits & 0x7c00) == 0x7c00);
      half[i] = Part == part::upper ? upper : lower & ~special;
    }
    return (half[0] >> 16 & 0xffff) | (half[1] & i32(0xffff0000));
  }
}

// B (k x n) into rows of groups, panel by panel: group x of column j at
// dst[j / columns * panel_stride + x * columns + j % columns]. Rows beyond k up to `rows` groups are zero. Halves leave
// 16 rows free after every 16 for their other half.
template <int Group, part Part = part::whole, class S>
OD_NOINLINE void pack_groups(const S* src, i64 k_stride, i64 n_stride, i64 k, i64 n, i32* dst, i64 columns,
                             i64 panel_stride, i64 rows) {
  constexpr int L = group_lanes;
  // Where k is contiguous, a group is 32 bits of memory already: a transposition of 32-bit elements.
  const auto place = [](i64 x) { return Part == part::whole ? x : x + x / 16 * 16; };
  const bool transpose = Group * sizeof(S) == 4 && k_stride == 1 && n_stride != 1;
  for (i64 j = 0; j < n; j += columns) {
    i32* panel = dst + j / columns * panel_stride;
    for (i64 v = 0; v < columns; v += L) {
      const i64 width = n - j - v;
      const S* from = src + (j + v) * n_stride;
      i64 x = 0;
      for (; transpose && width >= L && (x + L) * Group <= k; x += L) {
        group_vector row[L];
        _Pragma("GCC unroll 1") for (int l = 0; l < L; l++) {
          row[l] = load<L>((const i32*)(from + x * Group + l * n_stride));
          __builtin_prefetch((const char*)(from + x * Group + l * n_stride) + 512);
        }
        dot_transpose<L / 2, L>(row);
        _Pragma("GCC unroll 1") for (int l = 0; l < L; l++)
          store<L>(panel + place(x + l) * columns + v, part_of_group<Part>(row[l]));
      }
      for (; x < rows; x++)
        store<L>(panel + place(x) * columns + v,
                 part_of_group<Part>(
                     load_group<Group>(from + x * Group * k_stride, k_stride, n_stride, k - x * Group, width)));
    }
  }
}

// A (m x k) into rows of groups; `rows` x `groups` of them, zero beyond m and k; every 32 bits exclusive-ored with
// `flip`.
template <int Group, part Part = part::whole, class S>
OD_NOINLINE void copy_groups(const S* src, i64 m_stride, i64 k_stride, i64 m, i64 k, i32* dst, i64 dst_row_stride,
                             i64 rows, i64 groups, i32 flip) {
  constexpr int L = group_lanes;
  for (i64 i = 0; i < rows; i += L) {
    i64 x = 0;
    if (Group * sizeof(S) == 4 && k_stride == 1) {
      const i64 whole = k / Group / L * L;
      for (i64 r = i; r < (m < i + L ? m : i + L); r++)
        for (x = 0; x < whole; x += L)
          store<L>(dst + r * dst_row_stride + x,
                   part_of_group<Part>(load<L>((const i32*)(src + r * m_stride + x * Group))) ^ flip);
      x = i < m ? whole : 0;
    }
    for (; x < groups; x += L) {
      group_vector row[L];
      _Pragma("GCC unroll 1") for (int l = 0; l < L; l++)
        row[l] = load_group<Group>(src + (x + l) * Group * k_stride + i * m_stride, k_stride, m_stride,
                                   k - (x + l) * Group, m - i);
      dot_transpose<L / 2, L>(row);
      for (i64 r = i; r < (rows < i + L ? rows : i + L); r++)
        store_range<L>(dst + r * dst_row_stride + x, part_of_group<Part>(row[r - i]) ^ flip, 0, groups - x);
    }
  }
}

}  // namespace od
#endif

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

// How a group is stored: `whole`, or for f16 pairs `split` into two bf16 that add up to the value: the upper half the
// first 8 significant bits, the lower half the other 3; both exact, the lower zero for infinities and NaNs.
enum class part { whole, split };

struct split_group {
  group_vector upper, lower, special;  // special: lanes of 16 bits, not zero for infinities and NaNs

  OD_MEMBER explicit split_group(group_vector group) {
    typedef vec<float, group_lanes> floats;
    typedef raw<u16, 2 * group_lanes> halves;
    group_vector up[2], low[2];
    OD_UNROLL for (int i = 0; i < 2; i++) {
      const group_vector bits = i ? group >> 16 & 0xffff : group & 0xffff;
      const floats value = detail::expand<f16, group_lanes>(__builtin_convertvector(bits, raw<u16, group_lanes>));
      up[i] = bits_as<i32>(value) & i32(0xffff0000);
      low[i] = bits_as<i32>(value - bits_as<float>(up[i]));
    }
    const halves exponent = (halves)group & 0x7c00;
    special = (group_vector)(exponent == 0x7c00);
    upper = (up[0] >> 16 & 0xffff) | up[1];
    lower = ((low[0] >> 16 & 0xffff) | (low[1] & i32(0xffff0000))) & ~special;
  }
};

// Stores a group; a lower half goes `lower` groups further. Special values are remembered.
template <part Part>
OD_INLINE void store_group(i32* to, i64 lower, group_vector group, group_vector& special) {
  if constexpr (Part == part::whole) {
    store<group_lanes>(to, group);
  } else {
    const split_group halves(group);
    store<group_lanes>(to, halves.upper);
    store<group_lanes>(to + lower, halves.lower);
    special |= halves.special;
  }
}

// 32 elements of 16 bits of each of two rows, in turns.
template <class S>
OD_INLINE void interleave_rows(const S* even, const S* odd, i32* to) {
  typedef raw<u16, 32> halves;
  const halves a = detail::read_image<u16, 32>(even), b = detail::read_image<u16, 32>(odd);
  detail::write_image<u16, 32>(to, __builtin_shufflevector(a, b, 0, 32, 1, 33, 2, 34, 3, 35, 4, 36, 5, 37, 6, 38, 7, 39,
                                                           8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47));
  detail::write_image<u16, 32>(to + 16, __builtin_shufflevector(a, b, 16, 48, 17, 49, 18, 50, 19, 51, 20, 52, 21, 53, 22,
                                                                54, 23, 55, 24, 56, 25, 57, 26, 58, 27, 59, 28, 60, 29,
                                                                61, 30, 62, 31, 63));
}

// Fetches what will be read some rows later: other pages, where the hardware prefetcher does not go by itself.
template <int Group, class S>
OD_INLINE void ahead_in_rows(const S* p, i64 k_stride) {
  OD_UNROLL for (int g = 0; g < Group; g++) __builtin_prefetch(p + (8 * Group + g) * k_stride);
}

// B (k x n) into rows of groups, panel by panel: group x of column j at
// dst[j / columns * panel_stride + x * columns + j % columns]. Rows beyond k up to `rows` groups are zero. Split, each 16
// rows of upper halves are followed by those of the lower ones. True where special values were split.
template <int Group, part Part = part::whole, class S>
OD_NOINLINE bool pack_groups(const S* src, i64 k_stride, i64 n_stride, i64 k, i64 n, i32* dst, i64 columns,
                             i64 panel_stride, i64 rows) {
  constexpr int L = group_lanes;
  const i64 lower = 16 * columns;
  const auto place = [=](i64 x, i64 j) {
    return dst + j / columns * panel_stride + (Part == part::whole ? x : x + x / 16 * 16) * columns + j % columns;
  };
  group_vector special{};
  const i64 whole_columns = (n + columns - 1) / columns * columns;
  // Where k is contiguous, a group is 32 bits of memory already: a transposition of 32-bit elements.
  if (Group * sizeof(S) == 4 && k_stride == 1 && n_stride != 1) {
    for (i64 j = 0; j < whole_columns; j += L) {
      const S* from = src + j * n_stride;
      const i64 width = n - j;
      i64 x = 0;
      for (; (x + L) * Group <= k; x += L) {
        group_vector row[L];
        _Pragma("GCC unroll 1") for (int l = 0; l < L; l++) {
          const S* at = from + x * Group + l * n_stride;
          row[l] = l < width ? load<L>((const i32*)at) : group_vector{};
          __builtin_prefetch(at + L * n_stride, 0, 2);  // the columns after these
        }
        dot_transpose<L / 2, L>(row);
        _Pragma("GCC unroll 1") for (int l = 0; l < L; l++) store_group<Part>(place(x + l, j), lower, row[l], special);
      }
      for (; x < rows; x++)
        store_group<Part>(place(x, j), lower,
                          load_group<Group>(from + x * Group, k_stride, n_stride, k - x * Group, width), special);
    }
    return any(special | special << 16);
  }
  // Along the rows of B, as far as the panels go: what one row of memory holds is read in one go.
  for (i64 x = 0; x < rows; x++) {
    const S* from = src + x * Group * k_stride;
    i64 j = 0;
    if constexpr (Group == 2 && sizeof(S) == 2 && Part == part::whole && L == 16) {
      if (n_stride == 1 && columns % 32 == 0 && k - x * Group >= Group)
        for (; j + 32 <= n; j += 32) {
          ahead_in_rows<Group>(from + j, k_stride);
          interleave_rows(from + j, from + k_stride + j, place(x, j));
        }
    }
    for (; j < whole_columns; j += L) {
      if (n_stride == 1) ahead_in_rows<Group>(from + j, k_stride);
      store_group<Part>(place(x, j), lower,
                        load_group<Group>(from + j * n_stride, k_stride, n_stride, k - x * Group, n - j), special);
    }
  }
  return any(special | special << 16);
}

// A (m x k) into rows of groups; `rows` x `groups` of them, zero beyond m and k; every 32 bits exclusive-ored with
// `flip`. Split, the lower halves begin `rows` rows further. True where special values were split.
template <int Group, part Part = part::whole, class S>
OD_NOINLINE bool copy_groups(const S* src, i64 m_stride, i64 k_stride, i64 m, i64 k, i32* dst, i64 dst_row_stride,
                             i64 rows, i64 groups, i32 flip) {
  constexpr int L = group_lanes;
  const i64 lower = rows * dst_row_stride;
  group_vector special{};
  for (i64 i = 0; i < rows; i += L) {
    i64 x = 0;
    if (Group * sizeof(S) == 4 && k_stride == 1) {
      const i64 whole = k / Group / L * L;
      for (i64 r = i; r < (m < i + L ? m : i + L); r++)
        for (x = 0; x < whole; x += L)
          store_group<Part>(dst + r * dst_row_stride + x, lower,
                            load<L>((const i32*)(src + r * m_stride + x * Group)) ^ flip, special);
      x = i < m ? whole : 0;
    }
    for (; x < groups; x += L) {
      group_vector row[L];
      _Pragma("GCC unroll 1") for (int l = 0; l < L; l++)
        row[l] = load_group<Group>(src + (x + l) * Group * k_stride + i * m_stride, k_stride, m_stride,
                                   k - (x + l) * Group, m - i);
      dot_transpose<L / 2, L>(row);
      for (i64 r = i; r < (rows < i + L ? rows : i + L); r++) {
        i32* to = dst + r * dst_row_stride + x;
        if constexpr (Part == part::split) {
          store_group<Part>(to, lower, row[r - i], special);  // whole groups of 16: dst is as wide
        } else {
          store_range<L>(to, row[r - i] ^ flip, 0, groups - x);
        }
      }
    }
  }
  return any(special | special << 16);
}

}  // namespace od
#endif

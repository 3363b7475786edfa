// bf16 x bf16 -> f32, f16 x f16 -> f32 and i8 x i8 -> i32 on AMX tiles. f16 goes as two bf16 that add up to it: four
// exact products, which is still faster than f16 arithmetic and as precise as f32 accumulation. bf16 products treat
// denormal operands and sums as zero, as the hardware does.
//
// A process must be let by the kernel
// before its first tile instruction: tiles_permitted() asks. The instructions are written as assembly, for they have no
// form on vectors.
#ifndef OPDSL_DOT_TILES_H
#define OPDSL_DOT_TILES_H

#if (defined(__AMX_TILE__) || defined(__AMXTILE__)) && defined(__x86_64__)
#define OD_DOT_TILES 1

#include "dot_group.h"
#include "dot_kernel.h"

namespace od {

// Asks the kernel for the tile registers (arch_prctl ARCH_REQ_XCOMP_PERM, XTILEDATA); false where it refuses.
OD_INLINE bool tiles_permitted() {
  i64 result;
  asm volatile("syscall" : "=a"(result) : "0"(158L), "D"(0x1023L), "S"(18L) : "rcx", "r11", "memory");
  return result == 0;
}

// The operand of ldtilecfg. Loading it clears the tiles.
struct alignas(64) tiles_layout {
  u8 palette, start, reserved[14];
  u16 bytes_per_row[16];
  u8 rows[16];
  OD_MEMBER void load() const { asm volatile("ldtilecfg %0" ::"m"(*this)); }
};

// A thread sets the tiles up before its products and gives them back after: context switches are cheaper without.
OD_INLINE void tiles_begin() {
  tiles_layout layout = {};
  layout.palette = 1;
  for (int t = 0; t < 8; t++) {
    layout.bytes_per_row[t] = 64;
    layout.rows[t] = 16;
  }
  layout.load();
}
OD_INLINE void tiles_end() { asm volatile("tilerelease" ::: "memory"); }
struct tiles_scope {
  OD_MEMBER tiles_scope() { tiles_begin(); }
  OD_MEMBER ~tiles_scope() { tiles_end(); }
};

// How operands are packed for T (bf16, f16 or i8): groups of 32 bits along k, 16 groups a tile row. A panel of B is two
// tiles wide; A is copied to whole tiles, rows and groups rounded up and zero-filled.
template <class T>
struct tiles_config {
  typedef typename choose<same<T, i8>, i32, float>::type result;
  static constexpr int group = 4 / int(sizeof(T)), columns = 32, step = 16 * group, parts = same<T, f16> ? 2 : 1;
};
// Groups of k in C's sum, and i32 rows that a packed panel takes for them.
template <class T>
constexpr i64 tiles_groups(i64 k) {
  return (k + tiles_config<T>::step - 1) / tiles_config<T>::step * 16;
}
template <class T>
constexpr i64 tiles_panel_rows(i64 k) {
  return tiles_groups<T>(k) * tiles_config<T>::parts;
}
// Rows of A in its copy.
template <class T>
constexpr i64 tiles_rows(i64 m) {
  return (m + 31) / 32 * 32 * tiles_config<T>::parts;
}

template <class T>
using tiles_bits = typename choose<same<T, i8>, i8, u16>::type;

// dst has tiles_panel_rows<T>(k) rows of 32 groups a panel. True when f16 operands have an infinity or a NaN, which
// tiles_dot must be told of: split in two, infinity times an exact zero would give NaN.
template <class T>
OD_INLINE bool tiles_pack_b(const T* src, i64 k_stride, i64 n_stride, i64 k, i64 n, i32* dst, i64 panel_stride) {
  constexpr part Part = same<T, f16> ? part::split : part::whole;
  return pack_groups<tiles_config<T>::group, Part>((const tiles_bits<T>*)src, k_stride, n_stride, k, n, dst, 32,
                                                   panel_stride, tiles_groups<T>(k));
}

// dst has tiles_rows<T>(m) rows of tiles_groups<T>(k) groups; an odd multiple of 16 as the stride keeps the rows of a
// tile in different L1 sets. Returns what tiles_pack_b does.
template <class T>
OD_INLINE bool tiles_copy_a(const T* src, i64 m_stride, i64 k_stride, i64 m, i64 k, i32* dst, i64 dst_row_stride) {
  constexpr part Part = same<T, f16> ? part::split : part::whole;
  return copy_groups<tiles_config<T>::group, Part>((const tiles_bits<T>*)src, m_stride, k_stride, m, k, dst,
                                                   dst_row_stride, tiles_rows<T>(m) / tiles_config<T>::parts,
                                                   tiles_groups<T>(k), 0);
}

// 32 x 32 of C. `lower` is where A's lower halves begin, in groups from a.
template <class T>
OD_NOINLINE void tiles_block(const i32* a, i64 a_row_stride, i64 lower, const i32* b,
                             typename tiles_config<T>::result* c, i64 c_row_stride, i64 groups, bool accumulate) {
  const i64 a_bytes = a_row_stride * 4, c_bytes = c_row_stride * 4, b_bytes = 128;
  char *c_low = (char*)c, *c_high = c_low + 16 * c_bytes;
  if (accumulate) {
    asm volatile(
        "tileloadd (%0,%2,1), %%tmm0\n\ttileloadd 64(%0,%2,1), %%tmm1\n\t"
        "tileloadd (%1,%2,1), %%tmm2\n\ttileloadd 64(%1,%2,1), %%tmm3" ::"r"(c_low), "r"(c_high), "r"(c_bytes)
        : "memory");
  } else {
    asm volatile("tilezero %tmm0\n\ttilezero %tmm1\n\ttilezero %tmm2\n\ttilezero %tmm3");
  }
  // 0, 1: rows of A; 2: B; 3, 4: the strides. Each load stands as late as the products let it: four that come first keep
  // the multiplier waiting.
#define OD_A0 "tileloadd (%0,%3,1), %%tmm4\n\t"
#define OD_A1 "tileloadd (%1,%3,1), %%tmm5\n\t"
#define OD_B0 "tileloadd (%2,%4,1), %%tmm6\n\t"
#define OD_B1 "tileloadd 64(%2,%4,1), %%tmm7\n\t"
  // What passes by once, past L1, which keeps the rows of A: 1.2 times as fast.
#define OD_B0_ONCE "tileloaddt1 (%2,%4,1), %%tmm6\n\t"
#define OD_B1_ONCE "tileloaddt1 64(%2,%4,1), %%tmm7\n\t"
#define OD_KEPT ""
#define OD_MULTIPLY(instruction, a0, a1, b0, b1)                                                                     \
  b0 a0 instruction " %%tmm6, %%tmm4, %%tmm0\n\t" a1 instruction " %%tmm6, %%tmm5, %%tmm2\n\t" b1 instruction         \
      " %%tmm7, %%tmm4, %%tmm1\n\t" instruction " %%tmm7, %%tmm5, %%tmm3"
#define OD_TILES(text, a_at, b_at)                                                                                   \
  asm volatile(text ::"r"(a_at), "r"(a_at + 16 * a_bytes), "r"(b_at), "r"(a_bytes), "r"(b_bytes) : "memory")
  const char *left = (const char*)a, *right = (const char*)b;
  for (i64 g = 0; g < groups; g += 16) {
    if constexpr (same<T, f16>) {
      // The halves of one product follow each other, so each tile of A and B is loaded as seldom as can be.
      OD_TILES(OD_MULTIPLY("tdpbf16ps", OD_A0, OD_A1, OD_B0, OD_B1), left, right);
      OD_TILES(OD_MULTIPLY("tdpbf16ps", OD_KEPT, OD_KEPT, OD_B0, OD_B1), left, right + 16 * b_bytes);
      OD_TILES(OD_MULTIPLY("tdpbf16ps", OD_A0, OD_A1, OD_KEPT, OD_KEPT), left + lower * 4, right);
      OD_TILES(OD_MULTIPLY("tdpbf16ps", OD_KEPT, OD_KEPT, OD_B0, OD_B1), left, right);
      right += 16 * b_bytes;
    } else if constexpr (same<T, bf16>) {
      OD_TILES(OD_MULTIPLY("tdpbf16ps", OD_A0, OD_A1, OD_B0_ONCE, OD_B1_ONCE), left, right);
    } else {
      OD_TILES(OD_MULTIPLY("tdpbssd", OD_A0, OD_A1, OD_B0_ONCE, OD_B1_ONCE), left, right);
    }
    left += 64;
    right += 16 * b_bytes;
  }
#undef OD_A0
#undef OD_A1
#undef OD_B0
#undef OD_B1
#undef OD_B0_ONCE
#undef OD_B1_ONCE
#undef OD_KEPT
#undef OD_MULTIPLY
#undef OD_TILES
  asm volatile(
      "tilestored %%tmm0, (%0,%2,1)\n\ttilestored %%tmm1, 64(%0,%2,1)\n\t"
      "tilestored %%tmm2, (%1,%2,1)\n\ttilestored %%tmm3, 64(%1,%2,1)" ::"r"(c_low), "r"(c_high), "r"(c_bytes)
      : "memory");
}

// The same on split f16 operands one by one: rare, so short.
OD_NOINLINE void tiles_block_special(const i32* a, i64 a_row_stride, i64 lower, const i32* b, float* c,
                                     i64 c_row_stride, i64 rows, i64 columns, i64 groups, bool accumulate) {
  const auto value = [](const i32* upper, const i32* lower, int half) {
    return load1((const bf16*)upper + half) + load1((const bf16*)lower + half);
  };
  for (i64 r = 0; r < rows; r++)
    for (i64 j = 0; j < columns; j++) {
      float sum = accumulate ? c[r * c_row_stride + j] : 0.0f;
      for (i64 g = 0; g < groups; g++) {
        const i32 *left = a + r * a_row_stride + g, *right = b + (g + g / 16 * 16) * 32 + j;
        for (int half = 0; half < 2; half++)
          sum += value(left, left + lower, half) * value(right, right + 16 * 32, half);
      }
      c[r * c_row_stride + j] = sum;
    }
}

// C (+)= A . B over `groups` = tiles_groups<T>(k), between tiles_begin and tiles_end, A as tiles_copy_a leaves it. C
// needs no rounding up. `special`: tiles_pack_b or tiles_copy_a said so of an operand. `next` are rows that will be read
// after these: each panel fetches its share of them.
template <class T>
OD_NOINLINE void tiles_dot_copied(const i32* a, i64 a_row_stride, const i32* b, i64 b_panel_stride,
                                  typename tiles_config<T>::result* c, i64 c_row_stride, i64 m, i64 n, i64 groups,
                                  bool accumulate, bool special, const char* next = nullptr, i64 next_stride = 0,
                                  i64 next_lines = 0) {
  typedef typename tiles_config<T>::result result;
  alignas(64) result partial[32 * 32] = {};
  const i64 lower = (m + 31) / 32 * 32 * a_row_stride;
  for (i64 i = 0; i < m; i += 32) {
    const i32 *left = a + i * a_row_stride, *panel = b;
    i64 fetched = 0;
    for (i64 j = 0; j < n; j += 32) {
      result* to = c + i * c_row_stride + j;
      const i64 rows = m - i < 32 ? m - i : 32, columns = n - j < 32 ? n - j : 32;
      for (const i64 share = next_lines * (j + 32) / n; fetched < share && fetched < next_lines; fetched++)
        for (i64 r = 0; r < 32; r++) __builtin_prefetch(next + r * next_stride + fetched * 64, 0, 2);
      if (same<T, f16> && special) {
        tiles_block_special(left, a_row_stride, lower, panel, (float*)to, c_row_stride, rows, columns, groups,
                            accumulate);
      } else if (rows == 32 && columns == 32) {
        tiles_block<T>(left, a_row_stride, lower, panel, to, c_row_stride, groups, accumulate);
      } else {
        if (accumulate) dot_copy_part(to, c_row_stride, partial, 32, rows, columns);
        tiles_block<T>(left, a_row_stride, lower, panel, partial, 32, groups, accumulate);
        dot_copy_part(partial, 32, to, c_row_stride, rows, columns);
      }
      panel += b_panel_stride;
    }
  }
}

// The same with A wherever it is (m x k, any strides): 32 rows at a time are copied to where L1 holds them while all
// of B's panels go by, unless there are few.
template <class T>
OD_NOINLINE void tiles_dot(const T* a, i64 a_row_stride, i64 a_k_stride, const i32* b, i64 b_panel_stride,
                           typename tiles_config<T>::result* c, i64 c_row_stride, i64 m, i64 n, i64 k, bool accumulate,
                           bool special) {
  constexpr i64 parts = tiles_config<T>::parts, group = tiles_config<T>::group;
  constexpr i64 most = same<T, bf16> ? 512 : 256 / parts, stride = most + 16, step = most * group;  // 32 or 64 KiB
  alignas(64) i32 rows[32 * parts * stride];
  for (i64 x = 0; x < k || x == 0; x += step) {
    const i64 depth = k - x < step ? k - x : step;
    for (i64 i = 0; i < m; i += 32) {
      const T* from = a + i * a_row_stride + x * a_k_stride;
      const i64 height = m - i < 32 ? m - i : 32;
      // Whole tiles are read in place where a copy does not pay: for a panel or two, or where rows lie one after the
      // other, which fill all of L1 evenly as the copy would.
      if (parts == 1 && (n <= 64 || a_row_stride == depth) && a_k_stride == 1 && a_row_stride % group == 0 &&
          height == 32 && depth % (16 * group) == 0) {
        tiles_dot_copied<T>((const i32*)from, a_row_stride / group, b + x / group * 32, b_panel_stride,
                            c + i * c_row_stride, c_row_stride, 32, n, depth / group, accumulate || x > 0, false);
        continue;
      }
      const bool found = tiles_copy_a<T>(from, a_row_stride, a_k_stride, height, depth, rows, stride);
      const bool fetch = a_k_stride == 1 && i + 32 < m;
      tiles_dot_copied<T>(rows, stride, b + x / group * parts * 32, b_panel_stride, c + i * c_row_stride, c_row_stride,
                          height, n, tiles_groups<T>(depth), accumulate || x > 0, special || found,
                          (const char*)(from + 32 * a_row_stride), a_row_stride * i64(sizeof(T)),
                          fetch ? (depth * i64(sizeof(T)) + 63) / 64 : 0);
    }
  }
}

}  // namespace od
#endif
#endif

// bf16 products with up to 16 rows of A on AMX tiles, bound by reading B once from memory: B is not packed beforehand.
#ifndef OPDSL_DOT_TILES_FEW_H
#define OPDSL_DOT_TILES_FEW_H

#include "dot_tiles.h"

#if defined(OD_DOT_TILES)

namespace od {

struct tile_shape {
  i64 rows, bytes;
};

// Sets up tiles of the given shapes for a product; the destructor sets up whole ones again.
struct tiles_shapes {
  OD_MEMBER tiles_shapes(tile_shape sums, tile_shape left, tile_shape right) {
    tiles_layout layout = {};
    layout.palette = 1;
    for (int t = 0; t < 8; t++) {
      const tile_shape shape = t < 4 ? sums : t < 6 ? left : right;
      layout.rows[t] = u8(shape.rows);
      layout.bytes_per_row[t] = u16(shape.bytes);
    }
    layout.load();
  }
  OD_MEMBER ~tiles_shapes() { tiles_begin(); }
};

// Up to 64 rows of `width` columns of B (unit column stride) into 32 rows of 32 groups.
OD_INLINE void tiles_few_panel(const u16* b, i64 k_stride, i64 steps, i64 width, i32* to) {
  typedef raw<u16, 32> row;
  typedef raw<long long, 8> eights;
  if (steps < 64 || width < 32) {
    for (i64 x = 0; x < 32; x++, b += 2 * k_stride)
      OD_UNROLL for (int v = 0; v < 32; v += group_lanes)
        store<group_lanes>(to + x * 32 + v, load_group<2>(b + v, k_stride, 1, steps - 2 * x, width - v));
    return;
  }
  for (i64 x = 0; x < 32; x++, b += 2 * k_stride) {
    const row even = detail::read_image<u16, 32>(b), odd = detail::read_image<u16, 32>(b + k_stride);
    __builtin_prefetch(b + 128, 0, 2);
    __builtin_prefetch(b + k_stride + 128, 0, 2);
    const auto low = (eights)__builtin_shufflevector(even, odd, 0, 32, 1, 33, 2, 34, 3, 35, 8, 40, 9, 41, 10, 42, 11, 43, 16,
                                                     48, 17, 49, 18, 50, 19, 51, 24, 56, 25, 57, 26, 58, 27, 59);
    const auto high = (eights)__builtin_shufflevector(even, odd, 4, 36, 5, 37, 6, 38, 7, 39, 12, 44, 13, 45, 14, 46, 15, 47, 20,
                                                      52, 21, 53, 22, 54, 23, 55, 28, 60, 29, 61, 30, 62, 31, 63);
    store<16>(to + x * 32, (raw<i32, 16>)__builtin_shufflevector(low, high, 0, 1, 8, 9, 2, 3, 10, 11));
    store<16>(to + x * 32 + 16, (raw<i32, 16>)__builtin_shufflevector(low, high, 4, 5, 12, 13, 6, 7, 14, 15));
  }
}

// B in rows (unit column stride): 64 rows at a time along all of n, brought into groups of 32 columns while the tiles
// multiply the ones before.
OD_NOINLINE void tiles_few_rows(const bf16* a, i64 a_row_stride, i64 a_k_stride, const bf16* b, i64 b_k_stride, float* c,
                                i64 c_row_stride, i64 m, i64 n, i64 k, bool accumulate) {
  constexpr i64 depth = 64, groups = depth / 2, columns = 32;
  alignas(64) i32 left[16 * groups], panel[2][groups * columns];
  alignas(64) float partial[16 * columns] = {};
  if (m <= 0 || n <= 0) return;
  const tiles_shapes shapes({m, 64}, {m, 64}, {16, 64});
  const i64 a_bytes = groups * 4, b_bytes = columns * 4;
  const auto multiply = [&](i64 j, const i32* right, bool add) {
    const bool whole = n - j >= columns;
    float* to = whole ? c + j : partial;
    const i64 c_bytes = (whole ? c_row_stride : columns) * 4;
    if (!whole && add) dot_copy_part(c + j, c_row_stride, to, columns, m, n - j);
    if (add) asm volatile("tileloadd (%0,%1,1), %%tmm0\n\ttileloadd 64(%0,%1,1), %%tmm1" ::"r"(to), "r"(c_bytes) : "memory");
    else asm volatile("tilezero %tmm0\n\ttilezero %tmm1");
    asm volatile(
        "tileloadd (%0,%2,1), %%tmm4\n\ttileloadd 64(%0,%2,1), %%tmm5\n\t"
        "tileloadd (%1,%3,1), %%tmm6\n\ttdpbf16ps %%tmm6, %%tmm4, %%tmm0\n\t"
        "tileloadd 64(%1,%3,1), %%tmm7\n\ttdpbf16ps %%tmm7, %%tmm4, %%tmm1\n\t"
        "tileloadd 2048(%1,%3,1), %%tmm6\n\ttdpbf16ps %%tmm6, %%tmm5, %%tmm0\n\t"
        "tileloadd 2112(%1,%3,1), %%tmm7\n\ttdpbf16ps %%tmm7, %%tmm5, %%tmm1" ::"r"(left), "r"(right), "r"(a_bytes),
        "r"(b_bytes) : "memory");
    asm volatile("tilestored %%tmm0, (%0,%1,1)\n\ttilestored %%tmm1, 64(%0,%1,1)" ::"r"(to), "r"(c_bytes) : "memory");
    if (!whole) dot_copy_part(to, columns, c + j, c_row_stride, m, n - j);
  };
  for (i64 i = 0; i == 0 || i < k; i += depth) {
    const i64 steps = k - i < depth ? k - i : depth;
    copy_groups<2>((const u16*)a + i * a_k_stride, a_row_stride, a_k_stride, m, steps, left, groups, m, groups, 0);
    const u16* from = (const u16*)b + i * b_k_stride;
    // The stores of a panel must have reached L1 before tiles can be loaded from it: one block later, they have.
    for (i64 j = 0; j < n + columns; j += columns) {
      const i64 at = j / columns % 2;
      if (j < n) tiles_few_panel(from + j, b_k_stride, steps, n - j, panel[at]);
      if (j > 0) multiply(j - columns, panel[1 - at], accumulate || i > 0);
    }
  }
}

// A and B both of any m and unit k stride (B is n x k): B's rows are the left operand of the tiles as they lie in memory,
// 32 of them at a time, and the transpose of A is the right one.
OD_NOINLINE void tiles_few_inner(const bf16* a, i64 a_row_stride, i64 a_k_stride, const bf16* b, i64 b_row_stride, float* c,
                                 i64 c_row_stride, i64 m, i64 n, i64 k, bool accumulate) {
  constexpr i64 depth = 512, rows = 32;
  alignas(64) i32 right[depth / 2 * 16], edge[rows * 16];
  alignas(64) float sums[rows * 16];
  if (m <= 0 || n <= 0) return;
  const tiles_shapes shapes({16, m * 4}, {16, 64}, {16, m * 4});
  const i64 b_bytes = b_row_stride * 2, whole_bytes = 64;
  for (i64 i = 0; i == 0 || i < k; i += depth) {
    const i64 steps = k - i < depth ? k - i : depth, groups = (steps + 31) / 32 * 16;
    pack_groups<2>((const u16*)a + i * a_k_stride, a_k_stride, a_row_stride, steps, m, right, 16, 0, groups);
    for (i64 j = 0; j < n; j += rows) {
      const bf16* from = b + j * b_row_stride + i;
      asm volatile("tilezero %tmm0\n\ttilezero %tmm1");
      for (i64 x = 0; x < steps; x += 32) {
        const char *low = (const char*)(from + x), *high = low + 16 * b_bytes;
        i64 bytes = b_bytes;
        if (n - j < rows || steps - x < 32) {
          copy_groups<2>((const u16*)from + x, b_row_stride, 1, n - j < rows ? n - j : rows,
                         steps - x < 32 ? steps - x : 32, edge, 16, rows, 16, 0);
          low = (const char*)edge;
          high = low + 16 * 64;
          bytes = 64;
        } else {
          for (i64 r = rows; r < 2 * rows; r++) __builtin_prefetch(low + r * b_bytes, 0, 2);  // the rows after these
        }
        asm volatile(
            "tileloadd (%2,%4,1), %%tmm6\n\ttileloadd (%0,%3,1), %%tmm4\n\ttileloadd (%1,%3,1), %%tmm5\n\t"
            "tdpbf16ps %%tmm6, %%tmm4, %%tmm0\n\ttdpbf16ps %%tmm6, %%tmm5, %%tmm1" ::"r"(low), "r"(high),
            "r"(right + x / 2 * 16), "r"(bytes), "r"(whole_bytes) : "memory");
      }
      asm volatile("tilestored %%tmm0, (%0,%1,1)\n\ttilestored %%tmm1, 1024(%0,%1,1)" ::"r"(sums), "r"(whole_bytes)
                   : "memory");
      for (i64 r = 0; r < m; r++) {
        float* to = c + r * c_row_stride + j;
        for (i64 l = 0; l < (n - j < rows ? n - j : rows); l++)
          to[l] = sums[l * 16 + r] + (accumulate || i > 0 ? to[l] : 0.0f);
      }
    }
  }
}

}  // namespace od
#endif
#endif

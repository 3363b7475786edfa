// f16 x f16 -> f32 with f16 arithmetic (AVX512-FP16): 32 lanes a register, twice the multiply-adds of f32. Partial sums
// over half_run steps of k are f16; they are added up in f32.
//
// This is a trade, not a default: the error is about 0.4 * sqrt(half_run) units of 2^-11 of a typical |C|, 6 times that
// of one rounding to f16. Shorter runs are less wrong but no faster than f32 (docs/dot.md). Where there are tiles,
// dot_tiles.h is faster and as precise as f32.
//
// So that neither large operands overflow a partial sum nor small ones fall below the smallest f16, the packing
// routines scale by a power of two where the largest magnitude calls for it, and the products are scaled back in f32.
// Integers are exact while the sums over half_run steps stay within 2048.
#ifndef OPDSL_DOT_HALF_H
#define OPDSL_DOT_HALF_H

#include "dot_kernel.h"
#include "dot_pack.h"
#include "reduce.h"

#if defined(__AVX512FP16__) && defined(OD_AVX512)
#define OD_DOT_HALF 1

namespace od {

constexpr int half_run = 64, half_rows = 12, half_columns = 64;
typedef _Float16 half_vector __attribute__((vector_size(64)));
typedef _Float16 half_anywhere __attribute__((vector_size(64), aligned(1), may_alias));

// The power of two that brings `largest` to about 1, unless it is near enough already or not finite.
OD_INLINE float half_scale(float largest) {
  if (largest == 0.0f || (largest >= 0x1p-2f && largest <= 0x1p5f) || !(largest < 0x1p17f)) return 1.0f;
  return bits_as<float>((254u << 23) - (bits_as<u32>(largest) & 0x7f800000u));
}
OD_INLINE void half_raise(vec<float, 16>& largest, vec<float, 16> x) {
  x = bits_as<float>(bits_as<u32>(x) & 0x7fffffffu);
  largest = x > largest || x != x ? x : largest;
}

// A into rows of i32, each an f16 twice: 32-bit broadcasts need no shuffle unit. Returns the factor that undoes the
// scaling. dst_row_stride: a multiple of 16, at least k.
OD_NOINLINE float half_copy_a(const f16* src, i64 m_stride, i64 k_stride, i64 m, i64 k, i32* dst, i64 dst_row_stride) {
  copy_a<float>(src, m_stride, k_stride, m, k, (float*)dst, dst_row_stride);
  vec<float, 16> largest{};
  for (i64 i = 0; i < m; i++)
    for (i64 j = 0; j < k; j += 16) half_raise(largest, load<16>((const float*)dst + i * dst_row_stride + j));
  const float scale = half_scale(reduce_max(largest));
  for (i64 i = 0; i < m; i++)
    for (i64 j = 0; j < k; j += 16) {
      i32* at = dst + i * dst_row_stride + j;
      const auto bits = detail::contract<f16, 16>(load<16>((const float*)at) * scale);
      store<16>(at, bits_as<i32>(__builtin_convertvector(bits, raw<u32, 16>) * 0x10001u));
    }
  return 1.0f / scale;
}

// B into panels of half_columns f16: element (i, j) at dst[j / 64 * panel_stride + i * 64 + j % 64]. Returns as above.
OD_NOINLINE float half_pack_b(const f16* src, i64 k_stride, i64 n_stride, i64 k, i64 n, f16* dst, i64 panel_stride) {
  vec<float, 16> largest{};
  alignas(64) float rows[16 * half_columns];
  for (i64 j = 0; j < n; j += half_columns)
    for (i64 i = 0; i < k; i += 16) {
      const i64 depth = k - i < 16 ? k - i : 16, width = n - j < half_columns ? n - j : half_columns;
      dot_copy<float>(src + i * k_stride + j * n_stride, k_stride, n_stride, depth, width, rows, {half_columns, 32},
                      half_columns);
      f16* to = dst + j / half_columns * panel_stride + i * half_columns;
      for (i64 x = 0; x < depth * half_columns; x += 16) {
        const auto value = load<16>(rows + x);
        half_raise(largest, value);
        store<16>(to + x, value);
      }
    }
  const float scale = half_scale(reduce_max(largest));
  if (scale != 1.0f)
    for (i64 j = 0; j < n; j += half_columns) {
      f16* to = dst + j / half_columns * panel_stride;
      for (i64 x = 0; x < k * half_columns; x += 16) store<16>(to + x, load<16>(to + x) * scale);
    }
  return 1.0f / scale;
}

// R rows by a panel. C (+)= scale * products.
template <int R>
OD_NOINLINE void half_block(const i32* a, i64 a_row_stride, const f16* b, float* c, i64 c_row_stride, i64 m, i64 k,
                            float scale, bool accumulate) {
  constexpr int rows_per_base = 3, bases = (R + 2) / 3;
  const i32* base[bases];
  OD_UNROLL for (int g = 0; g < bases; g++) {
    base[g] = a + g * 3 * a_row_stride;
    asm("" : "+r"(base[g]));
  }
  for (i64 i = 0; i < k || i == 0; i += half_run) {
    half_vector sum[R][2];
    OD_UNROLL for (int r = 0; r < R; r++) sum[r][0] = sum[r][1] = half_vector{};
    const i64 steps = k - i < half_run ? k - i : half_run;
    for (i64 x = 0; x < steps; x++) {
      const half_vector low = *(const half_anywhere*)b, high = *(const half_anywhere*)(b + 32);
      b += half_columns;
      OD_UNROLL for (int r = 0; r < R; r++) {
        const i32 pair = base[r / rows_per_base][r % rows_per_base * a_row_stride];
        const half_vector left = (half_vector)(vec<i32, 16>{} + pair);
        sum[r][0] = __builtin_ia32_vfmaddph512_mask(left, low, sum[r][0], -1, 4);
        sum[r][1] = __builtin_ia32_vfmaddph512_mask(left, high, sum[r][1], -1, 4);
      }
      OD_UNROLL for (int g = 0; g < bases; g++) base[g]++;
    }
    const bool add = accumulate || i > 0;
    OD_UNROLL for (int r = 0; r < R; r++) {
      if (r >= m) break;
      float* to = c + r * c_row_stride;
      OD_UNROLL for (int v = 0; v < 2; v++) {
        const auto bits = (raw<u16, 32>)sum[r][v];
        const auto low = detail::expand<f16, 16>(detail::low_lanes(bits, up_to<16>{})) * scale;
        const auto high = detail::expand<f16, 16>(detail::high_lanes(bits, up_to<16>{})) * scale;
        store<16>(to + v * 32, add ? load<16>(to + v * 32) + low : low);
        store<16>(to + v * 32 + 16, add ? load<16>(to + v * 32 + 16) + high : high);
      }
    }
  }
}

// C (+)= A . B; a has rows for the next multiple of 4 of m (whatever they hold), `scale` is the product of what
// half_copy_a and half_pack_b returned.
OD_NOINLINE void half_dot(const i32* a, i64 a_row_stride, const f16* b, i64 b_panel_stride, float* c, i64 c_row_stride,
                          i64 m, i64 n, i64 k, float scale, bool accumulate) {
  alignas(64) float partial[half_rows * half_columns] = {};
  while (m > 0) {
    const i64 rows = m >= half_rows ? (i64)half_rows : m < 4 ? m : 4;
    const f16* panel = b;
    for (i64 j = 0; j < n; j += half_columns) {
      const bool whole = n - j >= half_columns;
      float* to = whole ? c + j : partial;
      const i64 stride = whole ? c_row_stride : (i64)half_columns;
      if (!whole && accumulate) dot_copy_part(c + j, c_row_stride, to, stride, rows, n - j);
      if (rows == half_rows) half_block<half_rows>(a, a_row_stride, panel, to, stride, rows, k, scale, accumulate);
      else half_block<4>(a, a_row_stride, panel, to, stride, rows, k, scale, accumulate);
      if (!whole) dot_copy_part(to, stride, c + j, c_row_stride, rows, n - j);
      panel += b_panel_stride;
    }
    a += rows * a_row_stride;
    c += rows * c_row_stride;
    m -= rows;
  }
}

}  // namespace od
#endif
#endif

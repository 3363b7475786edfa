// How generated code composes the dot kernels, as a plain program: docs/dot.md explains, gemm.py times it.
#include "dot.h"
#include "probe.h"

using od::i64;

namespace {

i64 least(i64 a, i64 b) { return a < b ? a : b; }

// The grid of an `od.kernel` matmul: for each n tile all m tiles. B's tile is packed when the first m tile needs it
// and kept; C's tile lives in `tile` over the whole of k, which is cut into chunks.
template <class T, class S>
void matmul(const S* a, i64 a_m, i64 a_k, const S* b, i64 b_k, i64 b_n, T* c, i64 c_m, i64 m, i64 n, i64 k, i64 tile_m,
            i64 tile_n, i64 chunk, bool copy, char* space) {
  constexpr i64 columns = od::dot_config<T>::columns;
  T* panels = (T*)space;
  const i64 panel_stride = columns * k;
  T* rows = panels + (tile_n + columns - 1) / columns * panel_stride;
  const i64 row_stride = chunk + 16;
  T* tile = rows + tile_m * row_stride;
  for (i64 j = 0; j < n; j += tile_n) {
    const i64 width = least(tile_n, n - j);
    for (i64 i = 0; i < m; i += tile_m) {
      const i64 height = least(tile_m, m - i);
      for (i64 p = 0; p < k; p += chunk) {
        const i64 depth = least(chunk, k - p);
        if (i == 0) od::pack_b<T>(b + p * b_k + j * b_n, b_k, b_n, depth, width, panels + p * columns, panel_stride);
        const S* left = a + i * a_m + p * a_k;
        if (copy || !od::same<T, S>) {
          od::copy_a<T>(left, a_m, a_k, height, depth, rows, row_stride);
          od::dot_packed<T>(rows, row_stride, 1, panels + p * columns, panel_stride, tile, tile_n, height, width, depth,
                            p > 0);
        } else {
          od::dot_packed<T>((const T*)left, a_m, a_k, panels + p * columns, panel_stride, tile, tile_n, height, width,
                            depth, p > 0);
        }
      }
      for (i64 x = 0; x < height; x++)
        for (i64 y = 0; y < width; y++) c[(i + x) * c_m + j + y] = tile[x * tile_n + y];
    }
  }
}

}  // namespace

#define ENTRY(name, T, S)                                                                                             \
  extern "C" void matmul_##name(const S* a, i64 a_m, i64 a_k, const S* b, i64 b_k, i64 b_n, T* c, i64 c_m, i64 m,     \
                                i64 n, i64 k, i64 tile_m, i64 tile_n, i64 chunk, i64 copy, char* space) {             \
    matmul<T, S>(a, a_m, a_k, b, b_k, b_n, c, c_m, m, n, k, tile_m, tile_n, chunk, copy, space);                      \
  }                                                                                                                   \
  extern "C" void rows_##name(const T* a, i64 a_m, i64 a_k, const S* b, i64 b_k, T* c, i64 c_m, i64 m, i64 n, i64 k) {\
    od::dot_rows<T>(a, a_m, a_k, b, b_k, c, c_m, m, n, k, false);                                                     \
  }                                                                                                                   \
  extern "C" void inner_##name(const T* a, i64 a_m, const S* b, i64 b_n, T* c, i64 c_m, i64 m, i64 n, i64 k) {        \
    od::dot_inner<T>(a, a_m, b, b_n, c, c_m, m, n, k, false);                                                         \
  }
ENTRY(f32, float, float)
ENTRY(f64, double, double)
ENTRY(bf16, float, od::bf16)
ENTRY(f16, float, od::f16)

extern "C" void direct_f32(const float* a, i64 a_m, i64 a_k, const float* b, i64 b_k, float* c, i64 c_m, i64 m, i64 n,
                           i64 k, i64 repeat) {
  for (i64 i = 0; i < repeat; i++) od::dot_direct<float>(a, a_m, a_k, b, b_k, c, c_m, m, n, k, i > 0);
}
extern "C" void packed_f32(const float* a, i64 a_m, i64 a_k, const float* b, float* c, i64 c_m, i64 m, i64 n, i64 k,
                           i64 repeat) {
  for (i64 i = 0; i < repeat; i++) od::dot_packed<float>(a, a_m, a_k, b, 32 * k, c, c_m, m, n, k, i > 0);
}
extern "C" i64 probe_f32(i64 iterations) { return od::probe_fma<float>(iterations); }

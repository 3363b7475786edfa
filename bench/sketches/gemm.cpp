// How generated code composes the dot kernels, as a plain program: docs/dot.md explains, gemm.py times it.
#include "dot.h"
#include "probe.h"

using od::i64;

namespace {

i64 least(i64 a, i64 b) { return a < b ? a : b; }

// The grid of an `od.kernel` matmul: for each n tile all m tiles. B's tile is packed when the first m tile needs it
// and kept; C's tile lives in `tile` over the whole of k, which is cut into chunks. When one chunk does, the kernel
// stores to C itself.
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
      T* to = k <= chunk ? c + i * c_m + j : tile;
      const i64 to_m = k <= chunk ? c_m : tile_n;
      for (i64 p = 0; p < k; p += chunk) {
        const i64 depth = least(chunk, k - p);
        if (i == 0) od::pack_b<T>(b + p * b_k + j * b_n, b_k, b_n, depth, width, panels + p * columns, panel_stride);
        const S* left = a + i * a_m + p * a_k;
        if (copy || !od::same<T, S>) {
          od::copy_a<T>(left, a_m, a_k, height, depth, rows, row_stride);
          od::dot_packed<T>(rows, row_stride, 1, panels + p * columns, panel_stride, to, to_m, height, width,
                            depth, p > 0);
        } else {
          od::dot_packed<T>((const T*)left, a_m, a_k, panels + p * columns, panel_stride, to, to_m, height, width,
                            depth, p > 0);
        }
      }
      for (i64 x = 0; to == tile && x < height; x++)
        for (i64 y = 0; y < width; y++) c[(i + x) * c_m + j + y] = tile[x * tile_n + y];
    }
  }
}

template <class T, class A>
void matmul_integer(const A* a, i64 a_m, i64 a_k, const A* b, i64 b_k, i64 b_n, od::i32* c, i64 c_m, i64 m, i64 n,
                    i64 k, i64 tile_m, i64 tile_n, i64 chunk, od::i32* space) {
  constexpr i64 columns = od::dot_config<T>::columns;
  const i64 chunk_rows = od::packed_rows<T>(chunk), panel_stride = columns * chunk_rows * ((k + chunk - 1) / chunk);
  od::i32* rows = space + (tile_n + columns - 1) / columns * panel_stride;
  const i64 row_stride = chunk / od::dot_types<T>::group + 16;
  for (i64 j = 0; j < n; j += tile_n) {
    const i64 width = least(tile_n, n - j);
    for (i64 i = 0; i < m; i += tile_m) {
      const i64 height = least(tile_m, m - i);
      for (i64 p = 0; p < k; p += chunk) {
        const i64 depth = least(chunk, k - p);
        od::i32* panels = space + p / chunk * chunk_rows * columns;
        if (i == 0) od::pack_b_integer<T, A>(b + p * b_k + j * b_n, b_k, b_n, depth, width, panels, panel_stride);
        od::copy_a_integer<T>(a + i * a_m + p * a_k, a_m, a_k, height, depth, rows, row_stride);
        od::dot_packed_integer<T>(rows, row_stride, panels, panel_stride, c + i * c_m + j, c_m, height, width, depth,
                                  p > 0);
      }
    }
  }
}

#if defined(OD_DOT_HALF)
void matmul_half(const od::f16* a, i64 a_m, i64 a_k, const od::f16* b, i64 b_k, i64 b_n, float* c, i64 c_m, i64 m,
                 i64 n, i64 k, i64 tile_m, i64 tile_n, i64 chunk, char* space) {
  constexpr i64 columns = od::half_columns;
  const i64 panel_stride = columns * k, row_stride = chunk + 16;
  od::f16* panels = (od::f16*)space;
  od::i32* rows = (od::i32*)(panels + (tile_n + columns - 1) / columns * panel_stride);
  float scale_b[256];
  for (i64 j = 0; j < n; j += tile_n) {
    const i64 width = least(tile_n, n - j);
    for (i64 i = 0; i < m; i += tile_m) {
      const i64 height = least(tile_m, m - i);
      for (i64 p = 0; p < k; p += chunk) {
        const i64 depth = least(chunk, k - p);
        if (i == 0)
          scale_b[p / chunk] = od::half_pack_b(b + p * b_k + j * b_n, b_k, b_n, depth, width, panels + p * columns,
                                               panel_stride);
        const float scale = od::half_copy_a(a + i * a_m + p * a_k, a_m, a_k, height, depth, rows, row_stride);
        od::half_dot(rows, row_stride, panels + p * columns, panel_stride, c + i * c_m + j, c_m, height, width, depth,
                     scale * scale_b[p / chunk], p > 0);
      }
    }
  }
}
#endif

#if defined(OD_DOT_TILES)
template <class S>
void matmul_tiles(const S* a, i64 a_m, i64 a_k, const S* b, i64 b_k, i64 b_n, typename od::tiles_config<S>::result* c,
                  i64 c_m, i64 m, i64 n, i64 k, i64 tile_m, i64 tile_n, i64 chunk, od::i32* space) {
  const i64 groups = od::tiles_groups<S>(chunk), depth_rows = od::tiles_panel_rows<S>(chunk);
  const i64 panel_stride = 32 * depth_rows * ((k + chunk - 1) / chunk);
  od::i32* rows = space + (tile_n + 31) / 32 * panel_stride;
  const i64 row_stride = groups / 32 * 32 + 16 + (groups % 32 ? 32 : 0);
  bool special = false;
  od::tiles_begin();
  for (i64 j = 0; j < n; j += tile_n) {
    const i64 width = least(tile_n, n - j);
    for (i64 i = 0; i < m; i += tile_m) {
      const i64 height = least(tile_m, m - i);
      for (i64 p = 0; p < k; p += chunk) {
        const i64 depth = least(chunk, k - p);
        od::i32* panels = space + p / chunk * depth_rows * 32;
        if (i == 0) special |= od::tiles_pack_b<S>(b + p * b_k + j * b_n, b_k, b_n, depth, width, panels, panel_stride);
        special |= od::tiles_copy_a<S>(a + i * a_m + p * a_k, a_m, a_k, height, depth, rows, row_stride);
        od::tiles_dot<S>(rows, row_stride, panels, panel_stride, c + i * c_m + j, c_m, height, width,
                         od::tiles_groups<S>(depth), p > 0, special);
      }
    }
  }
  od::tiles_end();
}
#endif

}  // namespace

extern "C" void matmul_i8(const od::i8* a, i64 a_m, i64 a_k, const od::i8* b, i64 b_k, i64 b_n, od::i32* c, i64 c_m,
                          i64 m, i64 n, i64 k, i64 tile_m, i64 tile_n, i64 chunk, od::i32* space) {
  matmul_integer<od::dot_integer<od::i8, od::i8>>(a, a_m, a_k, b, b_k, b_n, c, c_m, m, n, k, tile_m, tile_n, chunk,
                                                  space);
}
#if defined(OD_DOT_HALF)
extern "C" void half_f16(const od::f16* a, i64 a_m, i64 a_k, const od::f16* b, i64 b_k, i64 b_n, float* c, i64 c_m,
                         i64 m, i64 n, i64 k, i64 tile_m, i64 tile_n, i64 chunk, char* space) {
  matmul_half(a, a_m, a_k, b, b_k, b_n, c, c_m, m, n, k, tile_m, tile_n, chunk, space);
}
#endif
#if defined(OD_DOT_TILES)
extern "C" int tiles_permitted() { return od::tiles_permitted(); }
extern "C" void tiles_i8(const od::i8* a, i64 a_m, i64 a_k, const od::i8* b, i64 b_k, i64 b_n, od::i32* c, i64 c_m,
                         i64 m, i64 n, i64 k, i64 tile_m, i64 tile_n, i64 chunk, od::i32* space) {
  matmul_tiles(a, a_m, a_k, b, b_k, b_n, c, c_m, m, n, k, tile_m, tile_n, chunk, space);
}
extern "C" void tiles_f16(const od::f16* a, i64 a_m, i64 a_k, const od::f16* b, i64 b_k, i64 b_n, float* c, i64 c_m,
                          i64 m, i64 n, i64 k, i64 tile_m, i64 tile_n, i64 chunk, od::i32* space) {
  matmul_tiles(a, a_m, a_k, b, b_k, b_n, c, c_m, m, n, k, tile_m, tile_n, chunk, space);
}
extern "C" void tiles_bf16(const od::bf16* a, i64 a_m, i64 a_k, const od::bf16* b, i64 b_k, i64 b_n, float* c, i64 c_m,
                           i64 m, i64 n, i64 k, i64 tile_m, i64 tile_n, i64 chunk, od::i32* space) {
  matmul_tiles(a, a_m, a_k, b, b_k, b_n, c, c_m, m, n, k, tile_m, tile_n, chunk, space);
}
#endif

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

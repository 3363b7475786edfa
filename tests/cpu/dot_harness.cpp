// C entry points over csrc/simd/dot.h for test_dot.py: each composes packing and kernels the way generated code does.
#include "dot.h"

using od::i64;

#define MATMUL(name, T, S)                                                                                            \
  extern "C" void packed_##name(const S* a, i64 a_m, i64 a_k, const S* b, i64 b_k, i64 b_n, T* c, i64 c_m, i64 m,     \
                                i64 n, i64 k, i64 k_chunk, int accumulate, T* space) {                                \
    constexpr i64 columns = od::dot_config<T>::columns;                                                               \
    const i64 a_stride = (k_chunk + 31) / 16 * 16;                                                                    \
    T* rows = space + (n + columns - 1) / columns * columns * k;                                                      \
    for (i64 i = 0; i == 0 || i < k; i += k_chunk) {                                                                  \
      const i64 depth = k - i < k_chunk ? k - i : k_chunk;                                                            \
      od::pack_b<T>(b + i * b_k, b_k, b_n, depth, n, space + i * columns, columns * k);                               \
      od::copy_a<T>(a + i * a_k, a_m, a_k, m, depth, rows, a_stride);                                                 \
      od::dot_packed<T>(rows, a_stride, 1, space + i * columns, columns * k, c, c_m, m, n, depth,                     \
                        accumulate || i > 0);                                                                         \
    }                                                                                                                 \
  }
MATMUL(f32, float, float)
MATMUL(f64, double, double)
MATMUL(f16, float, od::f16)
MATMUL(bf16, float, od::bf16)

#define DIRECT(name, T)                                                                                               \
  extern "C" void direct_##name(const T* a, i64 a_m, i64 a_k, const T* b, i64 b_k, T* c, i64 c_m, i64 m, i64 n,       \
                                i64 k, int accumulate) {                                                              \
    od::dot_direct<T>(a, a_m, a_k, b, b_k, c, c_m, m, n, k, accumulate);                                              \
  }
DIRECT(f32, float)
DIRECT(f64, double)

// A widened to T first, as generated code does. Rows of B: unit n stride; inner: unit k stride.
#define FEW(name, T, S)                                                                                               \
  extern "C" void rows_##name(const S* a, i64 a_m, i64 a_k, const S* b, i64 b_row, T* c, i64 c_m, i64 m, i64 n,       \
                              i64 k, int accumulate, T* space) {                                                      \
    const i64 stride = (k + 31) / 16 * 16;                                                                            \
    od::copy_a<T>(a, a_m, a_k, m, k, space, stride);                                                                  \
    od::dot_rows<T>(space, stride, 1, b, b_row, c, c_m, m, n, k, accumulate);                                         \
  }                                                                                                                   \
  extern "C" void inner_##name(const S* a, i64 a_m, i64 a_k, const S* b, i64 b_row, T* c, i64 c_m, i64 m, i64 n,      \
                               i64 k, int accumulate, T* space) {                                                     \
    const i64 stride = (k + 31) / 16 * 16;                                                                            \
    od::copy_a<T>(a, a_m, a_k, m, k, space, stride);                                                                  \
    od::dot_inner<T>(space, stride, b, b_row, c, c_m, m, n, k, accumulate);                                           \
  }
FEW(f32, float, float)
FEW(f64, double, double)
FEW(f16, float, od::f16)
FEW(bf16, float, od::bf16)

#define INTEGER(name, A, B)                                                                                           \
  extern "C" void packed_##name(const A* a, i64 a_m, i64 a_k, const B* b, i64 b_k, i64 b_n, od::i32* c, i64 c_m,      \
                                i64 m, i64 n, i64 k, i64 k_chunk, int accumulate, od::i32* space) {                   \
    typedef od::dot_integer<A, B> T;                                                                                  \
    constexpr i64 columns = od::dot_config<T>::columns;                                                               \
    const i64 panel_stride = od::packed_rows<T>(k_chunk) * columns;                                                   \
    od::i32* rows = space + (n + columns - 1) / columns * panel_stride;                                               \
    for (i64 i = 0; i == 0 || i < k; i += k_chunk) {                                                                  \
      const i64 depth = k - i < k_chunk ? k - i : k_chunk;                                                            \
      od::pack_b_integer<T, A>(b + i * b_k, b_k, b_n, depth, n, space, panel_stride);                                 \
      od::copy_a_integer<T>(a + i * a_k, a_m, a_k, m, depth, rows, k_chunk);                                          \
      od::dot_packed_integer<T>(rows, k_chunk, space, panel_stride, c, c_m, m, n, depth, accumulate || i > 0);        \
    }                                                                                                                 \
  }
INTEGER(i8, od::i8, od::i8)
INTEGER(u8, od::u8, od::u8)

#if defined(OD_DOT_HALF)
extern "C" void half_f16(const od::f16* a, i64 a_m, i64 a_k, const od::f16* b, i64 b_k, i64 b_n, float* c, i64 c_m,
                         i64 m, i64 n, i64 k, i64 k_chunk, int accumulate, float* space) {
  const i64 panel_stride = od::half_columns * k_chunk, row_stride = (k_chunk + 31) / 16 * 16;
  od::f16* panels = (od::f16*)space;
  od::i32* rows = (od::i32*)(panels + (n + od::half_columns - 1) / od::half_columns * panel_stride);
  for (i64 i = 0; i == 0 || i < k; i += k_chunk) {
    const i64 depth = k - i < k_chunk ? k - i : k_chunk;
    float scale = od::half_pack_b(b + i * b_k, b_k, b_n, depth, n, panels, panel_stride);
    scale *= od::half_copy_a(a + i * a_k, a_m, a_k, m, depth, rows, row_stride);
    od::half_dot(rows, row_stride, panels, panel_stride, c, c_m, m, n, depth, scale, accumulate || i > 0);
  }
}
#endif

#if defined(OD_DOT_TILES)
extern "C" int tiles_permitted() { return od::tiles_permitted(); }

#define TILES(name, S)                                                                                                \
  extern "C" void tiles_##name(const S* a, i64 a_m, i64 a_k, const S* b, i64 b_k, i64 b_n,                            \
                               od::tiles_config<S>::result* c, i64 c_m, i64 m, i64 n, i64 k, i64 k_chunk,             \
                               int accumulate, od::i32* space) {                                                      \
    const i64 panel_stride = od::tiles_panel_rows<S>(k_chunk) * 32, row_stride = od::tiles_groups<S>(k_chunk) + 16;   \
    od::i32* rows = space + (n + 31) / 32 * panel_stride;                                                             \
    bool special = false;                                                                                             \
    od::tiles_begin();                                                                                                \
    for (i64 i = 0; i == 0 || i < k; i += k_chunk) {                                                                  \
      const i64 depth = k - i < k_chunk ? k - i : k_chunk;                                                            \
      special |= od::tiles_pack_b<S>(b + i * b_k, b_k, b_n, depth, n, space, panel_stride);                           \
      if (i % 2 == 0) {                                                                                               \
        od::tiles_dot<S>(a + i * a_k, a_m, a_k, space, panel_stride, c, c_m, m, n, depth, accumulate || i > 0,        \
                         special);                                                                                    \
        continue;                                                                                                     \
      }                                                                                                               \
      special |= od::tiles_copy_a<S>(a + i * a_k, a_m, a_k, m, depth, rows, row_stride);                              \
      od::tiles_dot_copied<S>(rows, row_stride, space, panel_stride, c, c_m, m, n, od::tiles_groups<S>(depth),        \
                              accumulate || i > 0, special);                                                          \
    }                                                                                                                 \
    od::tiles_end();                                                                                                  \
  }
TILES(f16, od::f16)
TILES(bf16, od::bf16)
TILES(i8, od::i8)

extern "C" void tiles_rows_bf16(const od::bf16* a, i64 a_m, i64 a_k, const od::bf16* b, i64 b_row, float* c, i64 c_m,
                                i64 m, i64 n, i64 k, int accumulate, float*) {
  od::tiles_begin();
  od::tiles_few_rows(a, a_m, a_k, b, b_row, c, c_m, m, n, k, accumulate);
  od::tiles_end();
}
extern "C" void tiles_inner_bf16(const od::bf16* a, i64 a_m, i64 a_k, const od::bf16* b, i64 b_row, float* c, i64 c_m,
                                 i64 m, i64 n, i64 k, int accumulate, float*) {
  od::tiles_begin();
  od::tiles_few_inner(a, a_m, a_k, b, b_row, c, c_m, m, n, k, accumulate);
  od::tiles_end();
}
#endif

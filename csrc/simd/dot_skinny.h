// Products with few rows of A, bound by reading B once from memory: B is not packed.
#ifndef OPDSL_DOT_SKINNY_H
#define OPDSL_DOT_SKINNY_H

#include "dot_kernel.h"
#include "dot_pack.h"

namespace od {

// Each element is one chain of multiply-adds over a call's k, as everywhere (dot_kernel.h), though B goes through in strips
// of a few rows: a strip takes the chain up where the one before left it. `chain` is where it is kept between strips: in C
// itself, unless the whole is added to what C holds.

// R rows of A by V vectors of B's columns, over a strip. Rows beyond m repeat the last one and are not stored; with Edge
// there are n < V * lanes columns.
template <class T, class S, int R, int V, bool Edge>
OD_NOINLINE void dot_rows_block(const T* a, i64 a_row_stride, i64 a_k_stride, const S* b, i64 b_k_stride,
                                const T* from, i64 from_row_stride, const T* base, T* to, i64 to_row_stride, i64 m,
                                i64 n, i64 k) {
  typedef typename dot_config<T>::vector vector;
  constexpr int L = dot_config<T>::lanes;
  vector sum[R][V];
  const T* left[R];
  const auto part = [&](const T* p, int v) {
    if constexpr (Edge) return v * L < n ? dot_load_as<T>(p + v * L, n - v * L) : vector{};
    else return dot_load(p + v * L);
  };
  OD_UNROLL for (int r = 0; r < R; r++) {
    const i64 row = r < m ? r : m - 1;
    left[r] = a + row * a_row_stride;
    OD_UNROLL for (int v = 0; v < V; v++) sum[r][v] = from ? part(from + row * from_row_stride, v) : vector{};
  }
  for (i64 i = 0; i < k; i++) {
    vector right[V];
    OD_UNROLL for (int v = 0; v < V; v++) {
      if constexpr (Edge) {
        right[v] = v * L < n ? dot_load_as<T>(b + v * L, n - v * L) : vector{};
      } else {
        right[v] = dot_load_as<T>(b + v * L);
        if (v * L * sizeof(S) % 64 == 0) __builtin_prefetch((const char*)(b + v * L) + 256, 0, 2);
      }
    }
    b += b_k_stride;
    OD_UNROLL for (int r = 0; r < R; r++) {
      const vector x = dot_broadcast(*left[r]);
      left[r] += a_k_stride;
      OD_UNROLL for (int v = 0; v < V; v++) sum[r][v] = dot_multiply_add<T>(x, right[v], sum[r][v]);
    }
  }
  OD_UNROLL for (int r = 0; r < R; r++) {
    if (r >= m) break;
    OD_UNROLL for (int v = 0; v < V; v++) {
      if (Edge && v * L >= n) break;
      if (base) sum[r][v] = part(base + r * to_row_stride, v) + sum[r][v];
      T* p = to + r * to_row_stride + v * L;
      if constexpr (Edge) store_range<L>(p, sum[r][v], 0, n - v * L);
      else dot_store(p, sum[r][v]);
    }
  }
}

// G rows of B, for one row of A: long runs through memory, which the hardware prefetcher follows. Everything is read
// before it is written: `from`, `base` and `to` may be the same.
template <class T, class S, int G>
OD_NOINLINE void dot_row_group(const T* a, i64 a_k_stride, const S* b, i64 b_k_stride, const T* from, const T* base,
                               T* to, i64 n) {
  typedef typename dot_config<T>::vector vector;
  constexpr int L = dot_config<T>::lanes;
  vector x[G];
  const S* row[G];
  OD_UNROLL for (int g = 0; g < G; g++) {
    x[g] = dot_broadcast(a[g * a_k_stride]);
    row[g] = b + g * b_k_stride;
  }
  i64 j = 0;
  _Pragma("GCC unroll 2") for (; j + L <= n; j += L) {
    vector sum = from ? dot_load(from + j) : vector{};
    OD_UNROLL for (int g = 0; g < G; g++) sum = dot_multiply_add<T>(x[g], dot_load_as<T>(row[g] + j), sum);
    dot_store(to + j, base ? dot_load(base + j) + sum : sum);
  }
  if (j < n) {
    vector sum = from ? dot_load_as<T>(from + j, n - j) : vector{};
    OD_UNROLL for (int g = 0; g < G; g++) sum = dot_multiply_add<T>(x[g], dot_load_as<T>(row[g] + j, n - j), sum);
    store_range<L>(to + j, base ? dot_load_as<T>(base + j, n - j) + sum : sum, 0, n - j);
  }
}

#if defined(OD_AVX512) || defined(__aarch64__)
constexpr int dot_few_rows = 8;
#else
constexpr int dot_few_rows = 4;
#endif

// One row of A. `kept` holds the chains where C is added to.
template <class T, class S>
OD_INLINE void dot_one_row(const T* a, i64 a_k_stride, const S* b, i64 b_k_stride, T* c, i64 n, i64 k, bool accumulate,
                           T* kept) {
  constexpr i64 strip = 8;
  T* chain = accumulate ? kept : c;
  i64 i = 0;
  for (; i + strip <= k; i += strip) {
    const bool last = i + strip == k;
    dot_row_group<T, S, strip>(a + i * a_k_stride, a_k_stride, b + i * b_k_stride, b_k_stride, i ? chain : nullptr,
                               last && accumulate ? c : nullptr, last ? c : chain, n);
  }
  for (; i < k; i++) {
    const bool last = i + 1 == k;
    dot_row_group<T, S, 1>(a + i * a_k_stride, a_k_stride, b + i * b_k_stride, b_k_stride, i ? chain : nullptr,
                           last && accumulate ? c : nullptr, last ? c : chain, n);
  }
  if (k == 0) dot_row_group<T, S, 0>(a, a_k_stride, b, b_k_stride, nullptr, accumulate ? c : nullptr, c, n);
}

// Several rows of A: a strip of B comes from memory once and stays in L2 for all of them.
template <class T, class S>
OD_INLINE void dot_several_rows(const T* a, i64 a_row_stride, i64 a_k_stride, const S* b, i64 b_k_stride, T* c,
                                i64 c_row_stride, i64 m, i64 n, i64 k, bool accumulate, T* kept, i64 kept_stride) {
  constexpr int R = dot_config<T>::rows, few = 4;
  constexpr i64 strip = 32, columns = 2 * dot_config<T>::lanes;
  T* chain = accumulate ? kept : c;
  const i64 chain_stride = accumulate ? kept_stride : c_row_stride;
  for (i64 i = 0; i == 0 || i < k; i += strip) {
    const i64 depth = k - i < strip ? k - i : strip;
    const bool last = i + strip >= k;
    const i64 to_stride = last ? c_row_stride : chain_stride;
    for (i64 r = 0; r < m; r += R) {
      const T* left = a + r * a_row_stride + i * a_k_stride;
      const S* right = b + i * b_k_stride;
      const T* from = i ? chain + r * chain_stride : nullptr;
      const T* base = last && accumulate ? c + r * c_row_stride : nullptr;
      T* to = (last ? c : chain) + r * to_stride;
      for (i64 j = 0; j < n; j += columns) {
        const T *start = from ? from + j : nullptr, *add = base ? base + j : nullptr;
        if (j + columns <= n && m - r <= few)
          dot_rows_block<T, S, few, 2, false>(left, a_row_stride, a_k_stride, right + j, b_k_stride, start,
                                              chain_stride, add, to + j, to_stride, m - r, columns, depth);
        else if (j + columns <= n)
          dot_rows_block<T, S, R, 2, false>(left, a_row_stride, a_k_stride, right + j, b_k_stride, start, chain_stride,
                                            add, to + j, to_stride, m - r, columns, depth);
        else
          dot_rows_block<T, S, R, 2, true>(left, a_row_stride, a_k_stride, right + j, b_k_stride, start, chain_stride,
                                           add, to + j, to_stride, m - r, n - j, depth);
      }
    }
  }
}

// B in rows (unit column stride). A strip of a few rows of B at a time, along many columns: memory is read in long runs,
// and C stays in L1 or L2. 16-bit B is widened in registers.
template <class T, class S>
OD_INLINE void dot_rows(const T* a, i64 a_row_stride, i64 a_k_stride, const S* b, i64 b_k_stride, T* c,
                        i64 c_row_stride, i64 m, i64 n, i64 k, bool accumulate) {
  constexpr i64 block = 2048, most = 16;
  alignas(64) T kept[most * block];
  for (; m > 0; m -= most, a += most * a_row_stride, c += most * c_row_stride) {
    for (i64 j = 0; j < n; j += block) {
      const i64 columns = n - j < block ? n - j : block;
      if (m > 1)
        dot_several_rows<T, S>(a, a_row_stride, a_k_stride, b + j, b_k_stride, c + j, c_row_stride, m < most ? m : most,
                               columns, k, accumulate, kept, block);
      else
        dot_one_row<T, S>(a, a_k_stride, b + j, b_k_stride, c + j, columns, k, accumulate, kept);
    }
  }
}

// The same as dot_transpose, all in registers: 0.1 s of compile time for three times the speed.
template <int D, int L, class vector>
OD_INLINE void dot_transpose_registers(vector* row) {
  if constexpr (D > 0) {
    OD_UNROLL for (int l = 0; l < L; l++) {
      if (!(l & D)) dot_swap<D>(row[l], row[l + D], up_to<L>());
    }
    dot_transpose_registers<D / 2, L>(row);
  }
}

// k columns of `width` rows of B as k rows of a panel. Up to whole vectors the last row is repeated.
template <class T, class S>
OD_NOINLINE void dot_turn(const S* b, i64 b_row_stride, i64 width, i64 k, T* panel) {
  typedef typename dot_config<T>::vector vector;
  constexpr int L = dot_config<T>::lanes;
  constexpr i64 columns = dot_config<T>::columns;
  for (i64 j = 0; j < width; j += L, b += L * b_row_stride) {
    const i64 rows = width - j < L ? width - j : L;
    i64 i = 0;
    for (; i + L <= k; i += L) {
      vector row[L];
      OD_UNROLL for (int l = 0; l < L; l++) {
        const S* from = b + (l < rows ? l : rows - 1) * b_row_stride + i;
        __builtin_prefetch(from + columns * b_row_stride, 0, 2);  // the rows after these
        row[l] = dot_load_as<T>(from);
      }
      dot_transpose_registers<L / 2, L>(row);
      OD_UNROLL for (int l = 0; l < L; l++) dot_store(panel + (i + l) * columns + j, row[l]);
    }
    for (; i < k; i++)
      for (int l = 0; l < L; l++)
        panel[i * columns + j + l] = dot_value_as<T>(b + (l < rows ? l : rows - 1) * b_row_stride + i);
  }
}

// What dot_multiply_add does in a lane.
template <class T>
OD_INLINE T dot_multiply_add_one(T a, T b, T c) {
#if defined(OD_HAS_FMA)
  if constexpr (same<T, float>) return __builtin_fmaf(a, b, c);
  else return __builtin_fma(a, b, c);
#else
  return a * b + c;
#endif
}

// One row of A by V vectors of columns, which are rows of B in memory: they are turned in registers and used at once.
template <class T, class S, int V>
OD_NOINLINE void dot_turn_one(const T* a, const S* b, i64 b_row_stride, T* c, i64 n, i64 k, bool accumulate) {
  typedef typename dot_config<T>::vector vector;
  constexpr int L = dot_config<T>::lanes;
  // A row's whole line of the cache is used before the next row is read: rows that are a power of two apart share few sets.
  constexpr int line = 64 / sizeof(S) > L ? 64 / sizeof(S) : L;
  vector sum[V] = {};
  const auto turn = [&](i64 i, int v) {
    vector row[L];
    OD_UNROLL for (int l = 0; l < L; l++) {
      const i64 column = v * L + l;
      row[l] = dot_load_as<T>(b + (column < n ? column : n - 1) * b_row_stride + i);
    }
    dot_transpose_registers<L / 2, L>(row);
    OD_UNROLL for (int l = 0; l < L; l++) sum[v] = dot_multiply_add<T>(dot_broadcast(a[i + l]), row[l], sum[v]);
  };
  i64 i = 0;
  for (; i + line <= k; i += line) {
    OD_UNROLL for (int v = 0; v < V; v++) {
      _Pragma("GCC unroll 1") for (int at = 0; at < line; at += L) turn(i + at, v);
    }
  }
  for (; i + L <= k; i += L) {
    OD_UNROLL for (int v = 0; v < V; v++) turn(i, v);
  }
  alignas(64) T sums[V * L];
  OD_UNROLL for (int v = 0; v < V; v++) dot_store(sums + v * L, sum[v]);
  for (i64 j = 0; j < (n < V * L ? n : V * L); j++) {
    T chain = sums[j];
    for (i64 at = i; at < k; at++) chain = dot_multiply_add_one(a[at], dot_value_as<T>(b + j * b_row_stride + at), chain);
    c[j] = accumulate ? c[j] + chain : chain;
  }
}

// All rows of A by a panel.
template <class T>
OD_INLINE void dot_inner_rows(const T* a, i64 a_row_stride, const T* panel, const T* from, i64 from_stride,
                              const T* base, T* to, i64 to_stride, i64 m, i64 n, i64 k) {
  constexpr int R = dot_few_rows, V = dot_config<T>::vectors;
  constexpr i64 columns = dot_config<T>::columns;
  for (; m > 0; m -= R, a += R * a_row_stride, to += R * to_stride) {
    if (n < columns)
      dot_rows_block<T, T, R, V, true>(a, a_row_stride, 1, panel, columns, from, from_stride, base, to, to_stride, m, n, k);
    else if (m > 1)
      dot_rows_block<T, T, R, V, false>(a, a_row_stride, 1, panel, columns, from, from_stride, base, to, to_stride, m, n, k);
    else
      dot_rows_block<T, T, 1, V, false>(a, a_row_stride, 1, panel, columns, from, from_stride, base, to, to_stride, m, n, k);
    if (from) from += R * from_stride;
    if (base) base += R * to_stride;
  }
}

// A and B both with unit k stride (B is n x k), at most 16 rows or so: a few rows of B at a time are turned into columns,
// which stay in L1 for all rows of A. Beyond about 16, packing B pays.
template <class T, class S>
OD_INLINE void dot_inner(const T* a, i64 a_row_stride, const S* b, i64 b_row_stride, T* c, i64 c_row_stride, i64 m,
                         i64 n, i64 k, bool accumulate) {
  constexpr i64 columns = dot_config<T>::columns, strip = 256, most = 16, lanes = dot_config<T>::lanes;
  constexpr int V = lanes < 16 ? 16 / lanes : 1;
  if (m == 1) {
    for (i64 j = 0; j < n; j += V * lanes)
      dot_turn_one<T, S, V>(a, b + j * b_row_stride, b_row_stride, c + j, n - j, k, accumulate);
    return;
  }
  alignas(64) T panel[columns * strip];
  alignas(64) T kept[most * columns];
  for (; m > 0; m -= most, a += most * a_row_stride, c += most * c_row_stride) {
    const i64 rows = m < most ? m : most;
    for (i64 j = 0; j < n; j += columns) {
      const i64 width = n - j < columns ? n - j : columns;
      T* chain = accumulate ? kept : c + j;
      const i64 chain_stride = accumulate ? columns : c_row_stride;
      for (i64 i = 0; i == 0 || i < k; i += strip) {
        const i64 depth = k - i < strip ? k - i : strip;
        const bool last = i + strip >= k;
        dot_turn<T>(b + j * b_row_stride + i, b_row_stride, width, depth, panel);
        dot_inner_rows<T>(a + i, a_row_stride, panel, i ? chain : nullptr, chain_stride,
                          last && accumulate ? c + j : nullptr, last ? c + j : chain,
                          last ? c_row_stride : chain_stride, rows, width, depth);
      }
    }
  }
}

}  // namespace od
#endif

// Stable sort of a row with the places that its elements came from: bottom-up merge sort (Knuth, TAOCP 3, 5.2.4),
// with insertion sort for the first runs.
#ifndef OPDSL_SIMD_SORT_H
#define OPDSL_SIMD_SORT_H

#include "kernel.h"

namespace od {

// Whether a must come before b; NaN counts as the largest.
template <bool Descending, class S> OD_INLINE bool sorts_before(S a, S b) {
  const auto x = load1(&a), y = load1(&b);
  if constexpr (is_float<register_of<S>>) {
    if (Descending) return x != x ? y == y : x > y;
    return y != y ? x == x : x < y;
  } else if constexpr (same<S, bool8>) {
    return Descending ? (x != 0) > (y != 0) : (x != 0) < (y != 0);
  } else {
    return Descending ? x > y : x < y;
  }
}

// Sorts values[0..size) and writes where each came from to places[0..size). `spare` has room for 2 * size elements of
// 8 bytes.
template <bool Descending, class S> static void sort_row(S* values, i64* places, i64 size, i64* spare) {
  constexpr i64 run = 16;
  for (i64 k = 0; k < size; ++k) places[k] = k;
  for (i64 start = 0; start < size; start += run) {
    const i64 end = smaller(start + run, size);
    for (i64 k = start + 1; k < end; ++k) {
      const S value = values[k];
      const i64 place = places[k];
      i64 hole = k;
      for (; hole > start && sorts_before<Descending>(value, values[hole - 1]); --hole) {
        values[hole] = values[hole - 1];
        places[hole] = places[hole - 1];
      }
      values[hole] = value;
      places[hole] = place;
    }
  }
  S* const spare_values = reinterpret_cast<S*>(spare);
  i64* const spare_places = spare + size;
  for (i64 width = run; width < size; width *= 2) {
    for (i64 start = 0; start + width < size; start += 2 * width) {
      const i64 middle = start + width, end = smaller(start + 2 * width, size);
      for (i64 k = start; k < middle; ++k) {
        spare_values[k] = values[k];
        spare_places[k] = places[k];
      }
      i64 left = start, right = middle, out = start;
      while (left < middle && right < end) {
        if (sorts_before<Descending>(values[right], spare_values[left])) {
          values[out] = values[right];
          places[out++] = places[right++];
        } else {
          values[out] = spare_values[left];
          places[out++] = spare_places[left++];
        }
      }
      for (; left < middle; ++left) {
        values[out] = spare_values[left];
        places[out++] = spare_places[left];
      }
    }
  }
}

}  // namespace od

#endif

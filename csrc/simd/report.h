// od.print and od.assert_ in generated code: values are widened and handed to the host.
#ifndef OPDSL_SIMD_REPORT_H
#define OPDSL_SIMD_REPORT_H

#include "kernel.h"

namespace od {

template <class T> OD_INLINE opdsl_scalar widened(T x) {
  opdsl_scalar result;
  if constexpr (same<T, float> || same<T, double>) result.f = double(x);
  else result.i = opdsl_i64(x);
  return result;
}

template <class T> struct reported_scalar { T value; };
template <class T> OD_INLINE reported_scalar<T> reported(T value) { return {value}; }

template <class S, int Rank> struct reported_array {
  const S* elements;
  i64 shape[Rank];
};
template <class S, int Rank> OD_INLINE reported_array<S, Rank> reported_tile(const S* elements, const i64 (&shape)[Rank]) {
  reported_array<S, Rank> result{elements, {}};
  for (int d = 0; d < Rank; ++d) result.shape[d] = shape[d];
  return result;
}

// Collects the values, then calls the host with all of them.
struct report_list {
  const opdsl_runtime* runtime;
  opdsl_report_value values[32];
  opdsl_i32 count;
  opdsl_scalar scalars[32];
  void* memory[32];
  int allocated;
};
template <class T> OD_INLINE void append(report_list& list, const reported_scalar<T>& value) {
  list.scalars[list.count] = widened(value.value);
  list.values[list.count] = {same<T, float> || same<T, double>, 0, nullptr, &list.scalars[list.count]};
  ++list.count;
}
template <class S, int Rank> OD_INLINE void append(report_list& list, const reported_array<S, Rank>& value) {
  i64 size = 1;
  for (int d = 0; d < Rank; ++d) size *= value.shape[d];
  opdsl_scalar* const copy =
      static_cast<opdsl_scalar*>(list.runtime->allocate(list.runtime, size * i64(sizeof(opdsl_scalar))));
  if (!copy) return;
  list.memory[list.allocated++] = copy;
  constexpr bool is_bool = same<S, bool8>;
  for (i64 k = 0; k < size; ++k) {
    if constexpr (is_bool) copy[k].i = load1(value.elements + k) != 0;
    else copy[k] = widened(load1(value.elements + k));
  }
  list.values[list.count++] = {is_float<register_of<S>>, Rank, value.shape, copy};
}

template <class... Values> OD_INLINE void report(const opdsl_runtime* runtime, i32 site, const Values&... values) {
  static_assert(sizeof...(Values) <= 32, "od.print takes up to 32 values");
  report_list list;
  list.runtime = runtime;
  list.count = 0;
  list.allocated = 0;
  (append(list, values), ...);
  runtime->report(runtime, site, list.values, list.count);
  for (int k = 0; k < list.allocated; ++k) runtime->release(runtime, list.memory[k]);
}

template <class S> OD_INLINE bool all_true(const S* elements, i64 size) {
  for (i64 k = 0; k < size; ++k)
    if (!load1(elements + k)) return false;
  return true;
}

}  // namespace od

#endif

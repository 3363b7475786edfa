// The roof: multiply-adds on registers alone. Returns the floating-point operations done; the caller takes the time.
#ifndef OPDSL_PROBE_H
#define OPDSL_PROBE_H

#include "dot_vector.h"

namespace od {

template <class T>
OD_NOINLINE i64 probe_fma(i64 iterations) {
  typedef typename dot_config<T>::vector vector;
  constexpr int chains = dot_config<T>::rows * dot_config<T>::vectors;
  vector sum[chains], x = dot_broadcast(T(1)), y = dot_broadcast(T(1e-9));
  // The compiler must not see the values, or it would do the arithmetic itself.
  volatile T hidden = T(1);
  x *= dot_broadcast(T(hidden));
  y *= dot_broadcast(T(hidden));
  OD_UNROLL for (int i = 0; i < chains; i++) sum[i] = dot_broadcast(T(hidden * T(i)));
  for (i64 n = 0; n < iterations; n++) {
    OD_UNROLL for (int i = 0; i < chains; i++) sum[i] = dot_multiply_add<T>(x, y, sum[i]);
  }
  vector total{};
  OD_UNROLL for (int i = 0; i < chains; i++) total += sum[i];
  hidden = total[0];
  return iterations * chains * dot_config<T>::lanes * 2;
}

}  // namespace od
#endif

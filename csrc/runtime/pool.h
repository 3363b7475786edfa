// The thread pool behind `parallel_for` of simd/abi.h.
//
// Work is handed out in pieces from a counter and the caller takes part, so that it can finish alone: a worker that the
// system has not scheduled yet delays nobody. Only a worker that holds a piece is waited for.
#ifndef OPDSL_POOL_H
#define OPDSL_POOL_H

#include "simd/abi.h"

namespace opdsl {

constexpr int kMaximumThreads = 512;

// See opdsl_runtime::parallel_for.
opdsl_i32 pool_parallel_for(const opdsl_runtime* runtime, opdsl_i64 count, opdsl_i64 chunk, opdsl_i64 scratch_bytes,
                            opdsl_body body, void* closure);

// The caller included. By default what the affinity mask and the container's CPU quota allow, or OPDSL_NUM_THREADS, or
// OMP_NUM_THREADS.
int pool_thread_count();
void pool_set_thread_count(int count);

// How long an idle thread looks for work before it sleeps, in microseconds.
int pool_spin_microseconds();
void pool_set_spin_microseconds(int microseconds);

}  // namespace opdsl
#endif

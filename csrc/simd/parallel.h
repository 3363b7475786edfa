// A parallel loop over the host's thread pool; see abi.h.
#ifndef OPDSL_SIMD_PARALLEL_H
#define OPDSL_SIMD_PARALLEL_H

#include "abi.h"

namespace od {

// Calls body(begin, end, scratch) for pieces of 0..count; see opdsl_runtime::parallel_for.
template <class Body>
static inline opdsl_i32 parallel_for(const opdsl_runtime* runtime, opdsl_i64 count, opdsl_i64 chunk, opdsl_i64 scratch_bytes,
                                const Body& body) {
  struct trampoline {
    static void call(void* closure, opdsl_i64 begin, opdsl_i64 end, char* scratch) {
      (*static_cast<const Body*>(closure))(begin, end, scratch);
    }
  };
  return runtime->parallel_for(runtime, count, chunk, scratch_bytes, &trampoline::call,
                        const_cast<void*>(static_cast<const void*>(&body)));
}

}  // namespace od

#endif

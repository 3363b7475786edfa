// Pooled memory for workspaces and outputs. A fresh large block costs more in page faults than most kernels take, so
// freed blocks are kept, up to a limit, and handed out again with their pages still mapped.
#ifndef OPDSL_MEMORY_H
#define OPDSL_MEMORY_H

#include <cstddef>
#include <cstdint>

namespace opdsl {

constexpr size_t kCacheLine = 64;
constexpr size_t kHugePage = size_t{2} << 20;
// Larger requests get huge pages: on 4 KiB pages, hardware prefetching stops at every page.
constexpr size_t kHugeFrom = size_t{128} << 10;

// 64-byte aligned memory, 2 MiB aligned and huge-page advised above kHugeFrom; null where there is none.
void* memory_allocate(size_t bytes) noexcept;
void memory_release(void* block) noexcept;

struct MemoryStatistics {
  size_t in_use_bytes;
  size_t cached_bytes;
  size_t cache_limit_bytes;
  uint64_t reused;  // allocations served by a kept block
  uint64_t fresh;   // allocations served by the system
};

MemoryStatistics memory_statistics() noexcept;
// Freed blocks beyond this many bytes go back to the system, the longest unused first.
void memory_set_cache_limit(size_t bytes) noexcept;
// Gives every kept block back to the system.
void memory_trim() noexcept;

}  // namespace opdsl
#endif

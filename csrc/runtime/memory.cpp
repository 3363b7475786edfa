#include "runtime/memory.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

// No C++ library symbols here: this file is also compiled into libraries that C programs link.
//
// Every block has a Block record. A small block (below 2 MiB) has it in the 64 bytes before its data, and its data is
// 64 modulo 128, so it is never 2 MiB aligned. A large block's data is 2 MiB aligned, and its record is found in a table:
// that is how `memory_release` tells the two apart.

namespace opdsl {
namespace {

struct Block {
  char* data;
  size_t bytes;  // usable
  int size_class;
  bool large;
  Block* newer;  // among the kept blocks, by time of release
  Block* older;
  Block* next;  // in the free list of its class, or in the table of large blocks in use
};
static_assert(sizeof(Block) <= kCacheLine, "a record must fit before its block");

// Sizes are rounded up to a class: eight classes a doubling, so at most 12.5 % is wasted.
constexpr int kStepsPerDoubling = 8;
constexpr int kClasses = 44 * kStepsPerDoubling;
constexpr int kTableSize = 1024;

struct Pool {
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  Block* free_lists[kClasses] = {};
  Block* large_in_use[kTableSize] = {};
  Block* newest = nullptr;
  Block* oldest = nullptr;
  size_t in_use_bytes = 0;
  size_t cached_bytes = 0;
  size_t cache_limit_bytes = 0;
  bool limit_set = false;
  uint64_t reused = 0;
  uint64_t fresh = 0;
};

Pool pool;
pthread_once_t fork_handlers_once = PTHREAD_ONCE_INIT;

// A child of fork must not inherit the mutex locked by a thread that it does not have.
void install_fork_handlers() {
  pthread_atfork([] { pthread_mutex_lock(&pool.mutex); }, [] { pthread_mutex_unlock(&pool.mutex); },
                 [] { pthread_mutex_unlock(&pool.mutex); });
}

class Lock {
 public:
  Lock() {
    pthread_once(&fork_handlers_once, install_fork_handlers);
    pthread_mutex_lock(&pool.mutex);
  }
  ~Lock() { pthread_mutex_unlock(&pool.mutex); }
  Lock(const Lock&) = delete;
  Lock& operator=(const Lock&) = delete;
};

// A quarter of the machine's memory, unless set.
size_t cache_limit() {
  if (!pool.limit_set) {
    const long pages = sysconf(_SC_PHYS_PAGES);
    const long page = sysconf(_SC_PAGESIZE);
    pool.cache_limit_bytes = pages > 0 && page > 0 ? static_cast<size_t>(pages) * static_cast<size_t>(page) / 4 : 0;
    pool.limit_set = true;
  }
  return pool.cache_limit_bytes;
}

struct SizeClass {
  int index;
  size_t bytes;
};

// The smallest class that holds `bytes`; above kHugeFrom, classes are multiples of 2 MiB.
SizeClass size_class_of(size_t bytes) {
  if (bytes < kCacheLine) bytes = kCacheLine;
  const size_t unit = bytes > kHugeFrom ? kHugePage : kCacheLine;
  bytes = (bytes + unit - 1) / unit * unit;
  const int doubling = 63 - __builtin_clzll(bytes);
  size_t step = (size_t{1} << doubling) / kStepsPerDoubling;
  if (step < unit) step = unit;
  const size_t rounded = (bytes + step - 1) / step * step;
  const int rounded_doubling = 63 - __builtin_clzll(rounded);
  const size_t base = size_t{1} << rounded_doubling;
  const int within = static_cast<int>((rounded - base) * kStepsPerDoubling / base);
  return {(rounded_doubling - 6) * kStepsPerDoubling + within, rounded};
}

size_t table_slot(const void* data) { return (reinterpret_cast<uintptr_t>(data) / kHugePage) % kTableSize; }

bool is_large(const void* data) { return reinterpret_cast<uintptr_t>(data) % kHugePage == 0; }

Block* create_small(const SizeClass& size) {
  void* base = nullptr;
  if (posix_memalign(&base, 2 * kCacheLine, size.bytes + kCacheLine) != 0) return nullptr;
  Block* block = static_cast<Block*>(base);
  *block = Block{static_cast<char*>(base) + kCacheLine, size.bytes, size.index, false, nullptr, nullptr, nullptr};
  return block;
}

Block* create_large(const SizeClass& size) {
  Block* block = static_cast<Block*>(malloc(sizeof(Block)));
  if (block == nullptr) return nullptr;
  const size_t span = size.bytes + kHugePage;
  void* mapped = mmap(nullptr, span, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapped == MAP_FAILED) {
    free(block);
    return nullptr;
  }
  // Cut the mapping down to the aligned part.
  char* begin = static_cast<char*>(mapped);
  char* data = reinterpret_cast<char*>((reinterpret_cast<uintptr_t>(begin) + kHugePage - 1) / kHugePage * kHugePage);
  char* end = begin + span;
  if (data > begin) munmap(begin, static_cast<size_t>(data - begin));
  if (end > data + size.bytes) munmap(data + size.bytes, static_cast<size_t>(end - (data + size.bytes)));
#ifdef MADV_HUGEPAGE
  madvise(data, size.bytes, MADV_HUGEPAGE);
#endif
  *block = Block{data, size.bytes, size.index, true, nullptr, nullptr, nullptr};
  return block;
}

void destroy(Block* block) {
  if (block->large) {
    munmap(block->data, block->bytes);
  }
  free(block);  // of a small block, its data as well
}

void unlink_from_age_list(Block* block) {
  (block->newer ? block->newer->older : pool.newest) = block->older;
  (block->older ? block->older->newer : pool.oldest) = block->newer;
}

void unlink_from_free_list(Block* block) {
  Block** link = &pool.free_lists[block->size_class];
  while (*link != block) link = &(*link)->next;
  *link = block->next;
}

// Takes the longest unused blocks out of the cache until it is within `limit`; returns them as a list.
Block* evict_until(size_t limit) {
  Block* evicted = nullptr;
  while (pool.cached_bytes > limit && pool.oldest != nullptr) {
    Block* block = pool.oldest;
    unlink_from_age_list(block);
    unlink_from_free_list(block);
    pool.cached_bytes -= block->bytes;
    block->next = evicted;
    evicted = block;
  }
  return evicted;
}

void destroy_list(Block* block) {
  while (block != nullptr) {
    Block* next = block->next;
    destroy(block);
    block = next;
  }
}

void note_in_use(Block* block) {
  pool.in_use_bytes += block->bytes;
  if (block->large) {
    Block** slot = &pool.large_in_use[table_slot(block->data)];
    block->next = *slot;
    *slot = block;
  }
}

}  // namespace

void* memory_allocate(size_t bytes) noexcept {
  if (bytes > (size_t{1} << 47)) return nullptr;
  const SizeClass size = size_class_of(bytes);
  {
    Lock lock;
    Block* block = pool.free_lists[size.index];
    if (block != nullptr) {
      pool.free_lists[size.index] = block->next;
      unlink_from_age_list(block);
      pool.cached_bytes -= block->bytes;
      ++pool.reused;
      note_in_use(block);
      return block->data;
    }
  }
  const bool large = size.bytes >= kHugePage;
  Block* block = large ? create_large(size) : create_small(size);
  if (block == nullptr) {
    memory_trim();
    block = large ? create_large(size) : create_small(size);
    if (block == nullptr) return nullptr;
  }
  Lock lock;
  ++pool.fresh;
  note_in_use(block);
  return block->data;
}

void memory_release(void* data) noexcept {
  if (data == nullptr) return;
  Block* evicted = nullptr;
  {
    Lock lock;
    Block* block;
    if (is_large(data)) {
      Block** link = &pool.large_in_use[table_slot(data)];
      while (*link != nullptr && (*link)->data != data) link = &(*link)->next;
      block = *link;
      if (block == nullptr) return;  // not ours
      *link = block->next;
    } else {
      block = reinterpret_cast<Block*>(static_cast<char*>(data) - kCacheLine);
    }
    pool.in_use_bytes -= block->bytes;
    pool.cached_bytes += block->bytes;
    block->next = pool.free_lists[block->size_class];
    pool.free_lists[block->size_class] = block;
    block->newer = nullptr;
    block->older = pool.newest;
    (pool.newest ? pool.newest->newer : pool.oldest) = block;
    pool.newest = block;
    evicted = evict_until(cache_limit());
  }
  destroy_list(evicted);
}

MemoryStatistics memory_statistics() noexcept {
  Lock lock;
  return {pool.in_use_bytes, pool.cached_bytes, cache_limit(), pool.reused, pool.fresh};
}

void memory_set_cache_limit(size_t bytes) noexcept {
  Block* evicted;
  {
    Lock lock;
    pool.cache_limit_bytes = bytes;
    pool.limit_set = true;
    evicted = evict_until(bytes);
  }
  destroy_list(evicted);
}

void memory_trim() noexcept {
  Block* evicted;
  {
    Lock lock;
    evicted = evict_until(0);
  }
  destroy_list(evicted);
}

}  // namespace opdsl

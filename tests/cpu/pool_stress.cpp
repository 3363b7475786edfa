// Hammers the thread pool and the memory pool; built by test_pool.py, with ThreadSanitizer where there is one.
// Exits with 0, or says what went wrong.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

#include "runtime/memory.h"
#include "runtime/pool.h"

#define CHECK(condition)                                              \
  do {                                                                \
    if (!(condition)) {                                               \
      fprintf(stderr, "line %d: failed: %s\n", __LINE__, #condition); \
      _exit(1);                                                       \
    }                                                                 \
  } while (0)

namespace {

struct Marks {
  std::vector<unsigned char> seen;
  opdsl_i64 chunk;
  opdsl_i64 count;
};

// Every iteration once, pieces are multiples of the chunk, scratch is aligned and this thread's own.
void mark(void* closure, opdsl_i64 begin, opdsl_i64 end, char* scratch) {
  Marks& marks = *static_cast<Marks*>(closure);
  CHECK(begin < end && end <= marks.count && begin % marks.chunk == 0);
  CHECK(end == marks.count || end % marks.chunk == 0);
  CHECK(reinterpret_cast<uintptr_t>(scratch) % 64 == 0);
  memset(scratch, static_cast<int>(begin & 127), 512);
  for (opdsl_i64 i = begin; i < end; ++i) ++marks.seen[static_cast<size_t>(i)];
  for (int i = 0; i < 512; ++i) CHECK(scratch[i] == static_cast<char>(begin & 127));
}

void loop(opdsl_i64 count, opdsl_i64 chunk) {
  Marks marks{std::vector<unsigned char>(static_cast<size_t>(count), 0), chunk, count};
  opdsl::pool_parallel_for(nullptr, count, chunk, 512, mark, &marks);
  for (unsigned char seen : marks.seen) CHECK(seen == 1);
}

// Nested loops run in the caller, with scratch of their own.
void nest(void* closure, opdsl_i64 begin, opdsl_i64 end, char* scratch) {
  const int depth = *static_cast<int*>(closure);
  memset(scratch, depth, 300);
  if (depth < 5) {
    int next = depth + 1;
    opdsl::pool_parallel_for(nullptr, 4, 1, 300 * (depth + 2), nest, &next);
  }
  for (int i = 0; i < 300; ++i) CHECK(scratch[i] == static_cast<char>(depth));
  (void)begin;
  (void)end;
}

void use_memory(unsigned seed) {
  std::vector<std::pair<char*, size_t>> blocks;
  for (int i = 0; i < 400; ++i) {
    seed = seed * 1664525 + 1013904223;
    const size_t bytes = (seed >> 8) % 7 == 0 ? (seed >> 4) % (5 << 20) : (seed >> 8) % 5000;
    char* block = static_cast<char*>(opdsl::memory_allocate(bytes));
    CHECK(block != nullptr && reinterpret_cast<uintptr_t>(block) % 64 == 0);
    CHECK(bytes < opdsl::kHugePage || reinterpret_cast<uintptr_t>(block) % opdsl::kHugePage == 0);
    const char tag = static_cast<char>(i);
    if (bytes > 0) block[0] = block[bytes - 1] = tag;
    blocks.push_back({block, bytes});
    if (blocks.size() > 8) {
      const size_t victim = (seed >> 16) % blocks.size();
      opdsl::memory_release(blocks[victim].first);
      blocks.erase(blocks.begin() + static_cast<long>(victim));
    }
    if (i % 100 == 99) opdsl::memory_trim();
  }
  for (auto& [block, bytes] : blocks) {
    CHECK(bytes == 0 || block[0] == block[bytes - 1]);
    opdsl::memory_release(block);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? atoi(argv[1]) : 2000;
  const bool forks = argc > 2 && strcmp(argv[2], "fork") == 0;
  opdsl::pool_set_thread_count(4);

  for (int i = 0; i < rounds; ++i) loop(1 + i % 97, 1 + i % 5);
  loop(100000, 1);
  loop(100000, 333);
  opdsl::pool_set_spin_microseconds(0);
  for (int i = 0; i < rounds / 4; ++i) loop(1 + i % 97, 1 + i % 5);
  opdsl::pool_set_spin_microseconds(50);

  int depth = 1;
  for (int i = 0; i < 20; ++i) opdsl::pool_parallel_for(nullptr, 16, 1, 300, nest, &depth);

  // More callers than slots, and the thread count changing under them.
  std::vector<std::thread> callers;
  std::atomic<bool> stop{false};
  for (int caller = 0; caller < 20; ++caller)
    callers.emplace_back([rounds, caller] {
      for (int i = 0; i < rounds / 20; ++i) loop(50 + (caller * 7 + i) % 50, 1 + i % 3);
      use_memory(static_cast<unsigned>(caller));
    });
  std::thread changer([&stop] {
    for (int i = 0; !stop; ++i) {
      opdsl::pool_set_thread_count(1 + i % 6);
      usleep(500);
    }
  });
  for (std::thread& caller : callers) caller.join();
  stop = true;
  changer.join();
  CHECK(opdsl::memory_statistics().in_use_bytes < (8 << 20));  // scratch of live threads

  if (forks) {
    opdsl::pool_set_thread_count(3);
    loop(100, 1);
    for (int i = 0; i < 20; ++i) {
      const pid_t child = fork();
      if (child == 0) {
        for (int j = 0; j < 50; ++j) loop(100, 1);
        use_memory(7);
        _exit(0);
      }
      loop(100, 1);
      int status = 1;
      CHECK(waitpid(child, &status, 0) == child && status == 0);
    }
  }
  puts("ok");
  return 0;
}

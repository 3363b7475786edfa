#include "runtime/pool.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

#include <atomic>

#include "runtime/futex.h"
#include "runtime/machine.h"
#include "runtime/memory.h"

// No C++ library symbols here: this file is also compiled into libraries that C programs link.

namespace opdsl {
namespace {

constexpr int kSlots = 16;           // parallel loops in flight at once, from different threads
constexpr int kGrabsPerRange = 8;    // a thread takes at most this part of what is left of a range
constexpr int kArenaDepth = 3;       // nested loops with an arena of their own; deeper ones allocate
constexpr uint32_t kOpen = 1u << 31; // of Slot::state: workers may join; the other bits count those who did

// The pieces of a loop that a thread starts with: always the same part of the loop, so that repeated loops over the same
// data find it in the cache of the same core. Who has finished its own range helps with the others.
struct alignas(64) Range {
  std::atomic<opdsl_i64> next{0};
  opdsl_i64 end = 0;
};

// One parallel loop. Slots are never freed, so that a late worker may look at one at any time; it reads the loop's
// fields only after joining, and they do not change while any worker is joined.
struct alignas(128) Slot {
  std::atomic<uint32_t> owned{0};
  std::atomic<uint32_t> state{0};
  std::atomic<uint32_t> has_work{0};  // 0: no piece is left to take, joining would be in vain
  std::atomic<uint32_t> worker_limit{0};
  int range_count = 0;
  opdsl_i64 count = 0;
  opdsl_i64 chunk = 0;
  opdsl_i64 scratch_bytes = 0;
  opdsl_body body = nullptr;
  void* closure = nullptr;
  Range ranges[kMaximumThreads];
};

// All zeros at first: half a megabyte that is in no file.
struct Pool {
  Slot slots[kSlots];
  alignas(128) std::atomic<uint32_t> epoch{0};  // goes up with every loop started; idle workers watch it
  std::atomic<int> sleepers{0};
  std::atomic<uint32_t> resizes{0};  // goes up with every change of `threads`; workers that are not wanted sleep on it
  alignas(128) std::atomic<int> threads{0};  // wanted, the caller included; 0: not decided yet
  std::atomic<int> created{0};
  std::atomic<int> spin_microseconds{0};  // and one: 0 is not decided yet
  pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;  // creation of workers
};

Pool pool;
pthread_once_t once = PTHREAD_ONCE_INIT;

// Scratch memory of a thread: one arena for each depth of nesting.
struct Arena {
  char* data = nullptr;
  size_t bytes = 0;
};
struct ThreadState {
  Arena arenas[kArenaDepth];
  int depth = 0;
  bool registered = false;
};
thread_local ThreadState thread_state;
pthread_key_t thread_exit_key;

void release_arenas(void* state) {
  for (Arena& arena : static_cast<ThreadState*>(state)->arenas) {
    memory_release(arena.data);
    arena = Arena{};
  }
}

// The child of a fork has no workers and no loop in flight.
void reset_after_fork() {
  for (Slot& slot : pool.slots) {
    slot.owned.store(0);
    slot.state.store(0);
  }
  pool.sleepers.store(0);
  pool.created.store(0);
  pthread_mutex_init(&pool.mutex, nullptr);
}

void initialise_once() {
  pthread_key_create(&thread_exit_key, release_arenas);
  pthread_atfork(nullptr, nullptr, reset_after_fork);
}

// Scratch for one thread's part of a loop, at the thread's depth of nesting.
class Scratch {
 public:
  explicit Scratch(opdsl_i64 wanted) {
    ThreadState& state = thread_state;
    depth_ = state.depth++;
    if (wanted <= 0) return;
    const size_t bytes = static_cast<size_t>(wanted);
    if (depth_ >= kArenaDepth) {
      data_ = own_ = static_cast<char*>(memory_allocate(bytes));
    } else {
      Arena& arena = state.arenas[depth_];
      if (arena.bytes < bytes) {
        memory_release(arena.data);
        arena.data = static_cast<char*>(memory_allocate(bytes));
        arena.bytes = arena.data != nullptr ? bytes : 0;
        if (!state.registered) {
          pthread_setspecific(thread_exit_key, &state);
          state.registered = true;
        }
      }
      data_ = arena.data;
    }
    missing_ = data_ == nullptr;
  }
  ~Scratch() {
    --thread_state.depth;
    memory_release(own_);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  char* data() const { return data_; }
  bool missing() const { return missing_; }  // there is no memory: the loop's body must not run

 private:
  char* data_ = nullptr;
  char* own_ = nullptr;
  bool missing_ = false;
  int depth_;
};

opdsl_i64 now_nanoseconds() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<opdsl_i64>(time.tv_sec) * 1000000000 + time.tv_nsec;
}

// Waits until `done()` for at most the spin time; says whether it is.
template <typename Done>
bool spin_until(Done done) {
  const opdsl_i64 limit = static_cast<opdsl_i64>(pool_spin_microseconds()) * 1000;
  if (limit <= 0) return done();
  const opdsl_i64 start = now_nanoseconds();
  do {
    for (int i = 0; i < 32; ++i) {
      if (done()) return true;
      relax();
    }
  } while (now_nanoseconds() - start < limit);
  return done();
}

// Takes pieces of one range until there are none: several at first, single ones at the end, so that threads finish
// together.
void work_on_range(const Slot& slot, Range& range, const Scratch& scratch) {
  opdsl_i64 piece = range.next.load(std::memory_order_relaxed);
  while (piece < range.end) {
    opdsl_i64 take = (range.end - piece) / kGrabsPerRange;
    if (take < 1) take = 1;
    if (!range.next.compare_exchange_weak(piece, piece + take, std::memory_order_relaxed)) continue;
    const opdsl_i64 begin = piece * slot.chunk;
    opdsl_i64 end = begin + take * slot.chunk;
    if (end > slot.count) end = slot.count;
    slot.body(slot.closure, begin, end, scratch.data());
    piece = range.next.load(std::memory_order_relaxed);
  }
}

// Works on the loop until no piece is left, this thread's own range first. False: there is no scratch memory for this thread,
// which has run nothing.
bool work_on(Slot& slot, int own_range) {
  const Scratch scratch(slot.scratch_bytes);
  if (scratch.missing()) return false;
  for (int i = 0; i < slot.range_count; ++i) {
    int range = own_range + i;
    if (range >= slot.range_count) range -= slot.range_count;
    work_on_range(slot, slot.ranges[range], scratch);
  }
  slot.has_work.store(0, std::memory_order_relaxed);
  return true;
}

// Joins the loop in `slot` if it is open, has work and takes more workers: one a range, and the first is the caller's.
bool try_join(Slot& slot) {
  uint32_t state = slot.state.load(std::memory_order_acquire);
  while ((state & kOpen) != 0 && slot.has_work.load(std::memory_order_relaxed) != 0 &&
         (state & ~kOpen) < slot.worker_limit.load(std::memory_order_relaxed)) {
    if (slot.state.compare_exchange_weak(state, state + 1, std::memory_order_acq_rel)) return true;
  }
  return false;
}

void leave(Slot& slot) {
  const uint32_t left = slot.state.fetch_sub(1, std::memory_order_acq_rel) - 1;
  if (left == 0) futex_wake(&slot.state, 1);  // closed, and this was the last worker: the caller may be asleep
}

bool work_on_any_slot(int worker) {
  bool worked = false;
  for (Slot& slot : pool.slots) {
    if (slot.owned.load(std::memory_order_relaxed) == 0 || !try_join(slot)) continue;
    worked = work_on(slot, (worker + 1) % slot.range_count) || worked;  // without memory, the caller does it all
    leave(slot);
  }
  return worked;
}

void* worker_main(void* argument) {
  const int worker = static_cast<int>(reinterpret_cast<intptr_t>(argument));
  for (;;) {
    const uint32_t resizes = pool.resizes.load(std::memory_order_acquire);
    if (worker >= pool.threads.load(std::memory_order_acquire) - 1) {
      futex_wait(&pool.resizes, resizes);
      continue;
    }
    const uint32_t epoch = pool.epoch.load(std::memory_order_acquire);
    if (work_on_any_slot(worker)) continue;
    if (spin_until([epoch] { return pool.epoch.load(std::memory_order_acquire) != epoch; })) continue;
    pool.sleepers.fetch_add(1, std::memory_order_seq_cst);
    // A caller raises the epoch and then looks for sleepers; this looks at the epoch after becoming one.
    if (pool.epoch.load(std::memory_order_seq_cst) == epoch) futex_wait(&pool.epoch, epoch);
    pool.sleepers.fetch_sub(1, std::memory_order_seq_cst);
  }
  return nullptr;
}

void create_workers(int wanted) {
  pthread_mutex_lock(&pool.mutex);
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, size_t{8} << 20);  // tiles may lie on the stack
  // Signals are for the program's own threads.
  sigset_t all_signals, previous_signals;
  sigfillset(&all_signals);
  pthread_sigmask(SIG_SETMASK, &all_signals, &previous_signals);
  int created = pool.created.load();
  while (created < wanted) {
    pthread_t thread;
    if (pthread_create(&thread, &attributes, worker_main, reinterpret_cast<void*>(static_cast<intptr_t>(created))) != 0)
      break;  // the caller does the work of the missing ones
    ++created;
  }
  pool.created.store(created);
  pthread_sigmask(SIG_SETMASK, &previous_signals, nullptr);
  pthread_attr_destroy(&attributes);
  pthread_mutex_unlock(&pool.mutex);
}

Slot* acquire_slot() {
  for (Slot& slot : pool.slots) {
    uint32_t expected = 0;
    if (slot.owned.load(std::memory_order_relaxed) == 0 &&
        slot.owned.compare_exchange_strong(expected, 1, std::memory_order_acquire))
      return &slot;
  }
  return nullptr;
}

opdsl_i32 run_alone(opdsl_i64 count, opdsl_i64 scratch_bytes, opdsl_body body, void* closure) {
  const Scratch scratch(scratch_bytes);
  if (scratch.missing()) return OPDSL_OUT_OF_MEMORY;
  body(closure, 0, count, scratch.data());
  return OPDSL_OK;
}

// Takes all pieces that are left, so that no worker begins one.
void abandon(Slot& slot) {
  for (int i = 0; i < slot.range_count; ++i) {
    Range& range = slot.ranges[i];
    opdsl_i64 piece = range.next.load(std::memory_order_relaxed);
    while (piece < range.end && !range.next.compare_exchange_weak(piece, range.end, std::memory_order_relaxed)) {
    }
  }
  slot.has_work.store(0, std::memory_order_relaxed);
}

int environment_number(const char* name) {
  const char* text = getenv(name);
  return text != nullptr ? atoi(text) : 0;
}

int default_thread_count() {
  int count = environment_number("OPDSL_NUM_THREADS");
  if (count <= 0) count = environment_number("OMP_NUM_THREADS");
  if (count <= 0) count = machine_usable_cores();
  return count < 1 ? 1 : count > kMaximumThreads ? kMaximumThreads : count;
}

}  // namespace

int pool_thread_count() {
  int count = pool.threads.load(std::memory_order_relaxed);
  if (count == 0) {
    int undecided = 0;
    count = default_thread_count();
    if (!pool.threads.compare_exchange_strong(undecided, count)) count = undecided;
  }
  return count;
}

void pool_set_thread_count(int count) {
  pool.threads.store(count < 1 ? 1 : count > kMaximumThreads ? kMaximumThreads : count);
  pool.resizes.fetch_add(1);
  futex_wake(&pool.resizes, kMaximumThreads);
}

int pool_spin_microseconds() {
  int spin = pool.spin_microseconds.load(std::memory_order_relaxed) - 1;
  if (spin < 0) {
    const char* text = getenv("OPDSL_SPIN_MICROSECONDS");
    spin = text != nullptr ? atoi(text) : 50;
    // A thread that spins where there are more threads than cores keeps another from its work.
    if (text == nullptr && pool_thread_count() > machine_usable_cores()) spin = 0;
    if (spin < 0) spin = 0;
    pool.spin_microseconds.store(spin + 1, std::memory_order_relaxed);
  }
  return spin;
}

void pool_set_spin_microseconds(int microseconds) {
  pool.spin_microseconds.store(microseconds < 0 ? 1 : microseconds + 1, std::memory_order_relaxed);
}

opdsl_i32 pool_parallel_for(const opdsl_runtime*, opdsl_i64 count, opdsl_i64 chunk, opdsl_i64 scratch_bytes,
                            opdsl_body body, void* closure) {
  if (count <= 0) return OPDSL_OK;
  if (chunk < 1) chunk = 1;
  pthread_once(&once, initialise_once);
  const int threads = pool_thread_count();
  if (count <= chunk || threads == 1 || thread_state.depth > 0) return run_alone(count, scratch_bytes, body, closure);
  if (pool.created.load(std::memory_order_relaxed) < threads - 1) create_workers(threads - 1);
  Slot* const slot = acquire_slot();
  if (slot == nullptr) return run_alone(count, scratch_bytes, body, closure);

  const opdsl_i64 pieces = (count - 1) / chunk + 1;
  slot->count = count;
  slot->chunk = chunk;
  slot->scratch_bytes = scratch_bytes;
  slot->body = body;
  slot->closure = closure;
  slot->range_count = pieces < threads ? static_cast<int>(pieces) : threads;
  const int helpers = slot->range_count - 1;
  slot->worker_limit.store(static_cast<uint32_t>(helpers), std::memory_order_relaxed);
  opdsl_i64 begin = 0;
  for (int i = 0; i < slot->range_count; ++i) {
    const opdsl_i64 size = pieces / slot->range_count + (i < pieces % slot->range_count ? 1 : 0);
    slot->ranges[i].next.store(begin, std::memory_order_relaxed);
    slot->ranges[i].end = begin += size;
  }
  slot->has_work.store(1, std::memory_order_relaxed);
  slot->state.store(kOpen, std::memory_order_release);
  pool.epoch.fetch_add(1, std::memory_order_seq_cst);
  const int sleepers = pool.sleepers.load(std::memory_order_seq_cst);
  if (sleepers > 0) futex_wake(&pool.epoch, sleepers < helpers ? sleepers : helpers);

  const bool had_memory = work_on(*slot, 0);
  if (!had_memory) abandon(*slot);

  uint32_t joined = slot->state.fetch_and(~kOpen, std::memory_order_acq_rel) & ~kOpen;
  if (joined != 0) {
    spin_until([slot] { return slot->state.load(std::memory_order_acquire) == 0; });
    while ((joined = slot->state.load(std::memory_order_acquire)) != 0) futex_wait(&slot->state, joined);
  }
  slot->owned.store(0, std::memory_order_release);
  return had_memory ? OPDSL_OK : OPDSL_OUT_OF_MEMORY;
}

}  // namespace opdsl

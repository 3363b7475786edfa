// The emulator: cores with a scalar unit and pipes, their memories, and the order of events.
//
// Time flows as a recurrence, not as a clock: an instruction starts when its pipe is free, when it has been handed over, and
// when the flags it waits for are set. Cores run ahead on their own until they need what others share: a transfer from or to
// global memory, whose speed depends on all that run at the time (traffic.h), or a flag of another core.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "npu/chip.h"
#include "npu/hazards.h"
#include "npu/numbers.h"
#include "npu/program.h"
#include "npu/traffic.h"

namespace npu {

struct Options {
  bool values = true, hazards = true, trace = false, warm = true, drained = false;
  uint64_t seed = 0;  // 0: no jitter
  int64_t scalar_steps = int64_t(4) << 30;
  int max_reports = 200;
};

// A place in the program where something is wrong. `other` is the second place of a race.
struct Report {
  std::string kind, message;
  int core = -1, location = -1, pipe = -1;
  int other_core = -1, other_location = -1, other_pipe = -1;
  int64_t count = 1;
};

// The run cannot go on.
struct Fault : std::runtime_error {
  Fault(const std::string& kind, const std::string& message) : std::runtime_error(message), kind(kind) {}
  std::string kind;
};

struct Event {
  int32_t core, location;
  uint8_t pipe;
  Op op;
  double start, end;
  int64_t bytes;
};

// Why a pipe did not work, by the place that it then went on with.
enum class Stall : uint8_t { scalar, flag, barrier, cross_core, memory, queue, count };
constexpr const char* kStallNames[] = {"scalar", "flag", "barrier", "cross_core", "memory", "queue"};

struct PlaceStatistics {
  int64_t count = 0, bytes = 0, repeats = 0;
  double busy = 0, conflicts = 0;
  double stalls[int(Stall::count)] = {};
};

struct PipeStatistics {
  double busy = 0, first = -1, last = 0;
  int64_t instructions = 0;
  double stalls[int(Stall::count)] = {};
};

struct Entry {
  const Word* word = nullptr;
  double handed = 0;
  Slot v[kMaxOperands];
  std::shared_ptr<const Knowledge> scalar;  // what the scalar unit knew
  uint32_t scalar_index = 0;
  uint32_t order = 0;  // in which the scalar unit got to it
  uint8_t atomic = 0;
};

constexpr size_t kMostEvents = size_t(1) << 22;  // that a trace holds
constexpr int kQueue = 64;  // no chip's queues are deeper

struct PipeState {
  std::array<Entry, kQueue> ring;
  std::array<double, kQueue> left;  // when an entry left the queue
  uint64_t pushed = 0, popped = 0;
  double started = 0;
  double free = 0;    // the next instruction may start
  double finish = 0;  // all before are done
  uint32_t index = 0;
  Knowledge known;
  std::shared_ptr<const Knowledge> joined;  // held, so that its address is not another's later
  bool moving = false;  // its instruction is a transfer under way
  double move_issued = 0, move_start = 0, move_wait = 0;
  const Word* move_word = nullptr;
  int64_t move_bytes = 0;
  struct Step {
    int32_t location;
    uint32_t order;
  };
  std::vector<Step> steps;  // the instruction of each index
  PipeStatistics statistics;

  bool empty() const { return pushed == popped; }
  Entry& front() { return ring[popped % kQueue]; }
};

struct Flag {
  bool set = false;
  double time = 0, cleared = 0;
  Knowledge message;
  int32_t set_location = -1, wait_location = -1;
  uint32_t wait_index = 0;  // of the last wait, on the second pipe
};

// What a cross-core flag brings: one for each set.
struct CrossMessage {
  double time = 0;
  std::shared_ptr<const std::vector<uint32_t>> knowledge;
  int32_t location = -1;
};

constexpr int kEvents = 40, kEventIds = 8, kCrossFlags = 11, kCrossLimit = 15;

struct Core {
  int index = 0, kind = 0, block = 0, sub = 0;
  const Code* code = nullptr;
  std::vector<Slot> slots;
  int32_t pc = 0;
  double time = 0;
  bool halted = false;
  std::array<PipeState, PIPES> pipes;
  std::array<Flag, kEvents * kEventIds> flags;
  std::array<std::vector<CrossMessage>, kCrossFlags> cross;  // for this core to wait on, oldest first
  std::array<size_t, kCrossFlags> cross_taken{};
  std::array<std::vector<uint32_t>, kCrossFlags> cross_waits;  // the scalar unit's index at each
  std::array<std::array<uint32_t, 3>, kCrossFlags> cross_sets{};  // how often this core set it, in each mode
  std::vector<uint8_t> memory[SPACES], ready[SPACES];             // values, and which bytes hold one
  Shadow shadow[SPACES];
  std::shared_ptr<const Knowledge> scalar_known;  // a copy of what the scalar unit knows, made anew when it changes
  uint8_t atomic = 0;
  uint32_t order = 0;
  uint32_t syncs = 0;
  bool in_sync = false;
  std::vector<int64_t> cache;  // the data cache's lines
  std::unordered_set<int64_t> dirty;
  uint64_t result_until = 0;  // the scalar unit waits until V has taken so many entries: a register comes from there
  std::string line;           // of print that has not ended
  int64_t bank_conflicts = 0;
  std::string blocked;  // what the scalar unit waits for, for the report of a deadlock
  int32_t blocked_location = -1;
};

// A memory operand, resolved.
struct Place {
  int space = 0, dtype = 0;
  int64_t byte = 0;
  uint8_t* data = nullptr;   // of byte 0; null without values
  uint8_t* ready = nullptr;  // null: all of it holds values
};

// What an instruction does to a pipe.
struct Effect {
  double latency = 0, busy = 0;
  const Path* path = nullptr;  // of a transfer from or to global memory
  double bytes = 0;            // that it moves, as the path counts them
  double unaligned = 0;        // of them, in rows that the conversion to fractals takes in pieces
  int64_t moved = 0;
  bool fractal_order = false;  // the cube keeps its own order
};

class Machine {
 public:
  Machine(const Chip& chip, Program& program, const Options& options, int locations);
  void run();
  Report where() const;  // the instruction that is being done

  // Results.
  double cycles = 0;
  std::vector<Report> reports;
  std::vector<Event> events;
  std::vector<std::vector<PlaceStatistics>> places;  // by pipe, location
  std::vector<std::unique_ptr<Core>> cores;
  std::vector<std::string> printed;
  int64_t l2_hits = 0, l2_misses = 0, l2_written_back = 0, read_bytes = 0, written_bytes = 0;
  double memory_saturated = 0, memory_busy = 0;
  int64_t instructions = 0, scalar_operations = 0;
  double macs = 0, vector_elements = 0;

 private:
  struct Touch {
    int space;
    int64_t begin, end;
    bool write;
  };

  // machine.cpp
  void make_core(int kind, int block, int sub);
  void run_core(Core& core);
  bool step_pipe(Core& core, int pipe);
  bool start_instruction(Core& core, int pipe, Entry& entry);
  void finish_transfer(Core& core, int pipe);
  void pop(Core& core, int pipe, double start);
  void count(Core& core, int pipe, const Entry& entry);
  void note_stall(Core& core, int pipe, const Entry& entry, Stall cause, double cycles);
  void record(Core& core, int pipe, const Word& word, double start, double end, int64_t bytes);
  double jitter();
  void check_finished();
  [[noreturn]] void deadlock();

  // sync.cpp
  bool do_set_flag(Core& core, int pipe, Entry& entry);
  bool do_wait_flag(Core& core, int pipe, Entry& entry);
  void do_barrier(Core& core, int pipe, Entry& entry);
  bool barrier_all(Core& core, const Word& word);
  void do_cross_set(Core& core, int pipe, Entry& entry);
  bool do_cross_wait(Core& core, const Entry& entry);
  bool do_sync_all(Core& core, const Entry& entry);
  void deliver(Core& core, int flag, CrossMessage message);
  std::shared_ptr<const std::vector<uint32_t>> everything_known(Core& core, int pipe);
  void scalar_learned(Core& core);
  void join_scalar(Core& core, int pipe, Entry& entry);

  // scalar.cpp
  bool run_scalar(Core& core);
  void compute(Core& core, const Word& word);
  // What loads and stores of the scalar unit have in common: checks, hazards, time.
  Place scalar_access(Core& core, const Entry& entry, bool write);
  void load_scalar(Core& core, const Entry& entry);
  void store_scalar(Core& core, const Entry& entry);
  double scalar_memory(Core& core, const Place& place, bool write, int32_t location);
  void print(Core& core, const Entry& entry);

  // access.cpp
  Place place(Core& core, const Entry& entry, int slot);
  bool has_place(const Entry& entry, int slot) const { return entry.v[slot].i >= 0; }
  void touch(Core& core, const Place& place, int64_t begin, int64_t length, bool write);
  void check_aligned(const Place& place, int64_t bytes, const char* what);
  void check_hazards(Core& core, int pipe, const Entry& entry, const Effect& effect);
  void need_ready(Core& core, int pipe, const Entry& entry, const Place& place, int64_t begin, int64_t length);
  void report(const Report& report);
  std::string space_name(int space) const;
  void limit(const char* name, int64_t value, int64_t low, int64_t high);
  double traffic_bytes() const;

  // moves.cpp, cube.cpp, vector.cpp: times and touched bytes (plan), then values (do).
  void plan(Core& core, int pipe, Entry& entry, Effect& effect);
  void apply(Core& core, int pipe, Entry& entry);
  void plan_move(Core& core, Entry& entry, Effect& effect);
  void do_move(Core& core, int pipe, Entry& entry);
  void plan_cube(Core& core, Entry& entry, Effect& effect);
  void do_cube(Core& core, int pipe, Entry& entry);
  void plan_vector(Core& core, Entry& entry, Effect& effect);
  void do_vector(Core& core, int pipe, Entry& entry);
  void plan_other_vector(Core& core, Entry& entry, Effect& effect);
  void do_other_vector(Core& core, int pipe, Entry& entry);
  void put(const Place& dst, int64_t at, const uint8_t* data, const uint8_t* ready, int64_t length, int atomic);
  const Path& path_of(int from, int to) const;

  const Chip& chip_;
  Program& program_;
  Options options_;
  L2 l2_;
  Traffic traffic_;
  std::mt19937_64 random_;
  std::vector<Touch> touches_;
  std::vector<Shadow> tensor_shadows_;
  std::vector<std::vector<uint8_t>> workspaces_, workspace_ready_;
  std::unordered_map<int64_t, int> dirty_lines_;  // line of GM -> the core whose data cache holds it
  std::vector<Core*> awake_;
  std::map<std::array<int64_t, 5>, size_t> report_index_;
  std::vector<std::vector<int>> groups_;  // cores of each kind
  std::map<std::array<int64_t, 4>, CrossMessage> gathering_;
  struct Sync {
    int arrived = 0;
    double time = 0;
    std::shared_ptr<std::vector<uint32_t>> knowledge;
    bool done = false;
  };
  std::map<std::array<int64_t, 2>, Sync> syncs_;
  Core* now_core_ = nullptr;  // for messages
  int now_location_ = -1, now_pipe_ = 0;
  int64_t steps_left_ = 0;
};

}  // namespace npu

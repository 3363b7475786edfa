// The module `opdsl._npu_order`: which flags and barriers a compiled kernel for the NPU can do without.
//
// opdsl/targets/npu/prune.py describes a program as a row of steps with loops and branches around them. Of each agent (a
// pipe or the scalar unit of a core) it is kept which accesses it does not surely know to be done: one bit each, set where
// the access is made, cleared by waits and barriers. All ways through the program are taken at once: behind a branch an
// access is pending if it is on either way, and a loop is gone through until its head no longer changes.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <vector>

namespace py = pybind11;

namespace {

using Array = py::array_t<int32_t, py::array::c_style | py::array::forcecast>;
using Flags = py::array_t<bool, py::array::c_style | py::array::forcecast>;

enum Kind { kRun, kSet, kWait, kBarrier, kBarrierOfAll, kLoop, kBranch, kElse, kEnd, kKinds };
enum Trips { kAnyTrips, kOneTrip, kSomeTrips };

struct Step {
  int32_t kind, agent, what;  // of a run: the group of its accesses; of sets, waits and barriers: the flag; of a loop: itself
  int32_t more;  // of sets and waits: the slot, from the one of the iteration on; of a loop: how often it runs
  int32_t end, middle;  // where a loop or branch ends, where its other way begins
  int32_t range() const { return agent; }  // of a loop: of those that all run or all do not, or -1
};

// Sets of bits are rows of words, all of one length.
using Words = std::vector<uint64_t>;

bool meet(const uint64_t* one, const uint64_t* other, size_t words) {
  for (size_t i = 0; i < words; ++i)
    if (one[i] & other[i]) return true;
  return false;
}

// Adds those bits of a row that are in `mask`, so many places up or down.
void add_moved(uint64_t* row, const uint64_t* before, const Words& mask, int64_t places) {
  const auto size = int64_t(mask.size());
  const int64_t whole = places >= 0 ? places / 64 : -((63 - places) / 64), rest = places - whole * 64;
  for (int64_t from = 0; from < size; ++from) {
    const uint64_t word = before[from] & mask[size_t(from)];
    if (!word) continue;
    const int64_t to = from + whole;
    if (to >= 0 && to < size) row[to] |= word << rest;
    if (rest && to + 1 >= 0 && to + 1 < size) row[to + 1] |= word >> (64 - rest);
  }
}

// A row of bits for each agent: what it does not surely know to be done. Then rows for each slot of each flag: what the next
// waits for it leave pending; `counts` says how many of them there are.
struct State {
  Words words;
  std::vector<uint8_t> counts;

  void join(const State& other) {
    if (counts != other.counts) throw std::logic_error("a flag is set on one way only");
    for (size_t i = 0; i < words.size(); ++i) words[i] |= other.words[i];
  }

  bool within(const State& other) const {
    if (counts != other.counts) throw std::logic_error("a flag is set on one way only");
    uint64_t more = 0;
    for (size_t i = 0; i < words.size(); ++i) more |= words[i] & ~other.words[i];
    return !more;
  }
};

// What the end of an iteration changes: bits that go elsewhere, and flags whose next slot becomes the first.
struct Turn {
  struct Move {
    int64_t places;
    Words mask;
  };
  std::vector<Move> moves;
  Words moved;
  std::vector<size_t> flags;

  bool changes() const { return !moves.empty() || !flags.empty(); }
};

using Moves = std::vector<std::vector<std::pair<int32_t, std::vector<int32_t>>>>;

class Order {
 public:
  Order(const Array& steps, std::vector<int32_t> scalars, const Flags& own, const Flags& made, const Moves& moves,
        const std::vector<std::vector<int32_t>>& turning, const std::vector<std::pair<int32_t, int32_t>>& slots, int ranges)
      : scalars_(std::move(scalars)), flags_(slots.size()), ranges_(within(ranges, 8)) {
    if (steps.ndim() != 2 || steps.shape(1) != 4) throw std::invalid_argument("steps have 4 columns");
    if (own.ndim() != 2 || made.ndim() != 2 || own.shape(1) != made.shape(1) || size_t(own.shape(0)) != scalars_.size())
      throw std::invalid_argument("bits for each agent, and for each group of accesses");
    bits_ = size_t(own.shape(1));
    words_ = (bits_ + 63) / 64;
    own_ = rows(own);
    for (const Words& row : rows(made)) {
      made_.emplace_back();
      for (size_t i = 0; i < words_; ++i)
        if (row[i]) made_.back().push_back({i, row[i]});
    }
    for (const int32_t scalar : scalars_) within(scalar, scalars_.size());
    rows_ = scalars_.size();
    for (const auto& [count, depth] : slots) {
      slots_.push_back(within(count, 1 << 16));
      depths_.push_back(within(depth, 256));
      queues_.push_back(queue_count_);
      first_rows_.push_back(rows_);
      queue_count_ += slots_.back();
      rows_ += slots_.back() * depths_.back();
    }
    if (turning.size() != moves.size()) throw std::invalid_argument("as many loops as loops");
    for (size_t loop = 0; loop < moves.size(); ++loop) {
      Turn turn{{}, Words(words_), {}};
      for (const auto& [places, bits] : moves[loop]) {
        turn.moves.push_back({places, Words(words_)});
        for (const int32_t bit : bits) {
          within(bit + places, bits_);
          const size_t word = within(bit, bits_) / 64;
          turn.moves.back().mask[word] |= uint64_t{1} << (bit % 64);
          turn.moved[word] |= uint64_t{1} << (bit % 64);
        }
      }
      for (const int32_t flag : turning[loop]) turn.flags.push_back(within(flag, flags_));
      turns_.push_back(std::move(turn));
    }
    read(steps);
  }

  // Whether every access comes after those that conflict with it (a row of bits for each group), without some flags.
  bool holds(const Flags& conflicts, const std::vector<int32_t>& left_out) const {
    std::vector<char> missing(flags_, 0);
    for (const int32_t flag : left_out) missing[within(flag, flags_)] = 1;
    const std::vector<Words> wanted = rows(conflicts);
    if (wanted.size() != made_.size()) throw std::invalid_argument("conflicts of each group of accesses");
    const py::gil_scoped_release no_gil;
    return in_order(wanted, missing);
  }

  // Those of the flags, taken in order, that can be left out together with those before.
  std::vector<int32_t> superfluous(const Flags& conflicts, const std::vector<int32_t>& candidates) const {
    std::vector<char> missing(flags_, 0);
    for (const int32_t flag : candidates) within(flag, flags_);
    const std::vector<Words> wanted = rows(conflicts);
    if (wanted.size() != made_.size()) throw std::invalid_argument("conflicts of each group of accesses");
    std::vector<int32_t> found;
    const py::gil_scoped_release no_gil;
    for (const int32_t flag : candidates) {
      missing[size_t(flag)] = 1;
      if (in_order(wanted, missing)) found.push_back(flag);
      else missing[size_t(flag)] = 0;
    }
    return found;
  }

 private:
  // For each choice of the ranges that are not empty.
  bool in_order(const std::vector<Words>& wanted, const std::vector<char>& missing) const {
    for (unsigned full = 0; full < 1u << ranges_; ++full)
      if (!Walk(*this, wanted, missing, full).holds()) return false;
    return true;
  }

  class Walk {
   public:
    Walk(const Order& order, const std::vector<Words>& wanted, const std::vector<char>& missing, unsigned full)
        : order_(order),
          wanted_(wanted),
          missing_(missing),
          full_(full),
          heads_(order.turns_.size()),
          known_(order.turns_.size(), 0),
          before_(order.words_) {
      events_.reserve(order.steps_.size() + 1);
      events_.push_back(0);
      for (const Step& step : order.steps_) {
        const bool flag = step.kind >= kSet && step.kind <= kBarrier && !missing[size_t(step.what)];
        const bool all = step.kind == kBarrierOfAll;
        const bool turn = step.kind == kLoop && order.turns_[size_t(step.what)].changes();
        events_.push_back(events_.back() + (flag || all || turn));
      }
    }

    bool holds() {
      State state{Words(order_.rows_ * order_.words_), std::vector<uint8_t>(order_.queue_count_)};
      return steps(0, order_.steps_.size(), state);
    }

   private:
    bool steps(size_t begin, size_t end, State& state) {
      for (size_t place = begin; place < end; ++place) {
        const Step& step = order_.steps_[place];
        if (step.kind == kLoop) {
          if (!loop(place, step, state)) return false;
          place = size_t(step.end);
        } else if (step.kind == kBranch) {
          State other = state;
          if (!steps(place + 1, size_t(step.middle), state)) return false;
          if (!steps(size_t(step.middle) + 1, size_t(step.end), other)) return false;
          state.join(other);
          place = size_t(step.end);
        } else if (!single(step, state)) {
          return false;
        }
      }
      return true;
    }

    bool loop(size_t place, const Step& step, State& state) {
      const auto number = size_t(step.what), begin = place + 1, end = size_t(step.end);
      const bool full = step.range() >= 0 && (full_ >> step.range() & 1);
      if (step.range() >= 0 && !full) return true;
      if (events_[end] == events_[place]) {
        // Nothing in it is waited for: all that happens is that accesses are made. Once they all were, each sees all others.
        if (quiet_) return steps(begin, end, state);
        quiet_ = true;
        const bool done = steps(begin, end, state) && (step.more == kOneTrip || steps(begin, end, state));
        quiet_ = false;
        return done;
      }
      if (step.more == kOneTrip) {
        if (!steps(begin, end, state)) return false;
        turn(number, state);
        return true;
      }
      State& head = heads_[number];
      if (known_[number]) head.join(state);
      else head = state;
      known_[number] = 1;
      while (true) {
        State next = head;
        if (!steps(begin, end, next)) return false;
        turn(number, next);
        if (next.within(head)) {
          state = full || step.more == kSomeTrips ? std::move(next) : head;
          return true;
        }
        head.join(next);
      }
    }

    void turn(size_t number, State& state) {
      const Turn& turn = order_.turns_[number];
      const size_t words = order_.words_;
      if (!turn.moves.empty()) {
        for (size_t i = 0; i < order_.rows_; ++i) {
          uint64_t* row = &state.words[i * words];
          if (!meet(row, turn.moved.data(), words)) continue;
          std::copy(row, row + words, before_.begin());
          for (size_t j = 0; j < words; ++j) row[j] &= ~turn.moved[j];
          for (const Turn::Move& m : turn.moves) add_moved(row, before_.data(), m.mask, m.places);
        }
      }
      for (const size_t flag : turn.flags) {
        const size_t slots = order_.slots_[flag], size = order_.depths_[flag] * words;
        const auto first = state.words.begin() + std::ptrdiff_t(order_.first_rows_[flag] * words);
        std::rotate(first, first + std::ptrdiff_t(size), first + std::ptrdiff_t(slots * size));
        const auto count = state.counts.begin() + std::ptrdiff_t(order_.queues_[flag]);
        std::rotate(count, count + 1, count + std::ptrdiff_t(slots));
      }
    }

    // Each pipe of a core tells the scalar unit what it knows and has done, which tells them all.
    void all_known(size_t scalar, State& state) const {
      const size_t words = order_.words_;
      uint64_t* told = &state.words[scalar * words];
      for (size_t agent = 0; agent < order_.scalars_.size(); ++agent) {
        if (size_t(order_.scalars_[agent]) != scalar || agent == scalar) continue;
        for (size_t i = 0; i < words; ++i) told[i] &= state.words[agent * words + i] & ~order_.own_[agent][i];
      }
      for (size_t agent = 0; agent < order_.scalars_.size(); ++agent) {
        if (size_t(order_.scalars_[agent]) != scalar || agent == scalar) continue;
        for (size_t i = 0; i < words; ++i) state.words[agent * words + i] &= told[i] & ~order_.own_[scalar][i];
      }
    }

    bool single(const Step& step, State& state) const {
      const auto agent = size_t(step.agent), what = size_t(step.what), scalar = size_t(order_.scalars_[agent]);
      const size_t words = order_.words_;
      if (step.kind == kBarrierOfAll) {
        all_known(scalar, state);
        return true;
      }
      if (step.kind != kRun && missing_[what]) return true;
      uint64_t* pending = &state.words[agent * words];
      if (scalar != agent) {
        // What the scalar unit waited for holds for all that it hands out, but what it does itself is not ordered by that.
        const uint64_t* above = &state.words[scalar * words];
        const Words& own = order_.own_[scalar];
        for (size_t i = 0; i < words; ++i) pending[i] &= above[i] | own[i];
      }
      const Words& own = order_.own_[agent];
      if (step.kind == kRun) {
        if (meet(pending, wanted_[what].data(), words)) return false;
        for (const auto& [word, bits] : order_.made_[what])
          for (size_t row = 0; row < order_.rows_; ++row) state.words[row * words + word] |= bits;
        return true;
      }
      if (step.kind == kBarrier) {
        for (size_t i = 0; i < words; ++i) pending[i] &= ~own[i];
        return true;
      }
      uint8_t& count = state.counts[order_.queues_[what] + size_t(step.more)];
      uint64_t* posts = &state.words[(order_.first_rows_[what] + size_t(step.more) * order_.depths_[what]) * words];
      if (step.kind == kSet) {
        if (count == order_.depths_[what]) throw std::logic_error("a flag is set more often than it can be ahead");
        uint64_t* told = posts + count++ * words;
        for (size_t i = 0; i < words; ++i) told[i] = pending[i] & ~own[i];
        return true;
      }
      if (!count) throw std::logic_error("a wait for a flag that was not set");
      for (size_t i = 0; i < words; ++i) pending[i] &= posts[i];
      std::copy(posts + words, posts + count * words, posts);
      --count;
      std::fill(posts + count * words, posts + (count + size_t{1}) * words, 0);
      return true;
    }

    const Order& order_;
    const std::vector<Words>& wanted_;
    const std::vector<char>& missing_;
    const unsigned full_;
    std::vector<State> heads_;  // of loops, as they are known so far: what comes to a loop only grows
    std::vector<char> known_;
    std::vector<int32_t> events_;  // how many flags and turns there are up to each step
    bool quiet_ = false;
    Words before_;
  };

  static size_t within(int32_t value, size_t end) {
    if (value < 0 || size_t(value) >= end) throw std::invalid_argument("a step names what there is not");
    return size_t(value);
  }

  std::vector<Words> rows(const Flags& table) const {
    if (table.ndim() != 2 || size_t(table.shape(1)) != bits_) throw std::invalid_argument("a row has a column for each bit");
    const auto values = table.unchecked<2>();
    std::vector<Words> found(size_t(table.shape(0)), Words(words_));
    for (py::ssize_t i = 0; i < table.shape(0); ++i)
      for (py::ssize_t j = 0; j < table.shape(1); ++j)
        if (values(i, j)) found[size_t(i)][size_t(j) / 64] |= uint64_t{1} << (j % 64);
    return found;
  }

  void read(const Array& table) {
    const auto rows = table.unchecked<2>();
    std::vector<size_t> open;
    for (py::ssize_t i = 0; i < table.shape(0); ++i) {
      Step step{int32_t(within(rows(i, 0), kKinds)), rows(i, 1), rows(i, 2), rows(i, 3), -1, -1};
      if (step.kind <= kBarrierOfAll) {
        within(step.agent, scalars_.size());
        if (step.kind != kBarrierOfAll) within(step.what, step.kind == kRun ? made_.size() : flags_);
        if (step.kind == kSet || step.kind == kWait) within(step.more, slots_[size_t(step.what)]);
      } else if (step.kind == kLoop || step.kind == kBranch) {
        if (step.kind == kLoop) within(step.what, turns_.size());
        if (step.kind == kLoop && step.range() >= 0) within(step.range(), ranges_);
        open.push_back(size_t(i));
      } else {
        if (open.empty()) throw std::invalid_argument("an end of nothing");
        Step& begin = steps_[open.back()];
        (step.kind == kElse ? begin.middle : begin.end) = int32_t(i);
        if (step.kind == kEnd) {
          if (begin.kind == kBranch && begin.middle < 0) throw std::invalid_argument("a branch without its other way");
          open.pop_back();
        }
      }
      steps_.push_back(step);
    }
    if (!open.empty()) throw std::invalid_argument("a loop or branch without an end");
  }

  std::vector<Step> steps_;
  std::vector<int32_t> scalars_;
  std::vector<Words> own_;
  std::vector<std::vector<std::pair<size_t, uint64_t>>> made_;  // the words of a group's bits that are not 0
  std::vector<Turn> turns_;
  std::vector<size_t> slots_, depths_;  // of each flag: how many slots it has, how often each may be set ahead
  std::vector<size_t> queues_, first_rows_;
  size_t flags_, ranges_, queue_count_ = 0, rows_ = 0, bits_ = 0, words_ = 0;
};

}  // namespace

PYBIND11_MODULE(_npu_order, module) {
  module.doc() = "Which flags and barriers of a program for the NPU are needed.";
  py::class_<Order>(module, "Order")
      .def(py::init<const Array&, std::vector<int32_t>, const Flags&, const Flags&,
                    const Moves&, const std::vector<std::vector<int32_t>>&, const std::vector<std::pair<int32_t, int32_t>>&, int>(),
           py::arg("steps"), py::arg("scalars"), py::arg("own"), py::arg("made"), py::arg("moves"),
           py::arg("turning"), py::arg("slots"), py::arg("ranges"))
      .def("holds", &Order::holds, py::arg("conflicts"), py::arg("left_out"))
      .def("superfluous", &Order::superfluous, py::arg("conflicts"), py::arg("candidates"));
}

// Global memory as all cores see it: what lies in the L2, and how running transfers share its bandwidth.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

namespace npu {

// The L2's lines: 16 ways, the least recently used goes.
class L2 {
 public:
  struct Touched {
    int64_t hits = 0, misses = 0, written_back = 0;  // lines
    double until = 0;                                // when what others are fetching will be there
  };

  void resize(int64_t bytes, int64_t line) {
    line_ = line;
    sets_ = std::max<int64_t>(1, bytes / line / kWays);
    ways_.assign(sets_ * kWays, Way{});
  }

  int64_t line() const { return line_; }

  // `fetch`: the number of the transfer, from `begin_fetch`; 0: none. Its lines are there when `expect` says.
  void touch(int64_t begin, int64_t end, bool write, Touched& touched, uint32_t fetch = 0) {
    for (int64_t line = begin / line_; line * line_ < end; ++line) touch_line(line, write, touched, fetch);
  }

  // Lines that HBM does not have yet.
  int64_t dirty() const {
    return std::count_if(ways_.begin(), ways_.end(), [](const Way& way) { return way.dirty; });
  }

  uint32_t begin_fetch() {
    expected_.push_back(0);
    return uint32_t(expected_.size() - 1);
  }

  void expect(uint32_t fetch, double time) { expected_[fetch] = time; }

 private:
  static constexpr int kWays = 16;
  struct Way {
    int64_t line = -1;
    uint32_t used = 0, fetch = 0;
    bool dirty = false;
  };

  void touch_line(int64_t line, bool write, Touched& touched, uint32_t fetch) {
    // A multiplication spreads lines a power of two apart over the sets.
    const uint64_t hash = uint64_t(line) * 0x9E3779B97F4A7C15ull;
    Way* set = &ways_[(uint64_t)(((unsigned __int128)hash * (uint64_t)sets_) >> 64) * kWays];
    ++clock_;
    Way* oldest = set;
    for (int way = 0; way < kWays; ++way) {
      if (set[way].line == line) {
        set[way].used = clock_;
        set[way].dirty |= write;
        ++touched.hits;
        touched.until = std::max(touched.until, expected_[set[way].fetch]);
        return;
      }
      if (set[way].line < 0 ? oldest->line >= 0 || oldest->used > set[way].used : oldest->line >= 0 && set[way].used < oldest->used)
        oldest = &set[way];
    }
    if (oldest->line >= 0 && oldest->dirty) ++touched.written_back;
    *oldest = {line, clock_, write ? 0 : fetch, write};
    ++touched.misses;
  }

  int64_t line_ = 512, sets_ = 1;
  uint32_t clock_ = 0;
  std::vector<Way> ways_;
  std::vector<double> expected_{0};  // by number of a transfer: its end
};

// Transfers that run at a time. Each has its own shortest time (`alone`), and needs so much of what all cores share: of the
// L2's ways out and in, and of HBM (`out`, `in`, `hbm`: cycles of all of it). Each is split evenly, but nobody gets more than
// it can use.
class Traffic {
 public:
  struct Transfer {
    int id = 0;
    double start = 0, alone = 0, out = 0, in = 0, hbm = 0, left = 1, rate = 0;
  };

  void add(int id, double start, double alone, double out, double in, double hbm) {
    waiting_.push_back({id, start, std::max(alone, 1e-9), out, in, hbm, 1, 0});
    std::push_heap(waiting_.begin(), waiting_.end(), later);
  }

  bool idle() const { return waiting_.empty() && running_.empty(); }
  double now() const { return now_; }

  // Goes on to the next start or end. True and the id if a transfer ended (at now()).
  bool advance(int& ended) {
    double end = std::numeric_limits<double>::infinity();
    size_t which = 0;
    for (size_t i = 0; i < running_.size(); ++i) {
      const double at = now_ + running_[i].left / running_[i].rate;
      if (at < end) {
        end = at;
        which = i;
      }
    }
    if (!waiting_.empty() && waiting_.front().start <= end) {
      move_to(std::max(now_, waiting_.front().start));
      while (!waiting_.empty() && waiting_.front().start <= now_) {
        std::pop_heap(waiting_.begin(), waiting_.end(), later);
        running_.push_back(waiting_.back());
        waiting_.pop_back();
      }
      share();
      return false;
    }
    move_to(end);
    ended = running_[which].id;
    running_[which] = running_.back();
    running_.pop_back();
    share();
    return true;
  }

  double busy() const { return busy_; }  // cycles with a transfer
  double saturated() const { return saturated_; }  // cycles with more wanted than there is

 private:
  static bool later(const Transfer& a, const Transfer& b) { return a.start > b.start; }

  void move_to(double time) {
    const double step = time - now_;
    if (step > 0) {
      for (Transfer& transfer : running_) transfer.left = std::max(0.0, transfer.left - transfer.rate * step);
      if (!running_.empty()) busy_ += step;
      if (full_) saturated_ += step;
    }
    now_ = std::max(now_, time);
  }

  void share() {
    for (Transfer& transfer : running_) transfer.rate = 1 / transfer.alone;
    full_ = false;
    split(&Transfer::hbm);
    split(&Transfer::out);
    split(&Transfer::in);
  }

  // Fair share of one resource: fills up those that want the least first.
  void split(double Transfer::* need) {
    double wanted = 0;
    order_.clear();
    for (size_t i = 0; i < running_.size(); ++i) {
      const double want = running_[i].*need * running_[i].rate;
      if (want <= 0) continue;
      wanted += want;
      order_.push_back({want, i});
    }
    if (wanted <= 1) return;
    full_ = true;
    std::sort(order_.begin(), order_.end());
    double capacity = 1;
    size_t count = order_.size();
    for (const auto& [want, i] : order_) {
      const double got = std::min(want, capacity / double(count));
      running_[i].rate = got / (running_[i].*need);
      capacity -= got;
      --count;
    }
  }

  std::vector<Transfer> waiting_, running_;
  std::vector<std::pair<double, size_t>> order_;
  double now_ = 0, busy_ = 0, saturated_ = 0;
  bool full_ = false;
};

}  // namespace npu

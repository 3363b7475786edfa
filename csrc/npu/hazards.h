// Which instructions are known to be done before which: vector clocks of pipes, and who touched which bytes last.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "npu/program.h"

namespace npu {

// What is known of a core: its pipes, and how far its scalar unit had come, which handing over an instruction tells.
constexpr int ORDER = PIPES, KNOWN = PIPES + 1;

// What is known to be done when an instruction starts: of each pipe, all up to an index. Knowledge of other cores is shared
// and never changes once it is made.
struct Knowledge {
  uint32_t local[KNOWN] = {};
  std::shared_ptr<const std::vector<uint32_t>> foreign;

  // `skip_scalar`: what the scalar unit itself wrote is not ordered by handing over an instruction.
  void join(const Knowledge& other, bool skip_scalar = false) {
    for (int pipe = skip_scalar ? 1 : 0; pipe < KNOWN; ++pipe)
      if (other.local[pipe] > local[pipe]) local[pipe] = other.local[pipe];
    join_foreign(other.foreign);
  }

  void join_foreign(const std::shared_ptr<const std::vector<uint32_t>>& other) {
    if (!other || other == foreign) return;
    if (!foreign) {
      foreign = other;
      return;
    }
    bool mine = true, theirs = true;
    for (size_t i = 0; i < other->size(); ++i) {
      if ((*foreign)[i] < (*other)[i]) mine = false;
      if ((*foreign)[i] > (*other)[i]) theirs = false;
    }
    if (mine) return;
    if (theirs) {
      foreign = other;
      return;
    }
    auto both = std::make_shared<std::vector<uint32_t>>(*foreign);
    for (size_t i = 0; i < both->size(); ++i)
      if ((*other)[i] > (*both)[i]) (*both)[i] = (*other)[i];
    foreign = std::move(both);
  }
};

// From the first to the last of some bytes.
struct Span {
  int64_t begin = INT64_MAX, end = INT64_MIN;

  void add(int64_t first, int64_t last) {
    begin = std::min(begin, first);
    end = std::max(end, last);
  }
  bool meets(int64_t first, int64_t last) const { return first < end && begin < last; }
};

struct Record {
  uint32_t index = 0;  // of the instruction on its pipe; 0: none
  uint32_t mask = 0;   // bytes of the cell
  uint16_t agent = 0;  // core * PIPES + pipe
  uint8_t write = 0;
  uint8_t atomic = 0;
};

// The accesses that still matter to each 32 bytes of a memory.
class Shadow {
 public:
  static constexpr int kInline = 3, kCell = 32;
  struct Cell {
    Record records[kInline];
    uint8_t used = 0, more = 0;
  };

  void resize(int64_t bytes) { cells_.resize((bytes + kCell - 1) / kCell); }
  bool empty() const { return cells_.empty(); }

  // Notes that `now` touches bytes [begin, end). Calls conflict(record) for each access not known to be done before.
  template <class Known, class Conflict>
  void access(int64_t begin, int64_t end, Record now, const Known& known, const Conflict& conflict) {
    for (int64_t cell = begin / kCell; cell * kCell < end; ++cell) {
      now.mask = mask_of(cell * kCell, begin, end);
      touch(cell, now, known, conflict);
    }
  }

  // Calls conflict(record) for each access to bytes [begin, end) that is not known to be done before, and notes nothing.
  template <class Known, class Conflict>
  void look(int64_t begin, int64_t end, Record now, const Known& known, const Conflict& conflict) {
    for (int64_t at = begin / kCell; at * kCell < end; ++at) {
      now.mask = mask_of(at * kCell, begin, end);
      const Cell& cell = cells_[at];
      for (uint8_t i = 0; i < cell.used; ++i) compare(cell.records[i], now, known, conflict);
      if (cell.more)
        for (const Record& record : overflow_[at]) compare(record, now, known, conflict);
    }
  }

 private:
  static uint32_t mask_of(int64_t base, int64_t begin, int64_t end) {
    uint32_t mask = 0xFFFFFFFFu;
    if (begin > base) mask &= 0xFFFFFFFFu << (begin - base);
    if (end < base + kCell) mask &= 0xFFFFFFFFu >> (base + kCell - end);
    return mask;
  }

  template <class Known, class Conflict>
  void touch(int64_t at, const Record& now, const Known& known, const Conflict& conflict) {
    Cell& cell = cells_[at];
    uint8_t kept = 0;
    for (uint8_t i = 0; i < cell.used; ++i) {
      Record record = cell.records[i];
      if (keep(record, now, known, conflict)) cell.records[kept++] = record;
    }
    cell.used = kept;
    if (cell.more) {
      auto& list = overflow_[at];
      size_t size = 0;
      for (Record record : list)
        if (keep(record, now, known, conflict)) list[size++] = record;
      list.resize(size);
      if (list.empty()) {
        cell.more = 0;
        overflow_.erase(at);
      }
    }
    if (cell.used < kInline) {
      cell.records[cell.used++] = now;
    } else {
      cell.more = 1;
      overflow_[at].push_back(now);
    }
  }

  template <class Known, class Conflict>
  static void compare(const Record& record, const Record& now, const Known& known, const Conflict& conflict) {
    const bool atomic = record.atomic && record.atomic == now.atomic;
    if ((record.mask & now.mask) && (record.write || now.write) && !atomic && !known(record)) conflict(record);
  }

  // Reports a conflict; says whether a record is still needed, and takes out of it the bytes that are not.
  template <class Known, class Conflict>
  bool keep(Record& record, const Record& now, const Known& known, const Conflict& conflict) {
    if (!(record.mask & now.mask)) return true;
    compare(record, now, known, conflict);
    // A write stands for all before it; a read for those of its own pipe.
    if ((now.write && !(now.atomic && record.agent != now.agent)) || (!record.write && record.agent == now.agent)) record.mask &= ~now.mask;
    return record.mask != 0;
  }

  std::vector<Cell> cells_;
  std::unordered_map<int64_t, std::vector<Record>> overflow_;
};

}  // namespace npu

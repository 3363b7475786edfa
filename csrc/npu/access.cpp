// Memory operands: where they point, what they touch, and who touched it before.
#include <algorithm>
#include <cstring>

#include "npu/machine.h"

namespace npu {

std::string Machine::space_name(int space) const {
  return space >= GM ? program_.tensors[space - GM].name : kSpaceNames[space];
}

Place Machine::place(Core& core, const Entry& entry, int slot) {
  Place place;
  place.space = int(entry.v[slot].i);
  place.dtype = int(entry.v[slot + 1].i);
  place.byte = entry.v[slot + 2].i;
  if (place.space >= GM) {
    place.byte *= kSizes[place.dtype];
    TensorInfo& tensor = program_.tensors[place.space - GM];
    if (options_.values) {
      place.data = tensor.data;
      if (tensor.workspace) place.ready = workspace_ready_[place.space - GM].data();
    }
  } else if (options_.values) {
    place.data = core.memory[place.space].data();
    place.ready = core.ready[place.space].data();
  }
  return place;
}

void Machine::limit(const char* name, int64_t value, int64_t low, int64_t high) {
  if (value < low || value > high)
    throw Fault("operand", std::string(name) + " is " + std::to_string(value) + ", the instruction takes " + std::to_string(low) +
                               " to " + std::to_string(high));
}

void Machine::check_aligned(const Place& place, int64_t bytes, const char* what) {
  if (place.space < GM && place.byte % bytes)
    throw Fault("alignment", std::string(what) + " at byte " + std::to_string(place.byte) + " of " + space_name(place.space) +
                                 ": the address must be a multiple of " + std::to_string(bytes));
  if (place.space >= GM && place.byte % kSizes[place.dtype])
    throw Fault("alignment", std::string(what) + " is not aligned to its elements");
}

// Notes that bytes [begin, begin + length) of the operand's memory are touched; they must exist.
void Machine::touch(Core& core, const Place& place, int64_t begin, int64_t length, bool write) {
  (void)core;
  if (length <= 0) return;
  const int64_t low = place.space >= GM ? program_.tensors[place.space - GM].low : 0;
  const int64_t high = place.space >= GM ? program_.tensors[place.space - GM].high : chip_.sizes[place.space];
  if (begin < low || begin + length > high)
    throw Fault("out_of_range", std::string(write ? "writes" : "reads") + " bytes " + std::to_string(begin) + " to " +
                                    std::to_string(begin + length) + " of " + space_name(place.space) + ", which has bytes " +
                                    std::to_string(low) + " to " + std::to_string(high));
  if (!touches_.empty()) {
    Touch& last = touches_.back();
    if (last.space == place.space && last.write == write && last.end == begin && place.space < GM) {
      last.end += length;
      return;
    }
  }
  touches_.push_back({place.space, begin, begin + length, write});
}

// Bytes that the noted touches of global memory cost: short bursts cost more than they move.
double Machine::traffic_bytes() const {
  double bytes = 0;
  const int64_t granule = int64_t(chip_.granule_bytes);
  for (const Touch& touch : touches_) {
    if (touch.space < GM) continue;
    const int64_t address = program_.tensors[touch.space - GM].address + touch.begin;
    const int64_t first = address / granule * granule;
    const int64_t last = (address + (touch.end - touch.begin) + granule - 1) / granule * granule;
    bytes += std::max(double(last - first), chip_.burst_bytes);
  }
  return bytes;
}

void Machine::report(const Report& one) {
  const std::array<int64_t, 5> key{int64_t(std::hash<std::string>()(one.kind)), one.location, one.other_location, one.pipe, one.other_pipe};
  const auto [found, fresh] = report_index_.try_emplace(key, reports.size());
  if (!fresh) {
    ++reports[found->second].count;
  } else if (int(reports.size()) < options_.max_reports) {
    reports.push_back(one);
  } else {
    report_index_.erase(key);
  }
}

void Machine::check_hazards(Core& core, int pipe, const Entry& entry, const Effect& effect) {
  PipeState& state = core.pipes[pipe];
  Record now;
  now.index = state.index;
  now.agent = uint16_t(core.index * PIPES + pipe);
  const int32_t location = entry.word->location;
  // What an instruction reads stands for what its pipe read there before: where it writes there, too, that is looked at first.
  Span reads[SPACES];
  for (const Touch& touch : touches_)
    if (!touch.write && touch.space < SPACES) reads[touch.space].add(touch.begin, touch.end);
  for (size_t turn = 0; turn < 2 * touches_.size(); ++turn) {
    const bool looks = turn < touches_.size();
    const Touch& touch = touches_[looks ? turn : turn - touches_.size()];
    const bool in_place = touch.write && touch.space < SPACES && reads[touch.space].meets(touch.begin, touch.end);
    if (looks && !in_place) continue;
    now.write = touch.write;
    now.atomic = touch.space >= GM && touch.write ? entry.atomic : 0;
    const auto known = [&](const Record& record) {
      const int other_core = record.agent / PIPES, other = record.agent % PIPES;
      if (other_core != core.index)
        return state.known.foreign && (*state.known.foreign)[size_t(other_core) * KNOWN + other] >= record.index;
      if ((other == S && pipe == S) || (other == pipe && record.index == now.index)) return true;
      if (effect.fractal_order && other == M && pipe == M) return true;
      return state.known.local[other] >= record.index;
    };
    const auto conflict = [&](const Record& record) {
      Report one;
      one.core = core.index;
      one.location = location;
      one.pipe = pipe;
      one.other_core = record.agent / PIPES;
      one.other_pipe = record.agent % PIPES;
      const PipeState::Step& other = cores[one.other_core]->pipes[one.other_pipe].steps[record.index];
      one.other_location = other.location;
      bool first_writes = record.write, second_writes = now.write;
      if (one.other_core == core.index && other.order > entry.order) {  // the other one stands later in the program
        std::swap(one.location, one.other_location);
        std::swap(one.pipe, one.other_pipe);
        std::swap(first_writes, second_writes);
      }
      one.kind = !first_writes ? "WAR" : second_writes ? "WAW" : "RAW";
      one.message = space_name(touch.space) + " bytes " + std::to_string(touch.begin) + " to " + std::to_string(touch.end);
      report(one);
    };
    if (touch.space >= GM) {
      Shadow& shadow = tensor_shadows_[touch.space - GM];
      if (!shadow.empty()) {
        const int64_t low = program_.tensors[touch.space - GM].low;
        shadow.access(touch.begin - low, touch.end - low, now, known, conflict);
      }
      // What a scalar unit wrote reaches others only when its data cache is cleaned.
      if (pipe != S && !dirty_lines_.empty()) {
        const int64_t base = program_.tensors[touch.space - GM].address - program_.tensors[touch.space - GM].low;
        for (int64_t line = (base + touch.begin) / chip_.data_cache_line; line * chip_.data_cache_line < base + touch.end; ++line) {
          if (!dirty_lines_.count(line)) continue;
          Report one;
          one.kind = "stale";
          one.core = core.index;
          one.location = location;
          one.pipe = pipe;
          one.message = space_name(touch.space) + ": the scalar unit of core " + std::to_string(dirty_lines_[line]) +
                        " wrote here, and its data cache has not been cleaned (data_cache_clean_and_invalid)";
          report(one);
          break;
        }
      }
    } else {
      Shadow& shadow = core.shadow[touch.space];
      if (looks) shadow.look(touch.begin, touch.end, now, known, conflict);
      else if (in_place) shadow.access(touch.begin, touch.end, now, known, [](const Record&) {});
      else shadow.access(touch.begin, touch.end, now, known, conflict);
    }
  }
}

void Machine::need_ready(Core& core, int pipe, const Entry& entry, const Place& place, int64_t begin, int64_t length) {
  if (!place.ready || length <= 0) return;
  const void* hole = std::memchr(place.ready + begin, 0, size_t(length));
  if (!hole) return;
  Report one;
  one.kind = "uninitialised";
  one.core = core.index;
  one.location = entry.word->location;
  one.pipe = pipe;
  one.message = space_name(place.space) + " byte " + std::to_string(static_cast<const uint8_t*>(hole) - place.ready) + " holds no value";
  report(one);
}

const Path& Machine::path_of(int from, int to) const {
  const bool from_gm = from >= GM, to_gm = to >= GM;
  if (from_gm && to == UB) return chip_.gm_to_ub;
  if (from_gm && to == L1) return chip_.gm_to_l1;
  if (from_gm) return chip_.gm_to_l0;
  if (from == UB && to_gm) return chip_.ub_to_gm;
  if (from == L0C && to_gm) return chip_.l0c_to_gm;
  if (from == L0C && to == L1) return chip_.l0c_to_l1;
  if (from == L0C && to == UB) return chip_.l0c_to_ub;
  if (from == L1 && to == L0A) return chip_.l1_to_l0a;
  if (from == L1 && to == L0B) return chip_.l1_to_l0b;
  if (from == L1 && to == BT) return chip_.l1_to_bt;
  if (from == L1 && to == FB) return chip_.l1_to_fb;
  if (from == L1 && to == UB) return chip_.l1_to_ub;
  if (from == UB && to == L1) return chip_.ub_to_l1;
  return chip_.ub_to_ub;
}

}  // namespace npu

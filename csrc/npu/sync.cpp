// Flags, barriers and what they tell: in time, and in who knows what to be done.
#include <algorithm>

#include "npu/machine.h"

namespace npu {

namespace {

std::string event_text(const Program& program, int64_t event) { return program.texts[event]; }

}  // namespace

// What the scalar unit knew when it handed the instruction over holds for it, but for the scalar unit's own writes.
void Machine::join_scalar(Core& core, int pipe, Entry& entry) {
  PipeState& state = core.pipes[pipe];
  state.known.local[ORDER] = std::max(state.known.local[ORDER], entry.scalar_index);
  if (entry.scalar == state.joined) return;
  state.known.join(*entry.scalar, true);
  state.joined = entry.scalar;
}

void Machine::scalar_learned(Core& core) { core.scalar_known = std::make_shared<Knowledge>(core.pipes[S].known); }

bool Machine::do_set_flag(Core& core, int pipe, Entry& entry) {
  PipeState& state = core.pipes[pipe];
  limit("event_id", entry.v[1].i, 0, kEventIds - 1);
  Flag& flag = core.flags[entry.v[2].i * kEventIds + entry.v[1].i];
  const int second = int(entry.v[3].i);
  count(core, pipe, entry);
  join_scalar(core, pipe, entry);
  const bool known = !flag.wait_index || (second == S ? entry.scalar_index >= flag.wait_index : state.known.local[second] >= flag.wait_index);
  if (flag.set || !known) {
    Report one;
    one.kind = "flag_set_twice";
    one.core = core.index;
    one.pipe = pipe;
    one.location = entry.word->location;
    one.other_core = core.index;
    one.other_pipe = flag.set ? pipe : second;
    one.other_location = flag.set ? flag.set_location : flag.wait_location;
    one.message = "flag " + event_text(program_, entry.v[0].i) + " " + std::to_string(entry.v[1].i) +
                  (flag.set ? " is set, and not waited for in between" : " may still be set: nothing orders this after the wait for it");
    report(one);
  }
  const double start = std::max(state.free, entry.handed);
  state.free = start + chip_.flag;
  flag.set = true;
  flag.time = std::max(start, state.finish) + chip_.flag;
  flag.set_location = entry.word->location;
  flag.message = state.known;
  flag.message.local[pipe] = state.index;
  pop(core, pipe, start);
  return true;
}

bool Machine::do_wait_flag(Core& core, int pipe, Entry& entry) {
  PipeState& state = core.pipes[pipe];
  limit("event_id", entry.v[1].i, 0, kEventIds - 1);
  Flag& flag = core.flags[entry.v[2].i * kEventIds + entry.v[1].i];
  if (!flag.set) return false;
  count(core, pipe, entry);
  join_scalar(core, pipe, entry);
  const double start = std::max(state.free, entry.handed);
  if (state.statistics.first >= 0) {
    if (entry.handed > state.free) note_stall(core, pipe, entry, Stall::scalar, entry.handed - state.free);
    note_stall(core, pipe, entry, Stall::flag, flag.time - start);
  }
  state.free = std::max(start, flag.time) + chip_.flag;
  state.known.join(flag.message);
  flag.set = false;
  flag.cleared = state.free;
  flag.wait_index = state.index;
  flag.wait_location = entry.word->location;
  pop(core, pipe, state.free);
  return true;
}

void Machine::do_barrier(Core& core, int pipe, Entry& entry) {
  PipeState& state = core.pipes[pipe];
  count(core, pipe, entry);
  join_scalar(core, pipe, entry);
  const double start = std::max(state.free, entry.handed);
  if (state.statistics.first >= 0) note_stall(core, pipe, entry, Stall::barrier, state.finish - start);
  state.free = std::max(start, state.finish) + chip_.flag;
  state.known.local[pipe] = state.index;
  pop(core, pipe, start);
}

bool Machine::barrier_all(Core& core, const Word& word) {
  for (int pipe = 1; pipe < PIPES; ++pipe)
    if (!core.pipes[pipe].empty() || core.pipes[pipe].moving) {
      core.blocked = std::string("waits for the pipe ") + kPipeNames[pipe];
      core.blocked_location = word.location;
      return false;
    }
  PipeState& scalar = core.pipes[S];
  for (int pipe = 1; pipe < PIPES; ++pipe) {
    core.time = std::max(core.time, core.pipes[pipe].finish);
    scalar.known.join(core.pipes[pipe].known);
    scalar.known.local[pipe] = std::max(scalar.known.local[pipe], core.pipes[pipe].index);
  }
  for (int pipe = 1; pipe < PIPES; ++pipe) core.pipes[pipe].known.local[S] = scalar.index;
  scalar_learned(core);
  return true;
}

std::shared_ptr<const std::vector<uint32_t>> Machine::everything_known(Core& core, int pipe) {
  const Knowledge& known = core.pipes[pipe].known;
  auto all = known.foreign ? std::make_shared<std::vector<uint32_t>>(*known.foreign)
                           : std::make_shared<std::vector<uint32_t>>(cores.size() * KNOWN, 0);
  for (int i = 0; i < KNOWN; ++i) {
    uint32_t& mine = (*all)[size_t(core.index) * KNOWN + i];
    mine = std::max(mine, i == pipe || (pipe == S && i == ORDER) ? core.pipes[pipe].index : known.local[i]);
  }
  return all;
}

void Machine::deliver(Core& core, int flag, CrossMessage message) {
  message.time += chip_.cross_core;
  core.cross[flag].push_back(std::move(message));
  const CrossMessage& last = core.cross[flag].back();
  const size_t sets = core.cross[flag].size();
  const bool ahead = sets - core.cross_taken[flag] > kCrossLimit;
  // The wait that must be over before the counter has room for this one.
  const std::vector<uint32_t>& waits = core.cross_waits[flag];
  const bool unordered = !ahead && last.knowledge && sets > kCrossLimit &&
                         (*last.knowledge)[size_t(core.index) * KNOWN + ORDER] < waits[sets - kCrossLimit - 1];
  if (ahead || unordered) {
    Report one;
    one.kind = "flag_set_twice";
    one.core = core.index;
    one.pipe = S;
    one.location = last.location;
    one.message = "cross-core flag " + std::to_string(flag) + (ahead ? " is" : " may be") + " set more than " +
                  std::to_string(kCrossLimit) + " times ahead of its waits" +
                  (ahead ? "" : ": nothing orders this after the wait that makes room for it");
    report(one);
  }
  awake_.push_back(&core);
}

void Machine::do_cross_set(Core& core, int pipe, Entry& entry) {
  PipeState& state = core.pipes[pipe];
  count(core, pipe, entry);
  join_scalar(core, pipe, entry);
  const double start = std::max(state.free, entry.handed);
  state.free = start + chip_.flag;
  limit("mode", entry.v[1].i, 0, 2);
  limit("flag_id", entry.v[2].i, 0, kCrossFlags - 1);
  const int mode = int(entry.v[1].i), flag = int(entry.v[2].i);
  CrossMessage message{std::max(start, state.finish) + chip_.flag, nullptr, entry.word->location};
  if (options_.hazards) message.knowledge = everything_known(core, pipe);
  const bool vector_core = core.code->kind == "aiv";
  if (mode && !chip_.split) throw Fault("operand", "modes 1 and 2 are of chips with cube and vector cores apart");
  if (mode == 1 && !vector_core) throw Fault("operand", "mode 1 is between the vector cores of a block");
  std::vector<Core*> senders, receivers;
  for (auto& other : cores) {
    const bool same_kind = other->kind == core.kind, same_block = other->block == core.block;
    if (mode == 0 ? same_kind : mode == 1 ? same_kind && same_block : same_block && same_kind) senders.push_back(other.get());
    if (mode == 0 ? same_kind : mode == 1 ? same_kind && same_block : same_block && !same_kind) receivers.push_back(other.get());
  }
  if (mode == 2 && receivers.empty()) throw Fault("operand", "there is no other kind of core in this program");
  if (senders.size() > 1) {
    const uint32_t turn = ++core.cross_sets[flag][mode];
    const std::array<int64_t, 4> key{mode == 0 ? -1 - core.kind : core.block, int64_t(flag) * 4 + mode, core.kind, turn};
    auto [found, fresh] = gathering_.try_emplace(key);
    CrossMessage& gathered = found->second;
    if (fresh) gathered.location = 0;
    gathered.time = std::max(gathered.time, message.time);
    if (message.knowledge) {
      Knowledge both;
      both.foreign = gathered.knowledge;
      both.join_foreign(message.knowledge);
      gathered.knowledge = both.foreign;
    }
    if (++gathered.location == int32_t(senders.size())) {
      CrossMessage whole = gathered;
      whole.location = entry.word->location;
      gathering_.erase(found);
      for (Core* receiver : receivers) deliver(*receiver, flag, whole);
    }
  } else {
    for (Core* receiver : receivers) deliver(*receiver, flag, message);
  }
  pop(core, pipe, start);
}

bool Machine::do_cross_wait(Core& core, const Entry& entry) {
  limit("flag_id", entry.v[0].i, 0, kCrossFlags - 1);
  const int flag = int(entry.v[0].i);
  if (core.cross_taken[flag] == core.cross[flag].size()) {
    core.blocked = "waits for the cross-core flag " + std::to_string(flag) + ", which is not set often enough";
    core.blocked_location = entry.word->location;
    return false;
  }
  CrossMessage& message = core.cross[flag][core.cross_taken[flag]++];
  note_stall(core, S, entry, Stall::cross_core, message.time - core.time);
  core.time = std::max(core.time, message.time) + chip_.flag;
  PipeState& scalar = core.pipes[S];
  count(core, S, entry);
  if (options_.hazards) core.cross_waits[flag].push_back(scalar.index);
  if (message.knowledge) {
    scalar.known.join_foreign(message.knowledge);
    for (int i = 1; i < PIPES; ++i)
      scalar.known.local[i] = std::max(scalar.known.local[i], (*message.knowledge)[size_t(core.index) * KNOWN + i]);
    message.knowledge.reset();
    scalar_learned(core);
  }
  return true;
}

bool Machine::do_sync_all(Core& core, const Entry& entry) {
  const bool all = entry.v[0].i != 0;
  const std::array<int64_t, 2> key{all ? -1 : core.kind, core.syncs};
  Sync& sync = syncs_[key];
  if (!core.in_sync) {
    if (!barrier_all(core, *entry.word)) return false;
    core.in_sync = true;
    ++sync.arrived;
    sync.time = std::max(sync.time, core.time);
    if (options_.hazards) {
      if (!sync.knowledge) sync.knowledge = std::make_shared<std::vector<uint32_t>>(cores.size() * KNOWN, 0);
      const auto mine = everything_known(core, S);
      for (size_t i = 0; i < mine->size(); ++i) (*sync.knowledge)[i] = std::max((*sync.knowledge)[i], (*mine)[i]);
    }
    const size_t members = all ? cores.size() : groups_[core.kind].size();
    if (size_t(sync.arrived) == members) {
      sync.done = true;
      for (auto& other : cores)
        if (other.get() != &core && (all || other->kind == core.kind)) awake_.push_back(other.get());
    }
  }
  if (!sync.done) {
    core.blocked = "waits in sync_all for cores that do not get there";
    core.blocked_location = entry.word->location;
    return false;
  }
  note_stall(core, S, entry, Stall::cross_core, sync.time - core.time);
  core.time = sync.time + chip_.sync_all;
  if (sync.knowledge) {
    core.pipes[S].known.join_foreign(sync.knowledge);
    scalar_learned(core);
  }
  core.in_sync = false;
  ++core.syncs;
  return true;
}

}  // namespace npu

// The order of events: cores run ahead until they need what they share, and the transfers say how time goes on.
#include "npu/machine.h"

#include <algorithm>

namespace npu {

Machine::Machine(const Chip& chip, Program& program, const Options& options, int locations)
    : chip_(chip), program_(program), options_(options), random_(options.seed) {
  places.assign(PIPES, std::vector<PlaceStatistics>(size_t(std::max(1, locations))));
  steps_left_ = options.scalar_steps;
  l2_.resize(chip.l2_bytes, chip.l2_line);
  // Tensors lie one after the other in global memory.
  int64_t address = 0;
  workspaces_.resize(program.tensors.size());
  workspace_ready_.resize(program.tensors.size());
  tensor_shadows_.resize(program.tensors.size());
  for (size_t i = 0; i < program.tensors.size(); ++i) {
    TensorInfo& tensor = program.tensors[i];
    tensor.address = address;
    address += (tensor.high - tensor.low + 4095) / 4096 * 4096 + 4096;
    if (tensor.workspace && options.values) {
      workspaces_[i].assign(size_t(tensor.high), 0xFF);
      workspace_ready_[i].assign(size_t(tensor.high), 0);
      tensor.data = workspaces_[i].data();
    }
    if (options.hazards && tensor.written) tensor_shadows_[i].resize(tensor.high - tensor.low);
    tensor.address -= tensor.low;  // so that address + byte is a place in global memory
    if (options.warm) {
      L2::Touched touched;
      l2_.touch(tensor.address + tensor.low, tensor.address + tensor.high, false, touched);
    }
  }
  groups_.resize(program.codes.size());
  const bool mixed = program.codes.size() > 1;
  for (int block = 0; block < program.blocks; ++block)
    for (size_t kind = 0; kind < program.codes.size(); ++kind) {
      const int number = chip.split && program.codes[kind].kind == "aiv" ? chip.vector_cores : 1;
      for (int sub = 0; sub < number; ++sub) make_core(int(kind), block, sub);
    }
  const double start = chip.launch + (mixed ? chip.mixed : 0);
  for (auto& core : cores) {
    core->time = start + chip.launch_each * core->index;
    for (PipeState& pipe : core->pipes) pipe.free = pipe.finish = pipe.started = core->time;
  }
}

void Machine::make_core(int kind, int block, int sub) {
  auto core = std::make_unique<Core>();
  core->index = int(cores.size());
  core->kind = kind;
  core->block = block;
  core->sub = sub;
  core->code = &program_.codes[kind];
  core->slots = core->code->slots;
  const bool vector_core = core->code->kind == "aiv";
  for (const ParameterSlot& parameter : program_.parameters[kind]) {
    Slot& slot = core->slots[parameter.slot];
    if (parameter.kind == "dim") slot.i = program_.tensors[parameter.tensor].shape.at(parameter.axis);
    else if (parameter.kind == "stride") slot.i = program_.tensors[parameter.tensor].strides.at(parameter.axis);
    else if (parameter.kind == "block_idx") slot.i = block;
    else if (parameter.kind == "block_num") slot.i = program_.blocks;
    else if (parameter.kind == "sub_block_idx") slot.i = sub;
    else if (parameter.kind == "sub_block_num") slot.i = vector_core ? chip_.vector_cores : 1;
    else slot = parameter.value;
  }
  for (int space = 0; space < SPACES; ++space) {
    const bool has = !chip_.split || (space == UB) == vector_core;
    if (!has || !chip_.sizes[space]) continue;
    if (options_.values) {
      core->memory[space].assign(size_t(chip_.sizes[space]), 0xFF);
      core->ready[space].assign(size_t(chip_.sizes[space]), 0);
    }
    if (options_.hazards) core->shadow[space].resize(chip_.sizes[space]);
  }
  core->cache.assign(size_t(chip_.data_cache_bytes / chip_.data_cache_line), -1);
  for (PipeState& pipe : core->pipes) pipe.steps.push_back({-1, 0});
  core->scalar_known = std::make_shared<Knowledge>();
  groups_[kind].push_back(core->index);
  cores.push_back(std::move(core));
}

double Machine::jitter() {
  if (!options_.seed || random_() % 4) return 0;
  return double(random_() % 400);
}

Report Machine::where() const {
  Report report;
  report.core = now_core_ ? now_core_->index : 0;
  report.location = now_location_;
  report.pipe = now_pipe_;
  return report;
}

void Machine::run() {
  std::vector<Core*> order;
  for (auto& core : cores) order.push_back(core.get());
  if (options_.seed) std::shuffle(order.begin(), order.end(), random_);
  for (Core* core : order) run_core(*core);
  for (;;) {
    while (!awake_.empty()) {
      Core* core = awake_.back();
      awake_.pop_back();
      run_core(*core);
    }
    if (traffic_.idle()) break;
    int id = -1;
    if (traffic_.advance(id)) {
      Core& core = *cores[id / PIPES];
      finish_transfer(core, id % PIPES);
      run_core(core);
    }
  }
  check_finished();
  double end = 0;
  for (auto& core : cores) {
    PipeStatistics& scalar = core->pipes[S].statistics;
    scalar.busy = core->time - core->pipes[S].started;
    for (const double stall : scalar.stalls) scalar.busy -= stall;
    end = std::max(end, core->time);
    for (PipeState& pipe : core->pipes) end = std::max(end, pipe.finish);
    instructions += int64_t(core->pipes[S].statistics.instructions);
    for (int pipe = 1; pipe < PIPES; ++pipe) instructions += core->pipes[pipe].statistics.instructions;
    if (!core->line.empty()) printed.push_back(core->line);
  }
  if (options_.drained) {
    const int64_t lines = l2_.dirty();
    l2_written_back += lines;
    end += double(lines * chip_.l2_line) / chip_.hbm;
  }
  cycles = end + chip_.finish;
  memory_busy = traffic_.busy();
  memory_saturated = traffic_.saturated();
}

void Machine::run_core(Core& core) {
  now_core_ = &core;
  for (bool progress = true; progress;) {
    progress = false;
    if (!core.halted) {
      now_pipe_ = S;
      progress = run_scalar(core);
    }
    for (int pipe = 1; pipe < PIPES; ++pipe) {
      now_pipe_ = pipe;
      while (step_pipe(core, pipe)) progress = true;
    }
  }
}

void Machine::pop(Core& core, int pipe, double start) {
  PipeState& state = core.pipes[pipe];
  state.left[state.popped % kQueue] = start;
  state.front().scalar.reset();
  ++state.popped;
  ++state.statistics.instructions;
}

void Machine::count(Core& core, int pipe, const Entry& entry) {
  PipeState& state = core.pipes[pipe];
  ++state.index;
  if (options_.hazards) state.steps.push_back({entry.word->location, entry.order});
}

void Machine::note_stall(Core& core, int pipe, const Entry& entry, Stall cause, double length) {
  if (length <= 0) return;
  core.pipes[pipe].statistics.stalls[int(cause)] += length;
  places[pipe][entry.word->location].stalls[int(cause)] += length;
}

void Machine::record(Core& core, int pipe, const Word& word, double start, double end, int64_t bytes) {
  PipeStatistics& statistics = core.pipes[pipe].statistics;
  if (statistics.first < 0) statistics.first = start;
  const double busy = std::max(0.0, end - std::max(start, statistics.last));
  statistics.busy += busy;
  statistics.last = std::max(statistics.last, end);
  PlaceStatistics& place = places[pipe][word.location];
  ++place.count;
  place.bytes += bytes;
  place.busy += busy;
  if (options_.trace && events.size() < kMostEvents) events.push_back({core.index, word.location, uint8_t(pipe), word.op, start, end, bytes});
}

bool Machine::step_pipe(Core& core, int pipe) {
  PipeState& state = core.pipes[pipe];
  if (state.moving || state.empty()) return false;
  Entry& entry = state.front();
  now_location_ = entry.word->location;
  switch (entry.word->op) {
    case Op::set_flag: return do_set_flag(core, pipe, entry);
    case Op::wait_flag: return do_wait_flag(core, pipe, entry);
    case Op::pipe_barrier: do_barrier(core, pipe, entry); return true;
    case Op::cross_core_set_flag: do_cross_set(core, pipe, entry); return true;
    default: return start_instruction(core, pipe, entry);
  }
}

void Machine::plan(Core& core, int pipe, Entry& entry, Effect& effect) {
  (void)pipe;
  const Op op = entry.word->op;
  if (op <= Op::init_const_value) plan_move(core, entry, effect);
  else if (op <= Op::data_copy_l0c) plan_cube(core, entry, effect);
  else plan_vector(core, entry, effect);
}

void Machine::apply(Core& core, int pipe, Entry& entry) {
  const Op op = entry.word->op;
  if (op <= Op::init_const_value) do_move(core, pipe, entry);
  else if (op <= Op::data_copy_l0c) do_cube(core, pipe, entry);
  else do_vector(core, pipe, entry);
}

bool Machine::start_instruction(Core& core, int pipe, Entry& entry) {
  PipeState& state = core.pipes[pipe];
  count(core, pipe, entry);
  join_scalar(core, pipe, entry);
  touches_.clear();
  Effect effect;
  plan(core, pipe, entry, effect);
  if (options_.hazards) check_hazards(core, pipe, entry, effect);
  if (options_.values) apply(core, pipe, entry);

  if (entry.handed > state.free && state.statistics.first >= 0) note_stall(core, pipe, entry, Stall::scalar, entry.handed - state.free);
  const double start = std::max(state.free, entry.handed) + jitter();
  places[pipe][entry.word->location].repeats += effect.moved;
  if (!effect.path) {
    state.free = start + effect.busy;
    const double end = start + effect.busy + effect.latency;
    state.finish = std::max(state.finish, end);
    record(core, pipe, *entry.word, start, end, effect.moved);
    if (entry.word->op == Op::gather_mask) core.time = std::max(core.time, end);
    pop(core, pipe, start);
    return true;
  }
  // A transfer: its data flow when its startup is over and the pipe's last data have arrived.
  L2::Touched read, written;
  const uint32_t fetch = l2_.begin_fetch();
  for (const Touch& touch : touches_) {
    if (touch.space < GM) continue;
    const int64_t base = program_.tensors[touch.space - GM].address;
    l2_.touch(base + touch.begin, base + touch.end, touch.write, touch.write ? written : read, fetch);
    (touch.write ? written_bytes : read_bytes) += touch.end - touch.begin;
  }
  l2_hits += read.hits + written.hits;
  l2_misses += read.misses + written.misses;
  l2_written_back += read.written_back + written.written_back;
  const double line = double(chip_.l2_line);
  const bool writes = written.hits + written.misses > 0;
  // Written lines come from the core whole, so only what is read is fetched; dirty lines that make room go out.
  const double outside = double(read.misses + read.written_back + written.written_back) * line;
  // What misses the L2 comes at the rate of a core's own requests, after what hits.
  const double lines = double(read.hits + read.misses), hits = lines > 0 ? double(read.hits) / lines : 1;
  double alone = effect.bytes * hits / effect.path->rate + double(read.misses) * line / chip_.miss_rate;
  alone = std::max(alone, effect.unaligned / chip_.unaligned_rate);
  const double startup = effect.path->startup + (read.misses ? chip_.l2_miss : 0);
  state.move_issued = start;
  state.move_start = std::max(start + startup, state.finish);
  alone = std::max(alone, read.until - state.move_start);
  l2_.expect(fetch, state.move_start + alone);
  state.move_wait = alone;
  state.moving = true;
  state.move_word = entry.word;
  state.move_bytes = effect.moved;
  traffic_.add(core.index * PIPES + pipe, std::max(state.move_start, traffic_.now()), alone,
               writes ? 0 : effect.bytes / chip_.l2_read, writes ? effect.bytes / chip_.l2_write : 0, outside / chip_.hbm);
  pop(core, pipe, start);
  return true;
}

void Machine::finish_transfer(Core& core, int pipe) {
  PipeState& state = core.pipes[pipe];
  const double end = traffic_.now();
  // The next one may be issued while the data of this one flow, so that its startup is hidden.
  state.free = std::max(state.move_issued + chip_.gm_to_ub.issue, state.move_start);
  const double contended = end - state.move_start - state.move_wait;
  if (contended > 1e-6) {
    state.statistics.stalls[int(Stall::memory)] += contended;
    places[pipe][state.move_word->location].stalls[int(Stall::memory)] += contended;
  }
  const double begin = std::max(state.move_issued, std::min(state.finish, state.move_start));
  state.finish = end;
  state.moving = false;
  record(core, pipe, *state.move_word, begin, end, state.move_bytes);
}

void Machine::check_finished() {
  bool stuck = false;
  for (auto& core : cores) {
    stuck |= !core->halted;
    for (PipeState& pipe : core->pipes) stuck |= !pipe.empty();
  }
  if (stuck) {
    for (auto& core : cores) {
      if (!core->halted) {
        Report one;
        one.kind = "deadlock";
        one.core = core->index;
        one.pipe = S;
        one.location = core->blocked_location;
        one.message = core->blocked;
        report(one);
      }
      for (int pipe = 1; pipe < PIPES; ++pipe) {
        PipeState& state = core->pipes[pipe];
        if (state.empty()) continue;
        const Entry& entry = state.front();
        Report one;
        one.kind = "deadlock";
        one.core = core->index;
        one.pipe = pipe;
        one.location = entry.word->location;
        one.message = "waits for the flag " + program_.texts[entry.v[0].i] + " " + std::to_string(entry.v[1].i) +
                      ", which nothing sets any more; " + std::to_string(state.pushed - state.popped) + " instructions wait behind it";
        report(one);
      }
    }
    return;
  }
  for (auto& core : cores) {
    for (size_t i = 0; i < core->flags.size(); ++i) {
      const Flag& flag = core->flags[i];
      if (!flag.set) continue;
      Report one;
      one.kind = "flag_left_set";
      one.core = core->index;
      one.location = flag.set_location;
      one.message = "flag " + std::to_string(i % kEventIds) + " is set and never waited for: the next kernel would find it set";
      report(one);
    }
    for (int flag = 0; flag < kCrossFlags; ++flag) {
      if (core->cross[flag].size() == core->cross_taken[flag]) continue;
      Report one;
      one.kind = "flag_left_set";
      one.core = core->index;
      one.location = core->cross[flag].back().location;
      one.message = "cross-core flag " + std::to_string(flag) + " is set and never waited for";
      report(one);
    }
  }
}

}  // namespace npu

// The scalar unit: registers, branches, its own memory accesses, and handing instructions to the pipes.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "npu/machine.h"

namespace npu {

namespace {

int64_t integer(IntegerOp op, int64_t a, int64_t b, int64_t c) {
  const auto ua = uint64_t(a), ub = uint64_t(b);
  switch (op) {
    case IntegerOp::move_: return a;
    case IntegerOp::add_: return int64_t(ua + ub);
    case IntegerOp::sub_: return int64_t(ua - ub);
    case IntegerOp::mul_: return int64_t(ua * ub);
    case IntegerOp::floordiv_: {
      if (b == 0) return 0;
      if (b == -1) return int64_t(0 - ua);
      const int64_t q = a / b;
      return q - (a % b != 0 && (a < 0) != (b < 0));
    }
    case IntegerOp::mod_: {
      if (b == 0 || b == -1) return 0;
      const int64_t r = a % b;
      return r != 0 && (r < 0) != (b < 0) ? r + b : r;
    }
    case IntegerOp::udiv_: return b ? int64_t(ua / ub) : 0;
    case IntegerOp::umod_: return b ? int64_t(ua % ub) : 0;
    case IntegerOp::min_: return std::min(a, b);
    case IntegerOp::max_: return std::max(a, b);
    case IntegerOp::umin_: return int64_t(std::min(ua, ub));
    case IntegerOp::umax_: return int64_t(std::max(ua, ub));
    case IntegerOp::and_: return a & b;
    case IntegerOp::or_: return a | b;
    case IntegerOp::xor_: return a ^ b;
    case IntegerOp::not_: return ~a;
    case IntegerOp::neg_: return int64_t(0 - ua);
    case IntegerOp::abs_: return a < 0 ? int64_t(0 - ua) : a;
    case IntegerOp::shl_: return b < 0 || b > 63 ? 0 : int64_t(ua << b);
    case IntegerOp::shr_: return b < 0 || b > 63 ? (a < 0 ? -1 : 0) : a >> b;
    case IntegerOp::ushr_: return b < 0 || b > 63 ? 0 : int64_t(ua >> b);
    case IntegerOp::eq_: return a == b;
    case IntegerOp::ne_: return a != b;
    case IntegerOp::lt_: return a < b;
    case IntegerOp::le_: return a <= b;
    case IntegerOp::gt_: return a > b;
    case IntegerOp::ge_: return a >= b;
    case IntegerOp::ult_: return ua < ub;
    case IntegerOp::ule_: return ua <= ub;
    case IntegerOp::select_: return a ? b : c;
  }
  return 0;
}

// As NumPy's divmod does it: the remainder first, the quotient from it.
template <class T> T floor_divided(T a, T b) {
  if (b == 0) return a / b;
  const T remainder = std::fmod(a, b);
  const bool differ = !std::isnan(remainder) && remainder != 0 && (remainder < 0) != (b < 0);
  const T quotient = (a - remainder) / b - T(differ);
  if (quotient == 0) return std::copysign(T(0), a / b);
  const T whole = std::floor(quotient);
  return quotient - whole > T(0.5) ? whole + 1 : whole;
}

bool floating(FloatOp op, double a, double b, double c, double& result, int64_t& truth) {
  switch (op) {
    case FloatOp::move_: result = a; return true;
    case FloatOp::add_: result = a + b; return true;
    case FloatOp::sub_: result = a - b; return true;
    case FloatOp::mul_: result = a * b; return true;
    case FloatOp::div_: result = a / b; return true;
    case FloatOp::floordiv_: result = floor_divided<double>(a, b); return true;
    case FloatOp::mod_: {
      const double r = std::fmod(a, b);
      result = r != 0 && (r < 0) != (b < 0) ? r + b : r == 0 ? std::copysign(0.0, b) : r;
      return true;
    }
    case FloatOp::min_: result = std::isnan(a) || std::isnan(b) ? std::nan("") : std::min(a, b); return true;
    case FloatOp::max_: result = std::isnan(a) || std::isnan(b) ? std::nan("") : std::max(a, b); return true;
    case FloatOp::fma_: result = std::fma(a, b, c); return true;
    case FloatOp::neg_: result = -a; return true;
    case FloatOp::abs_: result = std::fabs(a); return true;
    case FloatOp::eq_: truth = a == b; return false;
    case FloatOp::ne_: truth = a != b; return false;
    case FloatOp::lt_: truth = a < b; return false;
    case FloatOp::le_: truth = a <= b; return false;
    case FloatOp::gt_: truth = a > b; return false;
    case FloatOp::ge_: truth = a >= b; return false;
    case FloatOp::isnan_: truth = std::isnan(a); return false;
    case FloatOp::isinf_: truth = std::isinf(a); return false;
    case FloatOp::isfinite_: truth = std::isfinite(a); return false;
    case FloatOp::exp_: result = std::exp(a); return true;
    case FloatOp::exp2_: result = std::exp2(a); return true;
    case FloatOp::expm1_: result = std::expm1(a); return true;
    case FloatOp::log_: result = std::log(a); return true;
    case FloatOp::log2_: result = std::log2(a); return true;
    case FloatOp::log10_: result = std::log10(a); return true;
    case FloatOp::log1p_: result = std::log1p(a); return true;
    case FloatOp::sqrt_: result = std::sqrt(a); return true;
    case FloatOp::rsqrt_: result = 1 / std::sqrt(a); return true;
    case FloatOp::sin_: result = std::sin(a); return true;
    case FloatOp::cos_: result = std::cos(a); return true;
    case FloatOp::tan_: result = std::tan(a); return true;
    case FloatOp::asin_: result = std::asin(a); return true;
    case FloatOp::acos_: result = std::acos(a); return true;
    case FloatOp::atan_: result = std::atan(a); return true;
    case FloatOp::sinh_: result = std::sinh(a); return true;
    case FloatOp::cosh_: result = std::cosh(a); return true;
    case FloatOp::tanh_: result = std::tanh(a); return true;
    case FloatOp::sigmoid_: result = 1 / (1 + std::exp(-a)); return true;
    case FloatOp::erf_: result = std::erf(a); return true;
    case FloatOp::floor_: result = std::floor(a); return true;
    case FloatOp::ceil_: result = std::ceil(a); return true;
    case FloatOp::trunc_: result = std::trunc(a); return true;
    case FloatOp::round_: result = std::nearbyint(a); return true;
    case FloatOp::atan2_: result = std::atan2(a, b); return true;
    case FloatOp::pow_: result = std::pow(a, b); return true;
    default: return true;
  }
}

}  // namespace

void Machine::compute(Core& core, const Word& word) {
  const int32_t* operands = core.code->operands.data() + word.operands;
  Slot* slots = core.slots.data();
  const int op = operands[0], dtype = operands[1];
  Slot& result = slots[operands[2]];
  if (word.op == Op::op_integer) {
    result.i = integer(IntegerOp(op), slots[operands[3]].i, slots[operands[4]].i, slots[operands[5]].i);
    const auto kind = IntegerOp(op);
    core.time += kind == IntegerOp::mul_ ? chip_.scalar_multiply
                 : kind == IntegerOp::floordiv_ || kind == IntegerOp::mod_ || kind == IntegerOp::udiv_ || kind == IntegerOp::umod_
                     ? chip_.scalar_divide
                     : chip_.scalar_alu;
    return;
  }
  if (word.op == Op::op_float) {
    const auto kind = FloatOp(op);
    if (kind == FloatOp::select_) {
      result = slots[operands[3]].i ? slots[operands[4]] : slots[operands[5]];
      core.time += chip_.scalar_alu;
      return;
    }
    double value = 0;
    int64_t truth = 0;
    const double a = slots[operands[3]].f, b = slots[operands[4]].f, c = slots[operands[5]].f;
    if (kind == FloatOp::fma_ && dtype == F32) {
      result.f = std::fma(float(a), float(b), float(c));
    } else if (kind == FloatOp::floordiv_ && dtype == F32) {
      result.f = floor_divided<float>(float(a), float(b));
    } else if (floating(kind, a, b, c, value, truth)) {
      result.f = dtype == F32 ? float(value) : value;
    } else {
      result.i = truth;
    }
    const bool function = kind >= FloatOp::exp_ && kind != FloatOp::floor_ && kind != FloatOp::ceil_ && kind != FloatOp::trunc_ && kind != FloatOp::round_;
    core.time += function ? chip_.scalar_function : dtype == F64 ? chip_.scalar_f64 : chip_.scalar_f32;
    return;
  }
  const Slot& from = slots[operands[3]];
  switch (Conversion(op)) {
    case Conversion::to_float_: result.f = dtype == F32 ? double(float(from.i)) : round_to(double(from.i), dtype); break;
    case Conversion::unsigned_to_float_: result.f = dtype == F32 ? double(float(uint64_t(from.i))) : round_to(double(uint64_t(from.i)), dtype); break;
    case Conversion::to_int_: result.i = to_integer(from.f); break;
    case Conversion::to_unsigned_: result.i = to_unsigned(from.f); break;
    case Conversion::round_to_: result.f = round_to(from.f, dtype); break;
    case Conversion::wrap_to_: result.i = wrap_to(from.i, dtype); break;
    case Conversion::to_bits_: {
      uint8_t bytes[8] = {};
      store_float(bytes, dtype, from.f);
      result.i = int64_t(read<uint64_t>(bytes));
      break;
    }
    case Conversion::from_bits_: {
      uint8_t bytes[8];
      write(bytes, from.i);
      result.f = load_float(bytes, dtype);
      break;
    }
  }
  core.time += chip_.scalar_f32;
}

bool Machine::run_scalar(Core& core) {
  bool progress = false;
  const Word* words = core.code->words.data();
  PipeState& scalar = core.pipes[S];
  for (;;) {
    if (core.result_until) {
      if (core.pipes[V].popped < core.result_until) {
        core.blocked = "waits for the result of gather_mask";
        core.blocked_location = words[core.pc].location;
        return progress;
      }
      core.result_until = 0;
    }
    const Word& word = words[core.pc];
    const int32_t* operands = core.code->operands.data() + word.operands;
    Slot* slots = core.slots.data();
    now_location_ = word.location;
    now_pipe_ = S;
    if (word.op > Op::trap) {
      if (--steps_left_ < 0) throw Fault("endless", "the scalar unit has done too many steps: an endless loop?");
      switch (word.op) {
        case Op::op_jump: core.pc = operands[0]; core.time += chip_.scalar_branch; continue;
        case Op::op_jump_if_zero:
          core.pc = slots[operands[0]].i ? core.pc + 1 : operands[1];
          core.time += chip_.scalar_branch;
          continue;
        case Op::op_loop_test: {  // variable, stop, step, target when it is over
          const int64_t step = slots[operands[2]].i, at = slots[operands[0]].i, stop = slots[operands[1]].i;
          if (step == 0) throw Fault("operand", "the step of a loop is 0");
          core.pc = (step > 0 ? at < stop : at > stop) ? core.pc + 1 : operands[3];
          core.time += chip_.scalar_branch;
          continue;
        }
        case Op::op_halt:
          core.halted = true;
          return true;
        default:
          compute(core, word);
          ++scalar_operations;
          ++core.pc;
          progress = true;
          continue;
      }
    }
    const int pipe = word.pipe;
    if (pipe != S) {
      PipeState& state = core.pipes[pipe];
      const auto depth = uint64_t(chip_.queue_depth);
      if (state.pushed - state.popped >= depth) {
        core.blocked = std::string("hands an instruction to ") + kPipeNames[pipe] + ", whose queue is full";
        core.blocked_location = word.location;
        return progress;
      }
      Entry& entry = state.ring[state.pushed % kQueue];
      entry.word = &word;
      for (int i = 0; i < word.count; ++i) entry.v[i] = slots[operands[i]];
      if (state.pushed >= depth) {
        const double left = state.left[(state.pushed - depth) % kQueue];
        note_stall(core, S, entry, Stall::queue, left - core.time);
        core.time = std::max(core.time, left);
      }
      core.time += chip_.scalar_issue;
      entry.handed = core.time;
      entry.scalar = core.scalar_known;
      entry.scalar_index = scalar.index;
      entry.order = ++core.order;
      entry.atomic = core.atomic;
      ++state.pushed;
      ++core.pc;
      progress = true;
      if (word.op == Op::gather_mask) core.result_until = state.pushed;
      continue;
    }
    Entry entry;
    entry.word = &word;
    for (int i = 0; i < word.count; ++i) entry.v[i] = slots[operands[i]];
    entry.handed = core.time;
    entry.scalar = core.scalar_known;
    entry.scalar_index = scalar.index;
    entry.order = core.order + 1;
    const double before = core.time;
    switch (word.op) {
      case Op::set_flag: {
        limit("event_id", entry.v[1].i, 0, kEventIds - 1);
        Flag& flag = core.flags[entry.v[2].i * kEventIds + entry.v[1].i];
        if (flag.set) {  // the scalar unit waits until its last one has been taken
          core.blocked = "sets the flag " + program_.texts[entry.v[0].i] + " " + std::to_string(entry.v[1].i) + ", which is still set";
          core.blocked_location = word.location;
          return progress;
        }
        core.time = std::max(core.time, flag.cleared) + chip_.flag;
        count(core, S, entry);
        scalar.known.local[S] = scalar.index;
        flag.set = true;
        flag.time = core.time;
        flag.set_location = word.location;
        flag.message = scalar.known;
        break;
      }
      case Op::wait_flag: {
        limit("event_id", entry.v[1].i, 0, kEventIds - 1);
        Flag& flag = core.flags[entry.v[2].i * kEventIds + entry.v[1].i];
        if (!flag.set) {
          core.blocked = "waits for the flag " + program_.texts[entry.v[0].i] + " " + std::to_string(entry.v[1].i) + ", which nothing sets any more";
          core.blocked_location = word.location;
          return progress;
        }
        note_stall(core, S, entry, Stall::flag, flag.time - core.time);
        core.time = std::max(core.time, flag.time) + chip_.flag;
        count(core, S, entry);
        scalar.known.join(flag.message);
        scalar.known.local[S] = scalar.index;
        scalar_learned(core);
        flag.set = false;
        flag.cleared = core.time;
        flag.wait_index = scalar.index;
        flag.wait_location = word.location;
        break;
      }
      case Op::pipe_barrier:
        if (entry.v[0].i == ALL && !barrier_all(core, word)) return progress;
        core.time += chip_.flag;
        break;
      case Op::cross_core_set_flag: {
        // By the scalar unit: after all pipes (PIPE_ALL), or just in its own order.
        if (entry.v[0].i == ALL && !barrier_all(core, word)) return progress;
        PipeState& state = core.pipes[S];
        state.free = state.finish = core.time;
        Entry& queued = state.ring[state.pushed % kQueue];
        queued = entry;
        ++state.pushed;
        do_cross_set(core, S, queued);
        --state.statistics.instructions;
        state.known.local[S] = state.index;
        core.time += chip_.flag;
        break;
      }
      case Op::cross_core_wait_flag:
        if (!do_cross_wait(core, entry)) return progress;
        break;
      case Op::sync_all:
        if (!do_sync_all(core, entry)) return progress;
        break;
      case Op::load_scalar: load_scalar(core, entry); break;
      case Op::store_scalar: store_scalar(core, entry); break;
      case Op::data_cache_clean_and_invalid: {
        const Place at = place(core, entry, 0);
        const int64_t base = program_.tensors[at.space - GM].address + at.byte, bytes = entry.v[3].i;
        for (auto line = core.dirty.begin(); line != core.dirty.end();) {
          const bool inside = !bytes || (*line * chip_.data_cache_line < base + bytes && (*line + 1) * chip_.data_cache_line > base);
          if (inside) {
            dirty_lines_.erase(*line);
            core.time += chip_.scalar_gm_l2 / 8;  // written back one after the other, without waiting for each
            line = core.dirty.erase(line);
          } else {
            ++line;
          }
        }
        for (int64_t& line : core.cache)
          if (!bytes || (line * chip_.data_cache_line < base + bytes && (line + 1) * chip_.data_cache_line > base)) line = -1;
        core.time += chip_.scalar_gm_l2;
        break;
      }
      case Op::set_atomic: core.atomic = uint8_t(entry.v[0].i); core.time += chip_.scalar_alu; break;
      case Op::print_: print(core, entry); break;
      case Op::assert_:
        core.time += chip_.scalar_alu;
        if (!entry.v[0].i) throw Fault("assert", program_.texts[entry.v[1].i]);
        break;
      case Op::trap: throw Fault("trap", program_.texts[entry.v[0].i]);
      default: throw Fault("operand", "this instruction does not run on the scalar unit");
    }
    ++scalar.statistics.instructions;
    ++core.order;
    if (core.time > before) {
      // Flags and loads are worth a place in the trace where they took time.
      const double taken = core.time - before;
      ++places[S][word.location].count;
      places[S][word.location].busy += taken;
      if (options_.trace && taken > 20) events.push_back({core.index, word.location, S, word.op, before, core.time, 0});
    }
    ++core.pc;
    progress = true;
  }
}

double Machine::scalar_memory(Core& core, const Place& place, bool write, int32_t location) {
  (void)location;
  if (place.space < GM) return chip_.scalar_ub;
  const int64_t line = (program_.tensors[place.space - GM].address + place.byte) / chip_.data_cache_line;
  int64_t& held = core.cache[size_t(line) % core.cache.size()];
  if (write && options_.hazards) {
    core.dirty.insert(line);
    dirty_lines_[line] = core.index;
  }
  if (held == line) return chip_.scalar_gm_hit;
  if (held >= 0 && core.dirty.erase(held)) dirty_lines_.erase(held);
  held = line;
  L2::Touched touched;
  l2_.touch(line * chip_.data_cache_line, line * chip_.data_cache_line + 1, write, touched);
  l2_hits += touched.hits;
  l2_misses += touched.misses;
  return touched.misses ? chip_.scalar_gm_hbm : chip_.scalar_gm_l2;
}

Place Machine::scalar_access(Core& core, const Entry& entry, bool write) {
  const Place at = place(core, entry, 0);
  const int size = kSizes[at.dtype];
  if (at.space < GM && at.space != UB)
    throw Fault("operand", write ? "the scalar unit writes global memory and UB" : "the scalar unit reads global memory and UB");
  check_aligned(at, size, write ? "dst" : "src");
  PipeState& scalar = core.pipes[S];
  count(core, S, entry);
  scalar.known.local[S] = scalar.index;
  touches_.clear();
  touch(core, at, at.byte, size, write);
  if (options_.hazards) check_hazards(core, S, entry, Effect{});
  core.time += scalar_memory(core, at, write, entry.word->location);
  return at;
}

void Machine::load_scalar(Core& core, const Entry& entry) {
  const Place from = scalar_access(core, entry, false);
  Slot& result = core.slots[core.code->operands[entry.word->operands + 3]];
  if (!options_.values) {  // only what is computed depends on it, not control
    result.i = 0;
    return;
  }
  if (!from.data) throw Fault("operand", "load_scalar needs values");
  need_ready(core, S, entry, from, from.byte, kSizes[from.dtype]);
  if (is_float(from.dtype)) result.f = load_float(from.data + from.byte, from.dtype);
  else result.i = load_integer(from.data + from.byte, from.dtype);
}

void Machine::store_scalar(Core& core, const Entry& entry) {
  const Place to = scalar_access(core, entry, true);
  if (!to.data) return;
  uint8_t bytes[8];
  if (is_float(to.dtype)) store_float(bytes, to.dtype, entry.v[3].f);
  else store_integer(bytes, to.dtype, entry.v[3].i);
  put(to, to.byte, bytes, nullptr, kSizes[to.dtype], 0);
}

void Machine::print(Core& core, const Entry& entry) {
  core.time += chip_.scalar_function;
  core.line += program_.texts[entry.v[0].i];
  char text[64];
  if (entry.v[2].i == 1) {
    std::snprintf(text, sizeof(text), "%lld", static_cast<long long>(entry.v[1].i));
    core.line += text;
  } else if (entry.v[2].i == 2) {
    std::snprintf(text, sizeof(text), "%.9g", entry.v[1].f);
    core.line += text;
  }
  if (!entry.v[3].i) return;
  printed.push_back(core.line);
  core.line.clear();
}

}  // namespace npu

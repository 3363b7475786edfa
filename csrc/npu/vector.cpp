// The vector unit: repeats of 256 bytes with strides and masks.
#include <algorithm>
#include <cstring>
#include <unordered_map>

#include "npu/machine.h"

namespace npu {

namespace {

enum : int { DST = 0, SRC0 = 3, SRC1 = 6, SRC2 = 9, SCALAR = 12, OPTION, MASK_MODE, MASK0, MASK1, REPEAT, BLOCKS, REPEATS = 21 };

bool is_reduction(Op op) { return op >= Op::whole_reduce_sum && op <= Op::pair_reduce_sum; }
bool is_compare(Op op) { return op == Op::compare || op == Op::compare_scalar; }
bool reads_dst(Op op) { return op == Op::axpy || op == Op::mul_add_dst || op == Op::fused_mul_add || op == Op::fused_mul_add_relu; }

// Which lanes of which repeats take part.
struct Lanes {
  int width, lanes;        // bytes of the widest element; elements a repeat
  int64_t repeats, count;  // count: elements in all, in counter mode
  int mode;
  uint64_t bits[2];

  Lanes(const Slot* v, int width) : width(width), lanes(256 / width), repeats(v[REPEAT].i), count(-1), mode(int(v[MASK_MODE].i)) {
    bits[0] = uint64_t(v[MASK0].i);
    bits[1] = uint64_t(v[MASK1].i);
    if (mode == 2) {
      count = v[MASK0].i;
      repeats = (count + lanes - 1) / lanes;
    }
  }

  int active(int64_t repeat) const {  // the leading lanes that take part, but in bit mode
    if (mode == 2) return int(std::min<int64_t>(lanes, count - repeat * lanes));
    return mode == 0 ? int(v0()) : lanes;
  }
  int64_t v0() const { return int64_t(bits[0]); }
  bool on(int lane) const { return mode != 1 || (bits[lane / 64] >> (lane % 64) & 1); }
  bool full() const { return mode == 0 && v0() == lanes; }

  // f(repeat, lane, n): n lanes that lie together in a block.
  template <class F>
  void each(F f) const {
    const int chunk = 32 / width;
    for (int64_t repeat = 0; repeat < repeats; ++repeat) {
      if (mode == 1) {
        for (int lane = 0; lane < lanes; ++lane)
          if (on(lane)) f(repeat, lane, 1);
      } else {
        const int n = active(repeat);
        for (int lane = 0; lane < n; lane += chunk) f(repeat, lane, std::min(chunk, n - lane));
      }
    }
  }
};

struct Strided {
  int64_t byte, block, repeat;
  int size;
  Strided(const Place& place, const Slot* v, int which)
      : byte(place.byte), block(v[BLOCKS + which].i * 32), repeat(v[REPEATS + which].i * 32), size(kSizes[place.dtype]) {}
  int64_t at(int64_t r, int lane) const {
    const int per_block = 32 / size;
    return byte + r * repeat + lane / per_block * block + lane % per_block * size;
  }
};

// Within a repeat, dst and a source are the same blocks or have none in common, and no repeat reads what an earlier one wrote
// (DG, general restrictions: overlapping operands). Says what is wrong, or nothing.
const char* overlap(const Strided& d, const Strided& s, const Lanes& lanes) {
  const auto extent = [&](const Strided& x) { return x.at(lanes.repeats - 1, lanes.lanes - 1) + x.size; };
  if (extent(d) <= s.byte || extent(s) <= d.byte) return nullptr;
  const bool same = d.byte == s.byte && d.block == s.block && d.repeat == s.repeat && d.size == s.size;
  if (same && (lanes.repeats == 1 || (d.block == 32 && d.repeat >= 256))) return nullptr;
  static thread_local std::unordered_map<int64_t, int64_t> written;  // by block: the repeat and the place in it
  written.clear();
  const int d_blocks = lanes.lanes * d.size / 32, s_blocks = lanes.lanes * s.size / 32;
  for (int64_t r = 0; r < lanes.repeats; ++r) {
    const int n = lanes.active(r);
    for (int b = 0; b < s_blocks && b * 32 < n * s.size; ++b)
      if (written.count((s.byte + r * s.repeat + b * s.block) / 32)) return "a repeat reads what an earlier one wrote";
    for (int b = 0; b < d_blocks && b * 32 < n * d.size; ++b) written[(d.byte + r * d.repeat + b * d.block) / 32] = r * 8 + b;
    for (int b = 0; b < s_blocks && b * 32 < n * s.size; ++b) {
      const auto found = written.find((s.byte + r * s.repeat + b * s.block) / 32);
      if (found != written.end() && found->second >= r * 8 && (found->second != r * 8 + b || d.size != s.size))
        return "within a repeat, dst and a source overlap, but are not the same blocks";
    }
  }
  return nullptr;
}

// a * b + c, rounded once to f32 where that is the dtype (f64 would round twice).
double fused(double a, double b, double c, bool single) {
  return single ? double(std::fma(float(a), float(b), float(c))) : std::fma(a, b, c);
}

double float_result(Op op, double a, double b, double d, double s, bool single) {
  switch (op) {
    case Op::exp: return std::exp(a);
    case Op::ln: return std::log(a);
    case Op::abs: return std::fabs(a);
    case Op::reciprocal: return 1 / a;
    case Op::sqrt: return std::sqrt(a);
    case Op::rsqrt: return 1 / std::sqrt(a);
    case Op::relu: return a > 0 || std::isnan(a) ? a : 0;
    case Op::copy: return a;
    case Op::add: return a + b;
    case Op::sub: return a - b;
    case Op::mul: return a * b;
    case Op::div: return a / b;
    case Op::max: return std::isnan(a) || std::isnan(b) ? std::nan("") : std::max(a, b);
    case Op::min: return std::isnan(a) || std::isnan(b) ? std::nan("") : std::min(a, b);
    case Op::add_relu: return std::max(a + b, 0.0);
    case Op::sub_relu: return std::max(a - b, 0.0);
    case Op::mul_add_dst: return fused(a, b, d, single);
    case Op::fused_mul_add: return fused(a, d, b, single);
    case Op::fused_mul_add_relu: return std::max(fused(a, d, b, single), 0.0);
    case Op::adds: return a + s;
    case Op::muls: return a * s;
    case Op::maxs: return std::isnan(a) || std::isnan(s) ? std::nan("") : std::max(a, s);
    case Op::mins: return std::isnan(a) || std::isnan(s) ? std::nan("") : std::min(a, s);
    case Op::leaky_relu: return a > 0 ? a : a * s;
    case Op::axpy: return fused(a, s, d, single);
    case Op::duplicate: return s;
    default: return 0;
  }
}

int64_t integer_result(Op op, int64_t a, int64_t b, int64_t s, int dtype) {
  const int bits = kSizes[dtype] * 8;
  switch (op) {
    case Op::relu: return std::max<int64_t>(a, 0);
    case Op::not_: return ~a;
    case Op::copy: return a;
    case Op::add: return a + b;
    case Op::sub: return a - b;
    case Op::mul: return a * b;
    case Op::max: return std::max(a, b);
    case Op::min: return std::min(a, b);
    case Op::and_: return a & b;
    case Op::or_: return a | b;
    case Op::add_relu: return std::max<int64_t>(wrap_to(a + b, dtype), 0);
    case Op::sub_relu: return std::max<int64_t>(wrap_to(a - b, dtype), 0);
    case Op::adds: return a + s;
    case Op::muls: return a * s;
    case Op::maxs: return std::max(a, s);
    case Op::mins: return std::min(a, s);
    case Op::shift_left: return s < 0 || s >= bits ? 0 : int64_t(uint64_t(a) << s);
    case Op::shift_right: return s < 0 || s >= bits ? (a < 0 ? -1 : 0) : a >> s;
    case Op::duplicate: return s;
    default: return 0;
  }
}

bool compare(int mode, double a, double b) {
  switch (mode) {
    case 0: return a < b;
    case 1: return a > b;
    case 2: return a == b;
    case 3: return a <= b;
    case 4: return a >= b;
    default: return a != b;
  }
}

// Plain arithmetic on whole runs of f32, which the C++ compiler makes fast.
bool fast_floats(Op op, float* d, const float* a, const float* b, float s, int n) {
  switch (op) {
    case Op::add: for (int i = 0; i < n; ++i) d[i] = a[i] + b[i]; return true;
    case Op::sub: for (int i = 0; i < n; ++i) d[i] = a[i] - b[i]; return true;
    case Op::mul: for (int i = 0; i < n; ++i) d[i] = a[i] * b[i]; return true;
    case Op::div: for (int i = 0; i < n; ++i) d[i] = a[i] / b[i]; return true;
    case Op::adds: for (int i = 0; i < n; ++i) d[i] = a[i] + s; return true;
    case Op::muls: for (int i = 0; i < n; ++i) d[i] = a[i] * s; return true;
    case Op::duplicate: for (int i = 0; i < n; ++i) d[i] = s; return true;
    default: return false;
  }
}

}  // namespace

void Machine::plan_vector(Core& core, Entry& entry, Effect& effect) {
  const Slot* v = entry.v;
  const Op op = entry.word->op;
  if (op >= Op::mrg_sort) return plan_other_vector(core, entry, effect);
  const Place dst = place(core, entry, DST);
  const bool has0 = has_place(entry, SRC0), has1 = has_place(entry, SRC1), has2 = has_place(entry, SRC2);
  const Place src0 = has0 ? place(core, entry, SRC0) : Place{}, src1 = has1 ? place(core, entry, SRC1) : Place{};
  const Place src2 = has2 ? place(core, entry, SRC2) : Place{};
  int width = kSizes[has0 ? src0.dtype : dst.dtype];
  if (op == Op::cast || op == Op::axpy) width = std::max(width, kSizes[dst.dtype]);
  const Lanes lanes(v, width);
  if (dst.space != UB || (has0 && src0.space != UB) || (has1 && src1.space != UB) || (has2 && src2.space != UB))
    throw Fault("operand", "vector instructions work on UB");
  if (lanes.mode == 2) limit("count", lanes.count, 1, int64_t(1) << 32);
  else limit("repeat", lanes.repeats, 1, 255);
  if (lanes.mode == 0) limit("mask", lanes.v0(), 1, lanes.lanes);
  if (lanes.mode == 1 && !(lanes.bits[0] | (lanes.lanes > 64 ? lanes.bits[1] : 0))) throw Fault("operand", "no bit of the mask is set");
  for (int i = 0; i < 3; ++i) {
    limit("a block stride", v[BLOCKS + i].i, 0, 65535);
    limit("a repeat stride", v[REPEATS + i].i, 0, 255);
  }
  const bool element_dst = is_reduction(op);
  if (element_dst) {
    check_aligned(dst, op >= Op::block_reduce_sum ? 16 : kSizes[dst.dtype], "dst");
  } else {
    check_aligned(dst, op == Op::gather_mask || !is_compare(op) ? 32 : 32, "dst");
  }
  if (has0) check_aligned(src0, op == Op::brcb || op == Op::gather ? kSizes[src0.dtype] : 32, "src0");
  if (has1) check_aligned(src1, 32, "src1");
  const auto same = [&](const Place& other, const char* name) {
    if (other.dtype != dst.dtype)
      throw Fault("operand", std::string(name) + " is " + kDTypeNames[other.dtype] + ", dst " + kDTypeNames[dst.dtype]);
  };
  const bool plain = op < Op::compare && op != Op::axpy;
  if (plain && has0) same(src0, "src0");
  if (plain && has1) same(src1, "src1");
  if ((op == Op::select || op == Op::gather || is_reduction(op)) && op != Op::whole_reduce_max && op != Op::whole_reduce_min) same(src0, "src0");
  if (is_compare(op) && !is_float(src0.dtype) && v[OPTION].i != 2) throw Fault("operand", "i32 is compared by eq only");

  if (op <= Op::axpy || op == Op::cast || op == Op::select) {
    const Strided d(dst, v, 0);
    for (int i = 0; i < 2; ++i)
      if (i == 0 ? has0 : has1)
        if (const char* wrong = overlap(d, Strided(i == 0 ? src0 : src1, v, i + 1), lanes)) throw Fault("operand", wrong);
  }
  const VectorCost& cost = chip_.vector.at(op);
  double slope = width == 2 || width == 1 ? cost.slope16 : cost.slope32;
  // Bank conflicts: a group of banks gives or takes one block a cycle.
  double conflicts = 0;
  {
    const int groups = chip_.bank_groups, used_blocks = 8;
    const auto load = [&](std::initializer_list<std::pair<const Place*, int>> places) {
      int counts[64] = {}, most = 0;
      for (const auto& [place, which] : places) {
        const int64_t stride = v[BLOCKS + which].i;
        if (stride == 0) continue;  // one block, read once
        for (int block = 0; block < used_blocks; ++block) most = std::max(most, ++counts[(place->byte / 32 + block * stride) % groups]);
      }
      return most;
    };
    const bool strided0 = has0 && op != Op::brcb && op != Op::gather && op != Op::gatherb;
    const bool strided1 = has1 && op != Op::gather && op != Op::gatherb && op != Op::scatter && op != Op::gather_mask && op != Op::sort32;
    int reads = 0;
    if (strided0 && strided1) reads = load({{&src0, 1}, {&src1, 2}});
    else if (strided0) reads = load({{&src0, 1}});
    const int writes = is_reduction(op) || is_compare(op) ? 1 : load({{&dst, 0}});
    const double need = std::max(reads, writes);
    if (need > slope && need > 2) conflicts = (need - slope) * double(lanes.repeats);
  }
  effect.latency = cost.latency + (lanes.full() ? 0 : chip_.vector_mask_penalty);
  effect.busy = slope * double(lanes.repeats) + conflicts;
  effect.moved = lanes.repeats;
  core.bank_conflicts += int64_t(conflicts);
  if (conflicts > 0) places[V][entry.word->location].conflicts += conflicts;
  vector_elements += double(lanes.repeats) * lanes.lanes;

  // What is touched.
  const auto strided = [&](const Place& place, int which, bool write) {
    const Strided s(place, v, which);
    const int per_block = 32 / s.size;
    if (!options_.hazards) {  // only the range
      const int64_t last_block = (lanes.lanes - 1) / per_block;
      int64_t end = s.byte + (lanes.repeats - 1) * s.repeat;
      if (lanes.mode == 1) end += last_block * s.block + 32;
      else end = s.at(lanes.repeats - 1, lanes.active(lanes.repeats - 1) - 1) + s.size;
      touch(core, place, s.byte, end - s.byte, write);
      return;
    }
    const bool dense = s.block == 32 && lanes.mode != 1;
    if (dense) {
      for (int64_t r = 0; r < lanes.repeats; ++r) touch(core, place, s.byte + r * s.repeat, int64_t(lanes.active(r)) * s.size, write);
    } else {
      lanes.each([&](int64_t r, int lane, int n) { touch(core, place, s.at(r, lane), int64_t(n) * s.size, write); });
    }
  };
  const int size = kSizes[dst.dtype];
  const int64_t total = lanes.mode == 2 ? lanes.count : lanes.repeats * lanes.lanes;
  switch (op) {
    case Op::brcb:
      touch(core, src0, src0.byte, lanes.repeats * 8 * size, false);
      for (int64_t r = 0; r < lanes.repeats; ++r)
        for (int b = 0; b < 8; ++b) touch(core, dst, dst.byte + r * v[REPEATS].i * 32 + b * v[BLOCKS].i * 32, 32, true);
      return;
    case Op::gatherb:
      touch(core, src1, src1.byte, lanes.repeats * 32, false);
      for (int64_t r = 0; r < lanes.repeats; ++r)
        for (int b = 0; b < 8; ++b) {
          if (src1.data) touch(core, src0, src0.byte + read<uint32_t>(src1.data + src1.byte + (r * 8 + b) * 4), 32, false);
          touch(core, dst, dst.byte + r * v[REPEATS].i * 32 + b * v[BLOCKS].i * 32, 32, true);
        }
      return;
    case Op::gather:
    case Op::scatter:
      if (src1.dtype != U32) throw Fault("operand", "the offsets are u32");
      lanes.each([&](int64_t r, int lane, int n) {
        const int64_t at = src1.byte + (r * lanes.lanes + lane) * 4;
        touch(core, src1, at, n * 4, false);
        if (!src1.data) return;
        for (int i = 0; i < n; ++i) {
          const int64_t offset = int64_t(read<uint32_t>(src1.data + at + i * 4)) + v[SCALAR].i;
          if (op == Op::gather) touch(core, src0, src0.byte + offset, size, false);
          else touch(core, dst, dst.byte + offset, size, true);
        }
      });
      if (op == Op::gather) strided(dst, 0, true);
      else strided(src0, 1, false);
      return;
    case Op::gather_mask:
      strided(src0, 1, false);
      if (has1) touch(core, src1, src1.byte, (total + 7) / 8, false);
      touch(core, dst, dst.byte, (total * size + 31) / 32 * 32, true);
      return;
    case Op::sort32:
      if (src1.dtype != U32) throw Fault("operand", "the indices are u32");
      touch(core, src0, src0.byte, lanes.repeats * 32 * kSizes[src0.dtype], false);
      touch(core, src1, src1.byte, lanes.repeats * 128, false);
      touch(core, dst, dst.byte, lanes.repeats * 256, true);
      return;
    default: break;
  }
  if (has0) strided(src0, 1, false);
  if (has1) strided(src1, 2, false);
  if (op == Op::select) {
    if (v[OPTION].i != 1 && !has1) throw Fault("operand", "src1 is missing");
    touch(core, src2, src2.byte, ((v[OPTION].i == 0 ? lanes.lanes : total) + 7) / 8, false);
  }
  if (reads_dst(op)) strided(dst, 0, false);
  if (is_compare(op)) {
    touch(core, dst, dst.byte, (total + 7) / 8, true);
  } else if (is_reduction(op)) {
    for (int64_t r = 0; r < lanes.repeats; ++r) {
      if (op <= Op::whole_reduce_min) {
        const int parts = op == Op::whole_reduce_sum || v[OPTION].i >= 2 ? 1 : 2;
        touch(core, dst, dst.byte + r * v[REPEATS].i * size * parts, size * parts, true);
      } else if (op == Op::pair_reduce_sum) {
        touch(core, dst, dst.byte + r * v[REPEATS].i * 128, (lanes.active(r) + 1) / 2 * size, true);
      } else {
        touch(core, dst, dst.byte + r * v[REPEATS].i * 8 * size, (lanes.active(r) * size + 31) / 32 * size, true);
      }
    }
  } else {
    strided(dst, 0, true);
  }
}

void Machine::do_vector(Core& core, int pipe, Entry& entry) {
  const Slot* v = entry.v;
  const Op op = entry.word->op;
  if (op >= Op::mrg_sort) return do_other_vector(core, pipe, entry);
  const Place dst = place(core, entry, DST);
  const bool has0 = has_place(entry, SRC0), has1 = has_place(entry, SRC1), has2 = has_place(entry, SRC2);
  const Place src0 = has0 ? place(core, entry, SRC0) : dst, src1 = has1 ? place(core, entry, SRC1) : src0;
  const Place src2 = has2 ? place(core, entry, SRC2) : dst;
  int width = kSizes[src0.dtype];
  if (op == Op::cast || op == Op::axpy) width = std::max(width, kSizes[dst.dtype]);
  const Lanes lanes(v, width);
  const Strided d(dst, v, 0), a(src0, v, 1), b(src1, v, 2);
  const int size = kSizes[dst.dtype];
  const bool floats = is_float(src0.dtype);
  const double s = is_float(has0 ? src0.dtype : dst.dtype) ? round_to(v[SCALAR].f, has0 ? src0.dtype : dst.dtype) : 0;
  const int64_t whole = floats ? 0 : v[SCALAR].i;
  const auto ready = [&](const Place& place, int64_t at, int64_t length) { need_ready(core, pipe, entry, place, at, length); };
  const auto mark = [&](int64_t at, int64_t length) { std::memset(dst.ready + at, 1, size_t(length)); };
  const int64_t total = lanes.mode == 2 ? lanes.count : lanes.repeats * lanes.lanes;

  if (op <= Op::create_vec_index && op != Op::create_vec_index) {
    const bool fast = src0.dtype == F32 && dst.dtype == F32;
    lanes.each([&](int64_t r, int lane, int n) {
      const int64_t to = d.at(r, lane), from = a.at(r, lane), from1 = b.at(r, lane);
      if (has0) ready(src0, from, int64_t(n) * a.size);
      if (has1) ready(src1, from1, int64_t(n) * b.size);
      if (reads_dst(op)) ready(dst, to, int64_t(n) * size);
      uint8_t* x = dst.data + to;
      const uint8_t *p = src0.data + from, *q = src1.data + from1;
      if (fast && fast_floats(op, reinterpret_cast<float*>(x), reinterpret_cast<const float*>(p), reinterpret_cast<const float*>(q), float(s), n)) {
      } else if (floats || is_float(dst.dtype)) {
        for (int i = 0; i < n; ++i) {
          const double old = reads_dst(op) ? load_float(x + i * size, dst.dtype) : 0;
          const double left = has0 ? load_float(p + i * a.size, src0.dtype) : 0, right = has1 ? load_float(q + i * b.size, src1.dtype) : 0;
          store_float(x + i * size, dst.dtype, float_result(op, left, right, old, s, dst.dtype == F32));
        }
      } else {
        for (int i = 0; i < n; ++i) {
          const int64_t left = has0 ? load_integer(p + i * size, dst.dtype) : 0, right = has1 ? load_integer(q + i * size, dst.dtype) : 0;
          store_integer(x + i * size, dst.dtype, integer_result(op, left, right, has0 ? whole : v[SCALAR].i, dst.dtype));
        }
      }
      mark(to, int64_t(n) * size);
    });
    return;
  }
  switch (op) {
    case Op::create_vec_index: {
      int64_t number = 0;
      lanes.each([&](int64_t r, int lane, int n) {
        for (int i = 0; i < n; ++i, ++number) {
          const int64_t to = d.at(r, lane) + i * size;
          if (is_float(dst.dtype)) store_float(dst.data + to, dst.dtype, s + double(number));
          else store_integer(dst.data + to, dst.dtype, v[SCALAR].i + number);
          mark(to, size);
        }
      });
      break;
    }
    case Op::compare:
    case Op::compare_scalar: {
      std::memset(dst.data + dst.byte, 0, size_t((total + 7) / 8));
      mark(dst.byte, (total + 7) / 8);
      lanes.each([&](int64_t r, int lane, int n) {
        ready(src0, a.at(r, lane), int64_t(n) * a.size);
        if (has1) ready(src1, b.at(r, lane), int64_t(n) * b.size);
        for (int i = 0; i < n; ++i) {
          const uint8_t *p = src0.data + a.at(r, lane) + i * a.size, *q = src1.data + b.at(r, lane) + i * b.size;
          const double left = floats ? load_float(p, src0.dtype) : double(load_integer(p, src0.dtype));
          const double right = has1 ? floats ? load_float(q, src1.dtype) : double(load_integer(q, src1.dtype)) : floats ? s : double(whole);
          const int64_t bit = r * lanes.lanes + lane + i;
          if (compare(int(v[OPTION].i), left, right)) dst.data[dst.byte + bit / 8] |= uint8_t(1 << bit % 8);
        }
      });
      break;
    }
    case Op::select:
      lanes.each([&](int64_t r, int lane, int n) {
        for (int i = 0; i < n; ++i) {
          const int64_t bit = (v[OPTION].i == 0 ? 0 : r * lanes.lanes) + lane + i, at = src2.byte + bit / 8;
          ready(src2, at, 1);
          const int64_t to = d.at(r, lane) + i * size, from = a.at(r, lane) + i * size, from1 = b.at(r, lane) + i * size;
          if (src2.data[at] >> bit % 8 & 1) {
            ready(src0, from, size);
            std::memmove(dst.data + to, src0.data + from, size_t(size));
          } else if (v[OPTION].i == 1) {
            store_float(dst.data + to, dst.dtype, s);
          } else {
            ready(src1, from1, size);
            std::memmove(dst.data + to, src1.data + from1, size_t(size));
          }
          mark(to, size);
        }
      });
      break;
    case Op::cast: {
      const Round mode = v[OPTION].i == 0 ? Round::rint : Round(v[OPTION].i);
      const bool to_float = is_float(dst.dtype);
      static const struct { int digits, lowest; double largest; } kFormats[] = {{53, -1021, 1.7976931348623157e308}, {24, -125, 3.4028234663852886e38}, {11, -13, 65504}, {8, -125, 3.3895313892515355e38}};
      // Narrow to wide in place would overwrite what is still to be read: a repeat is read before it is written.
      double values[256];
      int64_t integers[256];
      int held = 0;
      int64_t places_held[256];
      int64_t current = -1;
      const auto flush = [&] {
        for (int i = 0; i < held; ++i) {
          uint8_t* x = dst.data + places_held[i];
          if (floats) {
            const double value = values[i];
            if (to_float) {
              if (src0.dtype == dst.dtype) {  // to a whole number, unless no rounding is asked for
                store_float(x, dst.dtype, v[OPTION].i == 0 || !std::isfinite(value) ? value : std::copysign(round_whole(value, mode), value));
              } else if (mode == Round::rint || size > a.size) {
                store_float(x, dst.dtype, value);
              } else {
                const auto& format = kFormats[dst.dtype];
                double result = round_to_digits(value, format.digits, format.lowest, mode);
                if (std::fabs(result) > format.largest) result = std::copysign(std::numeric_limits<double>::infinity(), result);
                store_float(x, dst.dtype, result);
              }
            } else {
              const int bits = size * 8;
              const bool is_signed = dst.dtype == I64 || dst.dtype == I32 || dst.dtype == I16 || dst.dtype == I8;
              const double low = is_signed ? -std::ldexp(1.0, bits - 1) : 0, high = std::ldexp(1.0, is_signed ? bits - 1 : bits);
              const double rounded = std::isnan(value) ? 0 : std::isinf(value) ? value : round_whole(value, mode);
              const int64_t result = rounded >= high ? (bits == 64 ? std::numeric_limits<int64_t>::max() : int64_t(high) - 1) : rounded < low ? int64_t(low) : int64_t(rounded);
              store_integer(x, dst.dtype, result);
            }
          } else if (to_float) {
            // To f32 and f16 the integer is rounded once, as far as f64 holds it.
            const auto& format = kFormats[dst.dtype];
            store_float(x, dst.dtype, mode == Round::rint && dst.dtype == F32 ? double(float(integers[i])) : round_to_digits(double(integers[i]), format.digits, format.lowest, mode));
          } else {
            const int bits = size * 8;
            const int64_t high = bits == 64 ? std::numeric_limits<int64_t>::max() : (int64_t(1) << (bits - 1)) - 1;
            store_integer(x, dst.dtype, std::clamp(integers[i], -high - 1, high));
          }
        }
        for (int i = 0; i < held; ++i) mark(places_held[i], size);
        held = 0;
      };
      lanes.each([&](int64_t r, int lane, int n) {
        if (r != current) {
          flush();
          current = r;
        }
        for (int i = 0; i < n; ++i) {
          const int64_t from = a.at(r, lane + i);
          ready(src0, from, a.size);
          if (floats) values[held] = load_float(src0.data + from, src0.dtype);
          else integers[held] = load_integer(src0.data + from, src0.dtype);
          places_held[held++] = d.at(r, lane + i);
        }
      });
      flush();
      break;
    }
    case Op::brcb:
      for (int64_t r = 0; r < lanes.repeats; ++r)
        for (int block = 0; block < 8; ++block) {
          const int64_t from = src0.byte + (r * 8 + block) * size, to = dst.byte + r * d.repeat + block * d.block;
          ready(src0, from, size);
          for (int i = 0; i < 32; i += size) std::memmove(dst.data + to + i, src0.data + from, size_t(size));
          mark(to, 32);
        }
      break;
    case Op::whole_reduce_sum:
    case Op::whole_reduce_max:
    case Op::whole_reduce_min:
    case Op::block_reduce_sum:
    case Op::block_reduce_max:
    case Op::block_reduce_min:
    case Op::pair_reduce_sum: {
      const bool sum = op == Op::whole_reduce_sum || op == Op::block_reduce_sum || op == Op::pair_reduce_sum;
      const bool largest = op == Op::whole_reduce_max || op == Op::block_reduce_max;
      const int group = op <= Op::whole_reduce_min ? lanes.lanes : op == Op::pair_reduce_sum ? 2 : 32 / size;
      for (int64_t r = 0; r < lanes.repeats; ++r) {
        const int active = lanes.active(r);
        for (int first = 0; first < active; first += group) {
          double values[128];
          int best = -1;
          bool any = false;
          for (int i = 0; i < group; ++i) {
            const bool on = first + i < active && lanes.on(first + i);
            values[i] = 0;
            if (!on) continue;
            any = true;
            ready(src0, a.at(r, first + i), size);
            values[i] = load_float(src0.data + a.at(r, first + i), src0.dtype);
            if (!sum && (best < 0 || (std::isnan(values[i]) && !std::isnan(values[best])) || (largest ? values[i] > values[best] : values[i] < values[best])))
              best = i;
          }
          if (!any) continue;
          // Neighbours are added first, then their sums: a tree. Each sum is rounded to the dtype.
          if (sum)
            for (int step = 1; step < group; step *= 2)
              for (int i = 0; i + step < group; i += 2 * step) values[i] = round_to(values[i] + values[i + step], src0.dtype);
          const double value = sum ? values[0] : values[best];
          if (op > Op::whole_reduce_min) {
            const int64_t unit = op == Op::pair_reduce_sum ? 128 : 8 * size;
            const int64_t to = dst.byte + r * v[REPEATS].i * unit + first / group * size;
            store_float(dst.data + to, dst.dtype, value);
            mark(to, size);
          } else {
            const int order = sum ? 2 : int(v[OPTION].i), parts = order >= 2 ? 1 : 2;
            const int64_t to = dst.byte + r * v[REPEATS].i * size * parts;
            if (order != 3) store_float(dst.data + to + (order == 1 ? size : 0), dst.dtype, value);
            if (order != 2) store_integer(dst.data + to + (order == 0 ? size : 0), size == 2 ? U16 : U32, best);
            mark(to, size * parts);
          }
        }
      }
      break;
    }
    case Op::gather:
    case Op::scatter: {
      static thread_local std::vector<uint8_t> kept;  // dst and src may be the same: read all first
      kept.clear();
      lanes.each([&](int64_t r, int lane, int n) {
        for (int i = 0; i < n; ++i) {
          const int64_t at = src1.byte + (r * lanes.lanes + lane + i) * 4;
          ready(src1, at, 4);
          const int64_t offset = int64_t(read<uint32_t>(src1.data + at)) + v[SCALAR].i;
          const int64_t from = op == Op::gather ? src0.byte + offset : a.at(r, lane) + i * size;
          if (op == Op::gather && offset % size) throw Fault("alignment", "a gathered offset is no multiple of the element's size");
          ready(src0, from, size);
          kept.insert(kept.end(), src0.data + from, src0.data + from + size);
        }
      });
      size_t next = 0;
      lanes.each([&](int64_t r, int lane, int n) {
        for (int i = 0; i < n; ++i, next += size_t(size)) {
          const int64_t at = src1.byte + (r * lanes.lanes + lane + i) * 4;
          const int64_t to = op == Op::gather ? d.at(r, lane) + i * size : dst.byte + int64_t(read<uint32_t>(src1.data + at)) + v[SCALAR].i;
          std::memcpy(dst.data + to, kept.data() + next, size_t(size));
          mark(to, size);
        }
      });
      break;
    }
    case Op::gatherb:
      for (int64_t r = 0; r < lanes.repeats; ++r)
        for (int block = 0; block < 8; ++block) {
          const int64_t at = src1.byte + (r * 8 + block) * 4;
          ready(src1, at, 4);
          const int64_t from = src0.byte + read<uint32_t>(src1.data + at), to = dst.byte + r * d.repeat + block * d.block;
          ready(src0, from, 32);
          std::memmove(dst.data + to, src0.data + from, 32);
          mark(to, 32);
        }
      break;
    case Op::gather_mask: {
      int64_t kept = 0;
      lanes.each([&](int64_t r, int lane, int n) {
        for (int i = 0; i < n; ++i) {
          const int64_t number = r * lanes.lanes + lane + i;
          bool take = true;
          switch (v[OPTION].i) {
            case 0: ready(src1, src1.byte + number / 8, 1); take = src1.data[src1.byte + number / 8] >> number % 8 & 1; break;
            case 1: take = number % 2 == 0; break;  // the first, third, ...
            case 2: take = number % 2 == 1; break;
            case 7: break;
            default: take = number % 4 == v[OPTION].i - 3;
          }
          if (!take) continue;
          const int64_t from = a.at(r, lane) + i * size, to = dst.byte + kept++ * size;
          ready(src0, from, size);
          std::memmove(dst.data + to, src0.data + from, size_t(size));
          mark(to, size);
        }
      });
      core.slots[core.code->operands[entry.word->operands + 24]].i = kept;
      break;
    }
    case Op::sort32: {
      struct Pair {
        double value;
        uint32_t index;
      };
      for (int64_t r = 0; r < lanes.repeats; ++r) {
        Pair pairs[32];
        const int from_size = kSizes[src0.dtype];
        for (int i = 0; i < 32; ++i) {
          const int64_t from = src0.byte + (r * 32 + i) * from_size, at = src1.byte + (r * 32 + i) * 4;
          ready(src0, from, from_size);
          ready(src1, at, 4);
          pairs[i] = {load_float(src0.data + from, src0.dtype), read<uint32_t>(src1.data + at)};
        }
        // NaN first: it counts as the largest.
        std::stable_sort(pairs, pairs + 32, [](const Pair& x, const Pair& y) {
          return std::isnan(x.value) ? !std::isnan(y.value) : x.value > y.value;
        });
        for (int i = 0; i < 32; ++i) {
          const int64_t to = dst.byte + (r * 32 + i) * 8;
          write<uint32_t>(dst.data + to, 0);
          store_float(dst.data + to, src0.dtype, pairs[i].value);
          write(dst.data + to + 4, pairs[i].index);
        }
        mark(dst.byte + r * 256, 256);
      }
      break;
    }
    default: break;
  }
}

// mrg_sort: dst, four lists, lengths 15.., repeat 19. transpose: dst, src. trans_data_to_5hd: dst, src, steps 6, 7, repeat 8, strides 9, 10.
void Machine::plan_other_vector(Core& core, Entry& entry, Effect& effect) {
  const Slot* v = entry.v;
  const Op op = entry.word->op;
  const Place dst = place(core, entry, 0);
  const VectorCost& cost = chip_.vector.at(op);
  double units = 1;
  if (op == Op::mrg_sort) {
    int64_t length = 0;
    limit("repeat", v[19].i, 1, 1);
    for (int i = 0; i < 4; ++i) {
      if (!has_place(entry, 3 + 3 * i)) continue;
      const Place list = place(core, entry, 3 + 3 * i);
      limit("length", v[15 + i].i, 1, 4095);
      check_aligned(list, 8, "src");
      touch(core, list, list.byte, v[15 + i].i * 8, false);
      length += v[15 + i].i;
    }
    check_aligned(dst, 8, "dst");
    touch(core, dst, dst.byte, length * 8, true);
    units = double(length) / 32;
  } else if (op == Op::transpose) {
    const Place src = place(core, entry, 3);
    check_aligned(src, 32, "src");
    check_aligned(dst, 32, "dst");
    touch(core, src, src.byte, 512, false);
    touch(core, dst, dst.byte, 512, true);
    units = 2;
  } else {
    const Place src = place(core, entry, 3);
    limit("repeat", v[8].i, 1, 255);
    check_aligned(src, 32, "src");
    check_aligned(dst, 32, "dst");
    if (v[6].i % 32 || v[7].i % 32) throw Fault("alignment", "dst_step and src_step are multiples of 32");
    for (int64_t r = 0; r < v[8].i; ++r)
      for (int i = 0; i < 16; ++i) touch(core, src, src.byte + r * v[10].i * 32 + i * v[7].i, 32, false);
    for (int64_t r = 0; r < v[8].i; ++r)
      for (int i = 0; i < 16; ++i) touch(core, dst, dst.byte + r * v[9].i * 32 + i * v[6].i, 32, true);
    units = double(v[8].i) * 2;
  }
  effect.latency = cost.latency;
  effect.busy = cost.slope32 * units;
  effect.moved = int64_t(units);
}

void Machine::do_other_vector(Core& core, int pipe, Entry& entry) {
  const Slot* v = entry.v;
  const Op op = entry.word->op;
  const Place dst = place(core, entry, 0), src = place(core, entry, 3);
  if (op == Op::mrg_sort) {
    static thread_local std::vector<uint64_t> merged;
    merged.clear();
    int64_t at[4] = {}, length[4] = {};
    Place lists[4];
    for (int i = 0; i < 4; ++i)
      if (has_place(entry, 3 + 3 * i)) {
        lists[i] = place(core, entry, 3 + 3 * i);
        length[i] = v[15 + i].i;
        need_ready(core, pipe, entry, lists[i], lists[i].byte, length[i] * 8);
      }
    for (;;) {
      int best = -1;
      double top = 0;
      for (int i = 0; i < 4; ++i) {
        if (at[i] >= length[i]) continue;
        const double value = load_float(lists[i].data + lists[i].byte + at[i] * 8, src.dtype);
        if (best < 0 || (std::isnan(value) && !std::isnan(top)) || value > top) {
          best = i;
          top = value;
        }
      }
      if (best < 0) break;
      merged.push_back(read<uint64_t>(lists[best].data + lists[best].byte + at[best]++ * 8));
    }
    std::memcpy(dst.data + dst.byte, merged.data(), merged.size() * 8);
    std::memset(dst.ready + dst.byte, 1, merged.size() * 8);
    return;
  }
  const int size = kSizes[dst.dtype];
  const bool square = op == Op::transpose;
  const int64_t dst_step = square ? 32 : v[6].i, src_step = square ? 32 : v[7].i, repeats = square ? 1 : v[8].i;
  for (int64_t r = 0; r < repeats; ++r) {
    const int64_t from = src.byte + (square ? 0 : r * v[10].i * 32), to = dst.byte + (square ? 0 : r * v[9].i * 32);
    uint8_t block[16][32];
    for (int i = 0; i < 16; ++i) {
      need_ready(core, pipe, entry, src, from + i * src_step, 32);
      std::memcpy(block[i], src.data + from + i * src_step, 32);
    }
    const int columns = 32 / size;
    for (int c = 0; c < columns; ++c)
      for (int i = 0; i < 16; ++i) {
        // 16-bit: column c is block c. 32-bit: it fills blocks 2c and 2c + 1.
        const int64_t place = size == 2 ? to + c * dst_step + i * 2 : to + (2 * c + i / 8) * dst_step + i % 8 * 4;
        std::memcpy(dst.data + place, block[i] + c * size, size_t(size));
        std::memset(dst.ready + place, 1, size_t(size));
      }
  }
}

}  // namespace npu

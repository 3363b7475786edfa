// A program as the emulator runs it: flat code for each kind of core. opdsl/npu/encode.py writes it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace npu {

// Instructions, with the names of opdsl/npu/instructions.py.
#define NPU_INSTRUCTIONS(X)                                                                                            \
  X(data_copy) X(data_copy_pad) X(data_copy_nd2nz) X(load_data) X(load_data_transpose) X(load_data_3d)                 \
  X(init_const_value) X(mmad) X(fixpipe) X(data_copy_l0c)                                                              \
  X(exp) X(ln) X(abs) X(reciprocal) X(sqrt) X(rsqrt) X(relu) X(not_) X(copy)                                           \
  X(add) X(sub) X(mul) X(div) X(max) X(min) X(and_) X(or_) X(add_relu) X(sub_relu)                                     \
  X(mul_add_dst) X(fused_mul_add) X(fused_mul_add_relu)                                                                \
  X(adds) X(muls) X(maxs) X(mins) X(leaky_relu) X(shift_left) X(shift_right) X(axpy)                                   \
  X(duplicate) X(create_vec_index) X(compare) X(compare_scalar) X(select) X(cast) X(brcb)                              \
  X(whole_reduce_sum) X(whole_reduce_max) X(whole_reduce_min)                                                          \
  X(block_reduce_sum) X(block_reduce_max) X(block_reduce_min) X(pair_reduce_sum)                                       \
  X(gather) X(gatherb) X(scatter) X(gather_mask) X(sort32) X(mrg_sort) X(transpose) X(trans_data_to_5hd)               \
  X(set_flag) X(wait_flag) X(pipe_barrier) X(cross_core_set_flag) X(cross_core_wait_flag) X(sync_all)                  \
  X(load_scalar) X(store_scalar) X(data_cache_clean_and_invalid) X(set_atomic) X(print_) X(assert_) X(trap)

// What only the scalar unit sees.
#define NPU_CONTROL(X) X(op_integer) X(op_float) X(op_convert) X(op_jump) X(op_jump_if_zero) X(op_loop_test) X(op_halt)

enum class Op : uint16_t {
#define X(name) name,
  NPU_INSTRUCTIONS(X) NPU_CONTROL(X)
#undef X
      count
};

#define NPU_INTEGER_OPS(X)                                                                                             \
  X(move) X(add) X(sub) X(mul) X(floordiv) X(mod) X(udiv) X(umod) X(min) X(max) X(umin) X(umax) X(and) X(or) X(xor)    \
  X(not) X(neg) X(abs) X(shl) X(shr) X(ushr) X(eq) X(ne) X(lt) X(le) X(gt) X(ge) X(ult) X(ule) X(select)

#define NPU_FLOAT_OPS(X)                                                                                               \
  X(move) X(add) X(sub) X(mul) X(div) X(floordiv) X(mod) X(min) X(max) X(fma) X(neg) X(abs)                            \
  X(eq) X(ne) X(lt) X(le) X(gt) X(ge) X(isnan) X(isinf) X(isfinite) X(select)                                          \
  X(exp) X(exp2) X(expm1) X(log) X(log2) X(log10) X(log1p) X(sqrt) X(rsqrt) X(sin) X(cos) X(tan) X(asin) X(acos)       \
  X(atan) X(sinh) X(cosh) X(tanh) X(sigmoid) X(erf) X(floor) X(ceil) X(trunc) X(round) X(atan2) X(pow)

#define NPU_CONVERSIONS(X)                                                                                             \
  X(to_float) X(unsigned_to_float) X(to_int) X(to_unsigned) X(round_to) X(wrap_to) X(to_bits) X(from_bits)

enum class IntegerOp {
#define X(name) name##_,
  NPU_INTEGER_OPS(X)
#undef X
};
enum class FloatOp {
#define X(name) name##_,
  NPU_FLOAT_OPS(X)
#undef X
};
enum class Conversion {
#define X(name) name##_,
  NPU_CONVERSIONS(X)
#undef X
};

enum Pipe : uint8_t { S, V, M, MTE1, MTE2, MTE3, FIX, PIPES, ALL = PIPES };
constexpr const char* kPipeNames[PIPES + 1] = {"S", "V", "M", "MTE1", "MTE2", "MTE3", "FIX", "ALL"};

enum Space : int { L1, L0A, L0B, L0C, UB, BT, FB, SPACES, GM = 16 };  // GM + index of the tensor
constexpr const char* kSpaceNames[SPACES] = {"L1", "L0A", "L0B", "L0C", "UB", "BT", "FB"};

union Slot {
  int64_t i;
  double f;
};

constexpr int kMaxOperands = 28;

struct Word {
  Op op;
  uint8_t pipe;
  uint8_t count;      // of operands
  int32_t location;   // an index into the program's list of places
  int32_t operands;   // where they begin in Code::operands; each is a slot
};

struct Code {
  std::string kind;
  std::vector<Word> words;
  std::vector<int32_t> operands;
  std::vector<Slot> slots;  // registers (0), then constants
};

struct ParameterSlot {
  std::string kind;
  int32_t slot = 0;
  int32_t tensor = -1;
  int32_t axis = 0;
  Slot value{0};  // of scalars
};

struct TensorInfo {
  std::string name;
  uint8_t* data = nullptr;  // null: timing only
  int64_t low = 0, high = 0;  // the bytes that belong to it, counted from its first element
  int64_t address = 0;        // of `low` in global memory, as the L2 sees it
  std::vector<int64_t> shape, strides;  // strides in elements
  bool workspace = false;
  bool written = false;
};

struct Program {
  std::vector<Code> codes;
  std::vector<std::vector<ParameterSlot>> parameters;  // for each code
  std::vector<TensorInfo> tensors;
  std::vector<std::string> texts;
  int blocks = 0;
};

}  // namespace npu

// What is known of a chip: opdsl/npu/chips/*.toml, as numbers. Times are in cycles.
#pragma once

#include <map>
#include <stdexcept>
#include <string>

#include "npu/program.h"

namespace npu {

struct VectorCost {
  double latency = 0, slope32 = 1, slope16 = 1;  // cycles: before the first result; for a repeat of 32-bit and of 16-bit elements
};

// A way between memories: `startup` cycles until data flow (hidden behind what the pipe still does), then bytes / rate.
struct Path {
  double startup = 0, rate = 1, issue = 0;
};

struct Chip {
  bool split = true;
  double clock_mhz = 1000;
  int vector_cores = 2;  // for each cube core
  int64_t sizes[SPACES] = {};
  int64_t alignment[SPACES] = {};
  int cores[3] = {};

  Path gm_to_l1, gm_to_ub, gm_to_l0, ub_to_gm, l0c_to_gm, l0c_to_l1, l1_to_l0a, l1_to_l0b, l1_to_bt, l1_to_fb, ub_to_ub, ub_to_l1, l1_to_ub,
      l0c_to_ub;
  double burst_bytes = 0, granule_bytes = 32;  // a burst in GM counts as at least so much, and in multiples

  double l2_read = 1, l2_write = 1, hbm = 1;  // of all cores together, bytes a cycle
  double l2_miss = 0;                         // more latency
  double miss_rate = 32;                      // bytes a cycle of one core, of what misses the L2
  double unaligned_rate = 32;                 // of rows of data_copy_nd2nz that begin between two granules
  int64_t l2_bytes = 0, l2_line = 512;

  double cube_issue = 0, cube_latency = 0, cube_f32_factor = 4;
  std::map<Op, VectorCost> vector;
  double vector_mask_penalty = 0;
  int bank_groups = 16;

  double queue_depth = 32;
  double scalar_issue = 1, scalar_alu = 1, scalar_multiply = 1, scalar_divide = 1, scalar_f32 = 1, scalar_f64 = 1, scalar_function = 1;
  double scalar_ub = 1, scalar_gm_hit = 1, scalar_gm_l2 = 1, scalar_gm_hbm = 1, scalar_branch = 1;
  double flag = 1, cross_core = 1, sync_all = 1;
  double launch = 0, launch_each = 0, finish = 0, mixed = 0;
  int64_t data_cache_bytes = 32768, data_cache_line = 64;
};

}  // namespace npu

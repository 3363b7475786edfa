// The cube: products of fractals, and L0C's way out.
#include <algorithm>
#include <cstring>

#include "npu/machine.h"

namespace npu {

namespace {

#if defined(__x86_64__) && !defined(__clang__)
#define NPU_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define NPU_CLONES
#endif

typedef float Float16 __attribute__((vector_size(64), aligned(4)));
typedef int32_t Int16 __attribute__((vector_size(64), aligned(4)));

// c[m][16] += a[m][k] * b[k][16], product and sum rounded one after the other, k upwards. (Products of f16 and bf16 are exact
// in f32; this file is compiled without contraction.)
NPU_CLONES void multiply_floats(const float* a, const float* b, float* c, int m, int k) {
  int row = 0;
  for (; row + 4 <= m; row += 4) {
    Float16 sum[4];
    std::memcpy(sum, c + row * 16, sizeof(sum));
    const float* left = a + int64_t(row) * k;
    for (int i = 0; i < k; ++i) {
      Float16 right;
      std::memcpy(&right, b + i * 16, sizeof(right));
      for (int r = 0; r < 4; ++r) sum[r] += left[r * k + i] * right;
    }
    std::memcpy(c + row * 16, sum, sizeof(sum));
  }
  for (; row < m; ++row) {
    Float16 sum, right;
    std::memcpy(&sum, c + row * 16, sizeof(sum));
    for (int i = 0; i < k; ++i) {
      std::memcpy(&right, b + i * 16, sizeof(right));
      sum += a[int64_t(row) * k + i] * right;
    }
    std::memcpy(c + row * 16, &sum, sizeof(sum));
  }
}

NPU_CLONES void multiply_integers(const int32_t* a, const int32_t* b, int32_t* c, int m, int k) {
  for (int row = 0; row < m; ++row) {
    Int16 sum, right;
    std::memcpy(&sum, c + row * 16, sizeof(sum));
    for (int i = 0; i < k; ++i) {
      std::memcpy(&right, b + i * 16, sizeof(right));
      sum += a[int64_t(row) * k + i] * right;
    }
    std::memcpy(c + row * 16, &sum, sizeof(sum));
  }
}

float element(const uint8_t* at, int dtype, bool hf32) {
  const float value = float(load_float(at, dtype));
  return hf32 ? float(round_to_digits(value, 11, -125)) : value;
}

}  // namespace

void Machine::plan_cube(Core& core, Entry& entry, Effect& effect) {
  const Slot* v = entry.v;
  const Place dst = place(core, entry, 0), src = place(core, entry, 3);
  if (entry.word->op == Op::mmad) {
    const Place b = place(core, entry, 6);
    const int64_t m = v[12].i, n = v[13].i, k = v[14].i, size = kSizes[src.dtype], c0 = 32 / size;
    limit("m", m, 1, 4095);
    limit("n", n, 1, 4095);
    limit("k", k, 1, 4095);
    if (src.space != L0A || b.space != L0B || dst.space != L0C) throw Fault("operand", "mmad takes a in L0A, b in L0B and dst in L0C");
    if (src.dtype != b.dtype && !(size == 1)) throw Fault("operand", "a and b have the same dtype");
    const bool integers = !is_float(src.dtype);
    if (dst.dtype != (integers ? I32 : F32) && !(dst.dtype == F16 && src.dtype == F16 && !chip_.split))
      throw Fault("operand", std::string("mmad of ") + kDTypeNames[src.dtype] + " does not give " + kDTypeNames[dst.dtype]);
    if (v[16].i) throw Fault("operand", "unit_flag is not modelled: set M_FIX and FIX_M flags");
    check_aligned(src, 512, "a");
    check_aligned(b, 512, "b");
    check_aligned(dst, kSizes[dst.dtype] * 16, "dst");
    const int64_t mf = (m + 15) / 16, nf = (n + 15) / 16, kf = (k + c0 - 1) / c0;
    touch(core, src, src.byte, mf * kf * 512, false);
    touch(core, b, b.byte, nf * kf * 512, false);
    if (has_place(entry, 9)) {
      const Place bias = place(core, entry, 9);
      if (bias.space != BT || bias.dtype != dst.dtype) throw Fault("operand", "the bias lies in BT, in dst's dtype");
      check_aligned(bias, 64, "bias");
      touch(core, bias, bias.byte, n * kSizes[bias.dtype], false);
    }
    touch(core, dst, dst.byte, mf * nf * 256 * kSizes[dst.dtype], true);
    const double cycles = double(mf * nf * kf) * (src.dtype == F32 ? chip_.cube_f32_factor / 2 : 1);
    effect.busy = cycles + chip_.cube_issue;
    effect.latency = chip_.cube_latency;
    effect.fractal_order = mf * nf >= 10;
    effect.moved = m * n * k;
    macs += double(m) * double(n) * double(k);
    return;
  }
  if (entry.word->op == Op::data_copy_l0c) {
    const int64_t count = v[6].i, fractal = 256 * kSizes[src.dtype], length = v[7].i * 256 * kSizes[dst.dtype];
    limit("block_count", count, 1, 4095);
    limit("block_len", v[7].i, 1, 65535);
    if (src.space != L0C || dst.space != UB) throw Fault("operand", "data_copy_l0c goes from L0C to UB");
    check_aligned(src, fractal, "src");
    check_aligned(dst, 32, "dst");
    for (int64_t i = 0; i < count; ++i) touch(core, src, src.byte + i * (v[7].i + v[8].i) * fractal, v[7].i * fractal, false);
    for (int64_t i = 0; i < count; ++i) touch(core, dst, dst.byte + i * (length + v[9].i * 32), length, true);
    effect.moved = count * v[7].i * fractal;
    effect.latency = chip_.l0c_to_ub.startup;
    effect.busy = chip_.l0c_to_ub.issue + double(effect.moved) / chip_.l0c_to_ub.rate;
    return;
  }
  // fixpipe
  const int64_t n = v[6].i, m = v[7].i, size = kSizes[src.dtype], to = kSizes[dst.dtype], matrices = v[14].i;
  limit("n_size", n, 1, 4095);
  limit("m_size", m, 1, 8192);
  limit("src_stride", v[8].i, 1, 65535);
  limit("dst_stride", v[9].i, 1, int64_t(1) << 32);
  limit("nd_num", matrices, 1, 65535);
  if (v[17].i) throw Fault("operand", "unit_flag is not modelled: set M_FIX and FIX_M flags");
  static constexpr int kResults[] = {-1, F16, BF16, F16, I8, U8, I8, U8}, kSources[] = {-1, F32, F32, I32, I32, I32, F32, F32};
  const int64_t mode = v[10].i;
  if (dst.dtype != (mode ? kResults[mode] : src.dtype) || (mode && src.dtype != kSources[mode]))
    throw Fault("operand", std::string("this quant_mode does not make ") + kDTypeNames[dst.dtype] + " of " + kDTypeNames[src.dtype]);
  if (v[8].i < m) throw Fault("operand", "src_stride is less than m_size");
  check_aligned(src, size * 16, "src");
  check_aligned(dst, 32, "dst");
  for (int64_t i = 0; i < matrices; ++i) {
    for (int64_t block = 0; block * 16 < n; ++block)
      touch(core, src, src.byte + i * v[15].i * 256 * size + block * v[8].i * 16 * size, m * 16 * size, false);
    if (v[13].i) {
      for (int64_t row = 0; row < m; ++row)
        touch(core, dst, dst.byte + (i * v[16].i + row * v[9].i) * to, n * to, true);
    } else {
      const int64_t c0 = std::max<int64_t>(16, 32 / to);
      for (int64_t block = 0; block * c0 < n; ++block) touch(core, dst, dst.byte + block * v[9].i * 32, m * c0 * to, true);
    }
  }
  effect.moved = matrices * m * n * to;
  const Path& path = dst.space >= GM ? chip_.l0c_to_gm : chip_.l0c_to_l1;
  if (dst.space >= GM) {
    effect.path = &path;
    effect.bytes = std::max(traffic_bytes(), double(matrices * m * n * size) / 2);
  } else {
    effect.latency = path.startup;
    effect.busy = path.issue + double(effect.moved) / path.rate;
  }
}

void Machine::do_cube(Core& core, int pipe, Entry& entry) {
  const Slot* v = entry.v;
  const Place dst = place(core, entry, 0), src = place(core, entry, 3);
  if (entry.word->op == Op::mmad) {
    const Place right = place(core, entry, 6);
    const int m = int(v[12].i), n = int(v[13].i), k = int(v[14].i), size = kSizes[src.dtype], c0 = 32 / size;
    const int mf = (m + 15) / 16, nf = (n + 15) / 16, kf = (k + c0 - 1) / c0, width = kSizes[dst.dtype];
    const bool integers = !is_float(src.dtype), init = v[15].i != 0, bias = has_place(entry, 9), hf32 = v[17].i != 0;
    for (int f = 0; f < mf * kf; ++f) {
      const int rows = std::min(16, m - f / kf * 16), columns = std::min(c0, k - f % kf * c0);
      if (rows == 16 && columns == c0) {
        need_ready(core, pipe, entry, src, src.byte + f * 512, 512);
      } else {
        for (int r = 0; r < rows; ++r) need_ready(core, pipe, entry, src, src.byte + f * 512 + r * 32, columns * size);
      }
    }
    for (int f = 0; f < kf * nf; ++f) {
      const int rows = std::min(16, n - f % nf * 16), columns = std::min(c0, k - f / nf * c0);
      if (rows == 16 && columns == c0) {
        need_ready(core, pipe, entry, right, right.byte + f * 512, 512);
      } else {
        for (int r = 0; r < rows; ++r) need_ready(core, pipe, entry, right, right.byte + f * 512 + r * 32, columns * size);
      }
    }
    // Rows and columns beyond m and n are computed from whatever lies there, but hold no value.
    static thread_local std::vector<float> af, bf, cf;
    static thread_local std::vector<int32_t> ai, bi, ci;
    const int rows = mf * 16;
    if (integers) {
      ai.assign(size_t(rows) * k, 0), bi.assign(size_t(k) * 16, 0), ci.resize(size_t(rows) * 16);
    } else {
      af.assign(size_t(rows) * k, 0), bf.assign(size_t(k) * 16, 0), cf.resize(size_t(rows) * 16);
    }
    for (int r = 0; r < m; ++r)
      for (int i = 0; i < k; ++i) {
        const uint8_t* at = src.data + src.byte + (r / 16 * kf + i / c0) * 512 + r % 16 * 32 + i % c0 * size;
        if (integers) ai[size_t(r) * k + i] = int32_t(load_integer(at, src.dtype));
        else af[size_t(r) * k + i] = src.dtype == F16 ? f16_value(read<uint16_t>(at)) : element(at, src.dtype, hf32);
      }
    for (int nb = 0; nb < nf; ++nb) {
      for (int i = 0; i < k; ++i)
        for (int c = 0; c < 16; ++c) {
          const uint8_t* at = right.data + right.byte + (i / c0 * nf + nb) * 512 + c * 32 + i % c0 * size;
          if (integers) bi[size_t(i) * 16 + c] = int32_t(load_integer(at, right.dtype));
          else bf[size_t(i) * 16 + c] = right.dtype == F16 ? f16_value(read<uint16_t>(at)) : element(at, right.dtype, hf32);
        }
      const int64_t base = dst.byte + int64_t(nb) * rows * 16 * width;
      const int columns = std::min(16, n - nb * 16);
      for (int r = 0; r < rows; ++r)
        for (int c = 0; c < 16; ++c) {
          uint8_t* at = dst.data + base + (r * 16 + c) * width;
          double start = 0;
          if (init) {
            if (bias && c < columns) {
              const Place table = place(core, entry, 9);
              const uint8_t* from = table.data + table.byte + (nb * 16 + c) * width;
              start = integers ? double(load_integer(from, I32)) : load_float(from, table.dtype);
            }
          } else {
            start = integers ? double(read<int32_t>(at)) : load_float(at, dst.dtype);
          }
          if (integers) ci[r * 16 + c] = int32_t(start);
          else cf[r * 16 + c] = float(start);
        }
      if (!init)
        for (int r = 0; r < m; ++r) need_ready(core, pipe, entry, dst, base + r * 16 * width, columns * width);
      if (integers) multiply_integers(ai.data(), bi.data(), ci.data(), rows, k);
      else multiply_floats(af.data(), bf.data(), cf.data(), rows, k);
      if (dst.dtype == F16) {
        for (int i = 0; i < rows * 16; ++i) write(dst.data + base + i * 2, f16_bits(cf[i]));
      } else {
        std::memcpy(dst.data + base, integers ? static_cast<void*>(ci.data()) : cf.data(), size_t(rows) * 64);
      }
      std::memset(dst.ready + base, 0, size_t(rows) * 16 * width);
      for (int r = 0; r < m; ++r) std::memset(dst.ready + base + r * 16 * width, 1, size_t(columns) * width);
    }
    if (init && bias) {
      const Place table = place(core, entry, 9);
      need_ready(core, pipe, entry, table, table.byte, n * kSizes[table.dtype]);
    }
    return;
  }
  const int size = kSizes[src.dtype], to = kSizes[dst.dtype];
  const bool whole = !is_float(src.dtype);
  if (entry.word->op == Op::data_copy_l0c) {
    const int64_t fractal = 256 * size, length = v[7].i * 256 * to;
    for (int64_t i = 0; i < v[6].i; ++i) {
      const int64_t from = src.byte + i * (v[7].i + v[8].i) * fractal, at = dst.byte + i * (length + v[9].i * 32);
      for (int64_t e = 0; e < v[7].i * 256; ++e) {
        const uint8_t* x = src.data + from + e * size;
        uint8_t* y = dst.data + at + e * to;
        const double value = whole ? double(load_integer(x, src.dtype)) : load_float(x, src.dtype);
        const double result = v[10].i && value < 0 ? 0 : value;
        if (is_float(dst.dtype)) store_float(y, dst.dtype, result);
        else store_integer(y, dst.dtype, int64_t(result));
        std::memset(dst.ready + at + e * to, src.ready[from + e * size], size_t(to));
      }
    }
    return;
  }
  const int64_t n = v[6].i, m = v[7].i, mode = v[10].i, c0 = std::max<int64_t>(16, 32 / to);
  const double scale = v[11].f;
  const bool published = dst.space >= GM && !program_.tensors[dst.space - GM].workspace;
  static thread_local std::vector<uint8_t> row_data, row_ready;
  row_data.resize(size_t(n) * to);
  row_ready.resize(size_t(n) * to);
  for (int64_t i = 0; i < v[14].i; ++i)
    for (int64_t r = 0; r < m; ++r) {
      for (int64_t c = 0; c < n; ++c) {
        const int64_t at = src.byte + i * v[15].i * 256 * size + (c / 16 * v[8].i + r) * 16 * size + c % 16 * size;
        const uint8_t* x = src.data + at;
        double value = whole ? double(load_integer(x, src.dtype)) : load_float(x, src.dtype);
        if (mode >= 3) value *= scale;
        if (v[12].i && value < 0) value = 0;
        uint8_t* y = row_data.data() + c * to;
        if (mode >= 4) {
          const bool is_signed = dst.dtype == I8;
          const double low = is_signed ? -128 : 0, high = is_signed ? 127 : 255;
          store_integer(y, dst.dtype, std::isnan(value) ? 0 : int64_t(std::clamp(std::nearbyint(value), low, high)));
        } else if (is_float(dst.dtype)) {
          store_float(y, dst.dtype, value);
        } else {
          store_integer(y, dst.dtype, int64_t(value));
        }
        std::memset(row_ready.data() + c * to, src.ready[at], size_t(to));
        if (published && !src.ready[at]) need_ready(core, pipe, entry, src, at, size);
      }
      if (v[13].i) {
        put(dst, dst.byte + (i * v[16].i + r * v[9].i) * to, row_data.data(), row_ready.data(), n * to, entry.atomic);
      } else {
        for (int64_t block = 0; block * c0 < n; ++block) {
          const int64_t here = std::min(c0, n - block * c0) * to, at = dst.byte + block * v[9].i * 32 + r * c0 * to;
          if (dst.ready && here < c0 * to) std::memset(dst.ready + at, 0, size_t(c0 * to));
          put(dst, at, row_data.data() + block * c0 * to, row_ready.data() + block * c0 * to, here, entry.atomic);
        }
      }
    }
}

}  // namespace npu

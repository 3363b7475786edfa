// Instructions that move data: what they touch, how long they take alone, and what they do.
#include <algorithm>
#include <cstring>

#include "npu/machine.h"

namespace npu {

namespace {

int64_t up(int64_t value, int64_t unit) { return (value + unit - 1) / unit * unit; }

double combine(double a, double b, int mode) {
  if (mode == 1) return a + b;
  if (std::isnan(a) || std::isnan(b)) return std::numeric_limits<double>::quiet_NaN();
  return mode == 2 ? std::max(a, b) : std::min(a, b);
}

}  // namespace

// Writes `length` bytes at byte `at` of dst; to global memory as the atomic mode says.
void Machine::put(const Place& dst, int64_t at, const uint8_t* data, const uint8_t* ready, int64_t length, int atomic) {
  uint8_t* to = dst.data + at;
  if (atomic && dst.space >= GM) {
    const int size = kSizes[dst.dtype];
    for (int64_t i = 0; i + size <= length; i += size) {
      if (is_float(dst.dtype)) {
        store_float(to + i, dst.dtype, round_to(combine(load_float(to + i, dst.dtype), load_float(data + i, dst.dtype), atomic), dst.dtype));
      } else {
        const int64_t a = load_integer(to + i, dst.dtype), b = load_integer(data + i, dst.dtype);
        store_integer(to + i, dst.dtype, atomic == 1 ? a + b : atomic == 2 ? std::max(a, b) : std::min(a, b));
      }
    }
  } else {
    std::memmove(to, data, size_t(length));
  }
  if (dst.ready) {
    if (ready)
      std::memmove(dst.ready + at, ready, size_t(length));
    else
      std::memset(dst.ready + at, 1, size_t(length));
  }
}

void Machine::plan_move(Core& core, Entry& entry, Effect& effect) {
  const Slot* v = entry.v;
  const Place dst = place(core, entry, 0);
  const Op op = entry.word->op;
  const bool fill = op == Op::init_const_value;
  const Place src = fill ? Place{} : place(core, entry, 3);
  const Path& path = path_of(fill ? int(L1) : src.space, dst.space);
  int64_t moved = 0;
  double bytes = -1;
  switch (op) {
    case Op::data_copy: {
      const int64_t count = v[6].i, length = v[7].i * 32, from = length + v[8].i * 32, to = length + v[9].i * 32;
      limit("block_count", count, 1, 4095);
      limit("block_len", v[7].i, 1, 65535);
      limit("src_stride", v[8].i, 0, 65535);
      limit("dst_stride", v[9].i, 0, 65535);
      check_aligned(src, src.space >= GM ? 1 : 32, "src");
      check_aligned(dst, dst.space >= GM ? 1 : dst.space == BT || dst.space == FB ? 64 : 32, "dst");
      for (int64_t i = 0; i < count; ++i) touch(core, src, src.byte + i * from, length, false);
      for (int64_t i = 0; i < count; ++i) touch(core, dst, dst.byte + i * to, length, true);
      moved = count * length;
      break;
    }
    case Op::data_copy_pad: {
      const int64_t count = v[6].i, length = v[7].i, size = kSizes[dst.dtype];
      limit("block_count", count, 1, 4095);
      limit("block_len", length, 1, 2097151);
      limit("src_stride", v[8].i, 0, int64_t(1) << 32);
      limit("dst_stride", v[9].i, 0, int64_t(1) << 32);
      if (dst.space == UB) {
        limit("left_padding (bytes)", v[10].i * size, 0, 32);
        limit("right_padding (bytes)", v[11].i * size, 0, 32);
        check_aligned(dst, 32, "dst");
        const int64_t whole = up(v[10].i * size + length + v[11].i * size, 32);
        for (int64_t i = 0; i < count; ++i) touch(core, src, src.byte + i * (length + v[8].i), length, false);
        for (int64_t i = 0; i < count; ++i) touch(core, dst, dst.byte + i * (whole + v[9].i * 32), whole, true);
      } else {
        check_aligned(src, 32, "src");
        for (int64_t i = 0; i < count; ++i) touch(core, src, src.byte + i * (up(length, 32) + v[8].i * 32), length, false);
        for (int64_t i = 0; i < count; ++i) touch(core, dst, dst.byte + i * (length + v[9].i), length, true);
      }
      moved = count * length;
      break;
    }
    case Op::data_copy_nd2nz: {
      const int64_t matrices = v[6].i, rows = v[7].i, columns = v[8].i, size = kSizes[dst.dtype], c0 = 32 / size;
      limit("nd_num", matrices, 1, 4095);
      limit("n_value", rows, 1, 16384);
      limit("d_value", columns, 1, 65535);
      limit("src_d_value", v[10].i, 1, 65535);
      limit("dst_nz_c0_stride", v[11].i, 1, 16384);
      limit("dst_nz_n_stride", v[12].i, 1, 16384);
      limit("src_nd_matrix_stride", v[9].i, 0, int64_t(1) << 40);
      limit("dst_nz_matrix_stride", v[13].i, 0, int64_t(1) << 40);
      check_aligned(src, 1, "src");
      check_aligned(dst, 32, "dst");
      for (int64_t i = 0; i < matrices; ++i) {
        for (int64_t row = 0; row < rows; ++row) {
          const int64_t at = src.byte + (i * v[9].i + row * v[10].i) * size;
          if (src.space >= GM && (program_.tensors[src.space - GM].address + at) % int64_t(chip_.granule_bytes))
            effect.unaligned += double(columns * size);
          touch(core, src, at, columns * size, false);
        }
        for (int64_t block = 0; block * c0 < columns; ++block) {
          const int64_t start = dst.byte + i * v[13].i * size + block * v[11].i * 32;
          if (v[12].i == 1) {
            touch(core, dst, start, rows * 32, true);
          } else {
            for (int64_t row = 0; row < rows; ++row) touch(core, dst, start + row * v[12].i * 32, 32, true);
          }
        }
      }
      moved = matrices * rows * columns * size;
      break;
    }
    case Op::load_data:
    case Op::load_data_transpose: {
      const int64_t count = v[7].i;
      const int size = kSizes[dst.dtype];
      limit("repeat_times", count, 1, 255);
      limit("start_index", v[6].i, 0, 65535);
      limit("src_stride", v[8].i, 0, 65535);
      limit("dst_gap", v[9].i, 0, 65535);
      check_aligned(src, src.space >= GM ? 1 : 32, "src");
      check_aligned(dst, dst.space == L1 ? 32 : 512, "dst");
      const bool squares = op == Op::load_data_transpose;
      if (!squares && v[10].i && size != 2) throw Fault("operand", "load_data transposes 16-bit elements only; use load_data_transpose");
      const int64_t fractals = squares && size != 2 ? 2 : 1, block = 512 * fractals;
      for (int64_t i = 0; i < count; ++i) touch(core, src, src.byte + (v[6].i + i * v[8].i) * block, block, false);
      for (int64_t i = 0; i < count; ++i)
        for (int64_t f = 0; f < fractals; ++f) {
          const int64_t at = squares ? i * (v[9].i + 1) + f * (v[10].i + 1) : i * (v[9].i + 1);
          touch(core, dst, dst.byte + at * 512, 512, true);
        }
      moved = count * block;
      break;
    }
    case Op::load_data_3d: {
      const int64_t h = v[6].i, w = v[7].i, channels = v[8].i, size = kSizes[dst.dtype], c0 = 32 / size;
      const int64_t k = v[9].i, m = v[10].i;
      limit("l1_h", h, 1, 32767);
      limit("l1_w", w, 1, 32767);
      limit("channel_size", channels, 1, 65535);
      limit("k_extension", k, 1, 65535);
      limit("m_extension", m, 1, 65535);
      limit("stride_w", v[13].i, 1, 63);
      limit("stride_h", v[14].i, 1, 63);
      limit("filter_w", v[15].i, 1, 511);
      limit("filter_h", v[16].i, 1, 511);
      limit("dilation_filter_w", v[17].i, 1, 255);
      limit("dilation_filter_h", v[18].i, 1, 255);
      for (int i = 19; i < 23; ++i) limit("pad", v[i].i, 0, 255);
      if (v[11].i % c0 || k % c0) throw Fault("operand", "k_start_pt and k_extension are multiples of 32 bytes of elements");
      if (v[12].i % 16) throw Fault("operand", "m_start_pt is a multiple of 16");
      if (v[24].i && size != 2) throw Fault("operand", "en_transpose takes 16-bit elements");
      check_aligned(src, 32, "src");
      check_aligned(dst, 512, "dst");
      const int64_t c1 = (channels + c0 - 1) / c0, taps = v[15].i * v[16].i;
      const int64_t first = v[11].i / c0 / taps, last = std::min(c1 - 1, (v[11].i + k - 1) / c0 / taps);
      if ((v[11].i + k - 1) / c0 / taps >= c1) throw Fault("out_of_range", "k_start_pt + k_extension is more than the image has");
      // The rows of the image that the filter reads, of each channel block.
      const int64_t span_w = v[17].i * (v[15].i - 1) + 1, span_h = v[18].i * (v[16].i - 1) + 1;
      const int64_t wo = (w + v[19].i + v[20].i - span_w) / v[13].i + 1, ho = (h + v[21].i + v[22].i - span_h) / v[14].i + 1;
      if (wo < 1 || ho < 1) throw Fault("operand", "the filter is larger than the padded image");
      const int64_t rows_end = std::min(v[12].i + m, ho * wo);
      if (v[12].i >= ho * wo) throw Fault("out_of_range", "m_start_pt lies beyond the output places");
      if (h == 1 && span_h == 1 && span_w == 1 && v[13].i == 1) {
        for (int64_t c = first; c <= last; ++c) touch(core, src, src.byte + (c * w + v[12].i) * 32, (rows_end - v[12].i) * 32, false);
      } else {
        const int64_t top = std::max<int64_t>(0, v[12].i / wo * v[14].i - v[21].i);
        const int64_t bottom = std::min(h, (rows_end - 1) / wo * v[14].i - v[21].i + span_h);
        for (int64_t c = first; c <= last; ++c)
          if (bottom > top) touch(core, src, src.byte + (c * h + top) * w * 32, (bottom - top) * w * 32, false);
      }
      moved = up(m, dst.space == L0B ? c0 : 16) * up(k, 16) * size;
      touch(core, dst, dst.byte, moved, true);
      break;
    }
    case Op::init_const_value: {
      const int64_t block = dst.space == L1 ? 32 : 512;
      limit("repeat_times", v[3].i, 1, 32767);
      limit("block_num", v[4].i, 1, 32767);
      limit("dst_gap", v[5].i, 0, 32767);
      check_aligned(dst, block, "dst");
      for (int64_t i = 0; i < v[3].i; ++i) touch(core, dst, dst.byte + i * (v[4].i + v[5].i) * block, v[4].i * block, true);
      moved = v[3].i * v[4].i * block;
      break;
    }
    default: break;
  }
  const bool global = !fill && (src.space >= GM || dst.space >= GM);
  if (global) {
    effect.path = &path;
    bytes = traffic_bytes();
  } else {
    effect.latency = path.startup;
    effect.busy = path.issue + double(moved) / path.rate;
  }
  effect.bytes = bytes;
  effect.moved = moved;
}

void Machine::do_move(Core& core, int pipe, Entry& entry) {
  const Slot* v = entry.v;
  const Place dst = place(core, entry, 0);
  const Op op = entry.word->op;
  if (op == Op::init_const_value) {
    const int64_t block = dst.space == L1 ? 32 : 512, size = kSizes[dst.dtype];
    uint8_t element[8];
    if (is_float(dst.dtype)) store_float(element, dst.dtype, v[6].f);
    else store_integer(element, dst.dtype, v[6].i);
    for (int64_t i = 0; i < v[3].i; ++i) {
      const int64_t at = dst.byte + i * (v[4].i + v[5].i) * block;
      for (int64_t j = 0; j < v[4].i * block; j += size) std::memcpy(dst.data + at + j, element, size_t(size));
      std::memset(dst.ready + at, 1, size_t(v[4].i * block));
    }
    return;
  }
  const Place src = place(core, entry, 3);
  const int size = kSizes[dst.dtype];
  // What reaches an argument must hold values; between buffers and workspaces it may be carried along.
  const bool published = dst.space >= GM && program_.tensors[dst.space - GM].workspace == false;
  const auto move = [&](int64_t to, int64_t from, int64_t length) {
    if (published || entry.atomic) need_ready(core, pipe, entry, src, from, length);
    put(dst, to, src.data + from, src.ready ? src.ready + from : nullptr, length, entry.atomic);
  };
  switch (op) {
    case Op::data_copy: {
      const int64_t length = v[7].i * 32;
      for (int64_t i = 0; i < v[6].i; ++i) move(dst.byte + i * (length + v[9].i * 32), src.byte + i * (length + v[8].i * 32), length);
      break;
    }
    case Op::data_copy_pad: {
      const int64_t length = v[7].i;
      if (dst.space != UB) {
        for (int64_t i = 0; i < v[6].i; ++i) move(dst.byte + i * (length + v[9].i), src.byte + i * (up(length, 32) + v[8].i * 32), length);
        break;
      }
      const int64_t left = v[10].i * size, right = v[11].i * size, whole = up(left + length + right, 32);
      uint8_t element[8];
      if (is_float(dst.dtype)) store_float(element, dst.dtype, v[12].f);
      else store_integer(element, dst.dtype, v[12].i);
      for (int64_t i = 0; i < v[6].i; ++i) {
        const int64_t to = dst.byte + i * (whole + v[9].i * 32);
        std::memset(dst.ready + to, 0, size_t(whole));
        move(to + left, src.byte + i * (length + v[8].i), length);
        for (int64_t j = 0; j < left; j += size) put(dst, to + j, element, nullptr, size, 0);
        for (int64_t j = 0; j < right; j += size) put(dst, to + left + length + j, element, nullptr, size, 0);
      }
      break;
    }
    case Op::data_copy_nd2nz: {
      const int64_t rows = v[7].i, columns = v[8].i, c0 = 32 / size;
      const uint8_t zeros[32] = {};
      for (int64_t i = 0; i < v[6].i; ++i)
        for (int64_t block = 0; block * c0 < columns; ++block)
          for (int64_t row = 0; row < rows; ++row) {
            const int64_t to = dst.byte + i * v[13].i * size + (block * v[11].i + row * v[12].i) * 32;
            const int64_t here = std::min(c0, columns - block * c0) * size;
            move(to, src.byte + (i * v[9].i + row * v[10].i + block * c0) * size, here);
            if (here < 32) put(dst, to + here, zeros, nullptr, 32 - here, 0);
          }
      break;
    }
    case Op::load_data: {
      for (int64_t i = 0; i < v[7].i; ++i) {
        const int64_t from = src.byte + (v[6].i + i * v[8].i) * 512, to = dst.byte + i * (v[9].i + 1) * 512;
        if (!v[10].i) {
          move(to, from, 512);
        } else {
          for (int r = 0; r < 16; ++r)
            for (int c = 0; c < 16; ++c) move(to + (c * 16 + r) * 2, from + (r * 16 + c) * 2, 2);
        }
      }
      break;
    }
    case Op::load_data_transpose: {
      const int64_t fractals = size == 2 ? 1 : 2, block = 512 * fractals;
      for (int64_t i = 0; i < v[7].i; ++i) {
        const int64_t from = src.byte + (v[6].i + i * v[8].i) * block;
        const auto to = [&](int64_t f) { return dst.byte + (i * (v[9].i + 1) + f * (v[10].i + 1)) * 512; };
        if (size == 4) {  // two fractals of 16 x 8 make 16 x 16
          for (int r = 0; r < 16; ++r)
            for (int c = 0; c < 16; ++c) move(to(r / 8) + (c * 8 + r % 8) * 4, from + (c / 8) * 512 + (r * 8 + c % 8) * 4, 4);
        } else if (size == 2) {
          for (int r = 0; r < 16; ++r)
            for (int c = 0; c < 16; ++c) move(to(0) + (c * 16 + r) * 2, from + (r * 16 + c) * 2, 2);
        } else {  // two fractals of 16 x 32 make 32 x 32
          for (int r = 0; r < 32; ++r)
            for (int c = 0; c < 32; ++c) move(to(c / 16) + (c % 16) * 32 + r, from + r * 32 + c, 1);
        }
      }
      break;
    }
    case Op::load_data_3d: {
      const int64_t h = v[6].i, w = v[7].i, c0 = 32 / size, k = v[9].i, m = v[10].i;
      const int64_t kw = v[15].i, kh = v[16].i, taps = kw * kh;
      const int64_t wo = (w + v[19].i + v[20].i - v[17].i * (kw - 1) - 1) / v[13].i + 1;
      const int64_t ho = (h + v[21].i + v[22].i - v[18].i * (kh - 1) - 1) / v[14].i + 1;
      uint8_t element[32], ones[32];
      for (int i = 0; i < 32; i += size) {
        if (is_float(dst.dtype)) store_float(element + i, dst.dtype, v[23].f);
        else store_integer(element + i, dst.dtype, v[23].i);
      }
      std::memset(ones, 1, 32);
      // As ZZ, a row's 32 bytes stay together. As ZN (L0B), or transposed, they are spread.
      const bool spread = (dst.space == L0B) != (v[24].i != 0);
      const int64_t rows = spread ? up(m, dst.space == L0B ? c0 : 16) : up(m, 16);
      std::memset(dst.ready + dst.byte, 0, size_t(up(m, dst.space == L0B ? c0 : 16) * up(k, 16) * size));
      (void)rows;
      for (int64_t row = 0; row < m; ++row) {
        const int64_t place_row = v[12].i + row;
        if (place_row >= ho * wo) break;
        const int64_t y0 = place_row / wo * v[14].i - v[21].i, x0 = place_row % wo * v[13].i - v[19].i;
        for (int64_t kb = 0; kb < k / c0; ++kb) {
          const int64_t kk = v[11].i / c0 + kb, c1 = kk / taps, y = y0 + kk % taps / kw * v[18].i, x = x0 + kk % kw * v[17].i;
          const bool inside = y >= 0 && y < h && x >= 0 && x < w;
          const int64_t from = src.byte + ((c1 * h + y) * w + x) * 32;
          const uint8_t* data = inside ? src.data + from : element;
          const uint8_t* ready = inside && src.ready ? src.ready + from : ones;
          if (!spread) {
            // (row, kb): fractal (row / 16, kb). In L0B with en_transpose the matrix is (n, k): the same picture.
            const int64_t fractal = dst.space == L0B ? kb * ((m + 15) / 16) + row / 16 : row / 16 * (k / c0) + kb;
            put(dst, dst.byte + fractal * 512 + row % 16 * 32, data, ready, 32, 0);
          } else if (dst.space == L0B) {
            // k = row, n = kb * c0 + e: fractal (row / c0, n / 16), inside n rows of c0.
            for (int64_t e = 0; e < c0; ++e) {
              const int64_t n = kb * c0 + e, fractal = row / c0 * ((k + 15) / 16) + n / 16;
              put(dst, dst.byte + fractal * 512 + (n % 16 * c0 + row % c0) * size, data + e * size, ready + e * size, size, 0);
            }
          } else {
            // The transposed matrix: row' = kb * c0 + e, column' = row; ZZ with 16-bit elements.
            for (int64_t e = 0; e < c0; ++e) {
              const int64_t r = kb * c0 + e, fractal = r / 16 * ((m + 15) / 16) + row / 16;
              put(dst, dst.byte + fractal * 512 + (r % 16 * 16 + row % 16) * size, data + e * size, ready + e * size, size, 0);
            }
          }
        }
      }
      break;
    }
    default: break;
  }
}

}  // namespace npu

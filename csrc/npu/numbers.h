// Element types: their sizes, and the way from and to double and int64.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

namespace npu {

// The order of opdsl.ir.types.DTYPES (module.cpp exports the names).
enum DType : int32_t { F64, F32, F16, BF16, F8E4M3, F8E5M2, I64, I32, I16, I8, U64, U32, U16, U8, BOOL, DTYPES };

constexpr const char* kDTypeNames[DTYPES] = {"f64", "f32", "f16", "bf16", "f8e4m3", "f8e5m2", "i64", "i32",
                                             "i16", "i8",  "u64", "u32",  "u16",    "u8",     "bool"};
constexpr int kSizes[DTYPES] = {8, 4, 2, 2, 1, 1, 8, 4, 2, 1, 8, 4, 2, 1, 1};

inline bool is_float(int dtype) { return dtype <= F8E5M2; }

inline uint32_t bits_of(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return bits;
}

inline float float_of(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

inline uint64_t bits_of(double value) {
  uint64_t bits;
  std::memcpy(&bits, &value, 8);
  return bits;
}

inline double double_of(uint64_t bits) {
  double value;
  std::memcpy(&value, &bits, 8);
  return value;
}

enum class Round { none, rint, floor, ceil, away, trunc, odd };

// x at a whole number of units, rounded the given way. x is scaled so that the unit is 1.
inline double round_whole(double x, Round mode) {
  switch (mode) {
    case Round::floor: return std::floor(x);
    case Round::ceil: return std::ceil(x);
    case Round::away: return std::round(x);
    case Round::trunc: return std::trunc(x);
    case Round::odd: {
      const double down = std::trunc(x);
      return down == x || std::fmod(down, 2) != 0 ? down : down + std::copysign(1.0, x);
    }
    default: return std::nearbyint(x);
  }
}

// The nearest number (by `mode`) with `digits` significant bits and exponents from `lowest` up (IEEE's gradual underflow).
inline double round_to_digits(double x, int digits, int lowest, Round mode = Round::rint) {
  if (x == 0 || !std::isfinite(x)) return x;
  int exponent;
  std::frexp(x, &exponent);
  if (exponent < lowest) exponent = lowest;
  const int unit = exponent - digits;
  return std::ldexp(round_whole(std::ldexp(x, -unit), mode), unit);
}

inline uint16_t f16_bits(float value) {  // to nearest even
  const uint32_t bits = bits_of(value), sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7FFFFFFFu;
  if (magnitude >= 0x7F800000u) return sign | (magnitude > 0x7F800000u ? 0x7E00u : 0x7C00u);
  if (magnitude >= 0x477FF000u) return sign | 0x7C00u;
  if (magnitude < 0x38800000u) {  // subnormal: let the adder of f32 round
    const float shifted = float_of(magnitude) + 0.5f;
    return sign | (bits_of(shifted) - bits_of(0.5f));
  }
  return sign | ((magnitude - 0x38000000u + 0xFFFu + ((magnitude >> 13) & 1u)) >> 13);
}

inline float f16_value(uint16_t bits) {
  const uint32_t sign = (bits & 0x8000u) << 16, magnitude = bits & 0x7FFFu;
  if (magnitude >= 0x7C00u) return float_of(sign | 0x7F800000u | ((magnitude & 0x3FFu) << 13));
  if (magnitude < 0x400u) {
    const float value = float_of(magnitude + bits_of(0.5f)) - 0.5f;
    return float_of(bits_of(value) | sign);
  }
  return float_of(sign | ((magnitude << 13) + 0x38000000u));
}

inline uint16_t bf16_bits(float value) {
  const uint32_t bits = bits_of(value);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return (bits >> 16) | 0x40u;
  return (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
}

inline float bf16_value(uint16_t bits) { return float_of(uint32_t(bits) << 16); }

// f8: s eeee mmm (bias 7, finite only) and s eeeee mm (bias 15).
inline double f8_value(uint8_t bits, bool e4m3) {
  const int mantissa_bits = e4m3 ? 3 : 2, bias = e4m3 ? 7 : 15, mask = (1 << mantissa_bits) - 1;
  const int exponent = (bits & 0x7F) >> mantissa_bits, mantissa = bits & mask;
  const double sign = bits & 0x80 ? -1 : 1;
  if (e4m3 ? (bits & 0x7F) == 0x7F : exponent == 31 && mantissa) return std::numeric_limits<double>::quiet_NaN();
  if (!e4m3 && exponent == 31) return sign * std::numeric_limits<double>::infinity();
  if (exponent == 0) return sign * std::ldexp(mantissa, 1 - bias - mantissa_bits);
  return sign * std::ldexp(mantissa + mask + 1, exponent - bias - mantissa_bits);
}

inline double round_f8(double x, bool e4m3) {
  x = float(x);  // by way of f32
  const double rounded = e4m3 ? round_to_digits(x, 4, -5) : round_to_digits(x, 3, -13);
  if (e4m3) return std::fabs(rounded) > 448 ? std::numeric_limits<double>::quiet_NaN() : rounded;
  return std::fabs(rounded) > 57344 ? std::copysign(std::numeric_limits<double>::infinity(), x) : rounded;
}

inline uint8_t f8_bits(double x, bool e4m3) {
  const double value = round_f8(x, e4m3);
  const int mantissa_bits = e4m3 ? 3 : 2, bias = e4m3 ? 7 : 15;
  const uint8_t sign = std::signbit(value) ? 0x80 : 0;
  if (std::isnan(value)) return sign | 0x7F;
  if (std::isinf(value)) return sign | 0x7C;
  if (value == 0) return sign;
  int exponent;
  double fraction = std::frexp(std::fabs(value), &exponent);  // in [0.5, 1)
  int biased = exponent - 1 + bias;
  if (biased <= 0) return sign | uint8_t(std::ldexp(std::fabs(value), bias - 1 + mantissa_bits));
  return sign | uint8_t(biased << mantissa_bits) | uint8_t(std::ldexp(fraction * 2 - 1, mantissa_bits));
}

// f64 to f16 and bf16 rounds once; through f32 it would round twice, unless x is an f32 already.
inline double round_to(double x, int dtype) {
  switch (dtype) {
    case F32: return float(x);
    case F16: {
      const double r = round_to_digits(x, 11, -13);
      return std::fabs(r) > 65504 ? std::copysign(std::numeric_limits<double>::infinity(), r) : r;
    }
    case BF16: return bf16_value(bf16_bits(float(x)));
    case F8E4M3: return round_f8(x, true);
    case F8E5M2: return round_f8(x, false);
    default: return x;
  }
}

inline int64_t wrap_to(int64_t x, int dtype) {
  switch (dtype) {
    case I32: return int32_t(x);
    case I16: return int16_t(x);
    case I8: return int8_t(x);
    case U32: return uint32_t(x);
    case U16: return uint16_t(x);
    case U8: return uint8_t(x);
    case BOOL: return x != 0;
    default: return x;
  }
}

inline int64_t to_integer(double x) {  // truncated; out of range: the nearest; NaN: 0
  if (std::isnan(x)) return 0;
  if (x >= 9223372036854775808.0) return std::numeric_limits<int64_t>::max();
  if (x < -9223372036854775808.0) return std::numeric_limits<int64_t>::min();
  return int64_t(x);
}

inline int64_t to_unsigned(double x) {
  if (!(x > -1)) return to_integer(x);
  if (x >= 18446744073709551616.0) return -1;
  return int64_t(uint64_t(x));
}

template <class T>
T read(const uint8_t* at) {
  T value;
  std::memcpy(&value, at, sizeof(T));
  return value;
}

template <class T>
void write(uint8_t* at, T value) {
  std::memcpy(at, &value, sizeof(T));
}

inline double load_float(const uint8_t* at, int dtype) {
  switch (dtype) {
    case F64: return read<double>(at);
    case F32: return read<float>(at);
    case F16: return f16_value(read<uint16_t>(at));
    case BF16: return bf16_value(read<uint16_t>(at));
    default: return f8_value(*at, dtype == F8E4M3);
  }
}

inline void store_float(uint8_t* at, int dtype, double value) {
  switch (dtype) {
    case F64: write(at, value); break;
    case F32: write(at, float(value)); break;
    case F16: {
      const float narrow = float(value);  // most values are f32 already
      write(at, f16_bits(double(narrow) == value ? narrow : float(round_to(value, F16))));
      break;
    }
    case BF16: write(at, bf16_bits(float(value))); break;
    default: *at = f8_bits(value, dtype == F8E4M3);
  }
}

inline int64_t load_integer(const uint8_t* at, int dtype) {
  switch (dtype) {
    case I64:
    case U64: return read<int64_t>(at);
    case I32: return read<int32_t>(at);
    case I16: return read<int16_t>(at);
    case I8: return int8_t(*at);
    case U32: return read<uint32_t>(at);
    case U16: return read<uint16_t>(at);
    default: return *at;
  }
}

inline void store_integer(uint8_t* at, int dtype, int64_t value) {
  if (dtype == BOOL) value = value != 0;
  std::memcpy(at, &value, kSizes[dtype]);  // little endian
}

}  // namespace npu

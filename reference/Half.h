// Conversions between double or float and the formats of the tensors, bf16, fp16 and fp8 (e4m3),
// round to nearest even. Serves the reference, the tools and the tests, which all see tensors as
// raw 16-bit words. Written out here, so that the reference shares no arithmetic with the code it
// judges.
#pragma once
#include "runtime/program/Spec.h"
#include <cmath>
#include <cstdint>
#include <cstring>

namespace winnow::reference {

inline uint32_t bitsOf(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

inline float floatOf(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

inline uint16_t toBf16(float value) {
  uint32_t bits = bitsOf(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u)
    return static_cast<uint16_t>(bits >> 16 | 0x40); // a NaN stays a NaN
  return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

inline uint16_t toFp16(float value) {
  uint32_t bits = bitsOf(value);
  auto sign = static_cast<uint16_t>(bits >> 16 & 0x8000);
  uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u)
    return sign | 0x7e00;
  if (magnitude >= 0x477ff000u) // 65520 and more round to infinity
    return sign | 0x7c00;
  if (magnitude < 0x38800000u) { // subnormal: an integer multiple of 2^-24
    float scaled = floatOf(magnitude) * 16777216.0f;
    return sign | static_cast<uint16_t>(std::nearbyint(scaled));
  }
  uint32_t rounded = magnitude + 0xfffu + (magnitude >> 13 & 1);
  return sign | static_cast<uint16_t>((rounded - 0x38000000u) >> 13);
}

inline float fromBf16(uint16_t word) { return floatOf(static_cast<uint32_t>(word) << 16); }

inline float fromFp16(uint16_t word) {
  uint32_t sign = static_cast<uint32_t>(word & 0x8000) << 16;
  uint32_t exponent = word >> 10 & 31, fraction = word & 0x3ff;
  if (exponent == 31)
    return floatOf(sign | 0x7f800000u | fraction << 13);
  if (exponent == 0) {
    float magnitude = static_cast<float>(fraction) * 5.9604644775390625e-8f; // 2^-24
    return sign ? -magnitude : magnitude;
  }
  return floatOf(sign | (exponent + 112) << 23 | fraction << 13);
}

inline uint16_t toWord(double value, Dtype dtype) {
  auto single = static_cast<float>(value);
  return dtype == Dtype::BF16 ? toBf16(single) : toFp16(single);
}

inline float fromWord(uint16_t word, Dtype dtype) {
  return dtype == Dtype::BF16 ? fromBf16(word) : fromFp16(word);
}

inline double rounded(double value, Dtype dtype) { return fromWord(toWord(value, dtype), dtype); }

/// OCP 8-bit Floating Point Specification, E4M3: all ones but the sign are NaN, nothing is
/// infinite.
inline float fromE4m3(uint8_t byte) {
  const uint32_t sign = static_cast<uint32_t>(byte & 0x80) << 24, magnitude = byte & 0x7f;
  if (magnitude == 0x7f)
    return floatOf(sign | 0x7fc00000u);
  if (magnitude < 8) { // subnormal: a multiple of 2^-9
    const float value = static_cast<float>(magnitude) * 0.001953125f;
    return sign ? -value : value;
  }
  return floatOf(sign | ((magnitude + (120 << 3)) << 20));
}

/// Saturated at 448.
inline uint8_t toE4m3(double value) {
  const auto sign = static_cast<uint8_t>(std::signbit(value) ? 0x80 : 0);
  const double magnitude = std::fabs(value);
  if (std::isnan(value))
    return sign | 0x7f;
  if (magnitude >= 448)
    return sign | 0x7e;
  int exponent = -6; // of the step: 3 bits below the leading one, 2^-9 for subnormals
  if (magnitude >= 0x1p-6)
    exponent = std::ilogb(magnitude);
  const double steps = std::nearbyint(std::ldexp(magnitude, 3 - exponent));
  // Rounded up to 16 steps it is the next exponent's first number, which follows.
  return static_cast<uint8_t>(sign | (((exponent + 6) << 3) + static_cast<int>(steps)));
}

/// The word that holds a key or value which times `factor` is `value`; of fp8 what is not finite is
/// a NaN.
inline uint16_t toKeyWord(double value, double factor, KvDtype kvDtype, Dtype dtype) {
  if (kvDtype == KvDtype::Same)
    return toWord(value / factor, dtype);
  return std::isfinite(value) ? toE4m3(value / factor) : 0x7f;
}

/// The values of all 65536 words of a format: reading a tensor is one look-up for either format.
const float *valueTable(Dtype dtype);
/// The same of keys and values as they are stored: 256 of fp8.
const float *keyTable(KvDtype kvDtype, Dtype dtype);

} // namespace winnow::reference

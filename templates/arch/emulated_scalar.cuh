// The functions of scalar.cuh in plain C++, for the emulator. Approximate instructions are computed
// exactly: a kernel must not need their errors.
#pragma once

inline unsigned emulated_to_bf16(float value) {
  const unsigned bits = __float_as_uint(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u)
    return 0x7fff;
  return (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
}
inline unsigned emulated_to_fp16(float value) {
  return __builtin_bit_cast(unsigned short, static_cast<_Float16>(value));
}
inline float emulated_from_fp16(unsigned bits) {
  return static_cast<float>(__builtin_bit_cast(_Float16, static_cast<unsigned short>(bits)));
}
template <class T> inline unsigned pack(float low, float high) {
  if constexpr (is_same<T, bf16>)
    return emulated_to_bf16(low) | emulated_to_bf16(high) << 16;
  else
    return emulated_to_fp16(low) | emulated_to_fp16(high) << 16;
}
template <class T> inline float2 unpack(unsigned word) {
  if constexpr (is_same<T, bf16>)
    return {__uint_as_float(word << 16), __uint_as_float(word & 0xffff0000u)};
  else
    return {emulated_from_fp16(word & 0xffffu), emulated_from_fp16(word >> 16)};
}
inline unsigned emulated_e4m3_to_fp16(unsigned bits) {
  const unsigned sign = (bits & 0x80u) << 8, exponent = bits >> 3 & 15, fraction = bits & 7;
  if (exponent == 15 && fraction == 7)
    return sign | 0x7fffu;
  if (exponent == 0)
    return sign | emulated_to_fp16(static_cast<float>(fraction) * 0x1p-9f);
  return sign | (exponent + 8) << 10 | fraction << 7;
}
inline uint2 unpack_e4m3(unsigned word) {
  const auto pair = [](unsigned bytes) {
    return emulated_e4m3_to_fp16(bytes & 0xffu) | emulated_e4m3_to_fp16(bytes >> 8 & 0xffu) << 16;
  };
  return {pair(word), pair(word >> 16)};
}
inline unsigned swap_middle_bytes(unsigned word) {
  return (word & 0xff0000ffu) | (word & 0xff00u) << 8 | (word >> 8 & 0xff00u);
}
// .ftz: subnormal operands and results are 0.
inline float emulated_flush(float value) {
  return __builtin_fabsf(value) < 1.17549435e-38f ? 0.f : value;
}
inline float exp2_fast(float x) { return emulated_flush(__builtin_exp2f(emulated_flush(x))); }
inline float log2_fast(float x) { return __builtin_log2f(emulated_flush(x)); }
inline float tanh_fast(float x) { return __builtin_tanhf(x); }
inline int varying_zero() { return 0; }
inline void renew(float &) {}

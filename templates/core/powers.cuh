// 2^x on the FMA units: a cubic on [-1/2, 1/2], the whole part of x into the exponent. Serves score
// and attend on warpgroups: it takes work off the units of ex2, which do 16 per clock and
// multiprocessor. Included after types.cuh, and simple enough for a host test.
#pragma once

// 2^x for x in the range of exponents, with a cubic of these coefficients, the highest power's
// first.
__device__ __forceinline__ float exp2_with(float x, float cube, float square, float linear,
                                           float constant) {
  constexpr float kRound = 12582912.f; // 1.5 * 2^23: adding it rounds to a whole number
  const float whole = x + kRound, rest = x - (whole - kRound);
  float power = fmaf(rest, cube, square);
  power = fmaf(power, rest, linear);
  power = fmaf(power, rest, constant);
  return __uint_as_float(__float_as_uint(power) + (__float_as_uint(whole) << 23));
}

// For scores: relative error 7.5e-5, a minimax cubic. From 2^-126 down and from 2^127 up it stays
// there: what is too large must not wrap, since sums and top_k tell it by its size.
__device__ __forceinline__ float exp2_cubic(float x) {
  x = fminf(fmaxf(x, -126.f), 127.f);
  return exp2_with(x, 0.05517166909f, 0.24261112222f, 0.69326098545f, 0.99992807354f);
}

// For weights: relative error 1.0e-4, a cubic that is 1 at 0. Exactly 0 from -127 down; 2^126 from
// there up and for NaN.
__device__ __forceinline__ float exp2_by_fma(float x) {
  x = fmaxf(fminf(x, 126.f), -127.f);
  return exp2_with(x, 0.05500895f, 0.24221117f, 0.69328295f, 1.f);
}

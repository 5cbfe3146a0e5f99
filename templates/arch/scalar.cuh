// Arithmetic of single lanes that names an instruction. Serves types.cuh, which has declared the
// element types, and all other device headers through it; emulated_scalar.cuh has the same
// functions in plain C++. Sources: PTX ISA manual 9.0, the instruction named at each function.
#pragma once

// Two fp32 values rounded to nearest even and packed, `low` in the lower half: PTX
// cvt.rn.{bf16x2,f16x2}.f32.
template <class T> __device__ __forceinline__ unsigned pack(float low, float high) {
  unsigned word;
  if constexpr (is_same<T, bf16>)
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  else
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
}

// The two elements of a packed word as fp32: exact.
template <class T> __device__ __forceinline__ float2 unpack(unsigned word) {
  float2 pair;
  if constexpr (is_same<T, bf16>) {
    pair.x = __uint_as_float(word << 16);
    pair.y = __uint_as_float(word & 0xffff0000u);
  } else {
    asm("{.reg .f16 l, h; mov.b32 {l, h}, %2; cvt.f32.f16 %0, l; cvt.f32.f16 %1, h;}"
        : "=f"(pair.x), "=f"(pair.y)
        : "r"(word));
  }
  return pair;
}

// The four e4m3 elements of a word as two packed words of fp16, in their order: exact. PTX
// cvt.rn.f16x2.e4m3x2, from sm_89 on.
__device__ __forceinline__ uint2 unpack_e4m3(unsigned word) {
  uint2 pairs;
  asm("{.reg .b16 l, h; mov.b32 {l, h}, %2; cvt.rn.f16x2.e4m3x2 %0, l; "
      "cvt.rn.f16x2.e4m3x2 %1, h;}"
      : "=r"(pairs.x), "=r"(pairs.y)
      : "r"(word));
  return pairs;
}

// Bytes 0, 2, 1, 3 of a word: PTX prmt.
__device__ __forceinline__ unsigned swap_middle_bytes(unsigned word) {
  return __byte_perm(word, 0, 0x3120);
}

// 2^x and log2(x) in one instruction, about 2 ulp: PTX ex2.approx.ftz.f32, lg2.approx.ftz.f32.
// ex2(-inf) = 0, lg2(0) = -inf.
__device__ __forceinline__ float exp2_fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ __forceinline__ float log2_fast(float x) {
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// tanh(x) in one instruction, relative error 2^-11: PTX tanh.approx.f32. What a method's softcap
// needs; a logit of 10 is off by 0.005, a quarter of what rounding it to 16 bits would do.
__device__ __forceinline__ float tanh_fast(float x) {
  float y;
  asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// 0, but not for the compiler: what is computed from it inside a loop stays there, instead of
// taking registers all through the loop.
__device__ __forceinline__ int varying_zero() {
  int zero;
  asm volatile("mov.s32 %0, 0;" : "=r"(zero));
  return zero;
}
// Nothing, but for the compiler a new value: no read of `value` moves above this point.
__device__ __forceinline__ void renew(float &value) { asm volatile("" : "+f"(value)); }

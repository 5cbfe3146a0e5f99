// Element types and their arithmetic, without any CUDA header (a header costs NVRTC more time than
// the kernel). Serves every generated kernel: all other device headers build on this one. On entry:
// nothing. On exit: bf16, fp16, conversions to and from fp32, and the few float constants that
// kernels share.
#pragma once
#include "winnow/Params.h"

// 16-bit elements as they lie in memory; arithmetic happens in fp32 registers or in mma
// instructions.
struct bf16 {
  unsigned short bits;
};
struct fp16 {
  unsigned short bits;
};

constexpr float kInfinity = __builtin_bit_cast(float, 0x7f800000);
constexpr float kLog2E = 1.4426950408889634f;
constexpr float kLn2 = 0.6931471805599453f;
constexpr unsigned kFullWarp = 0xffffffffu;

template <class A, class B> constexpr bool is_same = false;
template <class A> constexpr bool is_same<A, A> = true;

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

__device__ __forceinline__ int thread_index() { return threadIdx.x; }
__device__ __forceinline__ int lane_index() { return threadIdx.x & 31; }
// 0, but not for the compiler: what is computed from it inside a loop stays there, instead of
// taking registers all through the loop.
__device__ __forceinline__ int varying_zero() {
  int zero;
  asm volatile("mov.s32 %0, 0;" : "=r"(zero));
  return zero;
}
// The warp's index, told to the compiler to be the same in all lanes (branches on it become
// uniform).
__device__ __forceinline__ int warp_index() { return __shfl_sync(kFullWarp, threadIdx.x >> 5, 0); }

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
// 8-bit elements of keys and values: OCP E4M3, NaN but no infinity.
struct e4m3 {
  unsigned char bits;
};

constexpr float kInfinity = __builtin_bit_cast(float, 0x7f800000);
constexpr float kLog2E = 1.4426950408889634f;
constexpr float kLn2 = 0.6931471805599453f;
constexpr unsigned kFullWarp = 0xffffffffu;

template <class A, class B> constexpr bool is_same = false;
template <class A> constexpr bool is_same<A, A> = true;

#include "winnow/scalar.cuh"

__device__ __forceinline__ int thread_index() { return threadIdx.x; }
__device__ __forceinline__ int lane_index() { return threadIdx.x & 31; }
// The warp's index, told to the compiler to be the same in all lanes (branches on it become
// uniform).
__device__ __forceinline__ int warp_index() { return __shfl_sync(kFullWarp, threadIdx.x >> 5, 0); }
// A value that all lanes of a warp have alike, told to the compiler to be so (what depends on it
// becomes uniform). By a whole warp.
__device__ __forceinline__ int warp_uniform(int value) { return __shfl_sync(kFullWarp, value, 0); }

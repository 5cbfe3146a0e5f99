// Arithmetic of elementwise regions where C++ has no defined result or another one: the meanings
// are those of the table in dialect/select/RegionOps.cpp. Serves the hooks of generated kernels. On
// entry: nothing. On exit: total functions, the same on every target.
#pragma once
#include "winnow/types.cuh"

// Modulo 2^32: signed overflow is undefined in C++.
__device__ __forceinline__ int wrap_add(int a, int b) { return int(unsigned(a) + unsigned(b)); }
__device__ __forceinline__ int wrap_subtract(int a, int b) {
  return int(unsigned(a) - unsigned(b));
}
__device__ __forceinline__ int wrap_multiply(int a, int b) {
  return int(unsigned(a) * unsigned(b));
}

// Division by zero gives 0 and leaves 0; by -1 it is a change of sign, modulo 2^32.
__device__ __forceinline__ int divide(int a, int b) {
  return b == 0 ? 0 : b == -1 ? wrap_subtract(0, a) : a / b;
}
__device__ __forceinline__ int remainder_of(int a, int b) { return b == 0 || b == -1 ? 0 : a % b; }
__device__ __forceinline__ int divide_unsigned(int a, int b) {
  return b == 0 ? 0 : int(unsigned(a) / unsigned(b));
}
__device__ __forceinline__ int remainder_unsigned(int a, int b) {
  return b == 0 ? 0 : int(unsigned(a) % unsigned(b));
}
__device__ __forceinline__ int max_unsigned(int a, int b) {
  return unsigned(a) > unsigned(b) ? a : b;
}
__device__ __forceinline__ int min_unsigned(int a, int b) {
  return unsigned(a) < unsigned(b) ? a : b;
}

// By the amount modulo 32.
__device__ __forceinline__ int shift_left(int a, int by) { return int(unsigned(a) << (by & 31)); }
__device__ __forceinline__ int shift_right(int a, int by) { return a >> (by & 31); }
__device__ __forceinline__ int shift_right_unsigned(int a, int by) {
  return int(unsigned(a) >> (by & 31));
}
__device__ __forceinline__ bool is_odd(int a) { return (a & 1) != 0; }

__device__ __forceinline__ bool less_or_greater(float a, float b) { return a < b || a > b; }
__device__ __forceinline__ bool are_numbers(float a, float b) { return a == a && b == b; }
// fmaxf and fminf give the other operand where one is NaN.
__device__ __forceinline__ float maximum_or_nan(float a, float b) {
  return are_numbers(a, b) ? fmaxf(a, b) : a + b;
}
__device__ __forceinline__ float minimum_or_nan(float a, float b) {
  return are_numbers(a, b) ? fminf(a, b) : a + b;
}

// Towards zero, at the ends of the range where x is outside it, 0 of NaN: PTX
// cvt.rzi.{s32,u32}.f32. A cast would be undefined there.
__device__ __forceinline__ int to_int(float x) { return __float2int_rz(x); }
__device__ __forceinline__ int to_unsigned(float x) { return int(__float2uint_rz(x)); }

// Rounded to T and back.
template <class T> __device__ __forceinline__ float round_to(float x) {
  return unpack<T>(pack<T>(x, 0.f)).x;
}

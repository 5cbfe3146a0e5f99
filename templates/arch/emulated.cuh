// The instructions of sm80.cuh and sm90.cuh in plain C++: a printed kernel, unchanged, becomes a
// program of the host. Serves the emulator (emulator/), which runs one fibre per lane and offers
// the functions declared below; it compiles kernels against this file under the names of the arch
// headers, sees every load and store through the compiler's instrumentation, and checks what the
// hardware does not. On entry: nothing. On exit: all leaves of Winnow are declared.
#pragma once

//===-- The language --------------------------------------------------------------------------===//

#define __device__
#define __host__
#define __global__
#define __shared__
#define __forceinline__                                                                            \
  inline __attribute__((always_inline)) // so that debug information knows the kernel's line
#define __grid_constant__
#define __align__(bytes) __attribute__((aligned(bytes)))
#define __launch_bounds__(threads, blocks)

struct EmulatedIndex {
  unsigned x, y, z;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
__forceinline__ float2 make_float2(float x, float y) { return {x, y}; }
__forceinline__ float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
__forceinline__ uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
__forceinline__ uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) {
  return {x, y, z, w};
}

#define WINNOW_EMULATED_MIN_MAX(type)                                                              \
  __forceinline__ type min(type a, type b) { return b < a ? b : a; }                               \
  __forceinline__ type max(type a, type b) { return a < b ? b : a; }
WINNOW_EMULATED_MIN_MAX(int)
WINNOW_EMULATED_MIN_MAX(unsigned)
WINNOW_EMULATED_MIN_MAX(long long)
WINNOW_EMULATED_MIN_MAX(unsigned long long)
WINNOW_EMULATED_MIN_MAX(double)
#undef WINNOW_EMULATED_MIN_MAX

__forceinline__ unsigned __float_as_uint(float value) {
  return __builtin_bit_cast(unsigned, value);
}
__forceinline__ float __uint_as_float(unsigned bits) { return __builtin_bit_cast(float, bits); }
__forceinline__ float __int_as_float(int bits) { return __builtin_bit_cast(float, bits); }
__forceinline__ int __popc(unsigned bits) { return __builtin_popcount(bits); }
__forceinline__ int __ffs(unsigned bits) { return __builtin_ffs(static_cast<int>(bits)); }
template <class T> __forceinline__ T __ldg(const T *pointer) { return *pointer; }
// Round to nearest even, saturated; NaN gives 0.
__forceinline__ int __float2int_rn(float value) {
  return value >= 2147483648.f   ? 2147483647
         : value < -2147483648.f ? -2147483647 - 1
         : value == value        ? static_cast<int>(__builtin_rintf(value))
                                 : 0;
}

// Towards zero, saturated; NaN gives 0.
__forceinline__ int __float2int_rz(float value) { return __float2int_rn(__builtin_truncf(value)); }
__forceinline__ unsigned __float2uint_rz(float value) {
  return value >= 4294967296.f ? 4294967295u : value > 0.f ? static_cast<unsigned>(value) : 0u;
}

#define WINNOW_EMULATED_MATH(name)                                                                 \
  __forceinline__ float name(float x) { return __builtin_##name(x); }
WINNOW_EMULATED_MATH(fabsf)
WINNOW_EMULATED_MATH(sqrtf)
WINNOW_EMULATED_MATH(expf)
WINNOW_EMULATED_MATH(exp2f)
WINNOW_EMULATED_MATH(logf)
WINNOW_EMULATED_MATH(log2f)
WINNOW_EMULATED_MATH(log10f)
WINNOW_EMULATED_MATH(log1pf)
WINNOW_EMULATED_MATH(expm1f)
WINNOW_EMULATED_MATH(tanhf)
WINNOW_EMULATED_MATH(erff)
WINNOW_EMULATED_MATH(sinf)
WINNOW_EMULATED_MATH(cosf)
WINNOW_EMULATED_MATH(floorf)
WINNOW_EMULATED_MATH(ceilf)
WINNOW_EMULATED_MATH(truncf)
WINNOW_EMULATED_MATH(rintf)
WINNOW_EMULATED_MATH(roundf)
#undef WINNOW_EMULATED_MATH
__forceinline__ float rsqrtf(float x) { return 1.f / __builtin_sqrtf(x); }
__forceinline__ float fmaf(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
// PTX min.f32 and max.f32: a NaN gives way, and -0 is below 0.
__forceinline__ float fminf(float a, float b) {
  return a != a ? b : b != b ? a : a < b || (a == b && __builtin_signbit(a)) ? a : b;
}
__forceinline__ float fmaxf(float a, float b) {
  return a != a ? b : b != b ? a : a > b || (a == b && __builtin_signbit(b)) ? a : b;
}
__forceinline__ float __expf(float x) { return __builtin_expf(x); }
__forceinline__ float __logf(float x) { return __builtin_logf(x); }
__forceinline__ float __log2f(float x) { return __builtin_log2f(x); }
__forceinline__ float powf(float a, float b) { return __builtin_powf(a, b); }
__forceinline__ float fmodf(float a, float b) { return __builtin_fmodf(a, b); }

//===-- What the emulator offers --------------------------------------------------------------===//

// What the lanes of a warp do together. `value` is each lane's operand and result.
enum EmulatedWarpOp {
  kWarpSync,
  kWarpShuffle,  // unsigned value, from: value of lane `from`
  kWarpBallot,   // unsigned value: a vote, then all votes
  kWarpSum,      // int value
  kWarpMatrices, // EmulatedMatrices: ldmatrix.x4
  kWarpMatricesTransposed,
  kWarpProductBf16, // EmulatedProduct: mma.m16n8k16
  kWarpProductFp16
};
struct EmulatedShuffle {
  unsigned value;
  int from; // a lane; its own where there is none
};
struct EmulatedMatrices {
  unsigned words[4];
  unsigned address;
};
struct EmulatedProduct {
  float *sum;           // 4
  const unsigned *left; // 4
  unsigned right[2];
};
// A product of a warpgroup that has been issued.
struct EmulatedWgmma {
  float *sum; // [columns / 8][4] of the lane; written when the product is waited for
  int columns;
  bool is_bf16, accumulate, left_in_registers;
  unsigned left_words[4];
  unsigned long long left, right; // descriptors
};

extern "C" {
extern EmulatedIndex threadIdx, blockIdx, blockDim, gridDim;
void emulated_warp(int operation, unsigned lanes, void *value);
void emulated_block_sync();
unsigned emulated_named_sync(int id, int threads, unsigned vote);
int emulated_cluster_blocks();
int emulated_cluster_block();
void emulated_cluster_sync();
void *emulated_shared_of(const void *pointer, int block);
unsigned emulated_shared_address_of(unsigned shared, int block);
void emulated_send(unsigned to, unsigned barrier, const void *words, int bytes);
void emulated_announce(unsigned barrier, int bytes);
void emulated_copy_async(unsigned shared, const void *global, int bytes);
void emulated_wait_copies();
void emulated_store_shared(unsigned shared, const void *bytes, int count);
void emulated_init_barrier(unsigned barrier, int arrivals);
void emulated_arrive(unsigned barrier, int times, int bytes);
void emulated_arrive_after_copies(unsigned barrier);
void emulated_wait(unsigned barrier, int phase);
bool emulated_is_complete(unsigned barrier, int phase);
void emulated_fence_proxy();
void emulated_copy_bulk(unsigned shared, const void *global, int bytes, unsigned barrier);
void emulated_copy_box(unsigned shared, const void *map, unsigned barrier, int rank,
                       const int *corner);
void emulated_wgmma(const EmulatedWgmma *product);
void emulated_wgmma_fence();
void emulated_wgmma_commit();
void emulated_wgmma_wait(int pending);
void emulated_registers(int registers, int claims);
unsigned emulated_atomic_or(unsigned *address, unsigned bits);
int emulated_atomic_add(int *address, int value);
void emulated_wait_at_least(const int *number, int value);
void emulated_await_others();
void emulated_meet_grid();

// The dynamic shared memory of the block of threads, which a kernel declares again.
__attribute__((aligned(1024), visibility("default"), used)) unsigned char shared[256 * 1024];
}

//===-- Warps ---------------------------------------------------------------------------------===//

__forceinline__ void __syncthreads() { emulated_block_sync(); }
__forceinline__ int __syncthreads_or(int vote) {
  return static_cast<int>(emulated_named_sync(0, static_cast<int>(blockDim.x), vote != 0));
}
__forceinline__ void __syncwarp(unsigned lanes = 0xffffffffu) {
  emulated_warp(kWarpSync, lanes, nullptr);
}
__forceinline__ unsigned __ballot_sync(unsigned lanes, bool vote) {
  unsigned value = vote;
  emulated_warp(kWarpBallot, lanes, &value);
  return value;
}
__forceinline__ int __any_sync(unsigned lanes, bool vote) {
  return __ballot_sync(lanes, vote) != 0;
}
__forceinline__ int __reduce_add_sync(unsigned lanes, int value) {
  emulated_warp(kWarpSum, lanes, &value);
  return value;
}
template <class T> __forceinline__ T emulated_shuffle(unsigned lanes, T value, int from) {
  if constexpr (sizeof(T) == 8) { // as two words
    const auto bits = __builtin_bit_cast(unsigned long long, value);
    const unsigned long long high =
        emulated_shuffle(lanes, static_cast<unsigned>(bits >> 32), from);
    return __builtin_bit_cast(T, high << 32 |
                                     emulated_shuffle(lanes, static_cast<unsigned>(bits), from));
  } else {
    static_assert(sizeof(T) == 4, "shuffles move words");
    EmulatedShuffle shuffle{__builtin_bit_cast(unsigned, value), from};
    emulated_warp(kWarpShuffle, lanes, &shuffle);
    return __builtin_bit_cast(T, shuffle.value);
  }
}
template <class T> __forceinline__ T __shfl_sync(unsigned lanes, T value, int from) {
  return emulated_shuffle(lanes, value, from & 31);
}
template <class T> __forceinline__ T __shfl_xor_sync(unsigned lanes, T value, int distance) {
  return emulated_shuffle(lanes, value, static_cast<int>(threadIdx.x & 31) ^ distance);
}
template <class T> __forceinline__ T __shfl_up_sync(unsigned lanes, T value, int distance) {
  const int lane = static_cast<int>(threadIdx.x & 31);
  return emulated_shuffle(lanes, value, lane < distance ? lane : lane - distance);
}
__forceinline__ unsigned atomicOr(unsigned *address, unsigned bits) {
  return emulated_atomic_or(address, bits);
}
__forceinline__ int atomicAdd(int *address, int value) {
  return emulated_atomic_add(address, value);
}

#include "winnow/types.cuh"

//===-- Instructions of the sm_80 level -------------------------------------------------------===//

__forceinline__ unsigned shared_address(const void *pointer) {
  return static_cast<unsigned>(static_cast<const unsigned char *>(pointer) - shared);
}
__forceinline__ float load_if(bool condition, const float *pointer, float otherwise) {
  return condition ? *pointer : otherwise;
}
__forceinline__ void copy_async(unsigned shared, const void *global, int bytes) {
  emulated_copy_async(shared, global, bytes);
}
__forceinline__ unsigned long long streamed_policy() { return 0; }
__forceinline__ void copy_streamed(unsigned shared, const void *global, int bytes,
                                   unsigned long long) {
  emulated_copy_async(shared, global, bytes);
}
__forceinline__ void wait_copies() { emulated_wait_copies(); }
__forceinline__ uint4 load_words(unsigned address) {
  uint4 words;
  __builtin_memcpy(&words, shared + address, sizeof(words));
  return words;
}
__forceinline__ void store_words(unsigned shared, const uint4 &words) {
  emulated_store_shared(shared, &words, 16);
}
__forceinline__ void store_words(unsigned shared, unsigned word) {
  emulated_store_shared(shared, &word, 4);
}
__forceinline__ void store_words(unsigned shared, const uint2 &words) {
  emulated_store_shared(shared, &words, 8);
}
__forceinline__ void store_once(uint4 *to, const uint4 &words) { *to = words; }
__forceinline__ void store_zeros(unsigned shared) {
  const uint4 zeros = {0, 0, 0, 0};
  emulated_store_shared(shared, &zeros, 16);
}
__forceinline__ void start_later_kernels() {}
__forceinline__ void wait_earlier_kernels() {}
__forceinline__ void sync_threads() { __syncthreads(); }
__forceinline__ bool sync_threads_any(bool vote) { return __syncthreads_or(vote) != 0; }
__forceinline__ void init_barrier(unsigned barrier, int arrivals) {
  emulated_init_barrier(barrier, arrivals);
}
__forceinline__ void arrive(unsigned barrier) { emulated_arrive(barrier, 1, 0); }
__forceinline__ void arrive_after_copies(unsigned barrier) {
  emulated_arrive_after_copies(barrier);
}
__forceinline__ void wait(unsigned barrier, int phase) { emulated_wait(barrier, phase); }
__forceinline__ bool is_complete(unsigned barrier, int phase) {
  return emulated_is_complete(barrier, phase);
}
__forceinline__ void emulated_load_matrices(EmulatedWarpOp operation, unsigned (&words)[4],
                                            unsigned address) {
  EmulatedMatrices matrices{{}, address};
  emulated_warp(operation, 0xffffffffu, &matrices);
  for (int i = 0; i < 4; ++i)
    words[i] = matrices.words[i];
}
__forceinline__ void load_matrices(unsigned (&words)[4], unsigned row_address) {
  emulated_load_matrices(kWarpMatrices, words, row_address);
}
__forceinline__ void load_matrices_transposed(unsigned (&words)[4], unsigned row_address) {
  emulated_load_matrices(kWarpMatricesTransposed, words, row_address);
}
__forceinline__ unsigned transposed_matrix(unsigned word) {
  const int row = lane_index() / 4, column = lane_index() % 4 * 2, half = row % 2 * 16;
  const unsigned low = __shfl_sync(kFullWarp, word, 4 * column + row / 2),
                 high = __shfl_sync(kFullWarp, word, 4 * column + 4 + row / 2);
  return (low >> half & 0xffffu) | (high >> half & 0xffffu) << 16;
}
template <class T>
__forceinline__ void mma_16x8x16(float (&sum)[4], const unsigned (&left)[4], unsigned right0,
                                 unsigned right1) {
  EmulatedProduct product{sum, left, {right0, right1}};
  emulated_warp(is_same<T, bf16> ? kWarpProductBf16 : kWarpProductFp16, 0xffffffffu, &product);
}
__forceinline__ int warp_sum(int value) { return __reduce_add_sync(kFullWarp, value); }
__forceinline__ unsigned at_least_pair(unsigned pair, unsigned threshold) {
  return ((pair & 0xffffu) >= threshold) | static_cast<unsigned>((pair >> 16) >= threshold) << 16;
}

//===-- Instructions of the sm_90 level -------------------------------------------------------===//

__forceinline__ void arrive_expecting(unsigned barrier, int bytes) {
  emulated_arrive(barrier, 1, bytes);
}
__forceinline__ void arrive_times(unsigned barrier, int times) {
  emulated_arrive(barrier, times, 0);
}
__forceinline__ void fence_barriers() { emulated_fence_proxy(); }
__forceinline__ void fence_shared_stores() { emulated_fence_proxy(); }
__forceinline__ void copy_box(unsigned shared, const TensorMap &map, unsigned barrier, int x, int y,
                              int z) {
  const int corner[] = {x, y, z};
  emulated_copy_box(shared, &map, barrier, 3, corner);
}
__forceinline__ void copy_box(unsigned shared, const TensorMap &map, unsigned barrier, int x, int y,
                              int z, int w) {
  const int corner[] = {x, y, z, w};
  emulated_copy_box(shared, &map, barrier, 4, corner);
}
__forceinline__ void copy_bytes(unsigned shared, const void *global, int bytes, unsigned barrier) {
  emulated_copy_bulk(shared, global, bytes, barrier);
}
__forceinline__ int cluster_blocks() { return emulated_cluster_blocks(); }
__forceinline__ int cluster_block() { return emulated_cluster_block(); }
__forceinline__ void sync_cluster() { emulated_cluster_sync(); }
__forceinline__ void enter_cluster() {}
__forceinline__ void wait_cluster() { emulated_cluster_sync(); }
template <class T> __forceinline__ T *shared_of(T *pointer, int block) {
  return static_cast<T *>(emulated_shared_of(pointer, block));
}
__forceinline__ void wait_at_least(const int *number, int value) {
  emulated_wait_at_least(number, value);
}
__forceinline__ void store_released(int *number, int value) { *number = value; }
__forceinline__ void tell_word(unsigned long long *to, unsigned long long word) { *to = word; }
__forceinline__ unsigned long long ask_word(const unsigned long long *from) { return *from; }
__forceinline__ void tell_words(unsigned long long *to, unsigned long long first,
                                unsigned long long second) {
  to[0] = first;
  to[1] = second;
}
__forceinline__ void ask_words(unsigned long long &first, unsigned long long &second,
                               const unsigned long long *from) {
  first = from[0];
  second = from[1];
}
__forceinline__ void meet_grid(int, int) { emulated_meet_grid(); }
__forceinline__ void await_others() { emulated_await_others(); }
__forceinline__ void back_off() { emulated_await_others(); }
__forceinline__ float4 load_uncached(const float4 *from) { return *from; }
// A hint may always be old: nobody is found in the way.
__forceinline__ int hint_if(bool, unsigned) { return 0; }
__forceinline__ void set_hint_if(bool, unsigned, int) {}
__forceinline__ unsigned shared_address_of(unsigned shared, int block) {
  return emulated_shared_address_of(shared, block);
}
template <class Words>
__forceinline__ void send_words(unsigned to, unsigned barrier, const Words &words) {
  emulated_send(to, barrier, &words, sizeof(words));
}
__forceinline__ void announce_words(unsigned barrier, int bytes) {
  emulated_announce(barrier, bytes);
}
__forceinline__ void wait_words(unsigned barrier, int phase) { emulated_wait(barrier, phase); }
template <int kRegisters> __forceinline__ void claim_registers() {
  emulated_registers(kRegisters, 1);
}
template <int kRegisters> __forceinline__ void release_registers() {
  emulated_registers(kRegisters, 0);
}
__forceinline__ void sync_some(int id, int threads) { emulated_named_sync(id, threads, 0); }
__forceinline__ bool sync_any(int id, int threads, bool vote) {
  return emulated_named_sync(id, threads, vote) != 0;
}
__forceinline__ void wgmma_fence() { emulated_wgmma_fence(); }
__forceinline__ void wgmma_commit() { emulated_wgmma_commit(); }
template <int kPending> __forceinline__ void wgmma_wait() { emulated_wgmma_wait(kPending); }
// As in sm90.cuh, bit for bit: the emulator takes descriptors apart.
__forceinline__ unsigned descriptor_start(unsigned address, int leading) {
  return (address & 0x3ffff) >> 4 | leading >> 4 << 16;
}
__forceinline__ unsigned long long matrix_descriptor(unsigned start, int offset) {
  constexpr unsigned long long kHigh = 1024 >> 4 | 1u << 30;
  return kHigh << 32 | start + (offset >> 4);
}
template <class T, int kCount>
__forceinline__ void wgmma_shared(float (&sum)[kCount][4], unsigned long long left,
                                  unsigned long long right, bool accumulate) {
  const EmulatedWgmma product{&sum[0][0], 8 * kCount, is_same<T, bf16>, accumulate, false, {},
                              left,       right};
  emulated_wgmma(&product);
}
template <class T, int kCount>
__forceinline__ void wgmma_registers(float (&sum)[kCount][4], const unsigned (&left)[4],
                                     unsigned long long right) {
  const EmulatedWgmma product{&sum[0][0], 8 * kCount, is_same<T, bf16>,
                              true,       true,       {left[0], left[1], left[2], left[3]},
                              0,          right};
  emulated_wgmma(&product);
}

#include "winnow/leaves.cuh"

// What only warpgroups and clusters need.
#include "winnow/attention_step.cuh"
#include "winnow/cluster_messages.cuh"
#include "winnow/cluster_selection.cuh"
#include "winnow/gradients_step.cuh"
#include "winnow/new_row.cuh"
#include "winnow/row_tiles.cuh"
#include "winnow/scoring_warpgroup.cuh"
#include "winnow/step_exchange.cuh"
#include "winnow/step_parts.cuh"
#include "winnow/step_search.cuh"
#include "winnow/stored_changes.cuh"
#include "winnow/warpgroup.cuh"
#include "winnow/work_list.cuh"

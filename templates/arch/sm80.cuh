// Instructions of the sm_80 level: mma.sync, ldmatrix, cp.async, mbarrier; one function per
// instruction. Serves the leaves in the files beside this one, which call these names only;
// arch/sm89.cuh and arch/sm90.cuh define the same names. A generated kernel includes exactly one of
// the three. On entry: compute capability 8.0 or newer. On exit: all leaves of Winnow are declared.
// Section titles in comments are those of the PTX ISA manual 9.0.
#pragma once
#include "winnow/types.cuh"

// The 32-bit address of a byte of shared memory, as the instructions below want it.
__device__ __forceinline__ unsigned shared_address(const void *pointer) {
  return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
}

// *pointer where `condition` holds, else `otherwise`: a predicated load, so that many can be in
// flight (PTX "ld").
__device__ __forceinline__ float load_if(bool condition, const float *pointer, float otherwise) {
  float value = otherwise;
  asm volatile("{.reg .pred p; setp.ne.s32 p, %1, 0; @p ld.global.f32 %0, [%2];}"
               : "+f"(value)
               : "r"(static_cast<int>(condition)), "l"(pointer));
  return value;
}

//===-- "cp.async": global to shared memory ---------------------------------------------------===//

// Starts copying 16 bytes; only the first `bytes` (16 or 0) are read, the rest of the destination
// becomes zero.
__device__ __forceinline__ void copy_async(unsigned shared, const void *global, int bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared), "l"(global),
               "r"(bytes)
               : "memory");
}

// How the L2 cache holds what is read once: it makes room for others first (PTX ISA 9.7.9.15,
// createpolicy). For copy_streamed, which is copy_async with it.
__device__ __forceinline__ unsigned long long streamed_policy() {
  unsigned long long policy;
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}
__device__ __forceinline__ void copy_streamed(unsigned shared, const void *global, int bytes,
                                              unsigned long long policy) {
  asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2, %3;" ::"r"(shared),
               "l"(global), "r"(bytes), "l"(policy)
               : "memory");
}

// Waits until all copies that this thread started have arrived; a barrier must follow before other
// threads read them.
__device__ __forceinline__ void wait_copies() { asm volatile("cp.async.wait_all;" ::: "memory"); }

// 16 bytes of shared memory.
__device__ __forceinline__ uint4 load_words(unsigned shared) {
  uint4 words;
  asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
               : "=r"(words.x), "=r"(words.y), "=r"(words.z), "=r"(words.w)
               : "r"(shared)
               : "memory");
  return words;
}

// Stores 16 bytes to shared memory.
__device__ __forceinline__ void store_words(unsigned shared, const uint4 &words) {
  asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(shared), "r"(words.x), "r"(words.y),
               "r"(words.z), "r"(words.w)
               : "memory");
}

// The same of 4 and of 8 bytes.
__device__ __forceinline__ void store_words(unsigned shared, unsigned word) {
  asm volatile("st.shared.b32 [%0], %1;" ::"r"(shared), "r"(word) : "memory");
}
__device__ __forceinline__ void store_words(unsigned shared, const uint2 &words) {
  asm volatile("st.shared.v2.b32 [%0], {%1, %2};" ::"r"(shared), "r"(words.x), "r"(words.y)
               : "memory");
}

// Stores 16 bytes to global memory that are not read again soon (st.global.cs).
__device__ __forceinline__ void store_once(uint4 *to, const uint4 &words) { __stcs(to, words); }

// Stores 16 zero bytes to shared memory.
__device__ __forceinline__ void store_zeros(unsigned shared) {
  asm volatile("st.shared.v4.b32 [%0], {%1, %1, %1, %1};" ::"r"(shared), "r"(0) : "memory");
}

//===-- "Parallel Synchronization and Communication": bar.sync, mbarrier ----------------------===//

#ifndef WINNOW_EARLY_LAUNCH
// Kernels of this level start when those before them have ended: nothing to wait for.
__device__ __forceinline__ void start_later_kernels() {}
__device__ __forceinline__ void wait_earlier_kernels() {}
#endif
__device__ __forceinline__ void sync_threads() { __syncthreads(); }

// The same; true in all threads where `vote` holds in any.
__device__ __forceinline__ bool sync_threads_any(bool vote) { return __syncthreads_or(vote) != 0; }

__device__ __forceinline__ void init_barrier(unsigned barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}

__device__ __forceinline__ void arrive(unsigned barrier) {
  asm volatile("{.reg .b64 state; mbarrier.arrive.shared::cta.b64 state, [%0];}" ::"r"(barrier)
               : "memory");
}

// Arrives once all copies that this thread started before have landed; counts as one of the
// barrier's arrivals.
__device__ __forceinline__ void arrive_after_copies(unsigned barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(barrier) : "memory");
}

// Waits until the barrier's phase of parity `phase` has completed. sm_80 knows only the
// non-blocking test; an arch header above this one may name a better instruction.
#ifndef WINNOW_WAIT_INSTRUCTION
#define WINNOW_WAIT_INSTRUCTION "mbarrier.test_wait.parity.shared::cta.b64"
#endif
__device__ __forceinline__ void wait(unsigned barrier, int phase) {
  unsigned done;
  do {
    asm volatile("{.reg .pred p; " WINNOW_WAIT_INSTRUCTION " p, [%1], %2; selp.u32 %0, 1, 0, p;}"
                 : "=r"(done)
                 : "r"(barrier), "r"(phase)
                 : "memory");
  } while (!done);
}

// Whether that phase has completed, without waiting ("mbarrier.test_wait").
__device__ __forceinline__ bool is_complete(unsigned barrier, int phase) {
  unsigned done;
  asm volatile("{.reg .pred p; mbarrier.test_wait.parity.shared::cta.b64 p, [%1], %2; "
               "selp.u32 %0, 1, 0, p;}"
               : "=r"(done)
               : "r"(barrier), "r"(phase)
               : "memory");
  return done != 0;
}

//===-- "Warp Level Matrix Instructions": ldmatrix, mma ---------------------------------------===//

// Four 8x8 matrices of 16-bit elements; lane i gives the address of row i % 8 of matrix i / 8
// (ldmatrix).
__device__ __forceinline__ void load_matrices(unsigned (&words)[4], unsigned row_address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "r"(row_address)
               : "memory");
}
__device__ __forceinline__ void load_matrices_transposed(unsigned (&words)[4],
                                                         unsigned row_address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
               : "r"(row_address)
               : "memory");
}

// An 8x8 matrix of 16-bit elements transposed: lane 4g + c has elements 2c and 2c + 1 of row g, of
// both (movmatrix).
__device__ __forceinline__ unsigned transposed_matrix(unsigned word) {
  unsigned transposed;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(transposed) : "r"(word));
  return transposed;
}

// sum[16x8] += left[16x16] right[16x8], fp32 sums (mma.sync.m16n8k16). With g = lane /
// 4 and c = lane % 4, a lane holds sum[0..1] = row g, columns 2c..2c+1 and sum[2..3] = the same
// columns of row g + 8.
template <class T>
__device__ __forceinline__ void mma_16x8x16(float (&sum)[4], const unsigned (&left)[4],
                                            unsigned right0, unsigned right1) {
  if constexpr (is_same<T, bf16>)
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                 : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right0),
                   "r"(right1));
  else
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                 : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "r"(right0),
                   "r"(right1));
}

// Sum over the warp, known to every lane (redux.sync).
__device__ __forceinline__ int warp_sum(int value) { return __reduce_add_sync(kFullWarp, value); }

//===-- Two 16-bit numbers at a time ----------------------------------------------------------===//

// Per half of `pair`, two numbers below 2^15: 1 where it is at least `threshold` (1 to 2^15), else
// 0.
#ifndef WINNOW_AT_LEAST_PAIR
__device__ __forceinline__ unsigned at_least_pair(unsigned pair, unsigned threshold) {
  // The upper bit of each half survives the subtraction where nothing is borrowed.
  return ((pair | 0x80008000u) - (threshold | threshold << 16)) >> 15 & 0x00010001u;
}
#endif

#include "winnow/leaves.cuh"

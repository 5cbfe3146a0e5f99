// Instructions of the sm_90a level (Hopper): those of sm_80, and wgmma, the bulk tensor copies
// (TMA), barriers that count bytes, and the moving of registers between warpgroups; one function
// per instruction. Serves the leaves of kernels whose target has these features. On exit: all
// leaves of Winnow are declared, those of warpgroups too. Section titles in comments are those of
// the PTX ISA manual 9.0.
#pragma once
// The wait that may suspend the thread (mbarrier.try_wait, PTX ISA "mbarrier.try_wait"), in place
// of the test.
#define WINNOW_WAIT_INSTRUCTION "mbarrier.try_wait.parity.shared::cta.b64"

// Per half of `pair`, two numbers below 2^15: 1 where it is at least `threshold` (1 to 2^15), else
// 0
// ("add", "min" with .relu on s16x2: one instruction together).
#define WINNOW_AT_LEAST_PAIR
__device__ __forceinline__ unsigned at_least_pair(unsigned pair, unsigned threshold) {
  const unsigned shift = (1 - threshold) & 0xffffu;
  unsigned reached;
  asm("{.reg .b32 sum; add.s16x2 sum, %1, %2; min.relu.s16x2 %0, sum, %3;}"
      : "=r"(reached)
      : "r"(pair), "r"(shift | shift << 16), "r"(0x00010001u));
  return reached;
}

// Lets the kernel behind this one start as soon as all blocks of threads have said so and there is
// room, beside this one and all that this one has not yet waited for: it waits by itself
// ("griddepcontrol").
#define WINNOW_EARLY_LAUNCH
__device__ __forceinline__ void start_later_kernels() {
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}
// Waits until the kernels before this one have ended and their results can be read. By every
// thread, before it reads these, writes what they read, or ends: a kernel that ended without
// waiting would tell those behind it that all before it are done.
__device__ __forceinline__ void wait_earlier_kernels() {
  asm volatile("griddepcontrol.wait;" ::: "memory");
}

#include "winnow/sm80.cuh"

//===-- "mbarrier" with transaction counts ----------------------------------------------------===//

// Arrives, and makes the barrier's phase wait for `bytes` more bytes of bulk copies.
__device__ __forceinline__ void arrive_expecting(unsigned barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
}

// Arrives `times` times at once.
__device__ __forceinline__ void arrive_times(unsigned barrier, int times) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(times)
               : "memory");
}

// Makes initialised barriers visible to the copy engine.
__device__ __forceinline__ void fence_barriers() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// Makes this thread's stores to shared memory visible to wgmma and to the copy engine.
__device__ __forceinline__ void fence_shared_stores() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

//===-- "cp.async.bulk.tensor", "cp.async.bulk": global to shared memory ----------------------===//

// Starts copying the map's box at (x, y, z), innermost coordinate first; its bytes count on
// `barrier`.
__device__ __forceinline__ void copy_box(unsigned shared, const TensorMap &map, unsigned barrier,
                                         int x, int y, int z) {
  asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
               "[%0], [%1, {%2, %3, %4}], [%5];" ::"r"(shared),
               "l"(&map), "r"(x), "r"(y), "r"(z), "r"(barrier)
               : "memory");
}

// The same by a map of four dimensions.
__device__ __forceinline__ void copy_box(unsigned shared, const TensorMap &map, unsigned barrier,
                                         int x, int y, int z, int w) {
  asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
               "[%0], [%1, {%2, %3, %4, %5}], [%6];" ::"r"(shared),
               "l"(&map), "r"(x), "r"(y), "r"(z), "r"(w), "r"(barrier)
               : "memory");
}

// Starts copying `bytes` consecutive bytes (a multiple of 16, both ends 16-byte aligned).
__device__ __forceinline__ void copy_bytes(unsigned shared, const void *global, int bytes,
                                           unsigned barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, "
               "[%3];" ::"r"(shared),
               "l"(global), "r"(bytes), "r"(barrier)
               : "memory");
}

//===-- "Cluster of Cooperative Thread Arrays" ------------------------------------------------===//

// Blocks of threads of this block's cluster, and this block's place among them; 1 and 0 without a
// cluster ("%cluster_nctarank", "%cluster_ctarank").
__device__ __forceinline__ int cluster_blocks() {
  int blocks;
  asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(blocks));
  return blocks;
}
__device__ __forceinline__ int cluster_block() {
  int block;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(block));
  return block;
}

// Barrier of all threads of the cluster's blocks, by whole warps: what they stored before, to
// shared memory of any of these blocks too, can be read after it ("barrier.cluster"). One comes
// before the first access to another block's shared memory, since that block may not have begun,
// and one after the last, since it may end.
__device__ __forceinline__ void sync_cluster() {
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// sync_cluster in two steps for those who have stored nothing yet: says that this block has begun,
// and waits until all have.
__device__ __forceinline__ void enter_cluster() {
  asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
}
__device__ __forceinline__ void wait_cluster() {
  asm volatile("barrier.cluster.wait.aligned;" ::: "memory");
}

// Where block `block` of the cluster has what `pointer` points to in this block's shared memory, as
// an address for plain loads and stores ("mapa").
template <class T> __device__ __forceinline__ T *shared_of(T *pointer, int block) {
  T *there;
  asm("mapa.u64 %0, %1, %2;" : "=l"(there) : "l"(pointer), "r"(block));
  return there;
}

// The address of block `block`'s counterpart of `shared`, an address in this block's shared memory,
// for the functions below ("mapa").
__device__ __forceinline__ unsigned shared_address_of(unsigned shared, int block) {
  unsigned there;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(shared), "r"(block));
  return there;
}

// Stores words to a block of the cluster, some time later: then they count as bytes on `barrier`,
// which lies in the same block. Who has waited for them there may read them; no fence is needed
// ("st.async").
__device__ __forceinline__ void send_words(unsigned to, unsigned barrier, unsigned word) {
  asm volatile(
      "st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %2, [%1];" ::"r"(to),
      "r"(barrier), "r"(word)
      : "memory");
}
__device__ __forceinline__ void send_words(unsigned to, unsigned barrier, const uint2 &words) {
  asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v2.b32 [%0], {%2, %3}, "
               "[%1];" ::"r"(to),
               "r"(barrier), "r"(words.x), "r"(words.y)
               : "memory");
}
__device__ __forceinline__ void send_words(unsigned to, unsigned barrier, const uint4 &words) {
  asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%2, %3, "
               "%4, %5}, [%1];" ::"r"(to),
               "r"(barrier), "r"(words.x), "r"(words.y), "r"(words.z), "r"(words.w)
               : "memory");
}

// Arrives on a barrier of a block of the cluster, whose phase then waits for `bytes` more bytes of
// send_words ("mbarrier.arrive.expect_tx").
__device__ __forceinline__ void announce_words(unsigned barrier, int bytes) {
  asm volatile(
      "mbarrier.arrive.expect_tx.relaxed.cluster.shared::cluster.b64 _, [%0], %1;" ::"r"(barrier),
      "r"(bytes)
      : "memory");
}

// wait (sm80.cuh) on a barrier of this block that counts what blocks of the cluster send.
__device__ __forceinline__ void wait_words(unsigned barrier, int phase) {
  unsigned done;
  do {
    asm volatile("{.reg .pred p; mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], "
                 "%2; selp.u32 %0, 1, 0, p;}"
                 : "=r"(done)
                 : "r"(barrier), "r"(phase)
                 : "memory");
  } while (!done);
}

//===-- "ld", "st", "atom": between blocks of threads; hints ----------------------------------===//

// Waits until the number at `number` is at least `value`; what its writer stored before can be
// read afterwards ("ld.acquire").
__device__ __forceinline__ void wait_at_least(const int *number, int value) {
  int found;
  do {
    asm volatile("ld.acquire.gpu.global.b32 %0, [%1];" : "=r"(found) : "l"(number) : "memory");
  } while (found < value);
}
// Stores a number after all that this thread has stored, and all that others have before a barrier
// with it ("st.release").
__device__ __forceinline__ void store_released(int *number, int value) {
  asm volatile("st.release.gpu.global.b32 [%0], %1;" ::"l"(number), "r"(value) : "memory");
}
// Stores a word for others to ask for, who find it whole or what was there before; it orders
// nothing else ("st.relaxed", "ld.relaxed").
__device__ __forceinline__ void tell_word(unsigned long long *to, unsigned long long word) {
  asm volatile("st.relaxed.gpu.global.b64 [%0], %1;" ::"l"(to), "l"(word) : "memory");
}
__device__ __forceinline__ unsigned long long ask_word(const unsigned long long *from) {
  unsigned long long word;
  asm volatile("ld.relaxed.gpu.global.b64 %0, [%1];" : "=l"(word) : "l"(from) : "memory");
  return word;
}
// Two words, each of them whole.
__device__ __forceinline__ void tell_words(unsigned long long *to, unsigned long long first,
                                           unsigned long long second) {
  asm volatile("st.relaxed.gpu.global.v2.b64 [%0], {%1, %2};" ::"l"(to), "l"(first), "l"(second)
               : "memory");
}
__device__ __forceinline__ void ask_words(unsigned long long &first, unsigned long long &second,
                                          const unsigned long long *from) {
  asm volatile("ld.relaxed.gpu.global.v2.b64 {%0, %1}, [%2];"
               : "=l"(first), "=l"(second)
               : "l"(from)
               : "memory");
}
// Orders what was stored and read before it and what comes after, for all of the GPU
// ("fence.acq_rel").
__device__ __forceinline__ void fence_gpu() { asm volatile("fence.acq_rel.gpu;" ::: "memory"); }

// How often blocks of threads have come to meet_grid: bit 31 changes with each meeting, those below
// are 0 between meetings. It belongs to the module, whose memory is 0 when it is loaded. No two
// launches may overlap: so a kernel that meets takes all registers of every multiprocessor.
static __device__ int grid_arrivals;
// By one thread of each of the grid's blocks, behind a barrier with the threads that it speaks for:
// until one of every block has come here; what these had stored can be seen then ("atom.relaxed",
// "fence.acq_rel"). Of a cooperative launch.
__device__ __forceinline__ void meet_grid(int block, int blocks) {
  fence_gpu();
  const unsigned before = static_cast<unsigned>(
      atomicAdd(&grid_arrivals, block == 0 ? static_cast<int>(0x80000000u - (blocks - 1)) : 1));
  unsigned now;
  do {
    asm volatile("ld.relaxed.gpu.global.b32 %0, [%1];"
                 : "=r"(now)
                 : "l"(&grid_arrivals)
                 : "memory");
  } while (((now ^ before) & 0x80000000u) == 0);
  fence_gpu();
}

// Between asking and asking again. Nothing here: the words are under way for longer than that.
__device__ __forceinline__ void await_others() { asm volatile("" ::: "memory"); }
// The same where an answer may take long, by warps whose questions would be in the way of others.
__device__ __forceinline__ void back_off() { __nanosleep(100); }
// What another multiprocessor may have written since this one has read it ("ld.global.cg": from
// the L2 cache).
__device__ __forceinline__ float4 load_uncached(const float4 *from) {
  float4 value;
  asm volatile("ld.global.cg.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(value.x), "=f"(value.y), "=f"(value.z), "=f"(value.w)
               : "l"(from)
               : "memory");
  return value;
}

// A word of shared memory that orders nothing: whoever reads it may find what was there before.
// Both happen where `condition` holds, without a branch, so that the compiler still knows its
// surroundings to be uniform; elsewhere 0 is found. Atomics, since racecheck takes them for what
// they are ("atom").
__device__ __forceinline__ int hint_if(bool condition, unsigned shared) {
  int value;
  asm volatile("{.reg .pred p; setp.ne.b32 p, %1, 0; mov.b32 %0, 0; @p atom.relaxed.shared.or.b32 "
               "%0, [%2], 0;}"
               : "=&r"(value)
               : "r"(static_cast<int>(condition)), "r"(shared));
  return value;
}
__device__ __forceinline__ void set_hint_if(bool condition, unsigned shared, int value) {
  asm volatile("{.reg .pred p; .reg .b32 before; setp.ne.b32 p, %0, 0; @p "
               "atom.relaxed.shared.exch.b32 before, [%1], %2;}" ::"r"(static_cast<int>(condition)),
               "r"(shared), "r"(value));
}

//===-- "setmaxnreg" --------------------------------------------------------------------------===//

template <int kRegisters> __device__ __forceinline__ void claim_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters> __device__ __forceinline__ void release_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

//===-- "bar.sync" ----------------------------------------------------------------------------===//

// Barrier of the first `threads` threads that name `id` (1..15; 0 is sync_threads).
__device__ __forceinline__ void sync_some(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

// The same; true in all of them where `vote` holds in any ("bar.red").
__device__ __forceinline__ bool sync_any(int id, int threads, bool vote) {
  unsigned any;
  asm volatile("{.reg .pred p; setp.ne.b32 p, %3, 0; bar.red.or.pred p, %1, %2, p; "
               "selp.u32 %0, 1, 0, p;}"
               : "=r"(any)
               : "r"(id), "r"(threads), "r"(static_cast<unsigned>(vote))
               : "memory");
  return any != 0;
}

//===-- "Asynchronous Warpgroup Level Matrix Instructions" ------------------------------------===//

__device__ __forceinline__ void wgmma_fence() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Waits until at most kPending of the warpgroup's committed groups are unfinished.
template <int kPending> __device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// Descriptor of a matrix in shared memory with the 128-byte swizzle and 1024 bytes from 8 rows to
// the next 8 ("Matrix Descriptor Format"). The low word holds the address in units of 16 bytes, so
// an offset is added to it in 32 bits. `leading`: bytes to the next 64 columns of a matrix whose
// rows run along the product's depth; ignored otherwise.
__device__ __forceinline__ unsigned descriptor_start(unsigned address, int leading) {
  return (address & 0x3ffff) >> 4 | leading >> 4 << 16;
}
__device__ __forceinline__ unsigned long long matrix_descriptor(unsigned start, int offset) {
  constexpr unsigned long long kHigh = 1024 >> 4 | 1u << 30; // stride of 8 rows, swizzle mode
  return kHigh << 32 | start + (offset >> 4);
}

// wgmma_shared: sum[64 x N] = left[64 x 16] right[N x 16]^T (+ sum if `add`), both factors in
// shared memory with rows along the depth. wgmma_registers: sum[64 x N] += left[64 x 16] right[16 x
// N], left in registers (A fragments, 16 rows per warp), right with rows along N. Sums have
// mma.sync's layout, 16 rows per warp (m64nNk16, fp32 sums).
#define WINNOW_SUMS_1(j) "+f"(sum[j][0]), "+f"(sum[j][1]), "+f"(sum[j][2]), "+f"(sum[j][3])
#define WINNOW_SUMS_2(j) WINNOW_SUMS_1(j), WINNOW_SUMS_1(j + 1)
#define WINNOW_SUMS_4(j) WINNOW_SUMS_2(j), WINNOW_SUMS_2(j + 2)
#define WINNOW_SUMS_8(j) WINNOW_SUMS_4(j), WINNOW_SUMS_4(j + 4)
#define WINNOW_SUMS_12(j) WINNOW_SUMS_8(j), WINNOW_SUMS_4(j + 8)
#define WINNOW_SUMS_16(j) WINNOW_SUMS_8(j), WINNOW_SUMS_8(j + 8)
#define WINNOW_SUMS_24(j) WINNOW_SUMS_16(j), WINNOW_SUMS_8(j + 16)
#define WINNOW_SUMS_32(j) WINNOW_SUMS_16(j), WINNOW_SUMS_16(j + 16)
#define WINNOW_LIST_8 "%0, %1, %2, %3, %4, %5, %6, %7"
#define WINNOW_LIST_16                                                                             \
  WINNOW_LIST_8 ", "                                                                               \
                "%8, %9, %10, %11, %12, %13, %14, %15"
#define WINNOW_LIST_32                                                                             \
  WINNOW_LIST_16 ", "                                                                              \
                 "%16, %17, %18, %19, %20, %21, %22, %23, "                                        \
                 "%24, %25, %26, %27, %28, %29, %30, %31"
#define WINNOW_LIST_48                                                                             \
  WINNOW_LIST_32 ", "                                                                              \
                 "%32, %33, %34, %35, %36, %37, %38, %39, "                                        \
                 "%40, %41, %42, %43, %44, %45, %46, %47"
#define WINNOW_LIST_64                                                                             \
  WINNOW_LIST_48 ", "                                                                              \
                 "%48, %49, %50, %51, %52, %53, %54, %55, "                                        \
                 "%56, %57, %58, %59, %60, %61, %62, %63"
#define WINNOW_LIST_96                                                                             \
  WINNOW_LIST_64 ", "                                                                              \
                 "%64, %65, %66, %67, %68, %69, %70, %71, "                                        \
                 "%72, %73, %74, %75, %76, %77, %78, %79, "                                        \
                 "%80, %81, %82, %83, %84, %85, %86, %87, "                                        \
                 "%88, %89, %90, %91, %92, %93, %94, %95"
#define WINNOW_LIST_128                                                                            \
  WINNOW_LIST_96 ", "                                                                              \
                 "%96, %97, %98, %99, %100, %101, %102, %103, "                                    \
                 "%104, %105, %106, %107, %108, %109, %110, %111, "                                \
                 "%112, %113, %114, %115, %116, %117, %118, %119, "                                \
                 "%120, %121, %122, %123, %124, %125, %126, %127"

#define WINNOW_WGMMA_SHARED(N, list, rows, type, a, b, add)                                        \
  asm volatile("{.reg .pred p; setp.ne.b32 p, " add ", 0; wgmma.mma_async.sync.aligned.m64n" #N    \
               "k16.f32." type "." type " {" list "}, " a ", " b ", p, 1, 1, 0, 0;}"               \
               : WINNOW_SUMS_##rows(0)                                                             \
               : "l"(left), "l"(right), "r"(static_cast<int>(accumulate)))
#define WINNOW_WGMMA_REGISTERS(N, list, rows, type, a0, a1, a2, a3, b)                             \
  asm volatile("wgmma.mma_async.sync.aligned.m64n" #N "k16.f32." type "." type " {" list "}, {" a0 \
               ", " a1 ", " a2 ", " a3 "}, " b ", 1, 1, 1, 1;"                                     \
               : WINNOW_SUMS_##rows(0)                                                             \
               : "r"(left[0]), "r"(left[1]), "r"(left[2]), "r"(left[3]), "l"(right))
#define WINNOW_WGMMA(N, list, rows, p0, p1, p2, p3, p4)                                            \
  template <class T>                                                                               \
  __device__ __forceinline__ void wgmma_shared(float (&sum)[N / 8][4], unsigned long long left,    \
                                               unsigned long long right, bool accumulate) {        \
    if constexpr (is_same<T, bf16>)                                                                \
      WINNOW_WGMMA_SHARED(N, list, rows, "bf16", p0, p1, p2);                                      \
    else                                                                                           \
      WINNOW_WGMMA_SHARED(N, list, rows, "f16", p0, p1, p2);                                       \
  }                                                                                                \
  template <class T>                                                                               \
  __device__ __forceinline__ void wgmma_registers(                                                 \
      float (&sum)[N / 8][4], const unsigned (&left)[4], unsigned long long right) {               \
    if constexpr (is_same<T, bf16>)                                                                \
      WINNOW_WGMMA_REGISTERS(N, list, rows, "bf16", p0, p1, p2, p3, p4);                           \
    else                                                                                           \
      WINNOW_WGMMA_REGISTERS(N, list, rows, "f16", p0, p1, p2, p3, p4);                            \
  }
WINNOW_WGMMA(16, WINNOW_LIST_8, 2, "%8", "%9", "%10", "%11", "%12")
WINNOW_WGMMA(32, WINNOW_LIST_16, 4, "%16", "%17", "%18", "%19", "%20")
WINNOW_WGMMA(64, WINNOW_LIST_32, 8, "%32", "%33", "%34", "%35", "%36")
WINNOW_WGMMA(96, WINNOW_LIST_48, 12, "%48", "%49", "%50", "%51", "%52")
WINNOW_WGMMA(128, WINNOW_LIST_64, 16, "%64", "%65", "%66", "%67", "%68")
WINNOW_WGMMA(192, WINNOW_LIST_96, 24, "%96", "%97", "%98", "%99", "%100")
WINNOW_WGMMA(256, WINNOW_LIST_128, 32, "%128", "%129", "%130", "%131", "%132")
#undef WINNOW_WGMMA
#undef WINNOW_WGMMA_SHARED
#undef WINNOW_WGMMA_REGISTERS

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

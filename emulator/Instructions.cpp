// What kernels call: the functions that templates/arch/emulated.cuh declares, and the hooks that
// the compiler puts before their loads and stores (those of its thread sanitizer, whose run time is
// not linked). All of them find the block that runs and hand on where the kernel called.
#include "emulator/Cluster.h"
#include "emulator/TensorMap.h"
#include <cstring>
#include <fmt/format.h>

using namespace winnow::emulator;

#define KERNEL_FUNCTION extern "C" __attribute__((visibility("default")))
#define PLACE __builtin_return_address(0)

struct EmulatedIndex {
  unsigned x, y, z;
};
struct EmulatedWgmma { // as templates/arch/emulated.cuh
  float *sum;
  int columns;
  bool isBf16, accumulate, leftInRegisters;
  unsigned leftWords[4];
  unsigned long long left, right;
};

extern "C" {
__attribute__((visibility("default"))) EmulatedIndex threadIdx, blockIdx, blockDim, gridDim;
}

// Names that device text and compilers know.
// NOLINTBEGIN(readability-identifier-naming,bugprone-reserved-identifier)
KERNEL_FUNCTION void emulated_warp(int operation, unsigned lanes, void *value) {
  runningBlock()->warp(operation, lanes, value, PLACE);
}
KERNEL_FUNCTION void emulated_block_sync() {
  runningBlock()->sync(0, static_cast<int>(blockDim.x), false, PLACE);
}
KERNEL_FUNCTION unsigned emulated_named_sync(int id, int threads, unsigned vote) {
  return runningBlock()->sync(id, threads, vote != 0, PLACE);
}
KERNEL_FUNCTION int emulated_cluster_blocks() {
  return runningBlock()->cluster.isGrid() ? 1 : runningBlock()->cluster.size();
}
KERNEL_FUNCTION int emulated_cluster_block() {
  return runningBlock()->cluster.isGrid() ? 0 : runningBlock()->rank;
}
KERNEL_FUNCTION void emulated_await_others() { runningBlock()->awaitOthers(PLACE); }
KERNEL_FUNCTION void emulated_meet_grid() {
  Block &block = *runningBlock();
  int &arrivals = block.cluster.arrivals;
  const int all = (arrivals / block.cluster.size() + 1) * block.cluster.size();
  for (++arrivals; arrivals < all;)
    block.awaitOthers(PLACE);
}
KERNEL_FUNCTION void emulated_cluster_sync() { runningBlock()->syncCluster(PLACE); }
KERNEL_FUNCTION void *emulated_shared_of(const void *pointer, int block) {
  return runningBlock()->sharedOf(pointer, block, PLACE);
}
KERNEL_FUNCTION unsigned emulated_shared_address_of(unsigned address, int block) {
  return runningBlock()->sharedAddressOf(address, block, PLACE);
}
KERNEL_FUNCTION void emulated_send(unsigned to, unsigned barrier, const void *words, int bytes) {
  runningBlock()->send(to, barrier, words, bytes, PLACE);
}
KERNEL_FUNCTION void emulated_announce(unsigned barrier, int bytes) {
  runningBlock()->announce(barrier, bytes, PLACE);
}
KERNEL_FUNCTION void emulated_copy_async(unsigned to, const void *from, int bytes) {
  if (bytes > 0)
    runningBlock()->access(from, bytes, false, PLACE);
  runningBlock()->copyAsync(to, from, bytes, PLACE);
}
KERNEL_FUNCTION void emulated_wait_copies() { runningBlock()->waitCopies(PLACE); }
KERNEL_FUNCTION void emulated_store_shared(unsigned to, const void *bytes, int count) {
  Block &block = *runningBlock();
  block.access(block.memory.at(to), count, true, PLACE);
  std::memcpy(block.memory.at(to), bytes, count);
}
KERNEL_FUNCTION void emulated_init_barrier(unsigned barrier, int arrivals) {
  runningBlock()->initBarrier(barrier, arrivals, PLACE);
}
KERNEL_FUNCTION void emulated_arrive(unsigned barrier, int times, int bytes) {
  runningBlock()->arrive(barrier, times, bytes, PLACE);
}
KERNEL_FUNCTION void emulated_arrive_after_copies(unsigned barrier) {
  runningBlock()->copyLater({}, barrier, 1, 0, PLACE);
}
KERNEL_FUNCTION void emulated_wait(unsigned barrier, int phase) {
  runningBlock()->wait(barrier, phase, PLACE);
}
KERNEL_FUNCTION bool emulated_is_complete(unsigned barrier, int phase) {
  return runningBlock()->isComplete(barrier, phase, PLACE);
}
KERNEL_FUNCTION void emulated_fence_proxy() {
  runningBlock()->memory.fence(runningBlock()->current().index);
}
KERNEL_FUNCTION void emulated_copy_bulk(unsigned to, const void *from, int bytes,
                                        unsigned barrier) {
  Block &block = *runningBlock();
  if (bytes % 16 != 0 || to % 16 != 0 || reinterpret_cast<uintptr_t>(from) % 16 != 0)
    block.fail("a bulk copy whose size or addresses are no multiples of 16", {PLACE});
  block.access(static_cast<const char *>(from), 1, false, PLACE);
  block.access(static_cast<const char *>(from) + bytes - 1, 1, false, PLACE);
  block.copyLater({{to, from, bytes}}, barrier, 0, bytes, PLACE);
}
KERNEL_FUNCTION void emulated_copy_box(unsigned to, const void *map, unsigned barrier, int rank,
                                       const int *corner) {
  Block &block = *runningBlock();
  std::vector<Copy> copies;
  int bytes = 0;
  if (std::string wrong = boxCopies(map, to, {corner, corner + rank}, copies, bytes);
      !wrong.empty())
    block.fail(wrong, {PLACE});
  block.copyLater(std::move(copies), barrier, 0, bytes, PLACE);
}
KERNEL_FUNCTION void emulated_wgmma(const EmulatedWgmma *given) {
  Product product;
  product.sum = given->sum;
  product.columns = given->columns;
  product.isBf16 = given->isBf16, product.accumulate = given->accumulate;
  product.leftInRegisters = given->leftInRegisters;
  std::memcpy(product.leftWords, given->leftWords, sizeof(product.leftWords));
  product.left = given->left, product.right = given->right;
  runningBlock()->issueProduct(product, PLACE);
}
KERNEL_FUNCTION void emulated_wgmma_fence() {}
KERNEL_FUNCTION void emulated_wgmma_commit() { runningBlock()->commitProducts(); }
KERNEL_FUNCTION void emulated_wgmma_wait(int pending) {
  runningBlock()->waitProducts(pending, PLACE);
}
KERNEL_FUNCTION void emulated_registers(int, int) {
  runningBlock()->meetWarpgroup("a change of registers", PLACE);
}
KERNEL_FUNCTION unsigned emulated_atomic_or(unsigned *address, unsigned bits) {
  unsigned *word = runningBlock()->atomicWord(address, PLACE), before = *word;
  *word |= bits;
  return before;
}
KERNEL_FUNCTION int emulated_atomic_add(int *address, int value) {
  auto *word = reinterpret_cast<int *>(runningBlock()->atomicWord(address, PLACE));
  const int before = *word;
  *word += value;
  return before;
}
/// Blocks of threads run one after the other: what has not come cannot come any more.
KERNEL_FUNCTION void emulated_wait_at_least(const int *number, int value) {
  Block &block = *runningBlock();
  block.access(number, sizeof(int), false, PLACE);
  if (*number < value)
    block.fail(
        fmt::format("a thread waits for the number {} where {} stands, and nobody is left to "
                    "write it",
                    value, *number),
        {PLACE});
}

//===-- Loads and stores ----------------------------------------------------------------------===//

/// What the kernel's object holds beside its code: constants that the compiler did not fold.
static const unsigned char *constantsBegin, *constantsEnd;
void winnow::emulator::setConstants(const void *begin, const void *end) {
  constantsBegin = static_cast<const unsigned char *>(begin);
  constantsEnd = static_cast<const unsigned char *>(end);
}

/// Whether a kernel may read an address that is neither shared nor device memory.
static bool isConstant(const void *address) {
  // Globals of the emulator, which kernels read as built-in variables.
  const auto *byte = static_cast<const unsigned char *>(address);
  for (const EmulatedIndex *index : {&threadIdx, &blockIdx, &blockDim, &gridDim})
    if (byte >= reinterpret_cast<const unsigned char *>(index) &&
        byte < reinterpret_cast<const unsigned char *>(index + 1))
      return true;
  return byte >= constantsBegin && byte < constantsEnd;
}

static void observe(const void *address, int bytes, bool writes, const void *place) {
  Block *block = runningBlock();
  if (block && (writes || !isConstant(address)))
    block->access(address, bytes, writes, place);
}

#define HOOKS(bytes)                                                                               \
  KERNEL_FUNCTION void __tsan_read##bytes(void *address) {                                         \
    observe(address, bytes, false, PLACE);                                                         \
  }                                                                                                \
  KERNEL_FUNCTION void __tsan_write##bytes(void *address) {                                        \
    observe(address, bytes, true, PLACE);                                                          \
  }                                                                                                \
  KERNEL_FUNCTION void __tsan_unaligned_read##bytes(void *address) {                               \
    observe(address, bytes, false, PLACE);                                                         \
  }                                                                                                \
  KERNEL_FUNCTION void __tsan_unaligned_write##bytes(void *address) {                              \
    observe(address, bytes, true, PLACE);                                                          \
  }
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)
#undef HOOKS
KERNEL_FUNCTION void __tsan_init() {}
KERNEL_FUNCTION void __tsan_func_entry(void *) {}
KERNEL_FUNCTION void __tsan_func_exit() {}
static void observeRange(const void *address, size_t bytes, const void *place) {
  for (size_t i = 0; i < bytes; ++i)
    observe(static_cast<const char *>(address) + i, 1, true, place);
}
static void observeObject(const void *address, size_t bytes, const void *place) {
  Block *block = runningBlock();
  if (block && bytes > 0 && !isConstant(address))
    block->readObject(address, static_cast<int>(bytes), place);
}
KERNEL_FUNCTION void *__tsan_memcpy(void *to, const void *from, size_t bytes) {
  observeObject(from, bytes, PLACE);
  observeRange(to, bytes, PLACE);
  return std::memcpy(to, from, bytes);
}
KERNEL_FUNCTION void *__tsan_memset(void *to, int value, size_t bytes) {
  observeRange(to, bytes, PLACE);
  return std::memset(to, value, bytes);
}
KERNEL_FUNCTION void *__tsan_memmove(void *to, const void *from, size_t bytes) {
  observeObject(from, bytes, PLACE);
  observeRange(to, bytes, PLACE);
  return std::memmove(to, from, bytes);
}
// NOLINTEND(readability-identifier-naming,bugprone-reserved-identifier)

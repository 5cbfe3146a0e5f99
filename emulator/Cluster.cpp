// See Cluster.h.
#include "emulator/Cluster.h"
#include <algorithm>
#include <cstring>
#include <fmt/format.h>
#include <sys/mman.h>

/// As the kernels declare it (templates/arch/emulated.cuh).
struct EmulatedIndex {
  unsigned x, y, z;
};
extern "C" EmulatedIndex blockIdx;

namespace winnow::emulator {

/// One kernel's array for each block, kept from cluster to cluster; pages that were never touched
/// take no memory.
static unsigned char *parkedBytes() {
  static auto *memory = static_cast<unsigned char *>(
      ::mmap(nullptr, kMostClusterBlocks * kSharedArray, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  return memory;
}

Cluster::Cluster(const LaunchShape &shape, unsigned firstX, unsigned firstY, unsigned char *shared,
                 Block::Kernel kernel, const Params &params, uint64_t seed)
    : shape(shape), firstX(firstX), firstY(firstY), shared(shared),
      proxyFences(static_cast<size_t>(shape.clusterX) * shape.clusterY,
                  std::vector<uint32_t>(shape.threads)),
      random(seed) {
  for (size_t rank = 0; rank < proxyFences.size(); ++rank) {
    blocks.push_back(std::make_unique<Block>(*this, static_cast<int>(rank), shape.threads, shared,
                                             shape.sharedBytes, kernel, params, seed + rank));
    order.push_back(blocks.back().get());
    // NaN, as long as nobody has written.
    std::memset(bytesOf(static_cast<int>(rank)), 0xff, shape.sharedBytes);
  }
}

unsigned char *Cluster::bytesOf(int rank) const { return parkedBytes() + rank * kSharedArray; }

Block *Cluster::ownerOf(const void *address) const {
  const auto offset = static_cast<const unsigned char *>(address) - parkedBytes();
  if (offset < 0 || offset >= size() * kSharedArray)
    return nullptr;
  return blocks[offset / kSharedArray].get();
}

std::optional<Fault> Cluster::runBlock(Block &block) {
  const auto rank = static_cast<unsigned>(block.rank);
  blockIdx = {firstX + rank % shape.clusterX, firstY + rank / shape.clusterX, 0};
  std::memcpy(shared, bytesOf(block.rank), shape.sharedBytes);
  std::optional<Fault> fault = block.run();
  std::memcpy(bytesOf(block.rank), shared, shape.sharedBytes);
  const Epoch &visit = block.lastVisit.epoch;
  if (!fault && block.hasEnded() && visit.lane >= 0 && visit.phase == phase)
    return block.visitedAtEnd();
  return fault;
}

/// Runs the blocks by turns until none comes further; a message may set one going again.
std::optional<Fault> Cluster::takeTurns() {
  auto canRun = [](const Block *block) { return block->canRun(); };
  auto comesOn = [](const Block *block) { return block->canRun() && block->hasComeOn(); };
  // Lanes that ask for what others tell may be asked again and again; but not for ever.
  constexpr int kMostIdleRounds = 64;
  for (int idle = 0; idle < kMostIdleRounds && std::any_of(order.begin(), order.end(), canRun);
       idle = std::any_of(order.begin(), order.end(), comesOn) ? 0 : idle + 1) {
    std::shuffle(order.begin(), order.end(), random);
    for (Block *block : order)
      if (std::optional<Fault> fault = block->canRun() ? runBlock(*block) : std::nullopt)
        return fault;
  }
  for (Block *block : order)
    if (block->isStuck())
      return block->deadlock();
  return std::nullopt;
}

std::optional<Fault> Cluster::run() {
  for (;; ++phase) {
    if (std::optional<Fault> fault = takeTurns())
      return fault;
    const auto ended = std::count_if(order.begin(), order.end(),
                                     [](const Block *block) { return block->hasEnded(); });
    if (ended == size())
      return std::nullopt;
    // The hardware would not wait for threads that have ended. But what they did is in no order to
    // what comes after such a meeting, so every thread has to come to each.
    if (ended > 0)
      return deadlock();
    for (Block *block : order)
      block->leaveClusterSync();
  }
}

Fault Cluster::deadlock() const {
  Fault fault{"deadlock: ", {}};
  for (const auto &block : blocks) {
    fault.what += fmt::format("{}block {} of the cluster {}", block->rank ? "; " : "", block->rank,
                              block->hasEnded() ? "has ended" : "waits at sync_cluster");
    if (!block->hasEnded() && fault.places.empty())
      fault.places.push_back(block->waitsAt());
  }
  return fault;
}

} // namespace winnow::emulator

// A cluster in emulation: blocks of threads that meet at sync_cluster and store into each other's
// shared memory, at once or by messages that a barrier of the receiver counts (PTX ISA 9.0,
// "Cluster of Cooperative Thread Arrays", "st.async"). Its blocks run by turns, each as far as it
// comes without the others, in an order that the seed decides: the one that runs has its bytes in
// the kernel's array of shared memory, the others have theirs in a place of their own, where the
// one that runs reaches them. Every block runs in a cluster, most of them alone.
#pragma once
#include "emulator/Block.h"
#include <memory>

namespace winnow::emulator {

/// That any launch may ask for (CUDA C++ Programming Guide, "Thread Block Clusters": 8 everywhere,
/// 16 on GPUs that have room).
constexpr int kMostClusterBlocks = 16;

/// What a launch runs, beside the kernel: blocks, of which `clusterX` x `clusterY` form a cluster.
struct LaunchShape {
  unsigned gridX = 1, gridY = 1, clusterX = 1, clusterY = 1;
  int threads = 0, sharedBytes = 0;
  /// All blocks of the grid run at the same time: here as one cluster, whose blocks know nothing of
  /// it.
  bool cooperative = false;
};

class Cluster {
public:
  /// The cluster whose first block is (firstX, firstY) of the grid. `shared`: the kernel's array.
  Cluster(const LaunchShape &shape, unsigned firstX, unsigned firstY, unsigned char *shared,
          Block::Kernel kernel, const Params &params, uint64_t seed);
  /// Runs the kernel to its end; what broke a rule, or nothing. blockIdx is then the block that
  /// ran last.
  std::optional<Fault> run();

  int size() const { return static_cast<int>(blocks.size()); }
  bool isGrid() const { return shape.cooperative; }
  Fences &fences() { return proxyFences; }
  Block &block(int rank) { return *blocks[rank]; }
  /// The bytes of a block that does not run.
  unsigned char *bytesOf(int rank) const;
  /// The block among whose bytes, as it does not run, the address lies; or null.
  Block *ownerOf(const void *address) const;
  int arrivals = 0; ///< of blocks at meetings of the grid

private:
  std::optional<Fault> runBlock(Block &block);
  std::optional<Fault> takeTurns();
  Fault deadlock() const;

  LaunchShape shape;
  unsigned firstX, firstY;
  unsigned char *shared;
  Fences proxyFences;
  std::vector<std::unique_ptr<Block>> blocks; ///< by rank
  std::vector<Block *> order;                 ///< of the turns
  std::mt19937_64 random;
  uint32_t phase = 0; ///< meetings so far
};

} // namespace winnow::emulator

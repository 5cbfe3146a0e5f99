// What a kernel's threads and blocks of threads take of a multiprocessor, and how many of them it
// holds: one model for the builders, which choose sizes by it and refuse what does not fit, and for
// the performance model.
#pragma once
#include "runtime/program/ProgramImage.h"

namespace winnow {

constexpr int kWarpThreads = 32;
/// Quarters of a multiprocessor: each has a scheduler, a quarter of the registers, and the warps of
/// every fourth place.
constexpr int kSchedulers = 4;
constexpr int kMostThreadRegisters = 255;
/// Blocks of threads of the largest cluster of sm_90, where a kernel asks for more than the 8 that
/// are portable (CUDA C++ programming guide, 5.2.1).
constexpr int kMostClusterBlocks = 16;

/// Registers of a thread beside KernelFacts::laneRegisters, as ptxas 13.0 needs them without a
/// spill: addresses, loop counters, maxima.
constexpr int kOtherRegisters = 31;

/// KernelFacts::laneRegisters of attend on mma.sync: `rowTiles` tiles of 16 rows of queries,
/// outputs and logits, a lane's share of each.
constexpr int attendLaneRegisters(int rowTiles, int headDim, int valueDim, int keys) {
  return rowTiles * (headDim / 4 + valueDim / 2 + keys / 2);
}
/// The same of gradients of queries on mma.sync: q, dO and the gradient of 16 rows, their weights
/// and changes.
constexpr int queryGradientLaneRegisters(int headDim, int valueDim, int keys) {
  return headDim / 4 + valueDim / 4 + headDim / 2 + keys;
}
/// The same of gradients of keys and values on mma.sync: those of 16 keys, and the weights and
/// changes of a stage of query rows.
constexpr int keyGradientLaneRegisters(int headDim, int valueDim, int queryRows) {
  return headDim / 2 + valueDim / 2 + queryRows;
}
/// The same of score on mma.sync: the operand of 32 summaries, sums of `rowTiles` row tiles, logits
/// of the `headPairs` row tiles of one set of tokens, and two query loads in flight.
constexpr int scoreLaneRegisters(int rowTiles, int headPairs, int headDim) {
  constexpr int kSums = 4, kLogits = 16, kQueryLoads = 8;
  return headDim / 2 + kSums * rowTiles + kLogits * headPairs + kQueryLoads;
}

/// Bytes of a tile in shared memory: SharedTile (templates/core/tile.cuh), and
/// PanelTile (core/warpgroup.cuh), whose columns are padded to panels of 64.
constexpr int sharedTileBytes(int rows, int columns, int elementBytes = 2) {
  return rows * columns * elementBytes;
}
constexpr int panelTileBytes(int rows, int columns) { return (columns + 63) / 64 * 128 * rows; }
/// Where winnow-plan-shared-memory lets an object of so many bytes begin: at a multiple of this.
/// And the room that it takes where another one follows it.
constexpr int sharedAlignment(int bytes) { return bytes >= 1024 ? 1024 : 16; }
constexpr int sharedRoom(int bytes) {
  return (bytes + sharedAlignment(bytes) - 1) / sharedAlignment(bytes) * sharedAlignment(bytes);
}
/// Bytes of the barriers of one ring stage (RingBarriers), and of a parked tile of tokens
/// (TileSlot).
constexpr int kBarrierBytes = 16, kTileSlotBytes = 32;

/// Shared memory of score on mma.sync, all of it alive at once: rows of queries and of one tile of
/// summaries, and a normaliser per query row where it `normalizes`.
constexpr int scoreSharedBytes(int queryRows, int tileSummaries, int headDim, bool normalizes) {
  return sharedTileBytes(queryRows + tileSummaries, headDim) + (normalizes ? 4 * queryRows : 0);
}

/// Threads, rounded up to as many warps in each quarter as in the fullest one.
int wholeQuarters(int threads);
/// Registers that a thread may have in a block of `threads` that is alone on a multiprocessor of
/// `registers`, as ptxas 13.0 limits them: the fullest quarter's share, in steps of 8.
int threadRegisters(int registers, int threads);

/// What a multiprocessor has for the blocks of threads that it holds at a time.
struct Multiprocessor {
  int registers;
  int sharedBytes;   ///< shared memory, the reserve of each block included
  int sharedReserve; ///< bytes that the system takes per block
  int threads, blocks;
};
/// Blocks of threads of the kernel that it holds, by shared memory, threads and registers; 1 at
/// least. `registers` per thread.
int residentBlocks(const Kernel &kernel, int registers, const Multiprocessor &multiprocessor);

} // namespace winnow

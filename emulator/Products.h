// What the instructions of a warp and of a warpgroup compute: shuffles, votes, ldmatrix, mma.sync
// (fragments: PTX ISA 9.0, "Matrix Fragments for mma.m16n8k16"), wgmma ("Asynchronous Warpgroup
// Level Matrix Shared Memory Layout").
#pragma once
#include "emulator/Block.h"

namespace winnow::emulator {

/// As in templates/arch/emulated.cuh.
enum WarpOperation {
  kWarpSync,
  kWarpShuffle,
  kWarpBallot,
  kWarpSum,
  kWarpMatrices,
  kWarpMatricesTransposed,
  kWarpProductBf16,
  kWarpProductFp16
};

/// `values`: the operand of each lane, null for lanes that do not take part; lane i of the warp is
/// `first` + i of the block.
void performWarp(Block &block, int operation, int first, const std::vector<void *> &values,
                 const void *place);

/// The bytes of shared memory that a product reads for the rows of one of the four warps.
std::vector<std::pair<unsigned, int>> operandsOf(const Product &product, int warp);

/// The rows of the warp that begins at lane `firstLane`, of product `index` of `group`.
void multiplyRows(Block &block, std::vector<Lane> &lanes, int firstLane, size_t group,
                  size_t index);

} // namespace winnow::emulator

// A tensor map as the emulated driver encodes it into its 128 bytes, and the copy of a box by it
// (CUDA Driver API, cuTensorMapEncodeTiled; PTX ISA 9.0, "Tensors", 128-byte swizzle).
#pragma once
#include "emulator/Block.h"
#include <vector>

namespace winnow::emulator {

struct TensorMapContent {
  uint64_t magic = 0;
  const unsigned char *base = nullptr;
  uint32_t rank = 0;
  uint32_t extents[5] = {}, box[5] = {}; ///< innermost first, elements
  uint64_t strides[4] = {};              ///< bytes, from the second dimension on
};
static_assert(sizeof(TensorMapContent) <= 128, "a tensor map has 128 bytes");
constexpr uint64_t kTensorMapMagic = 0x77696e6e6f77746d;

/// The copies of the box at `corner` (innermost first) of 16-bit elements, to byte `to` of shared
/// memory, in chunks of 16 bytes; what lies outside the tensor is zero. `bytes`: of the whole box.
/// Returns what is wrong, or "".
std::string boxCopies(const void *map, unsigned to, const std::vector<int> &corner,
                      std::vector<Copy> &copies, int &bytes);

} // namespace winnow::emulator

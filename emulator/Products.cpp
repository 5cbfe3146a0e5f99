// See Products.h.
#include "emulator/Products.h"
#include <cstring>
#include <fmt/format.h>

namespace winnow::emulator {

namespace {

struct Shuffle {
  unsigned value;
  int from;
};
struct Matrices {
  unsigned words[4];
  unsigned address;
};
struct WarpProduct {
  float *sum;
  const unsigned *left;
  unsigned right[2];
};

float fromBf16(unsigned bits) {
  unsigned word = bits << 16;
  float value;
  std::memcpy(&value, &word, 4);
  return value;
}
float fromFp16(unsigned bits) {
  auto half = static_cast<uint16_t>(bits);
  _Float16 value;
  std::memcpy(&value, &half, 2);
  return static_cast<float>(value);
}
float element(unsigned word, int index, bool isBf16) {
  const unsigned bits = index == 0 ? word & 0xffffu : word >> 16;
  return isBf16 ? fromBf16(bits) : fromFp16(bits);
}

/// sum[16 x 8] += left[16 x 16] right[16 x 8] over the fragments of a warp.
void multiply(const std::vector<void *> &values, bool isBf16) {
  float left[16][16], right[16][8];
  for (int lane = 0; lane < 32; ++lane) {
    const auto &part = *static_cast<WarpProduct *>(values[lane]);
    const int g = lane / 4, c = lane % 4;
    for (int word = 0; word < 4; ++word)
      for (int e = 0; e < 2; ++e)
        left[g + 8 * (word % 2)][2 * c + 8 * (word / 2) + e] = element(part.left[word], e, isBf16);
    for (int word = 0; word < 2; ++word)
      for (int e = 0; e < 2; ++e)
        right[2 * c + 8 * word + e][g] = element(part.right[word], e, isBf16);
  }
  for (int lane = 0; lane < 32; ++lane) {
    const auto &part = *static_cast<WarpProduct *>(values[lane]);
    const int g = lane / 4, c = lane % 4;
    for (int e = 0; e < 4; ++e) {
      const int row = g + 8 * (e / 2), column = 2 * c + e % 2;
      float sum = part.sum[e];
      for (int k = 0; k < 16; ++k)
        sum += left[row][k] * right[k][column];
      part.sum[e] = sum;
    }
  }
}

void loadMatrices(Block &block, int first, const std::vector<void *> &values, bool transposed,
                  const void *place) {
  uint16_t rows[32][8];
  for (int lane = 0; lane < 32; ++lane) {
    const auto &part = *static_cast<Matrices *>(values[lane]);
    if (part.address % 16 != 0)
      block.fail(
          fmt::format("lane {} loads a matrix row from byte {} of shared memory, which is no "
                      "multiple of 16",
                      first + lane, part.address),
          {place});
    block.readShared(part.address, 16, first + lane, place);
    std::memcpy(rows[lane], block.memory.at(part.address), 16);
  }
  for (int lane = 0; lane < 32; ++lane) {
    auto &part = *static_cast<Matrices *>(values[lane]);
    for (int matrix = 0; matrix < 4; ++matrix) {
      const int g = lane / 4, c = lane % 4;
      const unsigned low = transposed ? rows[8 * matrix + 2 * c][g] : rows[8 * matrix + g][2 * c];
      const unsigned high =
          transposed ? rows[8 * matrix + 2 * c + 1][g] : rows[8 * matrix + g][2 * c + 1];
      part.words[matrix] = low | high << 16;
    }
  }
}

//===-- Descriptors of wgmma ------------------------------------------------------------------===//

struct Descriptor {
  unsigned start, leading, stride;
  explicit Descriptor(uint64_t bits)
      : start((bits & 0x3fff) << 4), leading((bits >> 16 & 0x3fff) << 4),
        stride((bits >> 32 & 0x3fff) << 4) {}
  /// The 128-byte swizzle: a 16-byte chunk moves by its 128-byte line.
  static unsigned swizzled(unsigned address) { return address ^ (address >> 7 & 7) << 4; }
  /// Rows along the product's depth: element (row, k).
  unsigned along(int row, int k) const {
    return swizzled(start + row / 8 * stride + row % 8 * 128 + k * 2);
  }
  /// Rows along the product's columns: element (k, column).
  unsigned across(int k, int column) const {
    return swizzled(start + column / 64 * leading + k / 8 * stride + k % 8 * 128 + column % 64 * 2);
  }
};

float sharedElement(Block &block, unsigned address, bool isBf16) {
  uint16_t bits;
  std::memcpy(&bits, block.memory.at(address), 2);
  return isBf16 ? fromBf16(bits) : fromFp16(bits);
}

} // namespace

void performWarp(Block &block, int operation, int first, const std::vector<void *> &values,
                 const void *place) {
  switch (operation) {
  case kWarpShuffle: {
    unsigned before[32] = {};
    for (int lane = 0; lane < 32; ++lane)
      if (values[lane])
        before[lane] = static_cast<Shuffle *>(values[lane])->value;
    for (int lane = 0; lane < 32; ++lane)
      if (values[lane]) {
        auto &shuffle = *static_cast<Shuffle *>(values[lane]);
        if (shuffle.from < 0 || shuffle.from > 31 || !values[shuffle.from])
          block.fail(
              fmt::format("lane {} asks for the value of lane {} of its warp, which takes no "
                          "part",
                          first + lane, shuffle.from),
              {place});
        shuffle.value = before[shuffle.from];
      }
    return;
  }
  case kWarpBallot: {
    unsigned votes = 0;
    for (int lane = 0; lane < 32; ++lane)
      if (values[lane] && *static_cast<unsigned *>(values[lane]))
        votes |= 1u << lane;
    for (void *value : values)
      if (value)
        *static_cast<unsigned *>(value) = votes;
    return;
  }
  case kWarpSum: {
    unsigned sum = 0;
    for (void *value : values)
      if (value)
        sum += *static_cast<unsigned *>(value);
    for (void *value : values)
      if (value)
        *static_cast<unsigned *>(value) = sum;
    return;
  }
  case kWarpMatrices:
  case kWarpMatricesTransposed:
    return loadMatrices(block, first, values, operation == kWarpMatricesTransposed, place);
  case kWarpProductBf16:
  case kWarpProductFp16:
    return multiply(values, operation == kWarpProductBf16);
  default:
    block.fail("an unknown instruction of a warp", {place});
  }
}

std::vector<std::pair<unsigned, int>> operandsOf(const Product &product, int warp) {
  std::vector<std::pair<unsigned, int>> ranges;
  if (!product.leftInRegisters) {
    const Descriptor left(product.left);
    for (int row = 16 * warp; row < 16 * warp + 16; ++row)
      for (int k = 0; k < 16; k += 8)
        ranges.emplace_back(left.along(row, k), 16);
    const Descriptor right(product.right);
    for (int row = 0; row < product.columns; ++row)
      for (int k = 0; k < 16; k += 8)
        ranges.emplace_back(right.along(row, k), 16);
  } else {
    const Descriptor right(product.right);
    for (int k = 0; k < 16; ++k)
      for (int column = 0; column < product.columns; column += 8)
        ranges.emplace_back(right.across(k, column), 16);
  }
  return ranges;
}

void multiplyRows(Block &block, std::vector<Lane> &lanes, int firstLane, size_t group,
                  size_t index) {
  const Product &model = lanes[firstLane].groups[group][index];
  const int warp = firstLane / 32 % 4, columns = model.columns;
  float left[16][16];
  std::vector<float> right(static_cast<size_t>(16) * columns);
  const Descriptor leftFactor(model.left), rightFactor(model.right);
  for (int lane = 0; lane < 32; ++lane) {
    const Product &part = lanes[firstLane + lane].groups[group][index];
    if (part.columns != columns || part.right != model.right || part.left != model.left ||
        part.accumulate != model.accumulate || part.leftInRegisters != model.leftInRegisters)
      block.fail(fmt::format("lane {} multiplies other factors than the rest of its warp",
                             firstLane + lane),
                 {lanes[firstLane + lane].place});
    if (model.leftInRegisters)
      for (int word = 0; word < 4; ++word)
        for (int e = 0; e < 2; ++e)
          left[lane / 4 + 8 * (word % 2)][2 * (lane % 4) + 8 * (word / 2) + e] =
              element(part.leftWords[word], e, model.isBf16);
  }
  if (!model.leftInRegisters)
    for (int row = 0; row < 16; ++row)
      for (int k = 0; k < 16; ++k)
        left[row][k] = sharedElement(block, leftFactor.along(16 * warp + row, k), model.isBf16);
  for (int k = 0; k < 16; ++k)
    for (int column = 0; column < columns; ++column)
      right[k * columns + column] = sharedElement(
          block,
          model.leftInRegisters ? rightFactor.across(k, column) : rightFactor.along(column, k),
          model.isBf16);
  for (int lane = 0; lane < 32; ++lane) {
    float *sums = lanes[firstLane + lane].groups[group][index].sum;
    for (int j = 0; j < columns / 8; ++j)
      for (int e = 0; e < 4; ++e) {
        const int row = lane / 4 + 8 * (e / 2), column = 8 * j + 2 * (lane % 4) + e % 2;
        float sum = model.accumulate ? sums[4 * j + e] : 0.f;
        for (int k = 0; k < 16; ++k)
          sum += left[row][k] * right[k * columns + column];
        sums[4 * j + e] = sum;
      }
  }
}

} // namespace winnow::emulator

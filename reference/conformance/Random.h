// A counter-based generator: the value at an index depends on the seed and the index alone, so
// tensors come out the same from any number of threads, in any order, on any machine. Serves test
// inputs, examples and benchmarks.
#pragma once
#include <cstdint>

namespace winnow {

/// One output of SplitMix64 (Steele, Lea, Flood 2014) for counter `index` of stream `seed`.
inline uint64_t randomBits(uint64_t seed, uint64_t index) {
  uint64_t x = seed * 0xd1342543de82ef95u + (index + 1) * 0x9e3779b97f4a7c15u;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return x ^ x >> 31;
}

/// Uniform in [0, 1).
inline double randomUniform(uint64_t seed, uint64_t index) {
  return static_cast<double>(randomBits(seed, index) >> 11) * 0x1p-53;
}

/// Close to a standard normal: the sum of four uniform 16-bit numbers (Irwin-Hall), bounded by 3.5
/// sigma.
inline float randomNormal(uint64_t seed, uint64_t index) {
  uint64_t x = randomBits(seed, index);
  auto sum = static_cast<int>((x & 0xffff) + (x >> 16 & 0xffff) + (x >> 32 & 0xffff) + (x >> 48));
  return static_cast<float>(sum - 131070) * 2.642925e-5f; // 1 / (65536 / sqrt(3))
}

} // namespace winnow

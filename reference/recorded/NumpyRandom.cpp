// SeedSequence, PCG64 (XSL-RR, 128-bit state) and the 256-layer ziggurat as NumPy has them.
// Sources: numpy/random/bit_generator.pyx and src/distributions/distributions.c of NumPy 1.17 and
// later; O'Neill, "PCG" (2014); Marsaglia and Tsang, "The ziggurat method" (2000).
#include "reference/recorded/NumpyRandom.h"
#include <array>
#include <cmath>

namespace winnow {
namespace {

constexpr long double kTailBegin = 3.6541528853610087963519472518L;
constexpr double kMantissa = 0x1p52;

/// The first words of SeedSequence(seed).generate_state.
std::array<uint32_t, 8> seedWords(uint32_t seed) {
  uint32_t constant = 0x43b0d7e5;
  auto hash = [&](uint32_t value) {
    value ^= constant;
    constant *= 0x931e8875;
    value *= constant;
    return value ^ value >> 16;
  };
  auto mix = [](uint32_t x, uint32_t y) {
    uint32_t value = 0xca01f9dd * x - 0x4973f715 * y;
    return value ^ value >> 16;
  };
  std::array<uint32_t, 4> pool;
  for (int i = 0; i < 4; ++i)
    pool[i] = hash(i == 0 ? seed : 0);
  for (int source = 0; source < 4; ++source)
    for (int target = 0; target < 4; ++target)
      if (source != target)
        pool[target] = mix(pool[target], hash(pool[source]));
  std::array<uint32_t, 8> words;
  constant = 0x8b51f9dd;
  for (int i = 0; i < 8; ++i) {
    uint32_t value = pool[i % 4] ^ constant;
    constant *= 0x58f38ded;
    value *= constant;
    words[i] = value ^ value >> 16;
  }
  return words;
}

} // namespace

NumpyRandom::NumpyRandom(uint32_t seed) : limit(256), width(256), density(256) {
  std::array<uint32_t, 8> words = seedWords(seed);
  auto quad = [&](int i) { return static_cast<uint64_t>(words[2 * i + 1]) << 32 | words[2 * i]; };
  Wide start = static_cast<Wide>(quad(0)) << 64 | quad(1);
  increment = (static_cast<Wide>(quad(2)) << 64 | quad(3)) << 1 | 1;
  next();
  state += start;
  next();

  // Layers of equal area, from the tail inwards.
  long double tail = std::exp(-kTailBegin * kTailBegin / 2);
  long double area =
      kTailBegin * tail + std::sqrt(std::acos(-1.0L) / 2) * std::erfc(kTailBegin / std::sqrt(2.0L));
  long double outer = kTailBegin;
  std::vector<long double> exact(256);
  width[255] = static_cast<double>(outer / kMantissa);
  exact[255] = tail;
  limit[0] = static_cast<uint64_t>(outer * tail / area * kMantissa);
  width[0] = static_cast<double>(area / tail / kMantissa);
  exact[0] = 1;
  for (int i = 254; i > 0; --i) {
    long double x = std::sqrt(-2 * std::log(area / outer + exact[i + 1]));
    limit[i + 1] = static_cast<uint64_t>(x / outer * kMantissa);
    width[i] = static_cast<double>(x / kMantissa);
    exact[i] = std::exp(-x * x / 2);
    outer = x;
  }
  limit[1] = 0;
  for (int i = 0; i < 256; ++i)
    density[i] = static_cast<double>(exact[i]);
}

uint64_t NumpyRandom::next() {
  constexpr Wide multiplier = static_cast<Wide>(0x2360ed051fc65da4u) << 64 | 0x4385df649fccf645u;
  state = state * multiplier + increment;
  uint64_t folded = static_cast<uint64_t>(state >> 64) ^ static_cast<uint64_t>(state);
  auto turn = static_cast<unsigned>(state >> 122);
  return folded >> turn | folded << (-turn & 63);
}

double NumpyRandom::nextNormal() {
  for (;;) {
    uint64_t bits = next();
    auto layer = static_cast<int>(bits & 255);
    bool negative = bits >> 8 & 1;
    uint64_t magnitude = bits >> 9 & 0xfffffffffffff;
    double x = static_cast<double>(magnitude) * width[layer];
    double value = negative ? -x : x;
    if (magnitude < limit[layer])
      return value;
    if (layer > 0) {
      double height = (density[layer - 1] - density[layer]) * nextDouble() + density[layer];
      if (height < std::exp(-0.5 * x * x))
        return value;
      continue;
    }
    constexpr auto begin = static_cast<double>(kTailBegin);
    for (;;) {
      double beyond = -std::log1p(-nextDouble()) / begin, y = -std::log1p(-nextDouble());
      if (y + y > beyond * beyond)
        return magnitude >> 8 & 1 ? -(begin + beyond) : begin + beyond;
    }
  }
}

std::vector<double> NumpyRandom::standardNormal(size_t count) {
  std::vector<double> values(count);
  for (double &value : values)
    value = nextNormal();
  return values;
}

} // namespace winnow

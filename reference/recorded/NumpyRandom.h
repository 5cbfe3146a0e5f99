// NumPy's default generator, numpy.random.default_rng(seed).standard_normal(n), number for number:
// the recorded cases name their inputs by seed, and this makes them where there is no Python.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace winnow {

class NumpyRandom {
public:
  explicit NumpyRandom(uint32_t seed);
  std::vector<double> standardNormal(size_t count);

private:
  using Wide = unsigned __int128;
  uint64_t next();
  double nextDouble() { return static_cast<double>(next() >> 11) * 0x1p-53; }
  double nextNormal();

  Wide state = 0, increment = 0;
  std::vector<uint64_t> limit;        ///< ziggurat: integers below it need no further test
  std::vector<double> width, density; ///< of each of the 256 layers
};

} // namespace winnow

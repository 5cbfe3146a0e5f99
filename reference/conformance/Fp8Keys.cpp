// See Fp8Keys.h.
#include "reference/conformance/Fp8Keys.h"
#include "reference/Half.h"
#include <algorithm>

namespace winnow {
namespace {

constexpr float kLargest = 448; ///< of e4m3

std::vector<float> storeRows(const reference::Problem &problem, uint16_t *words, int dim) {
  const size_t tokens = static_cast<size_t>(problem.cuK.back()), heads = problem.kvHeads;
  const float *values = reference::valueTable(problem.dtype);
  std::vector<float> factors(heads);
  reference::parallelFor(heads, {}, [&](size_t head) {
    auto row = [&](size_t token) { return words + (token * heads + head) * dim; };
    float largest = 0;
    for (size_t token = 0; token < tokens; ++token)
      for (int i = 0; i < dim; ++i)
        largest = std::max(largest, std::fabs(values[row(token)[i]]));
    const float factor = factors[head] = largest > 0 ? largest / kLargest : 1;
    for (size_t token = 0; token < tokens; ++token)
      for (int i = 0; i < dim; ++i)
        row(token)[i] = reference::toE4m3(values[row(token)[i]] / static_cast<double>(factor));
  });
  return factors;
}

} // namespace

void storeAsFp8(reference::Problem &problem, uint16_t *k, uint16_t *v) {
  problem.kScale = storeRows(problem, k, problem.headDim);
  problem.vScale = storeRows(problem, v, problem.valueWidth());
}

} // namespace winnow

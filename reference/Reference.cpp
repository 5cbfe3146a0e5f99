// The parts of the fp64 reference that both halves need: geometry of rows, sampling, threads,
// format tables.
#include "reference/Reference.h"
#include "reference/Half.h"
#include "runtime/Threads.h"
#include <algorithm>
#include <atomic>
#include <cmath>
#include <set>
#include <thread>

namespace winnow::reference {

const float *valueTable(Dtype dtype) {
  auto build = [](Dtype format) {
    std::vector<float> table(65536);
    for (int word = 0; word < 65536; ++word)
      table[word] = fromWord(static_cast<uint16_t>(word), format);
    return table;
  };
  static const std::vector<float> bf16 = build(Dtype::BF16), fp16 = build(Dtype::FP16);
  return dtype == Dtype::BF16 ? bf16.data() : fp16.data();
}

const float *keyTable(KvDtype kvDtype, Dtype dtype) {
  static const std::vector<float> fp8 = [] {
    std::vector<float> table(256);
    for (int byte = 0; byte < 256; ++byte)
      table[byte] = fromE4m3(static_cast<uint8_t>(byte));
    return table;
  }();
  return kvDtype == KvDtype::Fp8E4m3 ? fp8.data() : valueTable(dtype);
}

Problem problemOf(const Spec &spec) {
  Problem problem;
  problem.heads = spec.heads;
  problem.kvHeads = spec.kvHeads;
  problem.headDim = spec.headDim;
  problem.valueDim = spec.valueDim;
  problem.block = spec.block;
  problem.topk = spec.topk;
  problem.dtype = spec.dtype;
  problem.kvDtype = spec.kvDtype;
  problem.scale = spec.scale;
  return problem;
}

int Problem::selectHeads(const Method &method) const {
  if (!method.selects)
    return 0;
  return method.combine == Combine::None ? heads : kvHeads;
}

double Problem::softmaxScale() const {
  return scale != 0 ? scale : 1 / std::sqrt(static_cast<double>(headDim));
}

Place placeOf(const Problem &problem, int row) {
  auto after = std::upper_bound(problem.cuQ.begin(), problem.cuQ.end(), row);
  auto sequence = static_cast<int>(after - problem.cuQ.begin()) - 1;
  Place place;
  place.sequence = sequence;
  place.queryCount = problem.cuQ[sequence + 1] - problem.cuQ[sequence];
  place.keyBegin = problem.cuK[sequence];
  place.keyCount = problem.cuK[sequence + 1] - place.keyBegin;
  place.index = row - problem.cuQ[sequence];
  place.position = place.keyCount - place.queryCount + place.index;
  return place;
}

std::vector<int> sampleRows(const Problem &problem, int count) {
  std::set<int> rows;
  int total = problem.totalQ();
  if (count >= total) {
    for (int row = 0; row < total; ++row)
      rows.insert(row);
    return {rows.begin(), rows.end()};
  }
  for (size_t s = 0; s + 1 < problem.cuQ.size(); ++s)
    for (int row : {problem.cuQ[s], problem.cuQ[s + 1] - 1})
      if (row >= problem.cuQ[s] && row < problem.cuQ[s + 1])
        rows.insert(row);
  // Steps of the golden ratio spread the rest evenly without landing on one residue of the block
  // size.
  for (double x = 0.5; static_cast<int>(rows.size()) < count; x += 0.6180339887498949)
    rows.insert(static_cast<int>((x - std::floor(x)) * total));
  return {rows.begin(), rows.end()};
}

double dotProduct(const double *a, const double *b, int count) {
  constexpr int lanes = 8;
  double sums[lanes] = {};
  int i = 0;
  for (; i + lanes <= count; i += lanes)
    for (int lane = 0; lane < lanes; ++lane)
      sums[lane] += a[i + lane] * b[i + lane];
  for (; i < count; ++i)
    sums[0] += a[i] * b[i];
  double sum = 0;
  for (double part : sums)
    sum += part;
  return sum;
}

void parallelFor(size_t count, const Options &options, const std::function<void(size_t)> &body) {
  size_t threads =
      options.threads ? options.threads : std::max(1u, std::thread::hardware_concurrency());
  threads = std::min(threads, count);
  std::atomic<size_t> next{0};
  auto work = [&](bool reports) {
    for (size_t i; (i = next.fetch_add(1)) < count;) {
      body(i);
      if (reports && options.progress)
        options.progress(static_cast<double>(i + 1) / static_cast<double>(count));
    }
  };
  runOnThreads(threads, work);
}

} // namespace winnow::reference

// Steps 5 and 6 of the fp64 reference: attention over given block ids, and the same in plain 16-bit
// arithmetic.
#include "tests/reference/Half.h"
#include "tests/reference/Reference.h"
#include <algorithm>
#include <cmath>
#include <limits>

namespace winnow::reference {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// The key indices (in the sequence) that a row attends to: the set of valid blocks, cut at the
/// row's position.
std::vector<int> visibleKeys(const Problem &problem, const Place &place, const int32_t *ids,
                             bool dense) {
  std::vector<int> keys;
  auto addBlock = [&](int b) {
    for (int i = problem.block * b; i < problem.block * (b + 1) && i <= place.position; ++i)
      keys.push_back(i);
  };
  int blocks = (place.keyCount + problem.block - 1) / problem.block;
  if (dense) {
    for (int b = 0; b < blocks; ++b)
      addBlock(b);
    return keys;
  }
  std::vector<int32_t> valid;
  for (int i = 0; i < problem.topk; ++i)
    if (ids[i] >= 0 && ids[i] < blocks)
      valid.push_back(ids[i]);
  std::sort(valid.begin(), valid.end());
  valid.erase(std::unique(valid.begin(), valid.end()), valid.end());
  for (int b : valid)
    addBlock(b);
  return keys;
}

/// One row and head: out[value_dim] from logits over `keys`. With `plain`, every intermediate
/// tensor is rounded.
class RowAttention {
public:
  RowAttention(const Method &method, const Problem &problem, const Place &place, int row, int head)
      : method(method), problem(problem), values(valueTable(problem.dtype)),
        query(problem.q + (static_cast<size_t>(row) * problem.heads + head) * problem.headDim),
        dim(problem.valueWidth()),
        firstRow(static_cast<size_t>(place.keyBegin) * problem.kvHeads +
                 static_cast<size_t>(head / (problem.heads / problem.kvHeads))) {}

  double run(const std::vector<int> &keys, double *out, double *plain, double *bound) {
    std::fill(out, out + dim, 0.0);
    std::fill(plain, plain + dim, 0.0);
    std::fill(bound, bound + dim, 0.0);
    if (keys.empty())
      return -kInfinity;
    std::vector<double> exact(keys.size()), coarse(keys.size());
    for (size_t n = 0; n < keys.size(); ++n) {
      double dot = product(problem.k + rowOf(keys[n]) * problem.headDim);
      double scale = problem.softmaxScale();
      exact[n] = mapped(dot * scale, keys[n]);
      coarse[n] = round(mapped(round(round(dot) * scale), keys[n]));
    }
    double lse = softmax(exact);
    softmax(coarse);
    for (double &p : coarse)
      p = round(p);
    for (size_t n = 0; n < keys.size(); ++n) {
      const uint16_t *value = problem.v + rowOf(keys[n]) * dim;
      for (int i = 0; i < dim; ++i) {
        double x = values[value[i]];
        out[i] += exact[n] * x;
        plain[i] += coarse[n] * x;
        bound[i] += exact[n] * std::fabs(x);
      }
    }
    // Each probability and the output may be off by half a step; twice that is allowed.
    double step = problem.dtype == Dtype::BF16 ? 0x1p-8 : 0x1p-11;
    for (int i = 0; i < dim; ++i) {
      plain[i] = round(plain[i]);
      bound[i] = step * (bound[i] + std::fabs(out[i])) + 0x1p-24;
    }
    return lse;
  }

private:
  /// Row of k and v, [total_k, kv_heads], of a key of the sequence.
  size_t rowOf(int key) const { return firstRow + static_cast<size_t>(key) * problem.kvHeads; }
  double product(const uint16_t *key) const {
    double sum = 0;
    for (int i = 0; i < problem.headDim; ++i)
      sum += static_cast<double>(values[query[i]]) * values[key[i]];
    return sum;
  }
  double mapped(double logit, int key) const {
    return method.mapLogit ? method.mapLogit(logit, position, key) : logit;
  }
  double round(double value) const { return rounded(value, problem.dtype); }

  /// Turns logits into probabilities; returns the log of the sum of exponentials.
  static double softmax(std::vector<double> &logits) {
    double largest = *std::max_element(logits.begin(), logits.end());
    double sum = 0;
    for (double &x : logits)
      sum += x = std::exp(x - largest);
    for (double &x : logits)
      x /= sum;
    return largest + std::log(sum);
  }

  const Method &method;
  const Problem &problem;
  const float *values;
  const uint16_t *query;
  int dim;
  size_t firstRow;
  int position;
};

} // namespace

Attention attend(const Method &method, const Problem &problem, const int32_t *ids,
                 const Options &options) {
  Attention result;
  result.rows = options.rows.empty() ? sampleRows(problem, problem.totalQ()) : options.rows;
  result.heads = problem.heads;
  result.valueDim = problem.valueWidth();
  size_t rows = result.rows.size();
  result.out.resize(rows * problem.heads * result.valueDim);
  result.plain.resize(result.out.size());
  result.bound.resize(result.out.size());
  result.lse.resize(rows * problem.heads);
  int selectHeads = problem.selectHeads(method);
  parallelFor(rows, options, [&](size_t i) {
    int row = result.rows[i];
    Place place = placeOf(problem, row);
    bool dense = !method.selects || place.keyCount < method.denseLen;
    for (int head = 0; head < problem.heads; ++head) {
      const int32_t *rowIds = nullptr;
      if (!dense) {
        size_t selectHead = head / (problem.heads / selectHeads);
        rowIds = ids + (selectHead * problem.totalQ() + row) * problem.topk;
      }
      size_t at = (i * problem.heads + head) * result.valueDim;
      RowAttention attention(method, problem, place, row, head);
      result.lse[head * rows + i] =
          attention.run(visibleKeys(problem, place, rowIds, dense), &result.out[at],
                        &result.plain[at], &result.bound[at]);
    }
  });
  return result;
}

} // namespace winnow::reference

// Steps 5 and 6 of the fp64 reference: attention over given block ids, and the same in plain 16-bit
// arithmetic.
#include "reference/AttendRow.h"
#include "reference/Half.h"
#include <algorithm>
#include <cmath>
#include <limits>

namespace winnow::reference {
static constexpr double kInfinity = std::numeric_limits<double>::infinity();

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

double mappedLogit(const Method &method, double logit, int position, int key) {
  if (!method.mapLogit)
    return logit;
  double value = method.mapLogit(logit, position, key);
  return value < -1e30 ? -kInfinity : value;
}

double softmax(double *logits, size_t count) {
  double largest = *std::max_element(logits, logits + count);
  if (std::any_of(logits, logits + count, [](double x) { return !(x < kInfinity); })) {
    std::fill(logits, logits + count, std::numeric_limits<double>::quiet_NaN());
    return std::numeric_limits<double>::quiet_NaN();
  }
  if (largest == -kInfinity) {
    std::fill(logits, logits + count, 0.0);
    return largest;
  }
  double sum = 0;
  for (size_t n = 0; n < count; ++n)
    sum += logits[n] = std::exp(logits[n] - largest);
  for (size_t n = 0; n < count; ++n)
    logits[n] /= sum;
  return largest + std::log(sum);
}

namespace {

/// One row and the query heads that share its keys. Keys and values are read once for all of these
/// heads, a few at a time, so that no second copy of a long sequence is made.
class RowAttention {
public:
  RowAttention(const Method &method, const Problem &problem, const Place &place, int row)
      : method(method), problem(problem), place(place), row(row), dim(problem.headDim),
        valueDim(problem.valueWidth()), values(valueTable(problem.dtype)),
        keyValues(keyTable(problem.kvDtype, problem.dtype)),
        chunk(static_cast<size_t>(kChunk) * std::max(dim, valueDim)) {}

  /// Heads [first, first + heads); `out`, `plain`, `bound` point at [heads, value_dim], `lse` and
  /// `lseBound` at [heads] with distance `stride`.
  void run(const std::vector<int> &keys, int first, int heads, double *out, double *plain,
           double *bound, double *lse, double *lseBound, size_t stride) {
    size_t count = keys.size(), elements = static_cast<size_t>(heads) * valueDim;
    for (double *target : {out, plain, bound})
      std::fill(target, target + elements, 0.0);
    int kvHead = first / (problem.heads / problem.kvHeads);
    exact.resize(count * heads);
    coarse.resize(count * heads);
    double longest = logits(keys, kvHead, first, heads);
    std::vector<double> slack(heads);
    least.assign(heads, 0.0);
    for (int h = 0; h < heads; ++h) {
      // Tensor cores align the products of 16 elements and the sum so far to the largest of them
      // and cut off what lies behind fp32's last bit: up to 2^-23 of it for each 16 elements.
      slack[h] = std::ldexp(problem.softmaxScale() * norm(query(h), dim) * longest * dim / 16, -23);
      lse[h * stride] = -kInfinity;
      lseBound[h * stride] = 1e-4 + slack[h];
      if (count == 0)
        continue;
      lse[h * stride] = softmax(&exact[h * count], count);
      // Weights are rounded relative to the largest one; below 2^-14 of it fp16, which fp8 values
      // are multiplied in, has steps of 2^-24.
      if (problem.dtype == Dtype::FP16 || problem.kvDtype == KvDtype::Fp8E4m3)
        least[h] = (problem.dtype == Dtype::FP16 ? 0x1p-13 : 0x1p-16) *
                   *std::max_element(&exact[h * count], &exact[h * count] + count);
      softmax(&coarse[h * count], count);
      for (size_t n = 0; n < count; ++n)
        coarse[h * count + n] = round(coarse[h * count + n]);
    }
    if (count == 0)
      return;
    sumValues(keys, kvHead, heads, out, plain, bound);
    // Each probability and the output may be off by half a step; twice that is allowed, and what
    // fp32 logits of this size are off by.
    double step = problem.dtype == Dtype::BF16 ? 0x1p-8 : 0x1p-11;
    for (size_t i = 0; i < elements; ++i) {
      plain[i] = round(plain[i]);
      bound[i] = (step + 2 * slack[i / valueDim]) * (bound[i] + std::fabs(out[i])) + 0x1p-24;
    }
  }

private:
  static constexpr int kChunk = 16; ///< keys converted at a time: they stay in the first cache

  /// Fills `exact` and `coarse` with logits; returns the largest norm of a key.
  double logits(const std::vector<int> &keys, int kvHead, int first, int heads) {
    queries.resize(static_cast<size_t>(heads) * dim);
    const uint16_t *words = problem.q + (static_cast<size_t>(row) * problem.heads + first) * dim;
    for (size_t i = 0; i < queries.size(); ++i)
      queries[i] = values[words[i]];
    double scale = problem.softmaxScale(), longest = 0;
    for (size_t begin = 0; begin < keys.size(); begin += kChunk) {
      size_t end = std::min(keys.size(), begin + kChunk);
      convert(problem.k, dim, keys, begin, end, kvHead, problem.keyFactor(kvHead));
      for (size_t n = begin; n < end; ++n) {
        const double *key = &chunk[(n - begin) * dim];
        longest = std::max(longest, norm(key, dim));
        for (int h = 0; h < heads; ++h) {
          double dot = dotProduct(query(h), key, dim);
          exact[h * keys.size() + n] = mappedLogit(method, dot * scale, place.position, keys[n]);
          coarse[h * keys.size() + n] =
              round(mappedLogit(method, round(round(dot) * scale), place.position, keys[n]));
        }
      }
    }
    return longest;
  }

  void sumValues(const std::vector<int> &keys, int kvHead, int heads, double *out, double *plain,
                 double *bound) {
    for (size_t begin = 0; begin < keys.size(); begin += kChunk) {
      size_t end = std::min(keys.size(), begin + kChunk);
      convert(problem.v, valueDim, keys, begin, end, kvHead, problem.valueFactor(kvHead));
      for (int h = 0; h < heads; ++h)
        for (size_t n = begin; n < end; ++n)
          addValue(&chunk[(n - begin) * valueDim], exact[h * keys.size() + n],
                   coarse[h * keys.size() + n], least[h], out + static_cast<size_t>(h) * valueDim,
                   plain + static_cast<size_t>(h) * valueDim,
                   bound + static_cast<size_t>(h) * valueDim);
    }
  }

  void addValue(const double *value, double p, double rough, double least, double *__restrict out,
                double *__restrict plain, double *__restrict bound) const {
    const double steps = std::max(p, least);
    for (int i = 0; i < valueDim; ++i) {
      out[i] += p * value[i];
      plain[i] += rough * value[i];
      bound[i] += steps * std::fabs(value[i]);
    }
  }

  /// Rows of k or v, [total_k, kv_heads, width].
  void convert(const uint16_t *tensor, int width, const std::vector<int> &keys, size_t begin,
               size_t end, int kvHead, double factor) {
    for (size_t n = begin; n < end; ++n) {
      const uint16_t *words =
          tensor +
          ((static_cast<size_t>(place.keyBegin) + keys[n]) * problem.kvHeads + kvHead) * width;
      for (int i = 0; i < width; ++i)
        chunk[(n - begin) * width + i] = keyValues[words[i]] * factor;
    }
  }

  const double *query(int h) const { return &queries[static_cast<size_t>(h) * dim]; }
  double round(double value) const { return rounded(value, problem.dtype); }
  static double norm(const double *x, int dim) { return std::sqrt(dotProduct(x, x, dim)); }

  const Method &method;
  const Problem &problem;
  const Place &place;
  int row, dim, valueDim;
  const float *values, *keyValues;
  std::vector<double> chunk, queries, exact, coarse;
  std::vector<double> least; ///< per head: the probability below which steps are constant
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
  result.lseBound.resize(result.lse.size());
  int selectHeads = problem.selectHeads(method);
  parallelFor(rows, options, [&](size_t i) {
    int row = result.rows[i];
    Place place = placeOf(problem, row);
    bool dense = isDense(method, place);
    int lists = dense ? problem.kvHeads : selectHeads, share = problem.heads / lists;
    RowAttention attention(method, problem, place, row);
    for (int list = 0; list < lists; ++list) {
      const int32_t *rowIds = dense ? nullptr : idsOfRow(problem, ids, list, row);
      size_t head = static_cast<size_t>(list) * share;
      size_t at = (i * problem.heads + head) * result.valueDim;
      attention.run(visibleKeys(problem, place, rowIds, dense), static_cast<int>(head), share,
                    &result.out[at], &result.plain[at], &result.bound[at],
                    &result.lse[head * rows + i], &result.lseBound[head * rows + i], rows);
    }
  });
  return result;
}

} // namespace winnow::reference

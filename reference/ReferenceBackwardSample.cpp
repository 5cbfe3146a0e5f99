// Gradients of a sample of rows and keys, for problems whose whole gradients take hours in fp64.
// The formulas are those of ReferenceBackward.cpp, with P = exp(L - lse) and delta = rowsum(dO * O)
// of results that are given: no row's softmax has to be made anew for a key that it attends to.
#include "reference/AttendRow.h"
#include "reference/Half.h"
#include <algorithm>
#include <cmath>

namespace winnow::reference {
namespace {

double norm(const std::vector<double> &x) {
  return std::sqrt(dotProduct(x.data(), x.data(), static_cast<int>(x.size())));
}

/// Gradients of one token and head, and the squares of its terms' errors.
struct TokenSums {
  double *value, *squares;
  int count;
  void add(double factor, double mistake, const std::vector<double> &row) const {
    for (int i = 0; i < count; ++i) {
      value[i] += factor * row[i];
      squares[i] += mistake * mistake * row[i] * row[i];
    }
  }
};

/// What a row of one query head and a key of its KV head have to do with each other.
class Pair {
public:
  Pair(const Method &method, const Problem &problem, const AttendedTensors &given)
      : method(method), problem(problem), given(given), values(valueTable(problem.dtype)) {}

  void takeRow(int row, int head) {
    const size_t at = static_cast<size_t>(row) * problem.heads + head;
    widen(problem.q + at * problem.headDim, problem.headDim, query);
    widen(given.dout + at * problem.valueWidth(), problem.valueWidth(), gradient);
    widen(given.out + at * problem.valueWidth(), problem.valueWidth(), output);
    lse = given.lse[static_cast<size_t>(head) * problem.totalQ() + row];
    delta = dotProduct(gradient.data(), output.data(), problem.valueWidth());
    position = placeOf(problem, row).position;
  }

  /// `token` over the batch, `index` in its sequence.
  void takeKey(int token, int index, int kvHead) {
    const size_t at = static_cast<size_t>(token) * problem.kvHeads + kvHead;
    widen(problem.k + at * problem.headDim, problem.headDim, key);
    widen(problem.v + at * problem.valueWidth(), problem.valueWidth(), value);
    keyIndex = index;
  }

  /// P, dS and how far either may be off: see RowsBackward::errorsOf. The output is given, so delta
  /// has but the errors of its sum.
  void compute() {
    const double scale = problem.softmaxScale(), fp32 = 0x1p-23;
    const double logit = scale * dotProduct(query.data(), key.data(), problem.headDim);
    const double mapped = mappedLogit(method, logit, position, keyIndex);
    p = std::isinf(mapped) && mapped < 0 ? 0 : std::exp(mapped - lse);
    const double slope =
        method.mapLogit && p > 0 ? method.logitSlope(logit, position, keyIndex) : 1;
    const double change = dotProduct(gradient.data(), value.data(), problem.valueWidth()) - delta;
    ds = p * slope * change;
    const double step = problem.dtype == Dtype::BF16 ? 0x1p-8 : 0x1p-11;
    const double least = problem.dtype == Dtype::FP16 ? 0x1p-13 : 0;
    const double relative =
        step + 2 * fp32 * (scale * norm(query) * norm(key) * problem.headDim / 16 + std::fabs(lse));
    const double difference =
        fp32 * norm(gradient) * (norm(value) + norm(output)) * problem.valueWidth() / 16;
    pMistake = relative * std::max(p, least);
    dsMistake = relative * std::max(std::fabs(ds), least) + std::fabs(p * slope) * difference;
  }

  std::vector<double> query, key, value, gradient;
  double p = 0, ds = 0, pMistake = 0, dsMistake = 0;

private:
  void widen(const uint16_t *words, int count, std::vector<double> &elements) const {
    elements.resize(count);
    for (int i = 0; i < count; ++i)
      elements[i] = values[words[i]];
  }

  const Method &method;
  const Problem &problem;
  const AttendedTensors &given;
  const float *values;
  std::vector<double> output;
  double lse = 0, delta = 0;
  int position = 0, keyIndex = 0;
};

/// Calls body(list, first head, last head) for each list of ids of a KV head, or where rows are
/// dense for all of its heads at once.
template <typename Body>
void overLists(const Method &method, const Problem &problem, bool dense, int kvHead, Body &&body) {
  const int lists = dense ? problem.kvHeads : problem.selectHeads(method),
            share = problem.heads / lists, each = lists / problem.kvHeads;
  for (int list = kvHead * each; list < (kvHead + 1) * each; ++list)
    body(list, list * share, (list + 1) * share);
}

/// Room for `heads` rows of each token.
Gradient roomFor(const std::vector<int> &tokens, int heads, int width) {
  const size_t elements = tokens.size() * heads * width;
  return {std::vector<double>(elements), std::vector<double>(elements), tokens};
}

TokenSums sumsOf(Gradient &gradient, size_t token, int heads, int head, int width) {
  const size_t at = (token * heads + head) * width;
  return {&gradient.exact[at], &gradient.bound[at], width};
}

} // namespace

Gradients sampleBackward(const Method &method, const Problem &problem, const AttendedTensors &given,
                         const std::vector<int> &rows, const std::vector<int> &keys,
                         const Options &options) {
  const double scale = problem.softmaxScale();
  const int dim = problem.headDim, valueDim = problem.valueWidth();
  Gradients made{roomFor(rows, problem.heads, dim), roomFor(keys, problem.kvHeads, dim),
                 roomFor(keys, problem.kvHeads, valueDim)};

  auto addRow = [&](size_t n) {
    const Place place = placeOf(problem, rows[n]);
    const bool dense = isDense(method, place);
    Pair pair(method, problem, given);
    for (int kvHead = 0; kvHead < problem.kvHeads; ++kvHead)
      overLists(method, problem, dense, kvHead, [&](int list, int head, int last) {
        const int32_t *ids = dense ? nullptr : idsOfRow(problem, given.ids, list, rows[n]);
        const std::vector<int> visible = visibleKeys(problem, place, ids, dense);
        for (; head < last; ++head) {
          const TokenSums sums = sumsOf(made.q, n, problem.heads, head, dim);
          pair.takeRow(rows[n], head);
          for (int key : visible) {
            pair.takeKey(place.keyBegin + key, key, kvHead);
            pair.compute();
            sums.add(scale * pair.ds, scale * pair.dsMistake, pair.key);
          }
        }
      });
  };

  auto addKey = [&](size_t n) {
    const auto next = std::upper_bound(problem.cuK.begin(), problem.cuK.end(), keys[n]);
    const auto sequence = next - problem.cuK.begin() - 1;
    const int index = keys[n] - problem.cuK[sequence];
    Pair pair(method, problem, given);
    for (int row = problem.cuQ[sequence]; row < problem.cuQ[sequence + 1]; ++row) {
      const Place place = placeOf(problem, row);
      const bool dense = isDense(method, place);
      if (place.position < index)
        continue;
      for (int kvHead = 0; kvHead < problem.kvHeads; ++kvHead)
        overLists(method, problem, dense, kvHead, [&](int list, int head, int last) {
          if (!dense) {
            const int32_t *ids = idsOfRow(problem, given.ids, list, row);
            if (std::find(ids, ids + problem.topk, index / problem.block) == ids + problem.topk)
              return;
          }
          pair.takeKey(keys[n], index, kvHead);
          for (; head < last; ++head) {
            pair.takeRow(row, head);
            pair.compute();
            sumsOf(made.k, n, problem.kvHeads, kvHead, dim)
                .add(scale * pair.ds, scale * pair.dsMistake, pair.query);
            sumsOf(made.v, n, problem.kvHeads, kvHead, valueDim)
                .add(pair.p, pair.pMistake, pair.gradient);
          }
        });
    }
  };

  parallelFor(rows.size() + keys.size(), options,
              [&](size_t n) { n < rows.size() ? addRow(n) : addKey(n - rows.size()); });
  for (Gradient *gradient : {&made.q, &made.k, &made.v})
    for (size_t i = 0; i < gradient->exact.size(); ++i)
      gradient->bound[i] = gradientBound(gradient->bound[i], gradient->exact[i], problem.dtype);
  return made;
}

} // namespace winnow::reference

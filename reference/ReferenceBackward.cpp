// The gradients of step 5 of the fp64 reference: attention over given block ids. With P the
// probabilities, L the logits as the method's region makes them, dP = dO V^T and
// delta = rowsum(dO * O): dS = P (dP - delta) dL/dS; dQ = scale dS K, dK = scale dS^T Q, dV = P^T
// dO (FlashAttention, arXiv 2205.14135, algorithm 4).
#include "reference/AttendRow.h"
#include "reference/Half.h"
#include <algorithm>
#include <cmath>

namespace winnow::reference {
namespace {

/// Sums of one tensor's gradient, and of the squares of its terms' errors.
struct Sums {
  std::vector<double> value, squares;
  explicit Sums(size_t elements) : value(elements, 0.0), squares(elements, 0.0) {}
  void add(size_t at, int count, double factor, double mistake, const double *row) {
    for (int i = 0; i < count; ++i) {
      value[at + i] += factor * row[i];
      squares[at + i] += mistake * mistake * row[i] * row[i];
    }
  }
};

/// Some rows of a problem, and what they add to the gradients of keys and values.
class RowsBackward {
public:
  RowsBackward(const Method &method, const Problem &problem, const uint16_t *dout, Sums &dq)
      : method(method), problem(problem), dout(dout), dim(problem.headDim),
        valueDim(problem.valueWidth()), values(valueTable(problem.dtype)), dq(dq),
        dk(static_cast<size_t>(problem.cuK.back()) * problem.kvHeads * dim),
        dv(static_cast<size_t>(problem.cuK.back()) * problem.kvHeads * valueDim) {}

  void add(int row, const int32_t *ids) {
    const Place place = placeOf(problem, row);
    const bool dense = isDense(method, place);
    const int lists = dense ? problem.kvHeads : problem.selectHeads(method),
              share = problem.heads / lists;
    for (int list = 0; list < lists; ++list) {
      const std::vector<int> keys =
          visibleKeys(problem, place, dense ? nullptr : idsOfRow(problem, ids, list, row), dense);
      gather(keys, place, list * share / (problem.heads / problem.kvHeads));
      for (int head = list * share; head < (list + 1) * share; ++head)
        addHead(keys, place, row, head);
    }
  }

  const Sums &keySums() const { return dk; }
  const Sums &valueSums() const { return dv; }

private:
  /// Keys and values of `kvHead` at hand.
  void gather(const std::vector<int> &keys, const Place &place, int kvHead) {
    places.clear();
    for (int key : keys)
      places.push_back((static_cast<size_t>(place.keyBegin) + key) * problem.kvHeads + kvHead);
    k.resize(keys.size() * dim);
    v.resize(keys.size() * valueDim);
    for (size_t n = 0; n < keys.size(); ++n) {
      widen(problem.k + places[n] * dim, dim, &k[n * dim]);
      widen(problem.v + places[n] * valueDim, valueDim, &v[n * valueDim]);
    }
  }

  void addHead(const std::vector<int> &keys, const Place &place, int row, int head) {
    const size_t count = keys.size(), at = static_cast<size_t>(row) * problem.heads + head;
    query.resize(dim);
    gradient.resize(valueDim);
    widen(problem.q + at * dim, dim, query.data());
    widen(dout + at * valueDim, valueDim, gradient.data());
    const double scale = problem.softmaxScale();
    p.resize(count), slope.assign(count, 1.0);
    for (size_t n = 0; n < count; ++n) {
      const double logit = scale * dotProduct(query.data(), &k[n * dim], dim);
      p[n] = mappedLogit(method, logit, place.position, keys[n]);
      if (method.mapLogit)
        slope[n] = method.logitSlope(logit, place.position, keys[n]);
    }
    if (count == 0)
      return;
    softmax(p.data(), count);
    const Errors errors = errorsOf(count);
    double delta = 0;
    dp.resize(count);
    for (size_t n = 0; n < count; ++n) {
      dp[n] = dotProduct(gradient.data(), &v[n * valueDim], valueDim);
      delta += p[n] * dp[n];
    }
    for (size_t n = 0; n < count; ++n) {
      const double weight = p[n] == 0 ? 0 : p[n] * slope[n], ds = weight * (dp[n] - delta);
      dv.add(places[n] * valueDim, valueDim, p[n], errors.relative * std::max(p[n], errors.least),
             gradient.data());
      const double mistake = errors.relative * std::max(std::fabs(ds), errors.least) +
                             std::fabs(weight) * errors.difference;
      dq.add(at * dim, dim, scale * ds, scale * mistake, &k[n * dim]);
      dk.add(places[n] * dim, dim, scale * ds, scale * mistake, query.data());
    }
  }

  /// What one row's probabilities, and differences dP - delta, may be off.
  struct Errors {
    double relative;   ///< of a probability, and of a product with one
    double least;      ///< below it steps of the 16-bit format are constant
    double difference; ///< absolute, of dP - delta
  };
  Errors errorsOf(size_t count) const {
    double longestKey = 0, longestValue = 0;
    std::vector<double> output(valueDim, 0.0), size(valueDim, 0.0);
    for (size_t n = 0; n < count; ++n) {
      longestKey = std::max(longestKey, norm(&k[n * dim], dim));
      longestValue = std::max(longestValue, norm(&v[n * valueDim], valueDim));
      for (int i = 0; i < valueDim; ++i) {
        output[i] += p[n] * v[n * valueDim + i];
        size[i] += p[n] * std::fabs(v[n * valueDim + i]);
      }
    }
    // As in the forward direction: half a step of the format, doubled, and what products of tensor
    // cores cut off.
    const double step = problem.dtype == Dtype::BF16 ? 0x1p-8 : 0x1p-11;
    const double logits = problem.softmaxScale() * norm(query.data(), dim) * longestKey;
    double difference = norm(gradient.data(), valueDim) * longestValue * valueDim / 16 * 0x1p-23;
    for (int i = 0; i < valueDim; ++i) // the output that delta is made of has two roundings in it
      difference += std::fabs(gradient[i]) * step * (size[i] + std::fabs(output[i]));
    return {step + 2 * std::ldexp(logits * dim / 16, -23),
            problem.dtype == Dtype::FP16 ? 0x1p-13 : 0, difference};
  }

  void widen(const uint16_t *words, int count, double *elements) const {
    for (int i = 0; i < count; ++i)
      elements[i] = values[words[i]];
  }
  static double norm(const double *x, int count) { return std::sqrt(dotProduct(x, x, count)); }

  const Method &method;
  const Problem &problem;
  const uint16_t *dout;
  const int dim, valueDim;
  const float *values;
  Sums &dq; ///< of all rows; each is written by whoever has it
  Sums dk, dv;
  std::vector<size_t> places; ///< rows of k and v of the keys at hand
  std::vector<double> k, v, query, gradient, p, slope, dp;
};

/// The sum of what every part has added.
Gradient total(std::vector<const Sums *> parts, Dtype dtype) {
  Gradient gradient{parts[0]->value, parts[0]->squares, {}};
  for (size_t i = 0; i < gradient.exact.size(); ++i) {
    for (size_t part = 1; part < parts.size(); ++part) {
      gradient.exact[i] += parts[part]->value[i];
      gradient.bound[i] += parts[part]->squares[i];
    }
    gradient.bound[i] = gradientBound(gradient.bound[i], gradient.exact[i], dtype);
  }
  return gradient;
}

} // namespace

double gradientBound(double squares, double exact, Dtype dtype) {
  const double step = dtype == Dtype::BF16 ? 0x1p-8 : 0x1p-11;
  return squares > 0 ? 2 * std::sqrt(squares) + step * std::fabs(exact) + 0x1p-24 : 0;
}

Gradients attendBackward(const Method &method, const Problem &problem, const int32_t *ids,
                         const uint16_t *dout, const Options &options) {
  // Parts whose number does not depend on the threads, so that sums are the same on every machine.
  constexpr int kParts = 4;
  Sums dq(static_cast<size_t>(problem.totalQ()) * problem.heads * problem.headDim);
  std::vector<RowsBackward> parts(kParts, RowsBackward(method, problem, dout, dq));
  parallelFor(kParts, options, [&](size_t part) {
    for (int row = static_cast<int>(part); row < problem.totalQ(); row += kParts)
      parts[part].add(row, ids);
  });
  std::vector<const Sums *> keys, values;
  for (const RowsBackward &part : parts) {
    keys.push_back(&part.keySums());
    values.push_back(&part.valueSums());
  }
  return {total({&dq}, problem.dtype), total(keys, problem.dtype), total(values, problem.dtype)};
}

} // namespace winnow::reference

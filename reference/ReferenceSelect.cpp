// Steps 1 to 4 of the fp64 reference: summaries of the keys, scores, block scores, forced blocks,
// top-k. Each row is computed on its own, straight from the formulas; the only speed-up is threads
// over rows.
#include "reference/Half.h"
#include "reference/Reference.h"
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace winnow::reference {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
/// The logarithm of the score 0: below every other one, and above -inf, a block without summaries.
constexpr double kLogZero = std::numeric_limits<double>::lowest();

/// log(exp(a) + exp(b)).
double addLogarithms(double a, double b) {
  double larger = std::max(a, b), smaller = std::min(a, b);
  return larger == -kInfinity ? larger : larger + std::log1p(std::exp(smaller - larger));
}

int windowCount(int tokens, int window, int stride) {
  return tokens < window ? 0 : (tokens - window) / stride + 1;
}

/// Number of summaries that a query sees: a prefix of them, because windows end in order.
int visibleCount(Visibility visibility, const Place &place, int count, int window, int stride) {
  if (visibility == Visibility::Absolute)
    return place.position + 1 < window
               ? 0
               : std::min(count, (place.position + 1 - window) / stride + 1);
  // The published kernel's rule; C division, truncating toward zero.
  int visible = (place.index + 1) / stride - 1 + count - (place.queryCount - stride + 1) / stride;
  return std::min(count, std::max(0, visible));
}

/// fp64 means over the whole windows of one sequence, [windows, kv_heads, head_dim].
std::vector<double> windowMeans(const Problem &problem, int sequence, int window, int stride,
                                int threads) {
  int begin = problem.cuK[sequence], tokens = problem.cuK[sequence + 1] - begin;
  int count = windowCount(tokens, window, stride);
  int width = problem.kvHeads * problem.headDim;
  const float *values = keyTable(problem.kvDtype, problem.dtype);
  std::vector<double> means(static_cast<size_t>(count) * width);
  Options options;
  options.threads = threads;
  constexpr int batch = 64; // summaries per unit of work
  parallelFor((count + batch - 1) / batch, options, [&](size_t part) {
    int first = static_cast<int>(part) * batch;
    for (int j = first; j < std::min(count, first + batch); ++j) {
      double *sums = &means[static_cast<size_t>(j) * width];
      for (int t = 0; t < window; ++t) {
        const uint16_t *key =
            problem.k + (static_cast<size_t>(begin) + static_cast<size_t>(stride) * j + t) * width;
        for (int i = 0; i < width; ++i)
          sums[i] += values[key[i]];
      }
      for (int i = 0; i < width; ++i)
        sums[i] *= problem.keyFactor(i / problem.headDim) / window;
    }
  });
  return means;
}

/// Summaries of all sequences and the two window shapes.
struct Summaries {
  std::vector<std::vector<double>> fine, coarse; ///< per sequence
};

class RowScorer {
public:
  RowScorer(const Method &method, const Problem &problem, const Summaries &summaries, int row)
      : method(method), problem(problem), place(placeOf(problem, row)),
        fine(summaries.fine[place.sequence]), coarse(summaries.coarse[place.sequence]),
        query(static_cast<size_t>(problem.heads) * problem.headDim) {
    const float *values = valueTable(problem.dtype);
    for (size_t i = 0; i < query.size(); ++i)
      query[i] = values[problem.q[row * query.size() + i]];
    fineCount = windowCount(place.keyCount, method.window, method.stride);
    fineVisible = visibleCount(method.visibility, place, fineCount, method.window, method.stride);
    if (method.lse == Lse::Coarse)
      coarseVisible =
          visibleCount(method.visibility, place,
                       windowCount(place.keyCount, method.coarseWindow, method.coarseStride),
                       method.coarseWindow, method.coarseStride);
  }

  RowSelection run(int selectHead) const {
    int group = problem.heads / problem.kvHeads;
    bool perQueryHead = method.combine == Combine::None;
    int first = perQueryHead ? selectHead : selectHead * group;
    int last = perQueryHead ? first + 1 : first + group;
    RowSelection row;
    row.logarithmic = logarithmic();
    std::vector<double> combined(fineVisible, nothing(method.combine == Combine::Max));
    for (int head = first; head < last; ++head) {
      std::vector<double> scores = headScores(head, row.slack);
      row.rounding = std::max(row.rounding, roundingOf(head));
      for (int j = 0; j < fineVisible; ++j)
        combined[j] = method.combine == Combine::Max ? std::max(combined[j], scores[j])
                                                     : sum(combined[j], scores[j]);
    }
    row.scores = pool(combined);
    chooseTop(row);
    return row;
  }

private:
  /// Softmax scores have any order of magnitude: they are kept as natural logarithms, and a sum of
  /// scores is a log-sum-exp. Raw scores are kept as they are.
  bool logarithmic() const { return method.lse != Lse::None; }
  double zero() const { return logarithmic() ? kLogZero : 0; }
  double sum(double a, double b) const { return logarithmic() ? addLogarithms(a, b) : a + b; }
  double times(double score, double weight) const {
    return logarithmic() ? score + std::log(weight) : score * weight;
  }
  /// What a maximum or a sum of no scores is.
  double nothing(bool isMaximum) const { return isMaximum || logarithmic() ? -kInfinity : 0; }

  double logit(const double *key, int head) const {
    return dotProduct(&query[static_cast<size_t>(head) * problem.headDim], key, problem.headDim) *
           problem.softmaxScale();
  }

  const double *summary(const std::vector<double> &rows, int j, int head) const {
    int kvHead = head / (problem.heads / problem.kvHeads);
    return rows.data() + (static_cast<size_t>(j) * problem.kvHeads + kvHead) * problem.headDim;
  }

  /// Scores of the visible summaries for one query head. `slack` grows by what fp32 dot products
  /// may be off.
  std::vector<double> headScores(int head, double &slack) const {
    std::vector<double> scores(fineVisible);
    for (int j = 0; j < fineVisible; ++j)
      scores[j] = logit(summary(fine, j, head), head);
    if (method.lse == Lse::None) {
      double largest = 0;
      for (double s : scores)
        largest = std::max(largest, std::fabs(s));
      slack += largest * std::ldexp(1.0, -12);
    } else {
      std::vector<double> normaliser;
      if (method.lse == Lse::Exact)
        normaliser = scores;
      else
        for (int c = 0; c < coarseVisible; ++c)
          normaliser.push_back(logit(summary(coarse, c, head), head));
      double lse = logSumExp(normaliser);
      for (double &s : scores) // nothing to normalise by: zeros, never NaN
        s = lse == -kInfinity ? kLogZero : s - lse;
    }
    if (method.mapScore)
      for (int j = 0; j < fineVisible; ++j) {
        scores[j] = method.mapScore(scores[j], place.position, j);
        if (std::isnan(scores[j])) // not defined; an order needs some number
          scores[j] = -kInfinity;
      }
    return scores;
  }

  /// Error of a softmax score's logarithm from the rounding of a summary's elements: each is off by
  /// up to half a step, so the logit has the standard deviation below; four of them, for two scores
  /// that are compared.
  double roundingOf(int head) const {
    if (method.lse == Lse::None)
      return 0;
    double largest = 0;
    const double *q = &query[static_cast<size_t>(head) * problem.headDim];
    for (int j = 0; j < fineVisible; ++j) {
      const double *key = summary(fine, j, head);
      double squares = 0;
      for (int i = 0; i < problem.headDim; ++i)
        squares += q[i] * key[i] * q[i] * key[i];
      largest = std::max(largest, squares);
    }
    double halfStep = problem.dtype == Dtype::BF16 ? 0x1p-9 : 0x1p-12;
    return 4 * std::sqrt(2 * largest / 3) * halfStep * problem.softmaxScale();
  }

  static double logSumExp(const std::vector<double> &logits) {
    if (logits.empty())
      return -kInfinity;
    double largest = *std::max_element(logits.begin(), logits.end());
    double sum = 0;
    for (double x : logits)
      sum += std::exp(x - largest);
    return largest + std::log(sum);
  }

  /// Block scores of the causal blocks: over the windows that overlap the block. A summary that
  /// exists but is hidden scores 0 with a softmax and -inf without; a block without any summary:
  /// -inf.
  std::vector<double> pool(const std::vector<double> &scores) const {
    double hidden = method.lse == Lse::None ? -kInfinity : zero();
    int causalBlocks = place.position / problem.block + 1;
    std::vector<double> pooled(causalBlocks, -kInfinity);
    for (int b = 0; b < causalBlocks; ++b) {
      bool any = false;
      double value = nothing(method.pool == Pool::Max);
      int j = std::max(0, problem.block * b - method.window) / method.stride;
      for (; j < fineCount && method.stride * j < problem.block * (b + 1); ++j) {
        if (method.stride * j + method.window <= problem.block * b)
          continue; // ends before the block
        double score = j < fineVisible ? scores[j] : hidden;
        if (method.pool == Pool::Overlap) {
          int begin = std::max(problem.block * b, method.stride * j); // tokens of both
          int end = std::min(problem.block * (b + 1), method.stride * j + method.window);
          score = times(score, static_cast<double>(end - begin) / method.stride);
        }
        value = method.pool == Pool::Max ? std::max(value, score) : sum(value, score);
        any = true;
      }
      if (any)
        pooled[b] = value;
    }
    return pooled;
  }

  /// Forced blocks first, then by score, then by smaller id; the result ascending.
  void chooseTop(RowSelection &row) const {
    auto blocks = static_cast<int>(row.scores.size());
    int count = std::min(problem.topk, blocks);
    std::vector<int32_t> order(blocks);
    std::iota(order.begin(), order.end(), 0);
    auto forced = [&](int b) { return isForced(method, problem, place.position, b); };
    auto comes = [&](int a, int b) {
      bool forcedA = forced(a), forcedB = forced(b);
      if (forcedA != forcedB)
        return forcedA;
      if (!forcedA && row.scores[a] != row.scores[b])
        return row.scores[a] > row.scores[b];
      return a < b;
    };
    std::partial_sort(order.begin(), order.begin() + count, order.end(), comes);
    order.resize(count);
    row.threshold = kInfinity;
    for (int b : order)
      if (!forced(b))
        row.threshold = std::min(row.threshold, row.scores[b]);
    std::sort(order.begin(), order.end());
    row.ids = std::move(order);
  }

  const Method &method;
  const Problem &problem;
  Place place;
  const std::vector<double> &fine, &coarse;
  std::vector<double> query; ///< [heads, head_dim]
  int fineCount = 0, fineVisible = 0, coarseVisible = 0;
};

} // namespace

bool isForced(const Method &method, const Problem &problem, int position, int b) {
  int own = position / problem.block;
  return b <= own && (b < method.init || b > own - method.local);
}

std::vector<uint16_t> summarize(const Problem &problem, int sequence, int window, int stride,
                                int threads) {
  std::vector<double> means = windowMeans(problem, sequence, window, stride, threads);
  std::vector<uint16_t> words(means.size());
  std::transform(means.begin(), means.end(), words.begin(),
                 [&](double mean) { return toWord(mean, problem.dtype); });
  return words;
}

Selection select(const Method &method, const Problem &problem, const Options &options) {
  Selection selection;
  selection.rows = options.rows.empty() ? sampleRows(problem, problem.totalQ()) : options.rows;
  selection.selectHeads = problem.selectHeads(method);
  selection.entries.resize(selection.rows.size() * selection.selectHeads);
  if (!method.selects)
    return selection;
  auto isDense = [&](int sequence) {
    return problem.cuK[sequence + 1] - problem.cuK[sequence] < method.denseLen;
  };

  size_t sequences = problem.cuK.size() - 1;
  Summaries summaries;
  summaries.fine.resize(sequences);
  summaries.coarse.resize(sequences);
  auto summaries64 = [&](size_t sequence, int window, int stride) {
    std::vector<double> means =
        windowMeans(problem, static_cast<int>(sequence), window, stride, options.threads);
    if (!options.exactWindows)
      for (double &mean : means)
        mean = rounded(mean, problem.dtype);
    return means;
  };
  for (size_t s = 0; s < sequences; ++s) {
    if (isDense(static_cast<int>(s)))
      continue;
    summaries.fine[s] = summaries64(s, method.window, method.stride);
    if (method.lse == Lse::Coarse)
      summaries.coarse[s] = summaries64(s, method.coarseWindow, method.coarseStride);
  }
  parallelFor(selection.rows.size(), options, [&](size_t i) {
    if (isDense(placeOf(problem, selection.rows[i]).sequence))
      return;
    RowScorer scorer(method, problem, summaries, selection.rows[i]);
    for (int head = 0; head < selection.selectHeads; ++head)
      selection.entries[head * selection.rows.size() + i] = scorer.run(head);
  });
  return selection;
}

std::vector<int32_t> idsTensor(const Selection &selection, const Problem &problem) {
  auto total = static_cast<size_t>(problem.totalQ());
  std::vector<int32_t> ids(total * selection.selectHeads * problem.topk, -1);
  for (int head = 0; head < selection.selectHeads; ++head)
    for (size_t i = 0; i < selection.rows.size(); ++i) {
      const RowSelection &row = selection.at(head, i);
      std::copy(row.ids.begin(), row.ids.end(),
                ids.begin() + (head * total + selection.rows[i]) * problem.topk);
    }
  return ids;
}

} // namespace winnow::reference

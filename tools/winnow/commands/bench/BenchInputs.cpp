// Structured tensors and overlapping block lists. Normal numbers come from a table of quantiles:
// one 64-bit hash gives four of them.
#include "tools/winnow/commands/bench/BenchInputs.h"
#include "reference/Half.h"
#include "reference/conformance/Fp8Keys.h"
#include "reference/conformance/Random.h"
#include <algorithm>
#include <cmath>

namespace winnow {
namespace {

constexpr int kTopicTokens = 384; ///< a topic fades into the next over this many tokens
enum Stream : uint64_t { Query = 1, Key, Value, Topic, Scores };

/// Quantiles of the standard normal distribution at (i + 1/2) / 4096, ascending.
class NormalTable {
public:
  static constexpr int kBits = 12, kCount = 1 << kBits;
  NormalTable() {
    for (int i = 0; i < kCount; ++i)
      values[i] = static_cast<float>(quantile((i + 0.5) / kCount));
    values[kCount] = 2 * values[kCount - 1] - values[kCount - 2];
  }
  float at(uint64_t bits) const { return values[bits & (kCount - 1)]; }
  /// With the steps between the quantiles filled in: no two numbers are equal but by chance.
  float fine(uint32_t bits) const {
    uint32_t i = bits >> (32 - kBits);
    float part = static_cast<float>(bits << kBits >> 8) * 0x1p-24f;
    return values[i] + part * (values[i + 1] - values[i]);
  }
  /// The number that a share of all numbers exceeds.
  float exceededBy(double share) const {
    auto i = static_cast<int>((1 - share) * kCount);
    return values[std::clamp(i, 0, kCount - 1)];
  }

private:
  /// By bisection of the distribution function; once per table entry.
  static double quantile(double p) {
    double low = -6, high = 6;
    for (int i = 0; i < 60; ++i) {
      double middle = (low + high) / 2;
      (std::erfc(-middle / std::sqrt(2.0)) / 2 < p ? low : high) = middle;
    }
    return low;
  }
  float values[kCount + 1];
};

const NormalTable &normalTable() {
  static const NormalTable table;
  return table;
}

/// words[i] = dtype(noise * normal + mix[i]); `count` is a multiple of 4, `index` counts fours.
template <Dtype kType>
void noisyRow(uint64_t stream, uint64_t index, int count, float noise, const float *mix,
              float mixShare, uint16_t *words) {
  const NormalTable &table = normalTable();
  for (int i = 0; i < count; i += 4) {
    uint64_t bits = randomBits(stream, index++);
    for (int n = 0; n < 4; ++n) {
      float x = noise * table.at(bits >> (16 * n)) + (mix ? mixShare * mix[i + n] : 0.0f);
      words[i + n] = kType == Dtype::BF16 ? reference::toBf16(x) : reference::toFp16(x);
    }
  }
}

void noisy(Dtype dtype, uint64_t stream, uint64_t index, int count, float noise, const float *mix,
           float mixShare, uint16_t *words) {
  if (dtype == Dtype::BF16)
    noisyRow<Dtype::BF16>(stream, index, count, noise, mix, mixShare, words);
  else
    noisyRow<Dtype::FP16>(stream, index, count, noise, mix, mixShare, words);
}

/// Calls body(begin, end) for pieces of [0, count).
void parallelPieces(size_t count, size_t piece, const std::function<void(size_t, size_t)> &body) {
  reference::parallelFor((count + piece - 1) / piece, {},
                         [&](size_t i) { body(i * piece, std::min(count, (i + 1) * piece)); });
}

/// Chooses the blocks of one row after the other; its scratch memory is kept.
class RowChooser {
public:
  RowChooser(const reference::Method &method, const reference::Problem &problem)
      : method(method), problem(problem) {}

  /// Scores are c x + s y. Forced are the blocks below init and the last `local` causal ones.
  void run(int token, const float *x, const float *y, float c, float s, int32_t *ids) {
    int own = token / problem.block, count = std::min(problem.topk, own + 1);
    int begin = std::min(method.init, own + 1), end = std::max(begin, own + 1 - method.local);
    int open = count - (begin + own + 1 - end);
    int32_t *next = ids;
    for (int b = 0; b < begin; ++b)
      *next++ = b;
    if (open >= end - begin)
      for (int b = begin; b < end; ++b)
        *next++ = b;
    else if (open > 0)
      next = choose(begin, end, open, x, y, c, s, next);
    for (int b = end; b <= own; ++b)
      *next++ = b;
    std::fill(next, ids + problem.topk, -1);
  }

private:
  int32_t *choose(int begin, int end, int open, const float *x, const float *y, float c, float s,
                  int32_t *next) {
    // Only scores above a bound that nearly always leaves enough of them are looked at again.
    double share = (open + 4 * std::sqrt(open) + 8) / (end - begin);
    float bound = share < 0.5 ? normalTable().exceededBy(share) : -INFINITY;
    collect(begin, end, x, y, c, s, bound);
    if (static_cast<int>(found.size()) < open)
      collect(begin, end, x, y, c, s, -INFINITY);
    std::nth_element(found.begin(), found.begin() + open - 1, found.end(),
                     [](const Scored &a, const Scored &b) {
                       return a.score != b.score ? a.score > b.score : a.block < b.block;
                     });
    std::sort(found.begin(), found.begin() + open,
              [](const Scored &a, const Scored &b) { return a.block < b.block; });
    for (int i = 0; i < open; ++i)
      *next++ = found[i].block;
    return next;
  }

  void collect(int begin, int end, const float *x, const float *y, float c, float s, float bound) {
    constexpr int step = 8;
    found.clear();
    float scores[step];
    for (int b = begin; b < end; b += step) {
      int count = std::min(step, end - b);
      for (int i = 0; i < step; ++i) // x and y have room behind the last block
        scores[i] = c * x[b + i] + s * y[b + i];
      for (int i = 0; i < count; ++i)
        if (scores[i] > bound)
          found.push_back({scores[i], b + i});
    }
  }

  struct Scored {
    float score;
    int32_t block;
  };
  const reference::Method &method;
  const reference::Problem &problem;
  std::vector<Scored> found;
};

} // namespace

BenchInputs::BenchInputs(const Spec &spec, int tokens, uint64_t seed) : seed(seed * 8) {
  size_t keyWidth = static_cast<size_t>(spec.kvHeads) * spec.headDim;
  size_t valueWidth = static_cast<size_t>(spec.kvHeads) * spec.valueWidth();
  k = HostArray<uint16_t>(tokens * keyWidth, true);
  v = HostArray<uint16_t>(tokens * valueWidth, true);
  q = HostArray<uint16_t>(static_cast<size_t>(tokens) * spec.heads * spec.headDim, false);
  problem = reference::problemOf(spec);
  problem.q = q.data();
  problem.k = k.data();
  problem.v = v.data();
  problem.cuQ = problem.cuK = {0, tokens};
  topics.resize((tokens / kTopicTokens + 2) * keyWidth);
  for (size_t i = 0; i < topics.size(); ++i)
    topics[i] = normalTable().at(randomBits(this->seed + Topic, i));
  parallelPieces(tokens, 256, [&](size_t begin, size_t end) {
    std::vector<float> mix(keyWidth);
    for (size_t t = begin; t < end; ++t) {
      topicAt(static_cast<int>(t), mix.data());
      noisy(problem.dtype, this->seed + Key, t * keyWidth / 4, static_cast<int>(keyWidth), 0.8f,
            mix.data(), 0.6f, &k[t * keyWidth]);
      noisy(problem.dtype, this->seed + Value, t * valueWidth / 4, static_cast<int>(valueWidth), 1,
            nullptr, 0, &v[t * valueWidth]);
    }
  });
  if (spec.hasFp8Keys())
    storeAsFp8(problem, k.data(), v.data());
}

void BenchInputs::topicAt(int token, float *mix) const {
  size_t width = static_cast<size_t>(problem.kvHeads) * problem.headDim;
  const float *from = &topics[token / kTopicTokens * width], *to = from + width;
  double angle = (token % kTopicTokens) * (std::acos(0.0) / kTopicTokens);
  auto c = static_cast<float>(std::cos(angle)), s = static_cast<float>(std::sin(angle));
  for (size_t i = 0; i < width; ++i)
    mix[i] = c * from[i] + s * to[i];
}

void BenchInputs::queryRow(int token, uint16_t *row, int voice) const {
  std::vector<float> mix(static_cast<size_t>(problem.kvHeads) * problem.headDim);
  topicAt(token, mix.data());
  int dim = problem.headDim, group = problem.heads / problem.kvHeads;
  for (int head = 0; head < problem.heads; ++head) {
    uint64_t index = (static_cast<uint64_t>(token) * problem.heads + head) * dim / 4;
    noisy(problem.dtype, seed + Query + (static_cast<uint64_t>(voice) << 32), index, dim, 1.2f,
          &mix[static_cast<size_t>(head / group) * dim], 0.9f,
          row + static_cast<size_t>(head) * dim);
  }
}

void BenchInputs::queryRows(int first, int count, uint16_t *rows, int voice) const {
  size_t width = static_cast<size_t>(problem.heads) * problem.headDim;
  parallelPieces(count, 64, [&](size_t begin, size_t end) {
    for (size_t t = begin; t < end; ++t)
      queryRow(first + static_cast<int>(t), rows + t * width, voice);
  });
}

void BenchInputs::provideQueries(const std::vector<int> &rows) {
  size_t width = static_cast<size_t>(problem.heads) * problem.headDim;
  for (int row : rows)
    queryRow(row, &q[row * width]);
}

void BenchInputs::provideQueries() { queryRows(0, problem.totalQ(), q.data()); }

HostArray<int32_t> overlappingIds(const reference::Method &method,
                                  const reference::Problem &problem, int overlap, uint64_t seed) {
  int queries = problem.totalQ(), heads = problem.selectHeads(method);
  int tokens = problem.cuK.back(), history = tokens - queries;
  int blocks = (tokens + problem.block - 1) / problem.block;
  int before = history / overlap, groups = (tokens + overlap - 1) / overlap;
  HostArray<int32_t> ids(static_cast<size_t>(heads) * queries * problem.topk, true);
  // A run of groups at a time, because each group begins with the vector that the last one ended
  // with.
  int run = std::max(1, 256 / overlap), runs = (groups - before + run - 1) / run;
  reference::parallelFor(static_cast<size_t>(heads) * runs, {}, [&](size_t item) {
    // Late runs have more blocks to look at: they come first.
    auto head = static_cast<int>(item % heads), part = runs - 1 - static_cast<int>(item / heads);
    std::vector<float> x(blocks + 8), y(blocks + 8);
    auto draw = [&](std::vector<float> &scores, int group) {
      uint64_t base = (static_cast<uint64_t>(head) * (groups + 1) + group) * (blocks / 2 + 1);
      int causal = std::min(blocks, (group + 1) * overlap / problem.block + 1);
      for (int b = 0; b < causal; b += 2) {
        uint64_t bits = randomBits(seed * 8 + Scores, base + b / 2);
        scores[b] = normalTable().fine(static_cast<uint32_t>(bits));
        scores[b + 1] = normalTable().fine(static_cast<uint32_t>(bits >> 32));
      }
    };
    RowChooser chooser(method, problem);
    int first = before + part * run, last = std::min(groups, first + run);
    draw(x, first);
    for (int group = first; group < last; ++group) {
      draw(y, group + 1);
      for (int t = std::max(history, group * overlap); t < std::min(tokens, (group + 1) * overlap);
           ++t) {
        double angle = static_cast<double>(t % overlap) / overlap * std::acos(0.0);
        chooser.run(t, x.data(), y.data(), static_cast<float>(std::cos(angle)),
                    static_cast<float>(std::sin(angle)),
                    &ids[(static_cast<size_t>(head) * queries + t - history) * problem.topk]);
      }
      std::swap(x, y);
    }
  });
  return ids;
}

/// Whether the one sequence is attended over selected blocks.
static bool isSelectedFrom(const reference::Method &method, const reference::Problem &problem) {
  return method.selects && problem.cuK.back() >= method.denseLen;
}

double attendOperations(const reference::Method &method, const reference::Problem &problem) {
  const bool selects = isSelectedFrom(method, problem);
  double keys = 0;
  for (int row = 0; row < problem.totalQ(); ++row) {
    int position = placeOf(problem, row).position, own = position / problem.block;
    int before = selects ? std::min(problem.topk - 1, own) : own;
    keys += before * static_cast<double>(problem.block) + position % problem.block + 1;
  }
  return keys * problem.heads * 2 * (problem.headDim + problem.valueWidth());
}

double gradientOperations(const reference::Method &method, const reference::Problem &problem) {
  const int dim = problem.headDim, valueDim = problem.valueWidth();
  return attendOperations(method, problem) / (dim + valueDim) * (3 * dim + 2 * valueDim);
}

double scoreOperations(const reference::Method &method, const reference::Problem &problem) {
  if (!isSelectedFrom(method, problem))
    return 0;
  double summaries = 0;
  for (int row = 0; row < problem.totalQ(); ++row) {
    int seen = placeOf(problem, row).position + 1;
    if ((seen - 1) / problem.block < problem.topk)
      continue; // takes every block: nothing to score
    auto visible = [&](int window, int stride) {
      return seen < window ? 0 : (seen - window) / stride + 1;
    };
    summaries += visible(method.window, method.stride);
    if (method.lse == reference::Lse::Coarse)
      summaries += visible(method.coarseWindow, method.coarseStride);
  }
  return summaries * problem.heads * problem.headDim * 2;
}

} // namespace winnow

// Selection on the CPU: summaries, scores by the compiled tile functions, then pooling, forced
// blocks and top-k on the host, which are cheap beside the products. Rules: the method's plan; ties
// go to the smaller block.
#include "compiler/cpu/CpuKernels.h"
#include <algorithm>
#include <cmath>
#include <limits>

namespace winnow::cpu {
namespace {

constexpr float kFloor = -1e30f;
constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
/// The logarithm of the score 0: below every other one, and above -inf, a block without summaries.
constexpr float kLogZero = std::numeric_limits<float>::lowest();
/// Between these, fp32 scores order as real numbers do; beyond, overflow and underflow may decide.
constexpr float kSmallestOrdered = 1e-30f, kLargestOrdered = 1e30f;

/// Sums of scores as they are.
struct Plain {
  static constexpr float kNothing = 0;
  static float add(float sum, float score, int weight) {
    return sum + static_cast<float>(weight) * score;
  }
};

/// The same of scores that are kept as natural logarithms, and have any size.
struct Logarithms {
  static constexpr float kNothing = kMinusInfinity;
  static float add(float sum, float score, int weight) {
    score += std::log(static_cast<float>(weight));
    const float larger = std::max(sum, score), smaller = std::min(sum, score);
    return larger == kMinusInfinity ? larger : larger + std::log1p(std::exp(smaller - larger));
  }
};

/// Means over whole windows, rounded to the element type like the keys they stand for, as
/// transposed tiles.
TransposedTiles summarize(const SelectionPlan &plan, const CpuTensors &tensors,
                          const Segment &segment, int kvHead, const SelectionPlan::Summary &summary,
                          int threads) {
  const int rows = summaryRows(summary, segment.kCount), dim = plan.headDim;
  TransposedTiles tiles;
  tiles.dim = dim;
  tiles.values.assign(static_cast<size_t>((rows + kKeys - 1) / kKeys) * kKeys * dim, 0.f);
  parallelFor(rows, threads, [&](size_t row) {
    std::vector<uint16_t> means(dim);
    summaryRow(plan, tensors, segment, summary, static_cast<int>(row), kvHead, means.data());
    for (int d = 0; d < dim; ++d)
      tiles.values[(row / kKeys * dim + d) * kKeys + row % kKeys] = toFloat(means[d], plan.isBf16);
  });
  return tiles;
}

/// Summary rows that query `index` of the segment may see.
int visibleRows(const SelectionPlan &plan, const SelectionPlan::Summary &summary,
                const Segment &segment, int index, int rows) {
  if (plan.visibleBySegment) { // the published kernel's rule; C division, truncating toward zero
    int stride = summary.stride;
    return std::min(rows, std::max(0, (index + 1) / stride - 1 + rows -
                                          (segment.qCount - stride + 1) / stride));
  }
  int seen = segment.position(index) + 1;
  return seen < summary.window ? 0 : std::min(rows, (seen - summary.window) / summary.stride + 1);
}

/// Scores of one tile of tokens against all summary rows of a KV head.
class ScoreTile {
public:
  ScoreTile(const SelectionPlan &plan, const TileFunctions &functions)
      : plan(plan), functions(functions), tokens(kTileRows / plan.group),
        q(kTileRows * plan.headDim), logits(kTileRows * kKeys), max(kTileRows), sum(kTileRows),
        lse(kTileRows), out(tokens * kKeys), limit(kTileRows), position(kTileRows) {}

  void run(const CpuTensors &tensors, const Segment &segment, int first, int firstHead,
           const TransposedTiles &fine, const TransposedTiles *coarse) {
    gatherQueries(plan, tensors, segment, first, tokens, firstHead, q.data());
    for (int row = 0; row < kTileRows; ++row)
      position[row] = segment.position(first + row / plan.group);
    if (coarse)
      normalize(segment, first, *coarse);
    const auto &summary = plan.summaries[plan.fine];
    rows = summaryRows(summary, segment.kCount);
    rowScores.assign(static_cast<size_t>(tokens) * ((rows + kKeys - 1) / kKeys) * kKeys, 0.f);
    const int stride = static_cast<int>(rowScores.size()) / tokens;
    for (int32_t tile = 0; tile * kKeys < rows; ++tile) {
      setLimits(summary, segment, first, tile, rows);
      functions.logits(q.data(), fine.tile(tile), logits.data());
      int32_t firstRow = tile * kKeys;
      functions.scores(logits.data(), lse.data(), limit.data(), position.data(), &firstRow,
                       out.data());
      for (int t = 0; t < tokens; ++t)
        std::copy_n(&out[t * kKeys], kKeys, &rowScores[static_cast<size_t>(t) * stride + firstRow]);
    }
    rowStride = stride;
  }

  /// Scores of one token as natural logarithms, which no score's size leaves.
  std::vector<float> logarithms(const Segment &segment, int first, int token,
                                const TransposedTiles &fine) const {
    const auto &summary = plan.summaries[plan.fine];
    const int visible = visibleRows(plan, summary, segment, first + token, rows);
    std::vector<float> all(rows, kLogZero);
    for (int row = 0; row < visible; ++row) {
      const float *column = fine.tile(row / kKeys) + row % kKeys;
      float combined = kMinusInfinity;
      for (int head = 0; head < plan.group; ++head) {
        const float *query = &q[static_cast<size_t>(token * plan.group + head) * plan.headDim];
        float product = 0;
        for (int d = 0; d < plan.headDim; ++d)
          product += query[d] * column[static_cast<size_t>(d) * kKeys];
        const float score =
            product * static_cast<float>(plan.scale) - lse[token * plan.group + head];
        combined = plan.combine == Reduction::Max ? std::max(combined, score)
                                                  : Logarithms::add(combined, score, 1);
      }
      all[row] = std::max(combined, kLogZero);
    }
    return all;
  }

  const float *scores(int token) const {
    return &rowScores[static_cast<size_t>(token) * rowStride];
  }
  int rowCount() const { return rows; }

private:
  void setLimits(const SelectionPlan::Summary &summary, const Segment &segment, int first, int tile,
                 int count) {
    for (int row = 0; row < kTileRows; ++row) {
      int index = std::min(first + row / plan.group, segment.qCount - 1);
      limit[row] =
          std::clamp(visibleRows(plan, summary, segment, index, count) - tile * kKeys, 0, kKeys);
    }
  }

  /// log-sum-exp per query row; +inf where no row is visible, which makes every score 0.
  void normalize(const Segment &segment, int first, const TransposedTiles &coarse) {
    const auto &summary = plan.summaries[plan.normalizer];
    const int count = summaryRows(summary, segment.kCount);
    std::fill(max.begin(), max.end(), kFloor);
    std::fill(sum.begin(), sum.end(), 0.f);
    for (int tile = 0; tile * kKeys < count; ++tile) {
      setLimits(summary, segment, first, tile, count);
      if (std::all_of(limit.begin(), limit.end(), [](int32_t l) { return l == 0; }))
        break; // visible rows come first
      functions.logits(q.data(), coarse.tile(tile), logits.data());
      functions.addLse(logits.data(), max.data(), sum.data(), limit.data());
    }
    for (int row = 0; row < kTileRows; ++row)
      lse[row] =
          sum[row] == 0 ? std::numeric_limits<float>::infinity() : max[row] + std::log(sum[row]);
  }

  const SelectionPlan &plan;
  const TileFunctions &functions;
  const int tokens;
  std::vector<float> q, logits, max, sum, lse, out, rowScores;
  std::vector<int32_t> limit, position;
  int rows = 0, rowStride = 0;
};

/// One score per block, pooled over the rows that overlap it; -inf without any.
template <class Arithmetic>
void poolBlocks(const SelectionPlan &plan, const float *scores, int rows,
                std::vector<float> &blocks) {
  const auto &summary = plan.summaries[plan.fine];
  const int perBlock = plan.block / summary.stride, pad = summary.window / summary.stride - 1;
  for (int b = 0; b < static_cast<int>(blocks.size()); ++b) {
    int begin = std::max(0, b * perBlock - pad), end = std::min(rows, (b + 1) * perBlock);
    float pooled = begin < end && plan.pool != Pooling::Max ? Arithmetic::kNothing : kMinusInfinity;
    for (int row = begin; row < end; ++row) {
      const int first = row - b * perBlock; // the strides [first, first + pad] of [0, perBlock)
      const int shared = std::min(first + pad + 1, perBlock) - std::max(first, 0);
      if (plan.pool == Pooling::Max)
        pooled = std::max(pooled, scores[row]);
      else
        pooled = Arithmetic::add(pooled, scores[row], plan.pool == Pooling::Sum ? 1 : shared);
    }
    blocks[b] = std::isnan(pooled) ? kMinusInfinity : pooled; // not defined, but it has an order
  }
}

/// ids of one row: forced blocks and the best of the others, ascending, then -1. Returns the lowest
/// score that was chosen; +inf where all chosen blocks are forced.
float chooseBlocks(const SelectionPlan &plan, const std::vector<float> &scores, int own,
                   int32_t *ids) {
  const int blocks = own + 1, count = std::min(plan.topk, blocks);
  thread_local std::vector<int32_t> order;
  order.resize(std::max(blocks, 0));
  for (int b = 0; b < blocks; ++b)
    order[b] = b;
  auto forced = [&](int b) { return b < plan.init || b > own - plan.local; };
  auto better = [&](int a, int b) {
    if (forced(a) != forced(b))
      return forced(a);
    if (!forced(a) && scores[a] != scores[b])
      return scores[a] > scores[b];
    return a < b;
  };
  if (count < blocks)
    std::nth_element(order.begin(), order.begin() + count, order.end(), better);
  std::sort(order.begin(), order.begin() + std::max(count, 0));
  float lowest = std::numeric_limits<float>::infinity();
  for (int i = 0; i < plan.topk; ++i) {
    ids[i] = i < count ? order[i] : -1;
    if (i < count && !forced(order[i]))
      lowest = std::min(lowest, scores[order[i]]);
  }
  return lowest;
}

/// ids of one row where forced blocks fill the budget.
void writeForced(const SelectionPlan &plan, int own, int32_t *ids) {
  for (int i = 0; i < plan.topk; ++i)
    if (own < plan.topk)
      ids[i] = i <= own ? i : -1;
    else
      ids[i] = i < plan.init ? i : own + 1 - (plan.topk - i);
}

} // namespace

void selectSegment(const SelectionPlan &plan, const TileFunctions &functions,
                   const CpuTensors &tensors, const Segment &segment, int totalQ, int threads,
                   const std::function<void(size_t)> &progress) {
  const int tokens = kTileRows / plan.group, perKvHead = plan.heads / plan.kvHeads / plan.group;
  auto idsOf = [&](int set, int index) {
    return tensors.ids + (static_cast<size_t>(set) * totalQ + segment.qBegin + index) * plan.topk;
  };
  if (segment.isDense) { // nothing is selected
    for (int set = 0; set < plan.selectHeads(); ++set)
      std::fill_n(idsOf(set, 0), static_cast<size_t>(segment.qCount) * plan.topk, -1);
    progress(static_cast<size_t>(segment.qCount) * plan.selectHeads());
    return;
  }
  auto ownBlock = [&](int index) {
    const int position = segment.position(index);
    return position < 0 ? -1 : position / plan.block;
  };
  if (!plan.scores()) { // no score decides anything
    for (int set = 0; set < plan.selectHeads(); ++set)
      for (int index = 0; index < segment.qCount; ++index)
        writeForced(plan, ownBlock(index), idsOf(set, index));
    progress(static_cast<size_t>(segment.qCount) * plan.selectHeads());
    return;
  }
  const int tokenTiles = (segment.qCount + tokens - 1) / tokens;
  for (int kvHead = 0; kvHead < plan.kvHeads && segment.qCount > 0; ++kvHead) {
    TransposedTiles fine = summarize(plan, tensors, segment, kvHead, plan.summaries[plan.fine],
                                     threads),
                    separate;
    const TransposedTiles *normalizer = plan.normalizer == plan.fine ? &fine : nullptr;
    if (plan.normalizer >= 0 && plan.normalizer != plan.fine) {
      separate =
          summarize(plan, tensors, segment, kvHead, plan.summaries[plan.normalizer], threads);
      normalizer = &separate;
    }
    for (int part = 0; part < perKvHead; ++part) {
      const int set = kvHead * perKvHead + part;
      parallelFor(tokenTiles, threads, [&](size_t index) {
        const int first = static_cast<int>(tokenTiles - 1 - index) * tokens; // longest rows first
        const int count = std::min(tokens, segment.qCount - first);
        ScoreTile tile(plan, functions);
        // Where every block is selected anyway, scores are not needed.
        const bool scored = segment.position(first + count - 1) / plan.block >= plan.topk;
        if (scored)
          tile.run(tensors, segment, first, set * plan.group, fine, normalizer);
        std::vector<float> blocks;
        for (int t = 0; t < count; ++t) {
          const int own = ownBlock(first + t);
          blocks.assign(own + 1, 0.f);
          if (scored)
            poolBlocks<Plain>(plan, tile.scores(t), tile.rowCount(), blocks);
          const float lowest = chooseBlocks(plan, blocks, own, idsOf(set, first + t));
          const bool ordered = lowest >= kSmallestOrdered && lowest <= kLargestOrdered;
          const bool byScore = scored && own >= plan.topk && plan.init + plan.local < plan.topk;
          if (byScore && plan.normalizer >= 0 && !ordered) {
            poolBlocks<Logarithms>(plan, tile.logarithms(segment, first, t, fine).data(),
                                   tile.rowCount(), blocks);
            chooseBlocks(plan, blocks, own, idsOf(set, first + t));
          }
        }
        progress(static_cast<size_t>(count));
      });
    }
  }
}

} // namespace winnow::cpu

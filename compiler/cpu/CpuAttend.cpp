// Attention on the CPU: per group of heads, keys transposed and values widened to fp32 once, then
// token tiles in parallel. Sparse tokens walk their own blocks one token at a time; dense ones
// share tiles of 64 query rows.
#include "compiler/cpu/CpuKernels.h"
#include <algorithm>
#include <cmath>

namespace winnow::cpu {
namespace {

constexpr float kFloor =
    -1e30f; ///< first running maximum: far above masked logits, far below real ones

/// Keys and values of one KV head of one segment, widened, as tiles of 64 columns of which the
/// first `width` hold keys: a block of 32 keys is a tile of its own.
struct KeyValues {
  TransposedTiles keys;
  std::vector<float> values; ///< [tiles, kKeys, value dim]
  int width = kKeys;
};

KeyValues pack(const AttendPlan &plan, const CpuTensors &tensors, const Segment &segment,
               int kvHead, int width, int threads) {
  const int tiles = (segment.kCount + width - 1) / width, dim = plan.headDim,
            valueDim = plan.valueDim;
  const float keyFactor = headFactor(tensors.kScale, kvHead),
              valueFactor = headFactor(tensors.vScale, kvHead);
  KeyValues packed;
  packed.width = width;
  packed.keys.dim = dim;
  packed.keys.values.assign(static_cast<size_t>(tiles) * kKeys * dim, 0.f);
  packed.values.assign(static_cast<size_t>(tiles) * kKeys * valueDim, 0.f);
  parallelFor(tiles, threads, [&](size_t tile) {
    const int begin = static_cast<int>(tile) * width, end = std::min(segment.kCount, begin + width);
    std::vector<float> row(dim);
    for (int key = begin; key < end; ++key) {
      float *value = &packed.values[(tile * kKeys + (key - begin)) * valueDim];
      float *column = &packed.keys.values[tile * dim * kKeys + (key - begin)];
      readKey(plan, tensors.k, keyOffset(tensors, segment, tensors.layout.kStride, key, kvHead),
              dim, row.data());
      for (int d = 0; d < dim; ++d)
        column[static_cast<size_t>(d) * kKeys] = row[d] * keyFactor;
      readKey(plan, tensors.v, keyOffset(tensors, segment, tensors.layout.vStride, key, kvHead),
              valueDim, value);
      for (int d = 0; d < valueDim; ++d)
        value[d] *= valueFactor;
    }
  });
  return packed;
}

/// The state of one tile of query rows: `tokens` tokens x group heads.
class RowTile {
public:
  RowTile(const AttendPlan &plan, AttendFunction step, int rows)
      : plan(plan), step(step), rows(rows), q(rows * plan.headDim), acc(rows * plan.valueDim),
        scratch(rows * kKeys), max(rows), sum(rows), limit(rows), position(rows) {}

  void begin(const CpuTensors &tensors, const Segment &segment, int first, int tokens,
             int firstHead) {
    gatherQueries(plan, tensors, segment, first, tokens, firstHead, q.data());
    std::fill(acc.begin(), acc.end(), 0.f);
    std::fill(max.begin(), max.end(), kFloor);
    std::fill(sum.begin(), sum.end(), 0.f);
    for (int row = 0; row < rows; ++row)
      position[row] = segment.position(first + row / plan.group);
  }

  /// One tile of keys; rows see its keys up to their own position.
  void add(const KeyValues &packed, int tile, int keyCount) {
    int firstKey = tile * packed.width;
    for (int row = 0; row < rows; ++row)
      limit[row] = std::clamp(std::min(position[row] + 1, keyCount) - firstKey, 0, packed.width);
    step(q.data(), packed.keys.tile(tile),
         packed.values.data() + static_cast<size_t>(tile) * kKeys * plan.valueDim, scratch.data(),
         acc.data(), max.data(), sum.data(), limit.data(), position.data(), &firstKey);
  }

  void end(const CpuTensors &tensors, const Segment &segment, int first, int tokens, int firstHead,
           int totalQ) const {
    for (int row = 0; row < tokens * plan.group; ++row) {
      int token = segment.qBegin + first + row / plan.group, head = firstHead + row % plan.group;
      float inverse = sum[row] > 0 ? 1 / sum[row] : sum[row] == 0 ? 0.f : NAN;
      if (tensors.out)
        for (int d = 0; d < plan.valueDim; ++d)
          tensors
              .out[token * tensors.layout.outStride[0] + head * tensors.layout.outStride[1] + d] =
              fromFloat(sum[row] == 0 ? 0.f : acc[row * plan.valueDim + d] * inverse, plan.isBf16);
      if (tensors.lse)
        tensors.lse[static_cast<size_t>(head) * totalQ + token] =
            sum[row] == 0 ? -INFINITY : max[row] + std::log(sum[row]);
    }
  }

private:
  const AttendPlan &plan;
  AttendFunction step;
  int rows;
  std::vector<float> q, acc, scratch, max, sum;
  std::vector<int32_t> limit, position;
};

} // namespace

void wantedBlocks(const AttendPlan &plan, const int32_t *ids, int position,
                  std::vector<int32_t> &blocks) {
  blocks.clear();
  for (int i = 0; i < plan.topk; ++i)
    if (ids[i] >= 0 && position >= 0 && ids[i] <= position / plan.block)
      blocks.push_back(ids[i]);
  std::sort(blocks.begin(), blocks.end());
  blocks.erase(std::unique(blocks.begin(), blocks.end()), blocks.end());
}

void attendSegment(const AttendPlan &plan, const TileFunctions &functions,
                   const CpuTensors &tensors, const Segment &segment, int totalQ, int threads,
                   const std::function<void(size_t)> &progress) {
  const bool sparse = plan.selects() && !segment.isDense;
  const int tokens = sparse ? 1 : kTileRows / plan.group, rows = tokens * plan.group;
  const int tokenTiles = (segment.qCount + tokens - 1) / tokens,
            perKvHead = plan.heads / plan.kvHeads / plan.group;
  for (int kvHead = 0; kvHead < plan.kvHeads && segment.qCount > 0; ++kvHead) {
    const int width = sparse ? std::min(plan.block, kKeys) : kKeys;
    KeyValues packed = pack(plan, tensors, segment, kvHead, width, threads);
    for (int part = 0; part < perKvHead; ++part) {
      const int set = kvHead * perKvHead + part, firstHead = set * plan.group;
      parallelFor(tokenTiles, threads, [&](size_t index) {
        thread_local std::vector<int32_t> blocks;
        RowTile tile(plan, sparse ? functions.attendOne : functions.attendMany, rows);
        const int first = static_cast<int>(tokenTiles - 1 - index) * tokens; // longest rows first
        const int count = std::min(tokens, segment.qCount - first);
        tile.begin(tensors, segment, first, count, firstHead);
        if (sparse) {
          const int position = segment.position(first);
          const int32_t *ids =
              tensors.ids +
              (static_cast<size_t>(set) * totalQ + segment.qBegin + first) * plan.topk;
          wantedBlocks(plan, ids, position, blocks);
          const int tilesPerBlock = plan.block / width;
          for (int32_t block : blocks)
            for (int t = block * tilesPerBlock;
                 t < (block + 1) * tilesPerBlock && t * width <= position; ++t)
              tile.add(packed, t, segment.kCount);
        } else {
          const int last = segment.position(first + count - 1);
          for (int key = 0; key < std::min(last + 1, segment.kCount); key += kKeys)
            tile.add(packed, key / kKeys, segment.kCount);
        }
        tile.end(tensors, segment, first, count, firstHead, totalQ);
        progress(static_cast<size_t>(count));
      });
    }
  }
}

} // namespace winnow::cpu

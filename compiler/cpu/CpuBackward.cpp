// Gradients of attention on the CPU, in two passes that each make the weights anew from the
// log-sum-exp: over query tiles for dQ, over key tiles for dK and dV, for which the lists of blocks
// are turned round first. Whoever owns a tile adds to it alone and in a fixed order, so results do
// not depend on the threads.
#include "compiler/cpu/CpuKernels.h"
#include <algorithm>
#include <cmath>
#include <limits>

namespace winnow::cpu {
namespace {

/// Keys and values of one KV head of one segment, widened, as tiles of `width` keys of kKeys: keys
/// as rows and transposed, values transposed.
struct KeyTiles {
  int width = kKeys;
  std::vector<float> keys; ///< [tiles, kKeys, head dim]
  TransposedTiles keysT, valuesT;
};

KeyTiles pack(const BackwardPlan &plan, const CpuTensors &tensors, const Segment &segment,
              int kvHead, int width, int threads) {
  const int tiles = (segment.kCount + width - 1) / width, dim = plan.headDim,
            valueDim = plan.valueDim;
  KeyTiles packed;
  packed.width = width;
  packed.keysT.dim = dim;
  packed.valuesT.dim = valueDim;
  packed.keys.assign(static_cast<size_t>(tiles) * kKeys * dim, 0.f);
  packed.keysT.values.assign(packed.keys.size(), 0.f);
  packed.valuesT.values.assign(static_cast<size_t>(tiles) * kKeys * valueDim, 0.f);
  parallelFor(tiles, threads, [&](size_t tile) {
    const int begin = static_cast<int>(tile) * width, end = std::min(segment.kCount, begin + width);
    std::vector<float> value(valueDim);
    for (int key = begin; key < end; ++key) {
      const size_t row = tile * kKeys + (key - begin);
      float *elements = &packed.keys[row * dim];
      readKey(plan, tensors.k, keyOffset(tensors, segment, tensors.layout.kStride, key, kvHead),
              dim, elements);
      readKey(plan, tensors.v, keyOffset(tensors, segment, tensors.layout.vStride, key, kvHead),
              valueDim, value.data());
      auto transpose = [&](const float *from, TransposedTiles &to) {
        float *column = &to.values[tile * to.dim * kKeys + (key - begin)];
        for (int d = 0; d < to.dim; ++d)
          column[static_cast<size_t>(d) * kKeys] = from[d];
      };
      transpose(elements, packed.keysT);
      transpose(value.data(), packed.valuesT);
    }
  });
  return packed;
}

/// One segment's part in the launch, and the heads that share a selection.
struct Work {
  const BackwardPlan &plan;
  const CpuTensors &tensors;
  const CpuGradients &gradients;
  const Segment &segment;
  int totalQ;

  /// Element 0 of a query row in q or dq, and in out or dout.
  size_t queryAt(int index, int head) const { return rowAt(index, head) * plan.headDim; }
  size_t outputAt(int index, int head) const { return rowAt(index, head) * plan.valueDim; }
  size_t lseAt(int index, int head) const {
    return static_cast<size_t>(head) * totalQ + segment.qBegin + index;
  }
  void widen(const uint16_t *words, int count, float *to) const {
    for (int i = 0; i < count; ++i)
      to[i] = toFloat(words[i], plan.isBf16);
  }
  void store(const float *from, int count, float factor, uint16_t *words) const {
    for (int i = 0; i < count; ++i)
      words[i] = fromFloat(from[i] * factor, plan.isBf16);
  }

private:
  size_t rowAt(int index, int head) const {
    return static_cast<size_t>(segment.qBegin + index) * plan.heads + head;
  }
};

/// Query rows and what is known of them: tokens, each with its `group` heads.
class RowTile {
public:
  RowTile(const Work &work, int rows)
      : work(work), rows(rows), q(rows * work.plan.headDim), dout(rows * work.plan.valueDim),
        p(rows * kKeys), ds(rows * kKeys), lse(rows), delta(rows), limit(rows), position(rows) {}

  int tokens() const { return rows / work.plan.group; }

  /// Tokens `first`, ... `count` of them by their index in the segment; others have no weight.
  void load(const int *indices, int count, int firstHead) {
    const BackwardPlan &plan = work.plan;
    std::vector<float> out(plan.valueDim);
    for (int row = 0; row < rows; ++row) {
      const int token = row / plan.group, head = firstHead + row % plan.group;
      lse[row] = std::numeric_limits<float>::infinity(); // weights are 0
      position[row] = -1;
      delta[row] = 0;
      if (token >= count) {
        std::fill_n(&q[row * plan.headDim], plan.headDim, 0.f);
        std::fill_n(&dout[row * plan.valueDim], plan.valueDim, 0.f);
        continue;
      }
      const int index = indices[token];
      position[row] = work.segment.position(index);
      work.widen(work.tensors.q + work.queryAt(index, head), plan.headDim, &q[row * plan.headDim]);
      work.widen(work.gradients.dout + work.outputAt(index, head), plan.valueDim,
                 &dout[row * plan.valueDim]);
      work.widen(work.tensors.out + work.outputAt(index, head), plan.valueDim, out.data());
      for (int d = 0; d < plan.valueDim; ++d)
        delta[row] += dout[row * plan.valueDim + d] * out[d];
      // A row without keys has an lse of -inf.
      if (const float given = work.tensors.lse[work.lseAt(index, head)]; given > -kLargest)
        lse[row] = given;
    }
  }

  /// Weights and gradients of logits against one key tile.
  void weigh(WeighFunction function, const KeyTiles &keys, int tile) {
    int firstKey = tile * keys.width;
    for (int row = 0; row < rows; ++row)
      limit[row] =
          std::clamp(std::min(position[row] + 1, work.segment.kCount) - firstKey, 0, keys.width);
    function(q.data(), keys.keysT.tile(tile), dout.data(), keys.valuesT.tile(tile), lse.data(),
             delta.data(), limit.data(), position.data(), &firstKey, p.data(), ds.data());
  }

  const float *queries() const { return q.data(); }
  const float *outputGradients() const { return dout.data(); }
  /// Of the last weigh.
  const float *weights() const { return p.data(); }
  const float *logitGradients() const { return ds.data(); }

private:
  static constexpr float kLargest = std::numeric_limits<float>::max();
  const Work &work;
  const int rows;
  std::vector<float> q, dout, p, ds, lse, delta;
  std::vector<int32_t> limit, position;
};

/// The tokens that want each block of a selection, ascending: its lists of blocks turned round.
std::vector<std::vector<int>> tokensOfBlocks(const Work &work, int set) {
  const BackwardPlan &plan = work.plan;
  std::vector<std::vector<int>> tokens((work.segment.kCount + plan.block - 1) / plan.block);
  std::vector<int32_t> blocks;
  for (int index = 0; index < work.segment.qCount; ++index) {
    const size_t row = static_cast<size_t>(set) * work.totalQ + work.segment.qBegin + index;
    wantedBlocks(plan, work.tensors.ids + row * plan.topk, work.segment.position(index), blocks);
    for (int32_t block : blocks)
      tokens[block].push_back(index);
  }
  return tokens;
}

/// The tokens from the first one on that sees key `key`.
std::vector<int> tokensFrom(const Segment &segment, int key) {
  std::vector<int> tokens;
  for (int index = std::max(0, key - segment.position(0)); index < segment.qCount; ++index)
    tokens.push_back(index);
  return tokens;
}

/// Calls body(key tile) for those that a token, or where nothing is selected a tile of tokens up to
/// `position`, wants.
void overKeyTiles(const Work &work, const int32_t *ids, int position, int width,
                  const std::function<void(int)> &body) {
  const int visible = std::min(position + 1, work.segment.kCount);
  if (!ids) {
    for (int tile = 0; tile * width < visible; ++tile)
      body(tile);
    return;
  }
  thread_local std::vector<int32_t> blocks;
  wantedBlocks(work.plan, ids, position, blocks);
  const int perBlock = work.plan.block / width;
  for (int32_t block : blocks)
    for (int tile = block * perBlock; tile < (block + 1) * perBlock && tile * width < visible;
         ++tile)
      body(tile);
}

/// dQ of the heads of one selection.
void queryGradients(const Work &work, const TileFunctions &functions, const KeyTiles &keys, int set,
                    bool sparse, int threads) {
  const BackwardPlan &plan = work.plan;
  const int tokens = sparse ? 1 : kTileRows / plan.group, rows = tokens * plan.group,
            firstHead = set * plan.group;
  parallelFor((work.segment.qCount + tokens - 1) / tokens, threads, [&](size_t tileIndex) {
    const int first = static_cast<int>(tileIndex) * tokens,
              count = std::min(tokens, work.segment.qCount - first);
    std::vector<int> indices(count);
    for (int i = 0; i < count; ++i)
      indices[i] = first + i;
    RowTile tile(work, rows);
    tile.load(indices.data(), count, firstHead);
    std::vector<float> dq(rows * plan.headDim, 0.f);
    const int32_t *ids = nullptr;
    if (sparse)
      ids = work.tensors.ids +
            (static_cast<size_t>(set) * work.totalQ + work.segment.qBegin + first) * plan.topk;
    overKeyTiles(work, ids, work.segment.position(first + count - 1), keys.width, [&](int keyTile) {
      tile.weigh(sparse ? functions.weighOne : functions.weighMany, keys, keyTile);
      (sparse ? functions.addQueriesOne : functions.addQueriesMany)(
          tile.logitGradients(), &keys.keys[static_cast<size_t>(keyTile) * kKeys * plan.headDim],
          dq.data());
    });
    for (int row = 0; row < count * plan.group; ++row)
      work.store(&dq[row * plan.headDim], plan.headDim, static_cast<float>(plan.scale),
                 work.gradients.dq +
                     work.queryAt(first + row / plan.group, firstHead + row % plan.group));
  });
}

/// dK and dV of one KV head; `wanted` [parts][blocks] says who attends to a block, or is empty.
void keyGradients(const Work &work, const TileFunctions &functions, const KeyTiles &keys,
                  int kvHead, int parts, const std::vector<std::vector<std::vector<int>>> &wanted,
                  int threads) {
  const BackwardPlan &plan = work.plan;
  const int rows = kTileRows / plan.group * plan.group, dim = plan.headDim,
            valueDim = plan.valueDim;
  const int tiles = (work.segment.kCount + keys.width - 1) / keys.width;
  parallelFor(tiles, threads, [&](size_t index) {
    const int keyTile = static_cast<int>(index), firstKey = keyTile * keys.width;
    std::vector<float> dk(kKeys * dim, 0.f), dv(kKeys * valueDim, 0.f), pT(kKeys * rows),
        dsT(kKeys * rows);
    RowTile tile(work, rows);
    for (int part = 0; part < parts; ++part) {
      const std::vector<int> tokens =
          wanted.empty() ? tokensFrom(work.segment, firstKey) : wanted[part][firstKey / plan.block];
      for (size_t first = 0; first < tokens.size(); first += tile.tokens()) {
        const int count = static_cast<int>(std::min<size_t>(tile.tokens(), tokens.size() - first));
        tile.load(&tokens[first], count, (kvHead * parts + part) * plan.group);
        tile.weigh(functions.weighMany, keys, keyTile);
        functions.addKeys(tile.weights(), tile.logitGradients(), tile.queries(),
                          tile.outputGradients(), pT.data(), dsT.data(), dk.data(), dv.data());
      }
    }
    for (int key = firstKey; key < std::min(work.segment.kCount, firstKey + keys.width); ++key) {
      const size_t row = static_cast<size_t>(work.segment.kBegin + key) * plan.kvHeads + kvHead;
      work.store(&dk[(key - firstKey) * dim], dim, static_cast<float>(plan.scale),
                 work.gradients.dk + row * dim);
      work.store(&dv[(key - firstKey) * valueDim], valueDim, 1, work.gradients.dv + row * valueDim);
    }
  });
}

} // namespace

void backwardSegment(const BackwardPlan &plan, const TileFunctions &functions,
                     const CpuTensors &tensors, const CpuGradients &gradients,
                     const Segment &segment, int totalQ, int threads) {
  const Work work{plan, tensors, gradients, segment, totalQ};
  const bool sparse = plan.selects() && !segment.isDense;
  const int parts = plan.heads / plan.kvHeads / plan.group,
            width = sparse ? std::min(plan.block, kKeys) : kKeys;
  for (int kvHead = 0; kvHead < plan.kvHeads; ++kvHead) {
    const KeyTiles keys = pack(plan, tensors, segment, kvHead, width, threads);
    std::vector<std::vector<std::vector<int>>> wanted;
    for (int part = 0; part < parts; ++part) {
      const int set = kvHead * parts + part;
      queryGradients(work, functions, keys, set, sparse, threads);
      if (sparse)
        wanted.push_back(tokensOfBlocks(work, set));
    }
    keyGradients(work, functions, keys, kvHead, parts, wanted, threads);
  }
}

} // namespace winnow::cpu

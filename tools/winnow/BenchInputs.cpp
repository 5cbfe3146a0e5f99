// Random tensors and overlapping block lists, made by all cores.
#include "tools/winnow/BenchInputs.h"
#include "tests/conformance/Random.h"
#include "tests/reference/Half.h"
#include <algorithm>
#include <cmath>

namespace winnow {
namespace {

std::vector<uint16_t> normals(size_t rows, size_t width, double deviation, Dtype dtype,
                              uint64_t seed) {
  std::vector<uint16_t> words(rows * width);
  reference::parallelFor(rows, {}, [&](size_t row) {
    for (size_t i = row * width; i < (row + 1) * width; ++i)
      words[i] = reference::toWord(randomNormal(seed, i) * deviation, dtype);
  });
  return words;
}

/// The forced blocks and the best of the others, ascending.
void chooseRow(const reference::Method &method, const reference::Problem &problem, int t,
               const std::vector<float> &scores, std::vector<float> &scratch, int32_t *ids) {
  int blocks = t / problem.block + 1;
  int count = std::min(problem.topk, blocks), forced = 0;
  for (int b = 0; b < blocks; ++b)
    forced += isForced(method, problem, t, b);
  int open = count - forced;
  float threshold = INFINITY;
  int ties = 0; // blocks of exactly the threshold's score that still fit
  if (open > 0) {
    scratch.clear();
    for (int b = 0; b < blocks; ++b)
      if (!isForced(method, problem, t, b))
        scratch.push_back(scores[b]);
    std::nth_element(scratch.begin(), scratch.begin() + open - 1, scratch.end(), std::greater<>());
    threshold = scratch[open - 1];
    ties = open - static_cast<int>(std::count_if(scratch.begin(), scratch.end(),
                                                 [&](float s) { return s > threshold; }));
  }
  int32_t *next = ids;
  for (int b = 0; b < blocks; ++b) {
    bool take = isForced(method, problem, t, b) ||
                (open > 0 && (scores[b] > threshold || (scores[b] == threshold && ties-- > 0)));
    if (take)
      *next++ = b;
  }
}

} // namespace

BenchTensors benchTensors(const Spec &spec, int tokens, uint64_t seed) {
  BenchTensors tensors;
  size_t keyWidth = static_cast<size_t>(spec.kvHeads) * spec.headDim;
  size_t valueWidth = static_cast<size_t>(spec.kvHeads) * spec.valueWidth();
  tensors.q = normals(tokens, static_cast<size_t>(spec.heads) * spec.headDim, 1.5, spec.dtype,
                      seed * 4 + 1);
  tensors.k = normals(tokens, keyWidth, 1, spec.dtype, seed * 4 + 2);
  tensors.v = normals(tokens, valueWidth, 1, spec.dtype, seed * 4 + 3);
  reference::Problem &problem = tensors.problem;
  problem.heads = spec.heads;
  problem.kvHeads = spec.kvHeads;
  problem.headDim = spec.headDim;
  problem.valueDim = spec.valueDim;
  problem.block = spec.block;
  problem.topk = spec.topk;
  problem.dtype = spec.dtype;
  problem.scale = spec.scale;
  problem.q = tensors.q.data();
  problem.k = tensors.k.data();
  problem.v = tensors.v.data();
  problem.cuQ = problem.cuK = {0, tokens};
  return tensors;
}

std::vector<int32_t> overlappingIds(const reference::Method &method,
                                    const reference::Problem &problem, int overlap, uint64_t seed) {
  int tokens = problem.totalQ(), heads = problem.selectHeads(method);
  int blocks = (tokens + problem.block - 1) / problem.block,
      groups = (tokens + overlap - 1) / overlap;
  std::vector<int32_t> ids(static_cast<size_t>(heads) * tokens * problem.topk, -1);
  reference::parallelFor(static_cast<size_t>(heads) * groups, {}, [&](size_t item) {
    auto head = static_cast<int>(item / groups), group = static_cast<int>(item % groups);
    int causal =
        std::min(blocks, (std::min(tokens, (group + 1) * overlap) - 1) / problem.block + 1);
    std::vector<float> first(causal), second(causal), scores(causal), scratch;
    auto drawInto = [&](std::vector<float> &x, int i) {
      uint64_t base = (static_cast<uint64_t>(head) * (groups + 1) + i) * blocks;
      for (int b = 0; b < causal; ++b)
        x[b] = randomNormal(seed, base + b);
    };
    drawInto(first, group);
    drawInto(second, group + 1);
    for (int t = group * overlap; t < std::min(tokens, (group + 1) * overlap); ++t) {
      double angle = static_cast<double>(t % overlap) / overlap * std::acos(0.0);
      auto c = static_cast<float>(std::cos(angle)), s = static_cast<float>(std::sin(angle));
      for (int b = 0; b < causal; ++b)
        scores[b] = c * first[b] + s * second[b];
      chooseRow(method, problem, t, scores, scratch,
                &ids[(static_cast<size_t>(head) * tokens + t) * problem.topk]);
    }
  });
  return ids;
}

double attendOperations(const reference::Problem &problem, int selectHeads, const int32_t *ids) {
  double keys = 0;
  auto total = static_cast<size_t>(problem.totalQ());
  for (int row = 0; row < problem.totalQ(); ++row) {
    int position = placeOf(problem, row).position;
    for (int head = 0; head < selectHeads; ++head)
      for (int i = 0; i < problem.topk; ++i)
        if (int32_t b = ids[(head * total + row) * problem.topk + i]; b >= 0)
          keys += std::clamp(position + 1 - b * problem.block, 0, problem.block);
    if (selectHeads == 0)
      keys += position + 1;
  }
  return keys * problem.heads / std::max(1, selectHeads) * 2 *
         (problem.headDim + problem.valueWidth());
}

double scoreOperations(const reference::Method &method, const reference::Problem &problem) {
  double summaries = 0;
  for (int row = 0; row < problem.totalQ(); ++row) {
    int seen = placeOf(problem, row).position + 1;
    summaries += std::max(0, (seen - method.window) / method.stride + 1);
    if (method.lse == reference::Lse::Coarse)
      summaries += std::max(0, (seen - method.coarseWindow) / method.coarseStride + 1);
  }
  return summaries * problem.heads * problem.headDim * 2;
}

} // namespace winnow

// Inputs of benchmarks: random tensors, and block lists whose neighbours are alike to a chosen
// degree.
#pragma once
#include "tests/reference/Reference.h"

namespace winnow {

struct BenchTensors {
  std::vector<uint16_t> q, k, v;
  reference::Problem problem; ///< points into the vectors
};
/// One sequence of normal numbers; q has deviation 1.5, k and v 1.
BenchTensors benchTensors(const Spec &spec, int tokens, uint64_t seed);

/// Block lists [select_heads, tokens, topk] for one sequence. Block scores of token t are cos(a)
/// x_i + sin(a) x_(i+1) with i = t / overlap, a = (t mod overlap) / overlap * pi / 2 and x_i normal
/// vectors over the blocks; forced blocks as the method has them. overlap = 1: neighbours share
/// nothing but the forced blocks.
std::vector<int32_t> overlappingIds(const reference::Method &method,
                                    const reference::Problem &problem, int overlap, uint64_t seed);

/// Floating-point operations of attention over these ids (4 per query head, key and channel), each
/// key once per row.
double attendOperations(const reference::Problem &problem, int selectHeads, const int32_t *ids);
/// The same of scoring: 2 per query head, visible summary and channel.
double scoreOperations(const reference::Method &method, const reference::Problem &problem);

} // namespace winnow

// Inputs of benchmarks: structured tensors, and block lists whose neighbours are alike to a chosen
// degree. Everything is a function of position and seed, so parts can be made in any order, and all
// cores make them.
#pragma once
#include "reference/Reference.h"
#include "tools/winnow/io/HostArray.h"

namespace winnow {

/// One sequence. Keys drift from topic to topic and a query leans towards its own topic, so that
/// block scores have structure; q has deviation 1.5, k and v 1.
class BenchInputs {
public:
  BenchInputs(const Spec &spec, int tokens, uint64_t seed);
  /// Rows [first, first + count) of q, [heads, head_dim] each, by all cores. `voice`: another noise
  /// about the same topics, for sequences that read the same text; problem.q has voice 0.
  void queryRows(int first, int count, uint16_t *rows, int voice = 0) const;
  /// Puts rows into problem.q; the others stay zeros and cost no memory.
  void provideQueries(const std::vector<int> &rows);
  void provideQueries(); ///< all of them

  HostArray<uint16_t> k, v;
  reference::Problem problem; ///< points into this object's arrays

private:
  void topicAt(int token, float *mix) const; ///< [kv_heads, head_dim], deviation 1
  void queryRow(int token, uint16_t *row, int voice = 0) const;

  uint64_t seed;
  std::vector<float> topics; ///< [steps, kv_heads, head_dim]
  HostArray<uint16_t> q;
};

/// Block lists [select_heads, queries, topk] for one sequence, whose queries are its last tokens.
/// Block scores of token t are cos(a) x_i + sin(a) x_(i+1) with i = t / overlap, a = (t mod
/// overlap) / overlap * pi / 2 and x_i normal vectors over the blocks; forced blocks as the method
/// has them. overlap = 1: neighbours share nothing but the forced blocks.
HostArray<int32_t> overlappingIds(const reference::Method &method,
                                  const reference::Problem &problem, int overlap, uint64_t seed);

/// Floating-point operations of attention over min(topk, causal) blocks with the own one among them
/// (4 per query head, key and channel); over every key where nothing is selected.
double attendOperations(const reference::Method &method, const reference::Problem &problem);
/// The same of gradients: products of q and k, dS and k, dS and q; of dO and v, P and dO.
double gradientOperations(const reference::Method &method, const reference::Problem &problem);
/// The same of scoring: 2 per query head, visible summary and channel, of the tokens that have more
/// causal blocks than they select.
double scoreOperations(const reference::Method &method, const reference::Problem &problem);

} // namespace winnow

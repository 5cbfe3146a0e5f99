// Input and output of `winnow run` as NumPy files: shapes and types checked against the spec before
// anything runs.
#pragma once
#include "reference/Reference.h"
#include "reference/conformance/Conformance.h"
#include <string>

namespace winnow {

/// Paths given on the command line; empty = not given.
struct RunFiles {
  std::string q, k, v, cuSeqlens, cuSeqlensK, useIds;
  std::string out, lse, ids;
  bool anyInput() const { return !(q.empty() && k.empty() && v.empty()); }
};

struct RunInput {
  std::vector<uint16_t> q, k, v;
  std::vector<int32_t> ids;   ///< --use-ids
  std::string conversions;    ///< what was not read as it is, for the user; may be empty
  reference::Problem problem; ///< points into the vectors
};

/// Reads q [tokens, heads, head_dim], k [tokens, kv_heads, head_dim], v [tokens, kv_heads,
/// value_dim], or each with a 1 before that, in any floating-point type. Without cumulative lengths
/// the batch is one sequence, with history where k is longer than q; --cu-seqlens serves q and k
/// alike unless the keys have their own. Errors: Usage, naming the file and what it should be.
Result<RunInput> loadInput(const RunFiles &files, const Spec &spec);

/// The ids of --use-ids, [select_heads, tokens, topk] integers. Error: Usage.
Status loadIds(const RunFiles &files, int selectHeads, RunInput &input);

/// Writes the results that were asked for: out as float16 or (bf16) float32 [tokens, heads,
/// value_dim], lse float32 [heads, tokens], ids int32 [select_heads, tokens, topk]. Each file whole
/// or not at all.
Status writeResults(const RunFiles &files, const reference::Problem &problem, int selectHeads,
                    const CaseAnswer &answer);

} // namespace winnow

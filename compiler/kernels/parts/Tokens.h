// Part: which query rows a worker owns. Tiles of neighbouring tokens of one sequence, cut into row
// tiles; q is packed rows [total_q, heads, dim]. Who owns which row tile the skeleton says.
#pragma once
#include "compiler/kernels/parts/Part.h"
#include "runtime/program/ProgramImage.h"

namespace winnow {

/// Adds a map of the packed rows [total, heads, dim] of tensor "q", "dout", "k" or "v"; a box is 64
/// columns of `boxHeads` heads of `boxRows` rows. Returns it as a member of params.
inline std::string describeRows(std::vector<TensorMapRecipe> &maps, llvm::StringRef tensor,
                                int heads, int dim, int boxHeads, int boxRows) {
  maps.push_back({tensor.str(),
                  {std::to_string(dim), std::to_string(heads),
                   tensor == "q" || tensor == "dout" ? "total_q" : "total_k"},
                  {2 * dim, int64_t(2) * dim * heads},
                  {64, boxHeads, boxRows}});
  return "map[" + std::to_string(maps.size() - 1) + "]";
}

class Tokens : public Part {
public:
  using Part::kvHeadOf;
  using Part::Part;

  /// `sharers`: what kTileHeads counts, for its comment.
  void constants(llvm::StringRef sharers) {
    t.constant("kHeads", plan.heads, "query heads");
    t.constant("kKvHeads", plan.kvHeads, "key/value heads");
    t.constant("kTileHeads", plan.group, sharers);
    t.constant("kDim", plan.headDim, "elements of one query or key row");
    t.constant("kValueDim", plan.valueDim, "elements of one value or output row");
  }

  /// The tile of at most kTokens tokens in a slot of the ragged batch; without tokens it is no
  /// work.
  Value find(Value slot) {
    return t.value("tile", "find_token_tile",
                   {t.pointer("cu_q"), t.keyLengths(plan.paged), t.field(t.params(), "batch"),
                    t.number(0), t.field(t.params(), "total_q"), slot},
                   {"@kTokens"});
  }
  /// The tile of a sequence that begins with token `first` of its segment.
  Value findInSegment(Value sequence, Value first) {
    return t.value("tile", "find_segment_tile",
                   {t.pointer("cu_q"), t.keyLengths(plan.paged), sequence, first}, {"@kTokens"});
  }
  Value rows(llvm::StringRef name, Value tile, Value index) {
    return t.value(name, "query_rows", {tile, index}, {"@kTileHeads"});
  }

  /// The first query head of a tile of heads, and the key/value head that it goes with.
  Value firstHead(Value selectHead, llvm::StringRef name = "") {
    return t.mul(selectHead, t.named("kTileHeads"), name);
  }

  /// Queries in registers.
  void declare(RowTile &r) {
    r.query =
        t.fragment("query" + r.suffix, t.type("LeftOperand", {16, "@kDim", plan.productElement}));
    if (plan.hasFp8Keys())
      r.scale = t.fragment("logit_scale" + r.suffix, t.type("LogitScale"));
  }
  /// Loads the row tile's queries into registers.
  void load(const RowTile &r, Value firstHead) {
    if (plan.hasFp8Keys()) {
      Value factor = t.value("", "head_factor",
                             {t.pointer("k_scale"), kvHeadOf(firstHead),
                              t.namedReal(plan.logitHook ? "kLogitScale" : "kScale")});
      return t.leaf("load_query_fp16",
                    {r.query, r.scale, t.heads("q", plan.paged), r.rows, firstHead, factor},
                    {"@kHeads", plan.element});
    }
    t.leaf("load_query", {r.query, t.heads("q", plan.paged), r.rows, firstHead}, {"@kHeads"});
  }
  /// Adds the map of queries that copy reads, and that of the gradients of their output; a box is
  /// the rows of one warp.
  void describe(std::vector<TensorMapRecipe> &maps, int warpTokens) {
    queryMap = describeRows(maps, "q", plan.heads, plan.headDim, plan.group, warpTokens);
  }
  void describeGradients(std::vector<TensorMapRecipe> &maps, int warpTokens) {
    gradientMap = describeRows(maps, "dout", plan.heads, plan.valueDim, plan.group, warpTokens);
  }
  /// Starts copying a warpgroup's queries, from the token in row `row` of q on. By one lane.
  void copy(Value queryTile, Value barrier, Value firstHead, Value row) {
    copyRows(queryTile, queryMap, barrier, firstHead, row);
  }
  /// The same of the gradients of their output.
  void copyGradients(Value gradientTile, Value barrier, Value firstHead, Value row) {
    copyRows(gradientTile, gradientMap, barrier, firstHead, row);
  }

private:
  void copyRows(Value into, llvm::StringRef map, Value barrier, Value firstHead, Value row) {
    t.leaf("copy_queries", {into, t.field(t.params(), map), barrier, firstHead, row},
           {"@kTileHeads", "@kWarpTokens"});
  }

  std::string queryMap, gradientMap; ///< members of params
};

} // namespace winnow

// Part: which query rows a worker owns. A tile of neighbouring tokens of one sequence, and in it
// tiles of 16 rows: tokens x the query heads that share a selection. Serves attend. What it hands
// out, a RowTile, is what the parts behind it work on; who owns which one the skeleton says.
#pragma once
#include "compiler/kernels/KernelBuilder.h"
#include "compiler/select/plans/AttendPlan.h"
#include "runtime/program/ProgramImage.h"
#include <string>

namespace winnow {

/// What a warp holds of 16 rows of queries; each part fills in what it makes.
struct RowTile {
  std::string suffix;          ///< of names: "" where a warp has one row tile, else "0" or "1"
  mlir::Value index;           ///< number in the tile of tokens
  mlir::Value rows;            ///< QueryRows: tokens, heads, positions
  mlir::Value query;           ///< in registers, or a warpgroup's tile in shared memory
  mlir::Value wants;           ///< a bit for each token that wants the key tile at hand
  mlir::Value logits, weights; ///< of the keys at hand
  mlir::Value output, state;   ///< of all keys so far: sums of weighted values, SoftmaxState
};

/// The keys at hand: those of one key tile, or of a step of several, each of which a token may
/// want.
struct KeysAtHand {
  mlir::Value first; ///< the tile's first key, counted in its sequence
  mlir::Value step;  ///< StepKeys, in the place of `first`: where the parts lie and who wants them
  mlir::Value sums;  ///< StepSums, with `step`: row sums of this step's weights
};

/// Adds a map of the packed rows [total, heads, dim] of tensor "q", "k" or "v", whose box is 64
/// columns of `boxHeads` heads of `boxRows` rows. Returns it as a member of params.
std::string describeRows(std::vector<TensorMapRecipe> &maps, const char *tensor, int heads, int dim,
                         int boxHeads, int boxRows);

class Tokens {
public:
  Tokens(TileBuilder &t, const AttendPlan &plan) : t(t), plan(plan) {}

  /// `sharers`: what kGroup counts, for its comment.
  void constants(llvm::StringRef sharers) {
    t.constant("kHeads", plan.heads, "query heads");
    t.constant("kKvHeads", plan.kvHeads, "key/value heads");
    t.constant("kGroup", plan.group, sharers);
    t.constant("kDim", plan.headDim, "elements of one query or key row");
    t.constant("kValueDim", plan.valueDim, "elements of one value or output row");
  }

  /// The tile of tokens in a slot of the ragged batch, kTokens at most; one without tokens is no
  /// work.
  mlir::Value find(mlir::Value slot) {
    return t.value("tile", "find_token_tile",
                   {t.pointer("cu_q"), t.pointer("cu_k"), t.field(t.params(), "batch"), t.number(0),
                    t.field(t.params(), "total_q"), slot},
                   {"@kTokens"}, type());
  }
  tile::ObjectType type() { return t.type("TokenTile"); }

  mlir::Value rows(llvm::StringRef name, mlir::Value tile, mlir::Value index) {
    return t.value(name, "query_rows", {tile, index}, {"@kGroup"}, t.type("QueryRows"));
  }

  /// Loads the row tile's queries into registers.
  void load(const RowTile &r, mlir::Value firstHead) {
    t.leaf("load_query", {r.query, t.pointer("q"), r.rows, firstHead}, {"@kHeads"});
  }
  /// Adds the map that copy reads; a box is the rows of one warp.
  void describe(std::vector<TensorMapRecipe> &maps, int warpTokens) {
    queryMap = describeRows(maps, "q", plan.heads, plan.headDim, plan.group, warpTokens);
  }
  /// Starts copying a warpgroup's queries, from the token in row `row` of q on. By one lane.
  void copy(mlir::Value queryTile, mlir::Value barrier, mlir::Value firstHead, mlir::Value row) {
    t.leaf("copy_queries",
           {queryTile, t.field(t.params(), queryMap, t.type("auto")), barrier, firstHead, row},
           {"@kGroup", "@kWarpTokens"});
  }

  /// The first query head of a selection, and the key/value head that it goes with.
  mlir::Value firstHead(mlir::Value selectHead, llvm::StringRef name = "") {
    return t.mul(selectHead, t.named("kGroup"), name);
  }
  mlir::Value kvHead(mlir::Value firstHead) {
    return t.div(firstHead, t.div(t.named("kHeads"), t.named("kKvHeads")), "kv_head");
  }

private:
  TileBuilder &t;
  const AttendPlan &plan;
  std::string queryMap;
};

} // namespace winnow

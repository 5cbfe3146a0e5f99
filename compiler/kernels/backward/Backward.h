// The kernels of gradients, in the order of a launch: statistics of the query rows (Rows.cpp); for
// methods that select, the lists of blocks turned round (Lists.cpp); dQ by blocks of threads that
// own queries (Queries.cpp, on warpgroups QueriesOnWarpgroups.cpp); dK and dV by blocks of threads
// that own keys (Keys.cpp), and where query segments are long from the sums over ranges of tokens
// (Join.cpp); on warpgroups (KeysOnWarpgroups.h) they add up the ranges themselves. Each result is
// written once, by whoever owns it, who adds in a fixed order: no atomic touches a result. Products
// are those of warpgroups where the target has them and the rows fit, else those of warps.
#pragma once
#include "compiler/kernels/KernelBuilder.h"
#include "compiler/kernels/Kernels.h"

namespace winnow {

/// The buffers of a launch of gradients, by their places in ProgramImage::backwardBuffers; all but
/// the first of methods that select alone. On warpgroups KeyParts and ValueParts are sums over all
/// ranges so far, and with KeyItems there whatever the method.
/// Changes: where changes of logits are stored, of methods that select.
enum class BackwardBuffer {
  Statistics,
  Bits,
  Ranges,
  Lists,
  KeyParts,
  ValueParts,
  KeyItems,
  Changes
};
inline mlir::Value backwardBuffer(KernelBuilder &t, BackwardBuffer which) {
  return t.pointer(KernelBuilder::bufferMember(static_cast<int>(which)));
}
/// The same of kernels on warpgroups, where those of selections may be missing.
inline mlir::Value backwardBuffer(KernelBuilder &t, const BackwardPlan &plan,
                                  BackwardBuffer which) {
  const int ofSelections = plan.selects() || which == BackwardBuffer::Statistics ? 0 : 3;
  return t.pointer(KernelBuilder::bufferMember(static_cast<int>(which) - ofSelections));
}

/// Selections of one launch: as many lists of ids as a token has.
inline int selections(const BackwardPlan &plan) { return plan.heads / plan.group / plan.headTiles; }

/// `opensItems`: it says that no item of backward_keys on warpgroups is taken yet; `stores`: and
/// that no place of a change is.
BuiltKernel buildBackwardRows(mlir::ModuleOp module, const BackwardPlan &plan, bool opensItems,
                              bool stores);
BuiltKernel buildBackwardMarks(mlir::ModuleOp module, const BackwardPlan &plan);
/// `byPairs`: three lists for each pair of key tiles, for backward_keys on warpgroups; else one for
/// each key block.
BuiltKernel buildBackwardLists(mlir::ModuleOp module, const BackwardPlan &plan, bool byPairs);
/// Where the changes of a chunk of tokens are stored, for backward_keys that stores them and
/// backward_queries that reads them: stored_changes.cuh.
BuiltKernel buildBackwardPlaces(mlir::ModuleOp module, const BackwardPlan &plan);
/// On warpgroups, from stored changes. Error: Unsupported, where they do not fit.
Result<BuiltKernel> buildQueriesFromChanges(mlir::ModuleOp module, const BackwardPlan &plan,
                                            const Target &target,
                                            std::vector<TensorMapRecipe> &maps);
/// On warpgroups where the target has them and the kernel fits, unless `config`, which holds the
/// choice on exit, says otherwise. Appends the tensor maps that the kernel reads to `maps`. Error:
/// Unsupported, where what it asks for cannot be built.
Result<BuiltKernel> buildBackwardQueries(mlir::ModuleOp module, const BackwardPlan &plan,
                                         const Target &target, Config &config,
                                         std::vector<TensorMapRecipe> &maps);
/// On warps; `config` holds the sizes on exit. Error: Unsupported, where they do not fit.
Result<BuiltKernel> buildBackwardKeys(mlir::ModuleOp module, const BackwardPlan &plan,
                                      const Target &target, Config &config);
/// Keys of an item of backward_keys on warpgroups: two tiles, one of each warpgroup. Its tokens are
/// those that want both, only the first and only the second one.
constexpr int kItemTileKeys = 64, kPairKeys = 2 * kItemTileKeys, kListsOfPair = 3;
/// What a stage of query rows has room for on warpgroups.
struct KeyWarpgroupSizes {
  int tokens = 0;    ///< of a stage
  int tokenRows = 0; ///< rows of each: its heads, rounded up to 4, 8 or 16
  int stages = 0;
};
/// Error: Unsupported, with what the target, the selection, rows or heads would have to be.
Result<KeyWarpgroupSizes> chooseKeysOnWarpgroups(const BackwardPlan &plan, const Target &target);
/// Tokens of a range where changes are stored: whole words of the bits of tokens, and whole tiles
/// of tokens of backward_queries. Chunks are of whole ranges.
constexpr int kStoredRangeTokens = 4032;
/// Error: Unsupported, with what would have to be otherwise for changes to be stored.
Status checkStoredChanges(const BackwardPlan &plan, const KeyWarpgroupSizes &sizes);
/// Appends the tensor maps that it reads to `maps`. `stores`: changes, too.
BuiltKernel buildBackwardKeysOnWarpgroups(mlir::ModuleOp module, const BackwardPlan &plan,
                                          const KeyWarpgroupSizes &sizes, bool stores,
                                          std::vector<TensorMapRecipe> &maps);
/// Appends the buffers of its sums and items, and says how many ranges of tokens there are.
void describeKeyItems(const BackwardPlan &plan, bool stores, ProgramImage &image);
/// Appends the buffer of stored changes, and says how many tokens a chunk has: of `chunkMiB` MiB of
/// changes, but of a range at least.
void describeChanges(const BackwardPlan &plan, int chunkMiB, ProgramImage &image);
/// How many tiles of keys have places for sums, a formula.
std::string keyTilePlaces(const BackwardPlan &plan);
BuiltKernel buildBackwardJoin(mlir::ModuleOp module, const BackwardPlan &plan);
/// Appends the buffers of the sums over ranges of tokens, says how many ranges there are, and how
/// long they are where `config` leaves it open.
void describeRanges(const BackwardPlan &plan, Config &config, ProgramImage &image);

} // namespace winnow

// The way of blocks of threads through the keys that their tokens want, on warpgroups. Blocks stay
// and take one tile of tokens after the other; one warp builds the list of the next tile's key
// tiles while the others work on this one, and further warps feed key tiles, values and queries by
// bulk copies. Serves attention and its gradients by queries, which differ in what a warpgroup does
// with a step of key tiles. Roles, rings and waits are written out instead of being split off by a
// pass, because they are more than a loop cut in two. WarpgroupWalk.cpp: what is shared, and who
// does what; Feed.cpp: the warps that build lists and feed tiles.
#pragma once
#include "compiler/kernels/attend/Sizes.h"
#include "compiler/kernels/parts/Mask.h"

namespace winnow {

class WarpgroupWalk {
public:
  using Value = mlir::Value;
  /// A ring that one warp feeds: of key tiles, of tiles of values, or of both side by side. Every
  /// warp that computes waits for every stage and releases it, wanted or not.
  struct Ring {
    std::string name;            ///< "" where there is one ring, else "key" or "value"
    bool hasKeys, hasValues;     ///< what a stage holds
    int stages, stageBytes;      ///< how many there are, and what copies bring into each
    Value keys, values, changes; ///< rings of tiles; null for what a stage does not hold
    Value barriers, landing;     ///< of the stages, and of the feeding warp alone
    Value cursor;                ///< of the role that is being written

    bool hasChanges() const { return !hasKeys && !hasValues; } ///< stored ones
    std::string object(const char *what) const;                ///< "barriers", "key_barriers"
    std::string constant(const char *what) const;              ///< "kStages", "kKeyStages"
    std::string bytesConstant() const { return constant("StageBytes"); }
  };

  /// Of gradients from stored changes: where these and the bits of tokens lie, as members of
  /// params.
  struct StoredChanges {
    std::string changes, bits;
  };
  WarpgroupWalk(KernelBuilder &t, const AttendPlan &plan, const AttendSizes &sizes, Tokens &tokens,
                TileList &tileList, KeySource &source, Mask &mask, bool split,
                StoredChanges stored = {});
  /// Threads of a block, with those that feed.
  static int threads(const AttendSizes &sizes);
  /// Adds the maps that the feeding warps read.
  void describe(std::vector<TensorMapRecipe> &maps);
  void constants();
  /// Declares what is shared and makes it ready. Exit: warp and warpgroup are there.
  void declare();
  /// Gives each warp its role: `consume` is that of the warpgroups that compute.
  void perform(llvm::function_ref<void()> consume);

  // By the warps that compute.
  /// Where they stand in the rings of tiles, and the place of their own queries.
  void enterRings();
  void enterQueries();
  /// Runs `body` for one list after the other until there is no more work.
  void overWork(llvm::function_ref<void()> body);
  /// A member of the current list's header.
  Value about(llvm::StringRef member) { return t.field(header, member); }
  Value stage(llvm::StringRef name, Value ring, Value cursor) {
    return t.value(name, "stage", {ring, cursor});
  }
  void waitFor(const Ring &ring) { t.leaf("wait_full", {ring.barriers, ring.cursor}); }
  /// Leaves the stage to the feeding warp, and turns to the next.
  void release(const Ring &ring) { t.leaf("arrive_empty", {ring.barriers, ring.cursor}); }
  void advance(const Ring &ring) { t.leaf("advance", {ring.cursor}); }
  /// Passes a step that the warpgroup does not want. Waiting first keeps every warp within one turn
  /// of the ring: parities repeat after two.
  void skipStep();
  void waitForQueries() { t.leaf("wait_full", {queryBarriers, queryCursor}); }
  void releaseQueries();

  const bool split; ///< tiles that single warps want have a part of the list
  /// The ring of keys with their values; of gradients that of keys, and that of values.
  llvm::SmallVector<Ring, 2> rings;
  /// Gradients of outputs, beside queries; null of attention. From stored changes there are
  /// neither.
  Value queryRing, gradientRing;
  Value warpgroup, warp, queryCursor, list;

private:
  // WarpgroupWalk.cpp
  void declareBarriers();
  void clearUnfilled();
  // Feed.cpp
  void feedTiles(Ring &ring);
  void copyStage(const Ring &ring, Value landed, Value entry, Value overrun);
  void feedChanges(Ring &ring, int feeder);
  void feedQueries();
  void copyQueries(Value receiver, Value firstHead);
  void buildLists();
  void listItems(Value slots, llvm::function_ref<Value(Value slot)> find);
  void buildList(Value tile, Value head);
  void forOneLane(llvm::function_ref<void()> body);
  Value named(llvm::StringRef name) { return t.named(name); }

  KernelBuilder &t;
  const AttendPlan &plan;
  const AttendSizes &sizes;
  Tokens &tokens;
  TileList &tileList;
  KeySource &source;
  Mask &mask;
  Value work, workBarriers, queryBarriers;
  Value turn, header;
  Value changeTables[kChangeFeeders]; ///< of the warps that feed stored changes
  const StoredChanges stored;
};

} // namespace winnow

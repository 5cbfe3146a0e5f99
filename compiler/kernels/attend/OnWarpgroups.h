// The builder of the attend kernel on warpgroups: sizes, and the parts that its files share.
// BuildAttendWarpgroups.cpp: sizes, declarations and roles; AttendProducers.cpp: the warps that
// build lists and feed tiles; AttendConsumers.cpp: the warpgroups that compute.
#pragma once
#include "compiler/kernels/Kernels.h"
#include "compiler/kernels/parts/Epilogue.h"
#include "compiler/kernels/parts/KeySource.h"
#include "compiler/kernels/parts/Logits.h"
#include "compiler/kernels/parts/Mask.h"
#include "compiler/kernels/parts/Softmax.h"
#include "compiler/kernels/parts/TileList.h"

namespace winnow {

/// Sizes of one kernel; all follow from the plan, the target's shared memory and the config.
struct WarpgroupSizes {
  int groups = 0;              ///< consumer warpgroups
  int warpTokens = 0;          ///< tokens of one warp
  int tokens = 0;              ///< tokens of one tile
  int maskBits = 0;            ///< bits of a mask of tokens
  int keys = 0, partKeys = 0;  ///< keys of one step, and of one of its parts
  int parts = 0;               ///< key tiles of one step
  int tilesPerBlock = 0;       ///< key tiles of one selectable block
  int stages = 0;              ///< of the ring of keys and values
  int entries = 0, window = 0; ///< of one list, and key tiles of the bitmap
  bool whole = false;          ///< whatever the bitmap can hold fits one list

  /// Bytes of one entry of a list (templates/attend/work_list.cuh).
  int entryBytes() const { return maskBits <= 16 ? 4 : 4 + maskBits / 8; }

  int stageBytes(const AttendPlan &plan) const {
    return keys * 128 * ((plan.headDim + 63) / 64 + (plan.valueDim + 63) / 64);
  }
};

/// The sizes for a config (0 = chosen here), or Unsupported saying which tunable does not fit.
Result<WarpgroupSizes> chooseWarpgroupSizes(const AttendPlan &plan, const Target &target,
                                            const Config &config);

class AttendOnWarpgroups {
public:
  AttendOnWarpgroups(mlir::ModuleOp module, const AttendPlan &plan, const WarpgroupSizes &sizes,
                     const Config &config, std::vector<TensorMapRecipe> &maps);
  BuiltKernel build();

private:
  using Value = mlir::Value;
  // OnWarpgroups.cpp
  void constants();
  KernelFacts facts() const;
  void declare();
  // Feed.cpp
  void feedKeys();
  void copyStage(Value entry, Value overrun);
  void feedQueries();
  void buildLists();
  void buildList(Value tile, Value head);
  // Compute.cpp
  void consume();
  void attendShared();
  void attendFirst(Value entry);
  void attendNext(Value entry);
  void attendSingles();
  void finishPending();
  void storeResults();
  Value step(Value entry);
  void makeLogits(Value keyTile, TemplateArgument unroll);
  void hideKeys();
  void skip(Value from, Value to);

  /// Runs `body` for one list after the other until there is no more work.
  void overWork(llvm::function_ref<void()> body);
  void forOneLane(llvm::function_ref<void()> body);
  Value stage(llvm::StringRef name, Value ring, Value cursor) {
    return t.value(name, "stage", {ring, cursor}, {}, t.type("auto"));
  }
  /// A member of the current list's header.
  Value about(llvm::StringRef member, mlir::Type type = {}) {
    return t.field(header, member, type);
  }
  Value named(llvm::StringRef name) { return t.named(name); }

  const AttendPlan &plan;
  const WarpgroupSizes &sizes;
  const bool split; ///< tiles that single warps want have a part of the list
  TileBuilder t;
  Tokens tokens;
  TileList tileList;
  KeySource source;
  Logits logits;
  Mask mask;
  Softmax softmax;
  Epilogue epilogue;
  // Shared objects.
  Value keyRing, valueRing, queryRing, work, barriers, landing, workBarriers, queryBarriers;
  // Who this thread is, and where it stands.
  Value group, warp, warpOfGroup, turn, cursor, pending, queryCursor, list, header;
  // Of the consumers.
  RowTile rows;
  KeysAtHand keys;
};

} // namespace winnow

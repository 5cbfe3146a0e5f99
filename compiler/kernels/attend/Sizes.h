// Sizes of the attend kernels: what fits the target's shared memory and registers, chosen before
// anything is built. Serves both skeletons. A choice goes by candidates in the order of preference,
// what a candidate stores, and the first that fits; what was asked for and does not fit is refused.
#pragma once
#include "compiler/kernels/Kernels.h"
#include "compiler/kernels/parts/KeySource.h"
#include "compiler/kernels/parts/TileList.h"

namespace winnow {

/// Sizes of one kernel; all follow from the plan, the target and the config.
struct AttendSizes {
  int warps = 0;         ///< that compute
  int producers = 0;     ///< warps that load for them or build their lists
  int mmaWarps = 1;      ///< that make one product together: 1, or the 4 of a warpgroup
  int rowTiles = 1;      ///< of 16 rows of queries, per warp
  int rowTokens = 0;     ///< tokens of a row tile
  int tokens = 0;        ///< of one tile of tokens
  int keys = 0;          ///< of one ring stage
  int parts = 1;         ///< key tiles of one ring stage
  int tilesPerBlock = 1; ///< key tiles of one selectable block
  int stages = 0;        ///< of the ring of keys and values, or of keys alone
  int valueStages = 0;   ///< of gradients on warpgroups, whose values have a ring of their own
  int changeStages = 0;  ///< of gradients from stored changes, in the place of values
  int entries = 0;       ///< of one list of key tiles
  int bitmapTiles = 0;   ///< key tiles that the bitmap covers at a time
  bool whole = false;    ///< whatever the bitmap can hold fits one list

  int tileKeys() const { return keys / parts; }
  bool onWarpgroups() const { return mmaWarps == 4; }
  int warpgroups() const { return warps / 4; } ///< warpgroups that compute
  bool ofGradients() const { return valueStages > 0 || changeStages > 0; }
  bool fromChanges() const { return changeStages > 0; } ///< reads no queries and no values
  KeySource::Tiles tiles() const {
    return onWarpgroups() ? KeySource::Tiles::Panels : KeySource::Tiles::Shared;
  }

  // Bytes of one ring stage, of one list and of the bitmap.
  int keyBytes(const AttendPlan &plan) const { return KeySource::keyBytes(plan, tiles(), keys); }
  int valueBytes(const AttendPlan &plan) const {
    return KeySource::valueBytes(plan, tiles(), keys);
  }
  int listBytes() const {
    return onWarpgroups() ? workListBytes(entries, maskBits(tokens))
                          : wantedListBytes(entries, maskBits(tokens));
  }
  int changeTableBytes() const { return 4 * kWarpThreads * tokens; }
  int bitmapBytes() const { return bitmapTiles * maskBits(tokens) / 8; }
};

/// On warps, by mma.sync: key tiles as large as registers and two ring stages allow, then the
/// longest list that leaves room for the stages, then as many stages as fit. `config` holds the
/// choices on exit. Error: Unsupported, with the tunable that does not fit.
Result<AttendSizes> chooseAttendOnWarps(const AttendPlan &plan, const Target &target,
                                        Config &config);
/// The same on warpgroups: as many ring stages as possible, at the cost of lists that cover fewer
/// key tiles at a time.
Result<AttendSizes> chooseAttendOnWarpgroups(const AttendPlan &plan, const Target &target,
                                             Config &config);

/// The same for gradients by queries: a ring of keys and one of values, and the gradients of
/// outputs beside queries.
Result<AttendSizes> chooseGradientsOnWarpgroups(const AttendPlan &plan, const Target &target);

/// The same from stored changes, of what checkStoredChanges (backward/Backward.h) lets pass: a ring
/// of keys and one of changes. Error: Unsupported, where keys are too long.
Result<AttendSizes> chooseGradientsFromChanges(const AttendPlan &plan, const Target &target);

/// On warpgroups: lists in work at a time, the present one and the next; and the warps of the
/// warpgroup that feeds, of which one has nothing to do at attention.
constexpr int kWorkStages = 2, kFeedingWarps = 4;
/// Of these the warps that feed stored changes.
constexpr int kChangeFeeders = 2;
/// Bytes of one token's stored changes by a tile of 64 keys (templates/attend/stored_changes.cuh).
constexpr int kChangeTileBytes = 2048;

KernelFacts attendFacts(const AttendPlan &plan, const AttendSizes &sizes);

} // namespace winnow

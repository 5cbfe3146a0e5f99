// Part: where keys and values lie in global memory, and how a key tile comes to shared memory; no
// skeleton and no other part knows. Here: rows of 16-bit elements, packed [total_k, kv_heads, dim]
// as a ragged batch or, by many threads alone, in the pages that the launch's tables name. Two
// ways: many threads by cp.async (load), or one lane by the copy engine (describe, copy). Waiting
// for room, and saying that a tile is full, is the skeleton's.
#pragma once
#include "compiler/kernels/parts/Tokens.h"
#include "runtime/program/Budgets.h"

namespace winnow {

class KeySource : public Part {
public:
  /// SharedTile for mma.sync, filled by load; PanelTile for wgmma, filled by copy.
  enum class Tiles { Shared, Panels };
  /// `once`: rows that load reads are not read again but by blocks of threads beside this one.
  KeySource(KernelBuilder &t, const AttendPlan &plan, Tiles tiles, bool once = false)
      : Part(t, plan), tiles(tiles), once(once) {}

  /// A tile of `keys` keys and one of their values: bytes in shared memory, and device types.
  static int keyBytes(const AttendPlan &plan, Tiles tiles, int keys) {
    return tileBytes(tiles, keys, plan.headDim);
  }
  static int valueBytes(const AttendPlan &plan, Tiles tiles, int keys) {
    return tileBytes(tiles, keys, plan.valueDim);
  }
  tile::ObjectType keyTile() { return tileType("@kDim"); }
  tile::ObjectType valueTile() { return tileType("@kValueDim"); }

  /// Turns to the sequence of a tile of tokens and to one head of it.
  void locate(Value tile, Value head) {
    sequence = tile;
    kvHead = head;
    if (tiles == Tiles::Panels)
      return;
    if (plan.paged) {
      auto rows = [&](const char *name, const char *tensor) {
        Value paged = t.value(once ? "" : name, "paged_rows",
                              {t.params(), t.pointer(tensor),
                               t.pointer(std::string(tensor) + "_stride"), sequence, head},
                              {plan.element});
        return once ? t.value(name, "read_once", {paged}) : paged;
      };
      keys = rows("keys", "k");
      values = rows("values", "v");
      return;
    }
    auto rows = [&](const char *name, const char *tensor, const char *dim, const char *stride) {
      return t.value(name, "global_rows",
                     {t.pointer(tensor), t.field(tile, "k_row"), t.mul(head, t.named(dim))},
                     {plan.element, stride});
    };
    keys = rows("keys", "k", "kDim", "kKvHeads * kDim");
    values = rows("values", "v", "kValueDim", "kKvHeads * kValueDim");
  }

  /// Starts loading a key tile and its values by `threads` threads; rows behind the sequence's end
  /// become zero.
  void load(Value keyTile, Value valueTile, Value firstKey, int threads) {
    Value limit = t.field(sequence, "k_length"), thread = t.value("thread", "thread_index");
    t.leaf("load_rows", {keyTile, keys, firstKey, limit, thread}, {threads});
    t.leaf("load_rows", {valueTile, values, firstKey, limit, thread}, {threads});
  }

  /// Adds the maps that copy reads; a box is the rows of a key tile.
  void describe(std::vector<TensorMapRecipe> &maps, int tileKeys) {
    keyMap = describeRows(maps, "k", plan.kvHeads, plan.headDim, 1, tileKeys);
    valueMap = describeRows(maps, "v", plan.kvHeads, plan.valueDim, 1, tileKeys);
  }
  /// Starts copying kPartKeys keys and values from `firstKey` on into rows of the tiles from `row`
  /// on; the barrier counts their bytes. By one lane.
  void copy(Value keyTile, Value valueTile, Value row, Value barrier, Value firstKey) {
    Value from = t.add(t.field(sequence, "k_row"), firstKey, "from");
    auto start = [&](Value into, llvm::StringRef map) {
      t.leaf("copy_rows", {into, row, t.field(t.params(), map), barrier, kvHead, from},
             {"@kPartKeys"});
    };
    start(keyTile, keyMap);
    start(valueTile, valueMap);
  }
  /// From which key on copy may deliver what lies behind the sequence: the copy engine knows the
  /// end of the tensor, not that of a sequence. It may be anything there, and a weight of 0 times
  /// NaN is NaN, so such values must be cleared before anyone reads them.
  Value overrun() {
    Value length = t.field(sequence, "k_length");
    Value isLast =
        t.equal(t.add(t.field(sequence, "k_row"), length), t.field(t.params(), "total_k"));
    return t.select(isLast, t.number(INT32_MAX), length, "row_limit");
  }
  /// Clears the copied values that lie behind the sequence. By one warp.
  void clearOverrun(Value valueTile, Value row, Value firstKey) {
    Value valid = t.max(t.number(0), t.sub(t.field(sequence, "k_length"), firstKey));
    Value tileKeys = t.named("kPartKeys");
    t.leaf("clear_rows", {valueTile, t.add(row, t.min(valid, tileKeys)), t.add(row, tileKeys)},
           {32});
  }

private:
  static int tileBytes(Tiles tiles, int rows, int columns) {
    return tiles == Tiles::Shared ? sharedTileBytes(rows, columns) : panelTileBytes(rows, columns);
  }
  tile::ObjectType tileType(const char *columns) {
    return t.type(tiles == Tiles::Shared ? "SharedTile" : "PanelTile",
                  {"@kKeys", columns, plan.element});
  }

  const Tiles tiles;
  const bool once;
  std::string keyMap, valueMap; ///< members of params
  Value sequence, kvHead, keys, values;
};

} // namespace winnow

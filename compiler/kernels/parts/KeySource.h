// Part: where keys and values lie in global memory, and how a key tile comes to shared memory; no
// skeleton and no other part knows. Here: rows of 16-bit elements or of fp8, packed [total_k,
// kv_heads, dim] as a ragged batch or in the pages that the launch's tables name. Two ways: many
// threads by cp.async (load), or, of 16-bit elements, the copy engine (describe), started by one
// lane (copy) or, where pages cut a tile, by as many lanes as it has pieces (boxes, copyBoxes).
// Waiting for room, and saying that a tile is full, is the skeleton's.
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
    return tileBytes(plan, tiles, keys, plan.headDim);
  }
  static int valueBytes(const AttendPlan &plan, Tiles tiles, int keys) {
    return tileBytes(plan, tiles, keys, plan.valueDim);
  }
  tile::ObjectType keyTile() { return tileType("@kDim"); }
  tile::ObjectType valueTile() { return tileType("@kValueDim"); }

  /// Turns to the sequence of a tile of tokens and to one head of it.
  void locate(Value tile, Value head) {
    sequence = tile;
    kvHead = head;
    if (plan.paged && tiles == Tiles::Panels) // values lie where keys do
      keys = pagedRows("keys", "k");
    if (tiles == Tiles::Panels)
      return;
    if (plan.paged) {
      auto rows = [&](const char *name, const char *tensor) {
        Value paged = pagedRows(once ? "" : name, tensor);
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

  /// The same by a warp, of tiles of 32 keys, a lane for each; what the page table says is asked
  /// for before `wait`, which waits for room and gives the tiles.
  void loadFound(Value firstKey, Value lane, llvm::function_ref<std::pair<Value, Value>()> wait) {
    Value limit = t.field(sequence, "k_length");
    Value page = t.value("page", "find_page", {keys, firstKey, limit, lane});
    Value valuePage = t.value("value_page", "find_page", {values, firstKey, limit, lane});
    auto [keyTile, valueTile] = wait();
    t.leaf("load_found_rows", {keyTile, keys, page, firstKey, limit, lane});
    t.leaf("load_found_rows", {valueTile, values, valuePage, firstKey, limit, lane});
  }

  /// Adds the maps that copy and copyBoxes read; a box is the rows of a key tile, or of a piece.
  void describe(std::vector<TensorMapRecipe> &maps, int tileKeys) {
    auto add = [&](llvm::StringRef tensor, int dim) {
      return plan.paged ? describePages(maps, tensor, dim, tileKeys)
                        : describeRows(maps, tensor, plan.kvHeads, dim, 1, tileKeys);
    };
    keyMap = add("k", plan.headDim);
    valueMap = add("v", plan.valueDim);
  }
  /// Starts copying kPartKeys keys and values from `firstKey` on into rows of the tiles from `row`
  /// on, null for what is not wanted; the barrier counts their bytes. By one lane.
  void copy(Value keyTile, Value valueTile, Value row, Value barrier, Value firstKey) {
    Value from = t.add(t.field(sequence, "k_row"), firstKey, "from");
    auto start = [&](Value into, llvm::StringRef map) {
      if (into)
        t.leaf("copy_rows", {into, row, t.field(t.params(), map), barrier, kvHead, from},
               {"@kPartKeys"});
    };
    start(keyTile, keyMap);
    start(valueTile, valueMap);
  }
  /// The piece of the kPartKeys keys from `firstKey` on that this lane copies. By a warp; the page
  /// is looked up at once.
  Value boxes(Value firstKey) {
    return t.value("box", "row_box",
                   {keys, t.field(t.params(), "box_rows"), firstKey, t.field(sequence, "k_length")},
                   {"@kPartKeys"});
  }
  /// How many of these keys all lanes' pieces bring, each with its value: those behind the sequence
  /// that lie in other pieces do not come.
  Value keysInBoxes(Value firstKey) {
    return t.value("", "rows_in_boxes",
                   {t.field(t.params(), "box_rows"), firstKey, t.field(sequence, "k_length")},
                   {"@kPartKeys"});
  }
  /// Starts copying the pieces into rows of the tiles from `row` on. By a warp.
  void copyBoxes(Value keyTile, Value valueTile, Value row, Value barrier, Value box) {
    auto start = [&](Value into, llvm::StringRef map) {
      t.leaf("copy_row_boxes", {into, row, t.field(t.params(), map), barrier, kvHead, box});
    };
    start(keyTile, keyMap);
    start(valueTile, valueMap);
  }

  /// From which key on copy may deliver what lies behind the sequence: the copy engine knows the
  /// end of the tensor, not that of a sequence. It may be anything there, and a weight of 0 times
  /// NaN is NaN, so such values must be cleared before anyone reads them.
  Value overrun() {
    Value length = t.field(sequence, "k_length");
    if (plan.paged) // the end of a page is nearly never that of a sequence
      return length;
    Value isLast =
        t.equal(t.add(t.field(sequence, "k_row"), length), t.field(t.params(), "total_k"));
    return t.select(isLast, t.number(INT32_MAX), length, "row_limit");
  }
  /// Clears the rows of tiles of keys or values that lie behind the sequence. By one warp.
  void clearOverrun(llvm::ArrayRef<Value> tilesToClear, Value row, Value firstKey) {
    Value valid = t.max(t.number(0), t.sub(t.field(sequence, "k_length"), firstKey));
    Value tileKeys = t.named("kPartKeys");
    Value from = t.add(row, t.min(valid, tileKeys)), end = t.add(row, tileKeys);
    for (Value tile : tilesToClear)
      t.leaf("clear_rows", {tile, from, end}, {32});
  }

private:
  Value pagedRows(llvm::StringRef name, const char *tensor) {
    return t.value(name, "paged_rows",
                   {t.params(), t.pointer(tensor), t.pointer(std::string(tensor) + "_stride"),
                    sequence, kvHead},
                   {plan.keyElement});
  }
  std::string describePages(std::vector<TensorMapRecipe> &maps, llvm::StringRef tensor, int dim,
                            int tileKeys) {
    maps.push_back({tensor.str(),
                    {std::to_string(dim), std::to_string(plan.kvHeads), "max_k", "1"},
                    {0, 0, 0},
                    {64, 1, tileKeys, 1}});
    return "map[" + std::to_string(maps.size() - 1) + "]";
  }
  static int tileBytes(const AttendPlan &plan, Tiles tiles, int rows, int columns) {
    return tiles == Tiles::Shared ? sharedTileBytes(rows, columns, plan.keyElementBytes())
                                  : panelTileBytes(rows, columns);
  }
  tile::ObjectType tileType(const char *columns) {
    return t.type(tiles == Tiles::Shared ? "SharedTile" : "PanelTile",
                  {"@kKeys", columns, plan.keyElement});
  }

  const Tiles tiles;
  const bool once;
  std::string keyMap, valueMap; ///< members of params
  Value sequence, kvHead, keys, values;
};

} // namespace winnow

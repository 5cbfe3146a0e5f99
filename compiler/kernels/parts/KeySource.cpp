// Packed rows of keys and values; see KeySource.h.
#include "compiler/kernels/parts/KeySource.h"
#include "runtime/program/Budgets.h"

using namespace mlir;

namespace winnow {

static int tileBytes(KeySource::Tiles tiles, int rows, int columns) {
  return tiles == KeySource::Tiles::Shared ? sharedTileBytes(rows, columns)
                                           : panelTileBytes(rows, columns);
}

int KeySource::keyBytes(const AttendPlan &plan, Tiles tiles, int keys) {
  return tileBytes(tiles, keys, plan.headDim);
}
int KeySource::valueBytes(const AttendPlan &plan, Tiles tiles, int keys) {
  return tileBytes(tiles, keys, plan.valueDim);
}

void KeySource::locate(Value tile, Value kvHead) {
  this->tile = tile;
  this->kvHead = kvHead;
  if (tiles == Tiles::Panels)
    return;
  auto rows = [&](StringRef name, StringRef tensor, StringRef dim, const char *stride) {
    return t.value(name, "global_rows",
                   {t.pointer(tensor), t.field(tile, "k_row"), t.mul(kvHead, t.named(dim))},
                   {plan.element, stride}, t.type("auto"));
  };
  keys = rows("keys", "k", "kDim", "kKvHeads * kDim");
  values = rows("values", "v", "kValueDim", "kKvHeads * kValueDim");
}

void KeySource::load(Value keyTile, Value valueTile, Value firstKey, int threads) {
  Value limit = t.field(tile, "k_length"), thread = t.value("thread", "thread_index", {});
  t.leaf("load_rows", {keyTile, keys, firstKey, limit, thread}, {threads});
  t.leaf("load_rows", {valueTile, values, firstKey, limit, thread}, {threads});
}

void KeySource::describe(std::vector<TensorMapRecipe> &maps, int tileKeys) {
  keyMap = describeRows(maps, "k", plan.kvHeads, plan.headDim, 1, tileKeys);
  valueMap = describeRows(maps, "v", plan.kvHeads, plan.valueDim, 1, tileKeys);
}

void KeySource::copy(Value keyTile, Value valueTile, Value row, Value barrier, Value firstKey) {
  Value from = t.add(t.field(tile, "k_row"), firstKey, "from");
  auto start = [&](Value into, StringRef map) {
    t.leaf("copy_rows",
           {into, row, t.field(t.params(), map, t.type("auto")), barrier, kvHead, from},
           {"@kPartKeys"});
  };
  start(keyTile, keyMap);
  start(valueTile, valueMap);
}

Value KeySource::overrun() {
  Value end = t.add(t.field(tile, "k_row"), t.field(tile, "k_length"));
  Value isLast = t.equal(end, t.field(t.params(), "total_k"));
  return t.select(isLast, t.number(INT32_MAX), t.field(tile, "k_length"), "row_limit");
}

void KeySource::clearOverrun(Value valueTile, Value row, Value firstKey) {
  Value valid = t.max(t.number(0), t.sub(t.field(tile, "k_length"), firstKey));
  t.leaf(
      "clear_rows",
      {valueTile, t.add(row, t.min(valid, t.named("kPartKeys"))), t.add(row, t.named("kPartKeys"))},
      {32});
}

} // namespace winnow

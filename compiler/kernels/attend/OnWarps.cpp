// The attend kernel: softmax attention of each token over its own selected blocks (all causal
// blocks where nothing is selected). Written as one thread of control per warp of queries; the
// warp-specialisation pass splits off producers. Idea: load the union of neighbouring tokens'
// blocks once, and let each warp skip what its tokens did not select (KeyWalk.h).
#include "compiler/kernels/attend/Frame.h"
#include "compiler/kernels/attend/KeyWalk.h"

using namespace mlir;

namespace winnow {
namespace {

class AttendOnWarps : AttendFrame {
public:
  AttendOnWarps(ModuleOp module, const AttendPlan &plan, const AttendSizes &sizes, StringRef name)
      : AttendFrame(module, name, plan, sizes, {/*someWant=*/sizes.rowTokens * sizes.rowTiles > 1},
                    "a block of threads owns", kWarpThreads * sizes.warps),
        keyWalk(t, plan, sizes, tokens, tileList, source, mask) {}
  BuiltKernel build();

private:
  void declareRows();
  void attendTile(const KeysAtHand &keys);

  KeyWalk keyWalk;
  SmallVector<RowTile> rowTiles;
};

void AttendOnWarps::declareRows() {
  for (int i = 0; i < sizes.rowTiles; ++i) {
    RowTile r;
    r.suffix = sizes.rowTiles == 1 ? "" : std::to_string(i);
    r.index = keyWalk.warp;
    if (sizes.rowTiles == 2)
      r.index = i == 0 ? t.mul(keyWalk.warp, t.number(2), "row_tile0")
                       : t.add(rowTiles[0].index, t.number(1), "row_tile1");
    tokens.declare(r);
    epilogue.declare(r);
    softmax.declare(r);
    rowTiles.push_back(r);
  }
  keyWalk.findRows(rowTiles);
  logits.declareRegion(/*takesFactors=*/false);
  for (const RowTile &r : rowTiles)
    tokens.load(r, keyWalk.firstHead);
  for (const RowTile &r : rowTiles)
    t.leaf("clear", {r.output});
}

/// One key tile for the tokens of this warp that want it; two row tiles share the loads of their
/// products.
void AttendOnWarps::attendTile(const KeysAtHand &keys) {
  for (RowTile &r : rowTiles) {
    logits.declare(r);
    t.leaf("clear", {r.logits});
  }
  RowTile &one = rowTiles.front(), &other = rowTiles.back();
  Value keyTile = keyWalk.keyTile, valueTile = keyWalk.valueTile;
  if (rowTiles.size() == 1)
    t.leaf("mma_abt", {one.logits, one.query, keyTile});
  else
    t.leaf("mma_abt_pair", {one.logits, other.logits, one.query, other.query, keyTile});
  logits.rewrite(rowTiles, keys);
  mask.hide(rowTiles, keys);
  for (RowTile &r : rowTiles) {
    softmax.step(r, keys);
    r.weights = t.fragment("weights" + r.suffix,
                           t.type("LeftOperand", {16, "@kKeys", plan.productElement}));
    t.leaf("round_to_operand", {r.weights, r.logits});
  }
  if (rowTiles.size() == 1)
    t.leaf("mma_ab", {one.output, one.weights, valueTile});
  else
    t.leaf("mma_ab_pair", {one.output, other.output, one.weights, other.weights, valueTile});
}

BuiltKernel AttendOnWarps::build() {
  keyWalk.constants();
  logits.constants();
  keyWalk.locate();
  declareRows();
  keyWalk.walk(rowTiles, [&](const KeysAtHand &keys) { attendTile(keys); });
  for (const RowTile &r : rowTiles)
    epilogue.store(r, keyWalk.firstHead);

  return finishByTiles("attend");
}

} // namespace

Result<BuiltKernel> buildAttend(ModuleOp module, const AttendPlan &plan, const Target &target,
                                Config config, StringRef name) {
  config.attendForm = AttendForm::Warps;
  WINNOW_TRY(AttendSizes sizes, chooseAttendOnWarps(plan, target, config));
  BuiltKernel built = AttendOnWarps(module, plan, sizes, name).build();
  built.config = config;
  return built;
}

} // namespace winnow

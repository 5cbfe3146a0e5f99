// Attention at decode: a block of threads has one query token and one tile of heads, and goes over
// a part of the token's key tiles; the merge kernel joins the parts. Keys are read once and hardly
// computed with, so that what counts is how many bytes are on their way: few warps, many blocks of
// threads. Serves batches of short query segments of paged programs.
#include "compiler/kernels/Kernels.h"
#include "compiler/kernels/parts/Epilogue.h"
#include "compiler/kernels/parts/KeySource.h"
#include "compiler/kernels/parts/Logits.h"
#include "compiler/kernels/parts/Mask.h"
#include "compiler/kernels/parts/Softmax.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;

namespace winnow {
namespace {

/// Blocks of threads that a multiprocessor has room for, as far as shared memory allows: about
/// 100 KB of keys on their way.
constexpr int kResident = 3, kMostStages = 8, kProducers = 2, kMergeWarps = 8;
constexpr int kMostRingBytes = 65536;
/// Parts of one token, at most: what merge joins in its time.
constexpr int kMostParts = 256;

struct Sizes {
  int keys;          ///< of one key tile
  int tilesPerBlock; ///< key tiles of one selectable block
  int stages;
  int stageBytes;
  int resident; ///< blocks of threads of one multiprocessor
};

int listBytes(const AttendPlan &plan) { return plan.selects() ? 16 + 4 * plan.topk : 0; }

/// Tiles of at most 32 keys, as many blocks of threads, up to kResident, as registers and two
/// stages of each leave room for, then as many stages as fit.
Sizes chooseSizes(const AttendPlan &plan, const Target &target) {
  Sizes sizes{};
  sizes.keys = std::min(plan.block, 32);
  sizes.tilesPerBlock = plan.block / sizes.keys;
  sizes.stageBytes = KeySource::keyBytes(plan, KeySource::Tiles::Shared, sizes.keys) +
                     KeySource::valueBytes(plan, KeySource::Tiles::Shared, sizes.keys);
  const int small = listBytes(plan) + kMostStages * kBarrierBytes;
  auto room = [&](int resident) {
    return (target.sharedPerBlock + kSharedReserve) / resident - kSharedReserve - small;
  };
  const int registers =
      attendLaneRegisters(1, plan.headDim, plan.valueDim, sizes.keys) + kOtherRegisters;
  const int threads = wholeQuarters(kWarpThreads * (1 + kProducers));
  sizes.resident = kResident;
  while (sizes.resident > 1 &&
         (room(sizes.resident) < 2 * sizes.stageBytes ||
          registers > threadRegisters(target.registersPerSm, threads * sizes.resident)))
    --sizes.resident;
  const int most = std::clamp(kMostRingBytes / sizes.stageBytes, 1, kMostStages);
  sizes.stages = std::clamp(room(sizes.resident) / sizes.stageBytes, 1, most);
  return sizes;
}

class AttendDecode {
public:
  AttendDecode(ModuleOp module, const AttendPlan &plan, const Sizes &sizes)
      : plan(plan), sizes(sizes),
        t(module, "attend_decode",
          llvm::formatv("attend_decode of {0}: softmax attention of one token over a part of the "
                        "keys of its selected blocks; {1} query heads.",
                        plan.method, plan.group)
              .str(),
          kWarpThreads, sizes.resident),
        tokens(t, plan), source(t, plan, KeySource::Tiles::Shared, /*once=*/true), logits(t, plan),
        mask(t, plan, "kKeys"), softmax(t, plan, {}), epilogue(t, plan) {}
  BuiltKernel build(int values, int states);

private:
  void constants();
  void locate();
  void listBlocks();
  Value firstKey(Value entry);
  void attendTile(Value first);

  const AttendPlan &plan;
  const Sizes &sizes;
  KernelBuilder t;
  Tokens tokens;
  KeySource source;
  Logits logits;
  Mask mask;
  Softmax softmax;
  Epilogue epilogue;
  RowTile row;
  Value part, tile, warp, firstHead, keyTile, valueTile, list, all, entries;
};

void AttendDecode::constants() {
  tokens.constants("query heads of one block of threads");
  if (plan.selects()) {
    t.constant("kTopK", plan.topk, "selected blocks per token, at most");
    t.constant("kBlock", plan.block, "keys of one selectable block");
    if (plan.denseLength > 0)
      t.constant("kDenseLength", plan.denseLength, "shorter sequences attend to every key");
    t.constant("kTilesPerBlock", sizes.tilesPerBlock, "key tiles of one selectable block");
    if (plan.headTiles > 1)
      t.constant("kHeadTiles", plan.headTiles,
                 "tiles of kTileHeads heads that share one selection");
  }
  t.constant("kKeys", sizes.keys, "keys of one tile");
  logits.constants();
}

void AttendDecode::locate() {
  keyTile = t.shared("key_tile", source.keyTile(),
                     KeySource::keyBytes(plan, KeySource::Tiles::Shared, sizes.keys));
  valueTile = t.shared("value_tile", source.valueTile(),
                       KeySource::valueBytes(plan, KeySource::Tiles::Shared, sizes.keys));
  if (plan.selects())
    list = t.shared("list", t.type("BlockList", {"@kTopK"}), listBytes(plan), /*pinned=*/true);
  Value parts = t.field(t.params(), "parts"), slot = t.blockIndex('x');
  part = t.rem(slot, parts, "part");
  tile = t.value("tile", "find_token",
                 {t.pointer("cu_q"), t.keyLengths(plan.paged), t.field(t.params(), "batch"),
                  t.div(slot, parts)});
  warp = t.value("warp", "warp_index", {});
  firstHead = tokens.firstHead(t.blockIndex('y', "head_tile"), "first_head");
  source.locate(tile, tokens.kvHead(firstHead));
}

/// How many key tiles the token wants, and of which blocks.
void AttendDecode::listBlocks() {
  entries = mask.visibleTiles(tile, "key_tiles");
  if (!plan.selects())
    return;
  Value selectHead = t.blockIndex('y');
  if (plan.headTiles > 1)
    selectHead = t.div(selectHead, t.named("kHeadTiles"));
  t.when(t.equal(warp, t.number(0)), [&] {
    t.leaf("list_blocks",
           {list, t.pointer("ids"), selectHead, t.field(t.params(), "total_q"), tile}, {"@kBlock"});
  });
  Value listed = t.mul(t.value("", "count_blocks", {list}), t.named("kTilesPerBlock"), "listed");
  all = plan.denseLength > 0 ? t.less(t.field(tile, "k_length"), t.named("kDenseLength"))
                             : t.flag(false);
  entries = plan.denseLength > 0 ? t.select(all, entries, listed, "entries") : listed;
}

Value AttendDecode::firstKey(Value entry) {
  if (!plan.selects())
    return t.mul(entry, t.named("kKeys"), "first_key");
  return t.value("first_key", "listed_key", {list, entry, all}, {"@kTilesPerBlock", "@kKeys"});
}

void AttendDecode::attendTile(Value first) {
  KeysAtHand keys;
  keys.first = first;
  logits.declare(row);
  t.leaf("clear", {row.logits});
  t.leaf("mma_abt", {row.logits, row.query, keyTile});
  logits.rewrite(row, keys);
  mask.hide(row, keys);
  softmax.step(row, keys);
  row.weights = t.fragment("weights", t.type("LeftOperand", {16, "@kKeys", plan.element}));
  t.leaf("round_to_operand", {row.weights, row.logits});
  t.leaf("mma_ab", {row.output, row.weights, valueTile});
}

BuiltKernel AttendDecode::build(int values, int states) {
  constants();
  locate();
  row.index = t.number(0);
  row.query = t.fragment("query", t.type("LeftOperand", {16, "@kDim", plan.element}));
  epilogue.declare(row);
  softmax.declare(row);
  row.rows = tokens.rows("rows", tile, row.index);
  logits.declareRegion(/*takesFactors=*/false);
  tokens.load(row, firstHead); // the host's, as lengths are; what follows earlier kernels wrote
  t.leaf("clear", {row.output});
  t.leaf("wait_earlier_kernels", {});
  t.returnIf(t.equal(t.field(tile, "tokens"), t.number(0)));
  listBlocks();
  Value parts = t.field(t.params(), "parts");
  Value from = t.div(t.mul(entries, part), parts, "from");
  Value to = t.div(t.mul(entries, t.add(part, t.number(1))), parts, "to");
  scf::ForOp loop = t.loop("entry", from, to, t.number(1), [&](Value entry) {
    Value first = firstKey(entry);
    source.load(keyTile, valueTile, first, kWarpThreads);
    attendTile(first);
  });
  loop->setAttr("tile.pipeline", t.builder.getStringAttr("specialize_warps"));
  loop->setAttr("tile.stages", t.builder.getI32IntegerAttr(sizes.stages));
  loop->setAttr("tile.producer_warps", t.builder.getI32IntegerAttr(kProducers));
  epilogue.storePart(row, firstHead, t.pointer(t.bufferMember(values)),
                     t.pointer(t.bufferMember(states)), part);
  return {t.finish(), {}};
}

/// A block of threads for each row of the output, or a warp, where parts are few.
BuiltKernel buildMerge(ModuleOp module, const AttendPlan &plan, int valuesBuffer,
                       int statesBuffer) {
  KernelBuilder t(
      module, "merge",
      llvm::formatv("merge of {0}: joins the parts of attend_decode, a row of the output "
                    "per block of threads or, where parts are few, per warp.",
                    plan.method)
          .str(),
      kWarpThreads * kMergeWarps, 1);
  t.constant("kHeads", plan.heads, "query heads");
  t.constant("kValueDim", plan.valueDim, "elements of one output row");
  t.constant("kWarps", kMergeWarps, "warps of a block of threads");
  Value sums = t.shared("sums", t.type("WarpValues", {"@kWarps", "@kValueDim"}),
                        4 * kMergeWarps * plan.valueDim);
  // Many parts are added up by all warps, few by one for each row.
  Value parts = t.field(t.params(), "parts"), warp = t.value("warp", "warp_index", {});
  Value warps =
      t.select(t.greater(parts, t.named("kWarps")), t.named("kWarps"), t.number(1), "warps");
  Value slot =
      t.add(t.mul(t.blockIndex('x'), t.div(t.named("kWarps"), warps)), t.div(warp, warps), "slot");
  Value head = t.rem(slot, t.named("kHeads"), "head");
  Value tile = t.value("tile", "find_token",
                       {t.pointer("cu_q"), t.keyLengths(plan.paged), t.field(t.params(), "batch"),
                        t.div(slot, t.named("kHeads"))});
  t.leaf("wait_earlier_kernels", {});
  Value exists = t.differ(t.field(tile, "tokens"), t.number(0));
  Value there = t.select(exists, parts, t.number(0), "there"); // behind the last row there are none
  Value row = t.field(tile, "row"), totalQ = t.field(t.params(), "total_q");
  Value values = t.pointer(t.bufferMember(valuesBuffer)),
        states = t.pointer(t.bufferMember(statesBuffer));
  Value total = t.value("total", "total_of_parts", {states, there, totalQ, row, head}, {"@kHeads"});
  Value turn = t.rem(warp, warps, "turn");
  t.leaf("add_parts", {sums, values, states, total, turn, warps, there, totalQ, row, head},
         {"@kHeads"});
  t.when(t.compute<arith::AndIOp>(exists, t.equal(turn, t.number(0))), [&] {
    t.leaf(
        "store_merged",
        {t.heads("out", plan.paged), t.pointer("lse"), sums, total, warp, warps, totalQ, row, head},
        {"@kHeads", plan.element});
  });
  return {t.finish(), {}};
}

KernelFacts decodeFacts(const AttendPlan &plan, const Sizes &sizes) {
  KernelFacts facts;
  facts.warps = 1;
  facts.producers = kProducers;
  facts.mmaWarps = 1;
  facts.stages = sizes.stages;
  facts.tokens = 1;
  facts.rowTiles = 1;
  facts.headDim = plan.headDim;
  facts.valueDim = plan.valueDim;
  facts.group = plan.group;
  facts.topk = plan.selects() ? plan.topk : 0;
  facts.keys = facts.tileKeys = sizes.keys;
  facts.tilesPerBlock = sizes.tilesPerBlock;
  return facts;
}

} // namespace

std::vector<BuiltKernel> buildAttendDecode(ModuleOp module, const AttendPlan &plan,
                                           const Target &target, ProgramImage &image) {
  const Sizes sizes = chooseSizes(plan, target);
  const int headTiles = plan.heads / plan.group;
  const std::string when = attendsByDecode();
  // As many parts as fill the GPU, but none without a key tile.
  const std::string tiles = plan.selects() && plan.denseLength <= 0
                                ? std::to_string(plan.topk * sizes.tilesPerBlock)
                                : llvm::formatv("max(1, ceil_div(max_k, {0}))", sizes.keys).str();
  // Key tiles times parts are counted in 32 bits.
  image.parts = llvm::formatv("max(1, min({0}, {1}, {2} * sm_count / max(1, {3} * total_q), "
                              "{4} / max(1, ceil_div(max_k, {5}))))",
                              kMostParts, tiles, sizes.resident, headTiles, INT32_MAX, sizes.keys)
                    .str();
  const int values = static_cast<int>(image.buffers.size()), states = values + 1;
  const std::string rows = llvm::formatv("({0}) * parts * total_q * {1}", when, plan.heads).str();
  image.buffers.push_back({"part_values", llvm::formatv("{0} * {1}", rows, 4 * plan.valueDim)});
  image.buffers.push_back({"part_states", llvm::formatv("{0} * 8", rows)});

  BuiltKernel attend = AttendDecode(module, plan, sizes).build(values, states);
  attend.recipe.step = "attend";
  attend.recipe.when = when;
  attend.recipe.gridX = "total_q * parts";
  attend.recipe.gridY = std::to_string(headTiles);
  attend.recipe.facts = decodeFacts(plan, sizes);
  BuiltKernel merge = buildMerge(module, plan, values, states);
  merge.recipe.step = "merge";
  merge.recipe.when = when;
  merge.recipe.gridX = llvm::formatv("ceil_div(total_q * {0}, 1 + {1} * (parts <= {2}))",
                                     plan.heads, kMergeWarps - 1, kMergeWarps)
                           .str();
  merge.recipe.gridY = "1";
  return {std::move(attend), std::move(merge)};
}

} // namespace winnow

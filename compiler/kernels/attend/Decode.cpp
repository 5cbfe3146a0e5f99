// Attention at decode: a block of threads has one query token and one tile of heads, and goes over
// a part of the token's key tiles; the merge kernel joins the parts. Keys are read once and hardly
// computed with, so that what counts is how many bytes are on their way: few warps, many blocks of
// threads. Serves batches of short query segments of paged programs.
#include "compiler/kernels/Kernels.h"
#include "compiler/kernels/parts/DenseLength.h"
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
constexpr int kFewParts = 16; ///< what one warp of merge joins
constexpr int kMostRingBytes = 65536;
/// Parts of one token, at most, and key tiles of a part, about: what merge joins in its time.
constexpr int kMostParts = 256, kLeastPartTiles = 3;
/// Of the blocks of threads that run at a time, how many must have work.
constexpr int kFullPercent = 85;

struct Sizes {
  int keys;          ///< of one key tile
  int tilesPerBlock; ///< key tiles of one selectable block
  int stages;
  int stageBytes;
  int resident;   ///< blocks of threads of one multiprocessor
  bool directIds; ///< blocks that the launch has selected are found by their ids, not listed
};

/// Keys of one tile.
int decodeTileKeys(const KernelPlan &plan) { return std::min(plan.block, 32); }

/// Whether sequences of one launch go over their keys in different numbers of parts.
bool hasOwnParts(const AttendPlan &plan) { return plan.selects() && plan.crossing; }

void partConstant(KernelBuilder &t, const AttendPlan &plan) {
  if (hasOwnParts(plan))
    t.constant("kSelectedParts", selectedParts(plan),
               "parts of a token's selected blocks, at most");
}

/// Parts of the tile's token: those of the launch, but for selected blocks no more than would be
/// made of them alone.
Value partsOf(KernelBuilder &t, const AttendPlan &plan, Value tile) {
  Value parts = t.field(t.params(), "parts");
  if (!hasOwnParts(plan))
    return parts;
  Value most = t.min(parts, t.named("kSelectedParts"));
  return t.select(isDense(t, plan, tile, "is_dense"), parts, most, "own_parts");
}

int listBytes(const AttendPlan &plan) { return plan.selects() ? 16 + 4 * plan.topk : 0; }

/// Key tiles of a part of a token's keys, at least.
int leastPartTiles(const KernelPlan &plan) {
  return plan.decodePartTiles > 0 ? plan.decodePartTiles : kLeastPartTiles;
}

/// Tiles of at most 32 keys, as many blocks of threads, up to kResident, as registers and two
/// stages of each leave room for, then as many stages as fit; or what `config` asks for, into which
/// the choices are written. Error: Unsupported, where that does not fit.
Result<Sizes> chooseSizes(const AttendPlan &plan, const Target &target, Config &config) {
  Sizes sizes{};
  sizes.keys = decodeTileKeys(plan);
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
  const int leastStages = config.decodeStages > 0 ? config.decodeStages : 2;
  sizes.resident = config.decodeResident > 0 ? config.decodeResident : kResident;
  while (sizes.resident > 1 &&
         (room(sizes.resident) < leastStages * sizes.stageBytes ||
          registers > threadRegisters(target.registersPerSm, threads * sizes.resident)))
    --sizes.resident;
  const int most = std::clamp(kMostRingBytes / sizes.stageBytes, 1, kMostStages);
  const int fitting = std::max(room(sizes.resident) / sizes.stageBytes, 1);
  sizes.stages = config.decodeStages > 0 ? config.decodeStages : std::min(fitting, most);
  if (sizes.stages > fitting ||
      (config.decodeResident > 0 && sizes.resident < config.decodeResident))
    return fail(ErrorKind::Unsupported,
                llvm::formatv("attend_decode: {0} fits only {1} blocks of threads with {2} stages "
                              "on a multiprocessor: lower decode_resident or decode_stages",
                              target.arch, sizes.resident, fitting)
                    .str());
  config.decodeStages = sizes.stages;
  config.decodeResident = sizes.resident;
  config.decodePartTiles = leastPartTiles(plan);
  if (config.decodeIds == DecodeIds::Default)
    config.decodeIds = DecodeIds::Direct;
  sizes.directIds = config.decodeIds == DecodeIds::Direct;
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
  /// Whether a selection has blocks that it selects whatever their scores.
  bool forces() const { return plan.selects() && plan.init + plan.local > 0; }
  /// Whether blocks that the launch has chosen by their scores are found by the ids themselves:
  /// those between the forced ones, which are in order and each there once.
  bool findsByIds() const { return forces() && sizes.directIds; }
  void constants();
  void locate();
  void findForced();
  Value selectHead();
  void listBlocks(Value begin, Value end);
  void findChosen();
  Value firstKey(Value entry);
  void attendTile(Value first);
  void over(Value tiles, function_ref<Value(Value)> firstKeyOf);

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
  Value part, ownParts, tile, warp, firstHead, keyTile, valueTile, list, ids, all, entries;
  Value hasForced, forcedFrom, forced; ///< `forced`: key tiles of the forced blocks
};

void AttendDecode::constants() {
  tokens.constants("query heads of one block of threads");
  if (plan.selects()) {
    t.constant("kTopK", plan.topk, "selected blocks per token, at most");
    t.constant("kBlock", plan.block, "keys of one selectable block");
    if (forces()) {
      t.constant("kInit", plan.init, "first blocks, always selected");
      t.constant("kLocal", plan.local, "blocks up to the query's own that are always selected");
    }
    denseConstant(t, plan, "shorter sequences attend to every key");
    partConstant(t, plan);
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
  ownParts = partsOf(t, plan, tile);
  if (hasOwnParts(plan)) { // a part that its token does not have waits as every thread does
    Value idle = t.atLeast(part, ownParts, "idle");
    t.when(idle, [&] { t.leaf("wait_earlier_kernels", {}); });
    t.returnIf(idle);
  }
  warp = t.value("warp", "warp_index", {});
  firstHead = tokens.firstHead(t.blockIndex('y', "head_tile"), "first_head");
  source.locate(tile, tokens.kvHeadOf(firstHead));
}

/// Which blocks the token selects whatever their scores, where this launch selects and the token
/// has more than it can.
void AttendDecode::findForced() {
  all = plan.selects() && mayBeDense(plan) ? isDense(t, plan, tile) : t.flag(false);
  if (!forces())
    return;
  Value own = t.div(t.field(tile, "position"), t.named("kBlock"), "own");
  Value chooses = t.atLeast(own, t.named("kTopK"));
  if (mayBeDense(plan))
    chooses = t.compute<arith::AndIOp>(chooses, isSparse(t, plan, tile));
  // Rows behind the last token of a captured batch have none.
  chooses = t.compute<arith::AndIOp>(chooses, t.differ(t.field(tile, "tokens"), t.number(0)));
  hasForced = t.compute<arith::AndIOp>(
      chooses, t.differ(t.field(t.params(), "selects"), t.number(0)), "has_forced");
  forcedFrom = t.add(t.sub(own, t.named("kLocal")), t.number(1), "forced_from");
  Value tiles = t.mul(t.add(t.named("kInit"), t.named("kLocal")), t.named("kTilesPerBlock"));
  forced = t.select(hasForced, tiles, t.number(0), "forced");
}

Value AttendDecode::selectHead() {
  Value head = t.blockIndex('y');
  return plan.headTiles > 1 ? t.div(head, t.named("kHeadTiles")) : head;
}

/// The blocks in [begin, end) that the token selected, by one warp.
void AttendDecode::listBlocks(Value begin, Value end) {
  t.when(t.equal(warp, t.number(0)), [&] {
    t.leaf("list_blocks",
           {list, t.pointer("ids"), selectHead(), t.field(t.params(), "total_q"), tile, begin, end},
           {"@kBlock"});
  });
}

/// How many key tiles the token wants beside those of forced blocks, and of which blocks.
void AttendDecode::findChosen() {
  entries = mask.visibleTiles(tile, "key_tiles");
  if (!plan.selects())
    return;
  auto tilesOfList = [&](const char *hint) {
    return t.mul(t.value("", "count_blocks", {list}), t.named("kTilesPerBlock"), hint);
  };
  Value listed;
  if (findsByIds()) {
    ids = t.value(
        "ids", "id_row",
        {t.pointer("ids"), selectHead(), t.field(t.params(), "total_q"), t.field(tile, "row")},
        {"@kTopK"});
    const int chosen = plan.topk - plan.init - plan.local;
    listed = t.choose(
        "listed", hasForced, [&] { return t.mul(t.number(chosen), t.named("kTilesPerBlock")); },
        [&] {
          listBlocks(t.number(0), t.number(INT32_MAX));
          return tilesOfList("");
        },
        t.builder.getI32Type());
    listed.getDefiningOp()->setAttr("tile.uniform", t.builder.getUnitAttr());
  } else {
    Value begin = t.number(0), end = t.number(INT32_MAX);
    if (forces()) {
      begin = t.select(hasForced, t.named("kInit"), begin, "chosen_begin");
      end = t.select(hasForced, forcedFrom, end, "chosen_end");
    }
    listBlocks(begin, end);
    listed = tilesOfList("listed");
  }
  entries = mayBeDense(plan) ? t.select(all, entries, listed, "entries") : listed;
}

Value AttendDecode::firstKey(Value entry) {
  if (!plan.selects())
    return t.mul(entry, t.named("kKeys"), "first_key");
  if (findsByIds())
    return t.value("first_key", "chosen_key", {list, ids, entry, all, hasForced},
                   {"@kInit", "@kTilesPerBlock", "@kKeys"});
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
  row.weights = t.fragment("weights", t.type("LeftOperand", {16, "@kKeys", plan.productElement}));
  t.leaf("round_to_operand", {row.weights, row.logits});
  t.leaf("mma_ab", {row.output, row.weights, valueTile});
}

/// Attends to the part's share of `tiles` key tiles.
void AttendDecode::over(Value tiles, function_ref<Value(Value)> firstKeyOf) {
  Value from = t.div(t.mul(tiles, part), ownParts, "from");
  Value to = t.div(t.mul(tiles, t.add(part, t.number(1))), ownParts, "to");
  scf::ForOp loop = t.loop("entry", from, to, t.number(1), [&](Value entry) {
    Value first = firstKeyOf(entry);
    source.load(keyTile, valueTile, first, kWarpThreads);
    attendTile(first);
  });
  t.specializeWarps(loop, {sizes.stages, std::min(kProducers, sizes.stages),
                           /*producersTakeTurns=*/true, /*lookAhead=*/sizes.keys == kWarpThreads});
}

BuiltKernel AttendDecode::build(int values, int states) {
  constants();
  t.leaf("start_later_kernels", {});
  locate();
  row.index = t.number(0);
  tokens.declare(row);
  epilogue.declare(row);
  softmax.declare(row);
  row.rows = tokens.rows("rows", tile, row.index);
  logits.declareRegion(/*takesFactors=*/false);
  tokens.load(row, firstHead);
  t.leaf("clear", {row.output});
  findForced();
  // Keys and queries are the host's: forced blocks need no earlier kernel.
  if (forces())
    over(forced, [&](Value entry) {
      return t.value("first_key", "forced_key", {entry, forcedFrom},
                     {"@kInit", "@kTilesPerBlock", "@kKeys"});
    });
  t.leaf("wait_earlier_kernels", {});
  t.returnIf(t.equal(t.field(tile, "tokens"), t.number(0)));
  findChosen();
  over(entries, [&](Value entry) { return firstKey(entry); });
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
  t.constant("kFewParts", kFewParts, "parts that one warp joins");
  partConstant(t, plan);
  t.leaf("start_later_kernels", {});
  Value sums = t.shared("sums", t.type("WarpValues", {"@kWarps", "@kValueDim"}),
                        4 * kMergeWarps * plan.valueDim + 8 * kMergeWarps);
  // Many parts are added up by all warps, few by one for each row.
  Value parts = t.field(t.params(), "parts"), warp = t.value("warp", "warp_index", {});
  Value warps =
      t.select(t.greater(parts, t.named("kFewParts")), t.named("kWarps"), t.number(1), "warps");
  Value slot =
      t.add(t.mul(t.blockIndex('x'), t.div(t.named("kWarps"), warps)), t.div(warp, warps), "slot");
  Value head = t.rem(slot, t.named("kHeads"), "head");
  Value tile = t.value("tile", "find_token",
                       {t.pointer("cu_q"), t.keyLengths(plan.paged), t.field(t.params(), "batch"),
                        t.div(slot, t.named("kHeads"))});
  t.leaf("wait_earlier_kernels", {});
  Value exists = t.differ(t.field(tile, "tokens"), t.number(0));
  // Behind the last row there are none.
  Value there = t.select(exists, partsOf(t, plan, tile), t.number(0), "there");
  Value row = t.field(tile, "row"), totalQ = t.field(t.params(), "total_q");
  Value values = t.pointer(t.bufferMember(valuesBuffer)),
        states = t.pointer(t.bufferMember(statesBuffer));
  Value turn = t.rem(warp, warps, "turn");
  t.leaf("add_parts", {sums, values, states, turn, warps, there, totalQ, row, head}, {"@kHeads"});
  t.when(t.compute<arith::AndIOp>(exists, t.equal(turn, t.number(0))), [&] {
    t.leaf("store_merged",
           {t.heads("out", plan.paged), t.pointer("lse"), sums, warp, warps, totalQ, row, head},
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

int selectedParts(const KernelPlan &plan) {
  return std::clamp(plan.topk * plan.block / decodeTileKeys(plan) / leastPartTiles(plan), 1,
                    kMostParts);
}

Result<std::vector<BuiltKernel>> buildAttendDecode(ModuleOp module, const AttendPlan &plan,
                                                   const Target &target, Config config,
                                                   ProgramImage &image,
                                                   const std::string &stepRows) {
  WINNOW_TRY(const Sizes sizes, chooseSizes(plan, target, config));
  const int headTiles = plan.heads / plan.group;
  const std::string when = attendsByDecode();
  // As many parts as fill the GPU once, or three times where once would leave too much of it idle;
  // but of a few key tiles each.
  const std::string tiles = plan.selects() && !mayBeDense(plan)
                                ? std::to_string(plan.topk * sizes.tilesPerBlock)
                                : llvm::formatv("ceil_div(max_k, {0})", sizes.keys).str();
  const std::string slots = llvm::formatv("{0} * sm_count", sizes.resident),
                    tokens = llvm::formatv("max(1, {0} * total_q)", headTiles),
                    fills = llvm::formatv("({0} / {1} * {1} * 100 >= {0} * {2})", slots, tokens,
                                          kFullPercent);
  // Key tiles times parts are counted in 32 bits.
  image.parts = llvm::formatv("max(1, min({0}, {1} / {2}, {3} * (3 - 2 * {4}) / {5}, "
                              "{6} / max(1, ceil_div(max_k, {7}))))",
                              kMostParts, tiles, leastPartTiles(plan), slots, fills, tokens,
                              INT32_MAX, sizes.keys)
                    .str();
  const int values = static_cast<int>(image.buffers.size()), states = values + 1;
  const std::string rows = llvm::formatv("({0}) * parts * total_q * {1}", when, plan.heads).str();
  auto addBuffer = [&](const char *name, int rowBytes) {
    std::string bytes = llvm::formatv("{0} * {1}", rows, rowBytes).str();
    if (!stepRows.empty()) // decode_step has its parts in the same place
      bytes = llvm::formatv("max({0}, {1} * {2})", bytes, stepRows, rowBytes).str();
    image.buffers.push_back({name, bytes});
  };
  addBuffer("part_values", 4 * plan.valueDim);
  addBuffer("part_states", 8);

  BuiltKernel attend = AttendDecode(module, plan, sizes).build(values, states);
  attend.recipe.step = "attend";
  attend.recipe.when = when;
  attend.recipe.gridX = "total_q * parts";
  attend.recipe.gridY = std::to_string(headTiles);
  attend.recipe.facts = decodeFacts(plan, sizes);
  attend.config = config;
  BuiltKernel merge = buildMerge(module, plan, values, states);
  merge.recipe.step = "merge";
  merge.recipe.when = when;
  merge.recipe.gridX = llvm::formatv("ceil_div(total_q * {0}, 1 + {1} * (parts <= {2}))",
                                     plan.heads, kMergeWarps - 1, kFewParts)
                           .str();
  merge.recipe.gridY = "1";
  std::vector<BuiltKernel> kernels;
  kernels.push_back(std::move(attend));
  kernels.push_back(std::move(merge));
  return kernels;
}

} // namespace winnow

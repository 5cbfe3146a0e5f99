// The attend kernel: softmax attention of each token over its own selected blocks (all causal
// blocks where nothing is selected). Written as one thread of control per warp of queries; the
// warp-specialisation pass splits off producers. Idea: load the union of neighbouring tokens'
// blocks once, and let each warp skip what its tokens did not select.
#include "compiler/kernels/Kernels.h"
#include "compiler/kernels/parts/Epilogue.h"
#include "compiler/kernels/parts/KeySource.h"
#include "compiler/kernels/parts/Logits.h"
#include "compiler/kernels/parts/Mask.h"
#include "compiler/kernels/parts/Softmax.h"
#include "compiler/kernels/parts/TileList.h"
#include "runtime/program/Budgets.h"
#include "llvm/ADT/bit.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;

namespace winnow {
namespace {

/// Most fp32 registers of queries, output and logits (see laneRegisters) that leave ptxas enough
/// for the rest, in blocks of 12 and of 8 warps.
constexpr int kMostLaneRegisters12 = 128, kMostLaneRegisters8 = 216;

/// Sizes of one attend kernel; all follow from the spec, the target's shared memory and the config.
/// A row tile is 16 rows of queries: floor(16 / group) tokens.
struct Sizes {
  int keys, tilesPerBlock, rowTiles, rowTokens, tokens, maskBits, stages, entries, window;
};

constexpr int kLeastEntries = 32, kMostStages = 10;

/// Longest list. Pairs of row tiles come with small stages, beside which a long list finds room.
int mostEntries(const Sizes &s) { return s.rowTiles == 2 ? 4096 : 1024; }

/// What a ring, its list and their barriers take, to the byte as winnow-plan-shared-memory lays
/// them out: the rings first (multiples of 1024 bytes), the list behind them, then the small
/// objects; the bitmap lies where the rings will be. Holds for a list that is no longer than either
/// ring.
struct SharedModel {
  int keyBytes, valueBytes, maskBits;

  int listBytes(int entries) const { return 16 + entries * (2 + maskBits / 8); }
  bool fits(int stages, int entries, const Target &target) const {
    return bytes(stages, entries) <= target.sharedPerBlock &&
           listBytes(entries) <= stages * std::min(keyBytes, valueBytes);
  }
  int bytes(int stages, int entries) const {
    return stages * (keyBytes + valueBytes + kBarrierBytes) +
           static_cast<int>(llvm::alignTo(listBytes(entries), 16)) + kTileSlotBytes;
  }
};

int laneRegisters(const AttendPlan &plan, const Sizes &s) {
  return attendLaneRegisters(s.rowTiles, plan.headDim, plan.valueDim, s.keys);
}

/// Warps where the config leaves them open: 12 warps leave a thread 168 registers, 8 warps 255.
void chooseWarps(const AttendPlan &plan, const Sizes &s, Config &config) {
  const bool wide = laneRegisters(plan, s) > kMostLaneRegisters12;
  if (s.rowTiles == 1) {
    if (config.attendProducers == 0)
      config.attendProducers = wide ? 2 : 4;
    if (config.attendWarps == 0)
      config.attendWarps = wide ? 6 : 8;
    return;
  }
  // Pairs of row tiles take twice as long per key tile, so that one producer keeps up with seven
  // consumers; each quarter of the SM but the producer's has two of them.
  const int most = wide ? 8 : 12;
  if (config.attendProducers == 0)
    config.attendProducers = config.attendWarps == 0
                                 ? (wide ? 1 : 4)
                                 : static_cast<int>(llvm::bit_floor(static_cast<unsigned>(
                                       std::clamp(most - config.attendWarps, 1, 4))));
  if (config.attendWarps == 0)
    config.attendWarps = std::max(1, std::min(8, most - config.attendProducers));
}

/// Pairs of row tiles exist to be fast, so they are refused where they would spill.
Status checkRegisters(const AttendPlan &plan, const Target &target, const Sizes &s,
                      const Config &config) {
  const int warps = config.attendWarps + config.attendProducers;
  const int need = laneRegisters(plan, s) + kOtherRegisters;
  const int have = threadRegisters(target.registersPerSm, kWarpThreads * warps);
  if (s.rowTiles == 1 || need <= have)
    return {};
  return fail(ErrorKind::Unsupported,
              llvm::formatv("attend_rows=32 needs {0} registers per thread for rows of {1} and {2} "
                            "elements and {3} keys, {4} warps leave {5}: take attend_rows=16{6}",
                            need, plan.headDim, plan.valueDim, s.keys, warps, have,
                            need <= 255 ? " or fewer warps" : "")
                  .str());
}

/// Key tiles as large as registers and two ring stages allow, then the longest list that leaves
/// room for the stages, then as many stages as fit.
Result<Sizes> chooseSizes(const AttendPlan &plan, const Target &target, Config &config) {
  Sizes s;
  if (config.attendRows == 0)
    config.attendRows = 16;
  s.rowTiles = config.attendRows / 16;
  s.rowTokens = 16 / plan.group;
  SharedModel model{};
  const Config given = config;
  auto take = [&](int keys) {
    s.keys = keys;
    s.tilesPerBlock = plan.block / keys;
    config = given;
    chooseWarps(plan, s, config);
    s.tokens = config.attendWarps * s.rowTiles * s.rowTokens;
    s.maskBits = static_cast<int>(std::max<uint64_t>(8, llvm::PowerOf2Ceil(s.tokens)));
    model = {keys * plan.headDim * 2, keys * plan.valueDim * 2, s.maskBits};
  };
  const int least = std::min(plan.block, given.attendKeys != 0 ? given.attendKeys : 32);
  take(std::min(plan.block, given.attendKeys != 0 ? given.attendKeys : 64));
  while (s.keys > least &&
         (laneRegisters(plan, s) > kMostLaneRegisters8 || !model.fits(2, kLeastEntries, target)))
    take(s.keys / 2);
  if (Status status = checkRegisters(plan, target, s, config); !status)
    return tl::unexpected<Error>(status.error());
  config.attendKeys = s.keys;

  // A list that may hold every selected tile needs one pass over the ids; a shorter one takes
  // several windows.
  int stages = config.attendStages != 0 ? config.attendStages : 2;
  const int most = plan.selects() ? s.tokens * plan.topk * s.tilesPerBlock : mostEntries(s);
  s.entries = std::min(most, mostEntries(s));
  while (s.entries > kLeastEntries && !model.fits(stages, s.entries, target))
    s.entries = std::max(kLeastEntries, s.entries / 2);
  if (!model.fits(stages, s.entries, target)) {
    int fitting = stages;
    while (fitting > 0 && !model.fits(fitting, s.entries, target))
      --fitting;
    return fail(ErrorKind::Unsupported,
                llvm::formatv("attend_stages={0} needs {1} bytes of shared memory, {2} has {3}: at "
                              "most {4} stages of {5} keys fit",
                              stages, model.bytes(stages, s.entries), target.arch,
                              target.sharedPerBlock, fitting, s.keys)
                    .str());
  }
  while (config.attendStages == 0 && stages < kMostStages &&
         model.fits(stages + 1, s.entries, target))
    ++stages;
  s.stages = config.attendStages = stages;
  // The bitmap lies where the rings will be, and a list entry holds a 16-bit tile index.
  s.window = s.entries < most ? s.entries : 16384;
  while (s.window * (s.maskBits / 8) > stages * (model.keyBytes + model.valueBytes))
    s.window /= 2;
  return s;
}

class AttendOnWarps {
public:
  AttendOnWarps(ModuleOp module, const AttendPlan &plan, const Sizes &sizes, const Config &config)
      : plan(plan), sizes(sizes), config(config),
        t(module, "attend",
          llvm::formatv("attend of {0}: softmax attention of each token over the keys of its "
                        "selected blocks; a block of "
                        "threads owns {1} tokens of {2} query heads.",
                        plan.method, sizes.tokens, plan.group)
              .str(),
          32 * config.attendWarps, 1),
        tokens(t, plan), tileList(t, plan, TileList::By::Block, "@kKeys"),
        source(t, plan, KeySource::Tiles::Shared), logits(t, plan), mask(t, plan, "kKeys"),
        softmax(t, plan, {/*someWant=*/sizes.rowTokens * sizes.rowTiles > 1}), epilogue(t, plan) {}
  BuiltKernel build();

private:
  void constants();
  void locate();
  void findRows();
  void declareRows();
  void relocate();
  void collect(Value window, Value tiles);
  void visit(Value window, Value entry);
  void attendTile(const KeysAtHand &keys);
  KernelFacts facts() const;

  const AttendPlan &plan;
  const Sizes &sizes;
  const Config &config;
  TileBuilder t;
  Tokens tokens;
  TileList tileList;
  KeySource source;
  Logits logits;
  Mask mask;
  Softmax softmax;
  Epilogue epilogue;
  SmallVector<RowTile> rowTiles;
  Value tile, slot, warp, selectHead, firstHead, keyTile, valueTile, list;
};

void AttendOnWarps::constants() {
  tokens.constants("query heads of one block of threads");
  tileList.constants(sizes.tilesPerBlock);
  t.constant("kKeys", sizes.keys, "keys of one tile");
  t.constant("kRowTokens", sizes.rowTokens, "tokens of a row tile: 16 rows of queries");
  t.constant("kTokens", sizes.tokens, "tokens of one block of threads");
  t.constant("kWindow", sizes.window, "key tiles that the bitmap covers at a time");
  t.constant("kEntries", sizes.entries, "wanted key tiles at a time");
  logits.constants();
}

void AttendOnWarps::locate() {
  keyTile = t.shared("key_tile", source.keyTile(),
                     KeySource::keyBytes(plan, KeySource::Tiles::Shared, sizes.keys));
  valueTile = t.shared("value_tile", source.valueTile(),
                       KeySource::valueBytes(plan, KeySource::Tiles::Shared, sizes.keys));
  tileList.declare(bitmapBytes(sizes.window, maskBits(sizes.tokens)), /*pinned=*/false);
  list = t.shared("list", t.type("WantedList", {"@kEntries", "@kTokens"}),
                  wantedListBytes(sizes.entries, maskBits(sizes.tokens)));
  tile = tokens.find(t.blockIndex('x'));
  t.returnIf(t.equal(t.field(tile, "tokens"), t.number(0)));
  warp = t.value("warp", "warp_index", {});
  selectHead = t.blockIndex('y', "select_head");
  firstHead = tokens.firstHead(selectHead, "first_head");
  // The inner loop needs nearly every register: what describes the tile waits in shared memory.
  slot = t.shared("slot", t.type("TileSlot"), kTileSlotBytes);
  t.when(t.equal(t.value("", "thread_index", {}), t.number(0)),
         [&] { t.leaf("park", {slot, tile}); });
}

void AttendOnWarps::declareRows() {
  for (int i = 0; i < sizes.rowTiles; ++i) {
    RowTile r;
    r.suffix = sizes.rowTiles == 1 ? "" : std::to_string(i);
    r.index = warp;
    if (sizes.rowTiles == 2)
      r.index = i == 0 ? t.mul(warp, t.number(2), "row_tile0")
                       : t.add(rowTiles[0].index, t.number(1), "row_tile1");
    r.query = t.fragment("query" + r.suffix, t.type("LeftOperand", {16, "@kDim", plan.element}));
    epilogue.declare(r);
    softmax.declare(r);
    rowTiles.push_back(r);
  }
  findRows();
  logits.declareRegion(/*takesFactors=*/false);
  for (const RowTile &r : rowTiles)
    tokens.load(r, firstHead);
  for (const RowTile &r : rowTiles)
    t.leaf("clear", {r.output});
}

/// The tokens, heads and positions of the warp's rows, from `tile`.
void AttendOnWarps::findRows() {
  for (RowTile &r : rowTiles)
    r.rows = tokens.rows("rows" + r.suffix, tile, r.index);
}

/// Takes the tile out of shared memory again and derives what the loops need from it.
void AttendOnWarps::relocate() {
  tile = t.value("here", "parked", {slot}, {}, tokens.type());
  source.locate(tile, tokens.kvHead(firstHead));
  findRows();
}

/// The list of key tiles that any of the block's tokens wants, among `tiles` tiles from `window`
/// on.
void AttendOnWarps::collect(Value window, Value tiles) {
  t.leaf("clear_wanted", {tileList.bitmap, tiles});
  tileList.mark(tile, selectHead, window, tiles);
  t.when(t.equal(warp, t.number(0)),
         [&] { t.leaf("compact_list", {list, tileList.bitmap, tiles}); });
}

/// One key tile for the tokens of this warp that want it; two row tiles share the loads of their
/// products.
void AttendOnWarps::attendTile(const KeysAtHand &keys) {
  for (RowTile &r : rowTiles) {
    logits.declare(r);
    t.leaf("clear", {r.logits});
  }
  RowTile &one = rowTiles.front(), &other = rowTiles.back();
  if (rowTiles.size() == 1)
    t.leaf("mma_abt", {one.logits, one.query, keyTile});
  else
    t.leaf("mma_abt_pair", {one.logits, other.logits, one.query, other.query, keyTile});
  logits.rewrite(rowTiles, keys);
  mask.hide(rowTiles, keys);
  for (RowTile &r : rowTiles) {
    softmax.step(r, keys);
    r.weights =
        t.fragment("weights" + r.suffix, t.type("LeftOperand", {16, "@kKeys", plan.element}));
    t.leaf("round_to_operand", {r.weights, r.logits});
  }
  if (rowTiles.size() == 1)
    t.leaf("mma_ab", {one.output, one.weights, valueTile});
  else
    t.leaf("mma_ab_pair", {one.output, other.output, one.weights, other.weights, valueTile});
}

void AttendOnWarps::visit(Value window, Value entry) {
  Value any;
  for (RowTile &r : rowTiles) {
    r.wants = t.value("wants" + r.suffix, "list_wants", {list, entry, r.index}, {"@kRowTokens"});
    any = any ? t.either(any, r.wants) : r.wants;
  }
  Value listed = t.value("", "list_tile", {list, entry});
  KeysAtHand keys;
  keys.first = t.mul(t.add(window, listed), t.named("kKeys"), "first_key");
  source.load(keyTile, valueTile, keys.first, 32 * config.attendWarps);
  t.when(t.differ(any, t.number(0)), [&] { attendTile(keys); });
}

KernelFacts AttendOnWarps::facts() const {
  KernelFacts facts;
  facts.warps = config.attendWarps;
  facts.producers = config.attendProducers;
  facts.mmaWarps = 1;
  facts.stages = sizes.stages;
  facts.tokens = sizes.tokens;
  facts.rowTiles = sizes.rowTiles;
  facts.rowTokens = sizes.rowTokens;
  facts.laneRegisters = laneRegisters(plan, sizes);
  facts.headDim = plan.headDim;
  facts.valueDim = plan.valueDim;
  facts.group = plan.group;
  facts.topk = plan.selects() ? plan.topk : 0;
  facts.keys = facts.tileKeys = sizes.keys;
  facts.tilesPerBlock = sizes.tilesPerBlock;
  facts.bitmapTiles = sizes.window;
  facts.listEntries = sizes.entries;
  return facts;
}

BuiltKernel AttendOnWarps::build() {
  constants();
  locate();
  declareRows();
  Value keyTiles = mask.visibleTiles(tile, "key_tiles"), step = tileList.tilesAtOnce(tile);
  t.loop("window", t.number(0), keyTiles, step, [&](Value window) {
    relocate();
    Value tiles = t.min(t.sub(keyTiles, window), step, "tiles");
    collect(window, tiles);
    Value entries = t.value("entries", "list_length", {list});
    scf::ForOp loop = t.loop("entry", t.number(0), entries, t.number(1),
                             [&](Value entry) { visit(window, entry); });
    loop->setAttr("tile.pipeline", t.builder.getStringAttr("specialize_warps"));
    loop->setAttr("tile.stages", t.builder.getI32IntegerAttr(sizes.stages));
    loop->setAttr("tile.producer_warps", t.builder.getI32IntegerAttr(config.attendProducers));
  });
  tile = t.value("done", "parked", {slot}, {}, tokens.type());
  findRows();
  for (const RowTile &r : rowTiles)
    epilogue.store(r, firstHead);

  BuiltKernel built{t.finish(), {}};
  built.recipe.step = "attend";
  built.recipe.facts = facts();
  built.recipe.gridX = llvm::formatv("total_q / {0} + batch", sizes.tokens).str();
  built.recipe.gridY = std::to_string(plan.heads / plan.group);
  return built;
}

} // namespace

Result<BuiltKernel> buildAttend(ModuleOp module, const AttendPlan &plan, const Target &target,
                                Config &config) {
  Result<Sizes> sizes = chooseSizes(plan, target, config);
  if (!sizes)
    return tl::unexpected<Error>(sizes.error());
  return AttendOnWarps(module, plan, *sizes, config).build();
}

} // namespace winnow

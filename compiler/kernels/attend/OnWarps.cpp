// The attend kernel: softmax attention of each token over its own selected blocks (all causal
// blocks where nothing is selected). Written as one thread of control per warp of queries; the
// warp-specialisation pass splits off producers. Idea: load the union of neighbouring tokens'
// blocks once, and let each warp skip what its tokens did not select.
#include "compiler/kernels/KernelBuilder.h"
#include "compiler/kernels/Kernels.h"
#include "runtime/program/Budgets.h"
#include "llvm/ADT/bit.h"
#include "llvm/Support/FormatVariadic.h"
#include "llvm/Support/MathExtras.h"

using namespace mlir;

namespace winnow {
namespace {

constexpr double kLog2E = 1.4426950408889634;

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
    constexpr int kSlotBytes = 32, kBarrierBytes = 16;
    return stages * (keyBytes + valueBytes + kBarrierBytes) +
           static_cast<int>(llvm::alignTo(listBytes(entries), 16)) + kSlotBytes;
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

class AttendBuilder {
public:
  AttendBuilder(ModuleOp module, const AttendPlan &plan, const Sizes &sizes, const Config &config)
      : plan(plan), sizes(sizes), config(config),
        t(module, "attend",
          llvm::formatv("attend of {0}: softmax attention of each token over the keys of its "
                        "selected blocks; a block of "
                        "threads owns {1} tokens of {2} query heads.",
                        plan.method, sizes.tokens, plan.group)
              .str(),
          32 * config.attendWarps, 1) {}
  BuiltKernel build();

private:
  /// What a warp holds of 16 rows of queries.
  struct RowTile {
    std::string suffix; ///< of names: "" where a warp has one row tile, else "0" or "1"
    Value index;        ///< number in the block
    Value rows, query, output, state, wants, logits, weights;
  };

  void constants();
  void locate();
  void findRows();
  void softmax(RowTile &r);
  void product(StringRef name, Value RowTile::*sums, Value RowTile::*left, Value right);
  void relocate();
  void collect(Value window, Value tiles);
  void visit(Value window, Value entry);
  void attendTile(Value firstKey);
  KernelFacts facts() const;

  const AttendPlan &plan;
  const Sizes &sizes;
  const Config &config;
  TileBuilder t;
  SmallVector<RowTile> rowTiles;
  Value tile, slot, warp, selectHead, firstHead, keyRows, valueRows, keyTile, valueTile, wanted,
      list, hook;
};

void AttendBuilder::constants() {
  t.constant("kHeads", plan.heads, "query heads");
  t.constant("kKvHeads", plan.kvHeads, "key/value heads");
  t.constant("kGroup", plan.group, "query heads of one block of threads");
  t.constant("kDim", plan.headDim, "elements of one query or key row");
  t.constant("kValueDim", plan.valueDim, "elements of one value or output row");
  if (plan.selects()) {
    t.constant("kTopK", plan.topk, "selected blocks per token, at most");
    if (plan.denseLength > 0)
      t.constant("kDenseLength", plan.denseLength, "shorter sequences attend to every key");
    t.constant("kTilesPerBlock", sizes.tilesPerBlock, "key tiles of one selectable block");
  }
  t.constant("kKeys", sizes.keys, "keys of one tile");
  t.constant("kRowTokens", sizes.rowTokens, "tokens of a row tile: 16 rows of queries");
  t.constant("kTokens", sizes.tokens, "tokens of one block of threads");
  t.constant("kWindow", sizes.window, "key tiles that the bitmap covers at a time");
  t.constant("kEntries", sizes.entries, "wanted key tiles at a time");
  if (plan.logitHook) {
    t.constant("kLogitScale", plan.scale, "softmax scale, before the method's rewriting of logits");
    t.constant("kScale", kLog2E, "log2 e: weights are powers of 2");
  } else {
    t.constant("kScale", plan.scale * kLog2E,
               "softmax scale times log2 e: weights are powers of 2");
  }
}

void AttendBuilder::locate() {
  keyTile = t.shared("key_tile", t.type("SharedTile", {"@kKeys", "@kDim", plan.element}),
                     sizes.keys * plan.headDim * 2);
  valueTile = t.shared("value_tile", t.type("SharedTile", {"@kKeys", "@kValueDim", plan.element}),
                       sizes.keys * plan.valueDim * 2);
  wanted = t.shared("wanted", t.type("WantedBitmap", {"@kWindow", "@kTokens"}),
                    sizes.window * sizes.maskBits / 8);
  list = t.shared("list", t.type("WantedList", {"@kEntries", "@kTokens"}),
                  16 + sizes.entries * (2 + sizes.maskBits / 8));
  tile = t.value("tile", "find_token_tile",
                 {t.pointer("cu_q"), t.pointer("cu_k"), t.field(t.params(), "batch"), t.number(0),
                  t.field(t.params(), "total_q"), t.blockIndex('x')},
                 {"@kTokens"}, t.type("TokenTile"));
  t.returnIf(t.equal(t.field(tile, "tokens"), t.number(0)));
  warp = t.value("warp", "warp_index", {});
  selectHead = t.blockIndex('y', "select_head");
  firstHead = t.mul(selectHead, t.named("kGroup"), "first_head");
  // The inner loop needs nearly every register: what describes the tile waits in shared memory.
  slot = t.shared("slot", t.type("TileSlot"), 32);
  t.when(t.equal(t.value("", "thread_index", {}), t.number(0)),
         [&] { t.leaf("park", {slot, tile}); });
  for (int i = 0; i < sizes.rowTiles; ++i) {
    RowTile r;
    r.suffix = sizes.rowTiles == 1 ? "" : std::to_string(i);
    r.index = warp;
    if (sizes.rowTiles == 2)
      r.index = i == 0 ? t.mul(warp, t.number(2), "row_tile0")
                       : t.add(rowTiles[0].index, t.number(1), "row_tile1");
    r.query = t.fragment("query" + r.suffix, t.type("LeftOperand", {16, "@kDim", plan.element}));
    r.output = t.fragment("output" + r.suffix, t.type("Accumulator", {16, "@kValueDim"}));
    r.state = t.fragment("state" + r.suffix, t.type("SoftmaxState"));
    rowTiles.push_back(r);
  }
  findRows();
  if (plan.logitHook)
    hook = t.hook("rewrite", *plan.logitHook);
  for (RowTile &r : rowTiles)
    t.leaf("load_query", {r.query, t.pointer("q"), r.rows, firstHead}, {"@kHeads"});
  for (RowTile &r : rowTiles)
    t.leaf("clear", {r.output});
}

/// The tokens, heads and positions of the warp's rows, from `tile`.
void AttendBuilder::findRows() {
  for (RowTile &r : rowTiles)
    r.rows =
        t.value("rows" + r.suffix, "query_rows", {tile, r.index}, {"@kGroup"}, t.type("QueryRows"));
}

/// Takes the tile out of shared memory again and derives what the loops need from it.
void AttendBuilder::relocate() {
  tile = t.value("here", "parked", {slot}, {}, t.type("TokenTile"));
  Value kvHead = t.div(firstHead, t.div(t.named("kHeads"), t.named("kKvHeads")), "kv_head");
  auto matrix = [&](StringRef name, StringRef member, StringRef dim, const char *stride) {
    return t.value(name, "global_rows",
                   {t.pointer(member), t.field(tile, "k_row"), t.mul(kvHead, t.named(dim))},
                   {plan.element, stride}, t.type("auto"));
  };
  keyRows = matrix("keys", "k", "kDim", "kKvHeads * kDim");
  valueRows = matrix("values", "v", "kValueDim", "kKvHeads * kValueDim");
  findRows();
}

/// The list of key tiles that any of the block's tokens wants, among `tiles` tiles from `window`
/// on.
void AttendBuilder::collect(Value window, Value tiles) {
  t.leaf("clear_wanted", {wanted, tiles});
  auto causal = [&] { t.leaf("mark_causal", {wanted, tile, window, tiles}, {"@kKeys"}); };
  auto selected = [&] {
    t.leaf("mark_wanted",
           {wanted, t.pointer("ids"), selectHead, t.field(t.params(), "total_q"), tile, window},
           {"@kTopK", "@kTilesPerBlock", "@kKeys"});
  };
  if (!plan.selects())
    causal();
  else if (plan.denseLength <= 0)
    selected();
  else
    t.when(t.less(t.field(tile, "k_length"), t.named("kDenseLength")), causal, selected);
  t.when(t.equal(warp, t.number(0)), [&] { t.leaf("compact_list", {list, wanted, tiles}); });
}

/// sums += left right, of one row tile or of both at once.
void AttendBuilder::product(StringRef name, Value RowTile::*sums, Value RowTile::*left,
                            Value right) {
  if (rowTiles.size() == 1)
    return t.leaf(name, {rowTiles[0].*sums, rowTiles[0].*left, right});
  t.leaf((name + "_pair").str(),
         {rowTiles[0].*sums, rowTiles[1].*sums, rowTiles[0].*left, rowTiles[1].*left, right});
}

/// A row tile's logits become weights.
void AttendBuilder::softmax(RowTile &r) {
  Value scale = t.namedReal("kScale");
  // Where a row tile may be here without all its tokens wanting the key tile, the leaves know who
  // does.
  const bool someWant = sizes.rowTokens > 1 || sizes.rowTiles > 1;
  SmallVector<Value> raise = {r.state, r.logits}, weigh = {r.logits, r.state};
  for (SmallVector<Value> *operands : {&raise, &weigh}) {
    if (someWant)
      operands->append({r.rows, r.wants});
    operands->push_back(scale);
  }
  Value raised = t.value("", someWant ? "raise_wanted_maximum" : "raise_maximum", raise, {},
                         t.builder.getI1Type());
  t.when(raised, [&] { t.leaf("rescale_rows", {r.output, r.state}); });
  t.leaf(someWant ? "exponentiate_wanted" : "exponentiate", weigh);
  r.weights = t.fragment("weights" + r.suffix, t.type("LeftOperand", {16, "@kKeys", plan.element}));
  t.leaf("round_to_operand", {r.weights, r.logits});
}

/// One key tile for the tokens of this warp that want it.
void AttendBuilder::attendTile(Value firstKey) {
  for (RowTile &r : rowTiles) {
    r.logits = t.fragment("logits" + r.suffix, t.type("Accumulator", {16, "@kKeys"}));
    t.leaf("clear", {r.logits});
  }
  product("mma_abt", &RowTile::logits, &RowTile::query, keyTile);
  if (hook)
    for (RowTile &r : rowTiles)
      t.leaf("map_logits", {r.logits, r.rows, firstKey, t.namedReal("kLogitScale"), hook});
  Value lastKey = t.sub(t.add(firstKey, t.named("kKeys")), t.number(1));
  t.when(t.greater(lastKey, t.field(rowTiles[0].rows, "first_position")), [&] {
    for (RowTile &r : rowTiles)
      t.leaf("mask_causal", {r.logits, r.rows, firstKey});
  });
  for (RowTile &r : rowTiles)
    softmax(r);
  product("mma_ab", &RowTile::output, &RowTile::weights, valueTile);
}

void AttendBuilder::visit(Value window, Value entry) {
  Value any;
  for (RowTile &r : rowTiles) {
    r.wants = t.value("wants" + r.suffix, "list_wants", {list, entry, r.index}, {"@kRowTokens"});
    any = any ? t.either(any, r.wants) : r.wants;
  }
  Value listed = t.value("", "list_tile", {list, entry});
  Value firstKey = t.mul(t.add(window, listed), t.named("kKeys"), "first_key");
  Value limit = t.field(tile, "k_length"), thread = t.value("thread", "thread_index", {});
  t.leaf("load_rows", {keyTile, keyRows, firstKey, limit, thread}, {32 * config.attendWarps});
  t.leaf("load_rows", {valueTile, valueRows, firstKey, limit, thread}, {32 * config.attendWarps});
  t.when(t.differ(any, t.number(0)), [&] { attendTile(firstKey); });
}

KernelFacts AttendBuilder::facts() const {
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

BuiltKernel AttendBuilder::build() {
  constants();
  locate();
  Value keyTiles = t.add(t.div(t.value("", "last_position", {tile}), t.named("kKeys")), t.number(1),
                         "key_tiles");
  Value step = t.named("kWindow");
  if (!plan.selects())
    step = t.named("kEntries");
  else if (plan.denseLength > 0)
    step = t.select(t.less(t.field(tile, "k_length"), t.named("kDenseLength")), t.named("kEntries"),
                    t.named("kWindow"), "step");
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
  tile = t.value("done", "parked", {slot}, {}, t.type("TokenTile"));
  findRows();
  for (RowTile &r : rowTiles) {
    t.leaf("reduce_sum", {r.state});
    t.leaf("store_output", {t.pointer("out"), r.output, r.state, r.rows, firstHead},
           {"@kHeads", plan.element});
    t.leaf("store_lse", {t.pointer("lse"), r.state, r.rows, firstHead,
                         t.field(t.params(), "total_q"), t.namedReal("kScale")});
  }

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
  return AttendBuilder(module, plan, *sizes, config).build();
}

} // namespace winnow

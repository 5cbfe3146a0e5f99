// The attend kernel: softmax attention of each token over its own selected blocks (all causal
// blocks where nothing is selected). Written as one thread of control per warp of queries; the
// warp-specialisation pass splits off producers. Idea: load the union of neighbouring tokens'
// blocks once, and let each warp skip what its tokens did not select.
#include "compiler/tile/TileBuilder.h"
#include "compiler/tile/TileKernels.h"
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
struct Sizes {
  int keys, tilesPerBlock, warpTokens, tokens, maskBits, stages, entries, window;
};

constexpr int kMostEntries = 1024, kLeastEntries = 32, kMostStages = 6;

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

/// fp32 accumulators and operands of a consumer warp's lane: queries, output, logits.
int laneRegisters(const MethodPlan &plan, int keys) {
  return plan.headDim / 4 + plan.valueDim / 2 + keys / 2;
}

/// Warps where the config leaves them open. 12 warps leave a thread 168 registers, 8 warps 255.
void chooseWarps(const MethodPlan &plan, int keys, Config &config) {
  const bool wide = laneRegisters(plan, keys) > kMostLaneRegisters12;
  if (config.attendProducers == 0)
    config.attendProducers = wide ? 2 : 4;
  if (config.attendWarps == 0)
    config.attendWarps = wide ? 6 : 8;
}

/// Key tiles as large as registers and two ring stages allow, then the longest list that leaves
/// room for the stages, then as many stages as fit.
Result<Sizes> chooseSizes(const MethodPlan &plan, const Target &target, Config &config) {
  Sizes s;
  s.warpTokens = 16 / plan.group;
  SharedModel model{};
  const Config given = config;
  auto take = [&](int keys) {
    s.keys = keys;
    s.tilesPerBlock = plan.block / keys;
    config = given;
    chooseWarps(plan, keys, config);
    s.tokens = config.attendWarps * s.warpTokens;
    s.maskBits = static_cast<int>(std::max<uint64_t>(8, llvm::PowerOf2Ceil(s.tokens)));
    model = {keys * plan.headDim * 2, keys * plan.valueDim * 2, s.maskBits};
  };
  const int least = std::min(plan.block, 32);
  take(std::min(plan.block, 64));
  while (s.keys > least && (laneRegisters(plan, s.keys) > kMostLaneRegisters8 ||
                            !model.fits(2, kLeastEntries, target)))
    take(s.keys / 2);

  // A list that may hold every selected tile needs one pass over the ids; a shorter one takes
  // several windows.
  int stages = config.attendStages != 0 ? config.attendStages : 2;
  const int most = plan.selects() ? s.tokens * plan.topk * s.tilesPerBlock : kMostEntries;
  s.entries = std::min(most, kMostEntries);
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
  AttendBuilder(ModuleOp module, const MethodPlan &plan, const Sizes &sizes, const Config &config)
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
  void constants();
  void locate();
  void relocate();
  void collect(Value window, Value tiles);
  void visit(Value window, Value entry);
  void attendTile(Value wants, Value firstKey);

  const MethodPlan &plan;
  const Sizes &sizes;
  const Config &config;
  TileBuilder t;
  Value tile, slot, warp, selectHead, firstHead, keyRows, valueRows, rows, keyTile, valueTile,
      wanted, list, query, output, state, hook;
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
  t.constant("kWarpTokens", sizes.warpTokens, "tokens of one warp: 16 rows of queries");
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
  rows = t.value("rows", "query_rows", {tile, warp}, {"@kGroup"}, t.type("QueryRows"));
  if (plan.logitHook)
    hook = t.hook("rewrite", *plan.logitHook);
  query = t.fragment("query", t.type("LeftOperand", {16, "@kDim", plan.element}));
  output = t.fragment("output", t.type("Accumulator", {16, "@kValueDim"}));
  state = t.fragment("state", t.type("SoftmaxState"));
  t.leaf("load_query", {query, t.pointer("q"), rows, firstHead}, {"@kHeads"});
  t.leaf("clear", {output});
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
  rows = t.value("rows", "query_rows", {tile, warp}, {"@kGroup"}, t.type("QueryRows"));
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

/// One key tile for the tokens of this warp that want it.
void AttendBuilder::attendTile(Value wants, Value firstKey) {
  Value logits = t.fragment("logits", t.type("Accumulator", {16, "@kKeys"}));
  t.leaf("clear", {logits});
  t.leaf("mma_abt", {logits, query, keyTile});
  if (hook)
    t.leaf("map_logits", {logits, rows, firstKey, t.namedReal("kLogitScale"), hook});
  Value lastKey = t.sub(t.add(firstKey, t.named("kKeys")), t.number(1));
  t.when(t.greater(lastKey, t.field(rows, "first_position")),
         [&] { t.leaf("mask_causal", {logits, rows, firstKey}); });
  if (sizes.warpTokens > 1)
    t.when(t.differ(wants, t.number((1 << sizes.warpTokens) - 1)),
           [&] { t.leaf("mask_unwanted", {logits, rows, wants}); });
  Value scale = t.namedReal("kScale");
  Value raised = t.value("", "raise_maximum", {state, logits, scale}, {}, t.builder.getI1Type());
  t.when(raised, [&] { t.leaf("rescale_rows", {output, state}); });
  t.leaf("exponentiate", {logits, state, scale});
  Value weights = t.fragment("weights", t.type("LeftOperand", {16, "@kKeys", plan.element}));
  t.leaf("round_to_operand", {weights, logits});
  t.leaf("mma_ab", {output, weights, valueTile});
}

void AttendBuilder::visit(Value window, Value entry) {
  Value wants = t.value("wants", "list_wants", {list, entry, warp}, {"@kWarpTokens"});
  Value listed = t.value("", "list_tile", {list, entry});
  Value firstKey = t.mul(t.add(window, listed), t.named("kKeys"), "first_key");
  Value limit = t.field(tile, "k_length"), thread = t.value("thread", "thread_index", {});
  t.leaf("load_rows", {keyTile, keyRows, firstKey, limit, thread}, {32 * config.attendWarps});
  t.leaf("load_rows", {valueTile, valueRows, firstKey, limit, thread}, {32 * config.attendWarps});
  t.when(t.differ(wants, t.number(0)), [&] { attendTile(wants, firstKey); });
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
    loop->setAttr("pipeline", t.builder.getStringAttr("specialize_warps"));
    loop->setAttr("stages", t.builder.getI32IntegerAttr(sizes.stages));
    loop->setAttr("producer_warps", t.builder.getI32IntegerAttr(config.attendProducers));
  });
  tile = t.value("done", "parked", {slot}, {}, t.type("TokenTile"));
  rows = t.value("rows", "query_rows", {tile, warp}, {"@kGroup"}, t.type("QueryRows"));
  t.leaf("reduce_sum", {state});
  t.leaf("store_output", {t.pointer("out"), output, state, rows, firstHead},
         {"@kHeads", plan.element});
  t.leaf("store_lse", {t.pointer("lse"), state, rows, firstHead, t.field(t.params(), "total_q"),
                       t.namedReal("kScale")});

  BuiltKernel built{t.finish(), {}};
  built.recipe.step = "attend";
  built.recipe.gridX = llvm::formatv("total_q / {0} + batch", sizes.tokens).str();
  built.recipe.gridY = std::to_string(plan.heads / plan.group);
  return built;
}

} // namespace

Result<BuiltKernel> buildAttend(ModuleOp module, const MethodPlan &plan, const Target &target,
                                Config &config) {
  Result<Sizes> sizes = chooseSizes(plan, target, config);
  if (!sizes)
    return tl::unexpected<Error>(sizes.error());
  return AttendBuilder(module, plan, *sizes, config).build();
}

} // namespace winnow

// The backward_keys kernel: dK and dV, by blocks of threads that own keys, 16 of them a warp. Tiles
// are turned round: their rows are keys, their columns the query rows of the tokens that attend to
// the block, as the lists have them (token_lists.cuh). Query rows and dO come through a ring, keys
// and values stay in shared memory. A key that nobody attends to ends with sums of exactly 0.
#include "compiler/kernels/backward/Backward.h"
#include "compiler/kernels/parts/Changes.h"
#include "compiler/kernels/parts/DenseLength.h"
#include "compiler/kernels/parts/Logits.h"
#include "runtime/program/Budgets.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;

namespace winnow {
namespace {

// Where the config leaves it open: query rows of a stage, stages that are enough to have one on its
// way while one is in work, and keys of a block of threads, which has four warps then.
constexpr int kRows = 32, kMostStages = 4, kMostKeys = 64;

struct Sizes {
  int keys; ///< of a block of threads
  int rows; ///< query rows of a stage
  int stages;
  int warps() const { return keys / 16; } ///< that compute; as many load
};

/// As many keys as leave room for two stages of query rows, then as many stages as fit.
Result<Sizes> chooseSizes(const BackwardPlan &plan, const Target &target, const Config &config) {
  const int dims = plan.headDim + plan.valueDim;
  Sizes sizes{};
  sizes.rows = config.backwardKeyRows ? config.backwardKeyRows : kRows;
  auto stagesBeside = [&](int keys) {
    return (target.sharedPerBlock - sharedTileBytes(keys, dims)) /
           (sharedTileBytes(sizes.rows, dims) + kBarrierBytes);
  };
  const int least = std::max(2, config.backwardKeyStages);
  sizes.keys = config.backwardTileKeys ? config.backwardTileKeys : kMostKeys;
  if (plan.selects())
    sizes.keys = std::min(sizes.keys, plan.block);
  while (!config.backwardTileKeys && sizes.keys > 16 && stagesBeside(sizes.keys) < least)
    sizes.keys /= 2;
  sizes.stages = config.backwardKeyStages ? config.backwardKeyStages
                                          : std::min(kMostStages, stagesBeside(sizes.keys));
  if (stagesBeside(sizes.keys) >= least)
    return sizes;
  return fail(ErrorKind::Unsupported,
              llvm::formatv("gradients of rows of {0} and {1} elements, {2} keys beside {3} stages "
                            "of {4} query rows, need more shared memory than {5} has: take less",
                            plan.headDim, plan.valueDim, sizes.keys, least, sizes.rows, target.arch)
                  .str());
}

class BackwardKeys {
public:
  BackwardKeys(ModuleOp module, const BackwardPlan &plan, const Sizes &sizes)
      : plan(plan), sizes(sizes),
        t(module, "backward_keys",
          llvm::formatv(
              "backward_keys of {0}: the gradients of {1} keys and values, from all tokens "
              "that attend to them; a block of threads each.",
              plan.method, sizes.keys)
              .str(),
          kWarpThreads * sizes.warps(), 1),
        logits(t, plan), changes(t, plan) {}
  BuiltKernel build();

private:
  /// Tiles of query heads that go with one key/value head.
  int headTiles() const { return plan.heads / plan.kvHeads / plan.group; }
  void constants();
  void declare();
  void loadKeys();
  Value tokensOf(Value firstHead);
  void overRows(Value headTile);
  void step(Value firstEntry, Value list, Value firstHead);
  void store();
  KernelFacts facts() const;

  const BackwardPlan &plan;
  const Sizes &sizes;
  KernelBuilder t;
  Logits logits;
  Changes changes;
  Value block, kvHead, range, warp, warpRow, firstKey, statistics;
  Value keyTile, valueTile, queryTile, gradientTile; ///< in shared memory
  Value keySums, valueSums;
};

void BackwardKeys::constants() {
  t.constant("kHeads", plan.heads, "query heads");
  t.constant("kKvHeads", plan.kvHeads, "key/value heads");
  t.constant("kTileHeads", plan.group, "query heads of one stage");
  t.constant("kDim", plan.headDim, "elements of one query or key row");
  t.constant("kValueDim", plan.valueDim, "elements of one value or output row");
  t.constant("kKeys", sizes.keys, "keys of one block of threads");
  t.constant("kRows", sizes.rows, "query rows of one stage");
  t.constant("kTokens", sizes.rows / plan.group, "tokens of one stage");
  if (plan.selects()) {
    t.constant("kBlock", plan.block, "keys of one selectable block");
    denseConstant(t, plan, "shorter sequences attend to every key");
    if (plan.headTiles > 1)
      t.constant("kHeadTiles", plan.headTiles,
                 "tiles of kTileHeads heads that share one selection");
  }
  if (headTiles() > 1)
    t.constant("kKeyHeadTiles", headTiles(), "tiles of query heads of one key/value head");
  t.constant("kSoftmaxScale", plan.scale, "what a logit has been multiplied by");
  logits.constants();
}

void BackwardKeys::declare() {
  auto tile = [&](const char *name, const char *rows, const char *columns, int bytes) {
    return t.shared(name, t.type("SharedTile", {rows, columns, plan.element}), bytes);
  };
  keyTile = tile("keys", "@kKeys", "@kDim", sharedTileBytes(sizes.keys, plan.headDim));
  valueTile = tile("values", "@kKeys", "@kValueDim", sharedTileBytes(sizes.keys, plan.valueDim));
  queryTile = tile("query_tile", "@kRows", "@kDim", sharedTileBytes(sizes.rows, plan.headDim));
  gradientTile =
      tile("gradient_tile", "@kRows", "@kValueDim", sharedTileBytes(sizes.rows, plan.valueDim));
  block = t.value("block", "find_key_block",
                  {t.pointer("cu_q"), t.pointer("cu_k"), t.field(t.params(), "batch"),
                   t.field(t.params(), "total_k"), t.blockIndex('x')},
                  {"@kKeys"});
  t.returnIf(t.equal(t.field(block, "keys"), t.number(0)));
  warp = t.value("warp", "warp_index", {});
  kvHead = t.blockIndex('y', "kv_head");
  if (plan.selects()) {
    kvHead = t.rem(t.blockIndex('y'), t.named("kKvHeads"), "kv_head");
    range = t.div(t.blockIndex('y'), t.named("kKvHeads"), "range");
  }
  warpRow = t.mul(warp, t.number(16), "warp_row");
  firstKey = t.add(t.field(block, "first"), warpRow, "first_key");
  statistics = backwardBuffer(t, BackwardBuffer::Statistics);
  keySums = t.fragment("key_gradient", t.type("Accumulator", {16, "@kDim"}));
  valueSums = t.fragment("value_gradient", t.type("Accumulator", {16, "@kValueDim"}));
  logits.declareRegion(/*takesFactors=*/false);
  changes.declareRegion();
  t.leaf("clear", {keySums});
  t.leaf("clear", {valueSums});
}

/// The block's own keys and values; rows behind the sequence become 0.
void BackwardKeys::loadKeys() {
  const int threads = 2 * kWarpThreads * sizes.warps(); // those that the pass adds help
  Value thread = t.value("thread", "thread_index");
  auto load = [&](Value tile, const char *tensor, const char *dim, const char *stride) {
    Value rows = t.value("", "global_rows",
                         {t.pointer(tensor), t.field(block, "row"), t.mul(kvHead, t.named(dim))},
                         {plan.element, stride});
    t.leaf("load_rows", {tile, rows, t.number(0), t.field(block, "keys"), thread}, {threads});
  };
  load(keyTile, "k", "kDim", "kKvHeads * kDim");
  load(valueTile, "v", "kValueDim", "kKvHeads * kValueDim");
}

/// The tokens that attend to the block in the heads from `firstHead` on.
Value BackwardKeys::tokensOf(Value firstHead) {
  if (!plan.selects())
    return t.value("list", "later_tokens", {block});
  Value all = mayBeDense(plan) ? isDense(t, plan, block) : t.flag(false);
  Value selectHead = t.div(firstHead, t.named("kTileHeads"));
  if (plan.headTiles > 1)
    selectHead = t.div(selectHead, t.named("kHeadTiles"));
  Value lists = backwardBuffer(t, BackwardBuffer::Lists),
        ranges = backwardBuffer(t, BackwardBuffer::Ranges);
  Value listed = t.value("listed", "listed_tokens",
                         {lists, ranges, t.params(), selectHead, block, all}, {"@kBlock"});
  Value parts = t.field(t.params(), "parts"), maxQ = t.field(t.params(), "max_q");
  Value width = t.div(t.sub(t.add(maxQ, parts), t.number(1)), parts, "range_tokens");
  Value begin = t.mul(range, width, "range_begin");
  return t.value("list", "tokens_between", {listed, begin, t.add(begin, width)});
}

/// One tile of heads: all of its tokens, a stage at a time.
void BackwardKeys::overRows(Value headTile) {
  Value firstHead = t.mul(headTile, t.named("kTileHeads"), "first_head");
  Value list = tokensOf(firstHead), count = t.field(list, "count");
  auto rowsOf = [&](const char *name, const char *tensor, const char *dim) {
    return t.value(name, "token_rows", {t.pointer(tensor), list, block, firstHead, t.named(dim)},
                   {plan.element, "@kHeads", "@kTileHeads", "@kTokens"});
  };
  Value queries = rowsOf("queries", "q", "kDim"),
        gradients = rowsOf("gradients", "dout", "kValueDim");
  scf::ForOp loop = t.loop("entry", t.number(0), count, t.named("kTokens"), [&](Value entry) {
    Value thread = t.value("thread", "thread_index");
    const int threads = kWarpThreads * sizes.warps();
    t.leaf("load_rows", {queryTile, queries, entry, count, thread}, {threads});
    t.leaf("load_rows", {gradientTile, gradients, entry, count, thread}, {threads});
    step(entry, list, firstHead);
  });
  t.specializeWarps(loop, {sizes.stages, sizes.warps(), /*producersTakeTurns=*/false});
}

/// P^T and dS^T of the warp's keys and a stage's query rows; dV += P^T dO, dK += dS^T Q.
void BackwardKeys::step(Value firstEntry, Value list, Value firstHead) {
  Value weights = t.fragment("weights", t.type("Accumulator", {16, "@kRows"})),
        change = t.fragment("changes", t.type("Accumulator", {16, "@kRows"})),
        columns = t.fragment("columns", t.type("QueryColumns", {"@kRows"}));
  t.leaf("load_columns",
         {columns, statistics, list, block, firstEntry, firstHead, t.field(t.params(), "total_q")},
         {"@kTileHeads", "@kTokens"});
  t.leaf("clear", {weights});
  t.leaf("clear", {change});
  t.leaf("mma_abt_rows", {weights, keyTile, warpRow, queryTile, t.number(0)});
  t.leaf("mma_abt_rows", {change, valueTile, warpRow, gradientTile, t.number(0)});
  changes.prepareColumns(weights, change, columns, firstKey);
  logits.rewriteColumns(weights, columns, firstKey);
  changes.weighColumns(weights, change, columns, firstKey);
  auto add = [&](const char *name, Value sums, Value from, Value tile) {
    Value factor = t.fragment(name, t.type("LeftOperand", {16, "@kRows", plan.element}));
    t.leaf("round_to_operand", {factor, from});
    t.leaf("mma_ab", {sums, factor, tile});
  };
  add("weight_factor", valueSums, weights, gradientTile);
  add("change_factor", keySums, change, queryTile);
}

/// To the gradients, or where there are several ranges of tokens to what backward_join adds up.
void BackwardKeys::store() {
  Value totalK = t.field(t.params(), "total_k");
  Value whole = plan.selects() ? t.equal(t.field(t.params(), "parts"), t.number(1)) : t.flag(true);
  auto store = [&](const char *gradient, BackwardBuffer parts, Value sums, Value factor) {
    t.leaf("store_key_gradient", {t.pointer(gradient), sums, block, warpRow, kvHead, factor, whole},
           {"@kKvHeads", plan.element});
    if (plan.selects())
      t.leaf("store_key_part",
             {backwardBuffer(t, parts), sums, block, warpRow, kvHead, range, totalK, whole},
             {"@kKvHeads"});
  };
  store("dk", BackwardBuffer::KeyParts, keySums, t.namedReal("kSoftmaxScale"));
  store("dv", BackwardBuffer::ValueParts, valueSums, t.real(1));
}

KernelFacts BackwardKeys::facts() const {
  KernelFacts facts;
  facts.warps = facts.producers = sizes.warps();
  facts.mmaWarps = 1;
  facts.stages = sizes.stages;
  facts.tokens = sizes.rows / plan.group;
  facts.queryRows = sizes.rows;
  facts.laneRegisters = keyGradientLaneRegisters(plan.headDim, plan.valueDim, sizes.rows);
  facts.headDim = plan.headDim;
  facts.valueDim = plan.valueDim;
  facts.group = plan.group;
  facts.topk = plan.selects() ? plan.topk : 0;
  facts.tileKeys = sizes.keys;
  return facts;
}

BuiltKernel BackwardKeys::build() {
  constants();
  declare();
  loadKeys();
  if (headTiles() == 1) {
    overRows(kvHead);
  } else {
    Value first = t.mul(kvHead, t.named("kKeyHeadTiles"), "first_tile");
    t.loop("head_tile", first, t.add(first, t.named("kKeyHeadTiles")), t.number(1),
           [&](Value headTile) { overRows(headTile); });
  }
  store();
  BuiltKernel built{t.finish(), {}};
  built.recipe.step = "backward";
  built.recipe.facts = facts();
  built.recipe.gridX = llvm::formatv("total_k / {0} + batch", sizes.keys).str();
  built.recipe.gridY = std::to_string(plan.kvHeads) + (plan.selects() ? " * parts" : "");
  return built;
}

} // namespace

Result<BuiltKernel> buildBackwardKeys(ModuleOp module, const BackwardPlan &plan,
                                      const Target &target, Config &config) {
  WINNOW_TRY(const Sizes sizes, chooseSizes(plan, target, config));
  config.backwardKeyStages = sizes.stages;
  config.backwardKeyRows = sizes.rows;
  config.backwardTileKeys = sizes.keys;
  return BackwardKeys(module, plan, sizes).build();
}

} // namespace winnow

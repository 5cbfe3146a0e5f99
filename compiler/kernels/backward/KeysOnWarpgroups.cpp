// The backward_keys kernel for targets with warpgroup products and bulk copies: dK and dV by blocks
// of threads that stay and take one item after the other, two neighbouring tiles of 64 keys and a
// range of tokens. Each of two warpgroups owns one of the tiles, with its sums in registers; both
// multiply the same tiles of query rows, those of tokens that want both, as they come through a
// ring, and pass those that only the other one wants. Tiles are turned round: rows are keys, so
// that P^T and dS^T are left factors as they are.
//
// Protocol. Three rings: items, which one warp writes for all others; keys and values, a stage for
// each warpgroup, filled once per item; query rows. A warpgroup waits for every stage of rows and
// releases it, wanted or not; while the gradients of one are still to be multiplied it holds that
// stage, so the next wanted one must lie within the ring. Each item's rows end with a stage that
// says so. Sums of several ranges are added in their order, in device memory: key_items.cuh.
#include "compiler/kernels/backward/KeysOnWarpgroups.h"
#include "compiler/kernels/attend/Sizes.h"
#include "compiler/kernels/parts/DenseLength.h"
#include "runtime/program/Budgets.h"
#include "templates/Params.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;

namespace winnow {

/// Query tokens of a range, about: a range of one key/value head's query rows stays in the L2
/// cache, and the first block, which every token may want, is no block of threads' work for long.
static constexpr int kRangeTokens = 4096;
static constexpr int kMostStages = 8;
/// Registers of a thread: as 384 of them are launched, and those that compute and that feed. Who
/// claims more than others give back waits for ever.
static constexpr int kLaunchRegisters = 168, kConsumerRegisters = 232, kFeederRegisters = 40;
static_assert(kKeyWarpgroups * kConsumerRegisters + kFeederRegisters <=
              (kKeyWarpgroups + 1) * kLaunchRegisters);
/// Bytes of an item (KeyItem), and of the hints.
static constexpr int kItemBytes = 96, kHintBytes = 16;

/// Bytes of a stage's header (RowHeaders).
static int headerBytes(const KeyWarpgroupSizes &sizes) {
  return 8 * kStageRows + llvm::alignTo(4 * sizes.tokens + 4, 16);
}

static int stageBytes(const BackwardPlan &plan) {
  return panelTileBytes(kStageRows, plan.headDim) + panelTileBytes(kStageRows, plan.valueDim);
}

Result<KeyWarpgroupSizes> chooseKeysOnWarpgroups(const BackwardPlan &plan, const Target &target) {
  auto refuse = [](const std::string &needs) {
    return fail(ErrorKind::Unsupported, "backward_keys=warpgroups needs " + needs +
                                            ": leave it out or take backward_keys=warps");
  };
  if (!target.hasWarpgroupMma || !target.hasBulkCopy)
    return refuse(llvm::formatv("products of warpgroups, which {0} has not", target.arch).str());
  // A larger block's tokens are listed for each of its pairs: too many for a 32-bit count.
  constexpr int kMostBlock = 256;
  if (plan.selects() && (plan.block < kItemTileKeys || plan.block > kMostBlock))
    return refuse(
        llvm::formatv("blocks of {0} to {1} keys, not {2}", kItemTileKeys, kMostBlock, plan.block)
            .str());
  // A selection of each query head has few rows for each of its tokens.
  if (plan.selects() && selections(plan) != plan.kvHeads)
    return refuse("selections of key/value heads, not of each query head");
  // Statistics are copied 16 bytes at a time, those of two heads.
  if (plan.group != 4 && (plan.group < 6 || plan.group % 2 != 0))
    return refuse(llvm::formatv("4 query heads per key/value head or an even number from 6 on, "
                                "not {0}",
                                plan.group)
                      .str());
  KeyWarpgroupSizes sizes;
  sizes.tokenRows = plan.group == 4 ? 4 : plan.group <= 8 ? 8 : 16;
  sizes.tokens = kStageRows / sizes.tokenRows;
  auto refuseRows = [&] {
    return refuse(llvm::formatv("shorter rows than {0} elements of keys and {1} of values",
                                plan.headDim, plan.valueDim)
                      .str());
  };
  // A warp copies the rows of a stage, a lane for each token and panel of 64 columns. Sums of keys
  // and values, S and dP: 40 registers are left for the rest.
  const int panels = llvm::divideCeil(std::max(plan.headDim, plan.valueDim), 64);
  if (sizes.tokens * panels > kWarpThreads ||
      plan.headDim / 2 + plan.valueDim / 2 + kStageRows > kConsumerRegisters - 40)
    return refuseRows();
  const int keys = kKeyWarpgroups * stageBytes(plan); // a tile has as many keys as a stage has rows
  const int fixed =
      kBarrierBytes * (kKeyWarpgroups + kKeyItems) + kKeyItems * kItemBytes + kHintBytes;
  for (sizes.stages = kMostStages; sizes.stages >= 3; --sizes.stages)
    if (keys + sizes.stages * (stageBytes(plan) + kBarrierBytes) +
            static_cast<int>(llvm::alignTo(sizes.stages * headerBytes(sizes), 16)) + fixed <=
        target.sharedPerBlock)
      return sizes;
  return refuseRows();
}

Status checkStoredChanges(const BackwardPlan &plan, const KeyWarpgroupSizes &sizes) {
  auto refuse = [](const std::string &needs) {
    return fail(ErrorKind::Unsupported, "backward_changes=stored needs " + needs +
                                            ": leave it out or take backward_changes=remade");
  };
  if (!plan.selects())
    return refuse("a method that selects blocks");
  if (sizes.tokenRows != 16 || plan.heads / plan.kvHeads != plan.group)
    return refuse(
        llvm::formatv("10 to 16 query heads per key/value head, not {0}", plan.heads / plan.kvHeads)
            .str());
  return {};
}

std::string keyTilePlaces(const BackwardPlan &plan) {
  return llvm::formatv("{0} * (total_k / {1} + batch)", 2 * plan.kvHeads, kPairKeys).str();
}

void describeChanges(const BackwardPlan &plan, int chunkMiB, ProgramImage &image) {
  // Key tiles that a token attends to, at most; and those of all tokens.
  const std::string selected = std::to_string(plan.topk * (plan.block / kItemTileKeys)),
                    most = !mayBeDense(plan)
                               ? selected
                               : llvm::formatv("max({0}, ceil_div({1}, {2}))", selected,
                                               plan.crossing ? "dense_length"
                                                             : std::to_string(plan.denseLength),
                                               kItemTileKeys)
                                     .str();
  auto bytesOf = [&](const std::string &tokens) {
    return llvm::formatv("{0} * {1} * min(total_q, batch * {2})", kChangeTileBytes * plan.kvHeads,
                         most, tokens)
        .str();
  };
  image.backwardChunkTokens =
      llvm::formatv("{0} * max(1, {1} / max(1, {2}))", kStoredRangeTokens, int64_t(chunkMiB) << 20,
                    bytesOf(std::to_string(kStoredRangeTokens)))
          .str();
  image.backwardBuffers.push_back(
      {"changes",
       llvm::formatv("8 * parts + {0} * (total_k / {1} + batch) * ceil_div(chunk_tokens, "
                     "32) + 256 + {2}",
                     4 * kListsOfPair * plan.kvHeads, kPairKeys, bytesOf("chunk_tokens"))
           .str()});
}

void describeKeyItems(const BackwardPlan &plan, bool stores, ProgramImage &image) {
  image.parts =
      llvm::formatv("max(1, ceil_div(max_q, {0}))", stores ? kStoredRangeTokens : kRangeTokens)
          .str();
  auto sums = [&](const char *name, int dim) {
    image.backwardBuffers.push_back(
        {name,
         llvm::formatv("(parts > 1) * {0} * {1}", keyTilePlaces(plan), 4 * kItemTileKeys * dim)
             .str()});
  };
  sums("key_sums", plan.headDim);
  sums("value_sums", plan.valueDim);
  image.backwardBuffers.push_back(
      {"key_items", llvm::formatv("4 + 4 * {0}", keyTilePlaces(plan)).str()});
}

/// A map as a member of params, shared with the program's kernels that have the same.
static std::string share(std::vector<TensorMapRecipe> &maps, const TensorMapRecipe &own) {
  auto same = llvm::find_if(maps, [&](const TensorMapRecipe &other) {
    return other.tensor == own.tensor && other.extents == own.extents && other.box == own.box;
  });
  const std::string map = llvm::formatv("map[{0}]", same - maps.begin()).str();
  if (same == maps.end())
    maps.push_back(own);
  return map;
}

/// Of packed rows.
static std::string mapOf(std::vector<TensorMapRecipe> &maps, StringRef tensor, int heads, int dim,
                         int boxHeads, int boxRows) {
  std::vector<TensorMapRecipe> own;
  describeRows(own, tensor, heads, dim, boxHeads, boxRows);
  return share(maps, own[0]);
}

/// Of packed rows; a box is a whole tile of panels of 64 columns, of `tokens` neighbouring tokens.
static std::string runMapOf(std::vector<TensorMapRecipe> &maps, StringRef tensor, int heads,
                            int dim, int boxHeads, int tokens) {
  const int panels = dim / 64;
  return share(maps, {tensor.str(),
                      {"64", std::to_string(heads), "total_q", std::to_string(panels)},
                      {2 * dim, int64_t(2) * dim * heads, 2 * 64},
                      {64, boxHeads, tokens, panels}});
}

BackwardKeysOnWarpgroups::BackwardKeysOnWarpgroups(ModuleOp module, const BackwardPlan &plan,
                                                   const KeyWarpgroupSizes &sizes, bool stores,
                                                   std::vector<TensorMapRecipe> &maps)
    : plan(plan), sizes(sizes), stores(stores),
      t(module, "backward_keys",
        llvm::formatv("backward_keys of {0}: the gradients of keys and values, from all tokens "
                      "that attend to them; blocks of threads stay and take one pair of tiles of "
                      "{1} keys and one range of tokens after the other.",
                      plan.method, kItemTileKeys)
            .str(),
        kKeyThreads, 1),
      logits(t, plan), changes(t, plan) {
  queryMap = mapOf(maps, "q", plan.heads, plan.headDim, plan.group, 1);
  gradientMap = mapOf(maps, "dout", plan.heads, plan.valueDim, plan.group, 1);
  keyMap = mapOf(maps, "k", plan.kvHeads, plan.headDim, 1, kItemTileKeys);
  valueMap = mapOf(maps, "v", plan.kvHeads, plan.valueDim, 1, kItemTileKeys);
  // Rows of neighbouring tokens lie in memory as in a tile if its rows are all filled.
  if (sizes.tokenRows == plan.group && plan.headDim % 64 == 0 && plan.valueDim % 64 == 0 &&
      maps.size() + 2 <= WINNOW_MAX_TENSOR_MAPS) {
    queryRunMap = runMapOf(maps, "q", plan.heads, plan.headDim, plan.group, sizes.tokens);
    gradientRunMap = runMapOf(maps, "dout", plan.heads, plan.valueDim, plan.group, sizes.tokens);
  }
}

void BackwardKeysOnWarpgroups::constants() {
  t.constant("kHeads", plan.heads, "query heads");
  t.constant("kKvHeads", plan.kvHeads, "key/value heads");
  t.constant("kTileHeads", plan.group, "query heads of one token in a stage");
  if (headTiles() > 1)
    t.constant("kHeadTiles", headTiles(), "tiles of query heads of one key/value head");
  t.constant("kDim", plan.headDim, "elements of one query or key row");
  t.constant("kValueDim", plan.valueDim, "elements of one value or output row");
  t.constant("kKeys", kItemTileKeys, "keys of one tile, those of a warpgroup");
  t.constant("kPairKeys", kPairKeys, "keys of the two tiles of an item");
  t.constant("kRows", kStageRows, "query rows of one stage");
  t.constant("kTokens", sizes.tokens, "tokens of one stage");
  t.constant("kTokenRows", sizes.tokenRows, "query rows of one token in a stage");
  t.constant("kStages", sizes.stages, "stages of the ring of query rows");
  t.constant("kItems", kKeyItems, "items: the one in work and the next one");
  t.constant("kWarpgroups", kKeyWarpgroups, "warpgroups that compute");
  t.constant("kKeyBytes", stageBytes(plan), "bytes of a tile's keys and values");
  const int rowBytes = stageBytes(plan) / kStageRows + 8;
  t.constant("kRowBytes", sizes.tokens * plan.group * rowBytes,
             "bytes of a stage's query rows, their output gradients and statistics");
  if (plan.selects()) {
    t.constant("kBlock", plan.block, "keys of one selectable block");
    denseConstant(t, plan, "shorter sequences attend to every key");
  }
  if (stores)
    t.constant("kRangeTokens", kStoredRangeTokens, "tokens of a range, of which chunks have some");
  t.constant("kSoftmaxScale", plan.scale, "what a logit has been multiplied by");
  logits.constants();
}

void BackwardKeysOnWarpgroups::declare() {
  auto ring = [&](StringRef name, const char *stages, int count, const char *rows,
                  const char *columns, int bytes) {
    return t.shared(name,
                    t.type("Ring", {stages, t.type("PanelTile", {rows, columns, plan.element})}),
                    count * bytes, true);
  };
  keyRing = ring("key_ring", "@kWarpgroups", kKeyWarpgroups, "@kKeys", "@kDim",
                 panelTileBytes(kItemTileKeys, plan.headDim));
  valueRing = ring("value_ring", "@kWarpgroups", kKeyWarpgroups, "@kKeys", "@kValueDim",
                   panelTileBytes(kItemTileKeys, plan.valueDim));
  queryRing = ring("query_ring", "@kStages", sizes.stages, "@kRows", "@kDim",
                   panelTileBytes(kStageRows, plan.headDim));
  gradientRing = ring("gradient_ring", "@kStages", sizes.stages, "@kRows", "@kValueDim",
                      panelTileBytes(kStageRows, plan.valueDim));
  headers = t.shared("headers", t.type("RowHeaders", {"@kStages", "@kRows", "@kTokens"}),
                     sizes.stages * headerBytes(sizes), true);
  items = t.shared("items", t.type("ItemRing", {"@kItems"}), kKeyItems * kItemBytes, true);
  hints = t.shared("hints", t.type("ProductHints"), kHintBytes, true);
  auto barriers = [&](StringRef name, const char *stages, int count) {
    return t.shared(name, t.type("RingBarriers", {stages}), kBarrierBytes * count, true);
  };
  rowBarriers = barriers("row_barriers", "@kStages", sizes.stages);
  keyBarriers = barriers("key_barriers", "@kWarpgroups", kKeyWarpgroups);
  itemBarriers = barriers("item_barriers", "@kItems", kKeyItems);
  t.when(t.equal(t.value("", "thread_index"), t.number(0)), [&] {
    // Who fills and who releases a stage: every lane that writes to it or reads it, as in attention
    // on warpgroups; for items the warp that finds them and all others.
    t.leaf("init_barriers", {rowBarriers, named("kTokens"), t.number(128 * kKeyWarpgroups)});
    t.leaf("init_barriers", {keyBarriers, t.number(1), t.number(128)});
    t.leaf("init_barriers", {itemBarriers, t.number(32), t.number(kKeyThreads - 32)});
    t.leaf("open_hints", {hints});
    t.leaf("fence_barriers", {});
  });
  warp = t.value("warp", "warp_index");
  warpgroup = t.div(warp, t.number(4), "warpgroup");
  if (sizes.tokenRows != plan.group)
    clearUnfilled();
  t.leaf("sync_threads", {});
}

/// Rows of stages that no head fills must hold numbers, and have no weight.
void BackwardKeysOnWarpgroups::clearUnfilled() {
  t.leaf("clear_statistics", {headers});
  t.loop("unfilled", t.number(0), named("kStages"), t.number(1), [&](Value index) {
    Value at = t.fragment("at", t.type("Cursor", {"@kStages"}));
    t.leaf("move_to", {at, index});
    for (Value ring : {queryRing, gradientRing})
      t.leaf("clear_rows", {stage("tile", ring, at), t.number(0), named("kRows")}, {kKeyThreads});
  });
}

void BackwardKeysOnWarpgroups::overItems(function_ref<void()> body) {
  turn = t.fragment("turn", t.type("Cursor", {"@kItems"}));
  t.whileLoop(
      {}, {},
      [&](ValueRange, SmallVector<Value> &) {
        t.leaf("wait_full", {itemBarriers, turn});
        return t.value("", "has_item", {items, turn});
      },
      [&](ValueRange) {
        body();
        t.leaf("arrive_empty", {itemBarriers, turn});
        t.leaf("advance", {turn});
        return SmallVector<Value>();
      });
}

BuiltKernel BackwardKeysOnWarpgroups::build() {
  constants();
  logits.declareRegion(/*takesFactors=*/false);
  changes.declareRegion();
  declare();
  if (stores)
    places = t.value("places", "change_places", {buffer(BackwardBuffer::Changes), t.params()},
                     {"@kKvHeads"});
  t.when(
      t.less(warpgroup, named("kWarpgroups")),
      [&] {
        t.leaf("claim_registers", {}, {kConsumerRegisters});
        consume();
      },
      [&] {
        t.leaf("release_registers", {}, {kFeederRegisters});
        Value role = t.sub(warp, t.mul(named("kWarpgroups"), t.number(4)), "role");
        t.when(t.less(role, named("kWarpgroups")), [&] { feedKeys(role); });
        t.when(t.equal(role, t.number(2)), [&] { feedRows(); });
        t.when(t.equal(role, t.number(3)), [&] { findItems(); });
      });
  BuiltKernel built{t.finish(), {}};
  built.recipe.step = "backward";
  built.recipe.perChunk = stores;
  const std::string ranges =
      stores ? llvm::formatv("ceil_div(token_count, {0})", kStoredRangeTokens).str() : "parts";
  built.recipe.gridX = llvm::formatv("min(sm_count, {0} * {1} * (total_k / {2} + batch))", ranges,
                                     plan.kvHeads, kPairKeys)
                           .str();
  built.recipe.gridY = "1";
  return built;
}

BuiltKernel buildBackwardKeysOnWarpgroups(ModuleOp module, const BackwardPlan &plan,
                                          const KeyWarpgroupSizes &sizes, bool stores,
                                          std::vector<TensorMapRecipe> &maps) {
  return BackwardKeysOnWarpgroups(module, plan, sizes, stores, maps).build();
}

} // namespace winnow

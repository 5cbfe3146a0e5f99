// The backward_rows kernel: what both sides of the gradients need of each query row, and the list
// of all kernels of a launch of gradients.
#include "compiler/kernels/backward/Backward.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;

namespace winnow {

/// Warps of one block of threads.
static constexpr int kWarps = 8;

/// Rows that a warp works on at a time (statistics_rows): as many lanes as divide a row's pieces of
/// 8 elements have one.
static int warpRows(const BackwardPlan &plan) {
  const int pieces = plan.valueDim / 8;
  return 32 / std::min(32, pieces & -pieces);
}

/// As many as keyTilePlaces says, and the counter.
static Value countWork(KernelBuilder &t, const BackwardPlan &plan) {
  Value pairs = t.add(t.div(t.field(t.params(), "total_k"), t.named("kPairKeys")),
                      t.field(t.params(), "batch"));
  return t.add(t.mul(pairs, t.number(2 * plan.kvHeads)), t.number(1), "work");
}

BuiltKernel buildBackwardRows(ModuleOp module, const BackwardPlan &plan, bool opensItems,
                              bool stores) {
  KernelBuilder t(
      module, "backward_rows",
      llvm::formatv("backward_rows of {0}: log-sum-exp and sum of dO * out of each query "
                    "row, {1} of a warp.",
                    plan.method, warpRows(plan))
          .str(),
      32 * kWarps, 1);
  const int rows = kWarps * warpRows(plan);
  t.constant("kHeads", plan.heads, "query heads");
  t.constant("kGroup", plan.group, "query heads whose statistics lie side by side");
  t.constant("kValueDim", plan.valueDim, "elements of one value or output row");
  t.constant("kRows", rows, "rows of one block of threads");
  t.constant("kWarpRows", warpRows(plan), "rows of one warp");
  if (opensItems) {
    t.constant("kPairKeys", kPairKeys, "keys of one item of backward_keys");
    t.leaf("open_key_items",
           {backwardBuffer(t, plan, BackwardBuffer::KeyItems), countWork(t, plan)});
  }
  if (stores) // two numbers of each range
    t.leaf("open_key_items", {backwardBuffer(t, plan, BackwardBuffer::Changes),
                              t.mul(t.field(t.params(), "parts"), t.number(2))});
  Value ofWarp = t.mul(t.value("warp", "warp_index"), t.named("kWarpRows"));
  Value row = t.add(t.mul(t.blockIndex('x'), t.named("kRows")), ofWarp, "first_row");
  t.leaf("store_statistics",
         {backwardBuffer(t, BackwardBuffer::Statistics), t.pointer("out"), t.pointer("dout"),
          t.pointer("lse"), row, t.field(t.params(), "total_q")},
         {"@kHeads", "@kGroup", "@kValueDim", plan.element});
  BuiltKernel built{t.finish(), {}};
  built.recipe.step = "backward";
  built.recipe.gridX = llvm::formatv("ceil_div(total_q * {0}, {1})", plan.heads, rows).str();
  if (opensItems)
    built.recipe.gridX = "max(1, " + built.recipe.gridX + ")";
  built.recipe.gridY = "1";
  return built;
}

/// The form of backward_keys: sizes on warpgroups, or none on warps. `config` holds the choice on
/// exit. Error: Unsupported, where it asks for warpgroups and they do not fit.
static Result<std::optional<KeyWarpgroupSizes>>
chooseKeysForm(const BackwardPlan &plan, const Target &target, Config &config) {
  std::optional<KeyWarpgroupSizes> sizes;
  const bool hasSizes = config.backwardKeyStages || config.backwardKeyRows || // of warps
                        config.backwardTileKeys || config.backwardRangeTokens;
  const bool isAsked = config.backwardKeys == BackwardForm::Warpgroups;
  if (isAsked || (config.backwardKeys == BackwardForm::Default && !hasSizes)) {
    Result<KeyWarpgroupSizes> chosen = chooseKeysOnWarpgroups(plan, target);
    if (!chosen && isAsked)
      return tl::unexpected(chosen.error());
    if (chosen)
      sizes = *chosen;
  }
  config.backwardKeys = sizes ? BackwardForm::Warpgroups : BackwardForm::Warps;
  return sizes;
}

/// Whether changes are stored; `config` holds the choice on exit. Error: Unsupported, where it asks
/// for it and they cannot be.
static Result<bool> choosesStored(const BackwardPlan &plan,
                                  const std::optional<KeyWarpgroupSizes> &sizes, Config &config) {
  const bool asked = config.backwardChanges == BackwardChanges::Stored;
  if (!asked) {
    config.backwardChanges = BackwardChanges::Remade;
    return false;
  }
  if (config.backwardQueries == BackwardForm::Warps)
    return fail(ErrorKind::Unsupported,
                "backward_changes=stored is read by warpgroups: leave out backward_queries=warps");
  if (!sizes)
    return fail(ErrorKind::Unsupported,
                "backward_changes=stored needs backward_keys on warpgroups: leave it out, or take "
                "backward_keys=warpgroups to see what stands against it");
  WINNOW_CHECK(checkStoredChanges(plan, *sizes));
  constexpr int kChunkMiB = 8192;
  if (config.backwardChunkMiB == 0)
    config.backwardChunkMiB = kChunkMiB;
  return true;
}

Result<std::vector<BuiltKernel>> buildBackward(ModuleOp module, const BackwardPlan &plan,
                                               const Target &target, ProgramImage &image) {
  Config config = image.config;
  WINNOW_TRY(const auto keySizes, chooseKeysForm(plan, target, config));
  WINNOW_TRY(const bool stores, choosesStored(plan, keySizes, config));
  std::vector<BuiltKernel> kernels{buildBackwardRows(module, plan, keySizes.has_value(), stores)};
  auto buffer = [&](const char *name, const std::string &bytes) {
    image.backwardBuffers.push_back({name, bytes});
  };
  buffer("row_statistics", llvm::formatv("8 * total_q * {0}", plan.heads).str());
  if (plan.selects()) {
    auto slots = [&](int keys) {
      return llvm::formatv("{0} * (total_k / {1} + batch)", selections(plan), keys).str();
    };
    const bool byPairs = keySizes.has_value();
    // A block lies in so many pairs, each of which lists its tokens.
    const int pairs = plan.block / kPairKeys + (plan.block % kPairKeys != 0);
    buffer("token_bits", slots(plan.block) + " * ceil_div(max_q, 256) * 32");
    buffer("token_ranges",
           byPairs ? llvm::formatv("8 + {0} * ", 8 * kListsOfPair).str() + slots(kPairKeys)
                   : "8 + 8 * " + slots(plan.block));
    buffer("token_lists",
           llvm::formatv("4 * total_q * {0}", selections(plan) * plan.topk * (byPairs ? pairs : 1))
               .str());
    kernels.push_back(buildBackwardMarks(module, plan));
    kernels.push_back(buildBackwardLists(module, plan, byPairs));
  }
  if (stores) {
    describeKeyItems(plan, stores, image);
    describeChanges(plan, config.backwardChunkMiB, image);
    kernels.push_back(buildBackwardPlaces(module, plan));
    kernels.push_back(
        buildBackwardKeysOnWarpgroups(module, plan, *keySizes, stores, image.backwardMaps));
    WINNOW_TRY(BuiltKernel queries,
               buildQueriesFromChanges(module, plan, target, image.backwardMaps));
    config.backwardQueries = BackwardForm::Warpgroups;
    kernels.push_back(std::move(queries));
    kernels.back().config = config;
    return kernels;
  }
  WINNOW_TRY(BuiltKernel queries,
             buildBackwardQueries(module, plan, target, config, image.backwardMaps));
  kernels.push_back(std::move(queries));
  if (keySizes) {
    describeKeyItems(plan, stores, image);
    kernels.push_back(
        buildBackwardKeysOnWarpgroups(module, plan, *keySizes, stores, image.backwardMaps));
  } else {
    WINNOW_TRY(BuiltKernel keys, buildBackwardKeys(module, plan, target, config));
    kernels.push_back(std::move(keys));
    if (plan.selects()) {
      describeRanges(plan, config, image);
      kernels.push_back(buildBackwardJoin(module, plan));
    }
  }
  kernels.back().config = config;
  return kernels;
}

} // namespace winnow

// The rows of the registry, and how a program's kernels are built by them.
#include "compiler/driver/KernelRegistry.h"
#include "compiler/kernels/step/Step.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;

namespace winnow {
namespace {

using Kernels = Result<std::vector<BuiltKernel>>;

Kernels one(Result<BuiltKernel> kernel) {
  return std::move(kernel).map([](BuiltKernel built) { return std::vector{std::move(built)}; });
}

Kernels summarize(KernelContext &c) {
  const SelectionPlan &plan = *c.plans.selection;
  std::vector<BuiltKernel> kernels;
  if (plan.keepsRows()) {
    kernels.push_back(buildAppend(c.module, plan));
    for (const SelectionPlan::Summary &summary : plan.summaries)
      c.image.summaries.push_back({summary.window, summary.stride});
  }
  for (BuiltKernel &kernel : buildSummarize(c.module, plan, c.scores)) {
    leaveDecode(plan, kernel);
    kernels.push_back(std::move(kernel));
  }
  return kernels;
}

/// Adds the score kernels of decode, where there are some.
void addDecode(KernelContext &c, std::vector<BuiltKernel> &kernels) {
  const SelectionPlan &plan = *c.plans.selection;
  if (plan.keepsRows())
    kernels.push_back(buildScoreDecode(c.module, plan, c.scores, c.target));
}

Kernels scoreOnWarpgroups(KernelContext &c) {
  const SelectionPlan &plan = *c.plans.selection;
  auto build = [&](bool selects) {
    BuiltKernel kernel =
        buildScoreWarpgroups(c.module, plan, c.scores, c.image.tensorMaps, selects);
    leaveDecode(plan, kernel);
    return kernel;
  };
  std::vector<BuiltKernel> kernels{build(/*selects=*/false)};
  addDecode(c, kernels);
  if (c.scores.fused)
    kernels.push_back(build(/*selects=*/true));
  return kernels;
}

Kernels scoreOnWarps(KernelContext &c) {
  const SelectionPlan &plan = *c.plans.selection;
  WINNOW_TRY(BuiltKernel score, buildScore(c.module, plan, c.scores, c.target, c.image.config));
  leaveDecode(plan, score);
  std::vector<BuiltKernel> kernels{std::move(score)};
  addDecode(c, kernels);
  return kernels;
}

Kernels topK(KernelContext &c) {
  const SelectionPlan &plan = *c.plans.selection;
  if (!plan.scores())
    return one(buildForced(c.module, plan));
  std::vector<BuiltKernel> kernels = c.scores.ranks ? buildTopKRanks(c.module, plan, c.scores)
                                                    : buildTopK(c.module, plan, c.scores);
  if (plan.normalizer < 0)
    return kernels;
  kernels.push_back(buildRescore(c.module, plan, c.scores));
  leaveDecode(plan, kernels.back());
  if (plan.keepsRows() && !(c.scores.ranks && plan.weighsHeads())) // whose top_k rescores
    kernels.push_back(buildRescore(c.module, plan, c.scores.ofKeptRows()));
  return kernels;
}

/// A row tile has 16 rows: more heads that share a selection are attended for as several tiles of
/// 16 heads with the same ids.
template <class Plan> Plan inHeadTiles(Plan plan) {
  plan.headTiles = std::max(1, plan.group / 16);
  plan.group /= plan.headTiles;
  return plan;
}

/// `attend` for long query segments, and of paged programs decode kernels for the others.
Kernels withDecode(KernelContext &c, std::vector<BuiltKernel> kernels) {
  if (!c.plans.attend.paged)
    return kernels;
  for (BuiltKernel &attend : kernels)
    launchWhen(attend, "1 - " + attendsByDecode());
  const Config config = kernels.front().config.value_or(c.image.config);
  const AttendPlan plan = inHeadTiles(c.plans.attend);
  const bool hasStep = c.plans.selection && c.scores.step;
  const int values = static_cast<int>(c.image.buffers.size());
  WINNOW_TRY(std::vector<BuiltKernel> decode,
             buildAttendDecode(c.module, plan, c.target, config, c.image,
                               hasStep ? stepParts(*c.plans.selection) : ""));
  if (hasStep) {
    for (BuiltKernel &kernel : decode)
      launchWhen(kernel, "step == 0");
    decode.push_back(
        buildDecodeStep(c.module, *c.plans.selection, plan, c.scores, values, values + 1));
  }
  for (BuiltKernel &kernel : decode)
    kernels.push_back(std::move(kernel));
  return kernels;
}

Kernels attendOnWarps(KernelContext &c) {
  WINNOW_TRY(BuiltKernel attend,
             buildAttend(c.module, inHeadTiles(c.plans.attend), c.target, c.image.config));
  return withDecode(c, {std::move(attend)});
}

/// Of paged programs a second kernel serves the launches whose pages cut key tiles into pieces too
/// small for bulk copies.
Kernels attendOnWarpgroups(KernelContext &c) {
  const AttendPlan plan = inHeadTiles(c.plans.attend);
  std::vector<BuiltKernel> kernels;
  WINNOW_TRY(BuiltKernel attend,
             buildAttendWarpgroups(c.module, plan, c.target, c.image.config, c.image.tensorMaps));
  kernels.push_back(std::move(attend));
  if (plan.paged) {
    launchWhen(kernels[0], "box_rows > 0");
    WINNOW_TRY(BuiltKernel any, buildAttend(c.module, plan, c.target, {}, "attend_any_pages"));
    launchWhen(any, "box_rows == 0");
    any.config.reset(); // the program's is that of `attend`
    kernels.push_back(std::move(any));
  }
  return withDecode(c, std::move(kernels));
}

Kernels backwardOnWarps(KernelContext &c) {
  return buildBackward(c.module, inHeadTiles(*c.plans.backward), c.target, c.image);
}

/// Whether one kernel makes a whole step of decode.
Status planStep(KernelContext &c) {
  const SelectionPlan &plan = *c.plans.selection;
  const bool serves =
      plan.keepsRows() && makesStep(plan, inHeadTiles(c.plans.attend), c.scores, c.target);
  DecodeForm &form = c.scores.config.decodeForm;
  const bool wanted = form == DecodeForm::Step;
  if (wanted && !serves)
    return fail(
        ErrorKind::Unsupported,
        "decode_form=step needs paged tensors of 16 bits on Hopper, scores that are softmax "
        "weights, up to 16 query heads per selection, rows of up to 128 elements, blocks of 4 to 8 "
        "summaries, and no rewriting of logits: leave it out or take decode_form=chain");
  if (form == DecodeForm::Default && serves)
    form = DecodeForm::Chain;
  c.scores.step = wanted;
  return {};
}

/// What the kernels of a selection must agree on, chosen before the first of them is built.
Status planScores(KernelContext &c) {
  const SelectionPlan &plan = *c.plans.selection;
  c.image.selectHeads = plan.selectHeads();
  if (!plan.scores())
    return {};
  WINNOW_TRY(const KernelEntry *score, findKernel("score", c.image.spec, c.target, c.image.config));
  c.scores = planScore(plan, score->warpgroups, c.image.config);
  if (c.target.hasClusters && selectsInOneKernel(plan, c.scores)) {
    chooseDecode(c.scores.config);
    c.scores.clusters = c.scores.config.decodeClusters != DecodeClusters::None;
  }
  WINNOW_CHECK(planStep(c));
  c.image.config = c.scores.config;
  if (c.image.config.scoreForm == ScoreForm::Fused && !c.scores.fused)
    return fail(
        ErrorKind::Unsupported,
        "score_form=fused needs products of warpgroups and scores that are kept as 16-bit ranks");
  describeScores(c.image, plan, c.scores);
  return {};
}

/// Scores on warpgroups keep 512 query rows and a ring of summaries in shared memory, which longer
/// rows and larger groups do not leave room for.
constexpr int kShortDims[] = {64, 96, 128}, kShortFp8Dims[] = {64, 128},
              kSmallGroups[] = {1, 2, 3, 4, 5, 6, 7, 8, 12, 16};

/// Attention may be asked for on warps where both are there: a warp skips what its own few tokens
/// do not want, while the 64 rows of a warpgroup hold many tokens of a small group.
constexpr KernelEntry kEntries[] = {
    {"summarize", false, {kElementTypes, kHeadDims, {}, {}, {}, 0, kFp8Dims}, summarize},
    {"score",
     true,
     {kElementTypes, kShortDims, {}, kSmallGroups, kBlockSizes, 0, kShortFp8Dims},
     scoreOnWarpgroups},
    {"score",
     false,
     {kElementTypes, kHeadDims, {}, kGroups, kBlockSizes, 0, kFp8Dims},
     scoreOnWarps},
    {"top_k", false, {kElementTypes, {}, {}, kGroups, kBlockSizes, kMostTopk, kFp8Dims}, topK},
    {"attend",
     true,
     {kElementTypes, kHeadDims, kHeadDims, kGroups, kBlockSizes, kMostTopk},
     attendOnWarpgroups},
    {"attend",
     false,
     {kElementTypes, kHeadDims, kHeadDims, kGroups, kBlockSizes, kMostTopk, kFp8Dims},
     attendOnWarps},
    {"backward",
     false,
     {kElementTypes, kHeadDims, kHeadDims, kGroups, kBlockSizes, kMostTopk},
     backwardOnWarps},
};

} // namespace

ArrayRef<KernelEntry> kernelEntries() { return kEntries; }

Result<const KernelEntry *> findKernel(StringRef kernel, const Spec &spec, const Target &target,
                                       const Config &config) {
  const AttendForm asked = kernel == "attend" ? config.attendForm : AttendForm::Default;
  if (spec.hasFp8Keys() && !target.hasFp8Conversion)
    return fail(
        ErrorKind::Unsupported,
        llvm::formatv("keys and values of type {0} need a conversion that {1} has not: take "
                      "kv_dtype same, or a GPU of compute capability 8.9 or newer",
                      name(spec.kvDtype), target.arch)
            .str());
  Status served = fail(ErrorKind::Unsupported, "nothing builds a kernel " + kernel.str());
  for (const KernelEntry &entry : kernelEntries()) {
    if (kernel != entry.kernel ||
        asked == (entry.warpgroups ? AttendForm::Warps : AttendForm::Warpgroups))
      continue;
    if (entry.warpgroups && !(target.hasWarpgroupMma && target.hasBulkCopy))
      served =
          fail(ErrorKind::Unsupported,
               llvm::formatv("{0}_form=warpgroups needs products of warpgroups, which {1} has not",
                             kernel, target.arch)
                   .str());
    else
      served = checkServed("kernel " + kernel.str(), entry.features, spec);
    if (served)
      return &entry;
  }
  return tl::unexpected<Error>(served.error());
}

Kernels buildKernels(select::MethodOp method, const Target &target, ModuleOp module,
                     ProgramImage &image) {
  std::vector<const KernelEntry *> entries;
  for (auto kernel : method.getOps<select::KernelOp>()) {
    WINNOW_TRY(const KernelEntry *entry,
               findKernel(kernel.getName(), image.spec, target, image.config));
    entries.push_back(entry);
  }
  WINNOW_TRY(MethodPlans plans, planMethod(method));
  plans.attend.decodePartTiles = image.config.decodePartTiles;
  if (plans.selection)
    plans.selection->decodePartTiles = image.config.decodePartTiles;
  if (plans.attend.crossing)
    image.denseLength = plans.attend.crossing->formula(kDecodeTokens);
  KernelContext context{module, plans, target, image, {}};
  if (plans.selection)
    WINNOW_CHECK(planScores(context));
  std::vector<BuiltKernel> built;
  for (const KernelEntry *entry : entries) {
    WINNOW_TRY(std::vector<BuiltKernel> kernels, entry->build(context));
    for (BuiltKernel &kernel : kernels) {
      kernel.recipe.early = target.hasEarlyLaunch &&
                            !kernel.op.getBody().getOps<tile::WaitEarlierKernelsOp>().empty();
      image.config = kernel.config.value_or(image.config);
      leaveDense(plans.attend, kernel);
      const std::string &step = kernel.recipe.step;
      if (context.scores.step &&
          (step == "append" || step == "score" || step == "top_k" || step == "rescore"))
        launchWhen(kernel, "step == 0");
      built.push_back(std::move(kernel));
    }
  }
  return built;
}

} // namespace winnow

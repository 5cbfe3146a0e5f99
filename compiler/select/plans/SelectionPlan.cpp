// Reads a SelectionPlan off the steps of its kernels, and checks the numbers that only make sense
// together.
#include "compiler/select/plans/SelectionPlan.h"
#include "compiler/select/Features.h"
#include "dialect/select/MethodText.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;

namespace winnow {
namespace {

bool isMax(StringRef kind) { return kind == "max"; }
Pooling pooling(StringRef kind) {
  return isMax(kind) ? Pooling::Max : kind == "sum" ? Pooling::Sum : Pooling::Overlap;
}

class SelectionPlanner {
public:
  explicit SelectionPlanner(select::AttendOp attend) : attend(attend), plan(attend) {}
  Result<SelectionPlan> run();

private:
  Status readSteps(select::TopKOp topK);
  Status checkNumbers();
  int summaryIndex(Value rows) {
    return static_cast<int>(std::distance(summaries.begin(), llvm::find(summaries, origin(rows))));
  }

  select::AttendOp attend;
  SelectionPlan plan;
  SmallVector<Operation *> summaries;
  select::ScoreOp score;
  select::ForceOp force;
  select::PoolOp pool;
};

/// Walks the chain top_k <- force <- pool <- combine_heads <- score <- logsumexp, each of force and
/// combine optional.
Status SelectionPlanner::readSteps(select::TopKOp topK) {
  Operation *step = origin(topK.getScores());
  if ((force = dyn_cast<select::ForceOp>(step))) {
    plan.init = number(force.getInit());
    plan.local = number(force.getLocal());
    step = origin(force.getScores());
  }
  if (!(pool = dyn_cast<select::PoolOp>(step)))
    return refuse(
        step, ErrorKind::Unsupported,
        "select.top_k takes the scores of select.pool, with at most one select.force between");
  plan.pool = pooling(pool.getKind());
  step = origin(pool.getScores());
  if (auto combine = dyn_cast<select::CombineHeadsOp>(step)) {
    plan.combine = isMax(combine.getKind()) ? Reduction::Max : Reduction::Sum;
    step = origin(combine.getScores());
  } else {
    plan.group = 1; // one selection per query head
  }
  score = cast<select::ScoreOp>(step);
  plan.fine = summaryIndex(score.getRows());
  plan.visibleBySegment = cast<StringAttr>(score.getVisible()).getValue() == "infllmv2";
  plan.scoreHook = score.getRewrite().empty() ? nullptr : &score.getRewrite();
  if (score.getLse()) {
    auto lse = cast<select::LogSumExpOp>(origin(score.getLse()));
    plan.normalizer = summaryIndex(lse.getRows());
    if (lse.getVisible() != score.getVisible())
      return refuse(lse, ErrorKind::Unsupported,
                    "its rule of visibility differs from that of the score at " + place(score) +
                        ": give both the same");
  }
  return checkNumbers();
}

Status SelectionPlanner::checkNumbers() {
  const int64_t forced = int64_t(plan.init) + plan.local;
  if (forced > plan.topk)
    return refuse(force, ErrorKind::Usage,
                  llvm::formatv("{0} first and {1} local blocks are forced, but only {2} may be "
                                "selected: {3}lower init or local",
                                plan.init, plan.local, plan.topk,
                                forced > kMostTopk
                                    ? std::string()
                                    : llvm::formatv("raise --topk to {0} or ", forced).str())
                      .str());
  for (int index : {plan.fine, plan.normalizer})
    if (index >= 0 && plan.summaries[index].window > kLongestSequence)
      return refuse(summaries[index], ErrorKind::Unsupported,
                    llvm::formatv("a window of {0} keys is longer than any sequence: at most {1}",
                                  plan.summaries[index].window, kLongestSequence)
                        .str());
  const int window = plan.summaries[plan.fine].window, stride = plan.summaries[plan.fine].stride;
  for (int index : {plan.fine, plan.normalizer})
    if (plan.visibleBySegment && index >= 0 &&
        plan.summaries[index].window != 2 * plan.summaries[index].stride)
      return refuse(summaries[index], ErrorKind::Unsupported,
                    llvm::formatv("the visibility rule infllmv2 is defined for windows of two "
                                  "strides, here {0} keys, not "
                                  "{1}: change the window or take the rule none",
                                  2 * plan.summaries[index].stride, plan.summaries[index].window)
                        .str());
  // The score kernel pools in registers: a thread holds whole blocks of 1, 2, 4 or 8 rows.
  const int strides[] = {plan.block, plan.block / 2, plan.block / 4, plan.block / 8};
  if (!llvm::is_contained(strides, stride))
    return refuse(summaries[plan.fine], ErrorKind::Unsupported,
                  llvm::formatv("blocks of {0} keys must hold 1, 2, 4 or 8 strides of the scored "
                                "summary, not {0} / {1}; the "
                                "nearest stride is {2}",
                                plan.block, stride,
                                *llvm::min_element(strides,
                                                   [&](int a, int b) {
                                                     return std::abs(a - stride) <
                                                            std::abs(b - stride);
                                                   }))
                      .str());
  if (plan.pad() > plan.rowsPerBlock())
    return refuse(summaries[plan.fine], ErrorKind::Unsupported,
                  llvm::formatv("a window of {0} keys at stride {1} reaches over more than one "
                                "block of {2}: the widest window "
                                "is {3}",
                                window, stride, plan.block, plan.block + stride)
                      .str());
  if (forced == plan.topk) { // no score is ever looked at, so none is made
    plan.summaries.clear();
    plan.fine = plan.normalizer = -1;
    plan.scoreHook = nullptr;
  }
  return {};
}

Result<SelectionPlan> SelectionPlanner::run() {
  attend->getParentOfType<select::MethodOp>().walk([&](select::SummarizeOp op) {
    summaries.push_back(op);
    plan.summaries.push_back({number(op.getWindow()), number(op.getStride())});
  });
  WINNOW_CHECK(readSteps(cast<select::TopKOp>(origin(attend.getIds()))));
  return checkHook(plan.scoreHook).map([&] { return plan; });
}

} // namespace

Result<SelectionPlan> planSelection(select::AttendOp attend) {
  return SelectionPlanner(attend).run();
}

int NormalizerMeans::open() const {
  int open = 0;
  for (int last = 0; last < std::min(8, reach()); ++last)
    open += (last + 8 - reach()) % stride == 0;
  return open;
}

std::optional<NormalizerMeans> SelectionPlan::normalizerMeans() const {
  if (normalizer < 0)
    return std::nullopt;
  if (normalizer == fine)
    return NormalizerMeans{1, 1, 1};
  const Summary &scored = summaries[fine], &coarse = summaries[normalizer];
  if (coarse.window % scored.window != 0 || scored.window % scored.stride != 0 ||
      coarse.stride % scored.stride != 0)
    return std::nullopt;
  const NormalizerMeans means{coarse.window / scored.window, scored.window / scored.stride,
                              coarse.stride / scored.stride};
  if (means.reach() > 8 || 8 % means.stride != 0)
    return std::nullopt;
  return means;
}

} // namespace winnow

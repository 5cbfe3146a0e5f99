// Reads a MethodPlan off a specialised method, and checks the numbers that only make sense
// together.
#include "compiler/select/MethodPlan.h"
#include "compiler/select/SelectPasses.h"
#include "dialect/select/RegionCheck.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;

namespace winnow {
namespace {

int number(Attribute setting) { return static_cast<int>(cast<IntegerAttr>(setting).getInt()); }
constexpr int kLongestSequence = 1 << 20; ///< keys
constexpr int kMostBlocks = 256;          ///< --topk at most

bool isMax(StringRef kind) { return kind == "max"; }
Pooling pooling(StringRef kind) {
  return isMax(kind) ? Pooling::Max : kind == "sum" ? Pooling::Sum : Pooling::Overlap;
}

/// The step that made a value, looking through the boundary of a kernel.
Operation *origin(Value value) {
  auto result = cast<OpResult>(value);
  if (auto kernel = dyn_cast<select::KernelOp>(result.getOwner()))
    return kernel.getBody()
        .front()
        .getTerminator()
        ->getOperand(result.getResultNumber())
        .getDefiningOp();
  return result.getOwner();
}

class Planner {
public:
  explicit Planner(select::MethodOp method) : method(method) {}
  Result<MethodPlan> run();

private:
  Status readSelection(select::TopKOp topK);
  Status checkSelection();
  Status checkRegions();
  Status refuse(Operation *op, ErrorKind kind, const std::string &why) {
    return fail(kind, place(op) + ": " + why);
  }
  int summaryIndex(Value rows) {
    return static_cast<int>(std::distance(summaries.begin(), llvm::find(summaries, origin(rows))));
  }

  select::MethodOp method;
  MethodPlan plan;
  SmallVector<Operation *> summaries;
  select::ScoreOp score;
  select::ForceOp force;
  select::PoolOp pool;
};

/// Walks the chain top_k <- force <- pool <- combine_heads <- score <- logsumexp, each of force and
/// combine optional.
Status Planner::readSelection(select::TopKOp topK) {
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
  plan.selective = true;
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
  return checkSelection();
}

Status Planner::checkSelection() {
  const int64_t forced = int64_t(plan.init) + plan.local;
  if (forced > plan.topk)
    return refuse(force, ErrorKind::Usage,
                  llvm::formatv("{0} first and {1} local blocks are forced, but only {2} may be "
                                "selected: {3}lower init or local",
                                plan.init, plan.local, plan.topk,
                                forced > kMostBlocks
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

/// What the regions hold must mean the same on every back end.
Status Planner::checkRegions() {
  for (Region *region : {plan.scoreHook, plan.logitHook})
    if (region)
      if (std::optional<RegionFault> fault = findRegionFault(*region))
        return refuse(fault->op, ErrorKind::Unsupported, fault->why);
  return {};
}

Result<MethodPlan> Planner::run() {
  DictionaryAttr spec = method.getSpecAttr();
  auto entry = [&](const char *name) { return number(spec.get(name)); };
  plan.method = method.getSymName().str();
  plan.heads = entry("heads"), plan.kvHeads = entry("kv_heads"), plan.headDim = entry("head_dim");
  plan.valueDim = entry("value_dim"), plan.block = entry("block"), plan.topk = entry("topk");
  plan.group = plan.heads / plan.kvHeads;
  bool isBf16 = cast<StringAttr>(spec.get("dtype")).getValue() == "bf16";
  plan.element = isBf16 ? Type(BFloat16Type::get(method.getContext()))
                        : Type(Float16Type::get(method.getContext()));
  plan.scale = cast<FloatAttr>(spec.get("scale")).getValueAsDouble();

  method.walk([&](select::SummarizeOp op) {
    summaries.push_back(op);
    plan.summaries.push_back({number(op.getWindow()), number(op.getStride())});
  });
  auto output = cast<select::ReturnOp>(method.getBody().front().getTerminator()).getOutput();
  auto attend = cast<select::AttendOp>(origin(output));
  plan.logitHook = attend.getRewrite().empty() ? nullptr : &attend.getRewrite();
  plan.denseLength = attend.getDenseLen() ? number(*attend.getDenseLen()) : -1;
  if (attend.getIds())
    if (Status s = readSelection(cast<select::TopKOp>(origin(attend.getIds()))); !s)
      return tl::unexpected<Error>(s.error());
  if (Status s = checkRegions(); !s)
    return tl::unexpected<Error>(s.error());
  return plan;
}

} // namespace

Result<MethodPlan> planMethod(select::MethodOp method) { return Planner(method).run(); }

} // namespace winnow

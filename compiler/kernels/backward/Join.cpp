// Ranges of tokens, and the backward_join kernel: a key block that every token selects would be one
// block of threads' work for as long as the segment is. So the tokens of long segments are cut into
// ranges, whose sums of dK and dV backward_keys leaves in fp32; here they are added in the order of
// the ranges.
#include "compiler/kernels/backward/Backward.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;

namespace winnow {

/// Query tokens of a range, about; tokens that may be cut into ranges of that length; and bytes
/// that their sums may take.
static constexpr int kRangeTokens = 16384, kMostRangedTokens = 131072;
static constexpr int64_t kMostPartBytes = int64_t(4) << 30;
static constexpr int kThreads = 256;

void describeRanges(const BackwardPlan &plan, Config &config, ProgramImage &image) {
  int &tokens = config.backwardRangeTokens;
  tokens = tokens ? tokens : kRangeTokens;
  image.parts = llvm::formatv("max(1, min({0}, ceil_div(max_q, {1}), {2} / max(1, total_k * {3})))",
                              kMostRangedTokens / tokens, tokens, kMostPartBytes,
                              4 * plan.kvHeads * (plan.headDim + plan.valueDim))
                    .str();
  auto describe = [&](const char *name, int dim) {
    image.backwardBuffers.push_back(
        {name, llvm::formatv("(parts > 1) * parts * total_k * {0}", 4 * plan.kvHeads * dim).str()});
  };
  describe("key_parts", plan.headDim);
  describe("value_parts", plan.valueDim);
}

BuiltKernel buildBackwardJoin(ModuleOp module, const BackwardPlan &plan) {
  KernelBuilder t(module, "backward_join",
                  llvm::formatv("backward_join of {0}: gradients of keys and values from the sums "
                                "over ranges of tokens; a thread has four elements of each.",
                                plan.method)
                      .str(),
                  kThreads, 1);
  const int keyWidth = plan.kvHeads * plan.headDim, valueWidth = plan.kvHeads * plan.valueDim;
  t.constant("kKeyWidth", keyWidth, "elements of a key, all heads");
  t.constant("kValueWidth", valueWidth, "elements of a value, all heads");
  t.constant("kThreads", kThreads);
  t.constant("kSoftmaxScale", plan.scale, "what a logit has been multiplied by");
  Value index =
      t.add(t.mul(t.blockIndex('x'), t.named("kThreads")), t.value("", "thread_index"), "index");
  Value ranges = t.field(t.params(), "parts"), totalK = t.field(t.params(), "total_k");
  auto join = [&](const char *gradient, BackwardBuffer parts, const char *width, Value factor) {
    t.leaf("join_key_parts",
           {t.pointer(gradient), backwardBuffer(t, parts), ranges, totalK, index, factor},
           {plan.element, width});
  };
  join("dk", BackwardBuffer::KeyParts, "@kKeyWidth", t.namedReal("kSoftmaxScale"));
  join("dv", BackwardBuffer::ValueParts, "@kValueWidth", t.real(1));
  BuiltKernel built{t.finish(), {}};
  built.recipe.step = "backward";
  built.recipe.when = "parts > 1";
  built.recipe.gridX =
      llvm::formatv("ceil_div(total_k * {0}, {1})", std::max(keyWidth, valueWidth), 4 * kThreads)
          .str();
  built.recipe.gridY = "1";
  return built;
}

} // namespace winnow

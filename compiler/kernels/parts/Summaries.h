// Part: the compressed keys that queries are scored against. Which rows of them there are, which of
// these a token sees, and where they lie. Serves score on both levels, rescore and summarize;
// device functions: templates/select/{summarize,summary_images,scoring}.cuh.
#pragma once
#include "compiler/kernels/parts/SelectionPart.h"
#include "llvm/Support/MathExtras.h"

namespace winnow {

class Summaries : public SelectionPart {
public:
  Summaries(KernelBuilder &t, const SelectionPlan &plan, const ScorePlan &scores)
      : Summaries(t, plan, scores, plan.fine) {}
  /// Where kWindow and kStride are those of summary `named`, not of the scored one.
  Summaries(KernelBuilder &t, const SelectionPlan &plan, const ScorePlan &scores, int named)
      : SelectionPart(t, plan, scores), named(named) {}

  /// kWindow to kPad: windows and strides of the scored summaries and of the normaliser's, and how
  /// they lie in blocks.
  void constants() {
    t.constant("kWindow", plan.summaries[plan.fine].window, "keys of one summary");
    t.constant("kStride", plan.summaries[plan.fine].stride, "keys from one summary to the next");
    if (plan.normalizer >= 0 && plan.normalizer != plan.fine) {
      t.constant("kCoarseWindow", plan.summaries[plan.normalizer].window,
                 "the same for the normaliser's summaries");
      t.constant("kCoarseStride", plan.summaries[plan.normalizer].stride);
    }
    planConstants(t, plan, {"kRowsPerBlock", "kPad"});
  }
  /// kScale. After a hook the scale is part of what it sees; after a softmax everything is base 2.
  void scaleConstant() {
    const bool softmax = plan.normalizer >= 0;
    t.constant("kScale",
               scores.folded ? 1.0
               : softmax     ? plan.scale * llvm::numbers::log2e
                             : plan.scale,
               scores.folded ? "summaries hold the softmax scale times log2 e"
               : softmax     ? "softmax scale times log2 e"
                             : "scale of a score");
  }

  /// Rows of summary `index` that exist for the tile's sequence.
  Value rows(int index, Value tile, StringRef hint) {
    return rowsOf(index, t.field(tile, "k_length"), hint);
  }
  /// Those of a sequence of so many keys.
  Value rowsOf(int index, Value keys, StringRef hint) {
    return t.value(hint, "summary_rows", {keys}, {window(index), stride(index)});
  }
  /// How many of these `rows` the tile's first token sees.
  Value visible(int index, Value tile, Value rows, StringRef hint) {
    return visibleAt(index, tile, t.field(tile, "position"), t.field(tile, "first"), rows, hint);
  }
  /// The same of the one `token` behind it.
  Value visible(int index, Value tile, Value rows, StringRef hint, Value token, Value position) {
    return visibleAt(index, tile, position, t.add(t.field(tile, "first"), token), rows, hint);
  }
  Value visible(int index, Value tile, Value rows, StringRef hint, Value token) {
    return visible(index, tile, rows, hint, token, t.add(t.field(tile, "position"), token));
  }
  /// The same of the tile's last token, who sees the most.
  Value visibleToLast(int index, Value tile, Value rows) {
    Value last = t.sub(t.add(t.field(tile, "first"), t.field(tile, "tokens")), t.number(1));
    return visibleAt(index, tile, t.value("", "last_position", {tile}), last, rows, "");
  }
  /// Where the sequence's rows of a KV head lie: the host's, or the workspace's rows or images of
  /// tiles.
  Value source(int index, Value tile, Value kvHead, StringRef hint) {
    if (scores.kept)
      return t.value(hint, "kept_rows", {t.params(), t.number(index), tile, kvHead},
                     {plan.element, window(index), stride(index)});
    Value buffer = t.pointer(t.bufferMember(index)), totalKeys = t.field(t.params(), "total_k");
    const TemplateArgument layout[] = {plan.element, "@kDim", stride(index)};
    if (scores.warpgroups)
      return t.value(hint, "images_of",
                     {buffer, kvHead, totalKeys, t.field(t.params(), "batch"), tile}, layout);
    return t.value(hint, "summary_of", {buffer, kvHead, totalKeys, t.field(tile, "k_row")}, layout);
  }
  Value kvHead(Value head, StringRef hint = "kv_head") {
    return t.div(head, t.div(t.named("kHeads"), t.named("kKvHeads")), hint);
  }
  /// The end of the scored rows that a tile needs whose last token's own block is `own`: blocks
  /// from own - kLocal + 1 on are forced for that token, and no other needs scores behind them.
  Value scoredEnd(Value own) {
    return t.mul(t.add(t.sub(own, t.named("kLocal")), t.number(1)), t.named("kRowsPerBlock"),
                 "fine_end");
  }

private:
  Value visibleAt(int index, Value tile, Value position, Value indexInSegment, Value rows,
                  StringRef hint) {
    if (plan.visibleBySegment)
      return t.value(hint, "visible_by_segment", {indexInSegment, t.field(tile, "q_length"), rows},
                     {stride(index)});
    return t.value(hint, "visible_absolute", {position, rows}, {window(index), stride(index)});
  }
  TemplateArgument window(int index) { return index == named ? "@kWindow" : "@kCoarseWindow"; }
  TemplateArgument stride(int index) { return index == named ? "@kStride" : "@kCoarseStride"; }

  const int named;
};

} // namespace winnow

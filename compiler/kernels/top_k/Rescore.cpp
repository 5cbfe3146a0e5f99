// The rescore kernel: selects for the tokens that top_k has marked because their scores leave the
// range of fp32, by the logarithms of scores (templates/select/rescore.cuh). A few blocks of
// threads look at every row of ids; where nothing is marked they are done.
#include "compiler/kernels/KernelBuilder.h"
#include "compiler/kernels/Kernels.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;

namespace winnow {
namespace {

constexpr int kThreads = 256; ///< also the rows of ids that a block of threads looks at together

class RescoreBuilder {
public:
  RescoreBuilder(ModuleOp module, const SelectionPlan &plan, const ScorePlan &scores)
      : plan(plan), scores(scores),
        t(module, "rescore",
          llvm::formatv("rescore of {0}: tokens whose scores leave the range of fp32 are selected "
                        "for by the logarithms of their scores.",
                        plan.method)
              .str(),
          kThreads, 1) {}
  BuiltKernel build();

private:
  void constants();
  void declare();
  void locate(Value markedRow);
  void measure();
  void search();
  void store();
  Value summaries(int index, StringRef hint);
  Value visible(int index, Value rows, StringRef hint);
  Value rows(int index, StringRef hint);
  const char *window(int index) const { return index == plan.fine ? "@kWindow" : "@kCoarseWindow"; }
  const char *stride(int index) const { return index == plan.fine ? "@kStride" : "@kCoarseStride"; }
  /// Over the warps of the block of threads.
  Value total(Value count, StringRef hint) {
    t.leaf("store_count", {counts, warp, count});
    return t.value(hint, "total_count", {counts});
  }

  const SelectionPlan &plan;
  const ScorePlan &scores;
  TileBuilder t;
  Value marks, queries, normalizers, counts, warp;
  Value row, selectHead, firstHead, tile, ids, octaves, forcedFrom, state;
};

void RescoreBuilder::constants() {
  t.constant("kHeads", plan.heads, "query heads");
  t.constant("kKvHeads", plan.kvHeads, "key/value heads");
  t.constant("kGroup", plan.group, "query heads that share one selection");
  t.constant("kSelectHeads", plan.selectHeads(), "selections per token");
  t.constant("kDim", plan.headDim, "elements of one query or summary row");
  t.constant("kBlock", plan.block, "keys of one selectable block");
  t.constant("kTopK", plan.topk, "selected blocks per token, at most");
  t.constant("kInit", plan.init, "first blocks, always selected");
  t.constant("kLocal", plan.local, "blocks up to the query's own that are always selected");
  t.constant("kSearched", plan.topk - plan.init - plan.local,
             "blocks that are selected by their scores");
  t.constant("kWindow", plan.summaries[plan.fine].window, "keys of one summary");
  t.constant("kStride", plan.summaries[plan.fine].stride, "keys from one summary to the next");
  if (plan.normalizer != plan.fine) {
    t.constant("kCoarseWindow", plan.summaries[plan.normalizer].window,
               "the same for the normaliser's summaries");
    t.constant("kCoarseStride", plan.summaries[plan.normalizer].stride);
  }
  t.constant("kRowsPerBlock", plan.rowsPerBlock(), "summaries per block");
  t.constant("kPad", plan.pad(), "summaries that reach into a block from the one before");
  t.constant("kThreads", kThreads);
  t.constant("kWarps", kThreads / 32);
  t.constant("kScale", scores.folded ? 1.0 : plan.scale * 1.4426950408889634,
             scores.folded ? "summaries hold the softmax scale times log2 e"
                           : "softmax scale times log2 e");
}

void RescoreBuilder::declare() {
  marks = t.shared("marks", t.type("RowMarks", {"@kThreads"}), kThreads / 8);
  queries = t.shared("queries", t.type("HeadQueries", {"@kGroup", "@kDim"}),
                     plan.group * plan.headDim * 4);
  normalizers =
      t.shared("normalizers", t.type("HeadNormalizers", {"@kGroup"}), (plan.group + 3) / 4 * 16);
  counts = t.shared("counts", t.type("WarpCounts", {"@kWarps"}), kThreads / 8);
  warp = t.value("warp", "warp_index", {});
}

Value RescoreBuilder::rows(int index, StringRef hint) {
  return t.value(hint, "summary_rows", {t.field(tile, "k_length")}, {window(index), stride(index)});
}

Value RescoreBuilder::visible(int index, Value rows, StringRef hint) {
  if (plan.visibleBySegment)
    return t.value(hint, "visible_by_segment",
                   {t.field(tile, "first"), t.field(tile, "q_length"), rows}, {stride(index)});
  return t.value(hint, "visible_absolute", {t.field(tile, "position"), rows},
                 {window(index), stride(index)});
}

Value RescoreBuilder::summaries(int index, StringRef hint) {
  Value kvHead = t.div(firstHead, t.div(t.named("kHeads"), t.named("kKvHeads")));
  Value buffer = t.pointer(t.bufferMember(index)), totalKeys = t.field(t.params(), "total_k");
  return scores.warpgroups
             ? t.value(hint, "images_of",
                       {buffer, kvHead, totalKeys, t.field(t.params(), "batch"), tile},
                       {plan.element, "@kDim", stride(index)}, t.type("auto"))
             : t.value(hint, "summary_of", {buffer, kvHead, totalKeys, t.field(tile, "k_row")},
                       {plan.element, "@kDim", stride(index)}, t.type("auto"));
}

/// The token of a marked row of ids, and the places that belong to it.
void RescoreBuilder::locate(Value markedRow) {
  Value tokens = t.field(t.params(), "total_q");
  selectHead = t.div(markedRow, tokens, "select_head");
  row = t.rem(markedRow, tokens, "row");
  firstHead = t.mul(selectHead, t.named("kGroup"), "first_head");
  tile = t.value("tile", "find_token",
                 {t.pointer("cu_q"), t.pointer("cu_k"), t.field(t.params(), "batch"), row}, {},
                 t.type("TokenTile"));
  ids = t.value("ids", "id_row", {t.pointer("ids"), selectHead, tokens, row}, {"@kTopK"},
                t.type("pointer"));
  Value own = t.div(t.field(tile, "position"), t.named("kBlock"), "own");
  forcedFrom = t.add(t.sub(own, t.named("kLocal")), t.number(1), "forced_from");
}

/// The octaves of the token's candidates.
void RescoreBuilder::measure() {
  t.leaf("load_head_queries", {queries, t.pointer("q"), row, firstHead},
         {plan.element, "@kThreads", "@kHeads"});
  Value scale = t.namedReal("kScale");
  Value normalizerRows = rows(plan.normalizer, "normalizer_rows");
  t.leaf("make_head_normalizers",
         {normalizers, queries, summaries(plan.normalizer, "normalizing"),
          visible(plan.normalizer, normalizerRows, ""), scale},
         {"@kThreads"});
  Value fineRows = rows(plan.fine, "fine_rows");
  t.leaf("store_octaves",
         {octaves, normalizers, queries, summaries(plan.fine, "fine"), t.named("kInit"), forcedFrom,
          fineRows, visible(plan.fine, fineRows, ""), scale},
         {t.reduction(plan.combine == Reduction::Max), deviceType(plan.pool), "@kThreads",
          "@kRowsPerBlock", "@kPad"});
  t.leaf("sync_threads", {}); // octaves lie in device memory, which no pass watches over
}

void RescoreBuilder::search() {
  state = t.fragment("search", t.type("ThresholdSearch"));
  t.leaf("start_search", {state, t.named("kSearched")}, {"@kSearched"});
  auto reaching = [&](Value threshold) {
    return t.value("", "count_octaves", {octaves, t.named("kInit"), forcedFrom, threshold},
                   {"@kThreads"});
  };
  t.loop("step", t.number(0), t.number(32), t.number(1), [&](Value step) {
    Value open = t.value("", "is_open", {state}, {}, t.builder.getI1Type());
    t.when(open, [&] {
      Value threshold = t.value("threshold", "next_threshold", {state, step});
      t.leaf("narrow", {state, threshold, total(reaching(threshold), "total")});
      t.builder.getInsertionBlock()->getParentOp()->setAttr("tile.uniform",
                                                            t.builder.getUnitAttr());
    });
  });
}

void RescoreBuilder::store() {
  Value threshold = t.field(state, "threshold");
  Value above = t.value("above", "count_octaves",
                        {octaves, t.named("kInit"), forcedFrom, t.add(threshold, t.number(1))},
                        {"@kThreads"});
  Value ties = t.sub(t.named("kSearched"), total(above, "total_above"), "ties");
  t.when(t.equal(warp, t.number(0)), [&] {
    t.leaf("store_range", {ids, t.number(0), t.number(0), t.named("kInit")});
    t.leaf("store_octave_ids", {ids, octaves, t.named("kInit"), t.named("kInit"), forcedFrom,
                                t.field(state, "threshold"), ties});
    t.leaf("store_range",
           {ids, t.sub(t.named("kTopK"), t.named("kLocal")), forcedFrom, t.named("kLocal")});
  });
}

BuiltKernel RescoreBuilder::build() {
  constants();
  declare();
  Value blocks = t.div(t.sub(t.add(t.field(t.params(), "max_k"), t.named("kBlock")), t.number(1)),
                       t.named("kBlock"));
  octaves = t.value("octaves", "score_row",
                    {t.pointer(t.bufferMember(plan.scoreBuffer() + 1)), t.number(0),
                     t.blockIndex('x'), t.number(0), blocks},
                    {"float"}, t.type("pointer"));
  Value allRows = t.mul(t.named("kSelectHeads"), t.field(t.params(), "total_q"), "rows");
  Value begin = t.mul(t.blockIndex('x'), t.named("kThreads"));
  Value step = t.mul(t.gridDimension('x'), t.named("kThreads"));
  t.loop("first", begin, allRows, step, [&](Value first) {
    t.leaf("find_unordered", {marks, t.pointer("ids"), first, allRows}, {"@kTopK"});
    Value marked = t.value("marked", "count_unordered", {marks});
    t.loop("index", t.number(0), marked, t.number(1), [&](Value index) {
      locate(t.add(first, t.value("", "nth_unordered", {marks, index}), "marked_row"));
      measure();
      search();
      store();
    });
  });
  BuiltKernel built{t.finish(), {}};
  built.recipe.step = "rescore";
  built.recipe.facts = scoreFacts(plan, scores);
  built.recipe.facts.init = plan.init;
  built.recipe.when = llvm::formatv("ceil_div(max_k, {0}) > {1}", plan.block, plan.topk).str();
  built.recipe.gridX = rescoreBlocks(plan);
  built.recipe.gridY = "1";
  return built;
}

} // namespace

std::string rescoreBlocks(const SelectionPlan &plan) {
  return llvm::formatv("min(sm_count, ceil_div({0} * total_q, {1}))", plan.selectHeads(), kThreads)
      .str();
}

BuiltKernel buildRescore(ModuleOp module, const SelectionPlan &plan, const ScorePlan &scores) {
  return RescoreBuilder(module, plan, scores).build();
}

} // namespace winnow

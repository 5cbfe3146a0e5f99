// The rescore kernel: selects for the tokens that top_k has marked because their scores leave the
// range of fp32, by the logarithms of scores (templates/select/rescore.cuh). A few blocks of
// threads look at every row of ids; where nothing is marked they are done.
#include "compiler/kernels/Kernels.h"
#include "compiler/kernels/top_k/Octaves.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;

namespace winnow {
namespace {

constexpr int kThreads = 256; ///< also the rows of ids that a block of threads looks at together

class RescoreBuilder {
public:
  RescoreBuilder(ModuleOp module, const SelectionPlan &plan, const ScorePlan &scores)
      : plan(plan), scores(scores), t(module, name(), title(), kThreads, 1),
        summaries(t, plan, scores), selection(t, plan, scores, kThreads / 32) {}
  BuiltKernel build();

private:
  void constants();
  void selectFor(Value markedRow, Value warp, Value octaves);

  StringRef name() const { return scores.kept ? "rescore_decode" : "rescore"; }
  std::string title() const {
    return llvm::formatv("{0} of {1}: tokens whose scores leave the range of fp32 are selected for "
                         "by the logarithms of their scores.",
                         name(), plan.method)
        .str();
  }

  const SelectionPlan &plan;
  const ScorePlan &scores;
  KernelBuilder t;
  Summaries summaries;
  OctaveSelection selection;
};

void RescoreBuilder::constants() {
  planConstants(t, plan,
                {"kHeads", "kKvHeads", "kGroup", "kSelectHeads", "kDim", "kBlock", "kTopK", "kInit",
                 "kLocal", "kSearched"});
  summaries.constants();
  t.constant("kThreads", kThreads);
  t.constant("kWarps", kThreads / 32);
  summaries.scaleConstant();
}

/// For the token of a marked row of ids.
void RescoreBuilder::selectFor(Value markedRow, Value warp, Value octaves) {
  Value tokens = t.field(t.params(), "total_q");
  Value selectHead = t.div(markedRow, tokens, "select_head");
  Value row = t.rem(markedRow, tokens, "row");
  Value tile = summaries.findToken(row);
  Value ids = t.value("ids", "id_row", {t.pointer("ids"), selectHead, tokens, row}, {"@kTopK"});
  selection.select(tile, selectHead, row, ids, octaves, warp);
}

BuiltKernel RescoreBuilder::build() {
  constants();
  if (plan.paged) {
    t.leaf("start_later_kernels", {});
    t.leaf("wait_earlier_kernels", {});
  }
  Value marks = t.shared("marks", t.type("RowMarks", {"@kThreads"}), kThreads / 8);
  selection.declare();
  Value warp = t.value("warp", "warp_index");
  Value octaves = selection.room(t.blockIndex('x'));
  Value allRows = t.mul(t.named("kSelectHeads"), t.field(t.params(), "total_q"), "rows");
  Value begin = t.mul(t.blockIndex('x'), t.named("kThreads"));
  Value step = t.mul(t.gridDimension('x'), t.named("kThreads"));
  t.loop("first", begin, allRows, step, [&](Value first) {
    t.leaf("find_unordered", {marks, t.pointer("ids"), first, allRows}, {"@kTopK"});
    Value marked = t.value("marked", "count_unordered", {marks});
    t.loop("index", t.number(0), marked, t.number(1), [&](Value index) {
      selectFor(t.add(first, t.value("", "nth_unordered", {marks, index}), "marked_row"), warp,
                octaves);
    });
  });
  BuiltKernel built{t.finish(), {}};
  built.recipe.step = "rescore";
  built.recipe.facts = scoreFacts(plan, scores);
  built.recipe.facts.init = plan.init;
  built.recipe.when = llvm::formatv("ceil_div(max_k, {0}) > {1}", plan.block, plan.topk).str();
  if (scores.kept)
    launchWhen(built, decodes());
  built.recipe.gridX = rescoreBlocks(plan);
  built.recipe.gridY = "1";
  return built;
}

} // namespace

void OctaveSelection::declare() {
  queries = t.shared("queries", t.type("HeadQueries", {"@kGroup", "@kDim"}),
                     plan.group * plan.headDim * 4);
  normalizers =
      t.shared("normalizers", t.type("HeadNormalizers", {"@kGroup"}), (plan.group + 3) / 4 * 16);
  search.declare();
}

mlir::Value OctaveSelection::room(Value index) {
  Value blocks = t.div(t.sub(t.add(t.field(t.params(), "max_k"), t.named("kBlock")), t.number(1)),
                       t.named("kBlock"));
  return t.value(
      "octaves", "score_row",
      {t.pointer(t.bufferMember(plan.scoreBuffer() + 1)), t.number(0), index, t.number(0), blocks},
      {"float"});
}

/// The octaves of the token's candidates.
void OctaveSelection::measure(Value tile, Value selectHead, Value row) {
  Value firstHead = t.mul(selectHead, t.named("kGroup"), "first_head");
  t.leaf("load_head_queries", {queries, t.heads("q", plan.paged), row, firstHead},
         {plan.element, "@kThreads", "@kHeads"});
  Value scale = t.namedReal("kScale");
  Value normalizerRows = summaries.rows(plan.normalizer, tile, "normalizer_rows");
  Value kvHead = summaries.kvHead(firstHead, "");
  t.leaf("make_head_normalizers",
         {normalizers, queries, summaries.source(plan.normalizer, tile, kvHead, "normalizing"),
          summaries.visible(plan.normalizer, tile, normalizerRows, ""), scale},
         {"@kThreads"});
  Value fineRows = summaries.rows(plan.fine, tile, "fine_rows");
  t.leaf("store_octaves",
         {octaves, normalizers, queries, summaries.source(plan.fine, tile, kvHead, "fine"),
          t.named("kInit"), forcedFrom, fineRows, summaries.visible(plan.fine, tile, fineRows, ""),
          scale},
         {blockScores.combine(), blockScores.pool(), "@kThreads", "@kRowsPerBlock", "@kPad"});
  t.leaf("sync_threads", {}); // octaves lie in device memory, which no pass watches over
}

void OctaveSelection::store(Value ids, Value found) {
  Value above = count(t.add(search.threshold(found), t.number(1)), "above");
  Value ties = t.sub(t.named("kSearched"), search.total(above, "total_above"), "ties");
  search.once([&] {
    t.leaf("store_range", {ids, t.number(0), t.number(0), t.named("kInit")});
    t.leaf("store_octave_ids", {ids, octaves, t.named("kInit"), t.named("kInit"), forcedFrom,
                                search.threshold(found), ties});
    t.leaf("store_range",
           {ids, t.sub(t.named("kTopK"), t.named("kLocal")), forcedFrom, t.named("kLocal")});
  });
}

void OctaveSelection::select(Value tile, Value selectHead, Value row, Value ids, Value room,
                             Value warp) {
  octaves = room;
  search.place(warp);
  Value own = t.div(t.field(tile, "position"), t.named("kBlock"), "own");
  forcedFrom = t.add(t.sub(own, t.named("kLocal")), t.number(1), "forced_from");
  measure(tile, selectHead, row);
  store(ids, search.find(t.named("kSearched"), "@kSearched", 0,
                         [&](Value threshold) { return count(threshold, ""); }));
}

std::string rescoreBlocks(const SelectionPlan &plan) {
  return llvm::formatv("min(sm_count, ceil_div({0} * total_q, {1}))", plan.selectHeads(), kThreads)
      .str();
}

BuiltKernel buildRescore(ModuleOp module, const SelectionPlan &plan, const ScorePlan &scores) {
  return RescoreBuilder(module, plan, scores).build();
}

} // namespace winnow

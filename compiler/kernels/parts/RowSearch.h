// Part: the search for the threshold of one row of block scores, bit by bit from the top, by one
// warp or by several that count together. Serves top_k over scores and over ranks, and rescore;
// device functions: templates/select/top_k.cuh. A row of several warps has its block of threads for
// itself, so whatever depends on the row is uniform.
#pragma once
#include "compiler/kernels/KernelBuilder.h"
#include "llvm/Support/MathExtras.h"

namespace winnow {

class RowSearch {
public:
  using Value = mlir::Value;
  RowSearch(KernelBuilder &t, int warps) : t(t), warps(warps) {}

  bool wide() const { return warps > 1; }
  /// The warps' counts in shared memory, where there are several. kWarps is a constant then.
  void declare() {
    if (wide())
      counts = t.shared("counts", t.type("WarpCounts", {"@kWarps"}), 4 * warps);
  }
  /// The place of the running warp in its row.
  void place(Value ofWarp) { warp = ofWarp; }

  /// Finds the largest threshold that at least as many scores reach as are wanted: `most`, a
  /// constant, but no more than the `own` + 1 blocks of the token. `firstStep` 0 begins at bit 31.
  /// `reaching` counts the warp's scores that reach a threshold. Returns the search.
  Value find(Value own, const char *most, int firstStep,
             llvm::function_ref<Value(Value)> reaching) {
    Value search = t.fragment("search", t.type("ThresholdSearch"));
    t.leaf("start_search", {search, own}, {most});
    t.loop("step", t.number(firstStep), t.number(32), t.number(1), [&](Value step) {
      Value open = t.value("", "is_open", {search});
      when(open, [&] {
        Value threshold = t.value("threshold", "next_threshold", {search, step});
        Value count = reaching(threshold);
        t.leaf("narrow", {search, threshold, total(count, "total")});
      });
    });
    return search;
  }
  /// The same for ranks of 15 bits, of which each warp holds all of the row's, and counts for a
  /// threshold of its own: several bits at a time, so that warps wait for each other less often.
  Value findTogether(Value own, const char *most, llvm::function_ref<Value(Value)> reaching) {
    Value search = t.fragment("search", t.type("ThresholdSearch"));
    t.leaf("start_search", {search, own}, {most});
    const int bits = static_cast<int>(llvm::Log2_32(warps)), rounds = (15 + bits - 1) / bits;
    t.loop("round", t.number(1 - rounds), t.number(1), t.number(1), [&](Value round) {
      when(t.value("", "is_open", {search}), [&] {
        Value shift = t.mul(round, t.number(-bits), "shift");
        Value threshold = t.value("threshold", "threshold_of_warp", {search, shift, warp});
        t.leaf("store_count", {counts, warp, reaching(threshold)});
        t.leaf("narrow_digit", {search, counts, shift});
      });
    });
    return search;
  }
  Value threshold(Value search) { return t.field(search, "threshold"); }

  /// Over the row's warps: the sum of `count`, itself where there is one.
  Value total(Value count, llvm::StringRef hint) {
    if (!wide())
      return count;
    t.leaf("store_count", {counts, warp, count});
    return t.value(hint, "total_count", {counts});
  }
  /// Over the warps in front: the sum of `count`, or of what total() has added up last.
  Value before(llvm::StringRef hint, Value count = {}) {
    if (count)
      t.leaf("store_count", {counts, warp, count});
    return t.value(hint, "count_before", {counts, warp});
  }
  /// By one warp of the row.
  void once(KernelBuilder::Body body) {
    if (wide())
      t.when(t.equal(warp, t.number(0)), body);
    else
      body();
  }
  /// An if that all warps of a row take alike.
  void when(Value condition, KernelBuilder::Body then, KernelBuilder::Body otherwise = nullptr) {
    t.when(condition, then, otherwise);
    if (wide())
      std::prev(t.builder.getInsertionPoint())->setAttr("tile.uniform", t.builder.getUnitAttr());
  }

private:
  KernelBuilder &t;
  const int warps;
  Value warp, counts;
};

} // namespace winnow

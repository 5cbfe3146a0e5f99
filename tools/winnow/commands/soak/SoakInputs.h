// Inputs of `winnow soak`: a pool of pages that stays in device memory, and for each step another
// batch of sequences in it. Every page has a text of its own, and each text lies in two pages, so
// that a key of a wrong page is seen, and the same batch can lie in other pages. A step depends on
// seed and number alone.
#pragma once
#include "reference/conformance/Layout.h"
#include "tools/winnow/commands/bench/BenchInputs.h"

namespace winnow {

/// What a captured graph has fixed.
struct SoakShape {
  int batch = 4;                ///< sequences
  int keys = 4096, queries = 4; ///< of a sequence, at most
  int totalQ() const { return batch * queries; }
};

/// One batch: what an engine writes into its arrays between two launches.
struct SoakStep {
  std::vector<int32_t> keys;   ///< of each sequence, new ones included
  std::vector<int32_t> cuQ;    ///< ends at shape.totalQ() or before
  std::vector<int32_t> kBegin; ///< empty: none
  /// Entries that nobody may follow point outside of memory; the latter may be empty.
  std::vector<int32_t> table, rowsTable;
  std::vector<std::vector<int32_t>> texts;  ///< of the pages of each sequence
  std::vector<std::vector<int32_t>> chunks; ///< keys after each append that comes before the launch
  std::vector<uint16_t> q;                  ///< [total_q, heads, head_dim]; NaN behind the last row
  std::vector<int32_t> ids; ///< of a caller, [select_heads, total_q, topk]; in any order, some
                            ///< repeated or out of range
};

/// One sequence as the reference reads it. The step must outlive it.
struct SoakSequence {
  std::vector<uint16_t> k, v;
  reference::Problem problem;
};

class SoakInputs {
public:
  /// `pageSize`: tokens, of layouts with pages; packed is none. `summaries`: of the program.
  SoakInputs(const Spec &spec, const SoakShape &shape, Layout layout, int pageSize,
             const reference::Method &method, std::vector<SummaryShape> summaries, uint64_t seed);

  SoakStep draw(int index) const;
  /// The same batch in other pages, where no two sequences share one, and appended in one piece.
  SoakStep elsewhere(const SoakStep &step, int index) const;
  SoakSequence sequence(const SoakStep &step, int s) const;

  /// The pool of keys, or of values: empty where they lie in the pages of the keys. Of fp8 an
  /// element in a word.
  std::vector<uint16_t> poolWords(bool values) const;
  int pages() const;
  /// Slots of one sequence where rows have a table of their own; else 0.
  int ownSlots() const { return slots; }
  /// Pages of the rows that the host keeps.
  int rowPages() const;
  int64_t tableStride() const { return stride; }
  /// Whether tokens stand before the first key of a page.
  bool hasPadding() const { return layout == Layout::Rows; }

  const SoakShape shape;
  const std::vector<SummaryShape> summaries;
  reference::Problem problem; ///< numbers; no tensors and lengths
  PagePool pool;
  int selectHeads = 0;

private:
  class Dice;
  int length(Dice &dice) const;
  int textToken(const SoakStep &step, int s, int key) const;
  void drawTexts(Dice &dice, SoakStep &step) const;
  void drawQueries(Dice &dice, int index, SoakStep &step) const;
  void drawIds(Dice &dice, SoakStep &step) const;
  void drawChunks(Dice &dice, SoakStep &step) const;
  void drawPlaces(Dice &dice, bool share, SoakStep &step) const;

  Layout layout;
  uint64_t seed;
  int texts = 0, slots = 0;
  int64_t stride = 0;
  std::vector<int> marks; ///< lengths that something in the kernels is a multiple of
  BenchInputs text;
};

} // namespace winnow

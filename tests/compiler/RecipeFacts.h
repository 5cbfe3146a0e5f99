// What a launch recipe must agree with, and none of it from the builders of recipes: what the
// method's text says (by the reference's reader), what the printed kernels hold, and how a ragged
// batch is cut into tiles of tokens.
#pragma once
#include "reference/Reference.h"
#include "runtime/program/Formula.h"
#include "tests/compiler/MatrixPrograms.h"
#include <algorithm>
#include <gtest/gtest.h>

namespace winnow {

/// Keys of the longest sequence that every selection serves.
constexpr int kLongestSequence = 1 << 20;

/// A ragged batch: cumulative lengths as kernels get them.
struct Batch {
  std::vector<int> cuQ = {0}, cuK = {0};

  Batch() = default;
  explicit Batch(const std::vector<std::pair<int, int>> &sequences);
  int sequences() const { return static_cast<int>(cuQ.size()) - 1; }
  int totalQ() const { return cuQ.back(); }
  int totalK() const { return cuK.back(); }
  int maxK() const;
  std::string text() const;
};

/// The values that a launch evaluates a program's formulas with.
class Launch {
public:
  Launch(const ProgramImage &image, const Batch &batch, int smCount);
  int64_t value(const std::string &formula) const;
  int64_t operator[](Variable variable) const { return variables[variable]; }
  /// Of a chunk of `tokens` tokens.
  void setTokenCount(int tokens) { variables[Variable::TokenCount] = tokens; }

private:
  Variables variables;
};

/// A program, from the spec and the method's text.
struct RecipeFacts {
  struct Summary {
    int window, stride;
  };
  int heads = 0, kvHeads = 0, headDim = 0, valueDim = 0, block = 0, topk = 0;
  bool selects = false;
  bool scores = false;  ///< not where forced blocks fill the budget
  bool softmax = false; ///< of the scores
  int selectHeads = 0;  ///< selections per token; 0: dense
  int local = 0;
  std::vector<Summary> summaries; ///< in the order of their buffers, the scored one first

  int rowsPerBlock() const { return block / summaries[0].stride; }
  /// Whether a window reaches over the end of its block.
  bool hasEdges() const { return summaries[0].window > summaries[0].stride; }
  int blocksOf(int keys) const { return (keys + block - 1) / block; }
  /// Groups of query heads that are worked on apart from each other.
  int headGroups() const { return selects ? selectHeads : kvHeads; }
  /// Attention takes 16 heads of a group at a time.
  int headTiles() const { return headGroups() * std::max(1, heads / headGroups() / 16); }
};
RecipeFacts factsOf(const MatrixProgram &program);

/// The kernel called `name`, or null.
const Kernel *findKernel(const ProgramImage &image, const std::string &name);
/// A constant of the printed kernel; 0 where it has none of that name.
int constantOf(const Kernel &kernel, const std::string &name);
bool holds(const Kernel &kernel, const std::string &text);
/// A top_k kernel: blocks of the longest row that its registers hold.
int64_t capacityOf(const Kernel &kernel);
/// Persistent blocks of threads, which loop over items of work.
bool isPersistent(const Kernel &kernel);

inline int64_t ceilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

/// Consecutive rows of one sequence.
struct TokenRun {
  int row, tokens; ///< 0 tokens: nothing to do
};
/// What lies in tile slot `slot` of rows [begin, end): sequence s owns the slots from cu[s] / tile
/// + s on, counted in rows from `begin`, and has a slot too many (templates/core/sequence.cuh).
TokenRun runOf(const std::vector<int> &cu, int begin, int end, int tile, int slot);
/// Whether slots [0, slots) have each row of [begin, end) exactly once.
testing::AssertionResult coverOnce(const std::vector<int> &cu, int begin, int end, int tile,
                                   int64_t slots);

/// Runs `check` for every program of packed tensors that is not refused, until one fails. Those of
/// paged ones have further kernels (DecodeTest), and so have those with gradients (the goldens).
template <class Check> void forEveryProgram(Check check) {
  for (const MatrixProgram &program : matrixPrograms()) {
    const Spec &spec = program.image.spec;
    if (!program.refusal.empty() || spec.paged || spec.backward)
      continue;
    SCOPED_TRACE(program.title());
    check(program.image, factsOf(program));
    if (testing::Test::HasFailure())
      return;
  }
}

} // namespace winnow

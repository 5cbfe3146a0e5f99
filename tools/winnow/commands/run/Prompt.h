// The structured input of `winnow run`: queries, keys and values built as those of a long prompt
// behave, so that block selection has something to find. Not plain noise, and not a real model
// either.
//
// * Rotary positions on every query and key; fast channel pairs carry the pull towards nearby
// tokens, slow pairs carry
//   meaning, as in trained models.
// * The text drifts from topic to topic; a query leans towards its own topic, so neighbours want
// similar blocks.
// * The first tokens are a sink: every query gives them some weight, and their values are small.
// * Needles: short spans planted far back, each with its own direction. The last tokens of a prompt
// are questions; each
//   (question, KV head) looks for one needle. Needles differ in strength, from plain to faint, so
//   that finding all of them is no matter of course.
#pragma once
#include "reference/Reference.h"
#include <cstdint>
#include <vector>

namespace winnow {

struct Needle {
  int sequence;
  int firstToken, tokens; ///< in the sequence
  double strength;        ///< 1 = plain, smaller = fainter
};

struct Prompt {
  std::vector<uint16_t> q, k, v;
  std::vector<uint16_t> exactK, exactV; ///< before they were stored as fp8; else empty
  reference::Problem problem;           ///< points into the vectors
  /// The problem with keys and values as they were before they were stored as fp8.
  reference::Problem exactProblem() const;
  std::vector<Needle> needles;
  /// The needle that KV head `head` looks for at `row` (numbered over the batch), or -1 if the row
  /// asks nothing.
  int wanted(int row, int head) const;
  std::vector<int> questionRows() const;
};

/// `lengths`: tokens of each sequence. Deterministic in all arguments, whatever the number of
/// threads.
Prompt makePrompt(const Spec &spec, const std::vector<int> &lengths, uint64_t seed);

struct Recall {
  long asked = 0, found = 0;
  double chance = 0; ///< expected share of hits if the unforced blocks were drawn at random
};
/// How many (question, KV head) pairs selected a block of their needle. `ids` as in
/// reference::attend.
Recall recallOf(const Prompt &prompt, const reference::Method &method, const int32_t *ids);

} // namespace winnow

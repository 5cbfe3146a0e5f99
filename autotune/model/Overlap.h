// How many blocks neighbouring tokens select together. A tile of tokens loads the union of their
// lists, so this number is what a kernel's loads and its skipped work follow from.
#pragma once

namespace winnow {

/// The lists of one sequence: `topk` blocks per token, the first `init` and last `local` causal
/// ones among them; the scores behind the rest turn into new ones over `overlap` tokens.
struct ListShape {
  int block = 64, topk = 96, init = 0, local = 1, overlap = 32;
};

/// Expected number of different blocks in the lists of `tokens` neighbours, the last of which lies
/// in block `own` (so that it has own + 1 causal blocks). tokens may be fractional, from 1.
double unionOfLists(const ListShape &lists, double tokens, int own);

} // namespace winnow

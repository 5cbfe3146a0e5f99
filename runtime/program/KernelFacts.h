// What a kernel's builder knows of its kernel beside text and launch: sizes and form. Builders fill
// it in, the program image carries it, and the performance model and listings read it; nobody reads
// printed text. A fact is there or it is not: a kernel has those that mean something for it, and
// one of an older build, or one whose text was given by hand, has none.
#pragma once
#include <optional>
#include <string>
#include <vector>

namespace winnow {

struct KernelFacts {
  using Fact = std::optional<int>; ///< not negative; 1 or 0 where it is a yes or no

  // Threads and the tile of tokens that a block of threads has at a time.
  Fact warps;         ///< warps that compute
  Fact producers;     ///< warps that load for them or build their lists
  Fact mmaWarps;      ///< warps that make one matrix product together: 1 (mma.sync) or 4 (wgmma)
  Fact stages;        ///< stages of the ring between producers and warps that compute
  Fact tokens;        ///< tokens of one tile
  Fact rowTiles;      ///< tiles of 16 query rows of one warp
  Fact rowTokens;     ///< attend: tokens of such a tile
  Fact queryRows;     ///< score, backward_keys: query rows of one tile of tokens, tokens x heads
  Fact headPairs;     ///< score: pairs of query heads of one token
  Fact laneRegisters; ///< registers of a thread that computes for operands, accumulators and
                      ///< sums; see Budgets.h
  // Of the program, as the kernel was built for it.
  Fact headDim;  ///< elements of a query, key or summary row
  Fact valueDim; ///< elements of a value or output row
  Fact group;    ///< query heads that share one selection, and a tile
  Fact topk;     ///< blocks selected per token, at most; 0: every key is attended to
  Fact init;     ///< first blocks, always selected
  Fact local;    ///< blocks up to the query's own that are always selected
  // Attend.
  Fact keys;          ///< keys of one ring stage
  Fact tileKeys;      ///< keys of one key tile: what a list names, and tokens want or not; of
                      ///< backward_keys those of a block of threads
  Fact tilesPerBlock; ///< key tiles of one selectable block
  Fact bitmapTiles;   ///< key tiles that the bitmap of wanted ones covers at a time
  Fact listEntries;   ///< key tiles that a list of wanted ones holds
  // Selection.
  Fact summaryKeys;      ///< keys of one summary, of those that are made or scored here
  Fact summaryStride;    ///< keys from one of them to the next
  Fact normalizerStride; ///< score: the same of the summaries that the log-sum-exp goes over
  Fact tileSummaries;    ///< score: summaries of one tile
  Fact blockSummaries;   ///< score: summaries that begin in one selectable block
  Fact softmax;          ///< score: scores are softmax weights, so a log-sum-exp comes first
  Fact folded;           ///< summaries hold softmax scale times log2 e, so logits are exponents
  Fact scoreBytes;       ///< bytes of one block score: 2 (16-bit ranks) or 4 (fp32)
  Fact rowWarps;         ///< top_k: warps that search one row of block scores
  Fact rowBlocks;        ///< top_k: block scores of the longest row that it takes

  /// "warps=8 producers=4 ...", of the facts that are there.
  std::string text() const;
  bool operator==(const KernelFacts &other) const;
};

/// A fact by name.
struct FactField {
  const char *name; ///< in images and listings
  KernelFacts::Fact KernelFacts::*member;
};
/// All of them, in the order of KernelFacts.
const std::vector<FactField> &factFields();

} // namespace winnow

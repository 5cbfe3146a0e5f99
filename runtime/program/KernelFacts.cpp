// The names of facts, and what follows from them.
#include "runtime/program/KernelFacts.h"
#include <algorithm>
#include <fmt/format.h>

namespace winnow {

const std::vector<FactField> &factFields() {
  static const auto &fields = *new std::vector<FactField>{
      // never destroyed: see Spec.cpp
      {"warps", &KernelFacts::warps},
      {"producers", &KernelFacts::producers},
      {"mma_warps", &KernelFacts::mmaWarps},
      {"stages", &KernelFacts::stages},
      {"tokens", &KernelFacts::tokens},
      {"row_tiles", &KernelFacts::rowTiles},
      {"row_tokens", &KernelFacts::rowTokens},
      {"query_rows", &KernelFacts::queryRows},
      {"head_pairs", &KernelFacts::headPairs},
      {"lane_registers", &KernelFacts::laneRegisters},
      {"head_dim", &KernelFacts::headDim},
      {"value_dim", &KernelFacts::valueDim},
      {"group", &KernelFacts::group},
      {"topk", &KernelFacts::topk},
      {"init", &KernelFacts::init},
      {"local", &KernelFacts::local},
      {"keys", &KernelFacts::keys},
      {"tile_keys", &KernelFacts::tileKeys},
      {"tiles_per_block", &KernelFacts::tilesPerBlock},
      {"bitmap_tiles", &KernelFacts::bitmapTiles},
      {"list_entries", &KernelFacts::listEntries},
      {"summary_keys", &KernelFacts::summaryKeys},
      {"summary_stride", &KernelFacts::summaryStride},
      {"normalizer_stride", &KernelFacts::normalizerStride},
      {"tile_summaries", &KernelFacts::tileSummaries},
      {"block_summaries", &KernelFacts::blockSummaries},
      {"softmax", &KernelFacts::softmax},
      {"folded", &KernelFacts::folded},
      {"score_bytes", &KernelFacts::scoreBytes},
      {"row_warps", &KernelFacts::rowWarps},
      {"row_blocks", &KernelFacts::rowBlocks},
  };
  return fields;
}

// A fact without a name would be lost on the way through an image.
static_assert(sizeof(KernelFacts) == 31 * sizeof(KernelFacts::Fact));

std::string KernelFacts::text() const {
  std::string text;
  for (const FactField &field : factFields())
    if (const Fact &fact = this->*field.member)
      text += fmt::format("{}{}={}", text.empty() ? "" : " ", field.name, *fact);
  return text;
}

bool KernelFacts::operator==(const KernelFacts &other) const {
  return std::all_of(factFields().begin(), factFields().end(), [&](const FactField &field) {
    return this->*field.member == other.*field.member;
  });
}

} // namespace winnow

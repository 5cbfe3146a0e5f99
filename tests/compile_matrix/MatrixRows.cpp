// The rows of the compile matrix.
#include "tests/compile_matrix/MatrixRows.h"

namespace winnow {

/// Summaries of which a long block holds few enough strides, and few forced blocks.
static std::map<std::string, std::string> longBlocks(int block) {
  const std::string half = std::to_string(block / 2), quarter = std::to_string(block / 4);
  return {{"local", "1"},   {"window", half},        {"stride", quarter},
          {"lse", "exact"}, {"coarse_window", half}, {"coarse_stride", quarter}};
}

// Small top-k needs few forced blocks: infllm_v2 forces 34 of them by default.
const std::vector<MatrixRow> &matrixRows() {
  using D = Dtype;
  static const std::vector<MatrixRow> table = {
      {"infllm_v2", 32, 2, 128, 64, 96, D::BF16, {}},
      {"infllm_v2", 32, 2, 128, 64, 96, D::FP16, {}},
      {"infllm_v2", 32, 2, 128, 64, 256, D::BF16, {}},
      {"infllm_v2", 32, 2, 64, 64, 96, D::FP16, {}},
      {"infllm_v2", 32, 4, 128, 64, 96, D::BF16, {}},
      {"infllm_v2", 32, 8, 128, 32, 64, D::BF16, {{"local", "8"}}},
      {"infllm_v2", 16, 8, 64, 128, 16, D::FP16, {{"local", "4"}}},
      {"infllm_v2", 8, 8, 128, 64, 48, D::BF16, {}},
      {"infllm_v2", 64, 4, 64, 32, 1, D::BF16, {{"local", "1"}, {"init", "0"}}},
      {"infllm_v2", 32, 2, 128, 128, 32, D::FP16, {{"local", "2"}}},
      {"infllm_v2", 32, 2, 128, 64, 96, D::BF16, {{"compat", "infllmv2"}}},
      {"infllm_v2", 32, 2, 128, 64, 96, D::BF16, {{"lse", "exact"}}},
      {"infllm_v2", 32, 2, 128, 64, 96, D::FP16, {{"lse", "none"}}},
      {"nsa_select", 64, 4, 128, 64, 16, D::BF16, {}},
      {"nsa_select", 32, 4, 64, 32, 32, D::FP16, {}},
      {"nsa_select", 8, 8, 64, 128, 8, D::BF16, {}},
      {"moba", 16, 16, 128, 128, 8, D::BF16, {}},
      {"moba", 32, 8, 64, 64, 12, D::FP16, {}},
      {"moba", 32, 2, 128, 32, 128, D::BF16, {}},
      {"relu_select", 32, 2, 128, 64, 64, D::BF16, {}},
      {"relu_select", 16, 8, 64, 32, 48, D::FP16, {}},
      {"dense", 32, 2, 128, 64, 1, D::BF16, {}},
      {"dense", 8, 8, 64, 128, 1, D::FP16, {}},
      {"dense", 32, 8, 128, 32, 1, D::BF16, {}},
      // The corners: every further dimension, group and block, and the largest of all at once.
      {"infllm_v2", 24, 2, 96, 64, 96, D::BF16, {}},
      {"infllm_v2", 12, 2, 128, 16, 128, D::FP16, {}},
      {"infllm_v2", 32, 2, 192, 64, 96, D::BF16, {}, 128},
      {"infllm_v2", 32, 2, 256, 64, 96, D::BF16, {}},
      {"infllm_v2", 8, 8, 256, 128, 48, D::FP16, {}},
      {"infllm_v2", 8, 8, 64, 16, 256, D::BF16, {}},
      {"nsa_select", 8, 2, 192, 32, 32, D::BF16, {}},
      {"moba", 12, 2, 96, 64, 12, D::FP16, {}, 256},
      {"relu_select", 24, 2, 256, 64, 64, D::FP16, {}, 64},
      {"dense", 6, 1, 256, 16, 1, D::BF16, {}},
      {"dense", 32, 2, 192, 64, 1, D::FP16, {}},
      // Odd groups: Llama 3.2, 40 heads of 8, Qwen 2.5.
      {"infllm_v2", 24, 8, 128, 64, 96, D::BF16, {}},
      {"nsa_select", 40, 8, 64, 32, 32, D::FP16, {}},
      {"relu_select", 28, 4, 128, 64, 48, D::BF16, {}},
      // Large groups, long blocks.
      {"infllm_v2", 32, 1, 128, 64, 96, D::BF16, {}},
      {"nsa_select", 64, 1, 64, 32, 64, D::FP16, {}},
      {"moba", 16, 8, 128, 512, 8, D::BF16, longBlocks(512)},
      {"moba", 4, 2, 64, 4096, 4, D::FP16, longBlocks(4096)},
  };
  return table;
}

Spec specOf(const MatrixRow &row) {
  Spec spec;
  spec.heads = row.heads;
  spec.kvHeads = row.kvHeads;
  spec.headDim = row.headDim;
  spec.valueDim = row.valueDim;
  spec.block = row.block;
  spec.topk = row.topk;
  spec.dtype = row.dtype;
  spec.params = row.params;
  return spec;
}

} // namespace winnow

// Rows of queries; see Tokens.h.
#include "compiler/kernels/parts/Tokens.h"

using namespace mlir;

namespace winnow {

std::string describeRows(std::vector<TensorMapRecipe> &maps, const char *tensor, int heads, int dim,
                         int boxHeads, int boxRows) {
  TensorMapRecipe recipe;
  recipe.tensor = tensor;
  recipe.extents = {std::to_string(dim), std::to_string(heads),
                    recipe.tensor == "q" ? "total_q" : "total_k"};
  recipe.strides = {2 * dim, int64_t(2) * dim * heads};
  recipe.box = {64, boxHeads, boxRows};
  maps.push_back(std::move(recipe));
  return "map[" + std::to_string(maps.size() - 1) + "]";
}

} // namespace winnow

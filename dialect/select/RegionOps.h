// The ops that an elementwise region ('rewrite') may hold: one table of names, types, meanings and
// CUDA spellings. The CUDA printer, the CPU target and the fp64 reference all ask it whether they
// know an op, and the documentation prints it. Plain C++, so that tools need no MLIR to print it.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace winnow {

struct RegionOp {
  /// The op's name; of a comparison with its predicate: "arith.cmpf olt".
  const char *name;
  /// Types of operands and result, e.g. "f32, f32 -> f32"; alternatives are separated by "; ".
  const char *types;
  /// CUDA C++ for the operands $0, $1, $2: one spelling, or one for each alternative of `types`.
  const char *cuda;
  /// What the op computes, in one sentence.
  const char *meaning;
  /// The derivative of the result, where $0' is that of operand 0; kNoDerivative: it has none, and
  /// a region in which an operand depends on the value has no gradients.
  const char *derivative = "0";
};

inline constexpr const char *kNoDerivative = "none";

const std::vector<RegionOp> &regionOps();
/// The entry of that name, or null.
const RegionOp *findRegionOp(std::string_view name);
/// The alternatives of `types`, each like "f32, f32 -> f32".
std::vector<std::string> signaturesOf(const RegionOp &op);
/// The CUDA spelling for one of them.
std::string spellingOf(const RegionOp &op, const std::string &signature);
/// The table as `winnow methods --ops` prints it, in Markdown.
std::string regionOpsText();

} // namespace winnow

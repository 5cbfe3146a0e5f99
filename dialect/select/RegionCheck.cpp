// See RegionCheck.h.
#include "dialect/select/RegionCheck.h"
#include "llvm/Support/FormatVariadic.h"

using namespace mlir;

namespace winnow {

const RegionOp *regionOpOf(Operation *op) {
  std::string name = op->getName().getStringRef().str();
  if (auto compare = dyn_cast<arith::CmpFOp>(op))
    name += " " + arith::stringifyCmpFPredicate(compare.getPredicate()).str();
  else if (auto compare = dyn_cast<arith::CmpIOp>(op))
    name += " " + arith::stringifyCmpIPredicate(compare.getPredicate()).str();
  return findRegionOp(name);
}

std::string signatureOf(Operation *op) {
  std::string text;
  llvm::raw_string_ostream stream(text);
  llvm::interleaveComma(op->getOperandTypes(), stream);
  stream << (op->getNumOperands() ? " -> " : "-> ");
  llvm::interleaveComma(op->getResultTypes(), stream);
  return text;
}

std::optional<RegionFault> findRegionFault(Region &region) {
  constexpr const char *kHint = "; `winnow methods --ops` lists what a region may hold";
  for (Operation &op : region.front().without_terminator()) {
    std::string name = op.getName().getStringRef().str();
    const RegionOp *known = regionOpOf(&op);
    if (!known)
      return RegionFault{&op, name + " is no op of a 'rewrite' region" + kHint};
    std::string types = signatureOf(&op);
    if (!llvm::is_contained(signaturesOf(*known), types))
      return RegionFault{&op, llvm::formatv("{0} takes '{1}' in a 'rewrite' region, not '{2}'{3}",
                                            name, known->types, types, kHint)
                                  .str()};
    if (op.getAttr("roundingmode"))
      return RegionFault{&op,
                         name + " rounds to nearest even in a 'rewrite' region, not otherwise"};
  }
  return std::nullopt;
}

} // namespace winnow

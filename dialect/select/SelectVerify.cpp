// What makes a method wrong, said at the place in its text. Checks that need numbers (budgets,
// divisibility) belong to specialisation, when references have become numbers.
#include "dialect/select/Select.h"

using namespace mlir;
using namespace winnow::select;

/// A reference must name a parameter of the method, or a name of the spec; a literal must be of the
/// right kind.
static LogicalResult verifySetting(Operation *op, StringRef what, Attribute setting, bool isWord,
                                   ArrayRef<StringRef> words, int64_t least) {
  if (auto reference = dyn_cast<FlatSymbolRefAttr>(setting)) {
    auto method = op->getParentOfType<MethodOp>();
    if (llvm::is_contained(kSpecNames, reference.getValue()) || !method)
      return success();
    Attribute value = method.getParams().get(reference.getValue());
    if (!value)
      return op->emitOpError("'") << what << "' refers to @" << reference.getValue()
                                  << ", which is neither a parameter of @" << method.getSymName()
                                  << " nor one of " << specNames();
    setting = value;
  }
  auto word = dyn_cast<StringAttr>(setting);
  if (isWord != bool(word))
    return op->emitOpError("'") << what << "' must be " << (isWord ? "a keyword" : "a number");
  if (!word) {
    int64_t number = cast<IntegerAttr>(setting).getInt();
    if (number < least || number > INT32_MAX)
      return op->emitOpError("'") << what << "' is " << number << "; it must be at least " << least
                                  << " and fit 32 bits";
  }
  if (word && !llvm::is_contained(words, word.getValue()))
    return op->emitOpError("'") << what << "' is '" << word.getValue() << "'; known are "
                                << llvm::join(words, ", ");
  return success();
}

static LogicalResult verifyKeyword(Operation *op, StringRef what, Attribute setting,
                                   ArrayRef<StringRef> words) {
  return verifySetting(op, what, setting, /*isWord=*/true, words, 0);
}

static LogicalResult verifyNumber(Operation *op, StringRef what, Attribute setting, int64_t least) {
  return verifySetting(op, what, setting, /*isWord=*/false, {}, least);
}

static LogicalResult verifyWord(Operation *op, StringRef word, ArrayRef<StringRef> words) {
  if (llvm::is_contained(words, word))
    return success();
  return op->emitOpError("has no kind '") << word << "'; known are " << llvm::join(words, ", ");
}

/// An elementwise region takes (f32, i32, i32) and yields one f32, with arith and math ops only.
static LogicalResult verifyRewrite(Operation *op, Region &region, StringRef name = "'rewrite'") {
  if (region.empty())
    return success();
  Block &body = region.front();
  auto types = body.getArgumentTypes();
  if (!region.hasOneBlock() || types.size() != 3 || !types[0].isF32() || !types[1].isInteger(32) ||
      !types[2].isInteger(32))
    return op->emitOpError(name)
           << " must take (value: f32, query position: i32, key position or row: i32)";
  for (Operation &inner : body.without_terminator())
    if (!isa<arith::ArithDialect, math::MathDialect>(inner.getDialect()))
      return inner.emitOpError("stands in a ")
             << name << " region, which may hold arith and math ops only";
  auto yield = dyn_cast<YieldOp>(body.back());
  if (!yield || yield.getNumOperands() != 1 || !yield.getOperand(0).getType().isF32())
    return op->emitOpError(name) << " must end with select.yield of one f32";
  return success();
}

/// The op that made a value of scores; a kernel's result was verified before fusion.
static Operation *origin(Value scores) { return scores.getDefiningOp(); }

LogicalResult MethodOp::verify() {
  Block &body = getBody().front();
  if (!isa<ReturnOp>(body.back()))
    return emitOpError("must end with select.return");
  for (Operation &step : body)
    if (!isa<SelectDialect>(step.getDialect()))
      return step.emitOpError(
          "stands among a method's steps; arith and math ops belong into a 'rewrite' region");
  if (std::optional<DictionaryAttr> spec = getSpec())
    if (auto dtype = spec->getAs<StringAttr>("dtype"); dtype && dtype != "bf16" && dtype != "fp16")
      return emitOpError("has elements of type ") << dtype << "; there are bf16 and fp16";
  return success();
}

/// What a step's result is called, and who could take it.
static std::pair<StringRef, StringRef> takerOf(Type type) {
  if (isa<SummaryType>(type))
    return {"the summaries", "give them to select.score or select.logsumexp"};
  if (isa<LseType>(type))
    return {"the log-sum-exp", "give it to select.score, behind 'softmax'"};
  if (isa<ScoresType>(type))
    return {"the scores", "give them to the next step, select.top_k in the end"};
  if (isa<IdsType>(type))
    return {"the block ids", "write them behind the inputs of select.attend"};
  if (isa<GradientsType>(type))
    return {"the gradients", "return them with select.return, behind 'gradients'"};
  return {"the output", "return it with select.return"};
}

/// A step whose result nobody takes would be dropped without a word, and a method that forgot its
/// block ids would be dense attention.
LogicalResult MethodOp::verifyRegions() {
  for (Operation &step : getBody().front())
    for (Value result : step.getResults())
      if (result.use_empty()) {
        auto [what, remedy] = takerOf(result.getType());
        return step.emitError("no step takes ")
               << what << " of " << step.getName() << ": " << remedy
               << ", or leave out the steps that only serve it";
      }
  return success();
}

LogicalResult KernelOp::verify() {
  auto yield = dyn_cast<YieldOp>(getBody().front().back());
  if (!yield || yield.getOperandTypes() != getResultTypes())
    return emitOpError("must end with select.yield of its results");
  return success();
}

LogicalResult SummarizeOp::verify() {
  if (failed(verifyWord(*this, getKind(), {"mean"})) ||
      failed(verifyNumber(*this, "window", getWindow(), 1)) ||
      failed(verifyNumber(*this, "stride", getStride(), 1)))
    return failure();
  auto window = dyn_cast<IntegerAttr>(getWindow()), stride = dyn_cast<IntegerAttr>(getStride());
  if (window && stride && window.getInt() % stride.getInt())
    return emitOpError("needs a window that is a multiple of the stride, not ")
           << window.getInt() << " and " << stride.getInt();
  return success();
}

LogicalResult LogSumExpOp::verify() {
  if (failed(verifyKeyword(*this, "mode", getMode(), {"coarse", "exact", "none"})) ||
      failed(verifyKeyword(*this, "visible", getVisible(), {"none", "infllmv2"})))
    return failure();
  auto mode = dyn_cast<StringAttr>(getMode());
  if (mode && mode.getValue() == "coarse" && !getCoarse())
    return emitOpError("of mode coarse needs coarse summaries");
  return success();
}

LogicalResult ScoreOp::verify() {
  if (failed(verifyKeyword(*this, "visible", getVisible(), {"none", "infllmv2"})))
    return failure();
  if (getLse() && !getRewrite().empty())
    return emitOpError("has both 'softmax' and 'rewrite'; a region may rewrite raw scores only");
  return verifyRewrite(*this, getRewrite());
}

LogicalResult CombineHeadsOp::verify() {
  Operation *from = origin(getScores());
  if (from && !isa<ScoreOp>(from))
    return emitOpError("combines the heads of select.score's result, before pooling");
  return verifyWord(*this, getKind(), {"sum", "max"});
}

LogicalResult PoolOp::verify() {
  Operation *from = origin(getScores());
  if (from && !isa<ScoreOp, CombineHeadsOp>(from))
    return emitOpError("pools scores of summary rows; these are scores of blocks already");
  return verifyWord(*this, getKind(), {"max", "sum", "overlap"});
}

LogicalResult ForceOp::verify() {
  Operation *from = origin(getScores());
  if (from && isa<ScoreOp, CombineHeadsOp>(from))
    return emitOpError("needs scores of blocks: put select.pool before it");
  if (failed(verifyNumber(*this, "init", getInit(), 0)))
    return failure();
  return verifyNumber(*this, "local", getLocal(), 0);
}

LogicalResult TopKOp::verify() {
  Operation *from = origin(getScores());
  if (from && isa<ScoreOp, CombineHeadsOp>(from))
    return emitOpError("needs scores of blocks: put select.pool before it");
  return success();
}

/// A number, or `auto`, which may go on with measured points.
static LogicalResult verifyDenseLength(Operation *op, Attribute setting) {
  Attribute value = setting;
  if (auto reference = dyn_cast<FlatSymbolRefAttr>(setting))
    if (auto method = op->getParentOfType<MethodOp>())
      value = method.getParams().get(reference.getValue());
  if (auto word = dyn_cast_or_null<StringAttr>(value)) {
    StringRef points = word.getValue();
    if (points.consume_front("auto") && (points.empty() || points.starts_with("_")))
      return success();
    return op->emitOpError("'dense_len' is '")
           << word.getValue() << "'; it must be a number or auto";
  }
  return verifyNumber(op, "dense_len", setting, -1);
}

LogicalResult AttendOp::verify() {
  if (getDenseLen() && failed(verifyDenseLength(*this, *getDenseLen())))
    return failure();
  return verifyRewrite(*this, getRewrite());
}

LogicalResult AttendBackwardOp::verify() {
  if (getDenseLen() && failed(verifyDenseLength(*this, *getDenseLen())))
    return failure();
  if (getRewrite().empty() != getDerivative().empty())
    return emitOpError("has one of 'rewrite' and 'derivative'; they go together");
  if (failed(verifyRewrite(*this, getRewrite())))
    return failure();
  return verifyRewrite(*this, getDerivative(), "'derivative'");
}

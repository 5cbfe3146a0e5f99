// The builder's shorthand; see KernelBuilder.h.
#include "compiler/kernels/KernelBuilder.h"
#include "mlir/IR/IRMapping.h"

using namespace mlir;

namespace winnow {

Attribute TemplateArgument::attribute(Builder &builder) const {
  if (type)
    return TypeAttr::get(type);
  return text.empty() ? builder.getI32IntegerAttr(number)
                      : tile::templateArgument(builder.getContext(), text);
}

KernelBuilder::KernelBuilder(ModuleOp module, StringRef name, const std::string &title, int threads,
                             int minBlocks)
    : builder(OpBuilder::atBlockEnd(module.getBody())) {
  kernel = tile::KernelOp::create(builder, builder.getUnknownLoc(), name, title, threads, minBlocks,
                                  builder.getArrayAttr({}), IntegerAttr());
  Block &body = kernel.getBody().emplaceBlock();
  body.addArgument(type("Params"), loc("params"));
  builder.setInsertionPointToStart(&body);
}

tile::KernelOp KernelBuilder::finish() {
  kernel.setConstantsAttr(builder.getArrayAttr(constants));
  return kernel;
}

Location KernelBuilder::loc(StringRef hint) {
  return hint.empty() ? builder.getUnknownLoc()
                      : Location(NameLoc::get(builder.getStringAttr(hint)));
}

void KernelBuilder::constant(StringRef name, int value, StringRef comment) {
  constants.push_back(tile::ConstantAttr::get(builder.getContext(), name,
                                              builder.getI32IntegerAttr(value), comment));
}

void KernelBuilder::constant(StringRef name, double value, StringRef comment) {
  constants.push_back(
      tile::ConstantAttr::get(builder.getContext(), name, builder.getF32FloatAttr(value), comment));
}

tile::ObjectType KernelBuilder::type(StringRef name, ArrayRef<TemplateArgument> arguments) {
  SmallVector<Attribute> attributes;
  for (const TemplateArgument &argument : arguments)
    attributes.push_back(argument.attribute(builder));
  return tile::ObjectType::get(builder.getContext(), name, builder.getArrayAttr(attributes));
}

Value KernelBuilder::fragment(StringRef name, tile::ObjectType type) {
  return tile::RegisterOp::create(builder, loc(name), type);
}

Value KernelBuilder::shared(StringRef name, tile::ObjectType type, int bytes, bool pinned) {
  return tile::SharedOp::create(builder, loc(name), type, bytes, IntegerAttr(), pinned);
}

Value KernelBuilder::field(Value object, StringRef member) {
  return tile::FieldOp::create(builder, loc(""), object, member);
}

Operation *KernelBuilder::call(StringRef hint, StringRef name, ValueRange operands,
                               ArrayRef<TemplateArgument> arguments) {
  OperationState state(loc(hint), ("tile." + name).str());
  state.addOperands(operands);
  auto *leaf = state.name.getInterface<tile::Leaf>();
  if (!leaf)
    llvm::report_fatal_error("a builder calls tile." + name + ", which is no leaf");
  ArrayRef<StringLiteral> names = leaf->templateArguments();
  assert(arguments.size() <= names.size() && "one attribute per template argument");
  for (auto [attribute, argument] : llvm::zip(names, arguments))
    state.addAttribute(attribute, argument.attribute(builder));
  if (auto *infer = state.name.getInterface<InferTypeOpInterface>()) {
    DictionaryAttr attributes = state.attributes.getDictionary(builder.getContext());
    std::vector<char> properties(state.name.getOpPropertyByteSize()); // as the op will hold them
    if (!properties.empty())
      (void)state.name.setOpPropertiesFromAttribute(state.name, properties.data(), attributes, {});
    (void)infer->inferReturnTypes(builder.getContext(), state.location, operands, attributes,
                                  properties.data(), {}, state.types);
  }
  return builder.create(state);
}

void KernelBuilder::leaf(StringRef name, ValueRange operands,
                         ArrayRef<TemplateArgument> arguments) {
  call("", name, operands, arguments);
}

Value KernelBuilder::value(StringRef hint, StringRef name, ValueRange operands,
                           ArrayRef<TemplateArgument> arguments) {
  return call(hint, name, operands, arguments)->getResult(0);
}

Value KernelBuilder::hook(StringRef name, Region &region) {
  auto op = tile::HookOp::create(builder, loc(name));
  IRMapping mapping;
  region.cloneInto(&op.getBody(), mapping);
  Operation *yield = op.getBody().front().getTerminator();
  OpBuilder inner(yield);
  tile::YieldOp::create(inner, yield->getLoc(), yield->getOperand(0));
  yield->erase();
  return op;
}

/// The constant that `op` multiplies `value` by, if it is a positive number that a factor can be
/// taken from; 0 if `op` does something else.
static double factorOn(Operation *op, Value value) {
  auto constantOf = [](Value operand) {
    auto constant = operand.getDefiningOp<arith::ConstantOp>();
    double factor = constant ? cast<FloatAttr>(constant.getValue()).getValueAsDouble() : 0;
    return factor > 1e-30 && factor < 1e30 ? factor : 0; // a product with the scale stays in range
  };
  if (auto product = dyn_cast_or_null<arith::MulFOp>(op))
    return constantOf(product.getLhs() == value ? product.getRhs() : product.getLhs());
  if (auto quotient = dyn_cast_or_null<arith::DivFOp>(op); quotient && quotient.getLhs() == value)
    if (double divisor = constantOf(quotient.getRhs()); divisor > 0)
      return 1 / divisor;
  return 0;
}

Value KernelBuilder::hook(StringRef name, Region &region, HookScales &scales) {
  Value function = hook(name, region);
  Block &body = function.getDefiningOp<tile::HookOp>().getBody().front();
  Value argument = body.getArgument(0);
  if (argument.hasOneUse()) {
    Operation *user = *argument.user_begin();
    if (double factor = factorOn(user, argument); factor > 0) {
      scales.in = factor;
      user->getResult(0).replaceAllUsesWith(argument);
      user->erase();
    }
  }
  Operation *yield = body.getTerminator(), *last = yield->getOperand(0).getDefiningOp();
  auto product = dyn_cast_or_null<arith::MulFOp>(last);
  if (!product || !product->hasOneUse())
    return function;
  for (Value operand : {product.getLhs(), product.getRhs()})
    if (double factor = factorOn(product, operand); factor > 0) {
      scales.out = factor;
      yield->setOperand(0, operand);
      product->erase();
      break;
    }
  return function;
}

Value KernelBuilder::identityHook(StringRef name) {
  auto op = tile::HookOp::create(builder, loc(name));
  Block &body = op.getBody().emplaceBlock();
  Type i32 = builder.getI32Type();
  body.addArguments({builder.getF32Type(), i32, i32}, {loc("value"), loc("query"), loc("row")});
  OpBuilder inner = OpBuilder::atBlockEnd(&body);
  tile::YieldOp::create(inner, loc(""), body.getArgument(0));
  return op;
}

Value KernelBuilder::number(int value) {
  return arith::ConstantIntOp::create(builder, loc(""), builder.getI32Type(), value);
}

Value KernelBuilder::flag(bool value) {
  return arith::ConstantIntOp::create(builder, loc(""), builder.getI1Type(), value);
}

Value KernelBuilder::real(double value) {
  return arith::ConstantOp::create(builder, loc(""), builder.getF32FloatAttr(value));
}

Value KernelBuilder::named(StringRef constantName) {
  return tile::ConstantOp::create(builder, loc(""), builder.getI32Type(), constantName);
}

Value KernelBuilder::namedReal(StringRef constantName) {
  return tile::ConstantOp::create(builder, loc(""), builder.getF32Type(), constantName);
}

Value KernelBuilder::blockIndex(char dimension, StringRef hint) {
  return tile::BlockIndexOp::create(builder, loc(hint), builder.getI32Type(),
                                    builder.getStringAttr(StringRef(&dimension, 1)));
}

Value KernelBuilder::gridDimension(char dimension) {
  return tile::GridDimensionOp::create(builder, loc(""), builder.getI32Type(),
                                       builder.getStringAttr(StringRef(&dimension, 1)));
}

Value KernelBuilder::select(Value condition, Value a, Value b, StringRef hint) {
  return arith::SelectOp::create(builder, loc(hint), condition, a, b);
}

Value KernelBuilder::compare(arith::CmpIPredicate predicate, Value a, Value b, StringRef hint) {
  return arith::CmpIOp::create(builder, loc(hint), predicate, a, b);
}

void KernelBuilder::returnIf(Value condition) {
  tile::ReturnOp::create(builder, loc(""), condition);
}

scf::ForOp KernelBuilder::loop(StringRef name, Value lower, Value upper, Value step,
                               function_ref<void(Value)> body) {
  auto op = scf::ForOp::create(builder, loc(name), lower, upper, step);
  OpBuilder::InsertionGuard guard(builder);
  builder.setInsertionPointToStart(op.getBody());
  body(op.getInductionVar());
  return op;
}

void KernelBuilder::specializeWarps(scf::ForOp loop, const WarpRoles &roles) {
  loop->setAttr("tile.pipeline", builder.getStringAttr("specialize_warps"));
  loop->setAttr("tile.stages", builder.getI32IntegerAttr(roles.stages));
  loop->setAttr("tile.producer_warps", builder.getI32IntegerAttr(roles.producers));
  const std::pair<const char *, bool> marks[] = {
      {"tile.producers_take_turns", roles.producersTakeTurns},
      {"tile.look_ahead", roles.lookAhead},
      {"tile.consumers_take_turns", roles.consumersTakeTurns}};
  for (const auto &[name, isSet] : marks)
    if (isSet)
      loop->setAttr(name, builder.getUnitAttr());
}

scf::ForOp KernelBuilder::unrolled(StringRef name, Value upper, function_ref<void(Value)> body) {
  scf::ForOp op = loop(name, number(0), upper, number(1), body);
  op->setAttr("tile.unroll", builder.getUnitAttr());
  return op;
}

ValueRange KernelBuilder::whileLoop(ArrayRef<StringRef> names, ValueRange inits,
                                    function_ref<Value(ValueRange, SmallVector<Value> &)> condition,
                                    function_ref<SmallVector<Value>(ValueRange)> body) {
  SmallVector<Location> locations;
  for (StringRef name : names)
    locations.push_back(loc(name));
  // The types of what is passed are known only once the condition has been built.
  Region before, after;
  SmallVector<Value> passed;
  {
    OpBuilder::InsertionGuard guard(builder);
    Block *conditionBlock = builder.createBlock(&before, {}, inits.getTypes(), locations);
    Value goesOn = condition(conditionBlock->getArguments(), passed);
    scf::ConditionOp::create(builder, loc(""), goesOn, passed);
    SmallVector<Location> unnamed(passed.size(), loc(""));
    Block *bodyBlock = builder.createBlock(&after, {}, ValueRange(passed).getTypes(), unnamed);
    SmallVector<Value> next = body(bodyBlock->getArguments());
    scf::YieldOp::create(builder, loc(""), next);
  }
  auto op = scf::WhileOp::create(builder, loc(""), ValueRange(passed).getTypes(), inits);
  op.getBefore().takeBody(before);
  op.getAfter().takeBody(after);
  return op.getResults();
}

Value KernelBuilder::choose(StringRef hint, Value condition, function_ref<Value()> then,
                            function_ref<Value()> otherwise, Type type) {
  auto op = scf::IfOp::create(builder, loc(hint), TypeRange{type ? type : builder.getI1Type()},
                              condition, /*withElseRegion=*/true);
  OpBuilder::InsertionGuard guard(builder);
  builder.setInsertionPointToStart(op.thenBlock());
  scf::YieldOp::create(builder, loc(""), then());
  builder.setInsertionPointToStart(op.elseBlock());
  scf::YieldOp::create(builder, loc(""), otherwise());
  return op.getResult(0);
}

void KernelBuilder::when(Value condition, Body then, Body otherwise) {
  auto op = scf::IfOp::create(builder, loc(""), condition, /*withElseRegion=*/bool(otherwise));
  OpBuilder::InsertionGuard guard(builder);
  builder.setInsertionPointToStart(op.thenBlock());
  then();
  if (!otherwise)
    return;
  builder.setInsertionPointToStart(op.elseBlock());
  otherwise();
}

} // namespace winnow

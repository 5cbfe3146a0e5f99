// The CUDA C++ printer. One rule prints every leaf op; only structure is special: kernel,
// declarations, for, if, hook, constants and scalar arithmetic. Pure scalars without a name are
// folded into the expression that uses them, named ones become `const int name = ...`, so the text
// keeps the names that the passes gave.
#include "compiler/cuda/EmitCuda.h"
#include "compiler/cuda/RegionExpression.h"
#include "compiler/cuda/ScalarExpression.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir;

namespace winnow {
namespace {

/// The name hint of a value, or "".
StringRef nameHint(Value value) {
  Location location = value.getLoc();
  if (auto named = dyn_cast<NameLoc>(location))
    return named.getName().strref();
  return "";
}

/// The objects that an op reads or writes, by its declared effects.
template <typename Effect> SmallVector<Value> objectsOf(Operation *op) {
  SmallVector<Value> objects;
  if (auto effects = dyn_cast<MemoryEffectOpInterface>(op))
    for (Value operand : op->getOperands())
      if (effects.getEffectOnValue<Effect>(operand))
        objects.push_back(operand);
  return objects;
}

/// Values that need a name: where they are used, what they are computed from has changed.
using Named = DenseSet<Value>;

/// Whether a text may stand in several places instead of under a name.
bool isShort(StringRef text) { return text.size() <= 24; }

class Printer {
public:
  Printer(llvm::raw_ostream &os, const Named &named) : os(&os), named(named) {}
  LogicalResult kernel(tile::KernelOp op, StringRef leafHeader);
  void hook(tile::HookOp op);
  /// Values that were folded and should not have been; printed again with names, they are right.
  Named stale;

private:
  LogicalResult block(Block &body);
  LogicalResult operation(Operation *op);
  LogicalResult leaf(tile::Leaf op);
  LogicalResult loop(scf::ForOp op);
  LogicalResult branch(scf::IfOp op);
  LogicalResult whileLoop(scf::WhileOp op);
  LogicalResult scalar(Operation *op);
  void place(Operation *op, const Expression &expression);
  SmallVector<Expression> operandsOf(Operation *op);
  LogicalResult declareResults(ResultRange results);
  LogicalResult assign(ValueRange targets, Block &body);
  void constants(tile::KernelOp op);
  void leaveScope(size_t outer);

  llvm::raw_ostream &line() { return os->indent(2 * depth); }
  /// Gives `value` a name of its own, from its hint or from `fallback`.
  std::string define(Value value, StringRef fallback);
  /// The text of an operand as a function argument.
  std::string use(Value value) { return text(value).text; }
  Expression text(Value value);
  /// Folds a value into its users.
  void fold(Value value, const Expression &expression);
  /// The value that a loop's condition hands on as `value`, or `value` itself.
  Value origin(Value value) const {
    Value found = origins.lookup(value);
    return found ? found : value;
  }
  /// Notes what an op has written; of a loop, before it, what its iterations will.
  void noteWrites(Operation *op);

  /// An object that a folded value reads, and when it was folded.
  struct Reading {
    Value object;
    unsigned since;
  };

  llvm::raw_ostream *os;
  const Named &named;
  int depth = 0;
  unsigned writes = 0; ///< so far
  DenseMap<Value, Value> origins;
  DenseMap<Value, unsigned> lastWrite;
  DenseMap<Value, SmallVector<Reading>> readings; ///< of folded values
  DenseMap<Value, Expression> expressions;
  llvm::StringSet<> names;             ///< visible here
  std::vector<std::string> introduced; ///< the same in order; a scope that ends takes its own away
};

std::string Printer::define(Value value, StringRef fallback) {
  StringRef hint = nameHint(value);
  std::string base = (hint.empty() ? fallback : hint).str(), name = base;
  for (int i = 2; !names.insert(name).second; ++i)
    name = base + "_" + std::to_string(i);
  introduced.push_back(name);
  expressions[value] = {name, Precedence::Primary};
  return name;
}

Expression Printer::text(Value value) {
  auto known = expressions.find(value);
  assert(known != expressions.end() && "operands are printed before their users");
  for (const Reading &reading : readings.lookup(value))
    if (lastWrite.lookup(reading.object) > reading.since)
      stale.insert(origin(value));
  return known->second;
}

void Printer::fold(Value value, const Expression &expression) {
  expressions[value] = expression;
  Operation *op = value.getDefiningOp();
  SmallVector<Reading> all;
  for (Value object : objectsOf<MemoryEffects::Read>(op))
    all.push_back({object, writes});
  for (Value operand : op->getOperands())
    llvm::append_range(all, readings.lookup(operand));
  if (!all.empty())
    readings[value] = std::move(all);
}

void Printer::noteWrites(Operation *op) {
  for (Value object : objectsOf<MemoryEffects::Write>(op))
    lastWrite[object] = ++writes;
}

void Printer::constants(tile::KernelOp op) {
  for (Attribute attribute : op.getConstants()) {
    auto constant = cast<tile::ConstantAttr>(attribute);
    auto number = dyn_cast<FloatAttr>(constant.getValue());
    std::string value = number ? floatLiteral(number.getValueAsDouble())
                               : std::to_string(cast<IntegerAttr>(constant.getValue()).getInt());
    *os << "constexpr " << (number ? "float " : "int ") << constant.getName() << " = " << value
        << ";";
    if (!constant.getComment().empty())
      *os << "  // " << constant.getComment();
    *os << "\n";
    names.insert(constant.getName());
  }
}

LogicalResult Printer::kernel(tile::KernelOp op, StringRef leafHeader) {
  *os << "// " << op.getTitle() << "\n";
  if (op.getSharedBytes())
    *os << "// Dynamic shared memory: " << *op.getSharedBytes() << " bytes.\n";
  *os << "#include \"" << leafHeader << "\"\n\n";
  constants(op);
  *os << "\nextern \"C\" __global__ void __launch_bounds__(" << op.getThreads() << ", "
      << op.getMinBlocks() << ")\n"
      << op.getSymName() << "(const __grid_constant__ Params params) {\n";
  names.insert("params");
  expressions[op.getBody().getArgument(0)] = {"params", Precedence::Primary};
  depth = 1;
  if (op.getSharedBytes().value_or(0))
    line() << "extern __shared__ __align__(1024) unsigned char shared[];\n";
  if (failed(block(op.getBody().front())))
    return failure();
  *os << "}\n";
  return success();
}

LogicalResult Printer::block(Block &body) {
  for (Operation &op : body) {
    if (isa<LoopLikeOpInterface>(op))
      op.walk([&](Operation *inner) { noteWrites(inner); });
    if (failed(operation(&op)))
      return failure();
    noteWrites(&op);
  }
  return success();
}

void Printer::leaveScope(size_t outer) {
  for (; introduced.size() > outer; introduced.pop_back())
    names.erase(introduced.back());
}

LogicalResult Printer::operation(Operation *op) {
  if (auto call = dyn_cast<tile::Leaf>(op))
    return leaf(call);
  return llvm::TypeSwitch<Operation *, LogicalResult>(op)
      .Case([&](tile::RegisterOp reg) {
        std::string type = reg.getType().cppName();
        line() << type << " " << define(reg, "fragment") << ";\n";
        return success();
      })
      .Case([&](tile::SharedOp shared) {
        std::string type = shared.getType().cppName();
        std::string name = define(shared, "tile");
        line() << "const " << type << " " << name << "{shared + " << shared.getOffset().value_or(0)
               << "};\n";
        line() << "static_assert(" << type << "::kBytes == " << shared.getBytes() << ");\n";
        return success();
      })
      .Case([&](tile::KeepOp) { return success(); })
      .Case([&](tile::ConstantOp constant) {
        expressions[constant] = {constant.getName().str(), Precedence::Primary};
        return success();
      })
      .Case([&](tile::ReturnOp ret) {
        line() << "if (" << use(ret.getCondition()) << ") return;\n";
        return success();
      })
      .Case([&](tile::HookOp inner) {
        hook(inner);
        return success();
      })
      .Case([&](scf::ForOp inner) { return loop(inner); })
      .Case([&](scf::IfOp inner) { return branch(inner); })
      .Case([&](scf::WhileOp inner) { return whileLoop(inner); })
      .Case([&](scf::YieldOp) { return success(); })
      .Case([&](scf::ConditionOp) { return success(); })
      .Default([&](Operation *other) { return scalar(other); });
}

// name<attributes>(operands); with a result: const auto hint = name<...>(...);
LogicalResult Printer::leaf(tile::Leaf op) {
  std::string call = op->getName().stripDialect().str();
  std::string templates;
  llvm::ListSeparator comma;
  for (StringRef name : op.templateArguments())
    if (Attribute value = op->getAttr(name))
      templates += std::string(StringRef(comma)) + tile::cppSpelling(value);
  if (!templates.empty())
    call += "<" + templates + ">";
  std::string arguments;
  llvm::ListSeparator separator;
  for (Value operand : op->getOperands())
    arguments += std::string(StringRef(separator)) + use(operand);
  call += "(" + arguments + ")";
  if (op->getNumResults() == 0) {
    line() << call << ";\n";
    return success();
  }
  // A nameless result reads best where it is used: if the leaf is pure, once or often where it is
  // short; else once and right after.
  Value result = op->getResult(0);
  const bool movable = isPure(op) || op->hasTrait<tile::Inline>();
  if (nameHint(result).empty() && !named.contains(result) &&
      (movable ? result.hasOneUse() || isShort(call)
               : result.hasOneUse() && op->getNextNode() == *result.user_begin())) {
    if (movable)
      fold(result, {call, Precedence::Primary});
    else
      expressions[result] = {call, Precedence::Primary};
    return success();
  }
  std::string fallback = op->getName().stripDialect().str() + "_value";
  line() << "const " << cppType(result.getType()) << " " << define(result, fallback) << " = "
         << call << ";\n";
  return success();
}

LogicalResult Printer::declareResults(ResultRange results) {
  for (Value result : results)
    line() << cppType(result.getType()) << " " << define(result, "value") << ";\n";
  return success();
}

/// Prints assignments of a block's yielded values to `targets`.
LogicalResult Printer::assign(ValueRange targets, Block &body) {
  Operation *yield = body.getTerminator();
  for (auto [target, value] : llvm::zip(targets, yield->getOperands()))
    if (use(target) != use(value))
      line() << use(target) << " = " << use(value) << ";\n";
  return success();
}

LogicalResult Printer::loop(scf::ForOp op) {
  for (auto [argument, init, result] :
       llvm::zip(op.getRegionIterArgs(), op.getInitArgs(), op.getResults())) {
    std::string value = use(init);
    line() << cppType(argument.getType()) << " " << define(argument, "carried") << " = " << value
           << ";\n";
    expressions[result] = expressions[argument];
  }
  if (Attribute unroll = op->getAttr("tile.unroll")) {
    auto factor = dyn_cast<IntegerAttr>(unroll);
    line() << "#pragma unroll" << (factor ? " " + std::to_string(factor.getInt()) : "") << "\n";
  }
  std::string lower = use(op.getLowerBound()),
              upper = text(op.getUpperBound()).inside(Precedence::Relational);
  std::string step = use(op.getStep());
  size_t outer = introduced.size();
  std::string i = define(op.getInductionVar(), "i");
  line() << "for (int " << i << " = " << lower << "; " << i << " < " << upper << "; "
         << (step == "1" ? "++" + i : i + " += " + step) << ") {\n";
  ++depth;
  if (failed(block(*op.getBody())) || failed(assign(op.getRegionIterArgs(), *op.getBody())))
    return failure();
  --depth;
  leaveScope(outer);
  line() << "}\n";
  return success();
}

// while (condition) { <after>; <carried> = <yielded>; }, or, where the condition takes statements,
// while (true) { <before>; if (!condition) break; <after>; <carried> = <yielded>; }
LogicalResult Printer::whileLoop(scf::WhileOp op) {
  scf::ConditionOp condition = op.getConditionOp();
  for (auto [argument, init] : llvm::zip(op.getBeforeArguments(), op.getInits())) {
    std::string value = use(init);
    line() << cppType(argument.getType()) << " " << define(argument, "carried") << " = " << value
           << ";\n";
  }
  // What the condition is computed from may fold into it altogether.
  llvm::raw_ostream &outside = *os;
  std::string statements;
  llvm::raw_string_ostream before(statements);
  os = &before;
  ++depth;
  size_t outer = introduced.size();
  const LogicalResult printed = block(*op.getBeforeBody());
  os = &outside;
  if (failed(printed))
    return failure();
  const bool isExpression = statements.empty();
  os->indent(2 * (depth - 1)) << "while ("
                              << (isExpression ? use(condition.getCondition()) : "true") << ") {\n"
                              << statements;
  if (!isExpression)
    line() << "if (!" << text(condition.getCondition()).inside(Precedence::Unary) << ") break;\n";
  for (auto [passed, argument, result] :
       llvm::zip(condition.getArgs(), op.getAfterArguments(), op.getResults())) {
    expressions[argument] = text(passed);
    if (auto found = readings.find(passed); found != readings.end())
      readings[argument] = SmallVector<Reading>(found->second);
    origins[argument] = origin(passed);
    // Behind the loop only what it carries is still in scope.
    if (llvm::is_contained(op.getBeforeArguments(), passed))
      expressions[result] = expressions[passed];
    else if (!result.use_empty())
      return op.emitError("the CUDA printer needs a loop's used results to be carried values");
  }
  if (failed(block(*op.getAfterBody())) ||
      failed(assign(op.getBeforeArguments(), *op.getAfterBody())))
    return failure();
  leaveScope(outer);
  --depth;
  line() << "}\n";
  return success();
}

LogicalResult Printer::branch(scf::IfOp op) {
  if (failed(declareResults(op.getResults())))
    return failure();
  line() << "if (" << use(op.getCondition()) << ") {\n";
  for (Region *region : {&op.getThenRegion(), &op.getElseRegion()}) {
    if (region->empty())
      continue;
    Block &body = region->front();
    if (region == &op.getElseRegion()) {
      if (body.without_terminator().empty() && op.getNumResults() == 0)
        continue;
      line() << "} else {\n";
    }
    ++depth;
    size_t outer = introduced.size();
    if (failed(block(body)) || failed(assign(op.getResults(), body)))
      return failure();
    leaveScope(outer);
    --depth;
  }
  line() << "}\n";
  return success();
}

void Printer::hook(tile::HookOp op) {
  std::string name = define(op.getFunction(), "hook");
  Block &body = op.getBody().front();
  std::string parameters;
  llvm::ListSeparator comma;
  size_t outer = introduced.size();
  static constexpr const char *fallbacks[] = {"value", "query", "key", "head"};
  for (BlockArgument argument : body.getArguments())
    parameters += std::string(StringRef(comma)) + cppType(argument.getType()) + " " +
                  define(argument, fallbacks[std::min<unsigned>(argument.getArgNumber(), 3)]);
  line() << "const auto " << name << " = [](" << parameters << ") {\n";
  ++depth;
  for (Operation &inner : body.without_terminator())
    place(&inner, regionExpression(&inner, operandsOf(&inner)));
  line() << "return " << use(body.getTerminator()->getOperand(0)) << ";\n";
  leaveScope(outer);
  --depth;
  line() << "};\n";
}

SmallVector<Expression> Printer::operandsOf(Operation *op) {
  return llvm::map_to_vector(op->getOperands(), [&](Value operand) { return text(operand); });
}

LogicalResult Printer::scalar(Operation *op) {
  std::optional<Expression> expression;
  if (op->getNumResults() == 1)
    expression = scalarExpression(op, operandsOf(op));
  if (!expression)
    return op->emitError("the CUDA printer has no rule for this op");
  place(op, *expression);
  return success();
}

/// A pure scalar: folded into its users, or a named constant where it has a name, or several users
/// that would each be longer by it.
void Printer::place(Operation *op, const Expression &expression) {
  Value result = op->getResult(0);
  const bool trivial = expression.precedence == Precedence::Primary && op->getNumOperands() <= 1;
  if (nameHint(result).empty() && !named.contains(result) &&
      (trivial || isShort(expression.text) || result.hasOneUse() || result.use_empty())) {
    fold(result, expression);
    return;
  }
  auto field = dyn_cast<tile::FieldOp>(op);
  const bool isMember =
      field && llvm::all_of(field.getName(), [](char c) { return llvm::isAlnum(c) || c == '_'; });
  line() << "const " << cppType(result.getType()) << " "
         << define(result, isMember ? field.getName() : "x") << " = " << expression.text << ";\n";
}

} // namespace

FailureOr<std::string> emitCuda(tile::KernelOp kernel, StringRef leafHeader) {
  // A folded value is evaluated where it is used. Where that is too late, it gets a name in the
  // next round; each round names more, so this ends.
  Named named;
  for (;;) {
    std::string text;
    llvm::raw_string_ostream stream(text);
    Printer printer(stream, named);
    if (failed(printer.kernel(kernel, leafHeader)))
      return failure();
    if (printer.stale.empty())
      return text;
    for (Value value : printer.stale)
      if (!named.insert(value).second)
        return value.getDefiningOp()->emitError("this value changes before it is used");
  }
}

std::string emitHook(tile::HookOp op) {
  std::string text;
  llvm::raw_string_ostream stream(text);
  const Named named;
  Printer(stream, named).hook(op);
  return text;
}

} // namespace winnow

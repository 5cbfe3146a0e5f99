// Parser (recursive descent into postfix code) and evaluator (a fixed stack) of launch formulas.
// Depth is bounded when parsing, so that evaluation needs no check of its stack and no allocation.
#include "runtime/program/Formula.h"
#include <algorithm>
#include <cctype>
#include <charconv>
#include <fmt/format.h>

namespace winnow {

namespace {
constexpr const char *kNames[kVariableCount] = {
    "sm_count",     "cluster_limit", "step_limit",   "batch", "total_q", "total_k",
    "max_q",        "max_k",         "dense_length", "parts", "cluster", "step",
    "score_stride", "chunk_tokens",  "token_count",  "rows",  "box_rows"};
} // namespace

const char *name(Variable variable) { return kNames[static_cast<size_t>(variable)]; }

class FormulaParser {
public:
  FormulaParser(std::string_view text, Variable lastKnown) : text(text), lastKnown(lastKnown) {}

  Result<Formula> run() {
    Formula formula;
    formula.source = std::string(text);
    out = &formula;
    comparison();
    skipBlanks();
    if (error.empty() && position != text.size())
      refuse("an operator or the end");
    if (!error.empty())
      return fail(ErrorKind::Usage,
                  fmt::format("formula '{}', column {}: {}", text, errorColumn, error));
    return formula;
  }

private:
  using Op = Formula::Op;
  using Operand = Formula::Operand;

  void comparison() {
    sum();
    struct {
      std::string_view sign;
      Op op;
    } const signs[] = {{"<=", Op::LessEqual}, {">=", Op::GreaterEqual}, {"==", Op::Equal},
                       {"!=", Op::NotEqual},  {"<", Op::Less},          {">", Op::Greater}};
    for (const auto &[sign, op] : signs)
      if (accept(sign)) {
        sum();
        binary(op);
        return;
      }
  }

  void sum() {
    product();
    while (error.empty()) {
      if (accept("+")) {
        product();
        binary(Op::Add);
      } else if (accept("-")) {
        product();
        binary(Op::Subtract);
      } else {
        return;
      }
    }
  }

  void product() {
    factor();
    while (error.empty()) {
      if (accept("*")) {
        factor();
        binary(Op::Multiply);
      } else if (accept("/")) {
        factor();
        binary(Op::Divide);
      } else {
        return;
      }
    }
  }

  void factor() {
    skipBlanks();
    // Each level of nesting passes here once: bounds the recursion of hostile text.
    if (++nesting > Formula::kMaxDepth)
      return refuse("less nesting");
    if (accept("-")) {
      factor();
      emit({Op::Negate, Operand::None, 0}, 0);
    } else if (accept("(")) {
      comparison();
      expect(")");
    } else if (position < text.size() && std::isdigit(static_cast<unsigned char>(text[position]))) {
      number();
    } else {
      named();
    }
    --nesting;
  }

  void number() {
    int64_t value = 0;
    auto [end, code] = std::from_chars(text.data() + position, text.data() + text.size(), value);
    if (code != std::errc())
      return refuse("a number below 2^63");
    position = static_cast<size_t>(end - text.data());
    emit({Op::Push, Operand::Constant, value}, +1);
  }

  void named() {
    size_t begin = position;
    while (position < text.size() &&
           (std::isalnum(static_cast<unsigned char>(text[position])) || text[position] == '_'))
      ++position;
    std::string_view word = text.substr(begin, position - begin);
    if (word == "min")
      return call(Op::Min, 2, 16);
    if (word == "max")
      return call(Op::Max, 2, 16);
    if (word == "ceil_div")
      return call(Op::CeilDiv, 2, 2);
    for (int i = 0; i <= static_cast<int>(lastKnown); ++i)
      if (word == kNames[i])
        return emit({Op::Push, Operand::Variable, i}, +1);
    position = begin;
    std::string known;
    for (int i = 0; i <= static_cast<int>(lastKnown); ++i)
      known += fmt::format(" {}", kNames[i]);
    refuse(fmt::format("a number, '(', min, max, ceil_div or one of:{}", known));
  }

  void call(Op op, int least, int most) {
    expect("(");
    int count = 0;
    do {
      comparison();
      if (++count > 1)
        binary(op);
    } while (error.empty() && count < most && accept(","));
    if (count < least)
      refuse("a second argument");
    expect(")");
  }

  /// A number or a variable on the right becomes part of the instruction.
  void binary(Op op) {
    if (!error.empty())
      return;
    Formula::Instruction instruction{op, Operand::Stack, 0};
    if (out->code.back().op == Op::Push) {
      instruction = {op, out->code.back().last, out->code.back().value};
      out->code.pop_back();
    }
    emit(instruction, -1);
  }

  void emit(Formula::Instruction instruction, int growth) {
    if (!error.empty())
      return;
    out->code.push_back(instruction);
    depth += growth;
    if (depth > Formula::kMaxDepth)
      refuse("less nesting");
  }

  void skipBlanks() {
    while (position < text.size() && text[position] == ' ')
      ++position;
  }

  bool accept(std::string_view token) {
    skipBlanks();
    if (!error.empty() || text.substr(position, token.size()) != token)
      return false;
    position += token.size();
    return true;
  }

  void expect(std::string_view token) {
    if (error.empty() && !accept(token))
      refuse(fmt::format("'{}'", token));
  }

  void refuse(std::string expected) {
    if (!error.empty())
      return;
    error = "expected " + std::move(expected);
    errorColumn = position + 1;
  }

  std::string_view text;
  Variable lastKnown;
  Formula *out = nullptr;
  size_t position = 0, errorColumn = 0;
  int depth = 0, nesting = 0;
  std::string error;
};

Result<Formula> Formula::parse(std::string_view text, Variable lastKnown) {
  return FormulaParser(text, lastKnown).run();
}

Result<int64_t> Formula::evaluate(const Variables &variables) const {
  if (code.size() == 1 &&
      code[0].last == Operand::Constant) // as many grids are; launches are short
    return code[0].value;
  int64_t stack[kMaxDepth + 1]; // each is written before it is read; clearing all would take longer
  int64_t *top = stack;         // behind the last value that waits
  int64_t a = 0;                // the value made last, which is not on the stack
  auto overflow = [&] {
    return fail(ErrorKind::Usage,
                fmt::format("formula '{}' overflows 64 bits for this shape", source));
  };
  for (const Instruction &instruction : code) {
    int64_t b = instruction.value;
    switch (instruction.last) {
    case Operand::Constant:
      break;
    case Operand::Variable:
      b = variables[static_cast<Variable>(instruction.value)];
      break;
    case Operand::Stack:
      b = a;
      a = *--top;
      break;
    case Operand::None:
      break;
    }
    switch (instruction.op) {
    case Op::Push:
      *top++ = a;
      a = b;
      break;
    case Op::Negate:
      if (__builtin_sub_overflow(int64_t(0), a, &a))
        return overflow();
      break;
    case Op::Add:
      if (__builtin_add_overflow(a, b, &a))
        return overflow();
      break;
    case Op::Subtract:
      if (__builtin_sub_overflow(a, b, &a))
        return overflow();
      break;
    case Op::Multiply:
      if (__builtin_mul_overflow(a, b, &a))
        return overflow();
      break;
    case Op::Divide:
    case Op::CeilDiv: {
      if (b == 0)
        return fail(ErrorKind::Usage,
                    fmt::format("formula '{}' divides by zero for this shape", source));
      if (a == INT64_MIN && b == -1)
        return overflow();
      bool roundUp = instruction.op == Op::CeilDiv && a % b != 0 && (a < 0) == (b < 0);
      a = a / b + (roundUp ? 1 : 0);
      break;
    }
    case Op::Min:
      a = std::min(a, b);
      break;
    case Op::Max:
      a = std::max(a, b);
      break;
    case Op::Less:
      a = a < b;
      break;
    case Op::LessEqual:
      a = a <= b;
      break;
    case Op::Greater:
      a = a > b;
      break;
    case Op::GreaterEqual:
      a = a >= b;
      break;
    case Op::Equal:
      a = a == b;
      break;
    case Op::NotEqual:
      a = a != b;
      break;
    }
  }
  return a;
}

} // namespace winnow

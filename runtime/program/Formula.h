// The integer expressions of launch recipes: grids, buffer sizes, conditions, as functions of the
// shape. The compiler writes them as text into the program image; the runtime parses each once and
// evaluates it per launch, without allocation. Grammar: + - * / ( ) unary -, comparisons (< <= > >=
// == !=, giving 1 or 0), min(a, b, ...), max(a, b, ...), ceil_div(a, b), whole numbers, and the
// names of the variables below. '/' truncates toward zero.
#pragma once
#include "runtime/Error.h"
#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace winnow {

/// What a formula may name. The order is the order in which they become known during a launch.
enum class Variable {
  SmCount,      ///< "sm_count": multiprocessors of the GPU
  ClusterLimit, ///< "cluster_limit": blocks of threads of the largest cluster that the program's
                ///< kernels run in on this GPU; 0: none does
  StepLimit,    ///< "step_limit": blocks of threads of the program's cooperative kernel that this
                ///< GPU runs at the same time; 0: it cannot be launched so
  Batch,        ///< "batch": sequences in the batch
  TotalQ,       ///< "total_q": query tokens of all sequences
  TotalK,       ///< "total_k": key tokens of all sequences
  MaxQ,         ///< "max_q": longest query segment, tokens
  MaxK,         ///< "max_k": longest key sequence, tokens
  DenseLength,  ///< "dense_length": keys of the shortest sequence that is selected from, where the
                ///< launch decides it; else 0
  Parts,       ///< "parts": blocks of threads of one token at decode; ranges of tokens of gradients
  Cluster,     ///< "cluster": blocks of threads of the cluster that makes the selection of one
               ///< token at decode; 0: kernels that follow each other make it
  Step,        ///< "step": tiles of 32 summaries of a chunk, where one kernel makes a whole step of
               ///< decode; 0: kernels that follow each other make it
  ScoreStride, ///< "score_stride": elements of one row of block scores
  ChunkTokens, ///< "chunk_tokens": tokens per selection chunk
  TokenCount,  ///< "token_count": tokens of the current chunk
  Rows,        ///< "rows": 1 where the host keeps summaries and gives them, else 0
  BoxRows,     ///< "box_rows": keys of a page that one bulk copy brings; 0: none can be brought so
};
inline constexpr Variable kLastVariable = Variable::BoxRows;
inline constexpr int kVariableCount = static_cast<int>(kLastVariable) + 1;

/// Values of all variables, indexed by Variable.
class Variables {
public:
  int64_t &operator[](Variable variable) { return values[static_cast<size_t>(variable)]; }
  int64_t operator[](Variable variable) const { return values[static_cast<size_t>(variable)]; }

private:
  std::array<int64_t, kVariableCount> values{};
};

/// The text's name of a variable.
const char *name(Variable variable);

class Formula {
public:
  /// The constant 0.
  Formula() = default;
  /// Parses `text`. Variables after `lastKnown` are refused: they have no value yet where this
  /// formula is used. Error: Usage, with the text, the column and what was expected.
  static Result<Formula> parse(std::string_view text, Variable lastKnown = Variable::TokenCount);
  /// Value under `variables`. Errors: overflow of 64 bits, division by zero; both name the formula.
  Result<int64_t> evaluate(const Variables &variables) const;
  const std::string &text() const { return source; }

private:
  friend class FormulaParser;
  enum class Op : uint8_t {
    Push, ///< its operand; all others have a first one, made before
    Negate,
    Add,
    Subtract,
    Multiply,
    Divide,
    CeilDiv,
    Min,
    Max,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Equal,
    NotEqual,
  };
  /// Where the last operand of an instruction is: its value, the variable of that number, or made
  /// before and not used yet, as the first is.
  enum class Operand : uint8_t { None, Constant, Variable, Stack };
  struct Instruction {
    Op op;
    Operand last;
    int64_t value;
  };
  static constexpr int kMaxDepth = 32;

  std::string source = "0";
  std::vector<Instruction> code; ///< postfix; empty = 0
};

} // namespace winnow

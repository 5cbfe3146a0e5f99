// The table; see RegionOps.h. Each op has one meaning, which holds on every back end.
#include "dialect/select/RegionOps.h"
#include <algorithm>

namespace winnow {

const std::vector<RegionOp> &regionOps() {
  static const std::vector<RegionOp> ops = {
      {"arith.constant", "-> f32; -> i32; -> i1", "a literal", "a number; infinities and NaN too"},
      {"arith.select", "i1, f32, f32 -> f32; i1, i32, i32 -> i32; i1, i1, i1 -> i1", "$0 ? $1 : $2",
       "the second operand where the first is true, else the third", "$0 ? $1' : $2'"},

      {"arith.addf", "f32, f32 -> f32", "$0 + $1", "sum", "$0' + $1'"},
      {"arith.subf", "f32, f32 -> f32", "$0 - $1", "difference", "$0' - $1'"},
      {"arith.mulf", "f32, f32 -> f32", "$0 * $1", "product", "$0' $1 + $0 $1'"},
      {"arith.divf", "f32, f32 -> f32", "$0 / $1",
       "quotient; by a constant it may be the product with its reciprocal",
       "($0' - ($0 / $1) $1') / $1"},
      {"arith.negf", "f32 -> f32", "-$0", "the other sign", "-$0'"},
      {"math.fma", "f32, f32, f32 -> f32", "fmaf($0, $1, $2)", "$0 * $1 + $2, rounded once",
       "$0' $1 + $0 $1' + $2'"},
      {"math.absf", "f32 -> f32", "fabsf($0)", "absolute value", "$0' above 0, -$0' below, 0 at 0"},
      {"arith.maximumf", "f32, f32 -> f32", "maximum_or_nan($0, $1)",
       "the larger; NaN where an operand is NaN",
       "that of the larger; of the first where both are equal"},
      {"arith.minimumf", "f32, f32 -> f32", "minimum_or_nan($0, $1)",
       "the smaller; NaN where an operand is NaN",
       "that of the smaller; of the first where both are equal"},
      {"arith.maxnumf", "f32, f32 -> f32", "fmaxf($0, $1)",
       "the larger; the other operand where one is NaN", "as arith.maximumf"},
      {"arith.minnumf", "f32, f32 -> f32", "fminf($0, $1)",
       "the smaller; the other operand where one is NaN", "as arith.minimumf"},
      {"math.floor", "f32 -> f32", "floorf($0)", "the next whole number downwards", kNoDerivative},
      {"math.ceil", "f32 -> f32", "ceilf($0)", "the next whole number upwards", kNoDerivative},
      {"math.trunc", "f32 -> f32", "truncf($0)", "the next whole number towards zero",
       kNoDerivative},
      {"math.roundeven", "f32 -> f32", "rintf($0)", "the nearest whole number, halves to even",
       kNoDerivative},
      {"math.sqrt", "f32 -> f32", "sqrtf($0)", "square root; NaN below zero", "$0' / (2 sqrt($0))"},
      {"math.rsqrt", "f32 -> f32", "rsqrtf($0)", "1 / square root", "-$0' rsqrt($0)^3 / 2"},
      {"math.exp", "f32 -> f32", "__expf($0)", "e^x", "$0' exp($0)"},
      {"math.exp2", "f32 -> f32", "exp2_fast($0)", "2^x; less than 2^-126 may become 0",
       "$0' exp2($0) log(2)"},
      {"math.log", "f32 -> f32", "__logf($0)", "natural logarithm; -inf of 0, NaN below",
       "$0' / $0"},
      {"math.log2", "f32 -> f32", "__log2f($0)", "logarithm to base 2; -inf of 0, NaN below",
       "$0' / ($0 log(2))"},
      {"math.powf", "f32, f32 -> f32", "powf($0, $1)", "$0 to the power $1, as C's pow",
       "$0' $1 pow($0, $1 - 1) + $1' pow($0, $1) log($0)"},
      {"math.tanh", "f32 -> f32", "tanh_fast($0)", "hyperbolic tangent, off by up to 2^-10 of it",
       "$0' (1 - tanh($0)^2)"},
      {"math.erf", "f32 -> f32", "erff($0)", "error function", "$0' 2 / sqrt(pi) exp(-$0^2)"},
      {"math.sin", "f32 -> f32", "sinf($0)", "sine of radians", "$0' cos($0)"},
      {"math.cos", "f32 -> f32", "cosf($0)", "cosine of radians", "-$0' sin($0)"},

      {"arith.cmpf oeq", "f32, f32 -> i1", "$0 == $1", "equal"},
      {"arith.cmpf ogt", "f32, f32 -> i1", "$0 > $1", "greater"},
      {"arith.cmpf oge", "f32, f32 -> i1", "$0 >= $1", "greater or equal"},
      {"arith.cmpf olt", "f32, f32 -> i1", "$0 < $1", "less"},
      {"arith.cmpf ole", "f32, f32 -> i1", "$0 <= $1", "less or equal"},
      {"arith.cmpf one", "f32, f32 -> i1", "less_or_greater($0, $1)", "not equal, and none is NaN"},
      {"arith.cmpf ord", "f32, f32 -> i1", "are_numbers($0, $1)", "none is NaN"},
      {"arith.cmpf ueq", "f32, f32 -> i1", "!less_or_greater($0, $1)", "equal, or one is NaN"},
      {"arith.cmpf ugt", "f32, f32 -> i1", "!($0 <= $1)", "greater, or one is NaN"},
      {"arith.cmpf uge", "f32, f32 -> i1", "!($0 < $1)", "greater or equal, or one is NaN"},
      {"arith.cmpf ult", "f32, f32 -> i1", "!($0 >= $1)", "less, or one is NaN"},
      {"arith.cmpf ule", "f32, f32 -> i1", "!($0 > $1)", "less or equal, or one is NaN"},
      {"arith.cmpf une", "f32, f32 -> i1", "$0 != $1", "not equal, or one is NaN"},
      {"arith.cmpf uno", "f32, f32 -> i1", "!are_numbers($0, $1)", "one is NaN"},

      {"arith.addi", "i32, i32 -> i32", "wrap_add($0, $1)", "sum, modulo 2^32"},
      {"arith.subi", "i32, i32 -> i32", "wrap_subtract($0, $1)", "difference, modulo 2^32"},
      {"arith.muli", "i32, i32 -> i32", "wrap_multiply($0, $1)", "product, modulo 2^32"},
      {"arith.divsi", "i32, i32 -> i32", "divide($0, $1)",
       "quotient towards zero; 0 by zero, and -2^31 / -1 is -2^31"},
      {"arith.remsi", "i32, i32 -> i32", "remainder_of($0, $1)",
       "remainder with the sign of $0; 0 by zero, and -2^31 by -1 leaves 0"},
      {"arith.divui", "i32, i32 -> i32", "divide_unsigned($0, $1)",
       "quotient of numbers without sign; 0 by zero"},
      {"arith.remui", "i32, i32 -> i32", "remainder_unsigned($0, $1)",
       "remainder of numbers without sign; 0 by zero"},
      {"arith.maxsi", "i32, i32 -> i32", "max($0, $1)", "the larger"},
      {"arith.minsi", "i32, i32 -> i32", "min($0, $1)", "the smaller"},
      {"arith.maxui", "i32, i32 -> i32", "max_unsigned($0, $1)",
       "the larger of numbers without sign"},
      {"arith.minui", "i32, i32 -> i32", "min_unsigned($0, $1)",
       "the smaller of numbers without sign"},
      {"arith.shli", "i32, i32 -> i32", "shift_left($0, $1)",
       "$0 * 2^n modulo 2^32, n = $1 modulo 32"},
      {"arith.shrsi", "i32, i32 -> i32", "shift_right($0, $1)",
       "$0 / 2^n rounded downwards, n = $1 modulo 32"},
      {"arith.shrui", "i32, i32 -> i32", "shift_right_unsigned($0, $1)",
       "the same of a number without sign"},
      {"arith.andi", "i32, i32 -> i32; i1, i1 -> i1", "$0 & $1; $0 && $1", "and, bit by bit"},
      {"arith.ori", "i32, i32 -> i32; i1, i1 -> i1", "$0 | $1; $0 || $1", "or, bit by bit"},
      {"arith.xori", "i32, i32 -> i32; i1, i1 -> i1", "$0 ^ $1; $0 != $1",
       "exclusive or, bit by bit"},

      {"arith.cmpi eq", "i32, i32 -> i1", "$0 == $1", "equal"},
      {"arith.cmpi ne", "i32, i32 -> i1", "$0 != $1", "not equal"},
      {"arith.cmpi slt", "i32, i32 -> i1", "$0 < $1", "less"},
      {"arith.cmpi sle", "i32, i32 -> i1", "$0 <= $1", "less or equal"},
      {"arith.cmpi sgt", "i32, i32 -> i1", "$0 > $1", "greater"},
      {"arith.cmpi sge", "i32, i32 -> i1", "$0 >= $1", "greater or equal"},
      {"arith.cmpi ult", "i32, i32 -> i1", "unsigned($0) < unsigned($1)", "less, without sign"},
      {"arith.cmpi ule", "i32, i32 -> i1", "unsigned($0) <= unsigned($1)",
       "less or equal, without sign"},
      {"arith.cmpi ugt", "i32, i32 -> i1", "unsigned($0) > unsigned($1)", "greater, without sign"},
      {"arith.cmpi uge", "i32, i32 -> i1", "unsigned($0) >= unsigned($1)",
       "greater or equal, without sign"},

      {"arith.sitofp", "i32 -> f32", "float($0)", "the nearest fp32 number"},
      {"arith.uitofp", "i32 -> f32; i1 -> f32", "float(unsigned($0))",
       "the nearest fp32 number, without sign: true is 1"},
      {"arith.fptosi", "f32 -> i32", "to_int($0)",
       "towards zero; the nearest i32 outside its range, 0 of NaN", kNoDerivative},
      {"arith.fptoui", "f32 -> i32", "to_unsigned($0)",
       "the same without sign: 0 below zero, 2^32 - 1 from there on", kNoDerivative},
      {"arith.extsi", "i1 -> i32", "-int($0)", "true becomes -1"},
      {"arith.extui", "i1 -> i32", "int($0)", "true becomes 1"},
      {"arith.trunci", "i32 -> i1", "is_odd($0)", "the lowest bit"},
      {"arith.truncf", "f32 -> bf16; f32 -> f16", "round_to<bf16>($0); round_to<fp16>($0)",
       "rounded to the nearest 16-bit number, halves to even; what is too large becomes infinite",
       "$0', as if nothing were rounded"},
      {"arith.extf", "bf16 -> f32; f16 -> f32", "$0", "the same number", "$0'"},
  };
  return ops;
}

const RegionOp *findRegionOp(std::string_view name) {
  const auto &ops = regionOps();
  auto found =
      std::find_if(ops.begin(), ops.end(), [&](const RegionOp &op) { return op.name == name; });
  return found == ops.end() ? nullptr : &*found;
}

static std::vector<std::string> alternatives(std::string_view text) {
  std::vector<std::string> parts;
  for (size_t end; (end = text.find("; ")) != text.npos; text.remove_prefix(end + 2))
    parts.emplace_back(text.substr(0, end));
  parts.emplace_back(text);
  return parts;
}

std::vector<std::string> signaturesOf(const RegionOp &op) { return alternatives(op.types); }

std::string spellingOf(const RegionOp &op, const std::string &signature) {
  std::vector<std::string> spellings = alternatives(op.cuda), types = alternatives(op.types);
  auto at = std::find(types.begin(), types.end(), signature) - types.begin();
  return spellings[std::min<size_t>(at, spellings.size() - 1)];
}

std::string regionOpsText() {
  // Operands read as a, b, c; a bar inside a cell would end it.
  auto cell = [](std::string text) {
    for (size_t at = 0; (at = text.find_first_of("$|", at)) != text.npos; at += 2)
      if (text[at] == '|')
        text.insert(at, "\\");
      else
        text.replace(at, 2, 1, static_cast<char>('a' + text[at + 1] - '0')), --at;
    return text;
  };
  std::string text = "| op | types | meaning | derivative | CUDA |\n|---|---|---|---|---|\n";
  for (const RegionOp &op : regionOps())
    text += std::string("| ") + op.name + " | " + op.types + " | " + cell(op.meaning) + " | " +
            cell(op.derivative) + " | `" + cell(op.cuda) + "` |\n";
  return text;
}

} // namespace winnow

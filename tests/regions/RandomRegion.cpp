// See RandomRegion.h.
#include "tests/regions/RandomRegion.h"
#include "dialect/select/RegionOps.h"
#include <algorithm>
#include <fmt/format.h>
#include <random>
#include <vector>

namespace winnow {
namespace {

/// What is known of a value. An exact one is the same on every back end; it is a multiple of 2^unit
/// and at most 2^most where those are known.
struct Known {
  std::string name, type;
  bool exact = true, constant = false, used = false;
  int most = 999, unit = -999;
  bool fits() const { return most - unit <= 24; }
};

std::vector<std::string> split(std::string text, const std::string &separator) {
  std::vector<std::string> parts;
  for (size_t end; (end = text.find(separator)) != text.npos; text.erase(0, end + separator.size()))
    parts.push_back(text.substr(0, end));
  if (!text.empty())
    parts.push_back(text);
  return parts;
}

class Drawing {
public:
  Drawing(uint64_t seed, bool withLogit) : random(seed) {
    text = "^bb0(%value: f32, %query: i32, %key: i32):\n";
    if (withLogit)
      values.push_back({"%value", "f32", true, false, false, 5, -3});
    values.push_back({"%query", "i32"});
    values.push_back({"%key", "i32"});
    for (int i = 0; i < 3; ++i) {
      constant("f32");
      constant("i32");
    }
  }

  /// Adds an op, if one that was drawn finds operands.
  void step(bool withTanh = true) {
    const RegionOp &op = regionOps()[pick(regionOps().size())];
    std::string name = op.name;
    if (name == "arith.constant" || (name == "math.tanh" && !withTanh))
      return;
    std::vector<std::string> signatures = signaturesOf(op);
    std::vector<std::string> sides = split(signatures[pick(signatures.size())], " -> ");
    std::vector<Known *> operands;
    for (const std::string &type : split(sides[0], ", ")) {
      Known *found = any(type);
      if (!found)
        return;
      operands.push_back(found);
    }
    Known result{fmt::format("%x{}", count), sides[1]};
    if (!judge(name, operands, result))
      return;
    add(name, operands, result);
  }

  /// The last number that is rounded, if there is one.
  const Known *lastRounded() const {
    for (size_t i = values.size(); i-- > 0;)
      if (values[i].type == "f32" && !values[i].exact)
        return &values[i];
    return nullptr;
  }

  /// All exact values that nothing uses, as whole numbers, in one number below `modulus`.
  Known fold(int modulus) {
    size_t sum = constant("i32");
    for (size_t i = 0, count = values.size(); i < count; ++i) {
      if (values[i].constant || values[i].used || !values[i].exact)
        continue;
      size_t whole = i;
      if (values[i].type == "bf16" || values[i].type == "f16")
        whole = convert("arith.extf", whole, "f32");
      if (values[whole].type == "f32")
        whole = convert("arith.fptosi", whole, "i32");
      if (values[whole].type == "i1")
        whole = convert("arith.extui", whole, "i32");
      sum = combine("arith.xori", sum, whole);
    }
    line(fmt::format("%modulus = arith.constant {} : i32", modulus));
    values.push_back({"%modulus", "i32", true, true});
    sum = combine("arith.remsi", sum, values.size() - 1);
    return values[convert("arith.sitofp", sum, "f32")];
  }

  std::string text;
  void line(const std::string &one) { text += "    " + one + "\n"; }

private:
  size_t pick(size_t bound) { return random() % bound; }

  size_t convert(const std::string &name, size_t from, const std::string &type) {
    return add(name, {&values[from]}, {fmt::format("%x{}", count), type});
  }
  size_t combine(const std::string &name, size_t a, size_t b) {
    return add(name, {&values[a], &values[b]}, {fmt::format("%x{}", count), "i32"});
  }

  Known *any(const std::string &type) {
    std::vector<Known *> fitting;
    for (Known &value : values)
      if (value.type == type)
        fitting.push_back(&value);
    // Late values more often, so that ops stand on ops.
    return fitting.empty() ? nullptr
                           : fitting[std::max(pick(fitting.size()), pick(fitting.size()))];
  }

  size_t constant(const std::string &type) {
    static constexpr int whole[] = {0,  1,  -1, 3,    7,          31,
                                    32, 33, -5, 1000, 2147483647, -2147483647 - 1};
    std::string name = fmt::format("%c{}", count++);
    int quarters = static_cast<int>(pick(65)) - 32;
    if (type == "f32")
      line(fmt::format("{} = arith.constant {:.2f} : f32", name, quarters / 4.0));
    else
      line(fmt::format("{} = arith.constant {} : i32", name, whole[pick(std::size(whole))]));
    values.push_back({name, type, true, true, false, 3, -2});
    return values.size() - 1;
  }

  size_t add(const std::string &name, const std::vector<Known *> &operands, const Known &result) {
    std::string names;
    for (Known *operand : operands) {
      operand->used = true;
      names += (names.empty() ? "" : ", ") + operand->name;
    }
    // "arith.cmpf olt" is written "arith.cmpf olt, %a, %b".
    std::string one =
        result.name + " = " + name + (name.find(' ') != name.npos ? ", " : " ") + names;
    const std::string &type = operands.back()->type;
    bool converts = operands.size() == 1 && type != result.type;
    line(one + " : " + (converts ? type + " to " + result.type : type));
    values.push_back(result);
    return ++count, values.size() - 1;
  }

  /// Whether the op may take these operands, and what is known of its result.
  static bool judge(const std::string &name, const std::vector<Known *> &x, Known &result) {
    bool exact = true;
    int most = -999, unit = 999;
    for (const Known *operand : x)
      if (operand->type != "i1" && operand->type != "i32") {
        exact = exact && operand->exact;
        most = std::max(most, operand->most);
        unit = std::min(unit, operand->unit);
      }
    auto is = [&](std::initializer_list<const char *> names) {
      return std::find(names.begin(), names.end(), name) != names.end();
    };
    result.exact = exact;
    result.most = most;
    result.unit = unit;
    if (is({"arith.select", "arith.negf", "math.absf", "arith.maximumf", "arith.minimumf",
            "arith.maxnumf", "arith.minnumf"}))
      return true; // these keep relative errors as they are
    if (name == "arith.mulf") {
      result.most = x[0]->most + x[1]->most;
      result.unit = x[0]->unit + x[1]->unit;
      // A product that is rounded may be fused with a sum, and is not exact then.
      result.exact = exact && result.fits();
      return result.most < 60 && (exact || x[0]->constant || x[1]->constant);
    }
    if (!exact)
      return false;
    if (is({"arith.addf", "arith.subf"})) {
      result.most = most + 1;
      return true;
    }
    if (name == "math.fma") {
      result.most = std::max(x[0]->most + x[1]->most, x[2]->most) + 1;
      result.unit = std::min(x[0]->unit + x[1]->unit, x[2]->unit);
      result.exact = result.fits();
      return result.most < 60;
    }
    if (name == "arith.divf" || name == "math.sqrt") {
      result.exact = name == "math.sqrt" || !x[1]->constant;
      result.most = 999, result.unit = -999;
      return true;
    }
    if (is({"arith.sitofp", "arith.uitofp"})) {
      result.most = 32, result.unit = 0;
      return true;
    }
    if (is({"math.floor", "math.ceil", "math.trunc", "math.roundeven"})) {
      result.unit = 0;
    } else if (name.rfind("math.", 0) == 0) {
      result.exact = false;
      result.most = 999, result.unit = -999;
      if (is({"math.exp", "math.exp2"}))
        return most <= 6;
      if (name == "math.powf")
        return x[0]->most <= 5 && x[1]->constant;
      if (is({"math.sin", "math.cos"}))
        return most <= 12;
    }
    return true;
  }

  std::mt19937_64 random;
  std::vector<Known> values;
  int count = 0;
};

} // namespace

RandomRegion drawRegion(uint64_t seed) {
  Drawing drawing(seed, /*withLogit=*/true);
  for (int i = 0; i < 40; ++i)
    drawing.step();
  const Known *rounded = seed % 2 ? drawing.lastRounded() : nullptr;
  Known last = rounded ? *rounded : drawing.fold(99991);
  drawing.line("select.yield " + last.name + " : f32");
  return {drawing.text, last.exact};
}

RandomRegion drawBias(uint64_t seed) {
  Drawing drawing(seed, /*withLogit=*/false);
  for (int i = 0; i < 40; ++i)
    drawing.step(/*withTanh=*/false);
  std::string last = drawing.fold(9).name;
  drawing.line("%quarter = arith.constant 0.25 : f32");
  drawing.line("%bias = arith.mulf " + last + ", %quarter : f32");
  drawing.line("%sum = arith.addf %value, %bias : f32");
  drawing.line("select.yield %sum : f32");
  return {drawing.text, false};
}

std::string methodWith(const std::string &region) {
  return "select.method @m doc \"a region\" params() (%q, %k, %v) {\n"
         "  %o = select.attend %q, %k, %v rewrite {\n  " +
         region + "  }\n  select.return %o\n}\n";
}

} // namespace winnow

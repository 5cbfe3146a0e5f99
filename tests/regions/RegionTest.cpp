// One meaning per region op on every back end: each op of the table on its edge values, and random
// regions. `region_tests --print SEED` prints a random method for `winnow run FILE --check`.
#include "compiler/cuda/Nvrtc.h"
#include "tests/regions/RandomRegion.h"
#include "tests/regions/Regions.h"
#include <cmath>
#include <cstdio>
#include <fmt/format.h>
#include <fstream>
#include <gtest/gtest.h>
#include <limits>
#include <random>

using namespace winnow;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
const float kNan = std::nanf("");
const std::vector<int32_t> kWhole = {0,  1,  -1, 2,  3,     -7,     31,        32,
                                     33, 63, 64, -5, 65536, 123456, INT32_MIN, INT32_MAX};
const std::vector<float> kReals = {0.f,   -0.f,      1.f,        -1.f,   0.5f,  -2.5f,
                                   3.25f, 100.f,     -1e10f,     3e9f,   3e38f, 1e-40f,
                                   kNan,  kInfinity, -kInfinity, 65519.f};

/// Equal, or both NaN, or within a few units in the last place. `Exact` for what must be equal.
bool agrees(float got, float want, bool exact) {
  if (std::isnan(got) || std::isnan(want))
    return std::isnan(got) && std::isnan(want);
  if (got == want || exact)
    return got == want;
  return std::fabs(got - want) <= 2e-5f * std::fabs(want) + 1e-6f;
}

void expectOneMeaning(Regions &regions, const std::vector<bool> &exact,
                      const std::vector<RegionInput> &inputs) {
  auto want = regions.reference(inputs), cpu = regions.cpu(inputs), cuda = regions.printed(inputs);
  int shown = 0;
  for (size_t i = 0; i < regions.count(); ++i)
    for (auto [name, got] : {std::pair("CPU", &cpu[i]), std::pair("CUDA text", &cuda[i])}) {
      ASSERT_EQ(got->size(), inputs.size());
      for (size_t j = 0; j < inputs.size() && shown < 10; ++j) {
        if (agrees((*got)[j], want[i][j], exact[i]))
          continue;
        ADD_FAILURE() << name << " gives " << (*got)[j] << ", the reference " << want[i][j]
                      << " for (" << inputs[j].value << ", " << inputs[j].query << ", "
                      << inputs[j].key << ") in\n"
                      << regions.text(i);
        ++shown;
        break;
      }
    }
}

/// Regions of one op each; operands are the arguments or, where those do not suffice, constants.
class OneOp {
public:
  OneOp(Regions &regions, std::vector<bool> &exact) : regions(regions), exact(exact) {}

  void add(const RegionOp &op) {
    for (const std::string &types : signaturesOf(op)) {
      std::string from = types.substr(0, types.find("->")),
                  to = types.substr(types.find("-> ") + 3);
      if (from.empty()) {
        literals(to);
        continue;
      }
      std::vector<std::string> operands;
      for (size_t begin = 0; begin < from.size(); begin += operands.back().size() + 2)
        operands.push_back(from.substr(begin, from.find_first_of(", ", begin) - begin));
      // Two numbers: each constant, in turns on either side of the argument.
      bool manyReals = std::count(operands.begin(), operands.end(), "f32") > 1;
      for (size_t i = 0; i < (manyReals ? kReals.size() : 1); ++i)
        one(op, operands, to, kReals[i], !manyReals || i % 2);
    }
  }

private:
  static std::string bits(float value) {
    uint32_t word;
    std::memcpy(&word, &value, sizeof word);
    return fmt::format("0x{:08X}", word);
  }

  void literals(const std::string &type) {
    auto yield = [&](const std::string &value, const std::string &convert) {
      finish("%x = arith.constant " + value + (type == "i1" ? "" : " : " + type) + "\n" + convert,
             true);
    };
    if (type == "f32")
      for (float value : kReals)
        yield(bits(value), "select.yield %x : f32\n");
    else if (type == "i32")
      for (int32_t value : kWhole)
        yield(std::to_string(value), "%y = arith.sitofp %x : i32 to f32\nselect.yield %y : f32\n");
    else
      yield("true", "%y = arith.uitofp %x : i1 to f32\nselect.yield %y : f32\n");
  }

  void one(const RegionOp &op, const std::vector<std::string> &operands, const std::string &to,
           float constant, bool first) {
    std::string text = "%c = arith.constant " + bits(constant) + " : f32\n";
    text += "%small = arith.cmpi slt, %query, %key : i32\n%odd = arith.trunci %key : i32 to i1\n";
    if (operands[0] == "bf16" || operands[0] == "f16")
      text += "%half = arith.truncf %value : f32 to " + operands[0] + "\n";
    std::string names;
    int reals = 0, whole = 0, flags = 0;
    for (const std::string &type : operands) {
      names += names.empty() ? "" : ", ";
      if (type == "f32") {
        const bool isFirst = reals == 0;
        ++reals;
        names += isFirst == first || reals > 2 ? "%value" : "%c";
      } else if (type == "i32")
        names += whole++ == 0 ? "%query" : "%key";
      else
        names += type == "i1" ? (flags++ == 0 ? "%small" : "%odd") : "%half";
    }
    std::string name = op.name;
    bool converts = operands.size() == 1 && operands[0] != to;
    text += "%x = " + name + (name.find(' ') != name.npos ? ", " : " ") + names + " : " +
            (converts ? operands[0] + " to " + to : operands.back()) + "\n";
    std::string result = "%x";
    if (to == "i32" || to == "i1") {
      text += fmt::format("%y = arith.{} %x : {} to f32\n", to == "i1" ? "uitofp" : "sitofp", to);
      result = "%y";
    } else if (to != "f32") {
      text += "%y = arith.extf %x : " + to + " to f32\n";
      result = "%y";
    }
    // By a constant a quotient may be a product.
    bool rounds = name == "arith.divf" ||
                  (name.rfind("math.", 0) == 0 && name != "math.floor" && name != "math.ceil" &&
                   name != "math.trunc" && name != "math.roundeven" && name != "math.absf");
    finish(text + "select.yield " + result + " : f32\n", !rounds);
  }

  void finish(const std::string &body, bool isExact) {
    regions.add("^bb0(%value: f32, %query: i32, %key: i32):\n" + body);
    exact.push_back(isExact);
  }

  Regions &regions;
  std::vector<bool> &exact;
};

TEST(Regions, EveryOpOnItsEdges) {
  Regions regions;
  std::vector<bool> exact;
  for (const RegionOp &op : regionOps())
    OneOp(regions, exact).add(op);
  std::vector<RegionInput> inputs;
  for (size_t i = 0; i < kWhole.size(); ++i)
    for (size_t j = 0; j < kWhole.size(); ++j)
      inputs.push_back({kReals[i], kWhole[i], kWhole[j]});
  expectOneMeaning(regions, exact, inputs);
}

TEST(Regions, Random) {
  Regions regions;
  std::vector<bool> exact;
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    RandomRegion region = drawRegion(seed);
    regions.add(region.text);
    exact.push_back(region.exact);
  }
  EXPECT_GT(std::count(exact.begin(), exact.end(), true), 90);
  std::mt19937_64 random(7);
  std::vector<RegionInput> inputs;
  for (int i = 0; i < 160; ++i) {
    auto whole = [&] {
      return random() % 3 ? kWhole[random() % kWhole.size()] : static_cast<int32_t>(random());
    };
    float value = static_cast<float>(static_cast<int>(random() % 512) - 256) / 8;
    const float special[] = {kNan, kInfinity, -kInfinity, -0.f};
    inputs.push_back({random() % 8 ? value : special[random() % 4], whole(), whole()});
  }
  expectOneMeaning(regions, exact, inputs);
}

/// Slopes of the reference and those of the derived regions, run as any region is.
void expectOneSlope(Regions &regions, const std::vector<RegionInput> &inputs) {
  Regions derived;
  std::vector<size_t> from;
  for (size_t i = 0; i < regions.count(); ++i)
    if (std::string text = regions.derivative(i); !text.empty()) {
      derived.add(text);
      from.push_back(i);
    }
  const auto want = regions.slopes(inputs), cpu = derived.cpu(inputs),
             cuda = derived.printed(inputs);
  for (size_t i = 0; i < from.size(); ++i)
    for (size_t j = 0; j < inputs.size(); ++j) {
      const float slope = want[from[i]][j];
      // Not at a pole, nor outside of where the op has a value.
      if (!std::isfinite(slope) || std::fabs(slope) > 1e6f)
        continue;
      const float bound = 1e-4f * std::fabs(slope) + 1e-5f;
      for (auto [name, got] : {std::pair("CPU", cpu[i][j]), std::pair("CUDA text", cuda[i][j])})
        ASSERT_NEAR(got, slope, bound) << name << " for (" << inputs[j].value << ", "
                                       << inputs[j].query << ", " << inputs[j].key << ") of\n"
                                       << regions.text(from[i]) << "whose derivative is\n"
                                       << derived.text(i);
    }
}

/// Arguments that are no edges: derivatives of what overflows or is NaN are nobody's.
std::vector<RegionInput> plainInputs() {
  std::vector<RegionInput> inputs;
  for (float value : {-3.5f, -1.f, -0.25f, 0.f, 0.5f, 0.75f, 1.f, 2.f, 3.f, 6.5f})
    for (int query : {0, 3, 40})
      inputs.push_back({value, query, 2});
  return inputs;
}

// A derivative is there where the table says so, and it is the textbook's.
TEST(Derivatives, EveryOpHasThatOfTheTable) {
  Regions regions;
  for (const RegionOp &op : regionOps()) {
    std::vector<bool> exact;
    const size_t first = regions.count();
    OneOp(regions, exact).add(op);
    const bool isRefused = std::string(op.derivative) == kNoDerivative;
    for (size_t i = first; i < regions.count(); ++i)
      EXPECT_EQ(regions.derivative(i).empty(), isRefused) << op.name << ":\n" << regions.text(i);
  }
  expectOneSlope(regions, plainInputs());
}

// One op's derivative goes into the next.
TEST(Derivatives, ChainsOfOps) {
  Regions regions;
  const std::string head = "^bb0(%value: f32, %query: i32, %key: i32):\n"
                           "%c = arith.constant 0.3 : f32\n%d = arith.sitofp %query : i32 to f32\n";
  regions.add(head + "%a = arith.mulf %value, %c : f32\n%e = math.exp %a : f32\n"
                     "%s = math.fma %value, %value, %c : f32\n%r = math.sqrt %s : f32\n"
                     "%p = arith.divf %e, %r : f32\n%t = math.tanh %p : f32\n"
                     "%y = arith.subf %t, %d : f32\nselect.yield %y : f32\n");
  regions.add(head + "%far = arith.cmpf ogt, %value, %c : f32\n%n = arith.negf %value : f32\n"
                     "%m = math.sin %n : f32\n%x = arith.select %far, %m, %d : f32\n"
                     "%h = arith.truncf %x : f32 to bf16\n%w = arith.extf %h : bf16 to f32\n"
                     "%y = arith.mulf %w, %value : f32\nselect.yield %y : f32\n");
  regions.add(head + "select.yield %d : f32\n");
  regions.add(head + "select.yield %value : f32\n");
  expectOneSlope(regions, plainInputs());
}

// The table in the documentation is the one that `winnow methods --ops` prints.
TEST(Regions, DocumentationHasTheTable) {
  std::ifstream file(WINNOW_REGIONS_PAGE);
  std::string page{std::istreambuf_iterator<char>(file), {}};
  EXPECT_NE(page.find(regionOpsText()), std::string::npos)
      << "put what `winnow methods --ops` prints at the end of docs/regions.md";
}

// What is printed is also what NVRTC takes.
TEST(Regions, PrintedTextCompiles) {
  Regions regions;
  std::vector<bool> exact;
  for (const RegionOp &op : regionOps())
    OneOp(regions, exact).add(op);
  for (uint64_t seed = 1; seed <= 40; ++seed)
    regions.add(drawRegion(seed).text);
  Result<std::shared_ptr<const Nvrtc>> nvrtc = Nvrtc::open();
  ASSERT_TRUE(nvrtc) << nvrtc.error().message;
  Result<Nvrtc::Output> output = (*nvrtc)->compile(regions.kernel(), "regions", "sm_80");
  EXPECT_TRUE(output) << output.error().message;
}

} // namespace

int main(int argc, char **argv) {
  if (argc == 3 && std::string(argv[1]) == "--print") {
    std::fputs(methodWith(drawBias(std::stoull(argv[2])).text).c_str(), stdout);
    return 0;
  }
  testing::InitGoogleTest(&argc, argv);
  return RUN_ALL_TESTS();
}

// See SmallCases.h. The table has each group size, dimension, block and dtype, and batches with
// empty sequences, single tokens, tokens behind a history, and ends of windows, blocks and tiles.
#include "reference/conformance/SmallCases.h"
#include "runtime/program/Tunables.h"
#include <algorithm>
#include <fmt/format.h>
#include <iterator>

namespace winnow {
namespace {

using Lengths = std::vector<std::pair<int, int>>; ///< (query tokens, key tokens)

struct SmallSpec {
  int heads, kvHeads, headDim, valueDim, block, topk;
  Dtype dtype;
  int init, local;
  const char *data;
  Lengths sequences;
};

const std::vector<SmallSpec> &specs() {
  constexpr Dtype bf16 = Dtype::BF16, fp16 = Dtype::FP16;
  static const auto &table = *new std::vector<SmallSpec>{
      {4, 4, 64, 0, 16, 6, bf16, 1, 1, "normal", {{33, 300}, {0, 0}, {1, 200}, {17, 17}}},
      {2, 1, 64, 0, 32, 4, fp16, 1, 1, "normal", {{0, 77}, {65, 65}, {7, 447}}},
      {4, 1, 64, 0, 64, 3, bf16, 0, 1, "ties", {{16, 511}, {16, 513}, {1, 31}}},
      {6, 1, 64, 0, 32, 5, bf16, 1, 2, "poison", {{40, 333}, {3, 3}, {0, 0}}},
      {8, 1, 64, 0, 16, 8, fp16, 2, 1, "wide", {{31, 143}, {32, 144}, {1, 1}}},
      {12, 1, 64, 0, 64, 2, bf16, 0, 1, "normal", {{20, 400}, {5, 63}}},
      {16, 1, 64, 0, 64, 3, bf16, 1, 1, "normal", {{15, 600}, {64, 64}}},
      {16, 1, 128, 0, 64, 4, bf16, 1, 1, "normal", {{9, 577}, {30, 127}, {1, 1}}},
      {16, 1, 128, 0, 64, 3, fp16, 0, 0, "peaks", {{12, 640}, {0, 0}}},
      {32, 2, 64, 0, 32, 4, bf16, 1, 1, "normal", {{11, 300}, {4, 95}}},
      {8, 2, 128, 0, 32, 4, fp16, 1, 1, "poison", {{30, 222}, {1, 129}}},
      {4, 2, 128, 0, 128, 2, bf16, 0, 1, "normal", {{50, 500}, {1, 128}, {1, 129}}},
      {2, 2, 128, 0, 64, 3, bf16, 1, 1, "huge", {{70, 450}, {2, 2}}},
      {4, 1, 96, 0, 32, 4, bf16, 1, 1, "normal", {{24, 310}, {15, 15}}},
      {8, 1, 192, 128, 64, 3, bf16, 1, 1, "normal", {{18, 400}, {3, 65}}},
      {2, 1, 256, 0, 64, 3, fp16, 1, 1, "normal", {{21, 380}, {1, 256}}},
      {4, 1, 64, 128, 64, 1, bf16, 0, 1, "normal", {{40, 350}, {64, 128}}},
      {3, 3, 96, 64, 32, 3, fp16, 0, 1, "ties", {{30, 255}, {2, 257}}},
      {6, 1, 256, 64, 128, 2, bf16, 0, 1, "sigma8", {{10, 700}, {1, 127}}},
      {12, 2, 64, 0, 16, 7, fp16, 1, 2, "beyond", {{19, 180}, {6, 33}, {0, 0}, {2, 48}}},
      {6, 2, 64, 0, 32, 4, bf16, 1, 1, "normal", {{20, 300}, {3, 40}}},
      {5, 1, 128, 0, 64, 3, fp16, 1, 1, "normal", {{18, 400}, {1, 1}}},
      {14, 2, 64, 0, 64, 3, bf16, 0, 1, "beyond", {{15, 420}, {0, 0}}},
      {32, 1, 64, 0, 64, 3, bf16, 1, 1, "normal", {{9, 400}}},
      {64, 1, 64, 0, 32, 4, fp16, 1, 1, "normal", {{7, 300}, {1, 33}}},
      {4, 2, 64, 0, 256, 2, bf16, 0, 1, "normal", {{12, 1300}, {1, 256}}},
      {2, 1, 64, 0, 1024, 2, fp16, 0, 1, "normal", {{6, 3200}}},
  };
  return table;
}

/// Further settings of a method's parameters, by turns: where a method declares the first one.
struct Setting {
  const char *parameter, *value;
};
constexpr Setting kSettings[] = {{"compat", "infllmv2"},
                                 {"lse", "exact"},
                                 {"lse", "none"},
                                 {"dense_len", "128"},
                                 {"dense_len", "-1"}};

class SmallTable {
public:
  explicit SmallTable(const DrawSpace &space) : space(space) {}

  Result<SmallCases> make() {
    for (size_t i = 0; i < specs().size(); ++i)
      for (size_t m = 0; m < space.methods.size(); ++m) {
        ConformanceCase test = caseOf(i, space.methods[m]);
        if (Status served = space.serves(test.method, test.spec, test.config); !served)
          return fail(served.error().kind, test.name + ": " + served.error().message);
        found.cases.push_back(test);
        if ((i + m) % 4 == 0 && !space.methods[m].parameters.empty()) {
          test.name += "_ids";
          test.givenIds = true;
          found.cases.push_back(test);
        }
      }
    for (const DrawSpace::Tunable &tunable : space.tunables)
      for (int value : tunable.values)
        WINNOW_CHECK(addTuned(tunable, value));
    return std::move(found);
  }

private:
  ConformanceCase caseOf(size_t index, const DrawSpace::Method &method) const {
    const SmallSpec &row = specs()[index];
    ConformanceCase test;
    test.name = fmt::format("small_{:02}_{}", index, method.name);
    test.method = method.name;
    test.spec.heads = row.heads, test.spec.kvHeads = row.kvHeads;
    test.spec.headDim = row.headDim, test.spec.valueDim = row.valueDim;
    test.spec.block = row.block, test.spec.topk = row.topk;
    test.spec.dtype = row.dtype;
    auto set = [&](const char *name, const std::string &value) {
      if (method.parameters.count(name))
        test.spec.params[name] = value;
    };
    set("init", std::to_string(row.init));
    set("local", std::to_string(row.local));
    if (row.block > 128) { // a block holds at most 8 strides of the scored summaries
      set("window", std::to_string(row.block / 2));
      set("stride", std::to_string(row.block / 4));
      set("coarse_window", std::to_string(row.block));
      set("coarse_stride", std::to_string(row.block / 2));
    }
    const Setting &setting = kSettings[index % std::size(kSettings)];
    set(setting.parameter, setting.value);
    test.data = row.data;
    test.sequences = row.sequences;
    test.seed = 100 + index;
    test.rows = 400; // all of them
    return test;
  }

  /// The last tokens of each sequence alone, over pages, with the summaries that an engine keeps.
  static void decodeFromPages(ConformanceCase &test) {
    constexpr int kQueries = 5;
    test.spec.paged = test.keepsRows = true;
    test.layout = "halves";
    test.pageSize = 16;
    for (auto &[queries, keys] : test.sequences)
      queries = std::min(queries, kQueries);
  }

  /// The case of a tunable's value: the first of the specs, begun at another one for each value,
  /// and of the methods that has such kernels.
  Status addTuned(const DrawSpace::Tunable &tunable, int value) {
    WINNOW_TRY(Config config, Config::parse(fmt::format("{}={}", tunable.name, value)));
    const size_t first = tuned++ * 7; // 7 and 27 share no factor: the specs come by turns
    std::string reason;
    for (size_t i = 0; i < specs().size(); ++i) {
      const SmallSpec &row = specs()[(first + i) % specs().size()];
      if (row.init + row.local >= row.topk) // forced blocks alone: no scores to be tuned
        continue;
      for (size_t m = 0; m < space.methods.size(); ++m) {
        const DrawSpace::Method &method = space.methods[(tuned + m) % space.methods.size()];
        if (method.parameters.empty()) // it has no selection to be tuned
          continue;
        ConformanceCase test = caseOf((first + i) % specs().size(), method);
        test.name += fmt::format("_{}_{}", tunable.name, value);
        test.config = config;
        if (tunable.phase == kDecodePhase)
          decodeFromPages(test);
        test.backward = test.spec.backward = tunable.phase == kBackwardPhase;
        Status served = space.serves(test.method, test.spec, test.config);
        if (served) {
          found.cases.push_back(test);
          return {};
        }
        if (!isRefusal(served))
          return served;
        reason = served.error().message;
      }
    }
    found.withoutKernels.push_back(fmt::format("{}={}: {}", tunable.name, value, reason));
    return {};
  }

  const DrawSpace &space;
  SmallCases found;
  size_t tuned = 0;
};

} // namespace

int smallSpecCount() { return static_cast<int>(specs().size()); }

Result<SmallCases> smallCases(const DrawSpace &space) { return SmallTable(space).make(); }

} // namespace winnow

// Reads the table of cases and makes the tensors of a case.
#include "reference/conformance/Case.h"
#include "reference/Half.h"
#include "reference/conformance/Random.h"
#include "reference/conformance/cases.inc"
#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <limits>
#include <nlohmann/json.hpp>

namespace winnow {
namespace {

using nlohmann::json;

Result<ConformanceCase> parseCase(const json &entry) {
  ConformanceCase test;
  test.name = entry.at("name");
  test.method = entry.at("method");
  Spec &spec = test.spec;
  spec.heads = entry.value("heads", 16);
  spec.kvHeads = entry.value("kv_heads", 1);
  spec.headDim = entry.value("head_dim", 128);
  spec.valueDim = entry.value("value_dim", 0);
  spec.block = entry.value("block", 64);
  spec.topk = entry.value("topk", 16);
  spec.scale = entry.value("scale", 0.0);
  spec.dtype = entry.value("dtype", "bf16") == "fp16" ? Dtype::FP16 : Dtype::BF16;
  json settings = entry.value("set", json::object());
  for (const auto &[name, value] : settings.items())
    spec.params[name] = value.is_string() ? value.get<std::string>() : value.dump();
  WINNOW_TRY(test.config, Config::parse(entry.value("config", "")));
  for (const json &lengths : entry.at("sequences"))
    test.sequences.emplace_back(lengths.at(0), lengths.at(1));
  test.data = entry.value("data", "normal");
  test.givenIds = entry.value("given_ids", false);
  test.backward = spec.backward = entry.value("backward", false);
  test.layout = entry.value("layout", "");
  test.pageSize = entry.value("page_size", 64);
  test.pageGap = entry.value("page_gap", int64_t(0));
  spec.paged = !test.layout.empty();
  WINNOW_TRY(spec.kvDtype, parseKvDtype(entry.value("kv_dtype", "same")));
  test.scaled = entry.value("scaled", false);
  test.keepsRows = entry.value("keeps_rows", false);
  test.large = entry.value("large", false);
  test.rows = entry.value("rows", 96);
  test.leastRecall = entry.value("least_recall", 0.0);
  test.seed = entry.value("seed", 1);
  return test;
}

uint16_t keyWord(const reference::Problem &problem, double value, double factor) {
  return reference::toKeyWord(value, factor, problem.kvDtype, problem.dtype);
}

/// Fills tokens [begin, end) of a key tensor with topics of 40 tokens plus noise, so that blocks
/// differ in their scores.
class TensorFiller {
public:
  TensorFiller(const ConformanceCase &test, const reference::Problem &problem, int threads)
      : test(test), problem(problem) {
    options.threads = threads;
    const double keyDeviation = std::sqrt(1 + kNoise * kNoise);
    auto deviationFor = [&](double logits) {
      return logits / (keyDeviation * std::sqrt(test.spec.headDim) * test.spec.softmaxScale());
    };
    if (test.data == "wide")
      queryDeviation = 3, keyFactor = 4;
    else if (test.data == "sigma8")
      queryDeviation = deviationFor(8);
    else if (test.data == "huge")
      queryDeviation = deviationFor(40);
    else if (test.data == "beyond")
      queryDeviation = deviationFor(400);
    else if (isIid)
      queryDeviation = 1;
  }

  void queries(std::vector<uint16_t> &q, size_t elements) const {
    reference::parallelFor((elements + kChunk - 1) / kChunk, options, [&](size_t chunk) {
      for (size_t i = chunk * kChunk; i < std::min(elements, (chunk + 1) * kChunk); ++i) {
        double value = randomNormal(test.seed * 16 + 1, i) * queryDeviation;
        const size_t channel = i % test.spec.headDim, head = i / test.spec.headDim;
        if (isPeaks)
          value = channel == 0 ? 64 : 0;
        if (isValleys)
          value = channel == head % test.spec.heads % 2 ? 64 : 0;
        q[i] = reference::toWord(value, test.spec.dtype);
      }
    });
  }

  void keys(std::vector<uint16_t> &k, int begin, int end) const {
    size_t width = keyWidth();
    reference::parallelFor(end - begin, options, [&](size_t t) {
      for (size_t i = 0; i < width; ++i) {
        size_t topic = test.data == "ties" ? 0 : 1 + t / 40;
        double value = isIid ? 0 : randomNormal(test.seed * 16 + 2, topic * width + i);
        if (test.data != "ties")
          value += (isIid ? 1 : kNoise) * randomNormal(test.seed * 16 + 3, (begin + t) * width + i);
        if (isPeaks)
          value = i % test.spec.headDim == 0 ? peakOf(t / test.spec.block) : 0;
        if (isValleys)
          value = valleyOf(t / test.spec.block, i % test.spec.headDim);
        const double factor = problem.keyFactor(static_cast<int>(i) / problem.headDim);
        k[(begin + t) * width + i] = keyWord(problem, value * keyFactor, factor);
      }
    });
  }

  void values(std::vector<uint16_t> &v, int begin, int end) const {
    size_t width = valueWidth();
    reference::parallelFor(end - begin, options, [&](size_t t) {
      for (size_t i = (begin + t) * width; i < (begin + t + 1) * width; ++i) {
        const double factor =
            problem.valueFactor(static_cast<int>(i % width) / problem.valueWidth());
        const bool isZero = isHollow && i % width % 3 == 0;
        v[i] = keyWord(problem, isZero ? 0 : randomNormal(test.seed * 16 + 4, i), factor);
      }
    });
  }

  size_t keyWidth() const { return static_cast<size_t>(test.spec.kvHeads) * test.spec.headDim; }
  size_t valueWidth() const {
    return static_cast<size_t>(test.spec.kvHeads) * test.spec.valueWidth();
  }

private:
  static constexpr size_t kChunk = 65536;
  static constexpr double kNoise = 0.7;
  const ConformanceCase &test;
  const reference::Problem &problem;
  reference::Options options;
  /// What all keys of a block have in their first channel: steps of 1 from -30 to 30, in no order.
  static double peakOf(size_t block) { return static_cast<double>(block * 37 % 61) - 30; }
  /// What they have in their first two channels, which even and odd heads look at.
  static double valleyOf(size_t block, size_t channel) {
    return channel == 0   ? -10.0 - static_cast<double>(block * 37 % 13)
           : channel == 1 ? -5.0 - static_cast<double>((block + 5) * 37 % 13)
                          : 0;
  }
  bool isIid = test.data == "iid", isPeaks = test.data == "peaks",
       isValleys = test.data == "valleys", isHollow = test.data == "hollow";
  double queryDeviation = 1.5, keyFactor = 1;
};

constexpr int kPoisonTokens = 37; // odd, so that no tile boundary hides a leak

} // namespace

void adversarialRow(int32_t *ids, int topk, int blocks, int own, uint64_t seed) {
  auto random = [&](int i, int bound) {
    return static_cast<int32_t>(randomBits(seed, i) % std::max(1, bound));
  };
  std::fill(ids, ids + topk, -1);
  switch (seed % 7) {
  case 0: // nothing selected
    break;
  case 1: // padding first
    for (int i = topk / 2; i < topk; ++i)
      ids[i] = random(i, own + 1);
    break;
  case 2: // padding in the middle
    for (int i = 0; i < topk; i += 2)
      ids[i] = random(i, own + 1);
    break;
  case 3: // duplicates, descending
    for (int i = 0; i < topk; ++i)
      ids[i] = std::max(0, own - i / 3);
    break;
  case 4: // out of range on both sides
    for (int i = 0; i < topk; ++i)
      ids[i] = random(i, own + 1);
    ids[0] = std::numeric_limits<int32_t>::min();
    ids[topk / 2] = blocks;
    ids[topk - 1] = std::numeric_limits<int32_t>::max();
    break;
  case 5: // only blocks of the future
    for (int i = 0; i < topk; ++i)
      ids[i] = own + 1 + i;
    break;
  default: // as a selection writes it
    for (int i = 0; i < std::min(topk, own + 1); ++i)
      ids[i] = i;
  }
}

Result<std::vector<ConformanceCase>> conformanceCases() {
  json table = json::parse(kConformanceCases, nullptr, /*allow_exceptions=*/false);
  if (!table.is_array())
    return fail(ErrorKind::Usage, "reference/conformance/cases.json is not a JSON array");
  std::vector<ConformanceCase> cases;
  for (const json &entry : table) {
    bool complete =
        entry.contains("name") && entry.contains("method") && entry.contains("sequences");
    if (!complete)
      return fail(ErrorKind::Usage,
                  fmt::format("a case lacks name, method or sequences: {}", entry.dump()));
    WINNOW_TRY(ConformanceCase test, parseCase(entry));
    cases.push_back(std::move(test));
  }
  return cases;
}

std::vector<uint16_t> makeOutputGradient(const reference::Problem &problem, uint64_t seed) {
  std::vector<uint16_t> dout(static_cast<size_t>(problem.totalQ()) * problem.heads *
                             problem.valueWidth());
  const size_t row = static_cast<size_t>(problem.heads) * problem.valueWidth();
  reference::parallelFor(problem.totalQ(), {}, [&](size_t token) {
    for (size_t i = token * row; i < (token + 1) * row; ++i)
      dout[i] = reference::toWord(randomNormal(seed * 16 + 5, i), problem.dtype);
  });
  return dout;
}

CaseInputs makeInputs(const ConformanceCase &test, int selectHeads, int threads) {
  CaseInputs inputs;
  reference::Problem &problem = inputs.problem = reference::problemOf(test.spec);
  problem.spareKeys = kPoisonTokens;
  problem.cuQ = problem.cuK = {0};
  for (int head = 0; test.scaled && head < problem.kvHeads; ++head) {
    problem.kScale.push_back(0.05f + 0.03f * static_cast<float>(head));
    problem.vScale.push_back(0.11f + 0.02f * static_cast<float>(head));
  }
  bool poisoned = test.data == "poison";
  auto append = [&](int queries, int keys) {
    problem.cuQ.push_back(problem.cuQ.back() + queries);
    problem.cuK.push_back(problem.cuK.back() + keys);
  };
  for (auto [queries, keys] : test.sequences) {
    if (poisoned)
      append(0, kPoisonTokens);
    append(queries, keys);
  }
  if (poisoned)
    append(0, kPoisonTokens);

  TensorFiller fill(test, problem, threads);
  size_t queryElements = static_cast<size_t>(problem.totalQ()) * problem.heads * problem.headDim;
  size_t keyTokens = static_cast<size_t>(problem.cuK.back()) + kPoisonTokens;
  const uint16_t nan = keyWord(problem, std::numeric_limits<double>::quiet_NaN(), 1),
                 infinity = keyWord(problem, std::numeric_limits<double>::infinity(), 1);
  inputs.q.resize(queryElements);
  inputs.k.assign(keyTokens * fill.keyWidth(), nan);
  inputs.v.assign(keyTokens * fill.valueWidth(), infinity);
  fill.queries(inputs.q, queryElements);
  inputs.dout = makeOutputGradient(problem, test.seed);
  for (size_t s = 0; s + 1 < problem.cuK.size(); ++s) {
    bool real = !poisoned || s % 2 == 1;
    if (!real)
      continue;
    fill.keys(inputs.k, problem.cuK[s], problem.cuK[s + 1]);
    fill.values(inputs.v, problem.cuK[s], problem.cuK[s + 1]);
  }
  problem.q = inputs.q.data();
  problem.k = inputs.k.data();
  problem.v = inputs.v.data();

  if (test.givenIds) {
    inputs.ids.resize(static_cast<size_t>(selectHeads) * problem.totalQ() * problem.topk);
    for (size_t i = 0; i < inputs.ids.size() / problem.topk; ++i) {
      reference::Place place = placeOf(problem, static_cast<int>(i % problem.totalQ()));
      int blocks = (place.keyCount + problem.block - 1) / problem.block;
      adversarialRow(&inputs.ids[i * problem.topk], problem.topk, blocks,
                     place.position / problem.block, i);
    }
  }
  return inputs;
}

} // namespace winnow

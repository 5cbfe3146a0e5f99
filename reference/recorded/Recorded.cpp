// Loads the recorded cases and compares an implementation with them.
#include "reference/recorded/Recorded.h"
#include "reference/Half.h"
#include "reference/recorded/Npy.h"
#include "reference/recorded/NumpyRandom.h"
#include "runtime/cache/Files.h"
#include <algorithm>
#include <cmath>
#include <cstring>
#include <fmt/format.h>
#include <limits>
#include <nlohmann/json.hpp>

namespace winnow {
namespace {

constexpr int kHeads = 32, kKvHeads = 2, kHeadDim = 128;

/// Tensors in the order in which inputs.py draws them: q, then k, then v.
std::vector<uint16_t> draw(NumpyRandom &random, int tokens, int heads, float factor) {
  std::vector<double> normal =
      random.standardNormal(static_cast<size_t>(tokens) * heads * kHeadDim);
  std::vector<uint16_t> words(normal.size());
  for (size_t i = 0; i < words.size(); ++i)
    words[i] = reference::toBf16(static_cast<float>(normal[i]) * factor);
  return words;
}

uint64_t checksum(const std::vector<uint16_t> &words) {
  uint64_t sum = 0;
  for (size_t i = 0; i < words.size(); ++i)
    sum += words[i] * static_cast<uint64_t>(i + 1);
  return sum;
}

/// One answer file, with its shape checked.
Result<NpyArray> answer(const std::string &path, const std::string &descr,
                        const std::vector<size_t> &shape) {
  Result<NpyArray> array = readNpy(path);
  if (!array)
    return array;
  bool same = array->descr == descr && array->shape.size() == shape.size();
  for (size_t i = 0; same && i < shape.size(); ++i)
    same = shape[i] == 0 || array->shape[i] == shape[i]; // 0: any extent
  if (!same)
    return fail(ErrorKind::Usage,
                fmt::format("{}: unexpected type or shape {}", path, array->shapeText()));
  return array;
}

template <typename T> std::vector<T> elements(const NpyArray &array) {
  std::vector<T> values(array.elements());
  std::memcpy(values.data(), array.data.data(), array.data.size());
  return values;
}

/// Recorded ids and pooled scores in the form of a reference selection.
Result<reference::Selection> expectedSelection(const RecordedCase &recorded,
                                               const std::vector<int32_t> &positions,
                                               const std::string &folder) {
  size_t rows = positions.size();
  WINNOW_TRY(NpyArray idsFile, answer(folder + "/ids.npy", "<i4", {kKvHeads, rows, 0}));
  WINNOW_TRY(NpyArray pooledFile, answer(folder + "/pooled.npy", "<f4", {kKvHeads, rows, 0}));
  auto ids = elements<int32_t>(idsFile);
  auto pooled = elements<float>(pooledFile);
  size_t k = idsFile.shape[2], blocks = pooledFile.shape[2];
  reference::Selection selection;
  selection.rows.assign(positions.begin(), positions.end());
  selection.selectHeads = kKvHeads;
  for (size_t i = 0; i < kKvHeads * rows; ++i) {
    reference::RowSelection row;
    size_t causal = positions[i % rows] / recorded.test.spec.block + 1;
    row.scores.assign(pooled.begin() + i * blocks,
                      pooled.begin() + i * blocks + std::min(blocks, causal));
    row.threshold = std::numeric_limits<double>::infinity();
    for (size_t n = 0; n < k && ids[i * k + n] >= 0; ++n) {
      row.ids.push_back(ids[i * k + n]);
      row.threshold = std::min(row.threshold, row.scores[row.ids.back()]);
    }
    selection.entries.push_back(std::move(row));
  }
  return selection;
}

Status loadAnswers(RecordedCase &recorded, const std::string &folder) {
  WINNOW_TRY(NpyArray positionsFile, answer(folder + "/tokens.npy", "<i4", {0}));
  auto positions = elements<int32_t>(positionsFile);
  WINNOW_TRY(recorded.expected, expectedSelection(recorded, positions, folder));
  WINNOW_TRY(NpyArray out,
             answer(folder + "/out.npy", "<f2", {positions.size(), kHeads, kHeadDim}));
  for (uint16_t word : elements<uint16_t>(out))
    recorded.out.push_back(reference::fromFp16(word));
  WINNOW_TRY(NpyArray lse, answer(folder + "/lse.npy", "<f4", {kHeads, positions.size()}));
  recorded.lse = elements<float>(lse);
  return {};
}

} // namespace

Result<std::vector<RecordedCase>> loadRecorded(const std::string &directory,
                                               const std::string &method) {
  WINNOW_TRY(std::string text, readWholeFile(systemFiles(), directory + "/recorded.json"));
  nlohmann::json table = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!table.is_array())
    return fail(ErrorKind::Usage, directory + "/recorded.json is not a JSON array");
  std::vector<RecordedCase> cases;
  for (const nlohmann::json &entry : table) {
    RecordedCase &recorded = cases.emplace_back();
    recorded.test.name = "recorded_" + entry.at("name").get<std::string>();
    recorded.test.method = method;
    Spec &spec = recorded.test.spec;
    spec.topk = entry.at("topk");
    spec.params = entry.value("set", std::map<std::string, std::string>());
    spec.params["init"] = entry.at("init").dump();
    spec.params["local"] = entry.at("local").dump();
    int tokens = entry.at("tokens");
    recorded.test.sequences = {{tokens, tokens}};

    NumpyRandom random(entry.at("seed").get<uint32_t>());
    CaseInputs &inputs = recorded.inputs;
    inputs.q = draw(random, tokens, kHeads, entry.value("q_factor", 1.5f));
    inputs.k = draw(random, tokens, kKvHeads, 1.0f);
    inputs.v = draw(random, tokens, kKvHeads, 1.0f);
    for (size_t i = 0; i < 3; ++i)
      if (checksum(i == 0   ? inputs.q
                   : i == 1 ? inputs.k
                            : inputs.v) != std::stoull(entry.at("checksums")[i].get<std::string>()))
        return fail(ErrorKind::WrongResult,
                    recorded.test.name + ": the generated inputs are not the recorded ones");
    reference::Problem &problem = inputs.problem;
    problem.heads = kHeads;
    problem.kvHeads = kKvHeads;
    problem.headDim = kHeadDim;
    problem.block = spec.block;
    problem.topk = spec.topk;
    problem.cuQ = problem.cuK = {0, tokens};
    if (Status loaded =
            loadAnswers(recorded, directory + "/" + entry.at("name").get<std::string>());
        !loaded)
      return tl::unexpected(loaded.error());
  }
  for (RecordedCase &recorded : cases) { // only now do the tensors stay where they are
    recorded.inputs.problem.q = recorded.inputs.q.data();
    recorded.inputs.problem.k = recorded.inputs.k.data();
    recorded.inputs.problem.v = recorded.inputs.v.data();
  }
  return cases;
}

Result<CaseResult> runRecorded(const RecordedCase &recorded, const AxesReader &axes,
                               const CaseRunner &run) {
  WINNOW_TRY(reference::Method method, axes(recorded.test.method, recorded.test.spec));
  WINNOW_TRY(CaseAnswer answer, run(recorded.test, recorded.inputs));
  const reference::Problem &problem = recorded.inputs.problem;
  CaseResult result;
  // Their scores are rounded to bf16 (half a step) and so may ours be: one step each for the score
  // and the threshold. The answers judge alone: a reference that selects would be asked about what
  // differs, and would excuse an implementation that shares its error.
  reference::Method silent = method;
  silent.selects = false;
  result.selection =
      reference::compareSelection(silent, problem, recorded.expected, answer.ids.data(), 2.0 / 256);

  double worst = 0, worstLse = 0;
  long compared = 0;
  size_t rows = recorded.expected.rows.size();
  for (size_t i = 0; i < rows; ++i)
    for (int head = 0; head < problem.heads; ++head) {
      int kvHead = head / (problem.heads / problem.kvHeads);
      size_t token = recorded.expected.rows[i];
      const std::vector<int32_t> &ids = recorded.expected.at(kvHead, i).ids;
      const int32_t *got =
          &answer.ids[(static_cast<size_t>(kvHead) * problem.totalQ() + token) * problem.topk];
      if (!std::equal(ids.begin(), ids.end(), got))
        continue;
      compared++;
      for (int e = 0; e < problem.headDim; ++e) {
        size_t at = static_cast<size_t>(head) * problem.headDim + e;
        size_t width = static_cast<size_t>(problem.heads) * problem.headDim;
        float ours = reference::fromBf16(answer.out[token * width + at]),
              theirs = recorded.out[i * width + at];
        double difference = std::fabs(ours - theirs);
        worst =
            std::isfinite(ours) ? std::max(worst, difference - std::fabs(theirs) / 128) : INFINITY;
      }
      double lse = answer.lse[static_cast<size_t>(head) * problem.totalQ() + token];
      worstLse = std::isfinite(lse)
                     ? std::max(worstLse, std::fabs(lse - recorded.lse[head * rows + i]))
                     : INFINITY;
    }
  // Beyond one bf16 step of the output itself there is the rounding of the probabilities: each by
  // up to 2^-9 of itself, so that a row of them moves by up to 2^-9 of the largest value.
  double largest = 0;
  for (uint16_t value : recorded.inputs.v)
    largest = std::max<double>(largest, std::fabs(reference::fromBf16(value)));
  result.passed = result.selection.wrong == 0 && compared > 0 && worst <= std::ldexp(largest, -9) &&
                  worstLse <= 1e-4;
  result.text = fmt::format(
      "{} wrong picks of {} ({} ties), {} equal rows: output within {:.3g} beyond bf16 rounding, "
      "LSE within {:.2g}",
      result.selection.wrong, result.selection.picks, result.selection.ties, compared, worst,
      worstLse);
  if (!result.selection.first.empty())
    result.text += "; first: " + result.selection.first;
  return result;
}

} // namespace winnow

// See Append.h.
#include "reference/conformance/Append.h"
#include "reference/Half.h"
#include "reference/conformance/Random.h"
#include <algorithm>
#include <cmath>
#include <fmt/format.h>

namespace winnow {
namespace {

struct AppendSpec {
  const char *name, *method;
  int heads, kvHeads, headDim;
  Dtype dtype;
  const char *layout;
  int pageSize;
  std::map<std::string, std::string> params;
  std::vector<int> keys; ///< of each sequence at the end
  KvDtype kvDtype = KvDtype::Same;
};

const std::vector<AppendSpec> &specs() {
  constexpr Dtype bf16 = Dtype::BF16, fp16 = Dtype::FP16;
  constexpr KvDtype fp8 = KvDtype::Fp8E4m3;
  static const auto &table = *new std::vector<AppendSpec>{
      {"pages_64", "infllm_v2", 8, 2, 64, bf16, "pages", 64, {}, {700, 333, 31, 0, 128, 64}},
      {"halves_128", "infllm_v2", 4, 2, 128, fp16, "halves", 128, {}, {511, 129, 1}},
      {"pages_16", "infllm_v2", 4, 1, 128, bf16, "pages", 16, {{"lse", "exact"}}, {400, 47, 48}},
      {"tokens_1", "infllm_v2", 4, 2, 64, bf16, "pages", 1, {}, {450, 200, 16}},
      {"pages_48_table", "infllm_v2", 2, 2, 96, fp16, "pages", 48, {}, {500, 0, 191, 192}},
      {"rows_padded", "infllm_v2", 4, 2, 64, bf16, "rows", 0, {}, {600, 333, 65}},
      {"packed", "infllm_v2", 4, 2, 192, bf16, "packed", 0, {}, {350, 129, 0, 64}},
      {"nsa_pages_32", "nsa_select", 4, 1, 256, fp16, "pages", 32, {}, {300, 32, 33, 100}},
      {"fp8_pages_64", "infllm_v2", 8, 2, 128, bf16, "pages", 64, {}, {700, 333, 31, 0, 64}, fp8},
      {"fp8_halves_16", "infllm_v2", 4, 2, 64, fp16, "halves", 16, {}, {400, 129, 1}, fp8},
      {"fp8_tokens_1", "infllm_v2", 4, 2, 64, bf16, "pages", 1, {}, {350, 200, 16}, fp8},
  };
  return table;
}

/// One row as the specification says: fp32 sums in the order of the keys.
void meanRow(const reference::Problem &problem, const SummaryShape &summary, int sequence, int row,
             int head, uint16_t *elements) {
  const float *values = reference::keyTable(problem.kvDtype, problem.dtype);
  const auto factor = static_cast<float>(problem.keyFactor(head));
  for (int d = 0; d < problem.headDim; ++d) {
    float sum = 0;
    for (int i = 0; i < summary.window; ++i) {
      const int64_t key = int64_t(problem.cuK[sequence]) + row * summary.stride + i;
      sum += values[problem.k[(key * problem.kvHeads + head) * problem.headDim + d]];
    }
    elements[d] =
        reference::toWord(sum / static_cast<float>(summary.window) * factor, problem.dtype);
  }
}

class AppendCase {
public:
  AppendCase(const ConformanceCase &test, std::vector<SummaryShape> summaries, Layout layout)
      : test(test), summaries(std::move(summaries)), drafted(withSeed(test)),
        inputs(makeInputs(test, 1)), drafts(makeInputs(drafted, 1)),
        stored(storeTensors(inputs.problem, layout, test.pageSize, test.seed)),
        draftKeys(storeTensors(drafts.problem, layout, test.pageSize, test.seed).keyValues),
        lengths(stored.seqK.size(), 0), total(stored.seqK) {
    storeRows(this->summaries, layout, inputs.problem, test.seed, stored);
    keys = stored.keyValues;
  }

  Result<CaseResult> run(const AppendRunner &runner) {
    CaseResult result;
    for (int step = 0; lengths != total; ++step) {
      const bool isDraft = step % 3 == 1, isLast = step >= kSteps;
      reference::Problem problem = inputs.problem;
      problem.cuQ = {0};
      for (size_t s = 0; s < lengths.size(); ++s) {
        const int count = isLast ? total[s] - lengths[s] : chunkOf(step, static_cast<int>(s));
        problem.cuQ.push_back(problem.cuQ.back() + count);
        stored.seqK[s] = lengths[s] + count;
      }
      stored.keyValues = isDraft && !isLast ? draftKeys : keys;
      WINNOW_TRY(CaseAnswer answer, runner(problem, stored));
      expect(isDraft && !isLast ? drafts.problem : inputs.problem);
      if (std::string fault = compare(answer); !fault.empty()) {
        result.text = fmt::format("step {}: {}", step, fault);
        return result;
      }
      if (!isDraft || isLast)
        lengths = stored.seqK;
      ++launches;
    }
    result.text = distances();
    result.passed = result.text.empty();
    if (result.passed)
      result.text = fmt::format("{} rows right to the bit, {} launches", written, launches);
    return result;
  }

private:
  static constexpr int kSteps = 14;
  static ConformanceCase withSeed(ConformanceCase test) {
    test.seed += 1000;
    return test;
  }
  /// New tokens of a sequence: mostly few, now and then many.
  int chunkOf(int step, int sequence) const {
    constexpr int kMost[] = {200, 1, 5, 1, 40, 17, 1, 64, 129};
    const uint64_t bits = randomBits(test.seed + 77, static_cast<uint64_t>(step) * 64 + sequence);
    const int most = kMost[(step + sequence) % std::size(kMost)];
    return std::min(total[sequence] - lengths[sequence], static_cast<int>(bits % (most + 1)));
  }
  static int wholeWindows(const SummaryShape &summary, int length) {
    return length < summary.window ? 0 : (length - summary.window) / summary.stride + 1;
  }
  /// Writes the rows that a launch finishes to those that are expected.
  void expect(const reference::Problem &problem) {
    for (size_t i = 0; i < summaries.size(); ++i)
      for (size_t s = 0; s < lengths.size(); ++s)
        for (int row = wholeWindows(summaries[i], lengths[s]);
             row < wholeWindows(summaries[i], stored.seqK[s]); ++row)
          for (int head = 0; head < problem.kvHeads; ++head) {
            const auto at = placeOfRow(stored, summaries[i], static_cast<int>(i),
                                       static_cast<int>(s), row, head);
            meanRow(problem, summaries[i], static_cast<int>(s), row, head, &stored.rows[i][at]);
            ++written;
          }
  }
  std::string compare(const CaseAnswer &answer) const {
    for (size_t i = 0; i < summaries.size(); ++i) {
      const std::vector<uint16_t> &expected = stored.rows[i];
      if (answer.rows[i].size() != expected.size())
        return fmt::format("rows[{}] did not come back", i);
      for (size_t at = 0; at < expected.size(); ++at)
        if (answer.rows[i][at] != expected[at])
          return fmt::format("element {} of rows[{}] is {:#06x}, not {:#06x}{}", at, i,
                             answer.rows[i][at], expected[at], ownerOf(static_cast<int>(i), at));
    }
    return {};
  }
  /// Whose element it is, for messages.
  std::string ownerOf(int index, size_t at) const {
    for (size_t s = 0; s < total.size(); ++s)
      for (int row = 0; row < wholeWindows(summaries[index], total[s]); ++row)
        for (int head = 0; head < test.spec.kvHeads; ++head) {
          const size_t begin =
              placeOfRow(stored, summaries[index], index, static_cast<int>(s), row, head);
          if (at >= begin && at < begin + test.spec.headDim)
            return fmt::format(" (sequence {} row {} head {} channel {})", s, row, head,
                               at - begin);
        }
    return " (of no row)";
  }
  /// Whether the rows are the reference's means within rounding; "" where they are.
  std::string distances() const {
    const int dim = test.spec.headDim, heads = test.spec.kvHeads;
    for (size_t i = 0; i < summaries.size(); ++i)
      for (size_t s = 0; s < total.size(); ++s) {
        const std::vector<uint16_t> means =
            reference::summarize(inputs.problem, static_cast<int>(s), summaries[i].window,
                                 summaries[i].stride, /*threads=*/1);
        for (size_t row = 0; row < means.size() / dim; ++row) {
          const size_t at =
              placeOfRow(stored, summaries[i], static_cast<int>(i), static_cast<int>(s),
                         static_cast<int>(row) / heads, static_cast<int>(row) % heads);
          for (int d = 0; d < dim; ++d) {
            const double mean = reference::fromWord(means[row * dim + d], test.spec.dtype);
            const double kept = reference::fromWord(stored.rows[i][at + d], test.spec.dtype);
            if (!(std::abs(kept - mean) <= std::abs(mean) / 128 + 1e-5))
              return fmt::format("rows[{}] of sequence {} hold {} where the mean is {}", i, s, kept,
                                 mean);
          }
        }
      }
    return {};
  }

  const ConformanceCase &test;
  const std::vector<SummaryShape> summaries;
  const ConformanceCase drafted;
  const CaseInputs inputs, drafts;
  StoredTensors stored; ///< rows as they are expected
  const std::vector<uint16_t> draftKeys;
  std::vector<uint16_t> keys;
  std::vector<int32_t> lengths; ///< keys so far
  const std::vector<int32_t> total;
  long written = 0;
  int launches = 0;
};

} // namespace

std::vector<ConformanceCase> appendCases() {
  std::vector<ConformanceCase> cases;
  for (const AppendSpec &row : specs()) {
    ConformanceCase &test = cases.emplace_back();
    test.name = std::string("append_") + row.name;
    test.method = row.method;
    test.spec.heads = row.heads, test.spec.kvHeads = row.kvHeads;
    test.spec.headDim = row.headDim, test.spec.dtype = row.dtype;
    test.spec.kvDtype = row.kvDtype;
    test.scaled = row.kvDtype != KvDtype::Same;
    test.spec.topk = 6;
    test.spec.paged = true;
    test.spec.params = row.params;
    test.spec.params["local"] = "2";
    test.layout = row.layout;
    test.pageSize = row.pageSize;
    test.append = true;
    test.seed = 300 + cases.size();
    for (int keys : row.keys)
      test.sequences.emplace_back(keys, keys);
  }
  return cases;
}

std::vector<SummaryShape> summariesOf(const reference::Method &method) {
  std::vector<SummaryShape> summaries{{method.window, method.stride}};
  if (method.lse == reference::Lse::Coarse)
    summaries.push_back({method.coarseWindow, method.coarseStride});
  return summaries;
}

Result<CaseResult> runAppendCase(const ConformanceCase &test, const AxesReader &axes,
                                 const AppendRunner &run) {
  WINNOW_TRY(reference::Method method, axes(test.method, test.spec));
  WINNOW_TRY(Layout layout, parseLayout(test.layout));
  return AppendCase(test, summariesOf(method), layout).run(run);
}

} // namespace winnow

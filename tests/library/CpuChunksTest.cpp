// A prompt that comes in chunks of any length and is then decoded token by token, as an engine
// brings it (chunked prefill), has the answers of one launch over everything: the same blocks and
// rows of summaries, and outputs within rounding. Keys that are not there yet are NaN, and each
// launch finds the rows that those before have left.
#include "reference/Half.h"
#include "reference/conformance/Random.h"
#include "tests/library/CpuLaunch.h"
#include <cmath>
#include <numeric>

using namespace winnow;

namespace {

constexpr int kDecoded = 5; ///< of each sequence, its last tokens, one by one

class CpuChunks : public CpuLaunch {
protected:
  /// Copies a key and its value, of all heads, to where they lie in `whole`.
  static void bringKey(const reference::Problem &problem, const StoredTensors &whole, int sequence,
                       int key, StoredTensors &now) {
    const TensorLayout &layout = whole.layout;
    int64_t page = 0, slot = key;
    if (whole.table.empty()) {
      slot += problem.cuK[sequence];
    } else {
      slot += whole.kBegin.empty() ? 0 : whole.kBegin[sequence];
      page = whole.table[sequence * layout.pageTableStride + slot / layout.pageSize];
      slot %= layout.pageSize;
    }
    for (int head = 0; head < problem.kvHeads; ++head) {
      auto copy = [&](size_t begin, const int64_t *stride, int elements) {
        const size_t at = begin + page * stride[0] + slot * stride[1] + head * stride[2];
        std::copy_n(&whole.keyValues[at], elements, &now.keyValues[at]);
      };
      copy(whole.k, layout.kStride, problem.headDim);
      copy(whole.v, layout.vStride, problem.valueWidth());
    }
  }

  /// The answers for all tokens, in the order of one launch over `whole`.
  Result<CaseAnswer> inChunks(const reference::Problem &problem, const StoredTensors &whole,
                              uint64_t seed, int &launches) {
    const size_t batch = whole.seqK.size(), total = problem.totalQ(), topk = problem.topk;
    const size_t heads = winnow_program_select_heads(program);
    const size_t outWidth = size_t(problem.heads) * problem.valueWidth();
    StoredTensors now = whole;
    std::fill(now.keyValues.begin(), now.keyValues.end(),
              reference::toWord(std::numeric_limits<double>::quiet_NaN(), problem.dtype));
    now.seqK.assign(batch, 0);
    CaseAnswer all;
    all.out.resize(total * outWidth);
    all.ids.resize(heads * total * topk);
    for (launches = 0; now.seqK != whole.seqK; ++launches) {
      reference::Problem step = problem;
      step.cuQ = {0};
      now.q.clear();
      std::vector<size_t> tokens; // of this launch: which of all they are
      for (size_t s = 0; s < batch; ++s) {
        const int left = whole.seqK[s] - now.seqK[s];
        const uint64_t bits = randomBits(seed, launches * batch + s);
        // Chunks of up to 300 tokens, now and then none of a sequence while another goes on.
        const int count =
            left > kDecoded ? std::min<int>(left - kDecoded, bits % 301) : std::min(left, 1);
        for (int i = 0; i < count; ++i, ++now.seqK[s]) {
          bringKey(problem, whole, static_cast<int>(s), now.seqK[s], now);
          tokens.push_back(problem.cuQ[s] + now.seqK[s]);
          const auto row =
              whole.q.begin() + static_cast<int64_t>(tokens.back()) * whole.layout.qStride[0];
          now.q.insert(now.q.end(), row, row + whole.layout.qStride[0]);
        }
        step.cuQ.push_back(static_cast<int>(tokens.size()));
      }
      now.outElements = tokens.size() * whole.layout.outStride[0];
      WINNOW_TRY(CaseAnswer answer, launch(program, step, &now, nullptr, WINNOW_ALL));
      for (int i = 0; i < kMostRows; ++i)
        now.rows[i] = all.rows[i] = answer.rows[i];
      for (size_t i = 0; i < tokens.size(); ++i) {
        std::copy_n(&answer.out[i * outWidth], outWidth, &all.out[tokens[i] * outWidth]);
        for (size_t head = 0; head < heads; ++head)
          std::copy_n(&answer.ids[(head * tokens.size() + i) * topk], topk,
                      &all.ids[(head * total + tokens[i]) * topk]);
      }
    }
    return all;
  }
};

TEST_F(CpuChunks, OfRandomLengthsAreOneLaunch) {
  for (const auto &[layout, pageSize] :
       {std::pair("halves", 16), {"pages", 7}, {"pairs", 64}, {"rows", 0}, {"packed", 0}}) {
    SCOPED_TRACE(layout);
    ConformanceCase test;
    test.method = "infllm_v2";
    test.spec.heads = 4;
    test.spec.kvHeads = 2;
    test.spec.headDim = 64;
    test.spec.topk = 6;
    test.spec.params["local"] = "2";
    test.spec.paged = true;
    test.sequences = {{1000, 1000}, {430, 430}};
    ASSERT_EQ(prepare(test.method, test.spec), WINNOW_OK) << winnow_last_error();
    const auto method = axes(test.method, test.spec);
    ASSERT_TRUE(method);
    const CaseInputs inputs = makeInputs(test, test.spec.kvHeads);
    const reference::Problem &problem = inputs.problem;
    StoredTensors whole = storeTensors(problem, *parseLayout(layout), pageSize, test.seed);
    storeRows(summariesOf(*method), *parseLayout(layout), problem, test.seed, whole);
    const auto once = launch(program, problem, &whole, nullptr, WINNOW_ALL);
    ASSERT_TRUE(once) << once.error().message;
    for (uint64_t seed : {1, 2}) {
      int launches = 0;
      const auto chunks = inChunks(problem, whole, seed, launches);
      ASSERT_TRUE(chunks) << chunks.error().message;
      EXPECT_GE(launches, 4 + kDecoded);
      EXPECT_TRUE(chunks->ids == once->ids);
      for (int i = 0; i < kMostRows; ++i)
        EXPECT_TRUE(chunks->rows[i] == once->rows[i]) << "rows of summary " << i;
      EXPECT_FALSE(once->rows[0].empty());
      ASSERT_EQ(chunks->out.size(), once->out.size());
      int apart = 0;
      for (size_t i = 0; i < once->out.size(); ++i) {
        const float a = reference::fromBf16(once->out[i]), b = reference::fromBf16(chunks->out[i]);
        apart += !(std::abs(a - b) <= std::max(std::abs(a), 0.01F) / 64); // of bf16 a few steps
      }
      EXPECT_EQ(apart, 0);
    }
  }
}

} // namespace

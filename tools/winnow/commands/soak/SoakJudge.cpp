// Cuts answers into sequences for the reference, and names the sequence of whatever differs.
#include "tools/winnow/commands/soak/SoakJudge.h"
#include "reference/Compare.h"
#include <algorithm>
#include <cstring>
#include <fmt/format.h>

namespace winnow {
namespace {

uint32_t bitsOf(float value) {
  uint32_t bits = 0;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

std::string sequenceText(const SoakStep &step, int s) {
  return fmt::format("sequence {} ({} keys, {} queries)", s, step.keys[s],
                     step.cuQ[s + 1] - step.cuQ[s]);
}

/// Whether a row of q holds what it held before the launch.
bool isUntouched(const SoakInputs &inputs, const CaseAnswer &answer, size_t row) {
  const size_t total = inputs.shape.totalQ(), heads = inputs.problem.heads;
  const size_t width = heads * inputs.problem.valueWidth();
  const uint16_t *out = &answer.out[row * width];
  bool untouched = std::all_of(out, out + width, [](uint16_t word) { return word == 0xffff; });
  for (size_t head = 0; head < heads; ++head)
    untouched = untouched && bitsOf(answer.lse[head * total + row]) == 0xffffffff;
  return untouched;
}

} // namespace

std::string faultOf(const reference::Method &method, const SoakInputs &inputs, const SoakStep &step,
                    Phase phase, const CaseAnswer &answer) {
  const size_t total = inputs.shape.totalQ(), heads = inputs.problem.heads,
               topk = inputs.problem.topk, width = heads * inputs.problem.valueWidth();
  reference::Options options;
  options.threads = 1;
  for (int s = 0; s < inputs.shape.batch; ++s) {
    const size_t first = step.cuQ[s], count = step.cuQ[s + 1] - first;
    if (count == 0)
      continue;
    const SoakSequence sequence = inputs.sequence(step, s);
    const reference::Problem &problem = sequence.problem;
    std::vector<int32_t> ids(inputs.selectHeads * count * topk);
    std::vector<float> lse(heads * count);
    for (int head = 0; head < inputs.selectHeads; ++head)
      std::copy_n(&answer.ids[(head * total + first) * topk], count * topk,
                  &ids[head * count * topk]);
    for (size_t head = 0; head < heads; ++head)
      std::copy_n(&answer.lse[head * total + first], count, &lse[head * count]);
    if (phase == Phase::All && method.selects) {
      auto report = reference::compareSelection(
          method, problem, reference::select(method, problem, options), ids.data());
      if (report.wrong > 0)
        return fmt::format("{}: the selection differs from the reference: {}",
                           sequenceText(step, s), report.first);
    }
    auto report =
        reference::compareOutput(problem, reference::attend(method, problem, ids.data(), options),
                                 &answer.out[first * width], lse.data());
    if (!report.withinBars())
      return fmt::format("{}: the output differs from the reference: {}", sequenceText(step, s),
                         report.text());
  }
  for (size_t row = step.cuQ.back(); row < total; ++row)
    if (!isUntouched(inputs, answer, row))
      return fmt::format("row {} of out or lse was written, behind the last query", row);
  return {};
}

std::string differenceOf(const SoakInputs &inputs, const SoakStep &step, const CaseAnswer &answer,
                         const CaseAnswer &other) {
  const size_t total = inputs.shape.totalQ(), heads = inputs.problem.heads,
               topk = inputs.problem.topk, width = heads * inputs.problem.valueWidth();
  for (int s = 0; s < inputs.shape.batch; ++s)
    for (size_t row = step.cuQ[s]; row < static_cast<size_t>(step.cuQ[s + 1]); ++row) {
      bool sameIds = true,
           same = std::equal(&answer.out[row * width], &answer.out[row * width] + width,
                             &other.out[row * width]);
      for (int head = 0; head < inputs.selectHeads; ++head) {
        const size_t begin = (head * total + row) * topk;
        sameIds =
            sameIds && std::equal(&answer.ids[begin], &answer.ids[begin] + topk, &other.ids[begin]);
      }
      for (size_t head = 0; head < heads; ++head)
        same =
            same && bitsOf(answer.lse[head * total + row]) == bitsOf(other.lse[head * total + row]);
      if (!sameIds || !same)
        return fmt::format("{}: {} of query {} is not the same bits as where the same keys lie in "
                           "other pages, none of them shared, and were appended in one piece",
                           sequenceText(step, s), sameIds ? "the output" : "the selection",
                           row - step.cuQ[s]);
    }
  return {};
}

} // namespace winnow

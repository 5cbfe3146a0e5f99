// One conformance case from inputs to verdict.
#include "reference/conformance/Conformance.h"
#include <fmt/format.h>

namespace winnow {

/// Of all rows, since each may add to any key; over the picks that were made.
static void judgeGradients(const reference::Method &method, const CaseInputs &inputs,
                           const int32_t *ids, const CaseAnswer &answer,
                           const reference::Options &options, CaseResult &result) {
  const size_t keys = static_cast<size_t>(inputs.problem.cuK.back()) * inputs.problem.kvHeads;
  if (answer.dq.size() != inputs.q.size() || answer.dk.size() != keys * inputs.problem.headDim ||
      answer.dv.size() != keys * inputs.problem.valueWidth()) {
    result.passed = false;
    result.text += "; there are no gradients of this shape";
    return;
  }
  const reference::Gradients expected =
      reference::attendBackward(method, inputs.problem, ids, inputs.dout.data(), options);
  result.gradients = reference::compareGradients(inputs.problem, expected, answer.dq.data(),
                                                 answer.dk.data(), answer.dv.data());
  result.passed = result.passed && result.gradients.withinBars();
  result.text += "; " + result.gradients.text();
  if (!result.gradients.first.empty())
    result.text += "; first: " + result.gradients.first;
}

Result<CaseResult> runCase(const ConformanceCase &test, const AxesReader &axes,
                           const CaseRunner &run, double tolerance, int threads) {
  WINNOW_TRY(reference::Method method, axes(test.method, test.spec));
  const int selectHeads = reference::problemOf(test.spec).selectHeads(method);
  CaseInputs inputs = makeInputs(test, selectHeads, threads);
  WINNOW_TRY(CaseAnswer answer, run(test, inputs));
  if (method.denseByLaunch)
    method.denseLen = answer.denseLength;

  CaseResult result;
  reference::Options options;
  options.threads = threads;
  options.rows = reference::sampleRows(inputs.problem, test.rows);
  if (options.rows.empty()) { // a batch of empty sequences: that it returns is the test
    result.passed = true;
    result.text = "no query, nothing to compare";
    return result;
  }
  const int32_t *ids = answer.ids.data();
  if (test.givenIds) {
    ids = inputs.ids.data();
  } else if (method.selects) {
    reference::Selection expected = reference::select(method, inputs.problem, options);
    result.selection = reference::compareSelection(method, inputs.problem, expected, ids, tolerance,
                                                   test.data == "ties");
    if (test.leastRecall > 0) {
      options.exactWindows = true;
      result.free = reference::countFreePicks(
          method, inputs.problem, reference::select(method, inputs.problem, options), ids);
      options.exactWindows = false;
    }
  }
  // Attention is judged over the picks that were made, so that an accepted tie is not counted as an
  // output error.
  reference::Attention expected = reference::attend(method, inputs.problem, ids, options);
  result.output =
      reference::compareOutput(inputs.problem, expected, answer.out.data(), answer.lse.data());
  result.passed = result.selection.wrong == 0 && result.output.withinBars() &&
                  (test.leastRecall <= 0 ||
                   (result.free.expected > 0 && result.free.recall() >= test.leastRecall));
  result.text = result.output.text();
  if (test.backward)
    judgeGradients(method, inputs, ids, answer, options, result);
  if (result.selection.picks)
    result.text += fmt::format(", {} wrong picks of {} ({} ties)", result.selection.wrong,
                               result.selection.picks, result.selection.ties);
  if (test.leastRecall > 0)
    result.text += fmt::format(", {:.5f} of {} blocks chosen by score as on exact windows",
                               result.free.recall(), result.free.expected);
  if (!result.selection.first.empty())
    result.text += "; first: " + result.selection.first;
  return result;
}

} // namespace winnow

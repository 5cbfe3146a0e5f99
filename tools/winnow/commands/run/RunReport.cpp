// Text and JSON of `winnow run`.
#include "tools/winnow/commands/run/RunReport.h"
#include "tools/winnow/Session.h"
#include "tools/winnow/io/Json.h"
#include <algorithm>
#include <fmt/format.h>
#include <fmt/ranges.h>

namespace winnow {

void RunReport::section(const std::string &title, const std::string &text) {
  if (json)
    return;
  fmt::print("{}{}. {}\n{}", number ? "\n" : "", number + 1, title, text);
  std::fflush(stdout);
  number++;
}

void RunReport::begin(bool asJson, const std::string &device) {
  json = asJson;
  object["device"] = device;
}

void RunReport::compiled(const std::vector<ObtainedProgram> &programs) {
  double total = 0;
  for (const ObtainedProgram &program : programs) {
    total += program.milliseconds;
    for (const Kernel &kernel : program.image->kernels)
      object["kernels"].push_back({{"kernel", kernel.name},
                                   {"arch", program.image->arch},
                                   {"registers", kernel.registers},
                                   {"spill_bytes", kernel.spillBytes},
                                   {"shared_bytes", kernel.sharedBytes + kernel.staticSharedBytes},
                                   {"facts", factsJson(kernel.facts)},
                                   {"compile_ms", kernel.compileMs},
                                   {"cache", program.cacheHit ? "hit" : "miss"}});
  }
  object["compile_ms"] = total;
  section("Kernels",
          programTable(programs) + fmt::format("all of them in {}\n", durationText(total)));
}

void RunReport::prompt(const Prompt &prompt) {
  std::vector<int> lengths;
  for (size_t s = 0; s + 1 < prompt.problem.cuQ.size(); ++s)
    lengths.push_back(prompt.problem.cuQ[s + 1] - prompt.problem.cuQ[s]);
  object["sequences"] = lengths;
  object["needles"] = prompt.needles.size();
}

void RunReport::ran(const reference::Problem &problem, const BackendAnswer &answer) {
  sparseMs = answer.totalMs();
  object["prepare_ms"] = answer.prepareMs;
  object["select_ms"] = answer.selectMs;
  object["attend_ms"] = answer.attendMs;
  object["total_ms"] = sparseMs;
  std::string lines = fmt::format(
      "{} query tokens in {} sequence{}; ready after {}\n", problem.totalQ(),
      problem.cuQ.size() - 1, problem.cuQ.size() == 2 ? "" : "s", durationText(answer.prepareMs));
  if (answer.selectMs > 0)
    lines += fmt::format("select  {}\n", durationText(answer.selectMs));
  lines += fmt::format("attend  {}\n", durationText(answer.attendMs));
  if (answer.backwardMs > 0) {
    object["backward_ms"] = answer.backwardMs;
    lines += fmt::format("backward {}\n", durationText(answer.backwardMs));
  }
  for (const auto &[name, time] : answer.kernels) {
    object["kernel_ms"][name] = time;
    lines += fmt::format("  {:<20} {}\n", name, durationText(time));
  }
  section("Run on " + object["device"].get<std::string>(), lines);
}

void RunReport::tuned(const ChosenConfig &choice, bool selects) {
  object["tuned"] = choiceJson(choice);
  if (!json)
    fmt::print("tunables: {}\n", choiceText(choice, selects));
}

void RunReport::notChecked(const std::string &why) {
  object["check"]["not_checked"] = why;
  section("Check against the fp64 reference", "not checked: " + why + "\n");
}

void RunReport::checked(size_t rows, const std::optional<reference::SelectionReport> &selection,
                        const reference::OutputReport &output,
                        const std::optional<Recall> &recall) {
  std::string lines;
  if (selection) {
    object["check"]["wrong_picks"] = selection->wrong;
    object["check"]["ties"] = selection->ties;
    object["check"]["picks"] = selection->picks;
    lines += fmt::format("selection: {} wrong of {} picks ({} ties within rounding)\n",
                         selection->wrong, selection->picks, selection->ties);
    if (selection->wrong)
      failure = "the selection differs from the reference: " + selection->first;
  }
  object["check"]["rows"] = rows;
  object["check"]["max_error"] = output.maxError;
  object["check"]["plain_error"] = output.plainError;
  object["check"]["lse_error"] = output.lseError;
  object["check"]["bad_elements"] = output.bad;
  lines += "output:    " + output.text() + "\n";
  if (!output.withinBars() && failure.empty())
    failure = "the output differs from the reference: " + output.text();
  object["check"]["passed"] = failure.empty();
  lines += recallLine(recall);
  section(fmt::format("Check against the fp64 reference, {} tokens: {}", rows,
                      failure.empty() ? "passed" : "FAILED"),
          lines);
}

void RunReport::gradients(const reference::GradientReport &gradients) {
  const bool passed = gradients.withinBars();
  if (!passed && failure.empty())
    failure = "the gradients differ from the reference: " + gradients.first;
  nlohmann::json &entry = object["gradients"] = {{"passed", passed}};
  const std::pair<const char *, const reference::GradientReport::Tensor *> tensors[] = {
      {"dq", &gradients.q}, {"dk", &gradients.k}, {"dv", &gradients.v}};
  for (const auto &[name, tensor] : tensors)
    entry[name] = {{"max_error", tensor->maxError}, {"largest", tensor->largest}};
  section(fmt::format("Gradients against the fp64 reference: {}", passed ? "passed" : "FAILED"),
          gradients.text() + "\n");
}

std::string RunReport::recallLine(const std::optional<Recall> &recall) {
  if (!recall || !recall->asked)
    return {};
  const double share = static_cast<double>(recall->found) / static_cast<double>(recall->asked);
  object["recall"] = {
      {"asked", recall->asked}, {"found", recall->found}, {"chance", recall->chance}};
  return fmt::format(
      "needles:   {} of {} questions found theirs ({:.1f} %; random blocks: {:.1f} %)\n",
      recall->found, recall->asked, share * 100, recall->chance * 100);
}

void RunReport::stepped(const std::vector<PagedStep> &steps, const std::optional<Recall> &recall) {
  constexpr size_t mostLines = 64;
  std::string lines;
  reference::SelectionReport selection;
  double error = 0, plain = 0;
  size_t rows = 0, failed = 0;
  for (const PagedStep &step : steps) {
    const std::string what = step.decodes ? fmt::format("decode  {}", step.begin)
                                          : fmt::format("prefill {} to {}", step.begin, step.end);
    object["steps"].push_back({{"decodes", step.decodes},
                               {"begin", step.begin},
                               {"end", step.end},
                               {"ms", step.milliseconds},
                               {"rows", step.rows},
                               {"wrong_picks", step.selection.wrong},
                               {"ties", step.selection.ties},
                               {"picks", step.selection.picks},
                               {"max_error", step.output.maxError},
                               {"plain_error", step.output.plainError},
                               {"lse_error", step.output.lseError},
                               {"fault", step.fault}});
    if (steps.size() <= mostLines || !step.fault.empty())
      lines +=
          fmt::format("{:<24} {:>8}  {} wrong of {} picks, output off by {:.2e}, {}\n", what,
                      durationText(step.milliseconds), step.selection.wrong, step.selection.picks,
                      step.output.maxError, step.fault.empty() ? "ok" : step.fault);
    if (!step.fault.empty() && failure.empty())
      failure = what + ": " + step.fault;
    failed += !step.fault.empty();
    selection.wrong += step.selection.wrong;
    selection.ties += step.selection.ties;
    selection.picks += step.selection.picks;
    error = std::max(error, step.output.maxError);
    plain = std::max(plain, step.output.plainError);
    rows += step.rows;
  }
  object["check"] = {{"passed", failed == 0},  {"failed_steps", failed},
                     {"rows", rows},           {"wrong_picks", selection.wrong},
                     {"ties", selection.ties}, {"picks", selection.picks},
                     {"max_error", error},     {"plain_error", plain}};
  lines += fmt::format("{} calls, {} wrong; selection: {} wrong of {} picks ({} ties within "
                       "rounding); worst output error {:.2e} (plain 16-bit arithmetic: {:.2e})\n",
                       steps.size(), failed, selection.wrong, selection.picks, selection.ties,
                       error, plain);
  lines += recallLine(recall);
  section(fmt::format("Check of each call against the fp64 reference, {} tokens: {}", rows,
                      failed == 0 ? "passed" : "FAILED"),
          lines);
}

void RunReport::fp8Cost(const Fp8Cost &cost, Dtype dtype) {
  std::string lines;
  nlohmann::json &entry = object["fp8_cost"] = {{"rows", cost.rows}, {"output_error", cost.error}};
  if (cost.picks > 0) {
    const double alike = static_cast<double>(cost.alike) / static_cast<double>(cost.picks);
    entry["picks"] = cost.picks;
    entry["alike"] = cost.alike;
    lines += fmt::format("selection: {:.2f} % of {} picks are the same\n", 100 * alike, cost.picks);
  }
  lines += fmt::format("output:    off by {:.2f} % (root mean square)\n", 100 * cost.error);
  if (cost.exact && cost.exact->asked > 0) {
    entry["recall"] = {{"asked", cost.exact->asked}, {"found", cost.exact->found}};
    lines += fmt::format("needles:   {} of {} questions would have found theirs\n",
                         cost.exact->found, cost.exact->asked);
  }
  section(fmt::format("Against keys and values of {}, {} tokens", name(dtype), cost.rows), lines);
}

void RunReport::dense(double denseMs, double touchedShare) {
  object["dense_ms"] = denseMs;
  object["touched_share"] = touchedShare;
  section("Against dense attention on the same device",
          fmt::format("dense   {}\nsparse  {} ({:.2f} times as fast)\nkey blocks touched: {:.1f} % "
                      "of the causal ones\n",
                      durationText(denseMs), durationText(sparseMs), denseMs / sparseMs,
                      touchedShare * 100));
}

void RunReport::drawn(const std::string &path, size_t bytes) {
  object["picture"] = path;
  section("Picture", fmt::format("{} ({} KiB)\n", path, (bytes + 1023) / 1024));
}

Status RunReport::finish() {
  if (json)
    printJson(object);
  if (!failure.empty())
    return fail(ErrorKind::WrongResult, failure);
  return {};
}

} // namespace winnow

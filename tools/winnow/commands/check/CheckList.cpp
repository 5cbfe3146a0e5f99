// Draws random items from what the compiler serves; runs items on several threads.
#include "tools/winnow/commands/check/CheckList.h"
#include "reference/conformance/Append.h"
#include "reference/conformance/RandomCases.h"
#include "reference/conformance/SmallCases.h"
#include "reference/methods/MethodAxes.h"
#include "runtime/program/Tunables.h"
#include <algorithm>
#include <fmt/format.h>
#include <optional>
#include <thread>

namespace winnow {
namespace {

Result<DrawSpace> compilerSpace(const std::string &arch, const Config &fixed) {
  DrawSpace space;
  space.fixed = fixed;
  for (const MethodInfo &method : builtinMethods()) {
    WINNOW_TRY(auto parameters, methodParameters(method.text, method.file));
    space.methods.push_back({method.name, std::move(parameters)});
  }
  if (space.methods.empty())
    return fail(ErrorKind::Unsupported,
                "this build has no compiler: there is nothing to draw from");
  for (const Tunable &tunable : tunables())
    space.tunables.push_back({tunable.name, tunable.values, tunable.phase});
  space.serves = [arch](const std::string &method, const Spec &spec, const Config &config) {
    CompileRequest request;
    request.method = method;
    request.spec = spec;
    request.config = config;
    return isServed(request, arch);
  };
  return space;
}

} // namespace

Status isServed(CompileRequest request, const std::string &arch) {
  request.arch = arch;
  return isServed(request);
}

CompileRequest requestFor(const ConformanceCase &test) {
  CompileRequest request;
  request.method = test.method;
  request.spec = test.spec;
  request.config = test.config;
  return request;
}

Result<std::vector<CheckItem>> randomItems(const RandomChoice &choice) {
  WINNOW_TRY(DrawSpace space, compilerSpace(choice.arch, choice.fixed));
  space.backward = choice.backward;
  int first = choice.only >= 0 ? choice.only : 0;
  int last = choice.only >= 0 ? choice.only : choice.draws - 1;
  int firstProgram = first / kDrawsPerProgram, lastProgram = last / kDrawsPerProgram;
  std::vector<std::optional<Result<DrawnProgram>>> programs(lastProgram - firstProgram + 1);
  reference::parallelFor(programs.size(), {}, [&](size_t i) {
    programs[i] = drawProgram(space, choice.seed, firstProgram + static_cast<int>(i));
  });
  std::vector<CheckItem> items;
  for (int draw = first; draw <= last; ++draw) {
    const Result<DrawnProgram> &program = *programs[draw / kDrawsPerProgram - firstProgram];
    if (!program)
      return tl::unexpected(program.error());
    WINNOW_TRY(reference::Method axes, readAxes(program->method, program->spec));
    CheckItem item;
    item.test = drawCase(*program, axes.selects, choice.seed, draw);
    std::string fixed = shortText(choice.fixed);
    std::string config = fixed == "default" ? "" : fmt::format(" --config \"{}\"", fixed);
    item.repeat =
        fmt::format("--random {} --seed {}{}{} --random-only {}: {}", choice.draws, choice.seed,
                    choice.backward ? " --backward" : "", config, draw, describe(item.test));
    items.push_back(std::move(item));
  }
  return items;
}

Result<std::vector<CheckItem>> smallItems(const std::string &arch,
                                          std::vector<std::string> &without) {
  WINNOW_TRY(DrawSpace space, compilerSpace(arch, {}));
  WINNOW_TRY(SmallCases small, smallCases(space));
  without = std::move(small.withoutKernels);
  std::vector<CheckItem> items;
  for (ConformanceCase &test : small.cases)
    items.push_back({std::move(test), nullptr, ""});
  return items;
}

Result<CaseAnswer> CheckRunner::answer(const ConformanceCase &test, const CaseInputs &inputs) {
  BackendCall call;
  call.request = requestFor(test);
  call.problem = &inputs.problem;
  call.ids = test.givenIds ? inputs.ids.data() : nullptr;
  call.dout = test.backward ? inputs.dout.data() : nullptr;
  StoredTensors stored;
  if (!test.layout.empty()) {
    Result<Layout> layout = parseLayout(test.layout);
    if (!layout)
      return tl::unexpected(layout.error());
    stored = storeTensors(inputs.problem, *layout, test.pageSize, test.seed, test.pageGap);
    if (test.keepsRows)
      WINNOW_CHECK(appendHistory(test, inputs.problem, *layout, stored));
    call.stored = &stored;
  }
  if (inputs.problem.totalQ() % 2 == 0) // either kind, but the same one each time
    call.workspaceByte = BackendCall::kPlausible;
  WINNOW_TRY(BackendAnswer result, onDevice(call));
  return std::move(result.tensors);
}

/// Gives `stored` the rows that earlier launches have left there: those of all keys in front of the
/// call's own tokens.
Status CheckRunner::appendHistory(const ConformanceCase &test, const reference::Problem &problem,
                                  Layout layout, StoredTensors &stored) {
  WINNOW_TRY(reference::Method method, readAxes(test.method, test.spec));
  storeRows(summariesOf(method), layout, problem, test.seed, stored);
  StoredTensors before = stored;
  reference::Problem earlier = problem;
  for (size_t s = 0; s < before.seqK.size(); ++s) {
    before.seqK[s] -= problem.cuQ[s + 1] - problem.cuQ[s];
    earlier.cuQ[s + 1] = earlier.cuQ[s] + before.seqK[s];
  }
  before.outElements = static_cast<size_t>(earlier.totalQ() * before.layout.outStride[0]);
  BackendCall call;
  call.request = requestFor(test);
  call.problem = &earlier;
  call.stored = &before;
  call.appendOnly = true;
  WINNOW_TRY(BackendAnswer answer, onDevice(call));
  for (int i = 0; i < kMostRows; ++i)
    stored.rows[i] = answer.tensors.rows[i];
  return {};
}

Result<BackendAnswer> CheckRunner::onDevice(const BackendCall &call) {
  std::lock_guard<std::mutex> lock(device);
  if (broken)
    return fail(ErrorKind::DeviceFailed, "not run: the device failed before");
  Result<BackendAnswer> result = backend.run(call);
  if (!result && result.error().kind == ErrorKind::DeviceFailed)
    broken = true;
  return result;
}

Result<CaseResult> CheckRunner::judge(const CheckItem &item, int threads) {
  // A recorded case runs with the item's tunables too.
  CaseAnswer kept;
  auto runner = [&](const ConformanceCase &, const CaseInputs &inputs) {
    Result<CaseAnswer> answered = answer(item.test, inputs);
    if (answered && (saved || other))
      kept = *answered;
    return answered;
  };
  if (broken)
    return fail(ErrorKind::DeviceFailed, "not run: the device failed before");
  if (item.test.append)
    return runAppendCase(item.test, readAxes,
                         [&](const reference::Problem &problem, const StoredTensors &stored) {
                           BackendCall call;
                           call.request = requestFor(item.test);
                           call.problem = &problem;
                           call.stored = &stored;
                           call.appendOnly = true;
                           return onDevice(call).map(
                               [](BackendAnswer &&answer) { return std::move(answer.tensors); });
                         });
  Result<CaseResult> result = item.recorded
                                  ? runRecorded(*item.recorded, readAxes, runner)
                                  : runCase(item.test, readAxes, runner, tolerance, threads);
  if (!result || item.recorded)
    return result;
  Status status;
  if (saved)
    status = saved->save(item.test, kept);
  if (status && other)
    status = compare(item.test, kept, *result, threads);
  if (!status)
    return tl::unexpected(status.error());
  return result;
}

Status CheckRunner::compare(const ConformanceCase &test, const CaseAnswer &answer,
                            CaseResult &result, int threads) {
  WINNOW_TRY(CaseAnswer there, other->load(test));
  Result<CaseResult> judged = runCase(
      test, readAxes, [&](const ConformanceCase &, const CaseInputs &) { return there; }, tolerance,
      threads);
  if (!judged)
    return tl::unexpected(judged.error());
  const AnswerDistance distance = distanceOf(test, answer, there);
  // A row may select otherwise where one of the two broke a tie in another way than the reference.
  const bool alike = judged->passed && distance.lseAlike &&
                     distance.otherSelection <= result.selection.ties + judged->selection.ties &&
                     distance.output <= 2 * result.output.plainError;
  result.passed = result.passed && alike;
  result.text += fmt::format("; {}: {}", alike ? "as there" : "NOT as there", distance.text());
  return {};
}

void CheckRunner::run(
    const std::vector<CheckItem> &items, bool serial,
    const std::function<void(const CheckItem &, const Result<CaseResult> &)> &done) {
  std::vector<std::optional<Result<CaseResult>>> results(items.size());
  std::mutex order;
  size_t told = 0;
  reference::Options options;
  options.threads =
      serial ? 1 : static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  reference::parallelFor(items.size(), options, [&](size_t i) {
    Result<CaseResult> result = judge(items[i], serial ? 0 : 1);
    std::lock_guard<std::mutex> lock(order);
    results[i] = std::move(result);
    for (; told < items.size() && results[told]; ++told)
      done(items[told], *results[told]);
  });
}

} // namespace winnow

// Adds up the kernels of a phase, and chooses by the sum.
#include "autotune/model/PerformanceModel.h"
#include "autotune/model/ModelKernels.h"
#include <algorithm>
#include <cmath>
#include <fmt/format.h>

namespace winnow {

namespace {

/// What the model may not tell apart: the default stays.
constexpr double kDecisive = 0.02, kDecisiveOfGradients = 0.1, kDecisiveOfDecode = 0.12;

/// Statistics, lists and the joining of ranges have no facts and no tunables of their own: their
/// launches count, and what joining reads with the kernel that wrote it.
Result<KernelPrediction> predictGradients(const ModelWorkload &workload, const Candidate &candidate,
                                          const Kernel &kernel, const DeviceProfile &profile,
                                          const ModelConstants &constants) {
  if (kernel.facts.rowTiles)
    return predictAttend(workload, kernel, profile, constants);
  if (kernel.facts.queryRows)
    return predictKeyGradients(workload, candidate, kernel, profile, constants);
  KernelPrediction prediction;
  prediction.ms = profile.launchMicros / 1000;
  return prediction;
}

/// `score`: the candidate's score kernel, where it has one.
Result<KernelPrediction> predictKernel(const ModelWorkload &workload, const Candidate &candidate,
                                       const Kernel &kernel, const Kernel *score,
                                       const DeviceProfile &profile,
                                       const ModelConstants &constants) {
  if (kernel.step == "attend")
    return predictAttend(workload, kernel, profile, constants);
  if (isBackward(kernel))
    return predictGradients(workload, candidate, kernel, profile, constants);
  if (kernel.step == "score")
    return predictScore(workload, candidate, kernel, profile, constants);
  if (kernel.step == "top_k")
    return score ? predictTopK(workload, candidate, *score, profile, constants)
                 : predictForced(workload, kernel, profile, constants);
  if (kernel.step == "summarize" || kernel.step == "rescore")
    return predictSummarize(workload, kernel, profile);
  return fail(ErrorKind::Unsupported, fmt::format("the performance model knows no step '{}', which "
                                                  "kernel {} is",
                                                  kernel.step, kernel.name));
}

} // namespace

int FactReader::operator()(KernelFacts::Fact KernelFacts::*fact) {
  if (const KernelFacts::Fact &value = kernel.facts.*fact)
    return *value;
  for (const FactField &field : factFields())
    if (field.member == fact && !lacking)
      lacking = field.name;
  return 0;
}

Status FactReader::status() const {
  if (!lacking)
    return {};
  return fail(ErrorKind::Unsupported,
              fmt::format("kernel {} lacks the fact '{}', which the performance model needs: its "
                          "text was given, or it comes from an older build",
                          kernel.name, lacking));
}

bool launched(const Kernel &kernel, const Variables &shape) {
  Result<Formula> when = Formula::parse(kernel.when, kLastVariable);
  Result<int64_t> value = when ? when->evaluate(shape) : Result<int64_t>(1);
  return !value || *value != 0;
}

Variables shapeOf(const ModelWorkload &workload, const DeviceProfile &profile) {
  Variables shape;
  shape[Variable::SmCount] = profile.multiprocessors;
  shape[Variable::Batch] = 1;
  for (Variable variable :
       {Variable::TotalQ, Variable::TotalK, Variable::MaxQ, Variable::MaxK, Variable::TokenCount})
    shape[variable] = workload.key.tokens;
  return shape;
}

void Pipes::add(const char *name, double clocks) { entries.push_back({name, clocks}); }

double Pipes::joined() const {
  double sum = 0;
  for (const Entry &entry : entries)
    sum += std::pow(entry.clocks, norm);
  return std::pow(sum, 1 / norm);
}

void Pipes::addScaled(const Pipes &other, double share) {
  entries.resize(other.entries.size(), {"", 0});
  for (size_t i = 0; i < entries.size(); ++i)
    entries[i] = {other.entries[i].name, entries[i].clocks + share * other.entries[i].clocks};
}

std::vector<Pipe> Pipes::inMilliseconds(double factor, const DeviceProfile &profile) const {
  std::vector<Pipe> pipes;
  for (const Entry &entry : entries)
    pipes.push_back({entry.name, profile.milliseconds(entry.clocks * factor)});
  return pipes;
}

double imbalance(int warps) {
  const int fullest = (warps + kSchedulers - 1) / kSchedulers;
  return static_cast<double>(fullest * kSchedulers) / std::max(1, warps);
}

double mmaClocks(const DeviceProfile &profile) {
  constexpr double kOperations = 2 * 16 * 8 * 16;
  return kOperations / (profile.mmaOperations / kSchedulers);
}

Result<ModelWorkload> workloadOf(const TuningKey &key, const ProgramImage &program) {
  ModelWorkload workload{key, 0, 1};
  for (const Kernel &kernel : program.kernels) {
    if (kernel.step != "top_k")
      continue;
    FactReader fact(kernel);
    workload.init = fact(&KernelFacts::init);
    workload.local = fact(&KernelFacts::local);
    WINNOW_CHECK(fact.status());
  }
  return workload;
}

Result<Prediction> predict(const ModelWorkload &workload, const Candidate &candidate,
                           const DeviceProfile &profile, const ModelConstants &constants) {
  if (workload.key.phase == kDecodePhase)
    return predictDecode(workload, candidate, profile, constants);
  WINNOW_TRY(const Target *target, findTarget(workload.key.arch));
  if (target->hasWarpgroupMma)
    return fail(ErrorKind::Unsupported,
                fmt::format("the performance model describes mma.sync kernels; those of {} run on "
                            "warpgroups: measure them",
                            target->arch));
  Prediction prediction;
  const Variables shape = shapeOf(workload, profile);
  const Kernel *score = nullptr;
  for (const Kernel &kernel : candidate.kernels) {
    const bool runs = launched(kernel, shape);
    if (kernel.step == "score" && (runs || !score))
      score = &kernel; // not one of decode
    if (!runs)
      continue;
    WINNOW_TRY(KernelPrediction one,
               predictKernel(workload, candidate, kernel, score, profile, constants));
    one.kernel = kernel.name;
    prediction.ms += one.ms;
    prediction.kernels.push_back(std::move(one));
  }
  return prediction;
}

Result<double> predictMs(const ModelWorkload &workload, const Candidate &candidate,
                         const DeviceProfile &profile) {
  WINNOW_TRY(Prediction prediction, predict(workload, candidate, profile));
  return prediction.ms;
}

bool keepsDefault(std::string_view phase, double leastMs, double defaultMs) {
  const double decisive = phase == kBackwardPhase ? kDecisiveOfGradients
                          : phase == kDecodePhase ? kDecisiveOfDecode
                                                  : kDecisive;
  return leastMs > defaultMs * (1 - decisive);
}

Result<ModelChoice> choose(const SearchSpace &space, const ModelWorkload &workload,
                           const DeviceProfile &profile) {
  ModelChoice choice;
  for (size_t i = 0; i < space.candidates.size(); ++i) {
    WINNOW_TRY(double ms, predictMs(workload, space.candidates[i], profile));
    if (i == 0)
      choice = {0, ms, ms};
    else if (ms < choice.ms)
      choice = {i, ms, choice.defaultMs};
  }
  if (keepsDefault(workload.key.phase, choice.ms, choice.defaultMs))
    choice = {0, choice.defaultMs, choice.defaultMs};
  return choice;
}

} // namespace winnow

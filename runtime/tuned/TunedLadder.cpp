// Sorts the records that can answer by rung, distance and rank, and takes the first legal one.
#include "runtime/tuned/TunedLadder.h"
#include "runtime/program/CrossingPoints.h"
#include <algorithm>
#include <array>
#include <cmath>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <set>

namespace winnow {

namespace {

constexpr std::array<const char *, 6> kRungNames = {"exact", "nearest", "other_device",
                                                    "model", "default", "given"};

double octaves(double a, double b) {
  return std::abs(std::log2(std::max(a, 1.0) / std::max(b, 1.0)));
}

/// Names of method parameters whose values differ, where both keys give one.
std::vector<std::string> differentParams(const Spec &a, const Spec &b) {
  std::vector<std::string> names;
  for (const auto &[param, value] : a.params)
    if (auto it = b.params.find(param); it != b.params.end() && it->second != value)
      names.push_back(param);
  return names;
}

/// "16384 tokens instead of 131072, top-k 16 instead of 96".
std::string differences(const TuningKey &wanted, const TuningKey &have) {
  std::vector<std::string> parts;
  auto tell = [&](const char *what, const auto &has, const auto &asked) {
    if (has != asked)
      parts.push_back(fmt::format("{} {} instead of {}", what, has, asked));
  };
  tell("tokens", have.tokens, wanted.tokens);
  if (dependsOnOverlap(wanted.phase))
    tell("overlap", have.overlap, wanted.overlap);
  tell("batch", have.batch, wanted.batch);
  tell("top-k", have.spec.topk, wanted.spec.topk);
  tell("group", have.spec.group(), wanted.spec.group());
  tell("kv-heads", have.spec.kvHeads, wanted.spec.kvHeads);
  tell("dtype", std::string(name(have.spec.dtype)), std::string(name(wanted.spec.dtype)));
  tell("kv-dtype", std::string(name(have.spec.kvDtype)), std::string(name(wanted.spec.kvDtype)));
  for (const std::string &param : differentParams(wanted.spec, have.spec))
    tell(param.c_str(), have.spec.params.at(param), wanted.spec.params.at(param));
  return fmt::format("{}", fmt::join(parts, ", "));
}

template <typename Record> struct Candidate {
  const Record *record;
  Rung rung;
  double distance;
  bool otherDevice;
};

/// The order in which records answer. Total, so that answers do not depend on anything else.
template <typename Record>
bool comesBefore(const Candidate<Record> &a, const Candidate<Record> &b) {
  if (a.rung != b.rung)
    return a.rung < b.rung;
  if (a.otherDevice != b.otherDevice)
    return b.otherDevice;
  if (a.distance != b.distance)
    return a.distance < b.distance;
  return isBetter(*a.record, *b.record);
}

template <typename Record>
std::vector<Candidate<Record>> candidatesFor(const std::map<std::string, Record> &records,
                                             const TuningKey &wanted) {
  std::vector<Candidate<Record>> candidates;
  for (const auto &[text, record] : records) {
    std::optional<double> distance = tuningDistance(wanted, record.key);
    if (!distance || *distance > kTuningReach)
      continue;
    bool otherDevice = record.key.device != wanted.device;
    Rung rung = record.origin == "model" ? Rung::Model
                : otherDevice            ? Rung::OtherDevice
                : *distance == 0         ? Rung::Exact
                                         : Rung::Nearest;
    candidates.push_back({&record, rung, *distance, otherDevice});
  }
  std::sort(candidates.begin(), candidates.end(), comesBefore<Record>);
  return candidates;
}

template <typename Record>
std::string explain(const Candidate<Record> &candidate, const TuningKey &wanted) {
  const TuningKey &have = candidate.record->key;
  std::string problem =
      candidate.distance == 0
          ? "for this problem"
          : fmt::format("for {} (distance {:.2f} of at most {})", differences(wanted, have),
                        candidate.distance, kTuningReach);
  std::string device = have.device;
  if (candidate.otherDevice && !wanted.device.empty())
    device += fmt::format(", another {}", wanted.arch);
  return candidate.rung == Rung::Model
             ? fmt::format("chosen by the performance model of {} {}; nothing was run", device,
                           problem)
             : fmt::format("measured on {} {}", device, problem);
}

} // namespace

const char *name(Rung rung) { return kRungNames[static_cast<size_t>(rung)]; }

Result<Rung> parseRung(const std::string &text) {
  for (size_t i = 0; i < kRungNames.size(); ++i)
    if (text == kRungNames[i])
      return static_cast<Rung>(i);
  return fail(ErrorKind::Usage,
              fmt::format("'{}' is no rung: known are {}", text, fmt::join(kRungNames, ", ")));
}

Workload Workload::bucket() const {
  constexpr int kUnknownTokens = 131072, kUnknownOverlap = 32, kUnknownBatch = 16;
  return {tokensBucket(tokens > 0 ? tokens : kUnknownTokens),
          overlapBucket(overlap > 0 ? overlap : kUnknownOverlap),
          batchBucket(batch > 0 ? batch : kUnknownBatch)};
}

std::vector<const char *> tunedPhases(const Spec &spec) {
  std::vector<const char *> phases{"select", "attend"};
  if (spec.paged)
    phases.push_back(kDecodePhase);
  if (spec.backward)
    phases.push_back(kBackwardPhase);
  return phases;
}

bool dependsOnOverlap(std::string_view phase) {
  return phase == "attend" || phase == kBackwardPhase;
}

bool isOpen(const Config &config, const std::string &phase) {
  for (const Tunable *tunable : phaseTunables(phase))
    if (tunable->get(config) != 0)
      return false;
  return true;
}

bool hasOpenPhase(const Config &config, const Spec &spec) {
  const std::vector<const char *> phases = tunedPhases(spec);
  return std::any_of(phases.begin(), phases.end(),
                     [&](const char *phase) { return isOpen(config, phase); });
}

std::optional<double> tuningDistance(const TuningKey &wanted, const TuningKey &have) {
  const Spec &a = wanted.spec, &b = have.spec;
  // Another method may attend to everything, or to lists of another kind: its best is no hint.
  if (wanted.phase != have.phase || wanted.method != have.method || wanted.arch != have.arch ||
      a.headDim != b.headDim || a.valueWidth() != b.valueWidth() || a.block != b.block)
    return std::nullopt;
  double distance = 0.5 * octaves(wanted.tokens, have.tokens);
  if (dependsOnOverlap(wanted.phase))
    distance += 0.5 * octaves(wanted.overlap, have.overlap);
  distance += 0.5 * octaves(wanted.batch, have.batch); // 0 but at decode
  distance += (wanted.phase == "select" ? 0.25 : 0.5) * octaves(a.topk, b.topk);
  distance += 2 * octaves(a.group(), b.group()) + 0.25 * octaves(a.kvHeads, b.kvHeads);
  if (a.dtype != b.dtype)
    distance += 0.25;
  if (a.kvDtype != b.kvDtype)
    distance += 0.5;
  return distance + 0.25 * static_cast<double>(differentParams(a, b).size());
}

TunedAnswer lookUp(const TunedDatabase &database, const TuningKey &wanted, const LegalConfig &legal,
                   const std::function<void(const std::string &)> &warn) {
  TunedAnswer answer;
  std::set<std::string> refused; // records often share a configuration: each is checked once
  bool defaultIsLegal = false;
  for (const Candidate<TuningRecord> &candidate : candidatesFor(database.records(), wanted)) {
    // Only the phase's own tunables: a record must not reach into the other phase.
    Config config;
    for (const Tunable *tunable : phaseTunables(wanted.phase))
      tunable->set(config, tunable->get(candidate.record->config));
    if (refused.count(config.text()))
      continue;
    // The default is the compiler's own, and legal where anything is.
    if (Status status = legal && !isOpen(config, wanted.phase) ? legal(config) : Status();
        !status) {
      // A problem that has no kernel at all is not the record's fault; the compiler will tell.
      if (!defaultIsLegal && !(defaultIsLegal = legal(Config()).has_value()))
        break;
      if (refused.empty() && warn)
        warn(fmt::format("a tuned configuration is ignored: [{}] of {}: {}", wordText(config),
                         candidate.record->key.text(), status.error().message));
      refused.insert(config.text());
      continue;
    }
    answer.config = config;
    answer.rung = candidate.rung;
    answer.record = *candidate.record;
    answer.isOwn = candidate.distance == 0 && !candidate.otherDevice;
    answer.why = explain(candidate, wanted);
    return answer;
  }
  answer.why = refused.empty() ? "no tuned configuration is near enough"
                               : "no tuned configuration that is near enough is legal here";
  return answer;
}

CrossingAnswer lookUpCrossing(const TunedDatabase &database, const TuningKey &wanted) {
  const std::vector<Candidate<CrossingRecord>> candidates =
      candidatesFor(database.crossings(), wanted);
  if (candidates.empty())
    return {CrossingPoints::byDefault(wanted.spec).text(), Rung::Default,
            "no measured crossing points are near enough"};
  const Candidate<CrossingRecord> &first = candidates.front();
  return {first.record->points, first.rung,
          explain(first, wanted) + (first.record->origin == "interpolated"
                                        ? ", between lengths that lie far apart"
                                        : "")};
}

} // namespace winnow

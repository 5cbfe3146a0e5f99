// Lines of tuned configurations, written and read. A reader takes nothing on trust: files come from
// other machines and from writers that were killed.
#include "runtime/tuned/TuningRecord.h"
#include "runtime/JsonText.h"
#include "runtime/program/CrossingPoints.h"
#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <tuple>

namespace winnow {

namespace {

using Json = nlohmann::ordered_json;

/// The member of `list` whose ratio to `value` is nearest to 1; the smaller one of two.
template <size_t count> int nearestByRatio(const int (&list)[count], double value) {
  int best = list[0];
  for (int candidate : list)
    if (std::abs(std::log(candidate / value)) < std::abs(std::log(best / value)) - 1e-9)
      best = candidate;
  return best;
}

/// Times are kept to a tenth of a microsecond: more digits are noise in a diff.
double rounded(double milliseconds) { return std::round(milliseconds * 1e4) / 1e4; }

Json keyJson(const char *kind, const TuningKey &key) {
  Json object{{"schema", kTuningSchema}, {"kind", kind},
              {"phase", key.phase},      {"method", key.method},
              {"spec", key.spec.text()}, {"tokens", key.tokens},
              {"overlap", key.overlap}};
  if (key.phase == kDecodePhase)
    object["batch"] = key.batch;
  object["arch"] = key.arch;
  object["device"] = key.device;
  return object;
}

/// Fields of one line. A missing or mistyped one is told by name.
class LineReader {
public:
  explicit LineReader(const Json &object) : object(object) {}

  std::string text(const char *name) {
    auto it = object.find(name);
    if (it != object.end() && it->is_string())
      return it->get<std::string>();
    complain(name, "a text");
    return {};
  }
  double number(const char *name) {
    auto it = object.find(name);
    if (it != object.end() && it->is_number() && std::isfinite(it->get<double>()))
      return it->get<double>();
    complain(name, "a number");
    return 0;
  }
  int whole(const char *name) {
    double value = number(name);
    if (value == std::floor(value) && value >= 0 && value < 2147483648.0)
      return static_cast<int>(value);
    complain(name, "a whole number from 0");
    return 0;
  }
  std::vector<std::string> texts(const char *name) {
    std::vector<std::string> list;
    auto it = object.find(name);
    if (it == object.end() || !it->is_array())
      return complain(name, "a list of texts"), list;
    for (const Json &item : *it)
      if (item.is_string())
        list.push_back(item.get<std::string>());
      else
        complain(name, "a list of texts");
    return list;
  }
  void oneOf(const char *name, const std::string &value,
             std::initializer_list<const char *> allowed) {
    if (std::none_of(allowed.begin(), allowed.end(), [&](const char *a) { return value == a; }))
      fault = fault.empty() ? fmt::format("{} is '{}'", name, value) : fault;
  }
  TuningKey key(std::initializer_list<const char *> phases) {
    TuningKey key;
    key.phase = text("phase");
    oneOf("phase", key.phase, phases);
    key.method = text("method");
    key.tokens = whole("tokens");
    key.overlap = whole("overlap");
    if (key.phase == kDecodePhase)
      key.batch = whole("batch");
    key.arch = text("arch");
    key.device = text("device");
    take(key.spec, Spec::parse(text("spec")));
    return key;
  }
  Config config() {
    Config config;
    std::string words = text("config");
    if (words != "default")
      take(config, Config::parse(words));
    return config;
  }

  template <typename T> void take(T &target, Result<T> result) {
    if (result)
      target = std::move(*result);
    else if (fault.empty())
      fault = result.error().message;
  }

  std::string fault; ///< the first one

private:
  void complain(const char *name, const char *wanted) {
    if (fault.empty())
      fault = fmt::format("'{}' is not {}", name, wanted);
  }

  const Json &object;
};

TuningRecord readRecord(LineReader &line) {
  TuningRecord r;
  r.key = line.key({"select", "attend", kDecodePhase, kBackwardPhase});
  r.config = line.config();
  r.origin = line.text("origin");
  line.oneOf("origin", r.origin, {"measured", "model"});
  r.effort = line.text("effort");
  line.oneOf("effort", r.effort, {"quick", "full", "exhaustive"});
  r.ms = line.number("ms"), r.low = line.number("low"), r.high = line.number("high");
  r.defaultMs = line.number("default_ms"), r.floorMs = line.number("floor_ms");
  r.rounds = line.whole("rounds");
  r.clockMhz = line.whole("clock_mhz"), r.watts = line.whole("watts");
  r.tried = line.whole("tried"), r.rejected = line.whole("rejected"),
  r.pruned = line.whole("pruned");
  r.verified = line.text("verified");
  r.edges = line.texts("edges");
  r.protocol = line.text("protocol"), r.code = line.text("code");
  r.driver = line.text("driver"), r.date = line.text("date");
  return r;
}

TuningTrial readTrial(LineReader &line) {
  TuningTrial t;
  t.key = line.key({"select", "attend", kDecodePhase, kBackwardPhase});
  t.config = line.config();
  t.outcome = line.text("outcome");
  line.oneOf("outcome", t.outcome, {"best", "kept", "dropped", "pruned", "rejected"});
  t.reason = line.text("reason");
  t.ms = line.number("ms"), t.low = line.number("low"), t.high = line.number("high");
  t.rounds = line.whole("rounds");
  return t;
}

CrossingRecord readCrossing(LineReader &line) {
  CrossingRecord r;
  r.key = line.key({kCrossingPhase});
  line.take(r.points, CrossingPoints::parse(line.text("points"), r.key.spec)
                          .map([](const CrossingPoints &points) { return points.text(); }));
  r.origin = line.text("origin");
  line.oneOf("origin", r.origin, {"measured", "interpolated"});
  r.protocol = line.text("protocol"), r.code = line.text("code");
  r.driver = line.text("driver"), r.date = line.text("date");
  return r;
}

int effortRank(const std::string &effort) {
  return effort == "exhaustive" ? 2 : effort == "full" ? 1 : 0;
}

} // namespace

std::string TuningKey::text() const {
  return fmt::format("{} {} [{}] tokens={} overlap={}{} {} on {}", phase, method, spec.text(),
                     tokens, overlap, batch ? fmt::format(" batch={}", batch) : "", arch, device);
}

int tokensBucket(int64_t tokens) {
  constexpr int buckets[] = {2048, 16384, 131072, 1048576};
  return nearestByRatio(buckets, static_cast<double>(std::max<int64_t>(tokens, 1)));
}

int overlapBucket(int overlap) {
  constexpr int buckets[] = {1, 8, 32, 128};
  return overlap <= 0 ? 0 : nearestByRatio(buckets, overlap);
}

int batchBucket(int batch) {
  constexpr int buckets[] = {1, 4, 16, 64, 256};
  return nearestByRatio(buckets, std::max(batch, 1));
}

std::string recordLine(const TuningRecord &r) {
  Json object = keyJson("record", r.key);
  object["config"] = shortText(r.config);
  object["origin"] = r.origin;
  object["effort"] = r.effort;
  object["ms"] = rounded(r.ms), object["low"] = rounded(r.low), object["high"] = rounded(r.high);
  object["default_ms"] = rounded(r.defaultMs), object["floor_ms"] = rounded(r.floorMs);
  object["rounds"] = r.rounds;
  object["clock_mhz"] = r.clockMhz, object["watts"] = r.watts;
  object["tried"] = r.tried, object["rejected"] = r.rejected, object["pruned"] = r.pruned;
  object["verified"] = r.verified;
  object["edges"] = r.edges;
  object["protocol"] = r.protocol, object["code"] = r.code;
  object["driver"] = r.driver, object["date"] = r.date;
  return object.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string trialLine(const TuningTrial &t) {
  Json object = keyJson("trial", t.key);
  object["config"] = shortText(t.config);
  object["outcome"] = t.outcome;
  object["reason"] = t.reason;
  object["ms"] = rounded(t.ms), object["low"] = rounded(t.low), object["high"] = rounded(t.high);
  object["rounds"] = t.rounds;
  return object.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string crossingLine(const CrossingRecord &r) {
  Json object = keyJson("crossing", r.key);
  object["points"] = r.points;
  object["origin"] = r.origin;
  object["protocol"] = r.protocol, object["code"] = r.code;
  object["driver"] = r.driver, object["date"] = r.date;
  return object.dump(-1, ' ', false, Json::error_handler_t::replace);
}

TuningLines parseTuningLines(std::string_view text,
                             const std::function<bool(std::string_view line)> &wanted) {
  TuningLines lines;
  int number = 0;
  for (size_t begin = 0; begin < text.size();) {
    size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view line = text.substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos)
      continue;
    if (wanted && line.front() == '{' && line.back() == '}' && !wanted(line))
      continue;
    auto skip = [&](const std::string &why) {
      lines.faults.push_back(fmt::format("line {}: {}", number, why));
    };
    Result<Json> object = parseJson<Json>(line);
    if (!object || !object->is_object()) {
      skip(object ? "not a JSON object" : "not a JSON object: " + object.error().message);
      continue;
    }
    LineReader reader(*object);
    if (int schema = reader.whole("schema"); schema != kTuningSchema) {
      skip(fmt::format("schema {}; this build reads {}", schema, kTuningSchema));
      if (schema > 0)
        lines.foreign.emplace_back(line);
      continue;
    }
    std::string kind = reader.text("kind");
    if (kind == "record") {
      TuningRecord record = readRecord(reader);
      if (reader.fault.empty())
        lines.records.push_back(std::move(record));
    } else if (kind == "trial") {
      TuningTrial trial = readTrial(reader);
      if (reader.fault.empty())
        lines.trials.push_back(std::move(trial));
    } else if (kind == "crossing") {
      CrossingRecord record = readCrossing(reader);
      if (reader.fault.empty())
        lines.crossings.push_back(std::move(record));
    } else if (reader.fault.empty()) {
      reader.fault = fmt::format("a line of kind '{}'", kind);
    }
    if (!reader.fault.empty())
      skip(reader.fault);
  }
  return lines;
}

bool outranks(const TuningRecord &a, const TuningRecord &b) {
  if (a.origin != b.origin)
    return a.origin == "measured";
  if (a.effort != b.effort)
    return effortRank(a.effort) > effortRank(b.effort);
  return a.date > b.date;
}

bool outranks(const CrossingRecord &a, const CrossingRecord &b) {
  if (a.origin != b.origin)
    return a.origin == "measured";
  return std::tie(b.date, a.points) < std::tie(a.date, b.points);
}

} // namespace winnow

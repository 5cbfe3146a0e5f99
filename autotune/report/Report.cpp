// Collects lines by key, then computes each figure from the collected keys. Trials are kept as
// indices into tables of texts: a page of 300 keys with 200 trials each stays at a few megabytes.
#include "autotune/report/Report.h"
#include "runtime/tuned/TunedLadder.h"
#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <map>
#include <set>

namespace winnow {

namespace {

using Json = nlohmann::ordered_json;

constexpr const char *kOutcomes[] = {"best", "kept", "dropped", "pruned", "rejected"};
/// Ways of choosing a configuration without measuring it here.
constexpr const char *kChoices[] = {"default", "model", "neighbour"};

/// Everything the files say about one key.
struct KeyLines {
  const TuningRecord *record = nullptr; ///< the best one
  std::vector<const TuningTrial *> trials;
  std::map<std::string, size_t> byConfig; ///< into trials, by shortText

  bool measured() const { return record->origin == "measured" && record->ms > 0; }
  const TuningTrial *trial(const std::string &config) const {
    auto it = byConfig.find(config);
    return it == byConfig.end() ? nullptr : trials[it->second];
  }
};

/// Texts that are named by index.
class TextTable {
public:
  size_t index(const std::string &text) {
    auto [it, added] = indices.try_emplace(text, texts.size());
    if (added)
      texts.push_back(text);
    return it->second;
  }
  std::vector<std::string> texts;

private:
  std::map<std::string, size_t> indices;
};

/// Digits beyond a ten-thousandth are noise and only make the page larger.
double shortened(double value) { return std::round(value * 1e5) / 1e5; }

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  size_t middle = values.size() / 2;
  return values.size() % 2 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

auto shapeOf(const TuningKey &key) {
  const Spec &s = key.spec;
  return std::make_tuple(key.phase == "attend", key.phase, key.method, s.headDim, s.valueWidth(),
                         s.group(), s.block, s.topk, key.tokens, key.overlap, key.batch, key.arch,
                         key.device, key.text());
}

/// Of a problem, whatever it runs on.
std::string problemText(TuningKey key) {
  key.arch.clear();
  key.device.clear();
  return key.text();
}

class FigureBuilder {
public:
  explicit FigureBuilder(const TuningLines &lines) : lines(lines) {
    configs.index("default"); // index 0, which the page relies on
    collect();
  }

  Json figures() {
    Json list = Json::array();
    for (const KeyLines &key : keys)
      list.push_back(keyFigures(key));
    Json head = headFigures();
    Json regret = Json::object();
    for (const char *choice : kChoices)
      regret[choice] = regretFigures(list, choice);
    Json all{{"head", std::move(head)}, {"regret", std::move(regret)}};
    all["pruned"] = groups("pruned");
    all["rejected"] = groups("rejected");
    all["outcomes"] = kOutcomes;
    all["configs"] = configs.texts;
    all["reasons"] = reasons.texts;
    all["keys"] = std::move(list);
    return all;
  }

private:
  void collect() {
    std::map<std::string, KeyLines> byKey;
    for (const TuningRecord &record : lines.records) {
      KeyLines &key = byKey[record.key.text()];
      if (!key.record || outranks(record, *key.record))
        key.record = &record;
      if (record.origin == "model")
        models[problemText(record.key)].push_back(&record);
    }
    for (const TuningTrial &trial : lines.trials) {
      KeyLines &key = byKey[trial.key.text()];
      auto [it, added] = key.byConfig.try_emplace(shortText(trial.config), key.trials.size());
      if (added)
        key.trials.push_back(&trial);
      else
        key.trials[it->second] = &trial; // of a later sweep
    }
    for (auto &[text, key] : byKey)
      if (key.record)
        keys.push_back(std::move(key));
      else
        unfinished++;
    std::sort(keys.begin(), keys.end(), [](const KeyLines &a, const KeyLines &b) {
      return shapeOf(a.record->key) < shapeOf(b.record->key);
    });
  }

  /// The model's record for the problem: for this device, else its architecture, else any.
  const TuningRecord *modelFor(const TuningKey &key) const {
    auto it = models.find(problemText(key));
    if (it == models.end())
      return nullptr;
    auto nearness = [&](const TuningRecord *model) {
      return model->key.arch != key.arch ? 0 : model->key.device != key.device ? 1 : 2;
    };
    return *std::max_element(it->second.begin(), it->second.end(),
                             [&](auto *a, auto *b) { return nearness(a) < nearness(b); });
  }

  /// The nearest other measured key of the same GPU: what a look-up would have found if this key
  /// had not been tuned.
  const KeyLines *neighbourOf(const KeyLines &key) const {
    const KeyLines *nearest = nullptr;
    double least = kTuningReach;
    for (const KeyLines &other : keys) {
      if (&other == &key || !other.measured() || other.record->key.device != key.record->key.device)
        continue;
      std::optional<double> distance = tuningDistance(key.record->key, other.record->key);
      if (distance && (nearest ? *distance < least : *distance <= least)) {
        nearest = &other;
        least = *distance;
      }
    }
    return nearest;
  }

  /// What running `config` for this key would have cost.
  Json choiceFigures(const KeyLines &key, const Config &config) {
    std::string words = shortText(config);
    Json choice{{"config", configs.index(words)}};
    const TuningTrial *trial = key.trial(words);
    double ms = trial ? trial->ms : 0;
    if (words == "default" && key.record->defaultMs > 0)
      ms = key.record->defaultMs; // measured beside the winner
    if (words == shortText(key.record->config))
      ms = key.record->ms;
    bool failed = trial && (trial->outcome == "pruned" || trial->outcome == "rejected");
    choice["fate"] = failed ? trial->outcome : ms > 0 ? "measured" : "missing";
    if (!failed && ms > 0) {
      choice["ms"] = ms;
      choice["regret"] = shortened(ms / key.record->ms - 1);
    }
    return choice;
  }

  Json choicesOf(const KeyLines &key) {
    Json choices = Json::object();
    if (!key.measured())
      return choices;
    choices["default"] = choiceFigures(key, Config());
    if (const TuningRecord *model = modelFor(key.record->key)) {
      choices["model"] = choiceFigures(key, model->config);
      choices["model"]["device"] = model->key.device;
    }
    if (const KeyLines *neighbour = neighbourOf(key)) {
      choices["neighbour"] = choiceFigures(key, neighbour->record->config);
      choices["neighbour"]["key"] = neighbour - keys.data();
    }
    return choices;
  }

  Json keyFigures(const KeyLines &key) {
    const TuningRecord &r = *key.record;
    const Spec &spec = r.key.spec;
    std::string params;
    for (const auto &[name, value] : spec.params)
      params += fmt::format("{}{}={}", params.empty() ? "" : ", ", name, value);
    Json k{{"phase", r.key.phase},
           {"method", r.key.method},
           {"heads", spec.heads},
           {"kv_heads", spec.kvHeads},
           {"head_dim", spec.headDim},
           {"value_dim", spec.valueWidth()},
           {"group", spec.group()},
           {"block", spec.block},
           {"topk", spec.topk},
           {"dtype", name(spec.dtype)},
           {"params", params},
           {"tokens", r.key.tokens},
           {"overlap", r.key.overlap},
           {"batch", r.key.batch},
           {"arch", r.key.arch},
           {"device", r.key.device},
           {"config", configs.index(shortText(r.config))},
           {"origin", r.origin},
           {"effort", r.effort},
           {"ms", r.ms},
           {"low", r.low},
           {"high", r.high},
           {"default_ms", r.defaultMs},
           {"floor_ms", r.floorMs},
           {"rounds", r.rounds},
           {"clock_mhz", r.clockMhz},
           {"watts", r.watts},
           {"tried", r.tried},
           {"rejected", r.rejected},
           {"pruned", r.pruned},
           {"verified", r.verified},
           {"edges", r.edges},
           {"protocol", r.protocol},
           {"code", r.code},
           {"driver", r.driver},
           {"date", r.date},
           {"speedup", nullptr},
           {"floor_share", nullptr},
           {"choices", choicesOf(key)}};
    if (r.ms > 0 && r.defaultMs > 0)
      k["speedup"] = shortened(r.defaultMs / r.ms);
    if (r.ms > 0 && r.floorMs > 0)
      k["floor_share"] = shortened(r.floorMs / r.ms);
    k["trials"] = Json::array();
    for (const TuningTrial *trial : key.trials)
      k["trials"].push_back(trialFigures(*trial));
    return k;
  }

  Json trialFigures(const TuningTrial &t) {
    auto outcome = std::find(std::begin(kOutcomes), std::end(kOutcomes), t.outcome);
    Json list{configs.index(shortText(t.config)), outcome - std::begin(kOutcomes)};
    if (t.reason.empty())
      list.push_back(-1);
    else
      list.push_back(reasons.index(t.reason));
    if (t.ms > 0)
      for (Json value : {Json(t.ms), Json(t.low), Json(t.high), Json(t.rounds)})
        list.push_back(std::move(value));
    return list;
  }

  Json headFigures() const {
    std::map<std::pair<std::string, std::string>, int> devices;
    std::set<std::string> drivers, dates, protocols, codes, verified;
    int64_t tried = 0, pruned = 0, rejected = 0, trials = 0;
    size_t measured = 0;
    std::vector<double> logs, shares;
    std::optional<size_t> best, worst;
    auto speedup = [&](size_t i) { return keys[i].record->defaultMs / keys[i].record->ms; };
    for (size_t i = 0; i < keys.size(); ++i) {
      const TuningRecord &r = *keys[i].record;
      devices[{r.key.device, r.key.arch}]++;
      trials += static_cast<int64_t>(keys[i].trials.size());
      if (!keys[i].measured())
        continue;
      measured++;
      drivers.insert(r.driver), dates.insert(r.date), protocols.insert(r.protocol);
      codes.insert(r.code), verified.insert(r.verified);
      tried += r.tried, pruned += r.pruned, rejected += r.rejected;
      if (r.floorMs > 0)
        shares.push_back(r.floorMs / r.ms);
      if (r.defaultMs <= 0)
        continue;
      logs.push_back(std::log(speedup(i)));
      best = !best || speedup(i) > speedup(*best) ? i : *best;
      worst = !worst || speedup(i) < speedup(*worst) ? i : *worst;
    }
    Json head{{"keys", keys.size()},      {"measured", measured},    {"trials", trials},
              {"tried", tried},           {"pruned", pruned},        {"rejected", rejected},
              {"devices", Json::array()}, {"unfinished", unfinished}};
    for (const auto &[device, count] : devices)
      head["devices"].push_back(
          {{"device", device.first}, {"arch", device.second}, {"keys", count}});
    head["drivers"] = drivers, head["dates"] = dates, head["protocols"] = protocols;
    head["codes"] = codes, head["verified"] = verified;
    head["geomean"] = nullptr, head["floor_share"] = nullptr;
    if (best) {
      double sum = 0;
      for (double value : logs)
        sum += value;
      head["geomean"] = shortened(std::exp(sum / static_cast<double>(logs.size())));
      head["best"] = {{"key", *best}, {"speedup", shortened(speedup(*best))}};
      head["worst"] = {{"key", *worst}, {"speedup", shortened(speedup(*worst))}};
    }
    if (!shares.empty())
      head["floor_share"] = shortened(median(shares));
    head["faults"] = lines.faults;
    return head;
  }

  static Json regretFigures(const Json &list, const char *choice) {
    std::vector<double> values;
    std::map<std::string, int> fates;
    for (const Json &key : list)
      if (auto it = key["choices"].find(choice); it != key["choices"].end()) {
        fates[(*it)["fate"].get<std::string>()]++;
        if (it->contains("regret"))
          values.push_back((*it)["regret"].get<double>());
      }
    Json out{{"count", values.size()}, {"median", nullptr}, {"worst", nullptr}};
    if (!values.empty()) {
      out["median"] = shortened(median(values));
      out["worst"] = *std::max_element(values.begin(), values.end());
    }
    for (const char *fate : {"pruned", "rejected", "missing"})
      out[fate] = fates[fate];
    return out;
  }

  /// Trials of an outcome by the pattern of their reason, the most frequent first. The example is
  /// the one that changes least.
  Json groups(const std::string &outcome) {
    struct Group {
      int count = 0;
      std::set<size_t> keys;
      const TuningTrial *example = nullptr;
      size_t exampleKey = 0;
    };
    auto changes = [](const Config &config) {
      return std::count_if(tunables().begin(), tunables().end(),
                           [&](const Tunable &t) { return t.get(config) != 0; });
    };
    std::map<std::string, Group> byPattern;
    for (size_t i = 0; i < keys.size(); ++i)
      for (const TuningTrial *trial : keys[i].trials) {
        if (trial->outcome != outcome)
          continue;
        Group &group = byPattern[reasonPattern(trial->reason)];
        group.count++;
        group.keys.insert(i);
        if (!group.example || changes(trial->config) < changes(group.example->config)) {
          group.example = trial;
          group.exampleKey = i;
        }
      }
    std::vector<std::pair<std::string, Group>> sorted(byPattern.begin(), byPattern.end());
    std::sort(sorted.begin(), sorted.end(), [](const auto &a, const auto &b) {
      return std::make_pair(-a.second.count, a.first) < std::make_pair(-b.second.count, b.first);
    });
    Json list = Json::array();
    for (const auto &[pattern, group] : sorted)
      list.push_back({{"reason", pattern},
                      {"count", group.count},
                      {"keys", group.keys.size()},
                      {"config", configs.index(shortText(group.example->config))},
                      {"example", group.example->reason},
                      {"key", group.exampleKey}});
    return list;
  }

  const TuningLines &lines;
  std::vector<KeyLines> keys;
  std::map<std::string, std::vector<const TuningRecord *>> models; ///< by problem
  size_t unfinished = 0; ///< keys with trials and no record: a sweep that did not end
  TextTable configs, reasons;
};

} // namespace

nlohmann::ordered_json reportFigures(const TuningLines &lines) {
  return FigureBuilder(lines).figures();
}

std::string reasonPattern(const std::string &reason) {
  auto isDigit = [](char c) { return c >= '0' && c <= '9'; };
  std::string pattern;
  bool inName = false; // digits that follow a letter or '_' belong to a name
  for (size_t i = 0; i < reason.size(); ++i) {
    char c = reason[i];
    if (!isDigit(c) || inName) {
      inName = std::isalnum(static_cast<unsigned char>(c)) || c == '_';
      pattern += c;
      continue;
    }
    pattern += '#'; // "232448", "232,448" and "1.5" are one number each
    while (i + 1 < reason.size() &&
           (isDigit(reason[i + 1]) || ((reason[i + 1] == '.' || reason[i + 1] == ',') &&
                                       i + 2 < reason.size() && isDigit(reason[i + 2]))))
      ++i;
  }
  return pattern;
}

} // namespace winnow

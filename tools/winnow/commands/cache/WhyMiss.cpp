// `winnow cache why-miss`: compares what the key of a wanted program is made of with what the
// cached programs were made of, and tells what differs from the nearest.
#include "runtime/Printable.h"
#include "runtime/cache/Cache.h"
#include "tools/winnow/ProgramFlags.h"
#include "tools/winnow/commands/cache/CacheCommands.h"
#include "tools/winnow/commands/prepare/Programs.h"
#include "tools/winnow/commands/tune/TunedConfigs.h"
#include "tools/winnow/io/Json.h"
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <optional>

namespace winnow {
namespace {

using nlohmann::json;

struct Difference {
  std::string ingredient, field; ///< field: of spec or config, else empty
  std::string wanted, cached;
};

/// "heads=32 topk=96" by name.
std::map<std::string, std::string> fieldsOf(const std::string &text) {
  std::map<std::string, std::string> fields;
  for (size_t begin = 0; begin < text.size();) {
    size_t end = std::min(text.find(' ', begin), text.size());
    std::string item = text.substr(begin, end - begin);
    if (size_t equals = item.find('='); equals != std::string::npos)
      fields[item.substr(0, equals)] = item.substr(equals + 1);
    begin = end + 1;
  }
  return fields;
}

/// What is in one map under another value than in the other; absent counts as a value.
std::vector<Difference> compare(const std::map<std::string, std::string> &wanted,
                                const std::map<std::string, std::string> &cached) {
  std::vector<Difference> differences;
  std::map<std::string, std::string> names = wanted;
  names.insert(cached.begin(), cached.end());
  auto valueIn = [](const std::map<std::string, std::string> &map, const std::string &name) {
    auto it = map.find(name);
    return it == map.end() ? std::string("not given") : it->second;
  };
  for (const auto &[name, value] : names)
    if (std::string a = valueIn(wanted, name), b = valueIn(cached, name); a != b)
      differences.push_back({name, "", a, b});
  return differences;
}

std::vector<Difference> differencesOf(const KeyIngredients &wanted, const KeyIngredients &cached) {
  std::vector<Difference> all;
  for (const Difference &one : compare(wanted, cached)) {
    if (one.ingredient != "spec" && one.ingredient != "config") {
      all.push_back(one);
      continue;
    }
    for (Difference &field : compare(fieldsOf(one.wanted), fieldsOf(one.cached))) {
      field.field = std::exchange(field.ingredient, one.ingredient);
      all.push_back(std::move(field));
    }
  }
  return all;
}

/// A difference in words; digests only say that something differs.
std::string sentence(const Difference &d) {
  if (d.ingredient == "generator")
    return "compiler: its sources have changed since";
  if (d.ingredient == "headers")
    return "device headers: they have changed since";
  if (d.ingredient == "method")
    return "method: its text is another";
  if (d.ingredient == "nvrtc")
    return "NVRTC: another build of it";
  return fmt::format("{}{}{}: {} wanted, {} cached", d.ingredient, d.field.empty() ? "" : " ",
                     d.field, d.wanted, d.cached);
}

struct Nearest {
  Cache::Entry entry;
  std::string method;
  std::vector<Difference> differences;
};

Status explain(Session &session, const CompileRequest &request, Cache &cache, json &report) {
  WINNOW_CHECK(isServed(request));
  WINNOW_TRY(KeyIngredients wanted, programIngredients(request));
  const std::string key = keyFrom(wanted);
  std::optional<Nearest> nearest;
  std::optional<Cache::Entry> hit;
  size_t silent = 0, damaged = 0;
  for (const Cache::Entry &entry : cache.entries()) {
    Result<ProgramImage> image = cache.inspect(entry);
    if (!image) {
      ++damaged;
    } else if (entry.key == key) {
      hit = hit ? hit : entry;
    } else if (image->ingredients.empty()) {
      ++silent;
    } else {
      std::vector<Difference> differences = differencesOf(wanted, image->ingredients);
      if (!nearest || differences.size() < nearest->differences.size())
        nearest = Nearest{entry, image->method, std::move(differences)};
    }
  }
  json object = {{"arch", request.arch},    {"key", key},         {"hit", hit.has_value()},
                 {"without_words", silent}, {"damaged", damaged}, {"nearest", nullptr}};
  json differences = json::array();
  if (!session.json)
    fmt::print("{} {:.16}: {}\n", request.arch, key, hit ? "hit, in " + hit->place : "miss");
  if (nearest && !hit) {
    for (const Difference &d : nearest->differences)
      differences.push_back({{"ingredient", d.ingredient},
                             {"field", d.field},
                             {"wanted", d.wanted},
                             {"cached", d.cached}});
    object["nearest"] = {
        {"key", nearest->entry.key}, {"place", nearest->entry.place}, {"method", nearest->method}};
    if (!session.json) {
      fmt::print("  nearest: {} {:.16} in {}, which differs in\n", printable(nearest->method),
                 nearest->entry.key, nearest->entry.place);
      for (const Difference &d : nearest->differences)
        fmt::print("    {}\n", printable(sentence(d)));
    }
  }
  if (!session.json && !hit && !nearest)
    fmt::print("  the cache holds no program to compare with\n");
  if (!session.json && !hit && silent > 0)
    fmt::print("  {} older programs do not say what they were made of\n", silent);
  object["differences"] = differences;
  report.push_back(std::move(object));
  return {};
}

Status whyMiss(Session &session, const ProgramFlags &flags) {
  WINNOW_TRY(CompileRequest request, flags.request());
  WINNOW_TRY(std::vector<std::string> archs, flags.architectures());
  Cache cache;
  TunedConfigs tuned(flags.tunes(), &cache); // as a compilation would
  json report = json::array();
  for (const std::string &arch : archs) {
    CompileRequest one = request;
    one.arch = arch;
    tuned.fill(one, flags.workload, flags.deviceName);
    WINNOW_CHECK(explain(session, one, cache, report));
  }
  if (session.json)
    printJson(report);
  return {};
}

} // namespace

void addWhyMissCommand(CLI::App &cache, Session &session) {
  CLI::App *command = cache.add_subcommand(
      "why-miss", "Tells what differs between a program and the nearest one in the cache");
  auto flags = std::make_shared<ProgramFlags>();
  flags->addTo(*command);
  flags->addTargetFlags(*command, "sm_80,sm_89,sm_90a");
  setBody(*command, session, [&session, flags] { return whyMiss(session, *flags); });
}

} // namespace winnow

// Products of lists. A spec that forces more blocks than its budget takes fewer local ones, as
// models with small budgets have them.
#include "tools/winnow/commands/bench/SpecGrid.h"
#include "runtime/JsonText.h"
#include "tools/winnow/Session.h"
#include "tools/winnow/commands/prepare/Programs.h"
#include "tools/winnow/io/Flags.h"
#include "tools/winnow/io/Json.h"
#include <algorithm>
#include <fmt/format.h>

namespace winnow {

namespace {

struct GridFlag {
  const char *name, *meaning, *values;
  int least = 0, most = 0; ///< of the numbers; words where both are 0
};
constexpr GridFlag kFlags[] = {
    {"heads", "Query heads", "32", 1, kMostSpecNumber},
    {"kv-heads", "Key/value heads", "2", 1, kMostSpecNumber},
    {"group", "Query heads per key/value head, in place of --kv-heads", "", 1, kMostSpecNumber},
    {"head-dim", "Elements of one query or key row", "128", 1, kMostSpecNumber},
    {"value-dim", "Elements of one value row; 0 stands for head-dim", "0", 0, kMostSpecNumber},
    {"block", "Tokens of one selectable key block", "64", 1, kMostSpecNumber},
    {"topk", "Blocks selected per token", "96", 1, kMostSpecNumber},
    {"dtype", "bf16 or fp16", "bf16"},
    {"kv-dtype", "Elements of keys and values: same or fp8_e4m3 (over pages)", "same"},
    {"seq", "Tokens of a sequence", "131072", 1, kMostTokens},
    {"overlap", "Likeness of neighbours' selections", "32", 1, kMostTokens},
    {"batch", "Sequences of a launch of decode", "16", 1, kMostSequences},
    {"phase", "select, attend, decode (over pages), backward (gradients)", "select,attend"},
};

Result<int> numberOf(const GridFlag &flag, std::string text) {
  if (std::string wrong = between(flag.least, flag.most)(text); !wrong.empty())
    return fail(ErrorKind::Usage, fmt::format("{}: {}", flag.name, wrong));
  return std::stoi(text);
}

Result<std::vector<int>> numbersOf(const char *name, const std::vector<std::string> &texts) {
  const GridFlag &flag = *std::find_if(std::begin(kFlags), std::end(kFlags), [&](const auto &one) {
    return std::string_view(one.name) == name;
  });
  std::vector<int> values;
  for (const std::string &text : texts) {
    values.emplace_back();
    WINNOW_TRY(values.back(), numberOf(flag, text));
  }
  return values;
}

using Lists = std::map<std::string, std::vector<std::string>>;

/// Far above any sweep: each of them is lowered before the first is compiled.
constexpr size_t kMostSpecs = 10000;
tl::unexpected<Error> tooMany() {
  return fail(
      ErrorKind::Usage,
      fmt::format("its lists multiply to more than {} problems to tune; split it", kMostSpecs));
}

Result<std::vector<GridEntry>> expand(const std::string &method, const Lists &lists,
                                      const std::map<std::string, std::string> &params) {
  const bool grouped = !lists.at("group").empty();
  size_t count = 1;
  for (const auto &[name, texts] : lists)
    if (name != (grouped ? "kv-heads" : "group") && (count *= texts.size()) > kMostSpecs)
      return tooMany();
  GridEntry base;
  base.method = method;
  base.spec.params = params;
  WINNOW_TRY(base.tokens, numbersOf("seq", lists.at("seq")));
  WINNOW_TRY(base.overlaps, numbersOf("overlap", lists.at("overlap")));
  WINNOW_TRY(base.batches, numbersOf("batch", lists.at("batch")));
  base.phases = lists.at("phase");
  for (const std::string &phase : base.phases)
    if (phaseTunables(phase).empty())
      return fail(
          ErrorKind::Usage,
          fmt::format("phase '{}' is not known; use select, attend, decode or backward", phase));
  std::vector<GridEntry> entries{base};
  for (const GridFlag &flag : kFlags) {
    std::string name = flag.name;
    if (name == "seq" || name == "overlap" || name == "batch" || name == "phase" ||
        name == (grouped ? "kv-heads" : "group"))
      continue;
    std::vector<GridEntry> grown;
    for (const GridEntry &entry : entries)
      for (const std::string &text : lists.at(name)) {
        GridEntry next = entry;
        Spec &spec = next.spec;
        if (name == "dtype") {
          WINNOW_TRY(spec.dtype, parseDtype(text));
        } else if (name == "kv-dtype") {
          WINNOW_TRY(spec.kvDtype, parseKvDtype(text));
          spec.paged = spec.hasFp8Keys();
        } else {
          int value = 0;
          WINNOW_TRY(value, numberOf(flag, text));
          if (name == "group" && spec.heads % value != 0)
            return fail(ErrorKind::Usage,
                        fmt::format("{} heads do not divide into groups of {}", spec.heads, value));
          (name == "heads"       ? spec.heads
           : name == "head-dim"  ? spec.headDim
           : name == "value-dim" ? spec.valueDim
           : name == "block"     ? spec.block
           : name == "topk"      ? spec.topk
                                 : spec.kvHeads) = name == "group" ? spec.heads / value : value;
        }
        grown.push_back(std::move(next));
      }
    entries = std::move(grown);
  }
  for (GridEntry &entry : entries) {
    WINNOW_CHECK(entry.spec.check());
    WINNOW_CHECK(fitLocal(entry.method, entry.spec));
  }
  return entries;
}

/// A JSON value or list of values as texts.
bool textsOf(const nlohmann::json &value, std::vector<std::string> &texts) {
  if (value.is_array())
    return !value.empty() && std::all_of(value.begin(), value.end(), [&](const auto &item) {
      return !item.is_array() && textsOf(item, texts);
    });
  if (value.is_string())
    texts.push_back(value.get<std::string>());
  else if (value.is_number_integer())
    texts.push_back(std::to_string(value.get<int64_t>()));
  else
    return false;
  return true;
}

Result<std::vector<GridEntry>> parseGrid(const nlohmann::json &object) {
  if (!object.is_object())
    return fail(ErrorKind::Usage, "a grid is a JSON object");
  Lists lists;
  for (const GridFlag &flag : kFlags)
    lists[flag.name] = splitList(flag.values);
  std::map<std::string, std::string> params;
  std::string method;
  for (const auto &[member, value] : object.items()) {
    std::string name = member;
    std::replace(name.begin(), name.end(), '_', '-');
    if (name == "method" && value.is_string()) {
      method = value.get<std::string>();
    } else if (name == "set" && value.is_object()) {
      for (const auto &[param, setting] : value.items())
        params[param] = setting.is_string() ? setting.get<std::string>() : textOf(setting);
    } else if (auto it = lists.find(name); it != lists.end()) {
      it->second.clear();
      if (!textsOf(value, it->second))
        return fail(ErrorKind::Usage,
                    fmt::format("'{}' takes a value or a list of values", member));
    } else {
      return fail(ErrorKind::Usage, fmt::format("'{}' is not known", member));
    }
  }
  if (method.empty())
    return fail(ErrorKind::Usage, "it names no method");
  return expand(method, lists, params);
}

} // namespace

Status fitLocal(const std::string &method, Spec &spec) {
  reference::Method axes;
  WINNOW_TRY(axes, readAxes(method, spec));
  if (axes.selects && axes.init + axes.local > spec.topk && !spec.params.count("local"))
    spec.params["local"] =
        std::to_string(std::max(0, std::min(spec.topk - axes.init, spec.topk / 3)));
  return {};
}

void SpecGrid::addTo(CLI::App &command) {
  for (const GridFlag &flag : kFlags)
    command
        .add_option(fmt::format("--{}", flag.name), given[flag.name],
                    fmt::format("{}, separated by commas", flag.meaning))
        ->default_str(flag.values)
        ->check(flag.most > 0 ? listOf(between(flag.least, flag.most)) : listOf())
        ->group("Specs");
  command
      .add_option("--set", assignments,
                  "A parameter that the method declares, NAME=VALUE; may be given several times")
      ->group("Specs");
}

Result<std::vector<GridEntry>> SpecGrid::entries(const std::string &method) const {
  Lists lists;
  for (const GridFlag &flag : kFlags) {
    const std::string &text = given.at(flag.name);
    lists[flag.name] = splitList(text.empty() ? flag.values : text);
  }
  std::map<std::string, std::string> params;
  for (const std::string &assignment : assignments) {
    size_t equals = assignment.find('=');
    if (equals == 0 || equals == std::string::npos || equals + 1 == assignment.size())
      return fail(ErrorKind::Usage, fmt::format("--set {}: write NAME=VALUE", assignment));
    params[assignment.substr(0, equals)] = assignment.substr(equals + 1);
  }
  return expand(method, lists, params);
}

std::string SpecGrid::firstGiven() const {
  for (const auto &[flag, text] : given)
    if (!text.empty())
      return "--" + flag;
  return assignments.empty() ? "" : "--set";
}

Result<std::vector<GridEntry>> SpecGrid::parse(const std::string &text, const std::string &name) {
  Result<nlohmann::json> parsed = parseJson(text);
  if (!parsed)
    return fail(ErrorKind::Usage,
                fmt::format("{}: not a JSON list of grids: {}", name, parsed.error().message));
  nlohmann::json list = std::move(*parsed);
  if (list.is_object())
    list = nlohmann::json::array({list});
  if (!list.is_array() || list.empty())
    return fail(ErrorKind::Usage,
                fmt::format("{}: not a JSON list of grids (see `winnow tune --help`)", name));
  std::vector<GridEntry> all;
  for (size_t i = 0; i < list.size(); ++i) {
    Result<std::vector<GridEntry>> entries = parseGrid(list[i]);
    if (!entries)
      return fail(entries.error().kind,
                  fmt::format("{}, entry {}: {}", name, i + 1, entries.error().message));
    all.insert(all.end(), entries->begin(), entries->end());
    if (all.size() > kMostSpecs)
      return fail(ErrorKind::Usage, fmt::format("{}: {}", name, tooMany().value().message));
  }
  return all;
}

} // namespace winnow

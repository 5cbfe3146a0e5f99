// Combinations of lists, and the JSON form of them.
#include "tools/winnow/SpecLists.h"
#include "runtime/Files.h"
#include "tools/winnow/CudaTensors.h"
#include "tools/winnow/Programs.h"
#include "tools/winnow/Session.h"
#include <algorithm>
#include <charconv>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace winnow {
namespace {

Result<std::vector<int>> numbers(const char *flag, const std::string &list) {
  std::vector<int> values;
  for (const std::string &piece : splitList(list)) {
    int value = 0;
    auto [end, code] = std::from_chars(piece.data(), piece.data() + piece.size(), value);
    if (code != std::errc() || end != piece.data() + piece.size() || value < 1)
      return fail(ErrorKind::Usage,
                  fmt::format("{} {}: numbers above 0, separated by commas", flag, list));
    values.push_back(value);
  }
  if (values.empty())
    return fail(ErrorKind::Usage, fmt::format("{} is empty", flag));
  return values;
}

Status fitForcedBlocks(const std::string &method, Spec &spec) {
  reference::Method axes;
  WINNOW_TRY(axes, readAxes(method, spec));
  if (axes.selects && axes.init + axes.local > spec.topk && !spec.params.count("local"))
    spec.params["local"] =
        std::to_string(std::max(0, std::min(spec.topk - axes.init, spec.topk / 3)));
  return {};
}

/// One entry of a JSON file; `complaint` is set where a field is missing or mistyped.
class Entry {
public:
  explicit Entry(const nlohmann::json &object) : object(object) {}

  int number(const char *name, int otherwise) {
    auto it = object.find(name);
    if (it == object.end())
      return otherwise;
    if (it->is_number_integer() && *it > 0 && *it < (1 << 24))
      return it->get<int>();
    complain(name, "a whole number above 0");
    return otherwise;
  }
  std::vector<int> list(const char *name, std::vector<int> otherwise) {
    auto it = object.find(name);
    if (it == object.end())
      return otherwise;
    std::vector<int> values;
    if (it->is_array())
      for (const nlohmann::json &value : *it)
        if (value.is_number_integer() && value > 0 && value < (1 << 24))
          values.push_back(value.get<int>());
    if (values.empty() || values.size() != it->size())
      complain(name, "a list of whole numbers above 0");
    return values;
  }
  std::string text(const char *name, const std::string &otherwise) {
    auto it = object.find(name);
    if (it == object.end())
      return otherwise;
    if (it->is_string())
      return it->get<std::string>();
    complain(name, "a text");
    return otherwise;
  }
  std::map<std::string, std::string> params() {
    std::map<std::string, std::string> values;
    if (auto it = object.find("set"); it != object.end())
      for (const auto &[name, value] : it->items())
        values[name] = value.is_string() ? value.get<std::string>() : value.dump();
    return values;
  }

  std::string complaint;

private:
  void complain(const char *name, const char *wanted) {
    if (complaint.empty())
      complaint = fmt::format("'{}' is not {}", name, wanted);
  }
  const nlohmann::json &object;
};

} // namespace

void SpecLists::addTo(CLI::App &command) {
  command.add_option("METHOD", method,
                     "Name of a built-in method or path of a .mlir file; --specs may name others");
  const std::string group_ = "Lists";
  auto list = [&](const char *flag, std::string &target, const char *words) {
    command.add_option(flag, target, words)->capture_default_str()->group(group_);
  };
  list("--head-dim", headDim, "Elements of one query or key row");
  list("--heads", heads, "Query heads");
  list("--group", group, "Query heads per key/value head");
  list("--block", block, "Tokens of one selectable key block");
  list("--topk", topk, "Blocks selected per token, forced ones included");
  list("--seq", seq, "Tokens");
  list("--overlap", overlap, "Likeness of neighbours");
  command.add_option("--dtype", dtype, "bf16 or fp16")->capture_default_str()->group(group_);
  command.add_option("--set", assignments, "A parameter that the method declares, NAME=VALUE")
      ->group(group_);
  command.add_option("--specs", file, "JSON file with a list of specs instead of these flags");
}

Result<std::vector<SpecPoint>> SpecLists::points() const {
  std::vector<SpecPoint> points;
  WINNOW_TRY(points, file.empty() ? combinations() : fromFile());
  for (SpecPoint &point : points)
    WINNOW_CHECK(fitForcedBlocks(point.method, point.spec));
  return points;
}

Result<std::vector<SpecPoint>> SpecLists::combinations() const {
  if (method.empty())
    return fail(ErrorKind::Usage, "name a METHOD, or a list of specs by --specs");
  std::vector<int> dims, counts, groups, blocks, budgets, lengths, likenesses;
  WINNOW_TRY(dims, numbers("--head-dim", headDim));
  WINNOW_TRY(counts, numbers("--heads", heads));
  WINNOW_TRY(groups, numbers("--group", group));
  WINNOW_TRY(blocks, numbers("--block", block));
  WINNOW_TRY(budgets, numbers("--topk", topk));
  WINNOW_TRY(lengths, numbers("--seq", seq));
  WINNOW_TRY(likenesses, numbers("--overlap", overlap));
  Spec base;
  WINNOW_TRY(base.dtype, parseDtype(dtype));
  for (const std::string &assignment : assignments) {
    size_t equals = assignment.find('=');
    if (equals == 0 || equals == std::string::npos || equals + 1 == assignment.size())
      return fail(ErrorKind::Usage, fmt::format("--set {}: write NAME=VALUE", assignment));
    base.params[assignment.substr(0, equals)] = assignment.substr(equals + 1);
  }
  std::vector<SpecPoint> points;
  for (int dim : dims)
    for (int count : counts)
      for (int members : groups)
        for (int keys : blocks)
          for (int budget : budgets) {
            if (count % members != 0)
              return fail(ErrorKind::Usage,
                          fmt::format("--heads {} is no multiple of --group {}", count, members));
            Spec spec = base;
            spec.headDim = dim, spec.heads = count, spec.kvHeads = count / members;
            spec.block = keys, spec.topk = budget;
            points.push_back({method, spec, lengths, likenesses});
          }
  return points;
}

Result<std::vector<SpecPoint>> SpecLists::fromFile() const {
  std::string text;
  WINNOW_TRY(text, readWholeFile(systemFiles(), file));
  nlohmann::json list = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!list.is_array() || list.empty())
    return fail(ErrorKind::Usage, fmt::format("{}: not a JSON list of specs", file));
  std::vector<int> lengths, likenesses;
  WINNOW_TRY(lengths, numbers("--seq", seq));
  WINNOW_TRY(likenesses, numbers("--overlap", overlap));
  std::vector<SpecPoint> points;
  for (const nlohmann::json &object : list) {
    Entry entry(object);
    SpecPoint point;
    Spec &spec = point.spec;
    point.method = entry.text("method", method);
    spec.heads = entry.number("heads", spec.heads);
    spec.kvHeads = entry.number("kv_heads", spec.kvHeads);
    spec.headDim = entry.number("head_dim", spec.headDim);
    spec.valueDim = entry.number("value_dim", spec.valueDim);
    spec.block = entry.number("block", spec.block);
    spec.topk = entry.number("topk", spec.topk);
    spec.params = entry.params();
    Result<Dtype> type = parseDtype(entry.text("dtype", "bf16"));
    if (type)
      spec.dtype = *type;
    else
      entry.complaint = type.error().message;
    point.tokens = entry.list("tokens", lengths);
    point.overlaps = entry.list("overlap", likenesses);
    if (point.method.empty())
      entry.complaint = "no 'method'";
    if (!entry.complaint.empty())
      return fail(ErrorKind::Usage,
                  fmt::format("{}: entry {}: {}", file, points.size() + 1, entry.complaint));
    points.push_back(std::move(point));
  }
  return points;
}

} // namespace winnow

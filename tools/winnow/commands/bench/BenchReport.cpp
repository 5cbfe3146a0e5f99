// Lines, JSON and markdown of measurements.
#include "tools/winnow/commands/bench/BenchReport.h"
#include "runtime/JsonText.h"
#include "runtime/cache/Files.h"
#include "tools/winnow/Session.h"
#include <algorithm>
#include <charconv>
#include <fmt/format.h>
#include <map>
#include <set>

namespace winnow {
namespace {

using nlohmann::json;

std::string grouped(int number) {
  std::string digits = std::to_string(number);
  for (int at = static_cast<int>(digits.size()) - 3; at > 0; at -= 3)
    digits.insert(at, ",");
  return digits;
}

/// Three digits that count.
std::string millisecondsText(double ms) {
  return ms >= 100  ? fmt::format("{:.0f}", ms)
         : ms >= 10 ? fmt::format("{:.1f}", ms)
                    : fmt::format("{:.2f}", ms);
}

/// A row of a table: its words, and a cell for each length.
struct TableRow {
  std::string words;
  std::map<int, double> milliseconds;
};

/// The rows of one device, program and day, in the order in which they came.
struct TableBlock {
  json head;
  std::vector<TableRow> rows;
  std::vector<std::string> peers;
  std::map<std::pair<std::string, int>, double> peerMs;
  std::set<int> lengths;

  TableRow &row(const std::string &words) {
    for (TableRow &one : rows)
      if (one.words == words)
        return one;
    rows.push_back({words, {}});
    return rows.back();
  }
};

std::string rowWords(JsonFields<json> &result, bool severalVariants) {
  const std::string phase = result.text("phase");
  std::string words = phase == "select"  ? "selection (summaries, scores, top-k)"
                      : phase == "whole" ? "selection and attention in one launch"
                      : phase == "dense" ? "dense attention of Winnow"
                                         : "attention over given blocks";
  if (phase != "dense")
    words += fmt::format(", top-{}", result.whole("topk"));
  if (int overlap = result.whole("overlap"))
    words += fmt::format(", L = {}", overlap);
  if (severalVariants)
    words += fmt::format(" ({})", result.text("variant"));
  return words;
}

/// `run` is an object with a list "results". Error: Usage, about a field of the wrong type.
Status addRun(TableBlock &block, const json &run) {
  std::set<std::string> variants;
  for (const json &result : run["results"])
    if (JsonFields fields(result); fields.text("phase") != "dense")
      variants.insert(fields.text("variant"));
  for (const json &result : run["results"]) {
    JsonFields fields(result);
    const int tokens = fields.whole("tokens");
    block.lengths.insert(tokens);
    block.row(rowWords(fields, variants.size() > 1)).milliseconds[tokens] =
        fields.number("median_ms");
    if (!fields.status())
      return fields.status();
  }
  if (!run.contains("peers"))
    return {};
  for (const json &peer : run["peers"]) {
    JsonFields fields(peer);
    const std::string name = fields.text("name");
    if (std::find(block.peers.begin(), block.peers.end(), name) == block.peers.end())
      block.peers.push_back(name);
    block.peerMs[{name, fields.whole("tokens")}] = fields.number("ms");
    if (!fields.status())
      return fields.status();
  }
  return {};
}

std::string blockText(const TableBlock &block) {
  JsonFields head(block.head);
  std::string text = fmt::format(
      "{}, {}, {}; {}; medians of {} launches, {}. L: over how "
      "many tokens a selection turns into a new one.\n\n| ms |",
      head.text("device"), head.text("driver"), head.text("date"), head.text("program"),
      head.whole("rounds"), head.flag("checked") ? "checked against fp64 first" : "not checked");
  auto cells = [&](auto &&cell) {
    std::string line;
    for (int tokens : block.lengths)
      line += fmt::format(" {} |", cell(tokens));
    return line + "\n";
  };
  text += cells([](int tokens) { return grouped(tokens) + " tokens"; });
  text += "|---|";
  for (size_t i = 0; i < block.lengths.size(); ++i)
    text += "---|";
  text += "\n";
  auto peerAt = [&](const std::string &name, int tokens) {
    auto found = block.peerMs.find({name, tokens});
    if (found == block.peerMs.end())
      found = block.peerMs.find({name, 0});
    return found == block.peerMs.end() ? 0.0 : found->second;
  };
  for (const TableRow &row : block.rows)
    text += "| " + row.words + " |" + cells([&](int tokens) {
              auto found = row.milliseconds.find(tokens);
              return found == row.milliseconds.end() ? "" : millisecondsText(found->second);
            });
  for (const std::string &name : block.peers)
    text += "| " + name + " |" + cells([&](int tokens) {
              double ms = peerAt(name, tokens);
              return ms > 0 ? millisecondsText(ms) : "";
            });
  for (const TableRow &row : block.rows)
    for (const std::string &name : block.peers)
      if (row.words.find("in one launch") != std::string::npos)
        text += fmt::format("| {} / {} |", name, row.words) + cells([&](int tokens) {
                  auto found = row.milliseconds.find(tokens);
                  double ms = peerAt(name, tokens);
                  return found == row.milliseconds.end() || ms <= 0
                             ? std::string()
                             : fmt::format("{:.2f}", ms / found->second);
                });
  return text;
}

} // namespace

Result<Peer> Peer::parse(const std::string &text) {
  size_t equals = text.rfind('=');
  auto bad = [&] {
    return fail(ErrorKind::Usage, fmt::format("--peer {}: write NAME=MS or NAME@TOKENS=MS", text));
  };
  if (equals == 0 || equals == std::string::npos)
    return bad();
  Peer peer;
  peer.name = text.substr(0, equals);
  const char *end = text.data() + text.size();
  auto [rest, code] = std::from_chars(text.data() + equals + 1, end, peer.milliseconds);
  if (code != std::errc() || rest != end || !(peer.milliseconds > 0))
    return bad();
  if (size_t at = peer.name.rfind('@'); at != std::string::npos) {
    const char *last = peer.name.data() + peer.name.size();
    auto [after, result] = std::from_chars(peer.name.data() + at + 1, last, peer.tokens);
    if (result != std::errc() || after != last || peer.tokens < 1 || at == 0)
      return bad();
    peer.name.resize(at);
  }
  return peer;
}

std::string programText(const CompileRequest &request, const std::string &place) {
  const Spec &spec = request.spec;
  const std::string keys =
      spec.hasFp8Keys() ? fmt::format(", keys and values {}", name(spec.kvDtype)) : "";
  return fmt::format("{}, {} query heads, {} KV heads, d = {}, {}{}, blocks of {}{}{}",
                     request.method, spec.heads, spec.kvHeads, spec.headDim, name(spec.dtype), keys,
                     spec.block, place.empty() ? "" : ", ", place);
}

nlohmann::json runJson(const std::string &device, const std::string &driver,
                       const std::string &program, int rounds, bool checked) {
  return {{"device", device},   {"driver", driver}, {"date", today()},
          {"program", program}, {"rounds", rounds}, {"checked", checked}};
}

std::string measurementText(const Measurement &m) {
  const Timing &t = m.timing;
  std::string words = fmt::format("{} {} tokens", m.phase, m.tokens);
  if (m.phase != "dense")
    words += fmt::format(", top-{}", m.topk);
  if (m.overlap)
    words += fmt::format(", L = {}", m.overlap);
  std::string line = fmt::format(
      "{}, {}: {:.3f} ms (quartiles {:.3f} to {:.3f}), {:.0f} useful TFLOP/s, floor {:.2f} ms = "
      "{:.0f} %{}, {}\n",
      words, m.variant, t.medianMs, t.lowerMs, t.upperMs, m.tflops(), m.floorMs(),
      100 * m.floorMs() / t.medianMs, t.clock ? fmt::format(", {} MHz", t.clock) : "",
      !m.checked        ? "not checked"
      : t.fault.empty() ? "ok"
                        : "WRONG: " + t.fault);
  for (const auto &[name, time] : t.kernels)
    if (t.kernels.size() > 1)
      line += fmt::format("    {:<24} {:.3f} ms\n", name, time);
  return line;
}

json measurementJson(const Measurement &m) {
  const Timing &t = m.timing;
  json entry{{"phase", m.phase},
             {"variant", m.variant},
             {"tokens", m.tokens},
             {"topk", m.topk},
             {"overlap", m.overlap},
             {"median_ms", t.medianMs},
             {"quartiles_ms", {t.lowerMs, t.upperMs}},
             {"fastest_ms", t.fastestMs},
             {"sm_mhz", t.clock},
             {"tflops", m.tflops()},
             {"floor_ms", m.floorMs()},
             {"floor_share", m.floorMs() / t.medianMs},
             {"check", !m.checked        ? "not checked"
                       : t.fault.empty() ? "ok"
                                         : t.fault}};
  for (const auto &[name, time] : t.kernels)
    entry["kernel_ms"][name] = time;
  return entry;
}

Result<std::string> benchTable(const std::vector<std::string> &files) {
  std::vector<TableBlock> blocks;
  for (const std::string &path : files) {
    WINNOW_TRY(std::string content, readWholeFile(systemFiles(), path));
    Result<json> parsed = parseJson(content);
    const json run = parsed ? *parsed : json();
    auto unknown = [&](const std::string &why) {
      return fail(ErrorKind::Usage,
                  fmt::format("{} is not what `winnow bench --json` writes: {}", path, why));
    };
    if (!parsed)
      return unknown(parsed.error().message);
    if (!run.is_object() || !run.contains("results") || !run["results"].is_array())
      return unknown("it has no list of results");
    json head;
    for (const char *key : {"device", "driver", "date", "program", "rounds", "checked"})
      head[key] = run.contains(key) ? run[key] : json();
    for (const json &result : run["results"])
      if (std::string check = JsonFields(result).text("check");
          check != "ok" && check != "not checked")
        return fail(
            ErrorKind::WrongResult,
            fmt::format("{} holds a wrong result, which is no measurement: {}", path, check));
    auto found = std::find_if(blocks.begin(), blocks.end(),
                              [&](const TableBlock &block) { return block.head == head; });
    if (found == blocks.end()) {
      blocks.emplace_back();
      found = blocks.end() - 1;
      found->head = head;
    }
    if (Status added = addRun(*found, run); !added)
      return unknown(added.error().message);
  }
  std::string text;
  for (const TableBlock &block : blocks)
    text += (text.empty() ? "" : "\n") + blockText(block);
  return text;
}

Status replaceBetweenMarks(const std::string &path, const std::string &text,
                           const std::string &mark) {
  const std::string begin = "<!-- " + mark + ":begin -->", end = "<!-- " + mark + ":end -->";
  Result<std::string> content = readWholeFile(systemFiles(), path);
  if (!content)
    return fail(ErrorKind::Usage, "--into: " + content.error().message);
  std::string whole = std::move(*content);
  size_t first = whole.find(begin), last = whole.find(end);
  if (first == std::string::npos || last == std::string::npos || last < first)
    return fail(ErrorKind::Usage, fmt::format("--into {}: the file has no lines {} and {} to put "
                                              "the table between",
                                              path, begin, end));
  first += begin.size();
  whole.replace(first, last - first, "\n" + text);
  return publishFile(systemFiles(), path, whole);
}

} // namespace winnow

// Lines of decisions, written and read.
#include "runtime/tuned/Decisions.h"
#include "runtime/JsonText.h"
#include <algorithm>
#include <fmt/format.h>

namespace winnow {

namespace {

using Json = nlohmann::ordered_json;

Result<std::string> textOf(const Json &object, const char *field) {
  auto it = object.find(field);
  if (it == object.end() || !it->is_string())
    return fail(ErrorKind::Usage, fmt::format("'{}' is not a text", field));
  return it->get<std::string>();
}

Result<Decision> parseDecision(std::string_view line) {
  Result<Json> parsed = parseJson<Json>(line);
  if (!parsed)
    return fail(ErrorKind::Usage, "not a JSON object: " + parsed.error().message);
  const Json &object = *parsed;
  if (!object.is_object())
    return fail(ErrorKind::Usage, "not a JSON object");
  auto schema = object.find("schema");
  if (schema == object.end() || *schema != kDecisionSchema)
    return fail(ErrorKind::Usage, fmt::format("not of schema {}", kDecisionSchema));
  std::array<std::string, 5> texts;
  constexpr std::array<const char *, 5> fields = {"request", "device", "config", "select",
                                                  "attend"};
  for (size_t i = 0; i < fields.size(); ++i) {
    WINNOW_TRY(texts[i], textOf(object, fields[i]));
  }
  WINNOW_TRY(Config config, texts[2] == "default" ? Config() : Config::parse(texts[2]));
  Result<Rung> select = parseRung(texts[3]), attend = parseRung(texts[4]);
  if (!select || !attend)
    return tl::unexpected(select ? attend.error() : select.error());
  Decision decision{texts[0], texts[1], config, *select, *attend};
  if (auto resolved = object.find("resolved"); resolved != object.end()) {
    for (const auto &[param, points] : resolved->items()) {
      WINNOW_TRY(decision.resolved[param], textOf(*resolved, param.c_str()));
    }
    WINNOW_TRY(const std::string rung, textOf(object, "crossing"));
    WINNOW_TRY(decision.crossing, parseRung(rung));
  }
  for (auto [phase, target] :
       {std::pair(kDecodePhase, &decision.decode), std::pair(kBackwardPhase, &decision.backward)})
    if (object.contains(phase)) {
      WINNOW_TRY(const std::string rung, textOf(object, phase));
      WINNOW_TRY(*target, parseRung(rung));
    }
  return decision;
}

} // namespace

std::string decisionLine(const Decision &decision) {
  Json object{{"schema", kDecisionSchema},       {"request", decision.request},
              {"device", decision.device},       {"config", shortText(decision.config)},
              {"select", name(decision.select)}, {"attend", name(decision.attend)}};
  if (decision.decode)
    object[kDecodePhase] = name(*decision.decode);
  if (decision.backward)
    object[kBackwardPhase] = name(*decision.backward);
  if (!decision.resolved.empty()) {
    object["resolved"] = decision.resolved;
    object["crossing"] = name(decision.crossing);
  }
  return object.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<std::vector<Decision>> parseDecisions(std::string_view text) {
  std::vector<Decision> decisions;
  int number = 0;
  for (size_t begin = 0; begin < text.size();) {
    size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view line = text.substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (line.empty())
      continue;
    Result<Decision> decision = parseDecision(line);
    if (!decision)
      return fail(ErrorKind::Usage,
                  fmt::format("decisions: line {}: {}", number, decision.error().message));
    decisions.push_back(std::move(*decision));
  }
  return decisions;
}

} // namespace winnow

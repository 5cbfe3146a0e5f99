// Reads one entry of a spec list after the other; a field that is unknown or of the wrong kind is
// an error, so that a misspelt one never means its default.
#include "tools/winnow/commands/prepare/SpecList.h"
#include "runtime/JsonText.h"
#include "tools/winnow/io/Json.h"
#include <algorithm>
#include <fmt/format.h>

namespace winnow {
namespace {

using nlohmann::json;

const std::vector<std::string> kOtherFields = {"method", "arch",  "dtype",    "scale",   "params",
                                               "config", "paged", "backward", "kv_dtype"};

tl::unexpected<Error> wrong(const std::string &what) { return fail(ErrorKind::Usage, what); }

/// A parameter or tunable: text as it is, numbers as they are written.
Result<std::string> valueText(const std::string &name, const json &value) {
  if (value.is_string())
    return value.get<std::string>();
  if (value.is_number())
    return textOf(value);
  return wrong(fmt::format("{} must be a text or a number", name));
}

Result<Config> readConfig(const json &value) {
  std::string text;
  if (value.is_object()) {
    for (const auto &[name, tunable] : value.items()) {
      WINNOW_TRY(std::string number, valueText("config." + name, tunable));
      text.append(name).append("=").append(number).append(" ");
    }
  } else if (value.is_string()) {
    text = value.get<std::string>();
  } else {
    return wrong("config must be an object or a text");
  }
  return Config::parse(text);
}

/// Puts one field of an entry into `request`, or its architectures into `archs`.
Status readField(const std::string &name, const json &value, CompileRequest &request,
                 std::vector<std::string> &archs) {
  for (const SpecField &field : specFields())
    if (name == field.name) {
      if (!value.is_number_integer() || value < field.least || value > field.most)
        return wrong(fmt::format("{} must be a whole number from {} to {}, not {:.80}", name,
                                 field.least, field.most, textOf(value)));
      request.spec.*field.member = value.get<int>();
      return {};
    }
  if (name == "method" && value.is_string() && !value.get<std::string>().empty()) {
    request.method = value.get<std::string>();
  } else if (name == "dtype" && value.is_string()) {
    WINNOW_TRY(request.spec.dtype, parseDtype(value.get<std::string>()));
  } else if (name == "paged" && value.is_boolean()) {
    request.spec.paged = value.get<bool>();
  } else if (name == "backward" && value.is_boolean()) {
    request.spec.backward = value.get<bool>();
  } else if (name == "kv_dtype" && value.is_string()) {
    WINNOW_TRY(request.spec.kvDtype, parseKvDtype(value.get<std::string>()));
  } else if (name == "scale" && value.is_number()) {
    request.spec.scale = value.get<double>();
  } else if (name == "arch" && (value.is_string() || value.is_array())) {
    archs.clear();
    for (const json &one : value.is_array() ? value : json::array({value})) {
      WINNOW_TRY(const Target *target, findTarget(one.is_string() ? one.get<std::string>() : ""));
      archs.push_back(target->arch);
    }
    if (archs.empty())
      return wrong("arch is an empty list");
  } else if (name == "params" && value.is_object()) {
    for (const auto &[param, given] : value.items()) {
      WINNOW_TRY(request.spec.params[param], valueText("params." + param, given));
    }
  } else if (name == "config") {
    WINNOW_TRY(request.config, readConfig(value));
  } else if (std::find(kOtherFields.begin(), kOtherFields.end(), name) == kOtherFields.end()) {
    std::string known = fmt::format("{}", fmt::join(kOtherFields, ", "));
    for (const SpecField &field : specFields())
      known += fmt::format(", {}", field.name);
    return wrong(fmt::format("no field is called '{}'; known: {}", name, known));
  } else {
    return wrong(fmt::format("{} has the wrong kind of value: {:.80}", name, textOf(value)));
  }
  return {};
}

} // namespace

Result<std::vector<CompileRequest>> readSpecList(const std::string &text,
                                                 const std::vector<std::string> &archs) {
  Result<json> parsed = parseJson(text);
  if (!parsed)
    return wrong("this is no JSON list of specs: " + parsed.error().message);
  // One spec needs no list around it.
  const json list = parsed->is_object() ? json::array({*parsed}) : *parsed;
  if (!list.is_array())
    return wrong("this is no JSON list of specs");
  std::vector<CompileRequest> requests;
  for (size_t i = 0; i < list.size(); ++i) {
    CompileRequest request;
    std::vector<std::string> names = archs;
    Status status =
        list[i].is_object() ? Status() : Status(wrong("it must be an object of fields"));
    for (const auto &[name, value] : list[i].items())
      if (status)
        status = readField(name, value, request, names);
    if (status && request.method.empty())
      status = wrong("it has no method");
    if (status)
      status = request.spec.check();
    if (!status)
      return fail(status.error().kind,
                  fmt::format("entry {}{}: {}", i,
                              request.method.empty() ? "" : " (" + request.method + ")",
                              status.error().message));
    for (const std::string &arch : names) {
      request.arch = arch;
      requests.push_back(request);
    }
  }
  return requests;
}

} // namespace winnow

// JSON from outside: files, workers, other processes. The one function that parses it, and a reader
// of fields. Nothing here throws, and nothing that is built is deep enough to be a danger where it
// is copied, compared or printed, which JSON libraries do by recursion. For .cpp files: not part of
// the runtime's interface.
#pragma once
#include "runtime/Error.h"
#include <fmt/format.h>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace winnow {

constexpr int kJsonDepth = 64; ///< no text of Winnow's own has more than a handful of levels

/// Whether a text opens more than kJsonDepth levels, up to where it stops being JSON at the latest.
inline bool isJsonTooDeep(std::string_view text) {
  int depth = 0;
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted && c == '\\')
      ++i;
    else if (c == '"')
      quoted = !quoted;
    else if (!quoted && (c == '[' || c == '{') && ++depth > kJsonDepth)
      return true;
    else if (!quoted && (c == ']' || c == '}'))
      --depth;
  }
  return false;
}

/// The value of a whole text. Error: Usage, "it is ...".
template <typename Json = nlohmann::json> Result<Json> parseJson(std::string_view text) {
  if (isJsonTooDeep(text))
    return fail(ErrorKind::Usage, fmt::format("it has more than {} levels", kJsonDepth));
  Json value = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (value.is_discarded())
    return fail(ErrorKind::Usage, "it is cut short, or no JSON at all");
  return value;
}

/// Fields of an object, each with a value for where it is missing. A field of another type is told
/// by status().
template <typename Json> class JsonFields {
public:
  explicit JsonFields(const Json &object) : object(object) {}

  std::string text(const char *name, const std::string &otherwise = {}) {
    const Json *value = find(name);
    if (value && value->is_string())
      return value->template get<std::string>();
    return complain(value, name, "a text"), otherwise;
  }
  bool flag(const char *name, bool otherwise = false) {
    const Json *value = find(name);
    if (value && value->is_boolean())
      return value->template get<bool>();
    return complain(value, name, "true or false"), otherwise;
  }
  double number(const char *name, double otherwise = 0) {
    const Json *value = find(name);
    if (value && value->is_number())
      return value->template get<double>();
    return complain(value, name, "a number"), otherwise;
  }
  int whole(const char *name, int otherwise = 0) {
    const Json *value = find(name);
    if (value && value->is_number_integer())
      if (double wide = value->template get<double>(); wide >= -2147483648.0 && wide < 2147483648.0)
        return value->template get<int>();
    return complain(value, name, "a whole number"), otherwise;
  }

  /// Error: Usage, about the first field of the wrong type.
  const Status &status() const { return first; }

private:
  const Json *find(const char *name) const {
    auto it = object.find(name); // of a value that is no object: its end
    return it == object.end() ? nullptr : &*it;
  }
  void complain(const Json *value, const char *name, const char *wanted) {
    if (value && first)
      first = fail(ErrorKind::Usage, fmt::format("'{}' is not {}", name, wanted));
  }

  const Json &object;
  Status first;
};

} // namespace winnow

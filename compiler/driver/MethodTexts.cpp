// Where the texts of methods come from, built in or a file, and which parameters they declare.
#include "compiler/driver/EmbeddedFiles.h"
#include "compiler/driver/MlirSession.h"
#include "runtime/cache/Files.h"
#include <unistd.h>

using namespace mlir;

namespace winnow {

static MethodInfo infoOf(const EmbeddedFile &file) {
  return {StringRef(file.name).split('.').first.str(), "", std::string(file.text),
          std::string(file.name)};
}

std::vector<MethodInfo> builtinMethods() {
  std::vector<MethodInfo> methods;
  for (const EmbeddedFile &file : embeddedMethods()) {
    MethodInfo info = infoOf(file);
    MlirSession session;
    if (auto parsed = session.parse(info))
      info.description = parsed->method.getDoc().str();
    methods.push_back(std::move(info));
  }
  return methods;
}

Result<MethodInfo> loadMethod(const std::string &nameOrPath) {
  std::string known;
  for (const EmbeddedFile &file : embeddedMethods()) {
    std::string name = StringRef(file.name).split('.').first.str();
    if (name == nameOrPath)
      return infoOf(file);
    known += (known.empty() ? "" : ", ") + name;
  }
  if (::access(nameOrPath.c_str(), R_OK) != 0)
    return fail(ErrorKind::Usage, "method '" + nameOrPath + "' is neither a built-in (" + known +
                                      ") nor a readable .mlir file");
  WINNOW_TRY(std::string text, readWholeFile(systemFiles(), nameOrPath));
  return MethodInfo{StringRef(nameOrPath).rsplit('/').second.empty()
                        ? nameOrPath
                        : StringRef(nameOrPath).rsplit('/').second.str(),
                    "", std::move(text), nameOrPath};
}

std::map<std::string, std::string> declaredParameters(select::MethodOp method) {
  std::map<std::string, std::string> defaults;
  for (NamedAttribute param : method.getParams()) {
    auto number = dyn_cast<IntegerAttr>(param.getValue());
    defaults[param.getName().str()] =
        number ? std::to_string(number.getInt()) : cast<StringAttr>(param.getValue()).str();
  }
  return defaults;
}

/// The list behind "params(" in the plain form that built-in methods have; nothing for any other
/// form. Parsing the whole text takes a millisecond longer, which the first prepare of a cached
/// program would feel.
static std::optional<std::map<std::string, std::string>> plainParameters(StringRef text) {
  std::map<std::string, std::string> defaults;
  size_t begin = text.find(" params(");
  if (begin == StringRef::npos || text.count(" params(") != 1)
    return std::nullopt;
  StringRef list = text.substr(begin + 8);
  list = list.take_front(list.find(')'));
  if (list.contains("//"))
    return std::nullopt;
  SmallVector<StringRef> items;
  list.split(items, ',', -1, /*KeepEmpty=*/false);
  for (StringRef item : items) {
    auto [name, value] = item.split('=');
    name = name.trim(), value = value.trim();
    const bool word = value.consume_front("\"") && value.consume_back("\"");
    int64_t number = 0;
    if (name.empty() || value.contains('"') || (!word && value.getAsInteger(10, number)))
      return std::nullopt;
    defaults[name.str()] = value.str();
  }
  return defaults;
}

Result<std::map<std::string, std::string>> parameterDefaults(const std::string &method) {
  WINNOW_TRY(MethodInfo text, loadMethod(method));
  if (auto plain = plainParameters(text.text))
    return *plain;
  MlirSession session;
  WINNOW_TRY(ParsedMethod parsed, session.parse(text));
  return declaredParameters(parsed.method);
}

} // namespace winnow

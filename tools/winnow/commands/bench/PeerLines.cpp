// Reads lines of JSON for --peer.
#include "tools/winnow/commands/bench/PeerLines.h"
#include "runtime/cache/Files.h"
#include <fmt/format.h>

namespace winnow {

using nlohmann::json;

Status eachPeerLine(const std::string &path, const std::string &members,
                    const std::function<std::string(JsonFields<json> &fields)> &read) {
  Result<std::string> content = readWholeFile(systemFiles(), path);
  if (!content)
    return fail(ErrorKind::Usage, "--peer: " + content.error().message);
  int number = 0;
  for (size_t begin = 0; begin < content->size();) {
    const size_t end = std::min(content->find('\n', begin), content->size());
    const std::string line = content->substr(begin, end - begin);
    begin = end + 1;
    ++number;
    if (line.empty())
      continue;
    auto bad = [&](const std::string &why) {
      return fail(ErrorKind::Usage, fmt::format("--peer {}, line {}: {}", path, number, why));
    };
    Result<json> object = parseJson(line);
    if (!object || !object->is_object())
      return bad("not a JSON object with " + members);
    JsonFields fields(*object);
    const std::string wrong = read(fields);
    if (!fields.status())
      return bad(fields.status().error().message);
    if (!wrong.empty())
      return bad(wrong);
  }
  return {};
}

} // namespace winnow

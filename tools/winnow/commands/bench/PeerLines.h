// Times of other implementations, as scripts beside `winnow bench` print them: a JSON object a
// line.
#pragma once
#include "runtime/JsonText.h"
#include <functional>
#include <nlohmann/json.hpp>

namespace winnow {

/// Calls `read` for each line of the file; it returns what is wrong with the line, or nothing.
/// `members`: those that a line must have, in words. Error: Usage, with file and line.
Status eachPeerLine(const std::string &path, const std::string &members,
                    const std::function<std::string(JsonFields<nlohmann::json> &fields)> &read);

} // namespace winnow

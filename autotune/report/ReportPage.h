// The page of `winnow report`: the template of autotune/report/ with style, script and figures put
// in. One file that needs no network, so that it can be kept beside the tuned file it was made
// from.
#pragma once
#include <nlohmann/json.hpp>
#include <string>

namespace winnow {

/// The whole page. `figures`: of reportFigures(). `title` is plain text. Whatever the texts hold,
/// they stay texts: in the page's HTML only the title stands, escaped; the figures are JSON without
/// any '<', and the script never makes HTML from text.
std::string reportPage(const nlohmann::ordered_json &figures, const std::string &title);

} // namespace winnow

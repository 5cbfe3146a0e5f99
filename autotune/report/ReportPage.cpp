// Fills the template in one pass, so that nothing put in is ever taken for a place to fill.
#include "autotune/report/ReportPage.h"
#include "autotune/report.inc"
#include <string_view>

namespace winnow {

namespace {

std::string escapedHtml(std::string_view text) {
  std::string out;
  for (char c : text)
    switch (c) {
    case '&':
      out += "&amp;";
      break;
    case '<':
      out += "&lt;";
      break;
    case '>':
      out += "&gt;";
      break;
    case '"':
      out += "&quot;";
      break;
    default:
      out += c;
    }
  return out;
}

/// JSON that may stand in a <script> element: "</script>" and "<!--" would end or change it.
std::string embeddedJson(const nlohmann::ordered_json &value) {
  std::string out;
  for (char c : value.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace))
    if (c == '<')
      out += "\\u003c";
    else
      out += c;
  return out;
}

std::string contentFor(std::string_view place, const nlohmann::ordered_json &figures,
                       const std::string &title) {
  return place == "title"     ? escapedHtml(title)
         : place == "style"   ? std::string(kReportStyle)
         : place == "plots"   ? std::string(kReportPlots)
         : place == "script"  ? std::string(kReportScript)
         : place == "figures" ? embeddedJson(figures)
                              : std::string();
}

} // namespace

std::string reportPage(const nlohmann::ordered_json &figures, const std::string &title) {
  std::string page;
  std::string_view rest = kReportPage;
  while (true) {
    size_t begin = rest.find("{{"), end = rest.find("}}", begin);
    page += rest.substr(0, begin);
    if (end == std::string_view::npos)
      return page;
    page += contentFor(rest.substr(begin + 2, end - begin - 2), figures, title);
    rest.remove_prefix(end + 2);
  }
}

} // namespace winnow

// The flags of `winnow bench` that say where keys and values lie.
#pragma once
#include "reference/conformance/Layout.h"
#include "tools/winnow/io/CommandLine.h"
#include "tools/winnow/io/Flags.h"
#include <fmt/format.h>

namespace winnow {

class LayoutFlags {
public:
  explicit LayoutFlags(std::string standard) : layoutName(std::move(standard)) {}

  void addTo(CLI::App &command) {
    command
        .add_option("--layout", layoutName,
                    "Where keys and values lie: packed, halves, pages, rows or pairs")
        ->capture_default_str();
    pageOption =
        command.add_option("--page-size", pageSize, "Tokens of a page, of layouts with pages")
            ->check(between(1, 1 << 20))
            ->capture_default_str();
  }
  /// After parsing. Errors: Usage for an unknown layout, and for a page size of one without pages.
  Status read() {
    Result<Layout> known = parseLayout(layoutName);
    if (!known)
      return fail(ErrorKind::Usage, "--layout: " + known.error().message);
    layout = *known;
    if (!hasPages() && pageOption->count() > 0)
      return fail(ErrorKind::Usage,
                  fmt::format("--page-size: the layout {} has no pages of a size", layoutName));
    return {};
  }
  /// "layout halves, pages of 64".
  std::string text() const {
    return "layout " + layoutName + (hasPages() ? fmt::format(", pages of {}", pageSize) : "");
  }
  const std::string &name() const { return layoutName; }
  /// Whether it has pages of a size.
  bool hasPages() const { return layout != Layout::Packed && layout != Layout::Rows; }

  Layout layout = Layout::Packed;
  int pageSize = 64;

private:
  std::string layoutName;
  const CLI::Option *pageOption = nullptr;
};

} // namespace winnow

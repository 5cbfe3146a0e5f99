// Draws a selection as SVG: one path per shade, cells of equal shade merged along a row, so that
// files stay small.
#include "tools/winnow/commands/run/Picture.h"
#include <algorithm>
#include <array>
#include <cmath>
#include <fmt/format.h>

namespace winnow {
namespace {

constexpr int kMaxCells = 160; ///< per side
constexpr int kSide = 640;     ///< pixels of the longer side
constexpr int kLeft = 70, kTop = 56, kRight = 30, kBottom = 84;
/// Shades from "a few tokens" to "every token".
constexpr std::array<const char *, 5> kShades = {"#cfe1f2", "#93c4df", "#4b98ca", "#1764ab",
                                                 "#08306b"};

struct Grid {
  int rows = 0, columns = 0; ///< cells
  int rowBlocks = 1, columnBlocks = 1;
  std::vector<double> share; ///< [rows, columns]
};

Grid countShares(const reference::Problem &problem, int selectHeads, const int32_t *ids,
                 int sequence) {
  int begin = problem.cuQ[sequence], queries = problem.cuQ[sequence + 1] - begin;
  int keys = problem.cuK[sequence + 1] - problem.cuK[sequence];
  auto blocksOf = [&](int tokens) { return (tokens + problem.block - 1) / problem.block; };
  Grid grid;
  grid.rowBlocks = (blocksOf(queries) + kMaxCells - 1) / kMaxCells;
  grid.columnBlocks = (blocksOf(keys) + kMaxCells - 1) / kMaxCells;
  grid.rows = (blocksOf(queries) + grid.rowBlocks - 1) / grid.rowBlocks;
  grid.columns = (blocksOf(keys) + grid.columnBlocks - 1) / grid.columnBlocks;
  grid.share.assign(static_cast<size_t>(grid.rows) * grid.columns, 0);
  std::vector<int> tokens(grid.rows, 0);
  auto total = static_cast<size_t>(problem.totalQ());
  for (int t = 0; t < queries; ++t) {
    int row = t / problem.block / grid.rowBlocks;
    tokens[row]++;
    for (int head = 0; head < selectHeads; ++head)
      for (int i = 0; i < problem.topk; ++i) {
        int32_t b = ids[(head * total + begin + t) * problem.topk + i];
        if (b >= 0 && b / grid.columnBlocks < grid.columns)
          grid.share[static_cast<size_t>(row) * grid.columns + b / grid.columnBlocks] += 1;
      }
  }
  for (int row = 0; row < grid.rows; ++row)
    for (int column = 0; column < grid.columns; ++column)
      grid.share[static_cast<size_t>(row) * grid.columns + column] /=
          static_cast<double>(tokens[row]) * selectHeads * grid.columnBlocks;
  return grid;
}

/// 0 = blank, else 1 + index of the shade.
int shadeOf(double share) {
  if (share <= 0)
    return 0;
  return 1 + std::min<int>(kShades.size() - 1, static_cast<int>(share * kShades.size()));
}

std::string text(double x, double y, const char *anchor, const std::string &content,
                 const char *more = "") {
  return fmt::format("<text x=\"{:.0f}\" y=\"{:.0f}\" text-anchor=\"{}\"{}>{}</text>\n", x, y,
                     anchor, more, content);
}

std::string escaped(const std::string &plain) {
  std::string out;
  for (char c : plain)
    out += c == '<' ? "&lt;" : c == '&' ? "&amp;" : std::string(1, c);
  return out;
}

} // namespace

std::string selectionPicture(const reference::Problem &problem, int selectHeads, const int32_t *ids,
                             int sequence, const std::vector<Needle> &needles,
                             const std::string &title) {
  Grid grid = countShares(problem, selectHeads, ids, sequence);
  double cell = static_cast<double>(kSide) / std::max(grid.rows, grid.columns);
  double width = cell * grid.columns, height = cell * grid.rows;
  double pageWidth = std::max(width, 430.0) + kLeft + kRight, pageHeight = height + kTop + kBottom;

  std::string svg = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0:.0f} {1:.0f}\" width=\"{0:.0f}\" "
      "height=\"{1:.0f}\" font-family=\"sans-serif\" font-size=\"12\">\n"
      "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
      pageWidth, pageHeight);
  svg += text(kLeft, 22, "start", escaped(title), " font-size=\"14\" font-weight=\"bold\"");
  svg += text(kLeft, 42, "start",
              fmt::format("a row: {} query block(s), a column: {} key block(s); the shade: the "
                          "share of tokens that attend",
                          grid.rowBlocks, grid.columnBlocks));

  svg += fmt::format("<g transform=\"translate({} {}) scale({:.4f})\">\n", kLeft, kTop, cell);
  for (size_t shade = 1; shade <= kShades.size(); ++shade) {
    std::string path;
    for (int row = 0; row < grid.rows; ++row)
      for (int column = 0; column < grid.columns;) {
        auto at = [&](int c) {
          return shadeOf(grid.share[static_cast<size_t>(row) * grid.columns + c]);
        };
        int end = column;
        while (end < grid.columns && at(end) == static_cast<int>(shade))
          ++end;
        if (end > column)
          path += fmt::format("M{} {}h{}v1h-{}z", column, row, end - column, end - column);
        column = std::max(end, column + 1);
      }
    if (!path.empty())
      svg += fmt::format("<path fill=\"{}\" d=\"{}\"/>\n", kShades[shade - 1], path);
  }
  svg += "</g>\n";
  svg += fmt::format("<rect x=\"{}\" y=\"{}\" width=\"{:.1f}\" height=\"{:.1f}\" fill=\"none\" "
                     "stroke=\"#888\"/>\n",
                     kLeft, kTop, width, height);

  // Axes in tokens.
  int queries = problem.cuQ[sequence + 1] - problem.cuQ[sequence];
  int keys = problem.cuK[sequence + 1] - problem.cuK[sequence];
  for (int quarter = 0; quarter <= 4; ++quarter) {
    svg += text(kLeft - 6, kTop + height * quarter / 4 + 4, "end",
                std::to_string(keys - queries + queries / 4 * quarter));
    svg += text(kLeft + width * quarter / 4, kTop + height + 16, "middle",
                std::to_string(keys / 4 * quarter));
  }
  svg += text(kLeft + width / 2, kTop + height + 46, "middle", "key token");
  svg += fmt::format("<text transform=\"translate(16 {:.0f}) rotate(-90)\" "
                     "text-anchor=\"middle\">query token</text>\n",
                     kTop + height / 2);
  bool any = false;
  for (const Needle &needle : needles)
    if (needle.sequence == sequence) {
      any = true;
      double x = kLeft + width * (needle.firstToken + needle.tokens / 2.0) / keys;
      svg += fmt::format("<path fill=\"#d7301f\" d=\"M{:.1f} {:.1f}l4 8h-8z\"/>\n", x,
                         kTop + height + 20);
    }

  // Legend.
  double y = kTop + height + 62, x = kLeft;
  for (size_t shade = 0; shade < kShades.size(); ++shade, x += 26)
    svg += fmt::format("<rect x=\"{:.0f}\" y=\"{:.0f}\" width=\"24\" height=\"12\" fill=\"{}\"/>\n",
                       x, y, kShades[shade]);
  svg += text(x + 4, y + 11, "start", "few ... all tokens of the query block");
  if (any) {
    svg += fmt::format("<path fill=\"#d7301f\" d=\"M{:.0f} {:.0f}l4 8h-8z\"/>\n", x + 226, y + 2);
    svg += text(x + 236, y + 11, "start", "a needle's place");
  }
  return svg + "</svg>\n";
}

double touchedShare(const reference::Problem &problem, int selectHeads, const int32_t *ids) {
  double selected = 0, causal = 0;
  auto total = static_cast<size_t>(problem.totalQ());
  for (int row = 0; row < problem.totalQ(); ++row) {
    int blocks = placeOf(problem, row).position / problem.block + 1;
    for (int head = 0; head < selectHeads; ++head) {
      const int32_t *list = ids + (head * total + row) * problem.topk;
      selected += static_cast<double>(
          std::count_if(list, list + problem.topk, [](int32_t b) { return b >= 0; }));
      causal += blocks;
    }
  }
  return causal > 0 ? selected / causal : 1;
}

} // namespace winnow

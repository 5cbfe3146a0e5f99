// Text and formula of crossing points.
#include "runtime/program/CrossingPoints.h"
#include <algorithm>
#include <charconv>
#include <fmt/format.h>
#include <optional>

namespace winnow {

namespace {

constexpr std::string_view kAuto = CrossingPoints::kUnresolved;
constexpr int kMostCrossingPoints = 16, kMostDecodeRows = 1 << 16, kDefaultMostRows = 4096;
constexpr int kMostKeys = 1 << 30; ///< times kMostDecodeRows they fit a formula's 64 bits
constexpr int64_t kDefaultBytes = 64 << 20;

/// Cuts the text up to the next `separator`, and the separator, off `rest`.
std::string_view cut(std::string_view &rest, char separator) {
  const size_t end = std::min(rest.find(separator), rest.size());
  std::string_view piece = rest.substr(0, end);
  rest.remove_prefix(std::min(end + 1, rest.size()));
  return piece;
}

/// A whole number from `least` to `most` that takes the whole text.
std::optional<int> boundedNumber(std::string_view text, int least, int most) {
  int value = 0;
  auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool isWhole = code == std::errc() && end == text.data() + text.size();
  return isWhole && value >= least && value <= most ? std::optional(value) : std::nullopt;
}

std::optional<CrossingPoints> readPoints(std::string_view rest) {
  CrossingPoints points;
  const std::optional<int> prefill = boundedNumber(cut(rest, '_'), 0, kMostKeys);
  if (!prefill)
    return std::nullopt;
  points.prefill = *prefill;
  while (!rest.empty()) {
    std::string_view keysText = cut(rest, '_'), rowsText = cut(keysText, 'x');
    const std::optional<int> rows = boundedNumber(rowsText, 1, kMostDecodeRows),
                             keys = boundedNumber(keysText, 0, kMostKeys);
    const bool rises = points.decode.empty() || (rows && *rows > points.decode.back().rows);
    if (!rows || !keys || !rises || points.decode.size() == kMostCrossingPoints)
      return std::nullopt;
    points.decode.push_back({*rows, *keys});
  }
  return points;
}

} // namespace

bool CrossingPoints::isAuto(const std::string &value) {
  return value == kAuto ||
         (value.compare(0, kAuto.size(), kAuto) == 0 && value[kAuto.size()] == '_');
}

Result<CrossingPoints> CrossingPoints::parse(const std::string &value, const Spec &spec) {
  if (value == kAuto)
    return byDefault(spec);
  if (isAuto(value))
    if (std::optional<CrossingPoints> points =
            readPoints(std::string_view(value).substr(kAuto.size() + 1)))
      return *points;
  return fail(ErrorKind::Usage,
              fmt::format("'{}' are no crossing points: write auto, or auto_KEYS with the keys of "
                          "prefill and then _ROWSxKEYS for decode, ROWS rising, at most {} times",
                          value, kMostCrossingPoints));
}

CrossingPoints CrossingPoints::byDefault(const Spec &spec) {
  const int64_t selected = int64_t(spec.topk) * spec.block;
  const int64_t keyBytes = int64_t(2) * spec.kvHeads * (spec.headDim + spec.valueWidth());
  auto keysOf = [&](int64_t rows) {
    return static_cast<int>(
        std::min<int64_t>(selected * 5 / 4 + kDefaultBytes / keyBytes / rows, kMostKeys));
  };
  CrossingPoints points;
  points.prefill = static_cast<int>(std::min<int64_t>(2 * selected, kMostKeys));
  points.decode = {{1, keysOf(1)}, {kDefaultMostRows, keysOf(kDefaultMostRows)}};
  return points;
}

std::string CrossingPoints::text() const {
  std::string text = fmt::format("{}_{}", kAuto, prefill);
  for (const Point &point : decode)
    text += fmt::format("_{}x{}", point.rows, point.keys);
  return text;
}

std::string CrossingPoints::formula(int decodeQueries) const {
  if (decode.empty())
    return std::to_string(prefill);
  // What each stretch adds where the rows lie before its end, which is nothing behind it.
  std::string keys = std::to_string(decode.back().keys);
  for (size_t i = 0; i + 1 < decode.size(); ++i) {
    const auto [rows, here] = decode[i];
    const auto [laterRows, later] = decode[i + 1];
    const std::string clamped = fmt::format("min(max(batch * max_q, {}), {})", rows, laterRows);
    keys += fmt::format(" + {} * ({} - {}) / ({} * {})", int64_t(here - later) * rows, laterRows,
                        clamped, laterRows - rows, clamped);
  }
  return fmt::format("{1} + (max_q <= {0}) * ({2} - {1})", decodeQueries, prefill, keys);
}

} // namespace winnow

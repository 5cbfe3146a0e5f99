// Words, tables and progress bars of the command line.
#include "tools/winnow/Session.h"
#include "runtime/Printable.h"
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <fmt/format.h>
#include <unistd.h>

namespace winnow {

void say(const std::string &line) { fmt::print(stderr, "{}\n", printable(line)); }

void setBody(CLI::App &command, Session &session, std::function<Status()> body) {
  command.callback([&session, body = std::move(body)] {
    Status status = body();
    if (status)
      return;
    say("winnow: " + status.error().message);
    session.exitCode = static_cast<int>(status.error().kind);
  });
}

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::string today() {
  std::time_t seconds = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  return fmt::format("{:04}-{:02}-{:02}", parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday);
}

std::string durationText(double milliseconds) {
  if (milliseconds >= 1000)
    return fmt::format("{:.2f} s", milliseconds / 1000);
  if (milliseconds >= 1)
    return fmt::format("{:.1f} ms", milliseconds);
  return fmt::format("{:.0f} us", milliseconds * 1000);
}

std::vector<std::string> splitList(const std::string &text) {
  std::vector<std::string> pieces;
  for (size_t begin = 0; begin <= text.size();) {
    size_t end = std::min(text.find(',', begin), text.size());
    if (end > begin)
      pieces.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return pieces;
}

std::vector<int> splitNumbers(const std::string &text) {
  std::vector<int> values;
  for (const std::string &piece : splitList(text))
    values.push_back(std::stoi(piece));
  return values;
}

std::string Table::text() const {
  std::vector<std::vector<std::string>> shown = rows; // cells may come from files
  std::vector<size_t> widths(rows[0].size(), 0);
  for (auto &row : shown)
    for (size_t c = 0; c < row.size(); ++c) {
      row[c] = printable(row[c], /*keepLines=*/false);
      widths[c] = std::max(widths[c], row[c].size());
    }
  auto isNumber = [](const std::string &cell) {
    return !cell.empty() && (std::isdigit(static_cast<unsigned char>(cell[0])) || cell[0] == '-');
  };
  std::string text;
  for (const auto &row : shown) {
    std::string line;
    for (size_t c = 0; c < row.size(); ++c) {
      // A header follows the alignment of the column below it.
      bool right = c > 0 && (isNumber(row[c]) ||
                             (&row == &shown[0] && shown.size() > 1 && isNumber(shown[1][c])));
      line += right ? fmt::format("{:>{}}  ", row[c], widths[c])
                    : fmt::format("{:<{}}  ", row[c], widths[c]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

Progress::Progress(std::string label)
    : label(std::move(label)), visible(::isatty(2) != 0), began(now()) {}

void Progress::show(double done) {
  double time = now();
  if (!visible || time - began < 0.5 || time - lastDrawn < 0.1)
    return;
  lastDrawn = time;
  drawn = true;
  auto filled = static_cast<int>(std::clamp(done, 0.0, 1.0) * 30);
  fmt::print(stderr, "\r{} [{:<30}] {:3.0f} %", label, std::string(filled, '#'), done * 100);
  std::fflush(stderr);
}

Progress::~Progress() {
  if (drawn)
    fmt::print(stderr, "\r{:{}}\r", "", label.size() + 42);
}

} // namespace winnow

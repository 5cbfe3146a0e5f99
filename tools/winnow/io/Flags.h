// What the values of flags may be, said at the flag and checked before a command begins; and what
// is wrong with a command line, in one sentence that says what to type.
#pragma once
#include "tools/winnow/io/CommandLine.h"
#include <charconv>
#include <fmt/format.h>
#include <string>

namespace winnow {

/// The longest sequence and the longest likeness of neighbours that any flag takes.
constexpr int kMostTokens = 10'000'000;
constexpr int kMostSequences = 65536;

/// A number from `least` to `most`; NaN is none.
template <typename T> CLI::Validator between(T least, T most) {
  return {[least, most](std::string &text) -> std::string {
            T value{};
            const char *end = text.data() + text.size();
            auto [rest, code] = std::from_chars(text.data(), end, value);
            // CLI11 would read 010 as octal.
            bool plain = !std::is_integral_v<T> || text == "0" || (!text.empty() && text[0] != '0');
            if (code == std::errc() && rest == end && plain && value >= least && value <= most)
              return {};
            return fmt::format("'{}' is no {} from {} to {}", text,
                               std::is_integral_v<T> ? "whole number" : "number", least, most);
          },
          fmt::format("{}..{}", least, most)};
}

/// A list separated by commas, without an empty piece, each piece as `piece` says.
CLI::Validator listOf(const CLI::Validator &piece = {});
/// A list of whole numbers from 1 to `most`.
void addNumberList(CLI::App &command, const char *name, std::string &target, const char *meaning,
                   int most);

/// Adds to every option of an app and its commands that an empty text is no value.
void refuseEmptyValues(CLI::App &app);

/// The names that are most like a word, at most one; empty: none is like it.
std::string nearest(const std::string &word, const std::vector<std::string> &names);

/// What is wrong with a command line, after `app` has refused to parse it.
std::string whatIsWrong(const CLI::App &app, const CLI::Error &error);

/// The first option of a group that the command line gives, as "--topk"; empty: none.
std::string firstGiven(const CLI::App &command, const std::string &group);

} // namespace winnow

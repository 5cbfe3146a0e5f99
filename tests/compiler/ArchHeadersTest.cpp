// The instructions of each architecture: templates/arch names them as text that only a GPU
// executes, and the emulator has functions of its own in their place. So each function is listed in
// goldens/arch_headers.txt with the instructions that it names and a digest of its text without
// comments and blanks: a change shows up in review as the line of one function.
// `compiler_tests --update-goldens` rewrites the list.
#include "compiler/driver/EmbeddedFiles.h"
#include "runtime/cache/Digest.h"
#include "tests/compiler/Goldens.h"
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <regex>
#include <sstream>

using namespace winnow;

namespace {

/// Without comments; blanks and line ends become one blank.
std::string plainText(std::string_view text) {
  std::string plain;
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line.substr(0, line.find("//")));
    for (std::string word; words >> word;)
      plain += (plain.empty() ? "" : " ") + word;
  }
  return plain;
}

/// The instructions that a text names: words with a dot in quoted strings.
std::string instructionsOf(const std::string &text) {
  static const std::regex quoted(R"re("([^"]*)")re"),
      instruction(R"(\b[a-z][a-z0-9]*(\.[a-z0-9_:]+)+)");
  std::string names;
  for (auto q = std::sregex_iterator(text.begin(), text.end(), quoted); q != std::sregex_iterator();
       ++q) {
    const std::string words = (*q)[1];
    for (auto i = std::sregex_iterator(words.begin(), words.end(), instruction);
         i != std::sregex_iterator(); ++i)
      names += " " + i->str();
  }
  return names;
}

/// A line for each function and macro of a header, in order.
std::string listOf(const EmbeddedFile &header) {
  static const std::regex name(R"((\w+)\()");
  std::string list;
  std::istringstream lines{std::string(header.text)};
  std::string part;
  auto finish = [&] {
    const std::string plain = plainText(part);
    std::smatch found;
    if (!plain.empty())
      list += fmt::format("{} {} {:.12}{}\n", header.name,
                          std::regex_search(plain, found, name) ? found[1].str() : "-",
                          sha256Hex(plain), instructionsOf(plain));
    part.clear();
  };
  for (std::string line; std::getline(lines, line);) {
    const bool isEmpty = line.empty();
    part += line + "\n";
    if (isEmpty || line == "}")
      finish();
  }
  finish();
  return list;
}

TEST(ArchHeaders, GoldensOfEachFunction) {
  std::string list;
  for (const EmbeddedFile &header : embeddedDeviceHeaders())
    for (const char *name : {"sm80.cuh", "sm89.cuh", "sm90.cuh", "scalar.cuh"})
      if (std::string(header.name) == name)
        list += listOf(header);
  EXPECT_NE(list.find("wgmma.mma_async"), std::string::npos);
  winnow::expectGolden("arch_headers.txt", list, "list of functions");
}

} // namespace

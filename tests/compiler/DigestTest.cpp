// Whatever the compiler makes of the compile matrix, as digests of texts and launch recipes: no
// kernel and no recipe changes unseen, wherever the goldens do not look. goldens/digests.txt has a
// line per program, and below it one per kernel: its name, the digest of its text, that of its
// recipe.
#include "runtime/cache/Digest.h"
#include "tests/compiler/Goldens.h"
#include "tests/compiler/MatrixPrograms.h"
#include "tests/compiler/RecipeText.h"
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <set>
#include <sstream>

using namespace winnow;

namespace {

constexpr const char *kFile = "digests.txt";
constexpr const char *kHeading =
    "# Every program of the compile matrix: architecture, method, spec, tunables that were set.\n"
    "# Below it the digest of what its kernels share in the recipe, then each kernel: digest of "
    "its\n"
    "# text, digest of its recipe. Rewritten by `make goldens`.\n";

std::string digest(const std::string &text) { return sha256Hex(text).substr(0, 10); }

/// The lines of a program below its title.
std::string digests(const MatrixProgram &program) {
  if (!program.refusal.empty())
    return "  refused: " + program.refusal + "\n";
  std::string lines = fmt::format("  shared {}\n", digest(sharedRecipeText(program.image)));
  for (const Kernel &kernel : program.image.kernels)
    lines +=
        fmt::format("  {} {} {}\n", kernel.name, digest(kernel.source), digest(recipeText(kernel)));
  return lines;
}

/// What follows a name: two digests of a kernel, one of what all share, a reason.
using Lines = std::map<std::string, std::string>;

std::map<std::string, Lines> readDigests(const std::string &text) {
  std::map<std::string, Lines> programs;
  std::istringstream stream(text);
  Lines *program = nullptr;
  for (std::string line; std::getline(stream, line);) {
    if (line.compare(0, 2, "  ") == 0) {
      const size_t end = line.find(' ', 2);
      if (program)
        (*program)[line.substr(2, end - 2)] = line.substr(std::min(end, line.size() - 1) + 1);
    } else if (line[0] != '#') {
      program = &programs[line];
    }
  }
  return programs;
}

/// How a kernel differs, in words; empty if it does not.
std::string difference(const std::string &was, const std::string &is) {
  if (was == is)
    return "";
  if (was.empty() || is.empty())
    return was.empty() ? "is new" : "is gone";
  if (was.find(' ') == std::string::npos)
    return "recipe";
  const bool text = was.substr(0, was.find(' ')) != is.substr(0, is.find(' '));
  const bool recipe = was.substr(was.find(' ')) != is.substr(is.find(' '));
  return text && recipe ? "text and recipe" : text ? "text" : "recipe";
}

/// "score: text, attend: text and recipe"; empty for equal programs.
std::string difference(const Lines &was, const Lines &is) {
  Lines all = was;
  all.insert(is.begin(), is.end());
  std::string out;
  for (const auto &entry : all) {
    const std::string &name = entry.first;
    auto of = [&name](const Lines &lines) {
      auto line = lines.find(name);
      return line == lines.end() ? std::string() : line->second;
    };
    std::string how = difference(of(was), of(is));
    if (name == "refused:" && !how.empty())
      how = of(is).empty() ? "no more" : of(is);
    if (!how.empty())
      out += fmt::format("{}{} {}", out.empty() ? "" : ", ", name, how);
  }
  return out;
}

/// One line per program that differs, `most` at most, or nothing.
std::string compareDigests(const std::string &wasText, const std::string &isText, int most) {
  const std::map<std::string, Lines> was = readDigests(wasText), is = readDigests(isText);
  int differing = 0;
  std::string out;
  auto report = [&](const std::string &title, const std::string &how) {
    if (!how.empty() && ++differing <= most)
      out += "  " + title + ": " + how + "\n";
  };
  for (const auto &[title, lines] : is)
    report(title, was.count(title) ? difference(was.at(title), lines) : "a new program");
  for (const auto &[title, lines] : was)
    report(title, is.count(title) ? "" : "the program is gone");
  if (differing == 0)
    return "";
  if (differing > most)
    out += fmt::format("  ... and {} more\n", differing - most);
  return fmt::format(
      "{} of {} programs differ from goldens/{}; of each, which kernels (shared: the "
      "recipe's common part: order, buffers, tensor maps, chunks), and what of them:\n"
      "{}If that is meant, run `make goldens` and review its diff: a changed text is "
      "other code, a changed recipe another launch (RecipeTest says whether it is a "
      "sound one).",
      differing, is.size(), kFile, out);
}

TEST(DigestGoldens, TextAndRecipeOfEveryProgram) {
  std::string text = kHeading;
  for (const MatrixProgram &program : matrixPrograms())
    text += program.title() + "\n" + digests(program);
  for (const MatrixProgram &program : fp8Programs())
    text += program.title() + "\n" + digests(program);
  if (updatesGoldens())
    writeGolden(kFile, text);
  const std::string golden = goldenText(kFile);
  std::string report = compareDigests(golden, text, 40);
  if (report.empty() && golden != text)
    report = "the lines of goldens/digests.txt stand in another order: run `make goldens`";
  EXPECT_TRUE(report.empty()) << report;
}

TEST(DigestGoldens, TitlesAreDifferent) {
  std::set<std::string> titles;
  for (const MatrixProgram &program : matrixPrograms())
    EXPECT_TRUE(titles.insert(program.title()).second) << program.title();
}

TEST(DigestReport, SaysWhatChanged) {
  const std::string was = "a\n  shared 1\n  score 2 3\nb\n  refused: no\n";
  EXPECT_EQ(compareDigests(was, was, 9), "");
  auto changes = [&](const std::string &is, const std::string &part) {
    const std::string report = compareDigests(was, is, 9);
    EXPECT_NE(report.find(part), std::string::npos) << report;
  };
  changes("a\n  shared 1\n  score 7 3\nb\n  refused: no\n", "a: score text\n");
  changes("a\n  shared 1\n  score 2 7\nb\n  refused: no\n", "a: score recipe\n");
  changes("a\n  shared 7\n  score 7 7\nb\n  refused: no\n",
          "a: score text and recipe, shared recipe\n");
  changes("a\n  shared 1\n  attend 2 3\nb\n  refused: no\n", "a: attend is new, score is gone\n");
  changes("a\n  shared 1\n  score 2 3\nb\n  shared 1\n", "b: refused: no more, shared is new\n");
  changes("a\n  shared 1\n  score 2 3\nb\n  refused: never\n", "b: refused: never\n");
  changes("a\n  shared 1\n  score 2 3\nc\n  refused: no\n",
          "c: a new program\n  b: the program is gone\n");
}

} // namespace

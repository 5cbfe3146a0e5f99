// What reaches a terminal.
#include "runtime/Printable.h"
#include <gtest/gtest.h>

using winnow::printable;

namespace {

TEST(Printable, WordsOfAnyLanguageStayAsTheyAre) {
  for (const char *text : {"", "NVIDIA H200, 5 %", "Grüße, 注意力, 🙂\n\tnext line"})
    EXPECT_EQ(printable(text), text);
}

TEST(Printable, ControlCharactersAreWrittenOut) {
  EXPECT_EQ(printable("a\x1b[2Jb\rc\x7f\a"), "a\\x1b[2Jb\\x0dc\\x7f\\x07");
  EXPECT_EQ(printable(std::string("\0", 1)), "\\x00");
  EXPECT_EQ(printable("\xc2\x9b"
                      "31m\xc2\xa0"),
            "\\xc2\\x9b31m\xc2\xa0"); // U+009B begins a sequence too
  EXPECT_EQ(printable("a\nb\tc", /*keepLines=*/false), "a\\x0ab\\x09c");
}

TEST(Printable, BytesThatAreNoUtf8AreWrittenOut) {
  EXPECT_EQ(printable("\xff\x9b"), "\\xff\\x9b");
  EXPECT_EQ(printable("\xc3"), "\\xc3");          // cut off
  EXPECT_EQ(printable("\xc0\x9b"), "\\xc0\\x9b"); // overlong
  EXPECT_EQ(printable("\xe0\x80\x9b"), "\\xe0\\x80\\x9b");
  EXPECT_EQ(printable("\xed\xa0\x80"), "\\xed\\xa0\\x80"); // a surrogate
  EXPECT_EQ(printable("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80");
  EXPECT_EQ(printable("\xf5\x80\x80\x80"), "\\xf5\\x80\\x80\\x80");
}

} // namespace

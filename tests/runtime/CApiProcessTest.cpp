// The C API as a process sees it: no driver, an exit with live handles, and what the shared library
// exports (F34, F35).
#include "runtime/api/winnow.h"
#include <cstdio>
#include <cstring>
#include <gtest/gtest.h>
#include <string>

namespace {

TEST(CApiProcess, NoDriverIsOneSentence) {
  winnow_engine_options options{};
  options.struct_size = sizeof(options);
  options.driver_path = "/nonexistent/libcuda.so.1";
  winnow_engine *engine = nullptr;
  EXPECT_EQ(winnow_engine_create(&options, &engine), WINNOW_DEVICE_FAILED);
  EXPECT_EQ(engine, nullptr);
  EXPECT_NE(std::string(winnow_last_error()).find("no CUDA driver"), std::string::npos);
}

TEST(CApiProcess, F34ExitWithLiveHandles) {
  // Its leak is what it is about: the address sanitizer is not to count it.
  FILE *pipe =
      popen("ASAN_OPTIONS=detect_leaks=0 " WINNOW_LIVE_HANDLES " " WINNOW_FAKE_CUDA " 2>&1", "r");
  char line[256] = {0};
  size_t size = fread(line, 1, sizeof(line) - 1, pipe);
  EXPECT_EQ(pclose(pipe), 0) << std::string(line, size);
  EXPECT_EQ(std::string(line, size), "live\n");
}

TEST(CApiProcess, F34ExitWhileThreadsPrepare) {
  for (int i = 0; i < 20; ++i) {
    const std::string command = "ASAN_OPTIONS=detect_leaks=0 " WINNOW_EXIT_RACE " " WINNOW_FAKE_CUDA
                                " " +
                                std::to_string(10 + i) + " 2>&1";
    FILE *pipe = popen(command.c_str(), "r");
    char line[256] = {0};
    size_t size = fread(line, 1, sizeof(line) - 1, pipe);
    ASSERT_EQ(pclose(pipe), 0) << std::string(line, size);
  }
}

TEST(CApiProcess, F34NothingIsDestroyedAtExit) {
  // A destructor that the process runs while it exits is registered by this function. A race is
  // rarely seen; its cause always.
  FILE *pipe = popen("nm -A " WINNOW_OBJECTS " | grep ' __cxa_atexit$'", "r");
  std::string found;
  for (char line[512]; fgets(line, sizeof(line), pipe);)
    found += line;
  pclose(pipe);
  EXPECT_EQ(found, "");
}

TEST(CApiProcess, F35OnlyTheCApiIsExported) {
  FILE *pipe = popen("nm -D --defined-only " WINNOW_SHARED_LIBRARY, "r");
  char line[512];
  int symbols = 0;
  while (fgets(line, sizeof(line), pipe)) {
    char name[400];
    ASSERT_EQ(std::sscanf(line, "%*s %*s %399s", name), 1) << line;
    EXPECT_EQ(std::strncmp(name, "winnow_", 7), 0) << name;
    ++symbols;
  }
  EXPECT_EQ(pclose(pipe), 0);
  EXPECT_EQ(symbols, 28);
}

} // namespace

// A program loaded on the fake driver, for tests that launch it.
#pragma once
#include "FakeLibrary.h"
#include "TestSupport.h"
#include "runtime/program/Launcher.h"

namespace winnow::test {

/// An address with the alignment that the launcher asks for; never dereferenced.
template <typename T = void> T *address(uintptr_t n) { return reinterpret_cast<T *>(n * 0x10000); }

class LaunchFixture : public testing::Test {
protected:
  void SetUp() override { resetFakeDriver(kFake); }

  void load(ProgramImage image) {
    driver = *Driver::open(kFake);
    auto loaded = LoadedProgram::load(std::make_shared<ProgramImage>(std::move(image)), driver);
    ASSERT_TRUE(loaded) << loaded.error().message;
    program = std::move(*loaded);
  }

  Status launch(const LaunchArgs &args) {
    fakeDriver(kFake).launches.clear();
    WINNOW_TRY(size_t bytes, program->workspaceSize(args.shape));
    return program->launch(args, address<CUstream_st>(9), address(100), bytes);
  }
  /// Why no kernel was launched.
  std::string launchError(const LaunchArgs &args) {
    Status status = launch(args);
    EXPECT_TRUE(fakeDriver(kFake).launches.empty());
    return status ? "no error" : status.error().message;
  }

  std::shared_ptr<Driver> driver;
  std::unique_ptr<LoadedProgram> program;
};

} // namespace winnow::test

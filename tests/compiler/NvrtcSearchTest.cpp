// Where NVRTC is looked for, and what is passed over: a library that another user could have put
// there, and environments in folders above the program that are not the source tree's (F38).
#include "compiler/cuda/Nvrtc.h"
#include "compiler/driver/Compile.h"
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace winnow;
namespace fs = std::filesystem;

namespace {

/// Sets a variable for one test.
class Setting {
public:
  Setting(const char *name, const std::string &value) : name(name) {
    const char *old = std::getenv(name);
    had = old != nullptr;
    before = old ? old : "";
    ::setenv(name, value.c_str(), 1);
  }
  ~Setting() { had ? ::setenv(name, before.c_str(), 1) : ::unsetenv(name); }
  Setting(const Setting &) = delete;
  Setting &operator=(const Setting &) = delete;

private:
  const char *name;
  std::string before;
  bool had = false;
};

class NvrtcSearch : public testing::Test {
protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "winnow-nvrtc-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    root = name;
    ASSERT_EQ(::chmod(name.c_str(), 0755), 0);
    site = root / "lib/python3.11/site-packages/nvidia/cu13/lib";
    plant(site);
  }
  void TearDown() override { fs::remove_all(root); }
  static void plant(const fs::path &folder) {
    fs::create_directories(folder);
    std::ofstream(folder / "libnvrtc.so.13") << "planted";
    ::chmod((folder / "libnvrtc.so.13").c_str(), 0644);
  }
  static bool isPlanted(const fs::path &folder) {
    Result<std::string> found = Nvrtc::locate();
    return found && *found == (folder / "libnvrtc.so.13").string();
  }

  fs::path root, site;
  Setting noPath{"LD_LIBRARY_PATH", ""}, noNvrtc{"WINNOW_NVRTC", ""};
};

TEST_F(NvrtcSearch, F38FoldersThatOthersCanWriteArePassedOver) {
  Setting path("LD_LIBRARY_PATH", site);
  for (const fs::path &folder : {site, site.parent_path(), root}) {
    EXPECT_TRUE(isPlanted(site));
    ASSERT_EQ(::chmod(folder.c_str(), 0777), 0);
    EXPECT_FALSE(isPlanted(site)) << folder;
    ASSERT_EQ(::chmod(folder.c_str(), 0755), 0);
  }
}

TEST_F(NvrtcSearch, F38WhatTheUserNamesIsRefusedWithAReason) {
  ASSERT_EQ(::chmod(root.c_str(), 0777), 0);
  const std::string library = site / "libnvrtc.so.13";
  Setting named("WINNOW_NVRTC", library);
  for (const std::string &given : {std::string(), library}) {
    auto nvrtc = Nvrtc::open(given);
    ASSERT_FALSE(nvrtc);
    EXPECT_EQ(nvrtc.error().kind, ErrorKind::CompileFailed);
    EXPECT_NE(nvrtc.error().message.find("others can write " + root.string()), std::string::npos)
        << nvrtc.error().message;
  }
  CompileRequest request;
  request.method = "dense";
  request.arch = "sm_80";
  auto key = programKey(request);
  ASSERT_FALSE(key);
  EXPECT_NE(key.error().message.find("others can write"), std::string::npos) << key.error().message;
}

TEST_F(NvrtcSearch, F38TheBuiltinsBesideItAreLookedAtToo) {
  std::ofstream(site / "libnvrtc-builtins.so.13.0") << "planted";
  ASSERT_EQ(::chmod((site / "libnvrtc-builtins.so.13.0").c_str(), 0666), 0);
  auto nvrtc = Nvrtc::open(site / "libnvrtc.so.13");
  ASSERT_FALSE(nvrtc);
  EXPECT_NE(nvrtc.error().message.find("libnvrtc-builtins"), std::string::npos)
      << nvrtc.error().message;
}

TEST_F(NvrtcSearch, F38NoFolderAboveTheProgramButTheSourceTrees) {
  // This program lies in <source tree>/<build folder>/bin.
  const fs::path program = fs::read_symlink("/proc/self/exe");
  const fs::path environment = program.parent_path().parent_path() / ".venv";
  ASSERT_FALSE(fs::exists(environment));
  const fs::path planted = environment / "lib/python3.11/site-packages/nvidia/cu13/lib";
  plant(planted);
  const std::vector<std::string> folders = Nvrtc::searchFolders();
  EXPECT_EQ(std::count(folders.begin(), folders.end(), planted.string()), 0);
  fs::remove_all(environment);
}

} // namespace

// Libraries that others could have put where they lie are not opened: planted ones are refused with
// the folder that is at fault, those of this user and of root are taken (F38, docs/security.md).
#include "runtime/device/LibraryPath.h"
#include "TestSupport.h"
#include "runtime/device/Driver.h"
#include <climits>
#include <cstdlib>
#include <unistd.h>

using namespace winnow;
using namespace winnow::test;

namespace {

namespace fs = std::filesystem;

class LibraryPath : public testing::Test {
protected:
  void SetUp() override {
    fs::create_directories(dir / "a/b");
    writeBytes(library, "code");
    for (const std::string &path : {dir.path, dir / "a", dir / "a/b"})
      ASSERT_EQ(chmod(path.c_str(), 0755), 0);
    ASSERT_EQ(chmod(library.c_str(), 0644), 0);
  }
  /// "" where the library is trusted, else the refusal.
  std::string refusal(const std::string &path) {
    Result<std::string> trusted = trustedLibrary(path);
    return trusted ? "" : trusted.error().message;
  }
  static bool names(const std::string &message, const std::string &words) {
    return message.find(words) != std::string::npos;
  }

  TempDir dir;
  std::string library = dir / "a/b/lib.so";
};

TEST_F(LibraryPath, OwnFilesInOwnFoldersAreTaken) {
  EXPECT_EQ(*trustedLibrary(library), library); // below /tmp, whose sticky bit keeps others out
  EXPECT_EQ(*trustedLibrary(dir / "a/./b/../b//lib.so"), library);
  fs::create_symlink("b", dir / "a/link");
  fs::create_symlink(library, dir / "lib.so");
  EXPECT_EQ(*trustedLibrary(dir / "a/link/lib.so"), library);
  EXPECT_EQ(*trustedLibrary(dir / "lib.so"), library);
  const fs::path before = fs::current_path();
  fs::current_path(dir / "a");
  EXPECT_EQ(*trustedLibrary("b/lib.so"), library);
  fs::current_path(before);
}

TEST_F(LibraryPath, F38WhatOthersCanWriteIsRefused) {
  for (const std::string &path : {library, dir / "a/b", dir / "a", dir.path})
    for (mode_t mode : {0775, 0757, 0777, 02775}) {
      ASSERT_EQ(chmod(path.c_str(), mode), 0);
      EXPECT_TRUE(names(refusal(library), "others can write " + path + " (mode"))
          << refusal(library);
      EXPECT_TRUE(names(refusal(library), "chmod go-w")) << refusal(library);
      ASSERT_EQ(chmod(path.c_str(), 0755), 0);
    }
  // The sticky bit protects what lies in a folder, not what is put beside it.
  ASSERT_EQ(chmod((dir / "a").c_str(), 01777), 0);
  EXPECT_EQ(refusal(library), "");
  ASSERT_EQ(chmod((dir / "a/b").c_str(), 01777), 0);
  EXPECT_TRUE(names(refusal(library), "others can write " + dir.path + "/a/b")) << refusal(library);
}

TEST_F(LibraryPath, F38LinksAreFollowedWithOpenEyes) {
  fs::create_directories(dir / "open/folder");
  ASSERT_EQ(chmod((dir / "open").c_str(), 0777), 0);
  fs::create_symlink(library, dir / "open/folder/lib.so");
  EXPECT_TRUE(names(refusal(dir / "open/folder/lib.so"), "others can write " + dir.path + "/open"));
  fs::create_symlink(dir / "open/folder", dir / "a/way");
  EXPECT_TRUE(names(refusal(dir / "a/way/lib.so"), "others can write " + dir.path + "/open"));
  fs::create_symlink("loop", dir / "loop");
  EXPECT_TRUE(names(refusal(dir / "loop"), "too many symbolic links"));
}

TEST_F(LibraryPath, WhatIsNoLibraryIsToldInOneSentence) {
  EXPECT_EQ(refusal(dir / "none"), dir.path + "/none: No such file or directory");
  EXPECT_TRUE(names(refusal(dir / "a/none/lib.so"), "No such file or directory"));
  EXPECT_TRUE(names(refusal(library + "/x"), "Not a directory"));
  EXPECT_TRUE(names(refusal(dir / "a"), "is no library"));
  EXPECT_NE(refusal("/dev/null"), "");
  EXPECT_TRUE(names(refusal(""), "is no library"));
  EXPECT_TRUE(names(refusal(std::string(3 * PATH_MAX, 'x')), "File name too long"));
}

TEST_F(LibraryPath, F38FilesOfOtherUsersAreRefused) {
  if (geteuid() != 0)
    GTEST_SKIP() << "only root can give files away";
  constexpr uid_t kOther = 65533;
  for (const std::string &path : {library, dir / "a/b", dir / "a", dir.path}) {
    ASSERT_EQ(chown(path.c_str(), kOther, kOther), 0);
    EXPECT_TRUE(names(refusal(library), path + " belongs to user 65533")) << refusal(library);
    ASSERT_EQ(chown(path.c_str(), 0, 0), 0);
  }
  fs::create_symlink("b", dir / "a/link");
  ASSERT_EQ(lchown((dir / "a/link").c_str(), kOther, kOther), 0);
  EXPECT_TRUE(names(refusal(dir / "a/link/lib.so"), "belongs to user 65533"));
  // What is root's is taken by everybody.
  EXPECT_TRUE(exitedWith(runUnprivileged([&] { return trustedLibrary(library) ? 0 : 1; }), 0));
}

TEST_F(LibraryPath, F38ADriverAtAPathIsLookedAtFirst) {
  fs::copy_file(WINNOW_FAKE_CUDA, dir / "a/libcuda.so.1");
  ASSERT_EQ(chmod((dir / "a/libcuda.so.1").c_str(), 0755), 0);
  EXPECT_TRUE(Driver::open(dir / "a/libcuda.so.1"));
  ASSERT_EQ(chmod((dir / "a").c_str(), 0775), 0);
  Result<std::shared_ptr<Driver>> driver = Driver::open(dir / "a/libcuda.so.1");
  ASSERT_FALSE(driver);
  EXPECT_EQ(driver.error().kind, ErrorKind::DeviceFailed);
  EXPECT_TRUE(names(driver.error().message, "others can write " + dir.path + "/a"))
      << driver.error().message;
}

} // namespace

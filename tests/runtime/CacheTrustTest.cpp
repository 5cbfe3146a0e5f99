// Where the cache lives and whom it trusts: the matrix of HOME, permissions, umask and users (F23,
// F38).
#include "TestSupport.h"
#include <cstdlib>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace winnow;
using namespace winnow::test;

namespace {

mode_t modeOf(const std::string &path) {
  struct stat info{};
  EXPECT_EQ(stat(path.c_str(), &info), 0) << path;
  return info.st_mode & 07777;
}

struct Variables {
  const char *cacheDir, *xdg, *home;
};

std::string directoryFor(Variables variables) {
  auto set = [](const char *name, const char *value) {
    value ? setenv(name, value, 1) : unsetenv(name);
  };
  set("WINNOW_CACHE_DIR", variables.cacheDir);
  set("XDG_CACHE_HOME", variables.xdg);
  set("HOME", variables.home);
  return defaultCacheOptions().directory;
}

TEST(CacheTrust, F23DirectoryFromTheEnvironment) {
  int status = runChild([] {
    bool right = directoryFor({"/c", "/x", "/h"}) == "/c" &&
                 directoryFor({nullptr, "/x", "/h"}) == "/x/winnow" &&
                 directoryFor({nullptr, nullptr, "/h"}) == "/h/.cache/winnow" &&
                 directoryFor({"", "relative", "/h"}) == "/h/.cache/winnow" &&
                 directoryFor({nullptr, nullptr, nullptr}).empty() &&
                 directoryFor({nullptr, "", ""}).empty();
    setenv("WINNOW_CACHE_READONLY", "/a::/b:", 1);
    setenv("WINNOW_CACHE_LIMIT_MB", "3", 1);
    CacheOptions options = defaultCacheOptions();
    right = right && options.problems.empty() &&
            options.readOnly == std::vector<std::string>{"/a", "/b"} &&
            options.limitBytes == 3 << 20;
    setenv("WINNOW_CACHE_LIMIT_MB", "lots", 1);
    options = defaultCacheOptions();
    return right && options.limitBytes == 1 << 30 && options.problems.size() == 1 ? 0 : 1;
  });
  EXPECT_TRUE(exitedWith(status, 0));
}

/// In a child without privileges: two stores into `directory` give one warning and leave everything
/// else working.
void expectMemoryOnly(const std::string &directory, const char *reason) {
  int status = runUnprivileged([&] {
    std::vector<std::string> warnings;
    Cache cache(cacheAt(directory, &warnings));
    if (!cache.store(sampleImage("1")) || !cache.store(sampleImage("2")))
      return 1;
    if (cache.load(sampleImage("1").key))
      return 2;
    for (const std::string &warning : warnings)
      if (warning.find("memory only") != std::string::npos &&
          warning.find(reason) != std::string::npos)
        return warnings.size() <= 2
                   ? 0
                   : 3; // "memory only" once, beside it at most why a directory is not trusted
    std::fprintf(stderr, "warning: %s\n", warnings.empty() ? "none" : warnings[0].c_str());
    return 4;
  });
  EXPECT_TRUE(exitedWith(status, 0)) << directory << ": wait status " << status;
}

TEST(CacheTrust, F23NoDirectoryKnown) {
  expectMemoryOnly("", "HOME and WINNOW_CACHE_DIR are unset");
}

TEST(CacheTrust, F23HomeDoesNotExist) {
  expectMemoryOnly("/nonexistent/home/.cache/winnow", "cannot create");
}

TEST(CacheTrust, F23HomeIsReadOnly) {
  TempDir dir;
  ASSERT_EQ(mkdir((dir / "home").c_str(), 0555), 0);
  expectMemoryOnly(dir / "home/.cache/winnow", "cannot create");
}

TEST(CacheTrust, F23HomeIsAFile) {
  TempDir dir;
  writeBytes(dir / "home", "");
  expectMemoryOnly(dir / "home/.cache/winnow", "cannot create");
}

TEST(CacheTrust, F23CacheIsReadOnlyAndStillServes) {
  TempDir dir;
  ASSERT_EQ(chmod(dir.path.c_str(), 0777), 0);
  int status = runUnprivileged([&] {
    Cache first(cacheAt(dir / "cache"));
    if (!first.store(sampleImage()) || chmod((dir / "cache").c_str(), 0500) != 0)
      return 1;
    std::vector<std::string> warnings;
    Cache second(cacheAt(dir / "cache", &warnings));
    if (!second.load(sampleImage().key) || !warnings.empty())
      return 2;
    if (!second.store(sampleImage("other")) || warnings.size() != 1)
      return 3;
    return second.load(sampleImage().key) ? 0 : 4;
  });
  EXPECT_TRUE(exitedWith(status, 0)) << "wait status " << status;
}

TEST(CacheTrust, F23EveryUmaskGivesPrivateUsableFiles) {
  for (mode_t mask : {000, 022, 077}) {
    TempDir dir;
    int status = runChild([&] {
      umask(mask);
      Cache cache(cacheAt(dir / "new/cache"));
      return cache.store(sampleImage()) && cache.load(sampleImage().key) ? 0 : 1;
    });
    EXPECT_TRUE(exitedWith(status, 0)) << std::oct << mask;
    EXPECT_EQ(modeOf(dir / "new"), 0700u);
    EXPECT_EQ(modeOf(dir / "new/cache"), 0700u);
    EXPECT_EQ(modeOf(dir / "new/cache/" + sampleImage().key + ".winnow"), 0600u);
  }
}

TEST(CacheTrust, F23ReadOnlyLayersAreSearchedInOrderAndNeverChanged) {
  TempDir dir;
  ASSERT_TRUE(Cache(cacheAt(dir / "system")).store(sampleImage("shared")));
  writeBytes(dir / "system/" + sampleImage("broken").key + ".winnow", "damaged");
  const auto before =
      std::filesystem::last_write_time(dir / "system/" + sampleImage("shared").key + ".winnow");
  CacheOptions options = cacheAt(dir / "own");
  options.readOnly = {dir / "missing", dir / "system"};
  Cache cache(options);
  EXPECT_TRUE(cache.load(sampleImage("shared").key));
  EXPECT_FALSE(cache.load(sampleImage("broken").key));
  EXPECT_EQ(listDirectory(dir / "system").size(), 2u);
  EXPECT_EQ(
      std::filesystem::last_write_time(dir / "system/" + sampleImage("shared").key + ".winnow"),
      before);
  ASSERT_TRUE(cache.store(sampleImage("broken")));
  EXPECT_TRUE(cache.load(sampleImage("broken").key));
  EXPECT_EQ(listDirectory(dir / "own").size(), 1u);
}

TEST(CacheTrust, F38DirectoriesThatOthersCanWriteAreNotUsed) {
  for (mode_t mode : {0777, 01777, 0770, 0775}) {
    TempDir dir;
    std::vector<std::string> warnings;
    ASSERT_TRUE(Cache(cacheAt(dir / "cache")).store(sampleImage()));
    ASSERT_EQ(chmod((dir / "cache").c_str(), mode), 0);
    Cache cache(cacheAt(dir / "cache", &warnings));
    EXPECT_FALSE(cache.load(sampleImage().key)) << std::oct << mode;
    EXPECT_FALSE(cache.load(sampleImage("x").key));
    ASSERT_EQ(warnings.size(), 1u);
    EXPECT_NE(warnings[0].find("others cannot write"), std::string::npos);
    CacheOptions layered = cacheAt("", &warnings);
    layered.readOnly = {dir / "cache"};
    EXPECT_FALSE(Cache(layered).load(sampleImage().key));
  }
}

TEST(CacheTrust, F38EntriesThatOthersCanWriteAreNotUsed) {
  TempDir dir;
  std::vector<std::string> warnings;
  Cache cache(cacheAt(dir.path, &warnings));
  ASSERT_TRUE(cache.store(sampleImage()));
  ASSERT_EQ(chmod((dir / sampleImage().key + ".winnow").c_str(), 0666), 0);
  EXPECT_FALSE(cache.load(sampleImage().key));
  EXPECT_EQ(warnings.size(), 1u);
}

/// What root has installed serves everybody, but nobody's own cache is a folder of somebody else.
TEST(CacheTrust, F38LayersOfRootServeOtherUsersAndThoseOfOthersNobody) {
  if (geteuid() != 0)
    GTEST_SKIP() << "giving files away takes root";
  TempDir dir;
  const std::string key = sampleImage().key, entry = dir / "system/" + key + ".winnow";
  ASSERT_TRUE(Cache(cacheAt(dir / "system")).store(sampleImage()));
  ASSERT_TRUE(writeBundle(systemFiles(), dir / "bundle", {{key, *serializeImage(sampleImage())}}));
  ASSERT_EQ(chmod((dir / "system").c_str(), 0755), 0);
  ASSERT_EQ(chmod(entry.c_str(), 0644), 0);
  auto serves = [&](const std::string &writable, const char *layer, const char *bundle) {
    CacheOptions options = cacheAt(writable);
    if (layer)
      options.readOnly = {dir / layer};
    if (bundle)
      options.bundles = {dir / bundle};
    return static_cast<bool>(Cache(options).load(key));
  };
  EXPECT_TRUE(
      exitedWith(runUnprivileged([&] { return serves("", "system", nullptr) ? 0 : 1; }), 0));
  EXPECT_TRUE(
      exitedWith(runUnprivileged([&] { return serves("", nullptr, "bundle") ? 0 : 1; }), 0));
  EXPECT_TRUE(
      exitedWith(runUnprivileged([&] { return serves(dir / "system", nullptr, nullptr); }), 0));
  constexpr uid_t kOther = 65533;
  for (const std::string &path : {entry, dir / "system"}) {
    ASSERT_EQ(chown(path.c_str(), kOther, kOther), 0);
    EXPECT_FALSE(serves("", "system", nullptr)) << path;
    EXPECT_TRUE(exitedWith(runUnprivileged([&] { return serves("", "system", nullptr); }), 0));
    ASSERT_EQ(chown(path.c_str(), 0, 0), 0);
  }
  ASSERT_EQ(chown((dir / "bundle").c_str(), kOther, kOther), 0);
  EXPECT_FALSE(serves("", nullptr, "bundle"));
  EXPECT_TRUE(exitedWith(runUnprivileged([&] { return serves("", nullptr, "bundle"); }), 0));
}

TEST(CacheTrust, F38LinksAndFifosAreNotFollowed) {
  TempDir dir;
  Cache cache(cacheAt(dir / "cache"));
  ASSERT_TRUE(cache.store(sampleImage()));
  const std::string entry = dir / "cache/" + sampleImage().key + ".winnow";
  ASSERT_EQ(rename(entry.c_str(), (dir / "elsewhere").c_str()), 0);
  ASSERT_EQ(symlink((dir / "elsewhere").c_str(), entry.c_str()), 0);
  EXPECT_FALSE(cache.load(sampleImage().key));
  ASSERT_EQ(unlink(entry.c_str()), 0);
  ASSERT_EQ(mkfifo(entry.c_str(), 0600), 0);
  EXPECT_FALSE(cache.load(sampleImage().key)); // and does not hang
  ASSERT_TRUE(cache.store(sampleImage()));
  EXPECT_TRUE(cache.load(sampleImage().key));
}

TEST(CacheTrust, F38PlantedEntryOfAnotherUserIsRefused) {
  // Needs a second user: root plants for itself what user 65534 owns. Elsewhere root's own files
  // play the planted entry.
  TempDir dir;
  std::vector<std::string> warnings;
  Cache cache(cacheAt(dir / "cache", &warnings));
  const ProgramImage image = sampleImage();
  ASSERT_TRUE(cache.store(image));
  const std::string entry = dir / "cache/" + image.key + ".winnow";
  if (geteuid() == 0) {
    ASSERT_EQ(chown(entry.c_str(), 65534, 65534), 0);
    EXPECT_FALSE(cache.load(image.key));
    ASSERT_EQ(warnings.size(), 1u);
    EXPECT_NE(warnings[0].find("belongs to another user"), std::string::npos);
    ASSERT_TRUE(cache.store(image)); // a planted file is replaced
    EXPECT_TRUE(cache.load(image.key));
    ASSERT_EQ(chown((dir / "cache").c_str(), 65534, 65534), 0);
    EXPECT_FALSE(Cache(cacheAt(dir / "cache")).load(image.key)); // a planted directory as well
  } else {
    Cache planted(cacheAt("/usr", &warnings)); // a directory of root, for a user who is not root
    EXPECT_FALSE(planted.load(image.key));
    ASSERT_EQ(warnings.size(), 1u);
    EXPECT_NE(warnings[0].find("belongs to you"), std::string::npos);
  }
}

} // namespace

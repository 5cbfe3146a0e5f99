// The file cache within one process: hits, damage, trust, limits (F02, F06, F08, F12, F23, F24,
// F38).
#include "TestSupport.h"
#include "runtime/device/KernelStore.h"
#include <cerrno>
#include <csignal>
#include <sys/mount.h>
#include <sys/resource.h>
#include <unistd.h>

using namespace winnow;
using namespace winnow::test;

namespace {

std::string entryOf(const ProgramImage &image) { return image.key + ".winnow"; }

TEST(Cache, StoresAndLoads) {
  TempDir dir;
  std::vector<std::string> warnings;
  Cache cache(cacheAt(dir / "a/b", &warnings));
  const ProgramImage image = sampleImage();
  EXPECT_FALSE(cache.load(image.key));
  ASSERT_TRUE(cache.store(image));
  std::optional<ProgramImage> back = cache.load(image.key);
  ASSERT_TRUE(back);
  EXPECT_TRUE(sameImage(*back, image));
  EXPECT_EQ(listDirectory(dir / "a/b"), std::vector<std::string>{entryOf(image)});
  EXPECT_EQ(warnings, std::vector<std::string>{});
  ASSERT_TRUE(std::filesystem::remove(dir / "a/b/" + entryOf(image)));
  EXPECT_FALSE(cache.load(image.key));
}

TEST(Cache, KeysThatAreNoDigestsNeverBecomePaths) {
  TempDir dir;
  Cache cache(cacheAt(dir.path));
  ProgramImage image = sampleImage();
  image.key = "../../escape0123456789";
  EXPECT_FALSE(cache.store(image));
  EXPECT_FALSE(cache.load(image.key));
  EXPECT_TRUE(listDirectory(dir.path).empty());
}

TEST(Cache, F05BrokenCompilerOutputIsNeverStored) {
  TempDir dir;
  Cache cache(cacheAt(dir.path));
  ProgramImage image = sampleImage();
  image.kernels[0].cubin.clear();
  EXPECT_FALSE(cache.store(image));
  EXPECT_TRUE(listDirectory(dir.path).empty());
}

TEST(Cache, F06DamagedEntriesAreDeletedToldOnceAndRebuilt) {
  TempDir dir;
  const ProgramImage image = sampleImage();
  const std::string whole = *serializeImage(image), path = dir / entryOf(image);
  std::vector<std::string> damaged = {"", whole.substr(0, 1), whole.substr(0, whole.size() / 2)};
  for (size_t at : {size_t(0), size_t(9), size_t(20), size_t(50), size_t(100), whole.size() - 1}) {
    damaged.push_back(whole);
    damaged.back()[at] = static_cast<char>(damaged.back()[at] + 1);
  }
  std::vector<std::string> warnings;
  Cache cache(cacheAt(dir.path, &warnings));
  for (const std::string &bytes : damaged) {
    writeBytes(path, bytes);
    EXPECT_FALSE(cache.load(image.key));
    EXPECT_FALSE(std::filesystem::exists(path));
    ASSERT_TRUE(cache.store(image));
    EXPECT_TRUE(cache.load(image.key));
  }
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_NE(warnings[0].find("are dropped: not a usable program image"), std::string::npos)
      << warnings[0];
}

TEST(Cache, F06AnEntryUnderAnotherProgramsNameIsAMiss) {
  TempDir dir;
  std::vector<std::string> warnings;
  Cache cache(cacheAt(dir.path, &warnings));
  const ProgramImage one = sampleImage("one"), two = sampleImage("two");
  writeBytes(dir / entryOf(two), *serializeImage(one));
  EXPECT_FALSE(cache.load(two.key));
  EXPECT_EQ(warnings.size(), 1u);
}

TEST(Cache, F12EntriesOfOlderSchemaAreMisses) {
  TempDir dir;
  Cache cache(cacheAt(dir.path));
  const ProgramImage image = sampleImage();
  writeBytes(dir / entryOf(image), readBytes(WINNOW_TEST_DATA "/image_schema0.winnow"));
  EXPECT_FALSE(cache.load(image.key));
  ASSERT_TRUE(cache.store(image));
  EXPECT_TRUE(cache.load(image.key));
}

TEST(Cache, F08ACopiedCacheHitsAtAnyTime) {
  TempDir dir;
  Cache original(cacheAt(dir / "original"));
  for (int i = 0; i < 20; ++i)
    ASSERT_TRUE(original.store(sampleImage(std::to_string(i))));
  std::filesystem::copy(dir / "original", dir / "copy");
  for (const std::string &name : listDirectory(dir / "copy"))
    std::filesystem::last_write_time(dir / "copy/" + name,
                                     std::filesystem::file_time_type::clock::now() -
                                         std::chrono::hours(24 * 365));
  Cache copy(cacheAt(dir / "copy"));
  for (int i = 0; i < 20; ++i)
    EXPECT_TRUE(copy.load(sampleImage(std::to_string(i)).key));
}

/// Injects what network file systems do, and counts opens for reading.
struct FaultyFiles : Files {
  int openForReading = 0, removeError = 0, writeErrors = 0, writeError = ENOSPC, openError = 0;
  bool shortWrites = false;
  int open(const char *path, int flags, mode_t mode) override {
    openForReading += (flags & 3) == 0;
    if (openError) {
      errno = openError;
      return -1;
    }
    return Files::open(path, flags, mode);
  }
  ssize_t write(int file, const void *buffer, size_t bytes) override {
    if (writeErrors > 0) {
      --writeErrors;
      errno = writeError;
      return -1;
    }
    return Files::write(file, buffer, shortWrites ? std::min<size_t>(bytes, 7) : bytes);
  }
  int remove(const char *path) override {
    if (removeError) {
      errno = removeError;
      return -1;
    }
    return Files::remove(path);
  }
};

TEST(Cache, F02NothingIsReopenedAfterPublishing) {
  TempDir dir;
  FaultyFiles files;
  CacheOptions options = cacheAt(dir.path);
  options.files = &files;
  KernelStore store(options,
                    {[](const ProgramRequest &) { return Result<std::string>(sampleImage().key); },
                     [](const ProgramRequest &) { return Result<ProgramImage>(sampleImage()); }});
  ProgramRequest request;
  ASSERT_TRUE(store.prepare(request));
  EXPECT_EQ(files.openForReading, 2); // the look-ups before the build, without and with its lock
  ASSERT_TRUE(store.prepare(request));
  EXPECT_EQ(files.openForReading, 2);
}

TEST(Cache, F02BusyRemovalAndLostEntriesAreMisses) {
  TempDir dir;
  FaultyFiles files;
  files.removeError = EBUSY;
  CacheOptions options = cacheAt(dir.path);
  options.files = &files;
  Cache cache(options);
  const ProgramImage image = sampleImage();
  writeBytes(dir / entryOf(image), "damaged");
  EXPECT_FALSE(cache.load(image.key)); // cannot be deleted
  ASSERT_TRUE(cache.store(image));     // but replaced
  EXPECT_TRUE(cache.load(image.key));
  for (int error : {ENOENT, ESTALE, EIO, EMFILE}) {
    files.openError = error;
    EXPECT_FALSE(cache.load(image.key)) << error;
  }
  files.openError = 0;
  EXPECT_TRUE(cache.load(image.key));
}

TEST(Cache, F04InterruptedAndShortWritesAreContinued) {
  TempDir dir;
  FaultyFiles files;
  files.shortWrites = true;
  files.writeErrors = 3;
  files.writeError = EINTR;
  CacheOptions options = cacheAt(dir.path);
  options.files = &files;
  Cache cache(options);
  ASSERT_TRUE(cache.store(sampleImage()));
  EXPECT_TRUE(cache.load(sampleImage().key));
}

TEST(Cache, F24FullDiskGivesSpaceBackThenGoesOnInMemory) {
  TempDir dir;
  std::vector<std::string> warnings;
  FaultyFiles files;
  CacheOptions options = cacheAt(dir.path, &warnings);
  options.files = &files;
  Cache cache(options);
  for (int i = 0; i < 10; ++i)
    ASSERT_TRUE(cache.store(sampleImage(std::to_string(i))));
  files.writeErrors = 1; // full once: old entries go, the new one fits
  ASSERT_TRUE(cache.store(sampleImage("new")));
  EXPECT_TRUE(cache.load(sampleImage("new").key));
  EXPECT_FALSE(cache.load(sampleImage("0").key));
  EXPECT_TRUE(warnings.empty());
  files.writeErrors = 1000; // full for good
  ASSERT_TRUE(cache.store(sampleImage("newer")));
  ASSERT_TRUE(cache.store(sampleImage("newest")));
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_NE(warnings[0].find("memory only"), std::string::npos);
  for (const std::string &name : listDirectory(dir.path))
    EXPECT_FALSE(isTemporaryName(name)) << name;
}

/// Stores into a directory whose disk (or file size limit) is too small; 0 = behaved as it should.
int storeOnFullDisk(const std::string &directory) {
  std::vector<std::string> warnings;
  Cache cache(cacheAt(directory, &warnings));
  ProgramImage image = sampleImage();
  uint64_t noise = 88172645463325252ull; // incompressible
  for (int i = 0; i < 3 << 20; ++i) {
    noise ^= noise << 13, noise ^= noise >> 7, noise ^= noise << 17;
    image.kernels[0].source += static_cast<char>(noise);
  }
  if (!cache.store(image) || warnings.size() != 1 ||
      warnings[0].find("cannot write") == std::string::npos)
    return 1;
  if (cache.load(image.key) || !listDirectory(directory).empty())
    return 2; // something half-written was left
  if (!cache.store(sampleImage()) || !cache.load(sampleImage().key))
    return 3; // what fits is still stored
  return 0;
}

TEST(Cache, F24OneMegabyteFileSystem) {
  TempDir dir;
  constexpr int kNoMount = 77;
  int status = runChild([&] {
    if (mount("none", dir.path.c_str(), "tmpfs", 0, "size=1m,mode=0700") != 0)
      return kNoMount;
    int code = storeOnFullDisk(dir.path);
    umount2(dir.path.c_str(), MNT_DETACH);
    return code;
  });
  if (exitedWith(status,
                 kNoMount)) // not allowed to mount: a limit on file sizes gives the same failure
    status = runChild([&] {
      std::signal(SIGXFSZ, SIG_IGN);
      const struct rlimit limit = {1 << 20, 1 << 20};
      return setrlimit(RLIMIT_FSIZE, &limit) == 0 ? storeOnFullDisk(dir / "cache") : kNoMount;
    });
  EXPECT_TRUE(exitedWith(status, 0)) << "wait status " << status;
}

TEST(Cache, F24TenThousandEntriesArePruned) {
  TempDir dir;
  const auto longAgo = std::filesystem::file_time_type::clock::now() - std::chrono::hours(1000);
  for (int i = 0; i < 10000; ++i) {
    const std::string path = dir / (sha256Hex(std::to_string(i)) + ".winnow");
    writeBytes(path, std::string(1024, 'x'));
    std::filesystem::last_write_time(path, longAgo + std::chrono::seconds(i));
  }
  writeBytes(dir / "someone-elses-file", "stays");
  CacheOptions options = cacheAt(dir.path);
  options.limitBytes = 1 << 20;
  Cache cache(options);
  ASSERT_TRUE(cache.store(sampleImage()));
  uint64_t total = 0;
  std::vector<Cache::Entry> left = cache.entries();
  for (const Cache::Entry &entry : left)
    total += entry.bytes;
  EXPECT_LE(total, options.limitBytes);
  EXPECT_GT(total, options.limitBytes / 2); // no more than needed
  EXPECT_EQ(left.front().key, sampleImage().key);
  EXPECT_EQ(left[1].key, sha256Hex("9999")); // the most recently used stay
  EXPECT_TRUE(cache.load(sampleImage().key));
  EXPECT_TRUE(std::filesystem::exists(dir / "someone-elses-file"));
}

TEST(Cache, F24AHitKeepsAnEntryAlive) {
  TempDir dir;
  const auto longAgo = std::filesystem::file_time_type::clock::now() - std::chrono::hours(1000);
  Cache cache(cacheAt(dir.path));
  for (const char *salt : {"a", "b", "c"}) {
    ASSERT_TRUE(cache.store(sampleImage(salt)));
    std::filesystem::last_write_time(dir / entryOf(sampleImage(salt)), longAgo);
  }
  EXPECT_TRUE(cache.load(sampleImage("b").key));
  EXPECT_EQ(cache.prune(cache.entries()[0].bytes * 3 / 2), 2u);
  EXPECT_TRUE(cache.load(sampleImage("b").key));
}

TEST(Cache, F24StaleTemporariesAreRemovedAndFreshOnesKept) {
  TempDir dir;
  writeBytes(dir / ".winnow-tmp.1.1.0.0", "left by a killed process");
  writeBytes(dir / ".winnow-tmp.2.2.0.0", "being written");
  std::filesystem::last_write_time(dir / ".winnow-tmp.1.1.0.0",
                                   std::filesystem::file_time_type::clock::now() -
                                       std::chrono::hours(2));
  Cache(cacheAt(dir.path)).prune(1 << 20);
  EXPECT_EQ(listDirectory(dir.path), std::vector<std::string>{".winnow-tmp.2.2.0.0"});
}

} // namespace

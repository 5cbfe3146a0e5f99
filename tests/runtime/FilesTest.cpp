// Reading and publishing of files that a user names: what is there and is no regular file stays
// what it is, sizes are limited before anything is read, killed writers leave nothing for long.
#include "runtime/cache/Files.h"
#include "TestSupport.h"
#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <map>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <thread>
#include <unistd.h>

using namespace winnow;
using namespace winnow::test;
namespace fs = std::filesystem;

namespace {

mode_t typeOf(const std::string &path) {
  struct stat info{};
  return ::lstat(path.c_str(), &info) == 0 ? info.st_mode & S_IFMT : 0;
}

/// A file of `bytes` zeros that takes no room.
void makeSparse(const std::string &path, off_t bytes) {
  writeBytes(path, "");
  ASSERT_EQ(::truncate(path.c_str(), bytes), 0);
}

constexpr off_t kEightTerabytes = off_t(8) << 40;

/// Notes the calls by which a file comes to be: "write", "sync" and so on, each once in a row.
struct NotingFiles : Files {
  std::vector<std::string> calls;
  std::map<int, bool> isSynced; ///< of open files: nothing was written since the last sync
  std::string unsynced;         ///< a name that was given to what lay nowhere but in memory

  void note(const std::string &call) {
    if (calls.empty() || calls.back() != call)
      calls.push_back(call);
  }
  int open(const char *path, int flags, mode_t mode) override {
    int file = Files::open(path, flags, mode);
    if ((flags & O_ACCMODE) != O_RDONLY)
      isSynced[file] = true, note("open");
    return file;
  }
  ssize_t write(int file, const void *buffer, size_t bytes) override {
    isSynced[file] = false, note("write");
    return Files::write(file, buffer, bytes);
  }
  int sync(int file) override {
    isSynced[file] = true, note("sync");
    return Files::sync(file);
  }
  int close(int file) override {
    if (isSynced.count(file)) {
      note("close");
      lastIsSynced = isSynced.at(file);
      isSynced.erase(file);
    }
    return Files::close(file);
  }
  int rename(const char *from, const char *to) override {
    note("rename");
    unsynced = lastIsSynced ? unsynced : to;
    return Files::rename(from, to);
  }

private:
  bool lastIsSynced = false;
};

TEST(Files, F03WhatGetsANameLiesOnTheDiskBefore) {
  TempDir dir;
  const std::vector<std::string> steps = {"open", "write", "sync", "close", "rename"};
  auto expectSteps = [&](const char *what, const std::function<void(Files &)> &publishing) {
    NotingFiles files;
    publishing(files);
    EXPECT_EQ(files.calls, steps) << what;
    EXPECT_EQ(files.unsynced, "") << what;
  };
  expectSteps("publish", [&](Files &files) {
    EXPECT_EQ(publish(files, dir / "a", std::string(100000, 'x'), 0600), 0);
  });
  expectSteps("publishFile",
              [&](Files &files) { EXPECT_TRUE(publishFile(files, dir / "b", "x")); });
  expectSteps("writeBundle", [&](Files &files) {
    EXPECT_TRUE(writeBundle(files, dir / "c", {{sampleImage().key, "bytes"}}));
  });
  NotingFiles files;
  CacheOptions options = cacheAt(dir / "cache");
  options.files = &files;
  ASSERT_TRUE(Cache(options).store(sampleImage()));
  EXPECT_EQ(files.calls, steps);
  EXPECT_EQ(files.unsynced, "");
}

TEST(Files, F24AFileThatCannotBeSyncedGetsNoName) {
  struct : Files {
    int sync(int) override { return errno = EIO, -1; }
  } files;
  TempDir dir;
  writeBytes(dir / "old", "old");
  Status status = publishFile(files, dir / "old", "new");
  ASSERT_FALSE(status);
  EXPECT_NE(status.error().message.find("Input/output error"), std::string::npos);
  EXPECT_EQ(readBytes(dir / "old"), "old");
  EXPECT_EQ(listDirectory(dir.path), std::vector<std::string>{"old"});
}

TEST(Files, F38WhatIsOwnIsToldByOwnerAndMode) {
  // Root has everything to itself but other users' files, so the rules are asked as somebody else
  // too.
  auto check = [] {
    const uid_t self = ::geteuid(), other = 65533;
    auto own = [](uid_t owner, mode_t mode, bool orRoot) {
      struct stat info{};
      info.st_uid = owner;
      info.st_mode = S_IFREG | mode;
      return isOwn(info, orRoot);
    };
    int wrong = 0;
    auto expect = [&](bool expected, bool got) { wrong += expected != got; };
    for (bool orRoot : {false, true}) {
      for (mode_t mode : {0600, 0644, 0400, 0755})
        expect(true, own(self, mode, orRoot));
      for (mode_t mode : {0620, 0602, 0666, 0777})
        expect(false, own(self, mode, orRoot));
      expect(false, own(other, 0600, orRoot));
      expect(false, own(other, 0644, orRoot));
      expect(orRoot || self == 0, own(0, 0644, orRoot));
      expect(false, own(0, 0664, orRoot));
    }
    return wrong;
  };
  EXPECT_EQ(check(), 0);
  EXPECT_TRUE(exitedWith(runUnprivileged(check), 0));
}

TEST(Files, DevicesStayDevices) {
  TempDir dir; // its own nodes: a wrong rename must not hit the machine's
  const std::string null = dir / "null", full = dir / "full";
  if (::mknod(null.c_str(), S_IFCHR | 0666, makedev(1, 3)) != 0 ||
      ::mknod(full.c_str(), S_IFCHR | 0666, makedev(1, 7)) != 0)
    GTEST_SKIP() << "this user makes no device nodes";
  Status toNull = publishFile(systemFiles(), null, "x"),
         toFull = publishFile(systemFiles(), full, "x");
  EXPECT_EQ(typeOf(null), mode_t(S_IFCHR));
  EXPECT_EQ(typeOf(full), mode_t(S_IFCHR));
  EXPECT_FALSE(toFull);
  if (int file = ::open(null.c_str(), O_WRONLY);
      file >= 0) { // not on a file system without devices
    ::close(file);
    EXPECT_TRUE(toNull) << toNull.error().message;
    EXPECT_NE(toFull.error().message.find("No space left"), std::string::npos);
  }
  EXPECT_FALSE(writeBundle(systemFiles(), full, {}));
  EXPECT_EQ(typeOf(full), mode_t(S_IFCHR));
  EXPECT_EQ(listDirectory(dir.path).size(), 2u);
}

TEST(Files, AFifoGetsTheBytesOrASentence) {
  TempDir dir;
  const std::string path = dir / "fifo", bytes(1 << 20, 'x');
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  Status unread = publishFile(systemFiles(), path, bytes);
  ASSERT_FALSE(unread);
  EXPECT_NE(unread.error().message.find("nobody reads"), std::string::npos)
      << unread.error().message;

  std::string got;
  int reader = ::open(path.c_str(), O_RDONLY | O_NONBLOCK);
  ASSERT_GE(reader, 0);
  ::fcntl(reader, F_SETFL, 0);
  std::thread reading([&] {
    char part[4096];
    while (got.size() < bytes.size()) {
      ssize_t count = ::read(reader, part, sizeof part);
      if (count > 0)
        got.append(part, static_cast<size_t>(count));
    }
  });
  EXPECT_TRUE(publishFile(systemFiles(), path, bytes));
  reading.join();
  EXPECT_EQ(got, bytes);

  std::thread leaving([&] {
    char part;
    while (::read(reader, &part, 1) != 1)
      ;
    ::close(reader);
  });
  Status broken = publishFile(systemFiles(), path, bytes); // without a signal
  leaving.join();
  ASSERT_FALSE(broken);
  EXPECT_NE(broken.error().message.find("Broken pipe"), std::string::npos);
  EXPECT_EQ(typeOf(path), mode_t(S_IFIFO));
}

TEST(Files, LinksAreFollowedWhetherTheirTargetIsThereOrNot) {
  TempDir dir;
  fs::create_directories(dir / "real");
  fs::create_directories(dir / "links");
  writeBytes(dir / "real/old", "old");
  fs::create_symlink("../real/old", dir / "links/a");
  fs::create_symlink("a", dir / "links/b");
  fs::create_symlink("../real/new", dir / "links/dangling");
  fs::create_symlink("loop", dir / "links/loop");
  EXPECT_TRUE(publishFile(systemFiles(), dir / "links/b", "1"));
  EXPECT_TRUE(publishFile(systemFiles(), dir / "links/dangling", "2"));
  EXPECT_FALSE(publishFile(systemFiles(), dir / "links/loop", "3"));
  EXPECT_EQ(readBytes(dir / "real/old"), "1");
  EXPECT_EQ(readBytes(dir / "real/new"), "2");
  for (const char *link : {"links/a", "links/b", "links/dangling", "links/loop"})
    EXPECT_EQ(typeOf(dir / link), mode_t(S_IFLNK)) << link;
  EXPECT_EQ(listDirectory(dir / "links").size(), 4u);
  EXPECT_EQ(listDirectory(dir / "real").size(), 2u);
}

TEST(Files, F38ALinkThatAnotherUserPlantedIsNotFollowed) {
  if (::geteuid() != 0)
    GTEST_SKIP() << "giving links away takes root";
  TempDir dir;
  ASSERT_EQ(::mkdir((dir / "tmp").c_str(), 0755), 0);
  ASSERT_EQ(::chmod((dir / "tmp").c_str(), 01777), 0);
  writeBytes(dir / "precious", "1");
  fs::create_symlink(dir / "precious", dir / "tmp/out");
  ASSERT_EQ(::lchown((dir / "tmp/out").c_str(), 12345, 12345), 0);
  EXPECT_FALSE(publishFile(systemFiles(), dir / "tmp/out", "2"));
  EXPECT_EQ(readBytes(dir / "precious"), "1");
  ASSERT_EQ(::chmod((dir / "tmp").c_str(), 0755), 0); // not a folder for everybody
  EXPECT_TRUE(publishFile(systemFiles(), dir / "tmp/out", "2"));
  EXPECT_EQ(readBytes(dir / "precious"), "2");
}

/// As /dev/stdout is where a shell appends it to a file.
TEST(Files, AnOpenFileIsAppendedTo) {
  TempDir dir;
  writeBytes(dir / "log", "before\n");
  int file = ::open((dir / "log").c_str(), O_WRONLY | O_APPEND);
  fs::create_symlink("/proc/self/fd/" + std::to_string(file), dir / "out");
  EXPECT_TRUE(publishFile(systemFiles(), dir / "out", "after\n"));
  ::close(file);
  EXPECT_EQ(readBytes(dir / "log"), "before\nafter\n");
  EXPECT_EQ(typeOf(dir / "out"), mode_t(S_IFLNK));
}

/// Dies where the file would appear.
struct KilledAtRename : Files {
  int rename(const char *, const char *) override { return ::raise(SIGKILL); }
};

TEST(Files, TheNextWriterRemovesWhatAKilledOneLeft) {
  TempDir dir;
  KilledAtRename killed;
  auto kill = [&](const std::string &name) {
    runChild([&] {
      (void)publishFile(killed, dir / name, "half");
      return 0;
    });
  };
  kill("a");
  ASSERT_EQ(listDirectory(dir.path).size(), 1u);
  const std::string dead = listDirectory(dir.path)[0];
  ASSERT_TRUE(isTemporaryName(dead));
  // The same process number on another host of a shared file system may well be alive.
  std::string foreign = dead;
  const size_t host = foreign.find_first_of("0123456789abcdef", std::string(".winnow-tmp.").size());
  foreign[host] = foreign[host] == '0' ? '1' : '0';
  writeBytes(dir / foreign, "being written elsewhere");
  EXPECT_TRUE(publishFile(systemFiles(), dir / "b", "whole"));
  EXPECT_EQ(listDirectory(dir.path), (std::vector<std::string>{foreign, "b"}));
  fs::last_write_time(dir / foreign, fs::file_time_type::clock::now() - std::chrono::hours(2));
  kill("c");
  EXPECT_TRUE(writeBundle(systemFiles(), dir / "bundle", {}));
  EXPECT_EQ(listDirectory(dir.path), (std::vector<std::string>{"b", "bundle"}));

  // One whose writer lives stays.
  pid_t child = ::fork();
  if (child == 0) {
    struct Paused : Files {
      int rename(const char *, const char *) override { return ::pause(); }
    } paused;
    (void)publishFile(paused, dir / "d", "half");
    ::_exit(0);
  }
  while (listDirectory(dir.path).size() < 3)
    ::usleep(1000);
  EXPECT_TRUE(publishFile(systemFiles(), dir / "b", "again"));
  EXPECT_EQ(listDirectory(dir.path).size(), 3u);
  ::kill(child, SIGKILL);
  waitFor(child);
}

TEST(Files, SizesAreLimitedBeforeAnythingIsRead) {
  TempDir dir;
  makeSparse(dir / "huge", kEightTerabytes);
  Result<std::string> text = readWholeFile(systemFiles(), dir / "huge");
  ASSERT_FALSE(text);
  EXPECT_NE(text.error().message.find("8796093022208 bytes"), std::string::npos);
  FileContent beginning;
  EXPECT_EQ(readBeginning(systemFiles(), dir / "huge", 100, beginning), 0);
  EXPECT_EQ(beginning.bytes, std::string(100, '\0'));
#if !defined(__SANITIZE_THREAD__) && !defined(__SANITIZE_ADDRESS__) // they end the process instead
  EXPECT_EQ(readFile(systemFiles(), dir / "huge", true, UINT64_MAX, beginning), ENOMEM);
#endif
}

TEST(Files, AHugeCacheEntryIsAMissToldOnceAndHarmsNoOther) {
  TempDir dir;
  std::vector<std::string> warnings;
  Cache cache(cacheAt(dir.path, &warnings));
  ASSERT_TRUE(cache.store(sampleImage("good")));
  const std::string huge = sampleImage("huge").key;
  const std::string path = dir / (huge + ".winnow");
  makeSparse(path, kEightTerabytes);
  ASSERT_EQ(::chmod(path.c_str(), 0600), 0);
  EXPECT_EQ(cache.entries().size(), 2u);
  // An engine without a compiler looks through all entries, the newest first.
  auto isSample = [](const ProgramImage &image) { return image.method == "sample"; };
  EXPECT_TRUE(cache.find(isSample));
  EXPECT_TRUE(cache.find(isSample));
  EXPECT_EQ(warnings.size(), 1u);
  EXPECT_FALSE(cache.load(huge));
  EXPECT_EQ(typeOf(path), 0u) << "what is damaged is removed from the writable directory";

  makeSparse(path, kEightTerabytes);
  EXPECT_EQ(cache.prune(cache.options().limitBytes), 1u);
  EXPECT_TRUE(cache.load(sampleImage("good").key)) << "its size drove out another program";
}

TEST(Files, AHugeBundleIsNotRead) {
  TempDir dir;
  ASSERT_TRUE(writeBundle(systemFiles(), dir / "bundle",
                          {{sampleImage().key, std::string(1 << 20, '\0')}}));
  std::string index = readBytes(dir / "bundle").substr(0, 56 + 48);
  auto put = [&](size_t at, uint64_t value, const std::string &name) {
    for (int i = 0; i < 8; ++i)
      index[at + i] = static_cast<char>(value >> (8 * i));
    Sha256 sha;
    sha.update(index.substr(0, 24));
    sha.update(index.substr(56));
    std::array<uint8_t, 32> digest = sha.finish();
    writeBytes(dir / name, index.replace(24, 32, std::string(digest.begin(), digest.end())));
    ASSERT_EQ(::truncate((dir / name).c_str(), kEightTerabytes), 0);
  };
  put(56 + 40, uint64_t(4) << 40, "entry");
  put(16, uint64_t(1) << 37, "count");
  for (const char *name : {"entry", "count"}) {
    std::vector<std::string> warnings;
    CacheOptions options = cacheAt("", &warnings);
    options.bundles = {dir / name};
    Cache cache(options);
    EXPECT_FALSE(cache.load(sampleImage().key)) << name;
    EXPECT_EQ(warnings.size(), 1u) << name;
  }
}

} // namespace

// The file cache among processes: cold starts together, kills at every step of publishing, readers
// all the while, and a stopped writer (F01, F03, F04, F07).
#include "TestSupport.h"
#include "runtime/device/KernelStore.h"
#include <csignal>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace winnow;
using namespace winnow::test;

namespace {

CompileHook sampleHook() {
  return {[](const ProgramRequest &) { return Result<std::string>(sampleImage().key); },
          [](const ProgramRequest &) {
            usleep(20000); // long enough for everybody to miss at once
            return Result<ProgramImage>(sampleImage());
          }};
}

TEST(CacheProcesses, F01ThirtyTwoColdProcessesGetOneEqualEntry) {
  TempDir dir;
  int gate[2];
  ASSERT_EQ(pipe(gate), 0);
  std::vector<pid_t> children;
  for (int i = 0; i < 32; ++i)
    children.push_back(startChild([&] {
      close(gate[1]);
      char byte;
      (void)!read(gate[0], &byte,
                  1); // returns in all children at once, when the parent closes its end
      std::vector<std::string> warnings;
      KernelStore store(cacheAt(dir / "cache", &warnings), sampleHook());
      Result<KernelStore::Found> found = store.prepare(ProgramRequest());
      return found && sameImage(*found->image, sampleImage()) && warnings.empty() ? 0 : 1;
    }));
  close(gate[0]);
  close(gate[1]);
  for (pid_t child : children)
    EXPECT_TRUE(exitedWith(waitFor(child), 0));
  EXPECT_EQ(listCache(dir / "cache"), std::vector<std::string>{sampleImage().key + ".winnow"});
  EXPECT_EQ(readBytes(dir / "cache/" + sampleImage().key + ".winnow"),
            *serializeImage(sampleImage()));
}

/// Kills or stops the process before its n-th file call; writes are cut into pieces, each a call of
/// its own.
struct FatalFiles : Files {
  int callsLeft;
  int signal;
  FatalFiles(int calls, int signal) : callsLeft(calls), signal(signal) {}
  void step() {
    if (callsLeft-- == 0)
      raise(signal);
  }
  int open(const char *path, int flags, mode_t mode) override {
    return step(), Files::open(path, flags, mode);
  }
  ssize_t write(int file, const void *buffer, size_t bytes) override {
    return step(), Files::write(file, buffer, std::min<size_t>(bytes, 500));
  }
  int sync(int file) override { return step(), Files::sync(file); }
  int close(int file) override { return step(), Files::close(file); }
  int rename(const char *from, const char *to) override { return step(), Files::rename(from, to); }
};

ProgramImage version(double mlirMs) {
  ProgramImage image = sampleImage();
  image.mlirMs = mlirMs;
  return image;
}

/// Stores version 2 and is killed before the n-th call. True when it ran to its end instead.
bool storeAndDie(const std::string &directory, int calls) {
  int status = runChild([&] {
    FatalFiles files(calls, SIGKILL);
    CacheOptions options = cacheAt(directory);
    options.files = &files;
    return Cache(options).store(version(2)) ? 0 : 1;
  });
  EXPECT_TRUE(exitedWith(status, 0) || (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL));
  return exitedWith(status, 0);
}

TEST(CacheProcesses, F03KilledAtEachStepReadersSeeOldNewOrNothing) {
  int steps = 0, old = 0, fresh = 0;
  for (bool finished = false; !finished; ++steps) {
    ASSERT_LT(steps, 100);
    for (bool warm : {false, true}) {
      TempDir dir;
      std::vector<std::string> warnings;
      Cache cache(cacheAt(dir.path, &warnings));
      if (warm)
        ASSERT_TRUE(cache.store(version(1)));
      finished = storeAndDie(dir.path, steps);
      std::optional<ProgramImage> seen = cache.load(sampleImage().key);
      EXPECT_TRUE(warnings.empty()) << "step " << steps << ": " << warnings[0];
      if (warm)
        ASSERT_TRUE(seen) << "step " << steps;
      if (seen)
        EXPECT_TRUE(sameImage(*seen, version(2)) || (warm && sameImage(*seen, version(1))));
      old += seen && seen->mlirMs == 1;
      fresh += seen && seen->mlirMs == 2;
      // Whatever was left behind disturbs nobody.
      ASSERT_TRUE(cache.store(version(3)));
      EXPECT_TRUE(sameImage(*cache.load(sampleImage().key), version(3)));
    }
  }
  EXPECT_GE(steps, 6); // open, writes, fsync, close, rename, and one run to the end
  EXPECT_GE(old, 4);
  EXPECT_GE(fresh, 2);
}

TEST(CacheProcesses, F04EightReadersNeverSeeAPartWhileWritersDie) {
  TempDir dir;
  ASSERT_TRUE(Cache(cacheAt(dir.path)).store(version(1)));
  std::vector<pid_t> readers;
  for (int i = 0; i < 8; ++i)
    readers.push_back(startChild([&] {
      std::vector<std::string> warnings;
      Cache cache(cacheAt(dir.path, &warnings));
      int seen = 0;
      while (::access((dir / "stop").c_str(), F_OK) != 0) {
        std::optional<ProgramImage> image = cache.load(sampleImage().key);
        if (!image || !warnings.empty() ||
            !(sameImage(*image, version(1)) || sameImage(*image, version(2))))
          return 1;
        ++seen;
      }
      return seen > 0 ? 0 : 2;
    }));
  int finished = 0;
  for (int round = 0; round < 150; ++round)
    finished += storeAndDie(dir.path, round % 12);
  writeBytes(dir / "stop", "");
  for (pid_t reader : readers)
    EXPECT_TRUE(exitedWith(waitFor(reader), 0));
  EXPECT_GT(finished, 0);
  EXPECT_LT(finished, 150);
}

TEST(CacheProcesses, F07AStoppedWriterHoldsNobodyUp) {
  TempDir dir;
  pid_t writer = startChild([&] {
    FatalFiles files(4, SIGSTOP); // in the middle of its writes
    CacheOptions options = cacheAt(dir.path);
    options.files = &files;
    return Cache(options).store(version(1)) ? 0 : 1;
  });
  int status = 0;
  ASSERT_EQ(waitpid(writer, &status, WUNTRACED), writer);
  ASSERT_TRUE(WIFSTOPPED(status));
  EXPECT_TRUE(exitedWith(runChild([&] {
                           alarm(10); // a hang would end here, by signal
                           KernelStore store(cacheAt(dir.path), sampleHook());
                           return store.prepare(ProgramRequest()) ? 0 : 1;
                         }),
                         0));
  EXPECT_TRUE(Cache(cacheAt(dir.path)).load(sampleImage().key));
  kill(writer, SIGCONT); // wakes up late, publishes the same program: still one valid entry
  EXPECT_TRUE(exitedWith(waitFor(writer), 0));
  EXPECT_TRUE(Cache(cacheAt(dir.path)).load(sampleImage().key));
  EXPECT_EQ(listCache(dir.path).size(), 1u);
}

} // namespace

// The lock of builds among processes: who waits compiles nothing, and nobody waits for ever: a
// killed holder, a stopped one, a file system without locks, and a fork in between (F07, F31).
#include "runtime/cache/BuildLock.h"
#include "TestSupport.h"
#include "runtime/device/KernelStore.h"
#include <atomic>
#include <cerrno>
#include <csignal>
#include <fcntl.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

using namespace winnow;
using namespace winnow::test;

namespace {

double secondsSince(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// A store whose builds are counted, by the bytes of a file, over all processes.
CompileHook countingHook(const std::string &countFile, int milliseconds) {
  return {[](const ProgramRequest &r) { return Result<std::string>(sampleImage(r.method).key); },
          [=](const ProgramRequest &r) {
            int file = open(countFile.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
            (void)!write(file, "b", 1);
            close(file);
            usleep(milliseconds * 1000);
            return Result<ProgramImage>(sampleImage(r.method));
          }};
}

ProgramRequest request(const std::string &method) {
  ProgramRequest request;
  request.method = method;
  request.arch = "sm_80";
  return request;
}

/// A child that holds the lock of `image` until it is killed or continued after its stop.
pid_t startHolder(const std::string &directory, const ProgramImage &image) {
  int ready[2];
  EXPECT_EQ(pipe(ready), 0);
  pid_t child = startChild([&] {
    BuildLock lock(systemFiles(), directory, image.key);
    if (lock.tryTake() != BuildLock::State::Taken)
      return 1;
    (void)!write(ready[1], "r", 1);
    close(ready[1]);
    raise(SIGSTOP);
    return 0;
  });
  close(ready[1]);
  char byte = 0;
  EXPECT_EQ(read(ready[0], &byte, 1), 1);
  close(ready[0]);
  return child;
}

TEST(BuildLock, F31ProgramsWithKeysThatDifferInTheirFirst60BitsDoNotWait) {
  TempDir dir;
  const std::string key = sampleImage().key;
  auto other = [&](size_t digit) {
    std::string changed = key;
    changed[digit] = changed[digit] == '7' ? '8' : '7';
    return changed;
  };
  BuildLock held(systemFiles(), dir.path, key);
  ASSERT_EQ(held.tryTake(), BuildLock::State::Taken);
  for (size_t digit = 0; digit < 15; ++digit) {
    BuildLock lock(systemFiles(), dir.path, other(digit));
    EXPECT_EQ(lock.tryTake(), BuildLock::State::Taken) << digit;
  }
  for (size_t digit : {15, 63}) { // what the place of the lock has no room for
    BuildLock lock(systemFiles(), dir.path, other(digit));
    EXPECT_EQ(lock.tryTake(), BuildLock::State::Busy) << digit;
  }
}

TEST(BuildLock, F07ProcessesThatWaitCompileNothing) {
  TempDir dir;
  std::vector<pid_t> children;
  for (int i = 0; i < 32; ++i)
    children.push_back(startChild([&, i] {
      std::vector<std::string> warnings;
      KernelStore store(cacheAt(dir / "cache", &warnings), countingHook(dir / "builds", 30));
      for (int k = 0; k < 8; ++k)
        if (!store.prepare(request(std::to_string((i + k) % 8))))
          return 1;
      return warnings.empty() ? 0 : 2;
    }));
  for (pid_t child : children)
    EXPECT_TRUE(exitedWith(waitFor(child), 0));
  EXPECT_EQ(readBytes(dir / "builds"), "bbbbbbbb");
  EXPECT_EQ(listCache(dir / "cache").size(), 8u);
}

TEST(BuildLock, F07AKilledHolderFreesItsLock) {
  TempDir dir;
  pid_t holder = startHolder(dir.path, sampleImage("m"));
  BuildLock lock(systemFiles(), dir.path, sampleImage("m").key);
  EXPECT_EQ(lock.tryTake(), BuildLock::State::Busy);
  BuildLock other(systemFiles(), dir.path, sampleImage("another").key);
  EXPECT_EQ(other.tryTake(), BuildLock::State::Taken); // keys do not stand in each other's way
  std::thread killer([&] {
    usleep(100000);
    kill(holder, SIGKILL);
  });
  KernelStore store(cacheAt(dir.path), countingHook(dir / "builds", 0));
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(store.prepare(request("m"))->origin, ImageOrigin::Compiled);
  EXPECT_LT(secondsSince(begin), 10); // of the 120 that it would wait for a living one
  killer.join();
  waitFor(holder);
}

TEST(BuildLock, F07AChildForkedMeanwhileDoesNotKeepTheLock) {
  TempDir dir;
  pid_t child = 0;
  {
    BuildLock lock(systemFiles(), dir.path, sampleImage("m").key);
    ASSERT_EQ(lock.tryTake(), BuildLock::State::Taken);
    child = startChild([] { return raise(SIGSTOP); }); // has the open file from now on
  }
  BuildLock next(systemFiles(), dir.path, sampleImage("m").key);
  EXPECT_EQ(next.tryTake(), BuildLock::State::Taken);
  kill(child, SIGKILL);
  waitFor(child);
}

TEST(BuildLock, F07AStoppedHolderIsWaitedForOnlySoLong) {
  TempDir dir;
  pid_t holder = startHolder(dir.path, sampleImage("m"));
  std::vector<std::string> warnings;
  CacheOptions options = cacheAt(dir.path, &warnings);
  options.lockTimeout = std::chrono::milliseconds(200);
  KernelStore store(options, countingHook(dir / "builds", 0));
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(store.prepare(request("m"))->origin, ImageOrigin::Compiled);
  EXPECT_GE(secondsSince(begin), 0.2);
  EXPECT_LT(secondsSince(begin), 10);
  ASSERT_EQ(warnings.size(), 1u);
  EXPECT_NE(warnings[0].find("going on without it"), std::string::npos);
  kill(holder, SIGCONT);
  EXPECT_TRUE(exitedWith(waitFor(holder), 0));
}

TEST(BuildLock, F07WhoWaitsSaysForWhomAfterTwoSeconds) {
  TempDir dir;
  pid_t holder = startHolder(dir.path, sampleImage("m"));
  std::thread killer([&] {
    usleep(2500000);
    kill(holder, SIGKILL);
  });
  std::vector<std::string> warnings;
  KernelStore store(cacheAt(dir.path, &warnings), countingHook(dir / "builds", 0));
  EXPECT_EQ(store.prepare(request("m"))->origin, ImageOrigin::Compiled);
  killer.join();
  waitFor(holder);
  ASSERT_EQ(warnings.size(), 1u);
  const std::string expected = "waiting for process " + std::to_string(holder) + " on ";
  EXPECT_EQ(warnings[0].substr(0, expected.size()), expected) << warnings[0];
  EXPECT_NE(warnings[0].find("going on without it after 120 s"), std::string::npos) << warnings[0];
}

TEST(BuildLock, F07HoldersAreToldWhileTheyHold) {
  TempDir dir;
  const std::string key = sampleImage("m").key;
  BuildLock other(systemFiles(), dir.path, key);
  {
    BuildLock lock(systemFiles(), dir.path, key);
    ASSERT_EQ(lock.tryTake(), BuildLock::State::Taken);
    EXPECT_EQ(other.tryTake(), BuildLock::State::Busy);
    ASSERT_TRUE(other.holder());
    EXPECT_EQ(other.holder()->process, getpid());
    EXPECT_FALSE(other.holder()->isDead);
    BuildLock stranger(systemFiles(), dir.path, sampleImage("another").key);
    EXPECT_FALSE(stranger.holder());
  }
  EXPECT_FALSE(other.holder());
  // What anybody wrote into the file is shown as a name at most.
  for (const char *tail : {"", " ", "x", "-5 host", "0 host", "99999999999 host", "7"}) {
    std::string content(65536, '\0');
    BuildLock lock(systemFiles(), dir.path, key);
    ASSERT_EQ(lock.tryTake(), BuildLock::State::Taken);
    const std::string written = readBytes(dir / ".lock");
    const size_t line = written.find(' ') - 15; // the key's 15 digits
    const std::string text = written.substr(line, 16) + tail;
    content.replace(line, text.size(), text);
    writeBytes(dir / ".lock", content);
    EXPECT_FALSE(other.holder()) << tail;
  }
}

TEST(BuildLock, F07ADeadHolderWhoseChildHasItsLockIsNotWaitedFor) {
  TempDir dir;
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  pid_t holder = startChild([&] {
    BuildLock lock(systemFiles(), dir.path, sampleImage("m").key);
    if (lock.tryTake() != BuildLock::State::Taken)
      return 1;
    pid_t child = startChild([] { return raise(SIGSTOP); }); // has the open file
    (void)!write(ready[1], &child, sizeof(child));
    return raise(SIGKILL);
  });
  pid_t child = 0;
  ASSERT_EQ(read(ready[0], &child, sizeof(child)), ssize_t(sizeof(child)));
  waitFor(holder);
  std::vector<std::string> warnings;
  KernelStore store(cacheAt(dir.path, &warnings), countingHook(dir / "builds", 0));
  const auto begin = std::chrono::steady_clock::now();
  EXPECT_EQ(store.prepare(request("m"))->origin, ImageOrigin::Compiled);
  EXPECT_LT(secondsSince(begin), 30); // of the 120 that it would wait for a living one
  kill(child, SIGKILL);
}

TEST(BuildLock, F32AChildForkedDuringABuildBuildsForItself) {
  TempDir dir;
  std::atomic<bool> building{false}, childIsDone{false};
  const pid_t parent = getpid();
  CompileHook hook = countingHook(dir / "builds", 0);
  hook.build = [&, build = hook.build](const ProgramRequest &r) {
    building = true;
    while (getpid() == parent && !childIsDone)
      usleep(1000);
    return build(r);
  };
  KernelStore store(cacheAt(dir / "cache"), hook);
  std::thread builder([&] { EXPECT_TRUE(store.prepare(request("m"))); });
  std::thread waiter([&] { EXPECT_TRUE(store.prepare(request("m"))); });
  while (!building)
    usleep(1000);
  usleep(20000); // the second thread waits for the first by now
  pid_t child = startChild([&] {
    alarm(30); // a hang would end here, by signal
    for (int i = 0; i < 3; ++i)
      if (!store.prepare(request("m")) || !store.prepare(request("another")))
        return 1;
    KernelStore own(cacheAt(dir / "cache"), hook);
    return own.prepare(request("m"))->origin == ImageOrigin::Disk ? 0 : 2;
  });
  EXPECT_TRUE(exitedWith(waitFor(child), 0));
  childIsDone = true;
  builder.join();
  waiter.join();
  EXPECT_EQ(readBytes(dir / "builds"), "bbb"); // two of the child, one of the parent
}

TEST(BuildLock, F07WhoDoesNotWantToWaitIsToldAtOnce) {
  TempDir dir;
  pid_t holder = startHolder(dir.path, sampleImage("m"));
  Cache cache(cacheAt(dir.path));
  auto build = [] { return Result<ProgramImage>(sampleImage("m")); };
  EXPECT_FALSE(*cache.obtainUnlessBusy(sampleImage("m").key, build));
  kill(holder, SIGKILL);
  waitFor(holder);
  EXPECT_TRUE((*cache.obtainUnlessBusy(sampleImage("m").key, build))->built);
  EXPECT_FALSE((*cache.obtainUnlessBusy(sampleImage("m").key, build))->built);
}

/// A file system on which locks, or the file that holds them, give `code`.
struct LocklessFiles : Files {
  int code = 0, openCode = 0;
  int tryLock(int, off_t) override { return errno = code, -1; }
  int open(const char *path, int flags, mode_t mode) override {
    if (openCode && std::string(path).find("/.lock") != std::string::npos)
      return errno = openCode, -1;
    return Files::open(path, flags, mode);
  }
};

TEST(BuildLock, F07FileSystemsWithoutLocksCompileAtOnce) {
  for (int code : {ENOLCK, EINVAL, EOPNOTSUPP, ENOSYS, EIO, ESTALE}) {
    TempDir dir;
    LocklessFiles files;
    files.code = code;
    files.openCode = code == EIO ? EROFS : 0;
    std::vector<std::string> warnings;
    CacheOptions options = cacheAt(dir.path, &warnings);
    options.files = &files;
    KernelStore store(options, countingHook(dir / "builds", 0));
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_EQ(store.prepare(request("m"))->origin, ImageOrigin::Compiled) << code;
    EXPECT_LT(secondsSince(begin), 10);
    EXPECT_TRUE(warnings.empty()); // nothing is wrong, only slower
    EXPECT_TRUE(Cache(cacheAt(dir.path)).load(sampleImage("m").key));
  }
}

TEST(BuildLock, F07TwoStoresOfOneProcessShareABuild) {
  TempDir dir;
  std::atomic<int> compiled{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i)
    threads.emplace_back([&] {
      KernelStore store(cacheAt(dir.path), countingHook(dir / "builds", 50));
      compiled += store.prepare(request("m"))->origin == ImageOrigin::Compiled;
    });
  for (std::thread &thread : threads)
    thread.join();
  EXPECT_EQ(compiled, 1);
  EXPECT_EQ(readBytes(dir / "builds"), "b");
}

TEST(BuildLock, F07AFailedBuildFreesTheLockForTheNext) {
  TempDir dir;
  Cache cache(cacheAt(dir.path));
  const std::string key = sampleImage("m").key;
  EXPECT_FALSE(cache.obtain(
      key, [] { return Result<ProgramImage>(fail(ErrorKind::CompileFailed, "broken source")); }));
  EXPECT_TRUE(cache.obtain(key, [] { return Result<ProgramImage>(sampleImage("m")); })->built);
}

} // namespace

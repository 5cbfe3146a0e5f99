// From request to image: one build per key, no lock across a compile, failures that are not
// remembered (F05, F31).
#include "runtime/device/KernelStore.h"
#include "TestSupport.h"
#include <atomic>
#include <condition_variable>
#include <thread>

using namespace winnow;
using namespace winnow::test;

namespace {

ProgramRequest request(const std::string &method) {
  ProgramRequest request;
  request.method = method;
  request.arch = "sm_80";
  request.spec.valueDim = sampleImage().spec.valueDim;
  return request;
}

std::string keyOf(const ProgramRequest &request) { return sampleImage(request.method).key; }

TEST(KernelStore, MemoryThenDiskThenCompiler) {
  TempDir dir;
  CompileHook hook{
      [](const ProgramRequest &r) { return Result<std::string>(keyOf(r)); },
      [](const ProgramRequest &r) { return Result<ProgramImage>(sampleImage(r.method)); }};
  KernelStore first(cacheAt(dir.path), hook);
  EXPECT_EQ(first.prepare(request("m"))->origin, ImageOrigin::Compiled);
  EXPECT_EQ(first.prepare(request("m"))->origin, ImageOrigin::Memory);
  KernelStore second(cacheAt(dir.path), hook);
  Result<KernelStore::Found> old = second.prepare(request("m"));
  EXPECT_EQ(old->origin, ImageOrigin::Disk);
  EXPECT_EQ(second.counters().builds, 0u);
  second.discard(old->image);
  EXPECT_EQ(second.prepare(request("m"))->origin, ImageOrigin::Compiled);
  second.discard(old->image); // told late: what has been built since stays
  EXPECT_EQ(second.prepare(request("m"))->origin, ImageOrigin::Memory);
  EXPECT_EQ(listCache(dir.path).size(), 1u);
}

TEST(KernelStore, F31SixtyFourThreadsEightKeysEightBuilds) {
  TempDir dir;
  std::atomic<int> builds{0};
  KernelStore store(cacheAt(dir.path),
                    {[](const ProgramRequest &r) { return Result<std::string>(keyOf(r)); },
                     [&](const ProgramRequest &r) {
                       ++builds;
                       std::this_thread::sleep_for(std::chrono::milliseconds(20));
                       return Result<ProgramImage>(sampleImage(r.method));
                     }});
  std::atomic<int> right{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 64; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; i < 8; ++i) {
        const ProgramRequest wanted = request(std::to_string((t + i) % 8));
        Result<KernelStore::Found> found = store.prepare(wanted);
        right += found && found->image->key == keyOf(wanted);
      }
    });
  for (std::thread &thread : threads)
    thread.join();
  EXPECT_EQ(builds, 8);
  EXPECT_EQ(right, 64 * 8);
  EXPECT_EQ(store.counters().builds, 8u);
  EXPECT_EQ(store.counters().memoryHits, 64u * 8 - 8);
}

TEST(KernelStore, F31NoLockIsHeldWhileCompiling) {
  // Both builds must be under way at the same time before either may end.
  std::mutex mutex;
  std::condition_variable changed;
  int inside = 0;
  bool together = true;
  KernelStore store(cacheAt(""),
                    {[](const ProgramRequest &r) { return Result<std::string>(keyOf(r)); },
                     [&](const ProgramRequest &r) {
                       std::unique_lock<std::mutex> lock(mutex);
                       ++inside;
                       changed.notify_all();
                       together &= changed.wait_for(lock, std::chrono::seconds(30),
                                                    [&] { return inside == 2; });
                       return Result<ProgramImage>(sampleImage(r.method));
                     }});
  std::thread a([&] { EXPECT_TRUE(store.prepare(request("a"))); });
  std::thread b([&] { EXPECT_TRUE(store.prepare(request("b"))); });
  a.join();
  b.join();
  EXPECT_TRUE(together);
}

TEST(KernelStore, F05FailedBuildsAreToldToEveryWaiterAndTriedAgain) {
  TempDir dir;
  std::atomic<int> builds{0};
  KernelStore store(cacheAt(dir.path),
                    {[](const ProgramRequest &r) { return Result<std::string>(keyOf(r)); },
                     [&](const ProgramRequest &r) -> Result<ProgramImage> {
                       int build = builds++;
                       std::this_thread::sleep_for(std::chrono::milliseconds(50));
                       if (build == 0)
                         return fail(ErrorKind::CompileFailed, "broken source");
                       ProgramImage image = sampleImage(r.method);
                       if (build == 1)
                         image.kernels[0].cubin.clear();
                       return image;
                     }});
  std::atomic<int> failures{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 8; ++i)
    threads.emplace_back([&] {
      Result<KernelStore::Found> found = store.prepare(request("m"));
      failures += !found && found.error().message == "broken source";
    });
  for (std::thread &thread : threads)
    thread.join();
  EXPECT_GE(failures, 1);
  while (builds < 2) // all eight waited for the first build: the second is still to come
    EXPECT_FALSE(store.prepare(request("m")));
  Result<KernelStore::Found> fixed = store.prepare(request("m"));
  ASSERT_TRUE(fixed) << fixed.error().message;
  EXPECT_EQ(listCache(dir.path).size(), 1u);
}

TEST(KernelStore, AHookThatLiesOrThrowsIsAnError) {
  KernelStore lies(
      cacheAt(""),
      {[](const ProgramRequest &r) { return Result<std::string>(keyOf(r)); },
       [](const ProgramRequest &) { return Result<ProgramImage>(sampleImage("another")); }});
  EXPECT_NE(lies.prepare(request("m")).error().message.find("was asked for"), std::string::npos);
  KernelStore throws(
      cacheAt(""),
      {[](const ProgramRequest &r) { return Result<std::string>(keyOf(r)); },
       [](const ProgramRequest &) -> Result<ProgramImage> { throw std::runtime_error("oops"); }});
  EXPECT_EQ(throws.prepare(request("m")).error().message, "the compiler failed: oops");
  EXPECT_EQ(throws.prepare(request("m")).error().message, "the compiler failed: oops");
}

TEST(KernelStore, WithoutACompilerCachedProgramsAreFoundByWhatTheyAre) {
  TempDir dir;
  ASSERT_TRUE(Cache(cacheAt(dir.path)).store(sampleImage()));
  KernelStore store(cacheAt(dir.path));
  ProgramRequest wanted = request("sample");
  EXPECT_EQ(store.prepare(wanted)->origin, ImageOrigin::Disk);
  EXPECT_EQ(store.prepare(wanted)->origin, ImageOrigin::Memory);
  wanted.spec.params["window"] = "32"; // as built
  wanted.config.attendWarps = 8;
  EXPECT_TRUE(store.prepare(wanted));
  auto refused = [&](auto change) {
    ProgramRequest other = wanted;
    change(other);
    Result<KernelStore::Found> found = store.prepare(other);
    return !found && found.error().kind == ErrorKind::Unsupported;
  };
  EXPECT_TRUE(refused([](ProgramRequest &r) { r.method = "other"; }));
  EXPECT_TRUE(refused([](ProgramRequest &r) { r.arch = "sm_89"; }));
  EXPECT_TRUE(refused([](ProgramRequest &r) { r.spec.topk = 1; }));
  EXPECT_TRUE(refused([](ProgramRequest &r) { r.spec.valueDim = 0; }));
  EXPECT_TRUE(refused([](ProgramRequest &r) { r.spec.params["window"] = "64"; }));
  EXPECT_TRUE(refused([](ProgramRequest &r) { r.config.attendWarps = 4; }));
  store.seal(); // F16: one answer for whatever was not prepared
  EXPECT_TRUE(store.prepare(wanted));
  EXPECT_EQ(store.prepare(request("other")).error().kind, ErrorKind::NotReady);
}

TEST(KernelStore, F09WithoutACompilerUnnamedParametersAreTheDefaults) {
  TempDir dir;
  ProgramImage other = sampleImage("other");
  other.spec.params["local"] = "9";
  ASSERT_TRUE(Cache(cacheAt(dir.path)).store(other));
  KernelStore store(cacheAt(dir.path));
  EXPECT_FALSE(store.prepare(request("sample")));
  ProgramRequest named = request("sample");
  named.spec.params["local"] = "9";
  EXPECT_EQ(store.prepare(named)->image->key, other.key);
  EXPECT_FALSE(store.prepare(request("sample"))); // nor when it is in memory
  ASSERT_TRUE(Cache(cacheAt(dir.path)).store(sampleImage()));
  EXPECT_EQ(store.prepare(request("sample"))->image->key, sampleImage().key);
  named.spec.params["local"] = "4"; // its default, in words
  EXPECT_EQ(store.prepare(named)->image->key, sampleImage().key);
  named.spec.params["unheard_of"] = "1";
  EXPECT_FALSE(store.prepare(named));

  ProgramImage older = sampleImage("older"); // says nothing of its defaults
  older.method = "older", older.defaults.clear();
  ASSERT_TRUE(store.add(older));
  EXPECT_FALSE(store.prepare(request("older")));
  named = request("older");
  named.spec.params = older.spec.params;
  EXPECT_TRUE(store.prepare(named));
}

TEST(KernelStore, AddedImagesAreServed) {
  KernelStore store(cacheAt(""));
  ASSERT_TRUE(store.add(sampleImage()));
  EXPECT_TRUE(store.prepare(request("sample")));
  ProgramImage broken = sampleImage();
  broken.kernels.clear();
  EXPECT_FALSE(store.add(broken));
}

} // namespace

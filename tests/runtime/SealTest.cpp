// Engines that serve requests: a list prepared beforehand, then sealed, compiles nothing whatever
// comes (F16); prepare of what is ready costs no key (the second part of a warm start).
#include "FakeLibrary.h"
#include "TestSupport.h"
#include "runtime/Engine.h"
#include "runtime/device/CudaTypes.h"
#include <atomic>
#include <chrono>
#include <random>
#include <thread>

using namespace winnow;
using namespace winnow::test;

namespace {

class Seal : public testing::Test {
protected:
  void SetUp() override { resetFakeDriver(kFake); }

  std::unique_ptr<Engine> open(const std::string &directory) {
    EngineOptions options;
    options.cache = cacheAt(directory);
    options.driverPath = kFake;
    options.hook = hook();
    return std::move(*Engine::create(std::move(options)));
  }
  CompileHook hook() {
    return {[this](const ProgramRequest &r) {
              ++keys;
              return Result<std::string>(sampleImage(r.text()).key);
            },
            [this](const ProgramRequest &r) {
              ++builds;
              return Result<ProgramImage>(sampleImage(r.text()));
            }};
  }
  static ProgramRequest request(int topk) {
    ProgramRequest request;
    request.method = "m";
    request.spec.topk = topk;
    return request;
  }
  static std::vector<ProgramRequest> requests(int count) {
    std::vector<ProgramRequest> list;
    for (int i = 1; i <= count; ++i)
      list.push_back(request(i));
    return list;
  }

  TempDir dir;
  std::atomic<int> keys{0}, builds{0};
};

TEST_F(Seal, F16NothingIsCompiledOverRandomTrafficAfterPrepareAndSeal) {
  open(dir.path)->prepareAll(requests(8), 0); // what only the cache has later on
  auto engine = open(dir.path);
  for (const Result<Engine::Prepared> &prepared : engine->prepareAll(requests(4), 0))
    ASSERT_TRUE(prepared) << prepared.error().message;
  engine->seal();
  builds = 0;
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0}, refused{0};
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([&, t] {
      std::mt19937 random(t);
      for (int i = 0; i < 500; ++i) {
        const int topk = static_cast<int>(random() % 16) + 1;
        Result<Engine::Prepared> prepared = engine->prepare(request(topk), 0);
        if (topk <= 8 ? !prepared : prepared || prepared.error().kind != ErrorKind::NotReady)
          ++wrong;
        refused += !prepared;
      }
    });
  for (std::thread &thread : threads)
    thread.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(builds, 0);
  const KernelStore::Counters counts = engine->counters();
  EXPECT_EQ(counts.builds, 0u);
  EXPECT_EQ(counts.diskHits, 8u);
  EXPECT_EQ(counts.refused, static_cast<uint64_t>(refused));
  EXPECT_EQ(counts.memoryHits + counts.refused + counts.diskHits, 8u * 500 + 4);
  EXPECT_NE(engine->prepare(request(16), 0).error().message.find("sealed"), std::string::npos);
}

TEST_F(Seal, PrepareAllAnswersEachRequestInItsPlace) {
  auto engine = open(dir.path);
  std::vector<ProgramRequest> list = requests(20);
  list[7].arch = "sm_1";
  list.push_back(list[3]);
  std::vector<Result<Engine::Prepared>> prepared = engine->prepareAll(list, 0);
  ASSERT_EQ(prepared.size(), 21u);
  for (size_t i = 0; i < list.size(); ++i) {
    ProgramRequest named = list[i];
    named.arch = named.arch.empty() ? "sm_80" : named.arch;
    if (i != 7)
      EXPECT_EQ(prepared[i]->program->image().key, sampleImage(named.text()).key);
  }
  EXPECT_EQ(engine->counters().memoryHits, 1u);
  EXPECT_TRUE(engine->prepareAll({}, 0).empty());
}

TEST_F(Seal, PrepareAllKeepsExceptionsOffItsThreads) {
  EngineOptions options;
  options.cache = cacheAt("");
  options.driverPath = kFake;
  options.hook.key = [](const ProgramRequest &r) -> Result<std::string> {
    if (r.spec.topk % 2 == 0)
      throw std::runtime_error("oops");
    return sampleImage(r.text()).key;
  };
  options.hook.build = [](const ProgramRequest &r) {
    return Result<ProgramImage>(sampleImage(r.text()));
  };
  auto engine = std::move(*Engine::create(std::move(options)));
  std::vector<Result<Engine::Prepared>> prepared = engine->prepareAll(requests(16), 0);
  for (size_t i = 0; i < prepared.size(); ++i)
    if (i % 2 == 0)
      EXPECT_TRUE(prepared[i]);
    else
      EXPECT_EQ(prepared[i].error().message, "preparing m failed: oops");
}

TEST_F(Seal, F06ARefusedImageOfAReadOnlyLayerIsBuiltAgain) {
  ASSERT_TRUE(open(dir / "shared")->prepare(request(1), 0));
  for (bool writable : {true, false}) {
    EngineOptions options;
    options.cache = cacheAt(writable ? dir / "own" : "");
    options.cache.readOnly = {dir / "shared"};
    options.driverPath = kFake;
    options.hook = hook();
    auto engine = std::move(*Engine::create(std::move(options)));
    fakeDriver(kFake).failOnce["cuLibraryLoadData"] = cuda::kInvalidImage;
    Result<Engine::Prepared> prepared = engine->prepare(request(1), 0);
    ASSERT_TRUE(prepared) << prepared.error().message;
    EXPECT_EQ(prepared->origin, ImageOrigin::Compiled);
    EXPECT_EQ(listCache(dir / "shared").size(), 1u);
  }
  EXPECT_EQ(open(dir / "own")->prepare(request(1), 0)->origin, ImageOrigin::Disk);
  auto sealedEngine = open(dir / "own"); // cannot build it again: says both
  sealedEngine->seal();
  fakeDriver(kFake).failOnce["cuLibraryLoadData"] = cuda::kInvalidImage;
  const Error error = sealedEngine->prepare(request(1), 0).error();
  EXPECT_EQ(error.kind, ErrorKind::NotReady);
  EXPECT_NE(error.message.find("sealed"), std::string::npos);
  EXPECT_NE(error.message.find("was refused, loading kernel summarize"), std::string::npos)
      << error.message;
}

TEST_F(Seal, WhatIsReadyNeedsNoKey) {
  auto engine = open(dir.path);
  EXPECT_EQ(engine->prepare(request(1), 0)->origin, ImageOrigin::Compiled);
  const int before = keys;
  for (int i = 0; i < 100; ++i)
    EXPECT_EQ(engine->prepare(request(1), 0)->origin, ImageOrigin::Memory);
  EXPECT_EQ(keys, before);
  EXPECT_EQ(engine->counters().memoryHits, 100u);
}

TEST_F(Seal, F09AnEditedMethodFileIsAnotherProgram) {
  auto engine = open(dir.path);
  ProgramRequest wanted = request(1);
  wanted.method = dir / "method.mlir";
  writeBytes(wanted.method, "one");
  ASSERT_TRUE(engine->prepare(wanted, 0));
  ASSERT_TRUE(engine->prepare(wanted, 0));
  EXPECT_EQ(keys, 1);
  writeBytes(wanted.method, "another");
  ASSERT_TRUE(engine->prepare(wanted, 0));
  EXPECT_EQ(keys, 2);
}

} // namespace

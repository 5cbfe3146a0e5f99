// One engine, several GPUs: what was loaded, found or decided for one of them is no answer for
// another (F33).
#include "FakeLibrary.h"
#include "TestSupport.h"
#include "TunedSamples.h"
#include "runtime/Engine.h"

using namespace winnow;
using namespace winnow::test;

namespace {

class EngineDevices : public testing::Test {
protected:
  void SetUp() override {
    resetFakeDriver(kFake);
    fakeDriver(kFake).devices = {FakeDevice(), FakeDevice()};
    fakeDriver(kFake).devices[1].name = "Fake 40GB";
    fakeDriver(kFake).devices[0].name = "Fake 80GB";
  }
  std::unique_ptr<Engine> open() {
    EngineOptions options;
    options.cache = cacheAt(dir / "cache");
    options.driverPath = kFake;
    options.tuning.files = {dir / "tuned.jsonl"};
    options.tuning.shipped = false;
    options.hook = {
        [](const ProgramRequest &r) { return Result<std::string>(sampleImage(r.text()).key); },
        [](const ProgramRequest &r) { return Result<ProgramImage>(sampleImage(r.text())); }};
    return std::move(*Engine::create(std::move(options)));
  }
  static ProgramRequest request() {
    ProgramRequest request;
    request.method = "m";
    request.spec.valueDim = 64;
    return request;
  }
  /// Runs a program of `device` there: an empty batch, which launches nothing, is refused
  /// elsewhere.
  static void expectLoadedOn(Engine &engine, const Engine::Prepared &prepared, int device) {
    LaunchArgs args;
    args.cuQ = args.cuK = reinterpret_cast<const int *>(0x1000);
    for (int current : {0, 1}) {
      ASSERT_TRUE(engine.driver()->makeCurrent(current));
      EXPECT_EQ(static_cast<bool>(prepared.program->launch(args, nullptr, nullptr, 0)),
                current == device)
          << "prepared for GPU " << device << ", launched on " << current;
    }
  }

  TempDir dir;
};

TEST_F(EngineDevices, F33EachGpuGetsAProgramOfItsOwn) {
  auto engine = open();
  for (int device : {0, 1}) {
    EXPECT_FALSE(engine->find(request(), device)) << "nobody prepared it for GPU " << device;
    Result<Engine::Prepared> prepared = engine->prepare(request(), device);
    ASSERT_TRUE(prepared) << prepared.error().message;
    expectLoadedOn(*engine, *prepared, device);
    Result<Engine::Prepared> found = engine->find(request(), device);
    ASSERT_TRUE(found) << found.error().message;
    expectLoadedOn(*engine, *found, device);
  }
  for (int device : {0, 1}) // again, from memory
    expectLoadedOn(*engine, *engine->prepare(request(), device), device);
  EXPECT_EQ(engine->counters().builds, 1u);
}

TEST_F(EngineDevices, F33AnImageFromAFileIsFoundOnItsGpuAlone) {
  ASSERT_TRUE(saveImageFile(sampleImage(), dir / "file.winnow"));
  auto engine = open();
  Result<Engine::Prepared> prepared = engine->prepareImage(dir / "file.winnow", 1);
  ASSERT_TRUE(prepared) << prepared.error().message;
  expectLoadedOn(*engine, *prepared, 1);
  const ProgramImage &image = prepared->program->image();
  const ProgramRequest same{image.method, image.spec, image.config, image.arch};
  EXPECT_TRUE(engine->find(same, 1));
  EXPECT_FALSE(engine->find(same, 0));
  prepared = engine->prepareImage(dir / "file.winnow", 0);
  ASSERT_TRUE(prepared) << prepared.error().message;
  expectLoadedOn(*engine, *prepared, 0);
}

TEST_F(EngineDevices, F33EachGpuGetsItsOwnTunables) {
  std::string lines;
  for (auto [device, stages] : {std::pair("Fake 80GB", 3), {"Fake 40GB", 5}}) {
    TuningKey key = sampleKey();
    key.device = device;
    lines += recordLine(sampleRecord(key, stages)) + "\n";
  }
  writeBytes(dir / "tuned.jsonl", lines);
  auto engine = open();
  for (int round : {0, 1})
    for (auto [device, stages] : {std::pair(0, 3), {1, 5}}) {
      Result<Engine::Prepared> prepared = engine->prepare(request(), device);
      ASSERT_TRUE(prepared) << prepared.error().message;
      EXPECT_EQ(prepared->choice->attend.rung, Rung::Exact) << round << " on GPU " << device;
      EXPECT_EQ(prepared->choice->config.attendStages, stages) << round << " on GPU " << device;
    }
}

} // namespace

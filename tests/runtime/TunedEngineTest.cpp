// Tuned configurations on the way from request to program, on the fake driver: which rung a program
// says (F40), that bad ones never hurt (F13), few programs for many lengths (F17), decisions that
// travel between processes (F14), and that nothing is run meanwhile (F25).
#include "FakeLibrary.h"
#include "TestSupport.h"
#include "TunedSamples.h"
#include "runtime/Engine.h"
#include "runtime/device/Driver.h"
#include <atomic>
#include <map>
#include <random>

using namespace winnow;
using namespace winnow::test;

namespace {

ProgramRequest request(const std::string &method = "m") {
  ProgramRequest request;
  request.method = method;
  request.spec = sampleKey().spec;
  return request;
}

/// What a compiler makes of a request: tunables that are 0 get sampleImage's values.
ProgramImage imageOf(const ProgramRequest &request) {
  ProgramImage image = sampleImage(request.method + request.config.text());
  image.method = request.method;
  image.spec = request.spec;
  for (const Tunable &tunable : tunables())
    if (int asked = tunable.get(request.config))
      tunable.set(image.config, asked);
  return image;
}

class TunedEngine : public testing::Test {
protected:
  void SetUp() override { resetFakeDriver(kFake); }

  CompileHook hook() {
    return {[](const ProgramRequest &r) { return Result<std::string>(imageOf(r).key); },
            [this](const ProgramRequest &r) -> Result<ProgramImage> {
              ++builds;
              if (r.config.attendStages == failingStages)
                return fail(ErrorKind::CompileFailed, "out of registers");
              return imageOf(r);
            },
            [this](const ProgramRequest &r) -> Status {
              ++checks;
              if (r.config.attendStages == illegalStages)
                return fail(ErrorKind::Usage, "too many stages");
              return {};
            }};
  }
  EngineOptions options(bool compiler = true) {
    EngineOptions options;
    options.cache = cacheAt(cache);
    if (compiler)
      options.hook = hook();
    options.driverPath = kFake;
    options.tuning.shipped = false;
    options.tuning.files = {dir / "tuned.jsonl"};
    options.tuning.log = [this](const std::string &line) { log.push_back(line); };
    return options;
  }
  std::unique_ptr<Engine> open(EngineOptions options) {
    Result<std::unique_ptr<Engine>> engine = Engine::create(std::move(options));
    EXPECT_TRUE(engine) << engine.error().message;
    return engine ? std::move(*engine) : nullptr;
  }
  void write(const std::vector<TuningRecord> &records) {
    std::string text;
    for (const TuningRecord &record : records)
      text += recordLine(record) + "\n";
    writeBytes(dir / "tuned.jsonl", text);
  }

  TempDir dir;
  std::string cache = dir / "cache";
  std::vector<std::string> log;
  std::atomic<int> builds{0}, checks{0};
  int failingStages = -1, illegalStages = -1;
};

/// Only `winnow tune` measures, in processes of its own (Worker.h). In the host's process choosing
/// a configuration runs nothing and writes to no memory of the device, tuned or not.
TEST_F(TunedEngine, F25ChoosingAConfigurationTouchesNoTensorOfTheCaller) {
  write({sampleRecord(sampleKey(), 4)});
  auto driver = Driver::open(kFake);
  ASSERT_TRUE(driver);
  CUdeviceptr tensor = 0;
  constexpr size_t kBytes = 1 << 16;
  ASSERT_EQ((*driver)->api().cuMemAlloc_v2(&tensor, kBytes), 0);
  const std::vector<uint8_t> before(kBytes, 0x5a);
  ASSERT_EQ((*driver)->api().cuMemcpyHtoD_v2(tensor, before.data(), kBytes), 0);
  fakeDriver(kFake).calls.clear();
  auto engine = open(options());
  for (int64_t tokens : {0, 4096, 16384}) {
    ProgramRequest some = request();
    some.workload.tokens = tokens;
    ASSERT_TRUE(engine->prepare(some, 0));
  }
  EXPECT_GT(builds, 0);
  for (const auto &[function, count] : fakeDriver(kFake).calls)
    for (const char *writes : {"cuLaunch", "cuMemcpy", "cuMemset", "cuGraphLaunch"})
      EXPECT_NE(function.rfind(writes, 0), 0u) << function << ", " << count << " times";
  std::vector<uint8_t> after(kBytes);
  ASSERT_EQ((*driver)->api().cuMemcpyDtoH_v2(after.data(), tensor, kBytes), 0);
  EXPECT_EQ(after, before);
  EXPECT_EQ((*driver)->api().cuMemFree_v2(tensor), 0);
}

TEST_F(TunedEngine, F40ExactAnswersAreSilentAndFound) {
  write({sampleRecord(sampleKey("select"), 64), sampleRecord(sampleKey(), 4)});
  auto engine = open(options());
  EXPECT_EQ(engine->find(request(), 0).error().kind, ErrorKind::NotReady);
  Result<Engine::Prepared> prepared = engine->prepare(request(), 0);
  ASSERT_TRUE(prepared) << prepared.error().message;
  EXPECT_EQ(prepared->choice->select.rung, Rung::Exact);
  EXPECT_EQ(prepared->choice->attend.rung, Rung::Exact);
  EXPECT_EQ(prepared->program->image().config.attendStages, 4);
  EXPECT_EQ(prepared->program->image().config.scoreChunkMiB, 64);
  EXPECT_TRUE(log.empty()) << log[0];
  EXPECT_EQ(engine->find(request(), 0)->program, prepared->program);
  ProgramRequest known = request();
  known.workload = {100000, 30}; // the bucket that unknown stands for
  EXPECT_EQ(engine->find(known, 0)->program, prepared->program);
  known.workload = {2048, 0};
  EXPECT_FALSE(engine->find(known, 0));
}

TEST_F(TunedEngine, F40APagedProgramHasAnAnswerForItsBatch) {
  TuningKey many = sampleKey(kDecodePhase);
  many.batch = 256;
  write({sampleRecord(sampleKey("select"), 64), sampleRecord(sampleKey(), 4),
         sampleRecord(sampleKey(kDecodePhase), 3), sampleRecord(many, 6)});
  auto engine = open(options());
  ProgramRequest paged = request();
  paged.spec.paged = true;
  Result<Engine::Prepared> prepared = engine->prepare(paged, 0);
  ASSERT_TRUE(prepared) << prepared.error().message;
  ASSERT_TRUE(prepared->choice->decode);
  EXPECT_EQ(prepared->choice->decode->rung, Rung::Exact);
  EXPECT_EQ(shortText(prepared->choice->config),
            "attend_stages=4 score_chunk_mib=64 decode_stages=3");
  EXPECT_TRUE(log.empty()) << log[0];
  paged.workload.batch = 200;
  prepared = engine->prepare(paged, 0);
  ASSERT_TRUE(prepared);
  EXPECT_EQ(prepared->choice->config.decodeStages, 6);
  paged.workload.batch = 5;
  prepared = engine->prepare(paged, 0);
  ASSERT_TRUE(prepared);
  EXPECT_EQ(prepared->choice->decode->rung, Rung::Nearest);
  ASSERT_EQ(log.size(), 1u);
  EXPECT_NE(log[0].find("decode: nearest, measured on Fake 80GB for batch 16 instead of 4"),
            std::string::npos)
      << log[0];
  // Decisions tell of it, and are replayed.
  EngineOptions replaying = options();
  replaying.tuning.decisions = engine->decisions();
  replaying.tuning.replayOnly = true;
  paged.workload.batch = 200;
  prepared = open(std::move(replaying))->prepare(paged, 0);
  ASSERT_TRUE(prepared) << prepared.error().message;
  EXPECT_EQ(prepared->choice->decode->rung, Rung::Exact);
  EXPECT_EQ(prepared->choice->decode->config.decodeStages, 6);
  // Packed programs have no kernels of decode, and nothing to decide for them.
  prepared = engine->prepare(request(), 0);
  ASSERT_TRUE(prepared);
  EXPECT_FALSE(prepared->choice->decode);
  EXPECT_EQ(prepared->choice->config.decodeStages, 0);
}

TEST_F(TunedEngine, F40AProgramWithGradientsHasAnAnswerForThem) {
  write({sampleRecord(sampleKey("select"), 64), sampleRecord(sampleKey(), 4),
         sampleRecord(sampleKey(kBackwardPhase), 3)});
  auto engine = open(options());
  ProgramRequest training = request();
  training.spec.backward = true;
  Result<Engine::Prepared> prepared = engine->prepare(training, 0);
  ASSERT_TRUE(prepared) << prepared.error().message;
  ASSERT_TRUE(prepared->choice->backward);
  EXPECT_EQ(prepared->choice->backward->rung, Rung::Exact);
  EXPECT_EQ(shortText(prepared->choice->config),
            "attend_stages=4 score_chunk_mib=64 backward_key_stages=3");
  EXPECT_TRUE(log.empty()) << log[0];
  training.workload.overlap = 8;
  prepared = engine->prepare(training, 0);
  ASSERT_TRUE(prepared);
  EXPECT_EQ(prepared->choice->backward->rung, Rung::Nearest);
  ASSERT_EQ(log.size(), 1u);
  EXPECT_NE(log[0].find("backward: nearest, measured on Fake 80GB for overlap 32 instead of 8"),
            std::string::npos)
      << log[0];
  // Decisions tell of it, and are replayed.
  EngineOptions replaying = options();
  replaying.tuning.decisions = engine->decisions();
  replaying.tuning.replayOnly = true;
  prepared = open(std::move(replaying))->prepare(training, 0);
  ASSERT_TRUE(prepared) << prepared.error().message;
  EXPECT_EQ(prepared->choice->backward->rung, Rung::Nearest);
  EXPECT_EQ(prepared->choice->backward->config.backwardKeyStages, 3);
  // Other programs have nothing to decide for them.
  prepared = engine->prepare(request(), 0);
  ASSERT_TRUE(prepared);
  EXPECT_FALSE(prepared->choice->backward);
  EXPECT_EQ(prepared->choice->config.backwardKeyStages, 0);
}

TEST_F(TunedEngine, F40AnythingElseIsLoggedOnce) {
  TuningRecord near = sampleRecord(sampleKey(), 4);
  near.key.tokens = 16384;
  write({near});
  auto engine = open(options());
  for (int i = 0; i < 3; ++i)
    ASSERT_TRUE(engine->prepare(request(), 0));
  ASSERT_EQ(log.size(), 1u);
  EXPECT_NE(log[0].find("select: default, no tuned configuration is near enough [default]; attend: "
                        "nearest, measured on Fake 80GB for tokens 16384 instead of 131072"),
            std::string::npos)
      << log[0];
}

TEST_F(TunedEngine, F40GivenTunablesAreLeftAlonePerPhase) {
  write({sampleRecord(sampleKey("select"), 64), sampleRecord(sampleKey(), 4)});
  auto engine = open(options());
  ProgramRequest mine = request();
  mine.config.attendWarps = 4;
  Result<Engine::Prepared> prepared = engine->prepare(mine, 0);
  ASSERT_TRUE(prepared);
  EXPECT_EQ(prepared->choice->attend.rung, Rung::Given);
  EXPECT_EQ(prepared->choice->select.rung, Rung::Exact);
  EXPECT_EQ(shortText(prepared->choice->config), "attend_warps=4 score_chunk_mib=64");
  EngineOptions off = options();
  off.tuning.on = false;
  prepared = open(std::move(off))->prepare(request(), 0);
  EXPECT_EQ(prepared->choice->attend.rung, Rung::Default);
  EXPECT_EQ(shortText(prepared->choice->config), "default");
}

TEST_F(TunedEngine, F13IllegalConfigurationsAreIgnoredWithOneWarning) {
  write({sampleRecord(sampleKey(), 4)});
  illegalStages = 4;
  auto engine = open(options());
  ProgramRequest shorter = request();
  shorter.workload.tokens = 2048;
  for (int i = 0; i < 2; ++i)
    for (const ProgramRequest &one : {request(), shorter}) {
      Result<Engine::Prepared> prepared = engine->prepare(one, 0);
      ASSERT_TRUE(prepared);
      EXPECT_EQ(prepared->choice->attend.rung, Rung::Default);
    }
  EXPECT_EQ(std::count_if(log.begin(), log.end(),
                          [](const std::string &line) {
                            return line.find("is ignored: [attend_stages=4]") != std::string::npos;
                          }),
            1);
  // Per request the record's, and once the default to see whose fault it is: then it is built.
  EXPECT_EQ(checks, 3);
}

TEST_F(TunedEngine, F13AConfigurationThatDoesNotBuildGivesWayToTheDefault) {
  write({sampleRecord(sampleKey(), 4)});
  failingStages = 4;
  auto engine = open(options());
  Result<Engine::Prepared> prepared = engine->prepare(request(), 0);
  ASSERT_TRUE(prepared) << prepared.error().message;
  EXPECT_EQ(prepared->choice->attend.rung, Rung::Default);
  EXPECT_NE(prepared->choice->attend.why.find("out of registers"), std::string::npos);
  EXPECT_EQ(builds, 2);
  ASSERT_TRUE(engine->prepare(request(), 0));
  EXPECT_EQ(builds, 2);
}

TEST_F(TunedEngine, WithoutACompilerTheTunedImageIsPreferredAndAnyServes) {
  write({sampleRecord(sampleKey(), 4)});
  ProgramRequest tuned = request(), plain = request();
  tuned.config.attendStages = 4;
  Cache files(cacheAt(cache));
  ASSERT_TRUE(files.store(imageOf(plain)));
  {
    Result<Engine::Prepared> prepared = open(options(/*compiler=*/false))->prepare(request(), 0);
    ASSERT_TRUE(prepared) << prepared.error().message;
    EXPECT_EQ(prepared->program->image().config.attendStages, 3);
    EXPECT_EQ(prepared->choice->attend.rung, Rung::Default);
  }
  ASSERT_TRUE(files.store(imageOf(tuned)));
  ASSERT_TRUE(files.load(imageOf(plain).key)); // the more recently used one
  Result<Engine::Prepared> prepared = open(options(/*compiler=*/false))->prepare(request(), 0);
  ASSERT_TRUE(prepared);
  EXPECT_EQ(prepared->program->image().config.attendStages, 4);
  EXPECT_EQ(prepared->choice->attend.rung, Rung::Exact);
}

TEST_F(TunedEngine, ParametersLeftAtTheirDefaultsAreTheSameAsNamed) {
  TuningRecord left = sampleRecord(sampleKey(), 4), named = left;
  named.key.spec.params = {{"local", "17"}};
  named.config.attendStages = 2;
  write({left, named});
  EngineOptions knowing = options();
  knowing.hook.parameters =
      [](const std::string &method) -> Result<std::map<std::string, std::string>> {
    if (method != "m")
      return fail(ErrorKind::Usage, "no such method");
    return std::map<std::string, std::string>{{"local", "33"}, {"init", "1"}};
  };
  auto engine = open(std::move(knowing));
  for (auto [local, stages] : {std::pair("17", 2), {"33", 4}}) {
    ProgramRequest one = request();
    one.spec.params = {{"local", local}};
    Result<Engine::Prepared> prepared = engine->prepare(one, 0);
    ASSERT_TRUE(prepared);
    EXPECT_EQ(prepared->choice->attend.rung, Rung::Exact) << local;
    EXPECT_EQ(prepared->choice->config.attendStages, stages) << local;
  }
  EXPECT_EQ(engine->prepare(request(), 0)->choice->config.attendStages, 4);
}

TEST_F(TunedEngine, F17TenThousandLengthsMakeFewPrograms) {
  std::vector<TuningRecord> records;
  for (int tokens : {2048, 16384, 131072, 1048576}) {
    records.push_back(sampleRecord(sampleKey(), static_cast<int>(records.size()) + 2));
    records.back().key.tokens = tokens;
  }
  write(records);
  auto engine = open(options());
  std::mt19937 random(1);
  std::set<const void *> programs;
  for (int i = 0; i < 10000; ++i) {
    ProgramRequest one = request();
    one.workload = {1 + static_cast<int64_t>(random() % 4000000), static_cast<int>(random() % 200)};
    Result<Engine::Prepared> prepared = engine->prepare(one, 0);
    ASSERT_TRUE(prepared) << prepared.error().message;
    programs.insert(prepared->program.get());
    ASSERT_TRUE(engine->find(one, 0));
  }
  EXPECT_EQ(programs.size(), 4u);
  EXPECT_EQ(builds, 4);
  std::string decisions = engine->decisions();
  EXPECT_LE(std::count(decisions.begin(), decisions.end(), '\n'), 16); // 4 lengths, 4 overlaps
}

/// What a rank of its own says: digest of its decisions, or its error.
std::string rankSays(EngineOptions options, const std::string &answer,
                     const std::vector<ProgramRequest> &requests) {
  EXPECT_EQ(waitFor(startChild([&] {
              Result<std::unique_ptr<Engine>> engine = Engine::create(std::move(options));
              if (!engine)
                return 1;
              std::string words;
              for (const ProgramRequest &one : requests)
                if (Result<Engine::Prepared> prepared = (*engine)->prepare(one, 0); !prepared)
                  words += prepared.error().message + "\n";
              writeBytes(answer, words + sha256Hex((*engine)->decisions()));
              return 0;
            })),
            0);
  return readBytes(answer);
}

TEST_F(TunedEngine, F14TwoProcessesAfterImportDecideTheSame) {
  TuningRecord near = sampleRecord(sampleKey("select"), 64);
  near.key.tokens = 16384;
  write({sampleRecord(sampleKey(), 4), near});
  ProgramRequest shorter = request();
  shorter.workload.tokens = 2048;
  std::string decisions;
  {
    auto engine = open(options());
    ASSERT_TRUE(engine->prepare(shorter, 0));
    ASSERT_TRUE(engine->prepare(request(), 0));
    decisions = engine->decisions();
  }
  EXPECT_EQ(std::count(decisions.begin(), decisions.end(), '\n'), 2);
  // The ranks see other tuned files than the first process did: they must not look at them.
  write({sampleRecord(sampleKey(), 9)});
  for (const char *rank : {"rank0", "rank1"}) {
    EngineOptions replay = options();
    replay.tuning.decisions = decisions;
    replay.tuning.replayOnly = true;
    EXPECT_EQ(rankSays(std::move(replay), dir / rank, {request(), shorter}), sha256Hex(decisions));
  }
  EngineOptions replay = options();
  replay.tuning.decisions = decisions;
  replay.tuning.replayOnly = true;
  auto engine = open(std::move(replay));
  Result<Engine::Prepared> prepared = engine->prepare(request(), 0);
  ASSERT_TRUE(prepared);
  EXPECT_EQ(prepared->choice->attend.rung, Rung::Exact);
  EXPECT_EQ(prepared->choice->select.rung, Rung::Nearest);
  EXPECT_EQ(prepared->program->image().config.attendStages, 4);
  prepared = engine->prepare(request("unheard"), 0);
  ASSERT_FALSE(prepared);
  EXPECT_EQ(prepared.error().kind, ErrorKind::NotReady);
  EXPECT_NE(prepared.error().message.find("no decision for method=unheard"), std::string::npos);
}

TEST_F(TunedEngine, F14ReplayedDecisionsStandOrFail) {
  write({sampleRecord(sampleKey(), 4)});
  auto engine = open(options());
  ASSERT_TRUE(engine->prepare(request(), 0));
  EngineOptions replay = options();
  replay.cache = cacheAt("");
  replay.tuning.decisions = engine->decisions();
  replay.tuning.replayOnly = true;
  failingStages = 4; // one rank that fell back to the default would differ from the others
  EXPECT_EQ(open(std::move(replay))->prepare(request(), 0).error().message, "out of registers");
}

TEST_F(TunedEngine, F14BrokenDecisionsAreRefused) {
  write({sampleRecord(sampleKey(), 4)});
  auto engine = open(options());
  ASSERT_TRUE(engine->prepare(request(), 0));
  std::string whole = engine->decisions();
  for (size_t size = 1; size + 1 < whole.size(); ++size) {
    EngineOptions replay = options();
    replay.tuning.decisions = whole.substr(0, size);
    Result<std::unique_ptr<Engine>> refused = Engine::create(std::move(replay));
    ASSERT_FALSE(refused) << size;
    EXPECT_EQ(refused.error().message.rfind("decisions: line 1: ", 0), 0u);
  }
}

/// Lines about the very problem are looked at first; the answer must be the one among all lines.
TEST(ConfigChooser, ShortCutsAnswerLikeTheWholeDatabase) {
  std::mt19937 random(7);
  auto pick = [&](std::initializer_list<int> values) {
    return values.begin()[random() % values.size()];
  };
  const char *devices[] = {"GPU A", "GPU B", ""};
  auto randomKey = [&](bool wanted) {
    TuningKey key = sampleKey(random() % 2 ? "select" : "attend");
    key.device = devices[random() % (wanted ? 3 : 2)];
    key.spec.topk = pick({16, 96});
    key.spec.kvHeads = pick({1, 2, 8});
    key.tokens = pick({16384, 131072});
    key.overlap = key.phase == "attend" ? pick({1, 32}) : 0;
    if (random() % 8 == 0)
      key.spec.params["local"] = "7";
    return key;
  };
  std::map<Rung, int> rungs;
  for (int round = 0; round < 300; ++round) {
    TempDir dir;
    std::string text;
    TunedDatabase whole;
    for (int i = static_cast<int>(random() % 12); i >= 0; --i) {
      TuningRecord record = sampleRecord(randomKey(false), 2 + static_cast<int>(random() % 9));
      record.origin = random() % 2 ? "model" : "measured";
      record.effort = random() % 2 ? "quick" : "full";
      std::string line = recordLine(record);
      if (random() % 12 == 0) // as somebody may write it
        line.replace(line.find("\"tokens\":"), 9, "\"tokens\": ").insert(1, " ");
      text += line + "\n";
      whole.add(std::move(record));
    }
    writeBytes(dir / "tuned.jsonl", text);
    TuningOptions options;
    options.shipped = false;
    options.files = {dir / "tuned.jsonl"};
    auto chooser = ConfigChooser::create(options, {});
    ASSERT_TRUE(chooser);
    for (int i = 0; i < 8; ++i) {
      TuningKey key = randomKey(true);
      ProgramRequest asked;
      asked.method = key.method, asked.spec = key.spec, asked.arch = key.arch;
      asked.workload = {key.tokens, std::max(1, key.overlap)};
      Result<ChosenConfig> choice = (*chooser)->choose(asked, key.device);
      ASSERT_TRUE(choice);
      const TunedAnswer expected = lookUp(whole, key, {}, {});
      const TunedAnswer &got = key.phase == "select" ? choice->select : choice->attend;
      EXPECT_EQ(got.rung, expected.rung) << key.text() << "\n" << text;
      EXPECT_EQ(got.config.text(), expected.config.text()) << key.text() << "\n" << text;
      EXPECT_EQ(got.why, expected.why);
      rungs[got.rung]++;
    }
  }
  EXPECT_EQ(rungs.size(), 5u); // each of them, also none
}

} // namespace

// The C API on the fake driver, through the header alone: prepare, find, launch, errors, other
// versions of the structs (F06, F15, F16). CApiProcessTest.cpp has what concerns whole processes.
#include "CApiFixture.h"
#include "TunedSamples.h"
#include "runtime/device/CudaTypes.h"
#include "runtime/device/Driver.h"
#include <cstring>
#include <unistd.h>
#include <utility>

using namespace winnow;
using namespace winnow::test;

namespace {

TEST_F(CApi, PreparesFindsAndLaunches) {
  winnow_spec s = spec();
  s.params = "init=1,window=32";
  winnow_program *program = nullptr, *found = nullptr;
  winnow_origin origin{};
  EXPECT_EQ(winnow_find(engine, &s, 0, &found), WINNOW_NOT_READY);
  EXPECT_NE(std::string(winnow_last_error()).find("call prepare before launching"),
            std::string::npos);
  EXPECT_EQ(found, nullptr);
  ASSERT_EQ(winnow_prepare(engine, &s, 0, &program, &origin), WINNOW_OK) << winnow_last_error();
  EXPECT_STREQ(winnow_last_error(), "");
  EXPECT_EQ(origin, WINNOW_COMPILED);
  EXPECT_EQ(compiler.lastParams, "init=1,window=32");
  EXPECT_EQ(compiler.lastArch, "sm_80"); // that of the device
  EXPECT_EQ(winnow_program_select_heads(program), 2);
  EXPECT_EQ(std::string(winnow_program_key(program)), sampleImage("m").key);
  ASSERT_EQ(winnow_find(engine, &s, 0, &found), WINNOW_OK) << winnow_last_error();
  EXPECT_EQ(launch(found), WINNOW_OK) << winnow_last_error();
  EXPECT_EQ(fakeDriver(kFake).launches.size(), 4u);
  winnow_program_destroy(found);

  open(); // a new engine, as in a new process: from disk, and the program of the old one still
          // lives
  winnow_program *again = nullptr;
  ASSERT_EQ(winnow_prepare(engine, &s, 0, &again, &origin), WINNOW_OK);
  EXPECT_EQ(origin, WINNOW_FROM_DISK);
  EXPECT_EQ(compiler.builds, 1);
  EXPECT_EQ(launch(program), WINNOW_OK) << winnow_last_error();
  winnow_program_destroy(program);
  winnow_program_destroy(again);
}

TEST_F(CApi, TellsTheKernelsOfAnImage) {
  const ProgramImage image = sampleImage("m");
  const std::string bytes = *serializeImage(image);
  std::vector<std::pair<std::string, std::string>> told;
  auto sink = [](void *context, const winnow_kernel_code *kernel) {
    EXPECT_EQ(kernel->struct_size, sizeof(winnow_kernel_code));
    static_cast<decltype(told) *>(context)->emplace_back(
        std::string(kernel->name) + ": " + kernel->source,
        std::string(static_cast<const char *>(kernel->code), kernel->code_bytes));
  };
  ASSERT_EQ(winnow_image_kernels(bytes.data(), bytes.size(), sink, &told), WINNOW_OK)
      << winnow_last_error();
  ASSERT_EQ(told.size(), image.kernels.size());
  for (size_t i = 0; i < told.size(); ++i) {
    EXPECT_EQ(told[i].first, image.kernels[i].name + ": " + image.kernels[i].source);
    EXPECT_EQ(told[i].second, image.kernels[i].cubin);
  }
  told.clear();
  EXPECT_EQ(winnow_image_kernels(bytes.data(), bytes.size() - 1, sink, &told), WINNOW_INVALID);
  EXPECT_EQ(winnow_image_kernels(nullptr, 0, sink, &told), WINNOW_INVALID);
  EXPECT_EQ(winnow_image_kernels(bytes.data(), bytes.size(), nullptr, &told), WINNOW_INVALID);
  EXPECT_TRUE(told.empty());
}

TEST_F(CApi, F15F16LaunchNeverCompilesOrLoads) {
  winnow_spec s = spec();
  winnow_program *program = nullptr;
  ASSERT_EQ(winnow_prepare(engine, &s, 0, &program, nullptr), WINNOW_OK);
  fakeDriver(kFake).calls.clear();
  int keys = compiler.keys;
  for (int i = 0; i < 100; ++i) {
    winnow_program *found = nullptr;
    ASSERT_EQ(winnow_find(engine, &s, 0, &found), WINNOW_OK);
    ASSERT_EQ(launch(found), WINNOW_OK);
    winnow_program_destroy(found);
    winnow_spec cold = spec("cold");
    ASSERT_EQ(winnow_find(engine, &cold, 0, &found), WINNOW_NOT_READY);
  }
  const std::map<std::string, int> expected = {
      {"cuLaunchKernel", 400}, {"cuCtxGetDevice", 100}, {"cuTensorMapEncodeTiled", 100}};
  EXPECT_EQ(fakeDriver(kFake).calls, expected);
  EXPECT_EQ(compiler.keys, keys);
  EXPECT_EQ(compiler.builds, 1);
  winnow_program_destroy(program);
}

TEST_F(CApi, F15ACaptureOnAColdCacheSurvives) {
  winnow_spec s = spec(), cold = spec("cold");
  winnow_program *program = nullptr, *found = nullptr;
  ASSERT_EQ(winnow_prepare(engine, &s, 0, &program, nullptr), WINNOW_OK);
  auto driver = Driver::open(kFake);
  ASSERT_TRUE(driver);
  const DriverApi &api = (*driver)->api();
  CUstream stream = nullptr;
  CUgraph graph = nullptr;
  ASSERT_EQ(api.cuStreamCreate(&stream, 0), 0);
  fakeDriver(kFake).calls.clear();
  ASSERT_EQ(api.cuStreamBeginCapture_v2(stream, 0), 0);
  EXPECT_EQ(winnow_find(engine, &cold, 0, &found), WINNOW_NOT_READY);
  EXPECT_EQ(launch(program), WINNOW_OK) << winnow_last_error();
  EXPECT_EQ(winnow_find(engine, &cold, 0, &found), WINNOW_NOT_READY);
  ASSERT_EQ(api.cuStreamEndCapture(stream, &graph), 0);
  // Between begin and end there was nothing that a capture forbids: no load, no allocation.
  const std::map<std::string, int> expected = {{"cuStreamBeginCapture_v2", 1},
                                               {"cuStreamEndCapture", 1},
                                               {"cuLaunchKernel", 4},
                                               {"cuCtxGetDevice", 1},
                                               {"cuTensorMapEncodeTiled", 1}};
  EXPECT_EQ(fakeDriver(kFake).calls, expected);
  EXPECT_EQ(compiler.builds, 1);
  EXPECT_EQ(api.cuGraphDestroy(graph), 0);
  EXPECT_EQ(api.cuStreamDestroy_v2(stream), 0);
  winnow_program_destroy(program);
}

TEST_F(CApi, F16ListsAreSealedAndCounted) {
  winnow_spec specs[4] = {spec("a"), spec("b"), spec("c"), spec("a")};
  winnow_program *programs[4] = {};
  ASSERT_EQ(winnow_prepare_list(engine, specs, 4, 0, programs), WINNOW_OK) << winnow_last_error();
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(winnow_program_key(programs[i]), sampleImage(specs[i].method).key);
    winnow_program_destroy(programs[i]);
  }
  ASSERT_EQ(winnow_engine_seal(engine), WINNOW_OK);
  EXPECT_EQ(winnow_prepare_list(engine, specs, 4, 0, nullptr), WINNOW_OK);
  winnow_spec late = spec("late");
  winnow_program *program = nullptr;
  EXPECT_EQ(winnow_prepare(engine, &late, 0, &program, nullptr), WINNOW_NOT_READY);
  EXPECT_NE(std::string(winnow_last_error()).find("sealed"), std::string::npos);
  winnow_counters counters{};
  counters.struct_size = sizeof(counters);
  ASSERT_EQ(winnow_engine_counters(engine, &counters), WINNOW_OK);
  EXPECT_EQ(counters.builds, 3u);
  EXPECT_EQ(counters.refused, 1u);
  EXPECT_EQ(counters.memory_hits, 5u);
  struct {
    winnow_counters known;
    uint64_t added;
  } newer; // a newer caller's: what comes in does not count, what is not known goes out as 0
  std::memset(&newer, 0x77, sizeof(newer));
  newer.known.struct_size = sizeof(newer);
  ASSERT_EQ(winnow_engine_counters(engine, &newer.known), WINNOW_OK) << winnow_last_error();
  EXPECT_EQ(newer.known.struct_size, sizeof(newer));
  EXPECT_EQ(newer.known.builds, 3u);
  EXPECT_EQ(newer.added, 0u);
}

TEST_F(CApi, ListsNameTheSpecThatFailsAndPrepareTheOthers) {
  winnow_spec specs[3] = {spec("a"), spec("b"), spec("c")};
  winnow_program *programs[3] = {};
  compiler.broken = true;
  EXPECT_EQ(winnow_prepare_list(engine, specs, 3, 0, programs), WINNOW_COMPILE_FAILED);
  EXPECT_STREQ(winnow_last_error(), "specs[0]: line 3: no such op");
  compiler.broken = false;
  specs[1].heads = 31;
  EXPECT_EQ(winnow_prepare_list(engine, specs, 3, 0, programs), WINNOW_INVALID);
  EXPECT_STREQ(
      winnow_last_error(),
      "specs[1]: spec: 31 query heads cannot share 2 key/value heads evenly: heads must be "
      "a multiple of kv_heads");
  EXPECT_EQ(programs[1], nullptr);
  for (int i : {0, 2}) {
    ASSERT_NE(programs[i], nullptr) << i;
    EXPECT_EQ(winnow_program_key(programs[i]), sampleImage(specs[i].method).key);
    winnow_program_destroy(std::exchange(programs[i], nullptr));
  }
  specs[0].method = specs[2].method = "late";
  compiler.broken = true; // the first that failed is told, however it failed
  EXPECT_EQ(winnow_prepare_list(engine, specs, 3, 0, programs), WINNOW_COMPILE_FAILED);
  EXPECT_STREQ(winnow_last_error(), "specs[0]: line 3: no such op");
  compiler.broken = false;
  EXPECT_EQ(winnow_prepare_list(engine, nullptr, 3, 0, programs), WINNOW_INVALID);
  EXPECT_EQ(winnow_prepare_list(engine, nullptr, 0, 0, nullptr), WINNOW_OK);
  // The array has the steps of the caller's struct, here a newer and longer one.
  struct Newer {
    winnow_spec known;
    void *added;
  } newer[2] = {{spec("a"), nullptr}, {spec("b"), nullptr}};
  newer[0].known.struct_size = newer[1].known.struct_size = sizeof(Newer);
  ASSERT_EQ(winnow_prepare_list(engine, &newer[0].known, 2, 0, programs), WINNOW_OK)
      << winnow_last_error();
  EXPECT_EQ(winnow_program_key(programs[1]), sampleImage("b").key);
  for (winnow_program *program : programs)
    winnow_program_destroy(program);
}

TEST_F(CApi, ABundleInMemoryServesWithoutCacheOrCompiler) {
  const ProgramImage image = sampleImage();
  ASSERT_TRUE(writeBundle(systemFiles(), dir / "bundle", {{image.key, *serializeImage(image)}}));
  const std::string bytes = readBytes(dir / "bundle");
  winnow_engine_options options{};
  options.struct_size = sizeof(options);
  options.cache_dir = "";
  options.driver_path = kFake;
  options.bundle = bytes.data();
  options.bundle_bytes = bytes.size();
  winnow_engine *embedded = nullptr;
  ASSERT_EQ(winnow_engine_create(&options, &embedded), WINNOW_OK) << winnow_last_error();
  winnow_spec s = spec("sample");
  s.value_dim = image.spec.valueDim;
  winnow_program *program = nullptr;
  winnow_origin origin{};
  ASSERT_EQ(winnow_prepare(embedded, &s, 0, &program, &origin), WINNOW_OK) << winnow_last_error();
  EXPECT_EQ(origin, WINNOW_FROM_DISK);
  EXPECT_EQ(launch(program), WINNOW_OK) << winnow_last_error();
  winnow_program_destroy(program);
  winnow_engine_destroy(embedded);
}

TEST_F(CApi, F06AnImageThatTheDriverRefusesIsBuiltAgain) {
  winnow_spec s = spec();
  winnow_program *program = nullptr;
  ASSERT_EQ(winnow_prepare(engine, &s, 0, &program, nullptr), WINNOW_OK);
  winnow_program_destroy(program);
  open();
  winnow_origin origin{};
  fakeDriver(kFake).failOnce["cuLibraryLoadData"] = cuda::kInvalidImage;
  ASSERT_EQ(winnow_prepare(engine, &s, 0, &program, &origin), WINNOW_OK) << winnow_last_error();
  EXPECT_EQ(origin, WINNOW_COMPILED);
  EXPECT_EQ(compiler.builds, 2);
  winnow_program_destroy(program);
  open();
  fakeDriver(kFake).refuseImages = true; // also what was just compiled: an error, no endless loop
  EXPECT_EQ(winnow_prepare(engine, &s, 0, &program, nullptr), WINNOW_DEVICE_FAILED);
  EXPECT_EQ(compiler.builds, 3);
}

TEST_F(CApi, F06OnlyWhatTheImageIsBlamedForCostsItsEntry) {
  winnow_spec s = spec();
  winnow_program *program = nullptr;
  ASSERT_EQ(winnow_prepare(engine, &s, 0, &program, nullptr), WINNOW_OK);
  winnow_program_destroy(program);
  open();
  fakeDriver(kFake).failOnce["cuLibraryLoadData"] = cuda::kOutOfMemory;
  EXPECT_EQ(winnow_prepare(engine, &s, 0, &program, nullptr), WINNOW_DEVICE_FAILED);
  EXPECT_EQ(listCache(cache).size(), 1u);
  ASSERT_EQ(winnow_prepare(engine, &s, 0, &program, nullptr), WINNOW_OK) << winnow_last_error();
  EXPECT_EQ(compiler.builds, 1);
  winnow_program_destroy(program);
}

TEST_F(CApi, ImagesFromFiles) {
  ASSERT_TRUE(saveImageFile(sampleImage(), dir / "file.winnow"));
  winnow_program *program = nullptr;
  ASSERT_EQ(winnow_prepare_image(engine, (dir / "file.winnow").c_str(), 0, &program), WINNOW_OK)
      << winnow_last_error();
  EXPECT_EQ(launch(program), WINNOW_OK) << winnow_last_error();
  winnow_program_destroy(program);
  EXPECT_EQ(winnow_prepare_image(engine, (dir / "none").c_str(), 0, &program), WINNOW_INVALID);
  EXPECT_EQ(compiler.builds, 0);
}

TEST_F(CApi, BadArgumentsAreErrorsWithASentence) {
  winnow_program *program = nullptr;
  auto error = [&](auto change) {
    winnow_spec s = spec();
    change(s);
    EXPECT_EQ(winnow_prepare(engine, &s, 0, &program, nullptr), WINNOW_INVALID);
    return std::string(winnow_last_error());
  };
  EXPECT_EQ(error([](winnow_spec &s) { s.method = nullptr; }), "spec: method is null or empty");
  EXPECT_EQ(error([](winnow_spec &s) { s.heads = 31; }),
            "spec: 31 query heads cannot share 2 key/value heads evenly: heads must be "
            "a multiple of kv_heads");
  EXPECT_EQ(error([](winnow_spec &s) { s.kv_heads = 0; }),
            "spec: kv_heads must be a whole number from 1 to 32768, not 0");
  EXPECT_EQ(error([](winnow_spec &s) { s.dtype = 7; }), "spec: 7 is not a winnow_dtype");
  EXPECT_EQ(error([](winnow_spec &s) { s.params = "init"; }),
            "spec: params: 'init' is not NAME=VALUE");
  EXPECT_EQ(error([](winnow_spec &s) { s.params = "a=1,a=2"; }),
            "spec: params: 'a' is given twice");
  EXPECT_EQ(error([](winnow_spec &s) { s.value_dim = -64; }),
            "spec: value_dim must be a whole number from 0 to 32768, not -64");
  EXPECT_EQ(error([](winnow_spec &s) { s.expected_tokens = -1; }),
            "spec: expected_tokens, expected_overlap and expected_batch must not be negative");
  EXPECT_EQ(error([](winnow_spec &s) { s.expected_batch = -1; }),
            "spec: expected_tokens, expected_overlap and expected_batch must not be negative");
  EXPECT_NE(
      error([](winnow_spec &s) { s.config = "speed=11"; }).find("no tunable is called 'speed'"),
      std::string::npos);
  EXPECT_NE(error([](winnow_spec &s) { s.struct_size = 0; }).find("set it to sizeof the struct"),
            std::string::npos);
  EXPECT_EQ(winnow_prepare(nullptr, nullptr, 0, &program, nullptr), WINNOW_INVALID);
  EXPECT_EQ(winnow_prepare(engine, nullptr, 0, &program, nullptr), WINNOW_INVALID);
  EXPECT_STREQ(winnow_last_error(), "spec is null");
  winnow_spec s = spec();
  EXPECT_EQ(winnow_prepare(engine, &s, 5, &program, nullptr), WINNOW_INVALID);
  EXPECT_STREQ(winnow_last_error(), "there is no GPU 5; this machine has 0 to 0");
  EXPECT_EQ(winnow_launch(nullptr, nullptr, nullptr), WINNOW_INVALID);
  EXPECT_EQ(winnow_workspace_size(nullptr, nullptr, nullptr), WINNOW_INVALID);
  EXPECT_EQ(winnow_engine_create(nullptr, nullptr), WINNOW_INVALID);
  EXPECT_EQ(winnow_program_select_heads(nullptr), 0);
  winnow_program_destroy(nullptr);
  winnow_engine_destroy(nullptr);
  compiler.broken = true;
  EXPECT_EQ(winnow_prepare(engine, &s, 0, &program, nullptr), WINNOW_COMPILE_FAILED);
  EXPECT_STREQ(winnow_last_error(), "line 3: no such op");
}

TEST_F(CApi, StructsOfOtherVersions) {
  winnow_program *program = nullptr;
  winnow_spec older = spec();
  older.value_dim = older.expected_overlap = -1; // beyond what the first release's struct has
  older.struct_size = offsetof(winnow_spec, value_dim);
  ASSERT_EQ(winnow_prepare(engine, &older, 0, &program, nullptr), WINNOW_OK) << winnow_last_error();
  winnow_program_destroy(program);
  struct {
    winnow_spec known;
    void *added;
  } newer{spec(), nullptr};
  newer.known.struct_size = sizeof(newer);
  ASSERT_EQ(winnow_prepare(engine, &newer.known, 0, &program, nullptr), WINNOW_OK)
      << winnow_last_error();
  winnow_program_destroy(program);
  newer.added = &newer;
  EXPECT_EQ(winnow_prepare(engine, &newer.known, 0, &program, nullptr), WINNOW_UNSUPPORTED);
}

/// An engine whose tuned file holds one measurement of "m" on the fake GPU.
class TunedCApi : public CApi {
protected:
  void SetUp() override {
    CApi::SetUp();
    TuningKey key = sampleKey();
    key.spec.valueDim = 128;
    writeBytes(file, recordLine(sampleRecord(key, 4)));
    hook.check = [](void *user, const winnow_spec *request, winnow_sink sink,
                    void *context) -> int {
      std::string refusal = "no such stages";
      if (std::string(request->config).find("attend_stages=4") == std::string::npos ||
          !static_cast<SampleCompiler *>(user)->broken)
        return WINNOW_OK;
      sink(context, refusal.data(), refusal.size());
      return WINNOW_UNSUPPORTED;
    };
    options.struct_size = sizeof(options);
    options.cache_dir = cache.c_str();
    options.compiler = &hook;
    options.driver_path = kFake;
    options.tuned_files = file.c_str();
    options.log = [](void *user, const char *line) {
      static_cast<std::vector<std::string> *>(user)->emplace_back(line);
    };
    options.log_user = &log;
  }
  void reopen() {
    winnow_engine_destroy(engine);
    ASSERT_EQ(winnow_engine_create(&options, &engine), WINNOW_OK) << winnow_last_error();
  }
  winnow_rung rungOf(const winnow_spec &s, int32_t phase = WINNOW_ATTEND) {
    winnow_program *program = nullptr;
    EXPECT_EQ(winnow_prepare(engine, &s, 0, &program, nullptr), WINNOW_OK) << winnow_last_error();
    winnow_rung rung{};
    EXPECT_EQ(winnow_program_rung(program, phase, &rung), WINNOW_OK) << winnow_last_error();
    winnow_program_destroy(program);
    return rung;
  }

  winnow_phase_time timeOf(const winnow_spec &s, int32_t phase = WINNOW_ATTEND) {
    winnow_program *program = nullptr;
    EXPECT_EQ(winnow_prepare(engine, &s, 0, &program, nullptr), WINNOW_OK) << winnow_last_error();
    winnow_phase_time time{};
    time.struct_size = sizeof(time);
    EXPECT_EQ(winnow_program_time(program, phase, &time), WINNOW_OK) << winnow_last_error();
    winnow_program_destroy(program);
    return time;
  }

  std::string file = dir / "tuned.jsonl";
  winnow_compiler hook = compiler.interface();
  winnow_engine_options options{};
  std::vector<std::string> log;
};

TEST_F(TunedCApi, AProgramKnowsTheTimeOfARecordOfItsOwnProblemAlone) {
  TuningKey key = sampleKey();
  key.spec.valueDim = 128;
  TuningRecord record = sampleRecord(key, 4);
  for (const char *origin : {"measured", "model"}) {
    record.origin = origin;
    writeBytes(file, recordLine(record));
    reopen();
    winnow_spec s = spec();
    const winnow_phase_time time = timeOf(s);
    EXPECT_DOUBLE_EQ(time.microseconds, record.ms * 1000);
    EXPECT_EQ(time.tokens, record.key.tokens);
    EXPECT_EQ(time.batch, 1);
    EXPECT_EQ(time.modelled, record.origin == "model");
    EXPECT_EQ(timeOf(s, WINNOW_SELECT).microseconds, 0); // no record
    s.expected_tokens = 2048;                            // the nearest is of another length
    EXPECT_EQ(timeOf(s).microseconds, 0);
  }
  auto onlyRecord = [&](const char *phase, double ms) {
    TuningRecord only = sampleRecord(sampleKey(phase), 3);
    only.key.spec.valueDim = 128;
    only.ms = ms;
    writeBytes(file, recordLine(only));
    reopen();
  };
  onlyRecord(kBackwardPhase, 7);
  winnow_spec training = spec();
  training.backward = 1;
  EXPECT_EQ(rungOf(training, WINNOW_BACKWARD), WINNOW_TUNED_EXACT);
  EXPECT_DOUBLE_EQ(timeOf(training, WINNOW_BACKWARD).microseconds, 7000);
  onlyRecord(kDecodePhase, 0.05);
  winnow_spec serving = spec();
  serving.paged = 1, serving.expected_batch = 13; // 16 is the nearest that is told apart
  EXPECT_EQ(rungOf(serving, WINNOW_DECODE), WINNOW_TUNED_EXACT);
  const winnow_phase_time step = timeOf(serving, WINNOW_DECODE);
  EXPECT_DOUBLE_EQ(step.microseconds, 50);
  EXPECT_EQ(step.tokens, 131072);
  EXPECT_EQ(step.batch, 16);
  record.key.device = "Another GPU";
  record.origin = "measured";
  writeBytes(file, recordLine(record));
  reopen();
  EXPECT_EQ(rungOf(spec()), WINNOW_TUNED_OTHER_DEVICE);
  EXPECT_EQ(timeOf(spec()).microseconds, 0);
  winnow_phase_time time{};
  EXPECT_EQ(winnow_program_time(nullptr, WINNOW_ATTEND, &time), WINNOW_INVALID); // no struct_size
  time.struct_size = sizeof(time);
  EXPECT_EQ(winnow_program_time(nullptr, WINNOW_ATTEND, &time), WINNOW_INVALID);
}

TEST_F(TunedCApi, F40ProgramsSayWhereTheirTunablesComeFrom) {
  reopen();
  winnow_spec s = spec();
  EXPECT_EQ(rungOf(s), WINNOW_TUNED_EXACT);
  s.expected_tokens = 2048;
  EXPECT_EQ(rungOf(s), WINNOW_TUNED_NEAREST);
  EXPECT_EQ(log.size(), 2u); // the selection's default, and the second attention
  s.config = "attend_stages=2";
  EXPECT_EQ(rungOf(s), WINNOW_TUNED_GIVEN);
  winnow_program *found = nullptr;
  ASSERT_EQ(winnow_find(engine, &s, 0, &found), WINNOW_OK);
  EXPECT_EQ(winnow_program_config(found), sampleImage().config.text());
  winnow_rung rung{};
  EXPECT_EQ(winnow_program_rung(found, WINNOW_ALL, &rung), WINNOW_INVALID);
  EXPECT_EQ(winnow_program_rung(found, WINNOW_BACKWARD, &rung), WINNOW_INVALID); // has none
  EXPECT_EQ(winnow_program_rung(found, WINNOW_DECODE, &rung), WINNOW_INVALID);   // likewise
  EXPECT_EQ(winnow_program_rung(nullptr, WINNOW_ATTEND, &rung), WINNOW_INVALID);
  winnow_program_destroy(found);
  options.no_tuning = 1;
  reopen();
  EXPECT_EQ(rungOf(spec()), WINNOW_TUNED_DEFAULT);
}

TEST_F(TunedCApi, F13TheCallersCheckDecides) {
  compiler.broken = true;
  reopen();
  winnow_spec s = spec();
  winnow_program *program = nullptr;
  EXPECT_EQ(winnow_prepare(engine, &s, 0, &program, nullptr), WINNOW_COMPILE_FAILED);
  ASSERT_EQ(log.size(), 1u);
  EXPECT_NE(log[0].find("no such stages"), std::string::npos) << log[0];
}

TEST_F(TunedCApi, F14DecisionsTravelAsText) {
  reopen();
  EXPECT_EQ(rungOf(spec()), WINNOW_TUNED_EXACT);
  std::string decisions, again;
  winnow_sink sink = [](void *context, const void *data, size_t size) {
    static_cast<std::string *>(context)->assign(static_cast<const char *>(data), size);
  };
  ASSERT_EQ(winnow_engine_export_decisions(engine, sink, &decisions), WINNOW_OK);
  EXPECT_EQ(winnow_engine_export_decisions(engine, nullptr, nullptr), WINNOW_INVALID);
  options.tuned_files = "";
  options.decisions = decisions.c_str();
  options.replay_only = 1;
  reopen();
  EXPECT_EQ(rungOf(spec()), WINNOW_TUNED_EXACT);
  winnow_spec other = spec("other");
  winnow_program *program = nullptr;
  EXPECT_EQ(winnow_prepare(engine, &other, 0, &program, nullptr), WINNOW_NOT_READY);
  ASSERT_EQ(winnow_engine_export_decisions(engine, sink, &again), WINNOW_OK);
  EXPECT_EQ(again, decisions);
}

} // namespace

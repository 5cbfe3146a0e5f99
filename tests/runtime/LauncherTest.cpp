// Launching on the fake driver: which kernels, with which grids, chunks and parameters, and what is
// refused beforehand.
#include "LaunchFixture.h"

using namespace winnow;
using namespace winnow::test;

namespace {

class LauncherTest : public LaunchFixture {
protected:
  void SetUp() override {
    LaunchFixture::SetUp();
    load(sampleImage());
  }

  static LaunchArgs arguments(Shape shape) {
    LaunchArgs args;
    args.q = address(1), args.k = address(2), args.v = address(3), args.out = address(4);
    args.lse = address<float>(5), args.ids = address<int>(6);
    args.cuQ = address<const int>(7), args.cuK = address<const int>(8);
    args.shape = shape;
    return args;
  }

  std::vector<std::string> launched() const {
    std::vector<std::string> names;
    for (const FakeLaunch &launch : fakeDriver(kFake).launches)
      names.push_back(launch.kernel);
    return names;
  }
};

TEST_F(LauncherTest, TensorMapsDescribeTheCall) {
  Shape shape;
  shape.totalQ = shape.totalK = shape.maxQ = shape.maxK = 1000;
  ASSERT_TRUE(launch(arguments(shape)));
  const unsigned long long *map = fakeDriver(kFake).launches.at(0).params.map[0].words;
  const unsigned long long expected[] = {
      cuda::kTensorBfloat16, 3, 0x20000, 128, 256, 64, 2, 512, 1, 1000, 0, 64};
  for (size_t i = 0; i < std::size(expected); ++i)
    EXPECT_EQ(map[i], expected[i]) << "word " << i;
  // Selection alone reads no values; a tensor that the call does not have is not described.
  LaunchArgs args = arguments(shape);
  args.k = nullptr;
  EXPECT_NE(launchError(args).find("k is null"), std::string::npos);
}

TEST_F(LauncherTest, ADriverThatRefusesATensorMapIsNamed) {
  Shape shape;
  shape.totalQ = shape.totalK = shape.maxQ = shape.maxK = 1000;
  fakeDriver(kFake).failOnce["cuTensorMapEncodeTiled"] = 1;
  EXPECT_NE(launchError(arguments(shape)).find("describing tensor k"), std::string::npos);
}

TEST_F(LauncherTest, LoadSetsAttributesAndLoadsEagerly) {
  const FakeState &fake = fakeDriver(kFake);
  EXPECT_EQ(fake.dynamicShared.at({"attend", 0}), 98304);
  EXPECT_EQ(fake.dynamicShared.at({"top_k", 0}), 0);
  EXPECT_EQ(fake.calls.at("cuFuncLoad"),
            4); // F15: nothing is left to be loaded by the first launch
  EXPECT_EQ(fake.liveLibraries, 4);
  program.reset();
  EXPECT_EQ(fake.liveLibraries, 0);
}

TEST_F(LauncherTest, OneChunkWhereTheWorkspaceHoldsAllTokens) {
  // max_k 4096: 64 scores a row, 2048 tokens a chunk of 1 MiB
  const Shape shape{2, 1000, 5000, 600, 4096};
  ASSERT_TRUE(launch(arguments(shape)));
  EXPECT_EQ(launched(), (std::vector<std::string>{"summarize", "score", "top_k", "attend"}));
  const FakeLaunch &score = fakeDriver(kFake).launches[1], &attend = fakeDriver(kFake).launches[3];
  EXPECT_EQ(score.gridX, 63u);
  EXPECT_EQ(score.gridY, 2u);
  EXPECT_EQ(score.gridZ, 1u);
  EXPECT_EQ(score.blockX, 128u);
  EXPECT_EQ(score.sharedBytes, 65536u);
  EXPECT_EQ(score.stream, address(9));
  EXPECT_EQ(attend.gridX, 125u);
  EXPECT_EQ(attend.sharedBytes, 98304u);

  const Params &p = attend.params;
  EXPECT_EQ(p.q, address(1));
  EXPECT_EQ(p.k, address(2));
  EXPECT_EQ(p.v, address(3));
  EXPECT_EQ(p.out, address(4));
  EXPECT_EQ(p.lse, address(5));
  EXPECT_EQ(p.ids, address(6));
  EXPECT_EQ(p.cu_q, address(7));
  EXPECT_EQ(p.cu_k, address(8));
  EXPECT_EQ(p.batch, 2);
  EXPECT_EQ(p.total_q, 1000);
  EXPECT_EQ(p.total_k, 5000);
  EXPECT_EQ(p.max_q, 600);
  EXPECT_EQ(p.max_k, 4096);
  EXPECT_EQ(p.token_begin, 0);
  EXPECT_EQ(p.token_end, 1000);
  EXPECT_EQ(p.score_stride, 64);
  char *workspace = address<char>(100);
  EXPECT_EQ(p.buffer[0], workspace);
  EXPECT_EQ(p.buffer[1], workspace + 5000 * 32); // already a multiple of 256
  EXPECT_EQ(p.buffer[2], nullptr);
}

TEST_F(LauncherTest, EachShapeHasItsOwnPlan) {
  for (const int tokens : {1000, 1000, 600, 1000}) {
    fakeDriver(kFake).launches.clear();
    ASSERT_TRUE(launch(arguments({2, tokens, 5000, 600, 4096})));
    EXPECT_EQ(fakeDriver(kFake).launches[1].gridX, (tokens + 15) / 16u);
    EXPECT_EQ(fakeDriver(kFake).launches[3].params.total_q, tokens);
  }
}

TEST_F(LauncherTest, RowsThatNoTopKKernelHoldsAreRefused) {
  ProgramImage image = sampleImage();
  image.kernels[2].when = "max_k <= 4096";
  load(image);
  EXPECT_TRUE(launch(arguments({1, 1, 4096, 1, 4096})));
  Status status = launch(arguments({1, 1, 4097, 1, 4097}));
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().kind, ErrorKind::Unsupported);
  EXPECT_NE(status.error().message.find("4097 keys have more blocks of 64"), std::string::npos);
}

TEST_F(LauncherTest, ChunksAlternateScoreAndTopK) {
  // max_k 65536: 1024 scores a row, 128 tokens a chunk
  const Shape shape{1, 300, 65536, 300, 65536};
  ASSERT_TRUE(launch(arguments(shape)));
  EXPECT_EQ(launched(), (std::vector<std::string>{"summarize", "score", "top_k", "score", "top_k",
                                                  "score", "top_k", "attend"}));
  const auto &launches = fakeDriver(kFake).launches;
  const int begins[] = {0, 128, 256}, ends[] = {128, 256, 300};
  for (int chunk = 0; chunk < 3; ++chunk)
    for (int kernel = 0; kernel < 2; ++kernel) {
      const FakeLaunch &launch = launches[1 + 2 * chunk + kernel];
      EXPECT_EQ(launch.params.token_begin, begins[chunk]);
      EXPECT_EQ(launch.params.token_end, ends[chunk]);
      EXPECT_EQ(launch.gridX,
                (ends[chunk] - begins[chunk] + (kernel ? 3 : 15)) / (kernel ? 4u : 16u));
    }
  EXPECT_EQ(launches.back().params.token_end, 300);
}

TEST_F(LauncherTest, WorkspaceIsTheAlignedSumOfTheBuffers) {
  EXPECT_EQ(*program->workspaceSize({1, 300, 65536, 300, 65536}), 65536u * 32 + 128 * 1024 * 8);
  EXPECT_EQ(*program->workspaceSize({1, 1, 1, 1, 1}),
            512u); // 32 and 8 bytes, each rounded up to 256
  EXPECT_EQ(*program->workspaceSize({1, 0, 0, 0, 0}), 0u);
}

TEST_F(LauncherTest, ConditionsAndEmptyGridsLaunchNothing) {
  ASSERT_TRUE(launch(arguments({1, 20, 20, 20, 20}))); // max_k < 32: summarize is not wanted
  EXPECT_EQ(launched(), (std::vector<std::string>{"score", "top_k", "attend"}));
  ASSERT_TRUE(launch(arguments({4, 0, 0, 0, 0})));
  EXPECT_TRUE(launched().empty());
  ProgramImage image = sampleImage();
  image.kernels[1].gridX = "total_q / 1000";
  load(image);
  ASSERT_TRUE(launch(arguments({1, 100, 100, 100, 100})));
  EXPECT_EQ(launched(), (std::vector<std::string>{"summarize", "top_k", "attend"}));
}

TEST_F(LauncherTest, Phases) {
  LaunchArgs args = arguments({1, 64, 64, 64, 64});
  args.phase = Phase::Select;
  args.v = args.out = nullptr; // not needed to select
  args.lse = nullptr;
  ASSERT_TRUE(launch(args));
  EXPECT_EQ(launched(), (std::vector<std::string>{"summarize", "score", "top_k"}));
  args = arguments({1, 64, 64, 64, 64});
  args.phase = Phase::Attend;
  ASSERT_TRUE(launch(args));
  EXPECT_EQ(launched(), std::vector<std::string>{"attend"});
}

TEST_F(LauncherTest, TinyChunkFormulaStillMakesProgress) {
  ProgramImage image = sampleImage();
  image.chunkTokens = "0";
  load(image);
  ASSERT_TRUE(launch(arguments({1, 3, 64, 3, 64})));
  EXPECT_EQ(launched().size(), 1 + 3 * 2 + 1u);
}

TEST_F(LauncherTest, LaunchOnlyEnqueues) {
  const LaunchArgs args = arguments({1, 300, 65536, 300, 65536});
  ASSERT_TRUE(launch(args));
  fakeDriver(kFake).calls.clear();
  ASSERT_TRUE(launch(args));
  const std::map<std::string, int> expected = {
      {"cuLaunchKernel", 8}, {"cuCtxGetDevice", 1}, {"cuTensorMapEncodeTiled", 1}};
  EXPECT_EQ(fakeDriver(kFake).calls, expected); // no allocation, synchronisation, copy or load
}

TEST_F(LauncherTest, EarlyKernelsStartEarlyBehindTheFirst) {
  ProgramImage image = sampleImage();
  for (Kernel &kernel : image.kernels)
    kernel.early = kernel.name != "score";
  load(image);
  auto early = [&] {
    std::string text;
    for (const FakeLaunch &launch : fakeDriver(kFake).launches)
      text += launch.kernel + (launch.early ? " early, " : ", ");
    return text;
  };
  LaunchArgs args = arguments({1, 64, 4096, 64, 4096});
  for (int turn = 0; turn < 2; ++turn) { // what was launched before belongs to another launch
    ASSERT_TRUE(launch(args));
    EXPECT_EQ(early(), "summarize, score, top_k early, attend early, ");
  }
  args.phase = Phase::Attend;
  ASSERT_TRUE(launch(args));
  EXPECT_EQ(early(), "attend, ");
}

TEST_F(LauncherTest, ClustersAreAsLargeAsTheGpuHoldsThem) {
  ProgramImage image = sampleImage();
  for (Kernel &kernel : image.kernels)
    if (kernel.name == "attend")
      kernel.inClusters = kernel.early = true, kernel.gridX = "32 * batch";
  image.cluster = "min(cluster_limit, 16)";
  for (const auto &[most, size] : {std::pair(16, 16u), {8, 8u}, {7, 4u}, {1, 1u}}) {
    fakeDriver(kFake).clusterLimit = most;
    load(image);
    ASSERT_TRUE(launch(arguments({1, 64, 4096, 64, 4096})));
    for (const FakeLaunch &launch : fakeDriver(kFake).launches) {
      EXPECT_EQ(launch.cluster, launch.kernel == "attend" ? size : 1u) << launch.kernel << most;
      EXPECT_EQ(launch.early, launch.kernel == "attend") << launch.kernel;
    }
  }
}

TEST_F(LauncherTest, ClustersThatDoNotDivideTheGridAreRefused) {
  ProgramImage image = sampleImage();
  image.cluster = "4", image.kernels.back().inClusters = true, image.kernels.back().gridX = "6";
  load(image);
  Status status = launch(arguments({1, 64, 4096, 64, 4096}));
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().message, "launching " + image.kernels.back().name +
                                        ": 6 blocks in clusters of 4 cannot be launched");
}

TEST_F(LauncherTest, WithoutClustersTheirLimitIsZero) {
  ProgramImage image = sampleImage();
  for (Kernel &kernel : image.kernels)
    kernel.when = "cluster_limit == 0";
  load(image); // no kernel asks for them
  ASSERT_TRUE(launch(arguments({1, 64, 4096, 64, 4096})));
  EXPECT_EQ(fakeDriver(kFake).launches.size(), image.kernels.size());
}

TEST_F(LauncherTest, ObserverSeesEveryKernel) {
  std::vector<std::string> seen;
  LaunchArgs args = arguments({1, 300, 65536, 300, 65536});
  ASSERT_TRUE(program->launch(
      args, nullptr, address(100), *program->workspaceSize(args.shape),
      [](void *user, const Kernel &kernel, int chunk, CUstream) {
        static_cast<std::vector<std::string> *>(user)->push_back(kernel.name +
                                                                 std::to_string(chunk));
      },
      &seen));
  EXPECT_EQ(seen, (std::vector<std::string>{"summarize0", "score0", "top_k0", "score1", "top_k1",
                                            "score2", "top_k2", "attend0"}));
}

TEST_F(LauncherTest, BadArgumentsAreRefusedBeforeAnyLaunch) {
  const Shape shape{1, 64, 64, 64, 64};
  auto error = [&](auto change) {
    LaunchArgs args = arguments(shape);
    change(args);
    return launchError(args);
  };
  EXPECT_EQ(error([](LaunchArgs &a) { a.q = nullptr; }), "launch: q is null");
  EXPECT_EQ(error([](LaunchArgs &a) { a.k = nullptr; }), "launch: k is null");
  EXPECT_EQ(error([](LaunchArgs &a) { a.v = nullptr; }), "launch: v is null");
  EXPECT_EQ(error([](LaunchArgs &a) { a.out = nullptr; }), "launch: out is null");
  EXPECT_EQ(error([](LaunchArgs &a) { a.ids = nullptr; }), "launch: ids is null");
  EXPECT_EQ(error([](LaunchArgs &a) { a.cuQ = nullptr; }), "launch: cu_q is null");
  EXPECT_EQ(error([](LaunchArgs &a) { a.cuK = nullptr; }), "launch: cu_k is null");
  EXPECT_EQ(error([](LaunchArgs &a) { a.q = static_cast<const char *>(a.q) + 8; }),
            "launch: q is not aligned to 16 bytes");
  EXPECT_EQ(error([](LaunchArgs &a) { a.lse = reinterpret_cast<float *>(0x10002); }),
            "launch: lse is not aligned to 4 bytes");
  const LaunchArgs args = arguments(shape);
  size_t bytes = *program->workspaceSize(shape);
  EXPECT_NE(program->launch(args, nullptr, address(100), bytes - 1)
                .error()
                .message.find("this shape needs"),
            std::string::npos);
  EXPECT_NE(
      program->launch(args, nullptr, nullptr, bytes).error().message.find("is null or not aligned"),
      std::string::npos);
  EXPECT_FALSE(program->launch(args, nullptr, address<char>(100) + 64, bytes));
  EXPECT_TRUE(fakeDriver(kFake).launches.empty());
}

TEST_F(LauncherTest, PackedProgramsTakeNoLayout) {
  auto error = [&](auto change) {
    LaunchArgs args = arguments({1, 64, 64, 64, 64});
    change(args);
    return launchError(args);
  };
  const std::string refusal = "launch: this program reads packed tensors: prepare it with `paged` "
                              "set to give strides, lengths per sequence or page tables";
  EXPECT_EQ(error([](LaunchArgs &a) { a.layout.seqK = address<const int>(20); }), refusal);
  EXPECT_EQ(error([](LaunchArgs &a) { a.layout.pageTable = address<const int>(20); }), refusal);
  EXPECT_EQ(error([](LaunchArgs &a) { a.layout.kBegin = address<const int>(20); }), refusal);
  EXPECT_EQ(error([](LaunchArgs &a) { a.layout.pageSize = 64; }), refusal);
  EXPECT_EQ(error([](LaunchArgs &a) { a.layout.qStride[0] = 256; }), refusal);
  EXPECT_EQ(error([](LaunchArgs &a) { a.layout.vStride[2] = 256; }), refusal);
}

TEST_F(LauncherTest, ImpossibleShapesAreRefused) {
  for (const Shape &shape : {Shape{0, 1, 1, 1, 1}, Shape{1, -1, 1, 1, 1}, Shape{1, 1, -1, 1, 1},
                             Shape{1, 1, 1, -1, 1}, Shape{1, 1, 1, 1, -1}})
    EXPECT_EQ(program->workspaceSize(shape).error().kind, ErrorKind::Usage);
}

TEST_F(LauncherTest, OverflowsOfARecipeAreErrors) {
  auto sizeError = [&](const char *stride, const char *bytes) {
    ProgramImage image = sampleImage();
    image.scoreStride = stride;
    image.buffers[0].bytes = bytes;
    load(image);
    Result<size_t> size = program->workspaceSize({1, 1000000, 1000000, 1000000, 1000000});
    return size ? "no error" : size.error().message;
  };
  EXPECT_NE(sizeError("max_k * max_k", "1").find("a row of block scores would have 1000000000000"),
            std::string::npos);
  EXPECT_NE(sizeError("-1", "1").find("-1 elements"), std::string::npos);
  EXPECT_NE(sizeError("1", "0 - total_k").find("workspace buffer k1 would have -1000000 bytes"),
            std::string::npos);
  EXPECT_NE(sizeError("1", "9223372036854775807").find("workspace buffer k1"), std::string::npos);
  EXPECT_NE(sizeError("1", "total_k * total_k * total_k * total_k").find("overflows"),
            std::string::npos);
  ProgramImage image = sampleImage();
  image.kernels[3].gridY = "total_q";
  load(image);
  Status status = launch(arguments({1, 70000, 64, 70000, 64}));
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().message,
            "launching attend: a grid of 8750 x 70000 blocks is out of range for this shape");
}

TEST_F(LauncherTest, EveryPointerHasItsAlignmentAndIsAskedForWhereItIsRead) {
  load(sampleImage());
  const LaunchArgs good = arguments({1, 64, 64, 64, 64});
  ASSERT_TRUE(launch(good));
  struct Tensor {
    const char *name;
    size_t alignment;
    std::function<void(LaunchArgs &, uintptr_t)> set;
    bool forSelection, forAttention; ///< must be there
  };
  const Tensor tensors[] = {
      {"q", 16, [](LaunchArgs &a, uintptr_t p) { a.q = reinterpret_cast<void *>(p); }, true, true},
      {"k", 16, [](LaunchArgs &a, uintptr_t p) { a.k = reinterpret_cast<void *>(p); }, true, true},
      {"v", 16, [](LaunchArgs &a, uintptr_t p) { a.v = reinterpret_cast<void *>(p); }, false, true},
      {"out", 16, [](LaunchArgs &a, uintptr_t p) { a.out = reinterpret_cast<void *>(p); }, false,
       true},
      {"lse", 4, [](LaunchArgs &a, uintptr_t p) { a.lse = reinterpret_cast<float *>(p); }, false,
       false},
      {"ids", 4, [](LaunchArgs &a, uintptr_t p) { a.ids = reinterpret_cast<int *>(p); }, true,
       true},
      {"cu_q", 4, [](LaunchArgs &a, uintptr_t p) { a.cuQ = reinterpret_cast<int *>(p); }, true,
       true},
      {"cu_k", 4, [](LaunchArgs &a, uintptr_t p) { a.cuK = reinterpret_cast<int *>(p); }, true,
       true}};
  for (const Tensor &tensor : tensors) {
    LaunchArgs args = good;
    tensor.set(args, 0x200000 + tensor.alignment);
    EXPECT_TRUE(launch(args)) << tensor.name;
    tensor.set(args, 0x200000 + tensor.alignment / 2);
    Status status = launch(args);
    ASSERT_FALSE(status) << tensor.name;
    EXPECT_EQ(status.error().message, std::string("launch: ") + tensor.name +
                                          " is not aligned to " + std::to_string(tensor.alignment) +
                                          " bytes");
    tensor.set(args, 0);
    for (auto [phase, needed] : {std::pair(Phase::Select, tensor.forSelection),
                                 {Phase::Attend, tensor.forAttention},
                                 {Phase::All, tensor.forSelection || tensor.forAttention}}) {
      args.phase = phase;
      EXPECT_EQ(static_cast<bool>(launch(args)), !needed) << tensor.name;
    }
  }
}

TEST_F(LauncherTest, GridsAreTakenUpToTheirLimitsAndNoFurther) {
  ProgramImage image = sampleImage();
  image.kernels[3].gridX = "total_q", image.kernels[3].gridY = "max_k";
  load(image);
  EXPECT_TRUE(launch(arguments({1, 64, 64, 64, 65535})));
  EXPECT_EQ(fakeDriver(kFake).launches.back().gridX, 64u);
  EXPECT_EQ(fakeDriver(kFake).launches.back().gridY, 65535u);
  Status status = launch(arguments({1, 64, 64, 64, 65536}));
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().kind, ErrorKind::Unsupported);
  image.kernels[3].gridX = "2147483647 + batch - 1", image.kernels[3].gridY = "1";
  load(image);
  EXPECT_TRUE(launch(arguments({1, 64, 64, 64, 64})));
  EXPECT_FALSE(launch(arguments({2, 64, 64, 64, 64})));
}

TEST_F(LauncherTest, DriverErrorsNameTheKernel) {
  fakeDriver(kFake).failOnce["cuLaunchKernel"] = 700;
  Status status = launch(arguments({1, 64, 64, 64, 64}));
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().kind, ErrorKind::DeviceFailed);
  EXPECT_EQ(status.error().message,
            "launching summarize: made up by the fake driver (CUDA_ERROR_FAKE)");
}

TEST_F(LauncherTest, DenseProgramsNeedNoIds) {
  ProgramImage image = sampleImage();
  image.kernels.erase(image.kernels.begin(), image.kernels.begin() + 3);
  image.buffers.clear();
  image.selectHeads = 0;
  image.scoreStride = image.chunkTokens = "";
  load(image);
  LaunchArgs args = arguments({1, 64, 64, 64, 64});
  args.ids = nullptr;
  ASSERT_TRUE(program->launch(args, nullptr, nullptr, 0));
  EXPECT_EQ(launched(), std::vector<std::string>{"attend"});
  args.phase = Phase::Select;
  EXPECT_EQ(program->launch(args, nullptr, nullptr, 0).error().message,
            "launch: method sample selects nothing");
}

std::string loadError(ProgramImage image, LoadOptions options = {}) {
  auto loaded = LoadedProgram::load(std::make_shared<ProgramImage>(std::move(image)),
                                    *Driver::open(kFake), options);
  return loaded ? "no error" : loaded.error().message;
}

TEST(Load, WrongDevicesAreRefusedInWords) {
  resetFakeDriver(kFake);
  fakeDriver(kFake).devices[0] = {"Fake Hopper", 9, 0, 227 * 1024};
  EXPECT_EQ(loadError(sampleImage()),
            "this image is for sm_80, but GPU 0 (Fake Hopper) has compute capability 9.0; "
            "compile it for that GPU");
  resetFakeDriver(kFake);
  fakeDriver(kFake).devices[0] = {"Fake Small", 8, 6, 99 * 1024 - 4096};
  EXPECT_NE(loadError(sampleImage())
                .find("kernel attend needs 98320 bytes of shared memory per block, GPU 0"),
            std::string::npos)
      << loadError(sampleImage());
  EXPECT_EQ(fakeDriver(kFake).liveLibraries, 0); // what had been loaded is unloaded again
  LoadOptions second;
  second.device = 1;
  EXPECT_NE(loadError(sampleImage(), second).find("there is no GPU 1"), std::string::npos);
}

TEST(Load, F21PtxOnlyWhenAskedFor) {
  resetFakeDriver(kFake);
  fakeDriver(kFake).devices[0] = {"Fake Hopper", 9, 0, 227 * 1024};
  ProgramImage image = sampleImage();
  for (Kernel &kernel : image.kernels)
    kernel.cubin = ".version 8.0\n.target sm_80\n// kernel:" + kernel.name;
  EXPECT_NE(loadError(image).find("holds PTX, which is loaded only when asked for"),
            std::string::npos);
  EXPECT_EQ(fakeDriver(kFake).calls["cuLibraryLoadData"], 0);
  LoadOptions options;
  options.allowPtx = true;
  EXPECT_EQ(loadError(image, options), "no error");
}

TEST(Load, F30TwoThousandCyclesLeaveNothing) {
  resetFakeDriver(kFake);
  std::shared_ptr<Driver> driver = *Driver::open(kFake);
  auto image = std::make_shared<ProgramImage>(sampleImage());
  for (int i = 0; i < 2000; ++i)
    ASSERT_TRUE(LoadedProgram::load(image, driver));
  EXPECT_EQ(fakeDriver(kFake).liveLibraries, 0);
  EXPECT_EQ(image.use_count(), 1);
}

TEST(Load, F33EachDeviceGetsItsAttributesAndLaunchesOnlyThere) {
  resetFakeDriver(kFake);
  fakeDriver(kFake).devices.push_back(FakeDevice());
  std::shared_ptr<Driver> driver = *Driver::open(kFake);
  auto image = std::make_shared<ProgramImage>(sampleImage());
  LoadOptions second;
  second.device = 1;
  auto program = LoadedProgram::load(image, driver, second);
  ASSERT_TRUE(program);
  EXPECT_EQ(fakeDriver(kFake).dynamicShared.count({"attend", 0}), 0u);
  EXPECT_EQ(fakeDriver(kFake).dynamicShared.at({"attend", 1}), 98304);
  ASSERT_TRUE(driver->makeCurrent(0));
  LaunchArgs args;
  args.cuQ = args.cuK = address<const int>(1);
  Status status = (*program)->launch(args, nullptr, nullptr, 0);
  ASSERT_FALSE(status);
  EXPECT_NE(
      status.error().message.find("loaded on GPU 1, but the current context is that of GPU 0"),
      std::string::npos);
}

} // namespace

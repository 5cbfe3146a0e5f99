// Launches of gradients on the fake driver: which kernels run, what reaches them, whose workspace
// they have, and what is refused beforehand.
#include "LaunchFixture.h"
#include "runtime/program/ImageFormat.h"

using namespace winnow;
using namespace winnow::test;

namespace {

class BackwardLaunch : public LaunchFixture {
protected:
  /// The sample with two kernels of gradients, of queries and of keys.
  static ProgramImage imageWithGradients() {
    ProgramImage image = sampleImage();
    image.spec.backward = true;
    for (const char *name : {"backward_queries", "backward_keys"}) {
      Kernel kernel = image.kernels.back();
      kernel.name = name;
      kernel.step = "backward";
      kernel.when = "1";
      kernel.gridX = kernel.name == "backward_keys" ? "total_k / 64 + batch" : "total_q";
      kernel.gridY = "1";
      kernel.perChunk = false;
      kernel.cubin = fakeCubin(name);
      image.kernels.push_back(kernel);
    }
    image.backwardBuffers = {{"statistics", "8 * total_q"}, {"bits", "100"}};
    image.backwardMaps = {{"dout", {"128", "32", "total_q"}, {256, 8192}, {64, 16, 1}},
                          {"v", {"128", "2", "total_k"}, {256, 512}, {64, 1, 32}}};
    return image;
  }
  void SetUp() override {
    LaunchFixture::SetUp();
    load(imageWithGradients());
  }

  /// The same in chunks of so many tokens, with a block of threads for each.
  void loadInChunks(const char *tokens) {
    ProgramImage image = imageWithGradients();
    image.backwardChunkTokens = tokens;
    for (Kernel &kernel : image.kernels)
      if (isBackward(kernel)) {
        kernel.perChunk = true;
        kernel.gridX = "token_count";
      }
    load(image);
  }
  static LaunchArgs arguments() {
    LaunchArgs args;
    args.q = address(1), args.k = address(2), args.v = address(3), args.out = address(4);
    args.lse = address<float>(5), args.ids = address<int>(6);
    args.cuQ = address<const int>(7), args.cuK = address<const int>(8);
    args.dout = address(9), args.dq = address(10), args.dk = address(11), args.dv = address(12);
    args.shape = {1, 100, 128, 100, 128};
    args.phase = Phase::Backward;
    return args;
  }
  Status launchBackward(const LaunchArgs &args, size_t bytes) {
    fakeDriver(kFake).launches.clear();
    return program->launch(args, address<CUstream_st>(9), address(100), bytes);
  }
  template <typename Change> std::string error(Change change) {
    LaunchArgs args = arguments();
    change(args);
    const Status status = launchBackward(args, 1 << 20);
    EXPECT_TRUE(fakeDriver(kFake).launches.empty());
    return status ? "no error" : status.error().message;
  }
};

TEST_F(BackwardLaunch, HasKernelsAndAWorkspaceOfItsOwn) {
  const LaunchArgs args = arguments();
  const size_t bytes = *program->workspaceSize(args.shape, Phase::Backward);
  EXPECT_EQ(bytes, 1024u + 256u); // 800 and 100 bytes, at multiples of 256
  const Status status = launchBackward(args, bytes);
  ASSERT_TRUE(status) << status.error().message;
  const auto &launches = fakeDriver(kFake).launches;
  ASSERT_EQ(launches.size(), 2u);
  EXPECT_EQ(launches[0].kernel, "backward_queries");
  EXPECT_EQ(launches[1].kernel, "backward_keys");
  const Params &params = launches[0].params;
  EXPECT_EQ(params.dout, address(9));
  EXPECT_EQ(params.dq, address(10));
  EXPECT_EQ(params.dk, address(11));
  EXPECT_EQ(params.dv, address(12));
  EXPECT_EQ(params.buffer[0], address(100));
  EXPECT_EQ(params.buffer[1], static_cast<char *>(address(100)) + 1024);
  EXPECT_EQ(params.buffer[2], nullptr);
  EXPECT_NE(*program->workspaceSize(args.shape), bytes);
}

TEST_F(BackwardLaunch, HasTensorMapsOfItsOwn) {
  // Of each map its tensor, and the last extent and box, as the fake driver keeps them.
  auto words = [](int map, int word) {
    return fakeDriver(kFake).launches.at(0).params.map[map].words[word];
  };
  auto tensor = [&](int map) { return reinterpret_cast<void *>(words(map, 2)); };
  ASSERT_TRUE(launchBackward(arguments(), 1 << 20));
  EXPECT_EQ(tensor(0), address(9)) << "dout";
  EXPECT_EQ(words(0, 9), 100u);
  EXPECT_EQ(tensor(1), address(3)) << "v";
  EXPECT_EQ(words(1, 11), 32u);
  LaunchArgs attend = arguments();
  attend.phase = Phase::Attend;
  ASSERT_TRUE(launch(attend));
  EXPECT_EQ(tensor(0), address(2)) << "k";
  EXPECT_EQ(tensor(1), nullptr);
}

// Kernels of chunks run together, one chunk of each segment's tokens after the other.
TEST_F(BackwardLaunch, GoesOverChunksOfEachSegmentsTokens) {
  loadInChunks("32 * 2");
  LaunchArgs args = arguments();
  args.shape = {3, 150, 300, 100, 128}; // the longest segment has 100 tokens
  ASSERT_TRUE(launchBackward(args, 1 << 20));
  const auto &launches = fakeDriver(kFake).launches;
  ASSERT_EQ(launches.size(), 4u);
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(launches[i].kernel, i % 2 == 0 ? "backward_queries" : "backward_keys");
    EXPECT_EQ(launches[i].params.token_begin, i / 2 * 64);
    EXPECT_EQ(launches[i].params.token_end, i < 2 ? 64 : 100);
    EXPECT_EQ(launches[i].gridX, i < 2 ? 64u : 36u);
  }
}

// The host's max_q is an upper bound: a chunk may not begin where no segment has a token, since
// only chunks that are whole begin with a range.
TEST_F(BackwardLaunch, ChunksEndWithTheTokensThatThereAre) {
  loadInChunks("4032");
  LaunchArgs args = arguments();
  auto begins = [&](int totalQ, int maxQ) {
    args.shape = {1, totalQ, 16384, maxQ, 16384};
    EXPECT_TRUE(launchBackward(args, 1 << 20));
    std::vector<int> found;
    for (const FakeLaunch &one : fakeDriver(kFake).launches)
      if (one.kernel == "backward_keys")
        found.push_back(one.params.token_begin);
    return found;
  };
  EXPECT_EQ(begins(100, 16384), std::vector<int>{0});
  EXPECT_EQ(begins(5000, 8192), (std::vector<int>{0, 4032}));
  EXPECT_EQ(begins(10000, 10000), (std::vector<int>{0, 4032, 8064}));
}

TEST_F(BackwardLaunch, NoOtherPhaseRunsItsKernels) {
  LaunchArgs args = arguments();
  for (Phase phase : {Phase::All, Phase::Select, Phase::Attend}) {
    args.phase = phase;
    ASSERT_TRUE(launch(args));
    for (const FakeLaunch &one : fakeDriver(kFake).launches)
      EXPECT_EQ(one.kernel.find("backward"), std::string::npos) << one.kernel;
  }
}

TEST_F(BackwardLaunch, KeysWithoutQueriesHaveGradientsToo) {
  LaunchArgs args = arguments();
  args.shape = {1, 0, 128, 0, 128};
  args.q = args.dout = nullptr, args.out = args.dq = nullptr, args.lse = nullptr;
  ASSERT_TRUE(launchBackward(args, 1 << 20));
  ASSERT_EQ(fakeDriver(kFake).launches.size(), 1u); // a grid of nothing is not launched
  EXPECT_EQ(fakeDriver(kFake).launches[0].kernel, "backward_keys");
  args.shape.totalK = args.shape.maxK = 0;
  ASSERT_TRUE(launchBackward(args, 1 << 20));
  EXPECT_TRUE(fakeDriver(kFake).launches.empty());
}

TEST_F(BackwardLaunch, WhatIsMissingIsSaid) {
  EXPECT_EQ(error([](LaunchArgs &a) { a.lse = nullptr; }), "launch: lse is null");
  EXPECT_EQ(error([](LaunchArgs &a) { a.dout = nullptr; }), "launch: dout is null");
  EXPECT_EQ(error([](LaunchArgs &a) { a.dk = nullptr; }), "launch: dk is null");
  EXPECT_EQ(error([](LaunchArgs &a) { a.dv = reinterpret_cast<void *>(0x10008); }),
            "launch: dv is not aligned to 16 bytes");
  load(sampleImage());
  EXPECT_NE(error([](LaunchArgs &) {}).find("prepare it with `backward` set"), std::string::npos);
}

TEST_F(BackwardLaunch, ImagesKeepIt) {
  const ProgramImage image = imageWithGradients();
  Result<ProgramImage> read = deserializeImage(*serializeImage(image));
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_TRUE(read->spec.backward);
  ASSERT_EQ(read->backwardBuffers.size(), 2u);
  EXPECT_EQ(read->backwardBuffers[0].bytes, "8 * total_q");
  ASSERT_EQ(read->backwardMaps.size(), 2u);
  EXPECT_EQ(read->backwardMaps[0].tensor, "dout");
  EXPECT_EQ(read->backwardMaps[1].box, (std::vector<int>{64, 1, 32}));
  EXPECT_EQ(read->spec.text(), image.spec.text());
  EXPECT_NE(read->spec.text().find(" backward=1"), std::string::npos);
  EXPECT_EQ(Spec::parse(read->spec.text())->text(), read->spec.text());
}

} // namespace

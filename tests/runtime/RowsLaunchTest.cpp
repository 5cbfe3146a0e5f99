// Launches with summaries that the host keeps (rows), on the fake driver: what reaches the kernels,
// which kernels run in which phase, and what is refused beforehand.
#include "LaunchFixture.h"

using namespace winnow;
using namespace winnow::test;

namespace {

class RowsLaunch : public LaunchFixture {
protected:
  /// The sample with kernels that append to its summaries.
  static ProgramImage imageWith(std::vector<SummaryShape> summaries) {
    ProgramImage image = sampleImage();
    image.spec.paged = true;
    image.summaries = std::move(summaries);
    Kernel append = image.kernels.front();
    append.name = append.step = "append";
    append.when = "rows";
    append.gridX = "total_q / 64 + batch";
    append.cubin = fakeCubin("append");
    image.kernels.insert(image.kernels.begin(), append);
    return image;
  }
  void SetUp() override {
    LaunchFixture::SetUp();
    load(imageWith({{32, 16}, {128, 64}}));
  }

  /// Two sequences of up to 1000 keys in pages of 64 tokens, with rows of two summaries.
  static LaunchArgs arguments() {
    LaunchArgs args;
    args.q = address(1), args.k = address(2), args.v = address(3), args.out = address(4);
    args.ids = address<int>(6), args.cuQ = address<const int>(7);
    args.rows[0] = address(10), args.rows[1] = address(11);
    args.layout.seqK = address<const int>(8), args.layout.pageTable = address<const int>(9);
    args.layout.pageTableStride = 16, args.layout.pageSize = 64;
    args.shape = {2, 2, 0, 1, 1000};
    return args;
  }
  template <typename Change> Params paramsOf(Change change) {
    LaunchArgs args = arguments();
    change(args);
    Status status = launch(args);
    EXPECT_TRUE(status) << status.error().message;
    return status ? fakeDriver(kFake).launches.at(0).params : Params{};
  }
  template <typename Change> std::string error(Change change) {
    LaunchArgs args = arguments();
    change(args);
    return launchError(args);
  }
  std::vector<std::string> kernels(Phase phase, bool rows = true) {
    LaunchArgs args = arguments();
    args.phase = phase;
    if (!rows)
      args.rows[0] = args.rows[1] = nullptr;
    Status status = launch(args);
    EXPECT_TRUE(status) << status.error().message;
    std::vector<std::string> names;
    for (const FakeLaunch &launch : fakeDriver(kFake).launches)
      names.push_back(launch.kernel);
    return names;
  }
};

TEST_F(RowsLaunch, PagesOfKeysHoldTheRowsOfTheirTokens) {
  const Params p = paramsOf([](LaunchArgs &) {});
  EXPECT_EQ(p.rows[0], address(10));
  EXPECT_EQ(p.rows[1], address(11));
  EXPECT_EQ(p.rows_table, nullptr);
  EXPECT_EQ(p.rows_page[0], 4);
  EXPECT_EQ(p.rows_page[1], 1);
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(p.rows_stride[i][2], 128);
    EXPECT_EQ(p.rows_stride[i][1], 2 * 128);
    EXPECT_EQ(p.rows_stride[i][0], p.rows_page[i] * 2 * 128);
    for (uint64_t slot : {0, 1, 3, 4, 61, 62, 2147483647})
      EXPECT_EQ(slot * p.rows_magic[i] >> p.rows_shift[i], slot / p.rows_page[i]);
  }
}

TEST_F(RowsLaunch, ATableOfRowsNamesOneSlotEach) {
  const Params p = paramsOf([](LaunchArgs &a) {
    a.layout.pageSize = 7, a.layout.pageTableStride = 143;
    a.layout.rowsTable = address<const int>(12), a.layout.rowsTableStride = 62;
  });
  EXPECT_EQ(p.rows_table, address<const int>(12));
  EXPECT_EQ(p.rows_table_stride, 62);
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(p.rows_page[i], 1);
    EXPECT_EQ(p.rows_stride[i][0], 2 * 128);
    EXPECT_EQ(uint64_t(61) * p.rows_magic[i] >> p.rows_shift[i], 61u);
  }
}

TEST_F(RowsLaunch, WithoutTablesASequenceIsAPage) {
  const Params p = paramsOf([](LaunchArgs &a) {
    a.layout.pageTable = nullptr, a.cuK = address<const int>(8);
    a.layout.rowsStride[1][2] = 1024, a.layout.rowsStride[1][1] = 136;
  });
  EXPECT_EQ(p.rows_page[0], 63);
  EXPECT_EQ(p.rows_stride[0][0], 63 * 2 * 128);
  EXPECT_EQ(p.rows_page[1], 16);
  EXPECT_EQ(p.rows_stride[1][0], 16 * 136);
  EXPECT_EQ(p.rows_stride[1][1], 136);
  EXPECT_EQ(p.rows_stride[1][2], 1024);
}

TEST_F(RowsLaunch, PagesOfHeadMajorRowsDoNotOverlap) {
  const Params p = paramsOf([](LaunchArgs &a) {
    for (auto &stride : a.layout.rowsStride)
      stride[1] = 128, stride[2] = 4 * 128;
  });
  EXPECT_EQ(p.rows_page[0], 4);
  EXPECT_EQ(p.rows_stride[0][0], 2 * 4 * 128);
}

TEST_F(RowsLaunch, EachPhaseRunsItsOwnKernels) {
  using Names = std::vector<std::string>;
  EXPECT_EQ(kernels(Phase::All), (Names{"append", "summarize", "score", "top_k", "attend"}));
  EXPECT_EQ(kernels(Phase::Append), Names{"append"});
  EXPECT_EQ(kernels(Phase::Select), (Names{"summarize", "score", "top_k"}));
  EXPECT_EQ(kernels(Phase::Attend), Names{"attend"});
  EXPECT_EQ(kernels(Phase::All, /*rows=*/false), (Names{"summarize", "score", "top_k", "attend"}));
}

TEST_F(RowsLaunch, AppendingNeedsKeysAndLengthsAlone) {
  LaunchArgs args = arguments();
  args.phase = Phase::Append;
  args.q = args.v = args.out = nullptr, args.ids = nullptr;
  fakeDriver(kFake).launches.clear();
  Status status = program->launch(args, address<CUstream_st>(9), nullptr, 0);
  EXPECT_TRUE(status) << status.error().message;
  ASSERT_EQ(fakeDriver(kFake).launches.size(), 1u);
  EXPECT_EQ(fakeDriver(kFake).launches[0].params.buffer[0], nullptr);
  EXPECT_EQ(fakeDriver(kFake).launches[0].gridX, 2u);
  args.k = nullptr;
  EXPECT_EQ(launchError(args), "launch: k is null");
}

TEST_F(RowsLaunch, BadRowsAreRefused) {
  EXPECT_EQ(error([](LaunchArgs &a) { a.rows[1] = nullptr; }),
            "launch: rows[1] is null: this program keeps 2 summaries");
  EXPECT_EQ(error([](LaunchArgs &a) { a.rows[0] = nullptr; }),
            "launch: rows[0] is null: this program keeps 2 summaries");
  EXPECT_EQ(error([](LaunchArgs &a) {
              a.phase = Phase::Append;
              a.rows[0] = a.rows[1] = nullptr;
            }),
            "launch: rows[0] is null: this program keeps 2 summaries");
  EXPECT_EQ(error([](LaunchArgs &a) { a.rows[1] = reinterpret_cast<void *>(0x10008); }),
            "launch: rows[1] is not aligned to 16 bytes");
  EXPECT_EQ(error([](LaunchArgs &a) { a.layout.rowsStride[1][2] = 100; }),
            "launch: rows_stride[1][2] is 100: take a multiple of 8 elements, or 0 for packed");
  EXPECT_EQ(error([](LaunchArgs &a) {
              a.layout.pageSize = 32;
              a.layout.pageTableStride = 32;
            }),
            "launch: page_size is 32: rows need pages of a multiple of 64 tokens, or a rows_table");
  EXPECT_EQ(error([](LaunchArgs &a) {
              a.layout.rowsTable = address<const int>(12);
              a.layout.rowsTableStride = 61;
            }),
            "launch: rows_table_stride is 61, but sequences of up to 1000 keys have 62 slots of 16 "
            "keys");
  EXPECT_EQ(error([](LaunchArgs &a) {
              a.rows[0] = a.rows[1] = nullptr;
              a.layout.rowsTable = address<const int>(12);
            }),
            "launch: rows_table is given without rows");
  EXPECT_EQ(error([](LaunchArgs &a) { a.layout.kBegin = address<const int>(12); }),
            "launch: k_begin is given with rows in pages of keys: rows count from the first key, "
            "so that they would lie in other pages than their keys; give rows_table, or a page for "
            "each sequence");
}

TEST_F(RowsLaunch, ProgramsWithoutKeptSummariesTakeNoRows) {
  load(imageWith({{32, 16}}));
  EXPECT_EQ(error([](LaunchArgs &) {}), "launch: rows[1] is given: this program keeps 1 summary");
  load(imageWith({}));
  EXPECT_EQ(error([](LaunchArgs &) {}),
            "launch: method sample has no summaries that can be kept as rows");
  load(sampleImage());
  for (bool rows : {true, false}) {
    LaunchArgs args = arguments();
    args.layout = {};
    args.cuK = address<const int>(8), args.shape.totalK = 1000;
    if (!rows)
      args.rows[0] = args.rows[1] = nullptr, args.phase = Phase::Append;
    EXPECT_EQ(launchError(args),
              "launch: this program makes its summaries anew at each launch: prepare it with "
              "`paged` set to keep them as rows");
  }
}

/// A program whose attention is cooperative where all of its blocks of threads run at the same
/// time.
ProgramImage cooperative(ProgramImage image) {
  Kernel alone = image.kernels.back();
  for (Kernel &kernel : image.kernels)
    if (kernel.name != "append")
      kernel.when = "step == 0";
  alone.name = "attend_alone", alone.when = "step > 0", alone.cooperative = true;
  alone.gridX = "sm_count", alone.gridY = "1";
  alone.cubin = fakeCubin(alone.name);
  image.kernels.push_back(alone);
  image.step = "2 * (step_limit >= sm_count)";
  return image;
}

TEST_F(RowsLaunch, ACooperativeKernelRunsWhereTheGpuHoldsAllOfIt) {
  const ProgramImage image = cooperative(imageWith({{32, 16}, {128, 64}}));
  LaunchArgs args = arguments();
  auto names = [&] {
    EXPECT_TRUE(launch(args));
    std::string all;
    for (const FakeLaunch &launch : fakeDriver(kFake).launches) {
      EXPECT_EQ(launch.cooperative, launch.kernel == "attend_alone");
      if (launch.cooperative)
        EXPECT_EQ(launch.params.step, 2);
      all += launch.kernel + ", ";
    }
    fakeDriver(kFake).launches.clear();
    return all;
  };
  const std::string chain = "summarize, score, top_k, attend, ";
  FakeState &fake = fakeDriver(kFake);
  load(image);
  EXPECT_EQ(names(), "append, attend_alone, ");
  args.phase = Phase::Attend; // a part of the program alone
  EXPECT_EQ(names(), "attend, ");
  args.phase = Phase::All;
  args.rows[0] = args.rows[1] = nullptr;
  EXPECT_EQ(names(), chain);
  args = arguments();
  fake.resident = 0;
  load(image);
  EXPECT_EQ(names(), "append, " + chain);
  fake.resident = 1, fake.cooperates = 0;
  load(image);
  EXPECT_EQ(names(), "append, " + chain);
  fake.cooperates = 1;
}

// A part of the GPU, as MPS and green contexts give it, is known when the driver refuses the grid.
TEST_F(RowsLaunch, OtherKernelsAnswerWhereACooperativeLaunchIsRefused) {
  load(cooperative(imageWith({{32, 16}, {128, 64}})));
  LaunchArgs args = arguments();
  FakeState &fake = fakeDriver(kFake);
  fake.refusesGrids = true;
  ASSERT_TRUE(launch(args));
  EXPECT_EQ(fake.launches.size(), 1 + 5u); // append twice
  fake.refusesGrids = false;               // not asked again
  fake.launches.clear();
  ASSERT_TRUE(launch(args));
  EXPECT_EQ(fake.launches.size(), 5u);
  EXPECT_EQ(fake.launches.back().kernel, "attend");
}

} // namespace

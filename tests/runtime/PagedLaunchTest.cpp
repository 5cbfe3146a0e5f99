// Launches of programs whose tensors come by strides, lengths per sequence and page tables, on the
// fake driver: what reaches the kernels, and what is refused beforehand.
#include "LaunchFixture.h"

using namespace winnow;
using namespace winnow::test;

namespace {

class PagedLaunch : public LaunchFixture {
protected:
  void SetUp() override {
    LaunchFixture::SetUp();
    ProgramImage image = sampleImage();
    image.spec.paged = true;
    image.tensorMaps[0] = {"q", {"128", "32", "total_q"}, {256, 8192}, {64, 16, 1}};
    load(std::move(image));
  }

  /// Two sequences of up to 1000 keys, in pages of 16 tokens, packed [pages, page, kv_heads, dim].
  static LaunchArgs arguments() {
    LaunchArgs args;
    args.q = address(1), args.k = address(2), args.v = address(3), args.out = address(4);
    args.ids = address<int>(6), args.cuQ = address<const int>(7);
    args.layout.seqK = address<const int>(8), args.layout.pageTable = address<const int>(9);
    args.layout.pageTableStride = 63, args.layout.pageSize = 16;
    args.shape = {2, 2, 0, 1, 1000};
    return args;
  }

  template <typename Change> std::string error(Change change) {
    LaunchArgs args = arguments();
    change(args);
    return launchError(args);
  }
};

TEST_F(PagedLaunch, StridesOfZeroArePacked) {
  ASSERT_TRUE(launch(arguments()));
  const Params &p = fakeDriver(kFake).launches.at(0).params;
  EXPECT_EQ(p.q_stride[0], 32 * 128);
  EXPECT_EQ(p.q_stride[1], 128);
  EXPECT_EQ(p.out_stride[0], 32 * 64);
  EXPECT_EQ(p.out_stride[1], 64);
  EXPECT_EQ(p.k_stride[0], 16 * 2 * 128);
  EXPECT_EQ(p.k_stride[1], 2 * 128);
  EXPECT_EQ(p.k_stride[2], 128);
  EXPECT_EQ(p.v_stride[0], 16 * 2 * 64);
  EXPECT_EQ(p.page_table, address<const int>(9));
  EXPECT_EQ(p.page_table_stride, 63);
  EXPECT_EQ(p.seq_k, address<const int>(8));
  EXPECT_EQ(p.cu_k, nullptr);
  EXPECT_EQ(p.total_k, 2000) << "each sequence has room for max_k";
  EXPECT_EQ(fakeDriver(kFake).launches.at(0).gridX, 125u);
}

TEST_F(PagedLaunch, StridesReachKernelsAndTheMapOfQueries) {
  LaunchArgs args = arguments();
  args.layout.qStride[0] = 8192, args.layout.qStride[1] = 256;
  args.layout.kStride[0] = 65536, args.layout.kStride[1] = 512, args.layout.kStride[2] = 256;
  ASSERT_TRUE(launch(args));
  const Params &p = fakeDriver(kFake).launches.at(0).params;
  EXPECT_EQ(p.q_stride[0], 8192);
  EXPECT_EQ(p.k_stride[0], 65536);
  EXPECT_EQ(p.k_stride[1], 512);
  EXPECT_EQ(p.k_stride[2], 256);
  EXPECT_EQ(p.map[0].words[4], 2u * 256) << "bytes from one head to the next";
  EXPECT_EQ(p.map[0].words[7], 2u * 8192) << "bytes from one token to the next";
}

/// Words of a map on the fake driver: extent, stride to the next dimension in bytes and box, of
/// each dimension from word 3 on.
unsigned long long extentOf(const TensorMap &map, int dimension) {
  return map.words[3 + 3 * dimension];
}
unsigned long long strideOf(const TensorMap &map, int dimension) {
  return map.words[1 + 3 * dimension];
}
unsigned long long boxOf(const TensorMap &map, int dimension) {
  return map.words[5 + 3 * dimension];
}

class BulkCopies : public PagedLaunch {
protected:
  void SetUp() override {
    PagedLaunch::SetUp();
    ProgramImage image = sampleImage();
    image.spec.paged = true;
    image.tensorMaps = {{"k", {"128", "2", "max_k", "1"}, {0, 0, 0}, {64, 1, 64, 1}}};
    image.kernels.resize(1);
    image.kernels[0].when = "box_rows > 0";
    load(std::move(image));
  }
  /// Keys that one copy brings, as the kernel sees it; 0: the kernel was not launched.
  template <typename Change> int boxRows(Change change) {
    fakeDriver(kFake).launches.clear();
    LaunchArgs args = arguments();
    args.layout.pageTableStride = 1000;
    change(args);
    EXPECT_TRUE(launch(args));
    const auto &launches = fakeDriver(kFake).launches;
    return launches.empty() ? 0 : launches.at(0).params.box_rows;
  }
};

TEST_F(BulkCopies, BringWhatLiesInOnePage) {
  const std::pair<int, int> sizes[] = {{64, 64}, {128, 64}, {16, 16}, {48, 16}, {8, 8},
                                       {96, 32}, {200, 8},  {1, 0},   {7, 0},   {100, 0}};
  for (auto [page, rows] : sizes)
    EXPECT_EQ(boxRows([page = page](LaunchArgs &a) { a.layout.pageSize = page; }), rows)
        << "pages of " << page;
}

TEST_F(BulkCopies, PaddingNeedsAPageForEachSequence) {
  auto padded = [](LaunchArgs &a) { a.layout.kBegin = address<const int>(10); };
  EXPECT_EQ(boxRows(padded), 0) << "a box would begin anywhere in a page";
  EXPECT_EQ(boxRows([&](LaunchArgs &a) {
              padded(a);
              a.layout.pageTableStride = 1, a.layout.pageSize = 1000;
            }),
            64);
}

TEST_F(BulkCopies, WithoutPagesNeedTheNumberOfRows) {
  auto ragged = [](LaunchArgs &a) {
    a.layout.pageTable = nullptr, a.layout.pageTableStride = a.layout.pageSize = 0;
    a.cuK = address<const int>(11);
  };
  EXPECT_EQ(boxRows(ragged), 0) << "nothing would end the last copy";
  EXPECT_EQ(boxRows([&](LaunchArgs &a) {
              ragged(a);
              a.shape.totalK = 1500;
            }),
            64);
  const TensorMap &map = fakeDriver(kFake).launches.at(0).params.map[0];
  EXPECT_EQ(extentOf(map, 2), 1500u);
  EXPECT_EQ(extentOf(map, 3), 1u);
}

TEST_F(BulkCopies, GoByTheStridesOfTheLaunch) {
  boxRows([](LaunchArgs &a) {
    a.layout.kStride[0] = 65536, a.layout.kStride[1] = 512, a.layout.kStride[2] = 256;
  });
  const TensorMap &map = fakeDriver(kFake).launches.at(0).params.map[0];
  EXPECT_EQ(map.words[1], 4u) << "elements, heads, tokens of a page, pages";
  EXPECT_EQ(extentOf(map, 0), 128u);
  EXPECT_EQ(extentOf(map, 1), 2u);
  EXPECT_EQ(extentOf(map, 2), 16u);
  EXPECT_EQ(strideOf(map, 1), 2u * 256);
  EXPECT_EQ(strideOf(map, 2), 2u * 512);
  EXPECT_EQ(strideOf(map, 3), 2u * 65536);
  EXPECT_EQ(boxOf(map, 2), 16u);
  EXPECT_EQ(boxOf(map, 3), 1u);
}

TEST_F(PagedLaunch, DivisionByThePageSizeIsExact) {
  for (int size :
       {1, 2, 3, 5, 7, 16, 48, 63, 64, 65, 100, 255, 256, 1000, 4097, 131072, 2147483647}) {
    LaunchArgs args = arguments();
    args.layout.pageSize = size;
    args.layout.pageTableStride = 1000;
    ASSERT_TRUE(launch(args));
    const Params &p = fakeDriver(kFake).launches.at(0).params;
    auto divided = [&](int64_t slot) {
      return static_cast<int64_t>(static_cast<uint64_t>(slot) * p.page_magic >> p.page_shift);
    };
    for (int64_t slot : {0, 1, 2, 1000, 123456789, 2147483646, 2147483647})
      for (int64_t near : {slot, slot / size * size, slot / size * size - 1})
        if (near >= 0)
          EXPECT_EQ(divided(near), near / size) << near << " / " << size;
  }
}

TEST_F(PagedLaunch, BadLayoutsAreRefused) {
  EXPECT_EQ(error([](LaunchArgs &a) { a.layout.kStride[1] = 100; }),
            "launch: k_stride[1] is 100: take a multiple of 8 elements, or 0 for packed");
  EXPECT_EQ(error([](LaunchArgs &a) { a.layout.outStride[0] = -8; }),
            "launch: out_stride[0] is -8: take a multiple of 8 elements, or 0 for packed");
  EXPECT_EQ(error([](LaunchArgs &a) { a.layout.pageSize = 0; }),
            "launch: page_size is 0: take 1 or more tokens");
  EXPECT_EQ(error([](LaunchArgs &a) { a.layout.pageTableStride = 62; }),
            "launch: page_table_stride is 62, but sequences of up to 1000 keys have 63 pages of 16 "
            "tokens");
  EXPECT_EQ(error([](LaunchArgs &a) { a.layout.seqK = nullptr; }),
            "launch: cu_k is null: without it, seq_k and page_table must be given");
  EXPECT_EQ(
      error([](LaunchArgs &a) { a.layout.pageTable = reinterpret_cast<const int *>(0x10002); }),
      "launch: page_table is not aligned to 4 bytes");
  EXPECT_EQ(error([](LaunchArgs &a) { a.shape.batch = 1 << 22; }),
            "4194304 sequences of up to 1000 keys are more than 2^31 keys: give a lower max_k, or "
            "split the batch");
}

TEST_F(PagedLaunch, ScalesAreForFp8AndItsStridesForCopiesOf16Bytes) {
  float scale = 1;
  EXPECT_EQ(error([&](LaunchArgs &args) { args.vScale = &scale; }),
            "launch: k_scale or v_scale is given, but this program's keys are not fp8: prepare it "
            "with kv_dtype fp8_e4m3, or leave them null");
  ProgramImage image = sampleImage();
  image.spec.paged = true, image.spec.kvDtype = KvDtype::Fp8E4m3;
  image.tensorMaps.clear();
  load(std::move(image));
  LaunchArgs args = arguments();
  args.kScale = address<const float>(10);
  ASSERT_TRUE(launch(args));
  EXPECT_EQ(fakeDriver(kFake).launches.at(0).params.k_scale, args.kScale);
  EXPECT_EQ(fakeDriver(kFake).launches.at(0).params.v_scale, nullptr);
  EXPECT_EQ(error([](LaunchArgs &args) { args.layout.vStride[1] = 24; }),
            "launch: v_stride[1] is 24: take a multiple of 16 elements of fp8, or 0 for packed");
}

} // namespace

// Clusters of blocks of threads in emulation: what they exchange through shared_of arrives, what
// the driver must refuse is refused, and each fault in the exchange is found in whatever order the
// blocks run. The kernel is written by hand.
#include "compiler/cuda/EmulatedCode.h"
#include "runtime/device/DeviceMemory.h"
#include "templates/Params.h"
#include <cstring>
#include <dlfcn.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <numeric>

using namespace winnow;

namespace {

/// Every block gives each block of its cluster a number per thread; every thread sums up what it
/// has got.
constexpr const char *kExchange = R"(#include "winnow/sm90.cuh"

extern "C" __global__ void __launch_bounds__(64, 1)
exchange(const __grid_constant__ Params params) {
  extern __shared__ __align__(1024) unsigned char shared[];
  int *numbers = reinterpret_cast<int *>(shared);
  const int thread = threadIdx.x, block = cluster_block(), blocks = cluster_blocks();
  for (int from = 0; from < blocks; ++from)
    numbers[64 * from + thread] = 0;
  sync_cluster();
  for (int to = 0; to < blocks; ++to)
    shared_of(numbers, to)[64 * block + thread] = 1000 * (block + to) + (thread & 7);
  sync_cluster();
  int sum = 0;
  for (int from = 0; from < blocks; ++from)
    sum += numbers[64 * from + thread];
  params.ids[(blockIdx.y * gridDim.x + blockIdx.x) * 64 + thread] = sum;
  sync_cluster();
}
)";
/// The same by messages: words that a barrier of the receiver counts, for which it waits alone.
constexpr const char *kMessages = R"(#include "winnow/sm90.cuh"

extern "C" __global__ void __launch_bounds__(64, 1)
exchange(const __grid_constant__ Params params) {
  extern __shared__ __align__(1024) unsigned char shared[];
  const int thread = threadIdx.x, block = cluster_block(), blocks = cluster_blocks();
  const unsigned numbers = shared_address(shared), barrier = numbers + 16 * 256;
  if (thread == 0) {
    init_barrier(barrier, 2 * blocks);
    fence_barriers();
  }
  __syncwarp();
  sync_cluster();
  for (int to = 0; to < blocks; ++to) {
    const unsigned there = shared_address_of(barrier, to);
    send_words(shared_address_of(numbers + 4 * (64 * block + thread), to), there,
               static_cast<unsigned>(1000 * (block + to) + (thread & 7)));
    if (thread % 32 == 0)
      announce_words(there, 4 * 32);
  }
  wait_words(barrier, 0);
  int sum = 0;
  for (int from = 0; from < blocks; ++from)
    sum += reinterpret_cast<int *>(shared)[64 * from + thread];
  params.ids[(blockIdx.y * gridDim.x + blockIdx.x) * 64 + thread] = sum;
}
)";
/// A kernel with the first `from` of its text replaced.
std::string with(std::string text, const std::string &from, const std::string &to) {
  return text.replace(text.find(from), from.size(), to);
}
std::string exchangeWith(const std::string &from, const std::string &to) {
  return with(kExchange, from, to);
}

constexpr int kThreads = 64, kBytesOfBlock = 4 * kThreads;
constexpr int kMessageBytes = 16 * kBytesOfBlock + 8; ///< of kMessages, in clusters of any size

// CUfunction_attribute, CUlaunchAttributeID, CUresult
constexpr int kNonPortableClusters = 14, kClusterDimension = 4;
constexpr CudaResult kInvalidValue = 1, kInvalidClusterSize = 912;

class Clusters : public testing::Test {
protected:
  struct Shape {
    unsigned gridX = 1, gridY = 1, clusterX = 1, clusterY = 1;
    unsigned blocks() const { return clusterX * clusterY; }
  };

  void SetUp() override {
    Result<std::shared_ptr<Driver>> opened = Driver::open(WINNOW_EMULATOR);
    ASSERT_TRUE(opened) << opened.error().message;
    driver = *opened;
    ASSERT_TRUE(driver->makeCurrent(0));
  }
  void TearDown() override {
    if (library)
      driver->api().cuLibraryUnload(library);
  }

  void load(const std::string &text, int mostBlocks) {
    Result<Nvrtc::Output> code = compileForEmulator(text, "exchange");
    ASSERT_TRUE(code) << code.error().message;
    const DriverApi &api = driver->api();
    ASSERT_EQ(api.cuLibraryLoadData(&library, code->binary.data(), nullptr, nullptr, 0, nullptr,
                                    nullptr, 0),
              0);
    ASSERT_EQ(api.cuLibraryGetKernel(&kernel, library, "exchange"), 0);
    ASSERT_EQ(api.cuKernelSetAttribute(cuda::kFuncMaxDynamicSharedBytes, mostBlocks * kBytesOfBlock,
                                       kernel, 0),
              0);
  }

  CudaResult launch(const Shape &shape, const Params &params) {
    std::array<CudaLaunchAttribute, 2> attributes{};
    attributes[0].id = cuda::kProgrammaticStreamSerialization;
    attributes[0].value = 1;
    attributes[1].id = kClusterDimension;
    const unsigned cluster[3] = {shape.clusterX, shape.clusterY, 1};
    std::memcpy(attributes[1].bytes, cluster, sizeof(cluster));
    const CudaLaunchConfig config{{shape.gridX, shape.gridY, 1},
                                  {kThreads, 1, 1},
                                  sharedBytes ? sharedBytes : shape.blocks() * kBytesOfBlock,
                                  nullptr,
                                  attributes.data(),
                                  attributes.size()};
    Params given = params;
    void *arguments[] = {&given};
    return driver->api().cuLaunchKernelEx(&config, reinterpret_cast<CUfunction>(kernel), arguments,
                                          nullptr);
  }

  /// Launches the loaded kernel; its sums, or the emulator's words.
  Result<std::vector<int>> run(const Shape &shape) {
    std::vector<int> sums(size_t(shape.gridX) * shape.gridY * kThreads);
    WINNOW_TRY(DeviceBuffer buffer, DeviceBuffer::allocate(driver, sums.size() * sizeof(int)));
    Params params{};
    params.ids = buffer.data<int>();
    WINNOW_CHECK(driver->check(launch(shape, params), "exchange"));
    WINNOW_CHECK(buffer.download(sums.data(), sums.size() * sizeof(int)));
    return sums;
  }

  void expectSums(const Shape &shape) {
    Result<std::vector<int>> sums = run(shape);
    ASSERT_TRUE(sums) << sums.error().message;
    const int blocks = static_cast<int>(shape.blocks());
    for (size_t i = 0; i < sums->size(); ++i) {
      const unsigned block = i / kThreads, x = block % shape.gridX, y = block / shape.gridX;
      const int rank = y % shape.clusterY * shape.clusterX + x % shape.clusterX,
                expected = 1000 * (blocks * rank + blocks * (blocks - 1) / 2) +
                           blocks * static_cast<int>(i % 8);
      ASSERT_EQ((*sums)[i], expected) << "block " << x << " " << y;
    }
  }

  std::shared_ptr<Driver> driver;
  CUlibrary library = nullptr;
  CUkernel kernel = nullptr;
  unsigned sharedBytes = 0; ///< 0: what kExchange needs
};

TEST_F(Clusters, ExchangeByMessages) {
  load(kMessages, 17);
  sharedBytes = kMessageBytes;
  ASSERT_EQ(driver->api().cuKernelSetAttribute(kNonPortableClusters, 1, kernel, 0), 0);
  for (const Shape &shape :
       {Shape{3, 2, 1, 1}, Shape{4, 2, 2, 1}, Shape{4, 6, 2, 3}, Shape{32, 1, 16, 1}})
    for (int order = 0; order < 4; ++order)
      expectSums(shape);
}

TEST_F(Clusters, ExchangeThroughSharedMemory) {
  load(kExchange, 16);
  for (const Shape &shape : {Shape{3, 2, 1, 1}, Shape{4, 2, 2, 1}, Shape{8, 1, 8, 1},
                             Shape{4, 6, 2, 3}, Shape{6, 4, 1, 4}})
    expectSums(shape);
  ASSERT_EQ(driver->api().cuKernelSetAttribute(kNonPortableClusters, 1, kernel, 0), 0);
  expectSums({32, 1, 16, 1});
}

TEST_F(Clusters, LoadWhatTheyHaveStoredElsewhere) {
  load(exchangeWith("+= numbers[64 * from", "+= shared_of(numbers, from)[64 * block"), 4);
  expectSums({4, 2, 4, 1});
}

TEST_F(Clusters, AreRefusedWhereTheGpuCannotFormThem) {
  load(kExchange, 17);
  auto result = [&](const Shape &shape) { return launch(shape, Params{}); };
  EXPECT_EQ(result({5, 1, 2, 1}), kInvalidValue);
  EXPECT_EQ(result({4, 3, 2, 2}), kInvalidValue);
  EXPECT_EQ(result({4, 1, 0, 1}), kInvalidValue);
  EXPECT_EQ(result({16, 1, 16, 1}), kInvalidClusterSize);
  ASSERT_EQ(driver->api().cuKernelSetAttribute(kNonPortableClusters, 1, kernel, 0), 0);
  EXPECT_EQ(result({17, 1, 17, 1}), kInvalidClusterSize);
}

TEST_F(Clusters, TheirLargestSizeFollowsTheKernelsAttribute) {
  load(kExchange, 1);
  void *opened = ::dlopen(WINNOW_EMULATOR, RTLD_NOW | RTLD_NOLOAD);
  ASSERT_NE(opened, nullptr);
  auto *largest = reinterpret_cast<CudaResult (*)(int *, CUfunction, const CudaLaunchConfig *)>(
      ::dlsym(opened, "cuOccupancyMaxPotentialClusterSize"));
  ASSERT_NE(largest, nullptr);
  const CudaLaunchConfig config{};
  int size = 0;
  EXPECT_EQ(largest(&size, reinterpret_cast<CUfunction>(kernel), &config), 0);
  EXPECT_EQ(size, 8);
  ASSERT_EQ(driver->api().cuKernelSetAttribute(kNonPortableClusters, 1, kernel, 0), 0);
  EXPECT_EQ(largest(&size, reinterpret_cast<CUfunction>(kernel), &config), 0);
  EXPECT_EQ(size, 16);
  ::dlclose(opened);
}

struct Fault {
  const char *name;
  const char *from, *to; ///< of the kernel's text; the first place
  const char *finds;     ///< part of the emulator's words
};

// NOLINTNEXTLINE(readability-identifier-naming): the name that GoogleTest looks for
void PrintTo(const Fault &fault, std::ostream *out) { *out << fault.name; }

constexpr Fault kFaults[] = {
    {"read_before_all_have_stored", "  sync_cluster();\n  int sum", "  sync_threads();\n  int sum",
     "of the cluster reads, with no sync_cluster between them"},
    {"read_what_may_be_stored_later", "  sync_cluster();\n  for (int to",
     "  sync_cluster();\n  numbers[thread] = 1;\n  for (int to",
     "of the cluster writes, with no sync_cluster between them"},
    {"two_blocks_store_to_one_place", "[64 * block + thread]", "[thread]",
     "of the cluster writes, with no sync_cluster between them"},
    {"two_threads_store_to_one_place", "[64 * block + thread]", "[64 * block + thread / 2]",
     "with no barrier between them"},
    {"load_while_its_block_stores", "sum += numbers[64 * from + thread]",
     "sum += shared_of(numbers, from)[64 * from + thread], numbers[thread] = from",
     "with no sync_cluster between them"},
    {"begin_without_meeting", "  sync_cluster();\n  for (int to",
     "  sync_threads();\n  for (int to", "which may not have begun"},
    {"end_while_others_may_store", "  sync_cluster();\n  int sum", "  return;\n  int sum",
     "which ends with no sync_cluster between them"},
    {"block_ends_early", "  sync_cluster();\n}", "  if (block == 1) sync_cluster();\n}",
     "block 0 of the cluster has ended; block 1 of the cluster waits at sync_cluster"},
    {"threads_miss_the_meeting", "  sync_cluster();\n}", "  if (thread < 32) sync_cluster();\n}",
     "lanes 0 to 31 wait at sync_cluster; lanes 32 to 63 have ended"},
    {"threads_wait_elsewhere", "  sync_cluster();\n}",
     "  if (thread < 32) sync_cluster(); else sync_threads();\n}",
     "lanes 0 to 31 wait at sync_cluster; lanes 32 to 63 wait at sync_threads"},
    {"store_outside", "[64 * block + thread]", "[64 * blocks + thread]",
     "outside the kernel's 512 bytes of shared memory"},
    {"no_such_block", "shared_of(numbers, to)", "shared_of(numbers, to + 1)",
     "block 2 of a cluster of 2"},
    {"place_of_a_tensor", "shared_of(numbers, to)", "shared_of(params.ids, to)",
     "what is not in shared memory"},
};

constexpr Fault kMessageFaults[] = {
    {"read_without_waiting", "  wait_words(barrier, 0);\n", "  sync_threads();\n",
     "of shared memory"},
    {"announce_too_little", "announce_words(there, 4 * 32)", "announce_words(there, 4 * 31)",
     "lane"},
    {"announce_too_much", "announce_words(there, 4 * 32)", "announce_words(there, 4 * 33)",
     "wait at a phase of the barrier at byte 4096"},
    {"one_warp_announces_nothing", "if (thread % 32 == 0)\n      announce",
     "if (thread == 0)\n      announce", "wait at a phase of the barrier at byte 4096"},
    {"begin_without_meeting", "  sync_cluster();\n", "  sync_threads();\n",
     "which may not have begun"},
    {"no_barrier_there", "init_barrier(barrier, 2", "init_barrier(barrier - 8, 2",
     "which is no barrier"},
    {"two_threads_send_to_one_place", "64 * block + thread)", "64 * block + thread / 2)",
     "writes byte"},
    {"two_blocks_send_to_one_place", "64 * block + thread)", "thread)", "writes byte"},
    {"a_barrier_of_another_block", "to), there,", "to), shared_address_of(barrier, 0),",
     "which a barrier of block 0 counts"},
    {"no_such_block", "shared_address_of(barrier, to)", "shared_address_of(barrier, to + blocks)",
     "block 2 of a cluster of 2"},
    {"own_address", "shared_address_of(barrier, to)", "barrier",
     "an address that shared_address_of has not made"},
    {"store_over_what_comes", "  wait_words(barrier, 0);\n",
     "  reinterpret_cast<int *>(shared)[thread] = 1;\n  wait_words(barrier, 0);\n", "writes byte"},
};

class MessageFaults : public Clusters, public testing::WithParamInterface<Fault> {};

TEST_P(MessageFaults, AreFoundInEveryOrder) {
  const Fault &fault = GetParam();
  load(with(kMessages, fault.from, fault.to), 17);
  sharedBytes = kMessageBytes;
  for (int order = 0; order < 4; ++order) {
    const Result<std::vector<int>> sums = run({4, 1, 2, 1});
    ASSERT_FALSE(sums) << "nothing was found";
    fmt::print("{}: {}\n", fault.name, sums.error().message);
    EXPECT_NE(sums.error().message.find(fault.finds), std::string::npos) << sums.error().message;
  }
}

INSTANTIATE_TEST_SUITE_P(Emulator, MessageFaults, testing::ValuesIn(kMessageFaults),
                         [](const auto &info) { return std::string(info.param.name); });

class ClusterFaults : public Clusters, public testing::WithParamInterface<Fault> {};

TEST_P(ClusterFaults, AreFoundInEveryOrder) {
  const Fault &fault = GetParam();
  load(exchangeWith(fault.from, fault.to), 2);
  for (int order = 0; order < 4; ++order) {
    const Result<std::vector<int>> sums = run({4, 1, 2, 1});
    ASSERT_FALSE(sums) << "nothing was found";
    const std::string &words = sums.error().message;
    fmt::print("{}: {}\n", fault.name, words);
    EXPECT_NE(words.find(fault.finds), std::string::npos) << words;
    EXPECT_NE(words.find("kernel exchange"), std::string::npos) << words;
    EXPECT_NE(words.find("exchange.cu:"), std::string::npos) << words;
  }
}

INSTANTIATE_TEST_SUITE_P(Emulator, ClusterFaults, testing::ValuesIn(kFaults),
                         [](const auto &info) { return std::string(info.param.name); });

} // namespace

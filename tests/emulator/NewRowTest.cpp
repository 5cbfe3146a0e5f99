// The summary that a decode step's new key finishes, as a warp makes it from its keys
// (make_new_row) and puts it into a tile: bit for bit the mean that summarize and append make, in
// the place where the tile's order wants it. The kernel is written by hand.
#include "compiler/cuda/EmulatedCode.h"
#include "reference/Half.h"
#include "runtime/device/DeviceMemory.h"
#include "templates/Params.h"
#include "templates/select/summary_order.cuh"
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <random>

using namespace winnow;

namespace {

constexpr int kWindow = 32, kStride = 16, kKeys = 160;

/// Row 3 of keys of DIM channels without a page table goes to place 13 of a tile of zeros, which is
/// then written out row by row.
constexpr const char *kText = R"(#include "winnow/sm90.cuh"

extern "C" __global__ void __launch_bounds__(32, 1)
new_row(const __grid_constant__ Params params) {
  extern __shared__ __align__(1024) unsigned char shared[];
  const SharedTile<32, DIM, bf16> tile{shared};
  const int lane = threadIdx.x;
  for (int row = 0; row < 32; ++row)
    if (lane < DIM / 8)
      store_zeros(tile.address(row, lane));
  __syncwarp();
  PagedRows<bf16> keys{};
  keys.first = static_cast<const bf16 *>(params.k);
  keys.token_stride = DIM;
  NewRow row;
  make_new_row<bf16, 32, 16, DIM>(row, keys, 3, 1.f);
  put_new_row(tile, row, 13);
  for (int n = 0; n < 32; ++n)
    if (lane < DIM / 8) {
      const uint4 words = load_words(tile.address(n, lane));
      int *to = params.ids + (n * (DIM / 8) + lane) * 4;
      to[0] = words.x, to[1] = words.y, to[2] = words.z, to[3] = words.w;
    }
}
)";

class NewRow : public testing::TestWithParam<int> {};

TEST_P(NewRow, IsTheMeanBitForBitInItsPlace) {
  const int dim = GetParam();
  Result<std::shared_ptr<Driver>> opened = Driver::open(WINNOW_EMULATOR);
  ASSERT_TRUE(opened) << opened.error().message;
  const std::shared_ptr<Driver> driver = *opened;
  ASSERT_TRUE(driver->makeCurrent(0));
  std::string text = kText;
  for (size_t at = text.find("DIM"); at != std::string::npos; at = text.find("DIM"))
    text.replace(at, 3, std::to_string(dim));
  Result<Nvrtc::Output> code = compileForEmulator(text, "new_row");
  ASSERT_TRUE(code) << code.error().message;
  const DriverApi &api = driver->api();
  CUlibrary library = nullptr;
  CUkernel kernel = nullptr;
  ASSERT_EQ(api.cuLibraryLoadData(&library, code->binary.data(), nullptr, nullptr, 0, nullptr,
                                  nullptr, 0),
            0);
  ASSERT_EQ(api.cuLibraryGetKernel(&kernel, library, "new_row"), 0);

  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  std::vector<uint16_t> keys(kKeys * dim);
  for (uint16_t &key : keys)
    key = reference::toBf16(normal(random));
  auto given = DeviceBuffer::allocate(driver, keys.size() * 2);
  auto found = DeviceBuffer::allocate(driver, 32 * dim * 2);
  ASSERT_TRUE(given && found);
  ASSERT_TRUE(given->upload(keys.data(), keys.size() * 2));
  Params params{};
  params.k = given->data<void>();
  params.ids = found->data<int>();
  const unsigned shared = 32 * dim * 2;
  ASSERT_EQ(api.cuKernelSetAttribute(cuda::kFuncMaxDynamicSharedBytes, shared, kernel, 0), 0);
  const CudaLaunchConfig config{{1, 1, 1}, {32, 1, 1}, shared, nullptr, nullptr, 0};
  void *arguments[] = {&params};
  ASSERT_TRUE(driver->check(
      api.cuLaunchKernelEx(&config, reinterpret_cast<CUfunction>(kernel), arguments, nullptr),
      "new_row"));
  std::vector<uint16_t> tile(32 * dim);
  ASSERT_TRUE(found->download(tile.data(), tile.size() * 2));
  for (int n = 0; n < 32; ++n)
    for (int channel = 0; channel < dim; ++channel) {
      float sum = 0;
      for (int key = 3 * kStride; key < 3 * kStride + kWindow; ++key)
        sum += reference::fromBf16(keys[key * dim + channel]);
      const uint16_t mean = reference::toBf16(sum / kWindow);
      ASSERT_EQ(tile[n * dim + channel], summary_order(n) == 13 ? mean : 0)
          << "row " << n << ", channel " << channel;
    }
  api.cuLibraryUnload(library);
}

INSTANTIATE_TEST_SUITE_P(Emulator, NewRow, testing::Values(64, 96, 128, 192, 256),
                         testing::PrintToStringParamName());

} // namespace

// Opening the driver: what it tells, and one clear sentence for each way in which it is not there.
// Our declarations are compared with cuda.h where that exists.
#include "runtime/device/Driver.h"
#include "FakeLibrary.h"
#include "TestSupport.h"
#include "runtime/device/DeviceMemory.h"

// Our types by our names, before cuda.h renames some functions by macro (cuEventElapsedTime to its
// second version).
#define WINNOW_OUR_TYPE(name, parameters) using Our_##name = decltype(winnow::DriverApi::name);
WINNOW_DRIVER_FUNCTIONS(WINNOW_OUR_TYPE)
WINNOW_OPTIONAL_DRIVER_FUNCTIONS(WINNOW_OUR_TYPE)

#if __has_include(<cuda.h>)
#include <cuda.h>
#define WINNOW_HAVE_CUDA_H 1
#endif

using namespace winnow;
using namespace winnow::test;

namespace {

TEST(Driver, ListsDevices) {
  resetFakeDriver(kFake);
  FakeDevice second;
  second.name = "Fake Hopper";
  second.major = 9;
  fakeDriver(kFake).devices.push_back(second);
  Result<std::shared_ptr<Driver>> driver = Driver::open(kFake);
  ASSERT_TRUE(driver) << driver.error().message;
  EXPECT_EQ((*driver)->version(), 13000);
  EXPECT_EQ((*driver)->path(), kFake);
  ASSERT_EQ((*driver)->devices().size(), 2u);
  const DeviceInfo &info = (*driver)->devices()[1];
  EXPECT_EQ(info.index, 1);
  EXPECT_EQ(info.name, "Fake Hopper");
  EXPECT_EQ(info.uuid, "GPU-a1a1a1a1-a1a1-a1a1-a1a1-a1a1a1a1a1a1");
  EXPECT_EQ(info.major, 9);
  EXPECT_EQ(info.memoryBytes, size_t(80) << 30);
  EXPECT_EQ(info.smCount, 108);
  EXPECT_EQ(info.sharedPerBlock, 163 * 1024);
  EXPECT_EQ((*driver)->device(2).error().message, "there is no GPU 2; this machine has 0 to 1");
  EXPECT_FALSE((*driver)->device(-1));
}

std::string openError(const char *path) {
  Result<std::shared_ptr<Driver>> driver = Driver::open(path);
  if (driver)
    return "no error";
  EXPECT_EQ(driver.error().kind, ErrorKind::DeviceFailed);
  return driver.error().message;
}

TEST(Driver, EachAbsenceHasItsSentence) {
  resetFakeDriver(kFake);
  EXPECT_NE(
      openError("/nonexistent/libcuda.so.1").find("no CUDA driver: /nonexistent/libcuda.so.1"),
      std::string::npos);
  EXPECT_NE(openError(WINNOW_FAKE_CUDA_STUB).find("stub"), std::string::npos);
  EXPECT_NE(openError(WINNOW_FAKE_CUDA_OLD)
                .find("serves CUDA 11.4 and lacks cuLibraryLoadData; Winnow needs 12.0"),
            std::string::npos)
      << openError(WINNOW_FAKE_CUDA_OLD);
  fakeDriver(kFake).version = 11080;
  EXPECT_NE(openError(kFake).find("serves CUDA 11.8; Winnow needs 12.0"), std::string::npos);
  resetFakeDriver(kFake);
  fakeDriver(kFake).initResult = cuda::kNoDevice;
  EXPECT_NE(openError(kFake).find("finds no GPU"), std::string::npos);
  resetFakeDriver(kFake);
  fakeDriver(kFake).devices.clear();
  EXPECT_NE(openError(kFake).find("finds no GPU"), std::string::npos);
  resetFakeDriver(kFake);
  fakeDriver(kFake).initResult = 999;
  EXPECT_EQ(openError(kFake),
            "starting the CUDA driver (cuInit): made up by the fake driver (CUDA_ERROR_FAKE)");
  resetFakeDriver(kFake);
}

TEST(Driver, ThePathComesFromTheEnvironment) {
  EXPECT_TRUE(exitedWith(runChild([] {
                           setenv("WINNOW_LIBCUDA", kFake, 1);
                           Result<std::shared_ptr<Driver>> driver = Driver::open();
                           return driver && (*driver)->path() == kFake ? 0 : 1;
                         }),
                         0));
}

TEST(Driver, ContextsPerThreadAndDevice) {
  resetFakeDriver(kFake);
  fakeDriver(kFake).devices.push_back(FakeDevice());
  std::shared_ptr<Driver> driver = *Driver::open(kFake);
  ASSERT_TRUE(driver->makeCurrent(1));
  EXPECT_EQ(*driver->currentDevice(), 1);
  ASSERT_TRUE(driver->makeCurrent(0));
  EXPECT_EQ(*driver->currentDevice(), 0);
  ASSERT_TRUE(driver->makeCurrent(1));
  EXPECT_EQ(fakeDriver(kFake).calls["cuDevicePrimaryCtxRetain"], 2);
  EXPECT_FALSE(driver->makeCurrent(2));
  driver.reset();
  EXPECT_EQ(fakeDriver(kFake).calls["cuDevicePrimaryCtxRelease_v2"], 2);
}

TEST(DeviceMemory, OwnsWhatItAllocates) {
  resetFakeDriver(kFake);
  std::shared_ptr<Driver> driver = *Driver::open(kFake);
  ASSERT_TRUE(driver->makeCurrent(0));
  {
    Result<DeviceBuffer> buffer = DeviceBuffer::allocate(driver, 16);
    ASSERT_TRUE(buffer);
    const char text[] = "fifteen letters";
    ASSERT_TRUE(buffer->upload(text, sizeof(text)));
    char back[16];
    ASSERT_TRUE(buffer->download(back, sizeof(back)));
    EXPECT_STREQ(back, text);
    ASSERT_TRUE(buffer->fill(0));
    ASSERT_TRUE(buffer->download(back, 1));
    EXPECT_EQ(back[0], 0);
    EXPECT_FALSE(buffer->upload(text, 17));
    EXPECT_FALSE(buffer->download(back, 17));
    DeviceBuffer moved = std::move(*buffer);
    EXPECT_EQ(buffer->data(), nullptr);
    EXPECT_EQ(moved.size(), 16u);
    moved = *DeviceBuffer::allocate(driver, 32);
    EXPECT_EQ(fakeDriver(kFake).liveAllocations, 1);
    EXPECT_EQ(DeviceBuffer::allocate(driver, 0)->data(), nullptr);
    Stream stream = *Stream::create(driver);
    Event begin = *Event::create(driver), end = *Event::create(driver);
    EXPECT_TRUE(begin.record(stream.get()) && end.record(stream.get()) && end.synchronize() &&
                stream.synchronize());
    EXPECT_EQ(*end.millisecondsSince(begin), 1.5f);
  }
  EXPECT_EQ(fakeDriver(kFake).liveAllocations, 0);
  EXPECT_EQ(fakeDriver(kFake).calls["cuEventDestroy_v2"], 2);
  EXPECT_EQ(fakeDriver(kFake).calls["cuStreamDestroy_v2"], 1);
  fakeDriver(kFake).failOnce["cuMemAlloc_v2"] = cuda::kOutOfMemory;
  Result<DeviceBuffer> none = DeviceBuffer::allocate(driver, 123456);
  ASSERT_FALSE(none);
  EXPECT_NE(none.error().message.find("allocating 123456 bytes of GPU memory"), std::string::npos);
}

#ifdef WINNOW_HAVE_CUDA_H
/// Equal calling convention: same number of parameters, each of the same size and kind (an enum
/// travels as an int).
template <typename Ours, typename Theirs>
constexpr bool kSameParameter =
    sizeof(Ours) == sizeof(Theirs) && std::is_pointer_v<Ours> == std::is_pointer_v<Theirs>;
template <typename R1, typename... Ours, typename R2, typename... Theirs>
constexpr bool sameAbi(R1 (*)(Ours...), R2 (*)(Theirs...)) {
  if constexpr (sizeof...(Ours) == sizeof...(Theirs))
    return sizeof(R1) == sizeof(R2) && (kSameParameter<Ours, Theirs> && ...);
  return false;
}
#define WINNOW_SAME_ABI(name, parameters)                                                          \
  static_assert(sameAbi(Our_##name(), decltype (&::name)()), #name " differs from cuda.h");
WINNOW_DRIVER_FUNCTIONS(WINNOW_SAME_ABI)
#if CUDA_VERSION >= 12040
WINNOW_OPTIONAL_DRIVER_FUNCTIONS(WINNOW_SAME_ABI)
#endif
static_assert(sizeof(CudaUuid) == sizeof(CUuuid) && sizeof(CudaResult) == sizeof(CUresult));
static_assert(cuda::kOutOfMemory == CUDA_ERROR_OUT_OF_MEMORY &&
              cuda::kDeinitialized == CUDA_ERROR_DEINITIALIZED);
static_assert(cuda::kStubLibrary == CUDA_ERROR_STUB_LIBRARY &&
              cuda::kNoDevice == CUDA_ERROR_NO_DEVICE);
static_assert(cuda::kInvalidDevice == CUDA_ERROR_INVALID_DEVICE &&
              cuda::kInvalidImage == CUDA_ERROR_INVALID_IMAGE);
static_assert(cuda::kInvalidContext == CUDA_ERROR_INVALID_CONTEXT &&
              cuda::kNoBinaryForGpu == CUDA_ERROR_NO_BINARY_FOR_GPU);
static_assert(cuda::kInvalidPtx == CUDA_ERROR_INVALID_PTX &&
              cuda::kNotFound == CUDA_ERROR_NOT_FOUND);
static_assert(cuda::kUnsupportedPtxVersion == CUDA_ERROR_UNSUPPORTED_PTX_VERSION);
static_assert(cuda::kTensorFloat16 == CU_TENSOR_MAP_DATA_TYPE_FLOAT16 &&
              cuda::kTensorBfloat16 == CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 &&
              cuda::kTensorNoInterleave == CU_TENSOR_MAP_INTERLEAVE_NONE &&
              cuda::kTensorSwizzle128 == CU_TENSOR_MAP_SWIZZLE_128B &&
              cuda::kTensorPromote256 == CU_TENSOR_MAP_L2_PROMOTION_L2_256B &&
              cuda::kTensorFillZero == CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
static_assert(sizeof(TensorMap) == sizeof(CUtensorMap) &&
              alignof(TensorMap) == alignof(CUtensorMap));
static_assert(cuda::kAttrClockRate == CU_DEVICE_ATTRIBUTE_CLOCK_RATE);
static_assert(cuda::kAttrMultiprocessorCount == CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT);
static_assert(cuda::kAttrMemoryClockRate == CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE);
static_assert(cuda::kAttrL2CacheSize == CU_DEVICE_ATTRIBUTE_L2_CACHE_SIZE);
static_assert(cuda::kAttrComputeCapabilityMajor == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR);
static_assert(cuda::kAttrComputeCapabilityMinor == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR);
static_assert(cuda::kAttrMaxSharedPerBlockOptin ==
              CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN);
static_assert(cuda::kFuncMaxThreadsPerBlock == CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK);
static_assert(cuda::kFuncSharedSizeBytes == CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES);
static_assert(cuda::kFuncLocalSizeBytes == CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES);
static_assert(cuda::kFuncNumRegs == CU_FUNC_ATTRIBUTE_NUM_REGS);
static_assert(cuda::kFuncMaxDynamicSharedBytes == CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES);
static_assert(cuda::kStreamNonBlocking == CU_STREAM_NON_BLOCKING &&
              cuda::kEventDefault == CU_EVENT_DEFAULT);
static_assert(cuda::kCaptureModeThreadLocal == CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
#endif

} // namespace

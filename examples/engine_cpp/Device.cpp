// The GPU through the CUDA driver, its recordings CUDA graphs; the CPU through plain memory.
#include "Device.h"
#include "../device/cuda_driver.h"
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

void need(bool done, const char *what) {
  if (done)
    return;
  std::fprintf(stderr, "engine_cpp: %s failed\n", what);
  std::exit(1);
}

class Gpu : public Device {
public:
  explicit Gpu(const cuda_driver &driver) : cuda(driver) {}
  ~Gpu() override {
    if (executable)
      cuda.cuGraphExecDestroy(executable);
    if (stream)
      cuda.cuStreamDestroy_v2(stream);
    for (unsigned long long pointer : memory)
      cuda.cuMemFree_v2(pointer);
    if (opened)
      cuda.cuDevicePrimaryCtxRelease_v2(device);
  }
  /// Makes the context of GPU 0 current on this thread, as a launch wants it. False: there is none.
  bool open() {
    void *context = nullptr;
    opened = cuda.cuInit(0) == 0 && cuda.cuDeviceGet(&device, 0) == 0 &&
             cuda.cuDevicePrimaryCtxRetain(&context, device) == 0;
    return opened && cuda.cuCtxSetCurrent(context) == 0;
  }
  int32_t index() const override { return 0; }
  std::string name() const override { return "GPU 0"; }
  void *allocate(size_t bytes) override {
    unsigned long long pointer = 0;
    need(cuda.cuMemAlloc_v2(&pointer, bytes) == 0, "an allocation");
    memory.push_back(pointer);
    return reinterpret_cast<void *>(pointer);
  }
  void write(void *to, const void *from, size_t bytes) override {
    need(cuda.cuMemcpyHtoD_v2(reinterpret_cast<unsigned long long>(to), from, bytes) == 0,
         "a copy to the device");
  }
  void read(void *to, const void *from, size_t bytes) override {
    need(cuda.cuMemcpyDtoH_v2(to, reinterpret_cast<unsigned long long>(from), bytes) == 0,
         "a copy from the device");
  }
  winnow::Status run(const Work &work) override {
    openStream();
    winnow::Status status = work(stream);
    wait();
    return status;
  }
  Replay record(const Work &work) override {
    openStream();
    constexpr int kOfThisThread = 1; // CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
    void *graph = nullptr;
    need(cuda.cuStreamBeginCapture_v2(stream, kOfThisThread) == 0, "beginning a capture");
    winnow::Status status = work(stream);
    need(cuda.cuStreamEndCapture(stream, &graph) == 0, "ending a capture");
    need(cuda.cuGraphInstantiateWithFlags(&executable, graph, 0) == 0, "making a graph");
    cuda.cuGraphDestroy(graph);
    return {status, [this] {
              need(cuda.cuGraphLaunch(executable, stream) == 0, "a graph's launch");
              wait();
            }};
  }

private:
  void openStream() {
    constexpr unsigned kWithoutDefaultStream = 1; // CU_STREAM_NON_BLOCKING
    need(stream || cuda.cuStreamCreate(&stream, kWithoutDefaultStream) == 0, "making a stream");
  }
  void wait() { need(cuda.cuStreamSynchronize(stream) == 0, "what was launched"); }

  cuda_driver cuda;
  int device = 0;
  bool opened = false;
  void *stream = nullptr, *executable = nullptr;
  std::vector<unsigned long long> memory;
};

class Cpu : public Device {
public:
  int32_t index() const override { return WINNOW_CPU; }
  std::string name() const override { return "the CPU"; }
  void *allocate(size_t bytes) override {
    memory.emplace_back(std::aligned_alloc(256, (bytes + 255) / 256 * 256));
    need(memory.back() != nullptr, "an allocation");
    return memory.back().get();
  }
  void write(void *to, const void *from, size_t bytes) override { std::memcpy(to, from, bytes); }
  void read(void *to, const void *from, size_t bytes) override { std::memcpy(to, from, bytes); }
  winnow::Status run(const Work &work) override { return work(nullptr); }
  Replay record(const Work &work) override {
    return {{}, [work] { need(work(nullptr).ok(), "a launch"); }};
  }

private:
  struct Free {
    void operator()(void *pointer) const { std::free(pointer); }
  };
  std::vector<std::unique_ptr<void, Free>> memory;
};

} // namespace

std::unique_ptr<Device> openGpu(const char *path) {
  cuda_driver driver;
  if (!cuda_driver_open(&driver, path))
    return nullptr;
  auto gpu = std::make_unique<Gpu>(driver);
  return gpu->open() ? std::move(gpu) : nullptr;
}
std::unique_ptr<Device> openCpu() { return std::make_unique<Cpu>(); }

// Where an engine keeps its tensors and runs its launches: a GPU, or this host.
#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>
#include <winnow.hpp>

class Device {
public:
  virtual ~Device() = default;
  virtual int32_t index() const = 0; ///< as winnow_prepare takes it
  virtual std::string name() const = 0;
  /// 256-byte aligned; lives as long as the device. Ends the process where there is no memory.
  virtual void *allocate(size_t bytes) = 0;
  virtual void write(void *to, const void *from, size_t bytes) = 0;
  virtual void read(void *to, const void *from, size_t bytes) = 0;

  /// Something to be done again and again: launches on a stream.
  using Work = std::function<winnow::Status(void *stream)>;
  /// Does it once and waits.
  virtual winnow::Status run(const Work &work) = 0;
  /// Records it, once; each call of `replay` does it again and waits.
  struct Replay {
    winnow::Status status;
    std::function<void()> replay;
  };
  virtual Replay record(const Work &work) = 0;
};

/// GPU 0 behind the CUDA driver at `path` (null: the system's), or null where there is none.
std::unique_ptr<Device> openGpu(const char *path);
std::unique_ptr<Device> openCpu();

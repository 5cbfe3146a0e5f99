// A place where programs run: the CPU target or one GPU. Host tensors in, host tensors and times
// out; the commands need not know which it is.
#pragma once
#include "reference/conformance/Conformance.h"
#include "reference/conformance/Layout.h"
#include "runtime/device/Driver.h"
#include "tools/winnow/commands/prepare/Programs.h"
#include <memory>
#include <string>

namespace winnow {

struct BackendCall {
  CompileRequest request; ///< method, spec, config; the backend fills in the architecture if empty
  std::shared_ptr<const ProgramImage> image; ///< run this instead of `request` (GPU only)
  const reference::Problem *problem = nullptr;
  const int32_t *ids = nullptr; ///< attention alone, over these ids
  /// The output's gradient: those of q, k and v are made too; the request's spec says backward.
  const uint16_t *dout = nullptr;
  /// The problem's tensors as a host keeps them, for a request whose spec is paged; null: packed.
  const StoredTensors *stored = nullptr;
  bool appendOnly = false; ///< nothing but the rows of new keys, into stored->rows
  int repeats = 0;         ///< timed launches after a first one (GPU); 0: the first one is timed
  bool answers = true;     ///< bring the results back
  /// Every byte of a GPU's workspace before the launch: NaN, or with kPlausible a number that
  /// passes for a score, so that a score that nobody wrote is not taken for one beyond fp32 and
  /// made again.
  unsigned char workspaceByte = 0xff;
  static constexpr unsigned char kPlausible = 0x5a;
  std::function<void(double)> progress = {};
};

/// Makes room for the gradients of a problem, all NaN, so that what was never written is seen.
void allocateGradients(const reference::Problem &problem, CaseAnswer &tensors);

struct BackendAnswer {
  CaseAnswer tensors;
  int selectHeads = 0;
  double prepareMs = 0; ///< compile or cache look-up, and loading
  bool cacheHit = false;
  /// Medians in milliseconds: the selection (every step up to top-k) and attention. Selection is 0
  /// where there is none.
  double selectMs = 0, attendMs = 0;
  double backwardMs = 0;                               ///< likewise, of gradients
  std::vector<std::pair<std::string, double>> kernels; ///< per kernel, GPU only; summed over chunks
  double totalMs() const { return selectMs + attendMs; }
};

class Backend {
public:
  virtual ~Backend() = default;
  virtual Result<BackendAnswer> run(const BackendCall &call) = 0;
  virtual bool isGpu() const = 0;
  virtual std::string description() const = 0; ///< "NVIDIA H200 (sm_90a)", "CPU, 8 threads"
  virtual std::string arch() const { return {}; }
  virtual std::string deviceName() const { return {}; } ///< the GPU's, as its driver calls it
};

struct BackendOptions {
  std::string device = "auto"; ///< auto, cuda, cuda:N, cpu, emulated
  std::string arch;            ///< GPU: compile for this architecture instead of the device's own
  bool ptx = false; ///< GPU: load PTX of the virtual architecture, compiled by the driver
  int threads = 0;  ///< CPU: 0 = all cores

  CodeForm form() const {
    return device == "emulated" ? CodeForm::Emulated : ptx ? CodeForm::Ptx : CodeForm::Cubin;
  }
};

/// Errors: Usage for an unknown device text; DeviceFailed without driver or device; Unsupported
/// where this build lacks the CPU target. "auto" takes the first GPU that Winnow has code for, else
/// the CPU, and says why on stderr.
Result<std::unique_ptr<Backend>> openBackend(const BackendOptions &options, Cache &cache);

// One per kind, for openBackend.
Result<std::unique_ptr<Backend>> openCudaBackend(int device, const BackendOptions &options,
                                                 Cache &cache);
Result<std::unique_ptr<Backend>> openEmulatedBackend(const BackendOptions &options, Cache &cache);
Result<std::unique_ptr<Backend>> openCpuBackend(const BackendOptions &options);

/// The emulator as a driver, and its device of an architecture (empty: the default one). Error:
/// Unsupported where this build has none, or for an unknown architecture.
Result<std::shared_ptr<Driver>> openEmulator(const std::string &arch, DeviceInfo &device);
/// A device whose launches a command makes itself, by the number of a GPU, or emulated or
/// emulated:ARCH; `form`: of its code. Errors: Usage for another text; DeviceFailed.
Result<std::shared_ptr<Driver>> launchDevice(const std::string &name, DeviceInfo &device,
                                             CodeForm &form);

} // namespace winnow

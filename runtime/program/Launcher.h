// Runs a program image on one GPU. Loading does everything slow (driver load, attributes, parsing
// of the recipe); launch() only evaluates formulas and enqueues kernels: no allocation,
// synchronisation or read-back, so it may be captured in a CUDA graph.
#pragma once
#include "runtime/device/Driver.h"
#include "runtime/program/DenseLength.h"
#include "runtime/program/Formula.h"
#include "runtime/program/ProgramImage.h"
#include "runtime/program/TensorLayout.h"
#include <atomic>
#include <memory>

struct Params;

namespace winnow {

struct LaunchPlan;
class LastPlan;

/// Sizes of one call. Each query segment and key sequence is a slice of the ragged batch.
struct Shape {
  int batch = 1;  ///< sequences; cu_q and cu_k have batch + 1 entries
  int totalQ = 0; ///< query tokens of all sequences, below 2^31
  int totalK = 0; ///< key tokens of all sequences
  int maxQ = 0;   ///< longest query segment (an upper bound is allowed)
  int maxK = 0;   ///< longest key sequence (an upper bound is allowed)
};

/// Which steps of the program run.
enum class Phase {
  All,
  Select, ///< every step from summaries in the workspace to top_k: writes ids, reads neither v nor
          ///< out
  Attend, ///< attend and merge: reads ids (given by the caller) where the program has a selection
  Append, ///< the rows that the host keeps, of new keys alone: reads k and lengths
  Backward, ///< gradients, which no other phase makes: reads q, k, v, out, lse, ids and dout
};

/// The phase in which a kernel runs beside Phase::All.
inline Phase phaseOf(const Kernel &kernel) {
  return kernel.step == "append" ? Phase::Append
         : isBackward(kernel)    ? Phase::Backward
         : attends(kernel)       ? Phase::Attend
                                 : Phase::Select;
}

/// Device pointers and sizes of one call; layouts as in templates/Params.h. q, k, v and out are
/// 16-byte aligned.
struct LaunchArgs {
  const void *q = nullptr, *k = nullptr, *v = nullptr;
  void *out = nullptr;
  float *lse = nullptr; ///< may be null
  int *ids = nullptr;   ///< [select_heads, total_q, topk]; null allowed only for programs without a
                        ///< selection
  const int *cuQ = nullptr, *cuK = nullptr;
  void *rows[kMostRows] =
      {}; ///< the summaries that the host keeps, of a paged program; all or none
  const void *dout = nullptr;                       ///< of Phase::Backward
  void *dq = nullptr, *dk = nullptr, *dv = nullptr; ///< likewise, written
  Shape shape;
  Phase phase = Phase::All;
  /// [kv_heads] what turns stored keys and values into true ones, where they are fp8; null: 1.
  const float *kScale = nullptr, *vScale = nullptr;
  TensorLayout layout; ///< for programs whose spec is paged; all others take none of it
};

/// Whether the numbers can be those of a call. Error: Usage.
Status checkShape(const Shape &shape);
/// Whether every pointer that the program follows is there and aligned for how it is read, and the
/// layout is one that it reads. Of the image nothing but its method, spec, selectHeads and
/// summaries counts. Error: Usage, naming the field.
Status checkArgs(const ProgramImage &program, const LaunchArgs &args);

constexpr int64_t kWorkspaceAlignment = 256; ///< of it and of every buffer in it

/// Called after each kernel has been enqueued: for benchmarks that time kernels one by one (record
/// an event).
using LaunchObserver = void (*)(void *user, const Kernel &kernel, int chunk, CUstream stream);

struct LoadOptions {
  int device = 0;
  bool allowPtx = false; ///< PTX is compiled by the driver only when asked for (F21)
};

class LoadedProgram {
public:
  /// Loads every kernel onto `options.device` and sets its attributes there, so that the first
  /// launch finds nothing left to do. Makes that device's context current on this thread. Errors:
  /// Unsupported when the image is for another architecture or needs more shared memory than the
  /// device has; DeviceFailed when the driver refuses;
  /// `refused` (may be null) is set where it is the image's code that it refuses.
  static Result<std::unique_ptr<LoadedProgram>> load(std::shared_ptr<const ProgramImage> image,
                                                     std::shared_ptr<Driver> driver,
                                                     LoadOptions options = {},
                                                     bool *refused = nullptr);
  ~LoadedProgram();
  LoadedProgram(const LoadedProgram &) = delete;
  LoadedProgram &operator=(const LoadedProgram &) = delete;

  /// Bytes of workspace that a launch of this shape needs (256-byte aligned device memory, contents
  /// undefined). Error: Usage for an impossible shape.
  Result<size_t> workspaceSize(const Shape &shape, Phase phase = Phase::All) const;
  /// Of a launch of this shape, see DenseLength::of: 0 where dense_len is not `auto`.
  Result<int> denseLength(int batch, int maxQ) const { return dense.of(batch, maxQ); }
  /// Enqueues the program on `stream`. The device's context must be current on this thread.
  /// `workspace` stays in use until the stream has passed the launch. Errors: Usage for bad
  /// pointers, shape or workspace (nothing is enqueued); DeviceFailed when the driver refuses a
  /// launch (earlier kernels of the call are then already enqueued).
  Status launch(const LaunchArgs &args, CUstream stream, void *workspace, size_t workspaceBytes,
                LaunchObserver observer = nullptr, void *user = nullptr) const;

  const ProgramImage &image() const { return *program; }
  int device() const { return deviceIndex; }

private:
  struct Step;
  struct LoadedMap {
    const TensorMapRecipe *recipe;
    std::vector<Formula> extents;
  };
  LoadedProgram();
  Status loadKernel(const Kernel &kernel, const DeviceInfo &info, bool *refused);
  Result<LaunchPlan> plan(const Shape &shape, Phase phase) const;
  Result<LaunchPlan> makePlan(const Shape &shape, Phase phase, bool withoutStep) const;
  static Status checkWorkspace(const void *workspace, size_t bytes, int64_t needed);
  void setLayout(const LaunchArgs &args, Params &params) const;
  static int boxRows(const LaunchArgs &args, int most);
  Status encodeTensorMaps(const LaunchArgs &args, const LaunchPlan &plan, Params &params) const;
  Status checkReach(const Variables &variables) const;
  Status enqueueAll(const LaunchArgs &args, CUstream stream, void *workspace, size_t workspaceBytes,
                    LaunchObserver observer, void *user) const;

  std::shared_ptr<const ProgramImage> program;
  std::shared_ptr<Driver> driver;
  int deviceIndex = 0, smCount = 1, clusterLimit = 0, stepLimit = 0;
  DenseLength dense;
  Formula parts, cluster, stepTiles, scoreStride, chunkTokens, backwardChunkTokens;
  /// The driver did not take the cooperative kernel with this much of the GPU: others answer.
  mutable std::atomic<bool> refusesStep = false;
  std::vector<Formula> bufferBytes, backwardBytes; ///< of the program's buffers
  std::vector<LoadedMap> maps, backwardMaps;       ///< of the program's tensor maps
  std::vector<Step> steps;                         ///< in launch order
  std::unique_ptr<LastPlan> lastPlan;
};

} // namespace winnow

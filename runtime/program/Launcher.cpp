// Loads program images and enqueues their kernels. A launch is a plan (workspace offsets and chunk
// size for the shape), then one pass over the steps; consecutive per-chunk steps run together,
// chunk after chunk: score, top_k, score, ...
#include "runtime/program/Launcher.h"
#include "runtime/device/Target.h"
#include "runtime/program/Budgets.h"
#include "runtime/program/GridLimits.h"
#include "runtime/program/ImageFormat.h"
#include "runtime/program/LaunchPlan.h"
#include <algorithm>
#include <climits>
#include <fmt/format.h>
#include <numeric>

namespace winnow {

namespace {

constexpr int64_t kMaxGridX = INT_MAX,
                  kMaxGridY = 65535; // CUDA C++ Programming Guide, technical specifications

/// The recipe's text with the defaults that an empty field stands for.
Result<Formula> parseField(const std::string &text, const char *otherwise, Variable lastKnown) {
  return Formula::parse(text.empty() ? otherwise : text, lastKnown);
}

/// Whether the code is what is wrong. Anything else (no memory left, a context that an earlier
/// kernel broke) would be the same with new code.
bool blamesTheImage(CudaResult result) {
  constexpr std::array<CudaResult, 6> codes = {cuda::kInvalidImage,  cuda::kNoBinaryForGpu,
                                               cuda::kInvalidPtx,    cuda::kUnsupportedPtxVersion,
                                               cuda::kInvalidSource, cuda::kNotFound};
  return std::find(codes.begin(), codes.end(), result) != codes.end();
}

} // namespace

struct LoadedProgram::Step {
  const Kernel *kernel = nullptr;
  CUlibrary library = nullptr;
  CUkernel handle = nullptr;
  Formula when, gridX, gridY;
  Phase phase = Phase::Select;
  bool selects = false; ///< it is a top_k: writes ids
  std::string what;     ///< for error messages: "launching attend"
};

LoadedProgram::LoadedProgram() : lastPlan(std::make_unique<LastPlan>()) {}

LoadedProgram::~LoadedProgram() {
  for (Step &step : steps)
    if (step.library)
      (void)driver->api().cuLibraryUnload(step.library);
}

Result<std::unique_ptr<LoadedProgram>>
LoadedProgram::load(std::shared_ptr<const ProgramImage> image, std::shared_ptr<Driver> driver,
                    LoadOptions options, bool *refused) {
  WINNOW_CHECK(checkImage(*image));
  WINNOW_TRY(DeviceInfo info, driver->device(options.device));
  WINNOW_TRY(const Target *target, findTarget(image->arch));
  bool ptx = std::any_of(image->kernels.begin(), image->kernels.end(), isPtx);
  if (ptx && !options.allowPtx)
    return fail(ErrorKind::Unsupported,
                "this image holds PTX, which is loaded only when asked for; "
                "compile it to cubins for this GPU");
  if (ptx ? !ptxRunsOn(*target, info.major, info.minor) : !runsOn(*target, info.major, info.minor))
    return fail(
        ErrorKind::Unsupported,
        fmt::format(
            "this image is for {}, but GPU {} ({}) has compute capability {}.{}; compile it "
            "for that GPU",
            image->arch, info.index, info.name, info.major, info.minor));
  WINNOW_CHECK(driver->makeCurrent(options.device));

  std::unique_ptr<LoadedProgram> loaded(new LoadedProgram);
  loaded->program = std::move(image);
  loaded->driver = std::move(driver);
  loaded->deviceIndex = options.device;
  loaded->smCount = info.smCount;
  const bool hasClusters =
      std::any_of(loaded->program->kernels.begin(), loaded->program->kernels.end(),
                  [](const Kernel &kernel) { return kernel.inClusters; });
  loaded->clusterLimit = hasClusters ? kMostClusterBlocks : 0;
  const ProgramImage &program = *loaded->program;
  // checkImage has parsed every formula once, so the values are there.
  loaded->dense = *DenseLength::parse(program.denseLength);
  loaded->parts = *parseField(program.parts, "1", Variable::DenseLength);
  loaded->cluster = *parseField(program.cluster, "0", Variable::DenseLength);
  loaded->stepTiles = *parseField(program.step, "0", Variable::Cluster);
  loaded->scoreStride = *parseField(program.scoreStride, "0", Variable::MaxK);
  loaded->chunkTokens = *parseField(program.chunkTokens, "total_q", Variable::ScoreStride);
  loaded->backwardChunkTokens =
      *parseField(program.backwardChunkTokens, "total_q", Variable::ScoreStride);
  for (const Buffer &buffer : program.buffers)
    loaded->bufferBytes.push_back(*Formula::parse(buffer.bytes, Variable::ChunkTokens));
  for (const Buffer &buffer : program.backwardBuffers)
    loaded->backwardBytes.push_back(*Formula::parse(buffer.bytes, Variable::ChunkTokens));
  auto parseMaps = [](const std::vector<TensorMapRecipe> &maps) {
    std::vector<LoadedMap> parsed;
    for (const TensorMapRecipe &map : maps) {
      std::vector<Formula> &extents = parsed.emplace_back(LoadedMap{&map, {}}).extents;
      for (const std::string &extent : map.extents)
        extents.push_back(*Formula::parse(extent, Variable::MaxK));
    }
    return parsed;
  };
  loaded->maps = parseMaps(program.tensorMaps);
  loaded->backwardMaps = parseMaps(program.backwardMaps);
  const bool hasMaps = !loaded->maps.empty() || !loaded->backwardMaps.empty();
  if (hasMaps && !loaded->driver->api().cuTensorMapEncodeTiled)
    return fail(ErrorKind::Unsupported,
                "this program's kernels need tensor maps, which this CUDA "
                "driver cannot encode; install a driver of CUDA 12 or newer");
  for (const Kernel &kernel : program.kernels)
    WINNOW_CHECK(loaded->loadKernel(kernel, info, refused));
  for (const Step &step : loaded->steps)
    if (step.kernel->inClusters) {
      WINNOW_TRY(const int most,
                 largestCluster(*loaded->driver, info.index, step.handle, *step.kernel));
      while (loaded->clusterLimit > most) // a power of 2, as recipes take them
        loaded->clusterLimit /= 2;
    } else if (step.kernel->cooperative) {
      WINNOW_TRY(loaded->stepLimit, blocksAtOnce(*loaded->driver, info, step.handle, *step.kernel));
    }
  return loaded;
}

Status LoadedProgram::loadKernel(const Kernel &kernel, const DeviceInfo &info, bool *refused) {
  int reserved = (*findTarget(program->arch))->sharedReserved;
  int shared = kernel.sharedBytes + std::max(0, kernel.staticSharedBytes - reserved);
  if (shared > info.sharedPerBlock)
    return fail(
        ErrorKind::Unsupported,
        fmt::format(
            "kernel {} needs {} bytes of shared memory per block, GPU {} ({}) has {}; compile "
            "with a smaller config",
            kernel.name, shared, info.index, info.name, info.sharedPerBlock));
  Step &step = steps.emplace_back();
  step.kernel = &kernel;
  step.phase = phaseOf(kernel);
  step.selects = kernel.step == "top_k";
  step.what = fmt::format("launching {}", kernel.name);
  step.when = *parseField(kernel.when, "1", kLastVariable);
  step.gridX = *parseField(kernel.gridX, "1", Variable::TokenCount);
  step.gridY = *parseField(kernel.gridY, "1", Variable::TokenCount);

  const DriverApi &api = driver->api();
  std::string what = fmt::format("loading kernel {} for {}", kernel.name, program->arch);
  CudaResult result = api.cuLibraryLoadData(&step.library, kernel.cubin.c_str(), nullptr, nullptr,
                                            0, nullptr, nullptr, 0);
  if (result == cuda::kSuccess)
    result = api.cuLibraryGetKernel(&step.handle, step.library, kernel.name.c_str());
  CUdevice device = 0;
  if (result == cuda::kSuccess)
    result = api.cuDeviceGet(&device, info.index);
  if (result == cuda::kSuccess)
    result = api.cuKernelSetAttribute(cuda::kFuncMaxDynamicSharedBytes, kernel.sharedBytes,
                                      step.handle, device);
  // Drivers load code lazily, at the first launch, which would synchronise and break a graph
  // capture (F15).
  CUfunction function = nullptr;
  if (result == cuda::kSuccess)
    result = api.cuKernelGetFunction(&function, step.handle);
  if (result == cuda::kSuccess && api.cuFuncLoad)
    result = api.cuFuncLoad(function);
  if (refused)
    *refused = blamesTheImage(result);
  return driver->check(result, what.c_str());
}

Status checkShape(const Shape &shape) {
  if (shape.batch < 1 || shape.totalQ < 0 || shape.totalK < 0 || shape.maxQ < 0 || shape.maxK < 0)
    return fail(ErrorKind::Usage,
                fmt::format("impossible shape: batch {}, total_q {}, total_k {}, max_q {}, "
                            "max_k {}",
                            shape.batch, shape.totalQ, shape.totalK, shape.maxQ, shape.maxK));
  return {};
}

Result<LaunchPlan> LoadedProgram::plan(const Shape &shape, Phase phase) const {
  const bool withoutStep = refusesStep;
  return lastPlan->of({shape.batch, shape.totalQ, shape.totalK, shape.maxQ, shape.maxK,
                       static_cast<int>(phase), withoutStep},
                      [&] { return makePlan(shape, phase, withoutStep); });
}

Result<LaunchPlan> LoadedProgram::makePlan(const Shape &shape, Phase phase,
                                           bool withoutStep) const {
  WINNOW_CHECK(checkShape(shape));
  LaunchPlan plan;
  Variables &v = plan.variables;
  v[Variable::SmCount] = smCount;
  v[Variable::ClusterLimit] = clusterLimit;
  v[Variable::StepLimit] = withoutStep ? 0 : stepLimit;
  v[Variable::Batch] = shape.batch;
  v[Variable::TotalQ] = shape.totalQ;
  // Lengths are known to the device alone where keys are paged: each sequence has room for max_k.
  v[Variable::TotalK] = program->spec.paged ? int64_t(shape.batch) * shape.maxK : shape.totalK;
  if (v[Variable::TotalK] > INT_MAX)
    return fail(ErrorKind::Unsupported,
                fmt::format("{} sequences of up to {} keys are more than 2^31 keys: give a lower "
                            "max_k, or split the batch",
                            shape.batch, shape.maxK));
  v[Variable::MaxQ] = shape.maxQ;
  v[Variable::MaxK] = shape.maxK;

  WINNOW_TRY(v[Variable::DenseLength], dense.of(shape.batch, shape.maxQ));
  WINNOW_TRY(v[Variable::Parts], parts.evaluate(v));
  WINNOW_TRY(v[Variable::Cluster], cluster.evaluate(v));
  if (phase == Phase::All) {
    WINNOW_TRY(v[Variable::Step], stepTiles.evaluate(v));
  }
  WINNOW_TRY(int64_t stride, scoreStride.evaluate(v));
  if (stride < 0 || stride > INT_MAX)
    return fail(ErrorKind::Usage,
                fmt::format("a row of block scores would have {} elements (formula '{}')", stride,
                            scoreStride.text()));
  v[Variable::ScoreStride] = stride;
  const bool isBackward = phase == Phase::Backward;
  WINNOW_TRY(int64_t chunk, (isBackward ? backwardChunkTokens : chunkTokens).evaluate(v));
  // Progress needs one token per chunk, however small the workspace was meant to be.
  v[Variable::ChunkTokens] = std::min<int64_t>(std::max<int64_t>(chunk, 1), shape.totalQ);

  const std::vector<Formula> &formulas = isBackward ? backwardBytes : bufferBytes;
  const std::vector<Buffer> &buffers = isBackward ? program->backwardBuffers : program->buffers;
  plan.bufferCount = formulas.size();
  for (size_t i = 0; i < formulas.size(); ++i) {
    WINNOW_TRY(int64_t bytes, formulas[i].evaluate(v));
    plan.offset[i] = plan.workspaceBytes;
    int64_t padded = 0;
    if (bytes < 0 || __builtin_add_overflow(bytes, kWorkspaceAlignment - 1, &padded) ||
        __builtin_add_overflow(plan.workspaceBytes,
                               padded / kWorkspaceAlignment * kWorkspaceAlignment,
                               &plan.workspaceBytes))
      return fail(ErrorKind::Usage,
                  fmt::format("workspace buffer {} would have {} bytes (formula '{}')",
                              buffers[i].name, bytes, formulas[i].text()));
  }
  return plan;
}

Result<size_t> LoadedProgram::workspaceSize(const Shape &shape, Phase phase) const {
  return plan(shape, phase).map([](const LaunchPlan &plan) {
    return static_cast<size_t>(plan.workspaceBytes);
  });
}

/// How many keys of a page one bulk copy brings, where it may bring `most`: all lie in one page,
/// and in whole patterns of 8 rows of the 128-byte swizzle. 0: none can be brought so.
int LoadedProgram::boxRows(const LaunchArgs &args, int most) {
  const TensorLayout &layout = args.layout;
  if (!layout.pageTable) // without a count of rows nothing would end the last copy
    return args.shape.totalK > 0 ? most : 0;
  if (layout.kBegin) // boxes begin anywhere: a page must hold the whole sequence
    return args.shape.batch > 1 && layout.pageTableStride == 1 ? most : 0;
  const int rows = std::gcd(layout.pageSize, most);
  return rows % 8 == 0 ? rows : 0;
}

/// Describes the call's tensors to the bulk tensor copies: host work only, nothing is enqueued.
/// (CUDA Driver API, "Tensor Map Object Management".)
Status LoadedProgram::encodeTensorMaps(const LaunchArgs &args, const LaunchPlan &plan,
                                       Params &params) const {
  const std::vector<LoadedMap> &all = args.phase == Phase::Backward ? backwardMaps : maps;
  for (size_t i = 0; i < all.size(); ++i) {
    const TensorMapRecipe &map = *all[i].recipe;
    const char which = map.tensor[0]; // checkImage knows q, k and v, and dout
    const void *tensor = which == 'q'   ? args.q
                         : which == 'k' ? args.k
                         : which == 'v' ? args.v
                                        : args.dout;
    if (!tensor)
      continue; // not read in this phase, or empty
    const bool isQuery = which == 'q', isStrided = program->spec.paged;
    if (isStrided && !isQuery && params.box_rows == 0)
      continue; // no kernel of this launch reads it
    const long long *tensorStrides = isQuery        ? params.q_stride
                                     : which == 'k' ? params.k_stride
                                                    : params.v_stride;
    constexpr size_t kMaxRank = 5;
    uint64_t extents[kMaxRank] = {}, strides[kMaxRank] = {};
    uint32_t box[kMaxRank] = {}, steps[kMaxRank] = {};
    const size_t rank = map.extents.size();
    for (size_t d = 0; d < rank; ++d) {
      WINNOW_TRY(int64_t extent, all[i].extents[d].evaluate(plan.variables));
      extents[d] = static_cast<uint64_t>(std::max<int64_t>(extent, 1));
      box[d] = static_cast<uint32_t>(map.box[d]);
      steps[d] = 1;
      if (d > 0 && isStrided && isQuery) // a dimension of tokens or of heads
        strides[d - 1] = 2 * tensorStrides[map.extents[d] == "total_q" ? 0 : 1];
      else if (d > 0)
        strides[d - 1] = static_cast<uint64_t>(map.strides[d - 1]);
    }
    if (isStrided && !isQuery) {
      // How many pages a host has it does not say: kernels read those that its table names.
      extents[2] = params.page_table ? params.page_size : args.shape.totalK;
      extents[3] = params.page_table ? INT_MAX : 1;
      strides[0] = 2 * tensorStrides[2]; // of a head
      strides[1] = 2 * tensorStrides[1]; // of a token
      strides[2] = 2 * tensorStrides[0]; // of a page
      box[2] = params.box_rows;
    }
    const int type =
        program->spec.dtype == Dtype::BF16 ? cuda::kTensorBfloat16 : cuda::kTensorFloat16;
    CudaResult result = driver->api().cuTensorMapEncodeTiled(
        &params.map[i], type, static_cast<uint32_t>(rank), const_cast<void *>(tensor), extents,
        strides, box, steps, cuda::kTensorNoInterleave, cuda::kTensorSwizzle128,
        cuda::kTensorPromote256, cuda::kTensorFillZero);
    if (result != cuda::kSuccess)
      return driver->check(result, fmt::format("describing tensor {}", map.tensor).c_str());
  }
  return {};
}

/// Refuses sequences whose rows no top_k kernel holds: nothing would write their ids.
Status LoadedProgram::checkReach(const Variables &variables) const {
  if (variables[Variable::Step] > 0)
    return {};
  bool selects = false;
  for (const Step &step : steps)
    if (step.selects) {
      WINNOW_TRY(int64_t wanted, step.when.evaluate(variables));
      if (wanted != 0)
        return {};
      selects = true;
    }
  const bool isDense = variables[Variable::MaxK] < variables[Variable::DenseLength];
  if (selects && variables[Variable::MaxK] > 0 && !isDense)
    return fail(
        ErrorKind::Unsupported,
        fmt::format("launch: sequences of {} keys have more blocks of {} than the selection "
                    "kernels hold: take larger blocks",
                    variables[Variable::MaxK], program->spec.block));
  return {};
}

Status LoadedProgram::launch(const LaunchArgs &args, CUstream stream, void *workspace,
                             size_t workspaceBytes, LaunchObserver observer, void *user) const {
  const bool refusedBefore = refusesStep;
  Status status = enqueueAll(args, stream, workspace, workspaceBytes, observer, user);
  // With less of the GPU than it has, as MPS and green contexts give, the other kernels answer;
  // what was enqueued before them is done again.
  if (!status && refusesStep && !refusedBefore)
    return enqueueAll(args, stream, workspace, workspaceBytes, observer, user);
  return status;
}

Status LoadedProgram::enqueueAll(const LaunchArgs &args, CUstream stream, void *workspace,
                                 size_t workspaceBytes, LaunchObserver observer, void *user) const {
  WINNOW_TRY(LaunchPlan planned, plan(args.shape, args.phase));
  WINNOW_CHECK(checkArgs(*program, args));
  const bool appends = args.phase == Phase::Append; // takes no workspace
  WINNOW_CHECK(checkWorkspace(workspace, workspaceBytes, appends ? 0 : planned.workspaceBytes));
  WINNOW_TRY(int current, driver->currentDevice());
  if (current != deviceIndex)
    return fail(ErrorKind::Usage,
                fmt::format("launch: this program is loaded on GPU {}, but the current context "
                            "is that of GPU {}",
                            deviceIndex, current));
  const bool hasWork = args.phase == Phase::Backward
                           ? args.shape.totalQ > 0 || args.shape.totalK > 0
                           : args.shape.totalQ > 0;
  if (!hasWork) // without queries, keys have gradients of 0
    return {};
  planned.variables[Variable::Rows] = args.rows[0] ? 1 : 0;
  if (!args.rows[0])
    planned.variables[Variable::Step] = 0;
  if (args.phase == Phase::All || args.phase == Phase::Select)
    WINNOW_CHECK(checkReach(planned.variables));

  Params params{};
  params.q = args.q;
  params.k = args.k;
  params.v = args.v;
  params.out = args.out;
  params.lse = args.lse;
  params.ids = args.ids;
  params.cu_q = args.cuQ;
  params.cu_k = args.cuK;
  params.dout = args.dout;
  params.dq = args.dq;
  params.dk = args.dk;
  params.dv = args.dv;
  for (size_t i = 0; i < planned.bufferCount && !appends; ++i)
    params.buffer[i] = static_cast<char *>(workspace) + planned.offset[i];
  params.batch = args.shape.batch;
  params.total_q = args.shape.totalQ;
  params.total_k = static_cast<int>(planned.variables[Variable::TotalK]);
  params.max_q = args.shape.maxQ;
  params.max_k = args.shape.maxK;
  params.dense_length = static_cast<int>(planned.variables[Variable::DenseLength]);
  params.parts = static_cast<int>(planned.variables[Variable::Parts]);
  params.selects = args.phase == Phase::All;
  params.step = static_cast<int>(planned.variables[Variable::Step]);
  params.score_stride = static_cast<int>(planned.variables[Variable::ScoreStride]);
  if (program->spec.paged) {
    setLayout(args, params);
    for (const TensorMapRecipe &map : program->tensorMaps)
      if (map.tensor[0] == 'k')
        params.box_rows = boxRows(args, map.box[2]);
    planned.variables[Variable::BoxRows] = params.box_rows;
  }

  WINNOW_CHECK(encodeTensorMaps(args, planned, params));

  // Graphs hold such launches from CUDA 12.3 on.
  const bool startsEarly = driver->api().cuLaunchKernelEx && driver->version() >= 12030;
  bool isFirst = true; // what runs in front of it is the host's, and need not end early
  auto enqueue = [&](const Step &step, int begin, int end, int chunk) -> Status {
    Variables &variables = planned.variables;
    variables[Variable::TokenCount] = end - begin;
    WINNOW_TRY(int64_t wanted, step.when.evaluate(variables));
    if (wanted == 0)
      return {};
    Result<int64_t> x = step.gridX.evaluate(variables), y = step.gridY.evaluate(variables);
    if (!x || !y)
      return tl::unexpected(x ? y.error() : x.error());
    if (*x < 0 || *y < 0 || *x > kMaxGridX || *y > kMaxGridY)
      return fail(ErrorKind::Unsupported,
                  fmt::format("{}: a grid of {} x {} blocks is out of range for this shape",
                              step.what, *x, *y));
    if (*x == 0 || *y == 0)
      return {}; // nothing to do, and CUDA refuses empty grids
    const int64_t cluster = step.kernel->inClusters ? variables[Variable::Cluster] : 1;
    if (cluster < 1 || cluster > kMostClusterBlocks || *x % cluster != 0)
      return fail(ErrorKind::Unsupported,
                  fmt::format("{}: {} blocks in clusters of {} cannot be launched", step.what, *x,
                              cluster));
    params.token_begin = begin;
    params.token_end = end;
    void *arguments[] = {&params};
    // The driver takes a CUkernel wherever it takes a CUfunction, and finds the function of the
    // current context.
    auto function = reinterpret_cast<CUfunction>(step.handle);
    const auto threads = static_cast<unsigned>(step.kernel->blockThreads),
               shared = static_cast<unsigned>(step.kernel->sharedBytes),
               blocks = static_cast<unsigned>(*x), rows = static_cast<unsigned>(*y);
    CudaResult result;
    CudaLaunchAttribute attributes[3] = {};
    unsigned count = 0;
    if (step.kernel->early && !isFirst && startsEarly) {
      attributes[count].id = cuda::kProgrammaticStreamSerialization;
      attributes[count++].value = 1;
    }
    if (step.kernel->inClusters) {
      attributes[count].id = cuda::kClusterDimension;
      attributes[count].cluster[0] = static_cast<unsigned>(cluster);
      attributes[count].cluster[1] = attributes[count].cluster[2] = 1;
      ++count;
    }
    if (step.kernel->cooperative) {
      attributes[count].id = cuda::kCooperative;
      attributes[count++].value = 1;
    }
    if (count > 0) {
      const CudaLaunchConfig config{
          {blocks, rows, 1}, {threads, 1, 1}, shared, stream, attributes, count};
      result = driver->api().cuLaunchKernelEx(&config, function, arguments, nullptr);
    } else {
      result = driver->api().cuLaunchKernel(function, blocks, rows, 1, threads, 1, 1, shared,
                                            stream, arguments, nullptr);
    }
    isFirst = false;
    if (step.kernel->cooperative && result == cuda::kCooperativeLaunchTooLarge)
      refusesStep = true;
    if (result == cuda::kSuccess && observer)
      observer(user, *step.kernel, chunk, stream);
    return driver->check(result, step.what.c_str());
  };
  auto inPhase = [&](const Step &step) {
    return args.phase == step.phase || (args.phase == Phase::All && step.phase != Phase::Backward);
  };

  // Chunks of gradients are of each segment's tokens; max_q may be more than any has.
  const int longest = std::min(args.shape.maxQ, args.shape.totalQ);
  const int total = std::max(args.phase == Phase::Backward ? longest : args.shape.totalQ, 1),
            chunkSize = std::max(static_cast<int>(planned.variables[Variable::ChunkTokens]), 1);
  for (size_t first = 0; first < steps.size();) {
    // The steps that share this loop over chunks: a run of per-chunk steps, or one step over all
    // tokens.
    const bool perChunk = steps[first].kernel->perChunk;
    size_t last = first + 1;
    while (perChunk && last < steps.size() && steps[last].kernel->perChunk)
      ++last;
    const int64_t tokens = perChunk ? chunkSize : total;
    int chunk = 0;
    for (int64_t begin = 0; begin < total; begin += tokens, ++chunk)
      for (size_t i = first; i < last; ++i)
        if (inPhase(steps[i])) {
          int end = static_cast<int>(std::min<int64_t>(begin + tokens, total));
          WINNOW_CHECK(enqueue(steps[i], static_cast<int>(begin), end, chunk));
        }
    first = last;
  }
  return {};
}

} // namespace winnow

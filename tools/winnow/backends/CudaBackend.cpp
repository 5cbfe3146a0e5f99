// One GPU as a backend: uploads host tensors, launches, measures with events, brings answers back.
#include "runtime/program/Launcher.h"
#include "tools/winnow/Session.h"
#include "tools/winnow/backends/Backend.h"
#include "tools/winnow/backends/CudaTensors.h"
#include <algorithm>
#include <array>
#include <fmt/format.h>
#include <map>
#include <unistd.h>

namespace winnow {
namespace {

class CudaBackend : public Backend {
public:
  CudaBackend(std::shared_ptr<Driver> driver, DeviceInfo info, std::string archName, CodeForm form,
              Cache &cache)
      : driver(std::move(driver)), info(std::move(info)), archName(std::move(archName)), form(form),
        cache(cache) {}

  bool isGpu() const override { return true; }
  std::string arch() const override { return archName; }
  std::string deviceName() const override { return info.name; }
  std::string description() const override {
    return fmt::format("{} ({}{})", info.name, archName, form == CodeForm::Ptx ? ", as PTX" : "");
  }

  Result<BackendAnswer> run(const BackendCall &call) override {
    BackendAnswer answer;
    double began = now();
    WINNOW_CHECK(driver->makeCurrent(info.index)); // callers may come from any thread
    std::shared_ptr<LoadedProgram> program;
    WINNOW_TRY(program, load(call, answer.cacheHit));
    answer.prepareMs = (now() - began) * 1000;
    answer.selectHeads = program->image().selectHeads;

    const reference::Problem &problem = *call.problem;
    DeviceTensors tensors;
    WINNOW_TRY(tensors,
               DeviceTensors::make(driver, problem, answer.selectHeads, call.ids, call.stored));
    LaunchArgs args = tensors.args(problem);
    args.phase = call.appendOnly ? Phase::Append : call.ids ? Phase::Attend : Phase::All;
    size_t workspaceBytes = 0;
    WINNOW_TRY(workspaceBytes, program->workspaceSize(args.shape));
    WINNOW_TRY(tensors.workspace, poisonedBuffer(driver, workspaceBytes));
    WINNOW_CHECK(tensors.workspace.fill(call.workspaceByte));

    WINNOW_TRY(Stream stream, Stream::create(driver));
    WINNOW_CHECK(driver->check(driver->api().cuCtxSynchronize(), "waiting for uploads"));
    WINNOW_TRY(const Medians times,
               measure(*program, args, stream.get(), tensors.workspace, workspaceBytes, call));
    answer.selectMs = times.select;
    answer.attendMs = times.attend;
    answer.kernels = times.kernels;
    if (call.answers) {
      WINNOW_TRY(answer.tensors, tensors.download(problem, answer.selectHeads));
    }
    if (call.dout)
      WINNOW_CHECK(backward(*program, stream.get(), tensors, call, answer));
    WINNOW_TRY(answer.tensors.denseLength, program->denseLength(args.shape.batch, args.shape.maxQ));
    return answer;
  }

private:
  /// Of several launches, in milliseconds: kernels of attention, all others, and each.
  struct Medians {
    double select, attend;
    std::vector<std::pair<std::string, double>> kernels;
  };

  /// Programs stay loaded: cases share them, and the driver takes seconds to compile PTX.
  Result<std::shared_ptr<LoadedProgram>> load(const BackendCall &call, bool &cacheHit) {
    std::shared_ptr<const ProgramImage> image = call.image;
    std::string name;
    if (!image) {
      CompileRequest request = call.request;
      request.arch = archName;
      request.form = form;
      name = request.method + "\n" + request.spec.text() + "\n" + request.config.text();
      if (auto found = loaded.find(name); found != loaded.end()) {
        cacheHit = true;
        return found->second;
      }
      ObtainedProgram program;
      WINNOW_TRY(program, obtainProgram(request, cache));
      image = program.image;
      cacheHit = program.cacheHit;
    }
    LoadOptions options;
    options.device = info.index;
    options.allowPtx = form == CodeForm::Ptx;
    std::shared_ptr<LoadedProgram> program;
    WINNOW_TRY(program, LoadedProgram::load(image, driver, options));
    if (!name.empty())
      loaded[name] = program;
    return program;
  }

  /// Gradients of the attention that `tensors` are the results of.
  Status backward(const LoadedProgram &program, CUstream stream, DeviceTensors &tensors,
                  const BackendCall &call, BackendAnswer &answer) {
    WINNOW_CHECK(tensors.addGradients(driver, *call.problem, call.dout));
    const LaunchArgs args = tensors.backwardArgs(*call.problem);
    WINNOW_TRY(const size_t bytes, program.workspaceSize(args.shape, args.phase));
    WINNOW_TRY(tensors.workspace, poisonedBuffer(driver, bytes));
    WINNOW_CHECK(tensors.workspace.fill(call.workspaceByte));
    WINNOW_CHECK(driver->check(driver->api().cuCtxSynchronize(), "waiting for uploads"));
    WINNOW_TRY(const Medians times, measure(program, args, stream, tensors.workspace, bytes, call));
    answer.backwardMs = times.select + times.attend;
    answer.kernels.insert(answer.kernels.end(), times.kernels.begin(), times.kernels.end());
    return tensors.downloadGradients(*call.problem, answer.tensors);
  }

  /// The first launch produces the answers (and the times, without repeats); the medians come from
  /// the repeats.
  Result<Medians> measure(const LoadedProgram &program, const LaunchArgs &args, CUstream stream,
                          DeviceBuffer &workspace, size_t workspaceBytes, const BackendCall &call) {
    std::vector<double> selects, attends;
    std::map<std::string, std::vector<double>> kernels;
    for (int round = 0; round <= call.repeats; ++round) {
      KernelTimer timer(driver);
      WINNOW_CHECK(timer.begin(stream));
      WINNOW_CHECK(program.launch(args, stream, workspace.data(), workspaceBytes,
                                  KernelTimer::observe, &timer));
      KernelTimes times;
      WINNOW_TRY(times, timer.finish());
      if (call.progress)
        call.progress(static_cast<double>(round + 1) / (call.repeats + 1));
      if (round == 0 && call.repeats > 0)
        continue;
      selects.push_back(times.select);
      attends.push_back(times.attend);
      for (const auto &[name, time] : times.kernels)
        kernels[name].push_back(time);
    }
    Medians medians{median(selects), median(attends), {}};
    for (const Kernel &kernel : program.image().kernels)
      if (auto times = kernels.find(kernel.name); times != kernels.end())
        medians.kernels.emplace_back(kernel.name, median(times->second));
    return medians;
  }

  std::shared_ptr<Driver> driver;
  DeviceInfo info;
  std::string archName;
  CodeForm form;
  Cache &cache;
  std::map<std::string, std::shared_ptr<LoadedProgram>> loaded;
};

} // namespace

Result<std::unique_ptr<Backend>> openCudaBackend(int device, const BackendOptions &options,
                                                 Cache &cache) {
  std::shared_ptr<Driver> driver;
  WINNOW_TRY(driver, Driver::open());
  DeviceInfo info;
  WINNOW_TRY(info, driver->device(device));
  std::string arch = options.arch;
  if (arch.empty()) {
    const Target *target = nullptr;
    WINNOW_TRY(target, targetForDevice(info.major, info.minor));
    arch = target->arch;
  }
  WINNOW_CHECK(driver->makeCurrent(info.index));
  return std::make_unique<CudaBackend>(driver, info, arch, options.form(), cache);
}

Result<std::shared_ptr<Driver>> openEmulator(const std::string &arch, DeviceInfo &device) {
  std::array<char, 4096> program{};
  const ssize_t length = ::readlink("/proc/self/exe", program.data(), program.size() - 1);
  std::string library(program.data(), std::max<ssize_t>(length, 0));
  library.replace(library.rfind('/') + 1, std::string::npos, "libwinnow_emulator.so");
  if (::access(library.c_str(), R_OK) != 0)
    return fail(
        ErrorKind::Unsupported,
        fmt::format("--device emulated: this build has no emulator; {} is missing", library));
  std::shared_ptr<Driver> driver;
  WINNOW_TRY(driver, Driver::open(library));
  // One device per architecture.
  const Target *target = nullptr;
  WINNOW_TRY(target, findTarget(arch.empty() ? defaultTarget().arch : arch));
  WINNOW_TRY(device, driver->device(static_cast<int>(target - targets().data())));
  return driver;
}

Result<std::unique_ptr<Backend>> openEmulatedBackend(const BackendOptions &options, Cache &cache) {
  if (options.ptx)
    return fail(ErrorKind::Usage, "--ptx does not go with --device emulated");
  std::shared_ptr<Driver> driver;
  DeviceInfo info;
  WINNOW_TRY(driver, openEmulator(options.arch, info));
  WINNOW_CHECK(driver->makeCurrent(info.index));
  const std::string arch = options.arch.empty() ? defaultTarget().arch : options.arch;
  return std::make_unique<CudaBackend>(driver, info, arch, CodeForm::Emulated, cache);
}

} // namespace winnow

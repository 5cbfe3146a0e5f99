// Calls of the compiler's functions for the CPU; see CpuPrograms.h.
#include "runtime/api/CpuPrograms.h"
#include "runtime/Engine.h"
#include "runtime/Threads.h"
#include "runtime/api/HostBoundary.h"
#include "runtime/api/HostCompiler.h"
#include "runtime/api/SpecStruct.h"
#include <thread>

namespace winnow {

Result<std::shared_ptr<const LoadedCpuProgram>>
LoadedCpuProgram::load(const winnow_compiler &compiler, const ProgramRequest &request) {
  std::shared_ptr<LoadedCpuProgram> loaded(new LoadedCpuProgram(compiler));
  const SpecStruct spec(request);
  winnow_cpu_program made{};
  made.struct_size = sizeof(made);
  WINNOW_TRY(loaded->facts.key,
             callCompiler("winnow_compiler.cpu_load", [&](winnow_sink sink, void *context) {
               return compiler.cpu_load(compiler.user, spec.get(), &made, sink, context);
             }));
  loaded->handle = made.handle;
  loaded->facts.method = request.method;
  loaded->facts.spec = request.spec;
  loaded->facts.selectHeads = made.select_heads;
  loaded->facts.denseLength = orEmpty(made.dense_length);
  WINNOW_TRY(loaded->dense, DenseLength::parse(loaded->facts.denseLength));
  for (int i = 0; i < std::min(made.rows_count, kMostRows); ++i)
    loaded->facts.summaries.push_back({made.rows_window[i], made.rows_stride[i]});
  return loaded;
}

LoadedCpuProgram::~LoadedCpuProgram() {
  if (handle)
    compiler.cpu_free(compiler.user, handle);
}

Status LoadedCpuProgram::launch(const winnow_launch_args *given, const LaunchArgs &args) const {
  WINNOW_CHECK(checkShape(args.shape));
  WINNOW_CHECK(checkArgs(facts, args));
  if (args.shape.totalQ == 0)
    return {};
  return callCompiler("winnow_compiler.cpu_launch",
                      [&](winnow_sink sink, void *context) {
                        return compiler.cpu_launch(compiler.user, handle, given, sink, context);
                      })
      .map([](const std::string &) {});
}

Status LoadedCpuProgram::launchBackward(const winnow_backward_args *given,
                                        const LaunchArgs &args) const {
  WINNOW_CHECK(checkShape(args.shape));
  WINNOW_CHECK(checkArgs(facts, args));
  if (!compiler.cpu_launch_backward)
    return fail(ErrorKind::Unsupported,
                "this engine's compiler makes no gradients on the CPU: give it that of this "
                "Winnow's libwinnow_compiler.so");
  return callCompiler("winnow_compiler.cpu_launch_backward",
                      [&](winnow_sink sink, void *context) {
                        return compiler.cpu_launch_backward(compiler.user, handle, given, sink,
                                                            context);
                      })
      .map([](const std::string &) {});
}

Result<CpuPrograms::Found> CpuPrograms::prepare(const ProgramRequest &request) {
  if (!request.arch.empty())
    return fail(ErrorKind::Usage, fmt::format("spec: arch is {}, which is none of the CPU's: leave "
                                              "it null for WINNOW_CPU",
                                              request.arch));
  if (!isServedBy(compiler))
    return fail(ErrorKind::Unsupported,
                "this engine has no compiler for the CPU: give it that of libwinnow_compiler.so, "
                "which winnow_compiler_load opens");
  const std::pair name(request.text(), textVersion(request.method));
  {
    const std::lock_guard<std::mutex> lock(mutex);
    if (auto it = programs.find(name); it != programs.end()) {
      ++counts.memoryHits;
      return Found{it->second, ImageOrigin::Memory};
    }
    if (sealed) {
      ++counts.refused;
      return fail(
          ErrorKind::NotReady,
          fmt::format("not prepared for the CPU before the engine was sealed: {}", request.text()));
    }
  }
  WINNOW_TRY(Program made, LoadedCpuProgram::load(compiler, request));
  const std::lock_guard<std::mutex> lock(mutex);
  ++counts.builds;
  return Found{programs.emplace(name, std::move(made)).first->second, ImageOrigin::Compiled};
}

std::vector<Result<CpuPrograms::Found>>
CpuPrograms::prepareAll(const std::vector<ProgramRequest> &requests,
                        const std::function<bool(const ProgramRequest &)> &goOn) {
  std::vector<Result<Found>> results(requests.size(),
                                     fail(ErrorKind::NotReady, "cancelled before it was begun"));
  std::atomic<size_t> next{0};
  const size_t threads = std::max(1u, std::thread::hardware_concurrency());
  runOnThreads(std::min(threads, requests.size()), [&](bool) {
    for (size_t i; (i = next++) < requests.size();) {
      results[i] = prepare(requests[i]);
      if (goOn && !goOn(requests[i]))
        next = requests.size();
    }
  });
  return results;
}

Result<CpuPrograms::Program> CpuPrograms::find(const ProgramRequest &request) const {
  const std::lock_guard<std::mutex> lock(mutex);
  if (auto it = programs.find({request.text(), textVersion(request.method)}); it != programs.end())
    return it->second;
  return fail(
      ErrorKind::NotReady,
      fmt::format("not prepared for the CPU: {}; call prepare before launching", request.text()));
}

KernelStore::Counters CpuPrograms::counters() const {
  const std::lock_guard<std::mutex> lock(mutex);
  return counts;
}

} // namespace winnow

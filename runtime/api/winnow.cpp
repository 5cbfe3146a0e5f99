// The C API over Engine: checks arguments, converts structs of any version, and keeps every C++
// exception and type on this side. Handles own what they need, so the order in which a caller
// destroys them does not matter.
#include "runtime/api/winnow.h"
#include "runtime/Engine.h"
#include "runtime/Environment.h"
#include "runtime/api/CpuPrograms.h"
#include "runtime/api/HostBoundary.h"
#include "runtime/api/HostCompiler.h"
#include "runtime/api/LaunchStruct.h"
#include "runtime/api/SpecStruct.h"
#include <cstring>
#include <fmt/format.h>

using namespace winnow;

struct winnow_engine {
  Result<std::unique_ptr<Engine>> gpus; ///< an error where there is no driver
  CpuPrograms cpu;
  winnow_progress progress = nullptr;
  void *progressUser = nullptr;
};

struct winnow_program {
  std::shared_ptr<const LoadedProgram> gpu; ///< null on the CPU
  std::shared_ptr<const LoadedCpuProgram> cpu;
  std::shared_ptr<const ChosenConfig> choice;
  const ProgramImage &image() const { return gpu ? gpu->image() : cpu->image(); }
};

namespace {

Status needs(const void *pointer, const char *what) {
  return pointer ? Status() : Status(fail(ErrorKind::Usage, fmt::format("{} is null", what)));
}

/// The engine of the GPUs, or why there is none.
Result<Engine *> gpusOf(const winnow_engine *engine) {
  if (!engine->gpus)
    return tl::unexpected(engine->gpus.error());
  return engine->gpus->get();
}

/// Where the tunables of a program's phase come from.
Result<const TunedAnswer *> answerOf(const winnow_program *program, int32_t phase) {
  WINNOW_CHECK(needs(program, "program"));
  const ChosenConfig &choice = *program->choice;
  if (phase == WINNOW_BACKWARD && choice.backward)
    return &*choice.backward;
  if (phase == WINNOW_DECODE && choice.decode)
    return &*choice.decode;
  if (phase != WINNOW_SELECT && phase != WINNOW_ATTEND)
    return fail(ErrorKind::Usage,
                fmt::format("{} is neither WINNOW_SELECT nor WINNOW_ATTEND, nor WINNOW_BACKWARD of "
                            "a program with gradients, nor WINNOW_DECODE of a paged one",
                            phase));
  return phase == WINNOW_SELECT ? &choice.select : &choice.attend;
}

/// A prepared program, whatever it runs on, and where it came from.
struct Prepared {
  winnow_program program;
  winnow_origin origin;
};
Prepared ofGpu(const Engine::Prepared &prepared) {
  return {{prepared.program, nullptr, prepared.choice},
          static_cast<winnow_origin>(prepared.origin)};
}
/// The CPU target has no tunables: every phase that the program has is the default's.
Prepared ofCpu(const CpuPrograms::Found &found) {
  auto choice = std::make_shared<ChosenConfig>();
  if (found.program->image().spec.backward)
    choice->backward.emplace();
  if (found.program->image().spec.paged)
    choice->decode.emplace();
  return {{nullptr, found.program, std::move(choice)}, static_cast<winnow_origin>(found.origin)};
}

/// Gives the caller a handle of its own.
void hand(const Prepared &prepared, winnow_program **out) {
  *out = new winnow_program(prepared.program);
}

Result<Prepared> prepare(winnow_engine *engine, ProgramRequest request, int device) {
  if (device == WINNOW_CPU)
    return engine->cpu.prepare(request).map(ofCpu);
  WINNOW_TRY(Engine * gpus, gpusOf(engine));
  return gpus->prepare(std::move(request), device).map(ofGpu);
}

Result<std::vector<Result<Prepared>>>
prepareAll(winnow_engine *engine, const std::vector<ProgramRequest> &requests, int device) {
  std::vector<Result<Prepared>> all;
  std::mutex mutex; // one call of the host's at a time
  size_t done = 0;
  std::function<bool(const ProgramRequest &)> goOn;
  if (engine->progress)
    goOn = [&](const ProgramRequest &request) {
      const std::lock_guard<std::mutex> lock(mutex);
      ++done;
      return callHost("winnow_progress", [&] {
               return engine->progress(engine->progressUser, done, requests.size(),
                                       request.method.c_str());
             }) == 0;
    };
  if (device == WINNOW_CPU) {
    for (const Result<CpuPrograms::Found> &found : engine->cpu.prepareAll(requests, goOn))
      all.push_back(found.map(ofCpu));
    return all;
  }
  WINNOW_TRY(Engine * gpus, gpusOf(engine));
  for (const Result<Engine::Prepared> &prepared : gpus->prepareAll(requests, device, goOn))
    all.push_back(prepared.map(ofGpu));
  return all;
}

TuningOptions toTuning(const winnow_engine_options &c) {
  TuningOptions tuning;
  tuning.on = c.no_tuning == 0;
  if (c.tuned_files)
    tuning.files = splitPaths(c.tuned_files);
  tuning.decisions = orEmpty(c.decisions);
  tuning.replayOnly = c.replay_only != 0;
  if (c.log)
    tuning.log = [log = c.log, user = c.log_user](const std::string &line) {
      callHost("winnow_log", [&] { log(user, line.c_str()); });
    };
  return tuning;
}

Result<HostStorage> toStorage(const winnow_storage *given) {
  WINNOW_TRY(const winnow_storage storage, adopt(given, "storage"));
  if (!storage.load)
    return fail(ErrorKind::Usage, "storage: load is null");
  HostStorage own;
  own.load = [s = storage](const std::string &key) {
    std::optional<std::string> found;
    winnow_sink sink = [](void *context, const void *bytes, size_t size) {
      static_cast<std::optional<std::string> *>(context)->emplace(static_cast<const char *>(bytes),
                                                                  size);
    };
    callHost("winnow_storage.load", [&] { s.load(s.user, key.c_str(), sink, &found); });
    return found;
  };
  if (storage.store)
    own.store = [s = storage](const std::string &key, const std::string &bytes) {
      callHost("winnow_storage.store",
               [&] { s.store(s.user, key.c_str(), bytes.data(), bytes.size()); });
    };
  return own;
}

/// Of launches of gradients where the phase is theirs.
Status workspaceSize(const winnow_program *program, const winnow_shape *shape, Phase phase,
                     size_t *bytes) {
  WINNOW_CHECK(needs(program, "program"));
  WINNOW_CHECK(needs(bytes, "bytes"));
  WINNOW_TRY(Shape own, toShape(shape));
  if (program->cpu) {
    *bytes = 0;
    return checkShape(own);
  }
  WINNOW_TRY(*bytes, program->gpu->workspaceSize(own, phase));
  return {};
}

Status launchOnGpu(const winnow_program &program, const LaunchCall &call, void *stream) {
  return program.gpu->launch(call.args, static_cast<CUstream>(stream), call.workspace,
                             call.workspaceBytes);
}

} // namespace

const char *winnow_version(void) { return WINNOW_VERSION; }

const char *winnow_last_error(void) { return LastError::text(); }

winnow_status winnow_engine_create(const winnow_engine_options *options, winnow_engine **engine) {
  return guarded([&]() -> Status {
    WINNOW_CHECK(needs(engine, "engine"));
    *engine = nullptr;
    EngineOptions own;
    winnow_compiler compiler{};
    winnow_engine_options c{};
    if (options) {
      WINNOW_TRY(c, adopt(options, "options"));
      if (c.cache_dir)
        own.cache.directory = c.cache_dir;
      if (c.compiler) {
        WINNOW_TRY(compiler, toCompiler(c.compiler));
        own.hook = toHook(compiler);
      }
      own.driverPath = orEmpty(c.driver_path);
      own.allowPtx = c.allow_ptx != 0;
      own.tuning = toTuning(c);
      own.cache.warn = own.tuning.log; // empty: stderr
      if (c.storage) {
        WINNOW_TRY(own.cache.storage, toStorage(c.storage));
      }
      if (c.bundle)
        own.cache.bundleMemory.emplace_back(static_cast<const char *>(c.bundle), c.bundle_bytes);
    }
    Result<std::unique_ptr<Engine>> made = Engine::create(std::move(own));
    const bool mayLackGpus =
        !made && made.error().kind == ErrorKind::DeviceFailed && CpuPrograms::isServedBy(compiler);
    if (!made && !mayLackGpus)
      return tl::unexpected(made.error());
    *engine =
        new winnow_engine{std::move(made), CpuPrograms(compiler), c.progress, c.progress_user};
    return {};
  });
}

void winnow_engine_destroy(winnow_engine *engine) { delete engine; }

winnow_status winnow_prepare(winnow_engine *engine, const winnow_spec *spec, int32_t device,
                             winnow_program **program, winnow_origin *origin) {
  return guarded([&]() -> Status {
    WINNOW_CHECK(needs(engine, "engine"));
    WINNOW_CHECK(needs(program, "program"));
    *program = nullptr;
    WINNOW_TRY(ProgramRequest request, toRequest(spec));
    WINNOW_TRY(Prepared prepared, prepare(engine, std::move(request), device));
    if (origin)
      *origin = prepared.origin;
    hand(prepared, program);
    return {};
  });
}

winnow_status winnow_prepare_list(winnow_engine *engine, const winnow_spec *specs, size_t count,
                                  int32_t device, winnow_program **programs) {
  return guarded([&]() -> Status {
    WINNOW_CHECK(needs(engine, "engine"));
    WINNOW_CHECK(count == 0 ? Status() : needs(specs, "specs"));
    if (programs)
      std::fill(programs, programs + count, nullptr);
    // The caller's array has the steps of the caller's struct.
    WINNOW_CHECK(count == 0 ? Status() : hasSize(specs, "specs[0]"));
    const size_t step = count == 0 ? 0 : specs->struct_size;
    auto named = [](size_t i, const Error &error) {
      return fail(error.kind, fmt::format("specs[{}]: {}", i, error.message));
    };
    std::vector<ProgramRequest> requests;
    std::vector<size_t> places; // of the requests among the specs: a broken one makes none
    Status first;
    size_t firstAt = count;
    for (size_t i = 0; i < count; ++i) {
      const auto *spec =
          reinterpret_cast<const winnow_spec *>(reinterpret_cast<const char *>(specs) + i * step);
      Result<ProgramRequest> request =
          spec->struct_size == step
              ? toRequest(spec)
              : fail(ErrorKind::Usage, fmt::format("struct_size is {}, that of specs[0] is {}",
                                                   spec->struct_size, step));
      if (request) {
        requests.push_back(std::move(*request));
        places.push_back(i);
      } else if (first) {
        first = named(firstAt = i, request.error());
      }
    }
    std::vector<Result<Prepared>> prepared;
    WINNOW_TRY(prepared, prepareAll(engine, requests, device));
    for (size_t i = 0; i < prepared.size(); ++i) {
      if (prepared[i] && programs)
        hand(*prepared[i], &programs[places[i]]);
      if (!prepared[i] && places[i] < firstAt)
        first = named(firstAt = places[i], prepared[i].error());
    }
    return first;
  });
}

winnow_status winnow_engine_seal(winnow_engine *engine) {
  return guarded([&]() -> Status {
    WINNOW_CHECK(needs(engine, "engine"));
    engine->cpu.seal();
    if (engine->gpus)
      (*engine->gpus)->seal();
    return {};
  });
}

winnow_status winnow_engine_counters(const winnow_engine *engine, winnow_counters *counters) {
  return guarded([&]() -> Status {
    WINNOW_CHECK(needs(engine, "engine"));
    WINNOW_CHECK(hasSize(counters, "counters"));
    const KernelStore::Counters cpu = engine->cpu.counters(),
                                gpu = engine->gpus ? (*engine->gpus)->counters()
                                                   : KernelStore::Counters();
    giveBack(winnow_counters{0, cpu.builds + gpu.builds, gpu.diskHits,
                             cpu.memoryHits + gpu.memoryHits, cpu.refused + gpu.refused},
             counters);
    return {};
  });
}

winnow_status winnow_prepare_image(winnow_engine *engine, const char *path, int32_t device,
                                   winnow_program **program) {
  return guarded([&]() -> Status {
    WINNOW_CHECK(needs(engine, "engine"));
    WINNOW_CHECK(needs(path, "path"));
    WINNOW_CHECK(needs(program, "program"));
    *program = nullptr;
    if (device == WINNOW_CPU)
      return fail(ErrorKind::Usage, "an image file holds code of a GPU: prepare the method and its "
                                    "spec to run on the CPU");
    WINNOW_TRY(Engine * gpus, gpusOf(engine));
    WINNOW_TRY(Engine::Prepared prepared, gpus->prepareImage(path, device));
    hand(ofGpu(prepared), program);
    return {};
  });
}

winnow_status winnow_image_kernels(const void *image, size_t bytes,
                                   void (*sink)(void *context, const winnow_kernel_code *kernel),
                                   void *context) {
  return guarded([&]() -> Status {
    WINNOW_CHECK(needs(image, "image"));
    WINNOW_CHECK(needs(reinterpret_cast<const void *>(sink), "sink"));
    WINNOW_TRY(ProgramImage program,
               deserializeImage(std::string_view(static_cast<const char *>(image), bytes)));
    for (const Kernel &kernel : program.kernels) {
      const winnow_kernel_code told{sizeof(told), kernel.name.c_str(), kernel.cubin.data(),
                                    kernel.cubin.size(), kernel.source.c_str()};
      callHost("winnow_image_kernels sink", [&] { sink(context, &told); });
    }
    return {};
  });
}

winnow_status winnow_find(winnow_engine *engine, const winnow_spec *spec, int32_t device,
                          winnow_program **program) {
  return guarded([&]() -> Status {
    WINNOW_CHECK(needs(engine, "engine"));
    WINNOW_CHECK(needs(program, "program"));
    *program = nullptr;
    WINNOW_TRY(ProgramRequest request, toRequest(spec));
    if (device == WINNOW_CPU) {
      WINNOW_TRY(CpuPrograms::Program found, engine->cpu.find(request));
      hand(ofCpu({found, ImageOrigin::Memory}), program);
      return {};
    }
    WINNOW_TRY(Engine * gpus, gpusOf(engine));
    WINNOW_TRY(Engine::Prepared found, gpus->find(std::move(request), device));
    hand(ofGpu(found), program);
    return {};
  });
}

winnow_status winnow_engine_export_decisions(winnow_engine *engine, winnow_sink sink,
                                             void *context) {
  return guarded([&]() -> Status {
    WINNOW_CHECK(needs(engine, "engine"));
    if (!sink)
      return fail(ErrorKind::Usage, "sink is null");
    std::string lines = engine->gpus ? (*engine->gpus)->decisions() : "";
    callHost("winnow_sink", [&] { sink(context, lines.data(), lines.size()); });
    return {};
  });
}

void winnow_program_destroy(winnow_program *program) { delete program; }

int32_t winnow_program_select_heads(const winnow_program *program) {
  return program ? program->image().selectHeads : 0;
}

winnow_status winnow_program_dense_length(const winnow_program *program, int32_t batch,
                                          int32_t max_q, int32_t *keys) {
  return guarded([&]() -> Status {
    WINNOW_CHECK(needs(program, "program"));
    WINNOW_CHECK(needs(keys, "keys"));
    if (batch < 1 || max_q < 0)
      return fail(ErrorKind::Usage,
                  fmt::format("no launch has {} sequences of up to {} queries", batch, max_q));
    WINNOW_TRY(*keys, program->gpu ? program->gpu->denseLength(batch, max_q)
                                   : program->cpu->denseLength(batch, max_q));
    return {};
  });
}

int32_t winnow_rows_count(const winnow_program *program) {
  return program ? static_cast<int32_t>(program->image().summaries.size()) : 0;
}

winnow_status winnow_rows_layout(const winnow_program *program, int32_t index, int32_t *window,
                                 int32_t *stride) {
  return guarded([&]() -> Status {
    WINNOW_CHECK(needs(program, "program"));
    WINNOW_CHECK(needs(window, "window"));
    WINNOW_CHECK(needs(stride, "stride"));
    const std::vector<SummaryShape> &summaries = program->image().summaries;
    if (index < 0 || static_cast<size_t>(index) >= summaries.size())
      return fail(ErrorKind::Usage, fmt::format("index is {}: a host may keep {} summaries of this "
                                                "program",
                                                index, summaries.size()));
    *window = summaries[index].window;
    *stride = summaries[index].stride;
    return {};
  });
}

const char *winnow_program_key(const winnow_program *program) {
  return program ? program->image().key.c_str() : "";
}

const char *winnow_program_config(const winnow_program *program) {
  return program ? program->choice->built.c_str() : "";
}

winnow_status winnow_program_rung(const winnow_program *program, int32_t phase, winnow_rung *rung) {
  return guarded([&]() -> Status {
    WINNOW_CHECK(needs(rung, "rung"));
    WINNOW_TRY(const TunedAnswer *answer, answerOf(program, phase));
    *rung = static_cast<winnow_rung>(answer->rung);
    return {};
  });
}

winnow_status winnow_program_time(const winnow_program *program, int32_t phase,
                                  winnow_phase_time *time) {
  return guarded([&]() -> Status {
    WINNOW_CHECK(hasSize(time, "time"));
    WINNOW_TRY(const TunedAnswer *answer, answerOf(program, phase));
    winnow_phase_time own{};
    if (answer->record && answer->isOwn) {
      own.microseconds = answer->record->ms * 1e3;
      own.tokens = answer->record->key.tokens;
      own.modelled = answer->rung == Rung::Model;
      own.batch = std::max(answer->record->key.batch, 1);
    }
    giveBack(own, time);
    return {};
  });
}

int32_t winnow_program_kernel_count(const winnow_program *program) {
  return program ? static_cast<int32_t>(program->image().kernels.size()) : 0;
}

winnow_status winnow_program_kernel(const winnow_program *program, int32_t index,
                                    winnow_kernel_info *info) {
  return guarded([&]() -> Status {
    WINNOW_CHECK(needs(program, "program"));
    WINNOW_CHECK(hasSize(info, "info"));
    const std::vector<Kernel> &kernels = program->image().kernels;
    if (index < 0 || static_cast<size_t>(index) >= kernels.size())
      return fail(ErrorKind::Usage,
                  fmt::format("index is {}: this program has {} kernels", index, kernels.size()));
    const Kernel &kernel = kernels[index];
    winnow_kernel_info own{};
    own.name = kernel.name.c_str();
    own.step = kernel.step.c_str();
    own.threads = kernel.blockThreads;
    own.registers = kernel.registers;
    own.spill_bytes = kernel.spillBytes;
    own.shared_bytes = kernel.sharedBytes + kernel.staticSharedBytes;
    giveBack(own, info);
    return {};
  });
}

winnow_status winnow_workspace_size(const winnow_program *program, const winnow_shape *shape,
                                    size_t *bytes) {
  return guarded([&] { return workspaceSize(program, shape, Phase::All, bytes); });
}

winnow_status winnow_backward_workspace_size(const winnow_program *program,
                                             const winnow_shape *shape, size_t *bytes) {
  return guarded([&] { return workspaceSize(program, shape, Phase::Backward, bytes); });
}

winnow_status winnow_launch(const winnow_program *program, const winnow_launch_args *args,
                            void *stream) {
  return guarded([&]() -> Status {
    WINNOW_CHECK(needs(program, "program"));
    WINNOW_TRY(LaunchCall call, toLaunchCall(args));
    if (program->cpu)
      return program->cpu->launch(args, call.args);
    return launchOnGpu(*program, call, stream);
  });
}

winnow_status winnow_launch_backward(const winnow_program *program,
                                     const winnow_backward_args *args, void *stream) {
  return guarded([&]() -> Status {
    WINNOW_CHECK(needs(program, "program"));
    WINNOW_TRY(LaunchCall call, toLaunchCall(args));
    if (program->cpu)
      return program->cpu->launchBackward(args, call.args);
    return launchOnGpu(*program, call, stream);
  });
}

// The C API over Engine: checks arguments, converts structs of any version, and keeps every C++
// exception and type on this side. Handles own what they need, so the order in which a caller
// destroys them does not matter.
#include "runtime/api/winnow.h"
#include "runtime/Engine.h"
#include "runtime/Environment.h"
#include "runtime/api/HostBoundary.h"
#include "runtime/api/HostCompiler.h"
#include "runtime/api/SpecStruct.h"
#include <cstring>
#include <fmt/format.h>

using namespace winnow;

struct winnow_engine {
  std::unique_ptr<Engine> engine;
};

struct winnow_program {
  std::shared_ptr<const LoadedProgram> program;
  std::shared_ptr<const ChosenConfig> choice;
};

namespace {

Result<Shape> toShape(const winnow_shape *given) {
  return adopt(given, "shape").map([](const winnow_shape &c) {
    return Shape{c.batch, c.total_q, c.total_k, c.max_q, c.max_k};
  });
}

Status needs(const void *pointer, const char *what) {
  return pointer ? Status() : Status(fail(ErrorKind::Usage, fmt::format("{} is null", what)));
}

/// Gives the caller a handle of its own.
void hand(const Engine::Prepared &prepared, winnow_program **out) {
  *out = new winnow_program{prepared.program, prepared.choice};
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

} // namespace

const char *winnow_version(void) { return WINNOW_VERSION; }

const char *winnow_last_error(void) { return LastError::text(); }

winnow_status winnow_engine_create(const winnow_engine_options *options, winnow_engine **engine) {
  return guarded([&]() -> Status {
    WINNOW_CHECK(needs(engine, "engine"));
    *engine = nullptr;
    EngineOptions own;
    if (options) {
      WINNOW_TRY(winnow_engine_options c, adopt(options, "options"));
      if (c.cache_dir)
        own.cache.directory = c.cache_dir;
      if (c.compiler) {
        WINNOW_TRY(winnow_compiler compiler, toCompiler(c.compiler));
        own.hook = toHook(compiler);
      }
      own.driverPath = orEmpty(c.driver_path);
      own.allowPtx = c.allow_ptx != 0;
      own.tuning = toTuning(c);
      own.cache.warn = own.tuning.log; // empty: stderr
      if (c.bundle)
        own.cache.bundleMemory.emplace_back(static_cast<const char *>(c.bundle), c.bundle_bytes);
    }
    WINNOW_TRY(std::unique_ptr<Engine> made, Engine::create(std::move(own)));
    *engine = new winnow_engine{std::move(made)};
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
    WINNOW_TRY(Engine::Prepared prepared, engine->engine->prepare(std::move(request), device));
    if (origin)
      *origin = static_cast<winnow_origin>(prepared.origin);
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
    std::vector<Result<Engine::Prepared>> prepared = engine->engine->prepareAll(requests, device);
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
    engine->engine->seal();
    return {};
  });
}

winnow_status winnow_engine_counters(const winnow_engine *engine, winnow_counters *counters) {
  return guarded([&]() -> Status {
    WINNOW_CHECK(needs(engine, "engine"));
    WINNOW_CHECK(hasSize(counters, "counters"));
    const KernelStore::Counters counts = engine->engine->counters();
    const size_t size = counters->struct_size;
    const winnow_counters own{size, counts.builds, counts.diskHits, counts.memoryHits,
                              counts.refused};
    std::memset(static_cast<void *>(counters), 0, size); // counters of a newer caller: not counted
    std::memcpy(counters, &own, std::min(sizeof(own), size));
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
    WINNOW_TRY(Engine::Prepared prepared, engine->engine->prepareImage(path, device));
    hand(prepared, program);
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
    WINNOW_TRY(Engine::Prepared found, engine->engine->find(std::move(request), device));
    hand(found, program);
    return {};
  });
}

winnow_status winnow_engine_export_decisions(winnow_engine *engine, winnow_sink sink,
                                             void *context) {
  return guarded([&]() -> Status {
    WINNOW_CHECK(needs(engine, "engine"));
    if (!sink)
      return fail(ErrorKind::Usage, "sink is null");
    std::string lines = engine->engine->decisions();
    callHost("winnow_sink", [&] { sink(context, lines.data(), lines.size()); });
    return {};
  });
}

void winnow_program_destroy(winnow_program *program) { delete program; }

int32_t winnow_program_select_heads(const winnow_program *program) {
  return program ? program->program->image().selectHeads : 0;
}

winnow_status winnow_program_dense_length(const winnow_program *program, int32_t batch,
                                          int32_t max_q, int32_t *keys) {
  return guarded([&]() -> Status {
    WINNOW_CHECK(needs(program, "program"));
    WINNOW_CHECK(needs(keys, "keys"));
    if (batch < 1 || max_q < 0)
      return fail(ErrorKind::Usage,
                  fmt::format("no launch has {} sequences of up to {} queries", batch, max_q));
    WINNOW_TRY(*keys, program->program->denseLength(batch, max_q));
    return {};
  });
}

int32_t winnow_rows_count(const winnow_program *program) {
  return program ? static_cast<int32_t>(program->program->image().summaries.size()) : 0;
}

winnow_status winnow_rows_layout(const winnow_program *program, int32_t index, int32_t *window,
                                 int32_t *stride) {
  return guarded([&]() -> Status {
    WINNOW_CHECK(needs(program, "program"));
    WINNOW_CHECK(needs(window, "window"));
    WINNOW_CHECK(needs(stride, "stride"));
    const std::vector<SummaryShape> &summaries = program->program->image().summaries;
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
  return program ? program->program->image().key.c_str() : "";
}

const char *winnow_program_config(const winnow_program *program) {
  return program ? program->choice->built.c_str() : "";
}

winnow_status winnow_program_rung(const winnow_program *program, int32_t phase, winnow_rung *rung) {
  return guarded([&]() -> Status {
    WINNOW_CHECK(needs(program, "program"));
    WINNOW_CHECK(needs(rung, "rung"));
    if (phase != WINNOW_SELECT && phase != WINNOW_ATTEND)
      return fail(ErrorKind::Usage,
                  fmt::format("{} is neither WINNOW_SELECT nor WINNOW_ATTEND", phase));
    const ChosenConfig &choice = *program->choice;
    *rung = static_cast<winnow_rung>((phase == WINNOW_SELECT ? choice.select : choice.attend).rung);
    return {};
  });
}

winnow_status winnow_workspace_size(const winnow_program *program, const winnow_shape *shape,
                                    size_t *bytes) {
  return guarded([&]() -> Status {
    WINNOW_CHECK(needs(program, "program"));
    WINNOW_CHECK(needs(bytes, "bytes"));
    WINNOW_TRY(Shape own, toShape(shape));
    WINNOW_TRY(size_t size, program->program->workspaceSize(own));
    *bytes = size;
    return {};
  });
}

winnow_status winnow_launch(const winnow_program *program, const winnow_launch_args *args,
                            void *stream) {
  return guarded([&]() -> Status {
    WINNOW_CHECK(needs(program, "program"));
    WINNOW_TRY(winnow_launch_args c, adopt(args, "args"));
    WINNOW_TRY(Shape shape, toShape(c.shape));
    if (c.phase < WINNOW_ALL || c.phase > WINNOW_APPEND)
      return fail(ErrorKind::Usage, fmt::format("args: {} is not a winnow_phase", c.phase));
    LaunchArgs own;
    own.q = c.q;
    own.k = c.k;
    own.v = c.v;
    own.out = c.out;
    own.lse = c.lse;
    own.ids = c.ids;
    own.cuQ = c.cu_q;
    own.cuK = c.cu_k;
    own.shape = shape;
    own.phase = static_cast<Phase>(c.phase);
    TensorLayout &layout = own.layout;
    std::copy_n(c.q_stride, 2, layout.qStride);
    std::copy_n(c.out_stride, 2, layout.outStride);
    std::copy_n(c.k_stride, 3, layout.kStride);
    std::copy_n(c.v_stride, 3, layout.vStride);
    layout.seqK = c.seq_k;
    layout.pageTable = c.page_table;
    layout.pageTableStride = c.page_table_stride;
    layout.kBegin = c.k_begin;
    layout.pageSize = c.page_size;
    for (int i = 0; i < kMostRows; ++i) {
      own.rows[i] = c.rows[i];
      std::copy_n(c.rows_stride[i], 3, layout.rowsStride[i]);
    }
    layout.rowsTable = c.rows_table;
    layout.rowsTableStride = c.rows_table_stride;
    own.kScale = c.k_scale;
    own.vScale = c.v_scale;
    return program->program->launch(own, static_cast<CUstream>(stream), c.workspace,
                                    c.workspace_bytes);
  });
}

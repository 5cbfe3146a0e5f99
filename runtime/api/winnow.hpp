/* The C++17 face of winnow.h: handles that own, specs that hold their own text, errors as values.
 * Header only, over the C functions alone, so host and library may have different C++ runtimes.
 *
 * What can fail returns a Status or a Result; nothing here throws, but for an allocation of the
 * standard library outside of launch(), which allocates nothing and is noexcept. Everything that
 * winnow.h says about threads, lifetimes and pointers holds here. */
#ifndef WINNOW_HPP
#define WINNOW_HPP
#include "winnow.h"
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace winnow {

/* A winnow_status, and where it is none of success the sentence that goes with it. */
class [[nodiscard]] Status {
public:
  Status() = default;
  /* What a function of winnow.h has just returned on this thread. */
  explicit Status(winnow_status code) noexcept : value(code) {
    if (ok())
      return;
    try {
      text = winnow_last_error();
    } catch (...) { /* no memory for the sentence: the code stays */
    }
  }
  bool ok() const noexcept { return value == WINNOW_OK; }
  explicit operator bool() const noexcept { return ok(); }
  winnow_status code() const noexcept { return value; }
  const std::string &message() const noexcept { return text; }

private:
  winnow_status value = WINNOW_OK;
  std::string text;
};

/* A value, or the Status that says why there is none. */
template <typename T> class [[nodiscard]] Result {
public:
  Result(T made) : content(std::move(made)) {}
  Result(Status failed) : why(std::move(failed)) {}
  bool ok() const noexcept { return content.has_value(); }
  explicit operator bool() const noexcept { return ok(); }
  const Status &status() const noexcept { return why; }
  /* Only where ok(). */
  T &operator*() noexcept { return *content; }
  const T &operator*() const noexcept { return *content; }
  T *operator->() noexcept { return &*content; }
  const T *operator->() const noexcept { return &*content; }

private:
  std::optional<T> content;
  Status why;
};

/* A winnow_spec that holds its text; fields as there. */
struct Spec {
  std::string method;
  int32_t heads = 0, kvHeads = 0;
  int32_t headDim = 0, valueDim = 0, block = 0, topk = 0; /* 0: the default */
  winnow_dtype dtype = WINNOW_BF16;
  double scale = 0;
  std::string params, config, arch; /* "": none */
  int64_t expectedTokens = 0;
  int32_t expectedOverlap = 0;
  bool paged = false;
  bool backward = false;
  int32_t expectedBatch = 0;
  winnow_kv_dtype kvDtype = WINNOW_KV_SAME;

  /* Points into this object. */
  winnow_spec get() const noexcept {
    winnow_spec spec{};
    spec.struct_size = sizeof(spec);
    spec.method = method.c_str();
    spec.heads = heads;
    spec.kv_heads = kvHeads;
    spec.head_dim = headDim;
    spec.value_dim = valueDim;
    spec.block = block;
    spec.topk = topk;
    spec.dtype = dtype;
    spec.scale = scale;
    spec.params = params.c_str();
    spec.config = config.c_str();
    spec.arch = arch.empty() ? nullptr : arch.c_str();
    spec.expected_tokens = expectedTokens;
    spec.expected_overlap = expectedOverlap;
    spec.paged = paged;
    spec.expected_batch = expectedBatch;
    spec.backward = backward;
    spec.kv_dtype = kvDtype;
    return spec;
  }
};

/* The structs of winnow.h with their size filled in and everything else zero. */
struct EngineOptions : winnow_engine_options {
  EngineOptions() : winnow_engine_options{} { struct_size = sizeof(winnow_engine_options); }
};
struct Shape : winnow_shape {
  Shape() : winnow_shape{} { struct_size = sizeof(winnow_shape); }
};
struct LaunchArgs : winnow_launch_args {
  LaunchArgs() : winnow_launch_args{} { struct_size = sizeof(winnow_launch_args); }
};
struct BackwardArgs : winnow_backward_args {
  BackwardArgs() : winnow_backward_args{} { struct_size = sizeof(winnow_backward_args); }
};

/* Summaries that a host may keep; see winnow_rows_layout. */
struct RowsLayout {
  int32_t window = 0, stride = 0;
};

/* One prepared program. An empty one, default constructed or moved from, does nothing but fail. */
class Program {
public:
  Program() = default;
  explicit Program(winnow_program *owned) noexcept : handle(owned) {}
  explicit operator bool() const noexcept { return handle != nullptr; }
  const winnow_program *get() const noexcept { return handle.get(); }

  int32_t selectHeads() const noexcept { return winnow_program_select_heads(get()); }
  const char *key() const noexcept { return winnow_program_key(get()); }
  const char *config() const noexcept { return winnow_program_config(get()); }
  Result<winnow_rung> rung(winnow_phase phase) const {
    winnow_rung rung = WINNOW_TUNED_DEFAULT;
    return answer(winnow_program_rung(get(), phase, &rung), rung);
  }
  /* How long a phase should take; 0 microseconds where that is not known. */
  Result<winnow_phase_time> time(winnow_phase phase) const {
    winnow_phase_time time{};
    time.struct_size = sizeof(time);
    return answer(winnow_program_time(get(), phase, &time), time);
  }
  /* Keys of the shortest sequence that is selected from; see winnow_program_dense_length. */
  Result<int32_t> denseLength(int32_t batch, int32_t maxQ = 1) const {
    int32_t keys = 0;
    return answer(winnow_program_dense_length(get(), batch, maxQ, &keys), keys);
  }
  /* In launch order; their names live as long as this program. Empty on the CPU. */
  std::vector<winnow_kernel_info> kernels() const {
    std::vector<winnow_kernel_info> all(static_cast<size_t>(winnow_program_kernel_count(get())));
    for (size_t i = 0; i < all.size(); ++i) { /* every index below the count is one */
      all[i].struct_size = sizeof(all[i]);
      (void)winnow_program_kernel(get(), static_cast<int32_t>(i), &all[i]);
    }
    return all;
  }
  std::vector<RowsLayout> rows() const {
    std::vector<RowsLayout> all(static_cast<size_t>(winnow_rows_count(get())));
    for (size_t i = 0; i < all.size(); ++i) /* every index below the count is one */
      (void)winnow_rows_layout(get(), static_cast<int32_t>(i), &all[i].window, &all[i].stride);
    return all;
  }
  Result<size_t> workspaceSize(const winnow_shape &shape) const {
    size_t bytes = 0;
    return answer(winnow_workspace_size(get(), &shape, &bytes), bytes);
  }
  /* Enqueues it on `stream`; on the CPU runs it. May be captured in a CUDA graph. */
  Status launch(const winnow_launch_args &args, void *stream = nullptr) const noexcept {
    return Status(winnow_launch(get(), &args, stream));
  }
  /* The same for gradients, of programs whose spec has `backward`. */
  Result<size_t> backwardWorkspaceSize(const winnow_shape &shape) const {
    size_t bytes = 0;
    return answer(winnow_backward_workspace_size(get(), &shape, &bytes), bytes);
  }
  Status launchBackward(const winnow_backward_args &args, void *stream = nullptr) const noexcept {
    return Status(winnow_launch_backward(get(), &args, stream));
  }

private:
  template <typename T> static Result<T> answer(winnow_status code, const T &value) {
    return code == WINNOW_OK ? Result<T>(value) : Result<T>(Status(code));
  }
  struct Destroy {
    void operator()(winnow_program *program) const noexcept { winnow_program_destroy(program); }
  };
  std::unique_ptr<winnow_program, Destroy> handle;
};

/* The compiler library; see winnow_compiler_load. Lives as long as the process. */
inline Result<const winnow_compiler *> loadCompiler(const char *path = nullptr) {
  const winnow_compiler *compiler = nullptr;
  const Status status(winnow_compiler_load(path, &compiler));
  return status ? Result<const winnow_compiler *>(compiler)
                : Result<const winnow_compiler *>(status);
}

/* Prepares programs. Programs outlive it. */
class Engine {
public:
  static Result<Engine> create(const winnow_engine_options &options = EngineOptions()) {
    winnow_engine *made = nullptr;
    const Status status(winnow_engine_create(&options, &made));
    return status ? Result<Engine>(Engine(made)) : Result<Engine>(status);
  }
  winnow_engine *get() const noexcept { return handle.get(); }

  /* `origin` may be null. `device`: a GPU's index or WINNOW_CPU. */
  Result<Program> prepare(const Spec &spec, int32_t device, winnow_origin *origin = nullptr) {
    const winnow_spec raw = spec.get();
    winnow_program *made = nullptr;
    return owned(winnow_prepare(get(), &raw, device, &made, origin), made);
  }
  /* Several at a time: a program per spec, an empty one where that failed. The status is that of
   * the first that failed. */
  Status prepare(const std::vector<Spec> &specs, int32_t device, std::vector<Program> &programs) {
    std::vector<winnow_spec> raw;
    raw.reserve(specs.size());
    for (const Spec &spec : specs)
      raw.push_back(spec.get());
    std::vector<winnow_program *> made(specs.size());
    programs.clear();
    programs.reserve(specs.size());
    Status status(winnow_prepare_list(get(), raw.data(), raw.size(), device, made.data()));
    for (winnow_program *each : made)
      programs.emplace_back(each);
    return status;
  }
  Result<Program> prepareImage(const std::string &path, int32_t device) {
    winnow_program *made = nullptr;
    return owned(winnow_prepare_image(get(), path.c_str(), device, &made), made);
  }
  /* Never compiles or loads. */
  Result<Program> find(const Spec &spec, int32_t device) {
    const winnow_spec raw = spec.get();
    winnow_program *found = nullptr;
    return owned(winnow_find(get(), &raw, device, &found), found);
  }
  Status seal() noexcept { return Status(winnow_engine_seal(get())); }
  Result<winnow_counters> counters() const {
    winnow_counters counters{};
    counters.struct_size = sizeof(counters);
    const Status status(winnow_engine_counters(get(), &counters));
    return status ? Result<winnow_counters>(counters) : Result<winnow_counters>(status);
  }
  Result<std::string> exportDecisions() const {
    std::string lines;
    const winnow_sink sink = [](void *context, const void *bytes, size_t size) {
      static_cast<std::string *>(context)->assign(static_cast<const char *>(bytes), size);
    };
    const Status status(winnow_engine_export_decisions(get(), sink, &lines));
    return status ? Result<std::string>(lines) : Result<std::string>(status);
  }

private:
  explicit Engine(winnow_engine *owned) noexcept : handle(owned) {}
  static Result<Program> owned(winnow_status code, winnow_program *made) {
    return code == WINNOW_OK ? Result<Program>(Program(made)) : Result<Program>(Status(code));
  }
  struct Destroy {
    void operator()(winnow_engine *engine) const noexcept { winnow_engine_destroy(engine); }
  };
  std::unique_ptr<winnow_engine, Destroy> handle;
};

} // namespace winnow
#endif

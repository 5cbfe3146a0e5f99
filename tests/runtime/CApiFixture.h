// An engine of the C API on the fake driver, with a compiler behind the C interface: for the tests
// of winnow.h.
#pragma once
#include "FakeLibrary.h"
#include "TestSupport.h"
#include "runtime/api/winnow.h"
#include <atomic>
#include <mutex>

namespace winnow::test {

/// A compiler behind the C interface: serves sampleImage and counts its builds.
struct SampleCompiler {
  std::atomic<int> keys{0}, builds{0};
  std::mutex mutex; // guards the texts
  bool broken = false;
  std::string lastParams, lastArch;

  winnow_compiler interface() {
    winnow_compiler c{};
    c.struct_size = sizeof(c);
    c.user = this;
    c.key = [](void *user, const winnow_spec *request, winnow_sink sink, void *context) -> int {
      auto *self = static_cast<SampleCompiler *>(user);
      ++self->keys;
      std::lock_guard<std::mutex> lock(self->mutex);
      self->lastParams = request->params;
      self->lastArch = request->arch;
      std::string key = sampleImage(request->method).key;
      sink(context, key.data(), key.size());
      return WINNOW_OK;
    };
    c.build = [](void *user, const winnow_spec *request, winnow_sink sink, void *context) -> int {
      auto *self = static_cast<SampleCompiler *>(user);
      ++self->builds;
      std::string bytes =
          self->broken ? "line 3: no such op" : *serializeImage(sampleImage(request->method));
      sink(context, bytes.data(), bytes.size());
      return self->broken ? WINNOW_COMPILE_FAILED : WINNOW_OK;
    };
    return c;
  }
};

class CApi : public testing::Test {
protected:
  void SetUp() override {
    resetFakeDriver(kFake);
    open();
  }
  void TearDown() override { winnow_engine_destroy(engine); }

  void open() {
    winnow_engine_destroy(engine);
    winnow_compiler hook = compiler.interface();
    winnow_engine_options options{};
    options.struct_size = sizeof(options);
    options.cache_dir = cache.c_str();
    options.compiler = &hook;
    options.driver_path = kFake;
    ASSERT_EQ(winnow_engine_create(&options, &engine), WINNOW_OK) << winnow_last_error();
  }

  static winnow_spec spec(const char *method = "m") {
    winnow_spec s{};
    s.struct_size = sizeof(s);
    s.method = method;
    s.heads = 32;
    s.kv_heads = 2;
    return s;
  }

  winnow_status launch(const winnow_program *program) {
    winnow_shape shape{sizeof(shape), 1, 64, 64, 64, 64};
    size_t bytes = 0;
    EXPECT_EQ(winnow_workspace_size(program, &shape, &bytes), WINNOW_OK) << winnow_last_error();
    char *memory = reinterpret_cast<char *>(0x100000);
    winnow_launch_args args{};
    args.struct_size = sizeof(args);
    args.q = args.k = args.v = args.out = args.workspace = memory;
    args.ids = reinterpret_cast<int32_t *>(memory);
    args.cu_q = args.cu_k = reinterpret_cast<int32_t *>(memory);
    args.shape = &shape;
    args.workspace_bytes = bytes;
    return winnow_launch(program, &args, nullptr);
  }

  TempDir dir;
  std::string cache = dir / "cache";
  SampleCompiler compiler;
  winnow_engine *engine = nullptr;
};

} // namespace winnow::test

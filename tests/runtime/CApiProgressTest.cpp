// What the C API tells of preparing and of what was prepared: progress, cancelling, kernels.
#include "CApiFixture.h"

namespace winnow::test {
namespace {

/// Counts calls; the `last`-th one cancels.
struct Listener {
  std::atomic<int> inside{0};
  std::vector<size_t> done;
  size_t count = 0, last = 100;
  bool overlapped = false, throws = false;

  static int hear(void *user, size_t done, size_t count, const char *method) {
    auto *self = static_cast<Listener *>(user);
    self->overlapped = self->overlapped || ++self->inside != 1;
    self->done.push_back(done);
    self->count = count;
    EXPECT_EQ(method[0], 'm');
    --self->inside;
    if (self->throws)
      throw std::runtime_error("tired");
    return done >= self->last;
  }
};

class CApiProgress : public CApi {
protected:
  void listen(Listener &listener) {
    winnow_engine_destroy(engine);
    winnow_compiler hook = compiler.interface();
    winnow_engine_options options{};
    options.struct_size = sizeof(options);
    options.cache_dir = "";
    options.compiler = &hook;
    options.driver_path = kFake;
    options.progress = Listener::hear;
    options.progress_user = &listener;
    ASSERT_EQ(winnow_engine_create(&options, &engine), WINNOW_OK) << winnow_last_error();
  }
};

TEST_F(CApiProgress, EachProgramOfAListIsTold) {
  Listener listener;
  listen(listener);
  std::vector<winnow_spec> specs = {spec("m0"), spec("m1"), spec("m2"), spec("m3"), spec("m4")};
  ASSERT_EQ(winnow_prepare_list(engine, specs.data(), specs.size(), 0, nullptr), WINNOW_OK)
      << winnow_last_error();
  EXPECT_EQ(listener.done, std::vector<size_t>({1, 2, 3, 4, 5}));
  EXPECT_EQ(listener.count, 5u);
  EXPECT_FALSE(listener.overlapped);
}

TEST_F(CApiProgress, NonzeroCancelsWhatWasNotBegun) {
  Listener listener;
  listener.last = 1;
  listen(listener);
  const std::vector<std::string> names(200, "m");
  std::vector<winnow_spec> specs;
  std::vector<std::string> methods;
  methods.reserve(names.size());
  for (size_t i = 0; i < names.size(); ++i)
    methods.push_back(names[i] + std::to_string(i));
  for (const std::string &method : methods)
    specs.push_back(spec(method.c_str()));
  std::vector<winnow_program *> programs(specs.size());
  EXPECT_EQ(winnow_prepare_list(engine, specs.data(), specs.size(), 0, programs.data()),
            WINNOW_NOT_READY);
  EXPECT_NE(std::string(winnow_last_error()).find("cancelled"), std::string::npos)
      << winnow_last_error();
  EXPECT_LT(compiler.builds, 200);
  for (winnow_program *program : programs)
    winnow_program_destroy(program);
}

TEST_F(CApiProgress, AHostThatThrowsFailsTheCall) {
  Listener listener;
  listener.throws = true;
  listen(listener);
  winnow_spec specs[] = {spec("m0")};
  EXPECT_NE(winnow_prepare_list(engine, specs, 1, 0, nullptr), WINNOW_OK);
  EXPECT_NE(std::string(winnow_last_error()).find("tired"), std::string::npos)
      << winnow_last_error();
}

TEST_F(CApiProgress, KernelsAreTold) {
  winnow_spec one = spec("m");
  winnow_program *program = nullptr;
  ASSERT_EQ(winnow_prepare(engine, &one, 0, &program, nullptr), WINNOW_OK) << winnow_last_error();
  const std::vector<Kernel> kernels = sampleImage("m").kernels;
  ASSERT_EQ(winnow_program_kernel_count(program), static_cast<int32_t>(kernels.size()));
  for (size_t i = 0; i < kernels.size(); ++i) {
    winnow_kernel_info info{};
    info.struct_size = sizeof(info);
    ASSERT_EQ(winnow_program_kernel(program, static_cast<int32_t>(i), &info), WINNOW_OK);
    EXPECT_EQ(info.name, kernels[i].name);
    EXPECT_EQ(info.step, kernels[i].step);
    EXPECT_EQ(info.threads, kernels[i].blockThreads);
    EXPECT_EQ(info.registers, kernels[i].registers);
    EXPECT_EQ(info.spill_bytes, kernels[i].spillBytes);
    EXPECT_EQ(info.shared_bytes, kernels[i].sharedBytes + kernels[i].staticSharedBytes);
    EXPECT_EQ(info.struct_size, sizeof(info));
  }
  winnow_kernel_info info{};
  info.struct_size = sizeof(info);
  EXPECT_EQ(winnow_program_kernel(program, -1, &info), WINNOW_INVALID);
  EXPECT_EQ(winnow_program_kernel(program, 100, &info), WINNOW_INVALID);
  EXPECT_EQ(winnow_program_kernel(program, 0, nullptr), WINNOW_INVALID);
  EXPECT_EQ(winnow_program_kernel_count(nullptr), 0);
  winnow_program_destroy(program);
}

} // namespace
} // namespace winnow::test

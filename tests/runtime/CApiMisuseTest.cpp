// Hosts that misuse the C API: structs of impossible sizes, functions that throw, an exit while
// threads prepare; and a driver that refuses what lies in a shared cache (F06, F34).
#include "CApiFixture.h"
#include "runtime/device/CudaTypes.h"
#include <cstring>
#include <stdexcept>
#include <sys/mman.h>
#include <unistd.h>

using namespace winnow;
using namespace winnow::test;

namespace {

/// Memory that ends behind the size of a struct: who reads on dies.
class SizeAlone {
public:
  SizeAlone() {
    const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    pages = static_cast<char *>(
        mmap(nullptr, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    mprotect(pages + page, page, PROT_NONE);
    bytes = 2 * page;
    place = pages + page - sizeof(size_t);
  }
  ~SizeAlone() { munmap(pages, bytes); }
  SizeAlone(const SizeAlone &) = delete;
  SizeAlone &operator=(const SizeAlone &) = delete;
  template <typename Struct> Struct *as(size_t size) {
    std::memcpy(place, &size, sizeof(size));
    return reinterpret_cast<Struct *>(place);
  }

private:
  char *pages = nullptr, *place = nullptr;
  size_t bytes = 0;
};

/// None of them can be the size of a struct whose first release had `first` bytes.
std::vector<size_t> wrongSizes(size_t first) {
  return {0,
          1,
          7,
          8,
          13,
          first - 8,
          first - 1,
          first + 1,
          first + 4,
          4097,
          4104,
          1u << 20,
          size_t(1) << 32,
          size_t(1) << 63,
          SIZE_MAX - 7,
          SIZE_MAX};
}

TEST_F(CApi, SizesThatNoReleaseHadAreRefusedAndNothingIsRead) {
  SizeAlone memory;
  winnow_spec s = spec();
  winnow_program *program = nullptr;
  ASSERT_EQ(winnow_prepare(engine, &s, 0, &program, nullptr), WINNOW_OK) << winnow_last_error();
  auto refused = [](size_t size, winnow_status status) {
    EXPECT_EQ(status, WINNOW_INVALID) << size;
    EXPECT_NE(std::string(winnow_last_error()).find("struct_size is " + std::to_string(size)),
              std::string::npos)
        << winnow_last_error();
  };
  winnow_program *out = nullptr;
  size_t bytes = 0;
  for (size_t size : wrongSizes(offsetof(winnow_spec, value_dim))) {
    const auto *wrong = memory.as<winnow_spec>(size);
    refused(size, winnow_prepare(engine, wrong, 0, &out, nullptr));
    refused(size, winnow_find(engine, wrong, 0, &out));
    for (size_t count : {size_t(1), size_t(3), SIZE_MAX})
      refused(size, winnow_prepare_list(engine, wrong, count, 0, nullptr));
  }
  winnow_engine *other = nullptr;
  for (size_t size : wrongSizes(offsetof(winnow_engine_options, tuned_files)))
    refused(size, winnow_engine_create(memory.as<winnow_engine_options>(size), &other));
  for (size_t size : wrongSizes(offsetof(winnow_compiler, check))) {
    winnow_engine_options options{};
    options.struct_size = sizeof(options);
    options.compiler = memory.as<winnow_compiler>(size);
    refused(size, winnow_engine_create(&options, &other));
  }
  for (size_t size : wrongSizes(sizeof(winnow_counters)))
    refused(size, winnow_engine_counters(engine, memory.as<winnow_counters>(size)));
  for (size_t size : wrongSizes(sizeof(winnow_shape)))
    refused(size, winnow_workspace_size(program, memory.as<winnow_shape>(size), &bytes));
  for (size_t size : wrongSizes(offsetof(winnow_launch_args, q_stride)))
    refused(size, winnow_launch(program, memory.as<winnow_launch_args>(size), nullptr));
  winnow_program_destroy(program);
}

TEST_F(CApi, TheSpecsOfAListHaveTheSizeOfTheFirst) {
  winnow_spec specs[3] = {spec("a"), spec("b"), spec("c")};
  specs[1].struct_size = 4096; // would reach beyond the array
  winnow_program *programs[3] = {};
  EXPECT_EQ(winnow_prepare_list(engine, specs, 3, 0, programs), WINNOW_INVALID);
  EXPECT_EQ(winnow_last_error(), "specs[1]: struct_size is 4096, that of specs[0] is " +
                                     std::to_string(sizeof(winnow_spec)));
  EXPECT_EQ(programs[1], nullptr);
  for (int i : {0, 2}) {
    EXPECT_NE(programs[i], nullptr);
    winnow_program_destroy(programs[i]);
  }
}

enum class Thrown { Exception, Number };
[[noreturn]] void doThrow(Thrown what) {
  if (what == Thrown::Exception)
    throw std::runtime_error("oops");
  throw 7;
}
std::string sentenceOf(Thrown what) {
  return what == Thrown::Exception ? "threw an exception: oops"
                                   : "threw an exception: something that is no std::exception";
}

/// An engine whose host throws out of one function.
class ThrowingHost : public CApi, public testing::WithParamInterface<Thrown> {
protected:
  /// What a prepare and a list of two say in an engine of these options.
  void expectSentence(winnow_engine_options options, const std::string &function) {
    options.struct_size = sizeof(options);
    options.cache_dir = "";
    options.driver_path = kFake;
    winnow_engine *throwing = nullptr;
    ASSERT_EQ(winnow_engine_create(&options, &throwing), WINNOW_OK) << winnow_last_error();
    const std::string expected = function + " " + sentenceOf(GetParam());
    winnow_spec specs[2] = {spec("a"), spec("b")};
    winnow_program *program = nullptr;
    EXPECT_NE(winnow_prepare(throwing, specs, 0, &program, nullptr), WINNOW_OK);
    EXPECT_NE(std::string(winnow_last_error()).find(expected), std::string::npos)
        << winnow_last_error();
    EXPECT_NE(winnow_prepare_list(throwing, specs + 1, 1, 0, nullptr), WINNOW_OK);
    EXPECT_NE(std::string(winnow_last_error()).find(expected), std::string::npos)
        << winnow_last_error();
    winnow_engine_destroy(throwing);
  }
  Thrown thrown = GetParam();
};

TEST_P(ThrowingHost, EveryFunctionOfACompiler) {
  winnow_compiler base = compiler.interface();
  base.user = &thrown;
  auto throwing = [](void *user, const winnow_spec *, winnow_sink, void *) -> int {
    doThrow(*static_cast<Thrown *>(user));
  };
  winnow_engine_options options{};
  options.compiler = &base;
  base.key = throwing;
  expectSentence(options, "winnow_compiler.key");
  base.key = [](void *, const winnow_spec *request, winnow_sink sink, void *context) -> int {
    const std::string key = sampleImage(request->method).key;
    sink(context, key.data(), key.size());
    return WINNOW_OK;
  };
  base.build = throwing;
  expectSentence(options, "winnow_compiler.build");
}

TEST_P(ThrowingHost, ALogAndASink) {
  winnow_compiler hook = compiler.interface();
  winnow_engine_options options{};
  options.compiler = &hook;
  options.tuned_files = "/nonexistent/tuned.jsonl"; // which is told
  options.log_user = &thrown;
  options.log = [](void *user, const char *) { doThrow(*static_cast<Thrown *>(user)); };
  expectSentence(options, "winnow_log");
  EXPECT_EQ(winnow_engine_export_decisions(
                engine,
                [](void *user, const void *, size_t) { doThrow(*static_cast<Thrown *>(user)); },
                &thrown),
            WINNOW_INVALID);
  EXPECT_EQ(winnow_last_error(), "the host's winnow_sink " + sentenceOf(thrown));
}

INSTANTIATE_TEST_SUITE_P(Misuse, ThrowingHost, testing::Values(Thrown::Exception, Thrown::Number));

TEST_F(CApi, F06WithoutACompilerARefusedEntryStaysForOtherHosts) {
  winnow_spec specs[2] = {spec("sample"), spec("other")};
  winnow_program *program = nullptr;
  for (winnow_spec &s : specs) {
    ASSERT_EQ(winnow_prepare(engine, &s, 0, &program, nullptr), WINNOW_OK) << winnow_last_error();
    winnow_program_destroy(program);
  }
  const std::vector<std::string> entries = listCache(cache);
  auto cachedOnly = [&] {
    winnow_engine_options options{};
    options.struct_size = sizeof(options);
    options.cache_dir = cache.c_str();
    options.driver_path = kFake;
    winnow_engine *made = nullptr;
    EXPECT_EQ(winnow_engine_create(&options, &made), WINNOW_OK) << winnow_last_error();
    return made;
  };
  winnow_spec s = spec("sample");
  s.value_dim = sampleImage().spec.valueDim;
  winnow_engine *host = cachedOnly();
  fakeDriver(kFake).refuseImages = true;
  for (int i = 0; i < 2; ++i) {
    EXPECT_NE(winnow_prepare(host, &s, 0, &program, nullptr), WINNOW_OK);
    EXPECT_EQ(listCache(cache), entries);
  }
  const int loads = fakeDriver(kFake).calls["cuLibraryLoadData"];
  EXPECT_NE(winnow_prepare(host, &s, 0, &program, nullptr), WINNOW_OK);
  EXPECT_EQ(fakeDriver(kFake).calls["cuLibraryLoadData"], loads); // it remembers
  winnow_engine_destroy(host);
  host = cachedOnly(); // with a driver that takes it
  fakeDriver(kFake).refuseImages = false;
  EXPECT_EQ(winnow_prepare(host, &s, 0, &program, nullptr), WINNOW_OK) << winnow_last_error();
  winnow_program_destroy(program);
  winnow_engine_destroy(host);
}

} // namespace

// winnow.hpp as a C++ host uses it: handles that own, errors as values, and a launch that neither
// throws nor allocates. Nothing of this project but the two headers is included, since the host has
// nothing else.
#include <cstdlib>
#include <gtest/gtest.h>
#include <new>
#include <runtime/api/winnow.hpp>

namespace {
size_t allocations = 0;
}
void *operator new(size_t bytes) {
  ++allocations;
  if (void *memory = std::malloc(bytes))
    return memory;
  throw std::bad_alloc();
}
void operator delete(void *memory) noexcept { std::free(memory); }
void operator delete(void *memory, size_t) noexcept { std::free(memory); }

namespace {

using winnow::Engine;
using winnow::EngineOptions;
using winnow::LaunchArgs;
using winnow::Program;
using winnow::Result;
using winnow::Shape;
using winnow::Spec;
using winnow::Status;

static_assert(std::is_nothrow_move_constructible_v<Program>);
static_assert(!std::is_copy_constructible_v<Program>);
static_assert(!std::is_copy_constructible_v<Engine>);
static_assert(noexcept(std::declval<const Program &>().launch(std::declval<LaunchArgs>())));

Result<Engine> makeEngine() {
  EngineOptions options;
  options.cache_dir = "";
  options.driver_path = "/nonexistent/libcuda.so.1";
  const Result<const winnow_compiler *> compiler = winnow::loadCompiler(WINNOW_COMPILER_LIBRARY);
  if (!compiler)
    return compiler.status();
  options.compiler = *compiler;
  return Engine::create(options);
}

Spec denseSpec() {
  Spec spec;
  spec.method = "dense";
  spec.heads = spec.kvHeads = 2;
  spec.headDim = 64;
  return spec;
}

TEST(CppFace, ErrorsAreValues) {
  EngineOptions options;
  options.driver_path = "/nonexistent/libcuda.so.1";
  const Result<Engine> none = Engine::create(options);
  ASSERT_FALSE(none);
  EXPECT_EQ(none.status().code(), WINNOW_DEVICE_FAILED);
  EXPECT_NE(none.status().message().find("no CUDA driver"), std::string::npos);
  EXPECT_TRUE(Status().ok());
  const Program empty;
  EXPECT_FALSE(empty);
  EXPECT_EQ(empty.launch(LaunchArgs()).code(), WINNOW_INVALID);
  EXPECT_EQ(empty.launch(LaunchArgs()).message(), "program is null");
  EXPECT_FALSE(winnow::loadCompiler("/nonexistent/libwinnow_compiler.so"));
}

TEST(CppFace, ProgramsAreOwnedAndMoved) {
  Result<Engine> engine = makeEngine();
  ASSERT_TRUE(engine) << engine.status().message();
  winnow_origin origin = WINNOW_FROM_MEMORY;
  Result<Program> made = engine->prepare(denseSpec(), WINNOW_CPU, &origin);
  ASSERT_TRUE(made) << made.status().message();
  EXPECT_EQ(origin, WINNOW_COMPILED);
  const Program program = std::move(*made);
  EXPECT_TRUE(program);
  EXPECT_FALSE(*made);
  Result<Program> found = engine->find(denseSpec(), WINNOW_CPU);
  ASSERT_TRUE(found);
  EXPECT_STREQ(found->key(), program.key());
  EXPECT_EQ(program.selectHeads(), 0);
  EXPECT_TRUE(program.rows().empty());
  EXPECT_TRUE(program.kernels().empty()); // on the CPU
  EXPECT_EQ(*program.denseLength(4), 0);  // its method has no dense_len
  EXPECT_EQ(*program.rung(WINNOW_ATTEND), WINNOW_TUNED_DEFAULT);
  EXPECT_FALSE(program.rung(WINNOW_ALL));
  EXPECT_EQ(program.time(WINNOW_ATTEND)->microseconds, 0); // nobody measured it
  EXPECT_FALSE(program.time(WINNOW_ALL));

  std::vector<Program> programs;
  Spec broken = denseSpec();
  broken.method = "no_such_method";
  EXPECT_EQ(engine->prepare({denseSpec(), broken}, WINNOW_CPU, programs).code(), WINNOW_INVALID);
  ASSERT_EQ(programs.size(), 2u);
  EXPECT_TRUE(programs[0]);
  EXPECT_FALSE(programs[1]);
  EXPECT_TRUE(engine->seal());
  EXPECT_EQ(engine->counters()->builds, 1u);
  EXPECT_EQ(*engine->exportDecisions(), "");
  EXPECT_FALSE(engine->prepareImage("none.image", WINNOW_CPU));
}

TEST(CppFace, ASpecGivesEveryField) {
  Spec spec = denseSpec();
  spec.paged = true;
  spec.expectedBatch = 64;
  spec.kvDtype = WINNOW_KV_FP8_E4M3;
  const winnow_spec raw = spec.get();
  EXPECT_EQ(raw.expected_batch, 64);
  EXPECT_EQ(raw.kv_dtype, WINNOW_KV_FP8_E4M3);
  Result<Engine> engine = makeEngine();
  ASSERT_TRUE(engine) << engine.status().message();
  Result<Program> program = engine->prepare(spec, WINNOW_CPU);
  ASSERT_TRUE(program) << program.status().message();
  EXPECT_EQ(*program->rung(WINNOW_DECODE), WINNOW_TUNED_DEFAULT);
  spec.paged = false;
  EXPECT_EQ(engine->prepare(spec, WINNOW_CPU).status().code(), WINNOW_INVALID);
}

TEST(CppFace, ALaunchAllocatesNothing) {
  Result<Engine> engine = makeEngine();
  ASSERT_TRUE(engine) << engine.status().message();
  Result<Program> program = engine->prepare(denseSpec(), WINNOW_CPU);
  ASSERT_TRUE(program) << program.status().message();
  constexpr int kTokens = 3, kWords = kTokens * 2 * 64;
  alignas(64) uint16_t q[kWords] = {}, k[kWords] = {}, v[kWords] = {}, out[kWords] = {};
  for (uint16_t &word : v)
    word = 0x3f80; // 1.0
  const int32_t lengths[] = {0, kTokens};
  Shape shape;
  shape.batch = 1;
  shape.total_q = shape.total_k = shape.max_q = shape.max_k = kTokens;
  LaunchArgs args;
  args.q = q;
  args.k = k;
  args.v = v;
  args.out = out;
  args.cu_q = args.cu_k = lengths;
  args.shape = &shape;
  EXPECT_EQ(*program->workspaceSize(shape), 0u);
  const size_t before = allocations;
  const bool launched = program->launch(args).ok();
  EXPECT_EQ(allocations, before);
  EXPECT_TRUE(launched);
  for (uint16_t word : out)
    ASSERT_EQ(word, 0x3f80);
}

} // namespace

// The compiler library as a host gets it: where it is looked for, what is refused, and that it
// makes the tool's programs. This process has an LLVM of its own inside (winnow_compiler, for the
// expected keys), so each call here is also one beside another LLVM (F35).
#include "compiler/driver/CompileHook.h"
#include "runtime/api/winnow.h"
#include <cstdlib>
#include <gtest/gtest.h>
#include <string>

using namespace winnow;

namespace {

constexpr const char *kLibrary = WINNOW_COMPILER_LIBRARY;

const winnow_compiler *loaded(const char *path = kLibrary) {
  const winnow_compiler *compiler = nullptr;
  EXPECT_EQ(winnow_compiler_load(path, &compiler), WINNOW_OK) << winnow_last_error();
  return compiler;
}

/// Refused with WINNOW_UNSUPPORTED and a sentence that has `part` in it.
void expectRefused(const char *path, const std::string &part) {
  const winnow_compiler *compiler = loaded();
  EXPECT_EQ(winnow_compiler_load(path, &compiler), WINNOW_UNSUPPORTED);
  EXPECT_EQ(compiler, nullptr);
  EXPECT_NE(std::string(winnow_last_error()).find(part), std::string::npos) << winnow_last_error();
}

winnow_spec smallSpec() {
  winnow_spec spec{};
  spec.struct_size = sizeof(spec);
  spec.method = "dense";
  spec.heads = 8;
  spec.kv_heads = 2;
  spec.head_dim = 64;
  spec.arch = "sm_80";
  return spec;
}

std::string told(int (*function)(void *, const winnow_spec *, winnow_sink, void *),
                 const winnow_spec &spec, int expected = WINNOW_OK) {
  std::string bytes = "nothing";
  const winnow_sink sink = [](void *context, const void *data, size_t size) {
    static_cast<std::string *>(context)->assign(static_cast<const char *>(data), size);
  };
  EXPECT_EQ(function(nullptr, &spec, sink, &bytes), expected) << bytes;
  return bytes;
}

TEST(CompilerLibrary, IsFoundBesideTheRuntimeAndByItsVariable) {
  const winnow_compiler *byPath = loaded();
  ASSERT_TRUE(byPath);
  EXPECT_EQ(loaded(nullptr), byPath); // both lie in one folder of the build
  setenv("WINNOW_COMPILER_LIBRARY", kLibrary, 1);
  EXPECT_EQ(loaded(nullptr), byPath);
  setenv("WINNOW_COMPILER_LIBRARY", "/nowhere/libwinnow_compiler.so", 1);
  expectRefused(nullptr, "/nowhere");
  unsetenv("WINNOW_COMPILER_LIBRARY");
}

TEST(CompilerLibrary, OthersAreRefusedInOneSentence) {
  expectRefused("/nowhere/libwinnow_compiler.so", "no compiler library: /nowhere");
  expectRefused(WINNOW_FAKE_CUDA, "no winnow_compiler_entry");
  expectRefused(WINNOW_FOREIGN_COMPILER, "another build");
  EXPECT_EQ(winnow_compiler_load(kLibrary, nullptr), WINNOW_INVALID);
}

TEST(CompilerLibrary, KeysAreTheTools) {
  ProgramRequest request;
  request.method = "dense";
  request.spec.heads = 8;
  request.spec.kvHeads = 2;
  request.spec.headDim = 64;
  request.arch = "sm_80";
  EXPECT_EQ(told(loaded()->key, smallSpec()), *programKey(compileRequest(request)));
}

TEST(CompilerLibrary, RefusalsAreTheCompilers) {
  winnow_spec spec = smallSpec();
  EXPECT_EQ(told(loaded()->check, spec), "nothing"); // calls its sink on failure only
  spec.method = "no_such_method";
  EXPECT_NE(told(loaded()->key, spec, WINNOW_INVALID).find("no_such_method"), std::string::npos);
  spec = smallSpec();
  spec.head_dim = 24;
  EXPECT_NE(told(loaded()->check, spec, WINNOW_UNSUPPORTED).find("24"), std::string::npos);
}

/// NVRTC is opened by the library, as by the tool; the driver is one of host memory.
TEST(CompilerLibrary, AnEngineGeneratesItsPrograms) {
  winnow_engine_options options{};
  options.struct_size = sizeof(options);
  options.cache_dir = "";
  options.compiler = loaded();
  options.driver_path = WINNOW_FAKE_CUDA;
  winnow_engine *engine = nullptr;
  ASSERT_EQ(winnow_engine_create(&options, &engine), WINNOW_OK) << winnow_last_error();
  winnow_spec spec = smallSpec();
  spec.arch = nullptr;
  winnow_program *program = nullptr;
  winnow_origin origin = WINNOW_FROM_MEMORY;
  EXPECT_EQ(winnow_prepare(engine, &spec, 0, &program, &origin), WINNOW_OK) << winnow_last_error();
  EXPECT_EQ(origin, WINNOW_COMPILED);
  winnow_program_destroy(program);
  winnow_engine_destroy(engine);
}

} // namespace
